"""The error queue (ip(7), IP_RECVERR): ICMP errors, transmit timestamps, completions."""

from cython cimport critical_section
from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize
from cpython.exc cimport PyErr_CheckSignals
from libc.errno cimport EAGAIN, EBADF, EINTR, errno
from libc.stdint cimport INT32_MAX, int32_t
from libc.string cimport memcpy, memset

from ..wire.address cimport address_object, peer_tuple
from ..wire.arguments cimport as_int, os_error
from ..wire.cmsg cimport CONTROL_ROOM, Told
from ..wire.control cimport ControlMessage, control_of_report
from .batch cimport Batches
from .descriptor cimport hold, let_go
from .retry cimport Incoming, is_named, raise_cut_control
from .wait cimport ERRORS, Attempt, begin
from ..libc cimport socket as c
from ..libc.socket cimport (
    MSG_CTRUNC,
    MSG_DONTWAIT,
    MSG_ERRQUEUE,
    iovec,
    poll_ns,
    pollfd,
    recvmsg,
    sock_extended_err,
    sockaddr_in,
)
from ..libc.threads cimport load_int, store_int

import sys
from collections import namedtuple

cdef enum:
    ERROR_PAYLOAD = 65535
    SENT_STAMPS = 1 | 2 | 256 | 512  # SOF_TIMESTAMPING_TX_*


class ErrorReport(
    namedtuple(
        "ErrorReport",
        (
            "errno", "origin", "icmp_type", "icmp_code", "info", "offender", "addr", "payload",
            "timestamp", "key", "control",
        ),
        defaults=(None, None, None),
    )
):
    """One entry of the error queue.

    Attributes
    ----------
    errno : int
        The error as the kernel would raise it, such as ``errno.ECONNREFUSED``; ENOMSG for
        timestamps, 0 for completions.
    origin : ErrorOrigin
        Who reported it.
    icmp_type, icmp_code : int or None
        Type and code of the ICMP message, None for other origins.
    info : int
        The path MTU in bytes when a packet was too big, else what the origin defines (ee_info).
    offender : ipaddress.IPv4Address or None
        The router or host that sent the ICMP message.
    addr : tuple of (str, int) or None
        Where the packet was going.
    payload : bytes
        As much of the packet's payload as came back; on raw sockets what the kernel kept of it.
    timestamp : int or None
        For origin TIMESTAMPING: nanoseconds of the realtime clock, or of the hardware's.
    key : int or None
        For origin TIMESTAMPING: number of the datagram (SOF_TIMESTAMPING_OPT_ID). For ZEROCOPY:
        the last of the sends that are done, of which `info` is the first (MSG_ZEROCOPY).
    control : ControlMessage or None
        What came beside the entry, as `set_control_message` asked: of an ICMP error its own TTL,
        TOS, interface, destination and time of arrival. None when nothing came.
    """

    __slots__ = ()


cdef class ErrorQueue(Batches):
    """Entries of the error queue."""

    def read_error(self, wait=False):
        """Take one entry from the error queue (ip(7), IP_RECVERR, Linux 2.2).

        Parameters
        ----------
        wait : bool
            Whether to wait for an entry, under the read deadline; also while data is there to be
            read. Otherwise the call never waits and knows no deadline.

        Returns
        -------
        ErrorReport or None
            None when the queue is empty. A program that waits for the socket to be readable
            should empty the queue first: poll(2) reports an error as long as an entry is there.

        Raises
        ------
        OSError
            EBADF if the conn is closed; ENOBUFS if the entry has more control data than there is
            room for; TimeoutError at the read deadline, BlockingIOError on a socket that does not
            wait; otherwise as recvmsg(2).
        ValueError
            If its control data is malformed.
        NotImplementedError
            If this system has no error queue.
        """
        cdef Incoming incoming
        cdef Attempt attempt
        cdef iovec vector
        cdef pollfd state
        cdef ssize_t n
        cdef int err, fd
        cdef bint waiting = bool(wait)
        cdef bytes payload
        if MSG_ERRQUEUE == 0:
            raise NotImplementedError(f"the error queue is not available on {sys.platform}")
        fd = begin(self, &attempt, ERRORS) if waiting else self.live_fd()
        # An empty queue is told from a full one before there is memory for what may come.
        state.fd = fd
        state.events = state.revents = 0
        if not waiting:
            hold(self)
            err = poll_ns(&state, 1, 0)
            let_go(self)
            if err == 0:
                return None
        payload = PyBytes_FromStringAndSize(NULL, ERROR_PAYLOAD)
        vector.iov_base = PyBytes_AS_STRING(payload)
        vector.iov_len = ERROR_PAYLOAD
        incoming.header.msg_name = &incoming.name
        incoming.header.msg_iov = &vector
        incoming.header.msg_iovlen = 1
        incoming.header.msg_control = incoming.control
        try:
            while True:
                incoming.header.msg_namelen = sizeof(incoming.name)
                incoming.header.msg_controllen = CONTROL_ROOM
                incoming.header.msg_flags = 0
                hold(self)
                n = recvmsg(fd, &incoming.header, MSG_ERRQUEUE | MSG_DONTWAIT)
                err = errno
                let_go(self)
                if n >= 0:
                    break
                if err == EAGAIN and not waiting:
                    return None
                if err == EAGAIN:
                    self.wait(fd, ERRORS, &attempt)
                elif err == EINTR:
                    PyErr_CheckSignals()
                else:
                    raise os_error(err, "read_error")
                if load_int(&self.fd) != fd:
                    raise OSError(
                        EBADF, "Bad file descriptor: the conn was closed by another call")
        finally:
            if waiting:
                self.end(&attempt)
        if incoming.header.msg_flags & MSG_CTRUNC:
            raise_cut_control()
        return report_of(
            incoming.control, incoming.header.msg_controllen, payload[:n],
            peer_tuple(incoming.name.sin_addr.s_addr, incoming.name.sin_port)
            if is_named(&incoming) else None)

    def set_timestamping(self, flags):
        """Ask for timestamps (socket(7); SO_TIMESTAMPING, Linux 2.6.30, and the kernel's
        networking/timestamping document). It takes no privilege; that the device stamps in
        hardware is switched on by another who has CAP_NET_ADMIN.

        Parameters
        ----------
        flags : int
            SOF_TIMESTAMPING_* bits, 0 for none: for software stamps 1 << 1 (transmit), 1 << 3
            (receive) and 1 << 4 (report); 1 << 7 numbers transmitted datagrams.

        Notes
        -----
        Receive stamps come in `ControlMessage.timestamp`, transmit stamps in the error queue:
        `read_error` returns them with origin TIMESTAMPING, `timestamp` and `key`.

        Raises
        ------
        OSError
            EINVAL for a combination that the kernel refuses.
        """
        cdef int32_t value = <int32_t>as_int(flags, 0, INT32_MAX, "flags")
        cdef bint told
        self.set_raw(c.SOL_SOCKET, c.SO_TIMESTAMPING, &value, sizeof(value), "SO_TIMESTAMPING")
        with critical_section(self):
            told = value != 0 or self._control_flags != 0 or self.unknown_options
            store_int(&self.wants_control, told or self.others_are_told())
            self.stamps_sent = (value & SENT_STAMPS) != 0


cdef object report_of(const unsigned char *control, size_t length, bytes payload, tuple addr):
    """An ErrorReport from an entry's control data; what does not come with it stays None."""
    cdef sock_extended_err error
    cdef sockaddr_in offender
    cdef Told told
    cdef ControlMessage cm
    from ..constants import ErrorOrigin

    memset(&error, 0, sizeof(error))
    memset(&offender, 0, sizeof(offender))
    memset(&told, 0, sizeof(told))
    cm = control_of_report(control, length, &told)
    if told.error_size >= sizeof(error):
        memcpy(&error, told.error, sizeof(error))
    if told.error_size >= sizeof(error) + sizeof(offender):
        memcpy(&offender, told.error + sizeof(error), sizeof(offender))
    try:
        origin = ErrorOrigin(error.ee_origin)
    except ValueError:
        origin = error.ee_origin
    icmp = origin == ErrorOrigin.ICMP
    stamp = origin == ErrorOrigin.TIMESTAMPING
    return ErrorReport(
        errno=error.ee_errno,
        origin=origin,
        icmp_type=error.ee_type if icmp else None,
        icmp_code=error.ee_code if icmp else None,
        info=error.ee_info,
        offender=(
            address_object(offender.sin_addr.s_addr)
            if icmp and offender.sin_family == c.AF_INET else None
        ),
        addr=addr,
        payload=payload,
        timestamp=cm.timestamp if stamp else None,
        # ZEROCOPY: the sends from info to key are done.
        key=error.ee_data if stamp or origin == ErrorOrigin.ZEROCOPY else None,
        control=cm if told.present else None,
    )
