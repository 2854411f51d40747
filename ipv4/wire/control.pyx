"""Control messages: what a packet tells beside its payload, and what it can be told.

    cmsg_len                               next one
    |---- CMSG_LEN(n) ----|
    [len ][level][type][data, n bytes][pad][len ][level][type] ...
    |---------- CMSG_SPACE(n) ------------|

Lengths come from the kernel or from a caller: each is compared with what is left of the buffer
before a byte of data is looked at (cmsg(3), ip(7)).
"""

cimport cython
from cpython.buffer cimport Py_buffer, PyBuffer_Release
from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize
from cpython.long cimport PyLong_AsLong
from cpython.object cimport PyObject_GenericSetAttr
from libc.stdint cimport (
    INT32_MAX,
    INT32_MIN,
    INT64_MAX,
    INT64_MIN,
    UINT32_MAX,
    int32_t,
    int64_t,
    uint16_t,
    uint32_t,
    uint8_t,
)
from libc.string cimport memcpy, memset

from .boundary cimport (
    PyMemberDef,
    address_object,
    address_text,
    as_address,
    as_int,
    as_sockaddr,
    get_buffer,
    member,
    peer_tuple,
    plain_attribute,
)
from ..libc.socket cimport (
    CMSG_LEN,
    CMSG_SPACE,
    IP_PKTINFO,
    IP_RECVOPTS,
    IP_RECVORIGDSTADDR,
    IP_RETOPTS,
    IP_TOS,
    IP_TTL,
    IPPROTO_IP,
    SCM_TIMESTAMPING,
    SCM_TIMESTAMPNS,
    SO_RXQ_OVFL,
    SOL_SOCKET,
    SOL_UDP,
    UDP_GRO,
    UDP_SEGMENT,
    cmsghdr,
    in_pktinfo,
    sockaddr_in,
    timespec,
)

cdef extern from *:
    """
    #define ipv4_ttl_offset(cm) ((char *)&(cm)->_ttl - (char *)(cm))
    #define ipv4_ifindex_offset(cm) ((char *)&(cm)->_ifindex - (char *)(cm))
    """
    Py_ssize_t ttl_offset "ipv4_ttl_offset"(ControlMessage cm)
    Py_ssize_t ifindex_offset "ipv4_ifindex_offset"(ControlMessage cm)


cdef enum Have:
    SRC = 1
    DST = 2
    SPEC_DST = 4
    TOS = 8
    TIMESTAMP = 16
    DROPS = 32
    ORIGINAL_DST = 64
    SEGMENT_SIZE = 128
    SEND_TTL = 256
    SEND_TOS = 512
    EXTRA = 1024

cdef enum Flag:
    # ControlFlags, as C numbers
    FLAG_TTL = 1
    FLAG_SRC = 2
    FLAG_DST = 4
    FLAG_INTERFACE = 8
    FLAG_TOS = 16
    FLAG_TIMESTAMP = 32
    FLAG_DROPS = 64
    FLAG_ORIGINAL_DST = 128
    FLAG_SEGMENT_SIZE = 256
    FLAG_OPTIONS = 512
    ALL_FLAGS = 1023


cdef size_t flags_space(int flags) noexcept:
    """Bytes of control data that a packet brings when these flags are on."""
    cdef size_t space = 0
    if flags & FLAG_TTL:
        space += CMSG_SPACE(sizeof(int))
    if flags & (FLAG_SRC | FLAG_DST | FLAG_INTERFACE):
        space += CMSG_SPACE(sizeof(in_pktinfo))
    if flags & FLAG_TOS:
        space += CMSG_SPACE(1)
    if flags & FLAG_TIMESTAMP:
        space += CMSG_SPACE(sizeof(timespec))
    if flags & FLAG_DROPS:
        space += CMSG_SPACE(sizeof(uint32_t))
    if flags & FLAG_ORIGINAL_DST:
        space += CMSG_SPACE(sizeof(sockaddr_in))
    if flags & FLAG_SEGMENT_SIZE:
        space += CMSG_SPACE(sizeof(int))
    if flags & FLAG_OPTIONS:
        space += CMSG_SPACE(40)
    return space


def new_control_message(flags):
    """A buffer with room for the control messages that `flags` ask for, and no more.

    Parameters
    ----------
    flags : ControlFlags
        As given to ``set_control_message``.

    Returns
    -------
    bytearray
        Zeroed; empty when no flag is given. To be used as `Message.oob`.

    Raises
    ------
    ValueError
        If `flags` holds an unknown bit.
    """
    return bytearray(flags_space(<int>as_int(flags, 0, ALL_FLAGS, "flags")))


cdef ControlMessage received(const unsigned char *data, size_t length, uint32_t peer):
    """A message of control bytes that the kernel delivered.

    What most programs ask for is parsed at once; where there is more, TTL and interface are, and
    the rest when an attribute is read.
    """
    cdef ControlMessage cm = ControlMessage.__new__(ControlMessage)
    cdef Scan found
    if not cm.decode_common(data, length):
        cm.unparsed = PyBytes_FromStringAndSize(<const char *>data, length)
        scan(data, length, &found)
        cm._ttl = found.ttl
        cm._ifindex = found.ifindex if found.ifindex > 0 else 0
    cm._src = peer
    cm.have |= SRC
    cm.heard = SRC
    return cm


cdef void scan(const unsigned char *data, size_t length, Scan *found) noexcept nogil:
    """The columns of a batch from one packet's control bytes; what is absent becomes 0."""
    cdef cmsghdr h
    cdef timespec ts
    cdef int32_t value
    cdef size_t at = 0, size
    memset(found, 0, sizeof(Scan))
    while length - at >= sizeof(cmsghdr):
        memcpy(&h, data + at, sizeof(cmsghdr))
        if h.cmsg_len < sizeof(cmsghdr) or h.cmsg_len > length - at:
            return
        size = h.cmsg_len - CMSG_LEN(0)
        if h.cmsg_level == IPPROTO_IP:
            if h.cmsg_type == IP_TTL and size >= 1:
                found.ttl = octet(data + at + CMSG_LEN(0), size)
            elif h.cmsg_type == IP_PKTINFO and size >= sizeof(in_pktinfo):
                memcpy(&found.ifindex, data + at + CMSG_LEN(0), sizeof(int32_t))
            elif h.cmsg_type == IP_TOS and size >= 1:
                found.tos = octet(data + at + CMSG_LEN(0), size)
        elif h.cmsg_level == SOL_SOCKET:
            if h.cmsg_type == SCM_TIMESTAMPNS and size >= sizeof(timespec):
                memcpy(&ts, data + at + CMSG_LEN(0), sizeof(timespec))
                found.timestamp = nanoseconds(&ts)
            elif h.cmsg_type == SCM_TIMESTAMPING and size >= 3 * sizeof(timespec):
                found.timestamp = best_stamp(data + at + CMSG_LEN(0))
        elif h.cmsg_level == SOL_UDP and h.cmsg_type == UDP_GRO and size >= sizeof(int32_t):
            memcpy(&value, data + at + CMSG_LEN(0), sizeof(int32_t))
            found.segment_size = <uint16_t>value
        if CMSG_SPACE(size) >= length - at:
            return
        at += CMSG_SPACE(size)


cdef inline uint8_t octet(const unsigned char *data, size_t size) noexcept nogil:
    """A small number that the kernel sends as an int, or as one byte (IP_TOS always so)."""
    cdef int32_t value
    if size >= sizeof(int32_t):
        memcpy(&value, data, sizeof(int32_t))
        return <uint8_t>value
    return data[0]


cdef inline int64_t nanoseconds(const timespec *ts) noexcept nogil:
    # Unsigned: a hostile number of seconds must wrap, not be undefined.
    return <int64_t>(<unsigned long long>ts.tv_sec * 1000000000ULL
                     + <unsigned long long>ts.tv_nsec)


cdef int64_t best_stamp(const unsigned char *data) noexcept nogil:
    """Of SCM_TIMESTAMPING's three: the hardware's if there is one, else the software's."""
    cdef timespec ts[3]
    memcpy(ts, data, sizeof(ts))
    if ts[2].tv_sec or ts[2].tv_nsec:
        return nanoseconds(&ts[2])
    return nanoseconds(&ts[0])


cdef int check_frames(const unsigned char *data, size_t length) except -1:
    """Refuse a buffer in which a control message is shorter than its header or overruns."""
    cdef cmsghdr h
    cdef size_t at = 0, step
    while length - at >= sizeof(cmsghdr):
        memcpy(&h, data + at, sizeof(cmsghdr))
        if h.cmsg_len == 0 or h.cmsg_len > <size_t>INT64_MAX:
            raise ValueError(f"invalid header length: control message at offset {at}")
        if h.cmsg_len < sizeof(cmsghdr):
            raise ValueError(
                f"invalid message length: {h.cmsg_len} at offset {at} is less than a header"
            )
        if h.cmsg_len > length - at:
            raise ValueError(
                f"short buffer: control message of {h.cmsg_len} bytes at offset {at},"
                f" {length - at} bytes left"
            )
        step = CMSG_SPACE(h.cmsg_len - CMSG_LEN(0))
        if step >= length - at:
            return 0
        at += step
    return 0


cdef inline size_t put(unsigned char *out, int level, int kind, const void *data,
                       size_t size) noexcept:
    """Append one control message; padding is zeroed, for the kernel reads the whole area."""
    cdef cmsghdr h
    memset(out, 0, CMSG_SPACE(size))
    memset(&h, 0, sizeof(h))
    h.cmsg_len = CMSG_LEN(size)
    h.cmsg_level = level
    h.cmsg_type = kind
    memcpy(out, &h, sizeof(h))
    if size:
        memcpy(out + CMSG_LEN(0), data, size)
    return CMSG_SPACE(size)


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
        Interface that the packet came by, or shall leave by; 0 when none.
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

    def __cinit__(self):
        self._ttl = self._ifindex = 0

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

    cdef int parse_rest(self) except -1:
        cdef bytes raw = self.unparsed
        # Once, whatever comes of it: malformed bytes raise now and are gone.
        self.unparsed = None
        return self.decode(<const unsigned char *>PyBytes_AS_STRING(raw), len(raw))

    def __setattr__(self, name, value):
        if name == "ttl":
            settle(self)
            self._ttl = as_int(value, 0, 255, "ttl")
        elif name == "ifindex":
            settle(self)
            self._ifindex = as_int(value, 0, INT32_MAX, "ifindex")
        else:
            PyObject_GenericSetAttr(self, name, value)

    # Attributes of the reference

    @property
    def src(self):
        """The sender, or the source address to send from."""
        return address_object(self._src) if self.have & SRC else None

    @src.setter
    def src(self, value):
        cdef uint32_t address = 0
        if value is not None:
            as_address(value, &address, "src")
        settle(self)
        self.heard &= ~SRC
        self._src = address
        if value is None:
            self.have &= ~SRC
        else:
            self.have |= SRC

    @property
    def dst(self):
        """Destination in the received packet's header."""
        settle(self)
        return address_object(self._dst) if self.have & DST else None

    @dst.setter
    def dst(self, value):
        settle(self)
        if value is None:
            self.have &= ~DST
            self._dst = 0
        else:
            as_address(value, &self._dst, "dst")
            self.have |= DST

    # What else a received packet can tell

    @property
    def tos(self):
        """Received type of service, 0-255, or None."""
        settle(self)
        return self._tos if self.have & TOS else None

    @tos.setter
    def tos(self, value):
        settle(self)
        if value is None:
            self.have &= ~TOS
            self._tos = 0
        else:
            self._tos = as_int(value, 0, 255, "tos")
            self.have |= TOS

    @property
    def ecn(self):
        """Explicit Congestion Notification bits of `tos` (RFC 3168), 0-3, or None."""
        settle(self)
        return self._tos & 3 if self.have & TOS else None

    @property
    def spec_dst(self):
        """The local address that the packet was for."""
        settle(self)
        return address_object(self._spec_dst) if self.have & SPEC_DST else None

    @spec_dst.setter
    def spec_dst(self, value):
        settle(self)
        if value is None:
            self.have &= ~SPEC_DST
            self._spec_dst = 0
        else:
            as_address(value, &self._spec_dst, "spec_dst")
            self.have |= SPEC_DST

    @property
    def timestamp(self):
        """Arrival in nanoseconds of the realtime clock, or None."""
        settle(self)
        return self._timestamp if self.have & TIMESTAMP else None

    @timestamp.setter
    def timestamp(self, value):
        settle(self)
        if value is None:
            self.have &= ~TIMESTAMP
            self._timestamp = 0
        else:
            self._timestamp = as_int(value, INT64_MIN, INT64_MAX, "timestamp")
            self.have |= TIMESTAMP

    @property
    def drops(self):
        """Datagrams that the socket lost so far, modulo 2**32, or None."""
        settle(self)
        return self._drops if self.have & DROPS else None

    @drops.setter
    def drops(self, value):
        settle(self)
        if value is None:
            self.have &= ~DROPS
            self._drops = 0
        else:
            self._drops = <uint32_t>as_int(value, 0, UINT32_MAX, "drops")
            self.have |= DROPS

    @property
    def original_dst(self):
        """``(host, port)`` before redirection, or None."""
        settle(self)
        if not self.have & ORIGINAL_DST:
            return None
        return peer_tuple(self._original_addr, self._original_port)

    @original_dst.setter
    def original_dst(self, value):
        cdef sockaddr_in name
        settle(self)
        if value is None:
            self.have &= ~ORIGINAL_DST
            self._original_addr = self._original_port = 0
        else:
            as_sockaddr(value, &name, "original_dst")
            self._original_addr = name.sin_addr.s_addr
            self._original_port = name.sin_port
            self.have |= ORIGINAL_DST

    @property
    def options(self):
        """IP options of the received packet, or None."""
        settle(self)
        return self._options

    @options.setter
    def options(self, value):
        settle(self)
        self._options = as_options(value, "options")

    # Both ways

    @property
    def segment_size(self):
        """Size in bytes of the datagrams that one buffer holds, or None."""
        settle(self)
        return self._segment_size if self.have & SEGMENT_SIZE else None

    @segment_size.setter
    def segment_size(self, value):
        # None and 0 both leave the payload whole.
        cdef int64_t size = 0 if value is None else as_int(value, 0, 65535, "segment_size")
        settle(self)
        self.heard &= ~SEGMENT_SIZE
        self._segment_size = <int32_t>size
        if self._segment_size:
            self.have |= SEGMENT_SIZE
        else:
            self.have &= ~SEGMENT_SIZE

    @property
    def extra(self):
        """``(level, type, data)`` of each control message that has no attribute here."""
        cdef cmsghdr h
        cdef Py_ssize_t at = 0
        settle(self)
        cdef bytes packed = self._extra
        if packed is None:
            return ()
        found = []
        while at < len(packed):
            memcpy(&h, PyBytes_AS_STRING(packed) + at, sizeof(h))
            data = packed[at + <Py_ssize_t>CMSG_LEN(0):at + <Py_ssize_t>h.cmsg_len]
            found.append((h.cmsg_level, h.cmsg_type, data))
            at += CMSG_SPACE(h.cmsg_len - CMSG_LEN(0))
        return tuple(found)

    @extra.setter
    def extra(self, value):
        cdef Py_buffer view
        cdef size_t total = 0, at = 0
        cdef bytes packed
        settle(self)
        entries = []
        try:
            value = list(value)
        except TypeError:
            raise TypeError(
                "extra must hold (level, type, bytes) triples to iterate over,"
                f" not be {type(value).__name__}"
            ) from None
        for entry in value:
            try:
                level, kind, data = entry
            except (TypeError, ValueError):
                raise TypeError(
                    f"extra must hold (level, type, bytes) triples, not {type(entry).__name__}"
                ) from None
            level = as_int(level, INT32_MIN, INT32_MAX, "extra: level")
            kind = as_int(kind, INT32_MIN, INT32_MAX, "extra: type")
            get_buffer(data, &view, False, "extra: data")
            try:
                # Linux caps all of a message's control data far below this (optmem_max).
                if view.len > 1 << 20:
                    raise ValueError(f"extra: data of {view.len} bytes is too long")
                entries.append((level, kind, PyBytes_FromStringAndSize(<char *>view.buf, view.len)))
                total += CMSG_SPACE(view.len)
            finally:
                PyBuffer_Release(&view)
        packed = PyBytes_FromStringAndSize(NULL, total)
        for level, kind, data in entries:
            at += put(<unsigned char *>PyBytes_AS_STRING(packed) + at, level, kind,
                      PyBytes_AS_STRING(data), len(data))
        self._extra = packed if total else None
        self.heard &= ~EXTRA

    # What a packet can be told

    @property
    def send_ttl(self):
        """TTL of the packet to be sent, 1-255, or None for the socket's own."""
        return self._send_ttl if self.have & SEND_TTL else None

    @send_ttl.setter
    def send_ttl(self, value):
        cdef int64_t ttl = 0 if value is None else as_int(value, 0, 255, "send_ttl")
        settle(self)
        self._send_ttl = <int16_t>ttl
        if ttl:
            self.have |= SEND_TTL
        else:
            self.have &= ~SEND_TTL

    @property
    def send_tos(self):
        """Type of service of the packet to be sent, 0-255, or None for the socket's own."""
        return self._send_tos if self.have & SEND_TOS else None

    @send_tos.setter
    def send_tos(self, value):
        settle(self)
        if value is None:
            self.have &= ~SEND_TOS
            self._send_tos = 0
        else:
            self._send_tos = as_int(value, 0, 255, "send_tos")
            self.have |= SEND_TOS

    @property
    def send_options(self):
        """IP options of the packet to be sent, or None."""
        return self._send_options

    @send_options.setter
    def send_options(self, value):
        settle(self)
        self._send_options = as_options(value, "send_options")

    def reply(self):
        """The control message that answers from where this packet arrived.

        Returns
        -------
        ControlMessage
            With `src` the local address that the packet was for (`spec_dst`: never a group or a
            broadcast address) and the interface that it came by.

        Notes
        -----
        For a packet to a group or a broadcast the kernel gives the address that its route to the
        sender has, which is the arrival interface's own where that route leads back through it.
        """
        cdef ControlMessage answer = ControlMessage.__new__(ControlMessage)
        settle(self)
        answer._ifindex = self._ifindex
        if self.have & SPEC_DST:
            answer._src = self._spec_dst
            answer.have = SRC
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
        settle(self)
        if self.encoding_room() <= SEND_ROOM:
            return PyBytes_FromStringAndSize(<char *>stack, self.encode(stack, True))
        heap = PyBytes_FromStringAndSize(NULL, self.encoding_room())
        return heap[:self.encode(<unsigned char *>PyBytes_AS_STRING(heap), True)]

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
        get_buffer(buf, &view, False, "buf")
        try:
            settle(self)
            if not self.decode_common(<const unsigned char *>view.buf, view.len):
                self.decode(<const unsigned char *>view.buf, view.len)
        finally:
            PyBuffer_Release(&view)

    cdef int decode_common(self, const unsigned char *data, size_t length) except -1:
        """`decode` of well-formed TTL, packet info and TOS; False, nothing done, for all else."""
        cdef cmsghdr h
        cdef in_pktinfo info
        cdef int32_t ttl = -1
        cdef int16_t tos = self._tos
        cdef uint16_t have = self.have
        cdef bint located = False
        cdef size_t at = 0
        while length - at >= sizeof(cmsghdr):
            memcpy(&h, data + at, sizeof(h))
            if h.cmsg_level != IPPROTO_IP or h.cmsg_len > length - at:
                return False
            if h.cmsg_type == IP_PKTINFO and h.cmsg_len == CMSG_LEN(sizeof(info)):
                memcpy(&info, data + at + CMSG_LEN(0), sizeof(info))
                have |= DST | SPEC_DST
                located = True
            elif h.cmsg_type == IP_TTL and h.cmsg_len == CMSG_LEN(sizeof(int32_t)):
                memcpy(&ttl, data + at + CMSG_LEN(0), sizeof(ttl))
                ttl &= 0xFF
            elif h.cmsg_type == IP_TOS and h.cmsg_len == CMSG_LEN(1):
                tos = data[at + CMSG_LEN(0)]
                have |= TOS
            else:
                return False
            at += CMSG_SPACE(h.cmsg_len - CMSG_LEN(0))
            if at >= length:
                break
        if located:
            # An index below zero is no interface: a hostile number, not a value.
            self._ifindex = info.ipi_ifindex if info.ipi_ifindex > 0 else 0
            self._dst = info.ipi_addr.s_addr
            self._spec_dst = info.ipi_spec_dst.s_addr
        if ttl >= 0:
            self._ttl = ttl
        self._tos = tos
        self.have = have
        return True

    cdef int decode(self, const unsigned char *data, size_t length) except -1:
        cdef cmsghdr h
        cdef in_pktinfo info
        cdef sockaddr_in name
        cdef timespec ts
        cdef int32_t value
        cdef const unsigned char *body
        cdef size_t at = 0, size, step, extra_len = 0
        cdef bytes extra = None
        check_frames(data, length)
        while length - at >= sizeof(cmsghdr):
            memcpy(&h, data + at, sizeof(h))
            # Again: memory that is shared, or that a call fills, may have changed since.
            if h.cmsg_len < sizeof(h) or h.cmsg_len > length - at:
                raise ValueError(f"control message at offset {at} changed while it was parsed")
            size = h.cmsg_len - CMSG_LEN(0)
            body = data + at + CMSG_LEN(0)
            step = CMSG_SPACE(size)
            if h.cmsg_level == IPPROTO_IP and h.cmsg_type == IP_TTL:
                if size >= 1:
                    self._ttl = octet(body, size)
            elif h.cmsg_level == IPPROTO_IP and h.cmsg_type == IP_PKTINFO:
                if size >= sizeof(info):
                    memcpy(&info, body, sizeof(info))
                    # An index below zero is no interface: a hostile number, not a value.
                    self._ifindex = info.ipi_ifindex if info.ipi_ifindex > 0 else 0
                    self._dst = info.ipi_addr.s_addr
                    self._spec_dst = info.ipi_spec_dst.s_addr
                    self.have |= DST | SPEC_DST
            elif h.cmsg_level == IPPROTO_IP and h.cmsg_type == IP_TOS:
                if size >= 1:
                    self._tos = octet(body, size)
                    self.have |= TOS
            elif h.cmsg_level == IPPROTO_IP and h.cmsg_type == IP_RECVOPTS:
                if 0 < size <= 40:
                    self._options = PyBytes_FromStringAndSize(<const char *>body, size)
            elif h.cmsg_level == IPPROTO_IP and h.cmsg_type == IP_RECVORIGDSTADDR:
                if size >= sizeof(name):
                    memcpy(&name, body, sizeof(name))
                    self._original_addr = name.sin_addr.s_addr
                    self._original_port = name.sin_port
                    self.have |= ORIGINAL_DST
            elif h.cmsg_level == SOL_SOCKET and h.cmsg_type == SCM_TIMESTAMPNS:
                if size >= sizeof(ts):
                    memcpy(&ts, body, sizeof(ts))
                    self._timestamp = nanoseconds(&ts)
                    self.have |= TIMESTAMP
            elif h.cmsg_level == SOL_SOCKET and h.cmsg_type == SCM_TIMESTAMPING:
                if size >= 3 * sizeof(ts):
                    self._timestamp = best_stamp(body)
                    self.have |= TIMESTAMP
            elif h.cmsg_level == SOL_SOCKET and h.cmsg_type == SO_RXQ_OVFL:
                if size >= sizeof(self._drops):
                    memcpy(&self._drops, body, sizeof(self._drops))
                    self.have |= DROPS
            elif h.cmsg_level == SOL_UDP and h.cmsg_type == UDP_GRO:
                if size >= sizeof(value):
                    memcpy(&value, body, sizeof(value))
                    if 0 < value <= 65535:
                        self._segment_size = value
                        self.have |= SEGMENT_SIZE
                        self.heard |= SEGMENT_SIZE
            else:
                if extra is None:
                    # All that follows fits: only the last one's padding may be missing.
                    extra = PyBytes_FromStringAndSize(NULL, length - at + sizeof(cmsghdr))
                extra_len += put(<unsigned char *>PyBytes_AS_STRING(extra) + extra_len,
                                 h.cmsg_level, h.cmsg_type, body, size)
            if step >= length - at:
                break
            at += step
        if extra_len:
            self._extra = extra[:extra_len]
            self.heard |= EXTRA
        return 0

    cdef int32_t segment_to_send(self) noexcept:
        """Segment size that a program asked for, 0 when none (a received one does not count)."""
        if self.have & SEGMENT_SIZE and not self.heard & SEGMENT_SIZE:
            return self._segment_size
        return 0

    cdef size_t encoding_room(self) noexcept:
        """Bytes that `encode` needs at the most; the message is settled."""
        if self._extra is None or self.heard & EXTRA:
            return SEND_ROOM
        return SEND_ROOM + <size_t>len(self._extra)

    cdef size_t encode(self, unsigned char *out, bint segmented) noexcept:
        """Write what a send is told, into `encoding_room` bytes; the message is settled."""
        cdef int ifindex = <int>PyLong_AsLong(self._ifindex)
        cdef in_pktinfo info
        cdef int ttl
        cdef uint8_t tos
        cdef uint16_t segment
        cdef size_t at = 0
        if ifindex > 0 or (self.have & SRC and not self.heard & SRC):
            memset(&info, 0, sizeof(info))
            info.ipi_ifindex = ifindex
            if self.have & SRC and not self.heard & SRC:
                info.ipi_spec_dst.s_addr = self._src
            at += put(out + at, IPPROTO_IP, IP_PKTINFO, &info, sizeof(info))
        if self.have & SEND_TTL:
            ttl = self._send_ttl
            at += put(out + at, IPPROTO_IP, IP_TTL, &ttl, sizeof(ttl))
        if self.have & SEND_TOS:
            # One byte: kernels before 4.x refuse four, all accept one.
            tos = <uint8_t>self._send_tos
            at += put(out + at, IPPROTO_IP, IP_TOS, &tos, 1)
        if segmented and self.have & SEGMENT_SIZE and not self.heard & SEGMENT_SIZE:
            segment = <uint16_t>self._segment_size
            at += put(out + at, SOL_UDP, UDP_SEGMENT, &segment, sizeof(segment))
        if self._send_options is not None:
            at += put(out + at, IPPROTO_IP, IP_RETOPTS, PyBytes_AS_STRING(self._send_options),
                      len(self._send_options))
        if self._extra is not None and not self.heard & EXTRA:
            memcpy(out + at, PyBytes_AS_STRING(self._extra), len(self._extra))
            at += len(self._extra)
        return at

    # Python's manners

    def __eq__(self, other):
        if not isinstance(other, ControlMessage):
            return NotImplemented
        cdef ControlMessage o = <ControlMessage>other
        settle(self)
        settle(o)
        return (
            self.have == o.have
            and self._ttl == o._ttl
            and self._ifindex == o._ifindex
            and self._src == o._src
            and self._dst == o._dst
            and self._spec_dst == o._spec_dst
            and self._drops == o._drops
            and self._original_addr == o._original_addr
            and self._original_port == o._original_port
            and self._tos == o._tos
            and self._send_ttl == o._send_ttl
            and self._send_tos == o._send_tos
            and self._segment_size == o._segment_size
            and self._timestamp == o._timestamp
            and self._options == o._options
            and self._send_options == o._send_options
            and self._extra == o._extra
        )

    __hash__ = None

    def __reduce__(self):
        settle(self)
        values = {name: getattr(self, name) for name in ATTRIBUTES}
        return rebuild, (values, self.heard)

    def __repr__(self):
        settle(self)
        parts = [f"ttl={self._ttl}"]
        for name, bit, address in (
            ("src", SRC, self._src),
            ("dst", DST, self._dst),
            ("spec_dst", SPEC_DST, self._spec_dst),
        ):
            if self.have & bit:
                parts.append(f"{name}={address_text(address)!r}")
        parts.append(f"ifindex={self._ifindex}")
        for name in (
            "tos", "timestamp", "drops", "original_dst", "options", "segment_size", "send_ttl",
            "send_tos", "send_options",
        ):
            value = getattr(self, name)
            if value is not None:
                parts.append(f"{name}={value!r}")
        extra = self.extra
        if extra:
            parts.append(f"extra={extra!r}")
        return f"ControlMessage({', '.join(parts)})"

    def __str__(self):
        settle(self)
        return (
            f"ttl={self._ttl}"
            f" src={address_text(self._src) if self.have & SRC else '<nil>'}"
            f" dst={address_text(self._dst) if self.have & DST else '<nil>'}"
            f" ifindex={self._ifindex}"
        )


cdef PyMemberDef TTL_FIELD, IFINDEX_FIELD
cdef ControlMessage _any = ControlMessage()
TTL_FIELD = member(b"ttl", ttl_offset(_any), b"Received TTL, 0-255; 0 when none came.")
IFINDEX_FIELD = member(b"ifindex", ifindex_offset(_any), b"Index of the interface, 0 when none.")
plain_attribute(ControlMessage, &TTL_FIELD)
plain_attribute(ControlMessage, &IFINDEX_FIELD)

ATTRIBUTES = (
    "ttl", "src", "dst", "ifindex", "tos", "spec_dst", "timestamp", "drops", "original_dst",
    "options", "segment_size", "send_ttl", "send_tos", "send_options", "extra",
)


def rebuild(values, uint16_t heard):
    """A copy of a message, which knows as well what was received and is not sent back."""
    cdef ControlMessage cm = ControlMessage(**values)
    cm.heard = heard
    return cm


cdef bytes as_options(object value, str name):
    """IP options as bytes, None when there are none."""
    cdef Py_buffer view
    if value is None:
        return None
    get_buffer(value, &view, False, name)
    try:
        if view.len > 40:
            raise ValueError(f"{name} must be at most 40 bytes long, not {view.len}")
        return PyBytes_FromStringAndSize(<char *>view.buf, view.len) if view.len else None
    finally:
        PyBuffer_Release(&view)
