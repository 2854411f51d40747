"""`ipv4.bpf` without a kernel: values, words, text, checks, verdicts."""

import copy
import inspect
import itertools
import pickle
import random
import re
import struct
import subprocess
import sys

import pytest
from support.bpf_cases import ECHO_ID, ID, UDP, VERDICTS, A, X, ip_header, random_program
from support.properties import example, given, st

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

ENCODED = [
    # What Linux's own bpf_asm makes of one program with every instruction; `ld #42` and so on.
    (LoadConstant(A, 42), (0x00, 0, 0, 42)),
    (LoadConstant(X, 42), (0x01, 0, 0, 42)),
    (LoadScratch(A, 3), (0x60, 0, 0, 3)),
    (LoadScratch(X, 3), (0x61, 0, 0, 3)),
    (LoadAbsolute(42, 1), (0x30, 0, 0, 42)),
    (LoadAbsolute(42, 2), (0x28, 0, 0, 42)),
    (LoadAbsolute(42, 4), (0x20, 0, 0, 42)),
    (LoadIndirect(42, 1), (0x50, 0, 0, 42)),
    (LoadIndirect(42, 2), (0x48, 0, 0, 42)),
    (LoadIndirect(42, 4), (0x40, 0, 0, 42)),
    (LoadMemShift(42), (0xB1, 0, 0, 42)),
    (LoadExtension(Extension.LEN), (0x80, 0, 0, 0)),
    (LoadExtension(Extension.PROTO), (0x20, 0, 0, 0xFFFFF000)),
    (LoadExtension(Extension.TYPE), (0x20, 0, 0, 0xFFFFF004)),
    (LoadExtension(Extension.RAND), (0x20, 0, 0, 0xFFFFF038)),
    (StoreScratch(A, 3), (0x02, 0, 0, 3)),
    (StoreScratch(X, 3), (0x03, 0, 0, 3)),
    (ALUOpConstant(ALUOp.ADD, 42), (0x04, 0, 0, 42)),
    (ALUOpConstant(ALUOp.SUB, 42), (0x14, 0, 0, 42)),
    (ALUOpConstant(ALUOp.MUL, 42), (0x24, 0, 0, 42)),
    (ALUOpConstant(ALUOp.DIV, 42), (0x34, 0, 0, 42)),
    (ALUOpConstant(ALUOp.OR, 42), (0x44, 0, 0, 42)),
    (ALUOpConstant(ALUOp.AND, 42), (0x54, 0, 0, 42)),
    (ALUOpConstant(ALUOp.SHIFT_LEFT, 42), (0x64, 0, 0, 42)),
    (ALUOpConstant(ALUOp.SHIFT_RIGHT, 42), (0x74, 0, 0, 42)),
    (ALUOpConstant(ALUOp.MOD, 42), (0x94, 0, 0, 42)),
    (ALUOpConstant(ALUOp.XOR, 42), (0xA4, 0, 0, 42)),
    (ALUOpX(ALUOp.ADD), (0x0C, 0, 0, 0)),
    (ALUOpX(ALUOp.SUB), (0x1C, 0, 0, 0)),
    (ALUOpX(ALUOp.MUL), (0x2C, 0, 0, 0)),
    (ALUOpX(ALUOp.DIV), (0x3C, 0, 0, 0)),
    (ALUOpX(ALUOp.OR), (0x4C, 0, 0, 0)),
    (ALUOpX(ALUOp.AND), (0x5C, 0, 0, 0)),
    (ALUOpX(ALUOp.SHIFT_LEFT), (0x6C, 0, 0, 0)),
    (ALUOpX(ALUOp.SHIFT_RIGHT), (0x7C, 0, 0, 0)),
    (ALUOpX(ALUOp.MOD), (0x9C, 0, 0, 0)),
    (ALUOpX(ALUOp.XOR), (0xAC, 0, 0, 0)),
    (NegateA(), (0x84, 0, 0, 0)),
    (Jump(17), (0x05, 0, 0, 17)),
    (JumpIf(JumpTest.EQUAL, 42, 15, 16), (0x15, 15, 16, 42)),
    (JumpIf(JumpTest.NOT_EQUAL, 42, 15), (0x15, 0, 15, 42)),
    (JumpIf(JumpTest.LESS_THAN, 42, 14), (0x35, 0, 14, 42)),
    (JumpIf(JumpTest.LESS_OR_EQUAL, 42, 13), (0x25, 0, 13, 42)),
    (JumpIf(JumpTest.GREATER_THAN, 42, 11, 12), (0x25, 11, 12, 42)),
    (JumpIf(JumpTest.GREATER_OR_EQUAL, 42, 10, 11), (0x35, 10, 11, 42)),
    (JumpIf(JumpTest.BITS_SET, 42, 9, 10), (0x45, 9, 10, 42)),
    (JumpIfX(JumpTest.EQUAL, 8, 9), (0x1D, 8, 9, 0)),
    (JumpIfX(JumpTest.NOT_EQUAL, 8), (0x1D, 0, 8, 0)),
    (JumpIfX(JumpTest.LESS_THAN, 7), (0x3D, 0, 7, 0)),
    (JumpIfX(JumpTest.LESS_OR_EQUAL, 6), (0x2D, 0, 6, 0)),
    (JumpIfX(JumpTest.GREATER_THAN, 4, 5), (0x2D, 4, 5, 0)),
    (JumpIfX(JumpTest.GREATER_OR_EQUAL, 3, 4), (0x3D, 3, 4, 0)),
    (JumpIfX(JumpTest.BITS_SET, 2, 3), (0x4D, 2, 3, 0)),
    (TAX(), (0x07, 0, 0, 0)),
    (TXA(), (0x87, 0, 0, 0)),
    (RetA(), (0x16, 0, 0, 0)),
    (RetConstant(42), (0x06, 0, 0, 42)),
]

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

# Fields in the order of the constructor, with a value that fits and is not the default's.
FIELDS: dict[type[Instruction], dict[str, int]] = {
    RawInstruction: {"op": 0x15, "jt": 1, "jf": 2, "k": 3},
    LoadConstant: {"dst": X, "val": 2},
    LoadScratch: {"dst": X, "n": 3},
    LoadAbsolute: {"off": 4, "size": 2},
    LoadIndirect: {"off": 4, "size": 2},
    LoadMemShift: {"off": 4},
    LoadExtension: {"num": Extension.MARK},
    StoreScratch: {"src": X, "n": 3},
    ALUOpConstant: {"op": ALUOp.MUL, "val": 5},
    ALUOpX: {"op": ALUOp.MUL},
    NegateA: {},
    Jump: {"skip": 6},
    JumpIf: {"cond": JumpTest.BITS_SET, "val": 7, "skip_true": 8, "skip_false": 9},
    JumpIfX: {"cond": JumpTest.BITS_SET, "skip_true": 8, "skip_false": 9},
    RetA: {},
    RetConstant: {"val": 10},
    TXA: {},
    TAX: {},
}
CLASSES = sorted(FIELDS, key=lambda made: made.__name__)
EACH_FIELD = [(made, field) for made in CLASSES for field in FIELDS[made]]
# Fields of a machine's width refuse at once what does not fit; these are judged when assembled.
BITS = {"op": 16, "jt": 8, "jf": 8, "k": 32, "val": 32, "off": 32, "skip": 32, "skip_true": 8,
        "skip_false": 8, "dst": 16, "src": 16, "cond": 16}  # fmt: skip

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


# Values


@pytest.mark.parametrize("made", CLASSES)
def test_an_instruction_is_an_immutable_value(made: type[Instruction]) -> None:
    fields = FIELDS[made]
    one = made(**fields)
    same = made(*fields.values())
    assert one == same
    assert hash(one) == hash(same)
    assert (one != same) is False
    assert [getattr(one, field) for field in fields] == list(fields.values())
    assert list(inspect.signature(made).parameters) == list(fields)
    assert eval(repr(one), vars(bpf)) == one
    for twin in (pickle.loads(pickle.dumps(one)), copy.copy(one), copy.deepcopy(one)):
        assert type(twin) is made
        assert twin == one
    for field in (*fields, "anything"):
        with pytest.raises(AttributeError):
            setattr(one, field, 1)
    for field in fields:
        with pytest.raises(AttributeError):
            delattr(one, field)
    assert not hasattr(one, "__dict__")


@pytest.mark.parametrize(("made", "field"), EACH_FIELD)
def test_each_field_counts_in_a_comparison(made: type[Instruction], field: str) -> None:
    other = 1 if FIELDS[made][field] != 1 else 0
    assert made(**FIELDS[made]) != made(**FIELDS[made] | {field: other})


def test_instructions_of_different_kinds_with_the_same_fields_differ() -> None:
    plain = [LoadConstant(A, 1), LoadScratch(A, 1), StoreScratch(A, 1), ALUOpConstant(A, 1)]
    bare = [NegateA(), RetA(), TXA(), TAX()]
    assert len({*plain, *bare}) == 8
    assert LoadConstant(A, 1) != (A, 1)


def test_a_raw_instruction_equals_the_tuple_of_its_fields() -> None:
    assert RawInstruction(0x30, 0, 0, 8) == (0x30, 0, 0, 8)
    assert hash(RawInstruction(0x30, 0, 0, 8)) == hash((0x30, 0, 0, 8))
    op, jt, jf, k = RawInstruction(1, 2, 3, 4)
    assert (op, jt, jf, k) == (1, 2, 3, 4)


def test_a_match_statement_takes_an_instruction_apart() -> None:
    match JumpIf(JumpTest.EQUAL, 1, 2, 3):
        case JumpIf(cond, val, skip_true, skip_false):
            assert (cond, val, skip_true, skip_false) == (JumpTest.EQUAL, 1, 2, 3)


def test_numbers_get_their_names() -> None:
    assert repr(LoadConstant(0, 1)) == "LoadConstant(dst=Register.A, val=1)"
    assert repr(LoadExtension(20)) == "LoadExtension(num=Extension.MARK)"
    assert repr(LoadExtension(64)) == "LoadExtension(num=64)"


@pytest.mark.parametrize(("made", "field"), EACH_FIELD)
@pytest.mark.parametrize("wrong", ["1", 1.0, None, b"1"])
def test_a_field_of_another_type_is_refused(
    made: type[Instruction], field: str, wrong: object
) -> None:
    with pytest.raises(TypeError, match=rf"^{field} must be an integer, not "):
        made(**FIELDS[made] | {field: wrong})


@pytest.mark.parametrize(
    ("made", "field"), [(made, field) for made, field in EACH_FIELD if field in BITS]
)
def test_a_field_that_does_not_fit_its_bits_is_refused(made: type[Instruction], field: str) -> None:
    largest = (1 << BITS[field]) - 1
    assert getattr(made(**FIELDS[made] | {field: largest}), field) == largest
    for wrong in (-1, largest + 1, 1 << 64, -(1 << 100)):
        with pytest.raises(
            ValueError, match=rf"^{field} must be in 0\.\.{largest:#x}, not {wrong}$"
        ):
            made(**FIELDS[made] | {field: wrong})


def test_a_field_takes_what_has_an_index() -> None:
    class Eight:
        def __index__(self) -> int:
            return 8

    assert LoadAbsolute(Eight(), Eight()) == LoadAbsolute(8, 8)  # type: ignore[arg-type]


# Assembling and disassembling


@pytest.mark.parametrize(("instruction", "word"), ENCODED, ids=lambda value: str(value))
def test_every_instruction_has_its_word(
    instruction: Instruction, word: tuple[int, int, int, int]
) -> None:
    assert bpf.assemble([instruction]) == [word]
    assert bpf.disassemble([word]) == ([instruction], True)
    assert instruction.assemble().disassemble() == instruction


def test_the_table_has_every_class_operation_and_test() -> None:
    made = [instruction for instruction, _ in ENCODED]
    assert {type(instruction) for instruction in made} == set(CLASSES) - {RawInstruction}
    for kind in (ALUOpConstant, ALUOpX):
        assert [item.op for item in made if isinstance(item, kind)] == list(ALUOp)
    for test in set(JumpTest) - {JumpTest.BITS_NOT_SET}:
        assert {type(i) for i in made if getattr(i, "cond", None) == test} == {JumpIf, JumpIfX}


@pytest.mark.parametrize("extension", Extension)
def test_every_extension_has_its_word(extension: Extension) -> None:
    word = (0x80, 0, 0, 0) if extension == Extension.LEN else (0x20, 0, 0, 0xFFFFF000 + extension)
    assert bpf.assemble([LoadExtension(extension)]) == [word]
    assert bpf.disassemble([word]) == ([LoadExtension(extension)], True)


def test_a_program_becomes_the_memory_that_the_kernel_reads() -> None:
    program = [
        LoadAbsolute(8, 1),
        ALUOpConstant(ALUOp.AND, 1),
        JumpIf(JumpTest.EQUAL, 0, skip_false=1),
        RetConstant(4096),
        RetConstant(0),
    ]
    assert bpf.pack(bpf.assemble(program)) == b"".join(
        struct.pack("=HBBI", *word)
        for word in [
            (0x30, 0, 0, 8),
            (0x54, 0, 0, 1),
            (0x15, 0, 1, 0),
            (0x06, 0, 0, 4096),
            (0x06, 0, 0, 0),
        ]
    )
    if sys.byteorder == "little":
        assert bpf.pack(bpf.assemble(program)).hex() == (
            "30000000080000005400000001000000150000010000000006000000001000000600000000000000"
        )


@given(st.lists(instructions, max_size=20))
@example([LoadAbsolute(0xFFFFF004, 2), LoadAbsolute(0xFFFFF001, 4), LoadExtension(40)])
@example([JumpIf(JumpTest.NOT_EQUAL, 1, 2, 3), JumpIf(JumpTest.EQUAL, 1), JumpIfX(7, 0, 9)])
def test_assembling_what_was_disassembled_gives_the_same_words(program: list[Instruction]) -> None:
    raw = bpf.assemble(program)
    decoded, all_decoded = bpf.disassemble(raw)
    assert bpf.assemble(decoded) == raw
    assert all_decoded == all(type(item) is not RawInstruction for item in decoded)
    if not any(isinstance(item, RawInstruction) for item in program):
        assert all_decoded
    # What was decoded says the same as its word.
    assert [str(item) for item in decoded] == [str(word) for word in raw]


@pytest.mark.parametrize(
    "word",
    [
        (0x81, 0, 0, 0),  # ldx #len: Linux runs it, but it has no class
        (0x60, 0, 0, 16),
        (0x61, 0, 0, 16),
        (0x02, 0, 0, 16),
        (0x03, 0, 0, 0xFFFFFFFF),
        (0x10, 0, 0, 1),
        (0x68, 0, 0, 1),
        (0xA1, 0, 0, 1),
        (0xA9, 0, 0, 1),
        (0x0E, 0, 0, 0),
        (0xC4, 0, 0, 1),
        (0x8C, 0, 0, 0),
        (0x55, 0, 0, 0),
        (0x0D, 0, 0, 0),
        (0x0F, 0, 0, 0),
        (0x0115, 0, 0, 0),
        (0x0130, 0, 0, 0),
        (0xFFFF, 0xFF, 0xFF, 0xFFFFFFFF),
        (0x30, 0, 1, 8),  # a jump's fields where none belongs would be lost
        (0x07, 0, 0, 1),
    ],
    ids=lambda word: f"{word[0]:#x}",
)
def test_a_word_that_is_no_instruction_stays_raw(word: tuple[int, int, int, int]) -> None:
    decoded, all_decoded = bpf.disassemble([(0x16, 0, 0, 0), word])
    assert decoded == [RetA(), RawInstruction(*word)]
    assert type(decoded[1]) is RawInstruction
    assert not all_decoded
    assert bpf.assemble(decoded) == [(0x16, 0, 0, 0), word]


def test_nothing_assembles_to_nothing() -> None:
    assert bpf.assemble([]) == []
    assert bpf.disassemble([]) == ([], True)


@pytest.mark.parametrize(
    ("wrong", "cause"),
    [
        (LoadConstant(100, 1), "invalid target register 100: dst must be A or X"),
        (LoadScratch(100, 1), "invalid target register 100: dst must be A or X"),
        (StoreScratch(100, 1), "invalid source register 100: src must be A or X"),
        (LoadScratch(A, -1), "invalid scratch slot -1: n must be in 0..15"),
        (LoadScratch(A, 16), "invalid scratch slot 16: n must be in 0..15"),
        (StoreScratch(X, -1), "invalid scratch slot -1: n must be in 0..15"),
        (StoreScratch(X, 16), "invalid scratch slot 16: n must be in 0..15"),
        (LoadAbsolute(8, 5), "invalid load byte length 5: size must be 1, 2 or 4"),
        (LoadAbsolute(8, 0), "invalid load byte length 0: size must be 1, 2 or 4"),
        (LoadIndirect(8, -1), "invalid load byte length -1: size must be 1, 2 or 4"),
        (LoadExtension(4096), "invalid extension 4096: num must be in 0..4095"),
        (LoadExtension(-1), "invalid extension -1: num must be in 0..4095"),
        (ALUOpConstant(100, 1), "unknown ALU operation 100: op must be one of ALUOp"),
        (ALUOpX(0x80), "unknown ALU operation 128: op must be one of ALUOp"),
        (JumpIf(8, 1), "unknown JumpTest 8: cond must be one of JumpTest"),
        (JumpIfX(0xFFFF), "unknown JumpTest 65535: cond must be one of JumpTest"),
    ],
    ids=repr,
)
def test_a_field_that_means_nothing_is_refused_when_assembled(
    wrong: Instruction, cause: str
) -> None:
    program = [TAX(), wrong, RetA()]
    for refuses in (bpf.assemble, bpf.to_raw, VM):
        if refuses is VM and isinstance(wrong, LoadExtension):
            cause = f"extension {wrong.num} not implemented"
        with pytest.raises(ValueError, match=rf"instruction 2: {re.escape(cause)}$"):
            refuses(program)


@pytest.mark.parametrize("wrong", [None, 1, "ret a", (6, 0, 0, 0), RetA], ids=repr)
def test_what_is_no_instruction_is_refused(wrong: object) -> None:
    for program in ([RetA(), wrong], [TAX(), wrong, RetA()]):
        with pytest.raises(TypeError, match=r"^instruction 2 must be an instruction, not "):
            bpf.assemble(program)  # type: ignore[arg-type]
    with pytest.raises(TypeError, match=r"^instruction 2 must be an instruction, not "):
        VM([TAX(), wrong, RetA()])  # type: ignore[list-item]


class Mine(Instruction):
    """An instruction of a program's own, which assembles to whatever it is told."""

    def __init__(self, word: object) -> None:
        object.__setattr__(self, "word", word)

    def assemble(self) -> RawInstruction:
        return self.word  # type: ignore[no-any-return,attr-defined]


class Renamed(RetConstant):
    """One of the library's classes whose word is another: a jump far beyond any program."""

    def assemble(self) -> RawInstruction:
        return RawInstruction(5, 0, 0, self.val)


def forged(*fields: object) -> RawInstruction:
    """A word that went around the constructor."""
    return tuple.__new__(RawInstruction, fields)  # type: ignore[no-any-return]


@pytest.mark.parametrize(
    "word",
    [None, 6, "abcd", (), (6, 0, 0), (6, 0, 0, 0, 0), (6, 256, 0, 0), (1 << 16, 0, 0, 0),
     (6, 0, 0, -1), (6, 0, 0, 1.5), forged(6, 0, 0, 1 << 32), forged(6, 0, 0), RetA()],
)  # fmt: skip
def test_what_assembles_to_no_word_is_refused(word: object) -> None:
    for refuses in (bpf.assemble, bpf.to_raw, VM):
        with pytest.raises((TypeError, ValueError), match="instruction 2"):
            refuses([TAX(), Mine(word), RetA()])
    assert isinstance(str(Mine(word)), str)


@pytest.mark.parametrize(
    "word",
    [(5, 0, 0, 100), (0xFFFF, 0, 0, 0), (0x34, 0, 0, 0), (0x15, 9, 0, 0), (0x60, 0, 0, 16),
     (0x20, 0, 0, 0xFFFFF004), (0x0C, 0, 0, 0), (6, 0, 0, 7), (0x80, 0, 0, 0)],
)  # fmt: skip
def test_an_own_instruction_is_checked_and_run_as_its_word(word: tuple[int, ...]) -> None:
    raw = RawInstruction(*word)
    assert bpf.assemble([Mine(word), RetA()]) == bpf.to_raw([raw, RetA()])
    assert str(Mine(raw)) == str(raw) or str(raw).startswith("unknown")
    try:
        expected = VM([raw, RetA()]).run(b"")
    except ValueError as refusal:
        with pytest.raises(ValueError) as caught:
            VM([Mine(raw), RetA()])
        assert str(caught.value) == str(refusal)
    else:
        assert VM([Mine(raw), RetA()]).run(b"") == expected


def test_a_subclass_is_what_it_assembles_to() -> None:
    with pytest.raises(ValueError, match="instruction 1: cannot jump 100 instructions"):
        VM([Renamed(100), RetA()])
    with pytest.raises(ValueError, match="cannot jump 0 instructions"):
        VM([Renamed(0)])


# Programs for the kernel


def test_a_program_is_given_in_any_of_three_forms() -> None:
    expected = [(0x80, 0, 0, 0), (0x16, 0, 0, 0)]
    for program in (
        [LoadExtension(Extension.LEN), RetA()],
        (RawInstruction(*word) for word in expected),
        expected,
        [list(word) for word in expected],
        [LoadExtension(Extension.LEN), (0x16, 0, 0, 0)],
    ):
        raw = bpf.to_raw(program)  # type: ignore[arg-type]
        assert raw == expected
        assert all(type(word) is RawInstruction for word in raw)


def test_a_program_has_at_least_1_and_at_most_4096_instructions() -> None:
    assert len(bpf.to_raw([RetA()] * 4096)) == 4096
    with pytest.raises(ValueError, match="at least one instruction"):
        bpf.to_raw([])
    for program in ([RetA()] * 4097, itertools.repeat(RetA())):
        with pytest.raises(ValueError, match="may have 4096 instructions, this one has more"):
            bpf.to_raw(program)


@pytest.mark.parametrize(
    ("position", "field", "largest"), [(0, "op", 0xFFFF), (1, "jt", 0xFF), (2, "jf", 0xFF),
                                       (3, "k", 0xFFFFFFFF)]
)  # fmt: skip
def test_a_tuple_whose_field_does_not_fit_is_refused(
    position: int, field: str, largest: int
) -> None:
    for wrong in (-1, largest + 1, 1 << 70):
        word = [6, 0, 0, 0]
        word[position] = wrong
        for refuses in (bpf.to_raw, bpf.disassemble):
            with pytest.raises(ValueError) as caught:
                refuses([(6, 0, 0, 0), tuple(word)])  # type: ignore[list-item]
            assert str(caught.value) == (
                f"instruction 2: {field} must be in 0..{largest:#x}, not {wrong}"
            )
    for other in (1.5, "1", None):
        word = [6, 0, 0, 0]
        word[position] = other  # type: ignore[call-overload]
        with pytest.raises(TypeError, match=f"^instruction 1: {field} must be an integer, not "):
            bpf.to_raw([tuple(word)])  # type: ignore[list-item]


@pytest.mark.parametrize("wrong", [(), (6, 0, 0), (6, 0, 0, 0, 0)])
def test_a_tuple_of_another_length_is_refused(wrong: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match=f"^instruction 1 must have .* not {len(wrong)} fields$"):
        bpf.to_raw([wrong])  # type: ignore[list-item]


@pytest.mark.parametrize("wrong", [None, 6, "abcd", b"abcd", object()], ids=repr)
def test_what_is_neither_word_nor_instruction_is_refused(wrong: object) -> None:
    with pytest.raises(TypeError, match=r"^instruction 1 must be a RawInstruction or a tuple"):
        bpf.to_raw([wrong])  # type: ignore[list-item]


@pytest.mark.parametrize("wrong", [None, 6, b"\x06\0\0\0\0\0\0\0", "6 0 0 0"], ids=repr)
def test_what_is_no_program_is_refused(wrong: object) -> None:
    with pytest.raises(TypeError):
        bpf.to_raw(wrong)  # type: ignore[arg-type]


def test_a_raw_instruction_made_behind_the_constructors_back_is_checked() -> None:
    with pytest.raises(ValueError, match="instruction 1: jt must be in"):
        bpf.to_raw([RawInstruction(6, 0, 0, 0)._replace(jt=256)])


# Text


@pytest.mark.parametrize(("instruction", "text"), TEXTS, ids=[text for _, text in TEXTS])
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


# The virtual machine


@pytest.mark.parametrize("name", VERDICTS)
def test_the_vm_gives_the_verdict(name: str) -> None:
    program, payload, arrive = VERDICTS[name]
    packet = b"\xff" * 8 + payload
    verdict = VM(program).run(packet)
    assert min(max(verdict - 8, 0), len(payload)) == arrive
    # The machine words give the same.
    assert VM(bpf.assemble(program)).run(packet) == verdict


def test_the_verdict_is_not_cut_to_the_packets_length() -> None:
    frame = bytes.fromhex("ffffffffffff 001122334455 0806")
    program = [
        LoadAbsolute(12, 2),
        JumpIf(JumpTest.EQUAL, 0x0806, skip_true=1),
        RetConstant(0),
        RetConstant(0xFFFFFFFF),
    ]
    assert VM(program).run(frame) == 0xFFFFFFFF
    assert VM(program).run(frame[:-1]) == 0


@pytest.mark.parametrize(
    ("program", "message"),
    [
        ([], "one or more Instructions must be specified"),
        ([LoadConstant(A, 1)], "BPF program must end with RetA or RetConstant"),
        ([RetA(), TAX()], "BPF program must end with RetA or RetConstant"),
        (
            [Jump(1), RetA()],
            "instruction 1: cannot jump 1 instructions; jumping past program bounds",
        ),
        (
            [TAX(), Jump(0xFFFFFFFF), RetA()],
            "instruction 2: cannot jump 4294967295 instructions; jumping past program bounds",
        ),
        *(
            (
                [jump, RetA()],
                f"instruction 1: cannot jump {n} instructions in {case} case;"
                " jumping past program bounds",
            )
            for jump, n, case in [
                (JumpIf(JumpTest.EQUAL, 0, skip_true=2), 2, "true"),
                (JumpIf(JumpTest.EQUAL, 0, skip_false=3), 3, "false"),
                (JumpIf(JumpTest.NOT_EQUAL, 0, skip_true=2), 2, "true"),
                (JumpIfX(JumpTest.EQUAL, skip_true=2), 2, "true"),
                (JumpIfX(JumpTest.EQUAL, skip_false=3), 3, "false"),
                (RawInstruction(0x1D, 1, 0, 0), 1, "true"),
            ]
        ),
        *(
            ([divide, RetA()], "instruction 1: cannot divide by zero using ALUOpConstant")
            for divide in (
                ALUOpConstant(ALUOp.DIV, 0),
                ALUOpConstant(ALUOp.MOD, 0),
                RawInstruction(0x34, 0, 0, 0),
            )
        ),
        ([LoadExtension(100), RetA()], "instruction 1: extension 100 not implemented"),
        (
            [TAX(), RawInstruction(0x28, 0, 0, 0xFFFFF004), RetA()],
            "instruction 2: extension 4 not implemented",
        ),
        (
            [TAX(), RawInstruction(0xFFFF, 0, 0, 1), RetA()],
            "instruction 2: unknown instruction RawInstruction(op=65535, jt=0, jf=0, k=1)",
        ),
    ],
)
def test_the_vm_refuses_a_program_that_cannot_run(program: list[Instruction], message: str) -> None:
    with pytest.raises(ValueError) as caught:
        VM(program)
    assert str(caught.value) == message


@pytest.mark.parametrize("extension", set(Extension) - {Extension.LEN})
def test_the_vm_knows_no_extension_but_the_length(extension: Extension) -> None:
    for load in (LoadExtension(extension), LoadExtension(extension).assemble()):
        with pytest.raises(ValueError, match=f"extension {int(extension)} not implemented"):
            VM([load, RetA()])


def test_each_run_begins_anew() -> None:
    vm = VM([LoadScratch(A, 3), ALUOpConstant(ALUOp.ADD, 1), StoreScratch(A, 3), TAX(), RetA()])
    assert [vm.run(b"") for _ in range(3)] == [1, 1, 1]


@pytest.mark.parametrize("shift", [32, 33, 64, 0xFFFFFFFF])
def test_a_shift_by_a_large_constant_leaves_nothing(shift: int) -> None:
    for op in (ALUOp.SHIFT_LEFT, ALUOp.SHIFT_RIGHT):
        vm = VM([LoadConstant(A, 0xFFFFFFFF), ALUOpConstant(op, shift), RetA()])
        assert vm.run(b"") == 0


@pytest.mark.parametrize(
    "packet", [b"\x05\x06", bytearray(b"\x05\x06"), memoryview(b"\x05_\x06_")[::2]], ids=repr
)
def test_a_packet_is_any_buffer(packet: object) -> None:
    assert VM([LoadAbsolute(0, 2), RetA()]).run(packet) == 0x0506  # type: ignore[arg-type]


def test_a_packet_is_not_held_after_the_run() -> None:
    packet = bytearray(b"\x05")
    VM([LoadAbsolute(0, 1), RetA()]).run(packet)
    packet.extend(b"more")


@pytest.mark.parametrize("wrong", [None, 5, "packet", [1, 2]], ids=repr)
def test_what_is_no_packet_is_refused(wrong: object) -> None:
    with pytest.raises(TypeError):
        VM([RetA()]).run(wrong)  # type: ignore[arg-type]


@given(st.integers(0, 1 << 64), st.binary(max_size=60))
def test_a_verdict_has_32_bits(seed: int, packet: bytes) -> None:
    assert 0 <= VM(random_program(random.Random(seed))).run(packet) <= 0xFFFFFFFF


NETWORK, LINK = 0xFFF00000, 0xFFE00000


def test_a_load_from_the_ip_header_is_never_answered_from_elsewhere() -> None:
    packet = ip_header(UDP) + bytes(range(100, 120))
    for load in (LoadAbsolute(NETWORK + 9, 1), LoadAbsolute(NETWORK + 9, 1).assemble()):
        vm = VM([load, RetA()])
        with pytest.raises(ValueError, match=r"^instruction 1 loads from the IP header: .*start="):
            vm.run(packet)
        assert vm.run(packet, start=0) == vm.run(packet, start=20) == UDP
    indirect = VM([LoadConstant(X, NETWORK), LoadIndirect(9, 1), RetA()])
    with pytest.raises(ValueError, match=r"^instruction 2 loads from the IP header"):
        indirect.run(packet)
    assert indirect.run(packet, start=20) == UDP
    length = VM([LoadMemShift(NETWORK), bpf.TXA(), RetA()])
    with pytest.raises(ValueError, match=r"^instruction 1 loads from the IP header"):
        length.run(packet)
    assert length.run(packet, start=20) == 20
    # What is behind the packet's end is no more there than for other loads.
    assert VM([LoadAbsolute(NETWORK + 38, 4), RetConstant(1)]).run(packet, start=20) == 0


def test_start_says_where_the_sockets_packet_begins() -> None:
    packet = ip_header(UDP) + b"\x07\x08"
    assert VM([LoadAbsolute(0, 1), RetA()]).run(packet, start=20) == 7
    assert VM([LoadExtension(Extension.LEN), RetA()]).run(packet, start=20) == 2
    for wrong in (-1, 23):
        with pytest.raises(ValueError, match=r"^start must be in the packet's 0\.\.22, not"):
            VM([RetA()]).run(packet, start=wrong)
    with pytest.raises(TypeError, match="^start must be an integer"):
        VM([RetA()]).run(packet, start="20")  # type: ignore[arg-type]


@pytest.mark.parametrize("offset", [LINK, LINK + 12, NETWORK - 1])
def test_a_load_from_the_link_layers_header_is_refused(offset: int) -> None:
    refusal = "instruction 2.* loads from the link layer's header"
    for load in (LoadAbsolute(offset, 2), LoadMemShift(offset)):
        with pytest.raises(ValueError, match=refusal):
            VM([TAX(), load, RetA()])
    vm = VM([LoadConstant(X, offset), LoadIndirect(0, 2), RetA()])
    with pytest.raises(ValueError, match=refusal):
        vm.run(bytes(100), start=14)


def test_a_vm_shows_its_program() -> None:
    vm = VM([LoadAbsolute(8, 1), RetA()])
    assert repr(vm) == "VM([LoadAbsolute(off=8, size=1), RetA()])"


def test_text_in_words_is_told_from_numbers() -> None:
    with pytest.raises(ValueError, match=r"'ldb' is not .* numeric form .*tcpdump -ddd.*assemble"):
        bpf.loads("ldb [8]")


# Ready programs


@pytest.mark.parametrize("n", [0, 1, 64, 255])
def test_a_minimum_ttl_looks_at_the_ip_header_wherever_the_packet_begins(n: int) -> None:
    assert [str(word) for word in bpf.minimum_ttl(n)] == [
        "ldb [4293918728]",  # SKF_NET_OFF + 8
        f"jge #{n},1",
        "ret #0",
        "ret #4294967295",
    ]


@pytest.mark.parametrize("name", ECHO_ID)
def test_an_echo_ids_program_knows_the_answers_to_it(name: str) -> None:
    packet, wanted = ECHO_ID[name]
    verdict = VM(bpf.icmp_echo_id(ID)).run(packet)
    assert verdict == (0xFFFFFFFF if wanted else 0)


@given(st.binary(max_size=80))
def test_an_echo_ids_program_stands_any_packet(packet: bytes) -> None:
    assert VM(bpf.icmp_echo_id(ID)).run(packet) in (0, 0xFFFFFFFF)


@pytest.mark.parametrize(
    ("make", "field", "largest"), [(bpf.minimum_ttl, "n", 255), (bpf.icmp_echo_id, "id", 65535)]
)
def test_a_ready_programs_number_must_fit(make, field: str, largest: int) -> None:  # type: ignore[no-untyped-def]
    assert bpf.to_raw(make(largest)) == make(largest)
    for wrong in (-1, largest + 1, 1 << 64):
        with pytest.raises(ValueError, match=f"^{field} must be in 0..{largest:#x}, not {wrong}$"):
            make(wrong)
    for other in ("1", None, 1.5):
        with pytest.raises(TypeError, match=f"^{field} must be an integer, not "):
            make(other)


# Names


def test_every_name_is_there() -> None:
    assert [name for name in bpf.__all__ if not hasattr(bpf, name)] == []
    assert set(CLASSES) <= {getattr(bpf, name) for name in bpf.__all__}
    assert {name: int(value) for name, value in Register.__members__.items()} == {"A": 0, "X": 1}
    assert [test.name for test in sorted(JumpTest)] == [
        *("EQUAL", "NOT_EQUAL", "GREATER_THAN", "LESS_THAN", "GREATER_OR_EQUAL"),
        *("LESS_OR_EQUAL", "BITS_SET", "BITS_NOT_SET"),
    ]


def test_a_load_of_five_bytes_makes_no_program_and_no_vm():
    for make in (bpf.assemble, VM):
        with pytest.raises(ValueError, match=r"5"):
            make([LoadAbsolute(8, 5), RetA()])
