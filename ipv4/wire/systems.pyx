"""Control messages as other systems lay them out (libc/systems.h): written and read anywhere.

What a conn sends and receives is this system's own and does not come by here.
"""

from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize
from libc.string cimport memset

from .cmsg cimport EXTRA, System, Told, Walk, data_offset, read_told_for, step_by, walk_over
from .control cimport ControlMessage, encode_for

cdef extern from "systems.h" nogil:
    enum:
        SYSTEMS "IPV4_SYSTEMS"

    struct NamedSystem "ipv4_named_system":
        const char *name
        System numbers

    const NamedSystem *systems "ipv4_systems"


cdef const System *system_called(str name) except NULL:
    cdef int i
    for i in range(SYSTEMS):
        if name == systems[i].name.decode():
            return &systems[i].numbers
    known = ", ".join([systems[i].name.decode() for i in range(SYSTEMS)])
    raise ValueError(f"system must be one of {known}, not {name!r}")


def marshal_for(str system, ControlMessage cm not None):
    """The control bytes that a write of `cm` would send on another system.

    Parameters
    ----------
    system : {"linux", "darwin", "freebsd", "netbsd"}
        In its 64-bit form, and this machine's byte order.
    cm : ControlMessage

    Returns
    -------
    bytes
    """
    cdef const System *by = system_called(system)
    # Another system's padding at the most doubles a message.
    cdef bytes out = PyBytes_FromStringAndSize(NULL, 2 * cm.encoding_room())
    return out[:encode_for(by, cm, <unsigned char *>PyBytes_AS_STRING(out))]


def parse_for(str system, buf):
    """A `ControlMessage` of the control bytes that a receive on another system delivered.

    Parameters
    ----------
    system : {"linux", "darwin", "freebsd", "netbsd"}
        In its 64-bit form, and this machine's byte order.
    buf : bytes-like

    Returns
    -------
    ControlMessage
        Its `extra` has what the system's table does not name.

    Raises
    ------
    ValueError
        If a control message is shorter than its header or runs past the buffer.
    """
    cdef const System *by = system_called(system)
    cdef ControlMessage cm = ControlMessage.__new__(ControlMessage)
    cdef bytes data = bytes(buf)
    cdef Told told, one
    cdef Walk walk
    cdef size_t whole
    cdef Py_ssize_t read
    memset(&told, 0, sizeof(told))
    read = read_told_for(by, PyBytes_AS_STRING(data), len(data), &told)
    if read < len(data):
        raise ValueError(f"malformed control message at offset {read}")
    told.unknown_space = 0
    cm.take(&told, NULL, 0, True)
    extra = []
    walk_over(&walk, PyBytes_AS_STRING(data), len(data))
    while step_by(by, &walk) > 0:
        memset(&one, 0, sizeof(one))
        whole = data_offset(by) + walk.size
        read_told_for(by, walk.body - data_offset(by), whole, &one)
        if one.unknown_space:
            extra.append((walk.level, walk.type,
                          PyBytes_FromStringAndSize(<const char *>walk.body, walk.size)))
    cm.extra = extra
    cm.from_kernel |= EXTRA
    return cm
