"""One datagram of a batch: `Message`, with a program's own buffers or a slot of a `MessageBatch`.

A message pins its buffers when they are set, and builds the kernel's structures (recvmmsg(2))
then, so that a call has nothing to build. While a call has a message in flight nothing of it may
change; that is what BufferError says here.
"""

cimport cython
from cpython.buffer cimport PyBUF_WRITABLE, Py_buffer
from cpython.exc cimport PyErr_Clear
from cpython.mem cimport PyMem_Calloc, PyMem_Free
from cpython.object cimport PyObject, PyObject_GenericGetAttr
from cpython.ref cimport Py_DECREF, Py_INCREF
from libc.stdint cimport INT32_MAX, UINT32_MAX, int16_t, int32_t, uint16_t, uint32_t
from libc.string cimport memcpy

from ..libc.doors cimport as_number
from ..libc.socket cimport MSG_CTRUNC, iovec, mmsghdr, ntohs, sockaddr_in
from ..libc.threads cimport (
    Section,
    begin_section,
    end_section,
    get_view,
    load_16,
    load_32,
    load_i32,
    release_view,
    store_16,
    store_32,
    store_i32,
)
from ..wire.address cimport as_sockaddr, peer_tuple
from ..wire.arguments cimport as_int, get_buffer
from ..wire.control cimport ControlMessage, control_from_kernel
from .arena cimport Arena, Span
from .process cimport generation, survives, this_thread

cdef extern from *:
    """
    #define ipv4_exporter_of(view) ((view)->obj)
    """
    PyObject *exporter_of "ipv4_exporter_of"(Py_buffer *view) noexcept


cdef enum:
    MAX_BUFFERS = 1024  # UIO_MAXIOV: the kernel refuses more


@cython.final
@cython.no_gc_clear  # the pins are held by _buffers and _oob: see `pin`
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
        if self.views != NULL:
            unpin_all(self.views, self.view_count, self._buffers)
            if self.has_oob:
                unpin(&self.views[self.view_count], self._oob)
            PyMem_Free(self.views)
        if self.vectors != NULL and self.vectors != &self.vector:
            PyMem_Free(self.vectors)

    cdef bint in_flight(self) noexcept:
        """Whether a call has it now; one of a thread that a fork left behind does not."""
        return self.claimed_by != NULL and (
            self.generation == generation() or survives(self.generation, self.thread))

    # Buffers

    @property
    def buffers(self):
        """The payload's buffers, as a new list."""
        cdef Section section
        if self.arena is None:
            begin_section(&section, self)
            found = self._buffers
            single = self.view_count == 1
            end_section(&section)
            return [found] if single else list(found)
        return [memoryview(self.arena.column(
            b"B", 1, self.arena.data + self.index * self.arena.size, self.arena.size, 1))]

    @buffers.setter
    def buffers(self, value):
        cdef Py_buffer *views
        cdef Py_buffer *old_views
        cdef iovec *vectors = NULL
        cdef iovec *old_vectors
        cdef Section section
        cdef size_t count, done = 0, old_count, i
        cdef bint readonly = False, busy
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
        except BaseException:
            unpin_all(views, done, items)
            PyMem_Free(views)
            PyMem_Free(vectors)
            raise
        fresh = items[0] if count == 1 else items  # nearly always one: no tuple for it
        begin_section(&section, self)
        old = self._buffers
        # Pinning ran the exporters' code, which may have handed the message to a call.
        busy = self.in_flight()
        old_views = self.views
        old_count = self.view_count
        old_vectors = self.vectors
        if not busy:
            if self.has_oob:
                memcpy(&views[count], &old_views[old_count], sizeof(Py_buffer))
            self.vectors = vectors if vectors != NULL else &self.vector
            for i in range(count):
                self.vectors[i].iov_base = views[i].buf
                self.vectors[i].iov_len = views[i].len
            self.views = views
            self.view_count = <uint16_t>count
            self._buffers = fresh
            self.readonly_buffers = readonly
            self.header.msg_iov = self.vectors
            self.header.msg_iovlen = count
        end_section(&section)
        # Pins go last: releasing them runs code again.
        if busy:
            unpin_all(views, count, fresh)
            PyMem_Free(views)
            PyMem_Free(vectors)
            refuse_flight()
        if old_vectors != &self.vector:
            PyMem_Free(old_vectors)
        if old_views != NULL:
            unpin_all(old_views, old_count, old)
            PyMem_Free(old_views)

    @property
    def oob(self):
        """The control buffer, or None."""
        cdef Section section
        if self.arena is None:
            begin_section(&section, self)
            found = self._oob
            end_section(&section)
            return found
        return memoryview(self.arena.column(
            b"B", 1, self.arena.control + self.index * self.arena.control_room,
            self.arena.control_room, 1))

    @oob.setter
    def oob(self, value):
        cdef Py_buffer view, old
        cdef Section section
        cdef bint readonly = False, had = False, busy
        if self.arena is not None:
            self.set_slot_control(value)
            return
        if self.views == NULL:
            self.buffers = ()
        if value is not None:
            readonly = pin(value, &view, "oob")
        begin_section(&section, self)
        previous = self._oob
        busy = self.in_flight()
        if not busy:
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
            store_32(&self._nn, 0)
            self._oob = value
        end_section(&section)
        if busy:
            if value is not None:
                unpin(&view, value)
            refuse_flight()
        if had:
            unpin(&old, previous)

    cdef int set_slot_control(self, object value) except -1:
        """Copy control bytes to be sent into a batch's slot."""
        cdef Py_buffer view
        cdef Arena arena = self.arena
        cdef Span *span
        if value is None:
            span = arena.claim(self.index, self.index + 1)
            store_16(&arena.control_held[self.index], 0)
            arena.give_back(span)
            return 0
        get_buffer(value, &view, False, "oob")
        try:
            span = arena.claim(self.index, self.index + 1)
            try:
                if <size_t>view.len > arena.control_room:
                    raise ValueError(
                        f"oob must be at most {arena.control_room} bytes long in this batch,"
                        f" not {view.len}"
                    )
                memcpy(arena.control + self.index * arena.control_room, view.buf, view.len)
                store_16(&arena.control_held[self.index], <int16_t>-view.len)
            finally:
                arena.give_back(span)
        finally:
            release_view(&view)
        return 0

    @property
    def addr(self):
        """Destination, or after a read the sender."""
        return self.peer()

    @addr.setter
    def addr(self, value):
        cdef sockaddr_in name
        cdef Section section
        cdef Span *span
        cdef bint busy
        name.sin_addr.s_addr = 0
        name.sin_port = 0
        if value is not None:
            as_sockaddr(value, &name, "addr")
        if self.arena is not None:
            span = self.arena.claim(self.index, self.index + 1)
            self.arena.names[self.index].sin_addr.s_addr = name.sin_addr.s_addr
            self.arena.names[self.index].sin_port = name.sin_port
            self.arena.ports[self.index] = ntohs(name.sin_port)
            self.arena.give_back(span)
            return
        begin_section(&section, self)
        busy = self.in_flight()
        if not busy:
            self.has_addr = value is not None
            if self.has_addr:
                self.name = name
        end_section(&section)
        if busy:
            refuse_flight()

    # Results

    def __getattribute__(self, name):
        # What is read of every message of a batch. The interpreter looks for any other attribute
        # in the class and its bases first: 110 of 260 instructions, each time.
        if name is "n":
            return self.length()
        if name is "addr":
            return self.peer()
        if name is "control":
            return self.told()
        return PyObject_GenericGetAttr(self, name)

    cdef object length(self):
        if self.arena is not None:
            return as_number(self.arena.headers[self.index].msg_len)
        return as_number(load_32(&self._n))

    cdef object peer(self):
        cdef Section section
        cdef uint32_t address
        cdef uint16_t port
        cdef bint present
        cdef object found = None
        if self.arena is not None:
            return self.arena.peer(self.index)
        begin_section(&section, self)
        present = self.has_addr
        address = self.name.sin_addr.s_addr
        port = self.name.sin_port
        if present and self.addr_of == address and self.port_of == port:
            found = self._addr
        end_section(&section)
        if present and found is None:
            found = peer_tuple(address, port)
            begin_section(&section, self)
            self.addr_of = address
            self.port_of = port
            self._addr = found
            end_section(&section)
        return found

    @property
    def n(self):
        """Bytes of payload moved; in a batch also how many bytes the slot sends."""
        return self.length()

    @n.setter
    def n(self, value):
        cdef uint32_t n
        cdef Span *span
        if self.arena is not None:
            n = <uint32_t>as_int(value, 0, self.arena.size, "n")
            span = self.arena.claim(self.index, self.index + 1)
            self.arena.headers[self.index].msg_len = n
            self.arena.give_back(span)
            return
        self.set_word(&self._n, <uint32_t>as_int(value, 0, UINT32_MAX, "n"))

    @property
    def nn(self):
        """Bytes of control data moved."""
        if self.arena is not None:
            return abs(load_16(&self.arena.control_held[self.index]))
        return load_32(&self._nn)

    @nn.setter
    def nn(self, value):
        if self.arena is not None:
            raise TypeError("nn of a message in a MessageBatch is set by assigning oob")
        self.set_word(&self._nn, <uint32_t>as_int(value, 0, UINT32_MAX, "nn"))

    @property
    def flags(self):
        """The kernel's flags of the message."""
        if self.arena is not None:
            return self.arena.headers[self.index].msg_hdr.msg_flags
        return load_i32(&self._flags)

    @flags.setter
    def flags(self, value):
        cdef int32_t flags = <int32_t>as_int(value, 0, INT32_MAX, "flags")
        cdef Span *span
        if self.arena is not None:
            span = self.arena.claim(self.index, self.index + 1)
            self.arena.headers[self.index].msg_hdr.msg_flags = flags
            self.arena.give_back(span)
            return
        self.set_word(<uint32_t *>&self._flags, <uint32_t>flags)

    cdef int set_word(self, uint32_t *word, uint32_t value) except -1:
        cdef Section section
        cdef bint busy
        begin_section(&section, self)
        busy = self.in_flight()
        if not busy:
            store_32(word, value)
        end_section(&section)
        if busy:
            refuse_flight()
        return 0

    @property
    def control(self):
        """The control data received, or None when there is none.

        Raises
        ------
        ValueError
            If it was cut (MSG_CTRUNC): what is missing cannot be told from what never came.
        """
        return self.told()

    cdef object told(self):
        cdef Section section
        # So that nobody takes the buffer away while it is read.
        begin_section(&section, self)
        try:
            return self.received_control()
        finally:
            end_section(&section)

    cdef ControlMessage received_control(self):
        cdef size_t length = self._nn, room = 0
        cdef int32_t flags = self._flags
        cdef uint32_t peer = self.name.sin_addr.s_addr if self.has_addr else 0
        cdef const unsigned char *data = NULL
        if self.arena is not None:
            # What it is to send is not what it received.
            length = max(load_16(&self.arena.control_held[self.index]), 0)
            flags = self.arena.headers[self.index].msg_hdr.msg_flags
            peer = self.arena.names[self.index].sin_addr.s_addr
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
        return control_from_kernel(data, length, peer, NULL)

    # In flight

    cdef int claim(self, void *call, mmsghdr *header, bint writing, Py_ssize_t position) except -1:
        """Mark the message as one call's own and copy its header, armed."""
        if self.arena is not None:
            return self.claim_slot(header, writing, position)
        cdef Section section
        cdef str unfit = None
        cdef bint busy
        begin_section(&section, self)
        # A message may stand twice in one write; a read would fill the same memory twice.
        busy = self.in_flight() and (self.claimed_by != call or not writing)
        if not busy:
            header.msg_hdr = self.header
            if writing:
                if not self.has_addr:
                    header.msg_hdr.msg_name = NULL
                    header.msg_hdr.msg_namelen = 0
            elif self.readonly_buffers or self.readonly_oob:
                unfit = "buffers" if self.readonly_buffers else "oob"
            if unfit is None:
                self.claimed_by = call
                self.generation = generation()
                self.thread = this_thread()
        end_section(&section)
        if busy:
            raise BufferError(f"ms[{position}] is in flight already")
        if unfit is not None:
            raise TypeError(f"ms[{position}].{unfit} must be writable to be read into")
        return 0

    cdef int claim_slot(self, mmsghdr *header, bint writing, Py_ssize_t position) except -1:
        cdef Span *span = self.arena.claim(self.index, self.index + 1)
        try:
            if writing:
                self.arena.arm_to_write(self.index, self.index + 1)
            else:
                self.arena.arm_to_read(self.index, self.index + 1)
        except BaseException:
            self.arena.give_back(span)
            raise
        self.claimed_by = span
        header[0] = self.arena.headers[self.index]
        return 0

    cdef void give_back(self, void *call) noexcept:
        """Let go of the message, if it is still this call's: it may have stood there twice."""
        cdef Section section
        if self.arena is not None:
            self.arena.give_back(<Span *>self.claimed_by)
            return
        begin_section(&section, self)
        if self.claimed_by == call:
            self.claimed_by = NULL
        end_section(&section)

    cdef void keep_result(self, const mmsghdr *header, bint writing) noexcept:
        """Keep what the kernel said of the message."""
        if self.arena is not None:
            self.arena.headers[self.index].msg_len = header.msg_len
            if not writing:
                self.arena.headers[self.index].msg_hdr = header.msg_hdr
                self.arena.note_received(self.index, self.index + 1, True)
            return
        cdef Section section
        begin_section(&section, self)
        store_32(&self._n, header.msg_len)
        store_32(&self._nn, <uint32_t>header.msg_hdr.msg_controllen)
        store_i32(&self._flags, header.msg_hdr.msg_flags)
        if not writing:
            self.has_addr = header.msg_hdr.msg_namelen >= sizeof(sockaddr_in)
        end_section(&section)

    def __repr__(self):
        shape = [length_of(b) for b in self.buffers]
        return (
            f"<ipv4.Message buffers={shape} addr={self.addr} n={self.n} nn={self.nn}"
            f" flags={self.flags:#x}>"
        )


cdef int refuse_flight() except -1:
    raise BufferError("the message is in flight in another call: wait until that ends")


cdef Py_ssize_t length_of(object exporter) except -1:
    cdef Py_buffer view
    get_buffer(exporter, &view, False, "buffers")
    cdef Py_ssize_t length = view.len
    release_view(&view)
    return length


cdef int pin(object exporter, Py_buffer *view, str name) except -1:
    """Pin a buffer, writable if it can be; returns whether it is read-only.

    The caller keeps the exporter in an attribute, where the garbage collector sees it. The view's
    own reference, which it does not see, is given up: a buffer that refers to its message would
    never be collected. `unpin` takes it back first.
    """
    cdef int readonly = 0
    if get_view(exporter, view, PyBUF_WRITABLE) != 0:
        PyErr_Clear()
        get_buffer(exporter, view, False, name)
        readonly = 1
    if exporter_of(view) == <PyObject *>exporter:
        Py_DECREF(exporter)
    return readonly


cdef void unpin(Py_buffer *view, object exporter) noexcept:
    if exporter_of(view) == <PyObject *>exporter:
        Py_INCREF(exporter)
    release_view(view)


cdef void unpin_all(Py_buffer *views, size_t count, object exporters) noexcept:
    """Release the views of one exporter that stands for itself, or of a tuple of any number."""
    cdef size_t i
    if count == 1 and type(exporters) is not tuple:
        unpin(views, exporters)
        return
    for i in range(count):
        unpin(&views[i], (<tuple>exporters)[i])


cdef Message slot(Arena arena, size_t index):
    """A message that lives in an arena."""
    cdef Message message = Message.__new__(Message)
    message.arena = arena
    message.index = index
    return message
