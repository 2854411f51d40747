from collections.abc import Iterable
from typing import SupportsIndex

from typing_extensions import disjoint_base

from .._types import Messages
from .message import Message
from .segments import Segments

@disjoint_base
class Batches(Segments):
    def read_batch(self, ms: Messages, flags: SupportsIndex = 0) -> int: ...
    def write_batch(self, ms: Messages, flags: SupportsIndex = 0) -> int: ...
    def write_all(self, messages: Messages | Iterable[Message]) -> list[tuple[int, OSError]]: ...
