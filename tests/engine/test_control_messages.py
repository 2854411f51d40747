"""Control messages on real packets: what one tells, and what one can be told."""

import errno
import socket
import struct
import time

import pytest

import ipv4
from ipv4 import ControlFlags, ControlMessage, Message, PacketConn


@pytest.mark.parity("ECN, kernel timestamps, lost datagrams, TTL and TOS of each packet")
def test_tos_and_ecn(conn):
    conn.set_control_message(ControlFlags.TOS, True)
    for tos in range(4):
        conn.write_to(b"x", conn.local_addr, ControlMessage(send_tos=0xB8 | tos))
        _, cm, _ = conn.read_from(bytearray(1))
        assert (cm.tos, cm.ecn) == (0xB8 | tos, tos)
    assert conn.tos == 0


@pytest.mark.parity(
    "ECN, kernel timestamps, lost datagrams, TTL and TOS of each packet",
    "timestamps that come late or never",
)
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


@pytest.mark.parity("ECN, kernel timestamps, lost datagrams, TTL and TOS of each packet")
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


@pytest.mark.parity("replies")
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
@pytest.mark.parity("options")
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


@pytest.mark.parity("replies")
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


@pytest.mark.parity(
    "ECN, kernel timestamps, lost datagrams, TTL and TOS of each packet", "a full receive queue"
)
def test_a_full_receive_queue_is_counted(conn):
    conn.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    conn.set_control_message(ControlFlags.DROPS, True)
    for i in range(200):
        conn.write_to(bytes([i]) * 100, conn.local_addr)
    got = 0
    with pytest.raises(BlockingIOError):
        while True:
            conn.read_from(bytearray(200), socket.MSG_DONTWAIT)
            got += 1
    assert 0 < got < 200
    conn.write_to(b"after", conn.local_addr)
    _, cm, _ = conn.read_from(bytearray(200))
    assert cm.drops == 200 - got


def test_what_a_program_keeps_is_not_filled_anew(conn):
    # What nobody holds any more is used again by a later read.
    conn.set_control_message(ControlFlags.TTL, True)
    kept, read = [], []
    for i in range(12):
        conn.write_to(b"x", conn.local_addr, ControlMessage(send_ttl=10 + i))
        got = conn.read_from(bytearray(1))
        read.append(got[1].ttl)
        got[1].send_tos = 7  # stays with this message
        if i % 3:
            kept.append((10 + i, got if i % 2 else got[1]))
        got = None
    assert read == list(range(10, 22))
    for ttl, each in kept:
        cm = each[1] if isinstance(each, tuple) else each
        assert (cm.ttl, cm.send_tos) == (ttl, 7)
    conn.write_to(b"x", conn.local_addr)
    assert conn.read_from(bytearray(1))[1].send_tos is None


def test_a_message_that_is_used_again_tells_nothing_of_before(conn):
    conn.set_control_message(ControlFlags.TTL, True)
    for before in ({"extra": ((1, 2, b"x"),)}, {"options": b"\x01" * 4}, {"drops": 3}):
        for _ in range(4):
            conn.write_to(b"x", conn.local_addr)
            cm = conn.read_from(bytearray(1))[1]
            assert (cm.extra, cm.options, cm.drops) == ((), None, None)
            for name, value in before.items():
                setattr(cm, name, value)
            cm = None
