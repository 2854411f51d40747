"""Batches: many datagrams in one system call (recvmmsg(2), sendmmsg(2))."""

from cpython.mem cimport PyMem_Free, PyMem_Malloc
from cpython.object cimport PyObject
from cpython.ref cimport Py_DECREF, Py_INCREF
from libc.errno cimport EAGAIN, EBADF, EINTR, EINVAL, EIO, EMSGSIZE, ENOSYS, errno
from libc.stdint cimport int32_t, int64_t, uint32_t, uintptr_t

from ..wire.arguments cimport as_flags, os_error
from .arena cimport Arena, Span
from .coalesce cimport Runs, join, room_for, run_length
from .descriptor cimport hold, let_go
from .endpoint cimport Attempt
from .message cimport Message
from .message_batch cimport MessageBatch
from .process cimport generation, this_thread
from .retry cimport FLAG_SEGMENT_SIZE, as_write_flags, refuse_room, releases
from .segments cimport NEW_MAX_SEGMENTS, OLD_MAX_SEGMENTS, Segments, segment_of, size_of
from .sockopt cimport ask
from .wait cimport begin
from ..libc cimport socket as c
from ..libc.socket cimport (
    MSG_DONTWAIT,
    MSG_ERRQUEUE,
    MSG_TRUNC,
    coarse_ns,
    mmsghdr,
    recv_one,
    recvmmsg,
    send_one,
    sendmmsg,
    sockaddr_in,
)
from ..libc.threads cimport (
    FREE_THREADED,
    exchange_int,
    load_32,
    load_int,
    store_int,
    try_acquire,
    try_release,
)

cdef extern from "probe.h":
    int ipv4_path_mtu(int fd, const sockaddr_in *name) noexcept nogil

cdef enum:
    MAX_BATCH = 1024  # UIO_MAXIOV: as many as the kernel moves in one call
    STACK_BATCH = 64  # batches up to here need no allocation
    MAX_REFUSALS = 20  # joined messages refused in a row, after which none is tried
    SMALL = 548  # bytes of payload that every path takes (552 bytes; ip-sysctl, min_pmtu)
    OVERHEAD = 28  # IP and UDP header
    MTU_AGE = 1000000000  # nanoseconds for which a path's MTU is believed
    MSG_MORE = 0x8000


cdef class Batches(Segments):
    """Reads and writes of many datagrams."""

    def _moves_one_a_call(self):
        """Whether batches go one system call a message, for lack of recvmmsg and sendmmsg."""
        return bool(load_int(&self.without_mmsg)) or not (c.HAVE_RECVMMSG and c.HAVE_SENDMMSG)

    def _left_none(self, Py_ssize_t n, Py_ssize_t size):
        """Whether a read of `n` messages into room for `size` left none behind: an edge is new."""
        return n < size and c.HAVE_RECVMMSG != 0

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
        cdef size_t gone = 0
        if type(ms) is MessageBatch:
            return self.move_batch(<MessageBatch>ms, c_flags, False, &gone, None)
        return self.move_list(ms, c_flags, False, &gone, None)

    def _take(self, MessageBatch batch, uint32_t flags):
        """What is there, into a batch: its single datagrams as a list of bytes, sender and slot.

        None where other control messages are on than the `flags` of the batch. It never waits.
        """
        cdef size_t gone = 0
        if flags != load_32(&self._control_flags):
            return None
        return batch.copied(self.move_batch(batch, MSG_DONTWAIT, False, &gone, None))

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
            sent by another call, whose error then tells why its first could not go. Of a message
            with a segment size that failed in its middle, which is the last one counted, `n`
            tells the bytes that went; `write_all` lists it with its error.

        Raises
        ------
        OSError
            When not one message was sent, with the first message's error.
        BufferError
            If a message is in flight in another call.
        """
        cdef int c_flags = as_write_flags(flags)
        cdef size_t gone = 0
        cdef int moved
        if type(ms) is not MessageBatch:
            moved = self.move_list(ms, c_flags, True, &gone, None)
            return moved + 1 if gone else moved
        moved = self.move_batch(<MessageBatch>ms, c_flags, True, &gone, None)
        if gone:
            (<MessageBatch>ms)[moved].n = gone
            moved += 1
        return moved

    def write_all(self, messages):
        """Send every message of a batch, in as many system calls as it takes.

        Parameters
        ----------
        messages : list of Message, or MessageBatch
            Any number.

        Returns
        -------
        list of (int, OSError)
            Index and error of each message that did not go whole; empty when all went. Nothing
            is sent twice. At the write deadline the rest is returned with TimeoutError.
        """
        job = WriteAll(self, messages)
        while job.step():
            pass
        return job.failed

    cdef int move_list(self, object messages, int flags, bint writing, size_t *gone,
                       list errors) except -1:
        cdef mmsghdr stack_headers[STACK_BATCH]
        cdef PyObject *stack_held[STACK_BATCH]
        cdef mmsghdr *headers = stack_headers
        cdef PyObject **held = stack_held
        cdef Py_ssize_t count, claimed = 0, i
        cdef int moved = 0
        cdef Attempt attempt
        cdef object item
        cdef Message message
        cdef unsigned int current = generation()
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
                if not FREE_THREADED and message.claimed_by == NULL and message.arena is None and (
                    writing or not (message.readonly_buffers or message.readonly_oob)
                ):
                    # What `claim` does for nearly every message, without the call.
                    headers[i].msg_hdr = message.header
                    if writing and not message.has_addr:
                        headers[i].msg_hdr.msg_name = NULL
                        headers[i].msg_hdr.msg_namelen = 0
                    message.claimed_by = &attempt
                    message.generation = current
                    message.thread = thread
                else:
                    refuse_twice(message, held, i)
                    message.claim(&attempt, &headers[i], writing, i)
                Py_INCREF(item)
                held[i] = <PyObject *>item
                claimed += 1
            if not writing and self.needs_room(flags):
                for i in range(count):
                    refuse_room(size_of(&headers[i].msg_hdr), f"ms[{i}].buffers")
            moved = self.move(
                headers, <unsigned int>count, flags, writing, &attempt, gone, errors)
        finally:
            if gone[0] and moved < claimed:
                headers[moved].msg_len = <uint32_t>gone[0]
            # All are told before one is let go: what stands twice may be another's after the first.
            for i in range(claimed):
                if i < moved or (i == moved and gone[0]):
                    (<Message>held[i]).keep_result(&headers[i], writing)
            for i in range(claimed):
                if not FREE_THREADED and (<Message>held[i]).claimed_by == &attempt:
                    (<Message>held[i]).claimed_by = NULL  # `give_back` of one that is no slot
                else:
                    (<Message>held[i]).give_back(&attempt)
                Py_DECREF(<object>held[i])
            if headers != stack_headers:
                PyMem_Free(headers)
        return moved

    cdef int move_batch(self, MessageBatch batch, int flags, bint writing, size_t *gone,
                        list errors) except -1:
        cdef Arena arena = batch.arena
        cdef size_t start = batch.start, stop = batch.stop
        cdef Span *span
        cdef Attempt attempt
        cdef int moved
        self.live_fd()
        stop = min(stop, start + MAX_BATCH)
        if start == stop:
            return 0
        span = arena.claim(start, stop)
        try:
            if writing:
                arena.arm_to_write(start, stop)
            else:
                arena.arm_to_read(start, stop)
                if self.needs_room(flags):
                    refuse_room(arena.size, "the batch's size")
            moved = self.move(
                &arena.headers[start], <unsigned int>(stop - start), flags, writing, &attempt,
                gone, errors)
            if not writing:
                arena.note_received(start, start + moved, flags & MSG_ERRQUEUE)
        finally:
            arena.give_back(span)
        return moved

    cdef int move(self, mmsghdr *headers, unsigned int count, int flags, bint writing,
                  Attempt *attempt, size_t *gone, list errors) except -1:
        """One batch through the kernel, waiting for its first message if need be.

        `gone` is how many bytes of the first message left already. Returns how many messages
        went whole, and in `gone` the bytes of the next one that left; what kept the rest of it
        back is appended to `errors`.
        """
        cdef int fd = begin(self, attempt, writing), moved, err
        cdef bint release = releases(self, count, 0)
        if writing:
            if gone[0]:
                return self.cut_first(headers, flags, gone, errors)
        elif load_int(&self.deferred_read_error):
            err = exchange_int(&self.deferred_read_error, 0)
            if err:
                raise os_error(err, "read_batch")
        while True:
            if writing and not load_int(&self.segmenting):
                count = before_cut(headers, count)
                if count == 0:
                    return self.cut_first(headers, flags, gone, errors)
            if writing and load_int(&self.joining) and count > 1 and not (
                flags & MSG_MORE or self.stamps_sent or self.option_cuts
                or load_int(&self.without_mmsg)
            ):
                moved = self.send_runs(fd, headers, count, flags, release, &err)
            elif release:
                self.enter()
                with nogil:
                    moved = self.transfer(fd, headers, count, flags, writing)
                    err = errno
                self.leave()
            else:
                hold(self)
                moved = self.transfer(fd, headers, count, flags, writing)
                err = errno
                let_go(self)
            if moved >= 0:
                return moved
            if err == ENOSYS and not load_int(&self.without_mmsg):
                store_int(&self.without_mmsg, True)
            elif (
                writing and (err == EIO or err == EINVAL or err == EMSGSIZE)
                and segment_of(&headers[0].msg_hdr)
            ):
                if err == EIO:  # the interface cannot cut: at once and from then on
                    store_int(&self.segmenting, False)
                return self.cut_first(headers, flags, gone, errors)
            else:
                self.retry_or_raise(err, fd, flags, writing, attempt,
                                    "write_batch" if writing else "read_batch",
                                    &headers[0].msg_hdr if writing else NULL)

    cdef int transfer(self, int fd, mmsghdr *headers, unsigned int count, int flags,
                      bint writing) noexcept nogil:
        """The system call."""
        if self.without_mmsg:
            return self.move_one_by_one(fd, headers, count, flags, writing)
        if writing:
            return sendmmsg(fd, headers, count, flags | MSG_DONTWAIT)
        return recvmmsg(fd, headers, count, flags | MSG_DONTWAIT)

    cdef int move_one_by_one(self, int fd, mmsghdr *headers, unsigned int count, int flags,
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
                    # Recvmmsg keeps it for the next call too
                    store_int(&self.deferred_read_error, errno)
                return <int>i
        return <int>count

    cdef int cut_first(self, mmsghdr *headers, int flags, size_t *gone, list errors) except -1:
        """The first message segment by segment, from byte `gone` on; 1 when it went whole."""
        cdef size_t size = size_of(&headers[0].msg_hdr), sent
        cdef size_t segment = segment_of(&headers[0].msg_hdr)
        if gone[0] > size or segment == 0:
            raise ValueError(f"gone must be within a message that is cut, not {gone[0]}")
        sent = self.send_cut(
            &headers[0].msg_hdr, segment, gone[0], flags, "write_batch", errors)
        if sent < size:
            gone[0] = sent
            return 0
        gone[0] = 0
        headers[0].msg_len = <uint32_t>size
        return 1

    cdef bint needs_room(self, int flags) noexcept:
        """Whether what arrives may be several datagrams in one buffer (udp(7), UDP_GRO)."""
        return (
            load_32(&self._control_flags) & FLAG_SEGMENT_SIZE != 0
            and flags & (MSG_TRUNC | MSG_ERRQUEUE) == 0)

    # Coalescing

    cdef int send_runs(self, int fd, mmsghdr *headers, unsigned int count, int flags, bint release,
                       int *err) except -2:
        """A batch in which neighbours go as one; returns as sendmmsg(2), the error in `err`.

        A run that is refused goes again message by message, so that nothing can be told from a
        batch that was never joined.
        """
        cdef Runs runs
        cdef unsigned int run = 0, done = 0, left, i, at
        cdef unsigned int _
        cdef size_t room, size
        cdef int moved = 0
        cdef bint again
        memory = PyMem_Malloc(count * sizeof(unsigned int))
        if memory == NULL:
            raise MemoryError()
        runs.lengths = <unsigned int *>memory
        runs.memory = NULL
        runs.count = 0
        try:
            at = 0
            while at < count:
                size = headers[at].msg_hdr.msg_iov[0].iov_len if (
                    headers[at].msg_hdr.msg_iovlen == 1) else size_of(&headers[at].msg_hdr)
                left = run_length(
                    &headers[at], count - at, size, <unsigned int>load_int(&self.max_segments))
                if left > 1 and size > SMALL and not self.path_takes(
                    fd, size, <const sockaddr_in *>headers[at].msg_hdr.msg_name
                ):
                    left = 1
                runs.lengths[runs.count] = left
                runs.count += 1
                at += left
            if runs.count == count:
                return self.send_plain(fd, headers, count, flags, release, err)
            room = room_for(headers, count, runs.count)
            runs.memory = <unsigned char *>PyMem_Malloc(room)
            if runs.memory == NULL:
                raise MemoryError()
            join(&runs, headers, room)
            while run < runs.count:
                moved = self.send_plain(
                    fd, runs.headers + run, runs.count - run, flags, release, err)
                for _ in range(<unsigned int>max(moved, 0)):
                    if runs.lengths[run] > 1:
                        store_int(&self.refusals, 0)
                    done += runs.lengths[run]
                    run += 1
                if moved >= 0:
                    continue
                again = err[0] == EIO or err[0] == EINVAL or err[0] == EMSGSIZE
                if runs.lengths[run] == 1 or not again:
                    break
                self.refuse_run(runs.lengths[run], err[0])
                left = runs.lengths[run]
                while left:
                    moved = self.send_plain(fd, headers + done, left, flags, release, err)
                    if moved < 0:
                        break
                    done += moved
                    left -= moved
                if left:
                    break
                run += 1
            for i in range(done):
                headers[i].msg_len = <uint32_t>size_of(&headers[i].msg_hdr)
        finally:
            PyMem_Free(runs.memory)
            PyMem_Free(memory)
        return <int>done if done else -1

    cdef int send_plain(self, int fd, mmsghdr *headers, unsigned int count, int flags,
                        bint release, int *err) except -2:
        cdef int moved
        if release:
            self.enter()
            with nogil:
                moved = self.transfer(fd, headers, count, flags, True)
                err[0] = errno
            self.leave()
        else:
            hold(self)
            moved = self.transfer(fd, headers, count, flags, True)
            err[0] = errno
            let_go(self)
        return moved

    cdef void refuse_run(self, unsigned int length, int err) noexcept:
        """Note that a joined message was refused: it may be the number, or it may recur."""
        if err == EINVAL:  # what is refused with fewer as well is not refused for the number
            store_int(&self.max_segments, (
                OLD_MAX_SEGMENTS if length > OLD_MAX_SEGMENTS else NEW_MAX_SEGMENTS))
        store_int(&self.refusals, load_int(&self.refusals) + 1)
        if load_int(&self.refusals) >= MAX_REFUSALS:
            store_int(&self.joining, False)

    cdef bint path_takes(self, int fd, size_t size, const sockaddr_in *name) noexcept:
        """Whether datagrams of this size pass whole, as far as is known."""
        cdef int32_t mtu = 0
        cdef uint32_t address = name.sin_addr.s_addr if name != NULL else 0
        cdef int64_t now = coarse_ns()
        cdef bint known = False
        if try_acquire(&self.mtu_busy):
            known = self.mtu_until >= now and self.mtu_of == address
            mtu = self.mtu
            try_release(&self.mtu_busy)
        if not known:
            if FREE_THREADED and not self.admit():
                return False  # closed: what comes next says so
            if name != NULL:
                mtu = ipv4_path_mtu(fd, name)
            elif not ask(fd, c.IPPROTO_IP, c.IP_MTU, &mtu):
                mtu = 0
            let_go(self)
            if try_acquire(&self.mtu_busy):
                self.mtu = mtu
                self.mtu_of = address
                self.mtu_until = now + MTU_AGE
                try_release(&self.mtu_busy)
        return mtu <= 0 or size + OVERHEAD <= <size_t>mtu


cdef unsigned int before_cut(const mmsghdr *headers, unsigned int count) noexcept:
    """How many messages come before the first that asks for segments."""
    cdef unsigned int i
    for i in range(count):
        if headers[i].msg_hdr.msg_controllen and segment_of(&headers[i].msg_hdr):
            return i
    return count


cdef int refuse_twice(Message message, PyObject **held, Py_ssize_t count) except -1:
    """A slot of a MessageBatch has one place in the kernel's hands."""
    cdef Py_ssize_t i
    if message.arena is not None:
        for i in range(count):
            if (<Message>held[i]).arena is message.arena and (
                (<Message>held[i]).index == message.index
            ):
                raise BufferError(
                    f"ms[{count}] is the same slot of a MessageBatch as ms[{i}]: it can be in a"
                    " call once"
                )
    return 0


cdef class Sending:
    """Many messages on their way for one call: each `step` is one system call or so.

    Parameters
    ----------
    conn : PacketConn or RawConn
    messages : list of Message, or MessageBatch
        As they are now: a list may change afterwards.

    Attributes
    ----------
    at : int
        Messages that are done with.
    """

    cdef:
        Batches conn
        object messages
        readonly Py_ssize_t at
        Py_ssize_t total
        size_t gone

    def __init__(self, Batches conn not None, messages):
        if type(messages) is not MessageBatch:
            # A list of our own: the caller's may lose messages while a call waits.
            try:
                messages = list(messages)
            except TypeError:
                raise TypeError(
                    f"{self.argument} must be a list of Message or a MessageBatch,"
                    f" not {type(messages).__name__}"
                ) from None
        conn.live_fd()
        self.conn = conn
        self.messages = messages
        self.total = len(messages)
        self.at = self.gone = 0

    cdef int go(self, int flags, list errors) except -1:
        """Send what goes in one call; what kept it from going on is appended to `errors`."""
        cdef int moved
        part = self.messages[self.at:min(self.at + MAX_BATCH, self.total)]
        try:
            if type(part) is MessageBatch:
                moved = self.conn.move_batch(<MessageBatch>part, flags, True, &self.gone, errors)
            else:
                moved = self.conn.move_list(part, flags, True, &self.gone, errors)
            self.at += moved
        except OSError as error:
            errors.append(error)
        for error in errors:
            if not isinstance(error, OSError):  # there was no memory to make one
                raise error
            if isinstance(error, BlockingIOError) and flags & MSG_DONTWAIT:
                raise error
        return 0


cdef class WriteAll(Sending):
    """A `write_all` on its way.

    Attributes
    ----------
    at : int
        Messages that are done with: sent, or among `failed`.
    failed : list of (int, OSError)
        The messages that did not go whole so far.
    """

    cdef readonly list failed

    argument = "messages"

    def __init__(self, Batches conn not None, messages):
        Sending.__init__(self, conn, messages)
        self.failed = []

    def step(self, flags=0):
        """Send what the kernel takes; whether anything is left.

        Raises
        ------
        BlockingIOError
            With MSG_DONTWAIT among `flags`, when nothing more goes: wait and step again.
        """
        cdef int c_flags = as_write_flags(flags)
        cdef list errors = []
        if self.at >= self.total:
            return False
        self.go(c_flags, errors)
        if errors:
            error = errors[0]
            if isinstance(error, (TimeoutError, BlockingIOError)) or error.errno == EBADF:
                self.give_up(error)
            else:
                self.failed.append((self.at, error))
                self.at += 1
                self.gone = 0
        return self.at < self.total

    def give_up(self, error):
        """The rest did not go, for this reason."""
        while self.at < self.total:
            self.failed.append((self.at, error))
            self.at += 1


cdef class WriteBatch(Sending):
    """A `write_batch` on its way, for callers that wait for room themselves."""

    argument = "ms"

    def __init__(self, Batches conn not None, messages):
        Sending.__init__(self, conn, messages)
        self.total = min(self.total, <Py_ssize_t>MAX_BATCH)

    def step(self, flags=0):
        """Send what the kernel takes; whether more of it may go.

        Raises
        ------
        OSError
            What keeps a message from going; with MSG_DONTWAIT among `flags` BlockingIOError, when
            nothing more goes: wait and step again.
        """
        cdef int c_flags = as_write_flags(flags)
        cdef list errors = []
        if self.at < self.total:
            self.go(c_flags, errors)
            if errors:
                raise errors[0]
        return self.at < self.total

    def give_up(self, error):
        """The rest does not go, for this reason, which is raised when not one went."""
        if self.at == 0 and self.gone == 0:
            raise error

    def count(self):
        """How many messages went, as `write_batch` counts them: one that went in part is the last
        one, and its `n` tells the bytes.
        """
        if self.gone == 0:
            return self.at
        if type(self.messages) is MessageBatch:
            self.messages[self.at].n = self.gone
        return self.at + 1
