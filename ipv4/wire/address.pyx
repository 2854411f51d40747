"""IPv4 addresses: every form that a caller may give, and the forms that the library gives back."""

from cpython.bytes cimport PyBytes_AS_STRING
from cpython.long cimport PyLong_AsLongLongAndOverflow, PyLong_CheckExact
from cpython.object cimport PyObject
from cpython.ref cimport Py_INCREF, Py_XDECREF
from cpython.tuple cimport PyTuple_GET_ITEM, PyTuple_GET_SIZE
from cpython.unicode cimport PyUnicode_CheckExact
from libc.stdint cimport UINT32_MAX, int64_t, uint16_t, uint32_t, uintptr_t
from libc.string cimport memcpy, memset

from .arguments cimport as_int, shown
from ..libc.doors cimport ALONE
from ..libc.socket cimport AF_INET, htonl, htons, ntohl, ntohs, sockaddr_in
from ..libc.threads cimport Kept, Try, keep, kept, try_acquire, try_release


cdef extern from "Python.h":
    # CPython's compact ASCII strings: the bytes of an exact str, without making a copy.
    bint PyUnicode_IS_COMPACT_ASCII(object text)
    const char *PyUnicode_AsUTF8AndSize(object text, Py_ssize_t *size) except NULL
    object PyUnicode_FromObject(object text)
    object PyUnicode_New(Py_ssize_t size, unsigned int maxchar)
    unsigned char *PyUnicode_1BYTE_DATA(object text)


cdef Kept address_type  # see address_class


cdef object address_class():
    """``ipaddress.IPv4Address``; not every program meets one, and the module loads slowly."""
    cdef void *known = kept(&address_type)
    if known == NULL:
        from ipaddress import IPv4Address
        known = keep(&address_type, IPv4Address)
    return <object>known


cdef bint parse_quad(const char *text, Py_ssize_t length, uint32_t *address) noexcept nogil:
    """A strict dotted quad (no leading zeros, no blanks) into network order.

    A NUL stands behind the text, as in every str, and is no digit: reading stops there.
    """
    cdef uint32_t value = 0, octet
    cdef unsigned char digit
    cdef Py_ssize_t i = 0
    cdef int part, _
    for part in range(4):
        if part:
            if text[i] != 46:  # "."
                return False
            i += 1
        octet = <unsigned char>(text[i] - 48)
        if octet > 9:
            return False
        i += 1
        if octet:
            for _ in range(2):
                digit = <unsigned char>(text[i] - 48)
                if digit > 9:
                    break
                octet = octet * 10 + digit
                i += 1
            if octet > 255:
                return False
        value = (value << 8) | octet
    if i != length:
        return False
    address[0] = htonl(value)
    return True


# What `socket` takes for an address, and what it stands for.
cdef dict WORDS = {"": "0.0.0.0", "<broadcast>": "255.255.255.255", "<any>": "0.0.0.0"}


cdef int refuse_address(object value, str name) except -1:
    meant = WORDS.get(value) if isinstance(value, str) else None
    raise ValueError(
        f"{name}: {shown(value)} is not an IPv4 address: give "
        + (f"{meant!r} instead, or " if meant else "")
        + "a dotted quad, an ipaddress.IPv4Address, 4 bytes, or a (host, port) tuple"
        " (names are not looked up)"
    )


cdef int as_port(object value, str name) except -1:
    cdef int overflow = 0
    cdef int64_t port
    if PyLong_CheckExact(value):
        port = PyLong_AsLongLongAndOverflow(value, &overflow)
        if not overflow and 0 <= port <= 65535:
            return <int>port
    return <int>as_int(value, 0, 65535, f"{name}: port")


cdef enum:
    TEXTS = 16  # power of two

cdef struct KnownText:
    PyObject *text  # an owned reference
    uint32_t address

# Strings given lately, by a part of where they lie: to parse one takes 130 instructions, to find it
# here 20.
cdef KnownText known_texts[TEXTS]


cdef inline KnownText *known_text(object text) noexcept:
    return &known_texts[(<uintptr_t><PyObject *>text >> 4 ^ <uintptr_t><PyObject *>text >> 10)
                        & (TEXTS - 1)]


cdef int as_host(object value, uint32_t *address, str name) except -1:
    """An address without its port, into network order."""
    cdef Py_ssize_t size
    cdef const char *text
    cdef KnownText *known
    cdef PyObject *before
    if ALONE and PyUnicode_CheckExact(value):
        known = known_text(value)
        if known.text == <PyObject *>value:
            address[0] = known.address
            return 0
    if isinstance(value, str):
        if not PyUnicode_IS_COMPACT_ASCII(value):
            value = PyUnicode_FromObject(value)  # of a subclass, whose own are never compact
        if PyUnicode_IS_COMPACT_ASCII(value):
            text = PyUnicode_AsUTF8AndSize(value, &size)
            if parse_quad(text, size, address):
                if ALONE and PyUnicode_CheckExact(value):
                    known = known_text(value)
                    before = known.text
                    Py_INCREF(value)
                    known.text = <PyObject *>value
                    known.address = address[0]
                    Py_XDECREF(before)
                return 0
    elif isinstance(value, (bytes, bytearray)):
        packed = bytes(value)
        if len(packed) == 4:
            memcpy(address, PyBytes_AS_STRING(packed), 4)
            return 0
    elif isinstance(value, address_class()):
        address[0] = htonl(<uint32_t>as_int(int(value), 0, UINT32_MAX, name))
        return 0
    return refuse_address(value, name)


cdef int as_address(object value, uint32_t *address, str name) except -1:
    """Any accepted form of an address, its port (if it bears one) left aside."""
    if isinstance(value, tuple) and PyTuple_GET_SIZE(value) == 2:
        as_port(<object>PyTuple_GET_ITEM(value, 1), name)
        return as_host(<object>PyTuple_GET_ITEM(value, 0), address, name)
    return as_host(value, address, name)


cdef int as_sockaddr(object value, sockaddr_in *name_out, str name) except -1:
    """Any accepted form of an address into a sockaddr_in (port 0 where none is given)."""
    cdef uint32_t address = 0
    cdef uint16_t port = 0
    if isinstance(value, tuple):
        if PyTuple_GET_SIZE(value) != 2:
            return refuse_address(value, name)
        port = <uint16_t>as_port(<object>PyTuple_GET_ITEM(value, 1), name)
        as_host(<object>PyTuple_GET_ITEM(value, 0), &address, name)
    else:
        as_host(value, &address, name)
    memset(name_out, 0, sizeof(sockaddr_in))
    name_out.sin_family = AF_INET
    name_out.sin_port = htons(port)
    name_out.sin_addr.s_addr = address
    return 0


def bind_address(value, name):
    """An address in any accepted form as the tuple that ``socket.bind`` takes."""
    cdef sockaddr_in where
    as_sockaddr(value, &where, name)
    return peer_tuple(where.sin_addr.s_addr, where.sin_port)


cdef str address_text(uint32_t address):
    """Dotted quad of an address in network order."""
    cdef unsigned char out[16]
    cdef unsigned char *octets = <unsigned char *>&address
    cdef int i, n = 0
    cdef unsigned char o
    for i in range(4):
        o = octets[i]
        if o >= 100:
            out[n] = 48 + o // 100
            out[n + 1] = 48 + (o // 10) % 10
            n += 2
        elif o >= 10:
            out[n] = 48 + o // 10
            n += 1
        out[n] = 48 + o % 10
        out[n + 1] = 46
        n += 2
    text = PyUnicode_New(n - 1, 127)
    memcpy(PyUnicode_1BYTE_DATA(text), out, n - 1)
    return text


cdef enum:
    ADDRESSES = 64  # power of two

cdef struct KnownAddress:
    Try busy
    uint32_t address
    void *made  # an owned reference

# Addresses made lately, by a part of their bits: making one takes some 2,600 instructions, finding
# it 60. They are immutable, so anybody may hold one. Who finds a place busy makes one anew.
cdef KnownAddress known_addresses[ADDRESSES]


cdef object address_object(uint32_t address):
    """An ``ipaddress.IPv4Address`` of an address in network order."""
    cdef uint32_t slot = ((address >> 24) ^ (address >> 16)) & (ADDRESSES - 1)
    cdef KnownAddress *place = &known_addresses[slot]
    cdef object known = None
    cdef void *before
    if try_acquire(&place.busy):
        if place.address == address and place.made != NULL:
            known = <object>place.made
        try_release(&place.busy)
    if known is None:
        known = address_class()(ntohl(address))
        if try_acquire(&place.busy):
            before = place.made
            Py_INCREF(known)
            place.made = <void *>known
            place.address = address
            try_release(&place.busy)
            Py_XDECREF(<PyObject *>before)
    return known


cdef tuple peer_tuple(uint32_t address, uint16_t port):
    """``(host, port)`` as ``socket`` gives it; both arguments in network order."""
    return (address_text(address), <int>ntohs(port))


cdef tuple remember_peer(Peers *peers, unsigned int slot, uint32_t address, uint16_t port):
    cdef tuple made = peer_tuple(address, port)
    cdef void *old
    if try_acquire(&peers.busy):
        old = peers.tuples[slot]
        Py_INCREF(made)
        peers.addresses[slot] = address
        peers.ports[slot] = port
        peers.tuples[slot] = <void *>made
        try_release(&peers.busy)
        Py_XDECREF(<PyObject *>old)
    return made


cdef void forget_peers(Peers *peers) noexcept:
    cdef int i
    for i in range(PEERS):
        Py_XDECREF(<PyObject *>peers.tuples[i])
        peers.tuples[i] = NULL
