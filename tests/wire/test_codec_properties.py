"""Properties of the codecs over generated values, beside plain models (fuzz/targets.py)."""

import struct
import sys
from ipaddress import IPv4Address
from pathlib import Path

import pytest
from support.controls import HEAD, cmsg
from support.properties import given, settings, st

import ipv4

sys.path.append(str(Path(__file__).resolve().parents[2] / "fuzz"))

from targets import TARGETS

settings.register_profile("suite", deadline=None, max_examples=300, derandomize=True)
settings.load_profile("suite")

addresses = st.integers(0, 2**32 - 1).map(IPv4Address)
octets = st.integers(0, 255)
words = st.integers(0, 65535)
option_bytes = st.integers(0, 10).flatmap(lambda n: st.binary(min_size=4 * n, max_size=4 * n))


@st.composite
def headers(draw):
    options = draw(option_bytes)
    return ipv4.Header(
        len=20 + len(options),
        tos=draw(octets),
        total_len=draw(words),
        id=draw(words),
        flags=draw(st.integers(0, 7)),
        frag_off=draw(st.integers(0, 8191)),
        ttl=draw(octets),
        protocol=draw(octets),
        checksum=draw(words),
        src=draw(addresses),
        dst=draw(addresses),
        options=options,
    )


@given(headers(), st.sampled_from(["wire", "linux", "freebsd", "freebsd10", "openbsd"]))
def test_header_round_trip(header, form):
    again = ipv4.Header()
    again.parse(header.marshal(form), format=form)
    assert again == header


@given(headers(), st.sampled_from(["darwin", "dragonfly", "netbsd", "freebsd9"]))
def test_header_round_trip_where_the_kernel_takes_the_header_off(header, form):
    again = ipv4.Header()
    again.parse(header.marshal(form), format=form)
    assert again.total_len == header.total_len + header.len
    again.total_len = header.total_len
    assert again == header


@given(headers())
def test_checksum_of_a_header_verifies(header):
    header.checksum = header.compute_checksum()
    assert ipv4.checksum(header.marshal("wire")) == 0


@given(headers(), st.sampled_from(["tos", "ttl", "protocol", "id", "total_len", "checksum"]),
       st.one_of(st.integers(-(2**31), -1), st.integers(65536, 2**31 - 1)))  # fmt: skip
def test_a_field_that_does_not_fit_is_named(header, field, value):
    setattr(header, field, value)
    with pytest.raises(ValueError, match=f"{field}.*{value}"):
        header.marshal()


@given(st.binary(max_size=80))
def test_any_bytes_as_header(data):
    TARGETS["header"](data)


@given(option_bytes)
def test_any_bytes_as_options(data):
    TARGETS["options"](data)


@st.composite
def control_bytes(draw):
    """Control messages, mostly well-formed: known and unknown, cut and with wrong lengths."""
    out = b""
    for _ in range(draw(st.integers(0, 5))):
        level, kind = draw(
            st.sampled_from(
                [(0, 1), (0, 2), (0, 6), (0, 8), (0, 20), (1, 35), (1, 37), (1, 40), (17, 104)]
            )
            | st.tuples(st.integers(0, 300), st.integers(0, 300))
        )
        body = draw(st.binary(max_size=64))
        wrong = draw(st.sampled_from([0] * 8 + [-17, -1, 1, 8, 2**31, 2**62]))
        length = max(HEAD + len(body) + wrong, 0)
        out += cmsg(level, kind, body, length, pad=draw(st.booleans()))
    return out


@given(control_bytes())
def test_any_control_bytes(data):
    TARGETS["control"](data)


@given(
    st.none() | addresses,
    st.integers(0, 2**31 - 1),
    st.none() | st.integers(1, 255),
    st.none() | octets,
    st.none() | st.binary(min_size=1, max_size=40),
    st.none() | st.integers(1, 65535),
)
def test_what_is_told_is_what_is_marshalled(src, ifindex, ttl, tos, options, segment):
    cm = ipv4.ControlMessage(
        src=src, ifindex=ifindex, send_ttl=ttl, send_tos=tos, send_options=options,
        segment_size=segment,
    )  # fmt: skip
    wanted = b""

    def message(level, kind, body):
        return cmsg(level, kind, body)

    if src is not None or ifindex:
        packed = src.packed if src is not None else bytes(4)
        wanted += message(0, 8, struct.pack("=i", ifindex) + packed + bytes(4))
    if ttl is not None:
        wanted += message(0, 2, struct.pack("=i", ttl))
    if tos is not None:
        wanted += message(0, 1, bytes([tos]))
    if segment is not None:
        wanted += message(17, 103, struct.pack("=H", segment))
    if options is not None:
        wanted += message(0, 7, options)
    assert cm.marshal() == wanted


@given(st.lists(st.tuples(st.integers(-(2**31), 2**31 - 1), st.integers(-(2**31), 2**31 - 1),
                          st.binary(max_size=40)), max_size=4))  # fmt: skip
def test_extra_round_trip(entries):
    cm = ipv4.ControlMessage(extra=entries)
    assert cm.extra == tuple(entries)


@given(st.text(max_size=20) | st.from_regex(r"\A[0-9]{1,4}(\.[0-9]{1,4}){2,4}\Z"))
def test_any_text_as_address(text):
    TARGETS["addresses"](text.encode("latin-1", "replace"))


@given(st.binary(max_size=400))
def test_any_words_as_program(data):
    TARGETS["filters"](data)
