from libc.stdint cimport int32_t, uint16_t, uint32_t

cdef enum:
    MAX_HEADER = 60  # IHL has four bits that count words of 32
    MAX_OPTIONS = 40


cdef class Header:
    cdef:
        # What most programs read, as ints that Python takes straight from here: see
        # `expose_object`. Each is the number of its name below: 480 instructions for the three.
        object shown_total_len
        object shown_ttl
        object shown_protocol
        # In the order of the constructor's parameters.
        int32_t _version
        int32_t _len
        int32_t _tos
        int32_t _total_len
        int32_t _id
        int32_t _flags
        int32_t _frag_off
        int32_t _ttl
        int32_t _protocol
        int32_t _checksum
        uint32_t _src  # network order, as the other addresses in C here
        uint32_t _dst
        uint32_t present  # which of the two there is
        uint32_t options_len
        bytes long_options  # only options that a program set too long to marshal
        unsigned char short_options[40]

    cdef int show(self) except -1
    cdef const char *decode(self, const unsigned char *data, size_t length, int form) noexcept
    cdef void encode(self, unsigned char *out, int form) noexcept
    cdef int encoded_length(self) except -1
    cdef const unsigned char *options_data(self) noexcept
    cdef int refuse_to_encode(self) except -1


cdef Header at_once(Header header)
cdef Header new_header(const unsigned char *data, size_t length)
cdef int refuse_to_parse(const char *why, const unsigned char *data) except -1
