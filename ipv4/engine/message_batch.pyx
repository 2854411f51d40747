"""Datagrams without an object each: `MessageBatch`, its columns, answers and what it was sent."""

cimport cython
from cpython.bytes cimport PyBytes_FromStringAndSize
from libc.stdint cimport int16_t, uint32_t
from libc.string cimport memcpy

from ..libc.doors cimport Results, forget, head_of
from ..libc.socket cimport (
    CMSG_SPACE,
    MSG_CTRUNC,
    SOL_UDP,
    UDP_GRO,
    mmsghdr,
    ntohs,
    sockaddr_in,
)
from ..libc.threads cimport (
    Section,
    acquire,
    begin_section,
    end_section,
    load_size,
    release,
    store_16,
    store_int,
    store_size,
)
from ..wire.address cimport peer_of
from ..wire.arguments cimport as_int, shown
from ..wire.cmsg cimport (
    ALL_FLAGS,
    SLOT_CONTROL,
    Told,
    Walk,
    flags_space,
    put,
    put_route,
    step,
    walk_over,
)
from ..wire.control cimport answers_to
from .arena cimport MAX_COUNT, MAX_SIZE, Arena, Column, Span
from .message cimport slot

cdef enum:
    COPY_BYTES = 16384  # from here on other threads may run while payloads are copied


cdef inline size_t next_of(size_t *at, size_t stop) noexcept:
    """The place that is next, once; threads that share an iterator may be given one twice."""
    cdef size_t i = load_size(at)
    if i < stop:
        store_size(at, i + 1)
    return i


@cython.final
@cython.no_gc
cdef class Heads:
    """Iterator of `MessageBatch.heads`."""

    cdef:
        Arena arena
        size_t at
        size_t stop
        Results last

    def __dealloc__(self):
        forget(&self.last)

    def __iter__(self):
        return self

    def __next__(self):
        cdef size_t i = next_of(&self.at, self.stop)
        cdef Arena arena = self.arena
        if i >= self.stop:
            raise StopIteration
        return head_of(
            &self.last, arena.headers[i].msg_len,
            peer_of(&arena.peers, arena.names[i].sin_addr.s_addr, arena.names[i].sin_port),
            arena.ttls[i], arena.ifindexes[i])


@cython.final
@cython.internal
@cython.no_gc
cdef class Payloads:
    # Iterator of MessageBatch.payloads.
    cdef:
        Arena arena
        size_t at
        size_t stop

    def __iter__(self):
        return self

    def __next__(self):
        cdef size_t i = next_of(&self.at, self.stop)
        if i >= self.stop:
            raise StopIteration
        return self.arena.payload(i)


@cython.final
@cython.internal
@cython.no_gc
cdef class PeersOf:
    # Iterator of MessageBatch.peers.
    cdef:
        Arena arena
        size_t at
        size_t stop

    def __iter__(self):
        return self

    def __next__(self):
        cdef size_t i = next_of(&self.at, self.stop)
        if i >= self.stop:
            raise StopIteration
        return self.arena.peer(i)


@cython.final
@cython.internal
@cython.no_gc
cdef class Datagrams:
    # Iterator of MessageBatch.datagrams.
    cdef:
        Arena arena
        size_t at
        size_t offset  # in the slot at `at`
        size_t stop

    def __iter__(self):
        return self

    def __next__(self):
        cdef Arena arena = self.arena
        cdef Section section
        cdef size_t i, offset, length, size
        begin_section(&section, self)
        i = self.at
        if i >= self.stop:
            end_section(&section)
            raise StopIteration
        length = arena.length(i)
        offset = min(self.offset, length)  # a read may have filled the slot anew
        size = arena.segment_sizes[i]
        if size == 0 or size > length - offset:
            size = length - offset
        offset += size
        self.offset = 0 if offset >= length else offset
        self.at = i + 1 if offset >= length else i
        end_section(&section)
        offset -= size
        return (
            memoryview(arena.column(b"B", 1, arena.data + i * arena.size + offset, size, 1)),
            arena.peer(i),
        )


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
        cdef size_t i = next_of(&self.at, self.stop)
        if i >= self.stop:
            raise StopIteration
        return slot(self.arena, i)


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
            first, last, stride = key.indices(self.stop - self.start)
            if stride != 1:
                raise ValueError(f"a batch is cut in steps of 1, not {stride}")
            part = MessageBatch.__new__(MessageBatch, self.arena, 0)
            part.start = self.start + first
            part.stop = self.start + max(first, last)
            return part
        return slot(self.arena, self.start + self.place(key))

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
        heads.arena = self.arena
        heads.at = self.start
        heads.stop = self.start + self.first(count, "count")
        self.arena.keep_scanned()
        return heads

    cdef size_t first(self, object n, str name) except? -1:
        """How many slots a caller means by `n`: all of them by None."""
        cdef size_t size = self.stop - self.start
        return size if n is None else <size_t>as_int(n, 0, size, name)

    def payload(self, i):
        """The payload of one slot, as a memoryview of its `lengths[i]` bytes.

        Parameters
        ----------
        i : int
            Index of the slot, counted from the end when it is negative.

        Raises
        ------
        IndexError
            If there is no such slot.
        """
        return self.arena.payload(self.start + self.place(i))

    cdef size_t place(self, object key) except? -1:
        cdef Py_ssize_t size = self.stop - self.start
        cdef Py_ssize_t index = as_int(key, -(1 << 62), 1 << 62, "index")
        if index < 0:
            index += size
        if not 0 <= index < size:
            raise IndexError(f"index {key} of a batch of {size}")
        return <size_t>index

    def payloads(self, n=None):
        """The payloads of the first `n` slots, one memoryview each; of all by default.

        Yields
        ------
        memoryview
            The `lengths[i]` bytes of slot i, in the batch's own memory.
        """
        cdef Payloads found = Payloads.__new__(Payloads)
        found.arena = self.arena
        found.at = self.start
        found.stop = self.start + self.first(n, "n")
        return found

    def peers(self, n=None):
        """The addresses of the first `n` slots; of all by default.

        Yields
        ------
        tuple of (str, int) or None
            As `Message.addr`: the sender after a read. `addrs` and `ports` hold the same as
            numbers, `addrs` in network order: ``socket.inet_ntoa(addrs[i:i + 1])``.
        """
        cdef PeersOf found = PeersOf.__new__(PeersOf)
        found.arena = self.arena
        found.at = self.start
        found.stop = self.start + self.first(n, "n")
        return found

    def reply(self, n=None, interface=None):
        """Turn the first `n` received messages into answers, in place.

        Each is to go back to its sender, from the address that was asked, as
        `ControlMessage.reply` says, with what `lengths` and `data` then say;
        ``write_batch(batch[:n])`` sends them. Columns stay as they are until the next read.

        Parameters
        ----------
        n : int, optional
            As ``read_batch`` returned it; all by default.
        interface : bool, optional
            As for `ControlMessage.reply`.

        Raises
        ------
        ValueError
            If control data of one of them was cut (MSG_CTRUNC); nothing was changed then.
        BufferError
            While a call in another thread has one of them in flight.
        """
        cdef Arena arena = self.arena
        cdef size_t i, stop = self.start + self.first(n, "n")
        cdef Span *span
        cdef Told told
        cdef uint32_t source = 0
        cdef bint tied
        cdef int wished = -1
        if interface is not None:
            if not isinstance(interface, bool):
                raise TypeError(f"interface must be None, True or False, not {shown(interface)}")
            wished = interface
        if self.start == stop:
            return
        arena.make_rare_columns()  # for what is asked of them later
        span = arena.claim(self.start, stop)
        try:
            for i in range(self.start, stop):
                if arena.control_held[i] > 0 and arena.headers[i].msg_hdr.msg_flags & MSG_CTRUNC:
                    raise ValueError(
                        f"message {i - self.start}: its control data was cut (MSG_CTRUNC):"
                        " make the batch with the flags that are on"
                    )
            # The columns keep what was received, which the answer takes the place of.
            acquire(&arena.lock)
            if self.start <= arena.fresh_start and arena.fresh_stop <= stop:
                arena.fresh_start = arena.fresh_stop = 0
            else:
                arena.scan_fresh()
            for i in range(self.start, stop):
                if arena.control_held[i] < 0:  # an answer already, or the program's own
                    continue
                arena.read(i, &told)
                arena.ports[i] = ntohs(arena.names[i].sin_port)
                arena.tell(i, &told)
                tied = answers_to(
                    arena.names[i].sin_addr.s_addr, told.dst, told.spec_dst, &source)
                if wished >= 0:
                    tied = wished
                store_16(&arena.control_held[i], 0)
                if source or tied and told.ifindex:
                    store_16(&arena.control_held[i], -<int16_t>put_route(
                        arena.control + i * arena.control_room, told.ifindex if tied else 0,
                        source != 0, source))
            release(&arena.lock)
        finally:
            arena.give_back(span)

    def datagrams(self, n=None):
        """The single datagrams of what the first `n` slots received; of all by default.

        With ``ControlFlags.SEGMENT_SIZE`` on, several datagrams of a sender arrive as one buffer
        (udp(7), UDP_GRO); `segment_sizes` says how long each is.

        Yields
        ------
        payload : memoryview
            In the batch's own memory; an empty datagram is an empty one.
        src : tuple of (str, int) or None
            The sender.
        """
        cdef Datagrams found = Datagrams.__new__(Datagrams)
        found.arena = self.arena
        found.at = self.start
        found.offset = 0
        found.stop = self.start + self.first(n, "n")
        self.arena.keep_scanned()
        return found

    cdef list copied(self, size_t n):
        """The single datagrams of what the first `n` slots received: bytes, sender and slot each.
        """
        cdef Arena arena = self.arena
        cdef size_t i, offset, length, size, stop = min(self.start + n, self.stop)
        cdef list found = []
        arena.keep_scanned()
        for i in range(self.start, stop):
            length = arena.length(i)
            size = arena.segment_sizes[i]
            if size == 0 or size > length:
                size = length
            src = arena.peer(i)
            offset = 0
            while True:
                found.append((
                    PyBytes_FromStringAndSize(
                        <char *>arena.data + i * arena.size + offset, min(size, length - offset)),
                    src,
                    i - self.start,
                ))
                offset += size
                if offset >= length:
                    break
        return found

    def split(self, into, n=None):
        """Copy the single datagrams of the first `n` slots into another batch, a row each.

        Parameters
        ----------
        into : MessageBatch
            Its rows get payload, address, flags, control data and columns of each datagram, but
            for the segment size.
        n : int, optional
            As ``read_batch`` returned it; all by default.

        Returns
        -------
        int
            How many rows were filled.

        Raises
        ------
        ValueError
            If `into` has too few rows, too short ones, or too little room for control data;
            nothing was copied then.
        BufferError
            While a call in another thread has one of them in flight.
        """
        cdef Arena source = self.arena, target
        cdef MessageBatch other
        cdef size_t stop = self.start + self.first(n, "n"), i, rows = 0, longest = 0, control = 0
        cdef size_t length, size, total = 0
        cdef Span *span
        cdef Span *into_span
        if type(into) is not MessageBatch:
            raise TypeError(f"into must be a MessageBatch, not {type(into).__name__}")
        other = into
        target = other.arena
        if target is source:
            raise ValueError("into must be another batch, not one over the same memory")
        if self.start == stop:
            return 0
        span = source.claim(self.start, stop)
        try:
            source.keep_scanned()
            for i in range(self.start, stop):
                length = source.length(i)
                size = source.segment_sizes[i]
                if size == 0 or size > length:
                    size = length
                rows += (length + size - 1) // size if size else 1
                total += length
                longest = max(longest, size)
                if source.control_held[i] > 0:
                    control = max(control, <size_t>source.control_held[i])
            if rows > other.stop - other.start:
                raise ValueError(
                    f"into must have {rows} rows for what came, not {other.stop - other.start}")
            if longest > target.size:
                raise ValueError(
                    f"into must have rows of {longest} bytes for what came, not {target.size}")
            if control > target.control_room:
                raise ValueError(
                    f"into must have room for {control} bytes of control data a row, not"
                    f" {target.control_room}: make both batches with the same flags"
                )
            into_span = target.claim(other.start, other.start + rows)
            try:
                if total >= COPY_BYTES:
                    with nogil:
                        copy_datagrams(source, self.start, stop, target, other.start)
                else:
                    copy_datagrams(source, self.start, stop, target, other.start)
            finally:
                # Columns are filled when somebody looks, as after a read.
                acquire(&target.lock)
                target.add_fresh(other.start, other.start + rows)
                release(&target.lock)
                target.give_back(into_span)
        finally:
            source.give_back(span)
        return rows

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
        acquire(&arena.lock)
        if not arena.ports_live:
            for i in range(arena.count):
                arena.ports[i] = ntohs(arena.names[i].sin_port)
            store_int(&arena.ports_live, True)
        arena.scan_fresh()
        release(&arena.lock)
        return memoryview(arena.column(
            b"H", 2, &arena.ports[self.start], self.stop - self.start, 2))

    cdef object scanned(self, const char *format, size_t itemsize, void *first):
        """A column of control data: filled now, and by every read from now on."""
        self.arena.keep_scanned()
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

    cdef object rare(self, uint32_t *first):
        """One of the columns that are made when one of them is asked for."""
        return self.scanned(b"I", 4, first + self.start)

    @property
    def dsts(self):
        """Destinations in the received headers (uint32, network order), 0 where none came."""
        self.arena.make_rare_columns()
        return self.rare(self.arena.dsts)

    @property
    def spec_dsts(self):
        """Local addresses that the packets were for (uint32, network order), 0 where none came."""
        self.arena.make_rare_columns()
        return self.rare(self.arena.spec_dsts)

    @property
    def drops(self):
        """Datagrams that the socket had lost by then (uint32), 0 where none was told."""
        self.arena.make_rare_columns()
        return self.rare(self.arena.drops)

    @property
    def send_ttls(self):
        """TTLs that rows are sent with (uint8), 0 for the socket's own.

        They and `send_toses` are added to whatever control data a row has, an answer's too, and
        stay as they are.
        """
        self.arena.make_send_columns()
        return memoryview(self.arena.column(
            b"B", 1, self.arena.send_ttls + self.start, self.stop - self.start, 1))

    @property
    def send_toses(self):
        """Types of service that rows are sent with (uint8), 0 for the socket's own."""
        self.arena.make_send_columns()
        return memoryview(self.arena.column(
            b"B", 1, self.arena.send_toses + self.start, self.stop - self.start, 1))

    def __reduce__(self):
        raise TypeError("cannot pickle a MessageBatch")

    def __repr__(self):
        return f"<ipv4.MessageBatch of {len(self)} messages, {self.arena.size} bytes each>"


cdef void copy_datagrams(Arena source, size_t start, size_t stop, Arena target,
                         size_t row) noexcept nogil:
    """What `MessageBatch.split` copies; there is room for all of it."""
    cdef Told told
    cdef Walk walk
    cdef size_t i, offset, length, size, held
    cdef unsigned char *control
    for i in range(start, stop):
        source.read(i, &told)
        length = source.length(i)
        size = told.segment_size
        told.segment_size = 0
        if size == 0 or size > length:
            size = length
        offset = 0
        while True:
            memcpy(target.data + row * target.size, source.data + i * source.size + offset,
                   min(size, length - offset))
            target.names[row] = source.names[i]
            target.ports[row] = ntohs(source.names[i].sin_port)
            target.headers[row].msg_len = <uint32_t>min(size, length - offset)
            target.headers[row].msg_hdr.msg_flags = source.headers[i].msg_hdr.msg_flags
            held = 0
            if source.control_held[i] > 0:
                control = target.control + row * target.control_room
                walk_over(
                    &walk, source.control + i * source.control_room, source.control_held[i])
                while step(&walk) > 0:
                    if walk.level != SOL_UDP or walk.type != UDP_GRO:
                        if CMSG_SPACE(walk.size) > target.control_room - held:
                            break
                        held += put(control + held, walk.level, walk.type, walk.body, walk.size)
            store_16(&target.control_held[row], <int16_t>held)
            row += 1
            offset += size
            if offset >= length:
                break
