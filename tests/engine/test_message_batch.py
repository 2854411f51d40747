"""Batches without objects: columns, slices, and what is sent on as it came."""

import errno
import socket
import struct
import sys
import time

import pytest

from ipv4 import ControlFlags, ControlMessage, Message, MessageBatch, PacketConn


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


@pytest.mark.parity("a batch that goes partly")
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


# Payloads, peers, answers


def read_all(conn, batch, count):
    """Read `count` messages: without recvmmsg a call brings one."""
    n = 0
    while n < count:
        n += conn.read_batch(batch[n:])
    return n


@pytest.fixture
def loop():
    """Return a conn that tells what a batch can show, and its address."""
    flags = ControlFlags.TTL | ControlFlags.DST | ControlFlags.TOS
    with PacketConn.udp(("127.0.0.1", 0)) as conn:
        conn.set_control_message(flags, True)
        conn.set_read_deadline(time.monotonic() + 20)
        yield conn


def test_payloads_and_peers(loop):
    batch = MessageBatch(4, 16)
    loop.write_to(b"one", loop.local_addr)
    loop.write_to(b"", loop.local_addr)
    assert read_all(loop, batch, 2) == 2
    assert [bytes(p) for p in batch.payloads(2)] == [b"one", b""]
    assert list(batch.peers(2)) == [loop.local_addr] * 2
    assert list(batch.peers()) == [loop.local_addr] * 2 + [None] * 2
    assert [len(p) for p in batch.payloads()] == [3, 0, 16, 16]
    assert bytes(batch.payload(0)) == b"one"
    assert len(batch.payload(-1)) == 16
    batch.payload(0)[1:] = b"ld"
    assert bytes(batch[0].buffers[0][:3]) == b"old"
    part = batch[1:]
    assert [bytes(p) for p in part.payloads(1)] == [b""]
    for wrong in (4, -5):
        with pytest.raises(IndexError, match=f"index {wrong} of a batch of 4"):
            batch.payload(wrong)
    for name in ("payloads", "peers", "datagrams", "reply"):
        with pytest.raises(ValueError, match="^n must be in 0..4, not 5"):
            getattr(batch, name)(5)


def test_a_cut_payload_is_as_long_as_its_slot(loop):
    batch = MessageBatch(1, 4)
    loop.write_to(b"too long", loop.local_addr)
    loop.read_batch(batch, socket.MSG_TRUNC)
    assert batch.lengths[0] == 8
    assert bytes(batch.payload(0)) == b"too "
    assert [bytes(p) for p, _ in batch.datagrams(1)] == [b"too "]


def test_columns_of_destination_and_drops(loop):
    batch = MessageBatch(3, 16, ControlFlags.DST | ControlFlags.TTL)
    loop.write_to(b"x", loop.local_addr)
    assert loop.read_batch(batch) == 1
    assert batch.ttls[0] == 64  # scanned before the other columns were there
    home = int.from_bytes(socket.inet_aton("127.0.0.1"), sys.byteorder)
    dsts, local, drops = batch.dsts, batch.spec_dsts, batch.drops
    assert (list(dsts), list(local)) == ([home, 0, 0], [home, 0, 0])
    loop.receive_buffer = 1
    loop.set_control_message(ControlFlags.DROPS, True)
    for _ in range(200):
        loop.write_to(bytes(16), loop.local_addr)
    while not drops[0]:
        loop.read_batch(batch[:1])
        loop.write_to(bytes(16), loop.local_addr)
    assert drops[0] == batch[0].control.drops > 0


def test_what_a_read_did_not_reach_is_untouched(loop):
    flags = ControlFlags.TTL | ControlFlags.DST | ControlFlags.TOS
    batch = MessageBatch(4, 100, flags)
    for text in (b"one", b"two"):
        loop.write_to(text, loop.local_addr)
    assert read_all(loop, batch, 2) == 2
    second = batch[1].n, batch[1].nn, batch[1].control, batch[1].flags
    batch[2].oob = ControlMessage(send_ttl=9).marshal()
    loop.write_to(b"three", loop.local_addr)
    assert loop.read_batch(batch) == 1
    assert (batch[1].n, batch[1].nn, batch[1].control, batch[1].flags) == second
    with pytest.raises(BlockingIOError):
        loop.read_batch(batch, socket.MSG_DONTWAIT)
    batch[2].addr, batch[2].n = loop.local_addr, 3
    assert loop.write_batch(batch[2:3]) == 1
    assert loop.read_from(bytearray(9))[1].ttl == 9
    assert (batch[1].n, batch[1].nn, batch[1].control, batch[1].flags) == second


def test_send_columns(loop):
    batch = MessageBatch(3, 4)
    ttls, toses = batch.send_ttls, batch.send_toses
    for i, (ttl, tos) in enumerate([(0, 0), (9, 0), (3, 0x2E)]):
        batch[i].addr, batch[i].n = loop.local_addr, 1
        ttls[i], toses[i] = ttl, tos
    batch[2].oob = ControlMessage(src="127.0.0.7").marshal()
    assert loop.write_all(batch) == []
    told = [loop.read_from(bytearray(9)) for _ in range(3)]
    assert [(cm.ttl, cm.tos) for _, cm, _ in told] == [(64, 0), (9, 0), (3, 0x2E)]
    assert [src[0] for _, _, src in told] == ["127.0.0.1", "127.0.0.1", "127.0.0.7"]
    assert (list(ttls), list(toses)) == ([0, 9, 3], [0, 0, 0x2E])
    assert bytes(batch[2].oob)[: batch[2].nn] == ControlMessage(src="127.0.0.7").marshal()


def test_answers_leave_from_the_address_that_was_asked():
    """A server on every address answers a batch of requests to several of them."""
    with PacketConn.udp() as server, PacketConn.udp(("127.0.0.1", 0)) as client:
        server.set_control_message(ControlFlags.DST | ControlFlags.INTERFACE, True)
        for conn in (server, client):
            conn.set_read_deadline(time.monotonic() + 20)
        client.set_control_message(ControlFlags.TTL, True)
        port = server.local_addr[1]
        asked = [f"127.0.0.{i}" for i in range(1, 9)]
        for host in asked:
            client.write_to(host.encode(), (host, port))
        batch, n = MessageBatch(16, 32, ControlFlags.DST), 0
        while n < len(asked):
            n += server.read_batch(batch[n:])
        ifindexes = batch.ifindexes
        seen = list(ifindexes)
        batch.send_ttls[0] = 5
        batch.reply(n)
        batch.reply(n)  # answers stay what they are
        assert list(ifindexes) == seen
        assert list(batch.dsts[:n]) == list(batch.spec_dsts[:n]) != [0] * n
        assert server.write_all(batch[:n]) == []
        for i in range(n):
            buf = bytearray(32)
            size, cm, src = client.read_from(buf)
            assert src == (buf[:size].decode(), port)
            assert cm.ttl == (5 if src[0] == asked[0] else 64), i
        # The next read into a row makes an end of its answer.
        client.write_to(b"again", ("127.0.0.3", port))
        assert server.read_batch(batch) == 1
        assert str(batch[0].control.dst) == "127.0.0.3"


def test_answers_to_a_group_leave_by_the_interface_it_was_asked_on(pair):
    with (
        pair.a.call(PacketConn.udp, ("10.1.0.1", 0), multicast_interface="eth0") as client,
        pair.b.call(PacketConn.udp, ("0.0.0.0", 7777)) as server,
    ):
        server.set_control_message(ControlFlags.DST | ControlFlags.INTERFACE, True)
        server.join_group("224.0.0.250", "eth0")
        for conn in (server, client):
            conn.set_read_deadline(time.monotonic() + 20)
        client.write_to(b"group", ("224.0.0.250", 7777))
        batch = MessageBatch(1, 32, ControlFlags.DST)
        for tied in (None, True, False):
            if tied is not None:
                client.write_to(b"group", ("224.0.0.250", 7777))
            assert server.read_batch(batch) == 1
            wanted = batch[0].control.reply(interface=tied)
            batch.reply(1, interface=tied)
            oob = bytes(batch[0].oob[: batch[0].nn])
            assert oob == wanted.marshal()
            assert server.write_batch(batch) == 1
            assert client.read_from(bytearray(9))[2] == ("10.1.0.2", 7777)
    with pytest.raises(TypeError, match="^interface must be None, True or False"):
        batch.reply(1, interface=1)


def test_no_answer_is_made_of_control_data_that_was_cut(loop):
    batch = MessageBatch(1, 16)
    loop.set_control_message(ControlFlags.ORIGINAL_DST | ControlFlags.OPTIONS, True)
    loop.set_control_message(ControlFlags.TIMESTAMP | ControlFlags.INTERFACE, True)
    loop.write_to(b"x", loop.local_addr, ControlMessage(send_options=b"\x94\x04\0\0"))
    loop.read_batch(batch)
    assert batch[0].flags & socket.MSG_CTRUNC
    with pytest.raises(ValueError, match=r"^message 0: its control data was cut"):
        batch.reply(1)


# What came as one buffer


@pytest.fixture
def joined():
    """Return a conn that several datagrams reach as one buffer, and one that sends them so."""
    flags = ControlFlags.SEGMENT_SIZE | ControlFlags.DST
    with (
        PacketConn.udp(("127.0.0.1", 0)) as conn,
        PacketConn.udp(("127.0.0.1", 0)) as sender,
    ):
        try:
            conn.set_control_message(flags, True)
        except (OSError, NotImplementedError) as error:
            pytest.skip(f"the kernel does not join datagrams: {error}")
        conn.set_read_deadline(time.monotonic() + 20)
        yield conn, sender


def test_datagrams_of_what_was_joined(joined):
    conn, sender = joined
    batch = MessageBatch(2, 65535, ControlFlags.SEGMENT_SIZE | ControlFlags.DST)
    payload = bytes(range(250)) * 10
    sender.write_to(payload, conn.local_addr, ControlMessage(segment_size=1000))
    sender.write_to(b"", conn.local_addr)
    n = conn.read_batch(batch)
    while n < 2:
        n += conn.read_batch(batch[n:])
    sizes = [len(data) for data, _ in batch.datagrams(n)]
    assert sizes == [1000, 1000, 500, 0]
    assert b"".join(bytes(data) for data, _ in batch.datagrams(n)) == payload
    assert {src for _, src in batch.datagrams(n)} == {sender.local_addr}


def test_split(joined):
    conn, sender = joined
    flags = ControlFlags.SEGMENT_SIZE | ControlFlags.DST
    batch, into = MessageBatch(2, 65535, flags), MessageBatch(8, 1000, flags)
    payload = bytes(range(250)) * 10
    sender.write_to(payload, conn.local_addr, ControlMessage(segment_size=1000))
    n = conn.read_batch(batch)
    home = batch.dsts[0]
    assert batch.split(into[1:], n) == 3
    assert list(into.lengths[1:4]) == [1000, 1000, 500]
    assert b"".join(bytes(p) for p in into[1:4].payloads()) == payload
    assert list(into[1:4].peers()) == [sender.local_addr] * 3
    assert list(into.ports[1:4]) == [sender.local_addr[1]] * 3
    assert list(into.segment_sizes) == [0] * 8
    assert list(into.dsts[1:4]) == [home] * 3
    cm = into[2].control
    assert (cm.segment_size, str(cm.dst)) == (None, "127.0.0.1")
    # A row can be answered or sent on as if it had come alone.
    into[1:4].reply()
    assert conn.write_all(into[1:4]) == []
    sender.set_read_deadline(time.monotonic() + 20)
    assert sender.read_from(bytearray(2000))[0] == 1000


def test_split_copies_nothing_that_does_not_fit(joined):
    conn, sender = joined
    flags = ControlFlags.SEGMENT_SIZE | ControlFlags.DST
    batch = MessageBatch(1, 65535, flags)
    sender.write_to(bytes(2500), conn.local_addr, ControlMessage(segment_size=1000))
    n = conn.read_batch(batch)
    for into, complaint in [
        (MessageBatch(2, 1000), "^into must have 3 rows for what came, not 2"),
        (MessageBatch(3, 999), "^into must have rows of 1000 bytes for what came, not 999"),
        (batch, "^into must be another batch"),
        (batch[:], "^into must be another batch"),
    ]:
        with pytest.raises(ValueError, match=complaint):
            batch.split(into, n)
        if into is not batch:
            assert into.ports[0] in (0, sender.local_addr[1])
    with pytest.raises(TypeError, match="^into must be a MessageBatch, not list"):
        batch.split([Message(bytearray(9))], n)
    assert batch.split(MessageBatch(1, 1), 0) == 0
