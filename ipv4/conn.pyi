from typing import Self, SupportsIndex, TypedDict

from typing_extensions import Buffer, Unpack

from ._types import Address, InterfaceLike
from .engine.anysocket import _SocketLike
from .engine.endpoint import Endpoint
from .engine.multicast import Membership
from .engine.packet import PacketTransfer, RawTransfer
from .filtering import Filtering, ICMPFilter
from .options import DatagramOptions, IntOption, RawOptions, UnicastOptions

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
    ip_options: Buffer
    icmp_filter: ICMPFilter
    min_ttl: SupportsIndex
    release_gil: bool | None
    segmentation: bool

class _RawOptions(_Options, total=False):
    router_alert: bool

class Conn(Endpoint, UnicastOptions):
    min_ttl: IntOption

class PacketConn(PacketTransfer, DatagramOptions, Membership, Filtering):
    @classmethod
    def udp(
        cls,
        address: Address = ("0.0.0.0", 0),
        *,
        reuse_address: bool = False,
        reuse_port: bool = False,
        netns: str | None = None,
        **options: Unpack[_Options],
    ) -> Self: ...
    @classmethod
    def ip(
        cls,
        protocol: SupportsIndex,
        address: Address = "0.0.0.0",
        *,
        netns: str | None = None,
        **options: Unpack[_Options],
    ) -> Self: ...
    @classmethod
    def ping(
        cls,
        address: Address = "0.0.0.0",
        *,
        netns: str | None = None,
        **options: Unpack[_Options],
    ) -> Self: ...

class RawConn(RawTransfer, RawOptions, Membership, Filtering):
    def __init__(self, sock: _SocketLike | int) -> None: ...
    @classmethod
    def ip(
        cls,
        protocol: SupportsIndex,
        address: Address = "0.0.0.0",
        *,
        netns: str | None = None,
        **options: Unpack[_RawOptions],
    ) -> Self: ...
