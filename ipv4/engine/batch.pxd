from .endpoint cimport Attempt
from .message_batch cimport MessageBatch
from .segments cimport Segments
from ..libc.socket cimport mmsghdr


cdef class Batches(Segments):
    cdef:
        bint without_mmsg  # the kernel answered ENOSYS to recvmmsg or sendmmsg
        int deferred_error  # met after the first message of a batch moved singly

    cdef int move_list(self, object messages, int flags, bint writing) except -1
    cdef int move_batch(self, MessageBatch batch, int flags, bint writing) except -1
    cdef int move(self, mmsghdr *headers, unsigned int count, int flags, bint writing,
                  Attempt *attempt) except -1
    cdef int move_each(self, int fd, mmsghdr *headers, unsigned int count, int flags,
                       bint writing) noexcept nogil
    cdef int send_singly(self, mmsghdr *headers, unsigned int count, int flags) except -1
    cdef int move_before(self, mmsghdr *headers, unsigned int count, int flags) except -1
