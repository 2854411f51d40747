"""The one door to setsockopt and getsockopt: what a failed call means is said here once."""

from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize
from libc.errno cimport errno
from libc.stdint cimport int32_t
from libc.string cimport memset

from ..libc cimport socket as c
from ..libc.socket cimport socklen_t
from ..wire.arguments cimport os_error
from .descriptor cimport hold, let_go
from .readiness cimport Watched

import sys


cdef class OptionDoor(Watched):
    """A descriptor whose options are read and set."""

    # For callers that have words of their own for a refusal: 0, or the kernel's errno.

    cdef int try_get(self, int level, int name, void *value, socklen_t *size,
                     str what) except -1:
        cdef int fd = self.live_fd(), err
        if name < 0:
            raise NotImplementedError(f"{what} is not available on {sys.platform}")
        hold(self)
        err = errno if c.getsockopt(fd, level, name, value, size) < 0 else 0
        let_go(self)
        return err

    cdef int try_set(self, int level, int name, const void *value, unsigned int size,
                     str what) except -1:
        cdef int fd = self.live_fd(), err
        if name < 0:
            raise NotImplementedError(f"{what} is not available on {sys.platform}")
        hold(self)
        err = errno if c.setsockopt(fd, level, name, value, size) < 0 else 0
        let_go(self)
        return err

    cdef int get_raw(self, int level, int name, void *value, socklen_t *size,
                     str what) except -1:
        cdef int err = self.try_get(level, name, value, size, what)
        if err:
            raise os_error(err, f"getsockopt {what}")
        return 0

    cdef int get_int(self, int level, int name, str what) except? -1:
        cdef int32_t value = 0
        cdef socklen_t size = sizeof(value)
        self.get_raw(level, name, &value, &size, what)
        if size == 1:  # some options of some systems are a byte
            return (<unsigned char *>&value)[0]
        return value

    cdef int set_raw(self, int level, int name, const void *value, unsigned int size,
                     str what) except -1:
        cdef int err = self.try_set(level, name, value, size, what)
        if err:
            raise os_error(err, what)
        return 0

    def _get_int(self, int level, int name, str what):
        return self.get_int(level, name, what)

    def _set_int(self, int level, int name, int32_t value, str what):
        self.set_raw(level, name, &value, sizeof(value), what)

    def _get_bytes(self, int level, int name, int room, str what):
        cdef socklen_t size = room
        cdef bytes out = PyBytes_FromStringAndSize(NULL, room)
        memset(PyBytes_AS_STRING(out), 0, room)
        self.get_raw(level, name, PyBytes_AS_STRING(out), &size, what)
        return out[:min(<int>size, room)]

    def _set_bytes(self, int level, int name, bytes value, str what):
        self.set_raw(level, name, PyBytes_AS_STRING(value), <unsigned int>len(value), what)

    def _set_program(self, int name, bytes program, str what):
        """Hand the kernel an array of struct sock_filter (socket(7))."""
        cdef c.sock_fprog fprog
        memset(&fprog, 0, sizeof(fprog))
        fprog.len = <unsigned short>(len(program) // 8)
        fprog.filter = <c.sock_filter *>PyBytes_AS_STRING(program)
        self.set_raw(c.SOL_SOCKET, name, &fprog, sizeof(fprog), what)
