"""The OSPF Hello packet (RFC 2328 appendix A.3.1 and A.3.2) as bytes and back."""

import struct
from dataclasses import dataclass
from ipaddress import IPv4Address

import ipv4

__all__ = ["ALL_SPF_ROUTERS", "HELLO", "PROTOCOL", "Hello", "ip_header"]

PROTOCOL = 89
ALL_SPF_ROUTERS = IPv4Address("224.0.0.5")
HELLO = 1

VERSION = 2
EXTERNAL_ROUTING = 0x02
"""The E-bit of the options: the area is not a stub, and both sides must agree (section 9.5)."""

# version, type, packet length, router id, area id, checksum, authentication type and data
COMMON = struct.Struct("!BBH4s4sHH8s")
# network mask, hello interval, options, priority, dead interval, designated router, its backup
BODY = struct.Struct("!4sHBBI4s4s")
FIXED = COMMON.size + BODY.size
CHECKSUM_AT = 12
AUTHENTICATION = slice(16, 24)

UNSPECIFIED = IPv4Address(0)


@dataclass(frozen=True)
class Hello:
    """An OSPFv2 Hello without authentication; intervals are in seconds.

    `neighbors` are the router ids that its sender has heard within the dead interval.
    """

    router_id: IPv4Address
    area_id: IPv4Address
    mask: IPv4Address
    hello_interval: int
    dead_interval: int
    priority: int = 0
    options: int = EXTERNAL_ROUTING
    designated_router: IPv4Address = UNSPECIFIED
    backup_router: IPv4Address = UNSPECIFIED
    neighbors: tuple[IPv4Address, ...] = ()

    def encode(self) -> bytes:
        """The packet as it follows the IP header, checksum filled in."""
        packet = bytearray(
            COMMON.pack(
                VERSION,
                HELLO,
                FIXED + 4 * len(self.neighbors),
                self.router_id.packed,
                self.area_id.packed,
                0,
                0,
                bytes(8),
            )
            + BODY.pack(
                self.mask.packed,
                self.hello_interval,
                self.options,
                self.priority,
                self.dead_interval,
                self.designated_router.packed,
                self.backup_router.packed,
            )
        )
        for neighbor in self.neighbors:
            packet += neighbor.packed
        struct.pack_into("!H", packet, CHECKSUM_AT, ipv4.checksum(packet))
        return bytes(packet)

    @classmethod
    def decode(cls, packet: bytes | memoryview) -> "Hello":
        """Read a Hello.

        Parameters
        ----------
        packet : bytes-like
            An IP payload; what follows the packet's own length is not part of it.

        Raises
        ------
        ValueError
            If it is not a whole OSPFv2 Hello without authentication and with a right checksum;
            the message says which check failed (RFC 2328 section 8.2).
        """
        if len(packet) < FIXED:
            raise ValueError(f"{len(packet)} bytes are too few for a Hello, which has {FIXED}")
        version, kind, length, router, area, _, authentication, _ = COMMON.unpack_from(packet)
        if version != VERSION:
            raise ValueError(f"OSPF version {version}, not {VERSION}")
        if kind != HELLO:
            raise ValueError(f"OSPF packet of type {kind}, not a Hello")
        if authentication:
            raise ValueError(f"authentication of type {authentication}, which is not spoken here")
        if length < FIXED or length > len(packet) or (length - FIXED) % 4:
            raise ValueError(f"packet length {length} is wrong for {len(packet)} bytes received")
        summed = bytearray(packet[:length])
        summed[AUTHENTICATION] = bytes(8)  # the one part that the checksum leaves out
        if ipv4.checksum(summed):
            raise ValueError("wrong checksum")
        mask, hello, options, priority, dead, designated, backup = BODY.unpack_from(
            packet, COMMON.size
        )
        return cls(
            router_id=IPv4Address(router),
            area_id=IPv4Address(area),
            mask=IPv4Address(mask),
            hello_interval=hello,
            dead_interval=dead,
            priority=priority,
            options=options,
            designated_router=IPv4Address(designated),
            backup_router=IPv4Address(backup),
            neighbors=tuple(
                IPv4Address(bytes(packet[at : at + 4])) for at in range(FIXED, length, 4)
            ),
        )


def ip_header(payload: bytes) -> ipv4.Header:
    """The IP header of an OSPF packet to all routers of a link (RFC 2328 appendix A.1).

    TTL 1 keeps it on the link, and 0xc0 (CS6, RFC 4594) is the precedence of routing protocols.
    Identification, source and checksum are left for the kernel to fill.
    """
    return ipv4.Header(
        tos=0xC0,
        total_len=ipv4.HEADER_LEN + len(payload),
        ttl=1,
        protocol=PROTOCOL,
        dst=ALL_SPF_ROUTERS,
    )
