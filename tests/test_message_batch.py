"""Batches without objects: columns, slices, and what is sent on as it came."""

import errno
import socket
import struct
import time

import pytest

from ipv4 import ControlFlags, ControlMessage, Message, MessageBatch, PacketConn


@pytest.fixture
def conn():
    with PacketConn.udp(("127.0.0.1", 0)) as conn:
        conn.set_read_deadline(time.monotonic() + 20)
        yield conn


def test_columns_of_a_batch(conn):
    numpy = pytest.importorskip("numpy")
    flags = ControlFlags.TTL | ControlFlags.INTERFACE | ControlFlags.TOS | ControlFlags.TIMESTAMP
    conn.set_control_message(flags, True)
    batch = MessageBatch(8, 100, flags)
    assert len(batch) == 8
    assert batch.lengths.tolist() == [100] * 8
    early = numpy.asarray(batch.ttls)
    for i in range(5):
        conn.write_to(bytes([i]) * i, conn.local_addr, ControlMessage(send_ttl=10 + i, send_tos=i))
    n = 0
    while n < 5:
        n += conn.read_batch(batch[n:])
    assert early[:5].tolist() == batch.ttls[:5].tolist() == [10, 11, 12, 13, 14]
    assert batch.lengths[:5].tolist() == [0, 1, 2, 3, 4]
    assert batch.toses[:5].tolist() == [0, 1, 2, 3, 4]
    assert batch.ports[:5].tolist() == [conn.local_addr[1]] * 5
    assert batch.ifindexes[:5].tolist() == [1] * 5
    assert {socket.inet_ntoa(struct.pack("=I", a)) for a in batch.addrs[:5]} == {"127.0.0.1"}
    assert abs(batch.timestamps[4] - time.time_ns()) < 10**10
    assert list(batch.heads(5))[4] == (4, conn.local_addr, 14, 1)
    data = numpy.asarray(batch.data)
    assert data.shape == (8, 100)
    assert data[4, :4].tolist() == [4, 4, 4, 4]
    for name in ("data", "lengths", "addrs", "ports", "ttls", "ifindexes", "toses", "timestamps",
                 "segment_sizes", "flags"):  # fmt: skip
        column = getattr(batch, name)
        assert isinstance(column, memoryview)
        assert numpy.shares_memory(numpy.asarray(column), numpy.asarray(getattr(batch, name)))
    assert [batch[i].control.ttl for i in range(5)] == [10, 11, 12, 13, 14]
    assert batch[-8].n == 0
    for bad in (8, -9):
        with pytest.raises(IndexError):
            batch[bad]
    with pytest.raises(ValueError, match="steps"):
        batch[::2]


def test_a_batch_that_was_read_is_sent_on_as_it_is(conn):
    conn.set_control_message(ControlFlags.TTL, True)
    with PacketConn.udp(("127.0.0.1", 0)) as client:
        client.set_read_deadline(time.monotonic() + 10)
        client.set_control_message(ControlFlags.TTL, True)
        for i in range(4):
            client.write_to(b"echo%d" % i, conn.local_addr, ControlMessage(send_ttl=7))
        batch = MessageBatch(16, 64, ControlFlags.TTL)
        n = 0
        while n < 4:
            n += conn.read_batch(batch[n:])
        assert conn.write_all(batch[:n]) == []
        for i in range(4):
            buffer = bytearray(9)
            k, cm, src = client.read_from(buffer)
            assert (bytes(buffer[:k]), cm.ttl, src) == (b"echo%d" % i, 64, conn.local_addr)


def test_destinations_by_columns(conn):
    batch = MessageBatch(3, 4)
    ports = batch.ports
    for i in range(3):
        batch.addrs[i] = int.from_bytes(
            socket.inet_aton("127.0.0.1"), "little" if struct.pack("=H", 1)[0] else "big"
        )
        ports[i] = conn.local_addr[1]
        batch.lengths[i] = i + 1
    assert batch[0].addr == ("127.0.0.1", 0) or batch[0].addr == conn.local_addr
    assert conn.write_all(batch) == []
    assert [conn.read_from(bytearray(9))[0] for _ in range(3)] == [1, 2, 3]
    batch.lengths[1] = 5
    with pytest.raises(ValueError, match=r"lengths\[1\]"):
        conn.write_batch(batch)
    with pytest.raises(ValueError, match="oob"):
        batch[0].oob = bytes(999)
    with pytest.raises(TypeError, match="buffers"):
        batch[0].buffers = []


def test_what_is_no_batch():
    for args, error in (((0, 1), ValueError), ((-1, 1), ValueError), ((1, -1), ValueError),
                        ((1 << 40, 1), ValueError), ((1, 1 << 40), ValueError),
                        (("1", 1), TypeError), ((1, 1, 1 << 20), ValueError)):  # fmt: skip
        with pytest.raises(error, match="count|size|flags"):
            MessageBatch(*args)
    with pytest.raises(MemoryError):
        MessageBatch(1 << 24, 1 << 30)


def test_write_all_sends_everything_once(conn):
    conn.receive_buffer = 1 << 22
    messages = [Message(struct.pack("!I", i), addr=conn.local_addr) for i in range(1500)]
    bad = {0, 7, 1030, 1499}
    for i in bad:
        messages[i].buffers = bytes(70000)
    failed = conn.write_all(messages)
    assert {i for i, _ in failed} == bad
    assert all(error.errno == errno.EMSGSIZE for _, error in failed)
    got = []
    buffer = bytearray(8)
    with pytest.raises(BlockingIOError):
        while True:
            conn.read_from(buffer, socket.MSG_DONTWAIT)
            got.append(int.from_bytes(buffer[:4], "big"))
    assert got == [i for i in range(1500) if i not in bad]
