"""Ready programs for what many sockets want filtered."""

from __future__ import annotations

from .assembler import assemble
from .instructions import (
    TAX,
    ALUOpConstant,
    ALUOpX,
    JumpIf,
    LoadAbsolute,
    LoadIndirect,
    LoadMemShift,
    RetConstant,
)
from .opcodes import NETWORK_HEADER, ALUOp, JumpTest
from .word import RawInstruction, unsigned

__all__ = ["icmp_echo_id", "minimum_ttl"]

# Offsets in an IP header (RFC 791 section 3.1) and in an ICMP message (RFC 792).
_IP_FRAGMENT, _IP_TTL, _IP_PROTOCOL = 6, 8, 9
_ICMP_TYPE, _ICMP_ECHO_ID, _ICMP_QUOTE = 0, 4, 8

_ICMP = 1
_ECHO_REPLY, _UNREACHABLE, _ECHO, _TIME_EXCEEDED, _PARAMETER_PROBLEM = 0, 3, 8, 11, 12

_ALL, _NOTHING = RetConstant(0xFFFFFFFF), RetConstant(0)


def minimum_ttl(n: int) -> list[RawInstruction]:
    """Make a program that receives packets whose TTL is at least `n` (RFC 5082 section 3).

    It finds the IP header by itself: it serves UDP and raw sockets alike, on Linux.

    Parameters
    ----------
    n : int
        0-255; 255 lets through only what no router has forwarded.
    """
    n = unsigned(n, 8, "n")
    return assemble(
        [
            LoadAbsolute(NETWORK_HEADER + _IP_TTL, 1),
            JumpIf(JumpTest.GREATER_OR_EQUAL, n, skip_true=1),
            _NOTHING,
            _ALL,
        ]
    )


def icmp_echo_id(id: int) -> list[RawInstruction]:
    """Make a program for a raw ICMP socket that receives what answers the echo requests of one
    identifier (RFC 792).

    That is the echo replies with it, and the errors (destination unreachable, time exceeded,
    parameter problem) that quote an echo request with it. All else is dropped.

    Parameters
    ----------
    id : int
        The identifier, 16 bits.
    """
    id = unsigned(id, 16, "id")
    return assemble(
        [
            LoadMemShift(0),  # X = where the ICMP message begins
            LoadIndirect(_ICMP_TYPE, 1),
            JumpIf(JumpTest.EQUAL, _ECHO_REPLY, skip_true=15),
            JumpIf(JumpTest.EQUAL, _UNREACHABLE, skip_true=2),
            JumpIf(JumpTest.EQUAL, _TIME_EXCEEDED, skip_true=1),
            JumpIf(JumpTest.EQUAL, _PARAMETER_PROBLEM, skip_false=14),
            # An error: the quoted packet must be the beginning of an ICMP message.
            LoadIndirect(_ICMP_QUOTE + _IP_PROTOCOL, 1),
            JumpIf(JumpTest.EQUAL, _ICMP, skip_false=12),
            LoadIndirect(_ICMP_QUOTE + _IP_FRAGMENT, 2),
            JumpIf(JumpTest.BITS_SET, 0x1FFF, skip_true=10),
            LoadIndirect(_ICMP_QUOTE, 1),
            ALUOpConstant(ALUOp.AND, 0x0F),
            ALUOpConstant(ALUOp.SHIFT_LEFT, 2),
            ALUOpX(ALUOp.ADD),
            ALUOpConstant(ALUOp.ADD, _ICMP_QUOTE),
            TAX(),  # X = where the quoted message begins
            LoadIndirect(_ICMP_TYPE, 1),
            JumpIf(JumpTest.EQUAL, _ECHO, skip_false=2),
            LoadIndirect(_ICMP_ECHO_ID, 2),  # of the reply, or of the quoted request
            JumpIf(JumpTest.EQUAL, id, skip_true=1),
            _NOTHING,
            _ALL,
        ]
    )
