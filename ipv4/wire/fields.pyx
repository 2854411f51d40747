"""Attributes of the codecs' objects that stand for a C value each, as rows of a table.

A row says where the value lies and what it holds; `get_value` and `set_value` serve them all. The
value is read and written inside a section of its object, so that nobody sees half of one.
"""

from cpython.buffer cimport Py_buffer
from cpython.bytes cimport PyBytes_FromStringAndSize
from cpython.mem cimport PyMem_RawCalloc
from cpython.object cimport PyObject
from cpython.ref cimport Py_INCREF, Py_XDECREF
from libc.stdint cimport (
    INT32_MAX,
    INT32_MIN,
    INT64_MAX,
    INT64_MIN,
    UINT32_MAX,
    int32_t,
    int64_t,
    uint8_t,
    uint16_t,
    uint32_t,
)

from .address cimport address_object, as_address, as_sockaddr, peer_tuple
from .arguments cimport as_int, get_buffer
from ..libc.socket cimport sockaddr_in
from ..libc.threads cimport Section, begin_section, end_section, release_view

cdef extern from "structmember.h":
    enum:
        T_OBJECT_EX
        READONLY
    ctypedef struct PyMemberDef:
        const char *name
        int type
        Py_ssize_t offset
        int flags
        const char *doc
    ctypedef struct PyGetSetDef:
        const char *name
        object (*get)(object, void *)
        int (*set)(object, PyObject *, void *) except -1
        const char *doc
        void *closure
    PyObject *PyDescr_NewMember(type owner, PyMemberDef *field) except NULL
    PyObject *PyDescr_NewGetSet(type owner, PyGetSetDef *field) except NULL

cdef extern from *:
    """
    static int ipv4_put_in_type(PyTypeObject *owner, const char *name, PyObject *descriptor) {
      int status = PyDict_SetItemString(owner->tp_dict, name, descriptor);
      Py_DECREF(descriptor);
      PyType_Modified(owner);
      return status;
    }
    """
    int put_in_type "ipv4_put_in_type"(type owner, const char *name,
                                       PyObject *descriptor) except -1


cdef struct Field:
    # A row: offsets are from the object's start. It lives as long as the process.
    Kind kind
    Py_ssize_t at
    Py_ssize_t present  # of the word in which `bit` says whether there is a value
    Py_ssize_t received  # of the word in which it says that a receive put it there; 0: nowhere
    uint32_t bit  # 0: the value is always there
    bint is_none_at_0
    PyObject *name
    PyGetSetDef described


cdef struct Value:
    # What is read out of an object at one moment.
    int64_t number
    uint16_t port


cdef object get_value(object owner, void *row):
    """The value of a field as Python's object, or None."""
    cdef const Field *field = <const Field *>row
    cdef char *base = <char *><PyObject *>owner
    cdef void *place = base + field.at
    cdef Section section
    cdef Value value
    cdef bytes options
    begin_section(&section, owner)
    if field.kind == OPTIONS_BYTES:
        options = <bytes>(<PyObject **>place)[0]
        end_section(&section)
        return options
    if field.bit and not (<uint32_t *>(base + field.present))[0] & field.bit:
        end_section(&section)
        return None
    if field.kind == INTEGER:
        value.number = (<int32_t *>place)[0]
    elif field.kind == OCTET:
        value.number = (<uint8_t *>place)[0]
    elif field.kind == SHORT:
        value.number = (<uint16_t *>place)[0]
    elif field.kind == LONG:
        value.number = (<int64_t *>place)[0]
    else:
        value.number = (<uint32_t *>place)[0]
    if field.kind == ENDPOINT:
        value.port = (<uint16_t *>(<char *>place + sizeof(uint32_t)))[0]
    end_section(&section)
    if field.kind == ADDRESS:
        return address_object(<uint32_t>value.number)
    if field.kind == ENDPOINT:
        return peer_tuple(<uint32_t>value.number, value.port)
    return value.number


cdef int set_value(object owner, PyObject *given, void *row) except -1:
    """Take a value, or None for none. What can fail comes before any change."""
    cdef const Field *field = <const Field *>row
    cdef char *base = <char *><PyObject *>owner
    cdef void *place = base + field.at
    cdef str name = <str>field.name
    cdef Section section
    cdef sockaddr_in endpoint
    cdef uint32_t address = 0
    cdef int64_t number = 0
    cdef PyObject *before = NULL
    cdef bytes options = None
    cdef bint there = given != NULL and (not field.bit or <object>given is not None)
    if given == NULL:
        raise AttributeError(f"{name} cannot be deleted")
    endpoint.sin_port = 0
    if field.kind == OPTIONS_BYTES:
        options = as_options(<object>given, name)
    elif not there:
        pass
    elif field.kind == ADDRESS:
        as_address(<object>given, &address, name)
    elif field.kind == ENDPOINT:
        as_sockaddr(<object>given, &endpoint, name)
        address = endpoint.sin_addr.s_addr
    elif field.kind == OCTET:
        number = as_int(<object>given, 0, 255, name)
    elif field.kind == SHORT:
        number = as_int(<object>given, 0, 65535, name)
    elif field.kind == WORD:
        number = as_int(<object>given, 0, UINT32_MAX, name)
    elif field.kind == INTEGER:
        number = as_int(<object>given, INT32_MIN, INT32_MAX, name)
    else:
        number = as_int(<object>given, INT64_MIN, INT64_MAX, name)
    begin_section(&section, owner)
    if field.kind == OPTIONS_BYTES:
        before = (<PyObject **>place)[0]
        Py_INCREF(options)
        (<PyObject **>place)[0] = <PyObject *>options
    elif field.kind == ADDRESS or field.kind == ENDPOINT:
        (<uint32_t *>place)[0] = address
        if field.kind == ENDPOINT:
            (<uint16_t *>(<char *>place + sizeof(uint32_t)))[0] = endpoint.sin_port
    elif field.kind == OCTET:
        (<uint8_t *>place)[0] = <uint8_t>number
    elif field.kind == SHORT:
        (<uint16_t *>place)[0] = <uint16_t>number
    elif field.kind == LONG:
        (<int64_t *>place)[0] = number
    else:
        (<uint32_t *>place)[0] = <uint32_t>number
    if field.bit:
        note(<uint32_t *>(base + field.present), field.bit,
             there and not (field.is_none_at_0 and number == 0))
        if field.received:
            note(<uint32_t *>(base + field.received), field.bit, False)
    end_section(&section)
    Py_XDECREF(before)
    return 0


cdef inline void note(uint32_t *word, uint32_t bit, bint on) noexcept:
    word[0] = word[0] | bit if on else word[0] & ~bit


cdef int add_field(object sample, Kind kind, const char *name, const void *place,
                   const Presence *noted, uint32_t bit, bint is_none_at_0,
                   const char *doc) except -1:
    """Give the class of `sample` an attribute: the value that lies at `place` in this object.

    `bit` says in `noted` whether there is a value; 0 if there always is. With `is_none_at_0` a
    program that sets it to 0 means None. Name and doc are literals.
    """
    cdef const char *base = <const char *><PyObject *>sample
    cdef Field *field = <Field *>PyMem_RawCalloc(1, sizeof(Field))
    if field == NULL:
        raise MemoryError()
    field.kind = kind
    field.at = <const char *>place - base
    if bit:
        field.present = <const char *>noted.present - base
        if noted.received != NULL:
            field.received = <const char *>noted.received - base
    field.bit = bit
    field.is_none_at_0 = is_none_at_0
    text = name.decode("ascii")
    Py_INCREF(text)
    field.name = <PyObject *>text
    field.described = PyGetSetDef(
        name=name, get=get_value, set=set_value, doc=doc, closure=field)
    return put_in_type(type(sample), name, PyDescr_NewGetSet(type(sample), &field.described))


cdef int expose_object(object sample, const char *name, const void *place,
                       const char *doc) except -1:
    """Let the interpreter read an object that lies at `place` in `sample` by its offset.

    That is a tenth of the instructions of a getter. The field always holds an object, and the
    class sets it by `__setattr__`.
    """
    cdef PyMemberDef *field = <PyMemberDef *>PyMem_RawCalloc(1, sizeof(PyMemberDef))
    if field == NULL:
        raise MemoryError()
    field.name = name
    field.type = T_OBJECT_EX
    field.offset = <const char *>place - <const char *><PyObject *>sample
    field.flags = READONLY
    field.doc = doc
    return put_in_type(type(sample), name, PyDescr_NewMember(type(sample), field))


cdef bytes as_options(object value, str name):
    """IP options as bytes, None when there are none."""
    cdef Py_buffer view
    if value is None:
        return None
    get_buffer(value, &view, False, name)
    try:
        if view.len > 40:
            raise ValueError(f"{name} must be at most 40 bytes long, not {view.len}")
        return PyBytes_FromStringAndSize(<char *>view.buf, view.len) if view.len else None
    finally:
        release_view(&view)
