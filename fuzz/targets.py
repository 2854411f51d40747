"""What is fuzzed: one function a target, which takes bytes and raises when a promise is broken.

A target may raise nothing for any input but what it catches itself: the library's promise is one
clear ValueError for malformed bytes, and agreement with an independent reading for the rest.
"""

import socket
import struct

import ipv4
from ipv4 import bpf

CMSG = struct.Struct("@Nii")  # cmsg_len, level, type


def header(data: bytes) -> None:
    """Parse, compare with struct, marshal, and parse again."""
    head = ipv4.Header()
    try:
        head.parse(data)
    except ValueError:
        ihl = (data[0] & 15) * 4 if data else 0
        assert len(data) < 20 or ihl < 20 or ihl > len(data) or data[0] >> 4 != 4, data
        return
    first, tos, total, ident, frag, ttl, protocol, checksum = struct.unpack_from("!BBHHHBBH", data)
    ihl = (first & 15) * 4
    assert (head.version, head.len, head.tos, head.total_len) == (4, ihl, tos, total)
    assert (head.id, head.flags, head.frag_off) == (ident, frag >> 13, frag & 0x1FFF)
    assert (head.ttl, head.protocol, head.checksum) == (ttl, protocol, checksum)
    assert head.src.packed == data[12:16]
    assert head.dst.packed == data[16:20]
    assert head.options == data[20:ihl]
    assert head.marshal() == data[:ihl]
    assert ipv4.parse_header(head.marshal()) == head
    assert 0 <= head.compute_checksum() <= 0xFFFF
    assert "," not in str(head)
    repr(head)


def options(data: bytes) -> None:
    """Walk an option list; each step must advance within the list."""
    head = ipv4.Header(options=data[:60])
    try:
        found = list(head.iter_options())
    except ValueError:
        return
    assert sum(1 if kind == 1 else len(body) + 2 for kind, body in found) <= len(data[:60])
    assert all(kind != 0 for kind, _ in found)


def control_model(data: bytes) -> list[tuple[int, int, bytes]] | None:
    """The control messages in a buffer, or None when one of them is malformed."""
    found = []
    at = 0
    while len(data) - at >= CMSG.size:
        length, level, kind = CMSG.unpack_from(data, at)
        if length < CMSG.size or length > len(data) - at:
            return None
        found.append((level, kind, data[at + CMSG.size : at + length]))
        at += socket.CMSG_SPACE(length - CMSG.size)
    return found


def control(data: bytes) -> None:
    """Parse control bytes three ways: at once, as a received message, and by a plain model."""
    model = control_model(data)
    cm = ipv4.ControlMessage()
    before = ipv4.ControlMessage()
    try:
        cm.parse(data)
    except ValueError:
        assert model is None, data
        assert cm == before, data
        return
    assert model is not None, data
    ttl = ifindex = 0
    for level, kind, body in model:
        if (level, kind) == (0, 2) and body:
            ttl = body[0]
        if (level, kind) == (0, 8) and len(body) >= 12:
            ifindex = max(struct.unpack_from("=i", body)[0], 0)
    assert cm.ttl == ttl, data
    assert cm.ifindex == ifindex, data
    for value in (cm.tos, cm.ecn, cm.timestamp, cm.drops, cm.original_dst, cm.options):
        repr(value)
    repr(cm)
    sent = cm.marshal()  # only the interface of a received message may be sent on
    assert len(sent) == (socket.CMSG_SPACE(12) if ifindex else 0), data
    again = ipv4.ControlMessage()
    again.extra = cm.extra
    assert again.extra == cm.extra
    message = ipv4.Message(oob=bytearray(data))
    message.nn = len(data)
    received = message.control
    if received is not None:
        assert (received.ttl, received.ifindex) == (cm.ttl, cm.ifindex), data
        assert received.extra == cm.extra, data


def addresses(data: bytes) -> None:
    """Text as an address: exactly what inet_pton takes, else ValueError."""
    text = data.decode("latin-1")
    parts = text.split(".")
    valid = len(parts) == 4 and all(
        p.isascii() and p.isdigit() and str(int(p)) == p and int(p) < 256 for p in parts
    )
    try:
        head = ipv4.Header(dst=text)
    except ValueError:
        assert not valid, text
        return
    assert valid, text
    assert str(head.dst) == text


def filters(data: bytes) -> None:
    """Any words as a program: disassembled, assembled again, checked and run."""
    words = [struct.unpack_from("=HBBI", data, at) for at in range(0, len(data) - 7, 8)]
    if not words:
        return
    raw = [bpf.RawInstruction(*word) for word in words]
    program, _ = bpf.disassemble(raw)
    once = bpf.assemble(program)
    assert bpf.assemble(bpf.disassemble(once)[0]) == once
    for instruction in program:
        str(instruction)
    try:
        vm = bpf.VM(program)
    except ValueError:
        return
    assert 0 <= vm.run(data) <= 0xFFFFFFFF


def listings(data: bytes) -> None:
    """Any text as `tcpdump -ddd` output: a program, or ValueError."""
    try:
        program = bpf.loads(data.decode("latin-1"))
    except ValueError:
        return
    assert all(isinstance(each, bpf.RawInstruction) for each in program)


TARGETS = {
    target.__name__: target for target in (header, options, control, addresses, filters, listings)
}
