from libc.stdint cimport int64_t

from ..wire.boundary cimport Peers

cdef extern from *:
    int64_t NEVER "INT64_MAX"


cdef struct Waiter:
    # One waiting call, on its own stack; linked while it waits.
    int ends[2]
    Waiter *next


cdef struct Attempt:
    # What one call remembers between its tries; `begin` makes it.
    int64_t own_limit  # the socket's own timeout, as a moment; NEVER for none
    bint started
    bint stale_tried  # an error of an earlier datagram was passed over once
    bint error_seen  # poll reported an error that the system call then did not take away

ctypedef Attempt Patience


cdef class Endpoint:
    cdef:
        readonly object _sock
        const int *sock_fd  # where _sock keeps its descriptor
        int fd  # -1 once closed
        int users  # calls that may touch the descriptor without holding the GIL
        unsigned int generation  # of the process that the counts above belong to
        int spare[2]  # a waker that no call uses now
        readonly int _type
        readonly int _protocol
        int multicast_index  # what IP_MULTICAST_IF was set to, which Linux does not give back
        signed char gil  # 1 release for every call, 0 never but to wait, -1 by size
        Waiter *waiters
        int64_t read_deadline
        int64_t write_deadline
        Peers peers

    cdef int live_fd(self) except -1
    cdef int begin(self, Attempt *attempt, bint writing) except -1
    cdef void enter(self) noexcept
    cdef void forget_parent(self) noexcept
    cdef int leave(self) except -1
    cdef int check_deadline(self, bint writing) except -1
    cdef int wait(self, int fd, bint writing, Attempt *attempt) except -1
    cdef int wake_all(self) except -1
    cdef int interface_index(self, object interface, str name) except -1
    cdef int get_int(self, int level, int name, str what) except? -1
    cdef int set_raw(self, int level, int name, const void *value, unsigned int size,
                     str what) except -1


cdef unsigned int generation() noexcept
