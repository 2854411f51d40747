"""Payloads with a segment size: what the kernel does not cut is cut here, nothing is lost."""

import errno
import signal
import socket
import struct
import threading
import time

import pytest
from support.faults import ALONE, straced, under_strace
from support.packets import drained, udp

from ipv4 import ControlFlags, ControlMessage, Message, MessageBatch, PacketConn

SEGMENT = 100
TOLD = ControlMessage(segment_size=SEGMENT)
OOB = TOLD.marshal()


@pytest.fixture
def conn():
    with PacketConn.udp(("127.0.0.1", 0)) as conn:
        conn.set_deadline(time.monotonic() + 60)
        conn.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4 << 20)
        yield conn


@pytest.fixture
def refusing():
    """Connected to a port that is closed: every second datagram is told ECONNREFUSED."""
    with PacketConn.udp(("127.0.0.1", 0)) as other:
        closed = other.local_addr
    sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    sock.connect(closed)
    with PacketConn(sock) as conn:
        conn.segmentation = False
        yield conn


def drain(conn):
    """Payloads that are there."""
    got = []
    while True:
        try:
            got.append(conn.receive(flags=socket.MSG_DONTWAIT)[0])
        except BlockingIOError:
            return got


def pieces(data, size=SEGMENT):
    return [data[at : at + size] for at in range(0, len(data), size)]


@pytest.mark.parametrize("by_kernel", [True, False])
@pytest.mark.parametrize("verb", ["write_to", "write_batch", "write_all"])
@pytest.mark.parametrize("size", [64 * SEGMENT, 65507, 65600, 130_001])
def test_more_than_the_kernel_cuts_in_one_call(conn, by_kernel, verb, size):
    conn.segmentation = by_kernel
    data = bytes(i % 251 for i in range(size))
    parts = [data[:30], b"", data[30:1000], data[1000:]]
    if verb == "write_to":
        assert conn.write_to(data, conn.local_addr, TOLD) == size
    else:
        message = Message(parts, OOB, conn.local_addr)
        sent = getattr(conn, verb)([message])
        assert (sent, message.n) == ([] if verb == "write_all" else 1, size)
    assert drain(conn) == pieces(data)
    assert conn.segmentation is by_kernel


@pytest.mark.parametrize("by_kernel", [True, False])
@pytest.mark.parametrize("verb", ["write_batch", "write_all", "MessageBatch"])
def test_an_empty_payload_is_one_empty_datagram(conn, by_kernel, verb):
    conn.segmentation = by_kernel
    if verb == "MessageBatch":
        batch = MessageBatch(2, 10)
        for i in range(2):
            batch[i].addr, batch[i].oob, batch[i].n = conn.local_addr, OOB, 0
        assert conn.write_batch(batch) >= 1
        assert set(drain(conn)) == {b""}
        return
    getattr(conn, verb)([Message(b"", OOB, conn.local_addr)])
    assert drain(conn) == [b""]


@pytest.mark.parametrize("verb", ["write_to", "write_batch", "write_all"])
@pytest.mark.parametrize("receive_errors", [False, True])
def test_a_path_whose_mtu_was_learned_smaller(chain, verb, receive_errors):
    """What is above it goes as single datagrams do, which are fragmented; the next by segments."""
    router, server = chain.routers[1], chain.server
    with (
        server.call(PacketConn.udp, (server.address, 7000)) as hearer,
        chain.client.call(PacketConn.udp, receive_errors=receive_errors) as conn,
    ):
        hearer.set_read_deadline(time.monotonic() + 20)
        router.set_link("eth1", mtu=1300)
        to, told = hearer.local_addr, ControlMessage(segment_size=1400)
        conn.write_to(bytes(1400), to)  # lost on the way, which teaches the path's MTU
        conn.write_to(b"known", to)
        while hearer.receive()[0] != b"known":
            pass
        data = bytes(i % 251 for i in range(14_000))
        for _ in range(2):
            if verb == "write_to":
                assert conn.write_to(data, to, told) == len(data)
            else:
                message = Message(data, told.marshal(), to)
                assert getattr(conn, verb)([message]) == ([] if verb == "write_all" else 1)
            assert [hearer.receive()[0] for _ in range(10)] == pieces(data, 1400)
            assert conn.segmentation is True
        small = ControlMessage(segment_size=1000)
        assert conn.write_to(data, to, small) == len(data)
        assert [hearer.receive()[0] for _ in range(14)] == pieces(data, 1000)


def test_write_all_lists_what_did_not_go_whole(refusing):
    messages = [Message(bytes(1000), OOB) for _ in range(3)]
    failed = refusing.write_all(messages)
    whole = {i for i, m in enumerate(messages) if m.n == 1000}
    assert failed
    assert {i for i, _ in failed} == {0, 1, 2} - whole
    assert {e.errno for _, e in failed} == {errno.ECONNREFUSED}


@pytest.mark.parametrize("by_kernel", [True, False])
def test_large_jobs_give_signals_and_threads_their_turn(conn, by_kernel):
    conn.segmentation = by_kernel
    turns, done, heard = [], threading.Event(), []

    def beat():
        while not done.wait(0.001):
            turns.append(time.monotonic())

    previous = signal.signal(signal.SIGALRM, lambda *_: heard.append(time.monotonic()))
    thread = threading.Thread(target=beat)
    thread.start()
    try:
        start = time.monotonic()
        signal.setitimer(signal.ITIMER_REAL, 0.01)
        conn.write_to(bytes(2_000_000), conn.local_addr, ControlMessage(segment_size=10))
        end = time.monotonic()
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, previous)
        done.set()
        thread.join()
    assert heard, "the signal's handler ran only after the call"
    assert heard[0] - start < (end - start) / 2 + 0.05
    assert sum(start < turn < end for turn in turns) >= 3


def test_a_slot_of_a_batch_can_be_in_a_call_once(conn):
    batch = MessageBatch(2, 10)
    with pytest.raises(BufferError, match=r"ms\[1\] is the same slot .* as ms\[0\]"):
        conn.write_batch([batch[0], batch[0]])


@pytest.mark.parametrize("size", [1, 100, 1000, 1400, 5000])
@pytest.mark.parity("segmentation refused, segments merged")
def test_segments_both_ways(conn, size):
    payload = bytes(i % 251 for i in range(100 if size == 1 else 30_000))
    told = ControlMessage(segment_size=size)
    assert conn.write_to(payload, conn.local_addr, told) == len(payload)
    got = b""
    while len(got) < len(payload):
        data, _, _ = conn.receive()
        assert len(data) == min(size, len(payload) - len(got))
        got += data
    assert got == payload
    conn.set_control_message(ControlFlags.SEGMENT_SIZE, True)
    if size in (1000, 1400):  # so few that one buffer holds them all
        conn.write_to(payload, conn.local_addr, told)
        data, cm, _ = conn.receive()
        assert (data, cm.segment_size) == (payload, size)
    # One that is shorter than a segment is a plain datagram.
    conn.write_to(b"one", conn.local_addr, ControlMessage(segment_size=size + 3))
    data, cm, _ = conn.receive()
    assert (data, cm) == (b"one", None)


UDP_SEGMENT, SOL_UDP = 103, 17


def send_segments(size, total, position):
    """Payloads cut into segments, one by write_to or two in a batch; the switch afterwards."""
    payload = bytes(number % 251 for number in range(total))
    with udp(receive_buffer=1 << 22) as conn:
        if position is None:
            cm = ControlMessage(segment_size=size)
            assert conn.write_to(payload, conn.local_addr, cm) == total
            wanted = [payload]
        else:
            cm = ControlMessage(extra=[(SOL_UDP, UDP_SEGMENT, struct.pack("H", size))])
            wanted = [b"plain", b"whole"]
            wanted[position:position] = [payload, payload]
            out = [
                Message(data, cm.marshal() if data is payload else None, conn.local_addr)
                for data in wanted
            ]
            assert conn.write_all(out) == []
            assert [message.n for message in out] == [len(data) for data in wanted]
        pieces = [data[at : at + size] for data in wanted for at in range(0, len(data), size)]
        assert drained(conn, total) == pieces
        return conn.segmentation


@straced
@pytest.mark.parametrize(
    ("rules", "size", "total", "position", "kept"),
    [
        # A kernel whose limit is 64: it refuses what is cut into more.
        (["inject=sendmsg:error=EINVAL:when=1..2"], 10, 1900, None, True),
        (["inject=sendmsg:error=EINVAL:when=1"], 10, 1000, None, True),
        (["inject=sendmsg:error=EIO:when=1"], 300, 2000, None, False),
        (["inject=sendmsg:error=EIO:when=2"], 10, 1900, None, False),
        (["inject=sendmmsg:error=EIO:when=1"], 300, 2000, 0, False),
        ([ALONE, "inject=sendmsg:error=EIO:when=2..3"], 300, 2000, 1, False),
        ([ALONE, "inject=sendmsg:error=EIO:when=3..4"], 300, 2000, 2, False),
        ([ALONE, "inject=sendmsg:error=EINTR:when=1+2"], 300, 2000, 1, True),
    ],
)  # fmt: skip
@pytest.mark.parity("segmentation refused, segments merged")
def test_segments_that_are_refused_arrive_once(tmp_path, rules, size, total, position, kept):
    got, log = under_strace(tmp_path, rules, send_segments, size, total, position)
    assert "INJECTED" in log
    assert got is kept


def send_until_an_error(size, total):
    """How much a write says that it sent, and how much came."""
    with udp(receive_buffer=1 << 22) as conn:
        n = conn.write_to(bytes(total), conn.local_addr, ControlMessage(segment_size=size))
        return n, sum(map(len, drained(conn, total)))


@straced
def test_an_error_in_the_middle_tells_what_went_before_it(tmp_path):
    rules = ["inject=sendmsg:error=ENOBUFS:when=2"]
    (told, came), log = under_strace(tmp_path, rules, send_until_an_error, 10, 1900)
    assert "INJECTED" in log
    assert 0 < told == came < 1900
