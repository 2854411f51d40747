cdef class Descriptor:
    cdef:
        readonly object _sock
        readonly object _loop  # who waits for it, of anysocket.py; None: the thread does
        const int *sock_fd  # where _sock keeps its descriptor, if that can be seen
        int fd  # -1 once closed
        int users  # calls that may touch the descriptor without holding the GIL
        bint unfinished  # closed, but the socket's own close has yet to return
        bint finishing  # it runs now
        public bint _owned  # nobody but this conn holds the socket; the openers set it
        bint closes  # closing it is the conn's business
        unsigned int generation  # of the process that the counts above belong to
        readonly int _type
        readonly int _protocol
        signed char gil  # 1 release for every call, 0 never but to wait, -1 by size

    cdef int live_fd(self) except -1
    cdef bint is_open(self) except -1
    cdef int take(self, object sock) except -1
    cdef void enter(self) noexcept
    cdef void leave(self) noexcept
    cdef int finish(self) except -1
    cdef int ended(self) except -1
    cdef void wake_all(self) noexcept
    cdef void forget_parent(self) noexcept


cdef inline bint is_unseen(Descriptor conn) noexcept:
    """Whether to ask for the descriptor may run code of Python's."""
    return conn.fd < 0 or conn.sock_fd[0] != conn.fd


cdef int raise_closed() except -1
