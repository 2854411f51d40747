from libc.stdint cimport int32_t, int64_t, uint32_t

from .endpoint cimport Attempt
from .message_batch cimport MessageBatch
from .segments cimport Segments
from ..libc.socket cimport mmsghdr, sockaddr_in
from ..libc.threads cimport Try


cdef class Batches(Segments):
    cdef:
        int without_mmsg  # the kernel answered ENOSYS to recvmmsg or sendmmsg
        int deferred_read_error  # met after the first message of a batch read one by one
        int coalesce_wanted
        int joining  # neighbours of a batch to be sent go as one
        bint stamps_sent  # each datagram sent is to leave a stamp of its own
        int refusals  # of joined messages, in a row
        Try mtu_busy  # of the three that follow
        int32_t mtu  # of the path to `mtu_of`, until then
        uint32_t mtu_of
        int64_t mtu_until

    cdef int move_list(self, object messages, int flags, bint writing, size_t *gone,
                       list errors) except -1
    cdef int move_batch(self, MessageBatch batch, int flags, bint writing, size_t *gone,
                        list errors) except -1
    cdef int move(self, mmsghdr *headers, unsigned int count, int flags, bint writing,
                  Attempt *attempt, size_t *gone, list errors) except -1
    cdef int transfer(self, int fd, mmsghdr *headers, unsigned int count, int flags,
                      bint writing) noexcept nogil
    cdef int move_one_by_one(self, int fd, mmsghdr *headers, unsigned int count, int flags,
                             bint writing) noexcept nogil
    cdef int cut_first(self, mmsghdr *headers, int flags, size_t *gone, list errors) except -1
    cdef bint needs_room(self, int flags) noexcept
    cdef int send_runs(self, int fd, mmsghdr *headers, unsigned int count, int flags, bint release,
                       int *err) except -2
    cdef int send_plain(self, int fd, mmsghdr *headers, unsigned int count, int flags,
                        bint release, int *err) except -2
    cdef void refuse_run(self, unsigned int length, int err) noexcept
    cdef bint path_takes(self, int fd, size_t size, const sockaddr_in *name) noexcept
