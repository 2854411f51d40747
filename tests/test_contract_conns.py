"""Constructors, openers, options, life and deadlines of the three kinds of conn."""

import errno
import select
import socket
import threading
import time
from ipaddress import IPv4Address

import pytest
from support import until_it_waits, without_privilege

import ipv4
from ipv4 import Conn, Interface, PacketConn, PathMTUDiscovery, RawConn

parity = pytest.mark.parity
privileged = pytest.mark.privileged


@pytest.fixture
def kinds():
    """A conn of each kind that has the options of all."""
    with PacketConn.udp() as udp, PacketConn.ip(253) as ip, RawConn.ip(253) as raw:
        yield udp, ip, raw


# Construction


@parity("NewConn", "NewPacketConn", "NewRawConn")
@privileged
def test_what_each_constructor_takes():
    def sockets():
        for family, kind, proto in (
            (socket.AF_INET, socket.SOCK_STREAM, 0),
            (socket.AF_INET, socket.SOCK_DGRAM, 0),
            (socket.AF_INET, socket.SOCK_RAW, 253),
            (socket.AF_INET6, socket.SOCK_DGRAM, 0),
            (socket.AF_UNIX, socket.SOCK_DGRAM, 0),
        ):
            with socket.socket(family, kind, proto) as sock:
                yield sock

    taken = {Conn: [], PacketConn: [], RawConn: []}
    for sock in sockets():
        for cls, kinds in taken.items():
            try:
                cls(sock)
            except ValueError as error:
                assert "sock" in str(error)
            else:
                kinds.append((sock.family, sock.type))
            assert sock.fileno() >= 0  # a refusal leaves the socket alone
    inet = socket.AF_INET
    stream, datagram, raw = socket.SOCK_STREAM, socket.SOCK_DGRAM, socket.SOCK_RAW
    assert taken[Conn] == [(inet, stream), (inet, datagram), (inet, raw)]
    assert taken[PacketConn] == [(inet, datagram), (inet, raw)]
    assert taken[RawConn] == [(inet, raw)]


@pytest.mark.parametrize("cls", [Conn, PacketConn, RawConn])
def test_what_no_constructor_takes(cls):
    for bad in (None, 3.5, True, "socket", object()):
        with pytest.raises((TypeError, AttributeError)):
            cls(bad)
    closed = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    closed.close()
    with pytest.raises(OSError) as caught:
        cls(closed)
    assert caught.value.errno == errno.EBADF


@privileged
def test_raw_conn_sets_hdrincl():
    with socket.socket(socket.AF_INET, socket.SOCK_RAW, 253) as sock:
        RawConn(sock)
        assert sock.getsockopt(socket.IPPROTO_IP, socket.IP_HDRINCL) == 1


@privileged
def test_without_privilege_raw_sockets_are_refused():
    for cls in (PacketConn, RawConn):
        with pytest.raises(PermissionError):
            without_privilege(cls.ip, 253)


@parity("Close")
def test_life(conn):
    fd = conn.fileno()
    assert fd >= 0
    assert not conn.closed
    assert f"fd={fd}" in repr(conn)
    assert "127.0.0.1" in repr(conn)
    conn.close()
    conn.close()
    assert (conn.closed, conn.fileno()) == (True, -1)
    assert "closed" in repr(conn)
    for call in (
        lambda: conn.local_addr,
        lambda: conn.tos,
        lambda: setattr(conn, "tos", 1),
        lambda: conn.read_from(bytearray(1)),
        lambda: conn.write_to(b"", ("127.0.0.1", 9)),
        lambda: conn.read_batch([]),
        lambda: conn.set_deadline(None),
        lambda: conn.join_group("224.0.0.1"),
        lambda: conn.set_control_message(1, True),
        lambda: conn.set_bpf([(6, 0, 0, 0)]),
    ):
        with pytest.raises(OSError) as caught:
            call()
        assert caught.value.errno == errno.EBADF


def test_the_wrapped_socket_stays_usable():
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.bind(("127.0.0.1", 0))
        conn = PacketConn(sock)
        assert conn.fileno() == sock.fileno()
        assert conn.local_addr == sock.getsockname()
        sock.sendto(b"one", sock.getsockname())
        assert conn.read_from(bytearray(9))[0] == 3
        sock.close()
        assert conn.closed
        with pytest.raises(OSError) as caught:
            conn.read_from(bytearray(9))
        assert caught.value.errno == errno.EBADF
        conn.close()


def test_an_unclosed_conn_is_warned_of_once():
    with pytest.warns(ResourceWarning) as seen:
        PacketConn.udp()
    assert len(seen) == 1


@privileged
def test_local_addr(raw):
    assert raw.local_addr == ("127.0.0.1", 0)
    with PacketConn.udp("127.0.0.1") as conn:
        host, port = conn.local_addr
        assert host == "127.0.0.1"
        assert port > 0


# Openers


def test_udp_opener():
    with PacketConn.udp() as conn:
        assert conn.local_addr[0] == "0.0.0.0"
    with PacketConn.udp(("127.0.0.1", 0), reuse_port=True) as one:
        with PacketConn.udp(one.local_addr, reuse_port=True) as two:
            assert one.local_addr == two.local_addr
        with pytest.raises(OSError, match="bind to 127.0.0.1") as caught:
            PacketConn.udp(one.local_addr)
        assert caught.value.errno == errno.EADDRINUSE
    with PacketConn.udp(tos=8, ttl=3, multicast_all=False) as conn:
        assert (conn.tos, conn.ttl, conn.multicast_all) == (8, 3, False)
    for bad in ({"colour": 1}, {"close": 1}, {"path_mtu": 1}):
        with pytest.raises((TypeError, AttributeError)):
            PacketConn.udp(**bad)
    with pytest.raises(ValueError, match="localhost"):
        PacketConn.udp(("localhost", 0))


@privileged
def test_ip_openers():
    for cls in (PacketConn, RawConn):
        with cls.ip(socket.IPPROTO_ICMP) as conn:
            assert conn.local_addr == ("0.0.0.0", 0)
        for bad in (0, 256, -1):
            with pytest.raises(ValueError, match="protocol"):
                cls.ip(bad)
        for bad in ("icmp", None, 1.0):
            with pytest.raises(TypeError, match="protocol"):
                cls.ip(bad)


# Options: name, value by default, values to set and read back, values refused

OPTIONS = [
    ("tos", 0, [1, 0x28, 0xFF, 0], [-1, 256, 2**40]),
    ("ttl", 64, [1, 255, 128], [0, -2, 256]),
    ("multicast_ttl", 1, [0, 255, 7], [-2, 256]),
    ("multicast_loopback", True, [False, True], []),
    ("multicast_all", True, [False, True], []),
    ("path_mtu_discovery", PathMTUDiscovery.WANT, list(PathMTUDiscovery), [-1, 6]),
    ("freebind", False, [True, False], []),
    ("broadcast", False, [True, False], []),
    ("priority", 0, [1, 6], [-1, 2**31]),
    ("receive_errors", False, [True, False], []),
]


@parity("TOS", "SetTOS", "TTL", "SetTTL", "MulticastTTL", "SetMulticastTTL", "MulticastLoopback",
        "SetMulticastLoopback")  # fmt: skip
@privileged
@pytest.mark.parametrize(
    ("name", "default", "values", "refused"), OPTIONS, ids=lambda v: v if isinstance(v, str) else ""
)
def test_options(kinds, name, default, values, refused):
    for conn in kinds:
        if name != "path_mtu_discovery":  # raw sockets of IPPROTO_RAW differ
            assert getattr(conn, name) == default
        for value in values:
            setattr(conn, name, value)
            read = getattr(conn, name)
            assert read == value
            assert isinstance(read, type(value))
        for bad in refused:
            with pytest.raises(ValueError, match=rf"{name} .*{bad}"):
                setattr(conn, name, bad)
        for bad in ("1", None, 1.5, b"1"):
            with pytest.raises(TypeError, match=name):
                setattr(conn, name, bad)


@parity("Conn.TOS", "Conn.SetTOS", "Conn.TTL", "Conn.SetTTL")
def test_conn_on_tcp():
    with socket.socket() as sock, Conn(sock) as conn:
        conn.tos = 0x28
        conn.ttl = 128
        conn.min_ttl = 255
        assert (conn.tos, conn.ttl, conn.min_ttl) == (0x28, 128, 255)
        conn.tos = 255
        assert conn.tos == 252  # the kernel keeps the ECN bits of TCP
        conn.ttl = -1
        assert conn.ttl == 64


@privileged
def test_minus_one_restores_a_ttl(kinds):
    for conn in kinds:
        conn.ttl = 9
        conn.ttl = -1
        assert conn.ttl == 64
        conn.multicast_ttl = 9
        conn.multicast_ttl = -1
        assert conn.multicast_ttl == 1


@parity("MulticastInterface", "SetMulticastInterface")
@privileged
def test_multicast_interface_is_read_back(kinds):
    for conn in kinds:
        assert conn.multicast_interface is None
        for given in ("lo", 1, (1, "lo"), Interface(1, "lo")):
            conn.multicast_interface = given
            assert conn.multicast_interface == Interface(1, "lo")
            assert isinstance(conn.multicast_interface, Interface)
            conn.multicast_interface = None
            assert conn.multicast_interface is None
        for bad, error in ((0, ValueError), (-1, ValueError), (2**31, ValueError), ("", ValueError),
                           ("a" * 16, ValueError), ("l\0", ValueError), (1.5, TypeError),
                           ((1,), ValueError)):  # fmt: skip
            with pytest.raises(error, match="multicast_interface"):
                conn.multicast_interface = bad
        with pytest.raises(OSError, match="nosuchif") as caught:
            conn.multicast_interface = "nosuchif"
        assert caught.value.errno == errno.ENODEV
        with pytest.raises(OSError) as caught:
            conn.multicast_interface = 12345
        assert caught.value.errno == errno.EADDRNOTAVAIL


def test_multicast_interface_set_by_address_elsewhere():
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_IF, IPv4Address("127.0.0.1").packed)
        assert PacketConn(sock).multicast_interface == (1, "lo")


def test_getsockopt_and_setsockopt(conn):
    conn.setsockopt(socket.SOL_SOCKET, socket.SO_PRIORITY, 3)
    assert conn.getsockopt(socket.SOL_SOCKET, socket.SO_PRIORITY) == 3
    assert conn.getsockopt(socket.SOL_SOCKET, socket.SO_TYPE, 4) == (2).to_bytes(4, "little")
    with pytest.raises(OSError, match="option 9999"):
        conn.setsockopt(0, 9999, 1)
    for args in ((-1, 1, 1), (0, 2**40, 1), (0, 1, 2**40)):
        with pytest.raises(ValueError):
            conn.setsockopt(*args)
    with pytest.raises(TypeError):
        conn.setsockopt(0, 1, "1")


def test_what_a_platform_lacks(conn, monkeypatch):
    monkeypatch.setattr(type(conn).tos, "option", -1)
    for call in (lambda: conn.tos, lambda: setattr(conn, "tos", 1)):
        with pytest.raises(NotImplementedError, match="IP_TOS.* is not available on linux"):
            call()


# Deadlines


@parity("SetDeadline", "SetReadDeadline", "SetWriteDeadline")
def test_a_read_ends_at_its_deadline(conn):
    start = time.monotonic()
    conn.set_read_deadline(start + 0.2)
    with pytest.raises(TimeoutError) as caught:
        conn.read_from(bytearray(9))
    assert 0.2 <= time.monotonic() - start < 1
    assert caught.value.errno == errno.ETIMEDOUT
    conn.set_read_deadline(None)
    conn.write_to(b"still", conn.local_addr)
    assert conn.read_from(bytearray(9))[0] == 5


def test_a_past_deadline_fails_at_once_though_data_is_there(conn):
    conn.write_to(b"data", conn.local_addr)
    conn.set_read_deadline(time.monotonic() - 1)
    for call in (
        lambda: conn.read_from(bytearray(9)),
        lambda: conn.read_batch([ipv4.Message(bytearray(9))]),
    ):
        with pytest.raises(TimeoutError):
            call()
    conn.write_to(b"writes go on", conn.local_addr)
    conn.set_write_deadline(-5)
    with pytest.raises(TimeoutError):
        conn.write_to(b"", conn.local_addr)
    with pytest.raises(TimeoutError):
        conn.write_batch([ipv4.Message(b"", addr=conn.local_addr)])
    conn.set_deadline(None)
    assert conn.read_from(bytearray(9))[0] == 4


@pytest.mark.parametrize("change", ["sooner", "past", "cleared", "later"])
def test_a_deadline_set_elsewhere_governs_a_waiting_call(conn, change):
    now = time.monotonic()
    conn.set_read_deadline(now + {"sooner": 30, "past": 30, "cleared": 0.3, "later": 0.3}[change])
    outcome = []

    def read():
        try:
            outcome.append(conn.read_from(bytearray(9))[0])
        except OSError as error:
            outcome.append(error)

    thread = threading.Thread(target=read)
    thread.start()
    until_it_waits(thread)
    moved = time.monotonic()
    conn.set_read_deadline(
        {"sooner": moved + 0.1, "past": moved - 1, "cleared": None, "later": moved + 30}[change]
    )
    if change in ("cleared", "later"):
        time.sleep(0.4)  # the first deadline passes
        conn.write_to(b"late", conn.local_addr)
    thread.join(5)
    assert not thread.is_alive()
    if change in ("cleared", "later"):
        assert outcome == [4]
    else:
        assert isinstance(outcome[0], TimeoutError)
        assert time.monotonic() - moved < 1


@pytest.mark.parametrize("bad", [float("nan"), "soon", b"1", [], object()])
def test_what_is_no_deadline(conn, bad):
    for setter in (conn.set_deadline, conn.set_read_deadline, conn.set_write_deadline):
        with pytest.raises((TypeError, ValueError), match="when"):
            setter(bad)


def test_far_deadlines(conn):
    for when in (float("inf"), 1e300, 10**400):
        conn.set_deadline(when)
        conn.write_to(b"x", conn.local_addr)
        assert conn.read_from(bytearray(1))[0] == 1
    conn.set_deadline(-(10**400))
    with pytest.raises(TimeoutError):
        conn.read_from(bytearray(1))


def test_the_sockets_own_timeout_counts_without_deadline():
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.bind(("127.0.0.1", 0))
        conn = PacketConn(sock)
        sock.settimeout(0)
        with pytest.raises(BlockingIOError):
            conn.read_from(bytearray(1))
        with pytest.raises(BlockingIOError):
            conn.read_batch([ipv4.Message(bytearray(1))])
        conn.set_read_deadline(time.monotonic() + 0.1)
        with pytest.raises(TimeoutError):
            conn.read_from(bytearray(1))
        conn.set_read_deadline(None)
        sock.settimeout(0.1)
        start = time.monotonic()
        with pytest.raises(TimeoutError):
            conn.read_from(bytearray(1))
        assert 0.1 <= time.monotonic() - start < 1


def test_msg_dontwait_never_waits(conn):
    for call in (
        lambda: conn.read_from(bytearray(1), socket.MSG_DONTWAIT),
        lambda: conn.read_batch([ipv4.Message(bytearray(1))], socket.MSG_DONTWAIT),
        lambda: conn.read_batch(ipv4.MessageBatch(2, 2), socket.MSG_DONTWAIT),
    ):
        with pytest.raises(BlockingIOError) as caught:
            call()
        assert caught.value.errno == errno.EAGAIN


@parity("Close ends waiting calls")
@pytest.mark.parametrize("call", ["read_from", "read_batch", "many"])
def test_close_ends_waiting_calls(call):
    conn = PacketConn.udp(("127.0.0.1", 0))
    outcome = []

    def wait():
        try:
            if call == "read_batch":
                conn.read_batch([ipv4.Message(bytearray(9)) for _ in range(16)])
            else:
                conn.read_from(bytearray(9))
        except OSError as error:
            outcome.append(error.errno)

    threads = [threading.Thread(target=wait) for _ in range(8 if call == "many" else 1)]
    for thread in threads:
        thread.start()
    until_it_waits(*threads)
    fd = conn.fileno()
    conn.close()
    for thread in threads:
        thread.join(5)
        assert not thread.is_alive()
    assert outcome == [errno.EBADF] * len(threads)
    with pytest.raises(OSError):
        socket.socket(fileno=fd).detach()


def test_no_descriptor_of_its_own_before_it_waits(conn):
    import os

    before = set(os.listdir("/proc/self/fd"))
    for _ in range(3):
        conn.write_to(b"x", conn.local_addr)
        select.select([conn], [], [], 5)  # on a busy machine it takes a moment
        conn.read_from(bytearray(1))
    assert set(os.listdir("/proc/self/fd")) == before
