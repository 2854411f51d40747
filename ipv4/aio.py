"""The same verbs, awaited: on asyncio (also with uvloop) and on trio.

Every call tries at once and waits for the socket only if it would block. Between the system call
that took a datagram and the caller nothing is awaited that can be cancelled, so that a cancelled
read loses nothing. A task that never has to wait gives up its turn every so often; on trio every
call is a checkpoint. Deadlines and the socket's timeout end awaited calls as they end calls of
threads, also when they are set while a task waits; but a timeout of 0, which loops ask of sockets,
ends nothing, for an awaited call blocks nobody.
"""

import errno
import socket
from copy import copy

from .conn import PacketConn, RawConn
from .datagrams import create_datagram_endpoint
from .engine.batch import WriteAll, WriteBatch
from .engine.readiness import Clock
from .loops import CALL, ERRORS, READ, WRITE, current_gate
from .wire.control import ControlMessage
from .wire.header import Header

__all__ = ["AsyncPacketConn", "AsyncRawConn", "create_datagram_endpoint"]

# As a plain int: an IntFlag's `|` takes longer than a system call.
MSG_DONTWAIT = int(socket.MSG_DONTWAIT)


class AsyncConn:
    """What both kinds share.

    Options, groups and the rest are reached as on the conn itself, also what a subclass of it adds.
    """

    __slots__ = ("__weakref__", "conn")

    kind = ()

    def __init__(self, conn):
        if not isinstance(conn, self.kind):
            expected = self.kind.__name__
            raise TypeError(f"conn must be a {expected}, not {type(conn).__name__}")
        self.conn = conn

    def __getattr__(self, name):
        if name == "conn":
            raise AttributeError(f"{type(self).__name__} has no conn: call super().__init__(conn)")
        return getattr(self.conn, name)

    def __setattr__(self, name, value):
        # What a subclass of the conn adds is the conn's; what one of this class adds is its own.
        if not hasattr(type(self), name) and hasattr(type(self.conn), name):
            setattr(self.conn, name, value)
        else:
            object.__setattr__(self, name, value)

    def __dir__(self):
        # Of what the conn has, what can be read now, as its own dir() says.
        readable = set(dir(self.conn))
        own = (name for name in object.__dir__(self) if not hasattr(self.kind, name))
        return sorted(readable.union(own))

    def __repr__(self):
        return f"<ipv4.aio.{type(self).__name__} of {self.conn!r}>"

    def __reduce__(self):
        raise TypeError(f"cannot pickle {type(self).__name__}: it stands for an open socket")

    async def __aenter__(self):
        return self

    async def __aexit__(self, *exc_info):
        self.close()

    def close(self):
        """Close the conn, from anywhere; calls that wait for it, also on other loops and in other
        threads, end with ``OSError(EBADF)``.
        """
        self.conn.close()

    async def aclose(self):
        """`close`, for what awaits it, such as ``contextlib.aclosing``; a checkpoint on trio."""
        self.close()
        kind = current_gate()
        await kind.turn()
        await kind.after()

    # Waiting

    async def _call(self, direction, call, args, flags, dry=False, clock=None):
        """The call's result as soon as it does not block; at once if the caller would not wait.

        What is known to be `dry` is not tried before something new is told. The socket's timeout
        counts from the first wait with `clock`. `args`, a list, is left as it was when that began.
        """
        kind = current_gate()
        kind.left -= CALL
        if kind.left < 0:
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

    async def read_from(self, buf, flags=0):
        """As the conn's own ``read_from``, awaited."""
        return await self._call(READ, self.conn.read_from, [buf], flags)

    async def receive(self, max_size=65535, flags=0):
        """As the conn's own ``receive``, awaited."""
        return await self._call(READ, self.conn.receive, [max_size], flags)

    def __aiter__(self):
        """What `receive` returns, again and again until the conn is closed."""
        return UntilClosed(self, self.receive)

    async def read_batch(self, ms, flags=0):
        """As the conn's own ``read_batch``, awaited."""
        n = await self._call(READ, self.conn.read_batch, [ms], flags)
        current_gate().left -= n
        return n

    def batches(self, batch):
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

    async def read_error(self, wait=True):
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

    def _take_error(self, _flags):
        self.conn._time_left(ERRORS, Clock())  # a deadline that has passed fails every call
        report = self.conn.read_error()
        if report is None:
            raise BlockingIOError(errno.EAGAIN, "Resource temporarily unavailable")
        return report

    def errors(self):
        """Entries of the error queue, until the conn is closed.

        Returns
        -------
        async iterator of ErrorReport
            It ends without an error when the conn is closed; a read deadline ends it with
            TimeoutError.
        """
        return UntilClosed(self, self.read_error)

    # Writing

    async def write_batch(self, ms, flags=0):
        """As the conn's own ``write_batch``, awaited; when it is full, the rest goes when there is
        room.

        Fewer than were given are sent when the next one fails, or at the deadline. Of a call that
        is cancelled some may have gone: `Message.n` tells which.
        """
        if flags & MSG_DONTWAIT:
            return await self._call(WRITE, self.conn.write_batch, [ms], flags)
        return (await self._send(WriteBatch, ms, flags, Clock())).count()

    async def write_all(self, messages):
        """As the conn's own ``write_all``, awaited; of the list as it was when the call began."""
        return (await self._send(WriteAll, messages, 0, None)).failed

    async def _send(self, way, messages, flags, clock):
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
            current_gate().left -= job.at - at
        return job


def copy_of(arg):
    """What a call that waits was given, as it is now: the caller's may change meanwhile."""
    kind = type(arg)
    if kind is list:
        return arg[:]
    return copy(arg) if kind is ControlMessage or kind is Header else arg


class Handed:
    """An attribute of the conn, reached through the object that awaits."""

    def __init__(self, name, found):
        self.name = name
        self.found = found
        self.__doc__ = found.__doc__

    def __get__(self, aconn, owner=None):
        return self.found if aconn is None else getattr(aconn.conn, self.name)

    def __set__(self, aconn, value):
        setattr(aconn.conn, self.name, value)


def hand_on(cls):
    """Give a class every public attribute of the conns that it is for, but those it has itself."""
    for name in dir(cls.kind):
        if not name.startswith("_") and not hasattr(cls, name):
            setattr(cls, name, Handed(name, getattr(cls.kind, name)))
    return cls


class UntilClosed:
    """What one call brings after the other, until the conn is closed."""

    def __init__(self, conn, read):
        self.conn = conn
        self.read = read

    def __aiter__(self):
        return self

    async def __anext__(self):
        try:
            return await self.read()
        except OSError as error:
            if error.errno == errno.EBADF and self.conn.closed:
                raise StopAsyncIteration from None
            raise


class Batches:
    """Iterator of `AsyncConn.batches`."""

    def __init__(self, conn, batch):
        self.conn = conn
        self.batch = batch
        self.size = len(batch)
        if self.size == 0:
            raise ValueError("batch must hold at least one message")
        # Where to wait, whether the last batch left nothing, and what had been told by then.
        self.gate = None
        self.dry = False
        self.edges = 0

    def __aiter__(self):
        return self

    async def __anext__(self):
        kind = current_gate()
        gate = self.gate
        if gate is not None and gate.key != kind.here():
            gate = self.gate = None
        dry = gate is not None and self.dry and gate.edges == self.edges
        conn = self.conn.conn
        n = 0
        if not dry and not kind.checkpoints and kind.left > 0:
            # At once, when there is something: three coroutines fewer a batch.
            kind.left -= CALL
            try:
                n = conn.read_batch(self.batch, MSG_DONTWAIT)
            except BlockingIOError:
                dry = True
        if n == 0:
            n = await self.conn._call(READ, conn.read_batch, [self.batch], 0, dry)
            if n == 0:
                raise ValueError("batch holds no message any more")
        kind.left -= n
        self.dry = conn._left_none(n, self.size)
        if self.dry:
            if gate is None:
                gate = self.gate = conn._watch(kind, kind.here(), READ)
            self.edges = gate.edges
        return n


@hand_on
class AsyncPacketConn(AsyncConn):
    """A `PacketConn` whose reads and writes are awaited.

    Parameters
    ----------
    conn : PacketConn
        Its other attributes are reached through this object. Both close it alike, and any number
        of these objects, tasks, loops and threads may use it.
    """

    __slots__ = ()

    kind = PacketConn

    @classmethod
    def udp(cls, *args, **options):
        """`PacketConn.udp`, awaited from then on; opening itself waits for nothing."""
        return cls(cls.kind.udp(*args, **options))

    @classmethod
    def ip(cls, *args, **options):
        """`PacketConn.ip`, awaited from then on; opening itself waits for nothing."""
        return cls(cls.kind.ip(*args, **options))

    @classmethod
    def ping(cls, *args, **options):
        """`PacketConn.ping`, awaited from then on; opening itself waits for nothing."""
        return cls(cls.kind.ping(*args, **options))

    async def write_to(self, data, dst=None, cm=None, flags=0):
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

    def try_write_to(self, data, dst=None, cm=None):
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
class AsyncRawConn(AsyncConn):
    """A `RawConn` whose reads and writes are awaited; see `AsyncPacketConn`."""

    __slots__ = ()

    kind = RawConn

    @classmethod
    def ip(cls, *args, **options):
        """`RawConn.ip`, awaited from then on; opening itself waits for nothing."""
        return cls(cls.kind.ip(*args, **options))

    async def write_to(self, header, payload, cm=None, flags=0):
        """As `RawConn.write_to`, awaited."""
        return await self._call(WRITE, self.conn.write_to, [header, payload, cm], flags)

    def try_write_to(self, header, payload, cm=None):
        """Send one packet now or not at all; see `AsyncPacketConn.try_write_to`."""
        try:
            self.conn.write_to(header, payload, cm, MSG_DONTWAIT)
        except BlockingIOError:
            return False
        return True
