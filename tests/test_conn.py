"""Constructors and openers: which sockets are taken, and what is refused at once."""

import errno
import inspect
import re
import rlcompleter
import socket
import struct
import threading
from unittest import mock

import pytest
from support import without_privilege

import ipv4
from ipv4 import Conn, ControlFlags, PacketConn, RawConn

privileged = pytest.mark.privileged
STREAM, DGRAM, RAW = socket.SOCK_STREAM, socket.SOCK_DGRAM, socket.SOCK_RAW

TAKEN = [
    (Conn, STREAM, 0),
    (Conn, DGRAM, 0),
    pytest.param(Conn, RAW, 253, marks=privileged),
    (PacketConn, DGRAM, 0),
    pytest.param(PacketConn, RAW, 253, marks=privileged),
    pytest.param(RawConn, RAW, 253, marks=privileged),
]


@pytest.mark.parametrize(("cls", "kind", "protocol"), TAKEN)
@pytest.mark.parity(
    "Conn", "NewConn", "PacketConn", "NewPacketConn", "RawConn", "NewRawConn", "Close"
)
def test_a_socket_is_wrapped_stays_usable_and_is_closed_with_the_conn(cls, kind, protocol):
    with socket.socket(socket.AF_INET, kind, protocol) as sock:
        with cls(sock) as conn:
            assert conn.fileno() == sock.fileno()
            assert not conn.closed
            conn.ttl = 9
            assert sock.getsockopt(socket.IPPROTO_IP, socket.IP_TTL) == 9
        assert conn.closed
        assert sock.fileno() == -1
        conn.close()


REFUSED = [
    (PacketConn, socket.AF_INET, STREAM, r"sock must be a datagram or raw socket"),
    (RawConn, socket.AF_INET, DGRAM, r"sock must be a raw socket"),
    (RawConn, socket.AF_INET, STREAM, r"sock must be a raw socket"),
    (Conn, socket.AF_UNIX, STREAM, r"^sock must be .*AF_UNIX"),
    (PacketConn, socket.AF_UNIX, DGRAM, r"^sock must be .*AF_UNIX"),
    (RawConn, socket.AF_UNIX, DGRAM, r"^sock must be .*AF_UNIX"),
    (Conn, socket.AF_INET6, STREAM, r"^sock must be .*AF_INET6"),
    (PacketConn, socket.AF_INET6, DGRAM, r"^sock must be .*AF_INET6"),
]


@pytest.mark.parametrize(("cls", "family", "kind", "message"), REFUSED)
@pytest.mark.parity("NewConn", "NewPacketConn", "NewRawConn")
@pytest.mark.parity("other kinds of sockets")
def test_another_kind_of_socket_is_refused_and_left_open(cls, family, kind, message):
    with socket.socket(family, kind) as sock:
        with pytest.raises(ValueError, match=message):
            cls(sock)
        assert sock.fileno() >= 0


@pytest.mark.parametrize("cls", [Conn, PacketConn, RawConn])
@pytest.mark.parity("NewConn", "NewPacketConn", "NewRawConn")
@pytest.mark.parity(
    "other kinds of sockets", "better than the reference: an unsuitable socket (go#47491)"
)
def test_what_is_no_open_socket_is_refused(cls):
    for wrong in (None, 5.0, "sock", object(), [1]):
        with pytest.raises(TypeError, match=r"^sock must be a socket\.socket"):
            cls(wrong)
    sock = socket.socket(socket.AF_INET, DGRAM)
    sock.close()
    with pytest.raises(OSError) as caught:
        cls(sock)
    assert caught.value.errno == errno.EBADF


@pytest.mark.parity("PacketConn")
def test_udp():
    with PacketConn.udp() as conn:
        host, port = conn.local_addr
        assert host == "0.0.0.0"
        assert port > 0
    with PacketConn.udp(("127.0.0.1", 0), reuse_address=True, reuse_port=True, ttl=7) as conn:
        assert conn.ttl == 7
        for option in (socket.SO_REUSEADDR, socket.SO_REUSEPORT):
            assert conn.getsockopt(socket.SOL_SOCKET, option) == 1
        with pytest.raises(OSError, match=r"bind to 127\.0\.0\.1") as caught:
            PacketConn.udp(conn.local_addr)
        assert caught.value.errno == errno.EADDRINUSE
        with PacketConn.udp(conn.local_addr, reuse_port=True):
            pass
    with pytest.raises(OSError) as caught:
        PacketConn.udp(("203.0.113.1", 0))
    assert caught.value.errno == errno.EADDRNOTAVAIL


@privileged
@pytest.mark.parametrize("cls", [PacketConn, RawConn])
def test_ip(cls):
    with cls.ip(253, "127.0.0.1", tos=0x28) as conn:
        assert conn.local_addr == ("127.0.0.1", 0)
        assert conn.tos == 0x28
        assert conn.getsockopt(socket.SOL_SOCKET, socket.SO_PROTOCOL) == 253
        assert conn.getsockopt(socket.IPPROTO_IP, 3) == (cls is RawConn)


@pytest.mark.parametrize("cls", [PacketConn, RawConn])
def test_a_wrong_protocol_is_refused(cls):
    for wrong in (-1, 0, 256):
        with pytest.raises(ValueError, match=r"^protocol must be in 1\.\.255"):
            cls.ip(wrong)
    for wrong in ("icmp", None, True, 1.0):
        with pytest.raises(TypeError, match=r"^protocol must be an integer"):
            cls.ip(wrong)


def test_a_wrong_address_or_option_is_refused():
    for wrong in ("localhost", ("localhost", 0), ("127.0.0.1", 65536), ("127.0.0.1", -1), "::1"):
        with pytest.raises(ValueError):
            PacketConn.udp(wrong)
    with pytest.raises(TypeError, match=r"no option 'nonesuch'"):
        PacketConn.udp(nonesuch=1)
    with pytest.raises(ValueError, match=r"^ttl\b"):
        PacketConn.udp(ttl=256)


def refusal():
    try:
        ipv4.RawConn.ip(89)
    except PermissionError as error:
        return error.errno
    return None


@privileged
def test_without_the_privilege_a_raw_socket_is_a_permission_error():
    assert without_privilege(refusal) == errno.EPERM


@pytest.mark.parametrize("name", ["reuse_address", "reuse_port"])
def test_a_port_is_shared_by_true_alone(name):
    for wrong in ("yes", 1.0, []):
        with pytest.raises(TypeError, match=f"^{name} must be True or False, not"):
            PacketConn.udp(**{name: wrong})


def test_options_are_set_in_an_order_of_the_librarys_own():
    for named in ({"priority": 5, "tos": 0x10}, {"tos": 0x10, "priority": 5}):
        with PacketConn.udp(**named) as conn:
            assert (conn.priority, conn.tos) == (5, 0x10)
    # An option by its number, which the kernel lets change another, yields to what has a name.
    with PacketConn.udp(priority=5, options=[(socket.IPPROTO_IP, socket.IP_TOS, 0x10)]) as conn:
        assert (conn.priority, conn.tos) == (5, 0x10)
    with PacketConn.udp(ttl=9, options=[(socket.IPPROTO_IP, socket.IP_TTL, 7)]) as conn:
        assert conn.ttl == 9
    for named in (
        {"bound_interface": "lo", "unicast_interface": "lo"},
        {"unicast_interface": "lo", "bound_interface": "lo"},
    ):
        with PacketConn.udp(**named) as conn:
            assert conn.bound_interface == conn.unicast_interface == (1, "lo")


@pytest.mark.parametrize(
    "name",
    ["nonesuch", "control_flags", "path_mtu", "local_addr", "closed", "memory_info", "fileno",
     "read_from", "__class__", "__slots__", "__init__", "_program", "_get_int", "udp", ""],
)  # fmt: skip
def test_what_is_no_option_is_told_which_there_are(name):
    with pytest.raises(TypeError, match=r"no option '.*options are .*\bttl\b"):
        PacketConn.udp(**{name: 1})


def test_what_was_meant_is_told():
    for wrong, meant in (("interface", "bound_interface"), ("priorty", "priority"),
                         ("path_mtu", "can only be read")):  # fmt: skip
        with pytest.raises(TypeError, match=rf"no option '{wrong}'.*{meant}"):
            PacketConn.udp(**{wrong: 1})
    for wrong, meant in (("", "0.0.0.0"), ("<broadcast>", "255.255.255.255")):
        with pytest.raises(ValueError, match=re.escape(f"give {meant!r} instead")):
            PacketConn.udp((wrong, 0))
    for cls in (Conn, PacketConn, RawConn):
        with pytest.raises(TypeError, match=r"'sock'"):
            cls()


def test_options_without_a_name_are_set_before_binding():
    with PacketConn.udp(
        options=[(0, 1, 8), (0, 51, struct.pack("I", 40005 << 16 | 40005))]
    ) as conn:
        assert conn.tos == 8
        assert conn.local_addr[1] == 40005
        assert conn.local_port_range == (40005, 40005)
    with PacketConn.udp(local_port_range=(40006, 40006), bind_address_no_port=True) as conn:
        assert conn.local_addr[1] == 0
        conn.connect(("127.0.0.1", 9))
        assert conn.local_addr[1] == 40006
    for wrong in (5, [5], [(1, 2)], ["abcd"]):
        with pytest.raises(TypeError, match=r"^options"):
            PacketConn.udp(options=wrong)


def test_control_messages_come_with_the_first_packet():
    with PacketConn.udp(("127.0.0.1", 0), control=ControlFlags.TTL, timeout=0) as conn:
        assert conn.timeout == 0
        with pytest.raises(BlockingIOError):
            conn.read_from(bytearray(9))
        conn.write_to(b"x", conn.local_addr)
        assert conn.read_from(bytearray(9))[1].ttl == 64
    for wrong, error in ((-1, ValueError), ("1", TypeError)):
        with pytest.raises(error, match=r"^timeout"):
            PacketConn.udp(timeout=wrong)


@privileged
@pytest.mark.parametrize("cls", [PacketConn, RawConn])
def test_what_a_raw_conn_is_given_holds_for_the_first_packet(cls):
    """Somebody sends all the while what must not be heard: to another address, with another TTL
    (as a forged advertisement of VRRP has it, RFC 9568).
    """
    stop = threading.Event()

    def send():
        with PacketConn.ip(253, ttl=64) as sender:
            while not stop.is_set():
                sender.write_to(b"x", "127.0.0.1")

    thread = threading.Thread(target=send)
    thread.start()
    try:
        for named in ({"min_ttl": 255}, {"address": "127.0.0.9"}) * 150:
            with cls.ip(253, **named) as conn:
                with pytest.raises(BlockingIOError):
                    conn.read_from(bytearray(100), socket.MSG_DONTWAIT)
        with cls.ip(253, control=ControlFlags.TTL, timeout=30) as conn:
            assert conn.read_from(bytearray(100))[2 if cls is RawConn else 1].ttl == 64
    finally:
        stop.set()
        thread.join()


@pytest.mark.parametrize("closed", [False, True])
@pytest.mark.parametrize("make", [PacketConn.udp, lambda: Conn(socket.socket())])
def test_a_conn_can_be_looked_at(make, closed):
    with make() as conn:
        if closed:
            conn.close()
        for name in dir(conn):
            getattr(conn, name)
        assert {"tos", "path_mtu", "icmp_filter"} & set(dir(conn)) == (set() if closed else {"tos"})
        assert inspect.getmembers(conn)
        assert mock.create_autospec(conn).close
        assert rlcompleter.Completer({"conn": conn}).attr_matches("conn.t") == [
            "conn.timeout", "conn.tos", "conn.transparent", "conn.ttl"
        ]  # fmt: skip
        for name in ("tos", "closed", "local_addr", "timeout"):
            assert isinstance(getattr(type(conn), name), property)
