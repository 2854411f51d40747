from typing import SupportsIndex, final

from typing_extensions import Buffer, disjoint_base

from .._types import Address
from ..wire.control import ControlMessage
from ..wire.header import Header
from .errqueue import ErrorQueue

@disjoint_base
class PacketTransfer(ErrorQueue):
    def read_from(
        self, buf: Buffer, flags: SupportsIndex = 0
    ) -> tuple[int, ControlMessage | None, tuple[str, int]]: ...
    def write_to(
        self,
        data: Buffer,
        dst: Address | None = None,
        cm: ControlMessage | None = None,
        flags: SupportsIndex = 0,
    ) -> int: ...

class RawTransfer(ErrorQueue):
    def read_from(
        self, buf: Buffer, flags: SupportsIndex = 0
    ) -> tuple[Header, memoryview, ControlMessage | None]: ...
    def write_to(
        self,
        header: Header,
        payload: Buffer,
        cm: ControlMessage | None = None,
        flags: SupportsIndex = 0,
    ) -> int: ...

@final
class Window: ...
