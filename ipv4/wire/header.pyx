"""The IPv4 header (RFC 791 section 3.1)."""

cimport cython
from cpython.buffer cimport Py_buffer, PyBuffer_Release
from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize
from libc.stdint cimport INT32_MAX, INT32_MIN, int32_t, uint16_t, uint32_t
from libc.string cimport memcmp, memcpy

from .address cimport address_text, as_address
from .arguments cimport ZERO, as_int, get_buffer, shown
from .checksum cimport finish_sum, sum_words
from .fields cimport ADDRESS, INTEGER, Kind, Presence, add_field
from ..libc.socket cimport htons, ntohs
from ..libc.threads cimport (
    FREE_THREADED,
    Kept,
    Section,
    begin_section,
    end_section,
    keep,
    kept,
    load_i32,
    store_i32,
)

import os
import sys

cdef Kept _flags  # the eight values of HeaderFlags, made when one is first read

cdef object VERSION = 4
cdef object LENGTH = 20

cdef enum Form:
    # How a raw socket's headers differ from the wire: the byte order of total length and
    # fragment offset, and whether the kernel takes the header's length off the total.
    WIRE = 0
    HOST_ORDER = 1
    HOST_ORDER_WITHOUT_HEADER = 2

cdef enum:
    # Which addresses a header has.
    SRC = 1
    DST = 2

FORMATS = {
    "wire": WIRE,
    "linux": WIRE,
    "openbsd": WIRE,
    "freebsd": WIRE,
    "freebsd11": WIRE,
    "freebsd10": HOST_ORDER,
    "freebsd9": HOST_ORDER_WITHOUT_HEADER,
    "darwin": HOST_ORDER_WITHOUT_HEADER,
    "dragonfly": HOST_ORDER_WITHOUT_HEADER,
    "netbsd": HOST_ORDER_WITHOUT_HEADER,
}


def system_format(platform=sys.platform, release=None):
    """Name of the form that raw sockets of a system use, a key of `FORMATS`.

    Parameters
    ----------
    platform : str
        As ``sys.platform`` gives it.
    release : str, optional
        The kernel's release, which decides on FreeBSD; this system's when not given.
    """
    name = platform.rstrip("0123456789")
    if name == "ios":
        return "darwin"
    if name == "freebsd":
        major = int((release or os.uname().release).split(".")[0])
        return "freebsd9" if major < 10 else "freebsd10" if major == 10 else "freebsd"
    return name if name in FORMATS else "wire"


cdef int _system_form = FORMATS[system_format()]


cdef int form_of(object name) except -1:
    if name is None:
        return _system_form
    form = FORMATS.get(name) if isinstance(name, str) else None
    if form is None:
        raise ValueError(f"format must be one of {', '.join(FORMATS)}, not {shown(name)}")
    return form


cdef object flags_object(int32_t value):
    """A HeaderFlags; building one costs more than parsing a whole header, so each is kept."""
    cdef void *known = kept(&_flags)
    if known == NULL or not 0 <= value <= 7:
        from ..constants import HeaderFlags

        if not 0 <= value <= 7:
            return HeaderFlags(value)
        known = keep(&_flags, tuple([HeaderFlags(each) for each in range(8)]))
    return (<tuple>known)[value]


# The header

cdef Header new_header(const unsigned char *data, size_t length):
    cdef Header header = Header.__new__(Header)
    cdef const char *wrong = header.decode(data, length, _system_form)
    if wrong != NULL:
        refuse_to_parse(wrong, data)
    return header


cdef int refuse_to_parse(const char *why, const unsigned char *data) except -1:
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
    cdef Py_buffer view
    cdef Header header = Header.__new__(Header)
    cdef const char *wrong
    get_buffer(buf, &view, False, "buf")
    wrong = header.decode(<const unsigned char *>view.buf, view.len, _system_form)
    if wrong != NULL:
        try:
            refuse_to_parse(wrong, <const unsigned char *>view.buf)
        finally:
            PyBuffer_Release(&view)
    PyBuffer_Release(&view)
    return header


# The constructor's parameters, in its order.
FIELDS = (
    "version", "len", "tos", "total_len", "id", "flags", "frag_off", "ttl", "protocol",
    "checksum", "src", "dst", "options",
)


@cython.final
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

    # Attributes that are no plain value; the others stand in the table below

    @property
    def flags(self):
        """Fragmentation flags, `HeaderFlags`."""
        return flags_object(load_i32(&self._flags))

    @flags.setter
    def flags(self, value):
        store_i32(&self._flags, <int32_t>as_int(value, INT32_MIN, INT32_MAX, "flags"))

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
            PyBuffer_Release(&view)

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
        cdef int form = _system_form if format is None else form_of(format)
        cdef const char *wrong
        get_buffer(buf, &view, False, "buf")
        begin_section(&section, self)
        wrong = self.decode(<const unsigned char *>view.buf, view.len, form)
        end_section(&section)
        if wrong != NULL:
            try:
                refuse_to_parse(wrong, <const unsigned char *>view.buf)
            finally:
                PyBuffer_Release(&view)
        PyBuffer_Release(&view)

    cdef const char *decode(self, const unsigned char *data, size_t length, int form) noexcept:
        """Read a header; what is wrong with it, or NULL. Nothing is changed when it is wrong."""
        cdef size_t header_len
        cdef uint16_t total, offset
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
        self.options_len = <uint32_t>(header_len - 20)
        if self.options_len:
            memcpy(self.short_options, data + 20, self.options_len)
        if self.long_options is not None:
            self.long_options = None
        self._version = 4
        self._len = <int32_t>header_len
        self._tos = data[1]
        self._total_len = total
        if form == HOST_ORDER_WITHOUT_HEADER:
            self._total_len += <int32_t>header_len
        self._id = (data[4] << 8) | data[5]
        self._flags = offset >> 13
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
        cdef int form = _system_form if format is None else form_of(format)
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
        cdef bytes options = self.options
        cdef size_t at = 0, size = <size_t>len(options)
        cdef const unsigned char *data = <const unsigned char *>PyBytes_AS_STRING(options)
        found = []
        while at < size and data[at] != 0:
            if data[at] == 1:
                found.append((1, b""))
                at += 1
                continue
            if at + 1 >= size:
                raise ValueError(f"option {data[at]} at offset {at} has no length octet")
            if data[at + 1] < 2 or at + data[at + 1] > size:
                raise ValueError(
                    f"option {data[at]} at offset {at} has length {data[at + 1]},"
                    f" of {size - at} bytes left"
                )
            found.append((data[at], options[at + 2:at + data[at + 1]]))
            at += data[at + 1]
        return iter(found)

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
field(INTEGER, b"total_len", &_any._total_len, 0,
      b"Length of header and payload in bytes, 0-65535.")
field(INTEGER, b"id", &_any._id, 0, b"Identification, 0-65535.")
field(INTEGER, b"frag_off", &_any._frag_off, 0, b"Fragment offset in units of 8 bytes, 0-8191.")
field(INTEGER, b"ttl", &_any._ttl, 0, b"Time to live in hops, 0-255.")
field(INTEGER, b"protocol", &_any._protocol, 0,
      b"Protocol of the payload, 0-255 (IANA's registry).")
field(INTEGER, b"checksum", &_any._checksum, 0, b"Header checksum, 0-65535.")
field(ADDRESS, b"src", &_any._src, SRC, b"Source address, or None.")
field(ADDRESS, b"dst", &_any._dst, DST, b"Destination address, or None.")
