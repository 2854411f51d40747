/* How the interpreter comes into the calls that programs make a million times a second, and goes.
 *
 * Everything here saves instructions and nothing else; each says how many, of the 1,121 that a
 * write_to and a read_from of one datagram took together without it (CPython 3.11, x86-64). */
#ifndef IPV4_DOORS_H
#define IPV4_DOORS_H

#include <Python.h>

#include "threads.h"

/* Whether a thread that has the interpreter's lock is alone with its objects. */
#ifdef Py_GIL_DISABLED
enum { IPV4_ALONE = 0 };
#else
enum { IPV4_ALONE = 1 };
#endif

/* What a call was given: positional arguments, and behind them those of the names. */
typedef PyObject *const *ipv4_given;
typedef PyObject *(*ipv4_door)(PyObject *self, ipv4_given given, Py_ssize_t count, PyObject *names);

/* Lets calls of a method come in by a door of its own, which takes the usual arguments as they stand
 * and hands whatever else comes to `behind`: the method as Cython made it, which sorts arguments of
 * every form, and refuses what is none. Saves 120.
 *
 * A method's table belongs to the process: another interpreter of it finds the door already there.
 * Where methods are called otherwise, as with the limited API, there are no doors. */
static inline int ipv4_open_door(PyTypeObject *owner, const char *name, ipv4_door door,
                                 ipv4_door *behind) {
  PyObject *method = PyObject_GetAttrString((PyObject *)owner, name);
  PyMethodDef *table;
  if (method == NULL) return -1;
  if (!Py_IS_TYPE(method, &PyMethodDescr_Type)) {
    Py_DECREF(method);
    PyErr_Format(PyExc_SystemError, "%s has no method %s", owner->tp_name, name);
    return -1;
  }
  table = ((PyMethodDescrObject *)method)->d_method;
  if (table->ml_flags == (METH_FASTCALL | METH_KEYWORDS)
      && table->ml_meth != (PyCFunction)(void (*)(void))door) {
    *behind = (ipv4_door)(void (*)(void))table->ml_meth;
    table->ml_meth = (PyCFunction)(void (*)(void))door;
  }
  Py_DECREF(method);
  return 0;
}

/* The same for calls of a class. */
static inline int ipv4_open_constructor(PyTypeObject *owner, vectorcallfunc door,
                                        vectorcallfunc *behind) {
  if (owner->tp_vectorcall != NULL && owner->tp_vectorcall != door) {
    *behind = owner->tp_vectorcall;
    owner->tp_vectorcall = door;
  }
  return 0;
}

/* A method of a base class as one that `owner` has itself. The interpreter's quick ways into
 * methods are for those whose class is the object's own: saves 370 where methods are looked up in
 * a loop (conn.read_from(...)). */
static inline PyObject *ipv4_own_method(PyTypeObject *owner, PyObject *method) {
  if (!Py_IS_TYPE(method, &PyMethodDescr_Type))
    return PyErr_Format(PyExc_TypeError, "a method of C is needed, not %R", method);
  return PyDescr_NewMethod(owner, ((PyMethodDescrObject *)method)->d_method);
}

/* Puts an object, which it takes over, into a field that the interpreter reads by its offset and
 * without a section: what was there goes once it is there no longer. */
static inline void ipv4_show(PyObject **field, PyObject *value) {
  PyObject *before = *field;
  ipv4_store(field, value);
  Py_XDECREF(before);
}

/* What a conn's calls gave last, to be given again: all NULL and 0 at first. Where threads are not
 * alone with their objects nothing is kept. */
typedef struct {
  Py_ssize_t value;
  PyObject *length; /* of that value */
  PyObject *tuples[2]; /* in turn: a loop's variable holds one while the next is made */
  unsigned int turn;
} ipv4_results;

/* A length as Python's integer. Those of one program are mostly the same: saves 60, and 300 where
 * they are above 256, for which the interpreter makes a new integer each time. */
static inline PyObject *ipv4_as_length(ipv4_results *last, Py_ssize_t n) {
  PyObject *length;
  if (IPV4_ALONE && last->value == n && last->length != NULL) return Py_NewRef(last->length);
  length = PyLong_FromSsize_t(n);
  if (IPV4_ALONE && length != NULL) {
    last->value = n;
    Py_XSETREF(last->length, Py_NewRef(length));
  }
  return length;
}

/* A small number as Python's integer, of which the interpreter has one each: saves 16. */
static PyObject *ipv4_numbers[257];

static inline PyObject *ipv4_number(long n) {
  PyObject *number;
  if (n < 0 || n > 256) return PyLong_FromLong(n);
  if (!IPV4_ALONE) return PyLong_FromLong(n);
  if (ipv4_numbers[n] != NULL) return Py_NewRef(ipv4_numbers[n]);
  number = PyLong_FromLong(n);
  ipv4_numbers[n] = Py_XNewRef(number);
  return number;
}

/* A tuple to be filled by `ipv4_put`: one that was given before, once nobody else holds it, as zip
 * and enumerate do: saves 190. It is out of sight of the garbage collector, which may hand out what
 * it sees; so nothing in it may lead back to it, nor run code of Python's when it is let go. */
static inline PyObject *ipv4_tuple(ipv4_results *last, Py_ssize_t count) {
  PyObject **kept, *tuple;
  if (!IPV4_ALONE) return PyTuple_New(count);
  kept = &last->tuples[last->turn ^= 1];
  tuple = *kept;
  if (tuple != NULL && Py_REFCNT(tuple) == 1) {
#if PY_VERSION_HEX >= 0x030E0000
    ((PyTupleObject *)tuple)->ob_hash = -1;
#endif
    return Py_NewRef(tuple);
  }
  tuple = PyTuple_New(count);
  if (tuple != NULL) {
    PyObject_GC_UnTrack(tuple);
    Py_XSETREF(*kept, Py_NewRef(tuple));
  }
  return tuple;
}

static inline void ipv4_put(PyObject *tuple, Py_ssize_t at, PyObject *item) {
  Py_XSETREF(((PyTupleObject *)tuple)->ob_item[at], item);
}

/* As `ipv4_put`, of an item that the caller keeps: what stands there already is not counted anew,
 * and mostly it does. Saves 8 an item. */
static inline void ipv4_put_known(PyObject *tuple, Py_ssize_t at, PyObject *item) {
  if (PyTuple_GET_ITEM(tuple, at) != item) ipv4_put(tuple, at, Py_NewRef(item));
}

/* The control message of the read whose tuple is filled next, taken out of it, if nobody else holds
 * the one or the other: to be filled anew. NULL if there is none. Saves 90. */
static inline PyObject *ipv4_spare(ipv4_results *last, PyTypeObject *type) {
  PyObject *tuple = last->tuples[last->turn ^ 1], *cm;
  if (!IPV4_ALONE || tuple == NULL || Py_REFCNT(tuple) != 1) return NULL;
  cm = PyTuple_GET_ITEM(tuple, 1);
  if (cm == NULL || Py_REFCNT(cm) != 1 || !Py_IS_TYPE(cm, type)) return NULL;
  PyTuple_SET_ITEM(tuple, 1, NULL);
  return cm;
}

/* What a read of a datagram returns: (n, cm, src). */
static inline PyObject *ipv4_received(ipv4_results *last, Py_ssize_t n, PyObject *cm,
                                      PyObject *src) {
  PyObject *length = ipv4_as_length(last, n), *tuple;
  if (length == NULL) return NULL;
  tuple = ipv4_tuple(last, 3);
  if (tuple == NULL) {
    Py_DECREF(length);
    return NULL;
  }
  ipv4_put(tuple, 0, length);
  ipv4_put_known(tuple, 1, cm);
  ipv4_put_known(tuple, 2, src);
  return tuple;
}

/* What is told of a slot of a batch: (n, src, ttl, ifindex). */
static inline PyObject *ipv4_head(ipv4_results *last, Py_ssize_t n, PyObject *src, int ttl,
                                  int ifindex) {
  PyObject *length, *hops, *interface, *tuple = NULL;
  if (IPV4_ALONE && last->value == n && last->length != NULL && (unsigned int)ttl <= 256
      && (unsigned int)ifindex <= 256 && (hops = ipv4_numbers[ttl]) != NULL
      && (interface = ipv4_numbers[ifindex]) != NULL) {
    tuple = ipv4_tuple(last, 4);
    if (tuple == NULL) return NULL;
    ipv4_put_known(tuple, 0, last->length);
    ipv4_put_known(tuple, 1, src);
    ipv4_put_known(tuple, 2, hops);
    ipv4_put_known(tuple, 3, interface);
    return tuple;
  }
  length = ipv4_as_length(last, n);
  hops = ipv4_number(ttl);
  interface = ipv4_number(ifindex);
  if (length != NULL && hops != NULL && interface != NULL) tuple = ipv4_tuple(last, 4);
  if (tuple == NULL) {
    Py_XDECREF(length);
    Py_XDECREF(hops);
    Py_XDECREF(interface);
    return NULL;
  }
  ipv4_put(tuple, 0, length);
  ipv4_put(tuple, 1, Py_NewRef(src));
  ipv4_put(tuple, 2, hops);
  ipv4_put(tuple, 3, interface);
  return tuple;
}

/* A view of a part of a bytearray, which pins it as any does. The interpreter's own way is a view of
 * the whole and a slice of that, or an exporter between: saves 300 a packet. */
static PyObject *ipv4_part_of(PyObject *whole, Py_ssize_t start, Py_ssize_t length) {
  PyMemoryViewObject *part;
  Py_buffer view;
  if (PyBuffer_FillInfo(&view, NULL, PyByteArray_AS_STRING(whole) + start, length, 0,
                        PyBUF_FORMAT | PyBUF_WRITABLE) < 0)
    return NULL;
  part = (PyMemoryViewObject *)PyMemoryView_FromBuffer(&view);
  if (part == NULL) return NULL;
  /* What a bytearray does for each view of it, and undoes when that is released. */
  ((PyByteArrayObject *)whole)->ob_exports++;
  part->mbuf->master.obj = Py_NewRef(whole);
  part->view.obj = whole;
  return (PyObject *)part;
}

static inline void ipv4_forget(ipv4_results *last) {
  Py_CLEAR(last->length);
  Py_CLEAR(last->tuples[0]);
  Py_CLEAR(last->tuples[1]);
}

#endif
