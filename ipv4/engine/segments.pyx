"""Payloads that leave as datagrams of one size: cut by the kernel, or here where it cannot
(udp(7), UDP_SEGMENT).
"""

from cpython.mem cimport PyMem_Free, PyMem_Malloc
from libc.errno cimport EINVAL, EIO, errno
from libc.stdint cimport uint16_t
from libc.string cimport memcpy

from ..wire.boundary cimport shown
from .endpoint cimport Attempt
from .retry cimport Transfer
from ..libc cimport socket as c
from ..libc.socket cimport (
    CMSG_LEN,
    CMSG_SPACE,
    MSG_DONTWAIT,
    UDP_SEGMENT,
    cmsghdr,
    iovec,
    msghdr,
    sendmsg,
    sockaddr_in,
)

cdef enum:
    OLD_MAX_SEGMENTS = 64  # UDP_MAX_SEGMENTS of older kernels
    NEW_MAX_SEGMENTS = 128
    MAX_PAYLOAD = 65507  # of a UDP datagram, and so of what is cut in one call


cdef class Segments(Transfer):
    """Sends of payloads with a segment size."""

    def __cinit__(self, *args, **kwargs):
        self.segmenting = True

    @property
    def segmentation(self):
        """Whether payloads given with a `segment_size` are cut by the kernel (udp(7), UDP_SEGMENT,
        Linux 4.18; it takes no privilege).

        It turns False when an interface refused with EIO: that payload, and all from then on,
        leaves segment by segment, one system call each. It can be set either way.
        """
        return self.segmenting

    @segmentation.setter
    def segmentation(self, value):
        if not isinstance(value, bool):
            raise TypeError(f"segmentation must be True or False, not {shown(value)}")
        self.segmenting = value

    cdef Py_ssize_t send_segmented(self, const msghdr *header, Py_ssize_t segment,
                                   int flags) except -1:
        """Send one buffer whose control data asks for segments.

        What is more than the kernel cuts in one call goes in several; what an interface refuses
        (EIO: it cannot checksum, so cannot segment; udp(7)) goes segment by segment.
        """
        cdef Py_ssize_t total = <Py_ssize_t>header.msg_iov[0].iov_len, sent = 0, n, step
        cdef msghdr part = header[0]
        cdef iovec vector = header.msg_iov[0]
        part.msg_iov = &vector
        step = max(MAX_PAYLOAD // segment, 1) * segment
        while sent < total:
            vector.iov_base = <unsigned char *>header.msg_iov[0].iov_base + sent
            vector.iov_len = min(total - sent, step)
            try:
                if not self.segmenting:
                    n = self.send_segments(&part, segment, flags)
                else:
                    n = self.send(&part, flags)
            except OSError as error:
                if error.errno == EIO and self.segmenting:
                    self.segmenting = False
                    continue
                if error.errno == EINVAL and step > OLD_MAX_SEGMENTS * segment:
                    # More segments than this kernel cuts at once; never the last word on EINVAL.
                    step = (
                        NEW_MAX_SEGMENTS if step > NEW_MAX_SEGMENTS * segment else OLD_MAX_SEGMENTS
                    ) * segment
                    continue
                if sent:
                    return sent
                raise
            sent += n
            if n < <Py_ssize_t>vector.iov_len:
                return sent
        return sent

    cdef Py_ssize_t send_segments(self, const msghdr *header, size_t segment, int flags) except -1:
        """Send a message as datagrams of `segment` bytes, one system call each.

        Returns the bytes sent: fewer than all when an error came after the first datagram, which
        the next call will meet again. Nothing is sent twice.
        """
        cdef unsigned char *control = NULL
        cdef msghdr part = header[0]
        cdef iovec *parts = NULL
        cdef size_t sent = 0, total = 0, i, offset = 0, index = 0, left, used, take
        cdef ssize_t n
        cdef Attempt attempt
        cdef int fd = self.begin(&attempt, True), err
        for i in range(header.msg_iovlen):
            total += header.msg_iov[i].iov_len
        parts = <iovec *>PyMem_Malloc(header.msg_iovlen * sizeof(iovec) + header.msg_controllen + 8)
        if parts == NULL:
            raise MemoryError()
        try:
            control = <unsigned char *>(parts + header.msg_iovlen)
            part.msg_iov = parts
            part.msg_control = control
            part.msg_controllen = without_segment(header, control)
            if part.msg_controllen == 0:
                part.msg_control = NULL
            while sent < total:
                left = min(segment, total - sent)
                used = 0
                i = index
                take = offset
                while left:
                    parts[used].iov_base = <unsigned char *>header.msg_iov[i].iov_base + take
                    parts[used].iov_len = min(header.msg_iov[i].iov_len - take, left)
                    left -= parts[used].iov_len
                    take += parts[used].iov_len
                    if take == header.msg_iov[i].iov_len:
                        i += 1
                        take = 0
                    used += 1
                part.msg_iovlen = used
                n = sendmsg(fd, &part, flags | MSG_DONTWAIT)
                err = errno
                if n < 0:
                    try:
                        self.retry_or_raise(err, fd, flags, True, &attempt, "write_to",
                                            <const sockaddr_in *>header.msg_name)
                    except OSError:
                        if sent:
                            return <Py_ssize_t>sent
                        raise
                    continue
                index = i
                offset = take
                sent += <size_t>n
        finally:
            PyMem_Free(parts)
        return <Py_ssize_t>sent


cdef size_t segment_of(const msghdr *header) noexcept nogil:
    """Segment size that a message's control data asks for, 0 when none."""
    cdef cmsghdr h
    cdef uint16_t size = 0
    cdef size_t at = 0
    cdef const unsigned char *control = <const unsigned char *>header.msg_control
    while header.msg_controllen - at >= sizeof(cmsghdr):
        memcpy(&h, control + at, sizeof(h))
        if h.cmsg_len < sizeof(h) or h.cmsg_len > header.msg_controllen - at:
            return 0
        if (
            h.cmsg_level == c.SOL_UDP and h.cmsg_type == UDP_SEGMENT
            and h.cmsg_len >= CMSG_LEN(sizeof(size))
        ):
            memcpy(&size, control + at + CMSG_LEN(0), sizeof(size))
            return size
        if CMSG_SPACE(h.cmsg_len - CMSG_LEN(0)) >= header.msg_controllen - at:
            return 0
        at += CMSG_SPACE(h.cmsg_len - CMSG_LEN(0))
    return 0


cdef size_t without_segment(const msghdr *header, unsigned char *out) noexcept nogil:
    """Copy a message's control data but for its UDP_SEGMENT; returns its length."""
    cdef cmsghdr h
    cdef size_t at = 0, written = 0, size
    cdef const unsigned char *control = <const unsigned char *>header.msg_control
    while header.msg_controllen - at >= sizeof(cmsghdr):
        memcpy(&h, control + at, sizeof(h))
        if h.cmsg_len < sizeof(h) or h.cmsg_len > header.msg_controllen - at:
            break
        size = min(CMSG_SPACE(h.cmsg_len - CMSG_LEN(0)), header.msg_controllen - at)
        if h.cmsg_level != c.SOL_UDP or h.cmsg_type != UDP_SEGMENT:
            memcpy(out + written, control + at, size)
            written += size
        at += size
    return written
