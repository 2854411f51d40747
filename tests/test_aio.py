"""The verbs awaited, on asyncio, uvloop and trio."""

import asyncio
import contextlib
import copy
import errno
import os
import pickle
import random
import socket
import threading
import time
from ipaddress import IPv4Address

import pytest
from support.loops import each_loop, opened, warm_uvloop

from ipv4 import ControlMessage, Header, Message, MessageBatch, PacketConn, RawConn
from ipv4.aio import AsyncPacketConn, AsyncRawConn

__all__ = ["warm_uvloop"]  # a fixture

privileged = pytest.mark.privileged


@each_loop
async def test_verbs():
    anyio = pytest.importorskip("anyio")
    with opened() as conn:
        conn.ttl = 9
        assert conn.ttl == conn.conn.ttl == 9
        here = conn.local_addr
        async with anyio.create_task_group() as group:

            async def write():
                await anyio.sleep(0.05)
                await conn.write_to(b"one", here)
                await conn.write_batch([Message(b"two", addr=here)])
                assert await conn.write_all([Message(b"three", addr=here)]) == []

            group.start_soon(write)
            assert (await conn.read_from(bytearray(9)))[0] == 3
            assert await conn.read_batch([Message(bytearray(9))]) == 1
            batch = MessageBatch(4, 9)
            async for n in conn.batches(batch):
                assert (n, batch.lengths[0]) == (1, 5)
                break
        with pytest.raises(BlockingIOError):
            await conn.read_from(bytearray(1), socket.MSG_DONTWAIT)


async def cut_short(work, turns, act, at):
    """Run `work` as a task of the loop's own kind; cancel it after some turns of the loop.

    Before the turn `at`, `act` is called.
    """
    try:
        loop = asyncio.get_running_loop()
    except RuntimeError:
        import trio

        async with trio.open_nursery() as nursery:
            nursery.start_soon(work)
            for turn in range(turns):
                if turn == at:
                    act()
                await trio.lowlevel.checkpoint()
            nursery.cancel_scope.cancel()
    else:
        task = loop.create_task(work())
        for turn in range(turns):
            if turn == at:
                act()
            await asyncio.sleep(0)
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task


async def numbered_stream_with_cancellations(total, read, got, conn):
    """Send numbers; `read`, which appends them to `got`, is cancelled every few reads."""
    with contextlib.suppress(RuntimeError):
        if asyncio.get_running_loop().get_debug():  # which takes ten times as long
            total //= 20
    choose = random.Random(total)
    sent = 0

    def send():
        nonlocal sent
        # The queue is bounded: what a reader that was cut short left waiting counts.
        count = 0 if sent - len(got) > 100 else choose.randrange(12)
        for number in range(sent, min(sent + count, total)):
            conn.conn.write_to(number.to_bytes(4, "big"), conn.local_addr)
        sent = min(sent + count, total)

    rounds = 0
    while len(got) < total:
        turns = choose.randrange(6)
        await cut_short(read, turns, send, choose.randrange(turns + 1))
        rounds += 1
        assert rounds < total, f"{sent - len(got)} of {sent} datagrams are lost"
    assert got == list(range(total))
    assert rounds > total / 12


@each_loop
@pytest.mark.parity("event loops", "cancelled tasks")
async def test_cancelling_a_read_loses_nothing():
    with opened() as conn:
        got = []

        async def read():
            buffer = bytearray(4)
            while True:
                await conn.read_from(buffer)
                got.append(int.from_bytes(buffer, "big"))

        await numbered_stream_with_cancellations(100_000, read, got, conn)


@each_loop
@pytest.mark.parity("event loops")
async def test_cancelling_a_read_of_batches_loses_nothing():
    with opened() as conn:
        got = []
        batch = MessageBatch(8, 4)

        async def read():
            while True:
                n = await conn.read_batch(batch)
                got.extend(int.from_bytes(batch[i].buffers[0], "big") for i in range(n))

        await numbered_stream_with_cancellations(30_000, read, got, conn)


@each_loop
@pytest.mark.parity("event loops")
async def test_leaving_a_loop_over_batches_loses_nothing():
    with opened() as conn:
        got = []
        batch = MessageBatch(8, 4)

        async def read():
            async for n in conn.batches(batch):
                got.extend(int.from_bytes(batch[i].buffers[0], "big") for i in range(n))

        await numbered_stream_with_cancellations(30_000, read, got, conn)


@each_loop
async def test_a_flood_leaves_other_tasks_their_turn():
    """Batches that are always full: another task runs every few thousand messages."""
    anyio = pytest.importorskip("anyio")
    with opened() as conn:
        batch = MessageBatch(64, 4)
        full = [Message(b"full", addr=conn.local_addr)]
        taken, seen = 0, []

        async def look():
            while True:
                await anyio.sleep(0)
                seen.append(taken)

        async with anyio.create_task_group() as group:
            group.start_soon(look)
            await anyio.sleep(0)
            for _ in range(len(batch)):
                conn.conn.write_batch(full)
            async for n in conn.batches(batch):
                taken += n
                if taken >= 20_000:
                    break
                for _ in range(n):
                    conn.conn.write_batch(full)
            group.cancel_scope.cancel()
        assert len(set(seen)) >= 5


@each_loop
@pytest.mark.parity("cancelled tasks")
async def test_two_tasks_of_which_one_is_cancelled():
    """The other one still hears of what comes: a wake-up is not lost with the task that had it."""
    anyio = pytest.importorskip("anyio")
    with opened() as conn:
        got = []

        async def read():
            buffer = bytearray(4)
            while True:
                await conn.read_from(buffer)
                got.append(int.from_bytes(buffer, "big"))

        def send():
            conn.conn.write_to(len(got).to_bytes(4, "big"), conn.local_addr)

        with anyio.fail_after(30):
            async with anyio.create_task_group() as group:
                group.start_soon(read)
                sent = 0
                while sent < 1000:
                    await cut_short(read, 2 + sent % 3, send, sent % 2)
                    sent += 1
                    while len(got) < sent:
                        await anyio.sleep(0)
                group.cancel_scope.cancel()  # the last one may have gone to the other task
        assert got == list(range(1000))


@each_loop
@pytest.mark.parity("event loops")
async def test_two_tasks_read_one_conn():
    anyio = pytest.importorskip("anyio")
    with opened() as conn:
        got = []

        async def read():
            buffer = bytearray(1)
            for _ in range(10):
                await conn.read_from(buffer)
                got.append(buffer[0])

        with anyio.fail_after(10):
            async with anyio.create_task_group() as group:
                group.start_soon(read)
                group.start_soon(read)
                for i in range(20):
                    await anyio.sleep(0.001)
                    await conn.write_to(bytes([i]), conn.local_addr)
        assert sorted(got) == list(range(20))


@each_loop
@pytest.mark.parity("event loops", "closing while others wait, and numbers used again")
async def test_closing_under_waiting_tasks():
    anyio = pytest.importorskip("anyio")
    with opened() as conn:
        seen = []

        async def read(call):
            with pytest.raises(OSError) as caught:
                await call
            seen.append(caught.value.errno)

        with anyio.fail_after(10):
            async with anyio.create_task_group() as group:
                group.start_soon(read, conn.read_from(bytearray(1)))
                group.start_soon(read, conn.read_batch(MessageBatch(1, 1)))
                group.start_soon(read, anext(conn.batches(MessageBatch(1, 1))))
                await anyio.wait_all_tasks_blocked()
                assert seen == []
                conn.close()
        assert seen == [errno.EBADF] * 3
        for late in (conn.read_from(bytearray(1)), conn.write_to(b"x", ("127.0.0.1", 1))):
            await read(late)
        assert seen == [errno.EBADF] * 5


@each_loop
@pytest.mark.parity("event loops")
async def test_deadlines_are_the_loops_own():
    with opened() as conn:
        start = time.monotonic()
        try:
            asyncio.get_running_loop()
        except RuntimeError:
            import trio

            with trio.move_on_after(0.05) as scope:
                await conn.read_from(bytearray(1))
            assert scope.cancelled_caught
            with pytest.raises(trio.TooSlowError):
                with trio.fail_after(0.05):
                    await conn.read_batch(MessageBatch(1, 1))
        else:
            for call in (conn.read_from(bytearray(1)), conn.read_batch(MessageBatch(1, 1))):
                with pytest.raises(TimeoutError):
                    async with asyncio.timeout(0.05):
                        await call
        assert 0.08 <= time.monotonic() - start < 5  # uvloop counts in whole milliseconds
        await conn.write_to(b"x", conn.local_addr)
        assert (await conn.read_from(bytearray(1)))[0] == 1


@contextlib.contextmanager
def refused():
    """A conn in whose error queue the report of one datagram lies: nobody listens on port 1."""
    with opened() as conn:
        conn.receive_errors = True
        conn.conn.write_to(b"x", ("127.0.0.1", 1))
        yield conn


def no_timers():
    """On asyncio: a wait by time fails, for what is new is told."""
    with contextlib.suppress(RuntimeError, AttributeError):
        asyncio.get_running_loop().call_at = None


@each_loop
@pytest.mark.parity("every origin of the error queue")
async def test_an_unread_error_queue_delays_nothing_and_does_not_spin():
    anyio = pytest.importorskip("anyio")
    with refused() as conn, opened() as peer:
        buffer = bytearray(1)
        spent = time.process_time()
        with anyio.move_on_after(0.5):
            await conn.read_from(buffer)
        assert time.process_time() - spent < 0.3

        async def answer(number):
            await anyio.lowlevel.checkpoint()
            await peer.write_to(bytes([number]), conn.local_addr)

        async with anyio.create_task_group() as group:
            no_timers()
            for number in range(20):
                group.start_soon(answer, number)
                await conn.read_from(buffer)
                assert buffer[0] == number
        assert conn.conn.read_error().errno == errno.ECONNREFUSED


def open_descriptors():
    return len(os.listdir("/proc/self/fd"))


@each_loop
async def test_a_programs_own_reader_of_the_socket():
    try:
        loop = asyncio.get_running_loop()
    except RuntimeError:
        return  # trio has none
    with opened() as conn:
        heard = []
        loop.add_reader(conn.fileno(), heard.append, 1)
        loop.call_soon(conn.conn.write_to, b"x", conn.local_addr)
        await asyncio.wait_for(conn.read_from(bytearray(1)), 10)
        conn.conn.write_to(b"x", conn.local_addr)
        heard.clear()
        while not heard:
            await asyncio.sleep(0)
        await conn.read_from(bytearray(1))
        loop.remove_reader(conn.fileno())


@each_loop
async def test_two_wrappers_and_many_tasks():
    anyio = pytest.importorskip("anyio")
    with opened() as conn:
        got = []

        async def read(aconn):
            no_timers()
            buffer = bytearray(1)
            for _ in range(10):
                await aconn.read_from(buffer)
                got.append(buffer[0])

        async with anyio.create_task_group() as group:
            for _ in range(10):
                group.start_soon(read, AsyncPacketConn(conn.conn))
            for number in range(100):
                await anyio.lowlevel.checkpoint()
                await conn.write_to(bytes([number]), conn.local_addr)
        assert sorted(got) == list(range(100))


VERBS = {
    "read_from": lambda conn: conn.read_from(bytearray(1)),
    "read_batch": lambda conn: conn.read_batch(MessageBatch(1, 1)),
    "batches": lambda conn: anext(conn.batches(MessageBatch(1, 1))),
    "read_error": lambda conn: conn.read_error(),
    "errors": lambda conn: anext(conn.errors()),
}


@each_loop
async def test_deadlines_and_timeouts_end_every_wait():
    anyio = pytest.importorskip("anyio")
    with opened() as conn:
        conn.timeout = 0.01
        with pytest.raises(TimeoutError) as of_thread:
            conn.conn.read_from(bytearray(1))
        conn.timeout = None

        async def ends(verb, text):
            with pytest.raises(TimeoutError) as caught:
                await VERBS[verb](conn)
            assert text in str(caught.value)

        for at_first in ("deadline", "timeout"):
            if at_first == "timeout":
                conn.timeout = 0.02
            else:
                conn.set_read_deadline(time.monotonic() + 0.02)
            with anyio.fail_after(10):
                for verb in VERBS:
                    text = "deadline" if at_first == "deadline" else str(of_thread.value)
                    await ends(verb, text)
            conn.timeout = None
            conn.set_read_deadline(None)
            for by_thread in (False, True):
                with anyio.fail_after(10):
                    async with anyio.create_task_group() as group:
                        for verb in VERBS:
                            group.start_soon(ends, verb, "timed out: the read")
                        await anyio.wait_all_tasks_blocked()
                        if at_first == "timeout":
                            act, moment = PacketConn.timeout.__set__, 0.01
                        else:
                            act, moment = PacketConn.set_deadline, time.monotonic()
                        if by_thread:
                            thread = threading.Thread(target=act, args=(conn.conn, moment))
                            thread.start()
                            thread.join()
                        else:
                            act(conn.conn, moment)
                conn.timeout = None
                conn.set_deadline(None)
        await conn.write_to(b"x", conn.local_addr)
        conn.set_read_deadline(time.monotonic() - 1)
        with pytest.raises(TimeoutError):  # also when data is there
            await conn.read_from(bytearray(1))
        conn.set_read_deadline(time.monotonic() + 60)
        assert (await conn.read_from(bytearray(1)))[0] == 1


@each_loop
async def test_a_socket_that_does_not_block_is_waited_for():
    anyio = pytest.importorskip("anyio")
    with opened() as conn:
        conn.conn.socket.setblocking(False)
        async with anyio.create_task_group() as group:
            group.start_soon(conn.read_from, bytearray(1))
            await anyio.wait_all_tasks_blocked()
            conn.conn.write_to(b"x", conn.local_addr)


@each_loop
async def test_calls_that_never_wait_leave_others_their_turn():
    anyio = pytest.importorskip("anyio")
    with opened() as conn:
        with pytest.raises(TimeoutError):
            with anyio.fail_after(0.1):
                for _ in range(100_000):
                    await conn.write_to(b"x", conn.local_addr)
                    await conn.read_from(bytearray(1))
        with pytest.raises(TimeoutError):
            with anyio.fail_after(0.1):
                for _ in range(1_000_000):
                    with contextlib.suppress(BlockingIOError):
                        await conn.read_from(bytearray(1), socket.MSG_DONTWAIT)


# Calls that never wait: each raises or returns at once.
BUSY = {
    "read_from": lambda conn: conn.read_from(bytearray(1)),
    "receive": lambda conn: conn.receive(),
    "read_batch": lambda conn: conn.read_batch([Message(bytearray(1))]),
    "batches": lambda conn: anext(conn.batches([Message(bytearray(1))])),
    "async for": lambda conn: anext(aiter(conn)),
    "read_error": lambda conn: conn.read_error(),
    "read_error, now": lambda conn: conn.read_error(wait=False),
    "errors": lambda conn: anext(conn.errors()),
    "write_to": lambda conn: conn.write_to(b"x", ("127.0.0.1", 9)),
    "write_batch": lambda conn: conn.write_batch([Message(b"x", addr=("127.0.0.1", 9))]),
    "write_batch, now": lambda conn: conn.write_batch([], socket.MSG_DONTWAIT),
    "write_batch, empty": lambda conn: conn.write_batch([]),
    "write_all": lambda conn: conn.write_all([Message(b"x", addr=("127.0.0.1", 9))]),
    "aclose": lambda conn: conn.aclose(),
}


@each_loop
async def test_calls_that_fail_at_once_leave_others_their_turn():
    anyio = pytest.importorskip("anyio")
    for state in ("deadline", "timeout", "closed"):
        with opened() as conn:
            if state == "deadline":
                conn.set_deadline(0)
            elif state == "timeout":
                conn.timeout = 1e-9
            else:
                conn.close()
            for verb, call in BUSY.items():
                if verb == "aclose" and state != "closed":
                    continue
                with anyio.move_on_after(0.005) as scope:
                    for _ in range(100_000):
                        with contextlib.suppress(OSError, StopAsyncIteration):
                            await call(conn)
                assert scope.cancelled_caught, (state, verb)


@each_loop
async def test_empty_batches_are_refused():
    with opened() as conn:
        for empty in ([], MessageBatch(4, 1)[:0]):
            with pytest.raises(ValueError, match="at least one"):
                conn.batches(empty)
        batch = [Message(bytearray(1))]
        steps = conn.batches(batch)
        batch.clear()
        with pytest.raises(ValueError, match="no message"):
            await anext(steps)


@each_loop
async def test_write_all_sends_the_list_as_it_was():
    class Full(PacketConn):
        """Its send queue takes two messages at a time."""

        turn = 0

        def write_batch(self, ms, flags=0):
            self.turn += 1
            if self.turn % 2 == 0:
                raise BlockingIOError(errno.EAGAIN, "full")
            return super().write_batch(ms[:2], flags)

    anyio = pytest.importorskip("anyio")
    with opened() as conn, AsyncPacketConn(Full.udp(("127.0.0.1", 0))).conn as sender:
        messages = [Message(b"%d" % i, addr=conn.local_addr) for i in range(6)]
        async with anyio.create_task_group() as group:
            group.start_soon(AsyncPacketConn(sender).write_all, messages)
            await anyio.wait_all_tasks_blocked()
            messages.insert(0, Message(b"new", addr=conn.local_addr))
        batch = MessageBatch(9, 3)
        n = 0
        while n < 6:  # a batch moves one message where there is no recvmmsg
            n += await conn.read_batch(batch[n:])
        assert [bytes(batch[i].buffers[0][:1]) for i in range(6)] == [b"%d" % i for i in range(6)]


@each_loop
async def test_the_error_queue_is_awaited():
    anyio = pytest.importorskip("anyio")
    with opened() as conn, opened() as peer:
        conn.receive_errors = True
        reports, data = [], []

        async def read():
            buffer = bytearray(1)
            while True:
                await conn.read_from(buffer)
                data.append(buffer[0])

        async def report():
            async for each in conn.errors():
                reports.append(each.addr[1])

        with anyio.fail_after(10):
            async with anyio.create_task_group() as group:
                group.start_soon(read)
                group.start_soon(report)
                for port in range(1, 6):
                    await anyio.wait_all_tasks_blocked()
                    await conn.write_to(b"x", ("127.0.0.1", port))
                    await peer.write_to(bytes([port]), conn.local_addr)
                while len(reports) < 5 or len(data) < 5:
                    await anyio.lowlevel.checkpoint()
                group.cancel_scope.cancel()
            assert reports == data == [1, 2, 3, 4, 5]
            assert await conn.read_error(wait=False) is None
            async with anyio.create_task_group() as group:
                group.start_soon(report)  # ends by itself
                await anyio.wait_all_tasks_blocked()
                conn.close()


@each_loop
async def test_data_that_nobody_reads_does_not_wake_the_loop_for_ever():
    with opened() as conn:
        with contextlib.suppress(RuntimeError):
            loop = asyncio.get_running_loop()
            loop.call_soon(conn.conn.write_to, b"x", conn.local_addr)
            await conn.read_from(bytearray(1))
            watch = conn.conn._watch(*watch_of(conn))
            for _ in range(50):
                await conn.write_to(b"x", conn.local_addr)
                await asyncio.sleep(0)
            assert watch.edges < 20
            for _ in range(50):
                await conn.read_from(bytearray(1))
            loop.call_soon(conn.conn.write_to, b"x", conn.local_addr)
            await asyncio.wait_for(conn.read_from(bytearray(1)), 10)


def watch_of(conn):
    from ipv4.loops import READ, current_gate

    kind = current_gate()
    return kind, kind.here(), READ


@each_loop
async def test_what_is_sent_as_segments_goes_on_when_there_is_room():
    anyio = pytest.importorskip("anyio")
    with opened() as conn:
        got = bytearray()

        async def read():
            async for n in conn.batches(batch):
                for i in range(n):
                    got.extend(batch[i].buffers[0][: batch.lengths[i]])

        batch = MessageBatch(64, 1000)
        with AsyncPacketConn.udp(("127.0.0.1", 0), send_buffer=4096).conn as sender:
            sender.segmentation = False
            payload = random.Random(1).randbytes(200_000)
            async with anyio.create_task_group() as group:
                group.start_soon(read)
                cm = ControlMessage(segment_size=1000)
                n = await AsyncPacketConn(sender).write_to(payload, conn.local_addr, cm)
                assert n == len(payload)
                with anyio.fail_after(10):
                    while len(got) < len(payload):
                        await anyio.lowlevel.checkpoint()
                group.cancel_scope.cancel()
        assert got == payload


@each_loop
async def test_datagrams_one_by_one_until_the_conn_is_closed():
    anyio = pytest.importorskip("anyio")
    with opened() as conn:
        got = []

        async def read():
            async for data, cm, src in conn:
                got.append((data, cm, src))

        with anyio.fail_after(10):
            async with anyio.create_task_group() as group:
                group.start_soon(read)
                for data in (b"one", b"", b"x" * 60000):
                    await conn.write_to(data, conn.local_addr)
                while len(got) < 3:
                    await anyio.lowlevel.checkpoint()
                here = conn.local_addr
                conn.close()
        assert got == [(data, None, here) for data in (b"one", b"", b"x" * 60000)]
        with pytest.raises(OSError):
            await conn.receive()


def test_a_write_now_or_not_at_all():
    with opened() as conn:
        assert conn.try_write_to(b"x", conn.local_addr) is True
        assert conn.conn.read_from(bytearray(1))[0] == 1
        with pytest.raises(ValueError):
            conn.try_write_to(b"x", "nobody")


def test_copies_are_refused_and_subclasses_have_attributes():
    class Named(AsyncPacketConn):
        def __init__(self, conn, name):
            super().__init__(conn)
            self.name = name

    class Coloured(PacketConn):
        colour = None

    class Mute(AsyncPacketConn):
        def __init__(self):
            pass

    with Coloured.udp(("127.0.0.1", 0)) as conn:
        named = Named(conn, "n")
        for copier in (copy.copy, copy.deepcopy, pickle.dumps):
            with pytest.raises(TypeError, match="Named: it stands for an open socket"):
                copier(named)
        named.colour = "red"
        named.ttl = 9
        assert (named.name, conn.colour, conn.ttl) == ("n", "red", 9)
        assert {"name", "colour", "ttl", "join_group", "batches"} <= set(dir(named))
        plain = AsyncPacketConn(conn)
        with pytest.raises(AttributeError, match="tll"):
            plain.tll = 9
        with pytest.raises(AttributeError, match="tll"):
            plain.tll  # noqa: B018
    with pytest.raises(AttributeError, match="super"):
        Mute().ttl  # noqa: B018
    with AsyncPacketConn.udp(("127.0.0.1", 0), ttl=3).conn as conn:
        assert conn.ttl == 3


def test_refuses_other_conns():
    with PacketConn.udp() as conn:
        with pytest.raises(TypeError, match="RawConn"):
            AsyncRawConn(conn)
        with pytest.raises(TypeError, match="PacketConn"):
            AsyncPacketConn(5)


@privileged
def test_raw():
    async def body():
        with RawConn.ip(253, "127.0.0.1") as raw:
            conn = AsyncRawConn(raw)
            await conn.write_to(Header(protocol=253, ttl=1, dst="127.0.0.1"), b"raw")
            header, payload, _ = await conn.read_from(bytearray(64))
            assert (header.dst, bytes(payload)) == (IPv4Address("127.0.0.1"), b"raw")
            conn.close()

    asyncio.run(body())
