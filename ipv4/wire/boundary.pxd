from cpython.buffer cimport PyBUF_SIMPLE, PyBUF_WRITABLE, Py_buffer
from libc.stdint cimport INT32_MAX, int64_t, uint16_t, uint32_t

from ..libc.socket cimport sockaddr_in


cdef enum:
    PEERS = 8  # power of two


cdef struct Peers:
    # Peers seen lately, as the tuples already made for them; owned references.
    uint32_t addresses[PEERS]
    uint16_t ports[PEERS]
    void *tuples[PEERS]


cdef object ZERO


cdef extern from "structmember.h":
    ctypedef struct PyMemberDef:
        const char *name
        int type
        Py_ssize_t offset
        int flags
        const char *doc


cdef PyMemberDef member(const char *name, Py_ssize_t offset, const char *doc) noexcept
cdef int plain_attribute(type owner, PyMemberDef *field) except -1


cpdef str shown(object value)
cdef int64_t as_int(object value, int64_t low, int64_t high, str name) except? -1


cdef inline int as_flags(object flags) except -1:
    """Flags of a system call; nearly always the default, whose identity is enough."""
    return 0 if flags is ZERO else <int>as_int(flags, 0, INT32_MAX, "flags")


cdef int refuse_buffer(object exporter, bint writable, str name) except -1


cdef extern from "Python.h":
    # Without Cython's own error handling: the failing path is refuse_buffer.
    int c_GetBuffer "PyObject_GetBuffer"(object exporter, Py_buffer *view, int flags) noexcept


cdef inline int get_buffer(object exporter, Py_buffer *view, bint writable, str name) except -1:
    """Pin exporter's memory as contiguous bytes; the caller owes PyBuffer_Release(view)."""
    if c_GetBuffer(exporter, view, PyBUF_WRITABLE if writable else PyBUF_SIMPLE) < 0:
        return refuse_buffer(exporter, writable, name)
    return 0


cdef bint parse_quad(const char *text, Py_ssize_t length, uint32_t *address) noexcept nogil
cdef int as_address(object value, uint32_t *address, str name) except -1
cdef int as_sockaddr(object value, sockaddr_in *name_out, str name) except -1
cdef str address_text(uint32_t address)
cdef object address_object(uint32_t address)
cdef tuple peer_tuple(uint32_t address, uint16_t port)
cdef object os_error(int err, str what)
cdef tuple remember_peer(Peers *peers, unsigned int slot, uint32_t address, uint16_t port)
cdef void forget_peers(Peers *peers) noexcept


cdef inline tuple peer_of(Peers *peers, uint32_t address, uint16_t port):
    """``(host, port)`` of a peer in network order, made once for peers seen lately."""
    cdef unsigned int slot = (
        (address >> 24) ^ (address >> 16) ^ port ^ (port >> 8)) & (PEERS - 1)
    if (
        peers.addresses[slot] == address and peers.ports[slot] == port
        and peers.tuples[slot] != NULL
    ):
        return <tuple>peers.tuples[slot]
    return remember_peer(peers, slot, address, port)
