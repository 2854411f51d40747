from ..libc.threads cimport FREE_THREADED, load_int


cdef enum Life:
    CLOSED = 1
    UNFINISHED = 2  # closed, but the socket's own close has yet to return
    USER = 4


cdef class Descriptor:
    cdef:
        readonly object _sock
        readonly object _loop  # who waits for it, of anysocket.py; None: the thread does
        const int *sock_fd  # where _sock keeps its descriptor, if that can be seen
        int fd  # -1 once closed
        # Whether the conn is closed, whether the socket's own close has yet to return (bits of
        # `Life`), and above them how many calls may touch the descriptor.
        unsigned int life
        int finishing  # the socket's own close runs now
        bint unseen  # the descriptor cannot be seen in memory: its socket is asked
        public bint _owned  # nobody but this conn holds the socket; the openers set it
        bint closes  # closing it is the conn's business
        unsigned int generation  # of the process that the counts above belong to
        readonly int _type
        readonly int _protocol
        signed char gil_policy  # 1 release for every call, 0 never but to wait, -1 by size

    cdef int live_fd(self) except -1
    cdef bint is_open(self) except -1
    cdef int take(self, object sock) except -1
    cdef bint admit(self) noexcept
    cdef int enter(self) except -1
    cdef void leave(self) noexcept
    cdef int finish(self) except -1
    cdef int ended(self) except -1
    cdef void wake_all(self) noexcept
    cdef void forget_parent(self) noexcept


cdef inline bint is_unseen(Descriptor conn) noexcept:
    """Whether to ask for the descriptor may run code of Python's."""
    if FREE_THREADED:
        return load_int(&conn.fd) < 0 or conn.unseen
    return conn.fd < 0 or conn.sock_fd[0] != conn.fd


cdef inline int hold(Descriptor conn) except -1:
    """Keep the number from being closed over a system call that keeps the GIL: where there is a
    GIL that is enough, and this is nothing. `let_go` ends it.
    """
    return conn.enter() if FREE_THREADED else 0


cdef inline void let_go(Descriptor conn) noexcept:
    if FREE_THREADED:
        conn.leave()


cdef int raise_closed() except -1
