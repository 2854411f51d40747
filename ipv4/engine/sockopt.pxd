from ..libc.socket cimport socklen_t
from .readiness cimport Watched


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
