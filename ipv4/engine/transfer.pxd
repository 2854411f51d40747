from libc.stdint cimport int32_t, uint32_t

from ..wire.control cimport ControlMessage
from .endpoint cimport Endpoint, Patience
from ..libc.socket cimport iovec, mmsghdr, msghdr, sockaddr_in
from .message cimport MessageBatch


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
        bint segmenting  # the kernel cuts payloads into segments
        bint without_mmsg  # the kernel answered ENOSYS to recvmmsg or sendmmsg
        int deferred_error  # met after the first message of a batch moved singly

    cdef int again(self, int err, int fd, int flags, bint writing, Patience *patience, str what,
                   const sockaddr_in *name) except -1
    cdef bint is_stale(self, int fd, int err) noexcept
    cdef Py_ssize_t receive(self, int fd, msghdr *header, int flags) except? -1
    cdef Py_ssize_t send(self, const msghdr *header, int flags) except -1
    cdef Py_ssize_t send_segmented(self, const msghdr *header, Py_ssize_t segment,
                                   int flags) except -1
    cdef int move(self, mmsghdr *headers, unsigned int count, int flags, bint writing,
                  Patience *patience) except -1
    cdef int move_each(self, int fd, mmsghdr *headers, unsigned int count, int flags,
                       bint writing) noexcept nogil
    cdef int move_list(self, object messages, int flags, bint writing) except -1
    cdef int move_batch(self, MessageBatch batch, int flags, bint writing) except -1
    cdef int send_singly(self, mmsghdr *headers, unsigned int count, int flags) except -1
    cdef int move_before(self, mmsghdr *headers, unsigned int count, int flags) except -1
    cdef Py_ssize_t send_segments(self, const msghdr *header, size_t segment, int flags) except -1


cdef int raise_cut_control() except -1
