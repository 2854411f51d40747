from libc.stdint cimport int64_t, uintptr_t

from ..libc.socket cimport pollfd
from .descriptor cimport Descriptor

cdef extern from *:
    int64_t NEVER "INT64_MAX"


cdef enum Direction:
    # What a call waits for: something to read, room to write, an entry of the error queue.
    READ = 0
    WRITE = 1
    ERRORS = 2


cdef struct Waiter:
    # One waiting call, on the heap; its conn keeps it in a list while it waits.
    int ends[2]  # its waker, -1 when none could be had
    unsigned int generation  # of the process, and the thread in it, that wait
    uintptr_t thread
    Waiter *next


cdef struct Attempt:
    # What one call remembers between its tries; all zero at its start (`begin`).
    int64_t began  # its first wait; 0 before
    int64_t own_limit  # the socket's own timeout, as a moment; NEVER for none
    unsigned int timeouts  # the conn's count of changes when own_limit was made
    bint has_edge
    int edge  # what new errors are waited for on
    unsigned int edge_generation  # of the process that opened it
    bint nonblocking  # the socket's own timeout is 0
    bint stale_tried  # an error of an earlier datagram was passed over once
    bint error_seen  # poll reported an error that the system call then did not take away


cdef class Waiting(Descriptor):
    cdef:
        Waiter *waiters
        Waiter *spare  # one that no call uses now, with its waker
        int64_t read_deadline
        int64_t write_deadline
        bint read_hint  # the deadline was long past when it was set
        bint write_hint
        unsigned int timeouts  # how often the socket's own timeout was set by `timeout`

    cdef int begin(self, Attempt *attempt, int direction) except -1
    cdef void end(self, Attempt *attempt) noexcept
    cdef int check_deadline(self, int direction) except -1
    cdef int wait(self, int fd, int direction, Attempt *attempt) except -1
    cdef int start_clock(self, int fd, int direction, Attempt *attempt) except -1
    cdef int64_t time_left(self, int direction, Attempt *attempt) except -2
    cdef int poll(self, Waiter *waiter, int fd, int direction, Attempt *attempt) except -1
    cdef int wait_in_loop(self, pollfd *fds, int64_t left) except -1
    cdef Waiter *enlist(self) except NULL
    cdef void delist(self, Waiter *waiter) noexcept
    cdef int raise_timeout(self, int direction, bint by_deadline) except -1
