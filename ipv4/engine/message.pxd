from cpython.buffer cimport Py_buffer
from cpython.object cimport PyObject
from libc.stdint cimport int32_t, int64_t, uint16_t, uint32_t, uint8_t

from ..wire.boundary cimport Peers
from ..libc.socket cimport iovec, mmsghdr, msghdr, sockaddr_in


cdef struct Span:
    # Slots of an arena that one call has in flight, on that call's stack.
    size_t start
    size_t stop
    Span *next


cdef class Arena:
    cdef:
        size_t count
        size_t size  # payload bytes of a slot
        size_t control_room  # control bytes of a slot
        unsigned char *memory
        mmsghdr *headers
        iovec *vectors
        sockaddr_in *names
        unsigned char *control
        unsigned char *data
        int64_t *timestamps
        int32_t *ifindexes
        uint16_t *ports  # host order, as Python reads it
        uint16_t *segment_sizes
        uint16_t *outgoing  # control bytes that a program put into the slot to be sent
        uint8_t *ttls
        uint8_t *toses
        bint scanned_live  # a column of control data was handed out, so reads keep it true
        bint ports_live
        size_t fresh_start  # slots received and not yet scanned
        size_t fresh_stop
        Span *flights
        unsigned int generation  # of the process whose calls they are
        Peers peers

    cdef Span *others(self) noexcept
    cdef int board(self, Span *span) except -1
    cdef void land(self, Span *span) noexcept
    cdef int check_idle(self, size_t index) except -1
    cdef void arm_to_read(self, size_t start, size_t stop) noexcept nogil
    cdef int arm_to_write(self, size_t start, size_t stop) except -1
    cdef void note_received(self, size_t start, size_t stop, bint errors) noexcept nogil
    cdef void scan_fresh(self) noexcept nogil
    cdef object column(self, const char *format, size_t itemsize, void *first, size_t length,
                       size_t stride)


cdef class MessageBatch:
    cdef:
        Arena arena
        size_t start
        size_t stop

    cdef object scanned(self, const char *format, size_t itemsize, void *first)


cdef class Message:
    cdef:
        Arena arena  # None for a message with memory of its own
        size_t index
        object _buffers
        object _oob
        object _addr
        void *flight  # the call that has it in flight
        unsigned int generation  # of the process whose call it is
        Py_buffer *views  # buffers, then oob
        iovec *vectors
        msghdr header  # armed for reading: only a write without address changes its copy
        iovec vector
        sockaddr_in name
        uint32_t addr_of
        uint16_t port_of
        uint16_t view_count
        unsigned char readonly_buffers
        unsigned char readonly_oob
        unsigned char has_addr
        unsigned char has_oob
        uint32_t _n
        uint32_t _nn
        int32_t _flags

    cdef int check_idle(self) except -1
    cdef int set_slot_control(self, object value) except -1
    cdef int board_slot(self, mmsghdr *header, bint writing, Py_ssize_t position) except -1
    cdef int board(self, void *call, mmsghdr *header, bint writing, Py_ssize_t position) except -1
    cdef Span *span(self) noexcept
    cdef void land(self) noexcept
    cdef void take(self, const mmsghdr *header, bint writing) noexcept
