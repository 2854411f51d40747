from libc.stdint cimport int16_t, int32_t, int64_t, uint16_t, uint32_t, uint8_t

cdef enum:
    # Room for every control message that this library can switch on, about 320 bytes, and as
    # much again for what somebody else switched on.
    CONTROL_ROOM = 768
    SEND_ROOM = 192  # what `encode` may write beside `extra`


cdef class ControlMessage:
    cdef:
        uint16_t have  # bits of Have: which attributes hold a value
        uint16_t heard  # bits of Have: which of them a receive filled and so are not sent back
        # What nearly every program reads, as ints that Python takes straight from here: see
        # `plain_attribute`.
        object _ttl
        object _ifindex
        uint32_t _src
        uint32_t _dst
        uint32_t _spec_dst
        uint32_t _drops
        uint32_t _original_addr
        uint16_t _original_port
        int16_t _tos
        int16_t _send_ttl
        int16_t _send_tos
        int32_t _segment_size
        int64_t _timestamp
        # The rare parts, None when absent.
        bytes unparsed  # control bytes received, until something rare of them is asked for
        bytes _options
        bytes _send_options
        bytes _extra  # whole control messages, padded, one after the other

    cdef int parse_rest(self) except -1
    cdef int decode_common(self, const unsigned char *data, size_t length) except -1
    cdef int decode(self, const unsigned char *data, size_t length) except -1
    cdef size_t encoding_room(self) noexcept
    cdef size_t encode(self, unsigned char *out, bint segmented) noexcept
    cdef int32_t segment_to_send(self) noexcept


cdef inline int settle(ControlMessage cm) except -1:
    """Parse what was received, if that was not done yet."""
    return cm.parse_rest() if cm.unparsed is not None else 0


cdef ControlMessage received(const unsigned char *data, size_t length, uint32_t peer)
cdef size_t flags_space(int flags) noexcept


# What a batch reads of control data without making an object: see `scan`.
cdef struct Scan:
    uint8_t ttl
    uint8_t tos
    uint16_t segment_size
    int32_t ifindex
    int64_t timestamp


cdef void scan(const unsigned char *data, size_t length, Scan *found) noexcept nogil
