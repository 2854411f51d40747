# cython: embedsignature=False
# Methods of a plain class have signatures of their own; an embedded one would be text of the doc.
"""Multicast groups: membership, source filters (RFC 3376, RFC 3678) and the outgoing interface."""

from cython cimport critical_section
from libc.errno cimport EADDRNOTAVAIL, EINVAL, ENOBUFS, ENODEV
from libc.stdint cimport uint32_t
from libc.string cimport memset
from cpython.mem cimport PyMem_Calloc, PyMem_Free

from ..wire.address cimport address_object, as_address
from ..wire.arguments cimport os_error, shown
from .endpoint cimport Endpoint
from ..libc cimport socket as c
from ..libc.socket cimport (
    group_filter,
    group_req,
    group_source_req,
    ip_mreqn,
    sockaddr_in,
    sockaddr_storage,
    socklen_t,
)

from ..interface import Interface

__all__ = ["Membership"]

cdef enum:
    MAX_SOURCES = 4096  # far beyond any igmp_max_msf

# MCAST_INCLUDE and MCAST_EXCLUDE, <linux/in.h>
cdef dict MODES = {"include": 1, "exclude": 0}
cdef object ANY_SOURCE = object()


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
            Where to join. When not given, the conn's `multicast_interface`, else its
            `bound_interface`, else where the kernel's route to the group leads. Calls without an
            interface that follow, such as `leave_group`, mean the one chosen here.

        Raises
        ------
        OSError
            EADDRINUSE when joined already, EINVAL for an address that is no group, ENODEV for an
            unknown interface, or for none where no route leads to the group: name one then;
            ENOBUFS beyond net.ipv4.igmp_max_memberships groups on one socket.

        Notes
        -----
        A socket bound to the wildcard address also hears groups that other sockets of the host
        joined, unless `multicast_all` is turned off.
        """
        set_membership(conn_of(self), "join_group", c.MCAST_JOIN_GROUP,
                       group, ANY_SOURCE, interface)

    def leave_group(self, group, interface=None):
        """Stop hearing a group, with whatever source filter it has (ip(7); RFC 3678,
        MCAST_LEAVE_GROUP, Linux 2.6); see `join_group`. Without an interface, the one that the last
        join without an interface chose is left, whatever the conn's options are now.

        Raises
        ------
        OSError
            EADDRNOTAVAIL when not joined.
        """
        set_membership(conn_of(self), "leave_group", c.MCAST_LEAVE_GROUP,
                       group, ANY_SOURCE, interface)

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
        set_membership(conn_of(self), "join_source_specific_group", c.MCAST_JOIN_SOURCE_GROUP,
                       group, source, interface)

    def leave_source_specific_group(self, group, source, interface=None):
        """Stop hearing a group from one source (ip(7); RFC 3678, MCAST_LEAVE_SOURCE_GROUP, Linux
        2.6); see `join_source_specific_group`.

        Raises
        ------
        OSError
            EADDRNOTAVAIL for another source, EINVAL without membership.
        """
        set_membership(conn_of(self), "leave_source_specific_group", c.MCAST_LEAVE_SOURCE_GROUP,
                       group, source, interface)

    def exclude_source_specific_group(self, group, source, interface=None):
        """Hear a group that was joined for any source, but for this one (ip(7); RFC
        3678, MCAST_BLOCK_SOURCE, Linux 2.6).

        Raises
        ------
        OSError
            EINVAL without `join_group` before, EADDRNOTAVAIL when excluded already.
        """
        set_membership(conn_of(self), "exclude_source_specific_group", c.MCAST_BLOCK_SOURCE,
                       group, source, interface)

    def include_source_specific_group(self, group, source, interface=None):
        """Hear an excluded source again (ip(7); RFC 3678, MCAST_UNBLOCK_SOURCE, Linux 2.6).

        Raises
        ------
        OSError
            EADDRNOTAVAIL when it was not excluded, EINVAL without membership.
        """
        set_membership(conn_of(self), "include_source_specific_group", c.MCAST_UNBLOCK_SOURCE,
                       group, source, interface)

    def join_all(self, group, interfaces=None):
        """Join a group on several interfaces, as `join_group` does (ip(7); Linux 2.6).

        Parameters
        ----------
        group : address
            The group.
        interfaces : iterable of interface, optional
            Where; every interface that is up and does multicast, with an IPv4 address or without,
            when not given. Those of another network namespace, which only CAP_SYS_ADMIN may enter,
            are otherwise found by their addresses and by index, as far as indexes lie close.

        Returns
        -------
        dict of Interface to OSError or None
            How it went on each, once however often it was named; None where it was joined.
            The key of a name that no interface has is ``Interface(0, name)``, that of an unknown
            index ``Interface(index, "")``.
        """
        cdef Endpoint conn = conn_of(self)
        cdef uint32_t address
        as_address(group, &address, "group")
        if interfaces is None:
            interfaces = conn.multicast_indexes()
        interfaces = as_list(interfaces, "interfaces", "interfaces")
        conn.live_fd()
        # What is malformed is refused before anything is joined.
        outcome = {}
        for interface in interfaces:
            if interface is None:
                raise TypeError("interfaces must be indexes, names or pairs, not None")
            try:
                found = conn._interface(conn.interface_index(interface, "interfaces"))
            except OSError as error:
                if error.errno != ENODEV:
                    raise
                number, name = interface if isinstance(interface, tuple) else (0, interface)
                found = Interface(number, str.__str__(name))
                outcome[found] = error
            else:
                outcome.setdefault(found)
        for found, error in outcome.items():
            if error is None:
                try:
                    self.join_group(group, found)
                except OSError as error:
                    outcome[found] = error
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
        mode, sources = get_filter(conn_of(self), group, interface)
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
        sources = as_list(sources, "sources", "addresses")
        set_filter(conn_of(self), group, number, sources, interface)

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
        cdef int index = multicast_index(conn)
        return conn._interface(index) if index else None

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


cdef int multicast_index(Endpoint conn) except -1:
    """Index of the interface that multicast packets leave by, 0 for the route's."""
    cdef ip_mreqn current
    cdef socklen_t size = sizeof(current.imr_multiaddr)
    conn.live_fd()
    if conn.multicast_index:
        return conn.multicast_index
    memset(&current, 0, sizeof(current))
    conn.get_raw(c.IPPROTO_IP, c.IP_MULTICAST_IF, &current, &size, "IP_MULTICAST_IF")
    if not current.imr_multiaddr.s_addr:
        return 0
    return conn.index_with_address(current.imr_multiaddr.s_addr)


cdef list as_list(object values, str name, str what):
    """What a caller hands in as many; a text would fall into its letters."""
    if isinstance(values, (str, bytes, bytearray)):
        raise TypeError(f"{name} must be a list of {what}, not {shown(values)}")
    try:
        return list(values)
    except TypeError:
        raise TypeError(
            f"{name} must be {what} to iterate over, not {type(values).__name__}"
        ) from None


cdef int bound_index(Endpoint conn) except -1:
    """Index of the conn's `bound_interface`, 0 for none and where there is no such option."""
    cdef int index = 0
    cdef socklen_t size = sizeof(index)
    if c.SO_BINDTOIFINDEX < 0 or conn.try_get(
            c.SOL_SOCKET, c.SO_BINDTOIFINDEX, &index, &size, "SO_BINDTOIFINDEX"):
        return 0
    return index


# Where a group is joined that was joined on no named interface. `Endpoint.chosen` has, for each
# such group, a dict from the indexes that were chosen, the last one last, to the set of sources
# that were joined there, empty for any source. Index 0 stands for the kernel's own choice.

cdef int chosen_index(Endpoint conn, uint32_t group, object source, bint joining) except -1:
    """The interface that a call means which names none; in the conn's critical section."""
    cdef dict places = None if joining or conn.chosen is None else conn.chosen.get(group)
    if places:
        for index in reversed(list(places)):
            if source in places[index]:
                return index
        for index in reversed(list(places)):
            return index
    return multicast_index(conn) or bound_index(conn)


cdef int remember_choice(Endpoint conn, uint32_t group, int index, object source) except -1:
    if conn.chosen is None:
        conn.chosen = {}
    cdef dict places = conn.chosen.setdefault(group, {})
    sources = places.pop(index, None)
    places[index] = sources = set() if sources is None else sources
    if source is not ANY_SOURCE:
        sources.add(source)
    return 0


cdef int replace_choice(Endpoint conn, uint32_t group, int index, object sources) except -1:
    """The whole filter was set; where another call named the interface, if it was chosen once."""
    if conn.chosen and index in conn.chosen.get(group, ()):
        conn.chosen[group][index] = sources
    return 0


cdef int forget_choice(Endpoint conn, uint32_t group, int index, object source) except -1:
    """A group or a source of it was left; with its last source a group is left as well."""
    cdef dict places = None if conn.chosen is None else conn.chosen.get(group)
    if not places or index not in places:
        return 0
    if source is not ANY_SOURCE:
        if source not in places[index]:
            return 0
        places[index].remove(source)
        if places[index]:
            return 0
    del places[index]
    if not places:
        del conn.chosen[group]
    return 0


cdef void put_address(sockaddr_storage *storage, uint32_t address) noexcept:
    cdef sockaddr_in *name = <sockaddr_in *>storage
    name.sin_family = c.AF_INET
    name.sin_addr.s_addr = address


cdef int set_membership(Endpoint conn, str verb, int option, object group, object source,
                        object interface) except -1:
    """One membership call, of any source or of one."""
    cdef uint32_t group_address, source_address = 0
    cdef bint joining = option in (c.MCAST_JOIN_GROUP, c.MCAST_JOIN_SOURCE_GROUP)
    cdef bint leaving = option in (c.MCAST_LEAVE_GROUP, c.MCAST_LEAVE_SOURCE_GROUP)
    cdef int index, err
    as_address(group, &group_address, "group")
    cdef object one = ANY_SOURCE
    if source is not ANY_SOURCE:
        as_address(source, &source_address, "source")
        one = source_address
    if interface is not None:
        index = conn.interface_index(interface, "interface")
    # What the kernel holds and what is remembered of it change together.
    with critical_section(conn):
        if interface is None:
            index = chosen_index(conn, group_address, one, joining)
        err = put_membership(conn, verb, option, group_address, one, source_address, index)
        if err and index == 0 and not joining and conn.chosen and group_address in conn.chosen:
            # The route has changed since the kernel chose by it.
            index = only_member(conn, group_address)
            if index:
                err = put_membership(conn, verb, option, group_address, one, source_address, index)
                if not err:
                    index = 0  # as it was remembered
        if err:
            if leaving and err == EADDRNOTAVAIL and one is ANY_SOURCE:
                forget_choice(conn, group_address, index, one)
        elif joining and interface is None:
            remember_choice(conn, group_address, index, one)
        elif leaving:
            forget_choice(conn, group_address, index, one)
    if err:
        raise membership_error(err, verb, group, source, interface, index)
    return 0


cdef int put_membership(Endpoint conn, str verb, int option, uint32_t group, object one,
                        uint32_t source, int index) except -1:
    """The system call: 0, or the kernel's errno. For any source it takes a group_req."""
    cdef group_source_req with_source
    cdef group_req without
    if one is ANY_SOURCE:
        memset(&without, 0, sizeof(without))
        without.gr_interface = index
        put_address(&without.gr_group, group)
        return conn.try_set(c.IPPROTO_IP, option, &without, sizeof(without), verb)
    memset(&with_source, 0, sizeof(with_source))
    with_source.gsr_interface = index
    put_address(&with_source.gsr_group, group)
    put_address(&with_source.gsr_source, source)
    return conn.try_set(c.IPPROTO_IP, option, &with_source, sizeof(with_source), verb)


cdef int only_member(Endpoint conn, uint32_t group) except -1:
    """Index of the one interface on which the conn is a member, 0 if there is none or several."""
    cdef group_filter request
    cdef socklen_t size
    cdef int found = 0
    if c.MCAST_MSFILTER < 0:
        return 0
    for index in conn.interface_indexes():
        size = sizeof(request)
        memset(&request, 0, sizeof(request))
        request.gf_interface = index
        put_address(&request.gf_group, group)
        if conn.try_get(c.IPPROTO_IP, c.MCAST_MSFILTER, &request, &size, "source_filter") == 0:
            if found:
                return 0
            found = index
    return found


cdef object membership_error(int err, str verb, object group, object source, object interface,
                             int index):
    """An OSError that says what was attempted, and for ENOBUFS which limit was met (ip(7))."""
    cdef str what = f"{verb} {safe_str(group)}"
    if source is not ANY_SOURCE:
        what += f" from {safe_str(source)}"
    if interface is not None:
        name = interface[1] or interface[0] if isinstance(interface, tuple) else interface
        what += f" on {safe_str(name)}"
    elif index:
        what += f" on interface {index}"
    elif err == ENODEV:
        what += "; no route to the group: name an interface"
    if err == ENOBUFS:
        name = "igmp_max_memberships" if source is ANY_SOURCE else "igmp_max_msf"
        what += f"; the sysctl net.ipv4.{name} limits it"
        try:
            with open(f"/proc/sys/net/ipv4/{name}", encoding="ascii") as file:
                what += f" to {file.read().strip()}"
        except OSError:
            pass
    return os_error(err, what)


cdef str safe_str(object value):
    """The value's text, from whose own code no other error may come."""
    try:
        return f"{value}"
    except Exception:
        return shown(value)


cdef tuple get_filter(Endpoint conn, object group, object interface):
    cdef uint32_t address
    cdef size_t room = GROUP_FILTER_SIZE(MAX_SOURCES)
    cdef socklen_t size = <socklen_t>room
    cdef int index, err
    cdef group_filter *request
    cdef unsigned int i
    as_address(group, &address, "group")
    if interface is None:
        with critical_section(conn):
            index = chosen_index(conn, address, ANY_SOURCE, False)
    else:
        index = conn.interface_index(interface, "interface")
    request = <group_filter *>PyMem_Calloc(1, room)
    if request == NULL:
        raise MemoryError()
    try:
        request.gf_interface = index
        put_address(&request.gf_group, address)
        request.gf_numsrc = MAX_SOURCES
        err = conn.try_get(c.IPPROTO_IP, c.MCAST_MSFILTER, request, &size, "source_filter")
        if err:
            raise membership_error(err, "source_filter", group, ANY_SOURCE, interface, index)
        sources = []
        for i in range(min(request.gf_numsrc, <unsigned int>MAX_SOURCES)):
            sources.append(address_object(
                (<sockaddr_in *>&request.gf_slist[i]).sin_addr.s_addr))
        return request.gf_fmode, sources
    finally:
        PyMem_Free(request)


cdef int set_filter(Endpoint conn, object group, int mode, list sources,
                    object interface) except -1:
    cdef str verb = "set_source_filter"
    cdef uint32_t address, source
    cdef size_t room
    cdef int index, err
    cdef group_filter *request
    cdef Py_ssize_t i, count = len(sources)
    cdef set heard = set()
    cdef object what = "those sources"
    as_address(group, &address, "group")
    if interface is None:
        with critical_section(conn):
            index = chosen_index(conn, address, ANY_SOURCE, False)
    else:
        index = conn.interface_index(interface, "interface")
    if count > MAX_SOURCES:
        raise ValueError(f"sources must be at most {MAX_SOURCES}, not {count}")
    room = GROUP_FILTER_SIZE(count)
    request = <group_filter *>PyMem_Calloc(1, room)
    if request == NULL:
        raise MemoryError()
    try:
        request.gf_interface = index
        request.gf_fmode = mode
        request.gf_numsrc = <unsigned int>count
        put_address(&request.gf_group, address)
        for i in range(count):
            as_address(sources[i], &source, f"sources[{i}]")
            put_address(&request.gf_slist[i], source)
            heard.add(source)
        with critical_section(conn):
            err = conn.try_set(c.IPPROTO_IP, c.MCAST_MSFILTER, request, <socklen_t>room, verb)
            if err == EINVAL:
                # Linux filters only what is joined; RFC 3678 joins by setting the filter.
                err = put_membership(conn, verb, c.MCAST_JOIN_GROUP, address, ANY_SOURCE, 0, index)
                if err:
                    what = ANY_SOURCE
                else:
                    err = conn.try_set(
                        c.IPPROTO_IP, c.MCAST_MSFILTER, request, <socklen_t>room, verb)
                    if err:
                        put_membership(
                            conn, verb, c.MCAST_LEAVE_GROUP, address, ANY_SOURCE, 0, index)
            if not err and mode == 1 and not heard:
                forget_choice(conn, address, index, ANY_SOURCE)
            elif not err:
                if interface is None:
                    remember_choice(conn, address, index, ANY_SOURCE)
                replace_choice(conn, address, index, heard if mode == 1 else set())
    finally:
        PyMem_Free(request)
    if err:
        raise membership_error(err, verb, group, what, interface, index)
    return 0


cdef inline size_t GROUP_FILTER_SIZE(size_t count) noexcept:
    return sizeof(group_filter) - sizeof(sockaddr_storage) + max(count, <size_t>1) * sizeof(
        sockaddr_storage)
