"""A descriptor's life: what wraps it, closes it, and what is said of it then."""

import errno
import socket

import pytest

from ipv4 import PacketConn

privileged = pytest.mark.privileged


@pytest.mark.parity("Close")
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


@pytest.mark.parity("conns left open, and the end of the program")
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
