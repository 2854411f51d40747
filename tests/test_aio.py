"""The verbs awaited, on asyncio, uvloop and trio."""

import asyncio
import contextlib
import errno
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
async def test_aio_verbs():
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


@each_loop
async def test_aio_cancelling_loses_nothing():
    anyio = pytest.importorskip("anyio")
    total = 100_000
    with opened() as conn:
        got = []
        here = conn.local_addr

        async def write():
            for start in range(0, total, 100):
                for i in range(start, start + 100):
                    await conn.write_to(i.to_bytes(4, "big"), here)
                while len(got) < start:  # the queue of the receiver is bounded
                    await anyio.sleep(0)
                await anyio.sleep(0)

        async with anyio.create_task_group() as group:
            group.start_soon(write)
            buffer = bytearray(4)
            reads = 0
            while len(got) < total:
                with anyio.move_on_after(0 if reads % 7 == 0 else 5):
                    await conn.read_from(buffer)
                    got.append(int.from_bytes(buffer, "big"))
                reads += 1
        assert got == list(range(total))


@each_loop
async def test_aio_two_tasks_read_one_conn():
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
async def test_aio_closing_under_waiting_tasks():
    anyio = pytest.importorskip("anyio")
    with opened() as conn:
        seen = []

        async def read():
            try:
                await conn.read_from(bytearray(1))
            except OSError as error:
                seen.append(error.errno)

        with anyio.fail_after(10):
            async with anyio.create_task_group() as group:
                group.start_soon(read)
                group.start_soon(read)
                await anyio.sleep(0.1)
                conn.close()
        assert seen == [errno.EBADF] * 2


@each_loop
async def test_aio_timeouts_are_the_loops_own():
    anyio = pytest.importorskip("anyio")
    with opened() as conn:
        with anyio.move_on_after(0.05) as scope:
            await conn.read_from(bytearray(1))
        assert scope.cancelled_caught
        await conn.write_to(b"x", conn.local_addr)
        assert (await conn.read_from(bytearray(1)))[0] == 1


def test_asyncio_timeout():
    async def body():
        with opened() as conn:
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(0.05):
                    await conn.read_from(bytearray(1))

    asyncio.run(body())


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


def test_aio_refuses_other_conns():
    with PacketConn.udp() as conn:
        with pytest.raises(TypeError, match="RawConn"):
            AsyncRawConn(conn)
        with pytest.raises(TypeError, match="PacketConn"):
            AsyncPacketConn(5)


@privileged
def test_aio_raw():
    async def body():
        with RawConn.ip(253, "127.0.0.1") as raw:
            conn = AsyncRawConn(raw)
            await conn.write_to(Header(protocol=253, ttl=1, dst="127.0.0.1"), b"raw")
            header, payload, _ = await conn.read_from(bytearray(64))
            assert (header.dst, bytes(payload)) == (IPv4Address("127.0.0.1"), b"raw")
            conn.close()

    asyncio.run(body())
