from cpython.long cimport PyLong_AsLong
from cpython.object cimport PyObject
from libc.stdint cimport int32_t, uint16_t, uint32_t

from .cmsg cimport HERE, Numbers, SRC, System, Told, put_route_by


cdef class ControlMessage:
    cdef:
        uint32_t present  # bits of Attribute: which attributes hold a value
        uint32_t from_kernel  # which of them a receive filled, and so are not sent back
        # What nearly every program reads, as ints that Python takes straight from here: see
        # `expose_object`.
        object _ttl
        object _ifindex
        uint32_t _src
        uint32_t _dst
        uint32_t _spec_dst
        uint32_t _original_addr
        uint16_t _original_port
        Numbers numbers
        # The rare parts, None when absent.
        bytes _options
        bytes _send_options
        bytes _extra  # whole control messages, padded, one after the other

    cdef int take(self, const Told *told, const void *data, size_t length,
                  bint errors) except -1
    cdef int take_rare(self, const Told *told, const void *data, size_t length,
                       bint errors) except -1
    cdef uint32_t to_send(self) noexcept
    cdef size_t encoding_room(self) noexcept
    cdef size_t encode(self, unsigned char *out, bint segmented) noexcept
    cdef int32_t segment_to_send(self) noexcept


cdef enum:
    ROUTE_ROOM = 32  # what `encode_route` may write


cdef inline bint is_route(ControlMessage cm) noexcept:
    """Whether a write of it tells nothing but which way to go: source and interface."""
    return cm.present & ~cm.from_kernel & ~SRC == 0 and cm._send_options is None


cdef inline size_t encode_route(ControlMessage cm, unsigned char *out) noexcept:
    """`encode` of one that `is_route`, in 50 instructions of 220."""
    cdef int32_t ifindex = <int32_t>PyLong_AsLong(cm._ifindex)
    cdef uint32_t sourced = cm.present & ~cm.from_kernel & SRC
    if ifindex <= 0 and not sourced:
        return 0
    return put_route_by(&HERE, out, ifindex, sourced != 0, cm._src)


cdef ControlMessage at_once(ControlMessage cm)
cdef ControlMessage control_from_kernel(const unsigned char *data, size_t length, uint32_t peer,
                                        PyObject *spare)
cdef ControlMessage control_of_report(const unsigned char *data, size_t length, Told *told)
cdef size_t encode_for(const System *by, ControlMessage cm, unsigned char *out) noexcept
cdef bint answers_to(uint32_t sender, uint32_t dst, uint32_t spec_dst,
                     uint32_t *source) noexcept nogil
