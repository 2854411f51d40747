from libc.stdint cimport int16_t, int32_t, int64_t, uint8_t, uint16_t, uint32_t, uintptr_t

from ..libc.socket cimport iovec, mmsghdr, sockaddr_in
from ..libc.threads cimport Lock
from ..wire.address cimport Peers
from ..wire.cmsg cimport Told


cdef enum:
    # Of a batch, so that their product stays far below what 64 bits count.
    MAX_COUNT = 1 << 24
    MAX_SIZE = 1 << 30  # bytes of a slot


cdef struct Span:
    # Slots of an arena that one call has in flight; the arena keeps it in a list meanwhile.
    size_t start
    size_t stop
    unsigned int generation  # of the process, and the thread in it, whose call it is
    uintptr_t thread
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
        # Control bytes that a slot holds: above 0 received, below 0 to be sent.
        int16_t *control_held
        # What control data tells, a column each.
        int64_t *timestamps
        int32_t *ifindexes
        uint16_t *ports  # host order, as Python reads it
        uint16_t *segment_sizes
        uint8_t *ttls
        uint8_t *toses
        # Columns that few programs ask for, in memory of their own, made when one is asked for.
        uint32_t *dsts
        uint32_t *spec_dsts
        uint32_t *drops
        uint8_t *send_ttls
        uint8_t *send_toses
        unsigned char *send_control
        int written  # a write has armed headers, which a read must arm anew
        Lock lock  # of all that follows, and of writing columns of control data
        bint scanned_live  # a column of control data was handed out, so reads keep it true
        int ports_live
        size_t fresh_start  # slots received and not yet scanned
        size_t fresh_stop
        Span *claims
        Span *spare_span
        Peers peers

    cdef Span *claim(self, size_t start, size_t stop) except NULL
    cdef void give_back(self, Span *span) noexcept
    cdef void arm_to_read(self, size_t start, size_t stop) noexcept nogil
    cdef int arm_to_write(self, size_t start, size_t stop) except -1
    cdef void note_received(self, size_t start, size_t stop, bint errors) noexcept nogil
    cdef void add_fresh(self, size_t start, size_t stop) noexcept nogil
    cdef void keep_scanned(self) noexcept
    cdef void scan(self, size_t i) noexcept nogil
    cdef void scan_fresh(self) noexcept nogil
    cdef void read(self, size_t i, Told *told) noexcept nogil
    cdef void tell(self, size_t i, const Told *told) noexcept nogil
    cdef size_t length(self, size_t i) noexcept nogil
    cdef int make_rare_columns(self) except -1
    cdef int make_send_columns(self) except -1
    cdef object column(self, const char *format, size_t itemsize, void *first, size_t length,
                       size_t stride)
    cdef object payload(self, size_t i)
    cdef object peer(self, size_t i)


cdef class Column:
    # A view on an arena: what `memoryview` is made from. It keeps the memory alive.
    cdef:
        Arena arena
        void *first
        const char *format
        Py_ssize_t itemsize
        int ndim
        Py_ssize_t shape[2]
        Py_ssize_t strides[2]
