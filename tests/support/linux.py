"""The few kernel calls that the tests need and Python 3.11 lacks (unshare(2), setns(2), ...)."""

import contextlib
import ctypes
import fcntl
import os
import socket
import struct
import threading
from collections.abc import Callable, Iterator
from typing import Any

CLONE_NEWNET = 0x40000000
CLONE_NEWUSER = 0x10000000
SIOCGIFFLAGS = 0x8913
SIOCSIFFLAGS = 0x8914
IFF_UP = 0x1

libc = ctypes.CDLL(None, use_errno=True)


def check(result: int, what: str) -> int:
    """Raise the errno of a libc function that answered -1, saying what was attempted."""
    if result == -1:
        number = ctypes.get_errno()
        raise OSError(number, f"{os.strerror(number)}: {what}")
    return result


def unshare(flags: int) -> None:
    check(libc.unshare(flags), "unshare")


def setns(fd: int) -> None:
    check(libc.setns(fd, CLONE_NEWNET), "setns")


def open_own_network() -> int:
    """Return a descriptor that keeps the calling thread's network namespace alive."""
    # Not /proc/self: that is the namespace of the process's first thread.
    return os.open("/proc/thread-self/ns/net", os.O_RDONLY | os.O_CLOEXEC)


@contextlib.contextmanager
def inside_network(fd: int) -> Iterator[None]:
    """Move the calling thread, and it alone, into the network namespace `fd` for a while."""
    home = open_own_network()
    try:
        setns(fd)
        try:
            yield
        finally:
            setns(home)
    finally:
        os.close(home)


def raise_loopback() -> None:
    """Bring `lo` up; the kernel then gives it 127.0.0.1/8 by itself."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        answer = fcntl.ioctl(sock, SIOCGIFFLAGS, struct.pack("16sH14x", b"lo", 0))
        (flags,) = struct.unpack_from("H", answer, 16)
        fcntl.ioctl(sock, SIOCSIFFLAGS, struct.pack("16sH14x", b"lo", flags | IFF_UP))


def in_thread(function: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
    """Call `function` in a thread of its own; its result or its exception comes back here.

    A namespace belongs to a thread, so what such a call enters ends with it.
    """
    outcome: list[tuple[Any, BaseException | None]] = []

    def body() -> None:
        try:
            outcome.append((function(*args, **kwargs), None))
        except BaseException as error:
            outcome.append((None, error))

    thread = threading.Thread(target=body, name=f"in_thread:{function!r}")
    thread.start()
    thread.join()
    result, error = outcome.pop()
    if error is None:
        return result
    try:
        raise error
    finally:
        # The exception's traceback holds this frame: without this the two keep each other alive.
        del error


def become_private() -> bool:
    """Give the calling thread, and the threads it starts later, a network of its own.

    Root does it directly. Anybody else becomes root of a user namespace first, which the kernel
    allows only while the process has a single thread (user_namespaces(7)).

    Returns
    -------
    bool
        Whether this is the real root, and not that of a user namespace.
    """
    uid, gid = os.geteuid(), os.getegid()
    with open("/proc/self/uid_map") as file:
        real_root = uid == 0 and file.read().split() == ["0", "0", str(2**32 - 1)]
    try:
        unshare(CLONE_NEWNET)
    except PermissionError:
        real_root = False
        unshare(CLONE_NEWUSER | CLONE_NEWNET)
        for name, line in (
            ("setgroups", "deny"),
            ("uid_map", f"0 {uid} 1"),
            ("gid_map", f"0 {gid} 1"),
        ):
            with open(f"/proc/self/{name}", "w") as file:
                file.write(line)
    raise_loopback()
    # A system may grant the namespace and refuse what it is for: ask for the thing itself.
    socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_ICMP).close()
    return real_root
