from libc.stdint cimport int32_t, int64_t, uint16_t, uint32_t, uint8_t
from libc.string cimport memcpy

from ..libc.socket cimport CMSG_LEN, CMSG_SPACE, cmsghdr

cdef extern from "rooms.h":
    enum:
        CONTROL_ROOM "IPV4_CONTROL_ROOM"  # of a single read
        SLOT_CONTROL "IPV4_SLOT_CONTROL"  # of a batch's slot, at the least
        SEND_ROOM "IPV4_SEND_ROOM"  # what `encode` may write beside `extra`


cdef enum:
    ALL_FLAGS = 1023  # of ControlFlags
    MAX_OPTIONS = 40  # bytes of IP options (RFC 791 section 3.1)


cdef enum Attribute:
    # Received
    TTL = 1
    INTERFACE = 2
    DST = 4
    SPEC_DST = 8
    TOS = 16
    TIMESTAMP = 32
    DROPS = 64
    ORIGINAL_DST = 128
    OPTIONS = 256
    # Both ways
    SRC = 512
    SEGMENT_SIZE = 1024
    EXTRA = 2048
    # Sent
    SEND_TTL = 4096
    SEND_TOS = 8192


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


cdef inline int step(Walk *walk) noexcept nogil:
    """1 at a message, 0 at the end, -1 when one is shorter than its header or overruns.

    A length is copied before it is looked at: memory that is shared may change meanwhile.
    """
    cdef cmsghdr head
    cdef size_t space
    if walk.left < sizeof(cmsghdr):
        return 0
    memcpy(&head, walk.at, sizeof(cmsghdr))
    if head.cmsg_len < sizeof(cmsghdr) or head.cmsg_len > walk.left:
        return -1
    walk.level = head.cmsg_level
    walk.type = head.cmsg_type
    walk.body = walk.at + CMSG_LEN(0)
    walk.size = head.cmsg_len - CMSG_LEN(0)
    space = CMSG_SPACE(walk.size)
    if space > walk.left:  # the last one's padding may be missing
        space = walk.left
    walk.at += space
    walk.left -= space
    return 1


# What control bytes tell, as C values; what is absent is 0.
cdef struct Told:
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


cdef Py_ssize_t read_told(const void *data, size_t length, Told *told) noexcept nogil
cdef int refuse_control(const unsigned char *data, size_t length, size_t at) except -1
cdef bytes copy_unknown(const void *data, size_t length, size_t space, bint errors)
cdef size_t flags_space(int flags) noexcept
cdef size_t put(unsigned char *out, int level, int kind, const void *data,
                size_t size) noexcept nogil
