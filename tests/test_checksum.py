"""The Internet checksum (RFC 1071)."""

import pytest

import ipv4


def test_checksum_of_every_length():
    numpy = pytest.importorskip("numpy")
    data = numpy.random.default_rng(1).integers(0, 256, 70_002, dtype=numpy.uint8)
    raw = data.tobytes()
    words = data[:70_000].reshape(-1, 2).astype(numpy.uint64)
    sums = numpy.concatenate([[0], numpy.cumsum(words[:, 0] * 256 + words[:, 1])])

    def plain(length):
        total = int(sums[length // 2]) + (raw[length - 1] << 8 if length % 2 else 0)
        while total >> 16:
            total = (total & 0xFFFF) + (total >> 16)
        return total ^ 0xFFFF

    view = memoryview(raw)
    for length in range(70_001):
        assert ipv4.checksum(view[:length]) == plain(length)
    for offset in range(1, 9):  # unaligned, against the same bytes aligned
        for length in (0, 1, 2, 3, 7, 20, 63, 64, 65, 1500, 65535):
            piece = view[offset : offset + length]
            assert ipv4.checksum(piece) == ipv4.checksum(bytes(piece))
    for cut in (2, 20, 1400, 30_000):
        first = ipv4.checksum(view[:cut])
        assert ipv4.checksum(view[cut:60_001], initial=0xFFFF ^ first) == ipv4.checksum(
            view[:60_001]
        )
    assert ipv4.checksum(b"", initial=0x12345678) == ipv4.checksum(bytes.fromhex("12345678"))
    for bad in (-1, 2**63):
        with pytest.raises(ValueError, match="initial"):
            ipv4.checksum(b"", initial=bad)
