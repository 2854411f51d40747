from libc.stdint cimport uint16_t, uint32_t

from ..libc.socket cimport sockaddr_in
from ..libc.threads cimport Try, try_acquire, try_release


cdef enum:
    PEERS = 8  # power of two


cdef struct Peers:
    # Peers seen lately, as the tuples already made for them; owned references. Who finds it busy
    # makes a tuple anew.
    Try busy
    uint32_t addresses[PEERS]
    uint16_t ports[PEERS]
    void *tuples[PEERS]


cdef bint parse_quad(const char *text, Py_ssize_t length, uint32_t *address) noexcept nogil
cdef int as_address(object value, uint32_t *address, str name) except -1
cdef int as_sockaddr(object value, sockaddr_in *name_out, str name) except -1
cdef str address_text(uint32_t address)
cdef object address_object(uint32_t address)
cdef tuple peer_tuple(uint32_t address, uint16_t port)
cdef tuple remember_peer(Peers *peers, unsigned int slot, uint32_t address, uint16_t port)
cdef void forget_peers(Peers *peers) noexcept


cdef inline tuple peer_of(Peers *peers, uint32_t address, uint16_t port):
    """``(host, port)`` of a peer in network order, made once for peers seen lately."""
    cdef unsigned int slot = (
        (address >> 24) ^ (address >> 16) ^ port ^ (port >> 8)) & (PEERS - 1)
    cdef tuple known = None
    if try_acquire(&peers.busy):
        if (
            peers.addresses[slot] == address and peers.ports[slot] == port
            and peers.tuples[slot] != NULL
        ):
            known = <tuple>peers.tuples[slot]
        try_release(&peers.busy)
    return remember_peer(peers, slot, address, port) if known is None else known
