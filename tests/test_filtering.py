"""ICMP filters and attached BPF programs: what the kernel then delivers."""

import errno
import socket
import struct
import threading
import time

import pytest

import ipv4
from ipv4 import (
    Conn,
    ControlFlags,
    ControlMessage,
    Header,
    ICMPFilter,
    ICMPType,
    PacketConn,
    RawConn,
    bpf,
)

FILTERED = range(32)


def icmp(typ, seq=1):
    body = struct.pack("!BBHHH", typ, 0, 0, 0x1234, seq)
    return body[:2] + struct.pack("!H", ipv4.checksum(body)) + body[4:]


@pytest.mark.parity(
    "ICMPFilter",
    "ICMPFilter.Accept",
    "ICMPFilter.Block",
    "ICMPFilter.SetAll",
    "ICMPFilter.WillBlock",
)
@pytest.mark.parity("the bits of ICMPFilter")
def test_each_type_has_a_bit_of_its_own():
    for typ in FILTERED:
        blocking = ICMPFilter()
        assert not any(map(blocking.will_block, FILTERED))
        blocking.block(typ)
        assert [each for each in FILTERED if blocking.will_block(each)] == [typ]
        blocking.accept(typ)
        assert blocking == ICMPFilter()
        accepting = ICMPFilter()
        accepting.set_all(True)
        assert all(map(accepting.will_block, FILTERED))
        accepting.accept(typ)
        assert [each for each in FILTERED if not accepting.will_block(each)] == [typ]
        assert accepting != blocking
        accepting.set_all(False)
        assert accepting == ICMPFilter()


@pytest.mark.parametrize("verb", ["accept", "block", "will_block"])
@pytest.mark.parity("ICMPFilter.Block", "ICMPFilter.WillBlock")
@pytest.mark.parity(
    "filters at their borders", "better than the reference: a type that the kernel cannot filter"
)
def test_a_type_that_the_kernel_cannot_filter_is_refused(verb):
    each = ICMPFilter()
    for wrong in (-1, 32, ICMPType.PHOTURIS, 42, 43, 255, 256):
        with pytest.raises(ValueError, match=r"^typ must be in 0\.\.31"):
            getattr(each, verb)(wrong)
    for wrong in ("echo", None, 8.0):
        with pytest.raises(TypeError, match=r"^typ must be an integer"):
            getattr(each, verb)(wrong)
    assert each == ICMPFilter()


@pytest.mark.privileged
@pytest.mark.parametrize("cls", [PacketConn, RawConn])
@pytest.mark.parity("ICMPFilter on a conn", "SetICMPFilter")
def test_the_kernel_keeps_the_filter(cls):
    with cls.ip(1, "127.0.0.1") as conn:
        assert conn.icmp_filter == ICMPFilter()
        wanted = ICMPFilter()
        wanted.set_all(True)
        wanted.accept(ICMPType.ECHO)
        wanted.accept(ICMPType.ECHO_REPLY)
        conn.icmp_filter = wanted
        assert conn.icmp_filter == wanted
        assert conn.getsockopt(255, 1) & 0xFFFFFFFF == 0xFFFFFEFE
        conn.icmp_filter.block(ICMPType.ECHO)  # of a copy
        assert conn.icmp_filter == wanted
        for wrong in (None, 0xFFFFFEFE):
            with pytest.raises(TypeError, match=r"^icmp_filter must be an ICMPFilter"):
                conn.icmp_filter = wrong


@pytest.mark.parametrize(
    ("make", "writing"),
    [
        (PacketConn.udp, errno.ENOPROTOOPT),
        pytest.param(lambda: RawConn.ip(89), errno.EOPNOTSUPP, marks=pytest.mark.privileged),
    ],
    ids=["udp", "raw ospf"],
)
def test_only_a_raw_icmp_socket_has_an_icmp_filter(make, writing):
    with make() as conn:
        with pytest.raises(AttributeError, match=r"icmp_filter: only raw ICMP sockets"):
            _ = conn.icmp_filter
        with pytest.raises(OSError, match=r"ICMP_FILTER") as caught:
            conn.icmp_filter = ICMPFilter()
        assert caught.value.errno == writing


@pytest.mark.privileged
@pytest.mark.parity("SetICMPFilter")
def test_real_icmp_passes_and_is_blocked():
    with PacketConn.ip(1, "127.0.0.1") as receiver, PacketConn.ip(1, "127.0.0.1") as sender:
        wanted = ICMPFilter()
        wanted.block(ICMPType.ECHO)
        wanted.block(31)
        receiver.icmp_filter = wanted
        receiver.set_deadline(time.monotonic() + 30)
        for typ in (8, 31, 13, 40, 255, 30):
            sender.write_to(icmp(typ), "127.0.0.1")
        heard = []
        while 30 not in heard:
            room = bytearray(64)
            receiver.read_from(room)
            heard.append(room[0])
        # The stack's own answers to echo and timestamp requests come between.
        assert [typ for typ in heard if typ not in (0, 14)] == [13, 40, 255, 30]
        assert 0 in heard


EVEN = [(0x30, 0, 0, 8), (0x54, 0, 0, 1), (0x15, 0, 1, 0), (0x06, 0, 0, 4096), (0x06, 0, 0, 0)]


@pytest.mark.parametrize("form", [tuple, lambda four: bpf.RawInstruction(*four)])
@pytest.mark.parity("SetBPF")
def test_a_program_decides_and_none_detaches(form):
    with PacketConn.udp(("127.0.0.1", 0)) as conn:
        conn.set_read_deadline(time.monotonic() + 30)
        conn.set_bpf([form(each) for each in EVEN])

        def pass_bytes():
            heard = []
            for value in range(10):
                conn.write_to(bytes([value]), conn.local_addr)
            while 8 not in heard:
                room = bytearray(8)
                n, _, _ = conn.read_from(room)
                assert n == 1
                heard.append(room[0])
            return heard

        assert pass_bytes() == [0, 2, 4, 6, 8]
        conn.set_bpf(None)
        conn.set_bpf(None)  # nothing attached is no error
        assert pass_bytes() == list(range(9))


@pytest.mark.parametrize(
    ("program", "answer"),
    [
        ([(0x00, 0, 0, 1)], "no return"),
        ([(0xFFFF, 0, 0, 0), (6, 0, 0, 0)], "bad operation"),
        ([(0x05, 0, 0, 9), (6, 0, 0, 0)], "jump past the end"),
        ([(0x60, 0, 0, 16), (6, 0, 0, 0)], "scratch slot 16"),
        ([(0x60, 0, 0, 3), (6, 0, 0, 0)], "unwritten scratch slot"),
        ([(0x34, 0, 0, 0), (6, 0, 0, 0)], "division by a constant zero"),
        ([(0x64, 0, 0, 32), (6, 0, 0, 0)], "shift by 32"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
@pytest.mark.parity("SetBPF")
@pytest.mark.parity("options read back, and the kernel's errors")
def test_what_the_kernels_checker_refuses_is_einval(program, answer):
    with PacketConn.udp() as conn:
        with pytest.raises(OSError, match=rf"SO_ATTACH_FILTER, {len(program)}") as caught:
            conn.set_bpf(program)
        assert caught.value.errno == errno.EINVAL, answer


@pytest.mark.parity("SetBPF")
@pytest.mark.parity("filters at their borders")
def test_an_empty_or_too_long_program_is_refused():
    with PacketConn.udp() as conn:
        for wrong in ([], [(6, 0, 0, 1)] * 4097):
            with pytest.raises(ValueError):
                conn.set_bpf(wrong)
        conn.set_bpf([(6, 0, 0, 1)] * 4096)
        for wrong in ([(0x10000, 0, 0, 0)], [(6, 256, 0, 0)], [(6, 0, 0, 1 << 32)], [(6, 0, 0)]):
            with pytest.raises(ValueError):
                conn.set_bpf(wrong)
        for wrong in (5, "ret #1", [5]):
            with pytest.raises(TypeError):
                conn.set_bpf(wrong)


def let_through(length):
    return [(6, 0, 0, length)]


@pytest.mark.parametrize("verdict", [1, 4, 8, 9, 11, 13, 4096])
def test_on_udp_the_verdict_counts_the_udp_header(verdict):
    with PacketConn.udp(("127.0.0.1", 0)) as conn:
        conn.set_read_deadline(time.monotonic() + 30)
        conn.set_bpf(let_through(verdict))
        conn.write_to(b"12345", conn.local_addr)
        room = bytearray(16)
        n, _, _ = conn.read_from(room)
        assert n == min(max(verdict - 8, 0), 5)
        assert room == b"12345"[:n].ljust(16, b"\0")


@pytest.mark.privileged
@pytest.mark.parametrize("verdict", [1, 4, 19, 20, 21, 25, 4096])
@pytest.mark.parity("better than the reference: a verdict shorter than a header")
def test_on_raw_sockets_a_verdict_shorter_than_a_header_is_no_payload_or_an_error(verdict):
    with (
        PacketConn.ip(253, "127.0.0.1") as payloads,
        RawConn.ip(253, "127.0.0.1") as packets,
    ):
        for conn in (payloads, packets):
            conn.set_deadline(time.monotonic() + 30)
            conn.set_bpf(let_through(verdict))
        payloads.write_to(b"12345", "127.0.0.1")
        room = bytearray(16)
        n, _, src = payloads.read_from(room)
        assert (n, src) == (min(max(verdict - 20, 0), 5), ("127.0.0.1", 0))
        assert room[:n] == b"12345"[:n]
        if verdict < 20:
            with pytest.raises(ValueError, match=r"header too short"):
                packets.read_from(bytearray(64))
        else:
            header, payload, _ = packets.read_from(bytearray(64))
            assert payload == b"12345"[:n]
            assert header.total_len == 25


def heard(conn):
    try:
        return conn.read_from(bytearray(9), socket.MSG_DONTWAIT)[0]
    except BlockingIOError:
        return None


def test_a_program_that_is_refused_leaves_what_was_attached_and_queued():
    with PacketConn.udp(("127.0.0.1", 0)) as conn:
        conn.write_to(b"1", conn.local_addr)
        with pytest.raises(OSError):
            conn.set_bpf([(0, 0, 0, 5)], drain=True)  # it ends without a return
        conn.write_to(b"22", conn.local_addr)
        assert [heard(conn), heard(conn)] == [1, 2]


def test_draining_knows_no_deadline():
    with PacketConn.udp(("127.0.0.1", 0)) as conn:
        conn.write_to(b"1", conn.local_addr)
        conn.set_read_deadline(time.monotonic() - 1)
        conn.set_bpf(None, drain=True)
        conn.set_read_deadline(None)
        assert heard(conn) is None
        conn.write_to(b"22", conn.local_addr)
        assert heard(conn) == 2


def test_min_ttl_is_put_before_the_filter_that_a_socket_came_with():
    with PacketConn.udp(("127.0.0.1", 0)) as first, PacketConn(first.socket.dup()) as conn:
        first.set_bpf([bpf.LoadAbsolute(8, 1), bpf.JumpIf(bpf.JumpTest.EQUAL, ord("y"), 1, 0),
                       bpf.RetConstant(0), bpf.RetConstant(4096)])  # fmt: skip
        conn.min_ttl = 10
        for ttl, data in ((64, b"no"), (9, b"yes"), (10, b"yea")):
            conn.ttl = ttl
            conn.write_to(data, conn.local_addr)
        buf = bytearray(9)
        assert (heard(conn), conn.read_from(buf)[0] if heard(conn) else None) == (3, None)
        conn.min_ttl = 0
        conn.write_to(b"no", conn.local_addr)
        conn.ttl = 9
        conn.write_to(b"y", conn.local_addr)
        assert [heard(conn), heard(conn)] == [1, None]


def test_filters_set_by_two_threads_are_both_there():
    """Each round's last state is that of one program and one TTL, whoever came first."""
    refuse = [bpf.RetConstant(0)]
    with PacketConn.udp(("127.0.0.1", 0), ttl=5) as conn:

        def each(values, name):
            for value in values:
                conn.set_bpf(value) if name == "bpf" else setattr(conn, "min_ttl", value)

        for ttl, program in ((6, None), (0, refuse)):
            threads = [
                threading.Thread(target=each, args=([None, refuse] * 50 + [program], "bpf")),
                threading.Thread(target=each, args=([0, 6] * 50 + [ttl], "ttl")),
            ]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
            conn.write_to(b"x", conn.local_addr)
            assert heard(conn) is None


privileged = pytest.mark.privileged


@privileged
@pytest.mark.parity("options")
def test_min_ttl_is_kept_by_the_kernel(conn):
    for cls, send in ((PacketConn, None), (RawConn, True)):
        if send is None:
            receiver = conn
            write = lambda ttl: conn.write_to(  # noqa: E731
                b"x", conn.local_addr, ControlMessage(send_ttl=ttl)
            )
        else:
            receiver = cls.ip(253, "127.0.0.1")
            write = lambda ttl, receiver=receiver: receiver.write_to(  # noqa: E731
                Header(protocol=253, ttl=ttl, dst="127.0.0.1"), b"x"
            )
        receiver.min_ttl = 255
        assert receiver.min_ttl == 255
        receiver.set_bpf([bpf.RetConstant(0xFFFF)])  # the caller's own runs after it
        for ttl in (254, 1, 255):
            write(ttl)
        receiver.set_control_message(ControlFlags.TTL, True)
        receiver.read_from(bytearray(64))
        with pytest.raises(BlockingIOError):
            receiver.read_from(bytearray(64), socket.MSG_DONTWAIT)
        receiver.set_bpf(None)
        write(254)
        with pytest.raises(BlockingIOError):
            receiver.read_from(bytearray(64), socket.MSG_DONTWAIT)
        receiver.min_ttl = 0
        write(1)
        receiver.read_from(bytearray(64))
        receiver.close() if send else None
        for bad, error in ((-1, ValueError), (256, ValueError), ("1", TypeError)):
            with pytest.raises(error, match="min_ttl"):
                conn.min_ttl = bad


def test_min_ttl_on_tcp():
    """Who is too far away is not even answered; who is near enough is served."""
    with socket.create_server(("127.0.0.1", 0)) as server, Conn(server) as conn:
        conn.min_ttl = 254
        assert conn.min_ttl == 254
        server.settimeout(10)
        clients = [socket.socket() for _ in range(2)]
        for client, ttl in zip(clients, (253, 254), strict=True):
            client.setblocking(False)
            Conn(client).ttl = ttl
            assert client.connect_ex(server.getsockname()) == errno.EINPROGRESS
        accepted, peer = server.accept()
        assert peer == clients[1].getsockname()
        server.setblocking(False)
        with pytest.raises(BlockingIOError):
            server.accept()
        for sock in (accepted, *clients):
            sock.close()


@pytest.mark.parity("filters at their borders")
def test_a_locked_filter(conn):
    conn.set_bpf([bpf.RetConstant(0)])
    conn.lock_bpf()
    for change in (lambda: conn.set_bpf(None), lambda: setattr(conn, "min_ttl", 1)):
        with pytest.raises(PermissionError):
            change()
    assert conn.min_ttl == 0


@pytest.mark.parity("filters at their borders")
def test_draining_before_a_filter(conn):
    for _ in range(100):
        conn.write_to(b"old", conn.local_addr)
    conn.set_bpf([bpf.RetConstant(0xFFFF)], drain=True)
    conn.write_to(b"new!", conn.local_addr)
    assert conn.read_from(bytearray(9))[0] == 4


@pytest.mark.parity("options")
def test_steering_a_group_of_sockets():
    with PacketConn.udp(("127.0.0.1", 0), reuse_port=True) as one:
        with PacketConn.udp(one.local_addr, reuse_port=True) as two, PacketConn.udp() as sender:
            one.set_reuseport_bpf([bpf.LoadAbsolute(0, 1), bpf.RetA()])
            for index, conn in ((0, one), (1, two)) * 8:
                sender.write_to(bytes([index]), one.local_addr)
                conn.set_read_deadline(time.monotonic() + 5)
                buffer = bytearray(1)
                conn.read_from(buffer)
                assert buffer[0] == index
