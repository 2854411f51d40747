"""A conn's place in the network: its address."""

from libc.errno cimport errno
from libc.string cimport memset

from ..libc cimport socket as c
from ..libc.socket cimport sockaddr, sockaddr_in, socklen_t
from ..wire.address cimport forget_peers, peer_tuple
from ..wire.arguments cimport os_error
from .descriptor cimport hold, let_go
from .interfaces cimport InterfaceLookup


cdef class Endpoint(InterfaceLookup):
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
        cdef int fd = self.live_fd(), err
        memset(&name, 0, sizeof(name))
        hold(self)
        err = errno if c.getsockname(fd, <sockaddr *>&name, &size) < 0 else 0
        let_go(self)
        if err:
            raise os_error(err, "getsockname")
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
