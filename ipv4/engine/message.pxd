from cpython.buffer cimport Py_buffer
from libc.stdint cimport int32_t, uint16_t, uint32_t, uintptr_t

from ..libc.socket cimport iovec, mmsghdr, msghdr, sockaddr_in
from ..wire.control cimport ControlMessage
from .arena cimport Arena


cdef class Message:
    cdef:
        Arena arena  # None for a message with memory of its own
        size_t index
        object _buffers
        object _oob
        object _addr
        void *claimed_by  # the call that has it in flight; of a slot, its Span
        unsigned int generation  # of the process, and the thread in it, whose call it is
        uintptr_t thread
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

    cdef object length(self)
    cdef object peer(self)
    cdef object told(self)
    cdef int set_word(self, uint32_t *word, uint32_t value) except -1
    cdef ControlMessage received_control(self)
    cdef bint in_flight(self) noexcept
    cdef int set_slot_control(self, object value) except -1
    cdef int claim_slot(self, mmsghdr *header, bint writing, Py_ssize_t position) except -1
    cdef int claim(self, void *call, mmsghdr *header, bint writing, Py_ssize_t position) except -1
    cdef void give_back(self, void *call) noexcept
    cdef void keep_result(self, const mmsghdr *header, bint writing) noexcept


cdef Message slot(Arena arena, size_t index)
