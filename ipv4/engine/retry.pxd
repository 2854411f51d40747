from libc.stdint cimport int32_t, uint32_t

from .endpoint cimport Endpoint, Patience
from ..libc.socket cimport msghdr, sockaddr_in


cdef enum:
    # From here on giving the GIL up costs less than it gains other threads.
    RELEASE_COUNT = 8  # messages
    RELEASE_BYTES = 16384


cdef class Transfer(Endpoint):
    cdef:
        # What filtering.py and options.py set in the kernel, which cannot tell it again.
        public object _program
        public int _min_ttl
        public bint _router_alert
        uint32_t _control_flags
        bint wants_control  # some receive option may be on

    cdef bint is_stale(self, int fd, int err) noexcept
    cdef int again(self, int err, int fd, int flags, bint writing, Patience *patience, str what,
                   const sockaddr_in *name) except -1
    cdef Py_ssize_t receive(self, int fd, msghdr *header, int flags) except? -1
    cdef Py_ssize_t send(self, const msghdr *header, int flags) except -1


cdef int raise_cut_control() except -1
