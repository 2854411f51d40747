"""BPF programs as text: as the assembler, bpf_dbg and tcpdump write them."""

import struct
import subprocess

import pytest
from support.bpf_cases import A, X
from support.properties import given, st

from ipv4 import bpf
from ipv4.bpf import (
    TAX,
    TXA,
    VM,
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


@pytest.mark.parametrize(("instruction", "text"), TEXTS, ids=[text for _, text in TEXTS])
@pytest.mark.parity("bpf.Instruction.String", "BPF encodings, machine and texts")
def test_an_instruction_prints_as_the_assembler_writes_it(
    instruction: Instruction, text: str
) -> None:
    assert str(instruction) == text


@given(instructions | st.builds(LoadScratch, u16, st.integers()) | st.builds(JumpIfX, u16, u8, u8))
def test_every_instruction_can_be_printed(instruction: Instruction) -> None:
    assert str(instruction)
    assert repr(instruction).startswith(type(instruction).__name__)


DDD = "4\n48 0 0 8\n69 1 0 1\n6 0 0 262144\n6 0 0 0\n"

LOADED = [(48, 0, 0, 8), (69, 1, 0, 1), (6, 0, 0, 262144), (6, 0, 0, 0)]


@pytest.mark.parametrize(
    "text",
    [
        DDD,
        DDD.encode(),
        DDD.strip(),
        DDD.replace("\n", "\r\n"),
        DDD.replace(" ", "\t"),
        "\n" + DDD.replace("\n", " \n\n"),
        "Warning: assuming Ethernet\n" + DDD,
        "tcpdump: data link type LINUX_SLL2\n" + DDD,
        DDD + "tcpdump: data link type LINUX_SLL2\n",
    ],
)
def test_text_of_tcpdump_loads(text: str | bytes) -> None:
    assert bpf.loads(text) == LOADED


@given(st.lists(words, min_size=1, max_size=30))
def test_any_words_load_from_their_text(program: list[RawInstruction]) -> None:
    text = "\n".join([str(len(program)), *(" ".join(map(str, word)) for word in program)])
    assert bpf.loads(text) == program


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "line 1: the number of instructions is missing"),
        ("\n\n", "line 1: the number of instructions is missing"),
        ("6 0 0 0\n", "line 1: the number of instructions must come first, not '6 0 0 0'"),
        ("0\n", "line 1: a program has 1..4096 instructions, not 0"),
        ("4097\n", "line 1: a program has 1..4096 instructions, not 4097"),
        ("1\n6 0 0\n", "line 2: an instruction must have op, jt, jf and k, not '6 0 0'"),
        ("1\n6 0 0 0 0\n", "line 2: an instruction must have op, jt, jf and k, not '6 0 0 0 0'"),
        ("1\n6 0 0 0\n6 0 0 0\n", "line 3: more than the announced 1 instructions"),
        ("3\n6 0 0 0\n6 0 0 0\n", "line 3: the text ends after 2 of 3 instructions"),
        ("1\n65536 0 0 0", "line 2: op must be in 0..0xffff, not 65536"),
        ("1\n6 256 0 0", "line 2: jt must be in 0..0xff, not 256"),
        ("1\n6 0 256 0", "line 2: jf must be in 0..0xff, not 256"),
        ("1\n\n6 0 0 4294967296", "line 3: k must be in 0..0xffffffff, not 4294967296"),
        ("1\n6 0 0 -1", "line 2: '-1' is not a decimal number of 32 bits"),
        ("1\n6 0 0 0x10", "line 2: '0x10' is not a decimal number of 32 bits"),
        ("1\n6 0 0 1_0", "line 2: '1_0' is not a decimal number of 32 bits"),
        ("1\n6 0 0 +1", "line 2: '+1' is not a decimal number of 32 bits"),
        ("1\n6 0 0 \u0661", "line 2: '\u0661' is not a decimal number of 32 bits"),
        ("1\n6 0 0 12345678901", "line 2: '12345678901' is not a decimal number of 32 bits"),
        ("1\n6 0 0 1.0", "line 2: '1.0' is not a decimal number of 32 bits"),
        ("(000) ret #1\n", "line 1: '(000)' is not a decimal number of 32 bits"),
        (b"1\n6 0 0 \xff\n", r"line 2: '\\xff' is not a decimal number of 32 bits"),
        ("9" * 10000, f"line 1: '{'9' * 40}' is not a decimal number of 32 bits"),
    ],
)
def test_other_text_is_refused_and_the_line_named(text: str | bytes, message: str) -> None:
    with pytest.raises(ValueError) as caught:
        bpf.loads(text)
    assert str(caught.value) == message


@given(st.text() | st.binary() | st.text(alphabet="0123456789 \n-x"))
def test_any_text_loads_or_is_a_value_error(text: str | bytes) -> None:
    try:
        outcome: object = bpf.to_raw(bpf.loads(text))
    except ValueError as error:
        outcome = str(error)
    assert isinstance(outcome, list) or str(outcome).startswith("line ")


@pytest.mark.parametrize("wrong", [None, 1, ["1"], bytearray(b"1")], ids=repr)
def test_what_is_no_text_is_refused(wrong: object) -> None:
    with pytest.raises(TypeError, match=r"^text must be str or bytes, not "):
        bpf.loads(wrong)  # type: ignore[arg-type]


def _dns(port: int) -> bytes:
    """Make an Ethernet frame with a UDP datagram to a port."""
    ethernet = bytes.fromhex("ffffffffffff 001122334455 0800")
    ip = bytes.fromhex("4500001c 00000000 40110000 0a000001 0a000002")
    return ethernet + ip + struct.pack("!HHHH", 40000, port, 8, 0)


@pytest.mark.needs("tcpdump")
@pytest.mark.parametrize("stderr", [subprocess.DEVNULL, subprocess.STDOUT])
def test_what_tcpdump_prints_loads_and_decides(stderr: int) -> None:
    printed = subprocess.run(
        ["tcpdump", "-y", "EN10MB", "-ddd", "udp port 53"],
        stdout=subprocess.PIPE,
        stderr=stderr,
        check=True,
        timeout=30,
    )
    program = bpf.loads(printed.stdout)
    decoded, all_decoded = bpf.disassemble(program)
    assert all_decoded
    assert bpf.assemble(decoded) == program
    vm = VM(program)
    assert vm.run(_dns(53)) >= len(_dns(53))
    assert vm.run(_dns(54)) == 0
    assert vm.run(_dns(53)[:30]) == 0


@pytest.mark.needs("tcpdump")
@pytest.mark.parametrize(
    "arguments",
    [
        ["udp port 53"],
        # The direction is known of what is captured, not of a link type: it needs an interface.
        pytest.param(["-i", "lo", "outbound"], marks=pytest.mark.privileged),
        ["len > 100"],
        ["vlan 5 and udp"],
    ],
    ids=" ".join,
)
def test_whatever_tcpdump_compiles_makes_the_round_trip(arguments: list[str]) -> None:
    if arguments[0] != "-i":
        arguments = ["-y", "EN10MB", *arguments]
    printed = subprocess.run(
        ["tcpdump", "-ddd", *arguments], stdout=subprocess.PIPE, check=True, timeout=30
    )
    program = bpf.loads(printed.stdout)
    decoded, all_decoded = bpf.disassemble(program)
    assert all_decoded
    assert bpf.assemble(decoded) == program
