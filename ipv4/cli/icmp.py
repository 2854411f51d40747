"""ICMP echo messages, and the errors that quote them (RFC 792)."""

import struct
from dataclasses import dataclass
from ipaddress import IPv4Address

import ipv4
from ipv4 import ICMPType

__all__ = ["Answer", "echo_request", "parse_answer", "unreachable_mark"]

# type, code, checksum, identifier, sequence number
ECHO = struct.Struct("!BBHHH")
CHECKSUM_AT = 2

# Codes of "destination unreachable" by the mark that traceroutes have for them.
MARKS = {
    "!N": (0, 6, 11),
    "!H": (1, 7, 12),
    "!P": (2,),
    "": (3,),
    "!F": (4,),
    "!S": (5,),
    "!X": (9, 10, 13),
}


@dataclass(frozen=True)
class Answer:
    """What came back for an echo request: a reply, or an error about it.

    Attributes
    ----------
    type, code : ICMPType, int
        Of the message itself.
    identifier, sequence : int
        Of the request that it answers.
    destination : IPv4Address or None
        Where the request that an error quotes was going; None for a reply.
    data : bytes
        What a reply carries back; what an error quotes after the request's first eight bytes is
        not kept, as routers quote more or less of it.
    """

    type: ICMPType
    code: int
    identifier: int
    sequence: int
    destination: IPv4Address | None = None
    data: bytes = b""


def echo_request(identifier: int, sequence: int, data: bytes) -> bytes:
    """An echo request, checksum filled in."""
    message = bytearray(ECHO.pack(ICMPType.ECHO, 0, 0, identifier, sequence) + data)
    struct.pack_into("!H", message, CHECKSUM_AT, ipv4.checksum(message))
    return bytes(message)


def parse_answer(message: bytes | memoryview) -> Answer | None:
    """Read a message as the answer to an echo request.

    Parameters
    ----------
    message : bytes-like
        An ICMP message, without the IP header that it came with.

    Returns
    -------
    Answer or None
        None for a sound message that answers no echo request.

    Raises
    ------
    ValueError
        If it is too short, has a wrong checksum, or quotes what is no packet.
    """
    if len(message) < ECHO.size:
        raise ValueError(f"{len(message)} bytes are too few for an ICMP message")
    if ipv4.checksum(message):
        raise ValueError("wrong checksum")
    kind, code, _, identifier, sequence = ECHO.unpack_from(message)
    if kind == ICMPType.ECHO_REPLY:
        data = bytes(message[ECHO.size :])
        return Answer(ICMPType(kind), code, identifier, sequence, data=data)
    if kind not in (ICMPType.TIME_EXCEEDED, ICMPType.DESTINATION_UNREACHABLE):
        return None
    # The router's checksum covers what it quotes, but nobody vouches for the quotation itself.
    quoted = ipv4.Header()
    quoted.parse(message[ECHO.size :], format="wire")
    request = message[ECHO.size + quoted.len :]
    if quoted.protocol != ICMPType.ECHO.protocol or quoted.frag_off:
        return None
    if len(request) < ECHO.size:
        raise ValueError(f"{len(request)} quoted bytes are too few for an ICMP message")
    asked, asked_code, _, identifier, sequence = ECHO.unpack_from(request)
    if (asked, asked_code) != (ICMPType.ECHO, 0):
        return None
    return Answer(ICMPType(kind), code, identifier, sequence, destination=quoted.dst)


def unreachable_mark(code: int) -> str:
    """How a traceroute marks "destination unreachable": "" for a port, where a trace ends well."""
    return next((mark for mark, codes in MARKS.items() if code in codes), f"!{code}")
