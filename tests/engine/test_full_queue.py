"""An interface that sends slower than the program writes: who waits, how long, and what comes."""

import asyncio
import errno
import socket
import time
from contextlib import suppress

import pytest
from support import eventually, when_it_waits

from ipv4 import Message, PacketConn
from ipv4.aio import AsyncPacketConn

PACKET = bytes(1000)
pytestmark = pytest.mark.privileged


@pytest.fixture
def slow(pair):
    """A conn whose interface lets 64 kbit a second through, and which may have few under way."""
    pair.a.slow_down("eth0", limit=1 << 20)
    with pair.a.call(socket.socket, socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1)
        with PacketConn(sock) as conn:
            yield conn, ("10.1.0.2", 9), sock


def fill(conn, to):
    """Write until the queue is full; how many packets that took."""
    for count in range(1000):
        try:
            conn.write_to(PACKET, to, None, socket.MSG_DONTWAIT)
        except BlockingIOError:
            return count
    raise AssertionError("the queue never fills")


@pytest.mark.parity("a full send queue")
def test_a_write_waits_within_its_deadline(slow):
    conn, to, _ = slow
    assert fill(conn, to) > 0
    for write in (
        lambda: conn.write_to(PACKET, to),
        lambda: conn.write_batch([Message(PACKET, addr=to)]),
    ):
        while fill(conn, to):
            pass
        start = time.monotonic()
        conn.set_write_deadline(start + 0.02)
        with pytest.raises(TimeoutError):
            write()
        assert 0.02 <= time.monotonic() - start < 1
        conn.set_write_deadline(None)
        assert write()  # there is room within a second at this rate


@pytest.mark.parity("a full send queue")
def test_nothing_written_is_lost_and_nothing_refused_is_sent(pair, slow):
    conn, _, _ = slow
    with pair.b.call(PacketConn.udp, ("10.1.0.2", 0)) as there:
        there.set_read_deadline(time.monotonic() + 20)
        sent = refused = 0
        while not refused or sent < 20:
            try:
                conn.write_to(sent.to_bytes(2, "big"), there.local_addr, None, socket.MSG_DONTWAIT)
                sent += 1
            except BlockingIOError:
                refused += 1
                time.sleep(0.01)
        buffer = bytearray(2)
        for number in range(sent):
            assert there.read_from(buffer)[0] == 2
            assert int.from_bytes(buffer, "big") == number
        with pytest.raises(BlockingIOError):
            there.read_from(buffer, socket.MSG_DONTWAIT)


@pytest.mark.parity("a full send queue")
def test_a_batch_stops_where_the_queue_is_full(slow):
    conn, to, _ = slow
    messages = [Message(PACKET, addr=to) for _ in range(100)]
    count = conn.write_batch(messages, socket.MSG_DONTWAIT)
    assert 0 < count < 100
    assert [message.n for message in messages[:count]] == [1000] * count
    assert [message.n for message in messages[count:]] == [0] * (100 - count)
    with pytest.raises(BlockingIOError):
        while True:
            conn.write_batch(messages[count:], socket.MSG_DONTWAIT)


def test_a_conn_that_does_not_wait_says_so(slow):
    conn, to, sock = slow
    sock.setblocking(False)
    with pytest.raises(BlockingIOError):
        for _ in range(1000):
            conn.write_to(PACKET, to)


@pytest.mark.parity("closing while others wait, and numbers used again")
def test_closing_ends_a_write_that_waits(slow):
    conn, to, _ = slow
    while fill(conn, to):
        pass
    other = when_it_waits(conn.close)
    with pytest.raises(OSError, match="closed"):
        for _ in range(1000):
            conn.write_to(PACKET, to)
    other.join()


@pytest.mark.parity("a full send queue")
def test_a_task_awaits_its_turn(slow):
    conn, to, _ = slow

    async def main():
        other = AsyncPacketConn(conn)
        turns = 0

        async def count_turns():
            nonlocal turns
            while True:
                turns += 1
                await asyncio.sleep(0.01)

        counting = asyncio.create_task(count_turns())
        while fill(conn, to):
            pass
        start = time.monotonic()
        assert await other.write_to(PACKET, to) == 1000
        waited = time.monotonic() - start
        counting.cancel()
        return waited, turns

    waited, turns = asyncio.run(main())
    assert turns > 1, waited


@pytest.fixture
def narrow(pair):
    """A conn that is told when its interface's short queue is full, and the one it sends to."""
    # Else the first datagrams wait, and are dropped without a word, while ARP asks.
    pair.a.add_neighbour("10.1.0.2", pair.b.lladdr("eth0"), "eth0")
    pair.a.slow_down("eth0", limit=3 << 10)
    with (
        pair.a.call(PacketConn.udp, ("10.1.0.1", 0), receive_errors=True) as conn,
        pair.b.call(PacketConn.udp, ("10.1.0.2", 0)) as there,
    ):
        there.set_read_deadline(time.monotonic() + 30)
        yield conn, there


@pytest.mark.parametrize("verb", ["write_to", "write_batch", "write_all"])
def test_what_a_full_interface_drops_is_told(narrow, verb):
    """ENOBUFS for each datagram that was dropped, and for no other: sent = arrived."""
    conn, there = narrow
    payloads = [number.to_bytes(2, "big") * 150 for number in range(40)]
    messages = [Message(payload, addr=there.local_addr) for payload in payloads]
    dropped = {}
    if verb == "write_all":
        dropped = dict(conn.write_all(messages))
    at = 0
    while verb != "write_all" and at < len(messages):
        try:
            if verb == "write_to":
                conn.write_to(payloads[at], there.local_addr)
                at += 1
            else:
                at += conn.write_batch(messages[at : at + 8])
        except OSError as error:
            dropped[at] = error
            at += 1
    assert {error.errno for error in dropped.values()} == {errno.ENOBUFS}

    def last():
        with suppress(OSError):
            return conn.write_to(b"last", there.local_addr)

    eventually(last, what="room in the queue again")
    arrived = []
    buffer = bytearray(300)
    while (n := there.read_from(buffer)[0]) != 4:
        arrived.append(bytes(buffer[:n]))
    assert arrived == [payloads[number] for number in range(40) if number not in dropped]
