"""The memory of a batch: headers, addresses, control data and payloads of its slots, at once.

While a call has slots in flight nothing of them may change; that is what BufferError says here.
"""

cimport cython
from cpython.buffer cimport PyBUF_FORMAT, PyBUF_ND, PyBUF_STRIDES, Py_buffer
from cpython.mem cimport PyMem_RawCalloc, PyMem_RawFree
from libc.stdint cimport int16_t, int32_t, int64_t, uint8_t, uint16_t, uint32_t
from libc.string cimport memcpy, memset

from ..libc.socket cimport (
    AF_INET,
    CMSG_SPACE,
    IP_TOS,
    IP_TTL,
    IPPROTO_IP,
    htons,
    iovec,
    mmsghdr,
    msghdr,
    ntohs,
    sockaddr_in,
)
from ..libc.threads cimport (
    acquire,
    load_16,
    load_int,
    load_pointer,
    release,
    store_16,
    store_int,
    store_pointer,
)
from ..wire.address cimport forget_peers, peer_of
from ..wire.cmsg cimport Told, is_usual, put, read_told
from .process cimport generation, survives, this_thread


@cython.final
@cython.no_gc
@cython.freelist(16)
cdef class Column:
    """What the `memoryview` of a column is made from; it keeps the memory."""

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
    """The memory of a batch and of its slices, which share it."""

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
        self.control_held = <int16_t *>(self.memory + at)
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
            self.headers[i].msg_hdr.msg_name = &self.names[i]
            self.headers[i].msg_hdr.msg_control = self.control + i * control_room
            self.vectors[i].iov_len = size
            self.vectors[i].iov_base = self.data + i * size
            self.names[i].sin_family = AF_INET

    def __dealloc__(self):
        cdef Span *span
        PyMem_RawFree(self.memory)
        PyMem_RawFree(self.dsts)
        PyMem_RawFree(self.send_control)
        while self.claims != NULL:  # of threads that a forked child has not
            span = self.claims
            self.claims = span.next
            PyMem_RawFree(span)
        PyMem_RawFree(self.spare_span)
        forget_peers(&self.peers)

    # Slots in flight

    cdef Span *claim(self, size_t start, size_t stop) except NULL:
        """Mark slots as in flight; a slot is in one call at a time."""
        cdef Span **link = &self.claims
        cdef Span *span
        acquire(&self.lock)
        while link[0] != NULL:
            span = link[0]
            if span.generation != generation() and not survives(span.generation, span.thread):
                link[0] = span.next  # of a thread that is not in this child
                PyMem_RawFree(span)
                continue
            if span.start < stop and start < span.stop:
                release(&self.lock)
                raise BufferError(
                    "the batch is in flight already, in another call or twice in this one:"
                    " wait until that ends"
                )
            link = &span.next
        span = self.spare_span
        self.spare_span = NULL
        if span == NULL:
            span = <Span *>PyMem_RawCalloc(1, sizeof(Span))
            if span == NULL:
                release(&self.lock)
                raise MemoryError()
        span.start = start
        span.stop = stop
        span.generation = generation()
        span.thread = this_thread()
        span.next = self.claims
        self.claims = span
        release(&self.lock)
        return span

    cdef void give_back(self, Span *span) noexcept:
        cdef Span **link = &self.claims
        acquire(&self.lock)
        while link[0] != NULL and link[0] != span:
            link = &link[0].next
        if link[0] != NULL:
            link[0] = span.next
            if self.spare_span == NULL:
                self.spare_span = span
            else:
                PyMem_RawFree(span)
        release(&self.lock)

    cdef void arm_to_read(self, size_t start, size_t stop) noexcept nogil:
        cdef size_t i
        cdef msghdr *header
        for i in range(start, stop):
            header = &self.headers[i].msg_hdr
            header.msg_namelen = sizeof(sockaddr_in)
            header.msg_controllen = self.control_room
        if load_int(&self.written):
            for i in range(start, stop):
                header = &self.headers[i].msg_hdr
                header.msg_name = &self.names[i]
                header.msg_control = self.control + i * self.control_room
                self.vectors[i].iov_len = self.size

    cdef int arm_to_write(self, size_t start, size_t stop) except -1:
        # Each pointer steps by itself: looked up by the slot's number they take 5 more
        # instructions a slot, of 79 that one takes both ways.
        cdef size_t i, size = self.size, room = self.control_room
        cdef mmsghdr *message = self.headers + start
        cdef iovec *vector = self.vectors + start
        cdef sockaddr_in *name = self.names + start
        cdef const int16_t *held = self.control_held + start
        cdef unsigned char *control = self.control + start * room
        cdef bint adds = load_pointer(<void **>&self.send_ttls) != NULL
        store_int(&self.written, True)
        if load_int(&self.ports_live):
            for i in range(start, stop):
                self.names[i].sin_port = htons(self.ports[i])
        for i in range(start, stop):
            if message.msg_len > size:
                raise ValueError(
                    f"lengths[{i - start}] is {message.msg_len},"
                    f" beyond the {self.size} bytes of a slot"
                )
            vector.iov_len = message.msg_len
            message.msg_hdr.msg_name = name
            message.msg_hdr.msg_namelen = sizeof(sockaddr_in)
            if name.sin_addr.s_addr == 0 and name.sin_port == 0:
                message.msg_hdr.msg_name = NULL
                message.msg_hdr.msg_namelen = 0
            # Control data that was received is not sent back.
            message.msg_hdr.msg_control = control
            message.msg_hdr.msg_controllen = -held[0] if held[0] < 0 else 0
            if adds and (self.send_ttls[i] or self.send_toses[i]):
                add_send_columns(self, i, &message.msg_hdr)
            message += 1
            vector += 1
            name += 1
            held += 1
            control += room
        return 0

    # What came

    cdef void note_received(self, size_t start, size_t stop, bint errors) noexcept nogil:
        cdef size_t i, _, room = self.control_room
        cdef const mmsghdr *message = self.headers + start
        cdef int16_t *held = self.control_held + start
        for _ in range(start, stop):
            store_16(held, <int16_t>min(<size_t>message.msg_hdr.msg_controllen, room))
            message += 1
            held += 1
        if errors:  # entries of the error queue, which may bear no name
            for i in range(start, stop):
                if self.headers[i].msg_hdr.msg_namelen == 0:
                    self.names[i].sin_addr.s_addr = 0
                    self.names[i].sin_port = 0
        acquire(&self.lock)
        self.add_fresh(start, stop)
        release(&self.lock)

    cdef void add_fresh(self, size_t start, size_t stop) noexcept nogil:
        """Count slots among those whose columns are to be filled; inside of the lock."""
        if self.fresh_start == self.fresh_stop:
            self.fresh_start = start
            self.fresh_stop = stop
        else:
            self.fresh_start = min(self.fresh_start, start)
            self.fresh_stop = max(self.fresh_stop, stop)
        if self.scanned_live or self.ports_live:
            self.scan_fresh()

    cdef void keep_scanned(self) noexcept:
        """Fill the columns, and have every read from now on keep them filled."""
        acquire(&self.lock)
        self.scanned_live = True
        self.scan_fresh()
        release(&self.lock)

    cdef void scan_fresh(self) noexcept nogil:
        """Fill the columns of the slots received since the last time; inside of the lock.

        Those of slots in flight among them may show what is there half; they are filled anew when
        the slots have been received.
        """
        cdef size_t i
        for i in range(self.fresh_start, self.fresh_stop):
            self.scan(i)
        self.fresh_start = self.fresh_stop = 0

    cdef void scan(self, size_t i) noexcept nogil:
        cdef Told told
        self.ports[i] = ntohs(self.names[i].sin_port)
        if load_16(&self.control_held[i]) < 0:  # what it is to send; the columns keep what came
            return
        self.read(i, &told)
        self.tell(i, &told)

    cdef void read(self, size_t i, Told *told) noexcept nogil:
        """What a slot's control data tells."""
        cdef int16_t held = load_16(&self.control_held[i])
        memset(told, 0, sizeof(told[0]))
        cdef const unsigned char *control = self.control + i * self.control_room
        if held > 0 and not is_usual(control, held, told):
            read_told(control, held, told)

    cdef void tell(self, size_t i, const Told *told) noexcept nogil:
        """Put what a slot's control data tells into its columns."""
        self.ttls[i] = told.ttl
        self.toses[i] = told.tos
        self.ifindexes[i] = told.ifindex
        self.timestamps[i] = told.timestamp
        self.segment_sizes[i] = told.segment_size
        if self.dsts != NULL:
            self.dsts[i] = told.dst
            self.spec_dsts[i] = told.spec_dst
            self.drops[i] = told.drops

    cdef size_t length(self, size_t i) noexcept nogil:
        """Bytes of payload that a slot holds; its datagram may have been longer (MSG_TRUNC)."""
        return min(<size_t>self.headers[i].msg_len, self.size)

    # Columns made when they are asked for

    cdef int make_rare_columns(self) except -1:
        cdef uint32_t *columns
        cdef size_t i
        if load_pointer(<void **>&self.dsts) != NULL:
            return 0
        columns = <uint32_t *>PyMem_RawCalloc(self.count, 3 * sizeof(uint32_t))
        if columns == NULL:
            raise MemoryError()
        acquire(&self.lock)
        if self.dsts == NULL:
            self.spec_dsts = columns + self.count
            self.drops = columns + 2 * self.count
            # The last to be there: who sees it sees all three.
            store_pointer(<void **>&self.dsts, columns)
            columns = NULL
            # What was scanned before they were there is read once more.
            for i in range(self.count):
                if load_16(&self.control_held[i]) > 0:
                    self.scan(i)
        release(&self.lock)
        PyMem_RawFree(columns)  # another thread has made them meanwhile
        return 0

    cdef int make_send_columns(self) except -1:
        cdef uint8_t *columns
        if load_pointer(<void **>&self.send_ttls) != NULL:
            return 0
        columns = <uint8_t *>PyMem_RawCalloc(self.count, 2 + send_room(self))
        if columns == NULL:
            raise MemoryError()
        acquire(&self.lock)
        if self.send_ttls == NULL:
            # Control data first, for it is to be aligned.
            self.send_control = columns
            self.send_toses = columns + self.count * send_room(self)
            store_pointer(<void **>&self.send_ttls, self.send_toses + self.count)
            columns = NULL
        release(&self.lock)
        PyMem_RawFree(columns)
        return 0

    cdef object payload(self, size_t i):
        return memoryview(self.column(
            b"B", 1, self.data + i * self.size, self.length(i), 1))

    cdef object peer(self, size_t i):
        cdef uint32_t address = self.names[i].sin_addr.s_addr
        cdef uint16_t port = self.names[i].sin_port
        if address == 0 and port == 0:
            return None
        return peer_of(&self.peers, address, port)

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


cdef size_t send_room(Arena arena) noexcept nogil:
    """Control bytes of a slot with what the send columns add."""
    return arena.control_room + 2 * CMSG_SPACE(sizeof(int))


cdef void add_send_columns(Arena arena, size_t i, msghdr *header) noexcept nogil:
    """Join a row's own control data and what its send columns ask for, in a place apart."""
    cdef unsigned char *out = arena.send_control + i * send_room(arena)
    cdef int ttl = arena.send_ttls[i]
    cdef size_t at = header.msg_controllen, aligned = CMSG_SPACE(at) - CMSG_SPACE(0)
    memcpy(out, header.msg_control, at)
    memset(out + at, 0, aligned - at)
    at = aligned
    if ttl:
        at += put(out + at, IPPROTO_IP, IP_TTL, &ttl, sizeof(ttl))
    if arena.send_toses[i]:
        at += put(out + at, IPPROTO_IP, IP_TOS, &arena.send_toses[i], 1)
    header.msg_control = out
    header.msg_controllen = at
