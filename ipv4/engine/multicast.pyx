# cython: embedsignature=False
# Methods of a plain class have signatures of their own; an embedded one would be text of the doc.
"""Multicast groups: membership, source filters (RFC 3376, RFC 3678) and the outgoing interface."""

from libc.errno cimport EINVAL, ENOBUFS, errno
from libc.stdint cimport uint32_t
from libc.string cimport memset
from cpython.mem cimport PyMem_Calloc, PyMem_Free, PyMem_Malloc

from ..wire.boundary cimport address_object, as_address, os_error, shown
from .endpoint cimport Endpoint
from ..libc cimport socket as c
from ..libc.socket cimport (
    group_filter,
    group_req,
    group_source_req,
    ip_mreqn,
    ipv4_interface,
    sockaddr_in,
    sockaddr_storage,
    socklen_t,
)

import sys

__all__ = ["Membership"]

cdef enum:
    MAX_SOURCES = 4096  # far beyond any igmp_max_msf
    MAX_INTERFACES = 4096

# MCAST_INCLUDE and MCAST_EXCLUDE, <linux/in.h>
cdef dict MODES = {"include": 1, "exclude": 0}


class Membership:
    """The groups that a socket listens to; base of PacketConn and RawConn."""

    __slots__ = ()

    def join_group(self, group, interface=None):
        """Hear a group from any source (ip(7); RFC 3678, MCAST_JOIN_GROUP, Linux 2.6). Neither
        this nor any other membership takes a privilege.

        Parameters
        ----------
        group : address
            The group; the port of a ``(host, port)`` is left aside.
        interface : interface, optional
            Where to join; the route's choice when not given.

        Raises
        ------
        OSError
            EADDRINUSE when joined already, EINVAL for an address that is no group, ENODEV for an
            unknown interface, ENOBUFS beyond net.ipv4.igmp_max_memberships groups on one socket.

        Notes
        -----
        A socket bound to the wildcard address also hears groups that other sockets of the host
        joined, unless `multicast_all` is turned off.
        """
        change(self, "join_group", c.MCAST_JOIN_GROUP, group, None, interface)

    def leave_group(self, group, interface=None):
        """Stop hearing a group, with whatever source filter it has (ip(7); RFC 3678,
        MCAST_LEAVE_GROUP, Linux 2.6); see `join_group`.

        Raises
        ------
        OSError
            EADDRNOTAVAIL when not joined.
        """
        change(self, "leave_group", c.MCAST_LEAVE_GROUP, group, None, interface)

    def join_source_specific_group(self, group, source, interface=None):
        """Hear a group from one source, beside those joined before (ip(7); RFC 4607; RFC 3678,
        MCAST_JOIN_SOURCE_GROUP, Linux 2.6).

        Parameters
        ----------
        group, source : address
            The channel.
        interface : interface, optional
            As in `join_group`.

        Raises
        ------
        OSError
            EADDRNOTAVAIL when joined already, EINVAL when the group is joined for any source,
            ENOBUFS beyond net.ipv4.igmp_max_msf sources.
        """
        check_source(source)
        change(self, "join_source_specific_group", c.MCAST_JOIN_SOURCE_GROUP, group, source,
               interface)

    def leave_source_specific_group(self, group, source, interface=None):
        """Stop hearing a group from one source (ip(7); RFC 3678, MCAST_LEAVE_SOURCE_GROUP, Linux
        2.6); see `join_source_specific_group`.

        Raises
        ------
        OSError
            EADDRNOTAVAIL for another source, EINVAL without membership.
        """
        check_source(source)
        change(self, "leave_source_specific_group", c.MCAST_LEAVE_SOURCE_GROUP, group, source,
               interface)

    def exclude_source_specific_group(self, group, source, interface=None):
        """Hear a group that was joined for any source, but for this one (ip(7); RFC
        3678, MCAST_BLOCK_SOURCE, Linux 2.6).

        Raises
        ------
        OSError
            EINVAL without `join_group` before, EADDRNOTAVAIL when excluded already.
        """
        check_source(source)
        change(self, "exclude_source_specific_group", c.MCAST_BLOCK_SOURCE, group, source,
               interface)

    def include_source_specific_group(self, group, source, interface=None):
        """Hear an excluded source again (ip(7); RFC 3678, MCAST_UNBLOCK_SOURCE, Linux 2.6).

        Raises
        ------
        OSError
            EADDRNOTAVAIL when it was not excluded, EINVAL without membership.
        """
        check_source(source)
        change(self, "include_source_specific_group", c.MCAST_UNBLOCK_SOURCE, group, source,
               interface)

    def join_all(self, group, interfaces=None):
        """Join a group on several interfaces, as `join_group` does (ip(7); Linux 2.6).

        Parameters
        ----------
        group : address
            The group.
        interfaces : iterable of interface, optional
            Where; every interface that is up and does multicast when not given.

        Returns
        -------
        dict of Interface to OSError or None
            How it went on each; None where it was joined.
        """
        outcome = {}
        if interfaces is None:
            interfaces = interface_names(conn_of(self))
        try:
            interfaces = list(interfaces)
        except TypeError:
            raise TypeError(
                "interfaces must be interfaces to iterate over,"
                f" not {type(interfaces).__name__}"
            ) from None
        for interface in interfaces:
            if interface is None:
                raise TypeError("interfaces must be indexes, names or pairs, not None")
            found = self._interface(self._interface_index(interface, "interfaces"))
            try:
                self.join_group(group, found)
            except OSError as error:
                outcome[found] = error
            else:
                outcome[found] = None
        return outcome

    def source_filter(self, group, interface=None):
        """The full source filter of a group (ip(7); RFC 3678 section 5.2, MCAST_MSFILTER, Linux
        2.6).

        Returns
        -------
        mode : str
            ``"include"`` or ``"exclude"``.
        sources : list of ipaddress.IPv4Address
            Those heard, or those not heard.

        Raises
        ------
        OSError
            EADDRNOTAVAIL when the group is not joined there.
        """
        mode, sources = get_filter(self, group, interface)
        return ("include" if mode == 1 else "exclude"), sources

    def set_source_filter(self, group, mode, sources, interface=None):
        """Replace the whole source filter of a group at once (ip(7); RFC 3678 section 5.2,
        MCAST_MSFILTER, Linux 2.6).

        Parameters
        ----------
        group : address
            The group. Any membership is replaced: "include" of no source leaves it, "exclude" of
            none is what `join_group` does.
        mode : str
            ``"include"``: hear only these sources; ``"exclude"``: all but these.
        sources : iterable of address
            At most net.ipv4.igmp_max_msf of them.
        interface : interface, optional
            As in `join_group`.

        Raises
        ------
        OSError
            ENOBUFS beyond igmp_max_msf sources, EINVAL for an address that is no group.
        """
        number = MODES.get(mode) if isinstance(mode, str) else None
        if number is None:
            raise ValueError(f'mode must be "include" or "exclude", not {shown(mode)}')
        try:
            sources = list(sources)
        except TypeError:
            raise TypeError(
                f"sources must be addresses to iterate over, not {type(sources).__name__}"
            ) from None
        set_filter(self, group, number, sources, interface)

    @property
    def multicast_interface(self):
        """The interface that multicast packets leave by, as `Interface`; None for the route's.

        It can be set to any form of an interface (ip(7), IP_MULTICAST_IF, Linux 1.2), without
        privilege. Linux gives back no more than an address, and none when an index was set, so
        what is read is what was set here; on a socket that came with an address set, the
        interface that has it.

        Raises
        ------
        OSError
            EADDRNOTAVAIL for an unknown index, ENODEV for an unknown name.
        """
        cdef Endpoint conn = conn_of(self)
        cdef ip_mreqn current
        cdef socklen_t size = sizeof(current.imr_multiaddr)
        cdef int fd = conn.live_fd(), index = conn.multicast_index
        if index == 0:
            memset(&current, 0, sizeof(current))
            if c.getsockopt(fd, c.IPPROTO_IP, c.IP_MULTICAST_IF, &current, &size) < 0:
                raise os_error(errno, "getsockopt IP_MULTICAST_IF")
            if current.imr_multiaddr.s_addr:
                index = index_with_address(conn, current.imr_multiaddr.s_addr)
        return self._interface(index) if index else None

    @multicast_interface.setter
    def multicast_interface(self, value):
        cdef Endpoint conn = conn_of(self)
        cdef ip_mreqn request
        cdef int index = conn.interface_index(value, "multicast_interface")
        memset(&request, 0, sizeof(request))
        request.imr_ifindex = index
        conn.set_raw(c.IPPROTO_IP, c.IP_MULTICAST_IF, &request, sizeof(request),
                     f"IP_MULTICAST_IF {shown(value)}")
        conn.multicast_index = index


cdef Endpoint conn_of(object self):
    """The conn that a method is called on; a plain class's can be called on anything at all."""
    if not isinstance(self, Endpoint):
        raise TypeError(f"self must be a conn, not {type(self).__name__}")
    return <Endpoint>self


cdef int check_source(object source) except -1:
    cdef uint32_t address
    return as_address(source, &address, "source")


cdef void fill(sockaddr_storage *storage, uint32_t address) noexcept:
    cdef sockaddr_in *name = <sockaddr_in *>storage
    name.sin_family = c.AF_INET
    name.sin_addr.s_addr = address


cdef int change(object self, str verb, int option, object group, object source,
                object interface) except -1:
    """One membership call; without source the kernel takes a group_req."""
    cdef group_source_req with_source
    cdef group_req without
    cdef Endpoint conn = conn_of(self)
    cdef uint32_t group_address, source_address
    cdef int index, fd, rc
    as_address(group, &group_address, "group")
    if source is not None:
        as_address(source, &source_address, "source")
    index = conn.interface_index(interface, "interface")
    fd = conn.live_fd()
    if option < 0:
        raise NotImplementedError(f"{verb} is not available on {sys.platform}")
    if source is None:
        memset(&without, 0, sizeof(without))
        without.gr_interface = index
        fill(&without.gr_group, group_address)
        rc = c.setsockopt(fd, c.IPPROTO_IP, option, &without, sizeof(without))
    else:
        memset(&with_source, 0, sizeof(with_source))
        with_source.gsr_interface = index
        fill(&with_source.gsr_group, group_address)
        fill(&with_source.gsr_source, source_address)
        rc = c.setsockopt(fd, c.IPPROTO_IP, option, &with_source, sizeof(with_source))
    if rc < 0:
        raise failure(errno, verb, group, source, interface)
    return 0


cdef object failure(int err, str verb, object group, object source, object interface):
    """An OSError that says what was attempted, and for ENOBUFS which limit was met (ip(7))."""
    cdef str what = f"{verb} {told(group)}"
    if source is not None:
        what += f" from {told(source)}"
    if interface is not None:
        what += f" on {told(interface[1] if isinstance(interface, tuple) else interface)}"
    if err == ENOBUFS:
        name = "igmp_max_memberships" if source is None else "igmp_max_msf"
        what += f"; the sysctl net.ipv4.{name} limits it"
        try:
            with open(f"/proc/sys/net/ipv4/{name}", encoding="ascii") as file:
                what += f" to {file.read().strip()}"
        except OSError:
            pass
    return os_error(err, what)


cdef str told(object value):
    """The value's text, from whose own code no other error may come."""
    try:
        return f"{value}"
    except Exception:
        return shown(value)


cdef list interface_names(Endpoint conn):
    """Names of the interfaces that have an IPv4 address, are up and do multicast."""
    cdef ipv4_interface *found = <ipv4_interface *>PyMem_Malloc(
        MAX_INTERFACES * sizeof(ipv4_interface))
    cdef int i, count
    if found == NULL:
        raise MemoryError()
    try:
        count = c.interfaces(conn.live_fd(), found, MAX_INTERFACES)
        if count < 0:
            raise os_error(errno, "list of interfaces")
        names = []
        for i in range(count):
            if found[i].flags & <unsigned int>c.IFF_UP and (
                    found[i].flags & <unsigned int>c.IFF_MULTICAST):
                name = (<bytes>found[i].name).decode("utf-8", "surrogateescape")
                if name not in names:
                    names.append(name)
        return names
    finally:
        PyMem_Free(found)


cdef int index_with_address(Endpoint conn, uint32_t address) except -1:
    """Index of the interface that has an address, 0 when none has."""
    cdef ipv4_interface *found = <ipv4_interface *>PyMem_Malloc(
        MAX_INTERFACES * sizeof(ipv4_interface))
    cdef int fd = conn.live_fd(), i, count
    if found == NULL:
        raise MemoryError()
    try:
        count = c.interfaces(fd, found, MAX_INTERFACES)
        if count < 0:
            raise os_error(errno, "list of interfaces")
        for i in range(count):
            if found[i].address == address:
                return max(c.interface_index(fd, found[i].name), 0)
        return 0
    finally:
        PyMem_Free(found)


cdef tuple get_filter(object self, object group, object interface):
    cdef Endpoint conn = conn_of(self)
    cdef uint32_t address
    cdef size_t room = GROUP_FILTER_SIZE(MAX_SOURCES)
    cdef socklen_t size = <socklen_t>room
    cdef int fd, index
    cdef group_filter *request
    cdef unsigned int i
    as_address(group, &address, "group")
    index = conn.interface_index(interface, "interface")
    fd = conn.live_fd()
    if c.MCAST_MSFILTER < 0:
        raise NotImplementedError(f"source_filter is not available on {sys.platform}")
    request = <group_filter *>PyMem_Calloc(1, room)
    if request == NULL:
        raise MemoryError()
    try:
        request.gf_interface = index
        fill(&request.gf_group, address)
        request.gf_numsrc = MAX_SOURCES
        if c.getsockopt(fd, c.IPPROTO_IP, c.MCAST_MSFILTER, request, &size) < 0:
            raise failure(errno, "source_filter", group, None, interface)
        sources = []
        for i in range(min(request.gf_numsrc, <unsigned int>MAX_SOURCES)):
            sources.append(address_object(
                (<sockaddr_in *>&request.gf_slist[i]).sin_addr.s_addr))
        return request.gf_fmode, sources
    finally:
        PyMem_Free(request)


cdef int set_filter(object self, object group, int mode, list sources,
                    object interface) except -1:
    cdef Endpoint conn = conn_of(self)
    cdef uint32_t address, source
    cdef size_t room
    cdef int fd, index, err
    cdef group_filter *request
    cdef Py_ssize_t i, count = len(sources)
    as_address(group, &address, "group")
    index = conn.interface_index(interface, "interface")
    if count > MAX_SOURCES:
        raise ValueError(f"sources must be at most {MAX_SOURCES}, not {count}")
    if c.MCAST_MSFILTER < 0:
        raise NotImplementedError(f"set_source_filter is not available on {sys.platform}")
    room = GROUP_FILTER_SIZE(count)
    request = <group_filter *>PyMem_Calloc(1, room)
    if request == NULL:
        raise MemoryError()
    try:
        request.gf_interface = index
        request.gf_fmode = mode
        request.gf_numsrc = <unsigned int>count
        fill(&request.gf_group, address)
        for i in range(count):
            as_address(sources[i], &source, f"sources[{i}]")
            fill(&request.gf_slist[i], source)
        fd = conn.live_fd()
        if c.setsockopt(fd, c.IPPROTO_IP, c.MCAST_MSFILTER, request, <socklen_t>room) < 0:
            err = errno
            if err != EINVAL:
                raise failure(err, "set_source_filter", group, "those sources", interface)
            # Linux filters only what is joined; RFC 3678 joins by setting the filter.
            change(conn, "set_source_filter", c.MCAST_JOIN_GROUP, group, None, interface)
            if c.setsockopt(fd, c.IPPROTO_IP, c.MCAST_MSFILTER, request, <socklen_t>room) < 0:
                err = errno
                change(conn, "set_source_filter", c.MCAST_LEAVE_GROUP, group, None, interface)
                raise failure(err, "set_source_filter", group, "those sources", interface)
        return 0
    finally:
        PyMem_Free(request)


cdef inline size_t GROUP_FILTER_SIZE(size_t count) noexcept:
    return sizeof(group_filter) - sizeof(sockaddr_storage) + max(count, <size_t>1) * sizeof(
        sockaddr_storage)
