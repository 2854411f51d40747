"""Where Go's golang.org/x/net/ipv4 goes wrong, this library does not.

One test each; what it asserts does not hold there. Numbers go#N are issues of golang/go.
"""

import errno
import signal
import socket
import struct
import time
from ipaddress import IPv4Address

import pytest
from support import eventually

import ipv4
from ipv4 import ControlFlags, ControlMessage, Header, ICMPFilter, Message, PacketConn, RawConn, bpf

LOCAL = IPv4Address("127.0.0.1")
FLAGS = ControlFlags.TTL | ControlFlags.DST | ControlFlags.INTERFACE
WITH_OPTIONS = Header(ttl=9, protocol=253, src=LOCAL, dst=LOCAL, options=b"\x94\x04\0\0")

privileged = pytest.mark.privileged


@privileged
def test_01_the_count_of_a_packet_with_options_is_that_of_its_payload(raw, payloads):
    raw.write_to(WITH_OPTIONS, b"seven.!")
    room = bytearray(64)
    assert payloads.read_from(room)[0] == 7
    assert room[:7] == b"seven.!"


@privileged
def test_02_a_filters_verdict_shorter_than_a_header_is_no_negative_count(payloads):
    payloads.set_bpf([bpf.RetConstant(4)])
    payloads.write_to(b"12345", "127.0.0.1")
    assert payloads.read_from(bytearray(64))[0] == 0


@privileged
def test_03_a_buffer_that_cuts_inside_the_options_is_an_error_not_a_crash(raw, payloads):
    for _ in range(2):
        raw.write_to(WITH_OPTIONS, b"x")
        assert payloads.read_from(bytearray(0))[0] == 0
    with pytest.raises(ValueError, match=r"extension header too short"):
        raw.read_from(bytearray(22))
    assert raw.read_from(bytearray(25))[1] == b"x"


def test_04_the_multicast_interface_is_read_back_go41854(conn, loopback):
    conn.multicast_interface = loopback.index
    assert conn.multicast_interface == (loopback.index, loopback.name)


def test_05_a_control_message_of_level_0_and_type_0_is_parsed(conn):
    cm = ControlMessage()
    cm.parse(struct.pack("@Lii", 20, 0, 0) + b"data" + bytes(4))
    assert cm.ttl == 0


def test_06_a_ttl_is_the_native_integer_that_the_kernel_sends():
    cm = ControlMessage()
    cm.parse(struct.pack("@Liii", 20, 0, 2, 64))
    assert cm.ttl == 64


def test_07_a_failed_batch_raises_and_an_empty_one_is_zero(conn):
    assert conn.read_batch([]) == conn.write_batch([]) == 0
    with pytest.raises(BlockingIOError):
        conn.read_batch([Message(bytearray(1))], socket.MSG_DONTWAIT)
    with pytest.raises(OSError) as caught:
        conn.write_batch([Message(b"x")])
    assert caught.value.errno == errno.EDESTADDRREQ


def test_08_entries_of_the_error_queue_without_a_name_are_read_go47926(conn):
    conn.set_timestamping(1 << 1 | 1 << 4 | 1 << 7 | 1 << 11)
    conn.write_to(b"x", conn.local_addr)
    message = Message(bytearray(64), bytearray(256))

    def came():
        try:
            return conn.read_batch([message], socket.MSG_ERRQUEUE | socket.MSG_DONTWAIT)
        except BlockingIOError:
            return 0

    assert eventually(came) == 1
    assert message.addr is None


def test_09_control_messages_that_others_enabled_destroy_none_of_ours(conn, loopback):
    conn.set_control_message(FLAGS, True)
    conn.setsockopt(socket.SOL_SOCKET, 29, 1)  # SO_TIMESTAMP
    conn.write_to(b"x", conn.local_addr)
    _, cm, _ = conn.read_from(bytearray(1))
    assert (cm.ttl, cm.dst, cm.ifindex) == (64, LOCAL, loopback.index)


def test_10_truncation_can_be_seen(conn):
    conn.set_control_message(FLAGS, True)
    for _ in range(2):
        conn.write_to(b"12345", conn.local_addr)
    assert conn.read_from(bytearray(2), socket.MSG_TRUNC)[0] == 5
    message = Message(bytearray(2), bytearray(16))
    conn.read_batch([message])
    assert message.flags & socket.MSG_TRUNC
    assert message.flags & socket.MSG_CTRUNC


def test_11_turning_one_flag_off_leaves_the_others_on(conn, loopback):
    conn.set_control_message(FLAGS, True)
    conn.set_control_message(ControlFlags.DST, False)
    conn.write_to(b"x", conn.local_addr)
    assert conn.read_from(bytearray(1))[1].ifindex == loopback.index


def test_12_parsing_leaves_nothing_behind_and_writes_into_nobodys_memory():
    header = Header()
    header.parse(WITH_OPTIONS.marshal())
    header.parse(Header(dst=LOCAL).marshal())
    assert header.options == b""
    given = bytearray(LOCAL.packed)
    cm = ControlMessage(dst=bytes(given))
    before = cm.dst
    cm.parse(struct.pack("@Liii4s4s", 28, 0, 8, 1, bytes(4), b"\x0a\0\0\x09"))
    assert (before, given, cm.dst) == (LOCAL, LOCAL.packed, IPv4Address("10.0.0.9"))


def test_13_a_header_that_cannot_be_is_not_marshalled():
    for options in (b"\x01", bytes(44)):
        with pytest.raises(ValueError, match=r"options"):
            Header(dst=LOCAL, options=options).marshal()
    with pytest.raises(ValueError, match=r"ttl"):
        Header(dst=LOCAL, ttl=256).marshal()
    assert Header(version=6, len=60, dst=LOCAL).marshal()[0] == 0x45


@privileged
def test_14_a_packet_goes_where_its_header_says(raw):
    header = Header(ttl=9, protocol=253, src=LOCAL, dst=LOCAL)
    raw.write_to(header, b"x", ControlMessage(dst="127.0.0.99"))
    assert raw.read_from(bytearray(64))[0].dst == LOCAL


def test_15_an_unsuitable_socket_is_an_error_not_a_crash_go47491():
    for cls in (PacketConn, RawConn):
        for wrong in (None, object()):
            with pytest.raises(TypeError, match=r"^sock"):
                cls(wrong)
        with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as sock:
            with pytest.raises(ValueError, match=r"^sock"):
                cls(sock)


def test_16_a_type_that_the_kernel_cannot_filter_does_not_stand_for_another():
    each = ICMPFilter()
    for typ in (ipv4.ICMPType.PHOTURIS, 42, 43, 255):
        with pytest.raises(ValueError, match=r"^typ"):
            each.block(typ)
    assert not any(map(each.will_block, range(32)))


def test_17_an_empty_program_is_refused_detaching_works_and_a_bad_one_makes_no_vm(conn):
    with pytest.raises(ValueError):
        conn.set_bpf([])
    conn.set_bpf([bpf.RetConstant(0)])
    conn.set_bpf(None)
    conn.write_to(b"x", conn.local_addr)
    assert conn.read_from(bytearray(1))[0] == 1
    with pytest.raises(ValueError, match=r"5"):
        bpf.assemble([bpf.LoadAbsolute(8, 5), bpf.RetA()])
    with pytest.raises(ValueError):
        bpf.VM([bpf.LoadAbsolute(8, 5), bpf.RetA()])


def test_18_a_signal_runs_its_handler_and_the_call_goes_on(conn):
    rung = []

    def ring(number, frame):
        rung.append(number)
        if len(rung) == 3:
            conn.write_to(b"at last", conn.local_addr)

    before = signal.signal(signal.SIGALRM, ring)
    try:
        signal.setitimer(signal.ITIMER_REAL, 0.05, 0.05)
        assert conn.read_from(bytearray(16))[0] == 7
        signal.setitimer(signal.ITIMER_REAL, 0)
        rung.clear()
        signal.setitimer(signal.ITIMER_REAL, 0.05, 0.05)
        assert conn.read_batch([Message(bytearray(16))]) == 1
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
    assert len(rung) >= 3


def test_19_another_version_is_refused_and_the_checksum_can_be_verified():
    with pytest.raises(ValueError, match=r"version"):
        ipv4.parse_header(b"\x65" + bytes(39))
    wire = bytearray(Header(ttl=9, protocol=253, src=LOCAL, dst=LOCAL).marshal())
    wire[10:12] = struct.pack("!H", ipv4.checksum(wire))
    assert ipv4.parse_header(wire).compute_checksum() == ipv4.parse_header(wire).checksum
    wire[8] ^= 1
    assert ipv4.parse_header(wire).compute_checksum() != ipv4.parse_header(wire).checksum


def test_20_raw_and_multicast_are_tested_on_linux_for_real(pair):
    with RawConn.ip(253, netns=pair.b.path) as hearing, RawConn.ip(253, netns=pair.a.path) as conn:
        hearing.set_deadline(time.monotonic() + 30)
        hearing.join_source_specific_group("232.0.1.254", "10.1.0.1", "eth0")
        conn.multicast_interface = "eth0"
        conn.write_to(Header(ttl=1, protocol=253, dst="232.0.1.254"), b"over the link")
        header, payload, _ = hearing.read_from(bytearray(64))
        assert (header.src, payload) == (IPv4Address("10.1.0.1"), b"over the link")
