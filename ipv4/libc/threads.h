/* What keeps state whole that several threads reach at once, where no GIL does.
 *
 * On an interpreter with a GIL each of these is the plain access, or nothing at all: the GIL is the
 * lock, and nothing here gives it up. A free-threaded one (PEP 703) gets atomics and small locks.
 *
 * Rules. What a lock or a section guards is a few words: no Python code runs inside, and no lock is
 * taken inside of another, so that a thread that holds one never waits. A fork stops the world
 * first, at points where threads may wait: so a child never finds one held by a thread that it does
 * not have. Sections are the interpreter's own (Py_BEGIN_CRITICAL_SECTION), and of one object. */
#ifndef IPV4_THREADS_H
#define IPV4_THREADS_H

#include <Python.h>
#include <stdint.h>

#ifdef Py_GIL_DISABLED
enum { IPV4_FREE_THREADED = 1 };

/* A word that one thread writes while others read it. */
#define ipv4_load(place) __atomic_load_n(place, __ATOMIC_ACQUIRE)
#define ipv4_store(place, value) __atomic_store_n(place, value, __ATOMIC_RELEASE)
/* A word that several threads change: each returns what it was before. */
#define ipv4_exchange(place, value) __atomic_exchange_n(place, value, __ATOMIC_ACQ_REL)
#define ipv4_add(place, value) __atomic_fetch_add(place, value, __ATOMIC_ACQ_REL)
#define ipv4_or(place, value) __atomic_fetch_or(place, value, __ATOMIC_ACQ_REL)
#define ipv4_and(place, value) __atomic_fetch_and(place, value, __ATOMIC_ACQ_REL)

/* ThreadSanitizer sees only what it compiled: the interpreter's locks it is told of. */
#ifdef __SANITIZE_THREAD__
#include <sanitizer/tsan_interface.h>
#define IPV4_TOOK(place) __tsan_acquire((void *)(place))
#define IPV4_GIVES(place) __tsan_release((void *)(place))
#else
#define IPV4_TOOK(place) ((void)0)
#define IPV4_GIVES(place) ((void)0)
#endif

/* Zeroed memory is an open lock. */
typedef PyMutex ipv4_lock;
#define ipv4_acquire(lock) (PyMutex_Lock(lock), IPV4_TOOK(lock))
#define ipv4_release(lock) (IPV4_GIVES(lock), PyMutex_Unlock(lock))

/* For what can be done without: who does not get it goes another way. */
typedef unsigned char ipv4_try;
#define ipv4_try_acquire(lock) (__atomic_exchange_n(lock, 1, __ATOMIC_ACQUIRE) == 0)
#define ipv4_try_release(lock) __atomic_store_n(lock, 0, __ATOMIC_RELEASE)

typedef struct {
  PyCriticalSection own;
  PyObject *object;
} ipv4_section;

static inline void ipv4_begin(ipv4_section *section, PyObject *object) {
  section->object = object;
  PyCriticalSection_Begin(&section->own, object);
  IPV4_TOOK(object);
}

static inline void ipv4_end(ipv4_section *section) {
  IPV4_GIVES(section->object);
  PyCriticalSection_End(&section->own);
}

/* A bytearray counts its views in a plain word before CPython 3.14 (gh-129107), an array.array in
 * later ones too: of two views at once one is lost or stays for ever, and it is resized under the
 * kernel's pen or never again. Ours take turns. An exporter's own code may run in this section,
 * which guards nothing of ours, and is held inside of no other. */
static inline int ipv4_get_buffer(PyObject *exporter, Py_buffer *view, int flags) {
  PyCriticalSection section;
  int status;
  PyCriticalSection_Begin(&section, exporter);
  status = PyObject_GetBuffer(exporter, view, flags);
  PyCriticalSection_End(&section);
  return status;
}

static inline void ipv4_release_buffer(Py_buffer *view) {
  PyCriticalSection section;
  PyObject *exporter = view->obj;
  if (exporter == NULL) return;
  Py_INCREF(exporter);
  PyCriticalSection_Begin(&section, exporter);
  PyBuffer_Release(view);
  PyCriticalSection_End(&section);
  Py_DECREF(exporter);
}

#else
enum { IPV4_FREE_THREADED = 0 };
#define ipv4_get_buffer PyObject_GetBuffer
#define ipv4_release_buffer PyBuffer_Release

#define ipv4_load(place) (*(place))
#define ipv4_store(place, value) ((void)(*(place) = (value)))
#define IPV4_CHANGED(place, value)                 \
  ({                                               \
    __typeof__(*(place)) before_ = *(place);       \
    *(place) = (value);                            \
    before_;                                       \
  })
#define ipv4_exchange(place, value) IPV4_CHANGED(place, value)
#define ipv4_add(place, value) IPV4_CHANGED(place, before_ + (value))
#define ipv4_or(place, value) IPV4_CHANGED(place, before_ | (value))
#define ipv4_and(place, value) IPV4_CHANGED(place, before_ & (value))

typedef unsigned char ipv4_lock;
#define ipv4_acquire(lock) ((void)(lock))
#define ipv4_release(lock) ((void)(lock))

typedef unsigned char ipv4_try;
#define ipv4_try_acquire(lock) ((void)(lock), 1)
#define ipv4_try_release(lock) ((void)(lock))

typedef unsigned char ipv4_section;
#define ipv4_begin(section, object) ((void)(section))
#define ipv4_end(section) ((void)(section))
#endif

/* An object that is made when it is first asked for, and then kept as long as the process: NULL
 * before. Several threads may make one; the first one's is kept. All of it is borrowed. */
static inline PyObject *ipv4_kept(PyObject **place) { return ipv4_load(place); }

static inline PyObject *ipv4_keep(PyObject **place, PyObject *made) {
#ifdef Py_GIL_DISABLED
  PyObject *first = NULL;
  if (!__atomic_compare_exchange_n(place, &first, made, 0, __ATOMIC_ACQ_REL, __ATOMIC_ACQUIRE))
    return first;
#else
  if (*place != NULL) return *place;
  *place = made;
#endif
  Py_INCREF(made);
  return made;
}

/* Counts one more user into a word whose lowest bit says that there shall be no more; 0 if so. */
static inline int ipv4_count_in(unsigned int *word, unsigned int one) {
#ifdef Py_GIL_DISABLED
  unsigned int seen = __atomic_load_n(word, __ATOMIC_RELAXED);
  do {
    if (seen & 1) return 0;
  } while (!__atomic_compare_exchange_n(word, &seen, seen + one, 1, __ATOMIC_ACQ_REL,
                                        __ATOMIC_RELAXED));
#else
  if (*word & 1) return 0;
  *word += one;
#endif
  return 1;
}

#endif
