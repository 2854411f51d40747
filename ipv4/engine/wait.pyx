"""How calls wait: for the descriptor, until a deadline, or until the conn is closed.

A waiting call polls its descriptor together with a waker of its own, which ``close`` and the
deadline setters write to. Wakers are opened by the first call that has to wait, never before. What
others reach of a waiting call (its `Waiter`) lies on the heap and belongs to the conn: a fork
leaves calls of threads that are not there, and a greenlet's stack is moved away under a call.
"""

from cpython.exc cimport PyErr_CheckSignals
from cpython.mem cimport PyMem_RawCalloc, PyMem_RawFree
from libc.errno cimport EAGAIN, EINTR, ETIMEDOUT, errno
from libc.stdint cimport int64_t

from ..libc.socket cimport (
    POLLIN,
    POLLOUT,
    close as c_close,
    edge_open,
    meet_open,
    monotonic_ns,
    poll_ns,
    pollfd,
    waker_close,
    waker_drain,
    waker_open,
    waker_signal,
)
from ..libc.threads cimport (
    acquire,
    add_count,
    load_64,
    load_count,
    load_int,
    release,
    store_64,
    store_count,
    store_int,
)
from ..wire.arguments cimport os_error, shown
from .descriptor cimport CLOSED, UNFINISHED, USER, Descriptor, raise_closed
from .process cimport generation, survives, this_thread

cdef enum:
    # How long a wait goes on unwatched when no waker can be had (every descriptor in use): a
    # changed deadline is then noticed within this many nanoseconds.
    BLIND_SLICE = 20000000
    # A deadline that lay so far back when it was set was no moment of the monotonic clock.
    LONG_PAST = 60000000000


cdef class Waiting(Descriptor):
    """A descriptor that calls wait on, with deadlines."""

    def __cinit__(self, *args, **kwargs):
        self.read_deadline = self.write_deadline = NEVER

    def __dealloc__(self):
        # No call can be waiting here, for each holds a reference: but a forked child may have
        # waiters of its parent's. The socket object closes itself, with its ResourceWarning.
        cdef Waiter *waiter
        while self.waiters != NULL:
            waiter = self.waiters
            self.waiters = waiter.next
            free_waiter(waiter)
        free_waiter(self.spare_waiter)

    # Deadlines

    def set_deadline(self, when):
        """Set both deadlines; see `set_read_deadline`."""
        cdef int64_t moment = as_moment(when)
        self.live_fd()
        store_64(&self.read_deadline, moment)
        store_64(&self.write_deadline, moment)
        store_int(&self.read_hint, long_past(moment))
        store_int(&self.write_hint, long_past(moment))
        self.wake_all()

    def set_read_deadline(self, when):
        """Set the moment after which reads fail.

        Parameters
        ----------
        when : float or None
            Seconds on ``time.monotonic()``; None for no deadline. It governs calls that already
            wait in other threads too.

        Raises
        ------
        ValueError
            If `when` is not a number.
        OSError
            EBADF if the conn is closed.

        Notes
        -----
        A call that meets its deadline raises TimeoutError and leaves the conn usable; a deadline
        that has passed fails every call at once, also when data is there to be had.
        """
        cdef int64_t moment = as_moment(when)
        self.live_fd()
        store_64(&self.read_deadline, moment)
        store_int(&self.read_hint, long_past(moment))
        self.wake_all()

    def set_write_deadline(self, when):
        """Set the moment after which writes fail; see `set_read_deadline`."""
        cdef int64_t moment = as_moment(when)
        self.live_fd()
        store_64(&self.write_deadline, moment)
        store_int(&self.write_hint, long_past(moment))
        self.wake_all()

    @property
    def timeout(self):
        """Seconds that a call waits at most where no deadline is set: the socket's own timeout.

        None waits for ever; at 0 a call that would have to wait raises BlockingIOError. Setting
        it governs calls that already wait as well: each counts from its own beginning.

        Raises
        ------
        ValueError
            For what is negative or not a number.
        OSError
            EBADF if the conn is closed.
        """
        self.live_fd()
        return self._sock.gettimeout()

    @timeout.setter
    def timeout(self, value):
        cdef double seconds
        if value is not None:
            if isinstance(value, str) or not hasattr(type(value), "__float__") and not hasattr(
                type(value), "__index__"
            ):
                raise TypeError(
                    f"timeout must be a number of seconds or None, not {type(value).__name__}")
            try:
                seconds = value
            except OverflowError:
                seconds = float("inf") if value > 0 else -1.0
            if not seconds >= 0:
                raise ValueError(f"timeout must be 0 or more seconds, or None, not {shown(value)}")
            value = None if seconds >= 9e9 else seconds  # beyond what the clock counts: never
        self.live_fd()
        self._sock.settimeout(value)
        add_count(&self.timeouts, 1)
        self.wake_all()

    cdef int64_t deadline(self, int direction) noexcept:
        return load_64(&self.write_deadline if direction == WRITE else &self.read_deadline)

    cdef int check_deadline(self, int direction) except -1:
        cdef int64_t deadline = self.deadline(direction)
        if deadline == NEVER or not deadline_is_near(deadline):
            return 0
        if deadline <= monotonic_ns():
            self.raise_timeout(direction, True)
        return 0

    cdef int raise_timeout(self, int direction, bint by_deadline) except -1:
        cdef str what = "write" if direction == WRITE else "read"
        if not by_deadline:
            raise OSError(ETIMEDOUT, f"timed out: the {what} waited as long as the timeout says")
        text = f"timed out: the {what} deadline has passed"
        if load_int(&self.write_hint if direction == WRITE else &self.read_hint):
            text += (
                "; it was long past when it was set: a deadline is a moment of time.monotonic(),"
                " such as time.monotonic() + 2.5"
            )
        raise OSError(ETIMEDOUT, text)

    # Calls

    cdef void end(self, Attempt *attempt) noexcept:
        """End of a call that may have waited for ERRORS; others have nothing to end."""
        if attempt.has_edge:
            c_close(attempt.edge)
            attempt.has_edge = False

    cdef void wake_all(self) noexcept:
        """Have every waiting call look at deadlines and the conn's end again."""
        cdef Waiter *waiter
        cdef Waiter *unused = NULL
        if load_count(&self.generation) != generation():
            self.forget_parent()
        acquire(&self.lock)
        waiter = self.waiters
        while waiter != NULL:
            if waiter.waker[1] >= 0:
                waker_signal(waiter.waker)
            waiter = waiter.next
        if load_int(&self.fd) < 0:
            unused = self.spare_waiter
            self.spare_waiter = NULL
        release(&self.lock)
        free_waiter(unused)

    cdef void forget_parent(self) noexcept:
        """In a forked child: of the parent's waiting calls only the forking thread's go on."""
        cdef Waiter **link = &self.waiters
        cdef Waiter *waiter
        cdef unsigned int users = 0
        acquire(&self.lock)
        if load_count(&self.generation) == generation():  # another thread of the child's was first
            release(&self.lock)
            return
        while link[0] != NULL:
            waiter = link[0]
            if survives(waiter.generation, waiter.thread):
                # The waker is shared with the parent, whose signals it would eat.
                if waiter.waker[0] >= 0:
                    waker_close(waiter.waker)
                waker_open(waiter.waker)
                waiter.generation = generation()
                users += USER
                link = &waiter.next
            else:
                link[0] = waiter.next
                free_waiter(waiter)
        free_waiter(self.spare_waiter)
        self.spare_waiter = NULL
        self.life = self.life & (CLOSED | UNFINISHED) | users
        # From here on calls count themselves again.
        store_count(&self.generation, generation())
        release(&self.lock)

    cdef int wait(self, int fd, int direction, Attempt *attempt) except -1:
        """Wait until fd is worth trying again; signal handlers run meanwhile.

        Raises TimeoutError when the deadline (or, without one, the socket's own timeout) has
        come, BlockingIOError when the socket does not wait at all, and EBADF when the conn was
        closed.
        """
        cdef Waiter *waiter
        self.start_clock(fd, direction, attempt)
        waiter = self.enlist()
        try:
            self.poll(waiter, fd, direction, attempt)
        finally:
            self.delist(waiter)
            if direction != ERRORS:
                self.end(attempt)
        return 0

    cdef int start_clock(self, int fd, int direction, Attempt *attempt) except -1:
        """Note when the socket's own timeout ends this call; again when it was set meanwhile."""
        cdef double seconds
        cdef unsigned int timeouts = load_count(&self.timeouts)
        if attempt.began and attempt.timeouts == timeouts:
            return 0
        attempt.timeouts = timeouts
        timeout = self._sock.gettimeout()
        if not attempt.began:
            attempt.began = monotonic_ns()
        attempt.own_limit = NEVER
        attempt.nonblocking = False
        if timeout is not None:
            seconds = timeout
            attempt.nonblocking = seconds == 0
            # What lies beyond the clock's 63 bits is never.
            if seconds < 9e9 - attempt.began * 1e-9:
                attempt.own_limit = attempt.began + <int64_t>(seconds * 1e9)
        if load_int(&self.fd) != fd:  # gettimeout() may be the caller's own code
            raise_closed()
        return 0

    cdef int64_t time_left(self, int direction, Attempt *attempt) except -2:
        """Nanoseconds until the call ends by itself, -1 for never."""
        cdef int64_t limit = self.deadline(direction)
        cdef bint by_deadline = limit != NEVER
        cdef int64_t now
        if not by_deadline:
            if attempt.nonblocking:
                raise OSError(EAGAIN, "Resource temporarily unavailable")
            limit = attempt.own_limit
            if limit == NEVER:
                return -1
        now = monotonic_ns()
        if limit <= now:
            self.raise_timeout(direction, by_deadline)
        return limit - now

    cdef int poll(self, Waiter *waiter, int fd, int direction, Attempt *attempt) except -1:
        cdef pollfd fds[2]
        cdef int64_t left
        cdef int rc, err, ready
        while True:
            # Who closed before this call was in the list has not woken it.
            if load_int(&self.fd) != fd:
                raise_closed()
            self.start_clock(fd, direction, attempt)
            left = self.time_left(direction, attempt)
            if attempt.error_seen and (
                not attempt.has_edge or attempt.edge_generation != generation()
            ):
                # An unread error queue keeps poll returning at once; wait for what is new. What
                # a forked child inherits of it is shared, and would eat the parent's events.
                self.end(attempt)
                attempt.edge = edge_open(fd, direction, &ready)
                attempt.has_edge = attempt.edge >= 0
                attempt.edge_generation = generation()
                if ready:
                    return 0
            fds[0].fd = attempt.edge if attempt.has_edge else fd
            fds[0].events = 0
            if attempt.has_edge or direction == READ:
                fds[0].events = POLLIN
            elif direction == WRITE:
                fds[0].events = POLLOUT
            fds[1].fd = waiter.waker[0]
            fds[1].events = POLLIN
            if attempt.error_seen and not attempt.has_edge:
                fds[0].fd = -1  # it would report the old error for ever
            if fds[0].fd < 0 or fds[1].fd < 0:
                left = BLIND_SLICE if left < 0 else min(left, <int64_t>BLIND_SLICE)
            fds[0].revents = fds[1].revents = 0
            if self._loop is not None:
                self.wait_in_loop(fds, left)
                left = 0
            with nogil:
                rc = poll_ns(fds, 2, left)
                err = errno
            if rc < 0 and err != EINTR:
                raise os_error(err, "poll")
            if rc < 0:
                PyErr_CheckSignals()  # a handler may fork, close the conn, or raise
            if load_count(&self.generation) != generation():
                self.forget_parent()
            elif fds[1].revents:
                waker_drain(waiter.waker)
            if load_int(&self.fd) != fd or not self.is_open():
                raise_closed()
            if rc > 0 and fds[0].revents:
                if not fds[0].revents & fds[0].events:
                    attempt.error_seen = True
                # The deadline may have been moved into the past while data arrived.
                self.check_deadline(direction)
                return 0
            if fds[0].fd < 0 and rc == 0:
                self.check_deadline(direction)
                return 0

    cdef int wait_in_loop(self, pollfd *fds, int64_t left) except -1:
        """Have gevent's or eventlet's hub wait for what poll would: others go on meanwhile."""
        # A descriptor of this call's own stands for both: it meets nothing that the hub has of
        # the socket's number, and what is signalled by other threads reaches it.
        cdef int both = meet_open(fds, 2)
        try:
            if both >= 0:
                self._loop.wait(both, None if left < 0 else left * 1e-9)
            else:
                if left < 0 or left > BLIND_SLICE:
                    left = BLIND_SLICE
                self._loop.sleep(left * 1e-9)
        finally:
            if both >= 0:
                c_close(both)
        return 0

    cdef Waiter *enlist(self) except NULL:
        """Count a call that waits, where others find it."""
        cdef Waiter *waiter
        if load_count(&self.generation) != generation():
            self.forget_parent()
        acquire(&self.lock)
        waiter = self.spare_waiter
        self.spare_waiter = NULL
        release(&self.lock)
        if waiter == NULL:
            waiter = <Waiter *>PyMem_RawCalloc(1, sizeof(Waiter))
            if waiter == NULL:
                raise MemoryError()
            waiter.waker[0] = waiter.waker[1] = -1
        if waiter.waker[0] < 0:
            waker_open(waiter.waker)
        waiter.generation = generation()
        waiter.thread = this_thread()
        if not self.admit():
            free_waiter(waiter)
            raise_closed()
        acquire(&self.lock)
        waiter.next = self.waiters
        self.waiters = waiter
        release(&self.lock)
        return waiter

    cdef void delist(self, Waiter *waiter) noexcept:
        cdef Waiter **link = &self.waiters
        acquire(&self.lock)
        while link[0] != NULL and link[0] != waiter:
            link = &link[0].next
        if link[0] == NULL:  # forgotten in a child, with the count of its call
            release(&self.lock)
            return
        link[0] = waiter.next
        if self.spare_waiter == NULL and load_int(&self.fd) >= 0:
            if waiter.waker[0] >= 0:
                waker_drain(waiter.waker)
            self.spare_waiter = waiter
            waiter = NULL
        release(&self.lock)
        free_waiter(waiter)
        self.leave()


cdef void free_waiter(Waiter *waiter) noexcept:
    if waiter != NULL:
        if waiter.waker[0] >= 0:
            waker_close(waiter.waker)
        PyMem_RawFree(waiter)


cdef bint long_past(int64_t moment) noexcept:
    return moment != NEVER and monotonic_ns() - moment > LONG_PAST


cdef int64_t as_moment(object when) except? -1:
    """Seconds on the monotonic clock as nanoseconds; None and infinity are NEVER."""
    cdef double seconds
    if when is None:
        return NEVER
    kind = type(when)
    if isinstance(when, str) or not hasattr(kind, "__float__") and not hasattr(kind, "__index__"):
        raise TypeError(f"when must be a number of seconds or None, not {kind.__name__}")
    try:
        seconds = when
    except OverflowError:
        if not isinstance(when, int):
            raise ValueError(f"when must be a number of seconds, not {shown(when)}") from None
        seconds = float("inf") if int(when) > 0 else float("-inf")
    if seconds != seconds:
        raise ValueError("when must be a number of seconds, not NaN")
    if seconds >= 9e9:
        return NEVER
    if seconds <= 0:
        return 0
    return <int64_t>(seconds * 1e9)
