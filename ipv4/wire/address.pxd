from libc.stdint cimport uint16_t, uint32_t

from ..libc.socket cimport sockaddr_in


cdef enum:
    PEERS = 8  # power of two


cdef struct Peers:
    # Peers seen lately, as the tuples already made for them; owned references.
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
    if (
        peers.addresses[slot] == address and peers.ports[slot] == port
        and peers.tuples[slot] != NULL
    ):
        return <tuple>peers.tuples[slot]
    return remember_peer(peers, slot, address, port)
