"""Packets that many tests send, and conns that send them."""

import select
import socket
import struct
import time
from typing import Any

import ipv4
from ipv4 import PacketConn

PAYLOAD = b"HELLO-R-U-THERE"


def echo(seq: int, typ: int = 8) -> bytes:
    """An ICMP echo request, or the answer to it where `typ` is 0, that bears `PAYLOAD`."""
    body = struct.pack("!BBHHH", typ, 0, 0, 0x1234, seq) + PAYLOAD
    return body[:2] + struct.pack("!H", ipv4.checksum(body)) + body[4:]


def udp(**options: Any) -> PacketConn:
    """A conn on loopback whose calls fail when nothing comes for half a minute."""
    conn = PacketConn.udp(("127.0.0.1", 0), **options)
    conn.set_deadline(time.monotonic() + 30)
    return conn


def drained(conn: PacketConn, size: int = 64) -> list[bytes]:
    """Whatever is waiting: the payloads in their order."""
    found = []
    buffer = bytearray(size)
    while True:
        try:
            n = conn.read_from(buffer, socket.MSG_DONTWAIT)[0]
        except BlockingIOError:
            return found
        found.append(bytes(buffer[:n]))


def until_an_error_waits(conn: PacketConn) -> None:
    """Return when the error queue holds something, or an error is pending."""
    poll = select.poll()
    poll.register(conn, 0)
    assert poll.poll(20_000), "no error comes"
