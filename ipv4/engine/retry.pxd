from cpython.mem cimport PyMem_Free
from cpython.object cimport PyObject
from cpython.ref cimport Py_XDECREF
from libc.stdint cimport int32_t, int64_t, uint32_t

from ..wire.address cimport Peers, peer_of
from ..wire.arguments cimport as_flags
from ..wire.cmsg cimport CONTROL_ROOM, SEND_ROOM
from ..wire.control cimport ControlMessage, control_from_kernel
from ..wire.memory cimport Memory
from .descriptor cimport is_unseen
from .endpoint cimport Attempt, Endpoint
from .wait cimport NEVER, deadline_is_near
from ..libc.doors cimport ALONE
from ..libc.socket cimport iovec, msghdr, sockaddr_in

cdef extern from "systems.h":
    enum:
        FLAG_SEGMENT_SIZE "IPV4_FLAG_UDP_GRO"  # of ControlFlags


cdef enum:
    # From here on giving the GIL up costs less than it gains other threads.
    RELEASE_COUNT = 8  # messages
    RELEASE_BYTES = 16384
    MSG_ZEROCOPY = 0x4000000  # Linux 4.14
    MAX_DATAGRAM = 65535  # what may arrive as one buffer


cdef inline bint releases(Endpoint conn, size_t count, size_t size) noexcept:
    """Whether a system call gives up the GIL: the one rule, which `release_gil` overrides."""
    return conn.gil_policy > 0 or (
        conn.gil_policy < 0 and (count >= RELEASE_COUNT or size >= RELEASE_BYTES))


cdef inline bint goes_at_once(Endpoint conn, int64_t deadline, size_t size) noexcept:
    """Whether a call may be tried with the GIL held and without any preparation: nothing but the
    system call, once.
    """
    return (
        ALONE and not is_unseen(conn)
        and (deadline == NEVER or not deadline_is_near(deadline))
        and not releases(conn, 1, size)
    )


cdef int refuse_zerocopy() except -1
cdef int refuse_room(size_t room, str name) except -1


cdef inline int as_write_flags(object flags) except -1:
    cdef int c_flags = as_flags(flags)
    return refuse_zerocopy() if c_flags & MSG_ZEROCOPY else c_flags


cdef struct Incoming:
    # A message that the kernel fills, on its call's stack; `Transfer.take_message` arms it.
    msghdr header
    sockaddr_in name
    unsigned char control[CONTROL_ROOM]


cdef inline void arm(Incoming *incoming, iovec *vectors, size_t count, bint wanted) noexcept:
    """Before each try: the kernel writes into all of it."""
    incoming.header.msg_name = &incoming.name
    incoming.header.msg_namelen = sizeof(incoming.name)
    incoming.header.msg_iov = vectors
    incoming.header.msg_iovlen = count
    incoming.header.msg_control = incoming.control if wanted else NULL
    incoming.header.msg_controllen = CONTROL_ROOM if wanted else 0
    incoming.header.msg_flags = 0


cdef inline ControlMessage control_of(const Incoming *incoming, PyObject *spare=NULL):
    """What came beside the payload, or None; `spare` as for `control_from_kernel`."""
    if incoming.header.msg_controllen == 0:
        Py_XDECREF(spare)
        return None
    return control_from_kernel(
        incoming.control, incoming.header.msg_controllen,
        incoming.name.sin_addr.s_addr if is_named(incoming) else 0, spare)


cdef inline bint is_named(const Incoming *incoming) noexcept:
    """Whether the sender is known: an entry of the error queue may bear no name."""
    return incoming.header.msg_namelen >= sizeof(sockaddr_in)


cdef inline tuple sender_of(Peers *peers, const Incoming *incoming):
    if not is_named(incoming):
        return None
    return peer_of(peers, incoming.name.sin_addr.s_addr, incoming.name.sin_port)


cdef struct Outgoing:
    # A message to be sent, on its call's stack.
    msghdr header
    unsigned char control[SEND_ROOM]


cdef int set_control(Outgoing *outgoing, ControlMessage cm, bint segmented) except -1


cdef inline void free_control(Outgoing *outgoing) noexcept:
    if outgoing.header.msg_control != outgoing.control:
        PyMem_Free(outgoing.header.msg_control)


cdef class Transfer(Endpoint):
    cdef:
        # What filtering.py and options.py set in the kernel, which cannot tell it again.
        object program
        public int _min_ttl
        public bint _router_alert
        uint32_t _control_flags
        int wants_control  # some receive option may be on
        bint unknown_options  # among them one whose state cannot be asked
        bint option_cuts  # UDP_SEGMENT was set for every payload of the socket
        bint writes_headers  # packets are sent with the header that a program wrote

    cdef bint is_stale(self, int fd, int err, const msghdr *sent) noexcept
    cdef bint may_be_stale(self, int fd, int err, const msghdr *sent) except -1
    cdef bint is_too_big(self, int fd, const msghdr *sent) noexcept
    cdef bint others_are_told(self)
    cdef bint has_ports(self) noexcept
    cdef str refusal(self, int err, int fd, str what, const msghdr *sent)
    cdef int retry_or_raise(self, int err, int fd, int flags, bint writing, Attempt *attempt,
                            str what, const msghdr *sent) except -1
    cdef Py_ssize_t take_message(self, Incoming *incoming, iovec *vectors, size_t count,
                                 int flags, object buf, Memory *memory, int err) except -1
    cdef Py_ssize_t send(self, const msghdr *header, int flags, object data,
                         Memory *memory, int err) except -1


cdef int raise_cut_control() except -1
