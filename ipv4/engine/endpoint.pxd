from ..wire.address cimport Peers
from .process cimport generation
from .interfaces cimport InterfaceLookup
from .wait cimport NEVER, Attempt


cdef class Endpoint(InterfaceLookup):
    cdef:
        int multicast_index  # what IP_MULTICAST_IF was set to, which Linux does not give back
        dict chosen  # of multicast.pyx: where groups joined on no named interface are
        Peers peers
