"""What event loops watch of a conn, and how they hear of its end and its deadlines.

A loop that watched the socket's own number would watch whoever gets that number next, and a
program's own reader of the socket would take the place of ours. So a conn gives each loop, for each
direction in which somebody waits, one descriptor of its own that becomes readable when something
new happens to the socket (epoll(7), edge-triggered: an unread error queue is told once) and when
``close`` or a deadline setter signals. The number is closed when the conn has ended and no
registration names it any more, so that it never becomes somebody else's in a loop's eyes.
"""

cimport cython
from libc.errno cimport errno
from libc.stdint cimport int64_t

from ..libc.socket cimport (
    HAVE_EPOLL_CREATE1,
    close as c_close,
    waker_close,
    waker_open,
    waker_signal,
    watch_drain,
    watch_open,
)
from ..libc.threads cimport (
    Section,
    acquire,
    begin_section,
    end_section,
    load_int,
    release,
)
from ..wire.arguments cimport os_error
from .descriptor cimport hold, let_go, raise_closed
from .process cimport generation
from .wait cimport NEVER, WRITE, Waiting

from weakref import ref


cdef class Watch:
    """One loop's view of one direction of a conn; base of what there is for each kind of loop.

    It does not refer to the conn, which is therefore freed when its program drops it.
    """

    kept = False  # whether the conn keeps it alive, for no loop does

    def __cinit__(self, *args, **kwargs):
        self.number = self.waker[0] = self.waker[1] = -1

    def __dealloc__(self):
        self.close()

    cdef int open(self, int fd, object key, int direction) except -1:
        self.loop = key
        self.told_of = direction
        self.generation = generation()
        if waker_open(self.waker) < 0:
            raise os_error(errno, "a loop's watch of the conn")
        self.number = watch_open(fd, direction, self.waker[0])
        if self.number < 0:
            err = errno
            waker_close(self.waker)
            raise os_error(err, "a loop's watch of the conn")
        return 0

    @property
    def key(self):
        """The loop that watches, in whatever way its kind is told apart."""
        return self.loop

    @property
    def direction(self):
        """What is told of: READ, WRITE or ERRORS."""
        return self.told_of

    @property
    def ended(self):
        """Whether the conn is closed."""
        return self.conn_ended

    @property
    def numbers(self):
        """What a loop is to watch: pairs of a descriptor and whether it is for room to write."""
        if HAVE_EPOLL_CREATE1:
            return ((self.number, False),)
        return ((self.number, self.told_of == WRITE), (self.waker[0], False))

    def hold(self):
        """Count a registration that names the numbers; False when there are none any more."""
        cdef bint held
        acquire(&self.lock)
        held = not self.conn_ended and self.is_here()
        if held:
            self.holders += 1
        release(&self.lock)
        return held

    def let_go(self):
        """End of a registration; the last one of a conn that has closed closes the numbers."""
        acquire(&self.lock)
        self.holders -= 1
        if self.conn_ended and self.holders == 0:
            self.close()
        release(&self.lock)

    def drain(self):
        """Take what was told, so that only what comes from now on is told."""
        acquire(&self.lock)
        if self.is_here():
            watch_drain(self.number, self.waker)
        release(&self.lock)

    def take_back(self):
        """Give registrations up now if that can be done from where the conn was closed."""

    cdef bint is_here(self) noexcept:
        """Whether the descriptors are open and this process's own."""
        if self.number >= 0 and self.generation != generation():
            self.close()  # a forked child's copies: the parent goes on watching its own
        return self.number >= 0

    cdef bint is_open(self) noexcept:
        cdef bint here
        acquire(&self.lock)
        here = self.is_here()
        release(&self.lock)
        return here

    cdef void signal(self) noexcept:
        acquire(&self.lock)
        if self.is_here():
            waker_signal(self.waker)
        release(&self.lock)

    cdef void end(self) noexcept:
        acquire(&self.lock)
        self.conn_ended = True
        if self.is_here():
            if self.holders:
                waker_signal(self.waker)
            else:
                self.close()
        release(&self.lock)

    cdef void close(self) noexcept:
        if self.number >= 0:
            c_close(self.number)
            self.number = -1
            waker_close(self.waker)


cdef class Clock:
    """How long one awaited call has been waiting; see `Watched._time_left`."""


@cython.no_gc_clear  # what is told of a conn's end is needed until then
cdef class Watched(Waiting):
    """A descriptor that event loops watch."""

    def __dealloc__(self):
        for_each(self.watches, True)

    def _watch(self, kind, key, int direction):
        """The `kind` of Watch of the loop `key`: the one that there is, or a new one."""
        cdef Watch watch
        cdef Section section
        cdef int fd
        cdef bint closed
        cdef list watches, fresh = []
        self.live_fd()
        watches = self.present_watches()
        for entry in list(watches or ()):
            watch = watch_of(entry)
            if watch is None or not watch.is_open():
                try:
                    watches.remove(entry)
                except ValueError:  # it was removed meanwhile
                    pass
            elif watch.told_of == direction and watch.loop == key and type(watch) is kind:
                return watch
        watch = kind()
        entry = watch if watch.kept else ref(watch)
        # From here on no Python code runs: the number is the conn's, and no watch is lost.
        fd = self.live_fd()
        hold(self)
        try:
            watch.open(fd, key, direction)
        finally:
            let_go(self)
        begin_section(&section, self)
        try:
            closed = load_int(&self.fd) < 0  # then nobody would tell it of the end
            if not closed:
                if self.watches is None:
                    self.watches = fresh
                self.watches.append(entry)
        finally:
            end_section(&section)
        if closed:
            raise_closed()
        return watch

    cdef list present_watches(self):
        cdef Section section
        cdef list watches
        begin_section(&section, self)
        watches = self.watches
        end_section(&section)
        return watches

    def _time_left(self, int direction, Clock clock):
        """Seconds until an awaited call ends by itself, its timeout counted from its first wait.

        None for never. A socket that does not block is what programs of loops have, and an awaited
        call blocks nobody: it waits there too.
        """
        cdef int64_t left
        cdef int fd = self.live_fd()
        self.start_clock(fd, direction, &clock.attempt)
        if clock.attempt.nonblocking and self.deadline(direction) == NEVER:
            return None
        left = self.time_left(direction, &clock.attempt)
        return None if left < 0 else left * 1e-9

    cdef int ended(self) except -1:
        cdef Section section
        cdef list watches
        cdef Watch watch
        begin_section(&section, self)
        watches, self.watches = self.watches, None
        end_section(&section)
        for entry in watches or ():
            watch = watch_of(entry)
            # Not what a loop of a forked child's parent watches.
            if watch is not None and watch.is_open():
                watch.take_back()
        return 0

    cdef void wake_all(self) noexcept:
        Waiting.wake_all(self)
        for_each(self.present_watches(), load_int(&self.fd) < 0)

    cdef void forget_parent(self) noexcept:
        """In a forked child: what a loop of the parent watches is none of its own."""
        cdef Watch watch
        Waiting.forget_parent(self)
        for entry in self.present_watches() or ():
            watch = watch_of(entry)
            if watch is not None:
                watch.is_open()


cdef Watch watch_of(object entry):
    """What a conn's list holds: a watch, or a weak reference to one that a loop keeps alive."""
    return entry if isinstance(entry, Watch) else entry()


cdef void for_each(list watches, bint ended) noexcept:
    """Have the loops look at deadlines again, or tell them that the conn has ended."""
    for entry in watches or ():
        watch = watch_of(entry)
        if watch is not None:
            if ended:
                watch.end()
            else:
                watch.signal()
