"""What a failed system call means, one way in and one way out: what every call on packets shares.

A call tries first, without waiting; only if it would block does it wait (`Endpoint.wait`).
"""

from cython cimport critical_section
from cpython.exc cimport PyErr_CheckSignals
from cpython.mem cimport PyMem_Malloc
from libc.errno cimport (
    EACCES,
    EADDRNOTAVAIL,
    EAGAIN,
    EBADF,
    ECONNREFUSED,
    EDESTADDRREQ,
    EHOSTDOWN,
    EHOSTUNREACH,
    EINTR,
    EINVAL,
    EMSGSIZE,
    ENETUNREACH,
    ENOBUFS,
    ENODEV,
    ENONET,
    ENOPROTOOPT,
    EOPNOTSUPP,
    EPROTO,
    errno,
)
from libc.stdint cimport int32_t, uint32_t
from libc.string cimport memset

from ..wire.address cimport address_text
from ..wire.arguments cimport as_int, os_error
from ..wire.cmsg cimport ALL_FLAGS, CONTROL_ROOM, SEND_ROOM, Told, read_told
from ..wire.control cimport ControlMessage
from ..wire.memory cimport Memory, fasten
from .descriptor cimport hold, let_go
from .endpoint cimport Attempt, Endpoint
from .sockopt cimport ask
from .wait cimport begin
from ..libc cimport socket as c
from ..libc.socket cimport (
    MSG_CTRUNC,
    MSG_DONTWAIT,
    MSG_ERRQUEUE,
    iovec,
    msghdr,
    ntohs,
    recvmsg,
    sendmsg,
    sockaddr,
    sockaddr_in,
    socklen_t,
)
from ..libc.threads cimport (
    Section,
    begin_section,
    end_section,
    load_32,
    load_int,
    store_32,
    store_int,
)

from ..wire.cmsg import RECEIVE_OPTIONS

# Options whose state can be asked, and that bring control messages when on.
cdef tuple TELLING = tuple(
    (row[1], row[2]) for row in RECEIVE_OPTIONS if row[2] >= 0
) + (((c.SOL_SOCKET, c.SO_TIMESTAMPING),) if c.SO_TIMESTAMPING >= 0 else ())

cdef extern from "probe.h":
    bint ipv4_is_too_big(int fd, const sockaddr_in *name, size_t size, int mode) noexcept nogil

cdef enum:
    PMTUDISC_PROBE = 3
    UDP_HEADER = 8
    IP_HEADER = 20


cdef class Transfer(Endpoint):
    """Packets in and out, and the control messages they bring; base of PacketConn and RawConn."""

    def __init__(self, sock):
        Endpoint.__init__(self, sock)
        self.wants_control = self.others_are_told()

    @property
    def _program(self):
        """The program that was attached, which the kernel may hold with more in front of it."""
        cdef Section section
        begin_section(&section, self)
        program = self.program
        end_section(&section)
        return program

    @_program.setter
    def _program(self, value):
        cdef Section section
        begin_section(&section, self)
        before = self.program  # which goes only after the section
        self.program = value
        end_section(&section)
        before = None

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
        None of it takes a privilege. The oldest are there since Linux 2.2; each member of
        `ControlFlags` tells the option that it stands for, and since when it is there.
        """
        cdef uint32_t asked = <uint32_t>as_int(flags, 0, ALL_FLAGS, "flags")
        cdef uint32_t wanted, bits
        cdef int32_t value
        self.live_fd()
        cdef bint wished = bool(on)
        # Flags, options and what they bring are one state: another thread changes it afterwards.
        with critical_section(self):
            wanted = self._control_flags | asked if wished else self._control_flags & ~asked
            for mask, level, option, name, *_ in RECEIVE_OPTIONS:
                bits = mask
                if not asked & bits:
                    continue
                value = (wanted & bits) != 0
                if value != ((self._control_flags & bits) != 0) or value:
                    self.set_raw(level, option, &value, sizeof(value), name)
                store_32(&self._control_flags, (self._control_flags & ~bits) | (wanted & bits))
                if value:
                    store_int(&self.wants_control, True)
            if not self._control_flags:
                store_int(&self.wants_control, self.unknown_options or self.others_are_told())

    @property
    def control_flags(self):
        """What received packets tell, as `set_control_message` left it (`ControlFlags`)."""
        from ..constants import ControlFlags

        return ControlFlags(load_32(&self._control_flags))

    def _expect_control(self, level, option):
        """Some option was set that may bring control messages unknown to `control_flags`."""
        store_int(&self.wants_control, True)
        if (level, option) == (c.SOL_UDP, c.UDP_SEGMENT):
            self.option_cuts = True
        if not any((level, option) == each for each in TELLING):
            self.unknown_options = True  # whether it is on cannot be asked

    cdef bint others_are_told(self):
        """Whether an option that brings control messages is on, whoever switched it on."""
        cdef int32_t on
        cdef socklen_t size
        for level, option in TELLING:
            on = 0
            size = sizeof(on)
            if self.try_get(level, option, &on, &size, "SO_TIMESTAMPING") == 0 and on:
                return True
        return False

    # Failed system calls

    cdef bint is_stale(self, int fd, int err, const msghdr *sent) noexcept:
        """Whether an error may belong to an earlier datagram, to another destination.

        With IP_RECVERR an unconnected socket is told of every ICMP error by the next call
        (ip(7)); the report itself waits in the error queue, so the call can be tried again.
        """
        cdef int32_t on = 0
        cdef sockaddr_in peer
        cdef socklen_t size = sizeof(peer)
        if not (
            err == ECONNREFUSED or err == EHOSTUNREACH or err == ENETUNREACH
            or err == EHOSTDOWN or err == ENOPROTOOPT or err == EPROTO or err == EOPNOTSUPP
            or err == EMSGSIZE or err == EACCES or err == ENONET
        ):
            return False
        if not ask(fd, c.IPPROTO_IP, c.IP_RECVERR, &on):
            return False
        if not on or c.getpeername(fd, <sockaddr *>&peer, &size) == 0:
            return False
        # Tried again, a datagram that is too big would leave a second report of itself.
        return err != EMSGSIZE or sent == NULL or not self.is_too_big(fd, sent)

    cdef bint may_be_stale(self, int fd, int err, const msghdr *sent) except -1:
        cdef bint stale
        hold(self)
        stale = self.is_stale(fd, err, sent)
        let_go(self)
        return stale

    cdef bint is_too_big(self, int fd, const msghdr *sent) noexcept:
        """Whether the kernel refuses this datagram for its own size."""
        cdef int32_t mode = PMTUDISC_PROBE  # a packet with its header is held to the link's MTU
        cdef size_t size = 0, i, before = UDP_HEADER
        for i in range(sent.msg_iovlen):
            size += sent.msg_iov[i].iov_len
        if sent.msg_name == NULL:
            return True
        if self.writes_headers:
            before += IP_HEADER
        elif not ask(fd, c.IPPROTO_IP, c.IP_MTU_DISCOVER, &mode):
            return True
        elif self.has_ports():
            before = 0
        return ipv4_is_too_big(
            fd, <const sockaddr_in *>sent.msg_name, size - min(size, before), mode)

    cdef bint has_ports(self) noexcept:
        return self._type != c.SOCK_RAW and self._protocol != c.IPPROTO_ICMP

    cdef int retry_or_raise(self, int err, int fd, int flags, bint writing, Attempt *attempt,
                            str what, const msghdr *sent) except -1:
        """Return when a failed call is worth trying again; else raise what it means.

        `sent` is the message that did not go, NULL for reads.
        """
        if err == EAGAIN:
            if flags & (MSG_DONTWAIT | MSG_ERRQUEUE):
                raise OSError(EAGAIN, "Resource temporarily unavailable")
            self.wait(fd, writing, attempt)
        elif err == EINTR:
            PyErr_CheckSignals()
        elif not attempt.stale_tried and self.may_be_stale(fd, err, sent):
            attempt.stale_tried = True
        elif err != EBADF or load_int(&self.fd) == fd:
            raise os_error(err, what if sent == NULL else self.refusal(err, fd, what, sent))
        if load_int(&self.fd) != fd:  # closed by a signal handler, or by another thread meanwhile
            raise OSError(EBADF, "Bad file descriptor: the conn was closed by another call")
        self.check_deadline(writing)
        return 0

    cdef str refusal(self, int err, int fd, str what, const msghdr *sent):
        """What was attempted, and what about it is at fault as far as that can be told."""
        cdef Told told
        cdef int32_t on = 1
        cdef socklen_t size = sizeof(on)
        cdef const sockaddr_in *name = <const sockaddr_in *>sent.msg_name
        memset(&told, 0, sizeof(told))
        if sent.msg_controllen:
            read_told(sent.msg_control, sent.msg_controllen, &told)
        if name != NULL:
            what = f"{what} {address_text(name.sin_addr.s_addr)}"
            if self.has_ports():
                what = f"{what}:{ntohs(name.sin_port)}"
        if told.spec_dst:
            what = f"{what} from {address_text(told.spec_dst)}"
        if told.ifindex:
            what = f"{what} by interface {told.ifindex}"
        if err == ENODEV and told.ifindex:
            return f"{what}, which does not exist"
        if told.spec_dst and (err == ENETUNREACH or err == EINVAL or err == EADDRNOTAVAIL):
            return f"{what}: the source must be an address of this host that has a route there"
        if err == EINVAL and name != NULL and name.sin_port == 0 and self.has_ports():
            return f"{what}: the destination has no port; give (host, port)"
        if err == EDESTADDRREQ:
            return f"{what}: give a destination, for the socket is not connected"
        if err == EACCES:
            self.try_get(c.SOL_SOCKET, c.SO_BROADCAST, &on, &size, "SO_BROADCAST")
            if not on:
                return f"{what}: a broadcast address needs broadcast=True"
        if err == EMSGSIZE and self.writes_headers:
            return (
                f"{what}: a packet with its own header is never fragmented; PacketConn.ip lets"
                " the kernel do so, up to 65,515 bytes of payload"
            )
        return what

    # One way in, one way out

    cdef Py_ssize_t take_message(self, Incoming *incoming, iovec *vectors, size_t count,
                                 int flags, object buf, Memory *memory, int err) except -1:
        """One message from the kernel (recvmsg(2)), waiting for it if need be.

        `memory` is what of the vectors was only looked at, in `buf`; NULL when all is held. `err`
        is what a first try met, 0 for none.

        Returns the bytes of it. Its control data, for which there is room if any may come, is
        whole.
        """
        cdef Attempt attempt
        cdef int fd
        cdef Py_ssize_t n
        cdef bint wanted = load_int(&self.wants_control)
        if memory != NULL:
            fasten(buf, memory, True)
        fd = begin(self, &attempt, False)
        while True:
            if err:
                self.retry_or_raise(err, fd, flags, False, &attempt, "read_from", NULL)
            arm(incoming, vectors, count, wanted)
            if releases(self, 1, 0):
                self.enter()
                with nogil:
                    n = recvmsg(fd, &incoming.header, flags | MSG_DONTWAIT)
                    err = errno
                self.leave()
            else:
                hold(self)
                n = recvmsg(fd, &incoming.header, flags | MSG_DONTWAIT)
                err = errno
                let_go(self)
            if n >= 0:
                break
        if wanted and incoming.header.msg_flags & MSG_CTRUNC:
            raise_cut_control()
        return n

    cdef Py_ssize_t send(self, const msghdr *header, int flags, object data,
                         Memory *memory, int err) except -1:
        """One message to the kernel (sendmsg(2)), waiting for room if need be; its payload, which
        comes last, is what `memory` looked at in `data`. `err` is what a first try met.
        """
        cdef Attempt attempt
        cdef int fd
        cdef Py_ssize_t n
        cdef bint release = releases(self, 1, memory.size)
        fasten(data, memory, False)
        fd = begin(self, &attempt, True)
        while True:
            if err:
                self.retry_or_raise(err, fd, flags, True, &attempt, "write_to", header)
            if release:
                self.enter()
                with nogil:
                    n = sendmsg(fd, header, flags | MSG_DONTWAIT)
                    err = errno
                self.leave()
            else:
                hold(self)
                n = sendmsg(fd, header, flags | MSG_DONTWAIT)
                err = errno
                let_go(self)
            if n >= 0:
                return n


cdef int set_control(Outgoing *outgoing, ControlMessage cm, bint segmented) except -1:
    """Encode what a packet is told, on the stack if it fits; `free_control` undoes it."""
    cdef size_t room = cm.encoding_room()
    outgoing.header.msg_control = outgoing.control
    if room > SEND_ROOM:
        outgoing.header.msg_control = PyMem_Malloc(room)
        if outgoing.header.msg_control == NULL:
            raise MemoryError()
    outgoing.header.msg_controllen = cm.encode(
        <unsigned char *>outgoing.header.msg_control, segmented)
    return 0


cdef int refuse_zerocopy() except -1:
    raise ValueError(
        "flags must not hold MSG_ZEROCOPY: the kernel would go on reading the buffer after the"
        " call has let go of it"
    )


cdef int refuse_room(size_t room, str name) except -1:
    """What arrives coalesced in one buffer would be lost behind a short one."""
    if room >= MAX_DATAGRAM:
        return 0
    raise ValueError(
        f"{name} must be at least {MAX_DATAGRAM} bytes long while SEGMENT_SIZE is on, not {room}:"
        " several datagrams arrive as one buffer, and what does not fit is lost (with MSG_TRUNC"
        " among the flags it is taken)"
    )


cdef int raise_cut_control() except -1:
    raise OSError(
        ENOBUFS,
        f"No buffer space available: the kernel had more than {CONTROL_ROOM} bytes of control"
        " data (MSG_CTRUNC); read with a Message whose oob is larger",
    )
