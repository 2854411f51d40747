import socket as _socket
from collections.abc import AsyncIterator, Iterable
from ipaddress import IPv4Address
from os import PathLike
from types import TracebackType
from typing import Any, ClassVar, Literal, NoReturn, Self, SupportsIndex

from typing_extensions import Buffer, Unpack

from .conn import PacketConn, RawConn, _Options, _RawOptions
from .constants import ControlFlags
from .datagrams import create_datagram_endpoint
from .engine.errqueue import ErrorReport
from .engine.message import Message
from .filtering import Filtering
from .interface import Interface
from .options import DatagramOptions, RawOptions
from .types import Address, InterfaceLike, Messages
from .wire.control import ControlMessage
from .wire.header import Header

__all__ = ["AsyncPacketConn", "AsyncRawConn", "create_datagram_endpoint"]

# Options and filters are handed on to the conn one by one; that the tables are bases stands here
# alone, so that each has its type.
class AsyncConn(DatagramOptions, Filtering):
    kind: ClassVar[type[PacketConn | RawConn]]
    conn: PacketConn | RawConn
    def __reduce__(self) -> NoReturn: ...
    async def __aenter__(self) -> Self: ...
    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        value: BaseException | None,
        traceback: TracebackType | None,
        /,
    ) -> None: ...
    def close(self) -> None: ...
    async def aclose(self) -> None: ...
    async def read_batch(self, ms: Messages, flags: SupportsIndex = 0) -> int: ...
    def batches(self, batch: Messages) -> AsyncIterator[int]: ...
    async def read_error(self, wait: bool = True) -> ErrorReport | None: ...
    def errors(self) -> AsyncIterator[ErrorReport]: ...
    async def write_batch(self, ms: Messages, flags: SupportsIndex = 0) -> int: ...
    async def write_all(
        self, messages: Messages | Iterable[Message]
    ) -> list[tuple[int, OSError]]: ...

    # Of the conn, as it is
    def fileno(self) -> int: ...
    def detach(self) -> int: ...
    @property
    def closed(self) -> bool: ...
    @property
    def socket(self) -> _socket.socket: ...
    @property
    def local_addr(self) -> tuple[str, int]: ...
    @property
    def release_gil(self) -> bool | None: ...
    @release_gil.setter
    def release_gil(self, value: bool | None) -> None: ...
    @property
    def timeout(self) -> float | None: ...
    @timeout.setter
    def timeout(self, value: float | None) -> None: ...
    def set_deadline(self, when: float | None) -> None: ...
    def set_read_deadline(self, when: float | None) -> None: ...
    def set_write_deadline(self, when: float | None) -> None: ...
    @property
    def control_flags(self) -> ControlFlags: ...
    def set_control_message(self, flags: SupportsIndex, on: bool) -> None: ...
    def set_timestamping(self, flags: SupportsIndex) -> None: ...
    @property
    def segmentation(self) -> bool: ...
    @segmentation.setter
    def segmentation(self, value: bool) -> None: ...
    @property
    def multicast_interface(self) -> Interface | None: ...
    @multicast_interface.setter
    def multicast_interface(self, value: InterfaceLike | None) -> None: ...
    def join_group(self, group: Address, interface: InterfaceLike | None = None) -> None: ...
    def leave_group(self, group: Address, interface: InterfaceLike | None = None) -> None: ...
    def join_source_specific_group(
        self, group: Address, source: Address, interface: InterfaceLike | None = None
    ) -> None: ...
    def leave_source_specific_group(
        self, group: Address, source: Address, interface: InterfaceLike | None = None
    ) -> None: ...
    def exclude_source_specific_group(
        self, group: Address, source: Address, interface: InterfaceLike | None = None
    ) -> None: ...
    def include_source_specific_group(
        self, group: Address, source: Address, interface: InterfaceLike | None = None
    ) -> None: ...
    def join_all(
        self, group: Address, interfaces: Iterable[InterfaceLike] | None = None
    ) -> dict[Interface, OSError | None]: ...
    def source_filter(
        self, group: Address, interface: InterfaceLike | None = None
    ) -> tuple[Literal["include", "exclude"], list[IPv4Address]]: ...
    def set_source_filter(
        self,
        group: Address,
        mode: Literal["include", "exclude"],
        sources: Iterable[Address],
        interface: InterfaceLike | None = None,
    ) -> None: ...

class AsyncPacketConn(AsyncConn):
    kind: ClassVar[type[PacketConn]]
    conn: PacketConn
    def __init__(self, conn: PacketConn) -> None: ...
    @property
    def coalesce(self) -> bool: ...
    @coalesce.setter
    def coalesce(self, value: bool) -> None: ...
    @property
    def coalescing(self) -> bool: ...
    def connect(self, peer: Address) -> None: ...
    def disconnect(self) -> None: ...
    @property
    def remote_addr(self) -> tuple[str, int] | None: ...
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
    async def read_from(
        self, buf: Buffer, flags: int = 0
    ) -> tuple[int, ControlMessage | Any, tuple[str, int]]: ...
    async def write_to(
        self,
        data: Buffer,
        dst: Address | None = None,
        cm: ControlMessage | None = None,
        flags: int = 0,
    ) -> int: ...
    async def receive(
        self, max_size: SupportsIndex = 65535, flags: int = 0
    ) -> tuple[bytes, ControlMessage | None, tuple[str, int]]: ...
    def __aiter__(
        self,
    ) -> AsyncIterator[tuple[bytes, ControlMessage | None, tuple[str, int]]]: ...
    def try_write_to(
        self, data: Buffer, dst: Address | None = None, cm: ControlMessage | None = None
    ) -> bool: ...

class AsyncRawConn(AsyncConn, RawOptions):
    kind: ClassVar[type[RawConn]]
    conn: RawConn
    def __init__(self, conn: RawConn) -> None: ...
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
    async def read_from(
        self, buf: Buffer, flags: int = 0
    ) -> tuple[Header, memoryview, ControlMessage | Any]: ...
    async def write_to(
        self,
        header: Header,
        payload: Buffer,
        cm: ControlMessage | None = None,
        flags: int = 0,
    ) -> int: ...
    async def receive(
        self, max_size: SupportsIndex = 65535, flags: int = 0
    ) -> tuple[Header, bytes, ControlMessage | None]: ...
    def __aiter__(self) -> AsyncIterator[tuple[Header, bytes, ControlMessage | None]]: ...
    def try_write_to(
        self, header: Header, payload: Buffer, cm: ControlMessage | None = None
    ) -> bool: ...
