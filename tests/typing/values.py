"""Headers, control messages, messages and enumerations as a typed program uses them."""

from ipaddress import IPv4Address
from typing import assert_type

import ipv4
from ipv4 import (
    HEADER_LEN,
    ROUTER_ALERT,
    VERSION,
    ControlFlags,
    ControlMessage,
    ErrorOrigin,
    ErrorReport,
    Header,
    HeaderFlags,
    ICMPFilter,
    ICMPType,
    Interface,
    Message,
    MessageBatch,
    PathMTUDiscovery,
    bpf,
)


def headers(packet: bytes) -> bytes:
    header = ipv4.parse_header(packet)
    assert_type(header, Header)
    assert_type(header.src, IPv4Address | None)
    header.parse(memoryview(packet), format="wire")
    header = Header(
        version=VERSION,
        len=HEADER_LEN + len(ROUTER_ALERT),
        flags=HeaderFlags.DONT_FRAGMENT | HeaderFlags.MORE_FRAGMENTS,
        src=IPv4Address("192.0.2.1"),
        dst=b"\xc0\x00\x02\x02",
        options=ROUTER_ALERT,
    )
    header.version, header.len, header.tos, header.total_len = 4, 20, 0, 20
    header.id, header.frag_off, header.ttl, header.protocol, header.checksum = 1, 0, 64, 17, 0
    header.flags = 2
    header.src, header.dst, header.options = None, "192.0.2.2", b""
    assert_type(header.flags, HeaderFlags)
    for kind, data in header.iter_options():
        assert_type(kind, int)
        assert_type(data, bytes)
    assert_type(header.compute_checksum(), int)
    assert_type(ipv4.checksum(packet, initial=0), int)
    pseudo = ipv4.pseudo_header("192.0.2.1", "192.0.2.2", 112, len(packet))
    assert_type(pseudo, bytes)
    assert_type(ipv4.checksum((pseudo, packet)), int)
    assert_type(header.__replace__(ttl=1), Header)
    return header.marshal() + bytes(header)


def controls(oob: bytearray) -> ControlMessage:
    oob = ipv4.new_control_message(ControlFlags.TTL | ControlFlags.DST)
    cm = ControlMessage(ttl=64, src="127.0.0.1", dst=None, ifindex=1, send_ttl=3, extra=())
    cm.parse(oob)
    assert_type(cm.reply(interface=True), ControlMessage)
    assert_type(cm.__replace__(ifindex=Interface(1, "lo")), ControlMessage)
    assert_type(cm.marshal(), bytes)
    cm.ttl, cm.ifindex, cm.src, cm.dst = 1, 2, None, "192.0.2.1"
    cm.tos = cm.timestamp = cm.drops = cm.segment_size = cm.send_ttl = cm.send_tos = None
    cm.options = cm.send_options = ROUTER_ALERT
    cm.spec_dst = IPv4Address("192.0.2.1")
    cm.original_dst = ("192.0.2.1", 53)
    cm.extra = [(0, 99, b"data")]
    assert_type(cm.ecn, int | None)
    assert_type(cm.original_dst, tuple[str, int])
    return cm.reply()


def messages() -> int:
    message = Message([bytearray(9), bytearray(9)], oob=bytearray(64), addr=("192.0.2.1", 53))
    message.buffers, message.oob, message.addr = b"one", None, None
    assert_type(message.control, ControlMessage | None)
    message.n, message.nn, message.flags = 0, 0, 0
    batch = MessageBatch(32, 1500, ControlFlags.TTL)
    assert_type(batch[0], Message)
    assert_type(batch[1:3], MessageBatch)
    assert_type(batch.payload(0), memoryview)
    for payload, peer in zip(batch.payloads(2), batch.peers(2), strict=True):
        assert_type(payload, memoryview)
        assert_type(peer, tuple[str, int] | None)
    for datagram, src in batch.datagrams():
        assert_type(datagram, memoryview)
        assert_type(src, tuple[str, int] | None)
    assert_type(batch.split(MessageBatch(64, 1500), 3), int)
    batch.reply(3, interface=True)
    for each in batch:
        assert_type(each, Message)
    for length, src, ttl, ifindex in batch.heads(3):
        assert_type((length, src, ttl, ifindex), tuple[int, tuple[str, int], int, int])
    columns = (
        batch.data, batch.lengths, batch.flags, batch.addrs, batch.ports, batch.ttls,
        batch.toses, batch.ifindexes, batch.timestamps, batch.segment_sizes,
        batch.dsts, batch.spec_dsts, batch.drops, batch.send_ttls, batch.send_toses,
    )  # fmt: skip
    return len(batch) + sum(len(column) for column in columns)


def names(report: ErrorReport, interface: Interface) -> str:
    accept = ICMPFilter()
    accept.set_all(True)
    accept.accept(ICMPType.ECHO_REPLY)
    accept.block(ICMPType.ECHO)
    assert_type(accept.will_block(ICMPType.ECHO), bool)
    assert_type(report.origin, ErrorOrigin)
    assert_type(report.offender, IPv4Address | None)
    told = (
        report.errno, report.icmp_type, report.icmp_code, report.info, report.addr,
        report.payload, report.timestamp, report.key,
    )  # fmt: skip
    assert_type(interface.index, int)
    assert_type(bpf.assemble([bpf.RetConstant(1)]), list[bpf.RawInstruction])
    found: dict[str, OSError | NotImplementedError | None] = ipv4.features()
    mode = PathMTUDiscovery.PROBE
    return f"{interface.name} {told} {found} {mode} {ICMPType.ECHO.protocol} {ipv4.__version__}"
