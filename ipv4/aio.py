"""The same verbs, awaited: on asyncio (also with uvloop) and on trio.

Every call tries at once and waits for the socket only if it would block. Between the system call
that took a datagram and the caller nothing is awaited that can be cancelled, so that a cancelled
read loses nothing. A task that never has to wait gives up its turn every so often; on trio every
call is a checkpoint. Deadlines and the socket's timeout end awaited calls as they end calls of
threads, also when they are set while a task waits; but a timeout of 0, which loops ask of sockets,
ends nothing, for an awaited call blocks nobody.
"""

from __future__ import annotations

import errno
import socket
from collections.abc import AsyncIterator, Callable, Iterable
from copy import copy
from typing import TYPE_CHECKING, Any, ClassVar, NoReturn, Self, SupportsIndex, TypeVar

from .conn import PacketConn, RawConn
from .datagrams import create_datagram_endpoint
from .engine.batch import WriteAll, WriteBatch
from .engine.readiness import Clock
from .loops import CALL, ERRORS, READ, WRITE, Gate, current_gate
from .wire.control import ControlMessage
from .wire.header import Header

if TYPE_CHECKING:
    from os import PathLike
    from socket import socket as Socket
    from types import TracebackType

    from typing_extensions import Buffer, Unpack

    from .conn import _Unnamed
    from .constants import ControlFlags
    from .engine.connection import Connected
    from .engine.errqueue import ErrorReport
    from .engine.message import Message
    from .engine.multicast import Membership
    from .filtering import Filtering
    from .interface import Interface
    from .options import DatagramOptions, RawOptions, _Options, _RawOptions
    from .types import Address, Messages

    # What `hand_on` gives at run time, for type checkers: classes whose members are handed on as
    # they are, and one by one the members of those that have awaited ones besides.
    class _Handed(DatagramOptions, Membership, Filtering):
        def fileno(self) -> int:
            """As `PacketConn.fileno`."""
            ...

        def detach(self) -> int:
            """As `PacketConn.detach`."""
            ...

        @property
        def closed(self) -> bool:
            """As `PacketConn.closed`."""
            ...

        @property
        def socket(self) -> Socket:
            """As `PacketConn.socket`."""
            ...

        @property
        def local_addr(self) -> tuple[str, int]:
            """As `PacketConn.local_addr`."""
            ...

        @property
        def release_gil(self) -> bool | None:
            """As `PacketConn.release_gil`."""
            ...

        @release_gil.setter
        def release_gil(self, value: bool | None) -> None: ...
        @property
        def timeout(self) -> float | None:
            """As `PacketConn.timeout`."""
            ...

        @timeout.setter
        def timeout(self, value: float | None) -> None: ...
        def set_deadline(self, when: float | None) -> None:
            """As `PacketConn.set_deadline`."""
            ...

        def set_read_deadline(self, when: float | None) -> None:
            """As `PacketConn.set_read_deadline`."""
            ...

        def set_write_deadline(self, when: float | None) -> None:
            """As `PacketConn.set_write_deadline`."""
            ...

        @property
        def control_flags(self) -> ControlFlags:
            """As `PacketConn.control_flags`."""
            ...

        def set_control_message(self, flags: SupportsIndex, on: bool) -> None:
            """As `PacketConn.set_control_message`."""
            ...

        def set_timestamping(self, flags: SupportsIndex) -> None:
            """As `PacketConn.set_timestamping`."""
            ...

        @property
        def segmentation(self) -> bool:
            """As `PacketConn.segmentation`."""
            ...

        @segmentation.setter
        def segmentation(self, value: bool) -> None: ...
        def interface(self, index: SupportsIndex) -> Interface:
            """As `PacketConn.interface`."""
            ...

    class _HandedPackets(_Handed, Connected):
        @property
        def coalesce(self) -> bool:
            """As `PacketConn.coalesce`."""
            ...

        @coalesce.setter
        def coalesce(self, value: bool) -> None: ...
        @property
        def coalescing(self) -> bool:
            """As `PacketConn.coalescing`."""
            ...

    class _HandedRaw(_Handed, RawOptions): ...
else:
    _HandedPackets = _HandedRaw = object

_A = TypeVar("_A", bound="AsyncConn")

__all__ = ["AsyncPacketConn", "AsyncRawConn", "create_datagram_endpoint"]

# As a plain int: an IntFlag's `|` takes longer than a system call.
MSG_DONTWAIT = int(socket.MSG_DONTWAIT)


class AsyncConn:
    """What both kinds share.

    Options, groups and the rest are reached as on the conn itself, also what a subclass of it adds.
    """

    __slots__ = ("__weakref__", "conn")

    kind: ClassVar[Any] = ()
    conn: Any

    def __init__(self, conn: PacketConn | RawConn) -> None:
        if not isinstance(conn, self.kind):
            expected = self.kind.__name__
            raise TypeError(f"conn must be a {expected}, not {type(conn).__name__}")
        self.conn = conn

    if not TYPE_CHECKING:  # for which every name would be an attribute

        def __getattr__(self, name):
            if name == "conn":
                raise AttributeError(
                    f"{type(self).__name__} has no conn: call super().__init__(conn)"
                )
            return getattr(self.conn, name)

        def __setattr__(self, name, value):
            # What a subclass of the conn adds is the conn's; one of this class has its own.
            if not hasattr(type(self), name) and hasattr(type(self.conn), name):
                setattr(self.conn, name, value)
            else:
                object.__setattr__(self, name, value)

    def __dir__(self) -> list[str]:
        # Of what the conn has, what can be read now, as its own dir() says.
        readable = set(dir(self.conn))
        own = (name for name in object.__dir__(self) if not hasattr(self.kind, name))
        return sorted(readable.union(own))

    def __repr__(self) -> str:
        return f"<ipv4.aio.{type(self).__name__} of {self.conn!r}>"

    def __reduce__(self) -> NoReturn:
        raise TypeError(f"cannot pickle {type(self).__name__}: it stands for an open socket")

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        value: BaseException | None,
        traceback: TracebackType | None,
        /,
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the conn, from anywhere; calls that wait for it, also on other loops and in other
        threads, end with ``OSError(EBADF)``.
        """
        self.conn.close()

    async def aclose(self) -> None:
        """`close`, for what awaits it, such as ``contextlib.aclosing``; a checkpoint on trio."""
        self.close()
        kind = current_gate()
        await kind.turn()
        await kind.after()

    # Waiting

    async def _call(
        self,
        direction: int,
        call: Callable[..., Any],
        args: list[Any],
        flags: int,
        dry: bool = False,
        clock: Clock | None = None,
    ) -> Any:
        """The call's result as soon as it does not block; at once if the caller would not wait.

        What is known to be `dry` is not tried before something new is told. The socket's timeout
        counts from the first wait with `clock`. `args`, a list, is left as it was when that began.
        """
        kind = current_gate()
        kind.budget.left -= CALL
        if kind.budget.left < 0:
            await kind.turn()
        waits = False
        try:
            if not dry:
                try:
                    return call(*args, flags | MSG_DONTWAIT)
                except BlockingIOError:
                    if flags & MSG_DONTWAIT:
                        raise
            if clock is None:
                clock = Clock()
            args[:] = map(copy_of, args)
            while True:
                seconds = self.conn._time_left(direction, clock)
                gate = self.conn._watch(kind, kind.here(), direction)
                waits = True
                await gate.wait(seconds)
                try:
                    return call(*args, flags | MSG_DONTWAIT)
                except BlockingIOError:
                    pass
        finally:
            if kind.checkpoints and not waits:
                await kind.after()

    # Reading

    async def read_from(self, buf: Buffer, flags: int = 0) -> tuple[Any, ...]:
        """As the conn's own ``read_from``, awaited."""
        return await self._call(READ, self.conn.read_from, [buf], flags)

    async def receive(self, max_size: SupportsIndex = 65535, flags: int = 0) -> tuple[Any, ...]:
        """As the conn's own ``receive``, awaited."""
        return await self._call(READ, self.conn.receive, [max_size], flags)

    def __aiter__(self) -> AsyncIterator[tuple[Any, ...]]:
        """What `receive` returns, again and again until the conn is closed."""
        return UntilClosed(self, self.receive)

    async def read_batch(self, ms: Messages, flags: int = 0) -> int:
        """As the conn's own ``read_batch``, awaited."""
        n = await self._call(READ, self.conn.read_batch, [ms], flags)
        current_gate().budget.left -= n
        return n

    def batches(self, batch: Messages) -> AsyncIterator[int]:
        """Drain the socket batch by batch.

        Parameters
        ----------
        batch : MessageBatch or list of Message
            Filled anew each time.

        Returns
        -------
        async iterator of int
            How many messages of the batch were received, at least 1 each time. It holds nothing
            between two steps, so a loop over it can be left at any moment.

        Raises
        ------
        ValueError
            If `batch` is empty.
        """
        return Batches(self, batch)

    # The error queue

    async def read_error(self, wait: bool = True) -> ErrorReport | None:
        """Take one entry from the error queue; see the conn's own ``read_error``.

        Parameters
        ----------
        wait : bool
            Whether to wait for one, until the read deadline. Other tasks read data meanwhile.

        Returns
        -------
        ErrorReport or None
            None when the queue is empty and `wait` is False.
        """
        try:
            return await self._call(ERRORS, self._take_error, [], 0 if wait else MSG_DONTWAIT)
        except BlockingIOError:
            return None

    def _take_error(self, _flags: int) -> ErrorReport:
        self.conn._time_left(ERRORS, Clock())  # a deadline that has passed fails every call
        report = self.conn.read_error()
        if report is None:
            raise BlockingIOError(errno.EAGAIN, "Resource temporarily unavailable")
        return report

    def errors(self) -> AsyncIterator[ErrorReport]:
        """Entries of the error queue, until the conn is closed.

        Returns
        -------
        async iterator of ErrorReport
            It ends without an error when the conn is closed; a read deadline ends it with
            TimeoutError.
        """
        return UntilClosed(self, self.read_error)

    # Writing

    async def write_batch(self, ms: Messages, flags: int = 0) -> int:
        """As the conn's own ``write_batch``, awaited; when it is full, the rest goes when there is
        room.

        Fewer than were given are sent when the next one fails, or at the deadline. Of a call that
        is cancelled some may have gone: `Message.n` tells which.
        """
        if flags & MSG_DONTWAIT:
            return await self._call(WRITE, self.conn.write_batch, [ms], flags)
        return (await self._send(WriteBatch, ms, flags, Clock())).count()

    async def write_all(self, messages: Messages | Iterable[Message]) -> list[tuple[int, OSError]]:
        """As the conn's own ``write_all``, awaited; of the list as it was when the call began."""
        return (await self._send(WriteAll, messages, 0, None)).failed

    async def _send(
        self,
        way: type[WriteAll] | type[WriteBatch],
        messages: Any,
        flags: int,
        clock: Clock | None,
    ) -> Any:
        """Send what there is of many messages, and account for their number."""
        try:
            job = way(self.conn, messages)
        except OSError:
            await self._call(WRITE, self.conn.write_batch, [()], 0)  # others get their turn
            raise
        left = True
        while left:
            at = job.at
            try:
                left = await self._call(WRITE, job.step, [], flags, clock=clock)
            except OSError as error:  # of a message, or what ended the wait
                job.give_up(error)
                break
            current_gate().budget.left -= job.at - at
        return job


def copy_of(arg: Any) -> Any:
    """What a call that waits was given, as it is now: the caller's may change meanwhile."""
    kind = type(arg)
    if kind is list:
        return arg[:]
    return copy(arg) if kind is ControlMessage or kind is Header else arg


class Handed:
    """An attribute of the conn, reached through the object that awaits."""

    def __init__(self, name: str, found: Any) -> None:
        self.name = name
        self.found = found
        self.__doc__ = found.__doc__

    def __get__(self, aconn: Any, owner: type | None = None) -> Any:
        return self.found if aconn is None else getattr(aconn.conn, self.name)

    def __set__(self, aconn: Any, value: Any) -> None:
        setattr(aconn.conn, self.name, value)


def hand_on(cls: type[_A]) -> type[_A]:
    """Give a class every public attribute of the conns that it is for, but those it has itself."""
    for name in dir(cls.kind):
        if not name.startswith("_") and not hasattr(cls, name):
            setattr(cls, name, Handed(name, getattr(cls.kind, name)))
    return cls


class UntilClosed:
    """What one call brings after the other, until the conn is closed."""

    def __init__(self, conn: AsyncConn, read: Callable[[], Any]) -> None:
        self.conn = conn
        self.read = read

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> Any:
        try:
            return await self.read()
        except OSError as error:
            if error.errno == errno.EBADF and self.conn.conn.closed:
                raise StopAsyncIteration from None
            raise


class Batches:
    """Iterator of `AsyncConn.batches`."""

    def __init__(self, conn: AsyncConn, batch: Messages) -> None:
        self.conn = conn
        self.batch = batch
        self.size: int = len(batch)
        if self.size == 0:
            raise ValueError("batch must hold at least one message")
        # Where to wait, whether the last batch left nothing, and what had been told by then.
        self.gate: Gate | None = None
        self.dry: bool = False
        self.edges: int = 0

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> int:
        kind = current_gate()
        gate = self.gate
        if gate is not None and gate.key != kind.here():
            gate = self.gate = None
        dry = gate is not None and self.dry and gate.edges == self.edges
        conn = self.conn.conn
        n = 0
        if not dry and not kind.checkpoints and kind.budget.left > 0:
            # At once, when there is something: three coroutines fewer a batch.
            kind.budget.left -= CALL
            try:
                n = conn.read_batch(self.batch, MSG_DONTWAIT)
            except BlockingIOError:
                dry = True
        if n == 0:
            n = await self.conn._call(READ, conn.read_batch, [self.batch], 0, dry)
            if n == 0:
                raise ValueError("batch holds no message any more")
        kind.budget.left -= n
        self.dry = conn._left_none(n, self.size)
        if self.dry:
            if gate is None:
                gate = self.gate = conn._watch(kind, kind.here(), READ)
            self.edges = gate.edges
        return n


@hand_on
class AsyncPacketConn(AsyncConn, _HandedPackets):
    """A `PacketConn` whose reads and writes are awaited.

    Parameters
    ----------
    conn : PacketConn
        Its other attributes are reached through this object. Both close it alike, and any number
        of these objects, tasks, loops and threads may use it.
    """

    __slots__ = ()

    kind: ClassVar[type[PacketConn]] = PacketConn
    conn: PacketConn

    if TYPE_CHECKING:  # what the base class's calls take and give here

        def __init__(self, conn: PacketConn) -> None: ...
        async def read_from(
            self, buf: Buffer, flags: int = 0
        ) -> tuple[int, ControlMessage | Any, tuple[str, int]]:
            """As the conn's own ``read_from``, awaited."""
            ...

        async def receive(
            self, max_size: SupportsIndex = 65535, flags: int = 0
        ) -> tuple[bytes, ControlMessage | Any, tuple[str, int]]:
            """As the conn's own ``receive``, awaited."""
            ...

        def __aiter__(
            self,
        ) -> AsyncIterator[tuple[bytes, ControlMessage | Any, tuple[str, int]]]: ...

        @classmethod
        def udp(
            cls,
            address: Address | None = ("0.0.0.0", 0),
            peer: Address | None = None,
            *,
            reuse_address: bool = False,
            reuse_port: bool = False,
            netns: str | PathLike[str] | None = None,
            timeout: float | None = None,
            control: ControlFlags | int = 0,
            options: _Unnamed = (),
            **named: Unpack[_Options],
        ) -> Self:
            """As the conn's own ``udp``; opening waits for nothing."""
            ...

        @classmethod
        def ip(
            cls,
            protocol: SupportsIndex,
            address: Address | None = "0.0.0.0",
            *,
            netns: str | PathLike[str] | None = None,
            timeout: float | None = None,
            control: ControlFlags | int = 0,
            options: _Unnamed = (),
            **named: Unpack[_Options],
        ) -> Self:
            """As the conn's own ``ip``; opening waits for nothing."""
            ...

        @classmethod
        def ping(
            cls,
            address: Address | None = "0.0.0.0",
            *,
            netns: str | PathLike[str] | None = None,
            timeout: float | None = None,
            control: ControlFlags | int = 0,
            options: _Unnamed = (),
            **named: Unpack[_Options],
        ) -> Self:
            """As the conn's own ``ping``; opening waits for nothing."""
            ...

    else:

        @classmethod
        def udp(cls, *args: Any, **options: Any) -> Self:
            """`PacketConn.udp`, awaited from then on; opening itself waits for nothing."""
            return cls(cls.kind.udp(*args, **options))

        @classmethod
        def ip(cls, *args: Any, **options: Any) -> Self:
            """`PacketConn.ip`, awaited from then on; opening itself waits for nothing."""
            return cls(cls.kind.ip(*args, **options))

        @classmethod
        def ping(cls, *args: Any, **options: Any) -> Self:
            """`PacketConn.ping`, awaited from then on; opening itself waits for nothing."""
            return cls(cls.kind.ping(*args, **options))

    async def write_to(
        self,
        data: Buffer,
        dst: Address | None = None,
        cm: ControlMessage | None = None,
        flags: int = 0,
    ) -> int:
        """As `PacketConn.write_to`, awaited; of segments the rest goes when there is room."""
        call = self.conn.write_to
        if type(cm) is not ControlMessage or flags & MSG_DONTWAIT or not cm.segment_size:
            return await self._call(WRITE, call, [data, dst, cm], flags)
        args = [data, dst, cm]
        clock = Clock()
        n = await self._call(WRITE, call, args, flags, clock=clock)
        rest = memoryview(data).cast("B")
        while n < len(rest):
            args[0] = rest[n:]
            try:
                n += await self._call(WRITE, call, args, flags, clock=clock)
            except OSError:
                break  # as for threads: the next call meets it again
        return n

    def try_write_to(
        self, data: Buffer, dst: Address | None = None, cm: ControlMessage | None = None
    ) -> bool:
        """Send one datagram now or not at all, for callbacks that cannot await.

        Parameters
        ----------
        data, dst, cm
            As for `PacketConn.write_to`.

        Returns
        -------
        bool
            False when the send queue is full.

        Raises
        ------
        BlockingIOError
            When a payload to be sent as segments went in part; `characters_written` tells how much.
        OSError
            As for `PacketConn.write_to`.
        """
        try:
            n = self.conn.write_to(data, dst, cm, MSG_DONTWAIT)
        except BlockingIOError:
            return False
        if cm is not None and cm.segment_size:
            size = memoryview(data).nbytes
            if n < size:
                raise BlockingIOError(
                    errno.EAGAIN, f"the send queue took {n} of {size} bytes before it was full", n
                )
        return True


@hand_on
class AsyncRawConn(AsyncConn, _HandedRaw):
    """A `RawConn` whose reads and writes are awaited; see `AsyncPacketConn`."""

    __slots__ = ()

    kind: ClassVar[type[RawConn]] = RawConn
    conn: RawConn

    if TYPE_CHECKING:

        def __init__(self, conn: RawConn) -> None: ...
        async def read_from(
            self, buf: Buffer, flags: int = 0
        ) -> tuple[Header, memoryview, ControlMessage | Any]:
            """As the conn's own ``read_from``, awaited."""
            ...

        async def receive(
            self, max_size: SupportsIndex = 65535, flags: int = 0
        ) -> tuple[Header, bytes, ControlMessage | Any]:
            """As the conn's own ``receive``, awaited."""
            ...

        def __aiter__(self) -> AsyncIterator[tuple[Header, bytes, ControlMessage | Any]]: ...

        @classmethod
        def ip(
            cls,
            protocol: SupportsIndex,
            address: Address | None = "0.0.0.0",
            *,
            netns: str | PathLike[str] | None = None,
            timeout: float | None = None,
            control: ControlFlags | int = 0,
            options: _Unnamed = (),
            **named: Unpack[_RawOptions],
        ) -> Self:
            """As the conn's own ``ip``; opening waits for nothing."""
            ...

    else:

        @classmethod
        def ip(cls, *args: Any, **options: Any) -> Self:
            """`RawConn.ip`, awaited from then on; opening itself waits for nothing."""
            return cls(cls.kind.ip(*args, **options))

    async def write_to(
        self,
        header: Header,
        payload: Buffer,
        cm: ControlMessage | None = None,
        flags: int = 0,
    ) -> int:
        """As `RawConn.write_to`, awaited."""
        return await self._call(WRITE, self.conn.write_to, [header, payload, cm], flags)

    def try_write_to(
        self, header: Header, payload: Buffer, cm: ControlMessage | None = None
    ) -> bool:
        """Send one packet now or not at all; see `AsyncPacketConn.try_write_to`."""
        try:
            self.conn.write_to(header, payload, cm, MSG_DONTWAIT)
        except BlockingIOError:
            return False
        return True
