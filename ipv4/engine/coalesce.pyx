"""Neighbouring messages of a batch as one that the kernel cuts again (udp(7), UDP_SEGMENT).

    messages   [a 100][a 100][a 100][a 40][b 100][a 100]
    runs       [a 340, cut by 100        ][b 100][a 100]

A run has one destination, equal control data, and one length, which its last message may fall
short of. Nothing is copied but the pointers, and these only where they do not lie side by side.
"""

from libc.stdint cimport uint16_t
from libc.string cimport memcmp, memcpy, memset

from .segments cimport MAX_PAYLOAD, segment_of, size_of
from ..libc cimport socket as c
from ..libc.socket cimport CMSG_LEN, CMSG_SPACE, UDP_SEGMENT, cmsghdr, iovec, mmsghdr, msghdr

cdef enum:
    MAX_PARTS = 1024  # UIO_MAXIOV
    NAME = 8  # bytes of a sockaddr_in that tell one from another


cdef inline size_t size(const msghdr *header) noexcept nogil:
    return header.msg_iov[0].iov_len if header.msg_iovlen == 1 else size_of(header)


cdef inline bint is_alike(const msghdr *one, const msghdr *other) noexcept nogil:
    """Whether two messages have one destination and equal control data."""
    if one.msg_controllen != other.msg_controllen:
        return False
    if one.msg_name != other.msg_name:
        if one.msg_name == NULL or other.msg_name == NULL:
            return False
        if memcmp(one.msg_name, other.msg_name, NAME):
            return False
    return one.msg_controllen == 0 or memcmp(
        one.msg_control, other.msg_control, one.msg_controllen) == 0


cdef unsigned int run_length(const mmsghdr *headers, unsigned int count, size_t first,
                             unsigned int most) noexcept nogil:
    """How many messages from the first on can go as one; `first` is its length."""
    cdef const msghdr *head = &headers[0].msg_hdr
    cdef size_t total = first, parts = head.msg_iovlen, length
    cdef unsigned int i = 1
    if count < 2 or first == 0 or not is_alike(head, &headers[1].msg_hdr):
        return 1
    if head.msg_controllen and segment_of(head):
        return 1  # it is to be cut already
    most = min(most, count)
    while i < most:
        length = size(&headers[i].msg_hdr)
        parts += headers[i].msg_hdr.msg_iovlen
        if (
            length == 0 or length > first or total + length > MAX_PAYLOAD or parts > MAX_PARTS
            or not is_alike(head, &headers[i].msg_hdr)
        ):
            break
        total += length
        i += 1
        if length < first:
            break
    return i


cdef size_t room_for(const mmsghdr *headers, unsigned int count, unsigned int runs) noexcept nogil:
    """Bytes that `join` needs."""
    cdef size_t parts = 0, control = 0
    cdef unsigned int i
    for i in range(count):
        parts += headers[i].msg_hdr.msg_iovlen
        control += CMSG_SPACE(headers[i].msg_hdr.msg_controllen)
    return (
        runs * (sizeof(mmsghdr) + CMSG_SPACE(sizeof(uint16_t))) + parts * sizeof(iovec) + control)


cdef void join(Runs *runs, const mmsghdr *headers, size_t room) noexcept nogil:
    """Make each run's header; `lengths` says which they are, and `memory` has `room` bytes."""
    cdef iovec *parts
    cdef unsigned char *control
    cdef const mmsghdr *first = headers
    cdef const mmsghdr *each
    cdef msghdr *header
    cdef cmsghdr head
    cdef unsigned int run, i
    cdef uint16_t segment
    cdef size_t at, space
    runs.headers = <mmsghdr *>runs.memory
    control = <unsigned char *>(runs.headers + runs.count)
    parts = <iovec *>(runs.memory + room)  # from the end downwards
    for run in range(runs.count):
        runs.headers[run] = first[0]
        if runs.lengths[run] > 1:
            header = &runs.headers[run].msg_hdr
            segment = <uint16_t>size(&first.msg_hdr)
            at = 0
            for i in range(runs.lengths[run]):
                each = first + i
                if each.msg_hdr.msg_iov != first.msg_hdr.msg_iov + at:
                    break
                at += each.msg_hdr.msg_iovlen
            else:
                i = runs.lengths[run]
            if i < runs.lengths[run]:  # they do not lie side by side
                at = 0
                for i in range(runs.lengths[run]):
                    at += first[i].msg_hdr.msg_iovlen
                parts -= at
                at = 0
                for i in range(runs.lengths[run]):
                    each = first + i
                    memcpy(parts + at, each.msg_hdr.msg_iov,
                           each.msg_hdr.msg_iovlen * sizeof(iovec))
                    at += each.msg_hdr.msg_iovlen
                header.msg_iov = parts
            header.msg_iovlen = at
            space = 0
            header.msg_control = control
            if first.msg_hdr.msg_controllen:
                space = CMSG_SPACE(first.msg_hdr.msg_controllen) - CMSG_SPACE(0)
                memset(control, 0, space)
                memcpy(control, first.msg_hdr.msg_control, first.msg_hdr.msg_controllen)
            memset(control + space, 0, CMSG_SPACE(sizeof(segment)))
            memset(&head, 0, sizeof(head))
            head.cmsg_len = CMSG_LEN(sizeof(segment))
            head.cmsg_level = c.SOL_UDP
            head.cmsg_type = UDP_SEGMENT
            memcpy(control + space, &head, sizeof(head))
            memcpy(control + space + CMSG_LEN(0), &segment, sizeof(segment))
            header.msg_controllen = space + CMSG_SPACE(sizeof(segment))
            control += header.msg_controllen
        first += runs.lengths[run]
