"""Interfaces: every form that a caller may name one in, as the socket's network namespace knows it.

All is asked through the socket, whose namespace may be another than the thread's.
"""

from cpython.bytes cimport PyBytes_AS_STRING
from libc.errno cimport ENODEV, errno
from libc.stdint cimport INT32_MAX, uint32_t
from libc.stdlib cimport free

from ..interface import Interface

from ..libc cimport socket as c
from ..libc.socket cimport ipv4_address, nameindex
from ..wire.arguments cimport as_int, os_error, shown
from .descriptor cimport hold, let_go
from .sockopt cimport OptionDoor

cdef enum:
    GAP = 4096  # unused indexes in a row, after which the search by index ends


cdef class InterfaceLookup(OptionDoor):
    """A socket that knows the interfaces of its network namespace."""

    def interface(self, index):
        """The interface of an index, as the conn's own network namespace has it (netdevice(7),
        SIOCGIFNAME): that of `ControlMessage.ifindex` on a conn of another namespace, too.

        Parameters
        ----------
        index : int
            The kernel's number of the interface, as in `ControlMessage.ifindex`.

        Returns
        -------
        Interface

        Raises
        ------
        OSError
            ENODEV when no interface has that index; EBADF if the conn is closed.
        """
        cdef int number = <int>as_int(index, 0, INT32_MAX, "index")
        found = self._interface(number)
        if not found.name:
            raise os_error(ENODEV, f"interface {number}")
        return found

    cdef int interface_index(self, object interface, str name) except -1:
        """Index of an interface in any accepted form; 0 for None."""
        cdef int index, own
        if interface is None:
            return 0
        if isinstance(interface, str):
            index = self.index_of_name(interface, name)
            if index < 0:
                raise os_error(ENODEV, f"{name} {shown(interface)}")
            return index
        if not isinstance(interface, tuple):
            return <int>as_int(interface, 1, INT32_MAX, name)
        if len(interface) != 2:
            raise ValueError(f"{name} must be an (index, name) pair, not {shown(interface)}")
        number, label = interface
        index = <int>as_int(number, 1, INT32_MAX, f"{name}: index")
        if not isinstance(label, str):
            raise TypeError(f"{name} must be an (index, name) pair, not {shown(interface)}")
        if not str.__len__(label):  # what `_interface` says of one that has gone
            return index
        own = self.index_of_name(label, name)
        if own == index:
            return index
        found = self._interface(index).name
        # Where neither is there any more, a membership may still be left by the index.
        if own >= 0 or found:
            raise os_error(ENODEV, f"{name} {shown(interface)}: " + (
                f"{index} is {found!r}" if found else f"{shown(label)} is {own}"))
        return index

    cdef int index_of_name(self, object interface, str name) except -2:
        """Index of the interface of that name, or of which it is an alias label ("eth0:1"); -1
        for none.
        """
        cdef bytes raw
        cdef int index, err, fd
        try:
            raw = str.encode(interface, "utf-8", "surrogateescape")
        except UnicodeEncodeError:
            raw = b""
        if not 0 < len(raw) < c.IFNAMSIZ or b"\0" in raw:
            raise ValueError(f"{name}: {shown(interface)} is not an interface name")
        fd = self.live_fd()
        hold(self)
        index = c.interface_index(fd, PyBytes_AS_STRING(raw))
        err = errno
        let_go(self)
        if index < 0 and err != ENODEV:
            raise os_error(err, f"{name} {shown(interface)}")
        return index

    cdef int index_with_address(self, uint32_t address) except -1:
        """Index of the interface that has an address, 0 when none has."""
        cdef ipv4_address *found
        cdef int fd = self.live_fd(), i, count, err, index = 0
        hold(self)
        count = c.addresses(fd, &found)
        err = errno
        for i in range(count):
            if found[i].address == address:
                index = max(c.interface_index(fd, found[i].name), 0)
                break
        let_go(self)
        if count < 0:
            raise os_error(err, "list of interfaces")
        free(found)
        return index

    cdef list interface_indexes(self):
        """Indexes of all interfaces, in ascending order; some may be gone by now.

        A process that may not enter the socket's namespace (CAP_SYS_ADMIN) looks at its own, which
        mostly is the same, asks for those with an address, and searches by index.
        """
        cdef ipv4_address *addresses
        cdef nameindex *listed
        cdef int fd = self.live_fd(), i, count, index = 1, last = 0
        cdef char name[c.IFNAMSIZ]
        cdef set found = set()
        hold(self)
        listed = c.interfaces_there(fd)
        let_go(self)
        cdef bint complete = listed != NULL
        if not complete:
            listed = c.if_nameindex()
        if listed != NULL:
            try:
                i = 0
                while listed[i].if_index:
                    found.add(listed[i].if_index)
                    i += 1
            finally:
                c.if_freenameindex(listed)
        if complete:
            found.discard(0)
            return sorted(found)
        hold(self)
        try:
            count = c.addresses(fd, &addresses)
            if count < 0:
                raise os_error(errno, "list of interfaces")
            try:
                for i in range(count):
                    found.add(max(c.interface_index(fd, addresses[i].name), 0))
            finally:
                free(addresses)
            while index - last < GAP:
                if c.interface_name(fd, index, name) == 0:
                    found.add(index)
                    last = index
                index += 1
        finally:
            let_go(self)
        found.discard(0)
        return sorted(found)

    cdef list multicast_indexes(self):
        """Indexes of the interfaces that are up and do multicast."""
        cdef char name[c.IFNAMSIZ]
        cdef int fd, flags, wanted = <int>c.IFF_UP | <int>c.IFF_MULTICAST
        cdef list indexes = []
        for index in self.interface_indexes():
            fd = self.live_fd()
            flags = -1
            hold(self)
            if c.interface_name(fd, <int>index, name) == 0:
                flags = c.interface_flags(fd, name)
            let_go(self)
            if flags >= 0 and flags & wanted == wanted:
                indexes.append(index)
        return indexes

    def _interface(self, int index):
        """`Interface` of an index, its name empty when the interface is gone."""
        cdef char name[c.IFNAMSIZ]
        cdef int fd = self.live_fd(), err
        hold(self)
        err = errno if c.interface_name(fd, index, name) < 0 else 0
        let_go(self)
        if err == ENODEV:
            return Interface(index, "")
        if err:
            raise os_error(err, f"interface {index}")
        return Interface(index, (<bytes>name).decode("utf-8", "surrogateescape"))

    def _interface_index(self, interface, name="interface"):
        """Index of an interface in any accepted form, 0 for None; raises OSError(ENODEV)."""
        return self.interface_index(interface, name)
