from libc.stdint cimport int32_t


cdef enum Form:
    # How a raw socket's headers differ from the wire: the byte order of total length and
    # fragment offset, and whether the kernel takes the header's length off the total.
    WIRE = 0
    HOST_ORDER = 1
    HOST_ORDER_WITHOUT_HEADER = 2


cdef int system_form  # this system's

cdef int form_of(object name) except -1
cdef object flags_object(int32_t value)
cdef list split_options(bytes options)
