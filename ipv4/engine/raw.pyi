from typing import Any, SupportsIndex, final

from typing_extensions import Buffer, disjoint_base

from ..wire.control import ControlMessage
from ..wire.header import Header
from .errqueue import ErrorQueue

@disjoint_base
class RawTransfer(ErrorQueue):
    def read_from(
        self, buf: Buffer, flags: SupportsIndex = 0
    ) -> tuple[Header, memoryview, ControlMessage | Any]: ...
    def receive(
        self, max_size: SupportsIndex = 65535, flags: SupportsIndex = 0
    ) -> tuple[Header, bytes, ControlMessage | Any]: ...
    def write_to(
        self,
        header: Header,
        payload: Buffer,
        cm: ControlMessage | None = None,
        flags: SupportsIndex = 0,
    ) -> int: ...

@final
class Window: ...
