from libc.stdint cimport int32_t

from ..libc.socket cimport getsockopt, socklen_t
from .readiness cimport Watched


cdef inline bint ask(int fd, int level, int name, int32_t *value) noexcept nogil:
    """Whether there is such an option, and its number: the door for whoever holds the descriptor in
    the middle of a call and raises nothing.
    """
    cdef socklen_t size = sizeof(value[0])
    return name >= 0 and getsockopt(fd, level, name, value, &size) == 0


cdef class OptionDoor(Watched):
    cdef int try_get(self, int level, int name, void *value, socklen_t *size,
                     str what) except -1
    cdef int try_set(self, int level, int name, const void *value, unsigned int size,
                     str what) except -1
    cdef int get_int(self, int level, int name, str what) except? -1
    cdef int get_raw(self, int level, int name, void *value, socklen_t *size,
                     str what) except -1
    cdef int set_raw(self, int level, int name, const void *value, unsigned int size,
                     str what) except -1
