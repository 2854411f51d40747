"""The Internet checksum (RFC 1071), against two independent ways to it."""

import itertools
import random
import socket
from itertools import accumulate

import pytest
from support import capture

import ipv4
from ipv4 import Header, PacketConn

LONGEST = 70_000
RANDOM = random.Random(1).randbytes(LONGEST + 64)


class Sums:
    """The checksum of any slice of some bytes, by running sums of the even and the odd ones."""

    def __init__(self, data):
        zero = bytes(len(data) // 2)
        even, odd = bytearray(data), bytearray(data)
        even[1::2] = odd[0::2] = zero
        self.sums = [list(accumulate(part, initial=0)) for part in (even, odd)]

    def __call__(self, start, stop):
        high, low = (self.sums[(start + i) % 2] for i in (0, 1))
        total = ((high[stop] - high[start]) << 8) + low[stop] - low[start]
        while total >> 16:
            total = (total & 0xFFFF) + (total >> 16)
        return total ^ 0xFFFF


def by_division(data):
    """One big number modulo 0xffff, of which 0xffff is the multiple that a sum ends at."""
    number = int.from_bytes(bytes(data) + bytes(len(data) % 2), "big")
    return 0xFFFF ^ (number % 0xFFFF or (0xFFFF if number else 0))


@pytest.mark.parametrize(
    "data",
    [
        pytest.param(RANDOM, id="random"),
        pytest.param(b"\xff" * len(RANDOM), id="carries all the way"),
        pytest.param(b"\xff\xfe\0\1" * (len(RANDOM) // 4), id="carries now and then"),
        pytest.param(bytes(len(RANDOM)), id="zeros"),
    ],
)
@pytest.mark.parity("checksums")
def test_every_length(data):
    """All lengths from 0, odd ones too, from starts of every alignment."""
    wanted = Sums(data)
    view = memoryview(data)
    for length in range(LONGEST + 1):
        start = length % 17
        assert ipv4.checksum(view[start : start + length]) == wanted(start, start + length)
    for start in range(64):
        for length in range(200):
            assert ipv4.checksum(view[start : start + length]) == wanted(start, start + length)
    for length in [*range(300), 1499, 1500, 9000, 65535, 65536, 69_999, 70_000]:
        assert ipv4.checksum(view[:length]) == by_division(view[:length])


@pytest.mark.parametrize("cut", [2, 4, 20, 1400, 30_000, 65_534])
@pytest.mark.parity("checksums")
def test_in_chunks(cut):
    """Parts of even length, but for the last: one's complement is the next one's `initial`."""
    view = memoryview(RANDOM)
    for length in (cut, cut + 1, cut + 2, 65_535, 70_000):
        total = 0
        for start in range(0, length, cut):
            total = 0xFFFF ^ ipv4.checksum(view[start : min(start + cut, length)], initial=total)
        assert 0xFFFF ^ total == by_division(view[:length])


@pytest.mark.parametrize("initial", [0, 1, 0xFFFF, 0x10000, 0x12345678, 0xFFFFFFFF, 2**63 - 1])
def test_initial_is_a_sum_of_any_width(initial):
    assert ipv4.checksum(b"", initial) == by_division(initial.to_bytes(8, "big"))
    assert ipv4.checksum(b"abc", initial) == by_division(initial.to_bytes(8, "big") + b"abc")


@pytest.mark.parametrize("bad", [-1, 2**63])
def test_what_is_no_initial(bad):
    with pytest.raises(ValueError, match="initial"):
        ipv4.checksum(b"", initial=bad)


@pytest.mark.privileged
@pytest.mark.parity("checksums")
def test_the_kernel_agrees(pair):
    """Over the header that it wrote, and the ICMP messages that it answers only if right."""
    with capture(pair.a, "eth0") as seen, pair.a.call(PacketConn.ip, socket.IPPROTO_ICMP) as conn:
        for length in (0, 1, 2, 77, 1400):
            echo = bytearray(b"\x08\0\0\0id\0\1") + RANDOM[:length]
            echo[2:4] = ipv4.checksum(echo).to_bytes(2, "big")
            conn.write_to(echo, "10.1.0.2")
        seen.wait_for(10)
    answered = [packet for packet in seen.packets if packet[9] == 1 and packet[20] == 0]
    assert [len(packet) - 28 for packet in answered] == [0, 1, 2, 77, 1400]
    for packet in answered:
        assert ipv4.checksum(packet[:20]) == ipv4.checksum(packet[20:]) == 0
        header = Header()
        header.parse(packet)
        assert header.compute_checksum() == header.checksum


@pytest.mark.parametrize("kind", [tuple, list])
def test_parts_are_summed_as_if_joined(kind):
    for cuts in [(), (0,), (1,), (1, 2), (3, 3, 4), (7, 20, 21, 64), range(1, 90)]:
        bounds = [0, *cuts, 101]
        parts = [RANDOM[a:b] for a, b in itertools.pairwise(bounds)]
        assert ipv4.checksum(kind(parts)) == ipv4.checksum(RANDOM[:101]), cuts
        assert ipv4.checksum(kind(parts), 0x1234) == ipv4.checksum(RANDOM[:101], 0x1234)
    assert ipv4.checksum(kind([])) == ipv4.checksum(b"") == 0xFFFF
    assert ipv4.checksum(kind([bytearray(b"ab"), memoryview(b"cd")])) == ipv4.checksum(b"abcd")


def test_a_part_that_is_no_buffer_is_named():
    for wrong in [["ab"], (b"ab", 3), [b"ab", [b"cd"]]]:
        with pytest.raises(TypeError, match=rf"^buf\[{len(wrong) - 1}\] must be a bytes-like"):
            ipv4.checksum(wrong)
    with pytest.raises(TypeError, match="^buf must be a bytes-like object, not set"):
        ipv4.checksum({b"ab"})


def test_a_list_that_shrinks_while_it_is_summed():
    class Shrinking(bytes):
        def __buffer__(self, flags):
            parts.clear()
            return memoryview(b"ab")

    parts = [Shrinking(), b"cd"]
    assert ipv4.checksum(parts) in (ipv4.checksum(b"ab"), ipv4.checksum(b"cd"))


def test_the_pseudo_header_is_that_which_the_kernel_sums(pair):
    """Where a card is to finish UDP's checksum, the kernel leaves the pseudo header's sum in it."""
    with capture(pair.b, "eth0") as seen, pair.a.call(PacketConn.udp, ("10.1.0.1", 0)) as conn:
        conn.write_to(b"odd", ("10.1.0.2", 7))
        seen.wait_for(1)
    packet = next(packet for packet in seen.packets if packet[9] == socket.IPPROTO_UDP)
    pseudo = ipv4.pseudo_header("10.1.0.1", "10.1.0.2", socket.IPPROTO_UDP, 8 + len(b"odd"))
    assert pseudo == packet[12:20] + bytes([0, 17]) + packet[24:26]
    assert int.from_bytes(packet[26:28], "big") == 0xFFFF ^ ipv4.checksum(pseudo)


def test_a_pseudo_header_is_refused_by_the_name_of_what_is_wrong():
    good = {"src": "10.0.0.1", "dst": "10.0.0.2", "protocol": 112, "length": 40}
    wrong = {"src": "here", "dst": None, "protocol": 256, "length": 65536}
    for name, value in wrong.items():
        with pytest.raises(ValueError, match=rf"^{name}\b"):
            ipv4.pseudo_header(**(good | {name: value}))
    with pytest.raises(ValueError, match=r"^length\b"):
        ipv4.pseudo_header(**(good | {"length": -1}))
