"""Datagrams of a batch: `Message` with a program's own buffers, `MessageBatch` with one memory.

A message pins its buffers when they are set, and builds the kernel's structures (recvmmsg(2))
then, so that a call has nothing to build. While a call has a message in flight nothing of it may
change; that is what BufferError says here.
"""

cimport cython
from cpython.buffer cimport (
    PyBUF_FORMAT,
    PyBUF_ND,
    PyBUF_STRIDES,
    PyBUF_WRITABLE,
    Py_buffer,
    PyBuffer_Release,
)
from cpython.exc cimport PyErr_Clear
from cpython.mem cimport PyMem_Calloc, PyMem_Free, PyMem_RawCalloc, PyMem_RawFree
from libc.stdint cimport INT32_MAX, UINT32_MAX, int32_t, int64_t, uint16_t, uint32_t, uint8_t
from libc.string cimport memcpy, memset

from ..wire.boundary cimport (
    as_int,
    as_sockaddr,
    c_GetBuffer,
    forget_peers,
    get_buffer,
    peer_of,
    peer_tuple,
)
from ..wire.control cimport (
    ALL_FLAGS,
    SLOT_CONTROL,
    Told,
    control_from_kernel,
    flags_space,
    read_told,
)
from .process cimport generation
from ..libc.socket cimport (
    AF_INET,
    MSG_CTRUNC,
    htons,
    iovec,
    mmsghdr,
    msghdr,
    ntohs,
    sockaddr_in,
)

cdef enum:
    MAX_BUFFERS = 1024  # UIO_MAXIOV: the kernel refuses more
    MAX_COUNT = 1 << 24
    MAX_SIZE = 1 << 30


@cython.final
cdef class Message:
    """Message(buffers=(), oob=None, addr=None)
--

    One datagram of a batch.

    Attributes
    ----------
    buffers : list of bytes-like
        Where the payload is gathered from or scattered to; a single buffer is taken as a list of
        one. They are pinned while the message holds them: a bytearray among them cannot be
        resized. The list is a copy: assign a new one to change it. Empty: an empty datagram.
    oob : bytes-like or None
        Control bytes: room for what is received (`new_control_message`), or what is sent
        (`ControlMessage.marshal`).
    addr : tuple of (str, int) or None
        Destination of a write, in any form of an address; None on a connected socket. After a
        read the sender, None if the kernel named none.
    n : int
        Bytes of payload moved by the last call; more than the buffers hold only if MSG_TRUNC was
        among its flags.
    nn : int
        Bytes of control data moved.
    flags : int
        What the kernel said of the message: MSG_TRUNC, MSG_CTRUNC, …
    control : ControlMessage or None
        The control data received, parsed.

    Raises
    ------
    BufferError
        By every setter while a call in another thread has the message in flight.
    """

    def __init__(self, buffers=(), oob=None, addr=None):
        self.buffers = buffers
        self.oob = oob
        self.addr = addr

    def __cinit__(self, *args, **kwargs):
        self.header.msg_name = &self.name
        self.header.msg_namelen = sizeof(sockaddr_in)
        self._buffers = ()

    def __dealloc__(self):
        cdef size_t i
        if self.views != NULL:
            for i in range(self.view_count):
                PyBuffer_Release(&self.views[i])
            if self.has_oob:
                PyBuffer_Release(&self.views[self.view_count])
            PyMem_Free(self.views)
        if self.vectors != NULL and self.vectors != &self.vector:
            PyMem_Free(self.vectors)

    cdef int check_idle(self) except -1:
        if self.arena is not None:
            return self.arena.check_idle(self.index)
        if self.flight != NULL and self.generation == generation():
            raise BufferError("the message is in flight in another call: wait until that ends")
        return 0

    # Buffers

    @property
    def buffers(self):
        """The payload's buffers, as a new list."""
        if self.arena is None:
            return [self._buffers] if self.view_count == 1 else list(self._buffers)
        return [memoryview(self.arena.column(
            b"B", 1, self.arena.data + self.index * self.arena.size, self.arena.size, 1))]

    @buffers.setter
    def buffers(self, value):
        cdef Py_buffer *views
        cdef iovec *vectors = NULL
        cdef size_t count, done = 0, i
        cdef bint readonly = False
        if self.arena is not None:
            raise TypeError("buffers of a message in a MessageBatch are fixed: write into them")
        if not isinstance(value, (list, tuple)):
            value = (value,)
        items = tuple(value)
        count = len(items)
        if count > MAX_BUFFERS:
            raise ValueError(f"buffers must be at most {MAX_BUFFERS}, not {count}")
        views = <Py_buffer *>PyMem_Calloc(count + 1, sizeof(Py_buffer))
        if views == NULL:
            raise MemoryError()
        try:
            if count > 1:
                vectors = <iovec *>PyMem_Calloc(count, sizeof(iovec))
                if vectors == NULL:
                    raise MemoryError()
            for item in items:
                readonly |= pin(item, &views[done], f"buffers[{done}]")
                done += 1
            # Pinning ran the exporters' code, which may have handed the message to a call.
            self.check_idle()
        except BaseException:
            for i in range(done):
                PyBuffer_Release(&views[i])
            PyMem_Free(views)
            PyMem_Free(vectors)
            raise
        # From here on nothing fails. The old pins go last: releasing them runs code again.
        _old = self._buffers
        cdef Py_buffer *old_views = self.views
        cdef size_t old_count = self.view_count
        if self.has_oob:
            memcpy(&views[count], &old_views[old_count], sizeof(Py_buffer))
        if self.vectors != &self.vector:
            PyMem_Free(self.vectors)
        self.vectors = vectors if vectors != NULL else &self.vector
        for i in range(count):
            self.vectors[i].iov_base = views[i].buf
            self.vectors[i].iov_len = views[i].len
        self.views = views
        self.view_count = <uint16_t>count
        self._buffers = items[0] if count == 1 else items  # nearly always one: no tuple for it
        self.readonly_buffers = readonly
        self.header.msg_iov = self.vectors
        self.header.msg_iovlen = count
        if old_views != NULL:
            for i in range(old_count):
                PyBuffer_Release(&old_views[i])
            PyMem_Free(old_views)

    @property
    def oob(self):
        """The control buffer, or None."""
        if self.arena is None:
            return self._oob
        return memoryview(self.arena.column(
            b"B", 1, self.arena.control + self.index * self.arena.control_room,
            self.arena.control_room, 1))

    @oob.setter
    def oob(self, value):
        cdef Py_buffer view, old
        cdef bint readonly = False, had
        if self.arena is not None:
            self.set_slot_control(value)
            return
        if self.views == NULL:
            self.buffers = ()
        if value is not None:
            readonly = pin(value, &view, "oob")
        try:
            self.check_idle()
        except BufferError:
            if value is not None:
                PyBuffer_Release(&view)
            raise
        had = self.has_oob
        old = self.views[self.view_count]
        self.has_oob = value is not None
        self.readonly_oob = readonly
        if self.has_oob:
            self.views[self.view_count] = view
            self.header.msg_control = view.buf
            self.header.msg_controllen = view.len
        else:
            self.header.msg_control = NULL
            self.header.msg_controllen = 0
        self._nn = 0
        _previous, self._oob = self._oob, value
        if had:
            PyBuffer_Release(&old)

    cdef int set_slot_control(self, object value) except -1:
        """Copy control bytes to be sent into a batch's slot."""
        cdef Py_buffer view
        cdef Arena arena = self.arena
        if value is None:
            arena.check_idle(self.index)
            arena.outgoing[self.index] = 0
            arena.headers[self.index].msg_hdr.msg_controllen = 0
            return 0
        get_buffer(value, &view, False, "oob")
        try:
            arena.check_idle(self.index)
            if <size_t>view.len > arena.control_room:
                raise ValueError(
                    f"oob must be at most {arena.control_room} bytes long in this batch,"
                    f" not {view.len}"
                )
            memcpy(arena.control + self.index * arena.control_room, view.buf, view.len)
            arena.outgoing[self.index] = <uint16_t>view.len
            arena.headers[self.index].msg_hdr.msg_controllen = view.len
        finally:
            PyBuffer_Release(&view)
        return 0

    @property
    def addr(self):
        """Destination, or after a read the sender."""
        cdef sockaddr_in *name = &self.name
        if self.arena is not None:
            name = &self.arena.names[self.index]
            if name.sin_addr.s_addr == 0 and name.sin_port == 0:
                return None
            return peer_of(&self.arena.peers, name.sin_addr.s_addr, name.sin_port)
        if not self.has_addr:
            return None
        if (
            self._addr is None
            or self.addr_of != name.sin_addr.s_addr
            or self.port_of != name.sin_port
        ):
            self.addr_of = name.sin_addr.s_addr
            self.port_of = name.sin_port
            self._addr = peer_tuple(self.addr_of, self.port_of)
        return self._addr

    @addr.setter
    def addr(self, value):
        cdef sockaddr_in name
        name.sin_addr.s_addr = 0
        name.sin_port = 0
        if value is not None:
            as_sockaddr(value, &name, "addr")
        self.check_idle()
        if self.arena is not None:
            self.arena.names[self.index].sin_addr.s_addr = name.sin_addr.s_addr
            self.arena.names[self.index].sin_port = name.sin_port
            self.arena.ports[self.index] = ntohs(name.sin_port)
            return
        self.has_addr = value is not None
        if self.has_addr:
            self.name = name

    # Results

    @property
    def n(self):
        """Bytes of payload moved; in a batch also how many bytes the slot sends."""
        if self.arena is not None:
            return self.arena.headers[self.index].msg_len
        return self._n

    @n.setter
    def n(self, value):
        cdef uint32_t n
        if self.arena is not None:
            n = <uint32_t>as_int(value, 0, self.arena.size, "n")
            self.arena.check_idle(self.index)
            self.arena.headers[self.index].msg_len = n
            return
        n = <uint32_t>as_int(value, 0, UINT32_MAX, "n")
        self.check_idle()
        self._n = n

    @property
    def nn(self):
        """Bytes of control data moved."""
        if self.arena is not None:
            return self.arena.headers[self.index].msg_hdr.msg_controllen
        return self._nn

    @nn.setter
    def nn(self, value):
        if self.arena is not None:
            raise TypeError("nn of a message in a MessageBatch is set by assigning oob")
        cdef uint32_t nn = <uint32_t>as_int(value, 0, UINT32_MAX, "nn")
        self.check_idle()
        self._nn = nn

    @property
    def flags(self):
        """The kernel's flags of the message."""
        if self.arena is not None:
            return self.arena.headers[self.index].msg_hdr.msg_flags
        return self._flags

    @flags.setter
    def flags(self, value):
        cdef int32_t flags = <int32_t>as_int(value, 0, INT32_MAX, "flags")
        self.check_idle()
        if self.arena is not None:
            self.arena.headers[self.index].msg_hdr.msg_flags = flags
        else:
            self._flags = flags

    @property
    def control(self):
        """The control data received, or None when there is none.

        Raises
        ------
        ValueError
            If it was cut (MSG_CTRUNC): what is missing cannot be told from what never came.
        """
        cdef size_t length = self._nn, room = 0
        cdef int32_t flags = self._flags
        cdef uint32_t peer = self.name.sin_addr.s_addr if self.has_addr else 0
        cdef const unsigned char *data = NULL
        if self.arena is not None:
            length = self.arena.headers[self.index].msg_hdr.msg_controllen
            flags = self.arena.headers[self.index].msg_hdr.msg_flags
            peer = self.arena.names[self.index].sin_addr.s_addr
            if not self.arena.outgoing[self.index]:
                data = self.arena.control + self.index * self.arena.control_room
                room = self.arena.control_room
        elif self.has_oob:
            data = <const unsigned char *>self.views[self.view_count].buf
            room = self.views[self.view_count].len
        if flags & MSG_CTRUNC:
            raise ValueError(
                f"control data was cut (MSG_CTRUNC) after {length} bytes: make oob larger"
            )
        # nn can be set by a program, and oob replaced since the read.
        if length == 0 or length > room:
            return None
        return control_from_kernel(data, length, peer)

    # In flight

    cdef int board(self, void *call, mmsghdr *header, bint writing, Py_ssize_t position) except -1:
        """Mark the message as one call's own and copy its header, armed."""
        if self.arena is not None:
            return self.board_slot(header, writing, position)
        if self.flight != NULL and self.generation == generation():
            # A message may stand twice in one write; a read would fill the same memory twice.
            if self.flight != call or not writing:
                raise BufferError(f"ms[{position}] is in flight already")
        header.msg_hdr = self.header
        if writing:
            if not self.has_addr:
                header.msg_hdr.msg_name = NULL
                header.msg_hdr.msg_namelen = 0
        elif self.readonly_buffers or self.readonly_oob:
            part = "buffers" if self.readonly_buffers else "oob"
            raise TypeError(f"ms[{position}].{part} must be writable to be read into")
        self.flight = call
        self.generation = generation()
        return 0

    cdef int board_slot(self, mmsghdr *header, bint writing, Py_ssize_t position) except -1:
        cdef Span *span = self.span()
        span.start = self.index
        span.stop = self.index + 1
        self.arena.board(span)
        try:
            if writing:
                self.arena.arm_to_write(self.index, self.index + 1)
            else:
                self.arena.arm_to_read(self.index, self.index + 1)
        except BaseException:
            self.arena.land(span)
            raise
        header[0] = self.arena.headers[self.index]
        return 0

    cdef Span *span(self) noexcept:
        """What a slot has in flight; its header is in the arena, so the place of one is free."""
        return <Span *>&self.header

    cdef void land(self) noexcept:
        if self.arena is not None:
            self.arena.land(self.span())
        self.flight = NULL

    cdef void take(self, const mmsghdr *header, bint writing) noexcept:
        """Keep what the kernel said of the message."""
        if self.arena is not None:
            self.arena.headers[self.index].msg_len = header.msg_len
            self.arena.headers[self.index].msg_hdr = header.msg_hdr
            if not writing:
                self.arena.note_received(self.index, self.index + 1, True)
            return
        self._n = header.msg_len
        self._nn = <uint32_t>header.msg_hdr.msg_controllen
        self._flags = header.msg_hdr.msg_flags
        if not writing:
            self.has_addr = header.msg_hdr.msg_namelen >= sizeof(sockaddr_in)

    def __repr__(self):
        shape = [memoryview(b).nbytes for b in self.buffers]
        return (
            f"<ipv4.Message buffers={shape} addr={self.addr} n={self.n} nn={self.nn}"
            f" flags={self.flags:#x}>"
        )


cdef int pin(object exporter, Py_buffer *view, str name) except -1:
    """Pin a buffer, writable if it can be; returns whether it is read-only."""
    if c_GetBuffer(exporter, view, PyBUF_WRITABLE) == 0:
        return 0
    PyErr_Clear()
    get_buffer(exporter, view, False, name)
    return 1


# Batches without objects

@cython.final
@cython.no_gc
@cython.freelist(16)
cdef class Column:
    """A view on an arena: what `memoryview` is made from. It keeps the memory alive."""

    cdef:
        Arena arena
        void *first
        const char *format
        Py_ssize_t itemsize
        int ndim
        Py_ssize_t shape[2]
        Py_ssize_t strides[2]

    def __getbuffer__(self, Py_buffer *view, int flags):
        if self.arena is None:
            raise BufferError("a column stands for nothing without its batch")
        cdef bint contiguous = self.strides[self.ndim - 1] == self.itemsize
        if not contiguous and flags & PyBUF_STRIDES != PyBUF_STRIDES:
            raise BufferError("the column is not contiguous")
        view.buf = self.first
        view.obj = self
        view.len = self.itemsize * self.shape[0] * (self.shape[1] if self.ndim == 2 else 1)
        view.itemsize = self.itemsize
        view.readonly = 0
        view.ndim = self.ndim
        view.format = <char *>self.format if flags & PyBUF_FORMAT else NULL
        view.shape = self.shape if flags & PyBUF_ND else NULL
        view.strides = self.strides if flags & PyBUF_STRIDES == PyBUF_STRIDES else NULL
        view.suboffsets = NULL
        view.internal = NULL


@cython.final
cdef class Arena:
    """The memory of a MessageBatch and of everything that looks into it: one allocation."""

    def __cinit__(self, size_t count, size_t size, size_t control_room):
        cdef size_t i, per_slot, at = 0
        if (count > MAX_COUNT or size > MAX_SIZE or control_room > MAX_SIZE
                or control_room % sizeof(int64_t)):  # what lies behind would not be aligned
            raise ValueError("an arena of that size cannot be")
        per_slot = (
            sizeof(mmsghdr) + sizeof(iovec) + sizeof(sockaddr_in) + sizeof(int64_t)
            + sizeof(int32_t) + 3 * sizeof(uint16_t) + 2 * sizeof(uint8_t) + control_room + size
        )
        self.memory = <unsigned char *>PyMem_RawCalloc(count, per_slot)
        if self.memory == NULL:
            raise MemoryError()
        self.count = count
        self.size = size
        self.control_room = control_room
        # Widest alignment first: every part is then aligned whatever the count.
        self.headers = <mmsghdr *>self.memory
        at = count * sizeof(mmsghdr)
        self.vectors = <iovec *>(self.memory + at)
        at += count * sizeof(iovec)
        self.timestamps = <int64_t *>(self.memory + at)
        at += count * sizeof(int64_t)
        self.control = self.memory + at
        at += count * control_room
        self.names = <sockaddr_in *>(self.memory + at)
        at += count * sizeof(sockaddr_in)
        self.ifindexes = <int32_t *>(self.memory + at)
        at += count * sizeof(int32_t)
        self.ports = <uint16_t *>(self.memory + at)
        at += count * sizeof(uint16_t)
        self.segment_sizes = <uint16_t *>(self.memory + at)
        at += count * sizeof(uint16_t)
        self.outgoing = <uint16_t *>(self.memory + at)
        at += count * sizeof(uint16_t)
        self.ttls = self.memory + at
        at += count
        self.toses = self.memory + at
        at += count
        self.data = self.memory + at
        for i in range(count):
            self.headers[i].msg_len = <uint32_t>size
            self.headers[i].msg_hdr.msg_iov = &self.vectors[i]
            self.headers[i].msg_hdr.msg_iovlen = 1
            self.vectors[i].iov_base = self.data + i * size
            self.names[i].sin_family = AF_INET

    def __dealloc__(self):
        PyMem_RawFree(self.memory)
        forget_peers(&self.peers)

    cdef Span *others(self) noexcept:
        """The calls in flight; those of a forked child's parent are not among them."""
        if self.generation != generation():
            self.generation = generation()
            self.flights = NULL
        return self.flights

    cdef int board(self, Span *span) except -1:
        """Mark slots as in flight; a slot is in one call at a time."""
        cdef Span *other = self.others()
        while other != NULL:
            if span.start < other.stop and other.start < span.stop:
                raise BufferError("the batch is in flight in another call: wait until that ends")
            other = other.next
        span.next = self.flights
        self.flights = span
        return 0

    cdef void land(self, Span *span) noexcept:
        cdef Span **link = &self.flights
        while link[0] != NULL and link[0] != span:
            link = &link[0].next
        if link[0] != NULL:
            link[0] = span.next

    cdef int check_idle(self, size_t index) except -1:
        cdef Span *other = self.others()
        while other != NULL:
            if other.start <= index < other.stop:
                raise BufferError("the batch is in flight in another call: wait until that ends")
            other = other.next
        return 0

    cdef void arm_to_read(self, size_t start, size_t stop) noexcept nogil:
        cdef size_t i
        cdef msghdr *header
        for i in range(start, stop):
            header = &self.headers[i].msg_hdr
            header.msg_name = &self.names[i]
            header.msg_namelen = sizeof(sockaddr_in)
            header.msg_control = self.control + i * self.control_room
            header.msg_controllen = self.control_room
            self.vectors[i].iov_len = self.size
            self.outgoing[i] = 0

    cdef int arm_to_write(self, size_t start, size_t stop) except -1:
        cdef size_t i
        cdef mmsghdr *message = self.headers + start
        cdef sockaddr_in *name = self.names + start
        if self.ports_live:
            for i in range(start, stop):
                self.names[i].sin_port = htons(self.ports[i])
        for i in range(start, stop):
            if message.msg_len > self.size:
                raise ValueError(
                    f"lengths[{i - start}] is {message.msg_len},"
                    f" beyond the {self.size} bytes of a slot"
                )
            self.vectors[i].iov_len = message.msg_len
            message.msg_hdr.msg_name = name
            message.msg_hdr.msg_namelen = sizeof(sockaddr_in)
            if name.sin_addr.s_addr == 0 and name.sin_port == 0:
                message.msg_hdr.msg_name = NULL
                message.msg_hdr.msg_namelen = 0
            # Control data that was received is not sent back.
            message.msg_hdr.msg_control = self.control + i * self.control_room
            message.msg_hdr.msg_controllen = self.outgoing[i]
            message += 1
            name += 1
        return 0

    cdef void note_received(self, size_t start, size_t stop, bint errors) noexcept nogil:
        cdef size_t i
        if errors:  # entries of the error queue, which may bear no name
            for i in range(start, stop):
                if self.headers[i].msg_hdr.msg_namelen == 0:
                    self.names[i].sin_addr.s_addr = 0
                    self.names[i].sin_port = 0
        if self.fresh_start == self.fresh_stop:
            self.fresh_start = start
            self.fresh_stop = stop
        else:
            self.fresh_start = min(self.fresh_start, start)
            self.fresh_stop = max(self.fresh_stop, stop)
        if self.scanned_live or self.ports_live:
            self.scan_fresh()

    cdef void scan_fresh(self) noexcept nogil:
        """Fill the columns of the slots received since the last time."""
        cdef Told told
        cdef size_t i
        for i in range(self.fresh_start, self.fresh_stop):
            self.ports[i] = ntohs(self.names[i].sin_port)
            if self.outgoing[i]:
                continue
            memset(&told, 0, sizeof(told))
            read_told(self.control + i * self.control_room,
                      min(self.headers[i].msg_hdr.msg_controllen, self.control_room), &told)
            self.ttls[i] = told.ttl
            self.toses[i] = told.tos
            self.ifindexes[i] = told.ifindex
            self.timestamps[i] = told.timestamp
            self.segment_sizes[i] = told.segment_size
        self.fresh_start = self.fresh_stop = 0

    cdef object column(self, const char *format, size_t itemsize, void *first, size_t length,
                       size_t stride):
        cdef Column column = Column.__new__(Column)
        column.arena = self
        column.first = first
        column.format = format
        column.itemsize = itemsize
        column.ndim = 1
        column.shape[0] = length
        column.strides[0] = stride
        return column


@cython.final
@cython.no_gc
cdef class Heads:
    """Iterator of `MessageBatch.heads`."""

    cdef:
        Arena arena
        size_t at
        size_t stop

    def __iter__(self):
        return self

    def __next__(self):
        cdef size_t i = self.at
        cdef Arena arena = self.arena
        if i >= self.stop:
            raise StopIteration
        self.at += 1
        return (
            arena.headers[i].msg_len,
            peer_of(&arena.peers, arena.names[i].sin_addr.s_addr, arena.names[i].sin_port),
            arena.ttls[i],
            arena.ifindexes[i],
        )


cdef inline Message slot(Arena arena, size_t index):
    cdef Message message = Message.__new__(Message)
    message.arena = arena
    message.index = index
    return message


@cython.final
@cython.internal
@cython.no_gc
cdef class Slots:
    """What iterating over a batch gives: a `Message` for each place in it."""

    cdef:
        Arena arena
        size_t at
        size_t stop

    def __iter__(self):
        return self

    def __next__(self):
        if self.at >= self.stop:
            raise StopIteration
        self.at += 1
        return slot(self.arena, self.at - 1)


@cython.final
@cython.no_gc  # an arena refers to nothing
cdef class MessageBatch:
    """MessageBatch(count, size, flags=0)
--

    A batch of messages in one allocation, without a Python object per packet.

    Parameters
    ----------
    count : int
        Number of messages, at least 1. The kernel moves at most 1024 in one call.
    size : int
        Bytes of payload that each has room for.
    flags : ControlFlags
        Control messages to have room for. A slot always has room for 136 bytes, so that TTL and
        destination survive what somebody else switched on; a slot in which there was not room
        enough has MSG_CTRUNC in `flags`.

    Notes
    -----
    ``read_batch`` and ``write_batch`` take a batch like a list of `Message`. ``batch[i]`` is a
    `Message` that lives in the batch, ``batch[a:b]`` a batch over the same memory, which is how
    part of one is sent or received. The columns (`lengths`, `addrs`, `ports`, `ttls`, …) are
    views: one that was taken before a read shows what that read brought.

    Raises
    ------
    ValueError
        If `count` or `size` is out of range.
    MemoryError
        If there is not memory enough.
    """

    def __init__(self, count, size, flags=0):
        pass

    def __cinit__(self, count, size, flags=0):
        if isinstance(count, Arena):  # a slice, whose bounds are set next
            self.arena = count
            return
        cdef size_t slots = as_int(count, 1, MAX_COUNT, "count")
        cdef size_t room = as_int(size, 0, MAX_SIZE, "size")
        cdef size_t control = flags_space(<int>as_int(flags, 0, ALL_FLAGS, "flags"))
        control = max(control, <size_t>SLOT_CONTROL)
        # What lies behind is wider than a control message's alignment on some systems.
        self.arena = Arena(slots, room, (control + 7) & ~<size_t>7)
        self.start = 0
        self.stop = slots

    def __len__(self):
        return self.stop - self.start

    def __getitem__(self, key):
        cdef MessageBatch part
        if isinstance(key, slice):
            first, last, step = key.indices(self.stop - self.start)
            if step != 1:
                raise ValueError(f"a batch is cut in steps of 1, not {step}")
            part = MessageBatch.__new__(MessageBatch, self.arena, 0)
            part.start = self.start + first
            part.stop = self.start + max(first, last)
            return part
        index = as_int(key, -(1 << 62), 1 << 62, "index")
        if index < 0:
            index += self.stop - self.start
        if not 0 <= index < self.stop - self.start:
            raise IndexError(f"index {key} of a batch of {self.stop - self.start}")
        return slot(self.arena, self.start + index)

    def __iter__(self):
        cdef Slots slots = Slots.__new__(Slots)
        slots.arena = self.arena
        slots.at = self.start
        slots.stop = self.stop
        return slots

    def heads(self, count=None):
        """What is known of each packet received, one by one.

        Parameters
        ----------
        count : int, optional
            How many, as ``read_batch`` returned it; all by default.

        Yields
        ------
        length : int
            Bytes of payload.
        src : tuple of (str, int)
            The sender.
        ttl, ifindex : int
            0 where none came.
        """
        cdef Heads heads = Heads.__new__(Heads)
        cdef size_t size = self.stop - self.start
        heads.arena = self.arena
        heads.at = self.start
        heads.stop = self.start + (size if count is None else as_int(count, 0, size, "count"))
        self.arena.scan_fresh()
        self.arena.scanned_live = True
        return heads

    @property
    def data(self):
        """Payloads as a two-dimensional memoryview of bytes, one row a message."""
        cdef Column column = self.arena.column(
            b"B", 1, self.arena.data + self.start * self.arena.size, self.stop - self.start, 1)
        column.ndim = 2
        column.strides[0] = self.arena.size
        column.shape[1] = self.arena.size
        column.strides[1] = 1
        return memoryview(column)

    @property
    def lengths(self):
        """Bytes of payload (uint32): received by a read, to be sent by a write; first `size`."""
        return memoryview(self.arena.column(
            b"I", 4, &self.arena.headers[self.start].msg_len, self.stop - self.start,
            sizeof(mmsghdr)))

    @property
    def flags(self):
        """The kernel's flags of each message (uint32): MSG_TRUNC, MSG_CTRUNC, …"""
        return memoryview(self.arena.column(
            b"I", 4, &self.arena.headers[self.start].msg_hdr.msg_flags, self.stop - self.start,
            sizeof(mmsghdr)))

    @property
    def addrs(self):
        """Addresses (uint32, network order): senders after a read, destinations of a write."""
        return memoryview(self.arena.column(
            b"I", 4, &self.arena.names[self.start].sin_addr.s_addr, self.stop - self.start,
            sizeof(sockaddr_in)))

    @property
    def ports(self):
        """Ports (uint16, as numbers), going with `addrs`."""
        cdef Arena arena = self.arena
        arena.scan_fresh()
        if not arena.ports_live:
            for i in range(arena.count):
                arena.ports[i] = ntohs(arena.names[i].sin_port)
            arena.ports_live = True
        return memoryview(arena.column(
            b"H", 2, &arena.ports[self.start], self.stop - self.start, 2))

    cdef object scanned(self, const char *format, size_t itemsize, void *first):
        """A column of control data: filled now, and by every read from now on."""
        self.arena.scan_fresh()
        self.arena.scanned_live = True
        return memoryview(self.arena.column(
            format, itemsize, first, self.stop - self.start, itemsize))

    @property
    def ttls(self):
        """Received TTLs (uint8), 0 where none came."""
        return self.scanned(b"B", 1, &self.arena.ttls[self.start])

    @property
    def toses(self):
        """Received types of service (uint8), 0 where none came."""
        return self.scanned(b"B", 1, &self.arena.toses[self.start])

    @property
    def ifindexes(self):
        """Indexes of the interfaces that the packets came by (int32), 0 where none came."""
        return self.scanned(b"i", 4, &self.arena.ifindexes[self.start])

    @property
    def timestamps(self):
        """Arrivals in nanoseconds of the realtime clock (int64), 0 where none came."""
        return self.scanned(b"q", 8, &self.arena.timestamps[self.start])

    @property
    def segment_sizes(self):
        """Sizes of the datagrams that came as one buffer (uint16), 0 where none came."""
        return self.scanned(b"H", 2, &self.arena.segment_sizes[self.start])

    def __reduce__(self):
        raise TypeError("cannot pickle a MessageBatch")

    def __repr__(self):
        return f"<ipv4.MessageBatch of {len(self)} messages, {self.arena.size} bytes each>"
