"""Awaited writes to an interface that sends slower than the program writes."""

import errno
import socket
import threading
import time

import pytest
from support.loops import LOOPS, run_on, warm_uvloop

from ipv4 import ControlMessage, Header, Message, MessageBatch, PacketConn, RawConn
from ipv4.aio import AsyncPacketConn, AsyncRawConn

__all__ = ["warm_uvloop"]  # a fixture

PACKET = bytes(1000)
pytestmark = pytest.mark.privileged


@pytest.fixture
def slow(pair):
    """A conn whose interface lets 64 kbit a second through, and which may have few under way."""
    pair.a.slow_down("eth0", limit=1 << 20)
    with pair.a.call(PacketConn.udp, send_buffer=1) as conn:
        yield conn, ("10.1.0.2", 9)


def each_loop(test):
    """Run an async test, of the slow conn and where it sends to, on each loop."""

    @pytest.mark.parametrize("loop", LOOPS)
    def run(loop, slow):
        conn, to = slow
        run_on(loop, test, AsyncPacketConn(conn), to)

    run.__name__ = test.__name__
    run.__doc__ = test.__doc__
    return run


SEGMENTS = ControlMessage(segment_size=500)


def batch_of(count, to, cm=None):
    batch = MessageBatch(count, len(PACKET))
    for message in batch:
        message.n, message.addr, message.oob = len(PACKET), to, cm and cm.marshal()
    return batch


# What waits for room, and what each gives back of a conn that has none until its end.
WRITES = {
    "write_to": (lambda conn, to: conn.write_to(PACKET, to), None),
    "write_to, segments": (lambda conn, to: conn.write_to(PACKET, to, SEGMENTS), None),
    "write_batch": (lambda conn, to: conn.write_batch([Message(PACKET, addr=to)] * 2), None),
    "write_batch, MessageBatch": (lambda conn, to: conn.write_batch(batch_of(2, to)), None),
    "write_batch, segments": (
        lambda conn, to: conn.write_batch([Message(PACKET, SEGMENTS.marshal(), to)]),
        None,
    ),
    "write_all": (lambda conn, to: conn.write_all([Message(PACKET, addr=to)] * 2), [0, 1]),
    "write_all, segments": (
        lambda conn, to: conn.write_all([Message(PACKET, SEGMENTS.marshal(), to)]),
        [0],
    ),
}
FOR_EVER = 100  # packets of 1 kB at 64 kbit/s: twelve seconds


def fill_up(conn, to, size=10_000):
    """Write what takes a second or more to leave, as one datagram: nothing has room meanwhile."""
    conn.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1 << 17)
    conn.write_to(bytes(size), to)
    conn.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1)


async def ends(write, conn, to, kind, text):
    """The write raises this, or lists each of its messages with it."""
    call, listed = WRITES[write]
    if listed is None:
        with pytest.raises(kind, match=text):
            await call(conn, to)
        return
    failed = await call(conn, to)
    assert [i for i, _ in failed] == listed
    for _, error in failed:
        assert isinstance(error, kind)
        assert text in str(error)


@each_loop
async def test_deadlines_and_timeouts_end_awaited_writes(conn, to):
    anyio = pytest.importorskip("anyio")
    conn.segmentation = False
    fill_up(conn.conn, to, 60_000)
    with anyio.fail_after(8):
        for write in WRITES:
            conn.set_write_deadline(time.monotonic() + 0.02)
            await ends(write, conn, to, TimeoutError, "write deadline")
            conn.set_write_deadline(None)
            conn.timeout = 0.02
            await ends(write, conn, to, TimeoutError, "as the timeout says")
            conn.timeout = None
        for act in (
            lambda: conn.set_write_deadline(time.monotonic()),
            lambda: conn.set_deadline(0),
            lambda: AsyncPacketConn(conn.conn).set_write_deadline(time.monotonic() + 0.02),
            lambda: PacketConn.timeout.__set__(conn.conn, 0.01),
        ):
            for by_thread in (False, True):
                async with anyio.create_task_group() as group:
                    for write in WRITES:
                        group.start_soon(
                            ends, write, conn, to, TimeoutError, "timed out: the write"
                        )
                    await anyio.wait_all_tasks_blocked()
                    conn.set_read_deadline(0)  # is none of theirs
                    await anyio.wait_all_tasks_blocked()
                    if by_thread:
                        thread = threading.Thread(target=act)
                        thread.start()
                        thread.join()
                    else:
                        act()
                conn.timeout = None
                conn.set_deadline(None)
        async with anyio.create_task_group() as group:
            for write in WRITES:
                group.start_soon(ends, write, conn, to, OSError, "closed")
            await anyio.wait_all_tasks_blocked()
            conn.close()


@each_loop
async def test_awaited_writes_go_on_with_the_rest(conn, to):
    anyio = pytest.importorskip("anyio")
    conn.segmentation = False
    told = SEGMENTS.marshal()
    with anyio.fail_after(20):
        assert await conn.write_batch([Message(bytes(100), addr=to) for _ in range(20)]) == 20
        assert await conn.write_batch(batch_of(4, to)) == 4
        message = Message(bytes(4000), told, to)
        assert (await conn.write_batch([message]), message.n) == (1, 4000)
        assert await conn.write_to(bytes(4000), to, SEGMENTS) == 4000
        messages = [Message(bytes(2000), told, to), Message(b"", told, to), Message(b"x", addr=to)]
        assert await conn.write_all(messages) == []
        assert [message.n for message in messages] == [2000, 0, 1]
        # What the deadline leaves: how far it came, and with write_all which did not go whole.
        conn.set_write_deadline(time.monotonic() + 0.3)
        sent = await conn.write_batch([Message(PACKET, addr=to) for _ in range(FOR_EVER)])
        assert 0 < sent < FOR_EVER
        conn.set_write_deadline(time.monotonic() + 0.3)
        assert 0 < await conn.write_to(bytes(40_000), to, SEGMENTS) < 40_000
        conn.set_write_deadline(time.monotonic() + 0.3)
        message = Message(bytes(40_000), told, to)
        assert await conn.write_batch([message]) == 1
        assert 0 < message.n < 40_000
        conn.set_write_deadline(time.monotonic() + 0.3)
        messages = [Message(bytes(1000), told, to) for _ in range(FOR_EVER)]
        failed = await conn.write_all(messages)
        assert {i for i, _ in failed} == {i for i, m in enumerate(messages) if m.n < 1000}
        assert 0 < len(failed) < FOR_EVER
        assert {type(error) for _, error in failed} == {TimeoutError}


@each_loop
async def test_what_was_given_is_sent_as_it_was(conn, to):
    """Lists, control messages and headers that change while a call waits."""
    anyio = pytest.importorskip("anyio")
    conn.segmentation = False
    fill_up(conn.conn, to)
    messages = [Message(b"%d" % i, addr=to) for i in range(3)]
    cm, results = ControlMessage(segment_size=500), []

    async def write(call):
        results.append(await call)

    with anyio.fail_after(20):
        async with anyio.create_task_group() as group:
            group.start_soon(write, conn.write_batch(messages))
            group.start_soon(write, conn.write_all(messages))
            group.start_soon(write, conn.write_to(PACKET, to, cm))
            await anyio.wait_all_tasks_blocked()
            messages.clear()
            cm.segment_size = 1
            cm.ifindex = 99999
    assert sorted(map(str, results)) == ["1000", "3", "[]"]


@each_loop
async def test_a_cancelled_write_leaves_the_conn_usable(conn, to):
    anyio = pytest.importorskip("anyio")
    conn.segmentation = False
    fill_up(conn.conn, to)
    for call, _ in WRITES.values():
        with anyio.move_on_after(0.01) as scope:
            await call(conn, to)
        assert scope.cancelled_caught
    async with anyio.create_task_group() as group:
        for call, _ in WRITES.values():
            group.start_soon(call, conn, to)
        await anyio.wait_all_tasks_blocked()
        group.cancel_scope.cancel()
    with anyio.fail_after(20):
        assert await conn.write_to(b"x", to) == 1


@pytest.mark.parametrize("loop", LOOPS)
def test_awaited_writes_of_a_raw_conn(loop, pair):
    anyio = pytest.importorskip("anyio")
    pair.a.slow_down("eth0", limit=1 << 20)
    with pair.a.call(RawConn.ip, 253, send_buffer=1) as raw:
        header = Header(dst="10.1.0.2")

        async def write(conn):
            assert await conn.write_to(header, PACKET) == 1020

        async def main():
            conn = AsyncRawConn(raw)
            while conn.try_write_to(header, PACKET):
                pass
            conn.set_write_deadline(time.monotonic() + 0.02)
            with pytest.raises(TimeoutError, match="write deadline"):
                await conn.write_to(header, PACKET)
            conn.set_write_deadline(None)
            async with anyio.create_task_group() as group:
                group.start_soon(write, conn)
                await anyio.wait_all_tasks_blocked()
                group.cancel_scope.cancel()
            with anyio.fail_after(20):
                async with anyio.create_task_group() as group:
                    for _ in range(2):
                        group.start_soon(write, conn)
                    await anyio.wait_all_tasks_blocked()
                    header.dst = "127.0.0.1"
            while conn.try_write_to(Header(dst="10.1.0.2"), PACKET):
                pass
            async with anyio.create_task_group() as group:
                group.start_soon(ended, conn)
                await anyio.wait_all_tasks_blocked()
                conn.close()

        async def ended(conn):
            with pytest.raises(OSError, match="closed") as caught:
                await conn.write_to(Header(dst="10.1.0.2"), PACKET)
            assert caught.value.errno == errno.EBADF

        run_on(loop, main)
