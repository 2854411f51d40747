"""What a fork leaves of calls that were going on: the forking thread's, and nobody else's.

Who notes a call where others find it (a conn its waiters, a message who claimed it) notes
`generation` and `this_thread` with it, and asks `survives` whenever the generation is another one.
"""

from libc.stdint cimport uintptr_t


cdef extern from "forks.h":
    ctypedef struct ipv4_forks:
        unsigned int generation

    ipv4_forks forks "ipv4_forks_here"
    int watch_forks "ipv4_watch_forks"()
    bint ipv4_survives(unsigned int generation, uintptr_t thread) noexcept


cdef unsigned int generation() noexcept:
    """How many forks lie between this process and the one that imported the package."""
    return forks.generation


cdef bint survives(unsigned int generation, uintptr_t thread) noexcept:
    """Whether a call that `thread` began in that generation goes on in this process."""
    return ipv4_survives(generation, thread)


if watch_forks():
    raise MemoryError("no memory for pthread_atfork")
