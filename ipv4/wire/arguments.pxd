from cpython.buffer cimport PyBUF_SIMPLE, PyBUF_WRITABLE, Py_buffer
from libc.stdint cimport INT32_MAX, int64_t

from ..libc.threads cimport get_view


cdef object ZERO


cpdef str shown(object value)
cdef int64_t as_int(object value, int64_t low, int64_t high, str name) except? -1


cdef inline int as_flags(object flags) except -1:
    """Flags of a system call; nearly always the default, whose identity is enough."""
    return 0 if flags is ZERO else <int>as_int(flags, 0, INT32_MAX, "flags")


cdef int refuse_buffer(object exporter, bint writable, str name) except -1


cdef inline int get_buffer(object exporter, Py_buffer *view, bint writable, str name) except -1:
    """Pin exporter's memory as contiguous bytes; the caller owes release_view(view)."""
    if get_view(exporter, view, PyBUF_WRITABLE if writable else PyBUF_SIMPLE) < 0:
        return refuse_buffer(exporter, writable, name)
    return 0


cdef object os_error(int err, str what)
