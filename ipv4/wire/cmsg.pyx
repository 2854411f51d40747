"""The bytes of control messages (cmsg(3)): one walk over them, one reading, one writing.

    cmsg_len                               next one
    |---- CMSG_LEN(n) ----|
    [len ][level][type][data, n bytes][pad][len ][level][type] ...
    |---------- CMSG_SPACE(n) ------------|

Lengths come from the kernel or from a caller: each is compared with what is left of the buffer
before a byte of data is looked at (cmsg(3), ip(7)). `step` walks over messages, `read_told` is the
one reading of them: attributes of a `ControlMessage` and columns of a batch are made from it.
"""

from cpython.buffer cimport Py_buffer
from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize
from libc.stdint cimport (
    INT32_MAX,
    INT32_MIN,
    int32_t,
    int64_t,
    uint8_t,
    uint16_t,
    uint32_t,
)
from libc.string cimport memcpy, memset

from .arguments cimport as_int, get_buffer
from ..libc.socket cimport (
    CMSG_LEN,
    CMSG_SPACE,
    IPPROTO_IP,
    cmsghdr,
    sockaddr_in,
    timespec,
)
from ..libc.threads cimport release_view

cdef extern from "systems.h" nogil:
    enum:
        RECVDSTADDR "IPV4_RECVDSTADDR"
        RECVIF "IPV4_RECVIF"
        RECVPKTINFO "IPV4_RECVPKTINFO"
        LINK_SIZE "IPV4_LINK_SIZE"  # of a sockaddr_dl with a long name
        FLAG_ROWS "IPV4_FLAG_ROWS"

    struct FlagRow "ipv4_flag":
        int flags
        const char *option
        size_t space
        const char *attributes
        const char *feature

    const FlagRow *flag_rows "ipv4_flags"
    bint read_number "ipv4_read_number"(
        const System *by, int level, int type, const unsigned char *body, size_t size, Told *told)

cdef enum:
    MAX_EXTRA = 1 << 20  # Linux caps all of a message's control data far below this (optmem_max)


cdef list receive_options():
    from ..engine.kernel import KERNEL, LEVEL, SINCE

    cdef int i
    rows = []
    for i in range(FLAG_ROWS):
        flags, space = flag_rows[i].flags, flag_rows[i].space
        name = flag_rows[i].option.decode()
        attributes = tuple(flag_rows[i].attributes.decode().split())
        feature = flag_rows[i].feature.decode()
        number = RECVPKTINFO if name == "IP_PKTINFO" else KERNEL[name]
        if number < 0 and name == "IP_PKTINFO" and RECVDSTADDR >= 0:
            # Such systems tell destination and interface apart, the sender by its address alone.
            rows += [
                (4, IPPROTO_IP, RECVDSTADDR, "IP_RECVDSTADDR", CMSG_SPACE(sizeof(uint32_t)),
                 ("dst",), "", feature),
                (8, IPPROTO_IP, RECVIF, "IP_RECVIF", CMSG_SPACE(LINK_SIZE), ("ifindex",), "",
                 feature),
            ]
        else:
            rows.append(
                (flags, KERNEL[LEVEL[name]], number, name, space, attributes, SINCE[name], feature))
    return rows


# What `ControlFlags` ask for, from numbers.h: flags, level, option, the option's name, bytes of
# control data that it brings, attributes that it fills, the Linux that brought it, and the name of
# the feature.
RECEIVE_OPTIONS = tuple(receive_options())


cdef size_t flags_space(int flags) noexcept:
    """Bytes of control data that a packet brings when these flags are on."""
    cdef size_t space = 0
    for row in RECEIVE_OPTIONS:
        if flags & <int>row[0]:
            space += <size_t>row[4]
    return space


def new_control_message(flags):
    """A buffer with room for the control messages that `flags` ask for, and no more.

    Parameters
    ----------
    flags : ControlFlags
        As given to ``set_control_message``.

    Returns
    -------
    bytearray
        Zeroed; empty when no flag is given. To be used as `Message.oob`.

    Raises
    ------
    ValueError
        If `flags` holds an unknown bit.
    """
    return bytearray(flags_space(<int>as_int(flags, 0, ALL_FLAGS, "flags")))


# Reading

cdef inline Py_ssize_t read_by(const System *by, const void *data, size_t length,
                               Told *told) noexcept nogil:
    """Read a system's control bytes into `told`, which is zeroed, up to the first malformed one.

    Returns how many bytes were read: fewer than `length` when a malformed one came. What is too
    short to hold its value tells nothing; an index below zero is no interface, a segment size
    beyond 65535 none: hostile numbers, not values.
    """
    cdef Walk walk
    cdef sockaddr_in name
    cdef timespec stamps[3]
    cdef int32_t value
    cdef uint16_t index
    cdef int found
    walk_over(&walk, data, length)
    while True:
        found = step_by(by, &walk)
        if found <= 0:
            return <Py_ssize_t>(length if found == 0 else length - walk.left)
        if walk.level == IPPROTO_IP:
            if walk.type == by.packet_info:
                if walk.size >= <size_t>by.info_size:
                    memcpy(&value, walk.body + by.info_index, sizeof(value))
                    told.ifindex = value if value > 0 else 0
                    memcpy(&told.dst, walk.body + by.info_dst, sizeof(told.dst))
                    told.present |= INTERFACE | DST
                    if by.info_source != by.info_dst:
                        memcpy(&told.spec_dst, walk.body + by.info_source, sizeof(told.spec_dst))
                        told.present |= SPEC_DST
                continue
            if walk.type == by.ttl:
                if walk.size >= 1:
                    told.ttl = octet(walk.body, walk.size)
                    told.present |= TTL
                continue
            if walk.type == by.tos:
                if walk.size >= 1:
                    told.tos = octet(walk.body, walk.size)
                    told.present |= TOS
                continue
            if walk.type == by.options:
                if 0 < walk.size <= MAX_OPTIONS:
                    told.options = walk.body
                    told.options_size = <uint8_t>walk.size
                    told.present |= OPTIONS
                continue
            if walk.type == by.original_dst:
                if walk.size >= sizeof(name):
                    memcpy(&name, walk.body, sizeof(name))
                    told.original_addr = name.sin_addr.s_addr
                    told.original_port = name.sin_port
                    told.present |= ORIGINAL_DST
                continue
            if by.dst >= 0 and walk.type == by.dst:
                if walk.size >= sizeof(told.dst):
                    memcpy(&told.dst, walk.body, sizeof(told.dst))
                    told.present |= DST
                continue
            if by.link >= 0 and walk.type == by.link:
                # struct sockaddr_dl: length and family, a byte each, and the index
                if walk.size >= 4:
                    memcpy(&index, walk.body + 2, sizeof(index))
                    told.ifindex = index
                    told.present |= INTERFACE
                continue
            if walk.type == by.error:
                told.error = walk.body
                told.error_size = walk.size
        elif walk.level == by.level_socket:
            if walk.type == by.timestamp:
                if walk.size >= sizeof(timespec):
                    memcpy(stamps, walk.body, sizeof(timespec))
                    told.timestamp = nanoseconds(&stamps[0])
                    told.present |= TIMESTAMP
                continue
            if walk.type == by.timestamping:
                if walk.size >= sizeof(stamps):
                    memcpy(stamps, walk.body, sizeof(stamps))
                    # The hardware's if there is one, else the software's.
                    told.timestamp = nanoseconds(
                        &stamps[2 if stamps[2].tv_sec or stamps[2].tv_nsec else 0])
                    told.present |= TIMESTAMP
                continue
        if read_number(by, walk.level, walk.type, walk.body, walk.size, told):
            continue
        told.unknown_space += CMSG_SPACE(walk.size)


cdef Py_ssize_t read_told(const void *data, size_t length, Told *told) noexcept nogil:
    """`read_by` of control bytes of this system."""
    if is_usual(<const unsigned char *>data, length, told):
        return <Py_ssize_t>length
    return read_by(&HERE, data, length, told)


cdef Py_ssize_t read_told_for(const System *by, const void *data, size_t length,
                              Told *told) noexcept nogil:
    """`read_by` of control bytes of another."""
    return read_by(by, data, length, told)


cdef inline uint8_t octet(const unsigned char *data, size_t size) noexcept nogil:
    """A small number that the kernel sends as an int, or as one byte (IP_TOS always so)."""
    cdef int32_t value
    if size >= sizeof(int32_t):
        memcpy(&value, data, sizeof(int32_t))
        return <uint8_t>value
    return data[0]


cdef inline int64_t nanoseconds(const timespec *ts) noexcept nogil:
    # Unsigned: a hostile number of seconds must wrap, not be undefined.
    return <int64_t>(<unsigned long long>ts.tv_sec * 1000000000ULL
                     + <unsigned long long>ts.tv_nsec)


cdef int refuse_control(const unsigned char *data, size_t length, size_t at) except -1:
    """Say what is wrong with the control message at offset `at`."""
    cdef cmsghdr head
    memcpy(&head, data + at, sizeof(head))
    if <Py_ssize_t>head.cmsg_len <= 0:
        raise ValueError(f"invalid header length: control message at offset {at}")
    if head.cmsg_len < sizeof(cmsghdr):
        raise ValueError(
            f"invalid message length: {head.cmsg_len} at offset {at} is less than a header"
        )
    raise ValueError(
        f"short buffer: control message of {head.cmsg_len} bytes at offset {at},"
        f" {length - at} bytes left"
    )


cdef bytes copy_unknown(const void *data, size_t length, size_t space, bint errors):
    """The messages that have no attribute, whole and padded: `space` bytes, as `read_told` saw.

    Entries of the error queue are among them if `errors` says so.
    """
    cdef Walk walk
    cdef Told known
    cdef bytes extra = PyBytes_FromStringAndSize(NULL, space)
    cdef unsigned char *out = <unsigned char *>PyBytes_AS_STRING(extra)
    cdef size_t used = 0, whole
    walk_over(&walk, data, length)
    while step(&walk) > 0:
        memset(&known, 0, sizeof(known))
        whole = CMSG_LEN(walk.size)
        read_told(walk.body - CMSG_LEN(0), whole, &known)
        if not known.unknown_space or known.error != NULL and not errors:
            continue
        if CMSG_SPACE(walk.size) > space - used:  # memory that is shared, and changed meanwhile
            raise ValueError("control messages changed while they were parsed")
        used += put(out + used, walk.level, walk.type, walk.body, walk.size)
    return extra if used == space else extra[:used]


# Writing

cdef size_t put(unsigned char *out, int level, int kind, const void *data,
                size_t size) noexcept nogil:
    """`put_by` as this system has it."""
    return put_by(&HERE, out, level, kind, data, size)


cdef size_t put_route(unsigned char *out, int32_t ifindex, bint sourced,
                      uint32_t source) noexcept nogil:
    """`put_route_by` as this system has it."""
    return put_route_by(&HERE, out, ifindex, sourced, source)


cdef bytes packed(object value):
    """What a program gave as ``extra``, as control messages; None when there are none."""
    cdef Py_buffer view
    cdef size_t total = 0, at = 0
    cdef bytes messages
    entries = []
    try:
        value = list(value)
    except TypeError:
        raise TypeError(
            "extra must hold (level, type, bytes) triples to iterate over,"
            f" not be {type(value).__name__}"
        ) from None
    for entry in value:
        try:
            level, kind, data = entry
        except (TypeError, ValueError):
            raise TypeError(
                f"extra must hold (level, type, bytes) triples, not {type(entry).__name__}"
            ) from None
        level = as_int(level, INT32_MIN, INT32_MAX, "extra: level")
        kind = as_int(kind, INT32_MIN, INT32_MAX, "extra: type")
        get_buffer(data, &view, False, "extra: data")
        try:
            if view.len > MAX_EXTRA:
                raise ValueError(f"extra: data of {view.len} bytes is too long")
            entries.append((level, kind, PyBytes_FromStringAndSize(<char *>view.buf, view.len)))
            total += CMSG_SPACE(view.len)
        finally:
            release_view(&view)
    if not total:
        return None
    messages = PyBytes_FromStringAndSize(NULL, total)
    for level, kind, data in entries:
        at += put(<unsigned char *>PyBytes_AS_STRING(messages) + at, level, kind,
                  PyBytes_AS_STRING(data), len(data))
    return messages


cdef tuple unpacked(bytes messages):
    """The (level, type, data) of control messages, () of None."""
    cdef Walk walk
    if messages is None:
        return ()
    found = []
    walk_over(&walk, PyBytes_AS_STRING(messages), len(messages))
    while step(&walk) > 0:
        data = PyBytes_FromStringAndSize(<const char *>walk.body, walk.size)
        found.append((walk.level, walk.type, data))
    return tuple(found)
