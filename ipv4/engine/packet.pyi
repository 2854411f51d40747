from typing import Any, SupportsIndex, TypeVar

from typing_extensions import Buffer, disjoint_base

from ..types import Address
from ..wire.control import ControlMessage
from .errqueue import ErrorQueue

_C = TypeVar("_C")

@disjoint_base
class PacketTransfer(ErrorQueue):
    def read_from(
        self, buf: Buffer, flags: SupportsIndex = 0
    ) -> tuple[int, ControlMessage | Any, tuple[str, int]]: ...
    def receive(
        self, max_size: SupportsIndex = 65535, flags: SupportsIndex = 0
    ) -> tuple[bytes, ControlMessage | Any, tuple[str, int]]: ...
    @property
    def coalesce(self) -> bool: ...
    @coalesce.setter
    def coalesce(self, value: bool) -> None: ...
    @property
    def coalescing(self) -> bool: ...
    def write_to(
        self,
        data: Buffer,
        dst: Address | None = None,
        cm: ControlMessage | None = None,
        flags: SupportsIndex = 0,
    ) -> int: ...

def with_own_methods(cls: type[_C]) -> type[_C]: ...
