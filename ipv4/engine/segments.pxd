from .retry cimport Transfer
from ..libc.socket cimport iovec, msghdr

cdef enum:
    OLD_MAX_SEGMENTS = 64  # UDP_MAX_SEGMENTS of older kernels
    NEW_MAX_SEGMENTS = 128
    MAX_PAYLOAD = 65507  # of a UDP datagram, and so of what is cut in one call


cdef struct Cut:
    # A message on its way as segments: where it stands, and the memory to say so to the kernel.
    msghdr message
    iovec *parts
    unsigned char *control  # without its segment size
    size_t controllen
    const iovec *vectors
    size_t index
    size_t offset


cdef class Segments(Transfer):
    cdef:
        int segmenting  # the kernel cuts payloads into segments
        int max_segments  # that it cuts in one call

    cdef Py_ssize_t send_cut(self, const msghdr *header, size_t segment, size_t start, int flags,
                             str what, list errors) except -1


cdef size_t size_of(const msghdr *header) noexcept nogil
cdef size_t segment_of(const msghdr *header) noexcept nogil
