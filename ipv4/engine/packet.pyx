"""Single datagrams: `read_from` and `write_to`, for sockets that hand over payloads.

These calls make the system call with the GIL held: they ask the kernel not to wait, so it takes
about a microsecond, and giving the GIL up for that long costs a busy program its place in line.
Only a send of many kilobytes, which takes as long as a batch, gives it up like one.
"""

from cpython.bytearray cimport PyByteArray_AS_STRING, PyByteArray_FromStringAndSize
from cpython.bytes cimport PyBytes_FromStringAndSize
from cpython.object cimport PyObject
from cpython.ref cimport Py_INCREF, Py_XDECREF
from cpython.tuple cimport PyTuple_CheckExact, PyTuple_GET_ITEM
from cpython.long cimport PyLong_CheckExact
from cpython.unicode cimport PyUnicode_CheckExact
from libc.errno cimport errno
from libc.stdint cimport INT32_MAX
from libc.string cimport memcpy, memmove, memset

from ..wire.address cimport as_sockaddr, peer_of
from ..wire.arguments cimport as_flags, as_int, shown
from ..wire.control cimport ROUTE_ROOM, ControlMessage, at_once, encode_route, is_route
from ..wire.memory cimport Memory, fasten, look_at, unfasten
from .descriptor cimport hold, let_go
from .endpoint cimport Attempt
from .errqueue cimport ErrorQueue
from .wait cimport begin
from .retry cimport (
    Incoming,
    Outgoing,
    arm,
    as_write_flags,
    control_of,
    free_control,
    goes_at_once,
    raise_cut_control,
    refuse_room,
    releases,
    sender_of,
    set_control,
)
from ..wire.header cimport MAX_OPTIONS
from ..libc cimport socket as c
from ..libc.doors cimport (
    ALONE,
    Door,
    Given,
    Results,
    as_length,
    forget,
    open_door,
    own_method,
    received,
    spare_of,
)
from ..libc.socket cimport (
    MSG_CTRUNC,
    MSG_DONTWAIT,
    MSG_TRUNC,
    SOCK_RAW,
    UDP_SEGMENT,
    iovec,
    msghdr,
    recvfrom,
    recvmsg,
    sendmsg,
    sendto,
    sockaddr,
    sockaddr_in,
    socklen_t,
)
from ..libc.threads cimport load_int, store_int

import sys


cdef enum:
    DESTINATIONS = 8


cdef class PacketTransfer(ErrorQueue):
    """Reads and writes of payloads, on UDP, ICMP and raw sockets; base of `PacketConn`."""

    cdef:
        Results last
        # Destinations given lately, of kinds that cannot change: owned references, and what they
        # mean. To look into one anew takes some 600 instructions, to find it here 20.
        PyObject *destinations[DESTINATIONS]
        sockaddr_in names[DESTINATIONS]
        unsigned int recent  # which of them was given last

    def __dealloc__(self):
        cdef int i
        forget(&self.last)
        for i in range(DESTINATIONS):
            Py_XDECREF(self.destinations[i])

    def read_from(self, buf, flags=0):
        """Receive one datagram.

        Parameters
        ----------
        buf : writable bytes-like
            Filled from its start. On IP sockets the IPv4 header is stripped, with its options.
        flags : int
            Of recvmsg(2): MSG_DONTWAIT never waits; MSG_PEEK leaves the datagram in the queue;
            with MSG_TRUNC `n` is the payload's real length, also beyond `buf`.

        Returns
        -------
        n : int
            Bytes of payload. A datagram longer than `buf` is cut; without MSG_TRUNC `n` is then
            ``len(buf)``.
        cm : ControlMessage or None
            What `set_control_message` asked for, with the sender in `src`; None when no control
            message came.
        src : tuple of (str, int)
            The sender; port 0 on IP sockets.

        Raises
        ------
        OSError
            As recvmsg(2): TimeoutError at the read deadline, BlockingIOError when the socket
            does not wait, ConnectionRefusedError on a connected socket whose peer refused. EBADF
            when the conn is closed, also by another thread meanwhile.
        TypeError
            If `buf` is not a writable bytes-like object.
        ValueError
            If `buf` is shorter than 65,535 bytes while ControlFlags.SEGMENT_SIZE is on: what
            arrives coalesced and does not fit would be lost. With MSG_TRUNC it is taken.
        """
        cdef PyObject *given[2]
        given[0] = <PyObject *>buf
        given[1] = <PyObject *>flags
        return read_door(self, given, 2, NULL)

    def receive(self, max_size=65535, flags=0):
        """Receive one datagram as bytes.

        Parameters
        ----------
        max_size : int
            A longer payload is cut; the default cuts nothing.
        flags : int
            As for `read_from`.

        Returns
        -------
        data : bytes
        cm : ControlMessage or None
        src : tuple of (str, int)
            As for `read_from`.

        Raises
        ------
        ValueError
            If `max_size` is negative or beyond 2147483647; as for `read_from`.
        OSError
            As for `read_from`.
        """
        cdef Py_ssize_t room = <Py_ssize_t>as_int(max_size, 0, INT32_MAX, "max_size")
        cdef bytearray data
        cdef PyObject *given[2]
        if self.needs_room(as_flags(flags)):
            refuse_room(room, "max_size")
        data = PyByteArray_FromStringAndSize(NULL, room)
        given[0] = <PyObject *>data
        given[1] = <PyObject *>flags
        n, cm, src = read_door(self, given, 2, NULL)
        return PyBytes_FromStringAndSize(PyByteArray_AS_STRING(data), min(n, room)), cm, src

    @property
    def coalesce(self):
        """Whether batches leave with neighbours joined, at the speed of segmentation (udp(7),
        UDP_SEGMENT, Linux 4.18; UDP only). It takes no privilege.

        `write_batch` and `write_all` then hand each run of messages that stand side by side, to
        one destination, of one length (the last may be shorter) and with equal control data, to
        the kernel as one. What arrives, what is returned and what is told of failures stay as
        they are without it. Worth it from a dozen messages to one destination on.
        """
        refuse_unless_udp(self, "coalesce")
        return load_int(&self.coalesce_wanted) != 0

    @coalesce.setter
    def coalesce(self, value):
        refuse_unless_udp(self, "coalesce")
        if not isinstance(value, bool):
            raise TypeError(f"coalesce must be True or False, not {shown(value)}")
        self.live_fd()
        if value and UDP_SEGMENT < 0:
            raise NotImplementedError(f"UDP_SEGMENT is not available on {sys.platform}")
        store_int(&self.coalesce_wanted, value)
        store_int(&self.refusals, 0)
        store_int(&self.joining, value)

    @property
    def coalescing(self):
        """Whether neighbours are being joined: `coalesce` was set, and the kernel did not refuse
        twenty joined messages in a row (as with SO_NO_CHECK, or an interface that cannot
        checksum; udp(7), UDP_SEGMENT, Linux 4.18). It takes no privilege. Setting `coalesce`
        again tries again.
        """
        refuse_unless_udp(self, "coalescing")
        return load_int(&self.joining) != 0

    def write_to(self, data, dst=None, cm=None, flags=0):
        """Send one datagram.

        Parameters
        ----------
        data : bytes-like
            The payload; may be empty.
        dst : address, optional
            Destination; None on a connected socket for its peer. The port counts on UDP only.
        cm : ControlMessage, optional
            What this packet is told: source address, interface, TTL, type of service, options,
            segment size.
        flags : int
            Of sendmsg(2).

        Returns
        -------
        int
            Bytes of payload sent: all of them, but for a payload sent as segments of which a
            later one failed, or found no room when the call does not wait: go on with
            ``data[n:]``, whose call then meets that error.

        Raises
        ------
        OSError
            As sendmsg(2): TimeoutError at the write deadline, EMSGSIZE for a payload that does
            not fit, ENETUNREACH, EPERM from a firewall, …
        ValueError
            If `dst` is not an IPv4 address, or MSG_ZEROCOPY is among the flags.
        """
        cdef PyObject *given[4]
        given[0] = <PyObject *>data
        given[1] = <PyObject *>dst
        given[2] = <PyObject *>cm
        given[3] = <PyObject *>flags
        return write_door(self, given, 4, NULL)


# Nearly every call finds its datagram there, or room for it, and needs nothing but one system call:
# `read_door` and `write_door` make that, and leave all else to `read_payload` and `write_payload`.

cdef Door read_behind, write_behind

# An object that is passed on from where the caller keeps it is not counted on the way: 30 of the
# 1,121 instructions.
ctypedef object (*Reading)(PacketTransfer conn, PyObject *buf, int flags)
ctypedef object (*Writing)(
    PacketTransfer conn, PyObject *data, PyObject *dst, PyObject *cm, int flags)


cdef object read_door(PacketTransfer conn, Given given, Py_ssize_t count, PyObject *names):
    """`read_from` of what stands in its place."""
    if names != NULL or <size_t>count - 1 > 1:
        return read_behind(conn, given, count, names)
    return (<Reading>read_at_once)(
        conn, given[0], 0 if count == 1 else as_flags(<object>given[1]))


cdef object write_door(PacketTransfer conn, Given given, Py_ssize_t count, PyObject *names):
    """`write_to` of what stands in its place."""
    if names != NULL or <size_t>count - 1 > 3:
        return write_behind(conn, given, count, names)
    return (<Writing>write_at_once)(
        conn, given[0], given[1] if count > 1 else <PyObject *>None,
        given[2] if count > 2 else <PyObject *>None,
        as_write_flags(<object>given[3]) if count > 3 else 0)


cdef inline object read_at_once(PacketTransfer conn, object buf, int flags):
    cdef Memory memory
    cdef sockaddr_in sender
    cdef socklen_t namelen = sizeof(sender)
    cdef Py_ssize_t n
    look_at(buf, &memory, True, "buf")
    if (
        memory.fast or conn._type == SOCK_RAW
        or not goes_at_once(conn, conn.read_deadline, 0)
    ):
        return read_payload(conn, buf, &memory, flags, 0)
    if conn.wants_control:
        return read_told_at_once(conn, buf, &memory, flags)
    # recvfrom(2) costs a tenth less than recvmsg(2).
    n = recvfrom(conn.fd, memory.data, memory.size, flags | MSG_DONTWAIT,
                 <sockaddr *>&sender, &namelen)
    if n < 0:
        return read_payload(conn, buf, &memory, flags, errno)
    if namelen < sizeof(sender):
        return received(&conn.last, n, None, None)
    return received(
        &conn.last, n, None, peer_of(&conn.peers, sender.sin_addr.s_addr, sender.sin_port))


cdef object read_told_at_once(PacketTransfer conn, object buf, Memory *memory, int flags):
    """`read_at_once` with control messages."""
    cdef Incoming incoming
    cdef iovec vector
    cdef Py_ssize_t n
    if conn.needs_room(flags):
        refuse_room(memory.size, "buf")
    vector.iov_base = memory.data
    vector.iov_len = memory.size
    arm(&incoming, &vector, 1, True)
    n = recvmsg(conn.fd, &incoming.header, flags | MSG_DONTWAIT)
    if n < 0:
        return read_payload(conn, buf, memory, flags, errno)
    if incoming.header.msg_flags & MSG_CTRUNC:
        raise_cut_control()
    return received(
        &conn.last, n, control_of(&incoming, spare_of(&conn.last, ControlMessage)),
        sender_of(&conn.peers, &incoming))


cdef object write_told_at_once(PacketTransfer conn, object data, Memory *memory, sockaddr_in *to,
                               ControlMessage cm, int flags):
    """`write_at_once` with a control message that says nothing but which way to go."""
    cdef unsigned char control[ROUTE_ROOM]
    cdef iovec vector
    cdef msghdr header
    cdef ssize_t n
    vector.iov_base = memory.data
    vector.iov_len = memory.size
    header.msg_name = to
    header.msg_namelen = sizeof(to[0]) if to != NULL else 0
    header.msg_iov = &vector
    header.msg_iovlen = 1
    header.msg_control = control
    header.msg_controllen = encode_route(cm, control)
    header.msg_flags = 0
    n = sendmsg(conn.fd, &header, flags | MSG_DONTWAIT)
    if n < 0:
        return write_payload(conn, data, memory, to, cm, flags, errno)
    return as_length(&conn.last, n)


cdef inline object write_at_once(PacketTransfer conn, object data, object dst, object cm,
                                 int flags):
    cdef Memory memory
    cdef sockaddr_in name
    cdef sockaddr_in *to = NULL
    cdef ssize_t n
    if dst is not None:
        to = &name
        if ALONE and <PyObject *>dst == conn.destinations[conn.recent]:
            name = conn.names[conn.recent]
        else:
            find_destination(conn, dst, &name)
    look_at(data, &memory, False, "data")
    if memory.fast or not goes_at_once(conn, conn.write_deadline, memory.size):
        return write_payload(conn, data, &memory, to, cm, flags, 0)
    if cm is not None:
        if type(cm) is not ControlMessage or not is_route(<ControlMessage>cm):
            return write_payload(conn, data, &memory, to, cm, flags, 0)
        return write_told_at_once(conn, data, &memory, to, <ControlMessage>cm, flags)
    n = sendto(conn.fd, memory.data, memory.size, flags | MSG_DONTWAIT, <sockaddr *>to,
               sizeof(name) if to != NULL else 0)
    if n < 0:
        return write_payload(conn, data, &memory, to, cm, flags, errno)
    return as_length(&conn.last, n)


open_door(PacketTransfer, "read_from", <Door>read_door, &read_behind)
open_door(PacketTransfer, "write_to", <Door>write_door, &write_behind)


def with_own_methods(cls):
    """Give a class its hottest methods itself: see `own_method`."""
    for name in ("read_from", "write_to", "read_batch", "write_batch"):
        setattr(cls, name, own_method(cls, getattr(cls, name)))
    return cls


cdef object read_payload(PacketTransfer conn, object buf, Memory *memory, int flags, int err):
    """Payload into a buffer, as ``(n, cm, src)``; `err` is what a first try met, 0 for none."""
    cdef Attempt attempt
    cdef sockaddr_in sender
    cdef socklen_t namelen
    cdef int fd
    cdef Py_ssize_t n = -1
    try:
        if conn._type == SOCK_RAW:
            return read_stripped(conn, buf, memory, flags)
        if load_int(&conn.wants_control):
            return read_with_control(conn, buf, memory, flags, err)
        fasten(buf, memory, True)
        fd = begin(conn, &attempt, False)
        while True:
            if err:
                conn.retry_or_raise(err, fd, flags, False, &attempt, "read_from", NULL)
            namelen = sizeof(sender)
            if releases(conn, 1, 0):
                conn.enter()
                with nogil:
                    n = recvfrom(fd, memory.data, memory.size, flags | MSG_DONTWAIT,
                                 <sockaddr *>&sender, &namelen)
                    err = errno
                conn.leave()
            else:
                hold(conn)
                n = recvfrom(fd, memory.data, memory.size, flags | MSG_DONTWAIT,
                             <sockaddr *>&sender, &namelen)
                err = errno
                let_go(conn)
            if n >= 0:
                break
        if namelen < sizeof(sender):
            return received(&conn.last, n, None, None)
        return received(
            &conn.last, n, None, peer_of(&conn.peers, sender.sin_addr.s_addr, sender.sin_port))
    finally:
        unfasten(memory)


cdef object read_with_control(PacketTransfer conn, object buf, Memory *memory, int flags, int err):
    cdef Incoming incoming
    cdef iovec vector
    cdef Py_ssize_t n
    if conn.needs_room(flags):
        refuse_room(memory.size, "buf")
    vector.iov_base = memory.data
    vector.iov_len = memory.size
    n = conn.take_message(&incoming, &vector, 1, flags, buf, memory, err)
    return received(&conn.last, n, control_of(&incoming), sender_of(&conn.peers, &incoming))


cdef object write_payload(PacketTransfer conn, object data, Memory *memory, sockaddr_in *to,
                          object cm, int flags, int err):
    """`write_to`; `err` is what a first try met, 0 for none."""
    cdef Attempt attempt
    cdef iovec vector
    cdef msghdr sent
    cdef int fd
    cdef ssize_t n
    try:
        if cm is not None:
            if type(cm) is not ControlMessage:
                raise TypeError(f"cm must be a ControlMessage or None, not {type(cm).__name__}")
            return write_with_control(
                conn, data, memory, to, at_once(<ControlMessage>cm), flags, err)
        fasten(data, memory, False)
        vector.iov_base = memory.data
        vector.iov_len = memory.size
        memset(&sent, 0, sizeof(sent))
        sent.msg_name = to
        sent.msg_iov = &vector
        sent.msg_iovlen = 1
        fd = begin(conn, &attempt, True)
        while True:
            if err:
                conn.retry_or_raise(err, fd, flags, True, &attempt, "write_to", &sent)
            if releases(conn, 1, memory.size):
                conn.enter()
                with nogil:
                    n = sendto(fd, memory.data, memory.size, flags | MSG_DONTWAIT, <sockaddr *>to,
                               sizeof(to[0]) if to != NULL else 0)
                    err = errno
                conn.leave()
            else:
                hold(conn)
                n = sendto(fd, memory.data, memory.size, flags | MSG_DONTWAIT, <sockaddr *>to,
                           sizeof(to[0]) if to != NULL else 0)
                err = errno
                let_go(conn)
            if n >= 0:
                return n
    finally:
        unfasten(memory)


cdef int find_destination(PacketTransfer conn, object dst, sockaddr_in *name) except -1:
    """What a destination means, looked up among those given lately, or looked into and kept."""
    cdef unsigned int i
    cdef PyObject *old
    if ALONE:
        for i in range(DESTINATIONS):
            if conn.destinations[i] == <PyObject *>dst:
                conn.recent = i
                name[0] = conn.names[i]
                return 0
    as_sockaddr(dst, name, "dst")
    if ALONE and is_constant(dst):
        i = conn.recent = (conn.recent + 1) % DESTINATIONS
        old = conn.destinations[i]
        Py_INCREF(dst)
        conn.destinations[i] = <PyObject *>dst
        conn.names[i] = name[0]
        Py_XDECREF(old)
    return 0


cdef object read_stripped(PacketTransfer conn, object buf, Memory *memory, int flags):
    """The payload of a raw socket, which delivers the IP header first.

    The header goes to a place of its own, so that the payload stands at the buffer's start;
    options, which are rare, come in front of the payload there and are moved out, and what
    they pushed beyond the buffer's end is caught in `tail`.
    """
    cdef unsigned char head[20]
    cdef unsigned char tail[MAX_OPTIONS]
    cdef Incoming incoming
    cdef iovec vectors[3]
    cdef unsigned char *data = <unsigned char *>memory.data
    cdef Py_ssize_t n, options = 0, kept, room = memory.size
    vectors[0].iov_base = head
    vectors[0].iov_len = sizeof(head)
    vectors[1].iov_base = data
    vectors[1].iov_len = room
    vectors[2].iov_base = tail
    vectors[2].iov_len = sizeof(tail)
    n = conn.take_message(&incoming, vectors, 3, flags, buf, memory, 0)
    kept = min(n, <Py_ssize_t>(sizeof(head) + sizeof(tail)) + room)
    if kept < <Py_ssize_t>sizeof(head):
        n = 0  # a filter let less than a header through: no payload
    else:
        options = max(((head[0] & 0x0F) << 2) - 20, 0)
        n = max(n - 20 - options, 0)
        if options:
            kept = max(min(kept - 20 - options, room), 0)  # payload bytes to be had
            close_gap(data, room, tail, options, kept)
    if not flags & MSG_TRUNC:
        n = min(n, room)
    return received(&conn.last, n, control_of(&incoming), sender_of(&conn.peers, &incoming))


cdef object write_with_control(PacketTransfer conn, object data, Memory *memory, sockaddr_in *to,
                               ControlMessage cm, int flags, int err):
    cdef Outgoing outgoing
    cdef iovec vector
    cdef Py_ssize_t segment = cm.segment_to_send()
    cdef bint segmented = 0 < segment < memory.size
    vector.iov_base = memory.data
    vector.iov_len = memory.size
    outgoing.header.msg_name = to
    outgoing.header.msg_namelen = sizeof(sockaddr_in) if to != NULL else 0
    outgoing.header.msg_iov = &vector
    outgoing.header.msg_iovlen = 1
    outgoing.header.msg_flags = 0
    set_control(&outgoing, cm, segmented)
    try:
        if segmented:
            fasten(data, memory, False)
            return conn.send_cut(
                &outgoing.header, segment, 0, flags, "write_to", None)
        return conn.send(&outgoing.header, flags, data, memory, err)
    finally:
        free_control(&outgoing)


cdef int refuse_unless_udp(PacketTransfer conn, str name) except -1:
    if conn._type != SOCK_RAW and conn._protocol != c.IPPROTO_ICMP:
        return 0
    raise AttributeError(f"only UDP conns have {name}: see PacketConn.udp")


cdef bint is_constant(object dst) noexcept:
    """Whether a destination can never mean another address: an exact str, or tuple with it."""
    if PyTuple_CheckExact(dst):
        return (
            PyUnicode_CheckExact(<object>PyTuple_GET_ITEM(dst, 0))
            and PyLong_CheckExact(<object>PyTuple_GET_ITEM(dst, 1))
        )
    return PyUnicode_CheckExact(dst)


cdef void close_gap(unsigned char *data, Py_ssize_t room, const unsigned char *tail,
                    Py_ssize_t options, Py_ssize_t payload) noexcept:
    """Move a payload of `payload` bytes to the start of data, over the options before it.

    data     [options|payload ........]      tail [rest of the payload]
    """
    cdef Py_ssize_t inside = max(min(payload, room - options), 0)
    cdef Py_ssize_t skipped = max(options - room, 0)  # options that lie in tail themselves
    memmove(data, data + min(options, room), inside)
    if payload > inside:
        memcpy(data + inside, tail + skipped, payload - inside)
