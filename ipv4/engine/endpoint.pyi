from typing import Self

from typing_extensions import disjoint_base

from .anysocket import _SocketLike
from .interfaces import InterfaceLookup

@disjoint_base
class Endpoint(InterfaceLookup):
    def __new__(cls, sock: _SocketLike | int) -> Self: ...
    @property
    def local_addr(self) -> tuple[str, int]: ...
