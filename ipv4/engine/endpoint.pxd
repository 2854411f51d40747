from ..wire.boundary cimport Peers
from .process cimport generation
from .sockopt cimport OptionDoor
from .wait cimport NEVER, Attempt


cdef class Endpoint(OptionDoor):
    cdef:
        int multicast_index  # what IP_MULTICAST_IF was set to, which Linux does not give back
        Peers peers

    cdef int interface_index(self, object interface, str name) except -1
