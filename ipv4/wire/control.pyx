"""What a packet tells beside its payload, and what it can be told: `ControlMessage`."""

cimport cython
from cpython.buffer cimport Py_buffer
from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize
from cpython.long cimport PyLong_AsLong
from cpython.object cimport PyObject, PyObject_GenericSetAttr
from cpython.ref cimport Py_DECREF, Py_XDECREF
from libc.stdint cimport INT32_MAX, UINT32_MAX, int32_t, uint16_t, uint32_t
from libc.string cimport memset, strcmp

from .address cimport address_text
from .arguments cimport ZERO, as_int, get_buffer, shown
from .cmsg cimport (
    DST,
    EXTRA,
    HERE,
    INTERFACE,
    NUMBER_ROWS,
    OPTIONS,
    ORIGINAL_DST,
    SEGMENT_SIZE,
    SEND_ROOM,
    SENT,
    SPEC_DST,
    SRC,
    System,
    TTL,
    Told,
    Walk,
    Written,
    copy_unknown,
    is_usual,
    number_rows,
    packed,
    put_by,
    put_route_by,
    read_told,
    refuse_control,
    same_numbers,
    step,
    take_numbers,
    unpacked,
    walk_over,
    write_number,
)
from .fields cimport (
    ADDRESS,
    ENDPOINT,
    Kind,
    LONG,
    OCTET,
    OPTIONS_BYTES,
    Presence,
    SHORT,
    WORD,
    add_field,
    expose_object,
)
from ..libc.doors cimport as_number
from ..libc.socket cimport CMSG_SPACE, IPPROTO_IP, ntohl
from ..libc.threads cimport FREE_THREADED, Section, begin_section, end_section, release_view

cdef extern from *:
    """
    #define ipv4_put_ttl(cm, value) ipv4_show(&(cm)->_ttl, Py_NewRef(value))
    #define ipv4_put_ifindex(cm, value) ipv4_show(&(cm)->_ifindex, Py_NewRef(value))

    /* Where a message holds them. */
    #define ipv4_ttl_of(cm) (&(cm)->_ttl)
    #define ipv4_ifindex_of(cm) (&(cm)->_ifindex)
    #define ipv4_options_of(cm) (&(cm)->_options)
    #define ipv4_send_options_of(cm) (&(cm)->_send_options)
    """
    void put_ttl "ipv4_put_ttl"(ControlMessage cm, object value) noexcept
    void put_ifindex "ipv4_put_ifindex"(ControlMessage cm, object value) noexcept
    void *ttl_of "ipv4_ttl_of"(ControlMessage cm)
    void *ifindex_of "ipv4_ifindex_of"(ControlMessage cm)
    void *options_of "ipv4_options_of"(ControlMessage cm)
    void *send_options_of "ipv4_send_options_of"(ControlMessage cm)

cdef ControlMessage control_from_kernel(const unsigned char *data, size_t length, uint32_t peer,
                                        PyObject *spare):
    """A message of control bytes that the kernel delivered, from `peer` (0 for none).

    `spare` is one that nobody has any more, an owned reference, or NULL.

    A malformed message, which no kernel makes, ends the reading: the datagram that it came with
    is not lost for it.
    """
    cdef ControlMessage cm
    cdef Told told
    cdef size_t read
    if spare != NULL and is_bare(<ControlMessage>spare):
        cm = <ControlMessage>spare
        cm.from_kernel = 0
        Py_DECREF(cm)
    else:
        Py_XDECREF(spare)
        cm = ControlMessage.__new__(ControlMessage)
    memset(&told, 0, sizeof(told))
    read = length if is_usual(data, length, &told) else read_told(data, length, &told)
    if told.present & ~<uint32_t>(TTL | INTERFACE | DST | SPEC_DST) or told.unknown_space:
        cm.take(&told, data, read, True)
    else:  # `take`, of what nearly every packet tells
        cm._ttl = as_number(told.ttl)
        cm._ifindex = as_number(told.ifindex)
        cm._dst = told.dst
        cm._spec_dst = told.spec_dst
        cm.present = told.present & (DST | SPEC_DST)
    cm._src = peer
    cm.present |= SRC
    cm.from_kernel |= SRC
    return cm


cdef inline bint is_bare(ControlMessage cm) noexcept:
    """Whether a message holds nothing but what nearly every packet tells."""
    return (
        cm.present & ~<uint32_t>(DST | SPEC_DST | SRC) == 0
        and cm._options is None and cm._send_options is None and cm._extra is None
    )


cdef ControlMessage control_of_report(const unsigned char *data, size_t length, Told *told):
    """What came with an entry of the error queue, beside the entry itself, which `told` has."""
    cdef ControlMessage cm = ControlMessage.__new__(ControlMessage)
    cdef size_t read = read_told(data, length, told)
    if read < length:
        refuse_control(data, length, read)
    cm.take(told, data, read, False)
    return cm


# The constructor's parameters, in its order.
ATTRIBUTES = (
    "ttl", "src", "dst", "ifindex", "tos", "spec_dst", "timestamp", "drops", "original_dst",
    "options", "segment_size", "send_ttl", "send_tos", "send_options", "extra",
)


@cython.final
@cython.no_gc  # ints and bytes cannot form a cycle
@cython.freelist(256)
cdef class ControlMessage:
    """ControlMessage(ttl=0, src=None, dst=None, ifindex=0, *, tos=None, spec_dst=None, \
timestamp=None, drops=None, original_dst=None, options=None, segment_size=None, send_ttl=None, \
send_tos=None, send_options=None, extra=())
--

    What a packet told on arrival, or what a packet to be sent is told (ip(7), udp(7)).

    Attributes
    ----------
    ttl : int
        Received TTL; 0 when none came. Not sent: see `send_ttl`.
    src : ipaddress.IPv4Address or None
        Of a received packet its sender. Given to a write: the source address to send from. What
        a receive filled in is not sent; what a program assigns is.
    dst : ipaddress.IPv4Address or None
        Destination in the received packet's header: ours, a group's, or a broadcast address.
    ifindex : int
        Interface that the packet came by, or shall leave by; 0 when none. An `Interface` can be
        assigned as well.
    tos, ecn : int or None
        Received type of service, and its low two bits (RFC 3168). Not sent: see `send_tos`.
    spec_dst : ipaddress.IPv4Address or None
        The local address that the packet was for, right also for groups and broadcasts.
    timestamp : int or None
        Nanoseconds of the realtime clock at which the packet arrived.
    drops : int or None
        Datagrams that the socket lost so far because its queue was full; the kernel tells it
        only once there were some.
    original_dst : tuple of (str, int) or None
        Destination before a transparent proxy's redirection.
    options : bytes or None
        IP options of the received packet.
    segment_size : int or None
        Received: several datagrams of this size came as one buffer (UDP_GRO). Given to a write:
        the payload leaves as datagrams of this size (UDP_SEGMENT).
    send_ttl, send_tos : int or None
        TTL (1-255) and type of service (0-255) of this packet alone.
    send_options : bytes or None
        IP options of this packet alone, at most 40 bytes.
    extra : tuple of (int, int, bytes)
        Level, type and data of control messages that have no attribute here, both ways; what a
        receive filled in is not sent.
    """

    __match_args__ = ATTRIBUTES

    def __cinit__(self):
        self._ttl = self._ifindex = ZERO

    def __init__(self, ttl=0, src=None, dst=None, ifindex=0, *, tos=None, spec_dst=None,
                 timestamp=None, drops=None, original_dst=None, options=None, segment_size=None,
                 send_ttl=None, send_tos=None, send_options=None, extra=()):
        self.ttl = ttl
        self.ifindex = ifindex
        self.src = src
        self.dst = dst
        if tos is not None:
            self.tos = tos
        if spec_dst is not None:
            self.spec_dst = spec_dst
        if timestamp is not None:
            self.timestamp = timestamp
        if drops is not None:
            self.drops = drops
        if original_dst is not None:
            self.original_dst = original_dst
        if options is not None:
            self.options = options
        if segment_size is not None:
            self.segment_size = segment_size
        if send_ttl is not None:
            self.send_ttl = send_ttl
        if send_tos is not None:
            self.send_tos = send_tos
        if send_options is not None:
            self.send_options = send_options
        if extra:
            self.extra = extra

    def __setattr__(self, name, value):
        cdef Section section
        if name == "ttl":
            value = as_int(value, 0, 255, "ttl")
            begin_section(&section, self)
            put_ttl(self, value)
            end_section(&section)
        elif name == "ifindex":
            # An (index, name) pair, as the library gives interfaces.
            if isinstance(value, tuple) and len(value) == 2 and isinstance(value[1], str):
                value = value[0]
            value = as_int(value, 0, INT32_MAX, "ifindex")
            begin_section(&section, self)
            put_ifindex(self, value)
            end_section(&section)
        else:
            PyObject_GenericSetAttr(self, name, value)

    @property
    def ecn(self):
        """Explicit Congestion Notification bits of `tos` (RFC 3168), 0-3, or None."""
        tos = self.tos
        return None if tos is None else <int>tos & 3

    @property
    def extra(self):
        """``(level, type, data)`` of each control message that has no attribute here."""
        cdef Section section
        cdef bytes messages
        begin_section(&section, self)
        messages = self._extra
        end_section(&section)
        return unpacked(messages)

    @extra.setter
    def extra(self, value):
        cdef Section section
        cdef bytes messages = packed(value)
        begin_section(&section, self)
        self._extra = messages
        self.present &= ~<uint32_t>EXTRA
        self.from_kernel &= ~<uint32_t>EXTRA
        if messages is not None:
            self.present |= EXTRA
        end_section(&section)

    def reply(self, interface=None):
        """The control message that answers from the address that was asked.

        Parameters
        ----------
        interface : bool, optional
            Whether the answer is tied to the interface that the request came by. By default it
            is when the request went to a group or a broadcast address, or came from a link-local
            sender (169.254.0.0/16, RFC 3927). An answer to a unicast request goes by the routes:
            tied to an interface it would be lost, without an error, when the sender is another
            address of this host.

        Returns
        -------
        ControlMessage
            Its `src` is the local address that the packet was for: `spec_dst`, which is never a
            group or a broadcast address. Where only `dst` is known (the datagram came before
            ``set_control_message``) and it is unicast, that is the source.

        Raises
        ------
        TypeError
            If `interface` is neither None nor a bool.

        Notes
        -----
        For a packet to a group or a broadcast the kernel gives as `spec_dst` the address that
        its route to the sender has, which is the arrival interface's own where that route leads
        back through it (ip(7), IP_PKTINFO).
        """
        cdef ControlMessage answer = ControlMessage.__new__(ControlMessage)
        cdef ControlMessage asked = at_once(self)
        cdef uint32_t source = 0
        cdef bint tied
        if interface is not None and not isinstance(interface, bool):
            raise TypeError(f"interface must be None, True or False, not {shown(interface)}")
        tied = answers_to(
            asked._src if asked.present & SRC else 0, asked._dst if asked.present & DST else 0,
            asked._spec_dst if asked.present & SPEC_DST else 0, &source)
        if interface is not None:
            tied = interface
        if tied:
            answer._ifindex = asked._ifindex
        if source:
            answer._src = source
            answer.present = SRC
        return answer

    # Bytes

    def marshal(self):
        """The control bytes that a write of this message sends.

        Returns
        -------
        bytes
            One IP_PKTINFO message when `src` is set or `ifindex` is above 0, and one for each
            of `send_ttl`, `send_tos`, `send_options`, `segment_size` and `extra` that is set;
            ``b""`` when none is. What a receive filled in (`ttl`, `dst`, the sender in `src`, …)
            is not sent.
        """
        cdef unsigned char stack[SEND_ROOM]
        cdef bytes heap
        cdef ControlMessage still = at_once(self)
        if still.encoding_room() <= SEND_ROOM:
            return PyBytes_FromStringAndSize(<char *>stack, still.encode(stack, True))
        heap = PyBytes_FromStringAndSize(NULL, still.encoding_room())
        return heap[:still.encode(<unsigned char *>PyBytes_AS_STRING(heap), True)]

    def parse(self, buf):
        """Read control bytes, as a system call delivered them, into this object.

        Parameters
        ----------
        buf : bytes-like
            Any number of control messages. Fewer bytes than a header at the end are ignored.

        Raises
        ------
        ValueError
            If a control message is shorter than its header or runs past the buffer. The object
            is then unchanged. Attributes whose message does not appear keep their value.
        """
        cdef Py_buffer view
        cdef Told told
        cdef Section section
        cdef size_t read
        get_buffer(buf, &view, False, "buf")
        memset(&told, 0, sizeof(told))
        try:
            read = read_told(view.buf, view.len, &told)
            if read < <size_t>view.len:
                refuse_control(<const unsigned char *>view.buf, view.len, read)
            begin_section(&section, self)
            try:
                self.take(&told, view.buf, read, True)
            finally:
                end_section(&section)
        finally:
            release_view(&view)

    cdef int take(self, const Told *told, const void *data, size_t length,
                  bint errors) except -1:
        """Take over what `read_told` read; what can fail (memory) comes before any change.

        `errors` says whether entries of the error queue are kept in `extra`.
        """
        cdef uint32_t present = told.present
        if present & OPTIONS or told.unknown_space:
            present |= self.take_rare(told, data, length, errors)
        if present & TTL:
            if FREE_THREADED:
                put_ttl(self, told.ttl)
            else:
                self._ttl = told.ttl
        if FREE_THREADED and present & INTERFACE:
            put_ifindex(self, told.ifindex)
        if present & (INTERFACE | DST | SPEC_DST) == INTERFACE | DST | SPEC_DST:
            if not FREE_THREADED:
                self._ifindex = told.ifindex
            self._dst = told.dst
            self._spec_dst = told.spec_dst
        else:  # on systems that tell them one by one
            if not FREE_THREADED and present & INTERFACE:
                self._ifindex = told.ifindex
            if present & DST:
                self._dst = told.dst
        if present & ~(TTL | INTERFACE | DST | SPEC_DST):
            take_numbers(&self.numbers, told)
            if present & ORIGINAL_DST:
                self._original_addr = told.original_addr
                self._original_port = told.original_port
            self.from_kernel |= present & (SEGMENT_SIZE | EXTRA)
        # The two that are 0 when absent have no bit, so that messages can be compared.
        self.present |= present & ~(TTL | INTERFACE | OPTIONS)
        return 0

    cdef int take_rare(self, const Told *told, const void *data, size_t length,
                       bint errors) except -1:
        """The part of `take` that needs memory; returns the bit of what it kept, if any."""
        cdef bytes options = self._options, extra
        cdef size_t unknown = told.unknown_space
        if told.present & OPTIONS:
            options = PyBytes_FromStringAndSize(<const char *>told.options, told.options_size)
        if told.error != NULL and not errors:
            unknown -= CMSG_SPACE(told.error_size)
        if not unknown:
            self._options = options
            return 0
        extra = copy_unknown(data, length, unknown, errors)
        self._options = options
        self._extra = extra
        return EXTRA

    cdef int32_t segment_to_send(self) noexcept:
        """Segment size that a program asked for, 0 when none (a received one does not count)."""
        return self.numbers.segment_size if self.to_send() & SEGMENT_SIZE else 0

    cdef uint32_t to_send(self) noexcept:
        """Which attributes a write sends."""
        return self.present & ~self.from_kernel

    cdef size_t encoding_room(self) noexcept:
        """Bytes that `encode` needs at the most."""
        if self.to_send() & EXTRA:
            return SEND_ROOM + <size_t>len(self._extra)
        return SEND_ROOM

    cdef size_t encode(self, unsigned char *out, bint segmented) noexcept:
        """Write what a send is told, into `encoding_room` bytes; returns how many it took."""
        return encode_by(&HERE, self, out, segmented)

    # Python's manners

    def __eq__(self, other):
        if not isinstance(other, ControlMessage):
            return NotImplemented
        cdef ControlMessage one = at_once(self)
        cdef ControlMessage o = at_once(<ControlMessage>other)
        # What is absent is 0 or None, so values alone decide.
        return (
            one.present == o.present
            and one._ttl == o._ttl
            and one._ifindex == o._ifindex
            and (one._src, one._dst, one._spec_dst, one._original_addr, one._original_port)
            == (o._src, o._dst, o._spec_dst, o._original_addr, o._original_port)
            and same_numbers(&one.numbers, &o.numbers)
            and (one._options, one._send_options, one._extra)
            == (o._options, o._send_options, o._extra)
        )

    __hash__ = None

    def __reduce__(self):
        cdef ControlMessage still = at_once(self)
        values = {name: getattr(still, name) for name in ATTRIBUTES}
        return rebuild, (values, still.from_kernel)

    def __replace__(self, **changes):
        """A copy with other values for some attributes (``copy.replace``)."""
        values, from_kernel = self.__reduce__()[1]
        cdef ControlMessage copy = rebuild(values, from_kernel)
        for name, value in changes.items():
            if name not in ATTRIBUTES:
                raise TypeError(f"ControlMessage has no field {name!r} to replace")
            setattr(copy, name, value)
        return copy

    def __repr__(self):
        cdef ControlMessage still = at_once(self)
        parts = []
        for name in ATTRIBUTES:
            value = getattr(still, name)
            if name in ("src", "dst", "spec_dst") and value is not None:
                value = str(value)
            if name in ("ttl", "ifindex") or value is not None and value != ():
                parts.append(f"{name}={value!r}")
        return f"ControlMessage({', '.join(parts)})"

    def __str__(self):
        cdef ControlMessage still = at_once(self)
        return (
            f"ttl={still._ttl}"
            f" src={address_text(still._src) if still.present & SRC else '<nil>'}"
            f" dst={address_text(still._dst) if still.present & DST else '<nil>'}"
            f" ifindex={still._ifindex}"
        )


cdef ControlMessage at_once(ControlMessage cm):
    """The message as it is at one moment: where no GIL keeps other threads off, a copy."""
    cdef Section section
    cdef ControlMessage copy
    if not FREE_THREADED:
        return cm
    copy = ControlMessage.__new__(ControlMessage)
    begin_section(&section, cm)
    copy.present = cm.present
    copy.from_kernel = cm.from_kernel
    copy._ttl = cm._ttl
    copy._ifindex = cm._ifindex
    copy._src = cm._src
    copy._dst = cm._dst
    copy._spec_dst = cm._spec_dst
    copy._original_addr = cm._original_addr
    copy._original_port = cm._original_port
    copy.numbers = cm.numbers
    copy._options = cm._options
    copy._send_options = cm._send_options
    copy._extra = cm._extra
    end_section(&section)
    return copy


cdef inline size_t encode_by(const System *by, ControlMessage cm, unsigned char *out,
                             bint segmented) noexcept:
    """The bytes of `encode` as a system has them."""
    cdef int ifindex = <int>PyLong_AsLong(cm._ifindex)
    cdef uint32_t sent = cm.present & ~cm.from_kernel
    cdef uint32_t numbers = sent & SENT
    cdef Walk walk
    cdef Written number
    cdef size_t at = 0
    if ifindex > 0 or sent & SRC:
        at += put_route_by(by, out + at, ifindex, sent & SRC, cm._src)
    while numbers:
        write_number(by, &cm.numbers, numbers & (0 - numbers), &number)
        at += put_by(by, out + at, number.level, number.type, number.data, number.size)
        numbers &= numbers - 1
    if segmented and sent & SEGMENT_SIZE:
        at += put_by(by, out + at, by.level_udp, by.send_segments, &cm.numbers.segment_size,
                     sizeof(uint16_t))
    if cm._send_options is not None:
        at += put_by(by, out + at, IPPROTO_IP, by.send_options,
                     PyBytes_AS_STRING(cm._send_options), len(cm._send_options))
    if sent & EXTRA:
        walk_over(&walk, PyBytes_AS_STRING(cm._extra), len(cm._extra))
        while step(&walk) > 0:
            at += put_by(by, out + at, walk.level, walk.type, walk.body, walk.size)
    return at


cdef size_t encode_for(const System *by, ControlMessage cm, unsigned char *out) noexcept:
    """`encode_by` for another system."""
    return encode_by(by, cm, out, True)


cdef ControlMessage _any = ControlMessage.__new__(ControlMessage)


cdef int field(Kind kind, const char *name, const void *place, uint32_t bit, const char *doc,
               bint is_none_at_0=False) except -1:
    cdef Presence noted
    noted.present = &_any.present
    noted.received = &_any.from_kernel
    return add_field(_any, kind, name, place, &noted, bit, is_none_at_0, doc)


cdef int number(const char *name, const char *doc, bint is_none_at_0=False) except -1:
    """`field` for an attribute that has a row in numbers.h."""
    cdef size_t i
    cdef Kind kind
    for i in range(NUMBER_ROWS):
        if strcmp(number_rows[i].name, name) == 0:
            kind = {1: OCTET, 2: SHORT, 4: WORD, 8: LONG}[number_rows[i].size]
            return field(kind, name, <char *>&_any.numbers + number_rows[i].at,
                         number_rows[i].bit, doc, is_none_at_0)
    raise AssertionError(f"numbers.h has no row for {name.decode()}")


expose_object(_any, b"ttl", ttl_of(_any), b"Received TTL, 0-255; 0 when none came.")
expose_object(_any, b"ifindex", ifindex_of(_any), b"Index of the interface, 0 when none.")
field(ADDRESS, b"src", &_any._src, SRC, b"The sender, or the source address to send from.")
field(ADDRESS, b"dst", &_any._dst, DST, b"Destination in the received packet's header.")
number(b"tos", b"Received type of service, 0-255, or None.")
field(ADDRESS, b"spec_dst", &_any._spec_dst, SPEC_DST,
      b"The local address that the packet was for.")
number(b"timestamp", b"Arrival in nanoseconds of the realtime clock, or None.")
number(b"drops", b"Datagrams that the socket lost so far, modulo 2**32, or None.")
field(ENDPOINT, b"original_dst", &_any._original_addr, ORIGINAL_DST,
      b"``(host, port)`` before redirection, or None.")
field(OPTIONS_BYTES, b"options", options_of(_any), 0,
      b"IP options of the received packet, or None.")
number(b"segment_size", b"Size in bytes of the datagrams that one buffer holds, or None.",
       is_none_at_0=True)
number(b"send_ttl", b"TTL of the packet to be sent, 1-255, or None for the socket's own.",
       is_none_at_0=True)
number(b"send_tos",
       b"Type of service of the packet to be sent, 0-255, or None for the socket's own.")
field(OPTIONS_BYTES, b"send_options", send_options_of(_any), 0,
      b"IP options of the packet to be sent, or None.")


def rebuild(values, uint32_t from_kernel):
    """A copy of a message, which knows as well what was received and is not sent back."""
    cdef ControlMessage cm = ControlMessage(**values)
    cm.from_kernel = from_kernel
    return cm


cdef bint answers_to(uint32_t sender, uint32_t dst, uint32_t spec_dst,
                     uint32_t *source) noexcept nogil:
    """Where an answer leaves from, and whether it is tied to the request's interface.

    Addresses are in network order, 0 for one that is not known.
    """
    cdef uint32_t host = ntohl(dst)
    source[0] = spec_dst
    if not spec_dst and dst and host >> 28 != 0xE and host != UINT32_MAX:
        source[0] = dst
    if dst != 0 and spec_dst != 0 and dst != spec_dst:
        return True
    return ntohl(sender) >> 16 == 0xA9FE
