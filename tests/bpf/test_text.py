"""BPF programs as text: as the assembler, bpf_dbg and tcpdump write them."""

import struct
import subprocess

import pytest
from support.bpf_cases import TEXTS, instructions, u8, u16, words
from support.properties import given, st

from ipv4 import bpf
from ipv4.bpf import (
    VM,
    Instruction,
    JumpIfX,
    LoadScratch,
    RawInstruction,
)


@pytest.mark.parametrize(("instruction", "text"), TEXTS, ids=[text for _, text in TEXTS])
@pytest.mark.parity("bpf.Instruction.String", "BPF encodings, machine and texts")
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
