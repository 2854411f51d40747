"""Moving messages: what every call does with a failed system call, batches, the error queue.

A call tries first, without waiting; only if it would block does it wait (`Endpoint.wait`).
"""

from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize
from cpython.exc cimport PyErr_CheckSignals
from cpython.mem cimport PyMem_Free, PyMem_Malloc
from cpython.object cimport PyObject
from cpython.ref cimport Py_DECREF, Py_INCREF
from libc.errno cimport (
    EACCES,
    EAGAIN,
    EBADF,
    ECONNREFUSED,
    EHOSTDOWN,
    EHOSTUNREACH,
    EINTR,
    EINVAL,
    EIO,
    EMSGSIZE,
    ENOBUFS,
    ENETUNREACH,
    ENOPROTOOPT,
    ENOSYS,
    EOPNOTSUPP,
    EPROTO,
    errno,
)
from libc.stdint cimport INT32_MAX, int32_t, uint16_t, uint32_t
from libc.string cimport memcpy, memset

from ..wire.boundary cimport (
    address_object,
    address_text,
    as_flags,
    as_int,
    os_error,
    peer_tuple,
    shown,
)
from ..wire.control cimport ALL_FLAGS, CONTROL_ROOM, ControlMessage, Told, control_of_report
from .endpoint cimport NEVER, Endpoint, Patience, generation
from ..libc cimport socket as c
from ..libc.socket cimport (
    CMSG_LEN,
    CMSG_SPACE,
    MSG_CTRUNC,
    MSG_DONTWAIT,
    MSG_ERRQUEUE,
    UDP_SEGMENT,
    cmsghdr,
    iovec,
    mmsghdr,
    msghdr,
    ntohs,
    recv_one,
    recvmmsg,
    recvmsg,
    send_one,
    sendmmsg,
    sendmsg,
    sock_extended_err,
    sockaddr,
    sockaddr_in,
    socklen_t,
)
from .message cimport Arena, Message, MessageBatch, Span

import sys

from ..wire.control import RECEIVE_OPTIONS

cdef enum:
    MAX_BATCH = 1024  # UIO_MAXIOV: as many as the kernel moves in one call
    STACK_BATCH = 64  # batches up to here need no allocation
    OLD_MAX_SEGMENTS = 64  # UDP_MAX_SEGMENTS of older kernels
    NEW_MAX_SEGMENTS = 128
    MAX_PAYLOAD = 65507  # of a UDP datagram, and so of what is cut in one call
    ERROR_PAYLOAD = 65535


cdef class Transfer(Endpoint):
    """Batches and control messages of a datagram socket; base of PacketConn and RawConn."""

    def __cinit__(self, *args, **kwargs):
        self.segmenting = True

    def set_control_message(self, flags, on):
        """Choose what received packets tell in their `ControlMessage` (ip(7), socket(7), udp(7)).

        Parameters
        ----------
        flags : ControlFlags
            Which; others keep their state.
        on : bool
            Whether they shall be told. Turning one flag off never turns off what another that is
            still on needs: SRC, DST and INTERFACE share IP_PKTINFO.

        Raises
        ------
        ValueError
            If `flags` holds an unknown bit.
        OSError
            As setsockopt(2); flags of options that were set before it stay set.
        NotImplementedError
            If this system has no option for a flag.

        Notes
        -----
        None of it takes a privilege. TTL (IP_RECVTTL), SRC, DST and INTERFACE (IP_PKTINFO), TOS
        (IP_RECVTOS) and OPTIONS (IP_RECVOPTS) are there since Linux 2.2, TIMESTAMP
        (SO_TIMESTAMPNS) since 2.6.22, ORIGINAL_DST (IP_RECVORIGDSTADDR) since 2.6.29, DROPS
        (SO_RXQ_OVFL) since 2.6.33, SEGMENT_SIZE (UDP_GRO) since 5.0.
        """
        cdef uint32_t asked = <uint32_t>as_int(flags, 0, ALL_FLAGS, "flags")
        cdef uint32_t wanted, bits
        cdef int32_t value
        self.live_fd()
        wanted = self._control_flags | asked if on else self._control_flags & ~asked
        for mask, level, option, name, _, _, _ in RECEIVE_OPTIONS:
            bits = mask
            if not asked & bits:
                continue
            value = (wanted & bits) != 0
            if value != ((self._control_flags & bits) != 0) or value:
                self.set_raw(level, option, &value, sizeof(value), name)
            self._control_flags = (self._control_flags & ~bits) | (wanted & bits)
            if value:
                self.wants_control = True

    @property
    def control_flags(self):
        """What received packets tell, as `set_control_message` left it (`ControlFlags`)."""
        from ..constants import ControlFlags

        return ControlFlags(self._control_flags)

    def _expect_control(self):
        """Some option was set that may bring control messages unknown to `control_flags`."""
        self.wants_control = True

    def _sends_singly(self):
        """Whether batches go one system call a message, for lack of recvmmsg and sendmmsg."""
        return self.without_mmsg or not (c.HAVE_RECVMMSG and c.HAVE_SENDMMSG)

    @property
    def segmentation(self):
        """Whether payloads given with a `segment_size` are cut by the kernel (udp(7), UDP_SEGMENT,
        Linux 4.18; it takes no privilege).

        It turns False when an interface refused with EIO: that payload, and all from then on,
        leaves segment by segment, one system call each. It can be set either way.
        """
        return self.segmenting

    @segmentation.setter
    def segmentation(self, value):
        if not isinstance(value, bool):
            raise TypeError(f"segmentation must be True or False, not {shown(value)}")
        self.segmenting = value

    # Failed system calls

    cdef bint is_stale(self, int fd, int err) noexcept:
        """Whether an error may belong to an earlier datagram, to another destination.

        With IP_RECVERR an unconnected socket is told of every ICMP error by the next call
        (ip(7)); the report itself waits in the error queue, so the call can be tried again.
        """
        cdef int32_t on = 0
        cdef socklen_t size = sizeof(on)
        cdef sockaddr_in peer
        if not (
            err == ECONNREFUSED or err == EHOSTUNREACH or err == ENETUNREACH
            or err == EHOSTDOWN or err == ENOPROTOOPT or err == EPROTO or err == EOPNOTSUPP
            or err == EMSGSIZE or err == EACCES
        ):
            return False
        if c.IP_RECVERR < 0 or c.getsockopt(fd, c.IPPROTO_IP, c.IP_RECVERR, &on, &size) < 0:
            return False
        size = sizeof(peer)
        return on and c.getpeername(fd, <sockaddr *>&peer, &size) < 0

    cdef int again(self, int err, int fd, int flags, bint writing, Patience *patience, str what,
                   const sockaddr_in *name) except -1:
        """Return when a failed call is worth trying again; else raise what it means."""
        if err == EAGAIN:
            if flags & (MSG_DONTWAIT | MSG_ERRQUEUE):
                raise OSError(EAGAIN, "Resource temporarily unavailable")
            self.wait(fd, writing, patience)
        elif err == EINTR:
            PyErr_CheckSignals()
        elif not patience.stale_tried and self.is_stale(fd, err):
            patience.stale_tried = True
        elif name != NULL:
            raise os_error(
                err, f"{what} {address_text(name.sin_addr.s_addr)}:{ntohs(name.sin_port)}")
        else:
            raise os_error(err, what)
        if self.fd != fd:  # closed by a signal handler, or by another thread meanwhile
            raise OSError(EBADF, "Bad file descriptor: the conn was closed by another call")
        self.check_deadline(writing)
        return 0

    # Single messages

    cdef Py_ssize_t receive(self, int fd, msghdr *header, int flags) except? -1:
        """recvmsg(2) without waiting; -1 leaves its errno."""
        cdef Py_ssize_t n
        cdef int err
        if self.gil <= 0:
            return recvmsg(fd, header, flags | MSG_DONTWAIT)
        self.users += 1
        with nogil:
            n = recvmsg(fd, header, flags | MSG_DONTWAIT)
            err = errno
        self.leave()
        set_errno(err)
        return n

    cdef Py_ssize_t send(self, const msghdr *header, int flags) except -1:
        """One message to the kernel, waiting for room if need be."""
        cdef Patience patience
        cdef int fd = self.live_fd(), err
        cdef Py_ssize_t n
        patience.started = patience.stale_tried = patience.error_seen = False
        if self.write_deadline != NEVER:
            self.check_deadline(True)
        while True:
            if self.gil > 0 or header.msg_iov[header.msg_iovlen - 1].iov_len >= RELEASE_BYTES and (
                self.gil < 0
            ):
                self.users += 1
                with nogil:
                    n = sendmsg(fd, header, flags | MSG_DONTWAIT)
                    err = errno
                self.leave()
            else:
                n = sendmsg(fd, header, flags | MSG_DONTWAIT)
                err = errno
            if n >= 0:
                return n
            self.again(err, fd, flags, True, &patience, "write_to",
                       <const sockaddr_in *>header.msg_name)

    # Batches

    def read_batch(self, ms, flags=0):
        """Receive several datagrams in one system call (recvmmsg(2)).

        Parameters
        ----------
        ms : list of Message, or MessageBatch
            Filled from the first on. The kernel takes at most 1024.
        flags : int
            Of recvmsg(2). With MSG_DONTWAIT the call never waits; with MSG_TRUNC `Message.n` is
            a datagram's real length, also beyond its buffers.

        Returns
        -------
        int
            How many messages were received; 0 only for an empty `ms`. The call waits for the
            first and takes what else is there. Messages beyond it are untouched.

        Raises
        ------
        OSError
            When not one message came. TimeoutError at the read deadline, BlockingIOError when
            the socket does not wait.
        BufferError
            If a message is in flight in another call.

        Notes
        -----
        IP headers are not stripped on raw sockets. A datagram longer than its buffers has
        MSG_TRUNC in `Message.flags`.
        """
        cdef int c_flags = as_flags(flags)
        if type(ms) is MessageBatch:
            return self.move_batch(<MessageBatch>ms, c_flags, False)
        return self.move_list(ms, c_flags, False)

    def write_batch(self, ms, flags=0):
        """Send several datagrams in one system call (sendmmsg(2)).

        Parameters
        ----------
        ms : list of Message, or MessageBatch
            Sent from the first on. The kernel takes at most 1024.
        flags : int
            Of sendmsg(2).

        Returns
        -------
        int
            How many messages were sent, which may be fewer than were given: the rest can be
            sent by another call, whose error then tells why its first could not go.

        Raises
        ------
        OSError
            When not one message was sent, with the first message's error.
        BufferError
            If a message is in flight in another call.
        """
        cdef int c_flags = as_flags(flags)
        if type(ms) is MessageBatch:
            return self.move_batch(<MessageBatch>ms, c_flags, True)
        return self.move_list(ms, c_flags, True)

    def write_all(self, messages):
        """Send every message of a batch, in as many system calls as it takes.

        Parameters
        ----------
        messages : list of Message, or MessageBatch
            Any number.

        Returns
        -------
        list of (int, OSError)
            Index and error of each message that could not go; empty when all went. Nothing is
            sent twice. At the write deadline the rest is returned with TimeoutError.
        """
        cdef Py_ssize_t at = 0, total
        if type(messages) is not MessageBatch:
            # A list of our own: the caller's may lose messages while a call waits.
            try:
                messages = list(messages)
            except TypeError:
                raise TypeError(
                    "messages must be a list of Message or a MessageBatch,"
                    f" not {type(messages).__name__}"
                ) from None
        total = len(messages)
        failed = []
        self.live_fd()
        while at < total:
            try:
                at += self.write_batch(messages[at:at + MAX_BATCH])
            except OSError as error:
                if error.errno == EBADF or isinstance(error, (TimeoutError, BlockingIOError)):
                    # No generator: short of memory, Cython's closures free what is not theirs.
                    for index in range(at, total):
                        failed.append((index, error))
                    break
                failed.append((at, error))
                at += 1
        return failed

    cdef int move_list(self, object messages, int flags, bint writing) except -1:
        cdef mmsghdr stack_headers[STACK_BATCH]
        cdef PyObject *stack_held[STACK_BATCH]
        cdef mmsghdr *headers = stack_headers
        cdef PyObject **held = stack_held
        cdef Py_ssize_t count, boarded = 0, i
        cdef int moved = 0
        cdef Patience patience
        cdef object item
        cdef Message message
        cdef unsigned int born = generation()
        memset(&patience, 0, sizeof(patience))
        self.live_fd()
        if type(messages) is not list and type(messages) is not tuple:
            try:
                messages = list(messages)
            except TypeError:
                raise TypeError(
                    f"ms must be a list of Message or a MessageBatch, not {type(messages).__name__}"
                ) from None
        count = min(<Py_ssize_t>len(messages), <Py_ssize_t>MAX_BATCH)
        if count == 0:
            return 0
        if count > STACK_BATCH:
            headers = <mmsghdr *>PyMem_Malloc(count * (sizeof(mmsghdr) + sizeof(PyObject *)))
            if headers == NULL:
                raise MemoryError()
            held = <PyObject **>(headers + count)
        try:
            for i in range(count):
                # Indexed anew each time: nothing here runs Python code, yet a list is not ours.
                item = messages[i]
                if type(item) is not Message:
                    raise TypeError(f"ms[{i}] must be a Message, not {type(item).__name__}")
                message = <Message>item
                if message.flight == NULL and message.arena is None and (
                    writing or not (message.readonly_buffers or message.readonly_oob)
                ):
                    # What `board` does for nearly every message, without the call.
                    headers[i].msg_hdr = message.header
                    if writing and not message.has_addr:
                        headers[i].msg_hdr.msg_name = NULL
                        headers[i].msg_hdr.msg_namelen = 0
                    message.flight = &patience
                    message.generation = born
                else:
                    message.board(&patience, &headers[i], writing, i)
                Py_INCREF(item)
                held[i] = <PyObject *>item
                boarded += 1
            moved = self.move(headers, <unsigned int>count, flags, writing, &patience)
        finally:
            for i in range(boarded):
                if i < moved:
                    (<Message>held[i]).take(&headers[i], writing)
                (<Message>held[i]).land()
                Py_DECREF(<object>held[i])
            if headers != stack_headers:
                PyMem_Free(headers)
        return moved

    cdef int move_batch(self, MessageBatch batch, int flags, bint writing) except -1:
        cdef Arena arena = batch.arena
        cdef size_t start = batch.start, stop = batch.stop
        cdef Span span
        cdef Patience patience
        cdef int moved
        memset(&patience, 0, sizeof(patience))
        self.live_fd()
        stop = min(stop, start + MAX_BATCH)
        if start == stop:
            return 0
        span.start = start
        span.stop = stop
        arena.board(&span)
        try:
            if writing:
                arena.arm_to_write(start, stop)
            else:
                arena.arm_to_read(start, stop)
            moved = self.move(
                &arena.headers[start], <unsigned int>(stop - start), flags, writing, &patience)
            if not writing:
                arena.note_received(start, start + moved, flags & MSG_ERRQUEUE)
        finally:
            arena.land(&span)
        return moved

    cdef int move(self, mmsghdr *headers, unsigned int count, int flags, bint writing,
                  Patience *patience) except -1:
        """One batch through the kernel, waiting for its first message if need be."""
        cdef int fd = self.live_fd(), moved, err
        cdef bint release = self.gil > 0 or (self.gil < 0 and count >= RELEASE_COUNT)
        if self.read_deadline != NEVER or self.write_deadline != NEVER:
            self.check_deadline(writing)
        if self.deferred_error:
            err = self.deferred_error
            self.deferred_error = 0
            raise os_error(err, "write_batch" if writing else "read_batch")
        while True:
            if writing and not self.segmenting:
                moved = self.send_singly(headers, count, flags)
                if moved > 0:
                    return moved
            if release:
                self.users += 1
                with nogil:
                    if self.without_mmsg:
                        moved = self.move_each(fd, headers, count, flags, writing)
                    elif writing:
                        moved = sendmmsg(fd, headers, count, flags | MSG_DONTWAIT)
                    else:
                        moved = recvmmsg(fd, headers, count, flags | MSG_DONTWAIT)
                    err = errno
                self.leave()
            else:
                if self.without_mmsg:
                    moved = self.move_each(fd, headers, count, flags, writing)
                elif writing:
                    moved = sendmmsg(fd, headers, count, flags | MSG_DONTWAIT)
                else:
                    moved = recvmmsg(fd, headers, count, flags | MSG_DONTWAIT)
                err = errno
            if moved >= 0:
                return moved
            if err == ENOSYS and not self.without_mmsg:
                self.without_mmsg = True
            elif err == EIO and writing and self.segmenting and segment_of(&headers[0].msg_hdr):
                self.segmenting = False
            else:
                self.again(err, fd, flags, writing, patience,
                           "write_batch" if writing else "read_batch",
                           <const sockaddr_in *>headers[0].msg_hdr.msg_name if writing else NULL)

    cdef int move_each(self, int fd, mmsghdr *headers, unsigned int count, int flags,
                       bint writing) noexcept nogil:
        """What recvmmsg and sendmmsg do, for a kernel that lacks them: one call a message."""
        cdef unsigned int i
        cdef int rc
        for i in range(count):
            if writing:
                rc = send_one(fd, &headers[i], flags | MSG_DONTWAIT)
            else:
                rc = recv_one(fd, &headers[i], flags | MSG_DONTWAIT)
            if rc < 0:
                if i == 0:
                    return -1
                if not writing and errno != EAGAIN and errno != EINTR:
                    self.deferred_error = errno  # recvmmsg keeps it for the next call too
                return <int>i
        return <int>count

    # Segmentation

    cdef int send_singly(self, mmsghdr *headers, unsigned int count, int flags) except -1:
        """Send the first message segment by segment if it asks for segments; 0 when it does not."""
        cdef size_t segment = segment_of(&headers[0].msg_hdr)
        if segment == 0:
            # The batch may go to the kernel up to the first message that must not.
            for i in range(1, count):
                if segment_of(&headers[i].msg_hdr):
                    return self.move_before(headers, i, flags)
            return 0
        headers[0].msg_len = <uint32_t>self.send_segments(&headers[0].msg_hdr, segment, flags)
        return 1

    cdef int move_before(self, mmsghdr *headers, unsigned int count, int flags) except -1:
        cdef int fd = self.live_fd(), moved, err
        cdef Patience patience
        memset(&patience, 0, sizeof(patience))
        while True:
            moved = self.move_each(fd, headers, count, flags, True)
            err = errno
            if moved >= 0:
                return moved
            self.again(err, fd, flags, True, &patience, "write_batch",
                       <const sockaddr_in *>headers[0].msg_hdr.msg_name)

    cdef Py_ssize_t send_segmented(self, const msghdr *header, Py_ssize_t segment,
                                   int flags) except -1:
        """Send one buffer whose control data asks for segments.

        What is more than the kernel cuts in one call goes in several; what an interface refuses
        (EIO: it cannot checksum, so cannot segment; udp(7)) goes segment by segment.
        """
        cdef Py_ssize_t total = <Py_ssize_t>header.msg_iov[0].iov_len, sent = 0, n, step
        cdef msghdr part = header[0]
        cdef iovec vector = header.msg_iov[0]
        part.msg_iov = &vector
        step = max(MAX_PAYLOAD // segment, 1) * segment
        while sent < total:
            vector.iov_base = <unsigned char *>header.msg_iov[0].iov_base + sent
            vector.iov_len = min(total - sent, step)
            try:
                if not self.segmenting:
                    n = self.send_segments(&part, segment, flags)
                else:
                    n = self.send(&part, flags)
            except OSError as error:
                if error.errno == EIO and self.segmenting:
                    self.segmenting = False
                    continue
                if error.errno == EINVAL and step > OLD_MAX_SEGMENTS * segment:
                    # More segments than this kernel cuts at once; never the last word on EINVAL.
                    step = (
                        NEW_MAX_SEGMENTS if step > NEW_MAX_SEGMENTS * segment else OLD_MAX_SEGMENTS
                    ) * segment
                    continue
                if sent:
                    return sent
                raise
            sent += n
            if n < <Py_ssize_t>vector.iov_len:
                return sent
        return sent

    cdef Py_ssize_t send_segments(self, const msghdr *header, size_t segment, int flags) except -1:
        """Send a message as datagrams of `segment` bytes, one system call each.

        Returns the bytes sent: fewer than all when an error came after the first datagram, which
        the next call will meet again. Nothing is sent twice.
        """
        cdef unsigned char *control = NULL
        cdef msghdr part = header[0]
        cdef iovec *parts = NULL
        cdef size_t sent = 0, total = 0, i, offset = 0, index = 0, left, used, take
        cdef ssize_t n
        cdef int fd = self.live_fd(), err
        cdef Patience patience
        memset(&patience, 0, sizeof(patience))
        for i in range(header.msg_iovlen):
            total += header.msg_iov[i].iov_len
        parts = <iovec *>PyMem_Malloc(header.msg_iovlen * sizeof(iovec) + header.msg_controllen + 8)
        if parts == NULL:
            raise MemoryError()
        try:
            control = <unsigned char *>(parts + header.msg_iovlen)
            part.msg_iov = parts
            part.msg_control = control
            part.msg_controllen = without_segment(header, control)
            if part.msg_controllen == 0:
                part.msg_control = NULL
            while sent < total:
                left = min(segment, total - sent)
                used = 0
                i = index
                take = offset
                while left:
                    parts[used].iov_base = <unsigned char *>header.msg_iov[i].iov_base + take
                    parts[used].iov_len = min(header.msg_iov[i].iov_len - take, left)
                    left -= parts[used].iov_len
                    take += parts[used].iov_len
                    if take == header.msg_iov[i].iov_len:
                        i += 1
                        take = 0
                    used += 1
                part.msg_iovlen = used
                n = sendmsg(fd, &part, flags | MSG_DONTWAIT)
                err = errno
                if n < 0:
                    try:
                        self.again(err, fd, flags, True, &patience, "write_to",
                                   <const sockaddr_in *>header.msg_name)
                    except OSError:
                        if sent:
                            return <Py_ssize_t>sent
                        raise
                    continue
                index = i
                offset = take
                sent += <size_t>n
        finally:
            PyMem_Free(parts)
        return <Py_ssize_t>sent

    # The error queue

    def read_error(self):
        """Take one entry from the error queue (ip(7), IP_RECVERR, Linux 2.2); never waits.

        Returns
        -------
        ErrorReport or None
            None when the queue is empty. A program that waits for the socket to be readable
            should empty the queue first: poll(2) reports an error as long as an entry is there.

        Raises
        ------
        OSError
            EBADF if the conn is closed; ENOBUFS if the entry has more control data than there is
            room for; otherwise as recvmsg(2).
        ValueError
            If its control data is malformed.
        NotImplementedError
            If this system has no error queue.
        """
        cdef unsigned char control[CONTROL_ROOM]
        cdef sockaddr_in name
        cdef iovec vector
        cdef msghdr header
        cdef ssize_t n
        cdef int err, fd = self.live_fd()
        if MSG_ERRQUEUE == 0:
            raise NotImplementedError(f"the error queue is not available on {sys.platform}")
        payload = PyBytes_FromStringAndSize(NULL, ERROR_PAYLOAD)
        while True:
            memset(&header, 0, sizeof(header))
            memset(&name, 0, sizeof(name))
            vector.iov_base = PyBytes_AS_STRING(payload)
            vector.iov_len = ERROR_PAYLOAD
            header.msg_name = &name
            header.msg_namelen = sizeof(name)
            header.msg_iov = &vector
            header.msg_iovlen = 1
            header.msg_control = control
            header.msg_controllen = CONTROL_ROOM
            n = recvmsg(fd, &header, MSG_ERRQUEUE | MSG_DONTWAIT)
            err = errno
            if n >= 0:
                break
            if err == EAGAIN:
                return None
            if err != EINTR:
                raise os_error(err, "read_error")
            PyErr_CheckSignals()
            fd = self.live_fd()
        if header.msg_flags & MSG_CTRUNC:
            raise_cut_control()
        return report_of(control, header.msg_controllen, payload[:n],
                         peer_tuple(name.sin_addr.s_addr, name.sin_port)
                         if header.msg_namelen >= sizeof(name) else None)

    def set_timestamping(self, flags):
        """Ask for timestamps (socket(7); SO_TIMESTAMPING, Linux 2.6.30, and the kernel's
        networking/timestamping document). It takes no privilege; that the device stamps in
        hardware is switched on by another who has CAP_NET_ADMIN.

        Parameters
        ----------
        flags : int
            SOF_TIMESTAMPING_* bits, 0 for none: for software stamps 1 << 1 (transmit), 1 << 3
            (receive) and 1 << 4 (report); 1 << 7 numbers transmitted datagrams.

        Notes
        -----
        Receive stamps come in `ControlMessage.timestamp`, transmit stamps in the error queue:
        `read_error` returns them with origin TIMESTAMPING, `timestamp` and `key`.

        Raises
        ------
        OSError
            EINVAL for a combination that the kernel refuses.
        """
        cdef int32_t value = <int32_t>as_int(flags, 0, INT32_MAX, "flags")
        self.set_raw(c.SOL_SOCKET, c.SO_TIMESTAMPING, &value, sizeof(value), "SO_TIMESTAMPING")
        self.wants_control = True


cdef extern from *:
    """
    #define ipv4_set_errno(value) (errno = (value))
    """
    void set_errno "ipv4_set_errno"(int value) noexcept nogil


cdef size_t segment_of(const msghdr *header) noexcept nogil:
    """Segment size that a message's control data asks for, 0 when none."""
    cdef cmsghdr h
    cdef uint16_t size = 0
    cdef size_t at = 0
    cdef const unsigned char *control = <const unsigned char *>header.msg_control
    while header.msg_controllen - at >= sizeof(cmsghdr):
        memcpy(&h, control + at, sizeof(h))
        if h.cmsg_len < sizeof(h) or h.cmsg_len > header.msg_controllen - at:
            return 0
        if (
            h.cmsg_level == c.SOL_UDP and h.cmsg_type == UDP_SEGMENT
            and h.cmsg_len >= CMSG_LEN(sizeof(size))
        ):
            memcpy(&size, control + at + CMSG_LEN(0), sizeof(size))
            return size
        if CMSG_SPACE(h.cmsg_len - CMSG_LEN(0)) >= header.msg_controllen - at:
            return 0
        at += CMSG_SPACE(h.cmsg_len - CMSG_LEN(0))
    return 0


cdef size_t without_segment(const msghdr *header, unsigned char *out) noexcept nogil:
    """Copy a message's control data but for its UDP_SEGMENT; returns its length."""
    cdef cmsghdr h
    cdef size_t at = 0, written = 0, size
    cdef const unsigned char *control = <const unsigned char *>header.msg_control
    while header.msg_controllen - at >= sizeof(cmsghdr):
        memcpy(&h, control + at, sizeof(h))
        if h.cmsg_len < sizeof(h) or h.cmsg_len > header.msg_controllen - at:
            break
        size = min(CMSG_SPACE(h.cmsg_len - CMSG_LEN(0)), header.msg_controllen - at)
        if h.cmsg_level != c.SOL_UDP or h.cmsg_type != UDP_SEGMENT:
            memcpy(out + written, control + at, size)
            written += size
        at += size
    return written


cdef int raise_cut_control() except -1:
    raise OSError(
        ENOBUFS,
        f"No buffer space available: the kernel had more than {CONTROL_ROOM} bytes of control"
        " data (MSG_CTRUNC); read with a Message whose oob is larger",
    )


cdef object report_of(const unsigned char *control, size_t length, bytes payload, tuple addr):
    """An ErrorReport from an entry's control data; what does not come with it stays None."""
    cdef sock_extended_err error
    cdef sockaddr_in offender
    cdef Told told
    cdef ControlMessage cm
    from ..constants import ErrorOrigin
    from .errqueue import ErrorReport

    memset(&error, 0, sizeof(error))
    memset(&offender, 0, sizeof(offender))
    memset(&told, 0, sizeof(told))
    cm = control_of_report(control, length, &told)
    if told.error_size >= sizeof(error):
        memcpy(&error, told.error, sizeof(error))
    if told.error_size >= sizeof(error) + sizeof(offender):
        memcpy(&offender, told.error + sizeof(error), sizeof(offender))
    try:
        origin = ErrorOrigin(error.ee_origin)
    except ValueError:
        origin = error.ee_origin
    icmp = error.ee_origin == 2  # SO_EE_ORIGIN_ICMP
    stamp = error.ee_origin == 4  # SO_EE_ORIGIN_TIMESTAMPING
    return ErrorReport(
        errno=error.ee_errno,
        origin=origin,
        icmp_type=error.ee_type if icmp else None,
        icmp_code=error.ee_code if icmp else None,
        info=error.ee_info,
        offender=(
            address_object(offender.sin_addr.s_addr)
            if icmp and offender.sin_family == c.AF_INET else None
        ),
        addr=addr,
        payload=payload,
        timestamp=cm.timestamp if stamp else None,
        # SO_EE_ORIGIN_ZEROCOPY: the sends from info to key are done.
        key=error.ee_data if stamp or error.ee_origin == 5 else None,
    )
