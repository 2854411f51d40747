"""The error queue: what routers, hosts and this kernel say of packets that were sent."""

import errno
import select
import socket
import struct
import sys
import threading
import time

import pytest
from support import eventually, until_it_waits
from support.controls import LARGEST, cmsg
from support.faults import preloaded
from support.packets import drained, udp, until_an_error_waits

from ipv4 import (
    ControlFlags,
    ControlMessage,
    ErrorOrigin,
    Message,
    MessageBatch,
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


@pytest.mark.parity("the error queue", "every origin of the error queue")
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


@pytest.mark.parity("the error queue")
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


@pytest.mark.parity("the error queue", "EMSGSIZE and a smaller path MTU")
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


@pytest.mark.parity("every origin of the error queue")
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


@pytest.mark.parity("the error queue", "an error of an earlier packet")
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


@pytest.mark.parity("every origin of the error queue")
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


@pytest.mark.parity("the error queue")
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


@pytest.mark.parity("timestamps that come late or never")
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


@pytest.mark.parity("every origin of the error queue")
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


PRELOADED = """
    /* Entries of an error queue come from the file $ENTRIES: lengths of name, control data and
       payload, then these. Its end is an empty queue. */
    #define _GNU_SOURCE
    #include <dlfcn.h>
    #include <errno.h>
    #include <poll.h>
    #include <stdint.h>
    #include <stdio.h>
    #include <stdlib.h>
    #include <sys/socket.h>

    /* Who asks whether an error lies there is told so. */
    int ppoll(struct pollfd *fds, nfds_t n, const struct timespec *t, const sigset_t *s) {
      int (*real)(struct pollfd *, nfds_t, const struct timespec *, const sigset_t *) =
          dlsym(RTLD_NEXT, "ppoll");
      if (n != 1 || fds->events) return real(fds, n, t, s);
      fds->revents = POLLERR;
      return 1;
    }
    int poll(struct pollfd *fds, nfds_t n, int ms) {
      int (*real)(struct pollfd *, nfds_t, int) = dlsym(RTLD_NEXT, "poll");
      if (n != 1 || fds->events) return real(fds, n, ms);
      fds->revents = POLLERR;
      return 1;
    }

    ssize_t recvmsg(int fd, struct msghdr *m, int flags) {
      static FILE *entries;
      uint32_t length[3];
      if (!(flags & MSG_ERRQUEUE)) {
        ssize_t (*real)(int, struct msghdr *, int) = dlsym(RTLD_NEXT, "recvmsg");
        return real(fd, m, flags);
      }
      if (!entries)
        entries = fopen(getenv("ENTRIES"), "rb");
      if (fread(length, sizeof(length), 1, entries) != 1) {
        errno = EAGAIN;
        return -1;
      }
      m->msg_flags = MSG_ERRQUEUE | (length[1] > m->msg_controllen ? MSG_CTRUNC : 0);
      m->msg_namelen = fread(m->msg_name, 1, length[0], entries);
      if (length[1] < m->msg_controllen)
        m->msg_controllen = length[1];
      fread(m->msg_control, 1, m->msg_controllen, entries);
      fseek(entries, length[1] - m->msg_controllen, SEEK_CUR);
      return fread(m->msg_iov[0].iov_base, 1, length[2], entries);
    }
"""

IP_RECVERR = 11


def extended(number, origin, kind=0, code=0, info=0, data=0, offender=b""):
    return struct.pack("=IBBBBII", number, origin, kind, code, 0, info, data) + offender


def address(host, family=socket.AF_INET):
    return struct.pack("=HH4s8x", family, 0, socket.inet_aton(host))


def reports_of_a_preloaded_queue():
    """What `read_error` makes of the entries: a report's fields, or the name of an exception."""
    found = []
    with udp() as conn:
        while True:
            try:
                report = conn.read_error()
            except (ValueError, OSError) as error:
                found.append(type(error).__name__)
                continue
            if report is None:
                return found
            found.append(
                [
                    report.errno,
                    str(report.origin),
                    report.icmp_type,
                    report.icmp_code,
                    report.info,
                    report.offender and str(report.offender),
                    report.addr and report.addr[0],
                    report.payload.decode(),
                    report.key,
                ]
            )


def recverr(*args, **kwargs):
    return cmsg(0, IP_RECVERR, extended(*args, **kwargs))


ROUTER = address("10.0.0.1")

ENTRIES = {
    "ICMP": (
        recverr(errno.EMSGSIZE, 2, 3, 4, 1300, 0, ROUTER),
        [errno.EMSGSIZE, "ICMP", 3, 4, 1300, "10.0.0.1"],
    ),
    "ICMP without offender": (
        recverr(errno.ECONNREFUSED, 2, 3, 3),
        [errno.ECONNREFUSED, "ICMP", 3, 3, 0, None],
    ),
    "an offender of no family": (
        recverr(errno.ECONNREFUSED, 2, 3, 3, offender=address("10.0.0.1", 0)),
        [errno.ECONNREFUSED, "ICMP", 3, 3, 0, None],
    ),
    "an offender cut short": (
        recverr(errno.ECONNREFUSED, 2, 3, 3, offender=ROUTER[:8]),
        [errno.ECONNREFUSED, "ICMP", 3, 3, 0, None],
    ),
    "LOCAL": (
        recverr(errno.EMSGSIZE, 1, info=1300, offender=ROUTER),
        [errno.EMSGSIZE, "LOCAL", None, None, 1300, None],
    ),
    "ICMP6": (recverr(113, 3, 1, 2, 3, 4), [113, "ICMP6", None, None, 3, None]),
    "TXTIME": (
        recverr(errno.ECANCELED, 6, 0, 2, 0xFFFFFFFF, 7),
        [errno.ECANCELED, "TXTIME", None, None, 0xFFFFFFFF, None],
    ),
    "ZEROCOPY, its counter about to wrap": (
        recverr(0, 5, 0, 1, 0xFFFFFFFE, 0xFFFFFFFF),
        [0, "ZEROCOPY", None, None, 0xFFFFFFFE, None, 0xFFFFFFFF],
    ),
    "an origin of the future": (
        recverr(5, 200, 1, 2, 3, 4, ROUTER),
        [5, "200", None, None, 3, None],
    ),
    "others before it": (
        cmsg(1, 99, b"odd") + cmsg(0, 8, bytes(12)) + recverr(111, 2, 3, 3, 0, 0, ROUTER),
        [111, "ICMP", 3, 3, 0, "10.0.0.1"],
    ),
    "no control data": (b"", [0, "NONE", None, None, 0, None]),
    "half a report": (
        cmsg(0, IP_RECVERR, extended(111, 2)[:8]),
        [0, "NONE", None, None, 0, None],
    ),
    "a length below its own header": (cmsg(0, IP_RECVERR, bytes(32), 3), "ValueError"),
    "a length of nothing": (cmsg(0, IP_RECVERR, bytes(32), 0), "ValueError"),
    "a length beyond the rest": (cmsg(0, IP_RECVERR, bytes(32), 4000), "ValueError"),
    "a length near its type's end": (cmsg(0, IP_RECVERR, bytes(32), LARGEST), "ValueError"),
    "control data that was cut": (cmsg(1, 99, bytes(2000)) + recverr(111, 2, 3, 3), "OSError"),
}


@pytest.mark.needs("cc")
@pytest.mark.unsanitized
@pytest.mark.skipif(sys.platform != "linux" or struct.calcsize("P") != 8, reason="64-bit Linux")
def test_every_kind_of_entry_of_the_error_queue(tmp_path):
    """Typed by its origin; an unknown one is kept; what is malformed is an error of its own."""
    name = address("192.0.2.1")
    with (tmp_path / "entries").open("wb") as file:
        for control, _ in ENTRIES.values():
            file.write(struct.pack("=III", len(name), len(control), 4) + name + control + b"sent")
    environ = {"ENTRIES": str(tmp_path / "entries")}
    told = preloaded(tmp_path, PRELOADED, environ, reports_of_a_preloaded_queue)
    found = dict(zip(ENTRIES, told, strict=True))
    for case, (_, wanted) in ENTRIES.items():
        if isinstance(wanted, list):
            wanted = [*wanted[:6], "192.0.2.1", "sent", *(wanted[6:] or [None])]
            wanted[1] = str(ErrorOrigin[wanted[1]]) if wanted[1].isupper() else wanted[1]
        assert found[case] == wanted, case


def test_an_error_queue_that_is_full_is_drained_to_its_end():
    """More reports than the receive buffer holds: sends go on, and there is a last report."""
    with udp(receive_errors=True) as conn, udp() as other:
        dead = other.local_addr
        other.close()
        conn.receive_buffer = 1  # the least that the system grants
        for _ in range(1000):
            assert conn.write_to(bytes(100), dead) == 100
        count = 0
        while (report := conn.read_error()) is not None:
            assert (report.errno, report.addr) == (errno.ECONNREFUSED, dead)
            count += 1
        assert 0 < count < 1000
        conn.write_to(b"on", conn.local_addr)
        assert drained(conn) == [b"on"]


def test_one_destinations_error_does_not_fail_the_next(conn):
    conn.receive_errors = True
    dead = closed_port()
    for call in (
        lambda: conn.write_to(b"alive", conn.local_addr),
        lambda: conn.write_batch([Message(b"alive", addr=conn.local_addr)]),
        lambda: conn.write_to(b"alive", conn.local_addr, ControlMessage(send_ttl=3)),
    ):
        conn.write_to(b"dead", dead)
        until_an_error_waits(conn)
        call()
        buffer = bytearray(9)
        assert conn.read_from(buffer)[0] == 5
        report = conn.read_error()
        assert (report.errno, report.addr, report.payload) == (errno.ECONNREFUSED, dead, b"dead")
        assert str(report.offender) == "127.0.0.1"
        assert conn.read_error() is None


@pytest.mark.parity("an error of an earlier packet")
def test_reading_after_a_stale_error(conn):
    conn.receive_errors = True
    conn.write_to(b"dead", closed_port())
    until_an_error_waits(conn)
    conn.write_to(b"alive", conn.local_addr)
    assert conn.read_from(bytearray(9))[0] == 5
    conn.write_to(b"alive", conn.local_addr)
    assert conn.read_batch(MessageBatch(2, 9)) == 1
    with pytest.raises(BlockingIOError):
        conn.read_from(bytearray(9), socket.MSG_DONTWAIT)


@pytest.mark.parity("an error of an earlier packet")
def test_on_a_connected_socket_it_is_raised_once():
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.connect(closed_port())
        conn = PacketConn(sock)
        conn.write_to(b"dead")
        until_an_error_waits(conn)
        with pytest.raises(ConnectionRefusedError):
            conn.write_to(b"again")
        conn.set_read_deadline(time.monotonic() + 0.05)
        with pytest.raises(TimeoutError):
            conn.read_from(bytearray(1))


def test_stamps_turned_off_leave_what_else_is_told(conn):
    conn.setsockopt(socket.IPPROTO_IP, 12, 1)  # IP_RECVTTL
    conn.set_timestamping(0)
    conn.write_to(b"x", conn.local_addr)
    assert conn.receive()[1].ttl == 64
