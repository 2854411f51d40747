from typing import Self

from typing_extensions import disjoint_base

from .anysocket import _SocketLike
from .sockopt import OptionDoor

@disjoint_base
class Endpoint(OptionDoor):
    def __new__(cls, sock: _SocketLike | int) -> Self: ...
    @property
    def local_addr(self) -> tuple[str, int]: ...
