"""`ipv4.bpf` without a kernel: values, words, text, checks, verdicts."""

import copy
import inspect
import pickle
import re
import struct
import sys

import pytest
from support.bpf_cases import A, X, instructions
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


# Values


@pytest.mark.parametrize("made", CLASSES)
@pytest.mark.parity("bpf.Instruction")
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


@pytest.mark.parity("bpf.RawInstruction")
def test_a_raw_instruction_equals_the_tuple_of_its_fields() -> None:
    assert RawInstruction(0x30, 0, 0, 8) == (0x30, 0, 0, 8)
    assert hash(RawInstruction(0x30, 0, 0, 8)) == hash((0x30, 0, 0, 8))
    op, jt, jf, k = RawInstruction(1, 2, 3, 4)
    assert (op, jt, jf, k) == (1, 2, 3, 4)


def test_a_match_statement_takes_an_instruction_apart() -> None:
    match JumpIf(JumpTest.EQUAL, 1, 2, 3):
        case JumpIf(cond, val, skip_true, skip_false):
            assert (cond, val, skip_true, skip_false) == (JumpTest.EQUAL, 1, 2, 3)


@pytest.mark.parity("bpf.Register")
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
@pytest.mark.parity("bpf.RegA, RegX", "bpf.Assemble", "bpf.*", "BPF encodings, machine and texts")
def test_every_instruction_has_its_word(
    instruction: Instruction, word: tuple[int, int, int, int]
) -> None:
    assert bpf.assemble([instruction]) == [word]
    assert bpf.disassemble([word]) == ([instruction], True)
    assert instruction.assemble().disassemble() == instruction


@pytest.mark.parity(
    "bpf.ALUOpAdd … ALUOpXor",
    "bpf.JumpEqual … JumpBitsNotSet",
    "bpf.ALUOp",
    "bpf.JumpTest",
    "bpf.*",
)
def test_the_table_has_every_class_operation_and_test() -> None:
    made = [instruction for instruction, _ in ENCODED]
    assert {type(instruction) for instruction in made} == set(CLASSES) - {RawInstruction}
    for kind in (ALUOpConstant, ALUOpX):
        assert [item.op for item in made if isinstance(item, kind)] == list(ALUOp)
    for test in set(JumpTest) - {JumpTest.BITS_NOT_SET}:
        assert {type(i) for i in made if getattr(i, "cond", None) == test} == {JumpIf, JumpIfX}


@pytest.mark.parametrize("extension", Extension)
@pytest.mark.parity("bpf.ExtLen … ExtRand", "bpf.Extension")
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
@pytest.mark.parity("bpf.Assemble", "bpf.Disassemble")
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
@pytest.mark.parity("bpf.Disassemble", "bpf.RawInstruction.Disassemble")
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
