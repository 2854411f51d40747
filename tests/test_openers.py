"""Constructors and openers: which sockets are taken, and what is refused at once."""

import errno
import socket

import pytest
from support import without_privilege

import ipv4
from ipv4 import Conn, PacketConn, RawConn

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
def test_another_kind_of_socket_is_refused_and_left_open(cls, family, kind, message):
    with socket.socket(family, kind) as sock:
        with pytest.raises(ValueError, match=message):
            cls(sock)
        assert sock.fileno() >= 0


@pytest.mark.parametrize("cls", [Conn, PacketConn, RawConn])
@pytest.mark.parity("NewConn", "NewPacketConn", "NewRawConn")
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
