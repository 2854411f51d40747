"""PacketConn: single datagrams, control messages, truncation, options."""

import errno
import os
import random
import socket
import threading
import time
from functools import partial
from ipaddress import IPv4Address

import pytest
from support import VECTORS
from support.packets import PAYLOAD, echo
from support.waiting import until_it_waits

import ipv4
from ipv4 import (
    ControlFlags,
    ControlMessage,
    Header,
    Message,
    MessageBatch,
    PacketConn,
    RawConn,
)

FLAGS = ControlFlags.TTL | ControlFlags.DST | ControlFlags.INTERFACE
ALL = FLAGS | ControlFlags.SRC
LOCAL = IPv4Address("127.0.0.1")


@pytest.mark.parity(
    "NewPacketConn", "PacketConn", "PacketConn.ReadFrom", "PacketConn.WriteTo",
    "SetControlMessage",
)  # fmt: skip
def test_udp_with_control_messages_on_and_off(conn, loopback):
    for ttl, on in ((1, True), (2, False), (3, True)):
        conn.set_control_message(FLAGS, on)
        conn.ttl = ttl
        assert conn.write_to(PAYLOAD, conn.local_addr) == len(PAYLOAD)
        room = bytearray(128)
        n, cm, src = conn.read_from(room)
        assert (n, room[:n], src) == (15, PAYLOAD, conn.local_addr)
        if on:
            assert (cm.ttl, cm.src, cm.dst, cm.ifindex) == (ttl, LOCAL, LOCAL, loopback.index)
        else:
            assert cm is None


@pytest.mark.privileged
@pytest.mark.parity("PacketConn.ReadFrom", "PacketConn.WriteTo")
def test_icmp_echo_is_answered_by_the_stack():
    with PacketConn.ip(1) as conn:
        conn.set_deadline(time.monotonic() + 30)
        for seq, on in ((1, True), (2, False), (3, True)):
            conn.set_control_message(FLAGS, on)
            assert conn.write_to(echo(seq), "127.0.0.1") == 23
            for typ in (8, 0):  # a raw socket hears its own request too
                room = bytearray(128)
                n, cm, src = conn.read_from(room)
                assert (room[:n], src) == (echo(seq, typ), ("127.0.0.1", 0))
                assert (cm is not None) == on


@pytest.mark.privileged
@pytest.mark.parity("PacketConn.ReadFrom", "PacketConn.WriteTo")
def test_gre_datagrams():
    inner = Header(total_len=35, ttl=1, protocol=255, src="192.0.2.1", dst="192.0.2.254").marshal()
    datagram = bytes.fromhex("0000080000000000") + inner + PAYLOAD
    with PacketConn.ip(47, "127.0.0.1") as conn:
        conn.set_deadline(time.monotonic() + 30)
        assert conn.write_to(datagram, "127.0.0.1", ControlMessage(src=LOCAL)) == 43
        room = bytearray(128)
        n, _, src = conn.read_from(room)
        assert (room[:n], src) == (datagram, ("127.0.0.1", 0))


PKTINFO = (ControlFlags.SRC, ControlFlags.DST, ControlFlags.INTERFACE)


@pytest.mark.parametrize("off", PKTINFO)
@pytest.mark.parity("SetControlMessage")
@pytest.mark.parity("better than the reference: one flag turned off")
def test_turning_one_flag_off_keeps_what_another_needs(conn, off, loopback):
    conn.set_control_message(ALL, True)
    conn.set_control_message(off, False)
    assert conn.control_flags == ALL & ~off
    conn.write_to(b"x", conn.local_addr)
    _, cm, _ = conn.read_from(bytearray(1))
    assert (cm.ttl, cm.dst, cm.ifindex) == (64, LOCAL, loopback.index)
    for last in PKTINFO:
        conn.set_control_message(last, False)
    assert conn.getsockopt(socket.IPPROTO_IP, 8) == 0
    conn.write_to(b"x", conn.local_addr)
    _, cm, _ = conn.read_from(bytearray(1))
    assert (cm.ttl, cm.dst, cm.ifindex) == (64, None, 0)


@pytest.mark.parity("SetControlMessage")
def test_no_flag_is_no_error_and_an_unknown_one_is_refused(conn):
    conn.set_control_message(0, True)
    assert conn.control_flags == 0
    for wrong in (-1, 1 << 20):
        with pytest.raises(ValueError, match=r"^flags"):
            conn.set_control_message(wrong, True)
    with pytest.raises(TypeError, match=r"^flags"):
        conn.set_control_message("ttl", True)


@pytest.mark.parametrize("before", [True, False])
@pytest.mark.parity(
    "how control data is cut", "better than the reference: control messages that others enabled"
)
def test_what_others_switch_on_does_not_push_ttl_or_destination_out(conn, before, loopback):
    if before:
        conn.set_control_message(FLAGS, True)
    with socket.socket(fileno=os.dup(conn.fileno())) as other:
        for level, option in ((1, 29), (1, 40), (0, 13), (0, 20), (0, 6)):
            # SO_TIMESTAMP, SO_RXQ_OVFL, IP_RECVTOS, IP_RECVORIGDSTADDR, IP_RECVOPTS
            other.setsockopt(level, option, 1)
    if not before:
        conn.set_control_message(FLAGS, True)
    conn.write_to(b"x", conn.local_addr)
    _, cm, _ = conn.read_from(bytearray(1))
    assert (cm.ttl, cm.dst, cm.ifindex) == (64, LOCAL, loopback.index)


@pytest.mark.parity("PacketConn.ReadFrom")
@pytest.mark.parity("payload or control data cut")
def test_a_datagram_longer_than_its_buffer_can_be_told(conn):
    for _ in range(2):
        conn.write_to(PAYLOAD, conn.local_addr)
    room = bytearray(5)
    n, _, _ = conn.read_from(room, socket.MSG_TRUNC | socket.MSG_PEEK)
    assert (n, room) == (15, b"HELLO")
    assert conn.read_from(room)[0] == 5
    assert conn.read_from(room, socket.MSG_TRUNC)[0] == 15


@pytest.mark.parity("PacketConn.ReadFrom", "PacketConn.WriteTo")
def test_an_empty_datagram_is_a_datagram(conn):
    assert conn.write_to(b"", conn.local_addr) == 0
    assert conn.read_from(bytearray(4)) == (0, None, conn.local_addr)


OPTIONS = [words * 4 for words in range(11)]


@pytest.mark.privileged
@pytest.mark.parametrize("length", OPTIONS)
@pytest.mark.parametrize("control", [False, True])
@pytest.mark.parity("PacketConn.ReadFrom")
@pytest.mark.parity(
    "batches keep the header that read_from strips, with options and without",
    "IP options in received packets",
    "better than the reference: the count of a packet with options",
)
def test_options_are_stripped_whole_and_the_payload_is_intact(length, control):
    payload = bytes(range(100))
    header = Header(ttl=9, protocol=253, dst=LOCAL, src=LOCAL, options=b"\x01" * length)
    with RawConn.ip(253, LOCAL) as sender, PacketConn.ip(253, LOCAL) as conn:
        conn.set_deadline(time.monotonic() + 30)
        conn.set_control_message(FLAGS, control)
        # Buffers larger than, just as large as, and smaller than the payload.
        for size in (200, 141, 140, 101, 100, 99, 50, 41, 40, 39, 20, 4, 1, 0):
            sender.write_to(header, payload)
            guarded = bytearray(b"\xee" * (size + 64))
            n, cm, src = conn.read_from(memoryview(guarded)[:size])
            assert (n, src) == (min(100, size), ("127.0.0.1", 0))
            assert guarded[:n] == payload[:n]
            assert guarded[size:] == b"\xee" * 64
            assert (cm.ttl if control else cm) == (9 if control else None)
        sender.write_to(header, payload)
        n, _, _ = conn.read_from(bytearray(7), socket.MSG_TRUNC)
        assert n == 100


@pytest.mark.parity("PacketConn.WriteTo", "ControlMessage")
def test_a_control_message_chooses_source_and_interface(loopback):
    with PacketConn.udp() as conn:
        conn.set_deadline(time.monotonic() + 30)
        conn.set_control_message(FLAGS, True)
        port = conn.local_addr[1]
        cm = ControlMessage(src="127.0.0.7", ifindex=loopback.index)
        conn.write_to(b"x", ("127.0.0.9", port), cm)
        _, got, src = conn.read_from(bytearray(1))
        assert src == ("127.0.0.7", port)
        assert (got.src, got.dst) == (IPv4Address("127.0.0.7"), IPv4Address("127.0.0.9"))


@pytest.mark.parity("PacketConn.WriteTo")
def test_a_received_control_message_handed_back_sends_only_what_was_meant(loopback):
    with PacketConn.udp() as conn, PacketConn.udp(("127.0.0.1", 0)) as peer:
        for each in (conn, peer):
            each.set_deadline(time.monotonic() + 30)
        conn.set_control_message(ALL | ControlFlags.TOS, True)
        peer.set_control_message(ALL | ControlFlags.TOS, True)
        peer.ttl, peer.tos = 5, 0x28
        peer.write_to(b"request", ("127.0.0.77", conn.local_addr[1]))
        _, cm, src = conn.read_from(bytearray(16))
        assert (cm.ttl, cm.tos, cm.dst) == (5, 0x28, IPv4Address("127.0.0.77"))
        conn.write_to(b"answer", src, cm)
        _, got, _ = peer.read_from(bytearray(16))
        # Neither the TTL nor the peer's own address as source has leaked.
        assert (got.ttl, got.tos, got.ifindex) == (64, 0, loopback.index)
        assert got.src == LOCAL
        cm.src = "127.0.0.77"
        conn.write_to(b"answer", src, cm)
        assert peer.read_from(bytearray(16))[1].src == IPv4Address("127.0.0.77")


@pytest.mark.parametrize(
    ("cm", "answer"),
    [
        (ControlMessage(ifindex=9999), {errno.ENODEV}),
        (ControlMessage(src="203.0.113.1"), {errno.ENETUNREACH, errno.EINVAL}),
        (ControlMessage(src="224.0.0.1"), {errno.EINVAL}),
    ],
    ids=str,
)
def test_what_the_kernel_refuses_of_a_control_message(conn, cm, answer):
    with pytest.raises(OSError, match=r"write_to") as caught:
        conn.write_to(b"x", conn.local_addr, cm)
    assert caught.value.errno in answer


@pytest.mark.parametrize(
    ("data", "dst", "answer"),
    [
        (bytes(65508), ("127.0.0.1", 9), errno.EMSGSIZE),
        (b"x", ("127.0.0.1", 0), errno.EINVAL),
        (b"x", None, errno.EDESTADDRREQ),
        (b"x", ("127.255.255.255", 9), errno.EACCES),
    ],
    ids=["too long", "port 0", "no destination", "broadcast"],
)
@pytest.mark.parity("PacketConn.WriteTo")
@pytest.mark.parity("EMSGSIZE and a smaller path MTU")
def test_what_the_kernel_refuses_of_a_datagram(data, dst, answer):
    with PacketConn.udp() as conn, pytest.raises(OSError, match=r"write_to") as caught:
        conn.write_to(data, dst)
    assert caught.value.errno == answer


WRONG = {
    "data": [({"data": wrong}, TypeError) for wrong in (None, "text", 5, [1])],
    "buf": [({"buf": wrong}, TypeError) for wrong in (None, "text", 5, b"read only")],
    "dst": [
        ({"dst": wrong}, ValueError)
        for wrong in ("localhost", ("::1", 9), ("127.0.0.1", 65536), ("127.0.0.1", -1), b"123")
    ],
    "cm": [({"cm": wrong}, TypeError) for wrong in (b"", 5, {})],
    "flags": [({"flags": 1 << 40}, ValueError), ({"flags": "x"}, TypeError)],
}
CASES = [(name, *case) for name, cases in WRONG.items() for case in cases]


@pytest.mark.parametrize(("name", "arguments", "error"), CASES, ids=str)
@pytest.mark.parity("PacketConn.ReadFrom", "PacketConn.WriteTo")
def test_a_wrong_argument_is_named(conn, name, arguments, error):
    if name == "buf":
        call = partial(conn.read_from, **arguments)
    else:
        call = partial(conn.write_to, **{"data": b"x", "dst": conn.local_addr} | arguments)
    with pytest.raises(error, match=rf"^{name}\b"):
        call()
    if name == "flags":
        with pytest.raises(error, match=r"^flags\b"):
            conn.read_from(bytearray(1), **arguments)


@pytest.mark.parity("PacketConn.WriteTo")
def test_a_connected_socket_sends_to_its_peer_and_elsewhere(conn):
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.connect(conn.local_addr)
        with PacketConn(sock) as other, PacketConn.udp(("127.0.0.1", 0)) as third:
            third.set_deadline(time.monotonic() + 30)
            other.write_to(b"peer")
            assert conn.read_from(bytearray(8))[2] == other.local_addr
            other.write_to(b"third", third.local_addr)
            assert third.read_from(bytearray(8))[2] == other.local_addr


def test_buffers_of_many_kinds(conn):
    import array

    for data in (b"abcd", bytearray(b"abcd"), memoryview(b"abcd"), array.array("B", b"abcd")):
        conn.write_to(data, conn.local_addr)
        room = array.array("H", bytes(8))
        n, _, _ = conn.read_from(room)
        assert room.tobytes()[:n] == b"abcd"
    with pytest.raises((BufferError, TypeError)):
        conn.read_from(memoryview(bytearray(8))[::2])


@pytest.mark.parity("PacketConn.ReadFrom", "PacketConn.WriteTo")
@pytest.mark.parity("deadlines")
def test_many_threads_read_and_write_at_once(conn, loopback):
    readers, writers, failures = 8, 16, []
    cm = ControlMessage(src=LOCAL, ifindex=loopback.index)
    conn.receive_buffer = 1 << 20

    def read():
        room = bytearray(128)
        n, got, src = conn.read_from(room)
        assert (room[:n], src) == (PAYLOAD, conn.local_addr)
        assert "," not in str(got)

    def write(on):
        conn.set_control_message(ALL, on)
        assert conn.write_to(PAYLOAD, conn.local_addr, cm) == 15

    def guarded(function, *arguments):
        try:
            function(*arguments)
        except BaseException as error:
            failures.append(error)

    jobs = [(read,)] * readers + [(write, bool(i % 2)) for i in range(writers)]
    jobs += [(read,)] * (writers - readers)
    threads = [threading.Thread(target=guarded, args=job) for job in jobs]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert not failures
    with pytest.raises(BlockingIOError):
        conn.read_from(bytearray(1), socket.MSG_DONTWAIT)


# What is cut of control data, by the room there was for it


HEADER = socket.CMSG_LEN(0)
SECOND = socket.CMSG_SPACE(12)  # where the TTL's message begins, behind IP_PKTINFO's
WHOLE = SECOND + HEADER + 4
LADDER = [(0, ""), (HEADER - 1, ""), (HEADER, ""), (HEADER + 11, ""), (HEADER + 12, "dst"),
          (SECOND + HEADER - 1, "dst"), (SECOND + HEADER, "dst"), (SECOND + HEADER + 1, "dst ttl"),
          (WHOLE - 1, "dst ttl"), (WHOLE, "dst ttl"), (WHOLE + 3, "dst ttl"),
          (WHOLE + 4, "dst ttl")]  # fmt: skip


@pytest.mark.parametrize(("room", "told"), LADDER)
@pytest.mark.parity("Message")
@pytest.mark.parity("how control data is cut", "payload or control data cut")
def test_cut_control_data_is_never_passed_off_as_whole(conn, room, told):
    cut = room < WHOLE
    conn.set_control_message(FLAGS, True)
    conn.write_to(b"x", conn.local_addr)
    message = ipv4.Message(bytearray(8), bytearray(room) if room else None)
    assert conn.read_batch([message]) == 1
    assert bool(message.flags & socket.MSG_CTRUNC) == cut
    cm = ControlMessage()
    cm.parse(bytes(message.oob or b"")[: message.nn])
    assert ("dst" in told) == (cm.dst == LOCAL)
    assert ("ttl" in told) == (cm.ttl == 64)
    if cut:
        with pytest.raises(ValueError):
            _ = message.control
    else:
        assert (message.control.ttl, message.control.dst) == (64, LOCAL)


@pytest.mark.parity("PacketConn.LocalAddr")
def test_local_addr_and_repr(conn):
    host, port = conn.local_addr
    assert (host, port > 0) == ("127.0.0.1", True)
    assert repr(conn.local_addr) in repr(conn)
    assert conn.fileno() >= 0
    conn.close()
    assert "closed" in repr(conn)


def test_a_datagram_as_bytes(conn):
    conn.write_to(b"whole", conn.local_addr)
    assert conn.receive() == (b"whole", None, conn.local_addr)
    conn.write_to(b"whole", conn.local_addr)
    assert conn.receive(2)[0] == b"wh"
    conn.write_to(b"", conn.local_addr)
    assert conn.receive()[0] == b""
    conn.set_control_message(ControlFlags.TTL, True)
    conn.write_to(bytes(65507), conn.local_addr)
    data, cm, src = conn.receive(flags=socket.MSG_PEEK)
    assert (len(data), cm.ttl, src) == (65507, 64, conn.local_addr)
    assert conn.receive(9, socket.MSG_TRUNC)[0] == bytes(9)
    for wrong, error in ((-1, ValueError), ("9", TypeError), (1 << 31, ValueError)):
        with pytest.raises(error, match="max_size"):
            conn.receive(wrong)


def test_short_buffers_are_refused_while_datagrams_come_joined(conn):
    """With UDP_GRO what does not fit is lost; MSG_TRUNC says that one knows."""
    conn.set_control_message(ControlFlags.SEGMENT_SIZE, True)
    conn.write_to(b"data", conn.local_addr)
    for call, name in (
        (lambda: conn.read_from(bytearray(65534)), "buf"),
        (lambda: conn.receive(1500), "max_size"),
        (lambda: conn.read_batch([Message(bytearray(65535)), Message(bytearray(9))]), "ms.1."),
        (lambda: conn.read_batch(MessageBatch(2, 1500)), "size"),
    ):
        with pytest.raises(ValueError, match=f"{name}.*65535"):
            call()
    assert conn.read_from(bytearray(1), socket.MSG_TRUNC | socket.MSG_PEEK)[0] == 4
    halves = [bytearray(65000), bytearray(535)]
    assert conn.read_batch([Message(halves)]) == 1
    conn.set_control_message(ControlFlags.SEGMENT_SIZE, False)
    conn.write_to(b"data", conn.local_addr)
    assert conn.read_from(bytearray(9))[0] == 4


@pytest.mark.parametrize(
    ("dst", "told", "words"),
    [
        (("127.0.0.1", 9), {"src": "192.0.2.77"}, "from 192.0.2.77.*source"),
        (("127.0.0.1", 9), {"ifindex": 9999}, "interface 9999"),
        (("127.0.0.1", 9), {"ifindex": 9999, "src": "127.0.0.1"}, "interface 9999"),
        (("255.255.255.255", 9), {}, "broadcast=True"),
        (("127.0.0.1", 0), {}, "no port"),
        (None, {}, "destination"),
    ],
)
def test_an_error_names_what_is_at_fault(conn, dst, told, words):
    cm = ControlMessage(**told)
    with pytest.raises(OSError, match=words) as single:
        conn.write_to(b"x", dst, cm)
    message = Message(b"x", cm.marshal() or None, dst)
    with pytest.raises(OSError, match=words) as batch:
        conn.write_batch([message])
    ((_, listed),) = conn.write_all([message])
    assert single.value.errno == batch.value.errno == listed.errno
    if not told:
        with pytest.raises(type(single.value), match=words):
            conn.write_to(b"x", dst)


def test_control_messages_turned_off_leave_no_trace(conn):
    """Off again, reads are the plain ones; what somebody else switched on is told all the same."""
    on = {socket.IPPROTO_IP: 12}  # IP_RECVTTL
    for level, option in on.items():
        conn.set_control_message(ControlFlags.TOS, True)
        conn._sock.setsockopt(level, option, 1)
        conn.set_control_message(ControlFlags.TOS, False)
        conn.write_to(b"x", conn.local_addr)
        assert conn.receive()[1].ttl == 64
        conn.setsockopt(level, option, 0)
        conn.set_control_message(ControlFlags.TOS, False)
        conn.write_to(b"x", conn.local_addr)
        assert conn.receive()[1] is None


def test_what_was_on_before_the_conn_is_told():
    sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    sock.bind(("127.0.0.1", 0))
    sock.setsockopt(socket.IPPROTO_IP, 12, 1)  # IP_RECVTTL
    with PacketConn(sock) as conn:
        conn.write_to(b"x", conn.local_addr)
        assert conn.receive()[1].ttl == 64


def test_forms_of_a_destination(conn):
    host, port = conn.local_addr
    for dst in ((host, port), (LOCAL, port), (LOCAL.packed, port)):
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


def test_an_array_and_a_mapping_are_buffers(conn, tmp_path):
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


def test_what_somebody_else_switched_on_pushes_nothing_out(conn):
    conn.set_control_message(ALL, True)
    for level, option in ((socket.SOL_SOCKET, 35), (socket.SOL_SOCKET, 40), (socket.IPPROTO_IP, 13),
                          (socket.IPPROTO_IP, 20), (socket.IPPROTO_IP, 6), (socket.IPPROTO_IP, 7),
                          (socket.IPPROTO_IP, 25)):  # fmt: skip
        conn.setsockopt(level, option, 1)
    conn.write_to(b"x", conn.local_addr)
    _, cm, _ = conn.read_from(bytearray(1))
    assert (cm.ttl, cm.dst, cm.ifindex) == (64, LOCAL, 1)
    assert cm.tos == 0
    assert cm.timestamp > 0
    assert cm.original_dst == conn.local_addr


PADDED = SECOND + socket.CMSG_SPACE(4)
ROOMS = [  # bytes of room, ttl, dst
    (0, 0, None), (8, 0, None), (HEADER - 1, 0, None),
    (HEADER + 12, 0, "127.0.0.1"), (SECOND, 0, "127.0.0.1"), (SECOND + HEADER - 1, 0, "127.0.0.1"),
    (WHOLE, 64, "127.0.0.1"), (WHOLE + 3, 64, "127.0.0.1"), (WHOLE + 4, 64, "127.0.0.1"),
    (128, 64, "127.0.0.1"),
]  # fmt: skip


@pytest.mark.parametrize(("room", "ttl", "dst"), ROOMS)
@pytest.mark.parity("payload or control data cut")
def test_no_byte_beyond_the_room_for_control_data_is_written(conn, room, ttl, dst):
    cut = room < WHOLE
    conn.set_control_message(ALL, True)
    conn.write_to(b"x", conn.local_addr)
    oob = bytearray(b"\xee" * 256)
    message = Message(bytearray(4), memoryview(oob)[:room])
    conn.read_batch([message])
    assert oob[room:] == b"\xee" * (256 - room)
    assert bool(message.flags & socket.MSG_CTRUNC) == cut
    if not cut:
        assert WHOLE <= message.nn <= min(room, PADDED)
    cm = ControlMessage()
    cm.parse(oob[: message.nn])
    assert (cm.ttl, str(cm.dst) if cm.dst else None) == (ttl, dst)
    if cut:
        with pytest.raises(ValueError, match="cut"):
            _ = message.control
    else:
        assert message.control.ttl == 64


@pytest.mark.parity("ControlMessage on writes")
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


def test_echo_vectors():
    assert echo(1).hex() == VECTORS["wire"]["echo_id1234_seq1"]
    assert echo(64).hex() == VECTORS["wire"]["echo_id1234_seq64"]


@pytest.mark.privileged
@pytest.mark.parity("hostile headers and control data")
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


def test_results_that_are_held_keep_their_values(conn):
    """What a read returned is nobody's to change, though what nobody holds is filled again."""
    sizes = [3, 3, 300, 300, 70, 0, 0, 300]
    held = []
    for size in sizes:
        conn.write_to(bytes(size), conn.local_addr)
        held.append(conn.read_from(bytearray(400)))
        n, cm, src = conn.write_to(b"x", conn.local_addr), None, None
        n, cm, src = conn.read_from(bytearray(400))
        assert (n, cm, src) == (1, None, conn.local_addr)
    assert held == [(size, None, conn.local_addr) for size in sizes]
    assert len({id(each) for each in held}) == len(held)


def test_destinations_in_turn_reach_each_its_own():
    """More of them than a conn remembers, and a list, which may change between two writes."""
    with PacketConn.udp(("0.0.0.0", 0)) as conn:
        conn.set_control_message(ControlFlags.DST, True)
        port = conn.local_addr[1]
        hosts = [(f"127.0.0.{n}", port) for n in range(1, 13)]
        for host in [*hosts, *hosts, *reversed(hosts)]:
            conn.write_to(b"x", host)
            assert str(conn.receive()[1].dst) == host[0]


def test_a_bytearray_keeps_its_place_while_a_read_waits(conn):
    room = bytearray(8)
    reader = threading.Thread(target=conn.read_from, args=(room,), daemon=True)
    reader.start()
    until_it_waits(reader)
    with pytest.raises(BufferError):
        room.extend(bytes(100))
    conn.write_to(b"12345678", conn.local_addr)
    reader.join()
    assert room == b"12345678"
    room.extend(bytes(100))


def test_a_bytearray_is_free_after_a_call_that_failed(conn):
    room = bytearray(8)
    with pytest.raises(BlockingIOError):
        conn.read_from(room, socket.MSG_DONTWAIT)
    conn.set_deadline(1)
    with pytest.raises(TimeoutError):
        conn.read_from(room)
    with pytest.raises(TimeoutError):
        conn.write_to(room, conn.local_addr)
    conn.close()
    for call in (partial(conn.read_from, room), partial(conn.write_to, room, ("127.0.0.1", 9))):
        with pytest.raises(OSError, match="closed"):
            call()
    room.extend(b"x")
