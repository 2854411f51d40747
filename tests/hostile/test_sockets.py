"""Sockets that no conn takes, or that change under it."""

import errno
import os
import socket
from pathlib import Path

import pytest
from support.hostile import inet

from ipv4 import Conn, PacketConn, RawConn

privileged = pytest.mark.privileged


class LiesAboutFamily(socket.socket):
    family = socket.AF_INET


def detached():
    sock = inet(socket.SOCK_DGRAM)
    os.close(sock.detach())
    return sock


NO_SOCKET = [
    ("packet", lambda: socket.socket(socket.AF_PACKET, socket.SOCK_DGRAM), ValueError),
    ("netlink", lambda: socket.socket(socket.AF_NETLINK, socket.SOCK_RAW), ValueError),
    ("unix stream", lambda: socket.socket(socket.AF_UNIX, socket.SOCK_STREAM), ValueError),
    ("IPv6 raw", lambda: socket.socket(socket.AF_INET6, socket.SOCK_RAW, 253), ValueError),
    ("detached", detached, OSError),
    ("IPv6 in disguise", lambda: LiesAboutFamily(socket.AF_INET6), ValueError),
]

KINDS = [
    (socket.SOCK_RAW, socket.IPPROTO_RAW, (Conn, PacketConn, RawConn)),
    (socket.SOCK_RAW, socket.IPPROTO_ICMP, (Conn, PacketConn, RawConn)),
    (socket.SOCK_DGRAM, socket.IPPROTO_ICMP, (Conn, PacketConn)),
    (socket.SOCK_STREAM, socket.IPPROTO_TCP, (Conn,)),
]


@pytest.mark.parametrize("cls", [Conn, PacketConn, RawConn])
@privileged
def test_sockets_that_no_conn_takes(cls):
    for what, make, kind in NO_SOCKET:
        with make() as sock:
            with pytest.raises(kind, match=r"\bsock(et)?s?\b"):
                cls(sock)
            assert socket.socket.fileno(sock) >= 0 or kind is OSError, what  # it is left open
    with pytest.raises(OSError, match="sock is closed"):
        cls(socket.socket.__new__(socket.socket))


@privileged
def test_sockets_that_some_conns_take():
    Path("/proc/sys/net/ipv4/ping_group_range").write_text("0 0")
    for kind, protocol, takers in KINDS:
        for cls in (Conn, PacketConn, RawConn):
            with inet(kind, protocol) as sock:
                if cls in takers:
                    assert cls(sock).fileno() == sock.fileno()
                else:
                    with pytest.raises(ValueError, match=r"^sock must be "):
                        cls(sock)


def test_a_socket_that_changes_under_its_conn():
    """The conn never uses a descriptor that its socket no longer has."""
    again = socket.socket.__init__
    for change in (socket.socket.close, lambda sock: os.close(sock.detach()), again):
        sock = inet(socket.SOCK_DGRAM)
        number = sock.fileno()
        with PacketConn(sock) as conn, inet(socket.SOCK_DGRAM) as spare:
            change(sock)
            if change is again:
                os.close(number)
            assert conn.closed
            with pytest.raises(OSError) as caught:
                conn.write_to(b"x", "127.0.0.1")
            assert caught.value.errno == errno.EBADF
            assert spare.fileno() >= 0
        sock.close()
