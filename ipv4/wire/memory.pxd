# A caller's buffer, looked at for the length of a call.

from cpython.buffer cimport Py_buffer
from cpython.bytearray cimport PyByteArray_AS_STRING, PyByteArray_CheckExact, PyByteArray_GET_SIZE
from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_CheckExact, PyBytes_GET_SIZE

from ..libc.doors cimport ALONE
from ..libc.threads cimport release_view
from .arguments cimport get_buffer


cdef struct Memory:
    void *data
    Py_ssize_t size
    bint fast  # nothing can move it any more
    Py_buffer view


cdef inline int look_at(object exporter, Memory *memory, bint writable, str name) except -1:
    """Where a buffer is; the caller owes `unfasten`, and `fasten` before anything of Python runs or
    the GIL is given up: a bytearray, which is looked at directly, may then be resized.

    To ask bytes and bytearrays by the buffer protocol would take 190 of the 1,121 instructions of
    a write_to and a read_from.
    """
    memory.fast = False
    if not writable and PyBytes_CheckExact(exporter):
        memory.data = PyBytes_AS_STRING(exporter)
        memory.size = PyBytes_GET_SIZE(exporter)
    elif ALONE and PyByteArray_CheckExact(exporter):
        memory.data = PyByteArray_AS_STRING(exporter)
        memory.size = PyByteArray_GET_SIZE(exporter)
    else:
        get_buffer(exporter, &memory.view, writable, name)
        memory.data = memory.view.buf
        memory.size = memory.view.len
        memory.fast = True
    return 0


cdef inline bint is_plain(object exporter) noexcept:
    """Whether `look_at` sees a payload directly, and so can neither fail nor owe anything."""
    return PyBytes_CheckExact(exporter) or ALONE and PyByteArray_CheckExact(exporter)


cdef inline int fasten(object exporter, Memory *memory, bint writable) except -1:
    """Keep what `look_at` found where it is; nothing of Python ran since."""
    if not memory.fast:
        get_buffer(exporter, &memory.view, writable, "buf")
        memory.fast = True
    return 0


cdef inline void unfasten(Memory *memory) noexcept:
    if memory.fast:
        release_view(&memory.view)
