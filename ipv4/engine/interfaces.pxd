from libc.stdint cimport uint32_t

from .sockopt cimport OptionDoor


cdef class InterfaceLookup(OptionDoor):
    cdef int interface_index(self, object interface, str name) except -1
    cdef int index_of_name(self, object interface, str name) except -2
    cdef int index_with_address(self, uint32_t address) except -1
    cdef list interface_indexes(self)
    cdef list multicast_indexes(self)
