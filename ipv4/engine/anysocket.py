"""What stands for a socket, and the loop in which the calls on it wait.

Decided by an object's type alone: what it says of itself, in ``__class__`` or by answering to every
name, can be anything. Other libraries are looked for only where they are loaded already: an object
of theirs cannot be there before.
"""

from __future__ import annotations

import _socket
import socket
import sys

TYPE_CHECKING = False  # typing's own would cost more to import than this whole module
if TYPE_CHECKING:
    from enum import IntEnum
    from typing import Any, Protocol

    class _SocketLike(Protocol):
        """A socket, or a class that wraps one; an `int` is a descriptor's number."""

        def fileno(self) -> int: ...
        def gettimeout(self) -> float | None: ...

    class _Loop(Protocol):
        @staticmethod
        def wait(fd: int, seconds: float | None) -> None: ...
        @staticmethod
        def sleep(seconds: float) -> None: ...


OWN = _socket.socket  # CPython's own, whatever `socket.socket` has been replaced by


class Elapsed(Exception):
    """The time that a call waits in another library's loop is over."""


class Gevent:
    """Waits in gevent's hub."""

    @staticmethod
    def wait(fd: int, seconds: float | None) -> None:
        """Wait until fd is readable, at most some seconds (None: as long as it takes)."""
        elapsed = Elapsed()
        try:
            sys.modules["gevent.socket"].wait_read(fd, seconds, elapsed)
        except Elapsed as error:
            if error is not elapsed:
                raise

    @staticmethod
    def sleep(seconds: float) -> None:
        """Let others go on meanwhile."""
        sys.modules["gevent"].sleep(seconds)


class Eventlet:
    """Waits in eventlet's hub."""

    @staticmethod
    def wait(fd: int, seconds: float | None) -> None:
        """Wait until fd is readable, at most some seconds (None: as long as it takes)."""
        elapsed = Elapsed()
        try:
            sys.modules["eventlet.hubs"].trampoline(
                fd, read=True, timeout=seconds, timeout_exc=elapsed
            )
        except Elapsed as error:
            if error is not elapsed:
                raise

    @staticmethod
    def sleep(seconds: float) -> None:
        """Let others go on meanwhile."""
        sys.modules["eventlet"].sleep(seconds)


# Classes that wrap a socket of CPython's: where, and in whose loop calls on them wait.
WRAPPERS: tuple[tuple[str, str, type[_Loop] | None], ...] = (
    ("asyncio.trsock", "TransportSocket", None),
    ("gevent.socket", "socket", Gevent),
    ("eventlet.greenio.base", "GreenSocket", Eventlet),
)


def adopt(sock: Any) -> tuple[socket.socket, type[_Loop] | None, bool]:
    """Find out what was given for a socket.

    Returns
    -------
    tuple of (object, object, bool)
        The socket object, the class that waits for it (None: the thread does), and whether
        closing it is the conn's business: a transport of asyncio closes its own socket.

    Raises
    ------
    TypeError
        If it is none.
    OSError
        As getsockname(2), for a number that is no socket's. It is left open.
    """
    kind = type(sock)
    if issubclass(kind, OWN):
        return sock, None, True
    if issubclass(kind, int) and kind is not bool:
        return adopt(by_number(int.__int__(sock)))
    for module, name, loop in WRAPPERS:
        wrapper = getattr(sys.modules.get(module), name, None)
        if isinstance(wrapper, type) and issubclass(kind, wrapper):
            return sock, loop, module != "asyncio.trsock"
    raise TypeError(
        "sock must be a socket.socket, one of asyncio's, gevent's or eventlet's, or the number of"
        f" a socket's descriptor, not {kind.__name__}"
    )


def facts(sock: Any) -> tuple[int, int, int]:
    """Family, type and protocol of a socket object; for CPython's own, those it really has."""
    if not issubclass(type(sock), OWN):
        return sock.family, sock.type, sock.proto
    family, kind, protocol = (
        getattr(OWN, name).__get__(sock) for name in ("family", "type", "proto")
    )
    return named(socket.AddressFamily, family), named(socket.SocketKind, kind), protocol


def named(enumeration: type[IntEnum], number: int) -> int:
    """A number as a member of the enumeration, where it is one."""
    try:
        return enumeration(number)
    except ValueError:
        return number


def by_number(number: int) -> socket.socket:
    """A socket object for a descriptor's number; `socket.socket` may be a patched one."""
    if not 0 <= number < 1 << 31:
        raise ValueError(f"sock must be a socket's descriptor, 0 or more, not {number}")
    try:
        found = OWN(fileno=number)
    except OSError as error:
        reason = f"{error.strerror}: sock is the number {number}"
        raise OSError(error.errno, reason) from None
    kind = facts(found)
    found.detach()
    return socket.socket(*kind, fileno=number)
