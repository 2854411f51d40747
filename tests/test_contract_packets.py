"""Single reads and writes, batches, groups and filters, on a real kernel."""

import errno
import random
import socket
import struct
import threading
import time
from ipaddress import IPv4Address

import pytest
from support import VECTORS, until_it_waits

import ipv4
from ipv4 import (
    ControlFlags,
    ControlMessage,
    Header,
    ICMPFilter,
    ICMPType,
    Message,
    MessageBatch,
    PacketConn,
    RawConn,
    bpf,
)

PAYLOAD = bytes.fromhex(VECTORS["wire"]["payload"])
ALL = ControlFlags.TTL | ControlFlags.SRC | ControlFlags.DST | ControlFlags.INTERFACE
LOOPBACK = IPv4Address("127.0.0.1")
parity = pytest.mark.parity
privileged = pytest.mark.privileged


def drain(conn):
    with pytest.raises(BlockingIOError):
        while True:
            conn.read_from(bytearray(1), socket.MSG_DONTWAIT)


def moves_single_messages(conn):
    """Whether this is the portable build, whose batches move one message a call."""
    return conn._sends_singly()


def write_whole(conn, batch):
    assert conn.write_all(batch) == []


def read_whole(conn, batch):
    n = 0
    while n < len(batch):
        n += conn.read_batch(batch[n:])
    return n


# UDP


@parity("PacketConn.ReadFrom", "PacketConn.WriteTo", "SetControlMessage")
def test_unicast_udp(conn):
    for i, on in enumerate((True, False, True)):
        conn.set_control_message(ControlFlags.TTL | ControlFlags.DST | ControlFlags.INTERFACE, on)
        conn.ttl = i + 1
        assert conn.write_to(PAYLOAD, conn.local_addr) == len(PAYLOAD)
        buffer = bytearray(b"\xee" * 128)
        n, cm, src = conn.read_from(buffer)
        assert (n, src) == (len(PAYLOAD), conn.local_addr)
        assert buffer == PAYLOAD + b"\xee" * (128 - n)
        if on:
            assert (cm.ttl, cm.src, cm.dst, cm.ifindex) == (i + 1, LOOPBACK, LOOPBACK, 1)
        else:
            assert cm is None


def test_forms_of_a_destination(conn):
    host, port = conn.local_addr
    for dst in ((host, port), (LOOPBACK, port), (LOOPBACK.packed, port)):
        conn.write_to(b"x", dst)
        assert conn.read_from(bytearray(1))[0] == 1
    for bad in ("localhost", ("localhost", port), 5, ("::1", port)):
        with pytest.raises(ValueError, match="dst"):
            conn.write_to(b"x", bad)
    with pytest.raises(OSError, match=r"127\.0\.0\.1:0") as caught:
        conn.write_to(b"x", host)
    assert caught.value.errno == errno.EINVAL
    with pytest.raises(OSError) as caught:
        conn.write_to(b"x")
    assert caught.value.errno == errno.EDESTADDRREQ


def test_a_connected_socket_needs_no_destination(conn):
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.connect(conn.local_addr)
        other = PacketConn(sock)
        assert other.write_to(b"hi") == 2
        assert other.write_batch([Message(b"ho")]) == 1
        assert conn.read_from(bytearray(9))[2] == other.local_addr
        assert conn.read_from(bytearray(9))[0] == 2


def test_an_empty_datagram_is_one(conn):
    assert conn.write_to(b"", conn.local_addr) == 0
    assert conn.read_from(bytearray(4)) == (0, None, conn.local_addr)
    assert conn.write_batch([Message(addr=conn.local_addr)]) == 1
    message = Message(bytearray(4))
    assert conn.read_batch([message]) == 1
    assert (message.n, message.addr) == (0, conn.local_addr)
    conn.write_to(b"", conn.local_addr)
    assert conn.read_from(bytearray())[0] == 0


def test_truncation_is_never_hidden(conn):
    conn.write_to(bytes(100), conn.local_addr)
    assert conn.read_from(bytearray(10), socket.MSG_TRUNC)[0] == 100
    conn.write_to(bytes(100), conn.local_addr)
    assert conn.read_from(bytearray(10))[0] == 10
    for flags, n in ((0, 10), (socket.MSG_TRUNC, 100)):
        conn.write_to(bytes(100), conn.local_addr)
        message = Message(bytearray(10))
        conn.read_batch([message], flags)
        assert message.n == n
        assert message.flags & socket.MSG_TRUNC


def test_peek(conn):
    conn.write_to(b"peek", conn.local_addr)
    for flags in (socket.MSG_PEEK, 0):
        assert conn.read_from(bytearray(9), flags)[0] == 4


def test_bad_arguments(conn):
    here = conn.local_addr
    for call, name in (
        (lambda: conn.read_from(b"read-only"), "buf"),
        (lambda: conn.read_from(memoryview(b"ro")), "buf"),
        (lambda: conn.read_from("text"), "buf"),
        (lambda: conn.read_from(None), "buf"),
        (lambda: conn.write_to("text", here), "data"),
        (lambda: conn.write_to(None, here), "data"),
        (lambda: conn.write_to(b"", here, "cm"), "cm"),
        (lambda: conn.write_to(b"", here, None, "0"), "flags"),
        (lambda: conn.read_batch("ms"), "ms"),
        (lambda: conn.read_batch([1]), "ms"),
        (lambda: conn.write_batch(None), "ms"),
        (lambda: conn.read_batch([Message(b"read-only")]), "ms"),
        (lambda: conn.set_control_message("x", True), "flags"),
    ):
        with pytest.raises(TypeError, match=name):
            call()
    for call, name in (
        (lambda: conn.read_from(bytearray(1), -1), "flags"),
        (lambda: conn.write_to(b"", here, None, 2**31), "flags"),
        (lambda: conn.read_batch([], 2**70), "flags"),
        (lambda: conn.set_control_message(1024, True), "flags"),
    ):
        with pytest.raises(ValueError, match=name):
            call()
    with pytest.raises(BufferError, match="buf"):
        conn.read_from(memoryview(bytearray(8))[::2])
    with pytest.raises(BufferError, match="data"):
        conn.write_to(memoryview(bytearray(8))[::2], here)


def test_any_contiguous_buffer(conn, tmp_path):
    import array
    import mmap

    words = array.array("H", [0] * 4)
    conn.write_to(array.array("H", [1, 2, 3]), conn.local_addr)
    assert conn.read_from(words)[0] == 6
    assert words.tolist() == [1, 2, 3, 0]
    with mmap.mmap(-1, 64) as area:
        conn.write_to(b"mapped", conn.local_addr)
        conn.read_from(area)
        assert area[:6] == b"mapped"


# Control messages


def test_turning_one_flag_off_keeps_what_another_needs(conn):
    conn.set_control_message(ALL, True)
    for off in (ControlFlags.SRC, ControlFlags.DST):
        conn.set_control_message(off, False)
        conn.write_to(b"x", conn.local_addr)
        _, cm, _ = conn.read_from(bytearray(1))
        assert (cm.ifindex, cm.ttl) == (1, 64)
    conn.set_control_message(ControlFlags.INTERFACE, False)
    assert conn.control_flags == ControlFlags.TTL
    conn.write_to(b"x", conn.local_addr)
    _, cm, _ = conn.read_from(bytearray(1))
    assert (cm.ifindex, cm.dst, cm.ttl) == (0, None, 64)
    conn.set_control_message(ControlFlags.TTL, False)
    conn.write_to(b"x", conn.local_addr)
    assert conn.read_from(bytearray(1))[1] is None


def test_what_somebody_else_switched_on_pushes_nothing_out(conn):
    conn.set_control_message(ALL, True)
    for level, option in ((socket.SOL_SOCKET, 35), (socket.SOL_SOCKET, 40), (socket.IPPROTO_IP, 13),
                          (socket.IPPROTO_IP, 20), (socket.IPPROTO_IP, 6), (socket.IPPROTO_IP, 7),
                          (socket.IPPROTO_IP, 25)):  # fmt: skip
        conn.setsockopt(level, option, 1)
    conn.write_to(b"x", conn.local_addr)
    _, cm, _ = conn.read_from(bytearray(1))
    assert (cm.ttl, cm.dst, cm.ifindex) == (64, LOOPBACK, 1)
    assert cm.tos == 0
    assert cm.timestamp > 0
    assert cm.original_dst == conn.local_addr


LADDER = [  # bytes of room: control bytes, cut, ttl, dst
    (0, 0, True, 0, None), (8, 0, True, 0, None), (15, 0, True, 0, None),
    (28, 28, True, 0, "127.0.0.1"), (32, 32, True, 0, "127.0.0.1"),
    (47, 32, True, 0, "127.0.0.1"), (52, 52, False, 64, "127.0.0.1"),
    (55, 52, False, 64, "127.0.0.1"), (56, 56, False, 64, "127.0.0.1"),
    (128, 56, False, 64, "127.0.0.1"),
]  # fmt: skip


@pytest.mark.parametrize(("room", "nn", "cut", "ttl", "dst"), LADDER)
def test_control_truncation_ladder(conn, room, nn, cut, ttl, dst):
    conn.set_control_message(ALL, True)
    conn.write_to(b"x", conn.local_addr)
    oob = bytearray(b"\xee" * 256)
    message = Message(bytearray(4), memoryview(oob)[:room])
    conn.read_batch([message])
    assert oob[room:] == b"\xee" * (256 - room)
    assert bool(message.flags & socket.MSG_CTRUNC) == cut
    if nn in (52, 56):
        assert 52 <= message.nn <= min(room, 56)
    cm = ControlMessage()
    cm.parse(oob[: message.nn])
    assert (cm.ttl, str(cm.dst) if cm.dst else None) == (ttl, dst)
    if cut:
        with pytest.raises(ValueError, match="cut"):
            _ = message.control
    else:
        assert message.control.ttl == 64


@parity("ControlMessage on writes")
def test_source_and_interface_of_a_write(pair):
    pair.a.add_address("10.1.0.77/24", "eth0")

    def send(cm):
        with PacketConn.udp() as sender:
            return sender.write_to(b"x", ("10.1.0.2", 7777), cm)

    with pair.b.call(PacketConn.udp, ("10.1.0.2", 7777)) as receiver:
        receiver.set_read_deadline(time.monotonic() + 10)
        receiver.set_control_message(ALL, True)
        for cm, src in ((None, "10.1.0.1"), (ControlMessage(src="10.1.0.77"), "10.1.0.77")):
            pair.a.call(send, cm)
            _, told, peer = receiver.read_from(bytearray(9))
            assert (peer[0], str(told.src), str(told.dst)) == (src, src, "10.1.0.2")
    for cm, number in ((ControlMessage(ifindex=999), errno.ENODEV),
                       (ControlMessage(src="10.9.9.9"), errno.ENETUNREACH),
                       (ControlMessage(src="224.0.0.1"), errno.EINVAL)):  # fmt: skip
        with pytest.raises(OSError, match=r"10\.1\.0\.2:7777") as caught:
            pair.a.call(send, cm)
        assert caught.value.errno in (number, errno.EINVAL)


def test_a_received_message_handed_back_sends_nothing_else(pair):
    with pair.b.call(PacketConn.udp, ("10.1.0.2", 7777)) as server:
        server.set_read_deadline(time.monotonic() + 10)
        server.set_control_message(ControlFlags(0x3F), True)
        with pair.a.call(PacketConn.udp, ("10.1.0.1", 0)) as client:
            client.set_read_deadline(time.monotonic() + 10)
            client.set_control_message(ControlFlags.TTL | ControlFlags.TOS, True)
            client.ttl = 7
            client.tos = 0x20
            client.write_to(b"ask", ("10.1.0.2", 7777))
            _, cm, peer = server.read_from(bytearray(9))
            assert (cm.ttl, cm.tos, str(cm.src)) == (7, 0x20, "10.1.0.1")
            server.write_to(b"answer", peer, cm)
            _, told, who = client.read_from(bytearray(9))
            assert (told.ttl, told.tos, who) == (64, 0, ("10.1.0.2", 7777))


# ICMP and raw sockets


def echo(seq, payload=PAYLOAD, ident=0x1234):
    head = struct.pack("!BBHHH", 8, 0, 0, ident, seq)
    return head[:2] + struct.pack("!H", ipv4.checksum(head + payload)) + head[4:] + payload


def test_echo_vectors():
    assert echo(1).hex() == VECTORS["wire"]["echo_id1234_seq1"]
    assert echo(64).hex() == VECTORS["wire"]["echo_id1234_seq64"]


@privileged
def test_unicast_icmp(icmp):
    for seq, on in enumerate((True, False, True), 1):
        icmp.set_control_message(ALL, on)
        icmp.write_to(echo(seq), "127.0.0.1")
        buffer = bytearray(128)
        for typ in (8, 0):  # loopback delivers the request, then the reply
            n, cm, src = icmp.read_from(buffer)
            assert buffer[0] == typ
            assert buffer[4:n] == echo(seq)[4:]
            assert src == ("127.0.0.1", 0)
            assert ipv4.checksum(buffer[:n]) == 0
            assert (cm is not None) == on


@parity("RawConn.ReadFrom", "RawConn.WriteTo")
@privileged
def test_unicast_raw_icmp():
    with RawConn.ip(1, "127.0.0.1") as raw:
        raw.set_read_deadline(time.monotonic() + 10)
        raw.set_control_message(ALL, True)
        for seq in (1, 2, 3):
            header = Header(tos=seq, total_len=43, ttl=seq, protocol=1, dst="127.0.0.1")
            wire = f"45{seq:02x}002b00000000{seq:02x}010000000000007f000001"
            assert header.marshal().hex() == wire
            assert raw.write_to(header, echo(seq)) == 43
            buffer = bytearray(128)
            for typ in (8, 0):
                got, payload, cm = raw.read_from(buffer)
                assert isinstance(payload, memoryview)
                assert payload[0] == typ
                assert bytes(payload) == bytes(buffer[20:43])
                assert (got.len, got.total_len, got.protocol) == (20, 43, 1)
                assert got.compute_checksum() == got.checksum
                assert (str(got.src), str(got.dst)) == ("127.0.0.1", "127.0.0.1")
                assert cm.ttl == got.ttl
                assert cm.src == got.src
            assert got.ttl == 64


@privileged
def test_what_linux_rewrites_in_a_header(raw):
    given = Header(tos=3, total_len=9999, id=0, ttl=0, protocol=253, flags=4, checksum=7,
                   src="192.0.2.9", dst="127.0.0.1")  # fmt: skip
    raw.write_to(given, b"abc")
    got, payload, cm = raw.read_from(bytearray(99))
    assert (got.tos, got.total_len, got.ttl, got.flags) == (3, 23, raw.ttl, 4)
    assert (str(got.src), bytes(payload), cm) == ("192.0.2.9", b"abc", None)
    assert got.checksum == got.compute_checksum()
    assert got.id != 0
    raw.write_to(Header(protocol=253, flags=2, ttl=1, dst="127.0.0.1"), b"")
    got, payload, _ = raw.read_from(bytearray(99))
    assert (got.id, str(got.src), len(payload)) == (0, "127.0.0.1", 0)
    with pytest.raises(OSError, match="write_to") as caught:
        raw.write_to(Header(protocol=253, ttl=1, dst="127.0.0.1"), bytes(65530))
    assert caught.value.errno == errno.EMSGSIZE


@privileged
def test_raw_write_refuses(raw):
    for header, error in ((None, TypeError), (b"E" * 20, TypeError), (Header(), ValueError),
                          (Header(dst="127.0.0.1", ttl=256), ValueError)):  # fmt: skip
        with pytest.raises(error, match="header|address|ttl"):
            raw.write_to(header, b"")
    with pytest.raises(TypeError, match="payload"):
        raw.write_to(Header(dst="127.0.0.1"), "text")


@privileged
def test_the_header_says_where_a_packet_goes_not_the_control_message(raw):
    raw.write_to(Header(protocol=253, ttl=1, dst="127.0.0.1"), b"x", ControlMessage(dst="10.9.9.9"))
    assert bytes(raw.read_from(bytearray(99))[1]) == b"x"


@privileged
@pytest.mark.parametrize("options", [0, 4, 20, 40])
@pytest.mark.parametrize("room", ["exact", "ample", "short", "within options"])
def test_options_are_stripped_whole(raw, options, room):
    body = bytes(range(100, 200))
    size = {"exact": 100, "ample": 300, "short": 60, "within options": 3}[room]
    with PacketConn.ip(253, "127.0.0.1") as plain:
        plain.set_read_deadline(time.monotonic() + 10)
        header = Header(protocol=253, ttl=1, dst="127.0.0.1", options=b"\1" * options)
        for flags in (0, socket.MSG_TRUNC):
            raw.write_to(header, body)
            area = bytearray(b"\xee" * 400)
            n, _, src = plain.read_from(memoryview(area)[:size], flags)
            assert src == ("127.0.0.1", 0)
            assert n == (100 if flags else min(100, size))
            assert area[: min(100, size)] == body[: min(100, size)]
            assert area[size:] == b"\xee" * (400 - size)
        raw.read_from(bytearray(999))
        got, payload, _ = raw.read_from(bytearray(999))
        assert (got.options, bytes(payload)) == (b"\1" * options, body)


@privileged
def test_a_buffer_that_cuts_the_header(raw):
    header = Header(protocol=253, ttl=1, dst="127.0.0.1", options=b"\1" * 8)
    for size in (0, 19, 20, 27):
        raw.write_to(header, b"body")
        with pytest.raises(ValueError, match="header too short"):
            raw.read_from(bytearray(size))
    raw.write_to(header, b"body")
    got, payload, _ = raw.read_from(bytearray(28))
    assert (got.len, bytes(payload)) == (28, b"")


@privileged
@pytest.mark.parametrize("verdict", [1, 4, 19, 20, 23])
def test_a_verdict_shorter_than_a_header(verdict):
    program = [bpf.RawInstruction(6, 0, 0, verdict)]
    with PacketConn.ip(253, "127.0.0.1") as plain, RawConn.ip(253, "127.0.0.1") as raw:
        for conn in (plain, raw):
            conn.set_bpf(program)
            conn.set_read_deadline(time.monotonic() + 10)
        raw.write_to(Header(protocol=253, ttl=1, dst="127.0.0.1"), b"abcdef")
        buffer = bytearray(99)
        n, _, _ = plain.read_from(buffer)
        assert n == max(verdict - 20, 0)
        assert bytes(buffer[:n]) == b"abcdef"[:n]
        if verdict < 20:
            with pytest.raises(ValueError, match="header too short"):
                raw.read_from(buffer)
        else:
            assert bytes(raw.read_from(buffer)[1]) == b"abcdef"[: verdict - 20]


@privileged
def test_gre_by_batches_keeps_the_header():
    gre = bytes.fromhex(VECTORS["wire"]["gre"])
    with PacketConn.ip(47, "127.0.0.1") as conn:
        conn.set_read_deadline(time.monotonic() + 10)
        assert conn.write_batch([Message(gre, addr="127.0.0.1")]) == 1
        message = Message(bytearray(128))
        assert conn.read_batch([message]) == 1
        header = ipv4.parse_header(message.buffers[0])
        assert message.n == 20 + len(gre)
        assert bytes(message.buffers[0][header.len : message.n]) == gre
        assert message.addr == ("127.0.0.1", 0)


# Batches


@parity("ReadBatch", "WriteBatch")
@pytest.mark.parametrize("count", [1, 2, 7, 8, 64, 65, 200])
@pytest.mark.parametrize("kind", ["list", "batch"])
def test_batches(conn, count, kind):
    conn.set_control_message(ALL, True)
    payloads = [bytes([i % 251]) * (i % 40) for i in range(count)]
    write_whole(conn, [Message([p[:3], p[3:]], addr=conn.local_addr) for p in payloads])
    if kind == "list":
        got = [
            Message([bytearray(5), bytearray(60)], ipv4.new_control_message(ALL))
            for _ in range(count)
        ]
    else:
        got = MessageBatch(count, 64, ALL)
    if not moves_single_messages(conn):
        assert conn.read_batch(got) == count
    else:
        read_whole(conn, got)
    for i in range(count):
        message = got[i]
        assert b"".join(message.buffers)[: message.n] == payloads[i]
        assert message.addr == conn.local_addr
        assert (message.control.ttl, message.control.ifindex) == (64, 1)
        assert message.control.src == LOOPBACK


def test_one_system_call_moves_at_most_1024(conn):
    conn.receive_buffer = 1 << 22
    messages = [Message(struct.pack("!I", i), addr=conn.local_addr) for i in range(1100)]
    with PacketConn.udp() as sender:
        # The portable path moves one message a call.
        single = moves_single_messages(sender)
        assert sender.write_batch(messages) == (1 if single else 1024)
        assert sender.write_batch(messages[1024:]) == (1 if single else 76)


def test_empty_batches(conn):
    for nothing in ([], (), iter([]), MessageBatch(1, 1)[:0]):
        assert conn.read_batch(nothing) == 0
    assert conn.write_batch([]) == 0
    assert conn.write_all([]) == []


def test_a_batch_that_went_partly(conn):
    here = conn.local_addr
    messages = [Message(body, addr=here) for body in (b"0", b"1", bytes(70000), b"3")]
    sent = conn.write_batch(messages)
    assert sent == (1 if moves_single_messages(conn) else 2)
    while sent < 2:
        sent += conn.write_batch(messages[sent:])
    with pytest.raises(OSError, match="write_batch") as caught:
        conn.write_batch(messages[2:])
    assert caught.value.errno == errno.EMSGSIZE
    assert conn.write_batch(messages[3:]) == 1
    failed = conn.write_all(messages)
    assert [(i, e.errno) for i, e in failed] == [(2, errno.EMSGSIZE)]
    got = [conn.read_from(buffer := bytearray(9)) and bytes(buffer[:1]) for _ in range(6)]
    assert got == [b"0", b"1", b"3"] * 2


def test_messages_beyond_the_count_are_untouched(conn):
    conn.write_to(b"one", conn.local_addr)
    messages = [Message(bytearray(b"\xee" * 4), bytearray(4)) for _ in range(3)]
    assert conn.read_batch(messages) == 1
    for message in messages[1:]:
        assert (message.n, message.nn, message.flags, message.addr) == (0, 0, 0, None)
        assert message.buffers[0] == b"\xee" * 4


def test_a_destination_does_not_leak_into_the_next_send(conn):
    message = Message(b"x", addr=conn.local_addr)
    conn.write_batch([message])
    message.addr = None
    with pytest.raises(OSError) as caught:
        conn.write_batch([message])
    assert caught.value.errno == errno.EDESTADDRREQ


def test_one_message_twice(conn):
    message = Message(b"twice", addr=conn.local_addr)
    write_whole(conn, [message, message])
    assert conn.read_from(bytearray(9))[0] == conn.read_from(bytearray(9))[0] == 5
    inward = Message(bytearray(9))
    with pytest.raises(BufferError, match=r"ms\[1\]"):
        conn.read_batch([inward, inward])
    conn.write_to(b"ok", conn.local_addr)
    assert conn.read_batch([inward]) == 1


def test_a_message_in_flight_cannot_change(conn):
    message = Message(bytearray(9), bytearray(9))
    batch = MessageBatch(4, 16)
    with PacketConn.udp(("127.0.0.1", 0)) as other:
        threads = [
            threading.Thread(target=conn.read_batch, args=([message],)),
            threading.Thread(target=other.read_batch, args=(batch[1:3],)),
        ]
        for thread in threads:
            thread.start()
        until_it_waits(*threads)
        for change in (
            lambda: setattr(message, "buffers", []),
            lambda: setattr(message, "oob", None),
            lambda: setattr(message, "addr", None),
            lambda: setattr(message, "n", 0),
            lambda: other.read_batch([message]),
            lambda: conn.write_batch(batch),
            lambda: conn.write_batch([batch[2]]),
            lambda: setattr(batch[1], "addr", None),
        ):
            with pytest.raises(BufferError, match="in flight"):
                change()
        batch[0].n = 3  # a slot that is not in flight
        conn.write_to(b"a", conn.local_addr)
        conn.write_to(b"b", other.local_addr)
        for thread in threads:
            thread.join(5)
    message.buffers = []
    assert batch[1].n == 1


def test_concurrent_reads_and_writes(conn):
    conn.set_control_message(ALL, True)
    conn.receive_buffer = 1 << 21
    problems = []

    def read():
        buffer = bytearray(64)
        try:
            for _ in range(50):
                n, cm, src = conn.read_from(buffer)
                assert bytes(buffer[:n]) == PAYLOAD
                assert src == conn.local_addr
                assert cm is None or "," not in str(cm)
        except BaseException as error:
            problems.append(error)

    def write(i):
        try:
            for _ in range(50):
                conn.set_control_message(ALL, i % 2 == 0)
                conn.write_to(PAYLOAD, conn.local_addr, ControlMessage(src="127.0.0.1", ifindex=1))
        except BaseException as error:
            problems.append(error)

    threads = [threading.Thread(target=read) for _ in range(10)]
    threads += [threading.Thread(target=write, args=(i,)) for i in range(10)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert problems == []


@pytest.mark.parametrize("kind", ["list", "batch"])
def test_the_error_queue_is_readable_in_batches(conn, kind):
    conn.receive_errors = True
    conn.set_timestamping(1 << 1 | 1 << 4 | 1 << 11)  # transmit stamps, without payload: no name
    conn.write_to(b"stamp", conn.local_addr)
    messages = [Message(bytearray(64), bytearray(256))] if kind == "list" else MessageBatch(1, 64)
    deadline = time.monotonic() + 5
    while True:
        try:
            assert conn.read_batch(messages, socket.MSG_ERRQUEUE) == 1
            break
        except BlockingIOError:
            assert time.monotonic() < deadline
    assert messages[0].flags & socket.MSG_ERRQUEUE
    assert messages[0].addr is None
    assert messages[0].n == 0


# Groups


@parity("JoinGroup", "LeaveGroup", "JoinSourceSpecificGroup", "LeaveSourceSpecificGroup",
        "ExcludeSourceSpecificGroup", "IncludeSourceSpecificGroup")  # fmt: skip
def test_kernel_answers_to_memberships(conn):
    asm, ssm, here, other = "224.0.0.250", "232.0.1.249", "127.0.0.1", "127.0.0.2"

    def refused(number, call, *args):
        with pytest.raises(OSError, match=call.__name__) as caught:
            call(*args)
        assert caught.value.errno == number
        return str(caught.value)

    conn.join_group(asm, 1)
    text = refused(errno.EADDRINUSE, conn.join_group, asm, "lo")
    assert "224.0.0.250 on lo" in text
    refused(errno.EINVAL, conn.join_group, "10.0.0.1", 1)
    refused(errno.EINVAL, conn.join_group, "0.0.0.0", 1)
    refused(errno.ENODEV, conn.join_group, "224.0.0.251", 999)
    conn.exclude_source_specific_group(asm, here, 1)
    refused(errno.EADDRNOTAVAIL, conn.exclude_source_specific_group, asm, here, 1)
    conn.include_source_specific_group(asm, here, 1)
    refused(errno.EADDRNOTAVAIL, conn.include_source_specific_group, asm, here, 1)
    conn.leave_group(asm, 1)
    refused(errno.EADDRNOTAVAIL, conn.leave_group, asm, 1)
    refused(errno.EINVAL, conn.exclude_source_specific_group, asm, here, 1)
    refused(errno.EINVAL, conn.include_source_specific_group, asm, here, 1)
    conn.join_source_specific_group(ssm, here, (1, "lo"))
    refused(errno.EADDRNOTAVAIL, conn.join_source_specific_group, ssm, here, 1)
    refused(errno.EADDRNOTAVAIL, conn.leave_source_specific_group, ssm, other, 1)
    conn.leave_source_specific_group(ssm, here, 1)
    refused(errno.EINVAL, conn.leave_source_specific_group, ssm, here, 1)
    conn.join_source_specific_group(ssm, here, 1)
    conn.leave_group(ssm, 1)


def test_the_limits_of_memberships_are_named(conn):
    for i in range(20):
        conn.join_group(f"224.0.1.{i + 1}", 1)
    with pytest.raises(OSError, match="igmp_max_memberships") as caught:
        conn.join_group("224.0.2.1", 1)
    assert caught.value.errno == errno.ENOBUFS
    with PacketConn.udp() as other:
        for i in range(10):
            other.join_source_specific_group("232.1.1.1", f"10.0.0.{i + 1}", 1)
        with pytest.raises(OSError, match="igmp_max_msf") as caught:
            other.join_source_specific_group("232.1.1.1", "10.0.0.99", 1)
        assert caught.value.errno == errno.ENOBUFS


def test_what_is_no_group(conn):
    for call in (conn.join_group, conn.leave_group):
        for bad in (None, 5, "group", b"123", ()):
            with pytest.raises(ValueError, match="group"):
                call(bad)
    for call in (conn.join_source_specific_group, conn.include_source_specific_group):
        with pytest.raises(ValueError, match="source"):
            call("232.0.0.1", None)
    with pytest.raises(TypeError, match="interface"):
        conn.join_group("224.0.0.251", 1.5)


@pytest.mark.parametrize("kind", ["any", "one source"])
def test_multicast_between_hosts(pair, kind):
    group = "224.0.0.254" if kind == "any" else "232.0.1.254"
    with pair.b.call(PacketConn.udp, ("0.0.0.0", 5000), multicast_all=False) as receiver:
        receiver.set_read_deadline(time.monotonic() + 10)
        receiver.set_control_message(ALL, True)
        if kind == "any":
            receiver.join_group(group, "eth0")
        else:
            receiver.join_source_specific_group(group, "10.1.0.1", "eth0")
        with pair.a.call(PacketConn.udp, ("10.1.0.1", 0)) as sender:
            sender.multicast_interface = "eth0"
            for ttl in (1, 2, 3):
                sender.multicast_ttl = ttl
                sender.write_to(PAYLOAD, (group, 5000))
                buffer = bytearray(99)
                n, cm, src = receiver.read_from(buffer)
                assert bytes(buffer[:n]) == PAYLOAD
                assert (cm.ttl, str(cm.dst), src) == (ttl, group, sender.local_addr)
                assert cm.ifindex == receiver._interface_index("eth0")
        receiver.leave_group(group, "eth0")


def test_raw_multicast_between_hosts(pair):
    with pair.b.call(RawConn.ip, 253) as receiver, pair.a.call(RawConn.ip, 253) as sender:
        receiver.set_read_deadline(time.monotonic() + 10)
        receiver.join_group("224.0.0.254", "eth0")
        receiver.set_control_message(ALL, True)
        route = ControlMessage(ifindex=sender._interface_index("eth0"))
        sender.write_to(Header(protocol=253, ttl=1, tos=0xC0, dst="224.0.0.254"), b"hello", route)
        header, payload, cm = receiver.read_from(bytearray(99))
        assert (header.ttl, header.tos, str(header.src)) == (1, 0xC0, "10.1.0.1")
        assert (bytes(payload), str(cm.dst)) == (b"hello", "224.0.0.254")


# Filters


@parity("ICMPFilter on a conn", "SetICMPFilter")
@privileged
def test_icmp_filter_in_the_kernel(icmp):
    chosen = ICMPFilter()
    chosen.set_all(True)
    chosen.accept(ICMPType.ECHO_REPLY)
    icmp.icmp_filter = chosen
    assert icmp.icmp_filter == chosen
    icmp.write_to(echo(1), "127.0.0.1")
    buffer = bytearray(99)
    icmp.read_from(buffer)
    assert buffer[0] == 0  # the request, which came first, was blocked
    chosen.block(0)
    icmp.icmp_filter = chosen
    icmp.write_to(echo(2), "127.0.0.1")
    icmp.set_read_deadline(time.monotonic() + 0.2)
    with pytest.raises(TimeoutError):
        icmp.read_from(buffer)
    with pytest.raises(TypeError, match="icmp_filter"):
        icmp.icmp_filter = 5


def test_icmp_filter_elsewhere(conn):
    with pytest.raises(AttributeError, match="icmp_filter"):
        _ = conn.icmp_filter
    with pytest.raises(OSError) as caught:
        conn.icmp_filter = ICMPFilter()
    assert caught.value.errno in (errno.EOPNOTSUPP, errno.ENOPROTOOPT)


@parity("SetBPF")
def test_even_bytes_pass(conn):
    program = list(struct.iter_unpack("=HBBI", bytes.fromhex(VECTORS["bpf_even_byte_program"])))
    for form in (
        program,
        [bpf.RawInstruction(*i) for i in program],
        bpf.disassemble([bpf.RawInstruction(*i) for i in program])[0],
    ):
        conn.set_bpf(form)
        for i in range(10):
            conn.write_to(bytes([i]), conn.local_addr)
        got = []
        for _ in range(5):
            buffer = bytearray(9)
            assert conn.read_from(buffer)[0] == 1
            got.append(buffer[0])
        assert got == [0, 2, 4, 6, 8]
        drain(conn)
    conn.set_bpf(None)
    conn.set_bpf(None)
    conn.write_to(b"\1", conn.local_addr)
    assert conn.read_from(bytearray(9))[0] == 1


def test_programs_that_cannot_be(conn):
    for bad, error in (([], ValueError), ([(6, 0, 0, 0)] * 4097, ValueError),
                       ([(6, 0, 0)], (TypeError, ValueError)), ([(1 << 16, 0, 0, 0)], ValueError),
                       ([(6, 0, 0, 1 << 32)], ValueError),
                       (5, TypeError), ([None], TypeError)):  # fmt: skip
        with pytest.raises(error):
            conn.set_bpf(bad)
    with pytest.raises(OSError, match="SO_ATTACH_FILTER") as caught:
        conn.set_bpf([(0, 0, 0, 0)])
    assert caught.value.errno == errno.EINVAL


# Fragments of every size, so that no length is special


@privileged
def test_random_lengths_through_every_path(raw):
    rng = random.Random(5)
    with PacketConn.ip(253, "127.0.0.1") as plain:
        plain.set_read_deadline(time.monotonic() + 20)
        for _ in range(200):
            options = b"\1" * (4 * rng.randrange(11))
            body = rng.randbytes(rng.randrange(1200))
            raw.write_to(Header(protocol=253, ttl=1, dst="127.0.0.1", options=options), body)
            size = rng.randrange(1300)
            area = bytearray(b"\xaa" * 1400)
            n, _, _ = plain.read_from(memoryview(area)[:size])
            assert n == min(len(body), size)
            assert area[:n] == body[:n]
            assert area[size:] == b"\xaa" * (1400 - size)
            header, payload, _ = raw.read_from(bytearray(1400))
            assert (header.options, bytes(payload)) == (options, body)
