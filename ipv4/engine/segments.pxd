from .retry cimport Transfer
from ..libc.socket cimport msghdr


cdef class Segments(Transfer):
    cdef:
        bint segmenting  # the kernel cuts payloads into segments

    cdef Py_ssize_t send_segmented(self, const msghdr *header, Py_ssize_t segment,
                                   int flags) except -1
    cdef Py_ssize_t send_segments(self, const msghdr *header, size_t segment, int flags) except -1


cdef size_t segment_of(const msghdr *header) noexcept nogil
