"""The one peer of a datagram conn: connect, disconnect, and what waits in its queues."""

import errno
import os
import socket
import time

import pytest

from ipv4 import Message, MessageBatch, PacketConn


@pytest.fixture
def server():
    with PacketConn.udp(("127.0.0.1", 0), timeout=30) as conn:
        yield conn


def test_an_opener_connects_and_writes_need_no_address(server):
    with PacketConn.udp(("127.0.0.1", 0), server.local_addr, timeout=30) as conn:
        assert conn.remote_addr == server.local_addr
        assert conn.path_mtu > 0
        assert conn.write_to(b"one") == 3
        assert conn.write_all([Message(b"2"), Message(b"33")]) == []
        batch = MessageBatch(2, 4)
        assert conn.write_all(batch) == []
        buf = bytearray(9)
        found = [server.read_from(buf) for _ in range(5)]
        assert [n for n, _, _ in found] == [3, 1, 2, 4, 4]
        assert {src for _, _, src in found} == {conn.local_addr}


def test_only_the_peer_is_heard(server):
    with (
        PacketConn.udp(("127.0.0.1", 0), server.local_addr) as conn,
        PacketConn.udp(("127.0.0.1", 0)) as other,
    ):
        other.write_to(b"other", conn.local_addr)
        server.write_to(b"peer!!", conn.local_addr)
        assert conn.read_from(bytearray(9), socket.MSG_DONTWAIT)[0] == 6
        conn.disconnect()
        other.write_to(b"other", conn.local_addr)
        assert conn.read_from(bytearray(9), socket.MSG_DONTWAIT)[2] == other.local_addr


@pytest.mark.parametrize("host", ["0.0.0.0", "127.0.0.1"])
def test_disconnecting_gives_back_what_was_there_before(server, host):
    with PacketConn.udp((host, 0), bound_interface="lo") as conn:
        before = conn.local_addr
        assert conn.remote_addr is None
        conn.disconnect()
        for peer in (server.local_addr, ("127.0.0.2", 9), server.local_addr):
            conn.connect(peer)
            assert conn.remote_addr == peer
            assert conn.local_addr == ("127.0.0.1", before[1])
        conn.disconnect()
        assert (conn.local_addr, conn.remote_addr) == (before, None)
        assert conn.bound_interface.name == "lo"
        conn.disconnect()
        server.write_to(b"x", ("127.0.0.1", before[1]))
        assert conn.read_from(bytearray(9), socket.MSG_DONTWAIT)[0] == 1


def test_a_socket_that_was_not_bound_is_not_afterwards(server):
    with PacketConn(socket.socket(socket.AF_INET, socket.SOCK_DGRAM)) as conn:
        conn.connect(server.local_addr)
        conn.disconnect()
        assert conn.local_addr == ("0.0.0.0", 0)


def test_a_socket_that_came_connected_keeps_its_port(server):
    sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    sock.connect(server.local_addr)
    with PacketConn(sock) as conn:
        port = conn.local_addr[1]
        conn.disconnect()
        assert conn.local_addr == ("0.0.0.0", port)


def test_a_peer_that_cannot_be_leaves_the_one_before(hosts):
    host = hosts("alone")  # a loopback interface, and no route
    with host.call(PacketConn.udp) as conn:
        conn.connect(("127.0.0.1", 9))
        with pytest.raises(OSError, match=r"connect to 192\.0\.2\.1:9") as caught:
            conn.connect(("192.0.2.1", 9))
        assert caught.value.errno == errno.ENETUNREACH
        assert conn.remote_addr == ("127.0.0.1", 9)
        with pytest.raises(ValueError, match=r"^peer must have a port"):
            conn.connect("127.0.0.1")


def test_an_error_of_the_peer_is_raised_once(server):
    with PacketConn.udp(("127.0.0.1", 0)) as gone:
        nobody = gone.local_addr
    with PacketConn.udp(("127.0.0.1", 0), nobody, timeout=30) as conn:
        conn.write_to(b"x")
        with pytest.raises(ConnectionRefusedError):
            conn.read_from(bytearray(9))
        with pytest.raises(BlockingIOError):
            conn.read_from(bytearray(9), socket.MSG_DONTWAIT)


@pytest.mark.privileged
def test_a_raw_conn_connects_and_stays_so():
    with PacketConn.ip(253, timeout=30) as conn, PacketConn.ip(253) as other:
        conn.connect("127.0.0.1")
        assert conn.remote_addr == ("127.0.0.1", 0)
        assert conn.path_mtu > 0
        with pytest.raises(OSError, match=r"raw socket") as caught:
            conn.disconnect()  # the kernel would make it deaf
        assert caught.value.errno == errno.EOPNOTSUPP
        other.write_to(b"heard", "127.0.0.1")
        assert conn.read_from(bytearray(99))[0] == 5


def test_what_waits_in_the_queues(server):
    with PacketConn.udp(("127.0.0.1", 0), server.local_addr) as conn:
        assert (server.pending, conn.unsent) == (0, 0)
        conn.write_to(b"four")
        conn.write_to(b"seven..")
        assert server.pending == 4
        info = server.memory_info
        assert info.receive_queue > 11
        assert info.receive_buffer == server.receive_buffer
        assert info.drops == 0


def test_what_was_lost_is_known_without_a_packet(server):
    server.receive_buffer = 0
    with PacketConn.udp(("127.0.0.1", 0), server.local_addr) as conn:
        for _ in range(50):
            conn.write_to(bytes(1000))
    assert server.memory_info.drops > 0


def test_a_closed_conn_is_ebadf(server):
    conn = PacketConn.udp()
    conn.close()
    calls = (
        lambda: conn.connect(server.local_addr),
        conn.disconnect,
        lambda: conn.remote_addr,
        lambda: conn.pending,
        lambda: conn.unsent,
        lambda: conn.memory_info,
    )
    for call in calls:
        with pytest.raises(OSError) as caught:
            call()
        assert caught.value.errno == errno.EBADF


def test_an_opener_with_a_peer_hears_nobody_else_first(server):
    """Somebody sends to the port all the while; nothing of that is read."""
    port = server.local_addr[1]
    deadline = time.monotonic() + 30
    with PacketConn.udp(("127.0.0.1", 0)) as other:
        for _ in range(200):
            with PacketConn.udp(("127.0.0.1", 0), ("127.0.0.1", port)) as conn:
                other.write_to(b"x", conn.local_addr)
                with pytest.raises(BlockingIOError):
                    conn.read_from(bytearray(9), socket.MSG_DONTWAIT)
            assert time.monotonic() < deadline


def test_interfaces_and_namespaces(pair):
    with PacketConn.udp(("10.1.0.2", 0), netns=pair.b.path) as conn:
        assert conn.local_addr[0] == "10.1.0.2"
        for name in ("bound_interface", "unicast_interface"):
            assert getattr(conn, name) is None
            setattr(conn, name, "eth0")
            assert getattr(conn, name).name == "eth0"
            setattr(conn, name, None)
            assert getattr(conn, name) is None
    with pytest.raises(FileNotFoundError):
        PacketConn.udp(netns="no-such-namespace")


@pytest.mark.parity("options")
def test_sockets_of_two_other_namespaces(pair):
    """Neither is this thread's: each lives where it was opened, and this thread stays here."""
    home = os.readlink("/proc/thread-self/ns/net")
    with (
        PacketConn.udp(("10.1.0.1", 0), netns=pair.a.path) as one,
        PacketConn.udp(("10.1.0.2", 0), netns=pair.b.path) as two,
    ):
        two.set_read_deadline(time.monotonic() + 10)
        one.write_to(b"x", two.local_addr)
        assert two.read_from(bytearray(1))[2] == one.local_addr
    assert os.readlink("/proc/thread-self/ns/net") == home
    with pytest.raises(OSError) as caught:
        PacketConn.udp(("10.1.0.1", 0))
    assert caught.value.errno == errno.EADDRNOTAVAIL
