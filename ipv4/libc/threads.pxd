"""What keeps state whole that several threads reach at once: see threads.h, and its rules."""

from cpython.buffer cimport Py_buffer
from libc.stdint cimport int16_t, int32_t, int64_t, uint32_t


cdef extern from "threads.h" nogil:
    bint FREE_THREADED "IPV4_FREE_THREADED"

    # Single words.
    int load_int "ipv4_load"(const int *place)
    void store_int "ipv4_store"(int *place, int value)
    int exchange_int "ipv4_exchange"(int *place, int value)
    unsigned int load_count "ipv4_load"(const unsigned int *place)
    void store_count "ipv4_store"(unsigned int *place, unsigned int value)
    unsigned int add_count "ipv4_add"(unsigned int *place, unsigned int value)
    unsigned int or_count "ipv4_or"(unsigned int *place, unsigned int value)
    unsigned int and_count "ipv4_and"(unsigned int *place, unsigned int value)
    bint count_in "ipv4_count_in"(unsigned int *word, unsigned int one)
    int16_t load_16 "ipv4_load"(const int16_t *place)
    void store_16 "ipv4_store"(int16_t *place, int16_t value)
    int32_t load_i32 "ipv4_load"(const int32_t *place)
    void store_i32 "ipv4_store"(int32_t *place, int32_t value)
    uint32_t load_32 "ipv4_load"(const uint32_t *place)
    void store_32 "ipv4_store"(uint32_t *place, uint32_t value)
    int64_t load_64 "ipv4_load"(const int64_t *place)
    void store_64 "ipv4_store"(int64_t *place, int64_t value)
    size_t load_size "ipv4_load"(const size_t *place)
    void store_size "ipv4_store"(size_t *place, size_t value)
    void *load_pointer "ipv4_load"(void **place)
    void store_pointer "ipv4_store"(void **place, void *value)

    # A few words at once.
    ctypedef struct Lock "ipv4_lock":
        pass
    void acquire "ipv4_acquire"(Lock *lock)
    void release "ipv4_release"(Lock *lock)

    ctypedef unsigned char Try "ipv4_try"
    bint try_acquire "ipv4_try_acquire"(Try *lock)
    void try_release "ipv4_try_release"(Try *lock)


cdef extern from "threads.h":
    # Those of one object.
    ctypedef struct Section "ipv4_section":
        pass
    void begin_section "ipv4_begin"(Section *section, object guarded) noexcept
    void end_section "ipv4_end"(Section *section) noexcept

    # Views of what others may look at as well. Without Cython's own error handling: the failing
    # path is refuse_buffer.
    int get_view "ipv4_get_buffer"(object exporter, Py_buffer *view, int flags) noexcept
    void release_view "ipv4_release_buffer"(Py_buffer *view) noexcept

    # What is made once.
    ctypedef void *Kept "PyObject *"
    void *kept "ipv4_kept"(Kept *place) noexcept
    void *keep "ipv4_keep"(Kept *place, object made) noexcept
