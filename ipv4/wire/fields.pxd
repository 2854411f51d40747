from libc.stdint cimport uint32_t


cdef enum Kind:
    # What a field holds. Numbers may be all that their bits can be.
    OCTET
    SHORT
    WORD
    INTEGER  # 32 bits with a sign
    LONG  # 64 bits with a sign
    ADDRESS  # network order
    ENDPOINT  # an address, and behind it a port, both in network order
    OPTIONS_BYTES  # an object: IP options as bytes, or None


cdef struct Presence:
    # Where an object notes which of its fields hold a value; NULL where they always do.
    uint32_t *present
    uint32_t *received  # which of them a receive filled, if that is noted


cdef int add_field(object sample, Kind kind, const char *name, const void *place,
                   const Presence *noted, uint32_t bit, bint is_none_at_0,
                   const char *doc) except -1
cdef int expose_object(object sample, const char *name, const void *place,
                       const char *doc) except -1
