from libc.stdint cimport uint32_t

from .arena cimport Arena


cdef class MessageBatch:
    cdef:
        Arena arena
        size_t start
        size_t stop

    cdef size_t first(self, object n, str name) except? -1
    cdef list copied(self, size_t n)
    cdef size_t place(self, object key) except? -1
    cdef object scanned(self, const char *format, size_t itemsize, void *first)
    cdef object rare(self, uint32_t *first)
