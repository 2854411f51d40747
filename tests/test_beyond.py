"""What goes beyond the reference: telling, being told, options, batches, event loops."""

import errno
import ipaddress
import json
import os
import socket
import struct
import time

import pytest
from support import capture, eventually, without_privilege

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


def test_packets_of_two_senders_between_hosts(pair):
    """Each packet arrives with what it was told, or else with its own sender's setting."""
    with (
        pair.b.call(PacketConn.udp, ("10.1.0.2", 0)) as receiver,
        pair.a.call(PacketConn.udp, ("10.1.0.1", 0), ttl=33, tos=0x20) as one,
        pair.a.call(PacketConn.udp, ("10.1.0.1", 0), ttl=44, tos=0x43) as two,
    ):
        receiver.set_read_deadline(time.monotonic() + 10)
        receiver.set_control_message(ControlFlags.TTL | ControlFlags.TOS, True)
        wanted = []
        for sender, told, ttl, tos in (
            (one, ControlMessage(send_ttl=5, send_tos=1), 5, 1),
            (two, ControlMessage(send_ttl=6, send_tos=2), 6, 2),
            (one, None, 33, 0x20),
            (two, ControlMessage(send_ttl=255), 255, 0x43),
            (one, ControlMessage(send_tos=0), 33, 0),
            (two, None, 44, 0x43),
        ):
            sender.write_to(b"x", receiver.local_addr, told)
            wanted.append((sender.local_addr, ttl, tos, tos & 3))
        got = []
        for _ in wanted:
            _, cm, src = receiver.read_from(bytearray(1))
            got.append((src, cm.ttl, cm.tos, cm.ecn))
        assert got == wanted
        assert (one.ttl, one.tos, two.ttl, two.tos) == (33, 0x20, 44, 0x43)


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


def test_extra_both_ways(pair):
    """Control messages without a name here: what is sent acts, what the kernel tells is kept."""
    ttl = (socket.IPPROTO_IP, socket.IP_TTL, struct.pack("=i", 9))
    recvfragsize = 25  # of linux/in.h
    with (
        pair.a.call(PacketConn.udp, ("10.1.0.1", 0)) as sender,
        pair.b.call(PacketConn.udp, ("10.1.0.2", 0)) as receiver,
    ):
        receiver.set_read_deadline(time.monotonic() + 10)
        receiver.setsockopt(socket.IPPROTO_IP, recvfragsize, 1)
        receiver.set_control_message(ControlFlags.TTL, True)
        sender.write_to(bytes(3000), receiver.local_addr, ControlMessage(extra=[ttl]))
        _, cm, _ = receiver.read_from(bytearray(3000))
    assert cm.ttl == 9
    assert list(cm.extra) == [(socket.IPPROTO_IP, recvfragsize, struct.pack("=i", 1500))]


def test_original_destination(conn):
    conn.set_control_message(ControlFlags.ORIGINAL_DST, True)
    conn.write_to(b"x", conn.local_addr)
    assert conn.read_from(bytearray(1))[1].original_dst == conn.local_addr


def test_a_reply_leaves_from_where_the_request_came(pair):
    """Several addresses and a group or broadcast request: the answer's source is the right one."""
    pair.b.add_address("10.1.0.50/24", "eth0")
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
                # A unicast answer goes by the routes; one to a group's or a broadcast's request
                # is tied to where that came from.
                tied = 0 if asked == source else cm.ifindex
                assert (answer.ifindex, answer.src) == (tied, cm.spec_dst)
                server.write_to(b"!", peer, answer)
                assert client.read_from(bytearray(9))[2] == (source, 7777)


@pytest.mark.needs("nft")
def test_a_transparent_proxy(pair):
    """An nft rule brings packets for others here: we learn for whom, and answer in their name."""
    foreign = ("203.0.113.9", 5000)
    pair.a.add_route("203.0.113.0/24", via="10.1.0.2")
    pair.b.add_rule(fwmark=1, table=100)
    pair.b.add_route("0.0.0.0/0", kind="local", iface="lo", table=100)
    pair.b.run(
        ["nft", "add table ip t;"
         " add chain ip t p { type filter hook prerouting priority mangle; };"
         " add rule ip t p udp dport 5000 tproxy to :6000 meta mark set 1 accept"]
    )  # fmt: skip
    with (
        pair.b.call(PacketConn.udp, ("0.0.0.0", 6000), transparent=True) as proxy,
        pair.a.call(PacketConn.udp, ("10.1.0.1", 0)) as client,
    ):
        proxy.set_read_deadline(time.monotonic() + 10)
        client.set_read_deadline(time.monotonic() + 10)
        proxy.set_control_message(ControlFlags.ORIGINAL_DST, True)
        client.write_to(b"?", foreign)
        _, cm, src = proxy.read_from(bytearray(9))
        assert (cm.original_dst, src) == (foreign, client.local_addr)

        with pytest.raises(OSError) as caught:
            pair.b.call(PacketConn.udp, foreign)
        assert caught.value.errno == errno.EADDRNOTAVAIL
        with pair.b.call(PacketConn.udp, foreign, transparent=True) as impostor:
            impostor.write_to(b"!", src)
        assert client.read_from(bytearray(9))[2] == foreign


def test_a_reply_leaves_by_the_interface_of_the_request(hosts):
    """Several interfaces and addresses, and a route that would answer by the first of them."""
    client, server = hosts("client"), hosts("server")
    hosts.link(client, server, "10.2.0.1/24", "10.2.0.2/24")
    hosts.link(client, server, "10.3.0.1/24", "10.3.0.2/24")
    client.add_address("192.0.2.1/32", "lo")
    server.add_address("10.3.0.50/24", "eth1")
    server.add_route("192.0.2.1", via="10.2.0.1", metric=10)
    server.add_route("192.0.2.1", via="10.3.0.1", metric=20)
    flags = ControlFlags.DST | ControlFlags.INTERFACE
    with (
        server.call(PacketConn.udp, ("0.0.0.0", 7777)) as asked,
        client.call(PacketConn.udp, ("0.0.0.0", 0), broadcast=True) as asking,
    ):
        for conn in (asked, asking):
            conn.set_read_deadline(time.monotonic() + 10)
            conn.set_control_message(flags, True)
        assert [e for e in asked.join_all("224.0.0.250").values() if e] == []
        # The kernel chooses the address for a group or a broadcast by its route to the sender.
        for me, to, iface, source in (
            ("192.0.2.1", "10.2.0.2", "eth0", "10.2.0.2"),
            ("192.0.2.1", "10.3.0.2", "eth1", "10.3.0.2"),
            ("192.0.2.1", "10.3.0.50", "eth1", "10.3.0.50"),
            ("192.0.2.1", "10.2.0.2", "eth1", "10.2.0.2"),
            ("192.0.2.1", "10.3.0.50", "eth0", "10.3.0.50"),
            ("10.2.0.1", "10.2.0.255", "eth0", "10.2.0.2"),
            ("10.3.0.1", "10.3.0.255", "eth1", "10.3.0.2"),
            ("10.2.0.1", "224.0.0.250", "eth0", "10.2.0.2"),
            ("10.3.0.1", "224.0.0.250", "eth1", "10.3.0.2"),
        ):
            told = ControlMessage(src=me, ifindex=asking._interface_index(iface))
            asking.write_to(b"?", (to, 7777), told)
            _, cm, peer = asked.read_from(bytearray(9))
            assert (str(cm.dst), peer[0]) == (to, me)
            asked.write_to(b"!", peer, cm.reply(interface=True))
            _, cm, peer = asking.read_from(bytearray(9))
            assert (peer, asking._interface(cm.ifindex).name) == ((source, 7777), iface)
            assert str(cm.dst) == me


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
    """Turned off, a socket hears its own groups alone, whatever others of the host joined."""
    options = {"reuse_address": True}
    with (
        pair.b.call(PacketConn.udp, ("0.0.0.0", 5000), **options) as other,
        pair.b.call(PacketConn.udp, ("0.0.0.0", 5000), multicast_all=False, **options) as own,
        pair.b.call(PacketConn.udp, ("0.0.0.0", 5000), **options) as every,
        pair.a.call(PacketConn.udp, ("10.1.0.1", 0), multicast_interface="eth0") as sender,
    ):
        other.join_group("224.0.0.250", "eth0")
        own.join_group("224.0.0.251", "eth0")
        for group in ("224.0.0.250", "224.0.0.251"):
            sender.write_to(group.encode(), (group, 5000))

        def heard(conn, count):
            conn.set_read_deadline(time.monotonic() + 10)
            return [read_text(conn) for _ in range(count)]

        both = ["224.0.0.250", "224.0.0.251"]
        assert heard(every, 2) == heard(other, 2) == both
        assert heard(own, 1) == both[1:]
        own.multicast_all = True
        sender.write_to(b"now too", ("224.0.0.250", 5000))
        assert heard(own, 1) == ["now too"]


def read_text(conn):
    buffer = bytearray(100)
    n, _, _ = conn.read_from(buffer)
    return buffer[:n].decode()


def test_a_source_filter_between_hosts(pair):
    """The whole filter at once, either mode: what it lists is heard, or all but that."""
    group = "232.1.1.1"
    for number in (11, 12, 13):
        pair.a.add_address(f"10.1.0.{number}/24", "eth0")
    with (
        pair.b.call(PacketConn.udp, ("0.0.0.0", 5000), multicast_all=False) as conn,
        pair.a.call(PacketConn.udp, ("0.0.0.0", 0), multicast_interface="eth0") as sender,
    ):
        conn.set_read_deadline(time.monotonic() + 10)
        for mode, sources, heard in (
            ("include", ["10.1.0.11"], "11"),
            ("include", ["10.1.0.12", "10.1.0.13"], "12 13"),
            ("exclude", ["10.1.0.12"], "11 13"),
            ("exclude", [], "11 12 13"),
        ):
            conn.set_source_filter(group, mode, sources, "eth0")
            found, listed = conn.source_filter(group, "eth0")
            assert (found, sorted(map(str, listed))) == (mode, sources)
            for n in (11, 12, 13):
                told = ControlMessage(src=f"10.1.0.{n}")
                sender.write_to(str(n).encode(), (group, 5000), told)
            sender.write_to(b"end", ("10.1.0.2", 5000))
            assert list(iter(lambda: read_text(conn), "end")) == heard.split()


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
    """Who is too far away is not even answered; who is near enough is served."""
    with socket.create_server(("127.0.0.1", 0)) as server, Conn(server) as conn:
        conn.min_ttl = 254
        assert conn.min_ttl == 254
        server.settimeout(10)
        clients = [socket.socket() for _ in range(2)]
        for client, ttl in zip(clients, (253, 254), strict=True):
            client.setblocking(False)
            Conn(client).ttl = ttl
            assert client.connect_ex(server.getsockname()) == errno.EINPROGRESS
        accepted, peer = server.accept()
        assert peer == clients[1].getsockname()
        server.setblocking(False)
        with pytest.raises(BlockingIOError):
            server.accept()
        for sock in (accepted, *clients):
            sock.close()


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
    with (
        pair.b.call(RawConn.ip, 2) as whole,
        pair.b.call(PacketConn.ip, 2) as payloads,
        pair.a.call(PacketConn.udp) as member,
    ):
        payloads.set_control_message(ControlFlags.OPTIONS, True)
        for conn in (whole, payloads):
            conn.set_read_deadline(time.monotonic() + 10)
            conn.join_group("224.0.0.22", "eth0")
        member.join_group("239.1.2.3", "eth0")
        payload = b""
        while not (payload[:1] == b"\x22" and b"\xef\1\2\3" in bytes(payload)):
            header, payload, _ = whole.read_from(bytearray(256))
        assert (str(header.dst), header.ttl, header.options) == ("224.0.0.22", 1, ipv4.ROUTER_ALERT)
        assert ipv4.checksum(payload) == 0
        buffer = bytearray(256)
        while b"\xef\1\2\3" not in buffer:
            _, cm, _ = payloads.read_from(buffer)
        assert cm.options == ipv4.ROUTER_ALERT


@pytest.mark.needs("bridge")
def test_a_querier_accepts_our_igmp_reports(pair):
    """A snooping bridge with a querier lists the groups of well-formed reports only."""
    pair.b.add_link("br0", "bridge", br_mcast_snooping=1, br_mcast_querier=1)
    pair.b.set_link("eth0", master="br0")
    pair.b.set_link("br0", up=True)

    def listed():
        (shown,) = json.loads(pair.b.run(["bridge", "-j", "mdb", "show"]).stdout)
        return {entry["grp"] for entry in shown["mdb"] if entry["port"] == "eth0"}

    def report(group, version, flaw=0):
        number = ipaddress.IPv4Address(group).packed
        if version == 2:  # RFC 2236: to the group itself
            body, dst = b"\x16\0\0\0" + number, group
        else:  # RFC 3376: one record, "change to exclude" of no source
            body, dst = b"\x22" + bytes(6) + b"\1\4\0\0\0" + number, "224.0.0.22"
        checksum = ipv4.checksum(body) ^ flaw
        return (
            Header(protocol=2, tos=0xC0, ttl=1, dst=dst, options=ipv4.ROUTER_ALERT),
            body[:2] + checksum.to_bytes(2, "big") + body[4:],
        )

    # A port that the bridge has not yet put to forwarding learns nothing.
    eventually(lambda: "state forwarding" in pair.b.run(["bridge", "link", "show"]).stdout)
    with (
        capture(pair.b, "eth0") as seen,
        pair.a.call(RawConn.ip, 2, multicast_interface="eth0") as conn,
    ):
        conn.write_to(*report("239.1.2.1", 3, flaw=1))
        conn.write_to(*report("239.1.2.2", 2, flaw=1))
        conn.write_to(*report("239.1.2.3", 3))
        conn.write_to(*report("239.1.2.4", 2))
        eventually(lambda: {"239.1.2.3", "239.1.2.4"} <= listed())
        seen.wait_for(4)
        assert not {"239.1.2.1", "239.1.2.2"} & listed()
    ours = [packet for packet in seen.packets if packet[12:16] == b"\x0a\1\0\1"]
    assert {packet[20:24] for packet in ours} == {ipv4.ROUTER_ALERT}


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
