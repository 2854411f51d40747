"""The error queue: what routers, hosts and this kernel say of packets that were sent."""

import errno
import select
import socket
import threading
import time

import pytest
from support import eventually, until_it_waits

from ipv4 import (
    ControlFlags,
    ControlMessage,
    ErrorOrigin,
    Message,
    PacketConn,
    PathMTUDiscovery,
)

SO_ZEROCOPY, MSG_ZEROCOPY = 60, 0x4000000
TRANSMIT, RECEIVE, REPORT, NUMBERED, BARE = 1 << 1, 1 << 3, 1 << 4, 1 << 7, 1 << 11


def report(conn):
    """The next entry, which poll(2) announces as an error."""
    poll = select.poll()
    poll.register(conn.fileno(), 0)
    assert poll.poll(10_000), "no report came"
    return conn.read_error()


def test_it_is_empty_at_first_and_reading_it_never_waits(conn):
    assert conn.read_error() is None
    conn.receive_errors = True
    assert conn.read_error() is None


def test_a_closed_port_of_this_host(conn):
    conn.receive_errors = True
    with PacketConn.udp(("127.0.0.1", 0)) as other:
        closed = other.local_addr
    conn.write_to(b"anybody?", closed)
    found = report(conn)
    assert found.origin == ErrorOrigin.ICMP
    assert (found.errno, found.icmp_type, found.icmp_code) == (errno.ECONNREFUSED, 3, 3)
    assert (str(found.offender), found.addr, found.payload) == ("127.0.0.1", closed, b"anybody?")
    assert conn.read_error() is None


def test_routers_on_the_way_and_a_closed_port_at_its_end(chain):
    """Offender is who complains, the address stays the one that the packet was sent to."""
    server = chain.server.address
    with chain.client.call(PacketConn.udp, ("0.0.0.0", 0), receive_errors=True) as conn:
        for ttl, router in enumerate(chain.routers, start=1):
            conn.write_to(b"probe", (server, 33434), ControlMessage(send_ttl=ttl))
            found = report(conn)
            assert (found.origin, found.errno) == (ErrorOrigin.ICMP, errno.EHOSTUNREACH)
            assert (found.icmp_type, found.icmp_code) == (11, 0)
            assert str(found.offender) == router.address
            assert (found.addr, found.payload) == ((server, 33434), b"probe")
        conn.write_to(b"last", (server, 33434))
        found = report(conn)
        assert (found.icmp_type, found.icmp_code, found.errno) == (3, 3, errno.ECONNREFUSED)
        assert (str(found.offender), found.addr) == (server, (server, 33434))
        assert conn.read_error() is None


def test_a_router_with_a_smaller_mtu(chain):
    """The router names its MTU; from then on this host refuses what is longer, and says why."""
    router, server = chain.routers[1], (chain.server.address, 9)
    router.set_link("eth1", mtu=1300)
    with chain.client.call(
        PacketConn.udp,
        ("0.0.0.0", 0),
        receive_errors=True,
        path_mtu_discovery=PathMTUDiscovery.DO,
    ) as conn:
        conn.write_to(bytes(1400), server)
        found = report(conn)
        assert (found.origin, found.errno) == (ErrorOrigin.ICMP, errno.EMSGSIZE)
        assert (found.icmp_type, found.icmp_code, found.info) == (3, 4, 1300)
        assert (str(found.offender), found.addr) == (router.address, server)
        # What the router quotes is what comes back: the beginning of the payload.
        assert found.payload == bytes(len(found.payload)) != b""

        with pytest.raises(OSError) as caught:
            conn.write_to(bytes(1300 - 28 + 1), server)
        assert caught.value.errno == errno.EMSGSIZE
        found = conn.read_error()
        assert (found.origin, found.errno, found.info) == (ErrorOrigin.LOCAL, errno.EMSGSIZE, 1300)
        assert (found.icmp_type, found.icmp_code, found.offender) == (None, None, None)
        assert found.addr == (server[0], 0)  # the port is the peer's, of a connected socket only
        assert conn.write_to(bytes(1300 - 28), server) == 1300 - 28


def test_too_long_for_the_first_link(chain):
    server = (chain.server.address, 9)
    with chain.client.call(PacketConn.udp, ("0.0.0.0", 0), receive_errors=True) as conn:
        conn.path_mtu_discovery = PathMTUDiscovery.DO
        with pytest.raises(OSError) as caught:
            conn.write_to(bytes(1500), server)
        assert caught.value.errno == errno.EMSGSIZE
        found = conn.read_error()
        assert (found.origin, found.errno, found.info) == (ErrorOrigin.LOCAL, errno.EMSGSIZE, 1500)


def test_on_a_raw_socket(chain):
    """The kernel hands on errors that quote 8 bytes or more of the protocol."""
    server = chain.server.address
    with chain.client.call(PacketConn.ip, 253, receive_errors=True) as conn:
        conn.write_to(b"at least 8", server, ControlMessage(send_ttl=2))
        found = report(conn)
        assert (found.icmp_type, str(found.offender)) == (11, chain.routers[1].address)
        assert (found.addr, found.payload) == ((server, 0), b"at least 8")


def test_the_error_of_one_destination_does_not_fail_the_next(pair):
    """By every verb, and every refusal is still reported: none is lost to the retries."""
    with (
        pair.b.call(PacketConn.udp, ("10.1.0.2", 0)) as alive,
        pair.a.call(PacketConn.udp, ("10.1.0.1", 0), receive_errors=True) as conn,
    ):
        alive.set_read_deadline(time.monotonic() + 10)
        poll = select.poll()
        poll.register(conn.fileno(), 0)
        verbs = (
            lambda: conn.write_to(b"x", alive.local_addr),
            lambda: conn.write_to(b"x", alive.local_addr, ControlMessage(send_ttl=3)),
            lambda: conn.write_batch([Message(b"x", addr=alive.local_addr)]),
            lambda: conn.write_all([Message(b"x", addr=alive.local_addr)]) == [],
        )
        for port, verb in enumerate(verbs, start=1):
            conn.write_to(b"?", ("10.1.0.2", port))
            assert poll.poll(10_000), "the refusal did not come"
            assert verb() == 1
            assert alive.read_from(bytearray(9))[0] == 1
            assert conn.read_error().addr == ("10.1.0.2", port)
            assert conn.read_error() is None


# Timestamps


def test_transmit_timestamps_are_numbered(conn):
    conn.set_timestamping(TRANSMIT | REPORT | NUMBERED)
    for number in range(3):
        before = time.time_ns()
        conn.write_to(b"stamp", conn.local_addr)
        found = report(conn)
        assert (found.origin, found.errno) == (ErrorOrigin.TIMESTAMPING, errno.ENOMSG)
        assert before <= found.timestamp <= time.time_ns()
        assert found.key == number
        assert found.payload.endswith(b"stamp")


def test_a_transmit_timestamp_lies_between_the_call_and_the_receivers(pair):
    with (
        pair.a.call(PacketConn.udp, ("10.1.0.1", 0)) as sender,
        pair.b.call(PacketConn.udp, ("10.1.0.2", 0)) as receiver,
    ):
        receiver.set_read_deadline(time.monotonic() + 10)
        receiver.set_control_message(ControlFlags.TIMESTAMP, True)
        sender.set_timestamping(TRANSMIT | REPORT | NUMBERED | BARE)
        for _ in range(3):  # the first packet after switching on may bear no time of arrival
            before = time.time_ns()
            sender.write_to(b"stamp", receiver.local_addr)
            left = report(sender)
            _, cm, _ = receiver.read_from(bytearray(9))
        assert before <= left.timestamp <= cm.timestamp <= time.time_ns()
        assert left.payload == b""


def test_receive_stamps_by_the_same_option(conn):
    conn.set_timestamping(RECEIVE | REPORT)

    def stamped():
        before = time.time_ns()
        conn.write_to(b"stamp", conn.local_addr)
        cm = conn.read_from(bytearray(9))[1]
        return cm and (before, cm.timestamp, time.time_ns())

    # The kernel begins to stamp a moment after it was asked to.
    before, stamp, after = eventually(stamped)
    assert before <= stamp <= after
    assert conn.read_error() is None


def test_completions_of_sends_without_copying():
    """MSG_ZEROCOPY: which sends are done, as a range, and that the buffer is free again."""
    sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    sock.bind(("127.0.0.1", 0))
    sock.setsockopt(socket.SOL_SOCKET, SO_ZEROCOPY, 1)
    with PacketConn(sock) as conn:
        conn.set_read_deadline(time.monotonic() + 20)
        completions(conn, sock)


def completions(conn, sock):
    buffer = bytearray(2000)
    for _ in range(3):
        sock.sendto(bytes(1000), MSG_ZEROCOPY, conn.local_addr)
        assert conn.read_from(buffer)[0] == 1000
    done = []
    while len(done) < 3:
        found = eventually(conn.read_error)
        assert (found.origin, found.errno, found.addr) == (ErrorOrigin.ZEROCOPY, 0, None)
        done += range(found.info, found.key + 1)
    assert done == [0, 1, 2]
    assert conn.read_error() is None


def test_it_is_not_for_single_writes(conn):
    """The kernel would read a buffer that the call has let go of."""
    for call in (
        lambda: conn.write_to(b"x", conn.local_addr, None, MSG_ZEROCOPY),
        lambda: conn.write_batch([Message(b"x", None, conn.local_addr)], MSG_ZEROCOPY),
    ):
        with pytest.raises(ValueError, match="MSG_ZEROCOPY"):
            call()
    with pytest.raises(BlockingIOError):
        conn.read_from(bytearray(9), socket.MSG_DONTWAIT)


def test_what_came_with_the_entry(chain):
    """TTL, TOS, interface, destination and time of the ICMP error itself, as was asked."""
    flags = ControlFlags.TTL | ControlFlags.TOS | ControlFlags.INTERFACE | ControlFlags.DST
    server = (chain.server.address, 33434)
    with chain.client.call(PacketConn.udp, ("0.0.0.0", 0), receive_errors=True) as conn:
        conn.write_to(b"probe", server, ControlMessage(send_ttl=1))
        assert report(conn).control is None
        conn.set_control_message(flags | ControlFlags.TIMESTAMP, True)
        before = time.time_ns()
        conn.write_to(b"probe", server, ControlMessage(send_ttl=2))
        found = report(conn)
        assert (found.control.ttl, found.control.tos) == (63, 0xC0)
        assert str(found.control.dst) == chain.client.address
        assert conn._interface(found.control.ifindex).name == "eth0"
        assert before <= found.control.timestamp <= time.time_ns()
        assert (found.errno, found.payload) == (errno.EHOSTUNREACH, b"probe")


def closed_port():
    with PacketConn.udp(("127.0.0.1", 0)) as other:
        return other.local_addr


def test_waiting_for_an_entry(conn):
    conn.receive_errors = True
    conn.write_to(b"data, which does not end the wait", conn.local_addr)
    conn.set_read_deadline(time.monotonic() + 0.05)
    with pytest.raises(TimeoutError):
        conn.read_error(wait=True)
    conn.set_read_deadline(time.monotonic() + 20)
    closed, found = closed_port(), []
    thread = threading.Thread(target=lambda: found.append(conn.read_error(wait=True)))
    thread.start()
    until_it_waits(thread)
    conn.write_to(b"anybody?", closed)
    thread.join()
    assert (found[0].errno, found[0].addr) == (errno.ECONNREFUSED, closed)
    conn.write_to(b"anybody?", closed)
    eventually(lambda: conn.read_error(wait=True))
    assert conn.read_from(bytearray(99))[0] == 33


def test_closing_ends_a_wait_for_an_entry(conn):
    caught = []

    def wait():
        try:
            conn.read_error(wait=True)
        except OSError as error:
            caught.append(error.errno)

    thread = threading.Thread(target=wait)
    thread.start()
    until_it_waits(thread)
    conn.close()
    thread.join()
    assert caught == [errno.EBADF]


def reports(conn):
    found = []
    while (each := conn.read_error()) is not None:
        found.append((each.origin.name, each.errno, each.info))
    return found


@pytest.mark.parametrize("how", ["write_to", "write_to with cm", "write_batch", "write_all"])
def test_a_datagram_too_big_leaves_one_report(chain, how):
    server = (chain.server.address, 9)
    told = ControlMessage(send_ttl=9)
    with chain.client.call(PacketConn.udp, ("0.0.0.0", 0), receive_errors=True) as conn:
        conn.path_mtu_discovery = PathMTUDiscovery.DO
        if how == "write_all":
            (failed,) = conn.write_all([Message(bytes(1500), None, server)])
            assert failed[1].errno == errno.EMSGSIZE
        else:
            with pytest.raises(OSError) as caught:
                if how == "write_batch":
                    conn.write_batch([Message(bytes(1500), None, server)])
                else:
                    conn.write_to(bytes(1500), server, told if "cm" in how else None)
            assert caught.value.errno == errno.EMSGSIZE
        assert reports(conn) == [("LOCAL", errno.EMSGSIZE, 1500)]


def test_an_earlier_ones_size_does_not_stop_a_small_one(chain):
    """EMSGSIZE that a router told of another datagram is passed over."""
    router, server = chain.routers[1], (chain.server.address, 9)
    router.set_link("eth1", mtu=1300)
    with chain.client.call(PacketConn.udp, ("0.0.0.0", 0), receive_errors=True) as conn:
        conn.path_mtu_discovery = PathMTUDiscovery.PROBE
        for size in (1200, 1472):
            conn.write_to(bytes(1400), server)
            poll = select.poll()
            poll.register(conn.fileno(), 0)
            assert poll.poll(10_000)
            assert conn.write_to(bytes(size), server) == size
            while conn.read_error() is not None:
                pass
