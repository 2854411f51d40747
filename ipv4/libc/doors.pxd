"""How the interpreter comes into the calls that matter most, and goes: see doors.h."""

from cpython.object cimport PyObject


cdef extern from "doors.h":
    bint ALONE "IPV4_ALONE"

    ctypedef PyObject **Given "ipv4_given"
    ctypedef object (*Door "ipv4_door")(object self, Given given, Py_ssize_t count, PyObject *names)
    int open_door "ipv4_open_door"(type owner, const char *name, Door door, Door *behind) except -1
    ctypedef object (*Maker "vectorcallfunc")(
        object cls, Given given, size_t count, PyObject *names)
    int open_constructor "ipv4_open_constructor"(type owner, Maker door, Maker *behind) except -1
    Py_ssize_t given_count "PyVectorcall_NARGS"(size_t count) noexcept
    object own_method "ipv4_own_method"(type owner, object method)
    # What a conn gave last, to be given again: owned references.
    ctypedef struct Results "ipv4_results":
        pass
    object as_length "ipv4_as_length"(Results *last, Py_ssize_t n)
    object received "ipv4_received"(Results *last, Py_ssize_t n, object cm, object src)
    PyObject *spare_of "ipv4_spare"(Results *last, type cls) noexcept
    object head_of "ipv4_head"(Results *last, Py_ssize_t n, object src, int ttl, int ifindex)
    void forget "ipv4_forget"(Results *last) noexcept
    object as_number "ipv4_number"(long n)
    object part_of "ipv4_part_of"(object whole, Py_ssize_t start, Py_ssize_t length)
    PyObject *new_number "ipv4_number"(long n) noexcept
