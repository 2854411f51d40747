"""What a failed system call means, one way in and one way out: what every call on packets shares.

A call tries first, without waiting; only if it would block does it wait (`Endpoint.wait`).
"""

from cpython.exc cimport PyErr_CheckSignals
from libc.errno cimport (
    EACCES,
    EAGAIN,
    EBADF,
    ECONNREFUSED,
    EHOSTDOWN,
    EHOSTUNREACH,
    EINTR,
    EMSGSIZE,
    ENETUNREACH,
    ENOBUFS,
    ENOPROTOOPT,
    EOPNOTSUPP,
    EPROTO,
    errno,
)
from libc.stdint cimport int32_t, uint32_t

from ..wire.boundary cimport address_text, as_int, os_error
from ..wire.control cimport ALL_FLAGS, CONTROL_ROOM
from .endpoint cimport NEVER, Endpoint, Patience
from ..libc cimport socket as c
from ..libc.socket cimport (
    MSG_DONTWAIT,
    MSG_ERRQUEUE,
    msghdr,
    ntohs,
    recvmsg,
    sendmsg,
    sockaddr,
    sockaddr_in,
    socklen_t,
)

from ..wire.control import RECEIVE_OPTIONS


cdef class Transfer(Endpoint):
    """Packets in and out, and the control messages they bring; base of PacketConn and RawConn."""

    def set_control_message(self, flags, on):
        """Choose what received packets tell in their `ControlMessage` (ip(7), socket(7), udp(7)).

        Parameters
        ----------
        flags : ControlFlags
            Which; others keep their state.
        on : bool
            Whether they shall be told. Turning one flag off never turns off what another that is
            still on needs: SRC, DST and INTERFACE share IP_PKTINFO.

        Raises
        ------
        ValueError
            If `flags` holds an unknown bit.
        OSError
            As setsockopt(2); flags of options that were set before it stay set.
        NotImplementedError
            If this system has no option for a flag.

        Notes
        -----
        None of it takes a privilege. TTL (IP_RECVTTL), SRC, DST and INTERFACE (IP_PKTINFO), TOS
        (IP_RECVTOS) and OPTIONS (IP_RECVOPTS) are there since Linux 2.2, TIMESTAMP
        (SO_TIMESTAMPNS) since 2.6.22, ORIGINAL_DST (IP_RECVORIGDSTADDR) since 2.6.29, DROPS
        (SO_RXQ_OVFL) since 2.6.33, SEGMENT_SIZE (UDP_GRO) since 5.0.
        """
        cdef uint32_t asked = <uint32_t>as_int(flags, 0, ALL_FLAGS, "flags")
        cdef uint32_t wanted, bits
        cdef int32_t value
        self.live_fd()
        wanted = self._control_flags | asked if on else self._control_flags & ~asked
        for mask, level, option, name, _, _, _ in RECEIVE_OPTIONS:
            bits = mask
            if not asked & bits:
                continue
            value = (wanted & bits) != 0
            if value != ((self._control_flags & bits) != 0) or value:
                self.set_raw(level, option, &value, sizeof(value), name)
            self._control_flags = (self._control_flags & ~bits) | (wanted & bits)
            if value:
                self.wants_control = True

    @property
    def control_flags(self):
        """What received packets tell, as `set_control_message` left it (`ControlFlags`)."""
        from ..constants import ControlFlags

        return ControlFlags(self._control_flags)

    def _expect_control(self):
        """Some option was set that may bring control messages unknown to `control_flags`."""
        self.wants_control = True

    # Failed system calls

    cdef bint is_stale(self, int fd, int err) noexcept:
        """Whether an error may belong to an earlier datagram, to another destination.

        With IP_RECVERR an unconnected socket is told of every ICMP error by the next call
        (ip(7)); the report itself waits in the error queue, so the call can be tried again.
        """
        cdef int32_t on = 0
        cdef socklen_t size = sizeof(on)
        cdef sockaddr_in peer
        if not (
            err == ECONNREFUSED or err == EHOSTUNREACH or err == ENETUNREACH
            or err == EHOSTDOWN or err == ENOPROTOOPT or err == EPROTO or err == EOPNOTSUPP
            or err == EMSGSIZE or err == EACCES
        ):
            return False
        if c.IP_RECVERR < 0 or c.getsockopt(fd, c.IPPROTO_IP, c.IP_RECVERR, &on, &size) < 0:
            return False
        size = sizeof(peer)
        return on and c.getpeername(fd, <sockaddr *>&peer, &size) < 0

    cdef int again(self, int err, int fd, int flags, bint writing, Patience *patience, str what,
                   const sockaddr_in *name) except -1:
        """Return when a failed call is worth trying again; else raise what it means."""
        if err == EAGAIN:
            if flags & (MSG_DONTWAIT | MSG_ERRQUEUE):
                raise OSError(EAGAIN, "Resource temporarily unavailable")
            self.wait(fd, writing, patience)
        elif err == EINTR:
            PyErr_CheckSignals()
        elif not patience.stale_tried and self.is_stale(fd, err):
            patience.stale_tried = True
        elif name != NULL:
            raise os_error(
                err, f"{what} {address_text(name.sin_addr.s_addr)}:{ntohs(name.sin_port)}")
        else:
            raise os_error(err, what)
        if self.fd != fd:  # closed by a signal handler, or by another thread meanwhile
            raise OSError(EBADF, "Bad file descriptor: the conn was closed by another call")
        self.check_deadline(writing)
        return 0

    # Single messages

    cdef Py_ssize_t receive(self, int fd, msghdr *header, int flags) except? -1:
        """recvmsg(2) without waiting; -1 leaves its errno."""
        cdef Py_ssize_t n
        cdef int err
        if self.gil <= 0:
            return recvmsg(fd, header, flags | MSG_DONTWAIT)
        self.users += 1
        with nogil:
            n = recvmsg(fd, header, flags | MSG_DONTWAIT)
            err = errno
        self.leave()
        set_errno(err)
        return n

    cdef Py_ssize_t send(self, const msghdr *header, int flags) except -1:
        """One message to the kernel, waiting for room if need be."""
        cdef Patience patience
        cdef int fd = self.live_fd(), err
        cdef Py_ssize_t n
        patience.started = patience.stale_tried = patience.error_seen = False
        if self.write_deadline != NEVER:
            self.check_deadline(True)
        while True:
            if self.gil > 0 or header.msg_iov[header.msg_iovlen - 1].iov_len >= RELEASE_BYTES and (
                self.gil < 0
            ):
                self.users += 1
                with nogil:
                    n = sendmsg(fd, header, flags | MSG_DONTWAIT)
                    err = errno
                self.leave()
            else:
                n = sendmsg(fd, header, flags | MSG_DONTWAIT)
                err = errno
            if n >= 0:
                return n
            self.again(err, fd, flags, True, &patience, "write_to",
                       <const sockaddr_in *>header.msg_name)


cdef extern from *:
    """
    #define ipv4_set_errno(value) (errno = (value))
    """
    void set_errno "ipv4_set_errno"(int value) noexcept nogil


cdef int raise_cut_control() except -1:
    raise OSError(
        ENOBUFS,
        f"No buffer space available: the kernel had more than {CONTROL_ROOM} bytes of control"
        " data (MSG_CTRUNC); read with a Message whose oob is larger",
    )
