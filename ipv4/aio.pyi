from collections.abc import AsyncIterator, Iterable
from types import TracebackType
from typing import Any, ClassVar, Self, SupportsIndex

from typing_extensions import Buffer

from ._types import Address, Messages
from .conn import PacketConn, RawConn
from .engine.message import Message
from .wire.control import ControlMessage
from .wire.header import Header

__all__ = ["AsyncPacketConn", "AsyncRawConn"]

class AsyncConn:
    kind: ClassVar[Any]
    def __init__(self, conn: Any) -> None: ...
    # Options, groups and the rest, which are reached as on the conn itself.
    def __getattr__(self, name: str) -> Any: ...
    def __setattr__(self, name: str, value: Any) -> None: ...
    async def __aenter__(self) -> Self: ...
    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        value: BaseException | None,
        traceback: TracebackType | None,
        /,
    ) -> None: ...
    def close(self) -> None: ...
    async def read_from(self, buf: Buffer, flags: int = 0) -> Any: ...
    async def read_batch(self, ms: Messages, flags: SupportsIndex = 0) -> int: ...
    async def write_batch(self, ms: Messages, flags: SupportsIndex = 0) -> int: ...
    async def write_all(
        self, messages: Messages | Iterable[Message]
    ) -> list[tuple[int, OSError]]: ...
    def batches(self, batch: Messages) -> AsyncIterator[int]: ...

class AsyncPacketConn(AsyncConn):
    kind: ClassVar[type[PacketConn]]
    conn: PacketConn
    def __init__(self, conn: PacketConn) -> None: ...
    async def read_from(
        self, buf: Buffer, flags: int = 0
    ) -> tuple[int, ControlMessage | None, tuple[str, int]]: ...
    async def write_to(
        self,
        data: Buffer,
        dst: Address | None = None,
        cm: ControlMessage | None = None,
        flags: int = 0,
    ) -> int: ...

class AsyncRawConn(AsyncConn):
    kind: ClassVar[type[RawConn]]
    conn: RawConn
    def __init__(self, conn: RawConn) -> None: ...
    async def read_from(
        self, buf: Buffer, flags: int = 0
    ) -> tuple[Header, memoryview, ControlMessage | None]: ...
    async def write_to(
        self,
        header: Header,
        payload: Buffer,
        cm: ControlMessage | None = None,
        flags: int = 0,
    ) -> int: ...
