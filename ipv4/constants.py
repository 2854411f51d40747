"""The names of RFC 791, RFC 792 and ip(7) that programs write: flags, types and modes."""

from enum import IntEnum, IntFlag

__all__ = [
    "HEADER_LEN",
    "ROUTER_ALERT",
    "VERSION",
    "ControlFlags",
    "ErrorOrigin",
    "HeaderFlags",
    "ICMPType",
    "PathMTUDiscovery",
]

VERSION = 4
"""The protocol version in the first nibble of every header (RFC 791 section 3.1)."""

HEADER_LEN = 20
"""Length in bytes of a header without options (RFC 791 section 3.1)."""

ROUTER_ALERT = b"\x94\x04\x00\x00"
"""The Router Alert option, whole (RFC 2113): "every router shall examine this packet"."""


class HeaderFlags(IntFlag):
    """Fragmentation flags of a header (RFC 791 section 3.1); the reserved bit, 4, is kept."""

    MORE_FRAGMENTS = 1
    """More fragments of this packet follow."""
    DONT_FRAGMENT = 2
    """Routers drop the packet, and say so, rather than cut it."""


class ControlFlags(IntFlag):
    """What a received packet shall tell in its `ControlMessage` (ip(7), socket(7), udp(7))."""

    TTL = 1
    """The time to live: `ControlMessage.ttl`, `MessageBatch.ttls`. IP_RECVTTL, Linux 2.2."""
    SRC = 2
    """The sender: `ControlMessage.src`. IP_PKTINFO, Linux 2.2."""
    DST = 4
    """The destination, as in the packet and as a local address: `ControlMessage.dst`,
    `ControlMessage.spec_dst`. IP_PKTINFO, Linux 2.2."""
    INTERFACE = 8
    """The interface that it came by: `ControlMessage.ifindex`, `MessageBatch.ifindexes`.
    IP_PKTINFO, Linux 2.2."""
    TOS = 16
    """The type of service: `ControlMessage.tos`, `ControlMessage.ecn`, `MessageBatch.toses`.
    IP_RECVTOS, Linux 2.2."""
    TIMESTAMP = 32
    """When the kernel took it in: `ControlMessage.timestamp`, `MessageBatch.timestamps`.
    SO_TIMESTAMPNS, Linux 2.6.22."""
    DROPS = 64
    """How many datagrams the socket has lost: `ControlMessage.drops`. SO_RXQ_OVFL, Linux 2.6.33."""
    ORIGINAL_DST = 128
    """The destination before a proxy's redirection: `ControlMessage.original_dst`.
    IP_RECVORIGDSTADDR, Linux 2.6.29."""
    SEGMENT_SIZE = 256
    """Several equal datagrams may come as one buffer: `ControlMessage.segment_size`,
    `MessageBatch.segment_sizes`. UDP_GRO, Linux 5.0."""
    OPTIONS = 512
    """The IP options: `ControlMessage.options`. IP_RECVOPTS, Linux 2.2."""


class ICMPType(IntEnum):
    """Type of an ICMP message (RFC 792 and the IANA registry); any value of 0-255 is accepted."""

    ECHO_REPLY = 0
    """The answer to a ping (RFC 792)."""
    DESTINATION_UNREACHABLE = 3
    """A host, port or protocol cannot be reached, or a packet is too big (RFC 792, 1191)."""
    REDIRECT = 5
    """Another router is nearer (RFC 792)."""
    ECHO = 8
    """A ping (RFC 792)."""
    ROUTER_ADVERTISEMENT = 9
    """A router says that it is there (RFC 1256)."""
    ROUTER_SOLICITATION = 10
    """A host asks for routers (RFC 1256)."""
    TIME_EXCEEDED = 11
    """The TTL ran out, or a fragment was missed too long (RFC 792)."""
    PARAMETER_PROBLEM = 12
    """A header field is wrong (RFC 792)."""
    TIMESTAMP = 13
    """A question for the time (RFC 792)."""
    TIMESTAMP_REPLY = 14
    """The answer to it (RFC 792)."""
    PHOTURIS = 40
    """Photuris, a security protocol (RFC 2521)."""
    EXTENDED_ECHO_REQUEST = 42
    """A question for an interface's state (RFC 8335)."""
    EXTENDED_ECHO_REPLY = 43
    """The answer to it (RFC 8335)."""

    @classmethod
    def _missing_(cls, value: object) -> "ICMPType | None":
        if not isinstance(value, int) or not 0 <= value <= 255:
            return None
        member = int.__new__(cls, value)
        member._name_ = f"TYPE_{value}"
        member._value_ = value
        # One object per value, as for the named types: `is` and pickling hold.
        return cls._value2member_map_.setdefault(value, member)  # type: ignore[return-value]

    def __reduce_ex__(self, protocol: object) -> tuple[type, tuple[int]]:
        # By value: early CPython 3.11 pickles members by name, which those made here lack.
        return type(self), (self._value_,)

    @property
    def protocol(self) -> int:
        """Protocol number of ICMP, 1."""
        return 1

    def __str__(self) -> str:
        if self._name_.startswith("TYPE_"):
            return "<nil>"
        return self._name_.lower().replace("_", " ")


class PathMTUDiscovery(IntEnum):
    """Modes of IP_MTU_DISCOVER (ip(7); the numbers are the kernel's)."""

    DONT = 0
    """Routers may fragment; "don't fragment" is never set. IP_PMTUDISC_DONT, Linux 2.2."""
    WANT = 1
    """Set it, and fragment here what is larger than the path's MTU. IP_PMTUDISC_WANT, Linux 2.2."""
    DO = 2
    """Set it, and refuse what is larger with EMSGSIZE. IP_PMTUDISC_DO, Linux 2.2."""
    PROBE = 3
    """Set it, and ignore the MTU learned, to probe the path. IP_PMTUDISC_PROBE, Linux 2.6.22."""
    INTERFACE = 4
    """Never set it, and go by the interface's MTU alone. IP_PMTUDISC_INTERFACE, Linux 3.13."""
    OMIT = 5
    """As INTERFACE, and fragment here what is larger. IP_PMTUDISC_OMIT, Linux 3.15."""


class ErrorOrigin(IntEnum):
    """Who reported an entry of the error queue (ee_origin, ip(7) and <linux/errqueue.h>)."""

    NONE = 0
    """Nobody is named."""
    LOCAL = 1
    """This host: a datagram was too big, or has no route."""
    ICMP = 2
    """An ICMP message from `ErrorReport.offender`."""
    ICMP6 = 3
    """An ICMPv6 message."""
    TIMESTAMPING = 4
    """No error: a transmit timestamp (`set_timestamping`)."""
    ZEROCOPY = 5
    """No error: a range of sends without copying is done (MSG_ZEROCOPY)."""
    TXTIME = 6
    """A datagram missed its transmit time (SO_TXTIME)."""
