from libc.stdint cimport int64_t, uintptr_t

from ..libc.socket cimport coarse_ns, pollfd
from ..libc.threads cimport FREE_THREADED, Lock, load_64, load_int
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
    int waker[2]  # what ends its poll, -1 when none could be had
    unsigned int generation  # of the process, and the thread in it, that wait
    uintptr_t thread
    Waiter *next


cdef struct Attempt:
    # What one call remembers between its tries; all zero at its start (`begin`).
    int64_t began  # its first wait; 0 before
    # Bytes, that one store clears them all.
    unsigned char has_edge
    unsigned char stale_tried  # an error of an earlier datagram was passed over once
    unsigned char error_seen  # poll reported an error that the call then did not take away
    unsigned char nonblocking  # the socket's own timeout is 0
    int edge  # what new errors are waited for on
    unsigned int edge_generation  # of the process that opened it
    unsigned int timeouts  # the conn's count of changes when own_limit was made
    int64_t own_limit  # the socket's own timeout, as a moment; NEVER for none


cdef class Waiting(Descriptor):
    cdef:
        Lock lock  # of the two that follow
        Waiter *waiters
        Waiter *spare_waiter  # one that no call uses now, with its waker
        int64_t read_deadline
        int64_t write_deadline
        int read_hint  # the deadline was long past when it was set
        int write_hint
        unsigned int timeouts  # how often the socket's own timeout was set by `timeout`

    cdef int64_t deadline(self, int direction) noexcept
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


cdef enum:
    # Nanoseconds by which the coarse clock never lags: ticks come every 10 ms at the slowest.
    FAR = 200000000


cdef inline bint deadline_is_near(int64_t deadline) noexcept:
    """Whether an exact clock is needed to tell if it has come; the cheap one is in any case."""
    return deadline - coarse_ns() <= FAR


cdef inline int begin(Waiting conn, Attempt *attempt, int direction) except -1:
    """Start of a call: the descriptor, after the deadline was looked at."""
    cdef int fd = load_int(&conn.fd)
    attempt.began = 0
    attempt.has_edge = attempt.stale_tried = attempt.error_seen = attempt.nonblocking = 0
    # Where there is no GIL the socket's own number is looked at by `enter`.
    if fd < 0 or (not FREE_THREADED or conn.unseen) and conn.sock_fd[0] != fd:
        fd = conn.live_fd()  # which raises, unless the socket's own cannot be seen
    if load_64(&conn.write_deadline if direction == WRITE else &conn.read_deadline) != NEVER:
        conn.check_deadline(direction)
    return fd
