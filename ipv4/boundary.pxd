from cpython.buffer cimport Py_buffer
from libc.stdint cimport int64_t, uint16_t, uint32_t

from .libc.socket cimport sockaddr_in


cdef int64_t as_int(object value, int64_t low, int64_t high, str name) except? -1
cdef int get_buffer(object exporter, Py_buffer *view, bint writable, str name) except -1
cdef bint parse_quad(const char *text, Py_ssize_t length, uint32_t *address) noexcept nogil
cdef int as_address(object value, uint32_t *address, str name) except -1
cdef int as_sockaddr(object value, sockaddr_in *name_out, str name) except -1
cdef str address_text(uint32_t address)
cdef object address_object(uint32_t address)
cdef tuple peer_tuple(uint32_t address, uint16_t port)
cdef object os_error(int err, str what)
