"""What goes beyond the reference: telling, being told, options, batches, event loops."""

import errno
import socket
import struct
import time

import pytest
from support import without_privilege

import ipv4
from ipv4 import (
    Conn,
    ControlFlags,
    ControlMessage,
    Header,
    Message,
    PacketConn,
    RawConn,
    bpf,
)

privileged = pytest.mark.privileged


@pytest.fixture
def conn():
    with PacketConn.udp(("127.0.0.1", 0)) as conn:
        conn.set_read_deadline(time.monotonic() + 20)
        yield conn


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
