"""Packets that many tests send."""

import struct

import ipv4

PAYLOAD = b"HELLO-R-U-THERE"


def echo(seq: int, typ: int = 8) -> bytes:
    """An ICMP echo request, or the answer to it where `typ` is 0, that bears `PAYLOAD`."""
    body = struct.pack("!BBHHH", typ, 0, 0, 0x1234, seq) + PAYLOAD
    return body[:2] + struct.pack("!H", ipv4.checksum(body)) + body[4:]
