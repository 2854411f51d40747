"""Constants, flags and ICMP types: RFC 791, RFC 792 and the IANA registry."""

import pickle

import pytest
from support import VECTORS

import ipv4
from ipv4 import ControlFlags, HeaderFlags, ICMPType

ICMP_TYPES = {
    "ECHO_REPLY": 0,
    "DESTINATION_UNREACHABLE": 3,
    "REDIRECT": 5,
    "ECHO": 8,
    "ROUTER_ADVERTISEMENT": 9,
    "ROUTER_SOLICITATION": 10,
    "TIME_EXCEEDED": 11,
    "PARAMETER_PROBLEM": 12,
    "TIMESTAMP": 13,
    "TIMESTAMP_REPLY": 14,
    "PHOTURIS": 40,
    "EXTENDED_ECHO_REQUEST": 42,
    "EXTENDED_ECHO_REPLY": 43,
}


@pytest.mark.parity("Version", "HeaderLen")
def test_version_and_header_length():
    assert (ipv4.VERSION, ipv4.HEADER_LEN) == (4, 20)


@pytest.mark.parity("HeaderFlags", "MoreFragments", "DontFragment")
def test_header_flags():
    assert (HeaderFlags.MORE_FRAGMENTS, HeaderFlags.DONT_FRAGMENT) == (1, 2)
    assert int(HeaderFlags(7)) == 7  # the reserved bit has no name and is kept


def test_control_flags_add_up_to_control_flags():
    assert isinstance(ControlFlags.TTL | ControlFlags.DST, ControlFlags)


@pytest.mark.parametrize(("name", "number"), ICMP_TYPES.items())
@pytest.mark.parity("ICMPType", "ICMPType constants")
def test_icmp_type_number(name, number):
    assert ICMPType[name] == number
    assert ICMPType(number) is ICMPType[name]


@pytest.mark.parity("ICMPType")
def test_every_icmp_type_of_eight_bits_is_accepted_and_no_other():
    for number in range(256):
        assert ICMPType(number) == number
    assert ICMPType(200) is ICMPType(200)
    for number in (-1, 256):
        with pytest.raises(ValueError, match=str(number)):
            ICMPType(number)


@pytest.mark.parity("ICMPType.Protocol")
def test_icmp_protocol():
    assert {ICMPType(number).protocol for number in range(256)} == {1}


@pytest.mark.parity("ICMPType.String")
@pytest.mark.parity("texts")
def test_icmp_type_prints_its_words_and_an_unassigned_one_nil():
    words = {int(number): text for number, text in VECTORS["icmp_strings"].items()}
    for number in range(256):
        assert str(ICMPType(number)) == words.get(number, "<nil>")
    assert str(ICMPType.ECHO_REPLY) == "echo reply"


@pytest.mark.parity("ControlFlags", "FlagTTL", "FlagSrc", "FlagDst", "FlagInterface")
def test_every_control_flag_is_a_bit_of_its_own():
    names = "TTL SRC DST INTERFACE TOS TIMESTAMP DROPS ORIGINAL_DST SEGMENT_SIZE OPTIONS"
    assert [ControlFlags[n].value for n in names.split()] == [1 << i for i in range(10)]


@pytest.mark.parity("ICMPType", "ICMPType.String", "ICMPType.Protocol", "ICMPType constants")
def test_icmp_types_are_one_object_each():
    assert len(ICMPType) == 13
    assert pickle.loads(pickle.dumps(ICMPType(200))) is ICMPType(200)
    for bad in ("echo", 1.5, None):
        with pytest.raises(ValueError):
            ICMPType(bad)
