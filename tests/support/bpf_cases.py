"""Programs for the tests of `ipv4.bpf`: tables, and a generator of programs that Linux takes."""

import random
from collections.abc import Iterator
from typing import NamedTuple

from ipv4.bpf import (
    TAX,
    TXA,
    ALUOp,
    ALUOpConstant,
    ALUOpX,
    Extension,
    Instruction,
    Jump,
    JumpIf,
    JumpIfX,
    JumpTest,
    LoadAbsolute,
    LoadConstant,
    LoadExtension,
    LoadIndirect,
    LoadMemShift,
    LoadScratch,
    NegateA,
    RawInstruction,
    Register,
    RetA,
    RetConstant,
    StoreScratch,
)
from support.properties import st

A, X = Register.A, Register.X

# Of the documentation of ICMP and IP: protocol numbers and types.
ICMP, UDP = 1, 17
ECHO_REPLY, UNREACHABLE, ECHO, TIME_EXCEEDED, PARAMETER_PROBLEM = 0, 3, 8, 11, 12


class Case(NamedTuple):
    """A program, what follows the 8 bytes of UDP header, and how many bytes of it arrive."""

    program: list[Instruction]
    payload: bytes
    arrive: int


def _case(payload: str, arrive: int, *program: Instruction) -> Case:
    return Case(list(program), bytes.fromhex(payload), arrive)


def _jumps(
    cond: JumpTest, load: Instruction, val: int, payload: str, arrive: int
) -> Iterator[Case]:
    """The same test against a constant and against X, taken and in its else branch."""
    verdict = 8 + arrive
    taken = [RetConstant(0), RetConstant(verdict)]
    yield _case(payload, arrive, load, JumpIf(cond, val, skip_true=1), *taken)
    yield _case(payload, arrive, LoadConstant(X, val), load, JumpIfX(cond, skip_true=1), *taken)
    other = [RetConstant(verdict), RetConstant(0)]
    yield _case(payload, arrive, load, JumpIf(cond, val, skip_false=1), *other)
    yield _case(payload, arrive, LoadConstant(X, val), load, JumpIfX(cond, skip_false=1), *other)


BYTE, HALF, WORD = LoadAbsolute(8, 1), LoadAbsolute(8, 2), LoadAbsolute(8, 4)
DHCP = [
    LoadMemShift(8),
    LoadIndirect(8 + 2, 2),
    JumpIf(JumpTest.EQUAL, 53, skip_false=1),
    RetConstant(1500),
    RetConstant(0),
]
INNER = "450000000000000000000000c0a80101c0a80102"

VERDICTS = {
    "add": _case("08 02 03", 3, BYTE, ALUOpConstant(ALUOp.ADD, 3), RetA()),
    "sub": _case("01 02 03", 0, BYTE, TAX(), ALUOpX(ALUOp.SUB), RetA()),
    "mul": _case("06 02 03 04", 4, BYTE, ALUOpConstant(ALUOp.MUL, 2), RetA()),
    "div": _case("14 02 03 04", 2, BYTE, ALUOpConstant(ALUOp.DIV, 2), RetA()),
    "div by X = 0": _case(
        "00 01 03 04",
        0,
        *(BYTE, TAX(), LoadAbsolute(9, 1), ALUOpX(ALUOp.DIV), LoadConstant(A, 12), RetA()),
    ),
    "mod by X = 0": _case(
        "00 01 03 04",
        0,
        *(BYTE, TAX(), LoadAbsolute(9, 1), ALUOpX(ALUOp.MOD), LoadConstant(A, 12), RetA()),
    ),
    "or": _case("00 10 03 04 05 06 07 08 09 ff", 9, HALF, ALUOpConstant(ALUOp.OR, 1), RetA()),
    "and": _case("aa 09", 1, HALF, ALUOpConstant(ALUOp.AND, 0x19), RetA()),
    "shift left": _case(
        "01 aa",
        1,
        BYTE,
        ALUOpConstant(ALUOp.SHIFT_LEFT, 1),
        JumpIf(JumpTest.EQUAL, 2, skip_true=1),
        RetConstant(0),
        RetConstant(9),
    ),
    "shift right": _case(
        "08 ff ff",
        1,
        BYTE,
        ALUOpConstant(ALUOp.SHIFT_RIGHT, 1),
        JumpIf(JumpTest.EQUAL, 4, skip_true=1),
        RetConstant(0),
        RetConstant(9),
    ),
    "mod": _case("1e 00 00", 2, BYTE, ALUOpConstant(ALUOp.MOD, 20), RetA()),
    "xor": _case(
        "0b 00 00 00",
        1,
        BYTE,
        ALUOpConstant(ALUOp.XOR, 0x0A),
        JumpIf(JumpTest.EQUAL, 1, skip_true=1),
        RetConstant(0),
        RetConstant(9),
    ),
    "xor X": _case("0b 02", 1, LoadConstant(X, 2), BYTE, ALUOpX(ALUOp.XOR), RetA()),
    "neg": _case("f6 00 00", 2, LoadConstant(A, 0xFFFFFFF6), NegateA(), RetA()),
    "neg of 0": _case("01", 0, LoadConstant(A, 0), NegateA(), RetA()),
    "sub wraps to 32 bits": _case(
        "00 00",
        2,
        LoadConstant(A, 0),
        ALUOpConstant(ALUOp.SUB, 1),
        JumpIf(JumpTest.EQUAL, 0xFFFFFFFF, skip_true=1),
        RetConstant(0),
        RetConstant(10),
    ),
    "mul wraps to 32 bits": _case(
        "00 00 00 00",
        3,
        LoadConstant(A, 0x80000001),
        ALUOpConstant(ALUOp.MUL, 11),
        ALUOpConstant(ALUOp.AND, 0x7FFFFFFF),
        RetA(),
    ),
    "load beyond the end": _case("00 01 02 03", 0, LoadAbsolute(12, 1), RetConstant(9)),
    "load across the end": _case("00", 0, LoadAbsolute(8, 2), RetConstant(9)),
    "indirect load beyond the end": _case("00", 0, LoadIndirect(9, 1), RetConstant(9)),
    "indirect load wraps to 32 bits": _case(
        "0a 00 00", 2, LoadConstant(X, 12), LoadIndirect(0xFFFFFFFC, 1), RetA()
    ),
    "memory shift beyond the end": _case("00", 0, LoadMemShift(9), RetConstant(9)),
    "load constant": _case("00", 1, LoadConstant(X, 9), TXA(), RetA()),
    "inner header's length, to DHCP": Case(
        DHCP, bytes.fromhex(INNER + "0000003500000000"), 28
    ),
    "inner header's length, not to DHCP": Case(
        DHCP, bytes.fromhex(INNER + "0000003600000000"), 0
    ),
    "ret a": _case("09", 1, BYTE, RetA()),
    "ret a, beyond the packet": _case("00 ff", 2, HALF, RetA()),
    "ret constant": _case("00 01", 1, RetConstant(9)),
    "ret constant, beyond the packet": _case("00 01", 2, RetConstant(16)),
    "ret everything": _case("00 01", 2, RetConstant(0xFFFFFFFF)),
    "jump": _case("01", 1, BYTE, Jump(1), RetConstant(0), RetConstant(9)),
    "scratch, one value": _case(
        "ff 01 02",
        3,
        BYTE,
        TAX(),
        StoreScratch(X, 0),
        LoadAbsolute(9, 1),
        LoadScratch(A, 0),
        RetA(),
    ),
    "scratch, many values": _case(
        "0a 14 1e 01",
        2,
        *(BYTE, StoreScratch(A, 0), LoadAbsolute(9, 1), StoreScratch(A, 1)),
        *(LoadAbsolute(10, 1), StoreScratch(A, 2), LoadAbsolute(11, 1), StoreScratch(A, 3)),
        *(LoadScratch(X, 0), TXA(), JumpIf(JumpTest.EQUAL, 10, skip_false=5)),
        *(LoadScratch(A, 1), JumpIf(JumpTest.EQUAL, 20, skip_false=3)),
        *(LoadScratch(A, 2), JumpIf(JumpTest.EQUAL, 30, skip_false=1)),
        *(RetConstant(10), RetConstant(0)),
    ),
    "length": _case("00 01 02 03", 4, LoadExtension(Extension.LEN), RetA()),
    "length into X": _case("00 01 02 03", 4, RawInstruction(0x81, 0, 0, 0), TXA(), RetA()),
    "a raw word": _case("09", 1, RawInstruction(0x30, 0, 0, 8), RetA()),
    "a raw word with junk where the machine does not look": _case(
        "09 00", 2, RawInstruction(0x30, 7, 7, 8), TAX(), RawInstruction(0x87, 1, 2, 3),
        ALUOpConstant(ALUOp.ADD, 1), RawInstruction(0x16, 4, 5, 6),
    ),
}  # fmt: skip

_TESTS = [
    (JumpTest.EQUAL, BYTE, 1, "01", 1),
    (JumpTest.NOT_EQUAL, BYTE, 2, "01", 1),
    (JumpTest.GREATER_THAN, WORD, 0x00010202, "00 01 02 03", 4),
    (JumpTest.LESS_THAN, WORD, 0xFF010203, "00 01 02 03", 4),
    (JumpTest.GREATER_OR_EQUAL, WORD, 0x00010203, "00 01 02 03", 4),
    (JumpTest.LESS_OR_EQUAL, WORD, 0xFF010203, "00 01 02 03", 4),
    (JumpTest.LESS_OR_EQUAL, WORD, 0x00010203, "00 01 02 03", 4),
    (JumpTest.BITS_SET, HALF, 0x1122, "01 02", 2),
    (JumpTest.BITS_NOT_SET, HALF, 0x1221, "01 02", 2),
]
for _test in _TESTS:
    for _form, _made in zip(("k", "x", "k, else", "x, else"), _jumps(*_test), strict=True):
        VERDICTS[f"{_test[0].name} {_test[2]:#x} {_form}"] = _made


_WORDS = (0, 1, 2, 31, 32, 0xFF, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFE, 0xFFFFFFFF)


def random_program(dice: random.Random) -> list[Instruction]:
    """Make a program that Linux takes, and whose verdict tells much about what it did.

    Its loads lie within the packet mostly, and never in the ranges that Linux gives another
    meaning; it reads no scratch slot that some way to there did not write, and neither divides by
    the constant 0 nor shifts by a constant of 32 or more.
    """
    program: list[Instruction] = []
    ending = _random_ending(dice)
    body = dice.randrange(0, 40)
    everything = (1 << 16) - 1
    # Which slots are written on every way to an instruction, as the kernel's checker reckons.
    written = [everything] * (body + len(ending) + 1)
    now = 0
    for at in range(body):
        now &= written[at]
        following = body - at  # instructions from the next one to the ending's first
        instruction = _random_instruction(dice, now, following)
        program.append(instruction)
        match instruction:
            case StoreScratch(_, n):
                now |= 1 << n
            case Jump(skip):
                written[at + 1 + skip] &= now
                now = everything
            case JumpIf(_, _, yes, no) | JumpIfX(_, yes, no):
                written[at + 1 + yes] &= now
                written[at + 1 + no] &= now
                now = everything
    return program + ending


def _random_word(dice: random.Random) -> int:
    return dice.choice((dice.choice(_WORDS), dice.randrange(64), dice.getrandbits(32)))


def _random_offset(dice: random.Random) -> int:
    if dice.random() < 0.99:
        return dice.randrange(36)
    return dice.choice((300, 0x7FFFFFFE, 0x80000000, 0xFFDFFFFF, dice.randrange(0xFFE00000)))


def _random_instruction(dice: random.Random, written: int, following: int) -> Instruction:
    register = dice.choice((A, X))
    kind = dice.randrange(18)
    match kind:
        case 0:
            return LoadConstant(register, _random_word(dice))
        case 1 | 2:
            return LoadAbsolute(_random_offset(dice), dice.choice((1, 2, 4)))
        case 3 if dice.random() < 0.3:  # X is large mostly, and the load the end
            # Now and then so large that the sum with X wraps, far from the ranges just below.
            off = dice.choice((dice.randrange(36), 0x80000000, 0xFFFFFFFF - dice.randrange(64)))
            return LoadIndirect(off, dice.choice((1, 2, 4)))
        case 4:
            return LoadMemShift(_random_offset(dice))
        case 5:
            return LoadExtension(Extension.LEN)
        case 6:
            return StoreScratch(register, dice.randrange(16))
        case 7 if written:
            return LoadScratch(register, dice.choice([n for n in range(16) if written >> n & 1]))
        case 8 | 9 | 10:
            op = dice.choice(list(ALUOp))
            val = _random_word(dice)
            if op in (ALUOp.DIV, ALUOp.MOD):
                val = val or 7
            elif op in (ALUOp.SHIFT_LEFT, ALUOp.SHIFT_RIGHT):
                val %= 32
            return ALUOpConstant(op, val)
        case 11 | 12:
            op = dice.choice(list(ALUOp))
            if op in (ALUOp.DIV, ALUOp.MOD) and dice.random() < 0.7:  # X is 0 often
                op = ALUOp.ADD
            return ALUOpX(op)
        case 13:
            return NegateA()
        case 14 if dice.random() < 0.3:
            return Jump(dice.randrange(min(following, 6)))
        case 15:
            skips = (dice.randrange(min(following, 6)), dice.randrange(min(following, 6)))
            return JumpIf(dice.choice(list(JumpTest)), _random_word(dice), *skips)
        case 16:
            skips = (dice.randrange(min(following, 6)), dice.randrange(min(following, 6)))
            return JumpIfX(dice.choice(list(JumpTest)), *skips)
    return dice.choice((TAX(), TXA()))


def _random_ending(dice: random.Random) -> list[Instruction]:
    chance = dice.random()
    if chance < 0.1:
        return [RetConstant(dice.choice((0, 1, 7, 8, 9, 20, dice.getrandbits(32))))]
    if chance < 0.2:
        return [RetA()]
    # All 32 bits folded into the 8 that a payload's length can show: any wrong bit is seen.
    fold: list[Instruction] = []
    if dice.random() < 0.3:
        fold += [TXA()]
    for shift in (16, 8):
        fold += [TAX(), ALUOpConstant(ALUOp.SHIFT_RIGHT, shift), ALUOpX(ALUOp.XOR)]
    return [
        *fold,
        ALUOpConstant(ALUOp.AND, 0xFF),
        ALUOpConstant(ALUOp.ADD, 8),
        RetA(),
    ]


def ip_header(protocol: int, *, options: bytes = b"", fragment: int = 0, ttl: int = 64) -> bytes:
    """Make a header from 127.0.0.1 to 127.0.0.1; lengths and checksum are left to the kernel."""
    return (
        bytes(
            [0x45 + len(options) // 4, 0, 0, 0, 0, 0, *fragment.to_bytes(2, "big"), ttl, protocol]
        )
        + bytes([0, 0, 127, 0, 0, 1, 127, 0, 0, 1])
        + options
    )


def icmp(typ: int, id: int = 0, body: bytes = b"") -> bytes:
    """Make a message with a wrong checksum: raw sockets receive it, the kernel ignores it."""
    return bytes([typ, 0, 0xBA, 0xD0]) + id.to_bytes(2, "big") + bytes(2) + body


OPTIONS = b"\x94\x04\x00\x00"
LONG_OPTIONS = b"\x01" * 40
ID = 0x1234


def _error(typ: int, quoted: bytes, options: bytes = b"") -> bytes:
    return ip_header(ICMP, options=options) + icmp(typ, 0, quoted)


def _quote(typ: int = ECHO, id: int = ID, protocol: int = ICMP, **kwargs: object) -> bytes:
    return ip_header(protocol, **kwargs) + icmp(typ, id)  # type: ignore[arg-type]


# Packets from the IP header on, and whether a socket that waits for the answers to ID gets them.
ECHO_ID = {
    "reply": (ip_header(ICMP) + icmp(ECHO_REPLY, ID), True),
    "reply with data": (ip_header(ICMP) + icmp(ECHO_REPLY, ID, b"data"), True),
    "reply, options": (ip_header(ICMP, options=LONG_OPTIONS) + icmp(ECHO_REPLY, ID), True),
    "reply to another": (ip_header(ICMP) + icmp(ECHO_REPLY, ID + 1), False),
    "reply cut short": (ip_header(ICMP) + icmp(ECHO_REPLY, ID)[:5], False),
    "request": (ip_header(ICMP) + icmp(ECHO, ID), False),
    "redirect": (_error(5, _quote()), False),
    "source quench": (_error(4, _quote()), False),
    "timestamp reply": (ip_header(ICMP) + icmp(14, ID), False),
    "unreachable": (_error(UNREACHABLE, _quote()), True),
    "time exceeded": (_error(TIME_EXCEEDED, _quote()), True),
    "parameter problem": (_error(PARAMETER_PROBLEM, _quote()), True),
    "options outside": (_error(TIME_EXCEEDED, _quote(), OPTIONS), True),
    "options inside": (_error(TIME_EXCEEDED, _quote(options=OPTIONS)), True),
    "options on both": (_error(TIME_EXCEEDED, _quote(options=LONG_OPTIONS), OPTIONS), True),
    "a first fragment": (_error(TIME_EXCEEDED, _quote(fragment=0x2000)), True),
    "a later fragment": (_error(TIME_EXCEEDED, _quote(fragment=0x2001)), False),
    "another's request": (_error(TIME_EXCEEDED, _quote(id=ID + 1)), False),
    "not of a request": (_error(TIME_EXCEEDED, _quote(typ=ECHO_REPLY)), False),
    "not of ICMP": (_error(UNREACHABLE, _quote(protocol=UDP)), False),
    "quote cut short": (_error(UNREACHABLE, _quote()[:24]), False),
    "no quote": (_error(UNREACHABLE, b""), False),
}


TEXTS = [
    (LoadConstant(A, 42), "ld #42"),
    (LoadConstant(X, 42), "ldx #42"),
    (LoadConstant(0xFFFF, 42), "unknown instruction: bpf.LoadConstant{Dst:0xffff, Val:0x2a}"),
    (LoadScratch(A, 3), "ld M[3]"),
    (LoadScratch(X, 3), "ldx M[3]"),
    (LoadScratch(0xFFFF, 3), "unknown instruction: bpf.LoadScratch{Dst:0xffff, N:3}"),
    (LoadScratch(A, 16), "unknown instruction: bpf.LoadScratch{Dst:0x0, N:16}"),
    (LoadAbsolute(42, 1), "ldb [42]"),
    (LoadAbsolute(42, 2), "ldh [42]"),
    (LoadAbsolute(42, 4), "ld [42]"),
    (LoadAbsolute(42, -1), "unknown instruction: bpf.LoadAbsolute{Off:0x2a, Size:-1}"),
    (LoadIndirect(42, 1), "ldb [x + 42]"),
    (LoadIndirect(42, 2), "ldh [x + 42]"),
    (LoadIndirect(42, 4), "ld [x + 42]"),
    (LoadIndirect(42, -1), "unknown instruction: bpf.LoadIndirect{Off:0x2a, Size:-1}"),
    (LoadMemShift(42), "ldx 4*([42]&0xf)"),
    (LoadExtension(Extension.LEN), "ld #len"),
    (LoadExtension(Extension.PROTO), "ld #proto"),
    (LoadExtension(Extension.TYPE), "ld #type"),
    (LoadExtension(Extension.PAYLOAD_OFFSET), "ld #poff"),
    (LoadExtension(Extension.INTERFACE_INDEX), "ld #ifidx"),
    (LoadExtension(Extension.NETLINK_ATTR), "ld #nla"),
    (LoadExtension(Extension.NETLINK_ATTR_NESTED), "ld #nlan"),
    (LoadExtension(Extension.MARK), "ld #mark"),
    (LoadExtension(Extension.QUEUE), "ld #queue"),
    (LoadExtension(Extension.LINK_LAYER_TYPE), "ld #hatype"),
    (LoadExtension(Extension.RX_HASH), "ld #rxhash"),
    (LoadExtension(Extension.CPU_ID), "ld #cpu"),
    (LoadExtension(Extension.VLAN_TAG), "ld #vlan_tci"),
    (LoadExtension(Extension.VLAN_TAG_PRESENT), "ld #vlan_avail"),
    (LoadExtension(Extension.VLAN_PROTO), "ld #vlan_tpid"),
    (LoadExtension(Extension.RAND), "ld #rand"),
    (LoadAbsolute(0xFFFFF038, 4), "ld #rand"),
    (LoadAbsolute(0xFFFFF004, 2), "ldh #type"),
    (LoadAbsolute(0xFFFFF001, 4), "unknown instruction: bpf.LoadAbsolute{Off:0xfffff001, Size:4}"),
    (LoadExtension(0xFFF), "unknown instruction: bpf.LoadExtension{Num:4095}"),
    (LoadExtension(-1), "unknown instruction: bpf.LoadExtension{Num:-1}"),
    (StoreScratch(A, 3), "st M[3]"),
    (StoreScratch(X, 3), "stx M[3]"),
    (StoreScratch(0xFFFF, 3), "unknown instruction: bpf.StoreScratch{Src:0xffff, N:3}"),
    (ALUOpConstant(ALUOp.ADD, 42), "add #42"),
    (ALUOpConstant(ALUOp.SUB, 42), "sub #42"),
    (ALUOpConstant(ALUOp.MUL, 42), "mul #42"),
    (ALUOpConstant(ALUOp.DIV, 42), "div #42"),
    (ALUOpConstant(ALUOp.OR, 42), "or #42"),
    (ALUOpConstant(ALUOp.AND, 42), "and #42"),
    (ALUOpConstant(ALUOp.SHIFT_LEFT, 42), "lsh #42"),
    (ALUOpConstant(ALUOp.SHIFT_RIGHT, 42), "rsh #42"),
    (ALUOpConstant(ALUOp.MOD, 42), "mod #42"),
    (ALUOpConstant(ALUOp.XOR, 42), "xor #42"),
    (ALUOpConstant(0xFFFF, 42), "unknown instruction: bpf.ALUOpConstant{Op:0xffff, Val:0x2a}"),
    (ALUOpX(ALUOp.ADD), "add x"),
    (ALUOpX(ALUOp.SUB), "sub x"),
    (ALUOpX(ALUOp.MUL), "mul x"),
    (ALUOpX(ALUOp.DIV), "div x"),
    (ALUOpX(ALUOp.OR), "or x"),
    (ALUOpX(ALUOp.AND), "and x"),
    (ALUOpX(ALUOp.SHIFT_LEFT), "lsh x"),
    (ALUOpX(ALUOp.SHIFT_RIGHT), "rsh x"),
    (ALUOpX(ALUOp.MOD), "mod x"),
    (ALUOpX(ALUOp.XOR), "xor x"),
    (ALUOpX(0xFFFF), "unknown instruction: bpf.ALUOpX{Op:0xffff}"),
    (NegateA(), "neg"),
    (Jump(10), "ja 10"),
    (JumpIf(JumpTest.EQUAL, 42, 8, 9), "jeq #42,8,9"),
    (JumpIf(JumpTest.EQUAL, 42, 8), "jeq #42,8"),
    (JumpIf(JumpTest.EQUAL, 42, skip_false=8), "jneq #42,8"),
    (JumpIf(JumpTest.NOT_EQUAL, 42, 8), "jneq #42,8"),
    (JumpIf(JumpTest.NOT_EQUAL, 42, 8, 9), "jeq #42,9,8"),
    (JumpIf(JumpTest.LESS_THAN, 42, 7), "jlt #42,7"),
    (JumpIf(JumpTest.LESS_OR_EQUAL, 42, 6), "jle #42,6"),
    (JumpIf(JumpTest.GREATER_THAN, 42, 4, 5), "jgt #42,4,5"),
    (JumpIf(JumpTest.GREATER_THAN, 42, 4), "jgt #42,4"),
    (JumpIf(JumpTest.GREATER_OR_EQUAL, 42, 3, 4), "jge #42,3,4"),
    (JumpIf(JumpTest.GREATER_OR_EQUAL, 42, 3), "jge #42,3"),
    (JumpIf(JumpTest.BITS_SET, 42, 2, 3), "jset #42,2,3"),
    (JumpIf(JumpTest.BITS_SET, 42, 2), "jset #42,2"),
    (JumpIf(JumpTest.BITS_NOT_SET, 42, 2, 3), "jset #42,3,2"),
    (JumpIf(JumpTest.BITS_NOT_SET, 42, 2), "jset #42,0,2"),
    (JumpIf(0xFFFF, 42, 1, 2), "unknown JumpTest 0xffff"),
    (JumpIfX(JumpTest.EQUAL, 8, 9), "jeq x,8,9"),
    (JumpIfX(JumpTest.EQUAL, 8), "jeq x,8"),
    (JumpIfX(JumpTest.EQUAL, skip_false=8), "jneq x,8"),
    (JumpIfX(JumpTest.NOT_EQUAL, 8), "jneq x,8"),
    (JumpIfX(JumpTest.LESS_THAN, 7), "jlt x,7"),
    (JumpIfX(JumpTest.LESS_OR_EQUAL, 6), "jle x,6"),
    (JumpIfX(JumpTest.GREATER_THAN, 4, 5), "jgt x,4,5"),
    (JumpIfX(JumpTest.GREATER_THAN, 4), "jgt x,4"),
    (JumpIfX(JumpTest.GREATER_OR_EQUAL, 3, 4), "jge x,3,4"),
    (JumpIfX(JumpTest.GREATER_OR_EQUAL, 3), "jge x,3"),
    (JumpIfX(JumpTest.BITS_SET, 2, 3), "jset x,2,3"),
    (JumpIfX(JumpTest.BITS_SET, 2), "jset x,2"),
    (JumpIfX(JumpTest.BITS_NOT_SET, 2, 3), "jset x,3,2"),
    (JumpIfX(JumpTest.BITS_NOT_SET, 2), "jset x,0,2"),
    (JumpIfX(0xFFFF, 1, 2), "unknown JumpTest 0xffff"),
    (TAX(), "tax"),
    (TXA(), "txa"),
    (RetA(), "ret a"),
    (RetConstant(42), "ret #42"),
    (RawInstruction(0x30, 0, 0, 8), "ldb [8]"),
    (RawInstruction(0x25, 0, 7, 42), "jle #42,7"),
    (
        RawInstruction(0xFFFF, 1, 2, 3),
        "unknown instruction: bpf.RawInstruction{Op:0xffff, Jt:0x1, Jf:0x2, K:0x3}",
    ),
]

u8, u16, u32 = (st.integers(0, (1 << bits) - 1) for bits in (8, 16, 32))

registers, slots, sizes = st.sampled_from(Register), st.integers(0, 15), st.sampled_from((1, 2, 4))

offsets = u32 | st.integers(0xFFFFF000, 0xFFFFFFFF)

words = st.builds(RawInstruction, u16 | u8, u8, u8, offsets)

instructions = st.one_of(
    st.builds(LoadConstant, registers, u32),
    st.builds(LoadScratch, registers, slots),
    st.builds(LoadAbsolute, offsets, sizes),
    st.builds(LoadIndirect, offsets, sizes),
    st.builds(LoadMemShift, offsets),
    st.builds(LoadExtension, st.sampled_from(Extension) | st.integers(0, 4095)),
    st.builds(StoreScratch, registers, slots),
    st.builds(ALUOpConstant, st.sampled_from(ALUOp), u32),
    st.builds(ALUOpX, st.sampled_from(ALUOp)),
    st.builds(Jump, u32),
    st.builds(JumpIf, st.sampled_from(JumpTest), u32, u8, u8),
    st.builds(JumpIfX, st.sampled_from(JumpTest), u8, u8),
    st.builds(RetConstant, u32),
    st.sampled_from((NegateA(), RetA(), TXA(), TAX())),
    words,
)
