"""The error queue: what routers, hosts and this kernel say of packets that were sent."""

import errno
import time

import pytest

from ipv4 import ControlMessage, ErrorOrigin, PacketConn, PathMTUDiscovery


@pytest.fixture
def conn():
    with PacketConn.udp(("127.0.0.1", 0)) as conn:
        conn.set_read_deadline(time.monotonic() + 20)
        yield conn


def test_errors_of_routers(chain):
    """Time exceeded with its router, and too big with the MTU."""
    server = chain.server.address
    with chain.client.call(PacketConn.udp, ("0.0.0.0", 0), receive_errors=True) as conn:

        def report():
            end = time.monotonic() + 5
            while time.monotonic() < end:
                found = conn.read_error()
                if found is not None:
                    return found
                time.sleep(0.01)
            raise AssertionError("no report came")

        seen = []
        for ttl in (1, 2, 3):
            conn.write_to(b"probe", (server, 33434), ControlMessage(send_ttl=ttl))
            found = report()
            assert (found.origin, found.icmp_type, found.icmp_code) == (ErrorOrigin.ICMP, 11, 0)
            assert (found.addr, found.payload) == ((server, 33434), b"probe")
            assert found.errno == errno.EHOSTUNREACH
            seen.append(str(found.offender))
        assert len(set(seen)) == 3
        conn.write_to(b"last", (server, 33434))
        found = report()
        assert (found.icmp_type, found.icmp_code, str(found.offender)) == (3, 3, server)
    chain.routers[1].run(["sh", "-c", "for i in /sys/class/net/eth*; do :; done"])
    with chain.client.call(PacketConn.udp, ("0.0.0.0", 0), receive_errors=True) as conn:
        conn.path_mtu_discovery = PathMTUDiscovery.DO
        with pytest.raises(OSError) as caught:
            conn.write_to(bytes(1500), (server, 9))
        assert caught.value.errno == errno.EMSGSIZE
        found = conn.read_error()
        assert (found.origin, found.errno, found.info) == (ErrorOrigin.LOCAL, errno.EMSGSIZE, 1500)


def test_transmit_timestamps(conn):
    conn.set_timestamping(1 << 1 | 1 << 3 | 1 << 4 | 1 << 7)
    keys = []
    for _ in range(3):
        before = time.time_ns()
        conn.write_to(b"stamp", conn.local_addr)
        _, cm, _ = conn.read_from(bytearray(9))
        report = None
        while report is None:
            report = conn.read_error()
        assert report.origin == ErrorOrigin.TIMESTAMPING
        assert before <= report.timestamp <= time.time_ns()
        keys.append(report.key)
    assert keys == [0, 1, 2]
    assert cm.timestamp >= before
