"""RawConn: whole packets, and what Linux does to the headers that a program writes."""

import errno
import socket
import struct
import time
from ipaddress import IPv4Address

import pytest
from support.packets import PAYLOAD, echo

import ipv4
from ipv4 import ControlFlags, ControlMessage, Header, HeaderFlags, PacketConn, RawConn

pytestmark = pytest.mark.privileged

LOCAL = IPv4Address("127.0.0.1")
FLAGS = ControlFlags.TTL | ControlFlags.DST | ControlFlags.INTERFACE


@pytest.fixture
def conn(raw):
    return raw


@pytest.mark.parity("RawConn", "NewRawConn", "RawConn.ReadFrom", "RawConn.WriteTo")
def test_icmp_echo_with_a_header_of_our_own():
    with RawConn.ip(1, "127.0.0.1") as conn:
        conn.set_deadline(time.monotonic() + 30)
        for seq in (1, 2, 3):
            conn.set_control_message(FLAGS, seq != 2)
            header = Header(tos=seq, total_len=43, ttl=seq, protocol=1, dst=LOCAL)
            assert header.marshal().hex() == f"450{seq}002b000000000{seq}010000000000007f000001"
            assert conn.write_to(header, echo(seq)) == 43
            for typ in (8, 0):
                room = bytearray(128)
                got, payload, cm = conn.read_from(room)
                assert payload == echo(seq, typ)
                room[20] ^= 0xFF
                assert payload != echo(seq, typ)  # it looks into the buffer
                assert (got.len, got.total_len, got.protocol, got.dst) == (20, 43, 1, LOCAL)
                assert got.compute_checksum() == got.checksum
                if typ == 8:
                    assert (got.tos, got.ttl) == (seq, seq)
                assert (cm is None) == (seq == 2)
                if cm is not None:
                    assert (cm.ttl, cm.src, cm.dst) == (got.ttl, LOCAL, LOCAL)


def sent(conn, payload=b"", cm=None, **fields):
    """Return the header as it arrives of a packet that is sent with these fields."""
    fields = {"ttl": 9, "protocol": 253, "src": LOCAL, "dst": LOCAL} | fields
    conn.write_to(Header(**fields), payload, cm)
    return conn.read_from(bytearray(256))[0]


@pytest.mark.parametrize(
    ("fields", "arrives"),
    [
        ({"total_len": 0}, {"total_len": 24}),
        ({"total_len": 9999}, {"total_len": 24}),
        ({"id": 0, "flags": 2}, {"id": 0, "flags": HeaderFlags.DONT_FRAGMENT}),
        ({"id": 77}, {"id": 77}),
        ({"src": None}, {"src": LOCAL}),
        ({"src": "203.0.113.9"}, {"src": IPv4Address("203.0.113.9")}),
        ({"tos": 0xFF}, {"tos": 0xFF}),
        ({"ttl": 1}, {"ttl": 1}),
        ({"ttl": 0}, {"ttl": 64}),  # the conn's own
        ({"flags": 4}, {"flags": HeaderFlags(4)}),
        ({"options": b"\x94\x04\0\0"}, {"options": b"\x94\x04\0\0", "len": 24, "total_len": 28}),
    ],
    ids=str,
)
@pytest.mark.parity("RawConn.WriteTo")
@pytest.mark.parity("what the kernel rewrites in a raw header")
def test_what_linux_leaves_and_what_it_rewrites(conn, fields, arrives):
    # What is not delivered back (a spoofed source, a TTL of 0) is still sent: seen by a capture.
    with socket.socket(socket.AF_PACKET, socket.SOCK_DGRAM, socket.htons(0x0800)) as tap:
        tap.bind(("lo", 0x0800))
        tap.settimeout(30)
        header = Header(**{"ttl": 9, "protocol": 253, "src": LOCAL, "dst": LOCAL} | fields)
        conn.write_to(header, b"1234")
        got = ipv4.parse_header(tap.recv(256))
    for name, value in arrives.items():
        assert getattr(got, name) == value
    assert got.compute_checksum() == got.checksum != 0
    assert got.version == 4


@pytest.mark.parity("RawConn.WriteTo")
@pytest.mark.parity("what the kernel rewrites in a raw header")
def test_the_platform_fills_id_checksum_and_source_when_zero(conn):
    got = sent(conn, b"x", src=None, id=0, checksum=0)
    assert got.src == LOCAL
    assert got.id != 0
    assert got.checksum == got.compute_checksum()
    assert sent(conn, b"x", checksum=0x1234).checksum != 0x1234


@pytest.mark.parity("RawConn.WriteTo")
def test_a_control_message_gives_the_source_and_its_dst_does_not_matter(conn):
    with RawConn.ip(253) as anywhere:
        anywhere.set_deadline(time.monotonic() + 30)
        cm = ControlMessage(src="127.0.0.7", dst="127.0.0.99")
        got = sent(anywhere, b"x", cm, src=None, dst="127.0.0.8")
        assert (got.src, got.dst) == (IPv4Address("127.0.0.7"), IPv4Address("127.0.0.8"))


@pytest.mark.parity("RawConn.WriteTo")
def test_a_received_message_handed_back_goes_where_the_header_says():
    with RawConn.ip(253, "127.0.0.5") as one, RawConn.ip(253, "127.0.0.6") as other:
        for each in (one, other):
            each.set_deadline(time.monotonic() + 30)
            each.set_control_message(FLAGS, True)
        one.write_to(Header(ttl=9, protocol=253, dst="127.0.0.6"), b"request")
        header, payload, cm = other.read_from(bytearray(64))
        assert payload == b"request"
        assert cm.dst == IPv4Address("127.0.0.6")
        other.write_to(Header(ttl=9, protocol=253, dst=header.src), b"answer", cm)
        header, payload, _ = one.read_from(bytearray(64))
        assert (payload, header.dst) == (b"answer", IPv4Address("127.0.0.5"))


@pytest.mark.parametrize("words", range(11))
@pytest.mark.parity("RawConn.ReadFrom")
@pytest.mark.parity(
    "IP options in received packets",
    "better than the reference: a buffer that cuts inside the options",
)
def test_options_and_buffers_of_every_length(conn, words):
    options, payload = b"\x01" * (4 * words), bytes(range(50))
    header = Header(ttl=9, protocol=253, src=LOCAL, dst=LOCAL, options=options)
    whole = 20 + len(options) + 50
    for size in (whole + 9, whole, whole - 1, 20 + len(options), 20 + len(options) - 1, 20, 19, 0):
        conn.write_to(header, payload)
        guarded = bytearray(b"\xee" * (size + 64))
        room = memoryview(guarded)[:size]
        if size < 20 + len(options):
            with pytest.raises(ValueError, match=r"header too short"):
                conn.read_from(room)
        else:
            got, received, cm = conn.read_from(room)
            assert got.options == options
            assert received == payload[: size - 20 - len(options)]
            assert cm is None
            del received
        assert guarded[size:] == b"\xee" * 64


def test_options_of_the_packet_before_do_not_linger(conn):
    assert sent(conn, options=b"\x01\x01\x01\x01").options == b"\x01\x01\x01\x01"
    assert sent(conn).options == b""


@pytest.mark.parametrize(
    ("change", "name"),
    [
        ({"len": 19}, "len"),
        ({"dst": None}, "dst"),
        ({"ttl": 256}, "ttl"),
        ({"tos": -1}, "tos"),
        ({"options": b"\x01"}, "options"),
    ],
    ids=str,
)
@pytest.mark.parity("RawConn.WriteTo")
def test_a_header_that_cannot_be_is_refused_and_not_sent(conn, change, name):
    header = Header(ttl=9, protocol=253, dst=LOCAL)
    for field, value in change.items():
        setattr(header, field, value)
    with pytest.raises(ValueError, match=rf"\b{name}\b"):
        conn.write_to(header, b"x")
    with pytest.raises(BlockingIOError):
        conn.read_from(bytearray(64), socket.MSG_DONTWAIT)


@pytest.mark.parity("RawConn.ReadFrom", "RawConn.WriteTo")
def test_a_wrong_argument_is_named(conn):
    header = Header(ttl=9, protocol=253, dst=LOCAL)
    for wrong in (None, b"", 5, "header"):
        with pytest.raises(TypeError, match=r"^header\b"):
            conn.write_to(wrong, b"x")
    for wrong in (None, 5, "text"):
        with pytest.raises(TypeError, match=r"^payload\b"):
            conn.write_to(header, wrong)
        with pytest.raises(TypeError, match=r"^buf\b"):
            conn.read_from(wrong)
    with pytest.raises(TypeError, match=r"^cm\b"):
        conn.write_to(header, b"x", b"")
    with pytest.raises(TypeError, match=r"^buf\b"):
        conn.read_from(b"read only")


@pytest.mark.parity("EMSGSIZE and a smaller path MTU")
def test_a_packet_longer_than_the_mtu_is_not_fragmented(pair):
    with RawConn.ip(253, netns=pair.a.path) as conn:
        header = Header(ttl=9, protocol=253, dst="10.1.0.2")
        assert conn.write_to(header, bytes(1480)) == 1500
        with pytest.raises(OSError, match=r"write_to") as caught:
            conn.write_to(header, bytes(1481))
        assert caught.value.errno == errno.EMSGSIZE


@pytest.mark.parity("NewRawConn")
def test_making_one_sets_hdrincl_and_other_sockets_are_refused():
    with socket.socket(socket.AF_INET, socket.SOCK_RAW, 253) as sock:
        assert sock.getsockopt(socket.IPPROTO_IP, 3) == 0
        with RawConn(sock):
            assert sock.getsockopt(socket.IPPROTO_IP, 3) == 1
    for kind in (socket.SOCK_DGRAM, socket.SOCK_STREAM):
        with socket.socket(socket.AF_INET, kind) as sock, pytest.raises(ValueError, match=r"sock"):
            RawConn(sock)


def test_the_sockets_own_tos_and_ttl_do_not_govern_whole_packets(conn):
    conn.tos, conn.ttl = 0x28, 77
    got = sent(conn, tos=1, ttl=9)
    assert (got.tos, got.ttl) == (1, 9)


def test_a_payload_outlives_the_call_and_pins_its_buffer(conn):
    conn.write_to(Header(ttl=9, protocol=253, dst=LOCAL), PAYLOAD)
    room = bytearray(64)
    _, payload, _ = conn.read_from(room)
    with pytest.raises(BufferError):
        room.extend(bytes(1 << 16))
    room[20:25] = b"WORLD"
    assert payload == b"WORLD" + PAYLOAD[5:]


def test_what_a_header_leaves_open_is_the_conns(conn):
    conn.ttl = 77
    given = Header(dst=LOCAL)
    before = repr(given)
    assert conn.write_to(given, PAYLOAD) == 20 + len(PAYLOAD)
    head, payload, cm = conn.receive()
    assert (head.ttl, head.protocol, head.total_len) == (77, 253, 20 + len(PAYLOAD))
    assert (payload, cm) == (PAYLOAD, None)
    assert repr(given) == before


def test_a_control_message_wins_over_the_header(conn):
    given = Header(ttl=5, tos=4, protocol=253, dst=LOCAL)
    conn.write_to(given, b"", ControlMessage(send_ttl=9, send_tos=8))
    head, _, _ = conn.receive()
    assert (head.ttl, head.tos) == (9, 8)
    assert (given.ttl, given.tos) == (5, 4)
    for told in (ControlMessage(segment_size=3), ControlMessage(send_options=b"\x01" * 4)):
        with pytest.raises(ValueError, match="segment_size|send_options"):
            conn.write_to(given, bytes(9), told)


def test_whole_packets_as_bytes(conn):
    options = b"\x94\x04\x00\x00"
    conn.write_to(Header(ttl=3, dst=LOCAL, options=options), PAYLOAD)
    head, payload, _ = conn.receive()
    assert (head.options, payload, type(payload)) == (options, PAYLOAD, bytes)
    conn.write_to(Header(ttl=3, dst=LOCAL), PAYLOAD)
    assert conn.receive(25)[1] == PAYLOAD[:5]
    for wrong, error in ((-1, ValueError), (1.5, TypeError), (1 << 31, ValueError)):
        with pytest.raises(error, match="max_size"):
            conn.receive(wrong)


def test_a_packet_above_the_mtu_is_told_who_fragments(pair):
    one, other = pair
    with one.call(RawConn.ip, 253) as conn:
        with pytest.raises(OSError, match=r"PacketConn\.ip") as caught:
            conn.write_to(Header(ttl=9, dst=other.address), bytes(1500))
        assert caught.value.errno == errno.EMSGSIZE
        assert f"{other.address}:" in str(caught.value)
        assert ":0" not in str(caught.value)


def test_ping_sockets(pair):
    with pytest.raises(PermissionError, match="ping_group_range"):
        pair.a.call(PacketConn.ping)  # a new network namespace lets nobody
    pair.a.sysctl("net.ipv4.ping_group_range", "0 0")
    with pair.a.call(PacketConn.ping) as conn:
        conn.set_read_deadline(time.monotonic() + 5)
        conn.set_control_message(ControlFlags.TTL, True)
        conn.write_to(struct.pack("!BBHHH", 8, 0, 0, 0, 7) + b"ping", "10.1.0.2")
        buffer = bytearray(64)
        n, cm, src = conn.read_from(buffer)
        assert (buffer[0], bytes(buffer[6:n]), src[0], cm.ttl) == (0, b"\0\7ping", "10.1.0.2", 64)


@pytest.mark.parity("Router Alert and IGMP")
def test_router_alert_on_a_forwarding_router(chain):
    router = chain.routers[0]
    with router.call(RawConn.ip, 253, router_alert=True) as conn:
        conn.set_read_deadline(time.monotonic() + 5)
        assert conn.router_alert is True
        with chain.client.call(RawConn.ip, 253) as sender:
            header = Header(
                protocol=253, ttl=9, dst=chain.server.address, options=ipv4.ROUTER_ALERT
            )
            sender.write_to(header, b"look")
        got, payload, _ = conn.read_from(bytearray(99))
        assert (str(got.dst), bytes(payload)) == (chain.server.address, b"look")
        assert got.options == ipv4.ROUTER_ALERT
        conn.router_alert = False
