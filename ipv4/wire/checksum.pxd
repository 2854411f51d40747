from libc.stdint cimport uint16_t, uint64_t


cdef uint64_t sum_words(const unsigned char *data, size_t length) noexcept nogil
cdef uint16_t finish_sum(uint64_t total) noexcept nogil
