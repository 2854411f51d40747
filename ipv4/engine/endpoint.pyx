"""A conn's place in the network: its address, its interfaces, its namespace."""

from libc.errno cimport ENODEV, errno
from libc.stdint cimport INT32_MAX
from libc.string cimport memset

from cpython.bytes cimport PyBytes_AS_STRING

from ..libc cimport socket as c
from ..libc.socket cimport sockaddr, sockaddr_in, socklen_t
from ..wire.boundary cimport as_int, forget_peers, os_error, peer_tuple, shown
from .sockopt cimport OptionDoor


cdef class Endpoint(OptionDoor):
    """Endpoint(sock)
--

    A socket and the calls that use it; base of every conn.

    Parameters
    ----------
    sock : socket.socket
        An open AF_INET socket. It stays usable by the caller; the conn closes it.
    """

    def __dealloc__(self):
        forget_peers(&self.peers)

    @property
    def local_addr(self):
        """``(host, port)`` that the socket is bound to (getsockname(2)); port 0 on IP sockets.

        Raises
        ------
        OSError
            EBADF if the conn is closed.
        """
        cdef sockaddr_in name
        cdef socklen_t size = sizeof(name)
        memset(&name, 0, sizeof(name))
        if c.getsockname(self.live_fd(), <sockaddr *>&name, &size) < 0:
            raise os_error(errno, "getsockname")
        # A raw socket keeps its protocol where the port is.
        return peer_tuple(name.sin_addr.s_addr, 0 if self._type == c.SOCK_RAW else name.sin_port)

    def __repr__(self):
        name = type(self).__name__
        if self.closed:
            return f"<ipv4.{name} closed>"
        try:
            address = self.local_addr
        except OSError as error:  # its number was closed behind everybody's back
            address = f"({error.strerror})"
        return f"<ipv4.{name} fd={self.fd} local_addr={address}>"

    # Interfaces, as this socket's network namespace knows them

    cdef int interface_index(self, object interface, str name) except -1:
        """Index of an interface in any accepted form; 0 for None."""
        cdef int err, index
        cdef bytes raw
        if interface is None:
            return 0
        if isinstance(interface, tuple):
            if len(interface) != 2:
                raise ValueError(f"{name} must be an (index, name) pair, not {shown(interface)}")
            index = <int>as_int(interface[0], 1, INT32_MAX, f"{name}: index")
            if not isinstance(interface[1], str):
                raise TypeError(f"{name} must be an (index, name) pair, not {shown(interface)}")
            found = self._interface(index).name
            # What comes after a colon is a label of one of its addresses.
            if not found or str(interface[1]).partition(":")[0] != found:
                raise os_error(
                    ENODEV,
                    f"{name} {shown(interface)}"
                    + (f": index {index} is {found!r}" if found else ""))
            return index
        if not isinstance(interface, str):
            return <int>as_int(interface, 1, INT32_MAX, name)
        try:
            raw = str.encode(interface, "utf-8", "surrogateescape")
        except UnicodeEncodeError:
            raw = b""
        if not 0 < len(raw) < c.IFNAMSIZ or b"\0" in raw:
            raise ValueError(f"{name}: {shown(interface)} is not an interface name")
        index = c.interface_index(self.live_fd(), PyBytes_AS_STRING(raw))
        if index < 0:
            err = errno
            raise os_error(err, f"{name} {shown(interface)}")
        return index

    def _interface(self, int index):
        """`Interface` of an index, its name empty when the interface is gone."""
        cdef char name[c.IFNAMSIZ]
        from ..interface import Interface

        if c.interface_name(self.live_fd(), index, name) < 0:
            if errno != ENODEV:
                raise os_error(errno, f"interface {index}")
            return Interface(index, "")
        return Interface(index, (<bytes>name).decode("utf-8", "surrogateescape"))

    def _interface_index(self, interface, name="interface"):
        """Index of an interface in any accepted form, 0 for None; raises OSError(ENODEV)."""
        return self.interface_index(interface, name)
