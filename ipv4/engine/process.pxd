from libc.stdint cimport uintptr_t


cdef extern from *:
    """
    #include <pthread.h>
    #include <stdint.h>
    """
    uintptr_t this_thread "(uintptr_t)pthread_self"() noexcept nogil


cdef unsigned int generation() noexcept
cdef bint survives(unsigned int generation, uintptr_t thread) noexcept
