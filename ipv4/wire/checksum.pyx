"""The Internet checksum (RFC 1071), and the pseudo header that transport protocols sum first."""

from cpython.buffer cimport Py_buffer
from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize
from libc.stdint cimport INT64_MAX, uint16_t, uint32_t, uint64_t
from libc.string cimport memcpy

from .address cimport as_address
from .arguments cimport as_int, get_buffer
from ..libc.socket cimport ntohs
from ..libc.threads cimport release_view

cdef enum:
    RELEASE_BYTES = 1 << 20  # from here on other threads may run while a sum is made


cdef uint64_t sum_words(const unsigned char *data, size_t length) noexcept nogil:
    """Sum of the 16-bit words of data, in this machine's byte order, not yet folded.

    The sum does not depend on byte order but for a swap at its end (RFC 1071 section 2(B)), so
    words of 32 bits are added in 64: no carry is lost below 16 GiB.
    """
    cdef uint64_t total = 0
    cdef uint32_t word
    cdef uint16_t half = 0
    cdef size_t words = length >> 2, i
    for i in range(words):
        memcpy(&word, data + 4 * i, 4)
        total += word
    if length & 2:
        memcpy(&half, data + 4 * words, 2)
        total += half
    if length & 1:
        half = 0
        memcpy(&half, data + length - 1, 1)  # the missing byte counts as zero
        total += half
    return total


cdef uint16_t finish_sum(uint64_t total) noexcept nogil:
    """Fold a sum of `sum_words` to 16 bits, as a number in network order."""
    total = (total & 0xFFFFFFFFU) + (total >> 32)
    total = (total & 0xFFFFFFFFU) + (total >> 32)
    total = (total & 0xFFFF) + (total >> 16)
    total = (total & 0xFFFF) + (total >> 16)
    return ntohs(<uint16_t>total)


def checksum(buf, initial=0):
    """The Internet checksum (RFC 1071).

    Parameters
    ----------
    buf : bytes-like, or tuple or list of bytes-likes
        Any length; an odd last byte is padded with a zero byte. Several are summed as if joined,
        whatever their lengths: ``checksum((pseudo_header(...), segment))``.
    initial : int
        Sum to start from. A checksum is the complement of its sum, so parts can be chained by
        ``checksum(b, initial=0xFFFF ^ checksum(a))`` too, where every part but the last has an
        even length.

    Returns
    -------
    int
        The 16-bit checksum, to be stored in network order. Over data that holds its right
        checksum the result is 0.

    Raises
    ------
    TypeError
        If `buf` is neither bytes-like nor a tuple or list of such.
    ValueError
        If `initial` is negative or beyond 63 bits.
    """
    cdef uint64_t start = as_int(initial, 0, INT64_MAX, "initial")
    cdef uint64_t total = 0
    cdef bint odd = False
    if isinstance(buf, (tuple, list)):
        # Indexed anew each time: an exporter's code may shrink the list.
        index = 0
        while index < len(buf):
            total += sum_part(buf[index], &odd, f"buf[{index}]")
            index += 1
    else:
        total = sum_part(buf, &odd, "buf")
    while start:
        total += start & 0xFFFF
        start >>= 16
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return <int>(~total & 0xFFFF)


cdef int sum_part(object buf, bint *odd, str name) except -1:
    """The 16-bit sum of one buffer, as a number in network order.

    `odd` says whether it stands at an odd offset, and then whether what follows does: there the
    bytes of each word change places, and so do those of the sum (RFC 1071 section 2(B)).
    """
    cdef Py_buffer view
    cdef uint64_t total
    cdef uint16_t folded
    get_buffer(buf, &view, False, name)
    if view.len > RELEASE_BYTES:
        with nogil:
            total = sum_words(<const unsigned char *>view.buf, view.len)
    else:
        total = sum_words(<const unsigned char *>view.buf, view.len)
    folded = finish_sum(total)
    if odd[0]:
        folded = <uint16_t>(folded << 8 | folded >> 8)
    if view.len & 1:
        odd[0] = not odd[0]
    release_view(&view)
    return folded


def pseudo_header(src, dst, protocol, length):
    """The pseudo header of UDP (RFC 768), TCP (RFC 9293) and VRRPv3 (RFC 5798 section 5.2.8).

    Parameters
    ----------
    src, dst : address
        As in the packet's header.
    protocol : int
        Number of the transport protocol, 0-255.
    length : int
        Bytes of the transport header and its payload, 0-65535.

    Returns
    -------
    bytes
        Twelve bytes: both addresses, a zero, the protocol, the length.

    Raises
    ------
    ValueError
        For what is no IPv4 address, and for a number out of range.
    """
    cdef uint32_t source = 0, destination = 0
    cdef bytes out
    cdef unsigned char *at
    as_address(src, &source, "src")
    as_address(dst, &destination, "dst")
    cdef uint16_t size
    protocol = as_int(protocol, 0, 255, "protocol")
    size = ntohs(<uint16_t>as_int(length, 0, 65535, "length"))
    out = PyBytes_FromStringAndSize(NULL, 12)
    at = <unsigned char *>PyBytes_AS_STRING(out)
    memcpy(at, &source, 4)
    memcpy(at + 4, &destination, 4)
    at[8] = 0
    at[9] = protocol
    memcpy(at + 10, &size, 2)
    return out
