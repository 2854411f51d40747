"""A socket's descriptor: how long it lives, and who may touch it.

Two rules keep it safe from any thread.

1. A call that uses the descriptor without the GIL counts itself (`enter`, `leave`) first. The
   count and the conn's end are one word (`life`), so that no call enters after the end, and the
   last that leaves closes: once, from any threads. Where there is no GIL, all calls do (`hold`).
2. ``close`` forgets the number at once, so that no new call finds it, wakes every waiting call,
   and leaves the closing itself to the last user: the system cannot give the number to somebody
   else while a call still uses it. It can be repeated until the socket's own close has returned.
"""

cimport cython
from cpython.exc cimport PyErr_SetInterrupt
from cpython.object cimport PyObject
from libc.errno cimport EBADF

from ..libc.threads cimport (
    FREE_THREADED,
    Section,
    add_count,
    and_count,
    begin_section,
    count_in,
    end_section,
    exchange_int,
    load_count,
    load_int,
    store_count,
    store_int,
)
from ..wire.arguments cimport shown
from .process cimport generation

import socket
import sys

from .anysocket import OWN, adopt, facts


@cython.no_gc_clear  # sock_fd points into _sock, which must stay as long as this object
cdef class Descriptor:
    """A socket of which a conn counts the users, and closes when the last has left."""

    def __cinit__(self, *args, **kwargs):
        # Nothing here can fail: were it to, a subclass's __del__ would be called on an object
        # whose derived part was never made. Zeroed memory would mean descriptor 0.
        self.fd = -1
        self.life = CLOSED
        self.gil_policy = -1

    def __init__(self, sock):
        if self._sock is not None:
            raise TypeError(f"{type(self).__name__} has its socket already")
        adopted, loop, closes = adopt(sock)
        cdef bint by_number = isinstance(sock, int)
        try:
            self.take(adopted)
        except BaseException:
            if by_number:
                adopted.detach()
            raise
        self._loop = loop
        self.closes = closes
        self._owned = by_number

    cdef int take(self, object sock) except -1:
        cdef const int *number = descriptor_of(sock)
        cdef int fd, type_, protocol
        cdef Section section
        cdef bint taken
        fd = sock.fileno() if number == &UNSEEN else number[0]
        if fd < 0:
            raise OSError(EBADF, "Bad file descriptor: sock is closed")
        family, kind, protocol = facts(sock)
        type_ = kind
        if family != socket.AF_INET:
            raise ValueError(f"sock must be an AF_INET socket, not {family!r}")
        self._check_kind(kind)
        begin_section(&section, self)
        taken = self._sock is not None  # what ran above, or another thread, may have called this
        if not taken:
            self._type = type_
            self._protocol = protocol
            self._sock = sock
            self.sock_fd = number
            self.unseen = number == &UNSEEN
            self.generation = generation()
            store_int(&self.fd, fd)
            store_count(&self.life, 0)
        end_section(&section)
        if taken:
            raise TypeError(f"{type(self).__name__} has its socket already")
        return 0

    def _check_kind(self, kind):
        """Refuse a kind of socket (SOCK_DGRAM and so on) that the class is not for."""

    # What calls ask

    cdef bint is_open(self) except -1:
        cdef int fd = load_int(&self.fd)
        cdef bint same
        if fd < 0:
            return False
        if self.unseen:  # its fileno() may run anything, that closes the conn too
            return self._sock.fileno() == fd and load_int(&self.fd) == fd
        if not FREE_THREADED:
            return self.sock_fd[0] == fd
        if not self.admit():  # so that nobody closes it meanwhile
            return False
        same = self.sock_fd[0] == fd
        self.leave()
        return same

    cdef int live_fd(self) except -1:
        """The descriptor, for a call that starts now."""
        cdef int fd = load_int(&self.fd)
        if (FREE_THREADED or fd < 0 or self.sock_fd[0] != fd) and not self.is_open():
            if self._sock is None:
                raise OSError(EBADF, "Bad file descriptor: no socket: call super().__init__(sock)")
            raise OSError(EBADF, "Bad file descriptor: the conn is closed")
        return fd

    cdef bint admit(self) noexcept:
        """Count a use of the descriptor unless the conn is closed; `leave` ends it."""
        if load_count(&self.generation) != generation():
            self.forget_parent()
        return count_in(&self.life, USER)

    cdef int enter(self) except -1:
        """Count a use of the descriptor that does without the GIL; `leave` ends it."""
        if not self.admit():
            return raise_closed()
        if FREE_THREADED and not self.unseen and self.sock_fd[0] != load_int(&self.fd):
            self.leave()
            return self.live_fd()  # which raises
        return 0

    cdef void leave(self) noexcept:
        """End of a use counted by `enter`; the last one out of a closed conn closes it.

        What the call has received survives whatever comes of that: ^C is raised after it, other
        exceptions of the socket's own close go to ``sys.unraisablehook``.
        """
        if add_count(&self.life, -<unsigned int>USER) != (USER | CLOSED | UNFINISHED):
            return
        try:
            self.finish()
        except KeyboardInterrupt:
            PyErr_SetInterrupt()
        except BaseException as error:
            sys.unraisablehook(Unraised(error, self._sock))

    # The end

    def close(self):
        """Close the conn and its socket; closing again does nothing.

        Notes
        -----
        Calls that wait in other threads end with ``OSError(EBADF)``. The descriptor's number
        goes back to the system when the last of them has left. When the socket's own ``close``
        raises, as ^C may make it, that is raised here, the descriptor is closed nevertheless, and
        closing again calls it again.
        """
        if load_count(&self.generation) != generation():
            self.forget_parent()
        if count_in(&self.life, CLOSED | UNFINISHED if self.closes else CLOSED):
            store_int(&self.fd, -1)
            self.wake_all()
        if load_count(&self.life) == (CLOSED | UNFINISHED):
            self.finish()
        self.ended()

    cdef int ended(self) except -1:
        """What the thread that closes does for those that wait in it."""
        return 0

    cdef int finish(self) except -1:
        """Close the socket; it stays unfinished until the socket's own close returned."""
        cdef bint own = False
        if exchange_int(&self.finishing, True):
            return 0  # it was that close, or a signal handler in it, that called us
        try:
            if not load_count(&self.life) & UNFINISHED:  # another thread has done it
                return 0
            own = issubclass(type(self._sock), OWN)
            if own and type(self._sock) is socket.socket and self._sock._io_refs <= 0:
                # What its close does, without a moment at which a signal handler could run.
                self._sock._closed = True
                OWN.close(self._sock)
            else:
                self._sock.close()
            and_count(&self.life, ~<unsigned int>UNFINISHED)
        except BaseException:
            if own:
                OWN.close(self._sock)  # the number, at least, is given back
            raise
        finally:
            store_int(&self.finishing, False)
        return 0

    def detach(self):
        """End the conn and leave its socket open.

        Returns
        -------
        int
            The descriptor. A socket that was given to the conn stays as it is, the caller's. One
            that an opener made, or that the conn took by number, is let go: what is returned is
            then the only handle.

        Raises
        ------
        OSError
            EBADF if the conn is closed.

        Notes
        -----
        Calls that wait in other threads end with ``OSError(EBADF)``, as by `close`.
        """
        cdef int fd = self.live_fd()
        if load_count(&self.generation) != generation():
            self.forget_parent()
        if not count_in(&self.life, CLOSED):
            raise_closed()
        store_int(&self.fd, -1)
        self.wake_all()
        if self._owned:
            self._sock.detach()
        self.ended()
        return fd

    cdef void wake_all(self) noexcept:
        """Have every waiting call look at the conn again."""

    cdef void forget_parent(self) noexcept:
        """In a forked child: the parent's other threads, and so their calls, are not here."""
        self.life &= CLOSED | UNFINISHED
        store_count(&self.generation, generation())

    def fileno(self):
        """The socket's descriptor, or -1 once closed."""
        return load_int(&self.fd) if self.is_open() else -1

    @property
    def closed(self):
        """Whether the conn, or the socket under it, is closed."""
        return not self.is_open()

    @property
    def socket(self):
        """The socket under the conn, which both may use; None for a conn without one."""
        return self._sock

    def __enter__(self):
        return self

    def __exit__(self, *exc_info):
        self.close()

    def __reduce__(self):
        raise TypeError(f"cannot pickle {type(self).__name__}: it stands for an open socket")

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
        return None if self.gil_policy < 0 else bool(self.gil_policy)

    @release_gil.setter
    def release_gil(self, value):
        if value is not None and not isinstance(value, bool):
            raise TypeError(f"release_gil must be None, True or False, not {shown(value)}")
        self.gil_policy = -1 if value is None else 1 if value else 0


class Unraised:
    """What ``sys.unraisablehook`` is told of an error that no call can raise."""

    err_msg = "Exception ignored in the close of a socket whose last user has left"

    def __init__(self, error, sock):
        self.exc_type = type(error)
        self.exc_value = error
        self.exc_traceback = error.__traceback__
        self.object = sock


cdef int UNSEEN = -1  # in the place of a descriptor that cannot be seen in memory: no socket has it


cdef const int *descriptor_of(object sock) noexcept:
    """Where a socket object keeps its descriptor, to see it closed behind the conn's back.

    CPython's own keep it right behind the object's head. Whatever else stands for a socket, and
    its own where that is not so, is asked by its ``fileno()`` before each call.
    """
    if in_memory and issubclass(type(sock), OWN):
        return <const int *>(<char *><PyObject *>sock + sizeof(PyObject))
    return &UNSEEN


cdef bint seen_in_memory() except -1:
    """Whether CPython's own sockets show their descriptor where `descriptor_of` looks."""
    cdef const int *number
    if OWN.__basicsize__ < sizeof(PyObject) + sizeof(int):
        return False
    try:
        sock = OWN(socket.AF_INET, socket.SOCK_DGRAM)
    except OSError:  # none to be had here
        return False
    number = <const int *>(<char *><PyObject *>sock + sizeof(PyObject))
    cdef bint there = number[0] == sock.fileno()
    sock.close()
    return there and number[0] == -1


cdef bint in_memory = seen_in_memory()


cdef int raise_closed() except -1:
    raise OSError(EBADF, "Bad file descriptor: the conn was closed by another call")
