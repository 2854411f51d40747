"""The virtual machine against written verdicts: what it runs, what it refuses."""

import random

import pytest
from support.bpf_cases import UDP, VERDICTS, A, X, ip_header, random_program
from support.properties import given, st

from ipv4 import bpf
from ipv4.bpf import (
    TAX,
    VM,
    ALUOp,
    ALUOpConstant,
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
    RawInstruction,
    RetA,
    RetConstant,
    StoreScratch,
)


@pytest.mark.parametrize("name", VERDICTS)
@pytest.mark.parity("bpf.VM.Run", "BPF encodings, machine and texts")
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
@pytest.mark.parity("bpf.NewVM", "BPF encodings, machine and texts")
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
