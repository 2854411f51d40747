"""An interpreter of classic BPF: what the kernel would answer, without a kernel."""

from __future__ import annotations

from . import opcodes as bpf
from .assembler import assemble, decode
from .instructions import (
    ALUOpConstant,
    Jump,
    JumpIf,
    JumpIfX,
    LoadAbsolute,
    LoadExtension,
    RetA,
    RetConstant,
)
from .opcodes import ALUOp, Extension
from .word import Instruction, RawInstruction, walk

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from typing_extensions import Buffer

__all__ = ["VM"]

_WORD = 0xFFFFFFFF

_ALU: dict[int, Callable[[int, int], int]] = {
    ALUOp.ADD: lambda a, b: a + b,
    ALUOp.SUB: lambda a, b: a - b,
    ALUOp.MUL: lambda a, b: a * b,
    ALUOp.DIV: lambda a, b: a // b,
    ALUOp.OR: lambda a, b: a | b,
    ALUOp.AND: lambda a, b: a & b,
    ALUOp.SHIFT_LEFT: lambda a, b: a << b if b < 32 else 0,
    ALUOp.SHIFT_RIGHT: lambda a, b: a >> b,
    ALUOp.MOD: lambda a, b: a % b,
    ALUOp.XOR: lambda a, b: a ^ b,
    bpf.NEG: lambda a, b: -a,
}
_TEST: dict[int, Callable[[int, int], bool]] = {
    bpf.JEQ: lambda a, b: a == b,
    bpf.JGT: lambda a, b: a > b,
    bpf.JGE: lambda a, b: a >= b,
    bpf.JSET: lambda a, b: a & b != 0,
}


class VM:
    """Runs a program on packets.

    The verdict is the one that Linux gives. Some programs that it refuses run too: scratch memory
    that was never written holds 0, and a shift by a constant of 32 or more gives 0. Loads from
    0xffe00000 on, which Linux takes from the link layer's and the IP header, find nothing here:
    their verdict is 0.

    Parameters
    ----------
    instructions : iterable of Instruction
        `RawInstruction` among them are run as what they decode to.

    Raises
    ------
    ValueError
        For an empty program, a jump beyond its end, a division by the constant 0, an extension
        other than LEN, a last instruction that is no return, or one that cannot be assembled or
        decoded.
    TypeError
        For what is no instruction.
    """

    __slots__ = ("_program",)

    def __init__(self, instructions: Iterable[Instruction]) -> None:
        walked = enumerate(walk(instructions, "instructions"), 1)
        program = [_known(number, item) for number, item in walked]
        if not program:
            raise ValueError("one or more Instructions must be specified")
        for number, instruction in enumerate(program, 1):
            try:
                _check(instruction, len(program) - number)
            except ValueError as error:
                raise ValueError(f"instruction {number}: {error}") from None
        if not isinstance(program[-1], (RetA, RetConstant)):
            raise ValueError("BPF program must end with RetA or RetConstant")
        self._program = assemble(program)

    def run(self, packet: Buffer) -> int:
        """Return the program's verdict: how many bytes of the packet to deliver, 0 for none of it.

        It may be more than the packet has. A load beyond the packet's end, and a division by an X
        of 0, end the program with 0.

        Parameters
        ----------
        packet : buffer
            From where the socket's packets begin: the UDP header on UDP sockets, the IP header on
            raw ones.
        """
        data = bytes(memoryview(packet))
        program = self._program
        scratch = [0] * bpf.SCRATCH_SLOTS
        a = x = at = 0
        while True:
            op, jt, jf, k = program[at]
            at += 1
            kind = op & bpf.CLASS
            if kind == bpf.LD or kind == bpf.LDX:
                mode = op & bpf.MODE
                if mode == bpf.IMM:
                    value = k
                elif mode == bpf.MEM:
                    value = scratch[k]
                elif mode == bpf.LEN:
                    value = len(data)
                else:
                    start = (x + k) & _WORD if mode == bpf.IND else k
                    end = start + bpf.SIZES[op & bpf.SIZE]
                    if end > len(data):
                        return 0
                    value = int.from_bytes(data[start:end], "big")
                    if mode == bpf.MSH:
                        value = 4 * (value & 0x0F)
                if kind == bpf.LD:
                    a = value
                else:
                    x = value
            elif kind == bpf.ST:
                scratch[k] = a
            elif kind == bpf.STX:
                scratch[k] = x
            elif kind == bpf.ALU:
                operation = op & bpf.OPERATION
                operand = x if op & bpf.X else k
                if operation in (ALUOp.DIV, ALUOp.MOD) and operand == 0:
                    return 0
                if op & bpf.X and operation in (ALUOp.SHIFT_LEFT, ALUOp.SHIFT_RIGHT):
                    operand &= 31
                a = _ALU[operation](a, operand) & _WORD
            elif kind == bpf.JMP:
                operation = op & bpf.OPERATION
                if operation == bpf.JA:
                    at += k
                else:
                    at += jt if _TEST[operation](a, x if op & bpf.X else k) else jf
            elif kind == bpf.RET:
                return a if op & bpf.RVAL == bpf.A else k
            elif op & bpf.MODE == bpf.TXA:
                a = x
            else:
                x = a


def _known(number: int, item: Instruction) -> Instruction:
    if not isinstance(item, RawInstruction):
        return item
    decoded = decode(item)
    if decoded is None:
        if item.op == bpf.LDX | bpf.LEN:  # has no class, but runs
            return item
        raise ValueError(f"instruction {number}: unknown instruction {item!r}")
    return decoded


def _check(instruction: Instruction, following: int) -> None:
    """Refuse what could not run with that many instructions after it."""
    match instruction:
        case Jump(skip):
            _check_jump(skip, following, "")
        case JumpIf(_, _, skip_true, skip_false) | JumpIfX(_, skip_true, skip_false):
            _check_jump(skip_true, following, " in true case")
            _check_jump(skip_false, following, " in false case")
        case ALUOpConstant(ALUOp.DIV | ALUOp.MOD, 0):
            raise ValueError("cannot divide by zero using ALUOpConstant")
        case LoadExtension(num) if num != Extension.LEN:
            raise ValueError(f"extension {int(num)} not implemented")
        case LoadAbsolute(off) if off >= bpf.EXTENSIONS:
            raise ValueError(f"extension {off - bpf.EXTENSIONS} not implemented")


def _check_jump(skip: int, following: int, case: str) -> None:
    if skip >= following:
        raise ValueError(f"cannot jump {skip} instructions{case}; jumping past program bounds")
