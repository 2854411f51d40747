"""Single datagrams: `read_from` and `write_to`, for sockets that hand over payloads and for raw
sockets whose program writes and reads the IP header itself.

These calls make the system call with the GIL held: they ask the kernel not to wait, so it takes
about a microsecond, and giving the GIL up for that long costs a busy program its place in line.
Only a send of many kilobytes, which takes as long as a batch, gives it up like one.
"""

cimport cython
from cpython.buffer cimport PyBUF_FORMAT, PyBUF_ND, PyBUF_STRIDES, Py_buffer, PyBuffer_Release
from cpython.mem cimport PyMem_Free, PyMem_Malloc
from cpython.tuple cimport PyTuple_CheckExact, PyTuple_GET_ITEM
from cpython.long cimport PyLong_CheckExact
from cpython.unicode cimport PyUnicode_CheckExact
from libc.errno cimport errno
from libc.string cimport memcpy, memmove, memset

from ..wire.boundary cimport as_flags, as_sockaddr, get_buffer, peer_of
from ..wire.control cimport CONTROL_ROOM, SEND_ROOM, ControlMessage, control_from_kernel
from .endpoint cimport NEVER, Patience
from .errqueue cimport ErrorQueue
from .retry cimport RELEASE_BYTES, raise_cut_control
from ..wire.header cimport MAX_HEADER, MAX_OPTIONS, Header, new_header
from ..libc cimport socket as c
from ..libc.socket cimport (
    MSG_CTRUNC,
    MSG_DONTWAIT,
    MSG_TRUNC,
    SOCK_RAW,
    iovec,
    msghdr,
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
        cdef sockaddr_in name
        cdef socklen_t namelen
        cdef Patience patience
        cdef int c_flags = as_flags(flags)
        cdef int fd, err
        cdef ssize_t n
        get_buffer(buf, &view, True, "buf")
        try:
            if self._type == SOCK_RAW:
                return self.read_stripped(&view, c_flags)
            if self.wants_control:
                return self.read_with_control(&view, c_flags)
            fd = self.live_fd()
            patience.started = patience.stale_tried = patience.error_seen = False
            if self.read_deadline != NEVER:
                self.check_deadline(False)
            while True:
                namelen = sizeof(name)
                if self.gil > 0:
                    self.users += 1
                    with nogil:
                        n = recvfrom(fd, view.buf, view.len, c_flags | MSG_DONTWAIT,
                                     <sockaddr *>&name, &namelen)
                        err = errno
                    self.leave()
                else:
                    n = recvfrom(fd, view.buf, view.len, c_flags | MSG_DONTWAIT,
                                 <sockaddr *>&name, &namelen)
                    err = errno
                if n >= 0:
                    break
                self.again(err, fd, c_flags, False, &patience, "read_from", NULL)
            if namelen < sizeof(name):
                return n, None, None
            return n, None, peer_of(&self.peers, name.sin_addr.s_addr, name.sin_port)
        finally:
            PyBuffer_Release(&view)

    cdef object read_with_control(self, Py_buffer *view, int flags):
        """`read_from` on a datagram socket that brings control messages."""
        cdef unsigned char control[CONTROL_ROOM]
        cdef sockaddr_in name
        cdef iovec vector
        cdef msghdr header
        cdef Patience patience
        cdef int fd = self.live_fd(), err
        cdef Py_ssize_t n
        cdef ControlMessage cm = None
        patience.started = patience.stale_tried = patience.error_seen = False
        if self.read_deadline != NEVER:
            self.check_deadline(False)
        vector.iov_base = view.buf
        vector.iov_len = view.len
        header.msg_name = &name
        header.msg_iov = &vector
        header.msg_iovlen = 1
        header.msg_control = control
        while True:
            header.msg_namelen = sizeof(name)
            header.msg_controllen = CONTROL_ROOM
            header.msg_flags = 0
            n = self.receive(fd, &header, flags)
            err = errno
            if n >= 0:
                break
            self.again(err, fd, flags, False, &patience, "read_from", NULL)
        if header.msg_flags & MSG_CTRUNC:
            raise_cut_control()
        if header.msg_namelen < sizeof(name):  # an entry of the error queue may bear no name
            if header.msg_controllen:
                cm = control_from_kernel(control, header.msg_controllen, 0)
            return n, cm, None
        if header.msg_controllen:
            cm = control_from_kernel(control, header.msg_controllen, name.sin_addr.s_addr)
        return n, cm, peer_of(&self.peers, name.sin_addr.s_addr, name.sin_port)

    cdef object read_stripped(self, Py_buffer *view, int flags):
        """`read_from` on a raw socket, which delivers the IP header first.

        The header goes to a place of its own, so that the payload stands at the buffer's start;
        options, which are rare, come in front of the payload there and are moved out, and what
        they pushed beyond the buffer's end is caught in `tail`.
        """
        cdef unsigned char control[CONTROL_ROOM]
        cdef unsigned char head[20]
        cdef unsigned char tail[MAX_OPTIONS]
        cdef sockaddr_in name
        cdef iovec vectors[3]
        cdef msghdr header
        cdef Patience patience
        cdef int fd = self.live_fd(), err
        cdef Py_ssize_t n, options = 0, room = view.len, kept
        cdef ControlMessage cm = None
        patience.started = patience.stale_tried = patience.error_seen = False
        if self.read_deadline != NEVER:
            self.check_deadline(False)
        vectors[0].iov_base = head
        vectors[0].iov_len = sizeof(head)
        vectors[1].iov_base = view.buf
        vectors[1].iov_len = room
        vectors[2].iov_base = tail
        vectors[2].iov_len = sizeof(tail)
        while True:
            header.msg_name = &name
            header.msg_namelen = sizeof(name)
            header.msg_iov = vectors
            header.msg_iovlen = 3
            header.msg_control = control if self.wants_control else NULL
            header.msg_controllen = CONTROL_ROOM if self.wants_control else 0
            header.msg_flags = 0
            n = self.receive(fd, &header, flags)
            err = errno
            if n >= 0:
                break
            self.again(err, fd, flags, False, &patience, "read_from", NULL)
        if header.msg_flags & MSG_CTRUNC and self.wants_control:
            raise_cut_control()
        kept = min(n, <Py_ssize_t>(sizeof(head) + sizeof(tail)) + room)
        if kept < <Py_ssize_t>sizeof(head):
            n = 0  # a filter let less than a header through: no payload
        else:
            options = max(((head[0] & 0x0F) << 2) - 20, 0)
            n = max(n - 20 - options, 0)
            if options:
                kept = max(min(kept - 20 - options, room), 0)  # payload bytes to be had
                close_gap(<unsigned char *>view.buf, room, tail, options, kept)
        if not flags & MSG_TRUNC:
            n = min(n, room)
        if header.msg_controllen and self.wants_control:
            cm = control_from_kernel(
                control, header.msg_controllen,
                name.sin_addr.s_addr if header.msg_namelen >= sizeof(name) else 0)
        if header.msg_namelen < sizeof(name):
            return n, cm, None
        return n, cm, peer_of(&self.peers, name.sin_addr.s_addr, 0)

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
        cdef Patience patience
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
                return self.write_with_control(&view, to, <ControlMessage>cm, c_flags)
            fd = self.live_fd()
            patience.started = patience.stale_tried = patience.error_seen = False
            if self.write_deadline != NEVER:
                self.check_deadline(True)
            while True:
                if self.gil > 0 or view.len >= RELEASE_BYTES and self.gil < 0:
                    self.users += 1
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
                self.again(err, fd, c_flags, True, &patience, "write_to", to)
        finally:
            PyBuffer_Release(&view)

    cdef object write_with_control(self, Py_buffer *view, sockaddr_in *to, ControlMessage cm,
                                   int flags):
        cdef unsigned char stack_control[SEND_ROOM]
        cdef unsigned char *control = stack_control
        cdef iovec vector
        cdef msghdr header
        cdef Py_ssize_t segment, n
        cdef bint segmented
        segment = cm.segment_to_send()
        segmented = 0 < segment < view.len
        vector.iov_base = view.buf
        vector.iov_len = view.len
        header.msg_name = to
        header.msg_namelen = sizeof(sockaddr_in) if to != NULL else 0
        header.msg_iov = &vector
        header.msg_iovlen = 1
        header.msg_flags = 0
        if cm.encoding_room() > SEND_ROOM:
            control = <unsigned char *>PyMem_Malloc(cm.encoding_room())
            if control == NULL:
                raise MemoryError()
        header.msg_control = control
        header.msg_controllen = cm.encode(control, segmented)
        try:
            n = self.send_segmented(&header, segment, flags) if segmented else self.send(
                &header, flags)
        finally:
            if control != stack_control:
                PyMem_Free(control)
        return n


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
        cdef unsigned char control[CONTROL_ROOM]
        cdef sockaddr_in name
        cdef iovec vector
        cdef msghdr header
        cdef Patience patience
        cdef int c_flags = as_flags(flags)
        cdef int fd, err
        cdef Py_ssize_t n
        cdef Header head
        cdef ControlMessage cm = None
        cdef Window window = Window.__new__(Window)
        get_buffer(buf, &window.view, True, "buf")
        window.pinned = True
        fd = self.live_fd()
        patience.started = patience.stale_tried = patience.error_seen = False
        if self.read_deadline != NEVER:
            self.check_deadline(False)
        vector.iov_base = window.view.buf
        vector.iov_len = window.view.len
        while True:
            header.msg_name = &name
            header.msg_namelen = sizeof(name)
            header.msg_iov = &vector
            header.msg_iovlen = 1
            header.msg_control = control if self.wants_control else NULL
            header.msg_controllen = CONTROL_ROOM if self.wants_control else 0
            header.msg_flags = 0
            n = self.receive(fd, &header, c_flags)
            err = errno
            if n >= 0:
                break
            self.again(err, fd, c_flags, False, &patience, "read_from", NULL)
        if header.msg_flags & MSG_CTRUNC and self.wants_control:
            raise_cut_control()
        n = min(n, window.view.len)
        head = new_header(<const unsigned char *>window.view.buf, n)
        if header.msg_controllen and self.wants_control:
            cm = control_from_kernel(
                control, header.msg_controllen,
                name.sin_addr.s_addr if header.msg_namelen >= sizeof(name) else 0)
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
        cdef unsigned char stack_control[SEND_ROOM]
        cdef unsigned char *control = stack_control
        cdef Py_buffer view
        cdef sockaddr_in name
        cdef iovec vectors[2]
        cdef msghdr message
        cdef int c_flags = as_flags(flags)
        if type(header) is not Header:
            raise TypeError(f"header must be a Header, not {type(header).__name__}")
        if cm is not None and type(cm) is not ControlMessage:
            raise TypeError(f"cm must be a ControlMessage or None, not {type(cm).__name__}")
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
            message.msg_name = &name
            message.msg_namelen = sizeof(name)
            message.msg_iov = vectors
            message.msg_iovlen = 2
            message.msg_control = NULL
            message.msg_controllen = 0
            message.msg_flags = 0
            if cm is not None:
                if (<ControlMessage>cm).encoding_room() > SEND_ROOM:
                    control = <unsigned char *>PyMem_Malloc((<ControlMessage>cm).encoding_room())
                    if control == NULL:
                        raise MemoryError()
                message.msg_control = control
                message.msg_controllen = (<ControlMessage>cm).encode(control, False)
            return self.send(&message, c_flags)
        finally:
            PyBuffer_Release(&view)
            if control != stack_control:
                PyMem_Free(control)


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
