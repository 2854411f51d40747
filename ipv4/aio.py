"""The same verbs, awaited: on asyncio (also with uvloop) and, through anyio, on trio.

Every call tries at once and waits for the socket only if it would block. Between the system call
that took a datagram and the caller nothing is awaited, so that a cancelled read loses nothing.
"""

import asyncio
import errno
from socket import MSG_DONTWAIT

from .conn import PacketConn, RawConn

__all__ = ["AsyncPacketConn", "AsyncRawConn"]

# Messages that one task may take in a row before others get their turn: a millisecond or two.
TURN = 2048

# A wake-up that brought nothing, so many times in a row, is an unread error queue, which polls as
# readable for ever (ip(7), IP_RECVERR): from then on the wait is by time.
SPURIOUS = 4
SPURIOUS_PAUSE = 0.005


class LoopGate:
    """Readiness of one direction of a descriptor on an asyncio loop, for any number of tasks.

    The registration with the loop outlives a wait: under load it is made once. It is given up
    when the descriptor becomes ready and nobody waits for it.
    """

    def __init__(self, loop, fd, writing):
        self.loop = loop
        self.fd = fd
        self.add = loop.add_writer if writing else loop.add_reader
        self.remove = loop.remove_writer if writing else loop.remove_reader
        self.registered = False
        self.waiting = []

    def ready(self):
        if not self.waiting:
            self.unregister()
            return
        waiting, self.waiting = self.waiting, []
        for future in waiting:
            if not future.done():
                future.set_result(None)

    def unregister(self):
        if self.registered:
            self.registered = False
            self.remove(self.fd)

    async def wait(self):
        future = self.loop.create_future()
        self.waiting.append(future)
        if not self.registered:
            self.add(self.fd, self.ready)
            self.registered = True
        try:
            await future
        finally:
            if future in self.waiting:
                self.waiting.remove(future)

    def close(self):
        if self.loop.is_closed():
            return
        self.unregister()
        waiting, self.waiting = self.waiting, []
        for future in waiting:
            if not future.done():
                future.set_exception(closed_error())


class AnyioGate:
    """The same through anyio, which allows one waiting task; others queue for their turn."""

    def __init__(self, fd, writing):
        import anyio

        self.fd = fd
        self.closed_resource = anyio.ClosedResourceError
        self.wait_ready = anyio.wait_writable if writing else anyio.wait_readable
        self.notify_closing = anyio.notify_closing
        self.turn = anyio.Lock()

    async def wait(self):
        try:
            async with self.turn:
                await self.wait_ready(self.fd)
        except (self.closed_resource, OSError, ValueError):
            raise closed_error() from None

    def close(self):
        self.notify_closing(self.fd)


def closed_error():
    return OSError(errno.EBADF, "Bad file descriptor: the conn was closed by another task")


async def pause(seconds):
    """Sleep on whichever loop runs."""
    if current_loop() is not None:
        await asyncio.sleep(seconds)
    else:
        import anyio

        await anyio.sleep(seconds)


def current_loop():
    """The running asyncio loop, or None under another one."""
    try:
        return asyncio.get_running_loop()
    except RuntimeError:
        return None


class AsyncConn:
    """What both kinds share; options, groups and the rest are reached as on the conn itself."""

    kind = ()

    def __init__(self, conn):
        if not isinstance(conn, self.kind):
            expected = self.kind.__name__
            raise TypeError(f"conn must be a {expected}, not {type(conn).__name__}")
        # Not through __setattr__, which hands everything on to the conn.
        object.__setattr__(self, "conn", conn)
        object.__setattr__(self, "_gates", {})

    def __getattr__(self, name):
        return getattr(self.conn, name)

    def __setattr__(self, name, value):
        setattr(self.conn, name, value)

    def __repr__(self):
        return f"<ipv4.aio.{type(self).__name__} of {self.conn!r}>"

    async def __aenter__(self):
        return self

    async def __aexit__(self, *exc_info):
        self.close()

    def close(self):
        """Close the conn; tasks that wait on it end with ``OSError(EBADF)``."""
        for _, gate in self._gates.values():
            gate.close()
        self._gates.clear()
        self.conn.close()

    def _gate(self, writing):
        fd = self.conn.fileno()
        if fd < 0:
            raise closed_error()
        loop = current_loop()
        kept = self._gates.get(writing)
        if kept is None or kept[0] is not loop:
            gate = AnyioGate(fd, writing) if loop is None else LoopGate(loop, fd, writing)
            kept = self._gates[writing] = (loop, gate)
        return kept[1]

    async def _call(self, writing, call, args, flags):
        """The call's result as soon as it does not block; at once if the caller would not wait."""
        if flags & MSG_DONTWAIT:
            return call(*args, flags)
        spurious = 0
        while True:
            try:
                return call(*args, flags | MSG_DONTWAIT)
            except BlockingIOError:
                pass
            await self._gate(writing).wait()
            spurious += 1
            if spurious > SPURIOUS:
                await pause(SPURIOUS_PAUSE)

    async def read_from(self, buf, flags=0):
        """As the conn's own ``read_from``, awaited."""
        return await self._call(False, self.conn.read_from, (buf,), flags)

    async def read_batch(self, ms, flags=0):
        """As the conn's own ``read_batch``, awaited."""
        return await self._call(False, self.conn.read_batch, (ms,), flags)

    async def write_batch(self, ms, flags=0):
        """As the conn's own ``write_batch``, awaited."""
        return await self._call(True, self.conn.write_batch, (ms,), flags)

    async def write_all(self, messages):
        """As the conn's own ``write_all``, awaited."""
        if not hasattr(messages, "__getitem__"):
            messages = list(messages)
        failed = []
        at = 0
        while at < len(messages):
            try:
                at += await self.write_batch(messages[at : at + 1024])
            except OSError as error:
                if error.errno == errno.EBADF or isinstance(error, TimeoutError):
                    failed.extend((index, error) for index in range(at, len(messages)))
                    break
                failed.append((at, error))
                at += 1
        return failed

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
        """
        return Batches(self, batch)


class Batches:
    """Iterator of `AsyncConn.batches`."""

    def __init__(self, conn, batch):
        self.conn = conn
        self.batch = batch
        self.size = len(batch)
        self.drained = False
        self.taken = 0

    def __aiter__(self):
        return self

    async def __anext__(self):
        if self.drained:  # what was there is taken: wait without trying first
            await self.conn._gate(False).wait()
        elif self.taken >= TURN:
            self.taken = 0
            await pause(0)
        try:  # at once, when there is something: three coroutines fewer a batch
            n = self.conn.conn.read_batch(self.batch, MSG_DONTWAIT)
        except BlockingIOError:
            n = await self.conn.read_batch(self.batch)
        self.drained = n < self.size
        self.taken = 0 if self.drained else self.taken + n
        return n


class AsyncPacketConn(AsyncConn):
    """A `PacketConn` whose reads and writes are awaited.

    Parameters
    ----------
    conn : PacketConn
        Its other attributes are reached through this object. Close it through this object, so
        that waiting tasks hear of it.
    """

    kind = PacketConn

    async def write_to(self, data, dst=None, cm=None, flags=0):
        """As `PacketConn.write_to`, awaited."""
        return await self._call(True, self.conn.write_to, (data, dst, cm), flags)


class AsyncRawConn(AsyncConn):
    """A `RawConn` whose reads and writes are awaited; see `AsyncPacketConn`."""

    kind = RawConn

    async def write_to(self, header, payload, cm=None, flags=0):
        """As `RawConn.write_to`, awaited."""
        return await self._call(True, self.conn.write_to, (header, payload, cm), flags)
