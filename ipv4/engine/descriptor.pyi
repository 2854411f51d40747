import socket as _socket
from types import TracebackType
from typing import NoReturn, Self

from typing_extensions import disjoint_base

from .anysocket import _SocketLike

class Unraised:
    err_msg: str
    exc_type: type[BaseException]
    exc_value: BaseException
    exc_traceback: TracebackType | None
    object: _socket.socket
    def __init__(self, error: BaseException, sock: _socket.socket) -> None: ...

@disjoint_base
class Descriptor:
    _owned: bool
    def __init__(self, sock: _SocketLike | int) -> None: ...
    def __enter__(self) -> Self: ...
    def __exit__(
        self,
        kind: type[BaseException] | None,
        value: BaseException | None,
        traceback: TracebackType | None,
        /,
    ) -> None: ...
    def __reduce__(self) -> NoReturn: ...
    def fileno(self) -> int: ...
    def close(self) -> None: ...
    def detach(self) -> int: ...
    @property
    def closed(self) -> bool: ...
    @property
    def socket(self) -> _socket.socket: ...
    @property
    def release_gil(self) -> bool | None: ...
    @release_gil.setter
    def release_gil(self, value: bool | None) -> None: ...
