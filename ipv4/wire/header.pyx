"""The IPv4 header (RFC 791 section 3.1)."""

cimport cython
from cpython.buffer cimport Py_buffer
from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize
from cpython.exc cimport PyErr_Occurred
from cpython.object cimport PyObject, PyObject_GenericSetAttr
from cpython.ref cimport Py_INCREF, Py_XDECREF
from libc.stdint cimport INT32_MAX, INT32_MIN, int32_t, uint16_t, uint32_t
from libc.string cimport memcmp, memcpy

from .address cimport address_text, as_address
from .arguments cimport ZERO, as_int, get_buffer
from .checksum cimport finish_sum, sum_words
from .fields cimport ADDRESS, INTEGER, Kind, Presence, add_field, expose_object
from .header_parts cimport (
    HOST_ORDER_WITHOUT_HEADER,
    WIRE,
    flags_object,
    form_of,
    split_options,
    system_form,
)
from .memory cimport Memory, look_at, unfasten
from ..libc.doors cimport Given, Maker, given_count, new_number, open_constructor
from ..libc.socket cimport htons, ntohs
from ..libc.threads cimport (
    FREE_THREADED,
    Section,
    begin_section,
    end_section,
    load_i32,
    release_view,
    store_i32,
)

cdef extern from *:
    """
    #define ipv4_show_total_len(header, value) ipv4_show(&(header)->shown_total_len, value)
    #define ipv4_show_ttl(header, value) ipv4_show(&(header)->shown_ttl, value)
    #define ipv4_show_protocol(header, value) ipv4_show(&(header)->shown_protocol, value)
    #define ipv4_total_len_of(header) (&(header)->shown_total_len)
    #define ipv4_ttl_of(header) (&(header)->shown_ttl)
    #define ipv4_protocol_of(header) (&(header)->shown_protocol)
    """
    # Each takes an owned reference over.
    void show_total_len "ipv4_show_total_len"(Header header, PyObject *value) noexcept
    void show_ttl "ipv4_show_ttl"(Header header, PyObject *value) noexcept
    void show_protocol "ipv4_show_protocol"(Header header, PyObject *value) noexcept
    void *total_len_of "ipv4_total_len_of"(Header header)
    void *ttl_of "ipv4_ttl_of"(Header header)
    void *protocol_of "ipv4_protocol_of"(Header header)

cdef object VERSION = 4
cdef object LENGTH = 20

cdef enum:
    # Which addresses a header has.
    SRC = 1
    DST = 2


cdef Header new_header(const unsigned char *data, size_t length):
    cdef Header header = Header.__new__(Header)
    cdef const char *wrong = header.decode(data, length, system_form)
    if wrong != NULL:
        refuse_to_parse(wrong, data)
    return header


cdef int refuse_to_parse(const char *why, const unsigned char *data) except -1:
    if PyErr_Occurred() != NULL:
        return -1
    text = why.decode("ascii")
    raise ValueError(f"{text}, not {data[0] >> 4}" if "version" in text else text)


def parse_header(buf):
    """A new `Header` from the first bytes of a buffer.

    Parameters
    ----------
    buf : bytes-like
        A packet as a raw socket of this system delivers it; what follows the header is ignored.

    Raises
    ------
    ValueError
        As `Header.parse`.
    """
    cdef Memory memory
    look_at(buf, &memory, False, "buf")
    try:
        return new_header(<const unsigned char *>memory.data, memory.size)
    finally:
        unfasten(&memory)


# The constructor's parameters, in its order.
FIELDS = (
    "version", "len", "tos", "total_len", "id", "flags", "frag_off", "ttl", "protocol",
    "checksum", "src", "dst", "options",
)


@cython.final
@cython.no_gc  # ints and bytes cannot form a cycle
@cython.freelist(64)
cdef class Header:
    """Header(version=4, len=20, tos=0, total_len=0, id=0, flags=0, frag_off=0, ttl=0, \
protocol=0, checksum=0, src=None, dst=None, options=b"")
--

    An IPv4 header (RFC 791 section 3.1). Every field is an attribute that can be set.

    Attributes
    ----------
    version : int
        4. Marshalling always writes 4.
    len : int
        Length of the header in bytes, options included.
    tos : int
        Type of service: DSCP in the upper six bits (RFC 2474), ECN in the lower two (RFC 3168).
    total_len : int
        Length of header and payload in bytes.
    id : int
        Identification, which ties fragments together.
    flags : HeaderFlags
        Fragmentation flags.
    frag_off : int
        Fragment offset in units of 8 bytes, the 13 bits of the field.
    ttl, protocol, checksum : int
        As in RFC 791. The checksum is written as it stands here; see `compute_checksum`.
    src, dst : ipaddress.IPv4Address or None
        Addresses; any form of an address can be assigned.
    options : bytes
        Options with their padding, a multiple of 4 and at most 40 bytes long when marshalled.

    Notes
    -----
    A field takes any 32-bit integer, so that a program can build a header in steps; whether it
    fits its bits is checked by `marshal`, which names the field that does not.
    """

    __match_args__ = FIELDS

    def __cinit__(self):
        self.shown_total_len = self.shown_ttl = self.shown_protocol = ZERO

    def __init__(self, version=4, len=20, tos=0, total_len=0, id=0, flags=0, frag_off=0, ttl=0,
                 protocol=0, checksum=0, src=None, dst=None, options=b""):
        # A default is known by its identity; the memory was zeroed, but for a second call.
        cdef Section section
        if self._version or self._len:
            begin_section(&section, self)
            self._tos = self._total_len = self._id = self._flags = self._frag_off = 0
            self._ttl = self._protocol = self._checksum = 0
            self._src = self._dst = self.options_len = self.present = 0
            self.long_options = None
            end_section(&section)
        self._version = 4
        self._len = 20
        if version is not VERSION:
            self._version = as_int(version, INT32_MIN, INT32_MAX, "version")
        if len is not LENGTH:
            self._len = as_int(len, INT32_MIN, INT32_MAX, "len")
        if tos is not ZERO:
            self._tos = as_int(tos, INT32_MIN, INT32_MAX, "tos")
        if total_len is not ZERO:
            self._total_len = as_int(total_len, INT32_MIN, INT32_MAX, "total_len")
        if id is not ZERO:
            self._id = as_int(id, INT32_MIN, INT32_MAX, "id")
        if flags is not ZERO:
            self._flags = as_int(flags, INT32_MIN, INT32_MAX, "flags")
        if frag_off is not ZERO:
            self._frag_off = as_int(frag_off, INT32_MIN, INT32_MAX, "frag_off")
        if ttl is not ZERO:
            self._ttl = as_int(ttl, INT32_MIN, INT32_MAX, "ttl")
        if protocol is not ZERO:
            self._protocol = as_int(protocol, INT32_MIN, INT32_MAX, "protocol")
        if checksum is not ZERO:
            self._checksum = as_int(checksum, INT32_MIN, INT32_MAX, "checksum")
        if src is not None:
            as_address(src, &self._src, "src")
            self.present |= SRC
        if dst is not None:
            as_address(dst, &self._dst, "dst")
            self.present |= DST
        if options is not b"":
            self.options = options
        self.show()

    cdef int show(self) except -1:
        """Bring what Python reads by its offset up to the numbers."""
        cdef PyObject *total_len = new_number(self._total_len)
        cdef PyObject *ttl = new_number(self._ttl)
        cdef PyObject *protocol = new_number(self._protocol)
        cdef Section section
        if total_len == NULL or ttl == NULL or protocol == NULL:
            Py_XDECREF(total_len)
            Py_XDECREF(ttl)
            Py_XDECREF(protocol)
            raise MemoryError()
        begin_section(&section, self)
        show_total_len(self, total_len)
        show_ttl(self, ttl)
        show_protocol(self, protocol)
        end_section(&section)
        return 0

    def __setattr__(self, name, value):
        cdef Section section
        cdef int32_t number
        if name != "ttl" and name != "protocol" and name != "total_len":
            PyObject_GenericSetAttr(self, name, value)
            return
        number = <int32_t>as_int(value, INT32_MIN, INT32_MAX, name)
        value = number  # as an exact int
        Py_INCREF(value)
        begin_section(&section, self)
        if name == "ttl":
            self._ttl = number
            show_ttl(self, <PyObject *>value)
        elif name == "protocol":
            self._protocol = number
            show_protocol(self, <PyObject *>value)
        else:
            self._total_len = number
            show_total_len(self, <PyObject *>value)
        end_section(&section)

    # Attributes that are no plain value; the others stand in the table below

    @property
    def flags(self):
        """Fragmentation flags, `HeaderFlags`."""
        return flags_object(load_i32(&self._flags))

    @flags.setter
    def flags(self, value):
        cdef Section section
        cdef int32_t flags = <int32_t>as_int(value, INT32_MIN, INT32_MAX, "flags")
        begin_section(&section, self)
        store_i32(&self._flags, flags)
        end_section(&section)

    @property
    def options(self):
        """Options as they stand in the header, padding included."""
        cdef Header still = at_once(self)
        return PyBytes_FromStringAndSize(<char *>still.options_data(), still.options_len)

    @options.setter
    def options(self, value):
        cdef Py_buffer view
        cdef Section section
        cdef bytes long_options = None
        get_buffer(value, &view, False, "options")
        try:
            if view.len > 65535:
                raise ValueError(f"options must be at most 40 bytes long, not {view.len}")
            if view.len > MAX_OPTIONS:
                long_options = PyBytes_FromStringAndSize(<char *>view.buf, view.len)
            # Memory may have been refused: until here, length and options still go together.
            begin_section(&section, self)
            if view.len <= MAX_OPTIONS:
                memcpy(self.short_options, view.buf, view.len)
            self.long_options = long_options
            self.options_len = <uint32_t>view.len
            end_section(&section)
        finally:
            release_view(&view)

    cdef const unsigned char *options_data(self) noexcept:
        if self.long_options is not None:
            return <const unsigned char *>PyBytes_AS_STRING(self.long_options)
        return self.short_options

    # Bytes

    def parse(self, buf, format=None):
        """Read the header at the start of a buffer into this object.

        Parameters
        ----------
        buf : bytes-like
            The packet; what follows the header is ignored.
        format : str, optional
            Whose form the bytes have: ``"wire"``, or that of a system's raw sockets (``"linux"``,
            ``"darwin"``, ``"dragonfly"``, ``"netbsd"``, ``"freebsd9"``, ``"freebsd10"``,
            ``"freebsd"``, ``"openbsd"``). This system's by default.

        Raises
        ------
        ValueError
            "header too short" for fewer than 20 bytes or an IHL below 5, "extension header too
            short" for an IHL beyond the buffer, and for a version other than 4. The object is
            then unchanged.

        Notes
        -----
        Neither the checksum nor the total length is verified: a quoted or captured header is
        often cut, or had its checksum left to the hardware. Compare `compute_checksum`.
        """
        cdef Py_buffer view
        cdef Section section
        cdef int form = system_form if format is None else form_of(format)
        cdef const char *wrong
        get_buffer(buf, &view, False, "buf")
        begin_section(&section, self)
        wrong = self.decode(<const unsigned char *>view.buf, view.len, form)
        end_section(&section)
        if wrong != NULL:
            try:
                refuse_to_parse(wrong, <const unsigned char *>view.buf)
            finally:
                release_view(&view)
        release_view(&view)

    cdef const char *decode(self, const unsigned char *data, size_t length, int form) noexcept:
        """Read a header; what is wrong with it, or NULL. Nothing is changed when it is wrong."""
        cdef size_t header_len
        cdef uint16_t total, offset
        cdef int32_t total_len
        cdef PyObject *total_shown
        if length < 20:
            return b"header too short"
        header_len = (data[0] & 0x0F) << 2
        if header_len < 20:
            return b"header too short"
        if header_len > length:
            return b"extension header too short"
        if data[0] >> 4 != 4:
            return b"version must be 4"
        memcpy(&total, data + 2, 2)
        memcpy(&offset, data + 6, 2)
        if form == WIRE:
            total = ntohs(total)
            offset = ntohs(offset)
        total_len = total
        if form == HOST_ORDER_WITHOUT_HEADER:
            total_len += <int32_t>header_len
        total_shown = new_number(total_len)
        if total_shown == NULL:
            return b"no memory"
        show_total_len(self, total_shown)
        show_ttl(self, new_number(data[8]))
        show_protocol(self, new_number(data[9]))
        self.options_len = <uint32_t>(header_len - 20)
        if self.options_len:
            memcpy(self.short_options, data + 20, self.options_len)
        if self.long_options is not None:
            self.long_options = None
        self._version = 4
        self._len = <int32_t>header_len
        self._tos = data[1]
        self._total_len = total_len
        self._id = (data[4] << 8) | data[5]
        store_i32(&self._flags, offset >> 13)
        self._frag_off = offset & 0x1FFF
        self._ttl = data[8]
        self._protocol = data[9]
        self._checksum = (data[10] << 8) | data[11]
        memcpy(&self._src, data + 12, 4)
        memcpy(&self._dst, data + 16, 4)
        self.present = SRC | DST
        return NULL

    def marshal(self, format=None):
        """The header as bytes.

        Parameters
        ----------
        format : str, optional
            As in `parse`.

        Returns
        -------
        bytes
            20 bytes and the options. Version is always 4, IHL follows the options.

        Raises
        ------
        ValueError
            If `len` is below 20, `dst` is missing, the options are not a multiple of 4 or longer
            than 40, or a field does not fit its bits; the message names the field.
        """
        cdef int form = system_form if format is None else form_of(format)
        cdef Header still = at_once(self)
        out = PyBytes_FromStringAndSize(NULL, still.encoded_length())
        still.encode(<unsigned char *>PyBytes_AS_STRING(out), form)
        return out

    cdef int encoded_length(self) except -1:
        """Length of the marshalled header, after every check that encoding needs."""
        if (
            (self._tos | self._ttl | self._protocol) & ~0xFF
            or (self._total_len | self._id | self._checksum) & ~0xFFFF
            or self._frag_off & ~0x1FFF
            or self._flags & ~7
            or self._len < 20
            or not self.present & DST
            or self.options_len & ~0x3C
            or self.options_len > MAX_OPTIONS
        ):
            self.refuse_to_encode()
        return 20 + <int>self.options_len

    cdef int refuse_to_encode(self) except -1:
        if self._len < 20:
            raise ValueError(f"header too short: len must be at least 20, not {self._len}")
        for name, value, limit in (
            ("tos", self._tos, 0xFF),
            ("total_len", self._total_len, 0xFFFF),
            ("id", self._id, 0xFFFF),
            ("flags", self._flags, 7),
            ("frag_off", self._frag_off, 0x1FFF),
            ("ttl", self._ttl, 0xFF),
            ("protocol", self._protocol, 0xFF),
            ("checksum", self._checksum, 0xFFFF),
        ):
            if not 0 <= value <= limit:
                raise ValueError(f"{name} must be in 0..{limit}, not {value}")
        if self.options_len > MAX_OPTIONS:
            raise ValueError(f"options must be at most 40 bytes long, not {self.options_len}")
        if self.options_len & 3:
            raise ValueError(
                f"options must be a multiple of 4 bytes long, not {self.options_len}"
            )
        raise ValueError("missing address: dst must be set")

    cdef void encode(self, unsigned char *out, int form) noexcept:
        """Write the header; encoded_length() was called and out has that much room."""
        cdef uint16_t total = <uint16_t>self._total_len
        cdef uint16_t offset = <uint16_t>(self._flags << 13 | self._frag_off)
        if form == WIRE:
            total = htons(total)
            offset = htons(offset)
        out[0] = 0x40 | <unsigned char>((20 + self.options_len) >> 2)
        out[1] = <unsigned char>self._tos
        memcpy(out + 2, &total, 2)
        out[4] = <unsigned char>(self._id >> 8)
        out[5] = <unsigned char>self._id
        memcpy(out + 6, &offset, 2)
        out[8] = <unsigned char>self._ttl
        out[9] = <unsigned char>self._protocol
        out[10] = <unsigned char>(self._checksum >> 8)
        out[11] = <unsigned char>self._checksum
        memcpy(out + 12, &self._src, 4)
        memcpy(out + 16, &self._dst, 4)
        if self.options_len:
            memcpy(out + 20, self.options_data(), self.options_len)

    def __bytes__(self):
        return self.marshal()

    def compute_checksum(self):
        """The checksum that this header has on the wire (RFC 791 section 3.1).

        Returns
        -------
        int
            What `checksum` must hold; the attribute itself is left as it is, so that comparing
            the two verifies a received header.

        Raises
        ------
        ValueError
            As `marshal`.
        """
        cdef unsigned char out[MAX_HEADER]
        cdef Header still = at_once(self)
        cdef int length = still.encoded_length()
        still.encode(out, WIRE)
        out[10] = out[11] = 0
        return <int>(~finish_sum(sum_words(out, length)) & 0xFFFF)

    def iter_options(self):
        """The options one by one (RFC 791 section 3.1).

        Yields
        ------
        type : int
            The option's first octet: copied flag, class and number.
        data : bytes
            What follows its length octet; empty for No Operation (1), which has none.

        Raises
        ------
        ValueError
            At the call, if a length octet is missing, below 2, or runs past the options.

        Notes
        -----
        End of Option List (0) ends the iteration and is not given itself.
        """
        return iter(split_options(self.options))

    # Python's manners

    def __eq__(self, other):
        if not isinstance(other, Header):
            return NotImplemented
        cdef Header one = at_once(self)
        cdef Header o = at_once(<Header>other)
        return (
            one._version == o._version
            and one._len == o._len
            and one._tos == o._tos
            and one._total_len == o._total_len
            and one._id == o._id
            and one._flags == o._flags
            and one._frag_off == o._frag_off
            and one._ttl == o._ttl
            and one._protocol == o._protocol
            and one._checksum == o._checksum
            and one.present == o.present
            and one._src == o._src
            and one._dst == o._dst
            and one.options_len == o.options_len
            and memcmp(one.options_data(), o.options_data(), one.options_len) == 0
        )

    __hash__ = None

    def __reduce__(self):
        cdef Header still = at_once(self)
        return Header, (
            still._version, still._len, still._tos, still._total_len, still._id, int(still._flags),
            still._frag_off, still._ttl, still._protocol, still._checksum,
            address_text(still._src) if still.present & SRC else None,
            address_text(still._dst) if still.present & DST else None,
            still.options,
        )

    def __replace__(self, **changes):
        """A copy with other values for some fields (``copy.replace``)."""
        for name in changes:
            if name not in FIELDS:
                raise TypeError(f"Header has no field {name!r} to replace")
        return Header(**(dict(zip(FIELDS, self.__reduce__()[1])) | changes))

    def __repr__(self):
        cdef Header still = at_once(self)
        return (
            f"Header(version={still._version}, len={still._len}, tos={still._tos:#x},"
            f" total_len={still._total_len}, id={still._id:#x}, flags={still._flags},"
            f" frag_off={still._frag_off}, ttl={still._ttl}, protocol={still._protocol},"
            f" checksum={still._checksum:#x},"
            f" src={address_text(still._src) if still.present & SRC else None!r},"
            f" dst={address_text(still._dst) if still.present & DST else None!r},"
            f" options={still.options!r})"
        )

    def __str__(self):
        cdef Header still = at_once(self)
        return (
            f"ver={still._version} hdrlen={still._len} tos={still._tos:#x}"
            f" totallen={still._total_len} id={still._id:#x} flags={still._flags:#x}"
            f" fragoff={still._frag_off:#x} ttl={still._ttl} proto={still._protocol}"
            f" cksum={still._checksum:#x}"
            f" src={address_text(still._src) if still.present & SRC else '<nil>'}"
            f" dst={address_text(still._dst) if still.present & DST else '<nil>'}"
        )


cdef Header at_once(Header header):
    """The header as it is at one moment: where no GIL keeps other threads off, a copy."""
    cdef Section section
    cdef Header copy
    if not FREE_THREADED:
        return header
    copy = Header.__new__(Header)
    begin_section(&section, header)
    copy._version = header._version
    copy._len = header._len
    copy._tos = header._tos
    copy._total_len = header._total_len
    copy._id = header._id
    copy._flags = header._flags
    copy._frag_off = header._frag_off
    copy._ttl = header._ttl
    copy._protocol = header._protocol
    copy._checksum = header._checksum
    copy._src = header._src
    copy._dst = header._dst
    copy.present = header.present
    copy.options_len = header.options_len
    copy.long_options = header.long_options
    memcpy(copy.short_options, header.short_options, sizeof(header.short_options))
    end_section(&section)
    return copy


cdef Header _any = Header.__new__(Header)


cdef int field(Kind kind, const char *name, const void *place, uint32_t bit,
               const char *doc) except -1:
    cdef Presence noted
    noted.present = &_any.present
    noted.received = NULL
    return add_field(_any, kind, name, place, &noted, bit, False, doc)


field(INTEGER, b"version", &_any._version, 0, b"Protocol version, 4.")
field(INTEGER, b"len", &_any._len, 0, b"Length of the header in bytes.")
field(INTEGER, b"tos", &_any._tos, 0, b"Type of service, 0-255.")
expose_object(_any, b"total_len", total_len_of(_any),
              b"Length of header and payload in bytes, 0-65535.")
field(INTEGER, b"id", &_any._id, 0, b"Identification, 0-65535.")
field(INTEGER, b"frag_off", &_any._frag_off, 0, b"Fragment offset in units of 8 bytes, 0-8191.")
expose_object(_any, b"ttl", ttl_of(_any), b"Time to live in hops, 0-255.")
expose_object(_any, b"protocol", protocol_of(_any),
              b"Protocol of the payload, 0-255 (IANA's registry).")
field(INTEGER, b"checksum", &_any._checksum, 0, b"Header checksum, 0-65535.")
field(ADDRESS, b"src", &_any._src, SRC, b"Source address, or None.")
field(ADDRESS, b"dst", &_any._dst, DST, b"Destination address, or None.")


# Calls of the class come in by a door too: saves 800 of the 5,040 instructions of a raw pair, in
# which one header is made.

cdef Maker make_behind
cdef tuple _fields = FIELDS

cdef extern from "Python.h":
    # As above, of what the caller counts: nothing here runs code of Python's.
    bint is_int "PyLong_CheckExact"(PyObject *value) noexcept
    long as_long "PyLong_AsLongAndOverflow"(PyObject *value, int *overflow) noexcept
    PyObject *item_of "PyTuple_GET_ITEM"(PyObject *all, Py_ssize_t at) noexcept
    Py_ssize_t length_of "PyTuple_GET_SIZE"(PyObject *all) noexcept
    PyObject *counted "Py_NewRef"(PyObject *value) noexcept

cdef enum:
    # Of FIELDS by their place. The first ten are numbers, which lie in this order in a header.
    FIELD_TOTAL_LEN = 3
    FIELD_TTL = 7
    FIELD_PROTOCOL = 8
    FIELD_SRC = 10
    FIELD_DST = 11
    FIELD_COUNT = 13


cdef object make_door(object cls, Given given, size_t count, PyObject *names):
    """`Header` of integers and addresses by their names; all else as Cython has it."""
    cdef Header header
    cdef PyObject *fields = <PyObject *>_fields
    cdef Py_ssize_t i, at = 0, tried
    cdef PyObject *value
    cdef long number
    cdef int overflow = 0
    if names == NULL or given_count(count):
        return make_behind(cls, given, count, names)
    header = Header.__new__(Header)
    header._version = 4
    header._len = 20
    for i in range(length_of(names)):
        value = given[i]
        tried = 0
        while item_of(fields, at) != item_of(names, i):  # the next one, mostly
            at = at + 1 if at + 1 < FIELD_COUNT else 0
            tried += 1
            if tried == FIELD_COUNT:
                return make_behind(cls, given, count, names)
        if at < FIELD_SRC and is_int(value):
            number = as_long(value, &overflow)
            if overflow or not INT32_MIN <= number <= INT32_MAX:
                return make_behind(cls, given, count, names)
            (&header._version)[at] = <int32_t>number
            if at == FIELD_TOTAL_LEN:
                show_total_len(header, counted(value))
            elif at == FIELD_TTL:
                show_ttl(header, counted(value))
            elif at == FIELD_PROTOCOL:
                show_protocol(header, counted(value))
        elif at == FIELD_SRC and value != <PyObject *>None:
            as_address(<object>value, &header._src, "src")
            header.present |= SRC
        elif at == FIELD_DST and value != <PyObject *>None:
            as_address(<object>value, &header._dst, "dst")
            header.present |= DST
        elif at != FIELD_SRC and at != FIELD_DST:
            return make_behind(cls, given, count, names)
    return header


open_constructor(Header, <Maker>make_door, &make_behind)
