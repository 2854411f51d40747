"""Network interfaces as programs name them."""

from __future__ import annotations

from collections import namedtuple

TYPE_CHECKING = False  # typing's own would cost more to import than this whole module
if TYPE_CHECKING:
    from typing import NamedTuple

    class _Interface(NamedTuple):
        index: int  # type: ignore[assignment]
        name: str

    class _MemoryInfo(NamedTuple):
        receive_queue: int
        receive_buffer: int
        send_queue: int
        send_buffer: int
        forward: int
        write_queued: int
        options: int
        backlog: int
        drops: int
else:
    _Interface = namedtuple("Interface", ("index", "name"))
    _MemoryInfo = namedtuple(
        "MemoryInfo",
        (
            "receive_queue",
            "receive_buffer",
            "send_queue",
            "send_buffer",
            "forward",
            "write_queued",
            "options",
            "backlog",
            "drops",
        ),
    )

__all__ = ["Interface", "MemoryInfo"]


class Interface(_Interface):
    """A network interface, as ``socket.if_nameindex()`` yields it.

    Attributes
    ----------
    index : int
        The kernel's number of the interface, from 1.
    name : str
        Its name, such as ``"eth0"``; empty when it no longer has one.
    """

    __slots__ = ()


class MemoryInfo(_MemoryInfo):
    """What a socket's queues hold, as SO_MEMINFO tells (<linux/sock_diag.h>).

    Attributes
    ----------
    receive_queue, receive_buffer : int
        Bytes that wait to be read, and that may; the kernel counts its overhead.
    send_queue, send_buffer : int
        Bytes that have not left, and that may wait.
    forward : int
        Bytes reserved for what comes.
    write_queued : int
        Bytes of a stream that wait to be sent.
    options : int
        Bytes taken by options: filters, source lists (net.core.optmem_max).
    backlog : int
        Bytes that came while the socket was in use.
    drops : int
        Datagrams lost so far, most of them since the receive buffer was full.
    """

    __slots__ = ()
