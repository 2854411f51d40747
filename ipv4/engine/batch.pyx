"""Batches: many datagrams in one system call (recvmmsg(2), sendmmsg(2))."""

from cpython.mem cimport PyMem_Free, PyMem_Malloc
from cpython.object cimport PyObject
from cpython.ref cimport Py_DECREF, Py_INCREF
from libc.errno cimport EAGAIN, EBADF, EINTR, EIO, ENOSYS, errno
from libc.stdint cimport uint32_t, uintptr_t

from ..wire.boundary cimport as_flags, os_error
from .endpoint cimport Attempt
from .arena cimport Arena, Span
from .message cimport Message
from .message_batch cimport MessageBatch
from .process cimport generation, this_thread
from .retry cimport releases
from .segments cimport Segments, segment_of
from ..libc cimport socket as c
from ..libc.socket cimport (
    MSG_DONTWAIT,
    MSG_ERRQUEUE,
    mmsghdr,
    recv_one,
    recvmmsg,
    send_one,
    sendmmsg,
    sockaddr_in,
)

cdef enum:
    MAX_BATCH = 1024  # UIO_MAXIOV: as many as the kernel moves in one call
    STACK_BATCH = 64  # batches up to here need no allocation


cdef class Batches(Segments):
    """Reads and writes of many datagrams."""

    def _sends_singly(self):
        """Whether batches go one system call a message, for lack of recvmmsg and sendmmsg."""
        return self.without_mmsg or not (c.HAVE_RECVMMSG and c.HAVE_SENDMMSG)

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
        cdef Attempt attempt
        cdef object item
        cdef Message message
        cdef unsigned int born = generation()
        cdef uintptr_t thread = this_thread()
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
                    message.flight = &attempt
                    message.generation = born
                    message.thread = thread
                else:
                    message.board(&attempt, &headers[i], writing, i)
                Py_INCREF(item)
                held[i] = <PyObject *>item
                boarded += 1
            moved = self.move(headers, <unsigned int>count, flags, writing, &attempt)
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
        cdef Span *span
        cdef Attempt attempt
        cdef int moved
        self.live_fd()
        stop = min(stop, start + MAX_BATCH)
        if start == stop:
            return 0
        span = arena.board(start, stop)
        try:
            if writing:
                arena.arm_to_write(start, stop)
            else:
                arena.arm_to_read(start, stop)
            moved = self.move(
                &arena.headers[start], <unsigned int>(stop - start), flags, writing, &attempt)
            if not writing:
                arena.note_received(start, start + moved, flags & MSG_ERRQUEUE)
        finally:
            arena.land(span)
        return moved

    cdef int move(self, mmsghdr *headers, unsigned int count, int flags, bint writing,
                  Attempt *attempt) except -1:
        """One batch through the kernel, waiting for its first message if need be."""
        cdef int fd = self.begin(attempt, writing), moved, err
        cdef bint release = releases(self, count, 0)
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
                self.enter()
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
                self.retry_or_raise(err, fd, flags, writing, attempt,
                                    "write_batch" if writing else "read_batch",
                                    <const sockaddr_in *>headers[0].msg_hdr.msg_name
                                    if writing else NULL)

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

    # Messages that the kernel shall not cut

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
        cdef Attempt attempt
        cdef int fd = self.begin(&attempt, True), moved, err
        while True:
            moved = self.move_each(fd, headers, count, flags, True)
            err = errno
            if moved >= 0:
                return moved
            self.retry_or_raise(err, fd, flags, True, &attempt, "write_batch",
                                <const sockaddr_in *>headers[0].msg_hdr.msg_name)
