"""From instructions to machine words and back, and what the kernel and tcpdump call a program."""

from __future__ import annotations

from functools import partial
from itertools import islice, starmap
from struct import Struct

from . import opcodes as bpf
from .instructions import (
    TAX,
    TESTS,
    TXA,
    ALUOpConstant,
    ALUOpX,
    Jump,
    JumpIf,
    JumpIfX,
    LoadAbsolute,
    LoadConstant,
    LoadExtension,
    LoadIndirect,
    LoadMemShift,
    LoadScratch,
    NegateA,
    RetA,
    RetConstant,
    StoreScratch,
)
from .opcodes import ALUOp, Extension, Register
from .word import Instruction, RawInstruction, walk

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from typing import TypeAlias

    Word: TypeAlias = RawInstruction | tuple[int, int, int, int]

__all__ = ["assemble", "assemble_one", "decode", "disassemble", "loads", "pack", "to_raw"]

_SOCK_FILTER = Struct("HBBI")

_WITHOUT_OPERAND: dict[int, Instruction] = {
    bpf.LD | bpf.LEN: LoadExtension(Extension.LEN),
    bpf.ALU | bpf.NEG: NegateA(),
    bpf.RET | bpf.A: RetA(),
    bpf.MISC | bpf.TXA: TXA(),
    bpf.MISC | bpf.TAX: TAX(),
    **{bpf.ALU | bpf.X | op: ALUOpX(op) for op in ALUOp},
}
_OF_OPERAND: dict[int, Callable[[int], Instruction]] = {
    bpf.LD | bpf.IMM: partial(LoadConstant, Register.A),
    bpf.LDX | bpf.IMM: partial(LoadConstant, Register.X),
    bpf.LD | bpf.MEM: partial(LoadScratch, Register.A),
    bpf.LDX | bpf.MEM: partial(LoadScratch, Register.X),
    bpf.LDX | bpf.B | bpf.MSH: LoadMemShift,
    bpf.ST: partial(StoreScratch, Register.A),
    bpf.STX: partial(StoreScratch, Register.X),
    bpf.JMP | bpf.JA: Jump,
    bpf.RET: RetConstant,
    **{bpf.LD | bpf.ABS | code: partial(LoadAbsolute, size=n) for code, n in bpf.SIZES.items()},
    **{bpf.LD | bpf.IND | code: partial(LoadIndirect, size=n) for code, n in bpf.SIZES.items()},
    **{bpf.ALU | op: partial(ALUOpConstant, op) for op in ALUOp},
}


def decode(word: RawInstruction) -> Instruction | None:
    """Return the instruction that a machine word is, whatever stands in fields that the machine
    ignores; None when there is none.
    """
    op, jt, jf, k = word
    if op in _WITHOUT_OPERAND:
        return _WITHOUT_OPERAND[op]
    if op in _OF_OPERAND:
        decoded = _OF_OPERAND[op](k)
        match decoded:
            case LoadScratch(_, n) | StoreScratch(_, n) if n >= bpf.SCRATCH_SLOTS:
                return None
            case LoadAbsolute(off, 4) if off >= bpf.EXTENSIONS:
                # LEN has a word of its own: this one the kernel refuses.
                number = off - bpf.EXTENSIONS
                return decoded if number == Extension.LEN else LoadExtension(number)
        return decoded
    if op & bpf.CLASS != bpf.JMP or op & ~bpf.X & ~bpf.CLASS not in TESTS:
        return None
    cond, opposite = TESTS[op & bpf.OPERATION]
    if jt == 0:
        cond, jt, jf = opposite, jf, jt
    return JumpIfX(cond, jt, jf) if op & bpf.X else JumpIf(cond, k, jt, jf)


RawInstruction._decode = lambda self: decode(self)  # type: ignore[assignment,method-assign]


def assemble(instructions: Iterable[Instruction]) -> list[RawInstruction]:
    """Encode instructions as machine words.

    Jumps are not checked and a program may be of any length: see `VM` and `to_raw`.

    Raises
    ------
    ValueError
        For an instruction with a field that means nothing, or one of a program's own that
        assembles to what is no machine word; the first one, counted from 1.
    TypeError
        For what is no instruction, or assembles to something else than a word.
    """
    return [
        assemble_one(number, item)
        for number, item in enumerate(walk(instructions, "instructions"), 1)
    ]


def assemble_one(number: int, item: Instruction) -> RawInstruction:
    """Encode the instruction that is the program's `number`-th, and check what came of it."""
    if not isinstance(item, Instruction):
        raise TypeError(f"instruction {number} must be an instruction, not {type(item).__name__}")
    try:
        word = item.assemble()
    except ValueError as error:
        raise ValueError(f"assembling instruction {number}: {error}") from None
    if not isinstance(word, (tuple, list)):
        # Classes of a program's own may forget to return.
        raise TypeError(
            f"instruction {number}: {type(item).__name__}.assemble() must return a"
            f" RawInstruction, not {type(word).__name__}"
        )
    return _word(number, word)


def disassemble(raw: Iterable[Word]) -> tuple[list[Instruction], bool]:
    """Decode machine words.

    Assembling the result again gives the same words.

    Returns
    -------
    instructions : list of Instruction
        A word that no instruction assembles to stays a `RawInstruction`.
    all_decoded : bool
        Whether none stayed.

    Raises
    ------
    TypeError, ValueError
        For what is no machine word; the first one, counted from 1.
    """
    decoded = [_word(number, item).disassemble() for number, item in enumerate(walk(raw, "raw"), 1)]
    return decoded, RawInstruction not in map(type, decoded)


def _word(number: int, item: Word) -> RawInstruction:
    if not isinstance(item, (tuple, list)):
        raise TypeError(
            f"instruction {number} must be a RawInstruction or a tuple (op, jt, jf, k),"
            f" not {type(item).__name__}"
        )
    if len(item) != 4:
        raise ValueError(f"instruction {number} must have op, jt, jf and k, not {len(item)} fields")
    try:
        return RawInstruction(*item)
    except (TypeError, ValueError) as error:
        raise type(error)(f"instruction {number}: {error}") from None


def to_raw(program: Iterable[Instruction | Word]) -> list[RawInstruction]:
    """Check a program for the kernel: 1-4096 instructions, all of whose fields fit.

    Parameters
    ----------
    program : iterable
        Of `RawInstruction`, of tuples ``(op, jt, jf, k)``, or of instructions.

    Raises
    ------
    TypeError, ValueError
        Naming the instruction, counted from 1, and its field.
    """
    # One more than allowed is enough to refuse an iterable that never ends.
    items = list(islice(walk(program, "program"), bpf.MAX_INSTRUCTIONS + 1))
    if not items:
        raise ValueError("a BPF program must have at least one instruction")
    if len(items) > bpf.MAX_INSTRUCTIONS:
        raise ValueError(
            f"a BPF program may have {bpf.MAX_INSTRUCTIONS} instructions, this one has more"
        )
    return [
        assemble_one(number, item) if isinstance(item, Instruction) else _word(number, item)
        for number, item in enumerate(items, 1)
    ]


def pack(raw: Iterable[RawInstruction]) -> bytes:
    """Lay out machine words as the kernel's array of ``struct sock_filter``, 8 bytes each."""
    return b"".join(starmap(_SOCK_FILTER.pack, raw))


def loads(text: str | bytes) -> list[RawInstruction]:
    """Read a program in the decimal form that ``tcpdump -ddd`` prints.

    The first line is the number of instructions; each of the others is one, ``op jt jf k``.
    What tcpdump says on its standard error (``Warning: ...``, ``tcpdump: ...``) is skipped where
    it was captured together with the program.

    Notes
    -----
    tcpdump's programs begin at the link layer's header, and a socket's at its own: for raw sockets
    compile with ``tcpdump -y RAW -ddd``. For UDP sockets, whose packets begin at the UDP header,
    no link type fits.

    Raises
    ------
    ValueError
        For any other text; the message names the line, counted from 1.
    """
    if isinstance(text, bytes):
        text = text.decode("ascii", "backslashreplace")
    if not isinstance(text, str):
        raise TypeError(f"text must be str or bytes, not {type(text).__name__}")
    count = None
    program: list[RawInstruction] = []
    for number, line in enumerate(text.splitlines(), 1):
        fields = line.split()
        if not fields or fields[0] in ("Warning:", "tcpdump:"):
            continue
        values = [_decimal(number, field) for field in fields]
        if count is None:
            if len(values) != 1:
                raise ValueError(
                    f"line {number}: the number of instructions must come first, not {line!r}"
                )
            count = values[0]
            if not 1 <= count <= bpf.MAX_INSTRUCTIONS:
                raise ValueError(
                    f"line {number}: a program has 1..{bpf.MAX_INSTRUCTIONS} instructions,"
                    f" not {count}"
                )
            continue
        if len(values) != 4:
            raise ValueError(
                f"line {number}: an instruction must have op, jt, jf and k, not {line!r}"
            )
        if len(program) == count:
            raise ValueError(f"line {number}: more than the announced {count} instructions")
        try:
            program.append(RawInstruction(*values))
        except ValueError as error:
            raise ValueError(f"line {number}: {error}") from None
    if count is None:
        raise ValueError("line 1: the number of instructions is missing")
    if len(program) < count:
        raise ValueError(
            f"line {number}: the text ends after {len(program)} of {count} instructions"
        )
    return program


def _decimal(line: int, field: str) -> int:
    # Not int() alone: it takes signs, underscores and other scripts' digits too.
    if not (field.isascii() and field.isdecimal() and len(field) <= 10):
        words = field.isascii() and field.isalpha()  # as `str(instruction)` has them
        raise ValueError(
            f"line {line}: {field[:40]!r} is not a decimal number of 32 bits"
            + (
                ": the numeric form of `tcpdump -ddd` is read here, `assemble` takes instructions"
                if words
                else ""
            )
        )
    return int(field)
