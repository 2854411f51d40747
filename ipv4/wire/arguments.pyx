"""Where Python values become C values: integers, buffers; and C errors become exceptions.

Everything that a caller hands in passes through here once: integers (through ``__index__``, with
a range), buffers; addresses through `address`. Each refusal names the argument and what was given.
"""

from cpython.buffer cimport PyObject_CheckBuffer
from cpython.exc cimport PyErr_Clear, PyErr_ExceptionMatches, PyErr_Occurred
from cpython.long cimport PyLong_AsLongLongAndOverflow, PyLong_CheckExact
from libc.stdint cimport int64_t
from libc.string cimport strerror

from operator import index


cdef object ZERO = 0


cpdef str shown(object value):
    """The value for an error message: its repr, cut, and never an exception of its own."""
    try:
        text = repr(value)
    except Exception:
        text = f"<{type(value).__name__} object whose repr fails>"
    return text if len(text) <= 80 else text[:77] + "..."


cdef int64_t as_int(object value, int64_t low, int64_t high, str name) except? -1:
    """value through ``__index__``, checked to lie in low..high; errors name the argument."""
    cdef int overflow = 0
    cdef int64_t result
    if not PyLong_CheckExact(value):
        try:
            value = index(value)
        except TypeError:
            raise TypeError(f"{name} must be an integer, not {type(value).__name__}") from None
    result = PyLong_AsLongLongAndOverflow(value, &overflow)
    if overflow or result < low or result > high:
        raise ValueError(f"{name} must be in {low}..{high}, not {shown(value)}")
    return result


def integer(value, low, high, name):
    """`as_int` for the modules that are not compiled."""
    return as_int(value, low, high, name)


cdef int refuse_buffer(object exporter, bint writable, str name) except -1:
    """Say why a buffer was not given: the exporter's own error, or one that names the argument."""
    if PyErr_Occurred() == NULL:
        raise MemoryError()  # so short of it that there was none to say so
    if PyObject_CheckBuffer(exporter):
        if PyErr_ExceptionMatches(ValueError):  # a memoryview released, a mapping closed
            PyErr_Clear()
            raise ValueError(f"{name} must be open memory, not {shown(exporter)}")
        if not PyErr_ExceptionMatches(BufferError):
            return -1
        PyErr_Clear()
        if writable and is_readonly(exporter):
            raise TypeError(f"{name} must be writable, not a read-only {type(exporter).__name__}")
        raise BufferError(
            f"{name} must be one contiguous piece of memory: {shown(exporter)} is not"
        )
    PyErr_Clear()
    raise TypeError(f"{name} must be a bytes-like object, not {type(exporter).__name__}")


cdef bint is_readonly(object exporter):
    try:
        with memoryview(exporter) as view:
            return view.readonly
    except Exception:
        return False


cdef object os_error(int err, str what):
    """An OSError (of the subclass that errno asks for) that says what was attempted."""
    cdef str reason = strerror(err).decode("utf-8", "replace")
    return OSError(err, f"{reason}: {what}" if what else reason)
