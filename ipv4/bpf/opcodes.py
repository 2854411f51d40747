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
    """The accumulator, which arithmetic and tests work on."""
    X = 1
    """The index: the other operand, and what indirect loads add to their offset."""


class ALUOp(IntEnum):
    """Arithmetic on A; the values are those of the operation code."""

    ADD = 0x00
    """``A + operand``."""
    SUB = 0x10
    """``A - operand``."""
    MUL = 0x20
    """``A * operand``."""
    DIV = 0x30
    """``A // operand``, unsigned."""
    OR = 0x40
    """``A | operand``."""
    AND = 0x50
    """``A & operand``."""
    SHIFT_LEFT = 0x60
    """``A << operand``."""
    SHIFT_RIGHT = 0x70
    """``A >> operand``, filled with zeros."""
    MOD = 0x90
    """``A % operand``, unsigned (Linux 3.7)."""
    XOR = 0xA0
    """``A ^ operand`` (Linux 3.7)."""


class JumpTest(IntEnum):
    """Unsigned comparisons, with A on the left."""

    EQUAL = 0
    """``A == operand``."""
    NOT_EQUAL = 1
    """``A != operand``: EQUAL with the two ways changed."""
    GREATER_THAN = 2
    """``A > operand``."""
    LESS_THAN = 3
    """``A < operand``: GREATER_OR_EQUAL with the two ways changed."""
    GREATER_OR_EQUAL = 4
    """``A >= operand``."""
    LESS_OR_EQUAL = 5
    """``A <= operand``: GREATER_THAN with the two ways changed."""
    BITS_SET = 6
    """``A & operand != 0``."""
    BITS_NOT_SET = 7
    """``A & operand == 0``: BITS_SET with the two ways changed."""


class Extension(IntEnum):
    """What Linux knows about a packet beside its bytes (SKF_AD_* of <linux/filter.h>)."""

    PROTO = 0
    """The protocol by its Ethernet type, 0x0800 for IPv4."""
    LEN = 1
    """The packet's length in bytes (BPF_LEN, an instruction of its own)."""
    TYPE = 4
    """For whom: 0 this host, 1 broadcast, 2 multicast, 3 another host, 4 sent by this one."""
    INTERFACE_INDEX = 8
    """Index of the interface that it came by."""
    NETLINK_ATTR = 12
    """Offset of the netlink attribute of type X, looked for from offset A; 0 for none."""
    NETLINK_ATTR_NESTED = 16
    """As NETLINK_ATTR, within the attribute at offset A."""
    MARK = 20
    """The mark (SO_MARK, or a firewall's)."""
    QUEUE = 24
    """The device's queue that it came by."""
    LINK_LAYER_TYPE = 28
    """ARPHRD_* type of the device: 1 is Ethernet."""
    RX_HASH = 32
    """The hash over its addresses and ports."""
    CPU_ID = 36
    """The CPU that the filter runs on."""
    VLAN_TAG = 44
    """The VLAN tag, priority bits included (Linux 3.8)."""
    VLAN_TAG_PRESENT = 48
    """1 where there is a VLAN tag, else 0 (Linux 3.8)."""
    PAYLOAD_OFFSET = 52
    """Where the payload begins, behind the headers that the kernel can read (Linux 3.10)."""
    RAND = 56
    """A random number of 32 bits (Linux 3.16)."""
    VLAN_PROTO = 60
    """The Ethernet type of the VLAN tag (Linux 4.1)."""
