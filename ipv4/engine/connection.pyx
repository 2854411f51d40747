# cython: embedsignature=False
# Methods of a plain class have signatures of their own; an embedded one would be text of the doc.
"""Whom a datagram socket talks to, what waits in its queues, and sockets of other namespaces."""

from libc.errno cimport EAGAIN, EINTR, ENOSYS, ENOTCONN, EOPNOTSUPP, errno
from libc.string cimport memset
from cpython.exc cimport PyErr_CheckSignals
from cpython.mem cimport PyMem_Free, PyMem_Malloc
from cpython.bytes cimport PyBytes_FromStringAndSize

from ..wire.address cimport address_text, as_sockaddr, peer_tuple
from ..wire.arguments cimport os_error
from .descriptor cimport hold, let_go
from .endpoint cimport Endpoint
from ..libc cimport socket as c
from ..libc.socket cimport ntohs, sockaddr, sockaddr_in, socklen_t

import sys

__all__ = ["Connected"]

cdef extern from *:
    """
    #include "compat.h"
    #include <pthread.h>
    #include <sys/ioctl.h>
    #ifdef __linux__
    #include <linux/sockios.h>
    #endif
    #ifndef SIOCINQ
    #define SIOCINQ FIONREAD
    #endif
    #ifndef SIOCOUTQ
    #define SIOCOUTQ TIOCOUTQ
    #endif

    /* A thread of the C library's own: under gevent and eventlet Python's threads may be no
     * threads, and setns(2) is for the thread that calls it. */
    struct ipv4_opening { int namespace, type, protocol, fd, error, entered; };

    static void *ipv4_open_there(void *argument) {
      struct ipv4_opening *opening = argument;
      opening->fd = -1;
      opening->entered = ipv4_setns_net(opening->namespace) == 0;
      if (opening->entered)
        opening->fd = socket(AF_INET, opening->type, opening->protocol);
      opening->error = errno;
      return NULL;
    }

    static int ipv4_open_in(struct ipv4_opening *opening) {
      pthread_t thread;
      int error = pthread_create(&thread, NULL, ipv4_open_there, opening);
      return error ? error : pthread_join(thread, NULL);
    }
    """
    int SIOCINQ, SIOCOUTQ
    struct ipv4_opening:
        int namespace, type, protocol, fd, error, entered
    int ipv4_open_in(ipv4_opening *opening) nogil

cdef extern from "compat.h" nogil:
    int c_connect "connect"(int fd, const sockaddr *name, socklen_t length)
    int ioctl(int fd, unsigned long request, void *argument)
    int c_bind "bind"(int fd, const sockaddr *name, socklen_t length)
    ssize_t recv(int fd, void *buffer, size_t length, int flags)

cdef enum:
    DRAIN_TURN = 256  # datagrams thrown away before another thread or a signal gets its turn
    # A raw or ping socket's peer has no port, but the kernel tells a peer only where one is set.
    NO_PORT = 1
    MAX_INSTRUCTIONS = 4096  # BPF_MAXINSNS


class Connected:
    """The one peer that a datagram socket may have; base of PacketConn."""

    __slots__ = ()

    def connect(self, peer):
        """Send to one peer from now on, and hear it alone (connect(2); udp(7), Linux 1.0).

        Parameters
        ----------
        peer : address
            On a UDP socket with its port. Writes need no `dst` then, nor messages an `addr`;
            `path_mtu` can be read; an ICMP error of the peer is raised by the next call.

        Raises
        ------
        ValueError
            For port 0 on a UDP socket.
        OSError
            As connect(2), such as ENETUNREACH without a route; a peer from before stays.

        Notes
        -----
        Nothing is sent. A conn that listens on all addresses gets the one that the route to the
        peer has, as `local_addr` tells. Datagrams of others that wait to be read already stay.
        It takes no privilege.
        """
        cdef Endpoint conn = conn_of(self)
        cdef sockaddr_in name, before
        as_sockaddr(peer, &name, "peer")
        if name.sin_port == 0:
            if conn._type != c.SOCK_RAW and conn._protocol != c.IPPROTO_ICMP:
                raise ValueError(
                    f"peer must have a port: give ({address_text(name.sin_addr.s_addr)!r}, port)")
            name.sin_port = c.htons(NO_PORT)
        if not peer_name(conn, &before):
            self._local_before = conn.local_addr
        elif conn._type != c.SOCK_RAW and local_before(self)[0] == "0.0.0.0":
            # The kernel would keep the local address that it chose for the peer before.
            self.disconnect()
            self._local_before = conn.local_addr
            try:
                connect_to(conn, &name)
            except OSError:
                connect_to(conn, &before)
                raise
            return
        connect_to(conn, &name)

    def disconnect(self):
        """Talk to anybody again, and hear anybody (connect(2), AF_UNSPEC; Linux 1.0).

        `local_addr` is what it was before `connect`, and so is `bound_interface`; a conn that is
        not connected stays as it is. It takes no privilege.

        Raises
        ------
        OSError
            EADDRINUSE if the port was one that the kernel had chosen, which it then lets go for a
            moment, and another socket took it: the conn is without a port then. EOPNOTSUPP on a
            raw socket, which Linux would make deaf by it.
        """
        cdef Endpoint conn = conn_of(self)
        cdef sockaddr_in name
        cdef sockaddr nobody
        cdef socklen_t size = sizeof(name)
        cdef int fd = conn.live_fd(), err
        if not peer_name(conn, &name):
            return
        if conn._type == c.SOCK_RAW:
            raise os_error(EOPNOTSUPP, "disconnect: a raw socket whose peer is dissolved hears"
                                       " nothing any more; open another")
        before = local_before(self)
        interface = self.bound_interface
        memset(&nobody, 0, sizeof(nobody))
        nobody.sa_family = c.AF_UNSPEC
        # The kernel also unbinds the interface, and the port if it chose that itself.
        hold(conn)
        err = errno if c_connect(fd, &nobody, sizeof(nobody)) < 0 else 0
        let_go(conn)
        if err:
            raise os_error(err, "disconnect")
        if interface is not None:
            self.bound_interface = interface
        hold(conn)
        err = errno if c.getsockname(fd, <sockaddr *>&name, &size) < 0 else 0
        let_go(conn)
        if err:
            raise os_error(err, "getsockname")
        if name.sin_port == 0 and before[1]:
            name.sin_port = c.htons(<unsigned short>before[1])
            hold(conn)
            err = errno if c_bind(fd, <sockaddr *>&name, sizeof(name)) < 0 else 0
            let_go(conn)
            if err:
                raise os_error(err, f"disconnect: bind to port {before[1]} again")
        self._local_before = None

    @property
    def remote_addr(self):
        """``(host, port)`` of the peer that the conn is connected to (getpeername(2); ip(7), Linux
        1.0), None without one; port 0 on IP sockets.
        """
        cdef Endpoint conn = conn_of(self)
        cdef sockaddr_in name
        if not peer_name(conn, &name):
            return None
        if conn._type == c.SOCK_RAW or conn._protocol == c.IPPROTO_ICMP:
            name.sin_port = 0
        return peer_tuple(name.sin_addr.s_addr, name.sin_port)


cdef Endpoint conn_of(object self):
    """The conn that a method is called on; a plain class's can be called on anything at all."""
    if not isinstance(self, Endpoint):
        raise TypeError(f"self must be a conn, not {type(self).__name__}")
    return <Endpoint>self


cdef tuple local_before(object conn):
    """The local address before the conn was connected; as it is, if it came connected."""
    return getattr(conn, "_local_before", None) or conn.local_addr


cdef bint peer_name(Endpoint conn, sockaddr_in *name) except -1:
    """Whether the socket has a peer, which is then written to `name`."""
    cdef socklen_t size = sizeof(sockaddr_in)
    cdef int fd = conn.live_fd(), err
    memset(name, 0, sizeof(sockaddr_in))
    hold(conn)
    err = errno if c.getpeername(fd, <sockaddr *>name, &size) < 0 else 0
    let_go(conn)
    if err and err != ENOTCONN:
        raise os_error(err, "getpeername")
    return err == 0


cdef int connect_to(Endpoint conn, const sockaddr_in *name) except -1:
    # A datagram socket's connect looks up a route and never waits: the GIL is kept, so that
    # nobody closes the conn meanwhile.
    cdef int fd = conn.live_fd(), err
    hold(conn)
    err = errno if c_connect(fd, <const sockaddr *>name, sizeof(sockaddr_in)) < 0 else 0
    let_go(conn)
    if err:
        raise os_error(
            err, f"connect to {address_text(name.sin_addr.s_addr)}:{ntohs(name.sin_port)}")
    return 0


def queued(Endpoint conn not None, bint unsent):
    """Bytes in the queue of a socket (udp(7), SIOCINQ and SIOCOUTQ)."""
    cdef int value = 0, fd = conn.live_fd(), err
    hold(conn)
    err = errno if ioctl(fd, SIOCOUTQ if unsent else SIOCINQ, &value) < 0 else 0
    let_go(conn)
    if err:
        raise os_error(err, "SIOCOUTQ" if unsent else "SIOCINQ")
    return value


def drain(Endpoint conn not None):
    """Throw away all that waits to be read, errors of earlier datagrams included.

    It never waits and knows no deadline. What arrives meanwhile is thrown away as well, so a
    filter that refuses everything is to be attached before.
    """
    cdef char byte
    cdef int _, errors = 0, fd, err
    while True:
        for _ in range(DRAIN_TURN):
            fd = conn.live_fd()
            hold(conn)
            err = errno if recv(fd, &byte, 1, c.MSG_DONTWAIT | c.MSG_TRUNC) < 0 else 0
            let_go(conn)
            if err == 0:
                continue
            if err == EAGAIN:
                return
            if err != EINTR:
                errors += 1  # taken off the socket by having been told
                if errors > 64:
                    raise os_error(err, "drain")
        PyErr_CheckSignals()
        with nogil:
            pass


def attached_program(Endpoint conn not None):
    """The BPF program on a socket as the bytes of its instructions; b"" for none (socket(7),
    SO_GET_FILTER, Linux 3.8).
    """
    cdef socklen_t count = 0  # instructions, not bytes
    cdef char *room
    if c.SO_GET_FILTER < 0:
        return b""
    conn.get_raw(c.SOL_SOCKET, c.SO_GET_FILTER, NULL, &count, "SO_GET_FILTER")
    if count == 0:
        return b""
    if count > MAX_INSTRUCTIONS:
        raise ValueError(f"SO_GET_FILTER: {count} instructions are more than any program has")
    room = <char *>PyMem_Malloc(8 * count)
    if room == NULL:
        raise MemoryError()
    try:
        conn.get_raw(c.SOL_SOCKET, c.SO_GET_FILTER, room, &count, "SO_GET_FILTER")
        return PyBytes_FromStringAndSize(room, 8 * count)
    finally:
        PyMem_Free(room)


def open_in_netns(int namespace, int type, int protocol):
    """Descriptor of a new IPv4 socket of the network namespace that `namespace` stands for."""
    cdef ipv4_opening opening
    cdef int error
    opening.namespace = namespace
    opening.type = type
    opening.protocol = protocol
    opening.fd = -1
    opening.error = 0
    with nogil:
        error = ipv4_open_in(&opening)
    if error:
        raise os_error(error, "pthread_create")
    if opening.fd < 0:
        if opening.error == ENOSYS:
            raise NotImplementedError(f"network namespaces are not available on {sys.platform}")
        raise os_error(opening.error, "socket" if opening.entered else "setns(CLONE_NEWNET)")
    return opening.fd
