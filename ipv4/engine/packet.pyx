"""Single datagrams: `read_from` and `write_to`, for sockets that hand over payloads and for raw
sockets whose program writes and reads the IP header itself.

These calls make the system call with the GIL held: they ask the kernel not to wait, so it takes
about a microsecond, and giving the GIL up for that long costs a busy program its place in line.
Only a send of many kilobytes, which takes as long as a batch, gives it up like one.
"""

cimport cython
from cpython.buffer cimport PyBUF_FORMAT, PyBUF_ND, PyBUF_STRIDES, Py_buffer, PyBuffer_Release
from cpython.tuple cimport PyTuple_CheckExact, PyTuple_GET_ITEM
from cpython.long cimport PyLong_CheckExact
from cpython.unicode cimport PyUnicode_CheckExact
from libc.errno cimport errno
from libc.string cimport memcpy, memmove, memset

from ..wire.boundary cimport as_flags, as_sockaddr, get_buffer, peer_of
from ..wire.control cimport ControlMessage
from .endpoint cimport Attempt
from .errqueue cimport ErrorQueue
from .retry cimport (
    Incoming,
    Outgoing,
    control_of,
    free_control,
    releases,
    sender_of,
    set_control,
)
from ..wire.header cimport MAX_HEADER, MAX_OPTIONS, Header, new_header
from ..libc cimport socket as c
from ..libc.socket cimport (
    MSG_DONTWAIT,
    MSG_TRUNC,
    SOCK_RAW,
    iovec,
    recvfrom,
    sendto,
    sockaddr,
    sockaddr_in,
    socklen_t,
)


cdef class PacketTransfer(ErrorQueue):
    """Reads and writes of payloads, on UDP, ICMP and raw sockets; base of `PacketConn`."""

    cdef:
        object last_dst  # the last destination given, when it is of a kind that cannot change
        sockaddr_in last_name

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
        """
        cdef Py_buffer view
        cdef int c_flags = as_flags(flags)
        get_buffer(buf, &view, True, "buf")
        try:
            return read_payload(self, <unsigned char *>view.buf, view.len, c_flags)
        finally:
            PyBuffer_Release(&view)

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
            later one failed; the next call then meets that error.

        Raises
        ------
        OSError
            As sendmsg(2): TimeoutError at the write deadline, EMSGSIZE for a payload that does
            not fit, ENETUNREACH, EPERM from a firewall, …
        ValueError
            If `dst` is not an IPv4 address.
        """
        cdef Py_buffer view
        cdef Attempt attempt
        cdef sockaddr_in name
        cdef sockaddr_in *to = NULL
        cdef int c_flags = as_flags(flags)
        cdef int fd, err
        cdef ssize_t n
        if dst is not None:
            if dst is not self.last_dst:
                as_sockaddr(dst, &name, "dst")
                to = &name
                if is_constant(dst):
                    self.last_name = name
                    self.last_dst = dst
            else:
                name = self.last_name
                to = &name
        if cm is not None and type(cm) is not ControlMessage:
            raise TypeError(f"cm must be a ControlMessage or None, not {type(cm).__name__}")
        get_buffer(data, &view, False, "data")
        try:
            if cm is not None:
                return write_with_control(self, &view, to, <ControlMessage>cm, c_flags)
            fd = self.begin(&attempt, True)
            while True:
                if releases(self, 1, view.len):
                    self.enter()
                    with nogil:
                        n = sendto(fd, view.buf, view.len, c_flags | MSG_DONTWAIT, <sockaddr *>to,
                                   sizeof(name) if to != NULL else 0)
                        err = errno
                    self.leave()
                else:
                    n = sendto(fd, view.buf, view.len, c_flags | MSG_DONTWAIT, <sockaddr *>to,
                               sizeof(name) if to != NULL else 0)
                    err = errno
                if n >= 0:
                    return n
                self.retry_or_raise(err, fd, c_flags, True, &attempt, "write_to", to)
        finally:
            PyBuffer_Release(&view)


cdef inline object read_payload(PacketTransfer conn, unsigned char *data, Py_ssize_t room, int flags):
    """Payload into `data`, as ``(n, cm, src)``."""
    cdef Attempt attempt
    cdef Incoming incoming
    cdef iovec vector
    cdef sockaddr_in name
    cdef socklen_t namelen
    cdef int fd, err
    cdef Py_ssize_t n
    if conn._type == SOCK_RAW:
        return read_stripped(conn, data, room, flags)
    if conn.wants_control:
        vector.iov_base = data
        vector.iov_len = room
        n = conn.take_message(&incoming, &vector, 1, flags)
        return n, control_of(&incoming), sender_of(&conn.peers, &incoming)
    # recvfrom(2) costs a tenth less than recvmsg(2).
    fd = conn.begin(&attempt, False)
    while True:
        namelen = sizeof(name)
        if releases(conn, 1, 0):
            conn.enter()
            with nogil:
                n = recvfrom(fd, data, room, flags | MSG_DONTWAIT, <sockaddr *>&name, &namelen)
                err = errno
            conn.leave()
        else:
            n = recvfrom(fd, data, room, flags | MSG_DONTWAIT, <sockaddr *>&name, &namelen)
            err = errno
        if n >= 0:
            break
        conn.retry_or_raise(err, fd, flags, False, &attempt, "read_from", NULL)
    if namelen < sizeof(name):
        return n, None, None
    return n, None, peer_of(&conn.peers, name.sin_addr.s_addr, name.sin_port)


cdef object read_stripped(PacketTransfer conn, unsigned char *data, Py_ssize_t room, int flags):
    """The payload of a raw socket, which delivers the IP header first.

    The header goes to a place of its own, so that the payload stands at the buffer's start;
    options, which are rare, come in front of the payload there and are moved out, and what
    they pushed beyond the buffer's end is caught in `tail`.
    """
    cdef unsigned char head[20]
    cdef unsigned char tail[MAX_OPTIONS]
    cdef Incoming incoming
    cdef iovec vectors[3]
    cdef Py_ssize_t n, options = 0, kept
    vectors[0].iov_base = head
    vectors[0].iov_len = sizeof(head)
    vectors[1].iov_base = data
    vectors[1].iov_len = room
    vectors[2].iov_base = tail
    vectors[2].iov_len = sizeof(tail)
    n = conn.take_message(&incoming, vectors, 3, flags)
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
    return n, control_of(&incoming), sender_of(&conn.peers, &incoming)


cdef inline object write_with_control(PacketTransfer conn, Py_buffer *view, sockaddr_in *to,
                               ControlMessage cm, int flags):
    cdef Outgoing outgoing
    cdef iovec vector
    cdef Py_ssize_t segment = cm.segment_to_send()
    cdef bint segmented = 0 < segment < view.len
    vector.iov_base = view.buf
    vector.iov_len = view.len
    outgoing.header.msg_name = to
    outgoing.header.msg_namelen = sizeof(sockaddr_in) if to != NULL else 0
    outgoing.header.msg_iov = &vector
    outgoing.header.msg_iovlen = 1
    outgoing.header.msg_flags = 0
    set_control(&outgoing, cm, segmented)
    try:
        if segmented:
            return conn.send_segmented(&outgoing.header, segment, flags)
        return conn.send(&outgoing.header, flags)
    finally:
        free_control(&outgoing)


cdef class RawTransfer(ErrorQueue):
    """Reads and writes of whole IPv4 packets; base of `RawConn`."""

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
        cdef Incoming incoming
        cdef iovec vector
        cdef int c_flags = as_flags(flags)
        cdef Py_ssize_t n
        cdef Header head
        cdef Window window = Window.__new__(Window)
        get_buffer(buf, &window.view, True, "buf")
        window.pinned = True
        vector.iov_base = window.view.buf
        vector.iov_len = window.view.len
        n = min(self.take_message(&incoming, &vector, 1, c_flags), window.view.len)
        head = new_header(<const unsigned char *>window.view.buf, n)
        cm = control_of(&incoming)
        window.start = head._len
        window.length = n - head._len
        return head, memoryview(window), cm

    def write_to(self, header, payload, cm=None, flags=0):
        """Send one packet with the header given.

        Parameters
        ----------
        header : Header
            Its `dst` is where the packet goes. The kernel always fills `total_len` and
            `checksum`, and `id` and `src` when they are zero (raw(7)).
        payload : bytes-like
            What follows the header.
        cm : ControlMessage, optional
            Source address and interface; `cm.dst` is what a receive told, not a destination.
        flags : int
            Of sendmsg(2).

        Returns
        -------
        int
            Bytes sent, header and payload together.

        Raises
        ------
        ValueError
            As `Header.marshal`.
        OSError
            As sendmsg(2); EMSGSIZE for a packet longer than the route's MTU, for such packets
            are never fragmented.
        """
        cdef unsigned char head[MAX_HEADER]
        cdef Py_buffer view
        cdef sockaddr_in name
        cdef iovec vectors[2]
        cdef Outgoing outgoing
        cdef int c_flags = as_flags(flags)
        if type(header) is not Header:
            raise TypeError(f"header must be a Header, not {type(header).__name__}")
        if cm is not None and type(cm) is not ControlMessage:
            raise TypeError(f"cm must be a ControlMessage or None, not {type(cm).__name__}")
        outgoing.header.msg_control = outgoing.control
        outgoing.header.msg_controllen = 0
        get_buffer(payload, &view, False, "payload")
        try:
            vectors[0].iov_base = head
            vectors[0].iov_len = (<Header>header).encoded_length()
            (<Header>header).encode(head, 0)
            vectors[1].iov_base = view.buf
            vectors[1].iov_len = view.len
            memset(&name, 0, sizeof(name))
            name.sin_family = c.AF_INET
            name.sin_addr.s_addr = (<Header>header)._dst
            outgoing.header.msg_name = &name
            outgoing.header.msg_namelen = sizeof(name)
            outgoing.header.msg_iov = vectors
            outgoing.header.msg_iovlen = 2
            outgoing.header.msg_flags = 0
            if cm is not None:
                set_control(&outgoing, <ControlMessage>cm, False)
            return self.send(&outgoing.header, c_flags)
        finally:
            PyBuffer_Release(&view)
            free_control(&outgoing)


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
            PyBuffer_Release(&self.view)

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
