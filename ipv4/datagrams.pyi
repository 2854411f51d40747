import asyncio
import socket
from collections.abc import Callable, Iterable
from os import PathLike
from typing import Any, SupportsIndex, TypeVar

from typing_extensions import Buffer, Unpack

from .aio import AsyncPacketConn
from .conn import PacketConn, _Options
from .constants import ControlFlags
from .types import Address
from .wire.control import ControlMessage

__all__ = ["DatagramTransport", "create_datagram_endpoint"]

_P = TypeVar("_P", bound=asyncio.BaseProtocol)

class _OpenerOptions(_Options, total=False):
    reuse_address: bool
    netns: str | PathLike[str] | None
    timeout: float | None
    control: ControlFlags | int
    options: Iterable[tuple[SupportsIndex, SupportsIndex, SupportsIndex | Buffer]]

class DatagramTransport(asyncio.DatagramTransport):
    conn: PacketConn
    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        conn: PacketConn,
        protocol: asyncio.BaseProtocol,
        peer: tuple[str, int] | None,
        batch: int,
    ) -> None: ...
    def __del__(self) -> None: ...
    def sendto(self, data: Buffer, addr: Any = None, cm: ControlMessage | None = None) -> None: ...
    def get_write_buffer_size(self) -> int: ...
    def get_write_buffer_limits(self) -> tuple[int, int]: ...
    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None: ...

async def create_datagram_endpoint(
    protocol_factory: Callable[[], _P],
    local_addr: Address | None = None,
    remote_addr: tuple[str, int] | None = None,
    *,
    conn: PacketConn | AsyncPacketConn | None = None,
    batch: int = 64,
    family: int | None = 0,
    proto: int | None = 0,
    flags: int = 0,
    reuse_port: bool | None = None,
    allow_broadcast: bool | None = None,
    sock: socket.socket | None = None,
    **options: Unpack[_OpenerOptions],
) -> tuple[DatagramTransport, _P]: ...
