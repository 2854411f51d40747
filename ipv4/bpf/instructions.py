"""The instructions, as values.

A field's width is checked when an instruction is made, as a compiler would; whether its value
means anything (a register, a slot, a test) when it is assembled.
"""

from __future__ import annotations

from . import opcodes as bpf
from .opcodes import ALUOp, Extension, JumpTest, Register
from .word import Instruction, RawInstruction, integer, named, unsigned

__all__ = [
    "TAX",
    "TXA",
    "ALUOpConstant",
    "ALUOpX",
    "Jump",
    "JumpIf",
    "JumpIfX",
    "LoadAbsolute",
    "LoadConstant",
    "LoadExtension",
    "LoadIndirect",
    "LoadMemShift",
    "LoadScratch",
    "NegateA",
    "RetA",
    "RetConstant",
    "StoreScratch",
]


class LoadConstant(Instruction):
    """``dst = val``.

    Parameters
    ----------
    dst : Register
    val : int
        32 bits.
    """

    __slots__ = __match_args__ = ("dst", "val")
    dst: int
    val: int

    def __init__(self, dst: int, val: int) -> None:
        self._fill(_register(dst, "dst"), unsigned(val, 32, "val"))

    def assemble(self) -> RawInstruction:
        """Encode as a machine word."""
        return RawInstruction(bpf.IMM | _target(self.dst), 0, 0, self.val)

    def _text(self) -> str:
        return f"{_LOADS[self.dst]} #{self.val}"


class LoadScratch(Instruction):
    """``dst = M[n]``, a word of scratch memory.

    Parameters
    ----------
    dst : Register
    n : int
        0-15. The kernel refuses a program that may read a slot before writing it.
    """

    __slots__ = __match_args__ = ("dst", "n")
    dst: int
    n: int

    def __init__(self, dst: int, n: int) -> None:
        self._fill(_register(dst, "dst"), integer(n, "n"))

    def assemble(self) -> RawInstruction:
        """Encode as a machine word."""
        return RawInstruction(bpf.MEM | _target(self.dst), 0, 0, _slot(self.n))

    def _text(self) -> str:
        return f"{_LOADS[self.dst]} M[{self.n}]"


class LoadAbsolute(Instruction):
    """``A = packet[off : off + size]``, big-endian; beyond the packet's end the verdict is 0.

    Parameters
    ----------
    off : int
        Bytes from the start of the packet, 32 bits. From 0xfff00000 on from the IP header, and
        from 0xfffff000 on a `LoadExtension` (Linux).
    size : int
        1, 2 or 4 bytes.
    """

    __slots__ = __match_args__ = ("off", "size")
    off: int
    size: int

    def __init__(self, off: int, size: int) -> None:
        self._fill(unsigned(off, 32, "off"), integer(size, "size"))

    def assemble(self) -> RawInstruction:
        """Encode as a machine word."""
        return RawInstruction(bpf.LD | bpf.ABS | _size(self.size), 0, 0, self.off)

    def _text(self) -> str:
        load = _SIZED_LOADS[self.size]
        if self.off >= bpf.EXTENSIONS:
            name = _EXTENSION_TEXTS.get(self.off - bpf.EXTENSIONS)
            return f"{load} #{name}" if name else ""
        return f"{load} [{self.off}]"


class LoadIndirect(Instruction):
    """``A = packet[X + off : X + off + size]``, big-endian; beyond its end the verdict is 0.

    Parameters
    ----------
    off : int
        Bytes, 32 bits; the sum with X wraps to 32 bits.
    size : int
        1, 2 or 4 bytes.
    """

    __slots__ = __match_args__ = ("off", "size")
    off: int
    size: int

    def __init__(self, off: int, size: int) -> None:
        self._fill(unsigned(off, 32, "off"), integer(size, "size"))

    def assemble(self) -> RawInstruction:
        """Encode as a machine word."""
        return RawInstruction(bpf.LD | bpf.IND | _size(self.size), 0, 0, self.off)

    def _text(self) -> str:
        return f"{_SIZED_LOADS[self.size]} [x + {self.off}]"


class LoadMemShift(Instruction):
    """``X = 4 * (packet[off] & 15)``: the length of the IPv4 header that begins at `off`.

    Parameters
    ----------
    off : int
        Bytes from the start of the packet, 32 bits.
    """

    __slots__ = __match_args__ = ("off",)
    off: int

    def __init__(self, off: int) -> None:
        self._fill(unsigned(off, 32, "off"))

    def assemble(self) -> RawInstruction:
        """Encode as a machine word."""
        return RawInstruction(bpf.LDX | bpf.B | bpf.MSH, 0, 0, self.off)

    def _text(self) -> str:
        return f"ldx 4*([{self.off}]&0xf)"


class LoadExtension(Instruction):
    """``A =`` what Linux knows about the packet beside its bytes.

    Parameters
    ----------
    num : Extension
        Or another number below 4096, for what newer kernels know.
    """

    __slots__ = __match_args__ = ("num",)
    num: int

    def __init__(self, num: int) -> None:
        self._fill(named(integer(num, "num"), Extension))

    def assemble(self) -> RawInstruction:
        """Encode as a machine word."""
        if self.num == Extension.LEN:
            return RawInstruction(bpf.LD | bpf.W | bpf.LEN, 0, 0, 0)
        if not 0 <= self.num < 1 << 12:
            raise ValueError(f"invalid extension {self.num}: num must be in 0..4095")
        return RawInstruction(bpf.LD | bpf.W | bpf.ABS, 0, 0, bpf.EXTENSIONS + self.num)

    def _text(self) -> str:
        if self.num == Extension.LEN:
            return "ld #len"
        name = _EXTENSION_TEXTS.get(self.num)
        return f"ld #{name}" if name else ""


class StoreScratch(Instruction):
    """``M[n] = src``, a word of scratch memory.

    Parameters
    ----------
    src : Register
    n : int
        0-15.
    """

    __slots__ = __match_args__ = ("src", "n")
    src: int
    n: int

    def __init__(self, src: int, n: int) -> None:
        self._fill(_register(src, "src"), integer(n, "n"))

    def assemble(self) -> RawInstruction:
        """Encode as a machine word."""
        if self.src not in (Register.A, Register.X):
            raise ValueError(f"invalid source register {self.src}: src must be A or X")
        op = bpf.ST if self.src == Register.A else bpf.STX
        return RawInstruction(op, 0, 0, _slot(self.n))

    def _text(self) -> str:
        return f"{'st' if self.src == Register.A else 'stx'} M[{self.n}]"


class ALUOpConstant(Instruction):
    """``A = A op val``, in 32 bits. The kernel refuses to divide by 0 and to shift by 32 or more.

    Parameters
    ----------
    op : ALUOp
    val : int
        32 bits.
    """

    __slots__ = __match_args__ = ("op", "val")
    op: int
    val: int

    def __init__(self, op: int, val: int) -> None:
        self._fill(named(unsigned(op, 16, "op"), ALUOp), unsigned(val, 32, "val"))

    def assemble(self) -> RawInstruction:
        """Encode as a machine word."""
        return RawInstruction(bpf.ALU | _operation(self.op), 0, 0, self.val)

    def _text(self) -> str:
        return f"{_ALU_TEXTS[self.op]} #{self.val}"


class ALUOpX(Instruction):
    """``A = A op X``, in 32 bits. Division by 0 makes the verdict 0; shifts are modulo 32.

    Parameters
    ----------
    op : ALUOp
    """

    __slots__ = __match_args__ = ("op",)
    op: int

    def __init__(self, op: int) -> None:
        self._fill(named(unsigned(op, 16, "op"), ALUOp))

    def assemble(self) -> RawInstruction:
        """Encode as a machine word."""
        return RawInstruction(bpf.ALU | bpf.X | _operation(self.op), 0, 0, 0)

    def _text(self) -> str:
        return f"{_ALU_TEXTS[self.op]} x"


class NegateA(Instruction):
    """``A = -A``, in 32 bits."""

    __slots__ = ()

    def assemble(self) -> RawInstruction:
        """Encode as a machine word."""
        return RawInstruction(bpf.ALU | bpf.NEG, 0, 0, 0)

    def _text(self) -> str:
        return "neg"


class Jump(Instruction):
    """Skip the next `skip` instructions.

    Parameters
    ----------
    skip : int
        32 bits.
    """

    __slots__ = __match_args__ = ("skip",)
    skip: int

    def __init__(self, skip: int) -> None:
        self._fill(unsigned(skip, 32, "skip"))

    def assemble(self) -> RawInstruction:
        """Encode as a machine word."""
        return RawInstruction(bpf.JMP | bpf.JA, 0, 0, self.skip)

    def _text(self) -> str:
        return f"ja {self.skip}"


class _Test(Instruction):
    """A conditional jump."""

    __slots__ = ()
    cond: int
    skip_true: int
    skip_false: int

    def _encode(self, operand: int, k: int) -> RawInstruction:
        for code, (test, opposite) in TESTS.items():
            if self.cond == test:
                return RawInstruction(bpf.JMP | operand | code, self.skip_true, self.skip_false, k)
            if self.cond == opposite:
                return RawInstruction(bpf.JMP | operand | code, self.skip_false, self.skip_true, k)
        raise ValueError(f"unknown JumpTest {self.cond}: cond must be one of JumpTest")

    def _text(self) -> str:
        op, jt, jf, k = self.assemble()
        test, opposite = TESTS[op & bpf.OPERATION]
        operand = "x" if op & bpf.X else f"#{k}"
        if jf == 0:
            return f"{_TEST_TEXTS[test]} {operand},{jt}"
        if jt == 0 and opposite in _TEST_TEXTS:
            return f"{_TEST_TEXTS[opposite]} {operand},{jf}"
        return f"{_TEST_TEXTS[test]} {operand},{jt},{jf}"

    def _unknown(self) -> str:
        return f"unknown JumpTest {self.cond:#x}"


class JumpIf(_Test):
    """Compare A with a constant and skip instructions.

    Parameters
    ----------
    cond : JumpTest
    val : int
        32 bits.
    skip_true, skip_false : int
        How many to skip when the test holds, and when not; 8 bits each.
    """

    __slots__ = __match_args__ = ("cond", "val", "skip_true", "skip_false")
    val: int

    def __init__(self, cond: int, val: int, skip_true: int = 0, skip_false: int = 0) -> None:
        self._fill(
            named(unsigned(cond, 16, "cond"), JumpTest),
            unsigned(val, 32, "val"),
            unsigned(skip_true, 8, "skip_true"),
            unsigned(skip_false, 8, "skip_false"),
        )

    def assemble(self) -> RawInstruction:
        """Encode as a machine word."""
        return self._encode(0, self.val)


class JumpIfX(_Test):
    """Compare A with X and skip instructions.

    Parameters
    ----------
    cond : JumpTest
    skip_true, skip_false : int
        How many to skip when the test holds, and when not; 8 bits each.
    """

    __slots__ = __match_args__ = ("cond", "skip_true", "skip_false")

    def __init__(self, cond: int, skip_true: int = 0, skip_false: int = 0) -> None:
        self._fill(
            named(unsigned(cond, 16, "cond"), JumpTest),
            unsigned(skip_true, 8, "skip_true"),
            unsigned(skip_false, 8, "skip_false"),
        )

    def assemble(self) -> RawInstruction:
        """Encode as a machine word."""
        return self._encode(bpf.X, 0)


class RetA(Instruction):
    """End; A is the verdict: how many bytes of the packet to deliver, 0 for none of it."""

    __slots__ = ()

    def assemble(self) -> RawInstruction:
        """Encode as a machine word."""
        return RawInstruction(bpf.RET | bpf.A, 0, 0, 0)

    def _text(self) -> str:
        return "ret a"


class RetConstant(Instruction):
    """End; the verdict is a constant.

    Parameters
    ----------
    val : int
        How many bytes of the packet to deliver, 0 for none of it; 32 bits.
    """

    __slots__ = __match_args__ = ("val",)
    val: int

    def __init__(self, val: int) -> None:
        self._fill(unsigned(val, 32, "val"))

    def assemble(self) -> RawInstruction:
        """Encode as a machine word."""
        return RawInstruction(bpf.RET, 0, 0, self.val)

    def _text(self) -> str:
        return f"ret #{self.val}"


class TXA(Instruction):
    """``A = X``."""

    __slots__ = ()

    def assemble(self) -> RawInstruction:
        """Encode as a machine word."""
        return RawInstruction(bpf.MISC | bpf.TXA, 0, 0, 0)

    def _text(self) -> str:
        return "txa"


class TAX(Instruction):
    """``X = A``."""

    __slots__ = ()

    def assemble(self) -> RawInstruction:
        """Encode as a machine word."""
        return RawInstruction(bpf.MISC | bpf.TAX, 0, 0, 0)

    def _text(self) -> str:
        return "tax"


def _register(value: int, field: str) -> int:
    return named(unsigned(value, 16, field), Register)


def _target(register: int) -> int:
    """Return the class of an instruction that loads a register."""
    if register == Register.A:
        return bpf.LD
    if register == Register.X:
        return bpf.LDX
    raise ValueError(f"invalid target register {register}: dst must be A or X")


def _slot(n: int) -> int:
    if not 0 <= n < bpf.SCRATCH_SLOTS:
        raise ValueError(f"invalid scratch slot {n}: n must be in 0..{bpf.SCRATCH_SLOTS - 1}")
    return n


def _size(size: int) -> int:
    for code, length in bpf.SIZES.items():
        if size == length:
            return code
    raise ValueError(f"invalid load byte length {size}: size must be 1, 2 or 4")


def _operation(op: int) -> int:
    if not isinstance(op, ALUOp):
        raise ValueError(f"unknown ALU operation {op}: op must be one of ALUOp")
    return op


# The machine has four tests; their opposites have the skips swapped.
TESTS = {
    bpf.JEQ: (JumpTest.EQUAL, JumpTest.NOT_EQUAL),
    bpf.JGT: (JumpTest.GREATER_THAN, JumpTest.LESS_OR_EQUAL),
    bpf.JGE: (JumpTest.GREATER_OR_EQUAL, JumpTest.LESS_THAN),
    bpf.JSET: (JumpTest.BITS_SET, JumpTest.BITS_NOT_SET),
}

_LOADS: dict[int, str] = {Register.A: "ld", Register.X: "ldx"}
_SIZED_LOADS = {4: "ld", 2: "ldh", 1: "ldb"}
_ALU_TEXTS: dict[int, str] = {
    ALUOp.ADD: "add",
    ALUOp.SUB: "sub",
    ALUOp.MUL: "mul",
    ALUOp.DIV: "div",
    ALUOp.OR: "or",
    ALUOp.AND: "and",
    ALUOp.SHIFT_LEFT: "lsh",
    ALUOp.SHIFT_RIGHT: "rsh",
    ALUOp.MOD: "mod",
    ALUOp.XOR: "xor",
}
_TEST_TEXTS = {
    JumpTest.EQUAL: "jeq",
    JumpTest.NOT_EQUAL: "jneq",
    JumpTest.GREATER_THAN: "jgt",
    JumpTest.LESS_THAN: "jlt",
    JumpTest.GREATER_OR_EQUAL: "jge",
    JumpTest.LESS_OR_EQUAL: "jle",
    JumpTest.BITS_SET: "jset",
}
_EXTENSION_TEXTS: dict[int, str] = {
    Extension.PROTO: "proto",
    Extension.TYPE: "type",
    Extension.INTERFACE_INDEX: "ifidx",
    Extension.NETLINK_ATTR: "nla",
    Extension.NETLINK_ATTR_NESTED: "nlan",
    Extension.MARK: "mark",
    Extension.QUEUE: "queue",
    Extension.LINK_LAYER_TYPE: "hatype",
    Extension.RX_HASH: "rxhash",
    Extension.CPU_ID: "cpu",
    Extension.VLAN_TAG: "vlan_tci",
    Extension.VLAN_TAG_PRESENT: "vlan_avail",
    Extension.PAYLOAD_OFFSET: "poff",
    Extension.RAND: "rand",
    Extension.VLAN_PROTO: "vlan_tpid",
}
