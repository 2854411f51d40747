from libc.stdint cimport int32_t, int64_t, uint8_t, uint16_t, uint32_t, uint64_t
from libc.string cimport memcpy, memset

from ..libc.socket cimport IPPROTO_IP, in_pktinfo

cdef extern from "systems.h" nogil:
    # The control messages of a system, as numbers.h lists them; -1 is a type that it has not.
    struct System "ipv4_system":
        int word, align, level_socket, level_udp
        int packet_info, info_size, info_index, info_source, info_dst
        int dst, link, source
        int ttl, tos, options, original_dst, error
        int timestamp, timestamping
        int send_options, send_segments

    const System HERE "ipv4_here"

    enum:
        ALL_FLAGS "IPV4_ALL_FLAGS"  # of ControlFlags

    # Attributes that hold a value, a bit each. Received:
    enum Attribute:
        TTL "IPV4_HAS_TTL"
        INTERFACE "IPV4_HAS_INTERFACE"
        DST "IPV4_HAS_DST"
        SPEC_DST "IPV4_HAS_SPEC_DST"
        TOS "IPV4_HAS_TOS"
        TIMESTAMP "IPV4_HAS_TIMESTAMP"
        ORIGINAL_DST "IPV4_HAS_ORIGINAL_DST"
        OPTIONS "IPV4_HAS_OPTIONS"
        # Both ways
        SRC "IPV4_HAS_SRC"
        SEGMENT_SIZE "IPV4_HAS_SEGMENT_SIZE"
        EXTRA "IPV4_HAS_EXTRA"
        # Sent
        SENT "IPV4_SENT_BITS"  # all of those

    # What control bytes tell, as C values; what is absent is 0.
    struct Told "ipv4_told":
        uint32_t present  # bits of Attribute
        int32_t ifindex
        uint32_t dst
        uint32_t spec_dst
        uint32_t drops
        uint32_t original_addr
        uint16_t original_port
        uint16_t segment_size
        uint8_t ttl
        uint8_t tos
        uint8_t options_size
        int64_t timestamp
        # Into the buffer that was read; NULL when absent.
        const unsigned char *options
        const unsigned char *error  # IP_RECVERR's sock_extended_err and what follows it
        size_t error_size
        size_t unknown_space  # that the messages without an attribute take

    # The numbers of a ControlMessage.
    struct Numbers "ipv4_numbers":
        uint16_t segment_size

    struct NumberRow "ipv4_number_row":
        const char *name
        uint32_t bit
        size_t at
        size_t size

    struct Written "ipv4_written":
        int level
        int type
        size_t size
        unsigned char data[8]

    enum:
        NUMBER_ROWS "IPV4_NUMBER_ROWS"

    const NumberRow *number_rows "ipv4_number_rows"
    void take_numbers "ipv4_take_numbers"(Numbers *numbers, const Told *told)
    bint same_numbers "ipv4_same_numbers"(const Numbers *one, const Numbers *other)
    void write_number "ipv4_write_number"(const System *by, const Numbers *numbers, uint32_t bit,
                                          Written *out)

cdef extern from "rooms.h":
    enum:
        CONTROL_ROOM "IPV4_CONTROL_ROOM"  # of a single read
        SLOT_CONTROL "IPV4_SLOT_CONTROL"  # of a batch's slot, at the least
        SEND_ROOM "IPV4_SEND_ROOM"  # what `encode` may write beside `extra`


cdef enum:
    MAX_OPTIONS = 40  # bytes of IP options (RFC 791 section 3.1)


# The one walk over control messages, for whoever has control bytes to read.
cdef struct Walk:
    const unsigned char *at  # the next message
    size_t left
    # The message that `step` came to; all `size` bytes of `body` lie within the buffer.
    int level
    int type
    const unsigned char *body
    size_t size


cdef inline void walk_over(Walk *walk, const void *data, size_t length) noexcept nogil:
    walk.at = <const unsigned char *>data
    walk.left = length


cdef inline size_t padded(const System *by, size_t size) noexcept nogil:
    return (size + by.align - 1) & ~<size_t>(by.align - 1)


cdef inline size_t data_offset(const System *by) noexcept nogil:
    """Bytes before a message's data: CMSG_LEN(0)."""
    return padded(by, by.word + 2 * sizeof(int32_t))


cdef inline size_t space_for(const System *by, size_t size) noexcept nogil:
    """Bytes of a message with that much data, and its padding: CMSG_SPACE."""
    return data_offset(by) + padded(by, size)


cdef inline int step_by(const System *by, Walk *walk) noexcept nogil:
    """1 at a message, 0 at the end, -1 when one is shorter than its header or overruns.

    A length is copied before it is looked at: memory that is shared may change meanwhile.
    """
    cdef uint64_t wide
    cdef uint32_t narrow
    cdef size_t length, space
    if walk.left < data_offset(by):
        return 0
    if by.word == 8:
        memcpy(&wide, walk.at, 8)
        length = <size_t>wide
    else:
        memcpy(&narrow, walk.at, 4)
        length = narrow
    if length < data_offset(by) or length > walk.left:
        return -1
    memcpy(&walk.level, walk.at + by.word, sizeof(walk.level))
    memcpy(&walk.type, walk.at + by.word + sizeof(walk.level), sizeof(walk.type))
    walk.body = walk.at + data_offset(by)
    walk.size = length - data_offset(by)
    space = space_for(by, walk.size)
    if space > walk.left:  # the last one's padding may be missing
        space = walk.left
    walk.at += space
    walk.left -= space
    return 1


cdef inline int step(Walk *walk) noexcept nogil:
    """`step_by` over control bytes of this system."""
    return step_by(&HERE, walk)


cdef inline size_t put_by(const System *by, unsigned char *out, int32_t level, int32_t kind,
                          const void *data, size_t size) noexcept nogil:
    """Append one control message; padding is zeroed, for the kernel reads the whole area."""
    cdef size_t length = data_offset(by) + size
    cdef uint64_t wide = length
    cdef uint32_t narrow = <uint32_t>length
    memset(out, 0, space_for(by, size))
    if by.word == 8:
        memcpy(out, &wide, 8)
    else:
        memcpy(out, &narrow, 4)
    memcpy(out + by.word, &level, sizeof(level))
    memcpy(out + by.word + sizeof(level), &kind, sizeof(kind))
    if size:
        memcpy(out + data_offset(by), data, size)
    return space_for(by, size)


cdef inline size_t put_route_by(const System *by, unsigned char *out, int32_t ifindex,
                                bint sourced, uint32_t source) noexcept nogil:
    """Append what a packet is told of its way: the interface, 0 for any, and its source.

    A system without IP_PKTINFO has no message for the interface: there it is left out.
    """
    cdef unsigned char info[16]
    if by.packet_info >= 0:
        memset(info, 0, sizeof(info))
        memcpy(info + by.info_index, &ifindex, sizeof(ifindex))
        if sourced:
            memcpy(info + by.info_source, &source, sizeof(source))
        return put_by(by, out, IPPROTO_IP, by.packet_info, info, by.info_size)
    if sourced and by.source >= 0:
        return put_by(by, out, IPPROTO_IP, by.source, &source, sizeof(source))
    return 0


cdef struct Usual:
    # A 64-bit system's control bytes with packet info and a TTL.
    uint64_t info_length
    int32_t info_level
    int32_t info_type
    in_pktinfo info
    uint32_t info_padding
    uint64_t ttl_length
    int32_t ttl_level
    int32_t ttl_type
    int32_t ttl
    uint32_t ttl_padding

cdef enum:
    INFO_LENGTH = 28  # CMSG_LEN(sizeof(in_pktinfo))
    TTL_LENGTH = 20  # CMSG_LEN(sizeof(int))


cdef inline bint is_usual(const unsigned char *data, size_t length, Told *told) noexcept nogil:
    """Whether control bytes are what nearly every packet brings, packet info and a TTL as Linux
    puts them, which is read at one look: in 25 instructions of 86.
    """
    cdef Usual usual
    if HERE.word != 8 or HERE.packet_info < 0 or HERE.ttl < 0 or length != sizeof(usual):
        return False
    memcpy(&usual, data, sizeof(usual))
    if (
        usual.info_length != INFO_LENGTH or usual.info_level != IPPROTO_IP
        or usual.info_type != HERE.packet_info or usual.ttl_length != TTL_LENGTH
        or usual.ttl_level != IPPROTO_IP or usual.ttl_type != HERE.ttl
    ):
        return False
    told.ifindex = max(usual.info.ipi_ifindex, 0)
    told.dst = usual.info.ipi_addr.s_addr
    told.spec_dst = usual.info.ipi_spec_dst.s_addr
    told.ttl = <uint8_t>usual.ttl
    told.present |= TTL | INTERFACE | DST | SPEC_DST
    return True


cdef Py_ssize_t read_told(const void *data, size_t length, Told *told) noexcept nogil
cdef Py_ssize_t read_told_for(const System *by, const void *data, size_t length,
                              Told *told) noexcept nogil
cdef int refuse_control(const unsigned char *data, size_t length, size_t at) except -1
cdef bytes copy_unknown(const void *data, size_t length, size_t space, bint errors)
cdef size_t flags_space(int flags) noexcept
cdef size_t put(unsigned char *out, int level, int kind, const void *data,
                size_t size) noexcept nogil
cdef size_t put_route(unsigned char *out, int32_t ifindex, bint sourced,
                      uint32_t source) noexcept nogil
cdef bytes packed(object value)
cdef tuple unpacked(bytes messages)
