"""Payloads that leave as datagrams of one size: cut by the kernel, or here where it cannot
(udp(7), UDP_SEGMENT).
"""

from cpython.exc cimport PyErr_CheckSignals
from cpython.mem cimport PyMem_Free, PyMem_Malloc
from libc.errno cimport EBADF, EINVAL, EIO, EMSGSIZE, errno
from libc.stdint cimport uint16_t
from libc.string cimport memcpy

from ..wire.arguments cimport shown
from ..wire.cmsg cimport Walk, step, walk_over
from .descriptor cimport hold, let_go
from .endpoint cimport Attempt
from .retry cimport Transfer, releases
from .wait cimport begin
from ..libc cimport socket as c
from ..libc.socket cimport (
    CMSG_LEN,
    CMSG_SPACE,
    MSG_DONTWAIT,
    UDP_SEGMENT,
    iovec,
    msghdr,
    sendmsg,
)
from ..libc.threads cimport load_int, store_int

cdef enum:
    BURST = 64  # datagrams cut here between two looks at signals and other threads


cdef class Segments(Transfer):
    """Sends of payloads with a segment size."""

    def __cinit__(self, *args, **kwargs):
        self.segmenting = True
        self.max_segments = NEW_MAX_SEGMENTS

    @property
    def segmentation(self):
        """Whether payloads given with a `segment_size` are cut by the kernel (udp(7), UDP_SEGMENT,
        Linux 4.18; it takes no privilege).

        It turns False when an interface refused with EIO: that payload, and all from then on,
        leaves segment by segment, one system call each. It can be set either way.
        """
        return load_int(&self.segmenting) != 0

    @segmentation.setter
    def segmentation(self, value):
        if not isinstance(value, bool):
            raise TypeError(f"segmentation must be True or False, not {shown(value)}")
        store_int(&self.segmenting, value)

    cdef Py_ssize_t send_cut(self, const msghdr *header, size_t segment, size_t start, int flags,
                             str what, list errors) except -1:
        """Send a message as datagrams of `segment` bytes, from byte `start` of it on.

        Returns how many bytes of it are gone then: fewer than all when an error came after a
        datagram had left; the error is appended to `errors`, and a further call goes on from
        there. An error before that is raised. Nothing is sent twice.

        The kernel cuts as much as it takes in one call. What an interface refuses (EIO: it
        cannot checksum, so cannot segment; udp(7)) is cut here from then on; what exceeds the
        path's MTU (EMSGSIZE, before Linux 6.14 EINVAL) is cut here this time, for single
        datagrams are fragmented on their way.
        """
        cdef Cut cut
        cdef Attempt attempt
        cdef int fd = begin(self, &attempt, True), err = 0
        cdef size_t total = size_of(header), sent = start, most = load_int(&self.max_segments), part
        cdef bint by_kernel = load_int(&self.segmenting) and segment < total, refused = False
        cdef bint release
        cdef Py_ssize_t n
        if segment < total:
            part = max(MAX_PAYLOAD // segment, 1)
            most = min(most, part)
        cut.parts = <iovec *>PyMem_Malloc(
            header.msg_iovlen * sizeof(iovec) + header.msg_controllen + 1)
        if cut.parts == NULL:
            raise MemoryError()
        try:
            cut.message = header[0]
            cut.message.msg_iov = cut.parts
            cut.control = <unsigned char *>(cut.parts + header.msg_iovlen)
            cut.controllen = without_segment(header, cut.control)
            cut.vectors = header.msg_iov
            cut.index = cut.offset = 0
            gather(&cut, start)
            while sent < total or total == 0:
                part = min(most if by_kernel else <size_t>BURST, (total - sent) // segment + 1)
                release = releases(self, part, min(part * segment, total - sent))
                if release:
                    self.enter()
                    with nogil:
                        if by_kernel:
                            n = send_joined(fd, header, &cut, min(most * segment, total - sent),
                                            flags)
                        else:
                            n = send_burst(fd, &cut, segment, total - sent, flags)
                        err = errno
                    self.leave()
                else:
                    hold(self)
                    if by_kernel:
                        n = send_joined(fd, header, &cut, min(most * segment, total - sent), flags)
                    else:
                        n = send_burst(fd, &cut, segment, total - sent, flags)
                    err = errno
                    let_go(self)
                if n >= 0:
                    sent += <size_t>n
                    if sent == total:
                        break
                    if refused and by_kernel:
                        store_int(&self.max_segments, <int>most)  # it was the number, then
                    PyErr_CheckSignals()
                    if load_int(&self.fd) == fd:
                        continue
                    err = EBADF
                elif by_kernel and err == EIO:
                    store_int(&self.segmenting, False)
                    by_kernel = False
                    continue
                elif by_kernel and (err == EINVAL or err == EMSGSIZE):
                    if most > OLD_MAX_SEGMENTS and total - sent > OLD_MAX_SEGMENTS * segment:
                        most = OLD_MAX_SEGMENTS
                        refused = True
                    else:
                        by_kernel = False
                    continue
                try:
                    self.retry_or_raise(err, fd, flags, True, &attempt, what, header)
                except OSError as error:
                    if sent == start:
                        raise
                    if errors is not None:
                        errors.append(error)
                    break
        finally:
            PyMem_Free(cut.parts)
        return <Py_ssize_t>sent


cdef size_t gather(Cut *cut, size_t want) noexcept nogil:
    """Move on by `want` bytes of the message, and point `parts` to them; returns how many parts."""
    cdef size_t used = 0, take
    while want:
        take = min(cut.vectors[cut.index].iov_len - cut.offset, want)
        if take:
            cut.parts[used].iov_base = <char *>cut.vectors[cut.index].iov_base + cut.offset
            cut.parts[used].iov_len = take
            used += 1
        want -= take
        cut.offset += take
        if cut.offset == cut.vectors[cut.index].iov_len:
            cut.index += 1
            cut.offset = 0
    return used


cdef Py_ssize_t send_joined(int fd, const msghdr *header, Cut *cut, size_t size,
                            int flags) noexcept nogil:
    """The next bytes in one call, for the kernel to cut."""
    cdef size_t index = cut.index, offset = cut.offset
    cdef Py_ssize_t n
    cut.message.msg_iovlen = gather(cut, size)
    cut.message.msg_control = header.msg_control
    cut.message.msg_controllen = header.msg_controllen
    n = sendmsg(fd, &cut.message, flags | MSG_DONTWAIT)
    if n < 0:
        cut.index = index
        cut.offset = offset
    return n


cdef Py_ssize_t send_burst(int fd, Cut *cut, size_t segment, size_t left,
                           int flags) noexcept nogil:
    """The next datagrams, a call each; returns their bytes, -1 when not one went."""
    cdef size_t sent = 0, index, offset, size
    cdef int i
    cut.message.msg_control = cut.control if cut.controllen else NULL
    cut.message.msg_controllen = cut.controllen
    for i in range(BURST):
        size = min(segment, left - sent)
        index = cut.index
        offset = cut.offset
        cut.message.msg_iovlen = gather(cut, size)
        if sendmsg(fd, &cut.message, flags | MSG_DONTWAIT) < 0:
            cut.index = index
            cut.offset = offset
            return <Py_ssize_t>sent if i else -1
        sent += size
        if sent == left:
            break
    return <Py_ssize_t>sent


cdef size_t size_of(const msghdr *header) noexcept nogil:
    """Bytes of a message's payload."""
    cdef size_t total = 0, i
    for i in range(header.msg_iovlen):
        total += header.msg_iov[i].iov_len
    return total


cdef size_t segment_of(const msghdr *header) noexcept nogil:
    """Segment size that a message's control data asks for, 0 when none."""
    cdef Walk walk
    cdef uint16_t size = 0
    walk_over(&walk, header.msg_control, header.msg_controllen)
    while step(&walk) > 0:
        if walk.level == c.SOL_UDP and walk.type == UDP_SEGMENT and walk.size >= sizeof(size):
            memcpy(&size, walk.body, sizeof(size))
            return size
    return 0


cdef size_t without_segment(const msghdr *header, unsigned char *out) noexcept nogil:
    """Copy a message's control data but for its UDP_SEGMENT; returns its length."""
    cdef Walk walk
    cdef size_t written = 0, size
    cdef const unsigned char *end = <const unsigned char *>header.msg_control
    cdef const unsigned char *start
    end += header.msg_controllen
    walk_over(&walk, header.msg_control, header.msg_controllen)
    while step(&walk) > 0:
        if walk.level != c.SOL_UDP or walk.type != UDP_SEGMENT:
            start = walk.body - CMSG_LEN(0)
            size = min(CMSG_SPACE(walk.size), <size_t>(end - start))
            memcpy(out + written, start, size)
            written += size
    return written
