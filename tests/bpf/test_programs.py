"""Programs as the kernel takes them, and those that the library has ready."""

import itertools

import pytest
from support.bpf_cases import ECHO_ID, ID
from support.properties import given, st

from ipv4 import bpf
from ipv4.bpf import VM, Extension, LoadExtension, RawInstruction, RetA


def test_a_program_is_given_in_any_of_three_forms() -> None:
    expected = [(0x80, 0, 0, 0), (0x16, 0, 0, 0)]
    for program in (
        [LoadExtension(Extension.LEN), RetA()],
        (RawInstruction(*word) for word in expected),
        expected,
        [list(word) for word in expected],
        [LoadExtension(Extension.LEN), (0x16, 0, 0, 0)],
    ):
        raw = bpf.to_raw(program)  # type: ignore[arg-type]
        assert raw == expected
        assert all(type(word) is RawInstruction for word in raw)


def test_a_program_has_at_least_1_and_at_most_4096_instructions() -> None:
    assert len(bpf.to_raw([RetA()] * 4096)) == 4096
    with pytest.raises(ValueError, match="at least one instruction"):
        bpf.to_raw([])
    for program in ([RetA()] * 4097, itertools.repeat(RetA())):
        with pytest.raises(ValueError, match="may have 4096 instructions, this one has more"):
            bpf.to_raw(program)


@pytest.mark.parametrize(
    ("position", "field", "largest"), [(0, "op", 0xFFFF), (1, "jt", 0xFF), (2, "jf", 0xFF),
                                       (3, "k", 0xFFFFFFFF)]
)  # fmt: skip
def test_a_tuple_whose_field_does_not_fit_is_refused(
    position: int, field: str, largest: int
) -> None:
    for wrong in (-1, largest + 1, 1 << 70):
        word = [6, 0, 0, 0]
        word[position] = wrong
        for refuses in (bpf.to_raw, bpf.disassemble):
            with pytest.raises(ValueError) as caught:
                refuses([(6, 0, 0, 0), tuple(word)])  # type: ignore[list-item]
            assert str(caught.value) == (
                f"instruction 2: {field} must be in 0..{largest:#x}, not {wrong}"
            )
    for other in (1.5, "1", None):
        word = [6, 0, 0, 0]
        word[position] = other  # type: ignore[call-overload]
        with pytest.raises(TypeError, match=f"^instruction 1: {field} must be an integer, not "):
            bpf.to_raw([tuple(word)])  # type: ignore[list-item]


@pytest.mark.parametrize("wrong", [(), (6, 0, 0), (6, 0, 0, 0, 0)])
def test_a_tuple_of_another_length_is_refused(wrong: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match=f"^instruction 1 must have .* not {len(wrong)} fields$"):
        bpf.to_raw([wrong])  # type: ignore[list-item]


@pytest.mark.parametrize("wrong", [None, 6, "abcd", b"abcd", object()], ids=repr)
def test_what_is_neither_word_nor_instruction_is_refused(wrong: object) -> None:
    with pytest.raises(TypeError, match=r"^instruction 1 must be a RawInstruction or a tuple"):
        bpf.to_raw([wrong])  # type: ignore[list-item]


@pytest.mark.parametrize("wrong", [None, 6, b"\x06\0\0\0\0\0\0\0", "6 0 0 0"], ids=repr)
def test_what_is_no_program_is_refused(wrong: object) -> None:
    with pytest.raises(TypeError):
        bpf.to_raw(wrong)  # type: ignore[arg-type]


@pytest.mark.parity("bpf.RawInstruction")
def test_a_raw_instruction_made_behind_the_constructors_back_is_checked() -> None:
    with pytest.raises(ValueError, match="instruction 1: jt must be in"):
        bpf.to_raw([RawInstruction(6, 0, 0, 0)._replace(jt=256)])


@pytest.mark.parametrize("n", [0, 1, 64, 255])
def test_a_minimum_ttl_looks_at_the_ip_header_wherever_the_packet_begins(n: int) -> None:
    assert [str(word) for word in bpf.minimum_ttl(n)] == [
        "ldb [4293918728]",  # SKF_NET_OFF + 8
        f"jge #{n},1",
        "ret #0",
        "ret #4294967295",
    ]


@pytest.mark.parametrize("name", ECHO_ID)
def test_an_echo_ids_program_knows_the_answers_to_it(name: str) -> None:
    packet, wanted = ECHO_ID[name]
    verdict = VM(bpf.icmp_echo_id(ID)).run(packet)
    assert verdict == (0xFFFFFFFF if wanted else 0)


@given(st.binary(max_size=80))
def test_an_echo_ids_program_stands_any_packet(packet: bytes) -> None:
    assert VM(bpf.icmp_echo_id(ID)).run(packet) in (0, 0xFFFFFFFF)


@pytest.mark.parametrize(
    ("make", "field", "largest"), [(bpf.minimum_ttl, "n", 255), (bpf.icmp_echo_id, "id", 65535)]
)
def test_a_ready_programs_number_must_fit(make, field: str, largest: int) -> None:  # type: ignore[no-untyped-def]
    assert bpf.to_raw(make(largest)) == make(largest)
    for wrong in (-1, largest + 1, 1 << 64):
        with pytest.raises(ValueError, match=f"^{field} must be in 0..{largest:#x}, not {wrong}$"):
            make(wrong)
    for other in ("1", None, 1.5):
        with pytest.raises(TypeError, match=f"^{field} must be an integer, not "):
            make(other)
