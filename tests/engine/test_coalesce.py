"""Batches whose neighbours leave as one: nothing can be told from a batch that was not joined."""

import errno
import random
import socket
import time

import pytest

from ipv4 import ControlFlags, ControlMessage, Message, MessageBatch, PacketConn, RawConn

SO_NO_CHECK = 11


@pytest.fixture
def ends():
    with PacketConn.udp(("127.0.0.1", 0)) as rx, PacketConn.udp(("127.0.0.1", 0)) as tx:
        rx.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 8 << 20)
        for conn in (rx, tx):
            conn.set_deadline(time.monotonic() + 60)
        tx.coalesce = True
        yield tx, rx


def drain(conn):
    got = []
    while True:
        try:
            got.append(conn.receive(flags=socket.MSG_DONTWAIT)[0])
        except BlockingIOError:
            return got


def joined(rx):
    """How many datagrams of each buffer that arrives, seen by UDP_GRO."""
    rx.set_control_message(ControlFlags.SEGMENT_SIZE, True)
    counts = []
    while True:
        try:
            data, cm, _ = rx.receive(flags=socket.MSG_DONTWAIT)
        except BlockingIOError:
            return counts
        size = cm.segment_size if cm is not None and cm.segment_size else len(data)
        counts.append(-(-len(data) // size) if size else 1)


def test_it_is_off_at_first_and_can_be_set(ends):
    tx, rx = ends
    assert (rx.coalesce, rx.coalescing) == (False, False)
    assert (tx.coalesce, tx.coalescing) == (True, True)
    tx.coalesce = False
    assert (tx.coalesce, tx.coalescing) == (False, False)
    with pytest.raises(TypeError, match="coalesce must be True or False, not 1"):
        tx.coalesce = 1
    with PacketConn.udp(("127.0.0.1", 0), coalesce=True) as conn:
        assert conn.coalesce


@pytest.mark.privileged
def test_only_udp_has_it():
    with PacketConn.ip(253, "127.0.0.1") as conn:
        with pytest.raises(AttributeError, match="only UDP"):
            conn.coalesce  # noqa: B018
        with pytest.raises(AttributeError, match="only UDP"):
            conn.coalesce = True
    assert not hasattr(RawConn, "coalesce")


@pytest.mark.parametrize("kind", ["batch", "list"])
def test_neighbours_leave_as_one(ends, kind):
    tx, rx = ends
    rx.set_control_message(ControlFlags.SEGMENT_SIZE, True)
    if kind == "list":
        ms = [Message([bytes(10), bytes(20)], None, rx.local_addr) for _ in range(40)]
    else:
        ms = MessageBatch(40, 30)
        for i in range(40):
            ms[i].addr, ms[i].n = rx.local_addr, 30
    assert tx.write_batch(ms) == 40
    assert joined(rx) == [40]


@pytest.mark.parametrize("seed", range(6))
def test_bytes_boundaries_and_order_stay(ends, seed):
    tx, rx = ends
    pick = random.Random(seed)
    for turn in range(12):
        size, sent, messages = 16, [], []
        for _ in range(pick.randrange(1, 200)):
            if pick.random() < 0.2:
                size = pick.choice([0, 1, 16, 500, 1000, 1400, 8000])
            data = pick.randbytes(max(size - (pick.random() < 0.1), 0))
            cut = pick.randrange(len(data) + 1)
            told = pick.choice([None, None, None, ControlMessage(send_ttl=9).marshal()])
            parts = [data] if pick.random() < 0.5 else [data[:cut], data[cut:]]
            messages.append(Message(parts, told, rx.local_addr))
            sent.append(data)
        if turn % 2:
            batch = MessageBatch(len(sent), 8000)
            for i, data in enumerate(sent):
                batch[i].buffers[0][: len(data)] = data
                batch[i].addr, batch[i].n = rx.local_addr, len(data)
            assert tx.write_batch(batch) == len(sent)
            assert [each.n for each in batch] == [len(data) for data in sent]
        else:
            assert tx.write_all(messages) == []
            assert [each.n for each in messages] == [len(data) for data in sent]
        assert drain(rx) == sent
    assert tx.coalescing


def test_what_each_was_told_stays_its_own(ends):
    tx, rx = ends
    rx.set_control_message(ControlFlags.TTL, True)
    ttls = [5, 5, 5, 9, 9, 5, 64]
    ms = [Message(b"same", ControlMessage(send_ttl=ttl).marshal(), rx.local_addr) for ttl in ttls]
    assert tx.write_all(ms) == []
    assert [rx.receive()[1].ttl for _ in ttls] == ttls


def test_refused_runs_go_message_by_message_and_twenty_end_it(ends):
    tx, rx = ends
    tx.setsockopt(socket.SOL_SOCKET, SO_NO_CHECK, 1)
    for turn in range(22):
        sent = [bytes([turn, i]) for i in range(10)]
        assert tx.write_all([Message(data, None, rx.local_addr) for data in sent]) == []
        assert drain(rx) == sent
        assert tx.coalescing == (turn < 19)
    assert tx.coalesce is True
    tx.setsockopt(socket.SOL_SOCKET, SO_NO_CHECK, 0)
    tx.coalesce = True
    assert tx.coalescing


def test_failures_are_told_as_without(ends):
    tx, rx = ends
    here = rx.local_addr
    big = bytes(65508)
    for coalesce in (True, False):
        tx.coalesce = coalesce
        payloads = [b"a", b"a", big, big, b"a", b"b", b"ccc", b"ccc"]
        ms = [Message(data, None, here) for data in payloads]
        assert [(i, e.errno) for i, e in tx.write_all(ms)] == [
            (2, errno.EMSGSIZE),
            (3, errno.EMSGSIZE),
        ]
        assert drain(rx) == [b"a", b"a", b"a", b"b", b"ccc", b"ccc"]
        # Without sendmmsg a batch moves one message, or those that are joined to one.
        assert tx.write_batch(ms) == (1 if tx._moves_one_a_call() and not coalesce else 2)
        with pytest.raises(OSError) as caught:
            tx.write_batch(ms[2:])
        assert caught.value.errno == errno.EMSGSIZE
        drain(rx)


def test_it_knows_the_paths_mtu(pair):
    """Datagrams that the path would fragment are not joined: none is refused for it."""
    one, other = pair
    with (
        other.call(PacketConn.udp, (other.address, 7000)) as rx,
        one.call(PacketConn.udp) as tx,
    ):
        rx.set_read_deadline(time.monotonic() + 20)
        tx.coalesce = True
        for _ in range(25):
            ms = [Message(bytes([i]) * 2000, None, rx.local_addr) for i in range(3)]
            assert tx.write_all(ms) == []
            assert [rx.receive()[0] for _ in range(3)] == [bytes([i]) * 2000 for i in range(3)]
        assert tx.coalescing
