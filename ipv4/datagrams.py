"""asyncio's datagram endpoint over a `PacketConn`: the same protocols, read in batches.

The transport does what asyncio's own does (asyncio's documentation, "Datagram Transports" and
"Datagram Protocols"), and knows the control messages besides.
"""

from __future__ import annotations

import asyncio
import os
import socket
import warnings
from asyncio.trsock import TransportSocket
from collections import deque
from collections.abc import Callable, Iterable
from itertools import islice, takewhile
from socket import MSG_DONTWAIT
from threading import get_ident
from types import NoneType
from typing import TYPE_CHECKING, Any, SupportsIndex, TypeVar

from .conn import PacketConn, bind_address
from .engine.message import Message
from .engine.message_batch import MessageBatch
from .loops import ERRORS, READ, WRITE, AsyncioGate
from .wire.arguments import integer

if TYPE_CHECKING:
    from os import PathLike

    from typing_extensions import Buffer, Unpack

    from .aio import AsyncPacketConn
    from .constants import ControlFlags
    from .options import _Options
    from .types import Address
    from .wire.control import ControlMessage

    class _OpenerOptions(_Options, total=False):
        reuse_address: bool
        netns: str | PathLike[str] | None
        timeout: float | None
        control: ControlFlags | int
        options: Iterable[tuple[SupportsIndex, SupportsIndex, SupportsIndex | Buffer]]


_P = TypeVar("_P", bound=asyncio.BaseProtocol)

__all__ = ["DatagramTransport", "create_datagram_endpoint"]

SIZE = 65535  # what a datagram, or several that the kernel joined, has at most
HIGH_WATER = 64 * 1024
TOLD = {READ: "_read", WRITE: "_write", ERRORS: "_look"}
BATCH = 64  # what leaves of the queue at once


class TransportGate(AsyncioGate):
    """Readiness told to a transport, which is its key, instead of to tasks.

    Until it is drained, the watch tells as long as there is something: a transport that reads does
    so only when it found nothing.
    """

    __slots__ = ()

    @property
    def loop(self) -> asyncio.AbstractEventLoop:
        transport: Any = self.key
        return transport._loop  # type: ignore[no-any-return]

    @property
    def told(self) -> Callable[[], None]:
        return getattr(self.key, TOLD[self.direction])  # type: ignore[no-any-return]

    def take_back(self) -> None:
        if self.thread == get_ident() and not self.loop.is_closed():
            self.told()


class DatagramTransport(asyncio.DatagramTransport):
    """What `create_datagram_endpoint` returns beside the protocol.

    Attributes
    ----------
    conn : PacketConn
        The conn under it, for options and groups; also ``get_extra_info("conn")``.
    """

    _lost = True  # until it is whole
    _number = -1  # a descriptor of the socket that the loop watches

    conn: PacketConn

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        conn: PacketConn,
        protocol: asyncio.BaseProtocol,
        peer: tuple[str, int] | None,
        batch: int,
    ) -> None:
        super().__init__(
            {
                "conn": conn,
                "socket": TransportSocket(conn.socket),
                "sockname": conn.local_addr,
                "peername": peer,
            }
        )
        self.conn = conn
        self._loop = loop
        self._peer = peer
        self._count = batch
        self._flags = int(conn.control_flags)
        self._batch: Any = MessageBatch(batch, SIZE, self._flags)
        self._found: Any = iter(())
        self._closing = False
        self._queue: deque[tuple[Any, Any, ControlMessage | None]] = deque()
        self._queued = 0
        self._paused = False
        self._reader: Any = None
        self._writer: Any = None
        self.set_write_buffer_limits()
        self.set_protocol(protocol)
        self._lost = False

    def __repr__(self) -> str:
        state = "closed" if self._lost else "closing" if self._closing else "open"
        return f"<ipv4.aio.DatagramTransport {state} of {self.conn!r}>"

    def __del__(self) -> None:
        if not self._lost:
            text = f"unclosed transport {self!r}"
            warnings.warn(text, ResourceWarning, stacklevel=2, source=self)
            self._stop_reading()
            self.conn.close()

    def set_protocol(self, protocol: asyncio.BaseProtocol) -> None:
        self._protocol: Any = protocol
        self._with_control = getattr(protocol, "datagram_received_with_control", None)

    def get_protocol(self) -> asyncio.BaseProtocol:
        return self._protocol  # type: ignore[no-any-return]

    def is_closing(self) -> bool:
        return self._closing

    # Reading

    def _begin(self) -> None:
        if self._closing:
            return
        # The loop watches the socket itself, by a number of the transport's own: without the watch
        # between them an answer costs 6 % less. The watch tells of the conn's end.
        try:
            self._reader = self.conn._watch(TransportGate, self, ERRORS)
            self._number = os.dup(self.conn.fileno())
        except OSError as error:  # it was closed before it began
            self._end(error)
        else:
            self._reader.register()
            self._loop.add_reader(self._number, self._read)

    def _stop_reading(self) -> None:
        if self._reader is not None:
            self._reader.unregister()
        if self._number >= 0:
            if not self._loop.is_closed():
                self._loop.remove_reader(self._number)
            os.close(self._number)
            self._number = -1

    def _look(self) -> None:
        self._reader.drain()
        if self.conn.closed:
            self._read()

    def _read(self) -> None:
        if self._closing:
            return
        try:
            found = self.conn._take(self._batch, self._flags)
            if found is None:
                found = self._take_anew()
        except OSError as error:
            found = self._take_again(error)
            if found is None:
                return
        self._found = found = iter(found)
        if self._with_control is not None:
            self._deliver()
            return
        received = self._protocol.datagram_received
        try:
            for data, addr, _ in found:
                received(data, addr)
                if self._closing:
                    return  # type: ignore[unreachable]
        except BaseException as error:
            self._failed(error)
            self._deliver()

    def _take_anew(self) -> Iterable[Any]:
        """What is there, when other control messages are on than before."""
        while True:
            flags = self.conn.control_flags
            batch = MessageBatch(self._count, SIZE, flags)
            found = self.conn._take(batch, flags)
            if found is not None:
                self._batch, self._flags = batch, int(flags)
                return found

    def _take_again(self, error: OSError) -> Iterable[Any] | None:
        """What came after a read that failed; None when nothing did."""
        conn = self.conn
        if isinstance(error, (BlockingIOError, TimeoutError)):
            # Told of something else, which a socket tells without end: errors in their queue.
            if self._number >= 0:
                self._stop_reading()
                self._reader = conn._watch(TransportGate, self, READ)
                self._reader.register()
            self._reader.drain()
            try:
                found = conn._take(self._batch, self._flags)
            except BlockingIOError:
                return None
            except OSError as another:
                error = another
            else:
                self._loop.call_soon(self._read)  # what it left is told no second time
                return found
        if conn.closed:
            self._end(error)
            return None
        if self._number < 0 and not isinstance(error, TimeoutError):
            self._loop.call_soon(self._read)
        self._protocol.error_received(error)
        return None

    def _deliver(self) -> None:
        """Hand on what was read and is left."""
        while not self._closing:
            try:
                for data, addr, row in self._found:
                    if self._with_control is None:
                        self._protocol.datagram_received(data, addr)
                    else:
                        self._with_control(data, addr, self._batch[row].control)
                    if self._closing:
                        break  # type: ignore[unreachable]
                return
            except BaseException as error:
                self._failed(error)

    def _failed(self, error: BaseException) -> None:
        """An exception of the protocol is the loop's matter, as ever."""
        if isinstance(error, (SystemExit, KeyboardInterrupt)):
            self._loop.call_soon(self._deliver)
            raise error
        self._report(error, "Exception in callback of a datagram protocol")

    def _report(self, error: BaseException, message: str) -> None:
        self._loop.call_exception_handler(
            {
                "message": message,
                "exception": error,
                "transport": self,
                "protocol": self._protocol,
            }
        )

    # Writing

    def sendto(self, data: Buffer, addr: Any = None, cm: ControlMessage | None = None) -> None:
        """Send a datagram, or keep it until there is room.

        Parameters
        ----------
        data : bytes-like
        addr : tuple of (str, int), optional
            Numeric; None for the peer of a connected endpoint.
        cm : ControlMessage, optional
            As for `PacketConn.write_to`.

        Raises
        ------
        ValueError
            If `addr` is not the peer of a connected endpoint, or no IPv4 address.

        Notes
        -----
        Errors of the system go to the protocol's ``error_received``.
        """
        if type(data) is not bytes and not isinstance(data, (bytes, bytearray, memoryview)):
            raise TypeError(
                f"data argument must be a bytes-like object, not {type(data).__name__!r}"
            )
        if addr is not None and self._peer is not None:
            if tuple(addr[:2]) != self._peer:
                raise ValueError(f"Invalid address: must be None or {self._peer}")
            addr = None
        if self._closing:
            return
        if not self._queue:
            try:
                n = self.conn.write_to(data, addr, cm, MSG_DONTWAIT)
            except BlockingIOError:
                n = 0
            except OSError as error:
                self._protocol.error_received(error)
                return
            else:
                if cm is None or n == len(data):
                    return
            self._writer = self.conn._watch(TransportGate, self, WRITE)
            self._writer.register()
            data = memoryview(data)[n:]  # of a payload that goes as segments
        self._queue.append((bytes(data), addr, cm))
        self._queued += len(data)
        if self._queued > self._high and not self._paused:
            self._paused = True
            self._tell("pause_writing")

    def _write(self) -> None:
        if self._lost:
            return
        if self._writer is not None:
            self._writer.drain()
        try:
            while self._queue and self._write_some():
                pass
        except BaseException:
            self._loop.call_soon(self._write)  # of the rest, which is told no second time
            raise
        if self._lost:
            return  # type: ignore[unreachable]
        if self._paused and self._queued <= self._low:
            self._paused = False
            self._tell("resume_writing")
        if not self._queue:
            if self._writer is not None:
                self._writer.unregister()
            if self._closing:
                self._end(None)

    def _write_some(self) -> bool:
        """Send from the queue's head on, as a batch where that can be; False when it is full."""
        queue = self._queue
        plain = takewhile(lambda each: each[2] is None, islice(queue, BATCH))
        batch = [Message([data], addr=addr) for data, addr, _ in plain]
        rest = None
        try:
            if batch:
                n = self.conn.write_batch(batch, MSG_DONTWAIT)
            else:
                data, addr, cm = queue[0]
                n, rest = 1, data[self.conn.write_to(data, addr, cm, MSG_DONTWAIT) :]
        except BlockingIOError:
            return False
        except OSError as error:
            self._queued -= len(queue.popleft()[0])
            if self.conn.closed:
                self._end(error)
            else:
                self._protocol.error_received(error)
            return not self._lost
        for _ in range(n):
            self._queued -= len(queue.popleft()[0])
        if rest:
            queue.appendleft((rest, addr, cm))
            self._queued += len(rest)
        return True

    def _tell(self, what: str) -> None:
        try:
            getattr(self._protocol, what)()
        except (SystemExit, KeyboardInterrupt):
            raise
        except BaseException as error:
            self._report(error, f"protocol.{what}() failed")

    def get_write_buffer_size(self) -> int:
        """Bytes that wait to be sent."""
        return self._queued

    def get_write_buffer_limits(self) -> tuple[int, int]:
        """``(low, high)``, as `set_write_buffer_limits` set them."""
        return self._low, self._high

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        """The bytes waiting at which the protocol is told to pause, and to go on."""
        if high is None:
            high = HIGH_WATER if low is None else 4 * low
        if low is None:
            low = high // 4
        if not high >= low >= 0:
            raise ValueError(f"high ({high!r}) must be >= low ({low!r}) must be >= 0")
        self._high, self._low = high, low

    # The end

    def close(self) -> None:
        if self._closing:
            return
        self._closing = True
        self._stop_reading()
        if not self._queue:
            self._end(None)

    def abort(self) -> None:
        self._queue.clear()
        self._queued = 0
        self._end(None)

    def _end(self, error: BaseException | None) -> None:
        self._closing = True
        if self._lost:
            return
        self._lost = True
        self._stop_reading()
        if self._writer is not None:
            self._writer.unregister()
        self._loop.call_soon(self._finish, error)

    def _finish(self, error: BaseException | None) -> None:
        try:
            self._protocol.connection_lost(error)
        finally:
            self.conn.close()
            self._batch = None
            self._found = iter(())


async def create_datagram_endpoint(
    protocol_factory: Callable[[], _P],
    local_addr: Address | None = None,
    remote_addr: tuple[str, int] | None = None,
    *,
    conn: PacketConn | AsyncPacketConn | None = None,
    batch: int = 64,
    family: int | None = 0,
    proto: int | None = 0,
    flags: int = 0,
    reuse_port: bool | None = None,
    allow_broadcast: bool | None = None,
    sock: socket.socket | None = None,
    **options: Unpack[_OpenerOptions],
) -> tuple[DatagramTransport, _P]:
    """What asyncio's ``loop.create_datagram_endpoint`` does, with batches and control messages.

    Parameters
    ----------
    protocol_factory : callable
        Returns an asyncio.DatagramProtocol. Where it has a method
        ``datagram_received_with_control(data, addr, cm)``, that is called instead of
        ``datagram_received``; `cm` is the `ControlMessage` that came, or None.
    local_addr, remote_addr : address, optional
        To bind and to connect to; numeric.
    conn : PacketConn or AsyncPacketConn, optional
        Used instead of a new one, and closed with the transport.
    batch : int
        How many datagrams are read at once, 1-1024.
    family, proto, flags : int
        As for the loop's own: AF_INET, UDP, or 0. Nothing is looked up.
    reuse_port, allow_broadcast : bool, optional
        SO_REUSEPORT and SO_BROADCAST.
    sock : socket.socket, optional
        Used instead of a new one, as `conn` is.
    **options
        As for `PacketConn.udp`.

    Returns
    -------
    transport : DatagramTransport
        An asyncio.DatagramTransport whose ``sendto(data, addr=None, cm=None)`` takes a
        `ControlMessage`. ``get_extra_info("conn")`` is the conn.
    protocol
        What `protocol_factory` returned.

    Raises
    ------
    OSError, ValueError, TypeError
        As `PacketConn.udp`.
    """
    loop = AsyncioGate.here()
    if family not in (0, None, socket.AF_INET):
        raise ValueError(f"family must be AF_INET or 0, not {family!r}")
    if proto not in (0, None, socket.IPPROTO_UDP):
        raise ValueError(f"proto must be IPPROTO_UDP or 0, not {proto!r}")
    if flags is not None:
        integer(flags, 0, 0x7FFFFFFF, "flags")
    for name, value in (("reuse_port", reuse_port), ("allow_broadcast", allow_broadcast)):
        if not isinstance(value, (bool, int, NoneType)):
            raise TypeError(f"{name} must be True, False or None, not {type(value).__name__}")
    if isinstance(batch, bool) or not isinstance(batch, int):
        raise TypeError(f"batch must be an integer, not {type(batch).__name__}")
    if not 1 <= batch <= 1024:
        raise ValueError(f"batch must be within 1-1024, not {batch}")
    if conn is not None or sock is not None:
        given = {
            "local_addr": local_addr,
            "remote_addr": remote_addr,
            "reuse_port": reuse_port,
            "allow_broadcast": allow_broadcast,
            "sock": sock if conn is not None else None,
            **options,
        }
        named = [name for name, value in given.items() if value is not None]
        if named:
            instead = "sock" if conn is None else "conn"
            raise ValueError(f"{', '.join(named)} cannot be given beside {instead}")
        if conn is None:
            assert sock is not None
            conn = PacketConn(sock)
        conn = getattr(conn, "conn", conn)
        if not isinstance(conn, PacketConn):
            raise TypeError(f"conn must be a PacketConn, not {type(conn).__name__}")
    else:
        if allow_broadcast is not None:
            options["broadcast"] = bool(allow_broadcast)
        for name, address in (("local_addr", local_addr), ("remote_addr", remote_addr)):
            if address is not None:
                host, port = bind_address(address, name)
                if name == "remote_addr" and not port:
                    raise ValueError(f"remote_addr must have a port: give ({host!r}, port)")
        conn = PacketConn.udp(local_addr, remote_addr, reuse_port=bool(reuse_port), **options)
    try:
        protocol = protocol_factory()
        transport = DatagramTransport(loop, conn, protocol, conn.remote_addr, batch)
        ready = loop.create_future()
        loop.call_soon(protocol.connection_made, transport)
        loop.call_soon(transport._begin)
        loop.call_soon(ready.set_result, None)
    except BaseException:
        if sock is None:
            conn.close()
        raise
    try:
        await ready
    except BaseException:
        transport.close()
        raise
    return transport, protocol
