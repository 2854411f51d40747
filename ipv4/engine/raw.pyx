"""Whole IPv4 packets, whose header the program writes and reads itself: what `RawConn` is for."""

cimport cython
from cpython.buffer cimport PyBUF_FORMAT, PyBUF_ND, PyBUF_STRIDES, Py_buffer
from cpython.bytearray cimport (
    PyByteArray_AS_STRING,
    PyByteArray_CheckExact,
    PyByteArray_GET_SIZE,
)
from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize
from cpython.object cimport PyObject
from libc.errno cimport errno
from libc.stdint cimport INT32_MAX
from libc.string cimport memset

from ..libc.threads cimport release_view
from ..wire.arguments cimport as_flags, as_int, get_buffer
from ..wire.control cimport ROUTE_ROOM, ControlMessage, at_once, encode_route, is_route
from ..wire.memory cimport Memory, fasten, is_plain, look_at, unfasten
from .errqueue cimport ErrorQueue
from .retry cimport (
    Incoming,
    Outgoing,
    arm,
    as_write_flags,
    control_of,
    free_control,
    goes_at_once,
    raise_cut_control,
    set_control,
)
from ..wire.header cimport MAX_HEADER, Header, new_header
from ..wire.header cimport at_once as header_at_once
from ..libc cimport socket as c
from ..libc.doors cimport ALONE, Door, Given, Results, as_length, forget, open_door, part_of
from ..libc.socket cimport (
    MSG_CTRUNC,
    MSG_DONTWAIT,
    iovec,
    msghdr,
    recvfrom,
    recvmsg,
    sendmsg,
    sockaddr_in,
)

cdef enum:
    # Bytes of a header by their offset (RFC 791).
    AT_TOS = 1
    AT_TTL = 8
    AT_PROTOCOL = 9


cdef class RawTransfer(ErrorQueue):
    """Reads and writes of whole IPv4 packets; base of `RawConn`."""

    cdef Results last

    def __dealloc__(self):
        forget(&self.last)

    def __cinit__(self, *args, **kwargs):
        self.writes_headers = True

    def read_from(self, buf, flags=0):
        """Receive one packet.

        Parameters
        ----------
        buf : writable bytes-like
            The whole packet is received into it, header first.
        flags : int
            Of recvmsg(2).

        Returns
        -------
        header : Header
        payload : memoryview
            Into `buf`, what follows the header and its options; as long as `buf` had room.
        cm : ControlMessage or None
            As for `PacketConn.read_from`.

        Raises
        ------
        ValueError
            If what arrived holds no whole header: `buf` is too short for it, or a filter cut
            the packet.
        OSError, TypeError
            As for `PacketConn.read_from`.
        """
        return read_packet(self, buf, as_flags(flags), 0)

    def receive(self, max_size=65535, flags=0):
        """Receive one packet, its payload as bytes.

        Parameters
        ----------
        max_size : int
            A longer packet, its header counted, is cut; the default cuts nothing.
        flags : int
            Of recvmsg(2).

        Returns
        -------
        header : Header
        payload : bytes
        cm : ControlMessage or None
            As for `PacketConn.read_from`.

        Raises
        ------
        ValueError
            If `max_size` is negative or beyond 2147483647; as for `read_from`.
        OSError
            As for `read_from`.
        """
        cdef Incoming incoming
        cdef Py_ssize_t room = <Py_ssize_t>as_int(max_size, 0, INT32_MAX, "max_size")
        cdef int c_flags = as_flags(flags)
        cdef bytes packet = PyBytes_FromStringAndSize(NULL, room)
        cdef Py_ssize_t n = take_packet(
            self, &incoming, PyBytes_AS_STRING(packet), room, c_flags, 0)
        cdef Header head = new_header(<const unsigned char *>PyBytes_AS_STRING(packet), n)
        return head, packet[head._len:n], control_of(&incoming)

    def write_to(self, header, payload, cm=None, flags=0):
        """Send one packet with the header given.

        Parameters
        ----------
        header : Header
            Its `dst` is where the packet goes. The kernel always fills `total_len` and
            `checksum`, and `id` and `src` when they are zero (raw(7)). A `protocol` of 0 leaves
            as the conn's protocol, a `ttl` of 0 as the conn's `ttl`. It is not changed.
        payload : bytes-like
            What follows the header.
        cm : ControlMessage, optional
            Source address and interface; its `send_ttl` and `send_tos` win over the header's.
            `cm.dst` is what a receive told, not a destination.
        flags : int
            Of sendmsg(2).

        Returns
        -------
        int
            Bytes sent, header and payload together.

        Raises
        ------
        ValueError
            As `Header.marshal`; for a `segment_size` or `send_options` of `cm`, which a packet
            with a header of its own cannot have; for MSG_ZEROCOPY among the flags.
        OSError
            As sendmsg(2); EMSGSIZE for a packet longer than the route's MTU, for such packets
            are never fragmented: `PacketConn.ip` lets the kernel do so.
        """
        return write_packet(self, header, payload, cm, as_write_flags(flags), 0)


# As in packet.pyx: what needs nothing but one system call is done at once, all else in the usual
# order by `read_packet` and `write_packet`. Saves 290 of the 5,040 instructions that a packet with
# its header takes when it is written and read.

cdef Door read_behind, write_behind

ctypedef object (*Reading)(RawTransfer conn, PyObject *buf, int flags)
ctypedef object (*Writing)(
    RawTransfer conn, PyObject *header, PyObject *payload, PyObject *cm, int flags)


cdef object read_door(RawTransfer conn, Given given, Py_ssize_t count, PyObject *names):
    """`read_from` of what stands in its place."""
    if names != NULL or <size_t>count - 1 > 1:
        return read_behind(conn, given, count, names)
    return (<Reading>read_at_once)(
        conn, given[0], 0 if count == 1 else as_flags(<object>given[1]))


cdef object write_door(RawTransfer conn, Given given, Py_ssize_t count, PyObject *names):
    """`write_to` of what stands in its place."""
    if names != NULL or <size_t>count - 2 > 2:
        return write_behind(conn, given, count, names)
    return (<Writing>write_at_once)(
        conn, given[0], given[1], given[2] if count > 2 else <PyObject *>None,
        as_write_flags(<object>given[3]) if count > 3 else 0)


cdef inline object read_at_once(RawTransfer conn, object buf, int flags):
    cdef Incoming incoming
    cdef iovec vector
    cdef Py_ssize_t n
    cdef Header head
    if not PyByteArray_CheckExact(buf) or not goes_at_once(conn, conn.read_deadline, 0):
        return read_packet(conn, buf, flags, 0)
    vector.iov_base = PyByteArray_AS_STRING(buf)
    vector.iov_len = PyByteArray_GET_SIZE(buf)
    if conn.wants_control:
        arm(&incoming, &vector, 1, True)
        n = recvmsg(conn.fd, &incoming.header, flags | MSG_DONTWAIT)
        if n >= 0 and incoming.header.msg_flags & MSG_CTRUNC:
            raise_cut_control()
    else:
        incoming.header.msg_controllen = 0
        n = recvfrom(conn.fd, vector.iov_base, vector.iov_len, flags | MSG_DONTWAIT, NULL, NULL)
    if n < 0:
        return read_packet(conn, buf, flags, errno)
    n = min(n, <Py_ssize_t>vector.iov_len)
    head = new_header(<const unsigned char *>vector.iov_base, n)
    return head, part_of(buf, head._len, n - head._len), control_of(&incoming)


cdef inline object write_at_once(RawTransfer conn, object header, object payload, object cm,
                                 int flags):
    cdef unsigned char head[MAX_HEADER]
    cdef unsigned char control[ROUTE_ROOM]
    cdef Memory memory
    cdef sockaddr_in name
    cdef iovec vectors[2]
    cdef msghdr message
    cdef ssize_t n
    if (
        not ALONE  # others may lengthen the header, or move the payload, meanwhile
        or type(header) is not Header or not is_plain(payload)
        or cm is not None and (type(cm) is not ControlMessage or not is_route(<ControlMessage>cm))
    ):
        return write_packet(conn, header, payload, cm, flags, 0)
    look_at(payload, &memory, False, "payload")
    vectors[0].iov_base = head
    vectors[0].iov_len = (<Header>header).encoded_length()
    (<Header>header).encode(head, 0)
    if (
        not goes_at_once(conn, conn.write_deadline, memory.size)
        or head[AT_TTL] == 0 or head[AT_PROTOCOL] == 0
    ):
        return write_packet(conn, header, payload, cm, flags, 0)
    vectors[1].iov_base = memory.data
    vectors[1].iov_len = memory.size
    memset(&name, 0, sizeof(name))
    name.sin_family = c.AF_INET
    name.sin_addr.s_addr = (<Header>header)._dst
    message.msg_name = &name
    message.msg_namelen = sizeof(name)
    message.msg_iov = vectors
    message.msg_iovlen = 2
    message.msg_control = control
    message.msg_controllen = 0 if cm is None else encode_route(<ControlMessage>cm, control)
    message.msg_flags = 0
    n = sendmsg(conn.fd, &message, flags | MSG_DONTWAIT)
    if n < 0:
        return write_packet(conn, header, payload, cm, flags, errno)
    return as_length(&conn.last, n)


open_door(RawTransfer, "read_from", <Door>read_door, &read_behind)
open_door(RawTransfer, "write_to", <Door>write_door, &write_behind)


cdef object read_packet(RawTransfer conn, object buf, int flags, int err):
    """`read_from`; `err` is what a first try met, 0 for none."""
    cdef Incoming incoming
    cdef Py_ssize_t n
    cdef Header head
    cdef Window window = Window.__new__(Window)
    get_buffer(buf, &window.view, True, "buf")
    window.pinned = True
    n = take_packet(conn, &incoming, window.view.buf, window.view.len, flags, err)
    head = new_header(<const unsigned char *>window.view.buf, n)
    cm = control_of(&incoming)
    window.start = head._len
    window.length = n - head._len
    return head, memoryview(window), cm


cdef object write_packet(RawTransfer conn, object header, object payload, object cm, int flags,
                         int err):
    """`write_to`; `err` is what a first try met, 0 for none."""
    cdef unsigned char head[MAX_HEADER]
    cdef Memory memory
    cdef sockaddr_in name
    cdef iovec vectors[2]
    cdef Outgoing outgoing
    if type(header) is not Header:
        raise TypeError(f"header must be a Header, not {type(header).__name__}")
    if cm is not None and type(cm) is not ControlMessage:
        raise TypeError(f"cm must be a ControlMessage or None, not {type(cm).__name__}")
    cdef Header still = header_at_once(<Header>header)
    if cm is not None:
        cm = at_once(<ControlMessage>cm)
    outgoing.header.msg_control = outgoing.control
    outgoing.header.msg_controllen = 0
    look_at(payload, &memory, False, "payload")
    try:
        vectors[0].iov_base = head
        vectors[0].iov_len = still.encoded_length()
        still.encode(head, 0)
        vectors[1].iov_base = memory.data
        vectors[1].iov_len = memory.size
        memset(&name, 0, sizeof(name))
        name.sin_family = c.AF_INET
        name.sin_addr.s_addr = still._dst
        outgoing.header.msg_name = &name
        outgoing.header.msg_namelen = sizeof(name)
        outgoing.header.msg_iov = vectors
        outgoing.header.msg_iovlen = 2
        outgoing.header.msg_flags = 0
        if cm is not None:
            put_into_header(head, <ControlMessage>cm)
            set_control(&outgoing, <ControlMessage>cm, False)
        if head[AT_TTL] == 0:
            fasten(payload, &memory, False)
            head[AT_TTL] = <unsigned char>conn.get_int(c.IPPROTO_IP, c.IP_TTL, "IP_TTL")
        if head[AT_PROTOCOL] == 0:
            head[AT_PROTOCOL] = <unsigned char>conn._protocol
        return conn.send(&outgoing.header, flags, payload, &memory, err)
    finally:
        unfasten(&memory)
        free_control(&outgoing)


cdef Py_ssize_t take_packet(RawTransfer conn, Incoming *incoming, void *data, Py_ssize_t room,
                            int flags, int err) except -1:
    """A packet, header first; returns how much of it is in `data`."""
    cdef iovec vector
    cdef Py_ssize_t n
    vector.iov_base = data
    vector.iov_len = room
    n = conn.take_message(incoming, &vector, 1, flags, None, NULL, err)
    return min(n, room)


cdef int put_into_header(unsigned char *head, ControlMessage cm) except -1:
    """What a packet is told that its own header says."""
    if cm.segment_size is not None and cm.segment_to_send() > 0:
        raise ValueError("cm.segment_size is for UDP payloads: a RawConn sends whole packets")
    if cm.send_options is not None:
        raise ValueError("cm.send_options has no effect on a RawConn: give Header(options=…)")
    if cm.send_ttl is not None:
        head[AT_TTL] = <unsigned char>cm.send_ttl
    if cm.send_tos is not None:
        head[AT_TOS] = <unsigned char>cm.send_tos
    return 0


@cython.final
@cython.freelist(16)
cdef class Window:
    """The payload part of a caller's buffer; pins the buffer as long as a view on it lives."""

    cdef:
        Py_buffer view
        bint pinned
        Py_ssize_t start
        Py_ssize_t length

    def __dealloc__(self):
        if self.pinned:
            release_view(&self.view)

    def __getbuffer__(self, Py_buffer *out, int flags):
        if not self.pinned:
            raise BufferError("a window stands for nothing without its buffer")
        out.buf = <char *>self.view.buf + self.start
        out.obj = self
        out.len = self.length
        out.itemsize = 1
        out.readonly = 0
        out.ndim = 1
        out.format = <char *>b"B" if flags & PyBUF_FORMAT else NULL
        out.shape = &self.length if flags & PyBUF_ND else NULL
        out.strides = &out.itemsize if flags & PyBUF_STRIDES == PyBUF_STRIDES else NULL
        out.suboffsets = NULL
        out.internal = NULL
