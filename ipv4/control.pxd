from libc.stdint cimport int16_t, int32_t, int64_t, uint16_t, uint32_t, uint8_t

cdef enum:
    INLINE_CONTROL = 80  # TTL, packet info and TOS: what most programs ask for, without malloc
    # Room for every control message that this library can switch on, about 320 bytes, and as
    # much again for what somebody else switched on.
    CONTROL_ROOM = 768
    SEND_ROOM = 192  # what `encode` may write beside `extra`


cdef struct Blobs:
    # The rare parts of a control message, in one allocation each; NULL when absent.
    unsigned char *options
    size_t options_len
    unsigned char *send_options
    size_t send_options_len
    unsigned char *extra  # whole control messages, padded, one after the other
    size_t extra_len


cdef class ControlMessage:
    cdef:
        uint16_t have  # bits of Have: which attributes hold a value
        uint16_t heard  # bits of Have: which of them a receive filled and so are not sent back
        uint32_t raw_len  # control bytes received and not yet parsed
        int32_t _ttl
        int32_t _ifindex
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
        Blobs *blobs
        unsigned char *long_raw
        unsigned char raw[80]

    cdef int settle(self) except -1
    cdef int decode(self, const unsigned char *data, size_t length) except -1
    cdef int keep_extra(self, const unsigned char *data, size_t length) except -1
    cdef Blobs *rare(self) except NULL
    cdef size_t encoded_length(self, bint segmented) except? 0
    cdef size_t encode(self, unsigned char *out, bint segmented) except? 0
    cdef int32_t segment_to_send(self) except -1


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
