"""Classic BPF: the programs by which the kernel decides what a socket receives.

>>> from ipv4 import bpf
>>> program = bpf.assemble([
...     bpf.LoadAbsolute(8, 1),  # the first byte after the UDP header
...     bpf.JumpIf(bpf.JumpTest.BITS_SET, 1, skip_true=1),
...     bpf.RetConstant(4096),
...     bpf.RetConstant(0),
... ])
>>> print(*(str(instruction) for instruction in bpf.disassemble(program)[0]), sep="; ")
ldb [8]; jset #1,1; ret #4096; ret #0
>>> bpf.VM(program).run(bytes(8) + b"even or odd?")
0

``conn.set_bpf(program)`` gives it to the kernel. References: bpf(4) of the BSDs, and Linux's
Documentation/networking/filter.rst.
"""

from .assembler import assemble, disassemble, loads, pack, to_raw
from .instructions import (
    TAX,
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
from .opcodes import ALUOp, Extension, JumpTest, Register
from .programs import icmp_echo_id, minimum_ttl
from .vm import VM
from .word import Instruction, RawInstruction

__all__ = [
    "TAX",
    "TXA",
    "VM",
    "ALUOp",
    "ALUOpConstant",
    "ALUOpX",
    "Extension",
    "Instruction",
    "Jump",
    "JumpIf",
    "JumpIfX",
    "JumpTest",
    "LoadAbsolute",
    "LoadConstant",
    "LoadExtension",
    "LoadIndirect",
    "LoadMemShift",
    "LoadScratch",
    "NegateA",
    "RawInstruction",
    "Register",
    "RetA",
    "RetConstant",
    "StoreScratch",
    "assemble",
    "disassemble",
    "icmp_echo_id",
    "loads",
    "minimum_ttl",
    "pack",
    "to_raw",
]
