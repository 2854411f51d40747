"""An interpreter of classic BPF: what the kernel would answer, without a kernel."""

from __future__ import annotations

from . import instructions as _instructions
from . import opcodes as bpf
from .assembler import assemble, assemble_one, decode, disassemble
from .instructions import (
    ALUOpConstant,
    Jump,
    JumpIf,
    JumpIfX,
    LoadAbsolute,
    LoadExtension,
    LoadMemShift,
    RetA,
    RetConstant,
)
from .opcodes import ALUOp, Extension
from .word import Instruction, integer, walk

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from typing_extensions import Buffer

__all__ = ["VM"]

_WORD = 0xFFFFFFFF

# Not their subclasses: those may assemble to anything.
_CLASSES = {getattr(_instructions, name) for name in _instructions.__all__}

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
    0xfff00000 on, which Linux takes from the IP header, need a packet that is given with it.

    Parameters
    ----------
    instructions : iterable of Instruction
        `RawInstruction` among them, and classes of a program's own, are run as what their words
        decode to.

    Raises
    ------
    ValueError
        For an empty program, a jump beyond its end, a division by the constant 0, an extension
        other than LEN, a load from the link layer's header (which no packet is given with), a last
        instruction that is no return, or one that cannot be assembled or decoded.
    TypeError
        For what is no instruction, or assembles to no word.
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

    def __repr__(self) -> str:
        return f"VM({disassemble(self._program)[0]!r})"

    def run(self, packet: Buffer, *, start: int | None = None) -> int:
        """Return the program's verdict: how many bytes of the packet to deliver, 0 for none of it.

        It may be more than the packet has. A load beyond the packet's end, and a division by an X
        of 0, end the program with 0.

        Parameters
        ----------
        packet : buffer
            From where the socket's packets begin: the UDP header on UDP sockets, the IP header on
            raw ones.
        start : int, optional
            Given when `packet` begins with its IP header: where in it the socket's own packet
            begins. That is 0 on raw sockets, and the header's length (`Header.len`) on UDP ones.

        Raises
        ------
        ValueError
            When the program loads from the IP header (0xfff00000 on, as `minimum_ttl` does) and
            `start` does not say where that is; from the link layer's header, which is not known
            here; or for a `start` that lies outside of the packet.

        Examples
        --------
        >>> from ipv4 import Header, bpf
        >>> header = Header(total_len=28, ttl=254, protocol=17)
        >>> packet = header.marshal(format="wire") + bytes(8)
        >>> vm = bpf.VM(bpf.minimum_ttl(255))
        >>> vm.run(packet, start=20)
        0
        """
        network = data = bytes(memoryview(packet))
        if start is not None:
            start = integer(start, "start")
            if not 0 <= start <= len(data):
                raise ValueError(f"start must be in the packet's 0..{len(data)}, not {start}")
            data = network[start:]
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
                    first = (x + k) & _WORD if mode == bpf.IND else k
                    source = data
                    if first >= bpf.LINK_HEADER:
                        first = _in_network_header(at, first, start)
                        source = network
                    end = first + bpf.SIZES[op & bpf.SIZE]
                    if end > len(source):
                        return 0
                    value = int.from_bytes(source[first:end], "big")
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


def _in_network_header(number: int, offset: int, start: int | None) -> int:
    """Where in the IP header a load with this offset begins."""
    if offset < bpf.NETWORK_HEADER:
        raise ValueError(f"instruction {number} {_LINK_LAYER}")
    if start is None and offset - bpf.NETWORK_HEADER < 1 << 16:  # beyond any packet it finds none
        raise ValueError(
            f"instruction {number} loads from the IP header: give the packet with it, and start="
            " says where the socket's own begins (0 on raw sockets, the header's length on UDP)"
        )
    return offset - bpf.NETWORK_HEADER


_LINK_LAYER = "loads from the link layer's header, which is not known here"


def _known(number: int, item: Instruction) -> Instruction:
    """The instruction itself, or what the word decodes to that another class assembles to."""
    if type(item) in _CLASSES:
        return item
    word = assemble_one(number, item)
    decoded = decode(word)
    if decoded is None:
        if word.op == bpf.LDX | bpf.LEN:  # has no class, but runs
            return word
        raise ValueError(f"instruction {number}: unknown instruction {word!r}")
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
        case LoadAbsolute(off) | LoadMemShift(off) if bpf.LINK_HEADER <= off < bpf.NETWORK_HEADER:
            raise ValueError(_LINK_LAYER)


def _check_jump(skip: int, following: int, case: str) -> None:
    if skip >= following:
        raise ValueError(f"cannot jump {skip} instructions{case}; jumping past program bounds")
