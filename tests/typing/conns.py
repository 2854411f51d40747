"""Conns, on this thread and awaited, as a typed program uses them."""

import socket
import time
from ipaddress import IPv4Address
from typing import Any, Literal, assert_type

from ipv4 import (
    Conn,
    ControlFlags,
    ControlMessage,
    ErrorReport,
    Header,
    ICMPFilter,
    Interface,
    MemoryInfo,
    Message,
    MessageBatch,
    PacketConn,
    PathMTUDiscovery,
    RawConn,
    bpf,
)
from ipv4.aio import AsyncPacketConn, AsyncRawConn


def any_socket(sock: socket.socket) -> None:
    with Conn(sock) as conn:
        conn.tos, conn.ttl, conn.min_ttl = 0xB8, 64, 255
        assert_type(conn.ttl, int)
        conn.set_deadline(time.monotonic() + 1)
        conn.set_read_deadline(None)
        conn.set_write_deadline(2)
        conn.release_gil = None
        assert_type(conn.timeout, float | None)
        conn.timeout = 2.5
        assert_type(conn.socket, socket.socket)
        assert_type(conn.local_addr, tuple[str, int])
        assert_type(conn.closed, bool)
        assert_type(conn.fileno(), int)
        assert_type(conn.detach(), int)
    conn.close()


def openers() -> list[PacketConn | RawConn]:
    return [
        PacketConn.udp(("127.0.0.1", 0), reuse_address=True, reuse_port=True, freebind=True),
        PacketConn.ip(socket.IPPROTO_ICMP, "127.0.0.1", netns="blue", mark=1),
        PacketConn.ping(receive_errors=True),
        RawConn.ip(89, router_alert=True),
    ]


def options(conn: PacketConn | RawConn, raw: RawConn) -> None:
    conn.multicast_ttl, conn.priority, conn.mark, conn.busy_poll = 1, 2, 3, 4
    conn.receive_buffer = conn.send_buffer = 1 << 20
    conn.multicast_loopback = conn.multicast_all = conn.freebind = conn.transparent = True
    conn.broadcast = conn.receive_errors = conn.segmentation = True
    conn.path_mtu_discovery = PathMTUDiscovery.DO
    assert_type(conn.path_mtu_discovery, PathMTUDiscovery)
    conn.bound_interface, conn.unicast_interface, conn.multicast_interface = "eth0", 2, (2, "eth0")
    assert_type(conn.bound_interface, Interface | None)
    assert_type(conn.path_mtu, int)
    conn.ip_options = b"\x94\x04\x00\x00"
    conn.setsockopt(socket.IPPROTO_IP, socket.IP_TTL, 3)
    assert_type(conn.getsockopt(socket.IPPROTO_IP, socket.IP_TTL), int)
    assert_type(conn.getsockopt(socket.IPPROTO_IP, socket.IP_TTL, 4), bytes)
    raw.router_alert = False


def one_peer(conn: PacketConn, raw: RawConn, stream: Conn) -> None:
    PacketConn.udp(("127.0.0.1", 0), ("127.0.0.1", 9), timeout=1, control=ControlFlags.TTL)
    RawConn.ip(89, control=ControlFlags.TTL, options=[(0, 1, 8), (0, 4, b"")], no_defragment=True)
    conn.connect("127.0.0.1")
    conn.disconnect()
    assert_type(conn.remote_addr, tuple[str, int] | None)
    assert_type(conn.memory_info, MemoryInfo)
    assert_type(conn.pending + conn.unsent, int)
    info = conn.memory_info
    assert_type(info.receive_queue + info.receive_buffer + info.send_queue + info.send_buffer, int)
    assert_type(info.forward + info.write_queued + info.options + info.backlog + info.drops, int)
    conn.local_port_range, conn.bind_address_no_port, conn.incoming_cpu = (1, 2), True, 0
    conn.max_pacing_rate = None
    raw.no_defragment = True
    assert_type(stream.original_dst, tuple[str, int])


def groups(conn: PacketConn, group: str) -> None:
    conn.join_group(group)
    assert_type(conn.interface(2), Interface)
    conn.leave_group(IPv4Address(group), "eth0")
    conn.join_source_specific_group(group, "192.0.2.1", 2)
    conn.leave_source_specific_group(group, "192.0.2.1", 2)
    conn.exclude_source_specific_group(group, "192.0.2.1")
    conn.include_source_specific_group(group, "192.0.2.1")
    assert_type(conn.join_all(group), dict[Interface, OSError | None])
    conn.set_source_filter(group, "include", ["192.0.2.1"], "eth0")
    mode, sources = conn.source_filter(group, "eth0")
    assert_type(mode, Literal["include", "exclude"])
    assert_type(sources, list[IPv4Address])


def filters(conn: PacketConn) -> None:
    conn.icmp_filter = ICMPFilter()
    conn.set_bpf(bpf.minimum_ttl(255), drain=True)
    conn.set_bpf([(6, 0, 0, 4096)])
    conn.set_bpf(None)
    conn.set_reuseport_bpf([bpf.RetConstant(0)])
    conn.min_ttl = 255
    conn.lock_bpf()


def packets(conn: PacketConn, raw: RawConn, batch: MessageBatch) -> int:
    conn.set_control_message(ControlFlags.TTL, True)
    assert_type(conn.control_flags, ControlFlags)
    n, cm, src = conn.read_from(bytearray(1500), socket.MSG_PEEK)
    if cm is not None:
        n += conn.write_to(b"answer", src, cm.reply())
    header, payload, cm = raw.read_from(bytearray(1500))
    assert_type(header, Header)
    assert_type(payload, memoryview)
    assert_type(cm, ControlMessage | Any)
    n += raw.write_to(header, payload, cm)
    n += conn.read_batch(batch) + conn.write_batch([Message(b"one")], socket.MSG_DONTWAIT)
    assert_type(conn.write_all(batch), list[tuple[int, OSError]])
    conn.set_timestamping(0)
    assert_type(conn.read_error(), ErrorReport | None)
    report = conn.read_error(wait=True)
    assert_type(report, ErrorReport)
    assert_type(report.control, ControlMessage | None)
    assert_type(conn.receive(), tuple[bytes, ControlMessage | Any, tuple[str, int]])
    assert_type(raw.receive(9, flags=0), tuple[Header, bytes, ControlMessage | Any])
    conn.coalesce = True
    assert_type(conn.coalesce and conn.coalescing, bool)
    return n


async def awaited(conn: PacketConn, raw: RawConn, batch: MessageBatch) -> None:
    async with AsyncPacketConn(conn) as aconn, AsyncRawConn(raw) as araw:
        n, _, src = await aconn.read_from(bytearray(1500))
        assert_type(n, int)
        assert_type(await aconn.write_to(b"", src), int)
        header, payload, _ = await araw.read_from(bytearray(1500))
        await araw.write_to(header, payload)
        await aconn.read_batch(batch)
        await aconn.write_batch(batch)
        assert_type(await aconn.write_all(batch), list[tuple[int, OSError]])
        async for n in aconn.batches(batch):
            assert_type(n, int)
        data, _, src = await aconn.receive()
        assert_type(data, bytes)
        async for _, data, _ in araw:
            assert_type(data, bytes)
        assert_type(await aconn.read_error(), ErrorReport | None)
        async for report in aconn.errors():
            assert_type(report, ErrorReport)
        assert_type(aconn.try_write_to(b"", src), bool)
        assert_type(araw.try_write_to(header, payload), bool)
        assert_type(aconn.ttl, int)
        assert_type(aconn.local_addr, tuple[str, int])
        assert_type(aconn.timeout, float | None)
        aconn.ttl = araw.ttl = 9
        aconn.join_group("224.0.0.9")
        aconn.set_read_deadline(time.monotonic() + 1)
        aconn.tll = 9  # type: ignore[attr-defined]
        assert_type(AsyncPacketConn.udp(("127.0.0.1", 0), ttl=9), AsyncPacketConn)
        assert_type(AsyncRawConn.ip(89), AsyncRawConn)
    aconn.close()
    await aconn.aclose()
