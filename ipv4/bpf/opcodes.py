"""The numbers of classic BPF (<linux/bpf_common.h>, <linux/filter.h>)."""

from enum import IntEnum

__all__ = ["ALUOp", "Extension", "JumpTest", "Register"]

# Instruction classes: the low three bits of an operation code.
CLASS = 0x07
LD, LDX, ST, STX, ALU, JMP, RET, MISC = range(8)

# Loads: how many bytes, and from where.
SIZE, MODE = 0x18, 0xE0
W, H, B = 0x00, 0x08, 0x10
IMM, ABS, IND, MEM, LEN, MSH = 0x00, 0x20, 0x40, 0x60, 0x80, 0xA0
SIZES = {W: 4, H: 2, B: 1}

# Arithmetic and jumps: the operation, and whether the operand is X instead of the constant.
OPERATION, X = 0xF0, 0x08
NEG = 0x80
JA, JEQ, JGT, JGE, JSET = 0x00, 0x10, 0x20, 0x30, 0x40

# What a program returns, and the two moves between the registers.
RVAL, A = 0x18, 0x10
TAX, TXA = 0x00, 0x80

SCRATCH_SLOTS = 16
"""Words of scratch memory that a program has (BPF_MEMWORDS)."""

MAX_INSTRUCTIONS = 4096
"""Longest program that the kernel takes (BPF_MAXINSNS)."""

EXTENSIONS = 0xFFFFF000
"""From this offset on a load asks the kernel about the packet instead (SKF_AD_OFF)."""

NETWORK_HEADER = 0xFFF00000
"""From this offset on a load reads the IP header, wherever offset 0 is (SKF_NET_OFF)."""

LINK_HEADER = 0xFFE00000
"""From this offset on a load reads the link layer's header (SKF_LL_OFF)."""


class Register(IntEnum):
    """The two registers, each of 32 bits."""

    A = 0
    X = 1


class ALUOp(IntEnum):
    """Arithmetic on A; the values are those of the operation code."""

    ADD = 0x00
    SUB = 0x10
    MUL = 0x20
    DIV = 0x30
    OR = 0x40
    AND = 0x50
    SHIFT_LEFT = 0x60
    SHIFT_RIGHT = 0x70
    MOD = 0x90
    XOR = 0xA0


class JumpTest(IntEnum):
    """Unsigned comparisons, with A on the left."""

    EQUAL = 0
    NOT_EQUAL = 1
    GREATER_THAN = 2
    LESS_THAN = 3
    GREATER_OR_EQUAL = 4
    LESS_OR_EQUAL = 5
    BITS_SET = 6
    BITS_NOT_SET = 7


class Extension(IntEnum):
    """What Linux knows about a packet beside its bytes (SKF_AD_* of <linux/filter.h>)."""

    PROTO = 0
    LEN = 1
    TYPE = 4
    INTERFACE_INDEX = 8
    NETLINK_ATTR = 12
    NETLINK_ATTR_NESTED = 16
    MARK = 20
    QUEUE = 24
    LINK_LAYER_TYPE = 28
    RX_HASH = 32
    CPU_ID = 36
    VLAN_TAG = 44
    VLAN_TAG_PRESENT = 48
    PAYLOAD_OFFSET = 52
    RAND = 56
    VLAN_PROTO = 60
