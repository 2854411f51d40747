"""The verbs awaited, on asyncio, uvloop and trio."""

import asyncio
import contextlib
import errno
import random
import socket
import time
from ipaddress import IPv4Address

import pytest

from ipv4 import Header, Message, MessageBatch, PacketConn, RawConn
from ipv4.aio import AsyncPacketConn, AsyncRawConn

privileged = pytest.mark.privileged


@pytest.fixture(scope="module", autouse=True)
def warm_uvloop():
    """uvloop opens a pipe once for the whole process: before anybody counts descriptors."""
    with contextlib.suppress(ImportError):
        import uvloop

        uvloop.run(asyncio.sleep(0))


def each_loop(test):
    """Run an async test on asyncio, uvloop and trio."""

    @pytest.mark.parametrize("loop", ["asyncio", "uvloop", "trio"])
    def run(loop):
        if loop == "trio":
            pytest.importorskip("trio").run(test)
        elif loop == "uvloop":
            pytest.importorskip("uvloop").run(test())
        else:
            asyncio.run(test())

    run.__name__ = test.__name__
    run.__doc__ = test.__doc__
    return run


@contextlib.contextmanager
def opened():
    conn = AsyncPacketConn(PacketConn.udp(("127.0.0.1", 0), receive_buffer=1 << 22))
    try:
        yield conn
    finally:
        conn.close()


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


def test_an_unread_error_queue_does_not_spin_the_loop():
    async def body():
        with opened() as conn:
            conn.receive_errors = True
            await conn.write_to(b"x", ("127.0.0.1", 1))
            await asyncio.sleep(0.05)
            start = time.process_time()
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(0.5):
                    await conn.read_from(bytearray(1))
            return time.process_time() - start

    assert asyncio.run(body()) < 0.3


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
