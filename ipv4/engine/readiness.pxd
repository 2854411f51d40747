from ..libc.threads cimport Lock
from .wait cimport Attempt, Waiting


cdef class Watch:
    cdef:
        object __weakref__
        object loop  # the loop that watches, in whatever way its kind is told apart
        int told_of  # a direction
        Lock lock  # of all that follows: the loop's thread and the conn's meet there
        bint conn_ended
        int number  # what is watched; -1 once closed
        int waker[2]
        int holders  # registrations that name the number
        unsigned int generation  # of the process that opened it

    cdef int open(self, int fd, object key, int direction) except -1
    cdef bint is_here(self) noexcept
    cdef bint is_open(self) noexcept
    cdef void signal(self) noexcept
    cdef void end(self) noexcept
    cdef void close(self) noexcept


cdef class Clock:
    cdef Attempt attempt


cdef class Watched(Waiting):
    cdef list watches

    cdef list present_watches(self)
