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
    DONT_FRAGMENT = 2


class ControlFlags(IntFlag):
    """What a received packet shall tell in its `ControlMessage` (ip(7), socket(7), udp(7))."""

    TTL = 1
    SRC = 2
    DST = 4
    INTERFACE = 8
    TOS = 16
    TIMESTAMP = 32
    DROPS = 64
    ORIGINAL_DST = 128
    SEGMENT_SIZE = 256
    OPTIONS = 512


class ICMPType(IntEnum):
    """Type of an ICMP message (RFC 792 and the IANA registry); any value of 0-255 is accepted."""

    ECHO_REPLY = 0
    DESTINATION_UNREACHABLE = 3
    REDIRECT = 5
    ECHO = 8
    ROUTER_ADVERTISEMENT = 9
    ROUTER_SOLICITATION = 10
    TIME_EXCEEDED = 11
    PARAMETER_PROBLEM = 12
    TIMESTAMP = 13
    TIMESTAMP_REPLY = 14
    PHOTURIS = 40
    EXTENDED_ECHO_REQUEST = 42
    EXTENDED_ECHO_REPLY = 43

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
    WANT = 1
    DO = 2
    PROBE = 3
    INTERFACE = 4
    OMIT = 5


class ErrorOrigin(IntEnum):
    """Who reported an entry of the error queue (ee_origin, ip(7) and <linux/errqueue.h>)."""

    NONE = 0
    LOCAL = 1
    ICMP = 2
    ICMP6 = 3
    TIMESTAMPING = 4
    ZEROCOPY = 5
    TXTIME = 6
