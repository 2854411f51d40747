"""A socket's descriptor: how long it lives, how calls wait on it, and its option door.

Three rules keep it safe from any thread.

1. All state here is touched with the GIL held. A call that gives the GIL up while it uses the
   descriptor counts itself in ``users`` first.
2. ``close`` forgets the number at once, so that no new call finds it, wakes every waiting call,
   and leaves the closing itself to the last user: the system cannot give the number to somebody
   else while a call still uses it.
3. A waiting call polls its descriptor together with a waker of its own, which ``close`` and the
   deadline setters write to. Wakers are opened by the first call that has to wait, never before.
"""

cimport cython
from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize
from cpython.exc cimport PyErr_CheckSignals
from cpython.object cimport PyObject
from libc.errno cimport EBADF, EINTR, ENODEV, ENOSYS, ETIMEDOUT, EAGAIN, errno
from libc.stdint cimport INT32_MAX, int32_t, int64_t
from libc.string cimport memcpy, memset

from ..wire.boundary cimport as_int, forget_peers, os_error, peer_tuple, shown
from ..libc cimport socket as c
from ..libc.socket cimport (
    POLLIN,
    POLLOUT,
    close as c_close,
    coarse_ns,
    edge_open,
    ifreq,
    ioctl,
    monotonic_ns,
    poll_ns,
    pollfd,
    sockaddr,
    sockaddr_in,
    socklen_t,
    waker_close,
    waker_drain,
    waker_open,
    waker_signal,
)

import os
import socket
import sys

cdef enum:
    # How long a wait goes on unwatched when no waker can be had (every descriptor in use): a
    # changed deadline is then noticed within this many nanoseconds.
    BLIND_SLICE = 20000000
    # Nanoseconds by which the coarse clock never lags: ticks come every 10 ms at the slowest.
    FAR = 200000000

# How often this process is a child by fork: what other threads did in the parent (calls that
# wait, messages in flight) is void in the child, where those threads do not exist.
cdef unsigned int _generation = 0


def _forked():
    global _generation
    _generation += 1


os.register_at_fork(after_in_child=_forked)


cdef unsigned int generation() noexcept:
    return _generation


def enter_netns(int fd):
    """Move the calling thread, for good, into the network namespace that `fd` stands for."""
    if c.setns_net(fd) < 0:
        if errno == ENOSYS:
            raise NotImplementedError(f"network namespaces are not available on {sys.platform}")
        raise os_error(errno, "setns(CLONE_NEWNET)")


@cython.no_gc_clear  # sock_fd points into _sock, which must stay as long as this object
cdef class Endpoint:
    """Endpoint(sock)
--

    A socket and the calls that use it; base of every conn.

    Parameters
    ----------
    sock : socket.socket
        An open AF_INET socket. It stays usable by the caller; the conn closes it.
    """

    def __cinit__(self, *args, **kwargs):
        # Nothing here can fail: were it to, a subclass's __del__ would be called on an object
        # whose derived part was never made. Zeroed memory would mean descriptor 0.
        self.fd = -1
        self.spare[0] = self.spare[1] = -1
        self.read_deadline = self.write_deadline = NEVER
        self.gil = -1

    def __init__(self, sock):
        if self._sock is not None:
            raise TypeError(f"{type(self).__name__} has its socket already")
        if not isinstance(sock, socket.socket):
            raise TypeError(f"sock must be a socket.socket, not {type(sock).__name__}")
        cdef int fd = sock.fileno()
        if fd < 0:
            raise OSError(EBADF, "Bad file descriptor: sock is closed")
        if sock.family != socket.AF_INET:
            raise ValueError(f"sock must be an AF_INET socket, not {sock.family!r}")
        cdef const int *number = find_descriptor(sock, fd)
        self._check_kind(sock)
        cdef int type_ = sock.type, protocol = sock.proto
        if self._sock is not None:  # what ran above may have called this
            raise TypeError(f"{type(self).__name__} has its socket already")
        self._type = type_
        self._protocol = protocol
        self._sock = sock
        self.sock_fd = number
        self.generation = _generation
        self.fd = fd

    def _check_kind(self, sock):
        """Refuse a socket of a kind that the class is not for."""

    def __dealloc__(self):
        # No call can be waiting here: each holds a reference. The socket object closes itself,
        # with its ResourceWarning.
        if self.spare[0] >= 0:
            waker_close(self.spare)
        forget_peers(&self.peers)

    # Life

    cdef int live_fd(self) except -1:
        """The descriptor, for a call that starts now."""
        if self.fd < 0 or self.sock_fd[0] != self.fd:
            if self._sock is None:
                raise OSError(EBADF, "Bad file descriptor: no socket: call super().__init__(sock)")
            raise OSError(EBADF, "Bad file descriptor: the conn is closed")
        return self.fd

    cdef int begin(self, Attempt *attempt, bint writing) except -1:
        """Start of a call: the descriptor, after the deadline was looked at."""
        attempt.started = attempt.stale_tried = attempt.error_seen = False
        if self.fd < 0 or self.sock_fd[0] != self.fd:
            return self.live_fd()  # which raises
        if (self.write_deadline if writing else self.read_deadline) != NEVER:
            self.check_deadline(writing)
        return self.fd

    cdef void enter(self) noexcept:
        """Count a use of the descriptor without the GIL; `leave` ends it."""
        self.users += 1

    cdef int leave(self) except -1:
        """End of a use counted by `enter`; the last one out of a closed conn closes it."""
        self.users -= 1
        if self.users == 0 and self.fd < 0:
            self._sock.close()
        return 0

    def fileno(self):
        """The socket's descriptor, or -1 once closed."""
        return self.fd if self.fd >= 0 and self.sock_fd[0] == self.fd else -1

    @property
    def closed(self):
        """Whether the conn, or the socket under it, is closed."""
        return self.fd < 0 or self.sock_fd[0] != self.fd

    def close(self):
        """Close the conn and its socket; closing again does nothing.

        Notes
        -----
        Calls that wait in other threads end with ``OSError(EBADF)``. The descriptor's number
        goes back to the system when the last of them has left.
        """
        if self.fd < 0:
            return
        if self.generation != _generation:
            self.forget_parent()
        self.fd = -1
        self.wake_all()
        if self.spare[0] >= 0:
            waker_close(self.spare)
        if self.users == 0:
            self._sock.close()

    cdef void forget_parent(self) noexcept:
        """In a forked child: the parent's other threads, and so their calls, are not here."""
        self.generation = _generation
        self.users = 0
        self.waiters = NULL
        if self.spare[0] >= 0:
            waker_close(self.spare)  # it is shared with the parent, whose signals it would eat

    def __enter__(self):
        return self

    def __exit__(self, *exc_info):
        self.close()

    def __reduce__(self):
        raise TypeError(f"cannot pickle {type(self).__name__}: it stands for an open socket")

    @property
    def local_addr(self):
        """``(host, port)`` that the socket is bound to (getsockname(2)); port 0 on IP sockets.

        Raises
        ------
        OSError
            EBADF if the conn is closed.
        """
        cdef sockaddr_in name
        cdef socklen_t size = sizeof(name)
        memset(&name, 0, sizeof(name))
        if c.getsockname(self.live_fd(), <sockaddr *>&name, &size) < 0:
            raise os_error(errno, "getsockname")
        # A raw socket keeps its protocol where the port is.
        return peer_tuple(name.sin_addr.s_addr, 0 if self._type == c.SOCK_RAW else name.sin_port)

    def __repr__(self):
        name = type(self).__name__
        if self.closed:
            return f"<ipv4.{name} closed>"
        return f"<ipv4.{name} fd={self.fd} local_addr={self.local_addr}>"

    @property
    def release_gil(self):
        """When calls give up the global interpreter lock over a system call.

        None (the default): single reads and writes keep it over the system call, which cannot
        block and takes about a microsecond, and release it for every wait; batches of 8 messages
        or more, and single writes of 16 KiB or more, release it. True: every call releases it;
        for threads that each move single large datagrams on sockets of their own. False: only
        waits release it; for a latency-bound thread that sends batches beside others that
        compute, where each return would wait for the interpreter's switch interval
        (``sys.getswitchinterval``).
        """
        return None if self.gil < 0 else bool(self.gil)

    @release_gil.setter
    def release_gil(self, value):
        if value is not None and not isinstance(value, bool):
            raise TypeError(f"release_gil must be None, True or False, not {shown(value)}")
        self.gil = -1 if value is None else 1 if value else 0

    # Time

    def set_deadline(self, when):
        """Set both deadlines; see `set_read_deadline`."""
        cdef int64_t moment = as_moment(when)
        self.live_fd()
        self.read_deadline = self.write_deadline = moment
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
        self.read_deadline = moment
        self.wake_all()

    def set_write_deadline(self, when):
        """Set the moment after which writes fail; see `set_read_deadline`."""
        cdef int64_t moment = as_moment(when)
        self.live_fd()
        self.write_deadline = moment
        self.wake_all()

    cdef int check_deadline(self, bint writing) except -1:
        cdef int64_t deadline = self.write_deadline if writing else self.read_deadline
        # A deadline that is far off by the cheap clock needs no exact one.
        if deadline == NEVER or deadline - coarse_ns() > FAR:
            return 0
        if deadline <= monotonic_ns():
            raise_timeout(writing)
        return 0

    cdef int wake_all(self) except -1:
        cdef Waiter *waiter
        if self.generation != _generation:
            self.forget_parent()
        waiter = self.waiters
        while waiter != NULL:
            if waiter.ends[1] >= 0:
                waker_signal(waiter.ends)
            waiter = waiter.next
        return 0

    cdef int wait(self, int fd, bint writing, Attempt *attempt) except -1:
        """Wait until fd is worth trying again; signal handlers run meanwhile.

        Raises TimeoutError when the deadline (or, without one, the socket's own timeout) has
        come, BlockingIOError when the socket does not wait at all, and EBADF when the conn was
        closed.
        """
        cdef Waiter waiter
        cdef Waiter **link
        cdef pollfd fds[2]
        cdef int64_t limit, now, left
        cdef int rc, err, edge = -1, ready = 0
        if self.generation != _generation:
            self.forget_parent()
        if not attempt.started:
            attempt.started = True
            attempt.own_limit = NEVER
            timeout = self._sock.gettimeout()
            if timeout is not None:
                limit = self.write_deadline if writing else self.read_deadline
                if timeout == 0 and limit == NEVER:
                    raise_would_block()
                attempt.own_limit = monotonic_ns() + <int64_t>(timeout * 1e9)
            if self.fd != fd:  # gettimeout() may be the caller's own code
                raise OSError(EBADF, "Bad file descriptor: the conn was closed by another call")
        waiter.ends[0] = waiter.ends[1] = -1
        if self.spare[0] >= 0:
            waiter.ends[0] = self.spare[0]
            waiter.ends[1] = self.spare[1]
            self.spare[0] = self.spare[1] = -1
        else:
            waker_open(waiter.ends)
        waiter.next = self.waiters
        self.waiters = &waiter
        self.users += 1
        try:
            if attempt.error_seen:
                # An unread error queue keeps poll returning at once; wait for what is new.
                edge = edge_open(fd, writing, &ready)
                if ready:
                    return 0
            fds[0].fd = edge if edge >= 0 else fd
            fds[0].events = POLLIN if edge >= 0 or not writing else POLLOUT
            fds[1].fd = waiter.ends[0]
            fds[1].events = POLLIN
            while True:
                limit = self.write_deadline if writing else self.read_deadline
                if limit == NEVER:
                    limit = attempt.own_limit
                left = -1
                if limit != NEVER:
                    now = monotonic_ns()
                    if limit <= now:
                        raise_timeout(writing)
                    left = limit - now
                if fds[1].fd < 0 or (attempt.error_seen and edge < 0):
                    left = BLIND_SLICE if left < 0 else min(left, <int64_t>BLIND_SLICE)
                fds[0].revents = fds[1].revents = 0
                if attempt.error_seen and edge < 0:
                    fds[0].fd = -1  # it would report the old error for ever
                with nogil:
                    rc = poll_ns(fds, 2, left)
                    err = errno
                if fds[1].revents:
                    waker_drain(waiter.ends)
                if rc < 0 and err != EINTR:
                    raise os_error(err, "poll")
                if rc < 0:
                    PyErr_CheckSignals()
                if self.fd != fd or self.sock_fd[0] != fd:
                    raise OSError(EBADF, "Bad file descriptor: the conn was closed by another call")
                if fds[0].fd < 0 and rc == 0:
                    self.check_deadline(writing)
                    return 0
                if fds[0].revents:
                    if not fds[0].revents & fds[0].events:
                        attempt.error_seen = True
                    # The deadline may have been moved into the past while data arrived.
                    self.check_deadline(writing)
                    return 0
        finally:
            if edge >= 0:
                c_close(edge)
            link = &self.waiters
            while link[0] != NULL and link[0] != &waiter:
                link = &link[0].next
            if link[0] != NULL:
                link[0] = waiter.next
                if waiter.ends[0] >= 0 and self.spare[0] < 0 and self.fd >= 0:
                    waker_drain(waiter.ends)
                    self.spare[0] = waiter.ends[0]
                    self.spare[1] = waiter.ends[1]
                    waiter.ends[0] = -1
                self.leave()
            if waiter.ends[0] >= 0:
                waker_close(waiter.ends)

    # Interfaces, as this socket's network namespace knows them

    cdef int interface_index(self, object interface, str name) except -1:
        """Index of an interface in any accepted form; 0 for None."""
        cdef ifreq request
        cdef int err
        cdef bytes raw
        if interface is None:
            return 0
        if isinstance(interface, tuple):
            if len(interface) != 2:
                raise ValueError(f"{name} must be an (index, name) pair, not {shown(interface)}")
            return <int>as_int(interface[0], 1, INT32_MAX, f"{name}: index")
        if not isinstance(interface, str):
            return <int>as_int(interface, 1, INT32_MAX, name)
        try:
            raw = str.encode(interface, "utf-8", "surrogateescape")
        except UnicodeEncodeError:
            raw = b""
        if not 0 < len(raw) < c.IFNAMSIZ or b"\0" in raw:
            raise ValueError(f"{name}: {shown(interface)} is not an interface name")
        memset(&request, 0, sizeof(request))
        memcpy(request.ifr_name, PyBytes_AS_STRING(raw), len(raw))
        if ioctl(self.live_fd(), c.SIOCGIFINDEX, &request) < 0:
            err = errno
            raise os_error(err, f"{name} {shown(interface)}")
        return request.ifr_ifindex

    def _interface(self, int index):
        """`Interface` of an index, its name empty when the interface is gone."""
        cdef ifreq request
        from ..interface import Interface

        memset(&request, 0, sizeof(request))
        request.ifr_ifindex = index
        if ioctl(self.live_fd(), c.SIOCGIFNAME, &request) < 0:
            if errno != ENODEV:
                raise os_error(errno, f"interface {index}")
            return Interface(index, "")
        return Interface(index, (<bytes>request.ifr_name).decode("utf-8", "surrogateescape"))

    def _interface_index(self, interface, name="interface"):
        """Index of an interface in any accepted form, 0 for None; raises OSError(ENODEV)."""
        return self.interface_index(interface, name)

    # The option door

    cdef int get_int(self, int level, int name, str what) except? -1:
        cdef int32_t value = 0
        cdef socklen_t size = sizeof(value)
        cdef int fd = self.live_fd()
        if name < 0:
            raise NotImplementedError(f"{what} is not available on {sys.platform}")
        if c.getsockopt(fd, level, name, &value, &size) < 0:
            raise os_error(errno, f"getsockopt {what}")
        if size == 1:  # some options of some systems are a byte
            return (<unsigned char *>&value)[0]
        return value

    cdef int set_raw(self, int level, int name, const void *value, unsigned int size,
                     str what) except -1:
        cdef int fd = self.live_fd()
        if name < 0:
            raise NotImplementedError(f"{what} is not available on {sys.platform}")
        if c.setsockopt(fd, level, name, value, size) < 0:
            raise os_error(errno, what)
        return 0

    def _get_int(self, int level, int name, str what):
        return self.get_int(level, name, what)

    def _set_int(self, int level, int name, int32_t value, str what):
        self.set_raw(level, name, &value, sizeof(value), what)

    def _get_bytes(self, int level, int name, int room, str what):
        cdef socklen_t size = room
        cdef bytes out = PyBytes_FromStringAndSize(NULL, room)
        cdef int fd = self.live_fd()
        memset(PyBytes_AS_STRING(out), 0, room)
        if name < 0:
            raise NotImplementedError(f"{what} is not available on {sys.platform}")
        if c.getsockopt(fd, level, name, PyBytes_AS_STRING(out), &size) < 0:
            raise os_error(errno, f"getsockopt {what}")
        return out[:min(<int>size, room)]

    def _set_bytes(self, int level, int name, bytes value, str what):
        self.set_raw(level, name, PyBytes_AS_STRING(value), <unsigned int>len(value), what)

    def _set_program(self, int name, bytes program, str what):
        """Hand the kernel an array of struct sock_filter (socket(7))."""
        cdef c.sock_fprog fprog
        memset(&fprog, 0, sizeof(fprog))
        fprog.len = <unsigned short>(len(program) // 8)
        fprog.filter = <c.sock_filter *>PyBytes_AS_STRING(program)
        self.set_raw(c.SOL_SOCKET, name, &fprog, sizeof(fprog), what)


cdef const int *find_descriptor(object sock, int fd) except NULL:
    """Where a socket object keeps its descriptor, to see it closed behind the conn's back.

    CPython keeps descriptor and family side by side right behind the object's head; that they
    are found there is checked, so another layout is refused and never misread.
    """
    cdef int *pair = <int *>(<char *><PyObject *>sock + sizeof(PyObject))
    if pair[0] != fd or pair[1] != socket.AF_INET:
        raise NotImplementedError(
            f"sockets of {sys.implementation.name} {sys.version.split()[0]} have an unknown layout"
        )
    return pair


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


cdef int raise_timeout(bint writing) except -1:
    raise OSError(ETIMEDOUT, f"timed out: the {'write' if writing else 'read'} deadline has passed")


cdef int raise_would_block() except -1:
    raise OSError(EAGAIN, "Resource temporarily unavailable")
