"""What goes beyond the reference: telling, being told, options, batches, event loops."""

import asyncio
import contextlib
import errno
import socket
import struct
import time
from ipaddress import IPv4Address

import pytest
from support import without_privilege

import ipv4
from ipv4 import (
    Conn,
    ControlFlags,
    ControlMessage,
    ErrorOrigin,
    Header,
    Message,
    MessageBatch,
    PacketConn,
    PathMTUDiscovery,
    RawConn,
    bpf,
)
from ipv4.aio import AsyncPacketConn, AsyncRawConn

privileged = pytest.mark.privileged


@pytest.fixture
def conn():
    with PacketConn.udp(("127.0.0.1", 0)) as conn:
        conn.set_read_deadline(time.monotonic() + 20)
        yield conn


@pytest.fixture(scope="module", autouse=True)
def warm_uvloop():
    """uvloop opens a pipe once for the whole process: before anybody counts descriptors."""
    with contextlib.suppress(ImportError):
        import uvloop

        uvloop.run(asyncio.sleep(0))


# What a received packet can tell, and what a packet can be told


def test_tos_and_ecn(conn):
    conn.set_control_message(ControlFlags.TOS, True)
    for tos in range(4):
        conn.write_to(b"x", conn.local_addr, ControlMessage(send_tos=0xB8 | tos))
        _, cm, _ = conn.read_from(bytearray(1))
        assert (cm.tos, cm.ecn) == (0xB8 | tos, tos)
    assert conn.tos == 0


def test_a_timestamp_lies_between_send_and_read(conn):
    conn.set_control_message(ControlFlags.TIMESTAMP, True)
    for _ in range(3):  # the first packet after switching on may bear none
        before = time.time_ns()
        conn.write_to(b"x", conn.local_addr)
        _, cm, _ = conn.read_from(bytearray(1))
        after = time.time_ns()
    assert before <= cm.timestamp <= after


def test_per_packet_ttl_and_tos_leave_the_sockets_own(conn):
    conn.set_control_message(ControlFlags.TTL | ControlFlags.TOS, True)
    conn.ttl, conn.tos = 33, 0x20
    for told in (
        ControlMessage(send_ttl=5),
        ControlMessage(send_tos=0x40),
        ControlMessage(send_ttl=255, send_tos=1),
        ControlMessage(),
    ):
        conn.write_to(b"x", conn.local_addr, told)
        conn.write_batch([Message(b"x", told.marshal(), conn.local_addr)])
        for _ in range(2):
            _, cm, _ = conn.read_from(bytearray(1))
            assert cm.ttl == (told.send_ttl or 33)
            assert cm.tos == (told.send_tos if told.send_tos is not None else 0x20)


def test_options_both_ways(conn):
    conn.set_control_message(ControlFlags.OPTIONS, True)
    conn.write_to(b"x", conn.local_addr, ControlMessage(send_options=ipv4.ROUTER_ALERT))
    _, cm, _ = conn.read_from(bytearray(1))
    assert cm.options == ipv4.ROUTER_ALERT
    conn.ip_options = b"\1\1\1"
    assert conn.ip_options in (b"\1\1\1\0", b"\1\1\1")
    conn.write_to(b"x", conn.local_addr)
    assert conn.read_from(bytearray(1))[1].options[:3] == b"\1\1\1"
    with pytest.raises(ValueError, match="ip_options"):
        conn.ip_options = bytes(41)
    with pytest.raises(OSError) as caught:
        conn.ip_options = b"\x94\x03\0\0"
    assert caught.value.errno == errno.EINVAL


def test_extra_both_ways(conn):
    conn.setsockopt(socket.IPPROTO_IP, 25, 1)  # IP_RECVFRAGSIZE, which has no name here
    conn.set_control_message(ControlFlags.TTL, True)
    mark = (socket.SOL_SOCKET, 12, struct.pack("=i", 3))  # SO_PRIORITY of this packet
    told = ControlMessage(extra=[mark])
    conn.write_to(b"x", conn.local_addr, told)
    _, cm, _ = conn.read_from(bytearray(1))
    assert cm.ttl == 64
    conn.write_to(b"x", conn.local_addr, cm)
    conn.read_from(bytearray(1))


def test_original_destination(conn):
    conn.set_control_message(ControlFlags.ORIGINAL_DST, True)
    conn.write_to(b"x", conn.local_addr)
    assert conn.read_from(bytearray(1))[1].original_dst == conn.local_addr


def test_a_reply_leaves_from_where_the_request_came(pair):
    """Several addresses and a group or broadcast request: the answer's source is the right one."""
    pair.b.ip("addr add 10.1.0.50/24 dev eth0")
    with pair.b.call(PacketConn.udp, ("0.0.0.0", 7777), broadcast=True) as server:
        server.set_read_deadline(time.monotonic() + 10)
        server.set_control_message(ControlFlags.DST | ControlFlags.INTERFACE, True)
        server.join_group("224.0.0.250", "eth0")
        with pair.a.call(PacketConn.udp, ("10.1.0.1", 0), broadcast=True) as client:
            client.set_read_deadline(time.monotonic() + 10)
            client.multicast_interface = "eth0"
            for asked, source in (
                ("10.1.0.2", "10.1.0.2"),
                ("10.1.0.50", "10.1.0.50"),
                ("224.0.0.250", "10.1.0.2"),
                ("10.1.0.255", "10.1.0.2"),
            ):
                client.write_to(b"?", (asked, 7777))
                _, cm, peer = server.read_from(bytearray(9))
                assert (str(cm.dst), str(cm.spec_dst)) == (asked, source)
                answer = cm.reply()
                assert (answer.ifindex, answer.src) == (cm.ifindex, cm.spec_dst)
                server.write_to(b"!", peer, answer)
                assert client.read_from(bytearray(9))[2] == (source, 7777)


# The error queue


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


# Options


def test_multicast_all(pair):
    with (
        pair.b.call(PacketConn.udp, ("0.0.0.0", 5000), reuse_address=True) as joined,
        pair.b.call(
            PacketConn.udp, ("0.0.0.0", 5000), reuse_address=True, multicast_all=False
        ) as own,
        pair.b.call(PacketConn.udp, ("0.0.0.0", 5000), reuse_address=True) as every,
        pair.a.call(PacketConn.udp, ("10.1.0.1", 0)) as sender,
    ):
        joined.join_group("224.0.0.250", "eth0")
        sender.multicast_interface = "eth0"
        sender.write_to(b"x", ("224.0.0.250", 5000))
        for conn in (joined, every):
            conn.set_read_deadline(time.monotonic() + 5)
            assert conn.read_from(bytearray(1))[0] == 1
        with pytest.raises(BlockingIOError):
            own.read_from(bytearray(1), socket.MSG_DONTWAIT)


def test_source_filter(conn):
    group = "232.1.1.1"
    conn.set_source_filter(group, "include", ["10.0.0.1", "10.0.0.2"], 1)
    mode, sources = conn.source_filter(group, "lo")
    assert (mode, sorted(map(str, sources))) == ("include", ["10.0.0.1", "10.0.0.2"])
    conn.set_source_filter(group, "exclude", [], 1)
    assert conn.source_filter(group, 1) == ("exclude", [])
    for bad in ("both", None, 1):
        with pytest.raises(ValueError, match="mode"):
            conn.set_source_filter(group, bad, [], 1)
    with pytest.raises(ValueError, match=r"sources\[1\]"):
        conn.set_source_filter(group, "include", ["10.0.0.1", "x"], 1)
    with pytest.raises(OSError, match="igmp_max_msf") as caught:
        conn.set_source_filter(group, "include", [f"10.0.0.{i}" for i in range(1, 12)], 1)
    assert caught.value.errno == errno.ENOBUFS
    conn.set_source_filter(group, "include", [], 1)
    with pytest.raises(OSError):
        conn.source_filter(group, 1)


@privileged
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
    with socket.socket() as sock, Conn(sock) as conn:
        conn.min_ttl = 254
        assert conn.min_ttl == 254


def test_a_locked_filter(conn):
    conn.set_bpf([bpf.RetConstant(0)])
    conn.lock_bpf()
    for change in (lambda: conn.set_bpf(None), lambda: setattr(conn, "min_ttl", 1)):
        with pytest.raises(PermissionError):
            change()
    assert conn.min_ttl == 0


def test_draining_before_a_filter(conn):
    for _ in range(100):
        conn.write_to(b"old", conn.local_addr)
    conn.set_bpf([bpf.RetConstant(0xFFFF)], drain=True)
    conn.write_to(b"new!", conn.local_addr)
    assert conn.read_from(bytearray(9))[0] == 4


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


def test_interfaces_and_namespaces(pair):
    with PacketConn.udp(("10.1.0.2", 0), netns=pair.b.path) as conn:
        assert conn.local_addr[0] == "10.1.0.2"
        for name in ("bound_interface", "unicast_interface"):
            assert getattr(conn, name) is None
            setattr(conn, name, "eth0")
            assert getattr(conn, name).name == "eth0"
            setattr(conn, name, None)
            assert getattr(conn, name) is None
        conn.mark = 0xFFFFFFFF
        assert conn.mark == 0xFFFFFFFF
        conn.transparent = True
        assert conn.transparent is True
    with pytest.raises(FileNotFoundError):
        PacketConn.udp(netns="no-such-namespace")


def test_a_bound_interface_hears_only_its_own(hosts):
    a, b, c = hosts("a"), hosts("b"), hosts("c")
    hosts.link(a, b, "10.2.0.1/24", "10.2.0.2/24")
    hosts.link(c, b, "10.3.0.1/24", "10.3.0.2/24")
    with b.call(PacketConn.udp, ("0.0.0.0", 5000), bound_interface="eth1") as conn:
        for host, to in ((a, "10.2.0.2"), (c, "10.3.0.2")):
            with host.call(PacketConn.udp) as sender:
                sender.write_to(host.name.encode(), (to, 5000))
        conn.set_read_deadline(time.monotonic() + 5)
        buffer = bytearray(9)
        _, _, src = conn.read_from(buffer)
        assert src[0] == "10.3.0.1"
        with pytest.raises(BlockingIOError):
            conn.read_from(buffer, socket.MSG_DONTWAIT)


def test_path_mtu(conn):
    with pytest.raises(OSError) as caught:
        _ = conn.path_mtu
    assert caught.value.errno == errno.ENOTCONN
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.connect(("127.0.0.1", 9))
        assert PacketConn(sock).path_mtu >= 65535


def test_buffer_sizes(conn):
    conn.receive_buffer = 100_000
    assert conn.receive_buffer == 200_000
    conn.send_buffer = 50_000
    assert conn.send_buffer == 100_000


def test_ping_sockets(pair):
    with pytest.raises(PermissionError, match="ping_group_range"):
        pair.a.call(PacketConn.ping)  # a new network namespace lets nobody
    pair.a.sysctl("net.ipv4.ping_group_range", "0 0")
    with pair.a.call(PacketConn.ping) as conn:
        conn.set_read_deadline(time.monotonic() + 5)
        conn.set_control_message(ControlFlags.TTL, True)
        conn.write_to(struct.pack("!BBHHH", 8, 0, 0, 0, 7) + b"ping", "10.1.0.2")
        buffer = bytearray(64)
        n, cm, src = conn.read_from(buffer)
        assert (buffer[0], bytes(buffer[6:n]), src[0], cm.ttl) == (0, b"\0\7ping", "10.1.0.2", 64)


def test_router_alert_on_a_forwarding_router(chain):
    router = chain.routers[0]
    with router.call(RawConn.ip, 253, router_alert=True) as conn:
        conn.set_read_deadline(time.monotonic() + 5)
        assert conn.router_alert is True
        with chain.client.call(RawConn.ip, 253) as sender:
            header = Header(
                protocol=253, ttl=9, dst=chain.server.address, options=ipv4.ROUTER_ALERT
            )
            sender.write_to(header, b"look")
        got, payload, _ = conn.read_from(bytearray(99))
        assert (str(got.dst), bytes(payload)) == (chain.server.address, b"look")
        assert got.options == ipv4.ROUTER_ALERT
        conn.router_alert = False


def test_an_igmp_report_is_read_with_its_router_alert(pair):
    with pair.b.call(RawConn.ip, 2) as conn:
        conn.set_read_deadline(time.monotonic() + 10)
        conn.join_group("224.0.0.22", "eth0")
        with pair.a.call(PacketConn.udp) as member:
            member.join_group("239.1.2.3", "eth0")
            while True:
                header, payload, _ = conn.read_from(bytearray(256))
                if payload[0] == 0x22 and b"\xef\1\2\3" in bytes(payload):
                    break
        assert (str(header.dst), header.ttl, header.options) == ("224.0.0.22", 1, ipv4.ROUTER_ALERT)
        assert ipv4.checksum(payload) == 0


def test_join_all(hosts):
    a, b = hosts("a"), hosts("b")
    hosts.link(a, b, "10.2.0.1/24", "10.2.0.2/24")
    hosts.link(a, b, "10.3.0.1/24", "10.3.0.2/24")
    with a.call(PacketConn.udp) as conn:
        outcome = conn.join_all("224.0.0.250")
        assert {interface.name: error for interface, error in outcome.items()} == {
            "eth0": None,
            "eth1": None,
        }
        again = conn.join_all("224.0.0.250", ["eth0", "lo"])
        assert {i.name: e and e.errno for i, e in again.items()} == {
            "eth0": errno.EADDRINUSE,
            "lo": None,
        }


def test_features():
    found = ipv4.features()
    assert found["batches"] is None or isinstance(found["batches"], NotImplementedError)
    assert found["receive TTL"] is None
    assert found["send segments (UDP_SEGMENT)"] is None
    assert isinstance(without_privilege(ipv4.features)["raw sockets"], PermissionError)


# Checksums


def test_checksum_of_every_length():
    numpy = pytest.importorskip("numpy")
    data = numpy.random.default_rng(1).integers(0, 256, 70_002, dtype=numpy.uint8)
    raw = data.tobytes()
    words = data[:70_000].reshape(-1, 2).astype(numpy.uint64)
    sums = numpy.concatenate([[0], numpy.cumsum(words[:, 0] * 256 + words[:, 1])])

    def plain(length):
        total = int(sums[length // 2]) + (raw[length - 1] << 8 if length % 2 else 0)
        while total >> 16:
            total = (total & 0xFFFF) + (total >> 16)
        return total ^ 0xFFFF

    view = memoryview(raw)
    for length in range(70_001):
        assert ipv4.checksum(view[:length]) == plain(length)
    for offset in range(1, 9):  # unaligned, against the same bytes aligned
        for length in (0, 1, 2, 3, 7, 20, 63, 64, 65, 1500, 65535):
            piece = view[offset : offset + length]
            assert ipv4.checksum(piece) == ipv4.checksum(bytes(piece))
    for cut in (2, 20, 1400, 30_000):
        first = ipv4.checksum(view[:cut])
        assert ipv4.checksum(view[cut:60_001], initial=0xFFFF ^ first) == ipv4.checksum(
            view[:60_001]
        )
    assert ipv4.checksum(b"", initial=0x12345678) == ipv4.checksum(bytes.fromhex("12345678"))
    for bad in (-1, 2**63):
        with pytest.raises(ValueError, match="initial"):
            ipv4.checksum(b"", initial=bad)


# Batches without objects


def test_columns_of_a_batch(conn):
    numpy = pytest.importorskip("numpy")
    flags = ControlFlags.TTL | ControlFlags.INTERFACE | ControlFlags.TOS | ControlFlags.TIMESTAMP
    conn.set_control_message(flags, True)
    batch = MessageBatch(8, 100, flags)
    assert len(batch) == 8
    assert batch.lengths.tolist() == [100] * 8
    early = numpy.asarray(batch.ttls)
    for i in range(5):
        conn.write_to(bytes([i]) * i, conn.local_addr, ControlMessage(send_ttl=10 + i, send_tos=i))
    n = 0
    while n < 5:
        n += conn.read_batch(batch[n:])
    assert early[:5].tolist() == batch.ttls[:5].tolist() == [10, 11, 12, 13, 14]
    assert batch.lengths[:5].tolist() == [0, 1, 2, 3, 4]
    assert batch.toses[:5].tolist() == [0, 1, 2, 3, 4]
    assert batch.ports[:5].tolist() == [conn.local_addr[1]] * 5
    assert batch.ifindexes[:5].tolist() == [1] * 5
    assert {socket.inet_ntoa(struct.pack("=I", a)) for a in batch.addrs[:5]} == {"127.0.0.1"}
    assert abs(batch.timestamps[4] - time.time_ns()) < 10**10
    assert list(batch.heads(5))[4] == (4, conn.local_addr, 14, 1)
    data = numpy.asarray(batch.data)
    assert data.shape == (8, 100)
    assert data[4, :4].tolist() == [4, 4, 4, 4]
    for name in ("data", "lengths", "addrs", "ports", "ttls", "ifindexes", "toses", "timestamps",
                 "segment_sizes", "flags"):  # fmt: skip
        column = getattr(batch, name)
        assert isinstance(column, memoryview)
        assert numpy.shares_memory(numpy.asarray(column), numpy.asarray(getattr(batch, name)))
    assert [batch[i].control.ttl for i in range(5)] == [10, 11, 12, 13, 14]
    assert batch[-8].n == 0
    for bad in (8, -9):
        with pytest.raises(IndexError):
            batch[bad]
    with pytest.raises(ValueError, match="steps"):
        batch[::2]


def test_a_batch_that_was_read_is_sent_on_as_it_is(conn):
    conn.set_control_message(ControlFlags.TTL, True)
    with PacketConn.udp(("127.0.0.1", 0)) as client:
        client.set_read_deadline(time.monotonic() + 10)
        client.set_control_message(ControlFlags.TTL, True)
        for i in range(4):
            client.write_to(b"echo%d" % i, conn.local_addr, ControlMessage(send_ttl=7))
        batch = MessageBatch(16, 64, ControlFlags.TTL)
        n = 0
        while n < 4:
            n += conn.read_batch(batch[n:])
        assert conn.write_all(batch[:n]) == []
        for i in range(4):
            buffer = bytearray(9)
            k, cm, src = client.read_from(buffer)
            assert (bytes(buffer[:k]), cm.ttl, src) == (b"echo%d" % i, 64, conn.local_addr)


def test_destinations_by_columns(conn):
    batch = MessageBatch(3, 4)
    ports = batch.ports
    for i in range(3):
        batch.addrs[i] = int.from_bytes(
            socket.inet_aton("127.0.0.1"), "little" if struct.pack("=H", 1)[0] else "big"
        )
        ports[i] = conn.local_addr[1]
        batch.lengths[i] = i + 1
    assert batch[0].addr == ("127.0.0.1", 0) or batch[0].addr == conn.local_addr
    assert conn.write_all(batch) == []
    assert [conn.read_from(bytearray(9))[0] for _ in range(3)] == [1, 2, 3]
    batch.lengths[1] = 5
    with pytest.raises(ValueError, match=r"lengths\[1\]"):
        conn.write_batch(batch)
    with pytest.raises(ValueError, match="oob"):
        batch[0].oob = bytes(999)
    with pytest.raises(TypeError, match="buffers"):
        batch[0].buffers = []


def test_what_is_no_batch():
    for args, error in (((0, 1), ValueError), ((-1, 1), ValueError), ((1, -1), ValueError),
                        ((1 << 40, 1), ValueError), ((1, 1 << 40), ValueError),
                        (("1", 1), TypeError), ((1, 1, 1 << 20), ValueError)):  # fmt: skip
        with pytest.raises(error, match="count|size|flags"):
            MessageBatch(*args)
    with pytest.raises(MemoryError):
        MessageBatch(1 << 24, 1 << 30)


def test_write_all_sends_everything_once(conn):
    conn.receive_buffer = 1 << 22
    messages = [Message(struct.pack("!I", i), addr=conn.local_addr) for i in range(1500)]
    bad = {0, 7, 1030, 1499}
    for i in bad:
        messages[i].buffers = bytes(70000)
    failed = conn.write_all(messages)
    assert {i for i, _ in failed} == bad
    assert all(error.errno == errno.EMSGSIZE for _, error in failed)
    got = []
    buffer = bytearray(8)
    with pytest.raises(BlockingIOError):
        while True:
            conn.read_from(buffer, socket.MSG_DONTWAIT)
            got.append(int.from_bytes(buffer[:4], "big"))
    assert got == [i for i in range(1500) if i not in bad]


@pytest.mark.parametrize("size", [1, 100, 1000, 1400, 5000])
def test_segments_both_ways(conn, size):
    conn.receive_buffer = 1 << 22
    payload = bytes(i % 251 for i in range(30_000))
    assert conn.write_to(payload, conn.local_addr, ControlMessage(segment_size=size)) == 30_000
    got = b""
    if size >= 100:
        while len(got) < len(payload):
            buffer = bytearray(65536)
            n, _, _ = conn.read_from(buffer)
            assert n == min(size, len(payload) - len(got))
            got += buffer[:n]
        assert got == payload
    conn.set_bpf([bpf.RetConstant(0xFFFF)], drain=True)
    conn.set_bpf(None)
    conn.set_control_message(ControlFlags.SEGMENT_SIZE, True)
    if size in (1000, 1400):
        conn.write_to(payload, conn.local_addr, ControlMessage(segment_size=size))
        n, cm, _ = conn.read_from(bytearray(65536))
        assert (n, cm.segment_size) == (30_000, size)
    conn.write_to(b"one", conn.local_addr, ControlMessage(segment_size=size + 2))


# Async


def each_loop(test):
    """Run an async test on asyncio, uvloop and trio."""

    @pytest.mark.parametrize("loop", ["asyncio", "uvloop", "trio"])
    def run(loop):
        if loop == "trio":
            pytest.importorskip("trio").run(test)
        elif loop == "uvloop":
            pytest.importorskip("uvloop").run(test())
        else:
            asyncio.run(test())

    run.__name__ = test.__name__
    run.__doc__ = test.__doc__
    return run


@contextlib.contextmanager
def opened():
    conn = AsyncPacketConn(PacketConn.udp(("127.0.0.1", 0), receive_buffer=1 << 22))
    try:
        yield conn
    finally:
        conn.close()


@each_loop
async def test_aio_verbs():
    anyio = pytest.importorskip("anyio")
    with opened() as conn:
        conn.ttl = 9
        assert conn.ttl == conn.conn.ttl == 9
        here = conn.local_addr
        async with anyio.create_task_group() as group:

            async def write():
                await anyio.sleep(0.05)
                await conn.write_to(b"one", here)
                await conn.write_batch([Message(b"two", addr=here)])
                assert await conn.write_all([Message(b"three", addr=here)]) == []

            group.start_soon(write)
            assert (await conn.read_from(bytearray(9)))[0] == 3
            assert await conn.read_batch([Message(bytearray(9))]) == 1
            batch = MessageBatch(4, 9)
            async for n in conn.batches(batch):
                assert (n, batch.lengths[0]) == (1, 5)
                break
        with pytest.raises(BlockingIOError):
            await conn.read_from(bytearray(1), socket.MSG_DONTWAIT)


@each_loop
async def test_aio_cancelling_loses_nothing():
    anyio = pytest.importorskip("anyio")
    total = 100_000
    with opened() as conn:
        got = []
        here = conn.local_addr

        async def write():
            for start in range(0, total, 100):
                for i in range(start, start + 100):
                    await conn.write_to(i.to_bytes(4, "big"), here)
                while len(got) < start:  # the queue of the receiver is bounded
                    await anyio.sleep(0)
                await anyio.sleep(0)

        async with anyio.create_task_group() as group:
            group.start_soon(write)
            buffer = bytearray(4)
            reads = 0
            while len(got) < total:
                with anyio.move_on_after(0 if reads % 7 == 0 else 5):
                    await conn.read_from(buffer)
                    got.append(int.from_bytes(buffer, "big"))
                reads += 1
        assert got == list(range(total))


@each_loop
async def test_aio_two_tasks_read_one_conn():
    anyio = pytest.importorskip("anyio")
    with opened() as conn:
        got = []

        async def read():
            buffer = bytearray(1)
            for _ in range(10):
                await conn.read_from(buffer)
                got.append(buffer[0])

        with anyio.fail_after(10):
            async with anyio.create_task_group() as group:
                group.start_soon(read)
                group.start_soon(read)
                for i in range(20):
                    await anyio.sleep(0.001)
                    await conn.write_to(bytes([i]), conn.local_addr)
        assert sorted(got) == list(range(20))


@each_loop
async def test_aio_closing_under_waiting_tasks():
    anyio = pytest.importorskip("anyio")
    with opened() as conn:
        seen = []

        async def read():
            try:
                await conn.read_from(bytearray(1))
            except OSError as error:
                seen.append(error.errno)

        with anyio.fail_after(10):
            async with anyio.create_task_group() as group:
                group.start_soon(read)
                group.start_soon(read)
                await anyio.sleep(0.1)
                conn.close()
        assert seen == [errno.EBADF] * 2


@each_loop
async def test_aio_timeouts_are_the_loops_own():
    anyio = pytest.importorskip("anyio")
    with opened() as conn:
        with anyio.move_on_after(0.05) as scope:
            await conn.read_from(bytearray(1))
        assert scope.cancelled_caught
        await conn.write_to(b"x", conn.local_addr)
        assert (await conn.read_from(bytearray(1)))[0] == 1


def test_asyncio_timeout():
    async def body():
        with opened() as conn:
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(0.05):
                    await conn.read_from(bytearray(1))

    asyncio.run(body())


def test_an_unread_error_queue_does_not_spin_the_loop():
    async def body():
        with opened() as conn:
            conn.receive_errors = True
            await conn.write_to(b"x", ("127.0.0.1", 1))
            await asyncio.sleep(0.05)
            start = time.process_time()
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(0.5):
                    await conn.read_from(bytearray(1))
            return time.process_time() - start

    assert asyncio.run(body()) < 0.3


def test_aio_refuses_other_conns():
    with PacketConn.udp() as conn:
        with pytest.raises(TypeError, match="RawConn"):
            AsyncRawConn(conn)
        with pytest.raises(TypeError, match="PacketConn"):
            AsyncPacketConn(5)


@privileged
def test_aio_raw():
    async def body():
        with RawConn.ip(253, "127.0.0.1") as raw:
            conn = AsyncRawConn(raw)
            await conn.write_to(Header(protocol=253, ttl=1, dst="127.0.0.1"), b"raw")
            header, payload, _ = await conn.read_from(bytearray(64))
            assert (header.dst, bytes(payload)) == (IPv4Address("127.0.0.1"), b"raw")
            conn.close()

    asyncio.run(body())
