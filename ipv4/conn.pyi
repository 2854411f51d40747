from collections.abc import Iterable
from os import PathLike
from typing import Self, SupportsIndex, TypedDict

from typing_extensions import Buffer, Unpack

from .constants import ControlFlags
from .engine.anysocket import _SocketLike
from .engine.connection import Connected
from .engine.endpoint import Endpoint
from .engine.multicast import Membership
from .engine.packet import PacketTransfer
from .engine.raw import RawTransfer
from .filtering import Filtering, ICMPFilter
from .options import DatagramOptions, IntOption, RawOptions, UnicastOptions
from .types import Address, InterfaceLike

__all__ = ["Conn", "PacketConn", "RawConn"]

class _Options(TypedDict, total=False):
    tos: SupportsIndex
    ttl: SupportsIndex
    multicast_ttl: SupportsIndex
    multicast_loopback: bool
    multicast_all: bool
    multicast_interface: InterfaceLike | None
    path_mtu_discovery: SupportsIndex
    bound_interface: InterfaceLike | None
    unicast_interface: InterfaceLike | None
    mark: SupportsIndex
    priority: SupportsIndex
    freebind: bool
    transparent: bool
    broadcast: bool
    busy_poll: SupportsIndex
    receive_buffer: SupportsIndex
    send_buffer: SupportsIndex
    receive_errors: bool
    local_port_range: tuple[SupportsIndex, SupportsIndex] | None
    bind_address_no_port: bool
    incoming_cpu: SupportsIndex
    max_pacing_rate: SupportsIndex | None
    no_defragment: bool
    ip_options: Buffer
    icmp_filter: ICMPFilter
    min_ttl: SupportsIndex
    release_gil: bool | None
    segmentation: bool

class _RawOptions(_Options, total=False):
    router_alert: bool

class Conn(Endpoint, UnicastOptions):
    def __init__(self, sock: _SocketLike | int) -> None: ...
    min_ttl: IntOption
    @property
    def original_dst(self) -> tuple[str, int]: ...

class PacketConn(PacketTransfer, DatagramOptions, Membership, Filtering, Connected):
    def __init__(self, sock: _SocketLike | int) -> None: ...
    @classmethod
    def udp(
        cls,
        address: Address | None = ("0.0.0.0", 0),
        peer: Address | None = None,
        *,
        reuse_address: bool = False,
        reuse_port: bool = False,
        netns: str | PathLike[str] | None = None,
        timeout: float | None = None,
        control: ControlFlags | int = 0,
        options: Iterable[tuple[SupportsIndex, SupportsIndex, SupportsIndex | Buffer]] = (),
        **named: Unpack[_Options],
    ) -> Self: ...
    @classmethod
    def ip(
        cls,
        protocol: SupportsIndex,
        address: Address | None = "0.0.0.0",
        *,
        netns: str | PathLike[str] | None = None,
        timeout: float | None = None,
        control: ControlFlags | int = 0,
        options: Iterable[tuple[SupportsIndex, SupportsIndex, SupportsIndex | Buffer]] = (),
        **named: Unpack[_Options],
    ) -> Self: ...
    @classmethod
    def ping(
        cls,
        address: Address | None = "0.0.0.0",
        *,
        netns: str | PathLike[str] | None = None,
        timeout: float | None = None,
        control: ControlFlags | int = 0,
        options: Iterable[tuple[SupportsIndex, SupportsIndex, SupportsIndex | Buffer]] = (),
        **named: Unpack[_Options],
    ) -> Self: ...

class RawConn(RawTransfer, RawOptions, Membership, Filtering):
    def __init__(self, sock: _SocketLike | int) -> None: ...
    @classmethod
    def ip(
        cls,
        protocol: SupportsIndex,
        address: Address | None = "0.0.0.0",
        *,
        netns: str | PathLike[str] | None = None,
        timeout: float | None = None,
        control: ControlFlags | int = 0,
        options: Iterable[tuple[SupportsIndex, SupportsIndex, SupportsIndex | Buffer]] = (),
        **named: Unpack[_RawOptions],
    ) -> Self: ...
