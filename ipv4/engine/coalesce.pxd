from ..libc.socket cimport mmsghdr


cdef struct Runs:
    # A batch in which neighbours were joined: one header a run.
    unsigned char *memory
    mmsghdr *headers
    unsigned int *lengths  # messages in each run
    unsigned int count


cdef unsigned int run_length(const mmsghdr *headers, unsigned int count, size_t first,
                             unsigned int most) noexcept nogil
cdef size_t room_for(const mmsghdr *headers, unsigned int count, unsigned int runs) noexcept nogil
cdef void join(Runs *runs, const mmsghdr *headers, size_t room) noexcept nogil
