"""Socket options as rows of tables: what an option is called, what it takes, what it does.

An option of the class tables below becomes a property of the conns that inherit the table. Adding
one is adding a row.
"""

import sys

from .engine.kernel import KERNEL
from .wire.boundary import integer, shown

__all__ = ["DatagramOptions", "FlagOption", "IntOption", "RawOptions", "UnicastOptions"]


class Option:
    """One socket option as a property.

    Parameters
    ----------
    kernel_name : str
        As in ip(7), socket(7) or udp(7).
    level : str
        Name of the option's level.
    doc : str
        The property's docstring.
    """

    def __init__(self, kernel_name, level, doc):
        self.kernel_name = kernel_name
        self.level = KERNEL[level]
        self.option = KERNEL[kernel_name]
        self.__doc__ = doc

    def __set_name__(self, owner, name):
        self.name = name

    def check(self, value):
        """The number to hand to the kernel; raises for what the option does not take."""
        raise NotImplementedError

    def show(self, value):
        """What the kernel's number means."""
        return value

    def __get__(self, conn, owner=None):
        if conn is None:
            return self
        return self.show(conn._get_int(self.level, self.option, self.kernel_name))

    def __set__(self, conn, value):
        number = self.check(value)
        conn._set_int(self.level, self.option, number, f"{self.kernel_name} {number}")


class IntOption(Option):
    """An option that takes an integer of a range, or a member of the enumeration named."""

    def __init__(
        self,
        kernel_name,
        low,
        high,
        doc,
        level="IPPROTO_IP",
        enum=None,
    ):
        super().__init__(kernel_name, level, doc)
        self.low = low
        self.high = high
        self.enum = enum

    def check(self, value):
        return integer(value, self.low, self.high, self.name)

    def show(self, value):
        if self.enum is None:
            return value & 0xFFFFFFFF if self.high > 0x7FFFFFFF else value
        from . import constants

        try:
            return getattr(constants, self.enum)(value)
        except ValueError:
            return value

    def __set__(self, conn, value):
        number = self.check(value)
        if number > 0x7FFFFFFF:  # the door takes a C int; the kernel reads the same 32 bits
            number -= 1 << 32
        conn._set_int(self.level, self.option, number, f"{self.kernel_name} {shown(value)}")


class TTLOption(IntOption):
    """A TTL, where -1 restores the system's default and 0 may not be sent."""

    def check(self, value):
        number = super().check(value)
        if number == 0:
            raise ValueError(f"{self.name} must be in 1..{self.high} or -1, not 0")
        return number


class FlagOption(Option):
    """An option that is on or off."""

    def __init__(self, kernel_name, doc, level="IPPROTO_IP"):
        super().__init__(kernel_name, level, doc)

    def check(self, value):
        if not isinstance(value, (bool, int)):
            raise TypeError(f"{self.name} must be True or False, not {type(value).__name__}")
        return int(bool(value))

    def show(self, value):
        return value != 0


class InterfaceOption(Option):
    """An option that takes an interface; read back as `Interface`, None for none.

    IP_UNICAST_IF wants the index in network order (ip(7)).
    """

    def __init__(self, kernel_name, level, doc, swapped=False):
        super().__init__(kernel_name, level, doc)
        self.swapped = swapped

    def swap(self, number):
        """The index as the kernel has it, or back: some options take it in network order."""
        if not self.swapped:
            return number
        return int.from_bytes((number & 0xFFFFFFFF).to_bytes(4, sys.byteorder), "big", signed=True)

    def __get__(self, conn, owner=None):
        if conn is None:
            return self
        number = self.swap(conn._get_int(self.level, self.option, self.kernel_name))
        return conn._interface(number) if number else None

    def __set__(self, conn, value):
        number = conn._interface_index(value, self.name)
        conn._set_int(
            self.level, self.option, self.swap(number), f"{self.kernel_name} {shown(value)}"
        )


class BufferOption(IntOption):
    """A buffer size: asks for the privileged, unlimited form first, then for the plain one."""

    def __init__(self, kernel_name, forced_name, doc):
        super().__init__(kernel_name, 0, 0x3FFFFFFF, doc, level="SOL_SOCKET")
        self.forced = KERNEL[forced_name]
        self.forced_name = forced_name

    def __set__(self, conn, value):
        number = self.check(value)
        if self.forced >= 0:
            try:
                conn._set_int(self.level, self.forced, number, self.forced_name)
            except OSError:  # not allowed, or older than the forced form: the plain one decides
                pass
            else:
                return
        conn._set_int(self.level, self.option, number, f"{self.kernel_name} {number}")


class UnicastOptions:
    """Options of every conn."""

    __slots__ = ()

    tos = IntOption(
        "IP_TOS",
        0,
        255,
        """Type of service of packets sent, 0-255 (ip(7), IP_TOS, Linux 1.0; RFC 2474, RFC 3168).

        On TCP the kernel keeps the two ECN bits for itself. Old kernels want CAP_NET_ADMIN for
        classes above 0xa0. RawConn packets carry their own header's value instead.
        """,
    )
    ttl = TTLOption(
        "IP_TTL",
        -1,
        255,
        """Time to live of unicast packets sent, 1-255 hops; -1 restores the system's default,
        the sysctl net.ipv4.ip_default_ttl (ip(7), IP_TTL, Linux 1.0). RawConn packets carry their
        own header's value instead.
        """,
    )


class DatagramOptions(UnicastOptions):
    """Options of PacketConn and RawConn."""

    __slots__ = ()

    multicast_ttl = IntOption(
        "IP_MULTICAST_TTL",
        -1,
        255,
        """Time to live of multicast packets sent, 0-255 hops, 1 by default; -1 restores that
        (ip(7), IP_MULTICAST_TTL, Linux 1.2; RFC 1112). 0 keeps them on this host.
        """,
    )
    multicast_loopback = FlagOption(
        "IP_MULTICAST_LOOP",
        """Whether multicast packets sent are heard by this host's own members; True by default
        (ip(7), IP_MULTICAST_LOOP, Linux 1.2). It is the sender's setting that counts.
        """,
    )
    multicast_all = FlagOption(
        "IP_MULTICAST_ALL",
        """Whether a socket bound to the wildcard address hears every group that any socket of
        the host has joined, True by default, or only its own (ip(7), IP_MULTICAST_ALL, Linux
        2.6.31).
        """,
    )
    path_mtu_discovery = IntOption(
        "IP_MTU_DISCOVER",
        0,
        5,
        """How packets are kept within the path's MTU, a `PathMTUDiscovery` (ip(7),
        IP_MTU_DISCOVER, Linux 2.2; RFC 1191). DO sets "don't fragment" and refuses larger datagrams
        with EMSGSIZE; PROBE (Linux 2.6.22) sets it too but ignores the MTU learned; INTERFACE
        (3.13) goes by the interface's MTU and never sets it; OMIT (3.15) also fragments here.
        """,
        enum="PathMTUDiscovery",
    )
    bound_interface = InterfaceOption(
        "SO_BINDTOIFINDEX",
        "SOL_SOCKET",
        """The one interface that the socket sends and receives by, None for all (socket(7),
        SO_BINDTODEVICE; SO_BINDTOIFINDEX, Linux 5.1). Setting it needs CAP_NET_RAW, since Linux
        5.7 only where it was set already.
        """,
    )
    unicast_interface = InterfaceOption(
        "IP_UNICAST_IF",
        "IPPROTO_IP",
        """The interface that unicast packets leave by, None for the route's (ip(7),
        IP_UNICAST_IF, Linux 3.4). What is received is not restricted. An index that no interface
        has is EADDRNOTAVAIL.
        """,
        swapped=True,
    )
    mark = IntOption(
        "SO_MARK",
        0,
        0xFFFFFFFF,
        """Mark of packets sent, for policy routing and firewalls (socket(7), SO_MARK, Linux
        2.6.25). Setting it needs CAP_NET_ADMIN, or CAP_NET_RAW since Linux 5.17.
        """,
        level="SOL_SOCKET",
    )
    priority = IntOption(
        "SO_PRIORITY",
        0,
        0x7FFFFFFF,
        """Queueing priority of packets sent (socket(7), SO_PRIORITY, Linux 2.2). Beyond 0-6 it
        needs CAP_NET_ADMIN; newer kernels are content with CAP_NET_RAW. Setting `tos` changes it.
        """,
        level="SOL_SOCKET",
    )
    freebind = FlagOption(
        "IP_FREEBIND",
        """Whether the socket may bind to an address that no interface has, or has not
        yet (ip(7), IP_FREEBIND, Linux 2.4). It needs no privilege.
        """,
    )
    transparent = FlagOption(
        "IP_TRANSPARENT",
        """Whether the socket may bind to, send from and receive for foreign addresses, as a
        transparent proxy does (ip(7), IP_TRANSPARENT, Linux 2.6.24; the kernel's
        networking/tproxy document). Turning it on needs CAP_NET_ADMIN or CAP_NET_RAW.
        """,
    )
    broadcast = FlagOption(
        "SO_BROADCAST",
        """Whether broadcast destinations may be sent to, which otherwise is EACCES (socket(7),
        SO_BROADCAST, Linux 1.0; RFC 919).
        """,
        level="SOL_SOCKET",
    )
    busy_poll = IntOption(
        "SO_BUSY_POLL",
        0,
        0x7FFFFFFF,
        """Microseconds that a blocking receive polls the device's queue (socket(7),
        SO_BUSY_POLL, Linux 3.11). Most kernels want CAP_NET_ADMIN for raising it, not the
        newest. The default is the sysctl net.core.busy_read.
        """,
        level="SOL_SOCKET",
    )
    receive_buffer = BufferOption(
        "SO_RCVBUF",
        "SO_RCVBUFFORCE",
        """Bytes that may wait to be read (socket(7), SO_RCVBUF). Setting asks for the forced
        variant (SO_RCVBUFFORCE, Linux 2.6.14), which only CAP_NET_ADMIN may, then for the plain
        one, which the sysctl net.core.rmem_max limits; reading gives what the kernel granted,
        twice what was asked to account for its own needs.
        """,
    )
    send_buffer = BufferOption(
        "SO_SNDBUF",
        "SO_SNDBUFFORCE",
        """Bytes that may wait to be sent, like `receive_buffer` (socket(7), SO_SNDBUF; and
        SO_SNDBUFFORCE, Linux 2.6.14, with CAP_NET_ADMIN), else limited by net.core.wmem_max.
        """,
    )
    receive_errors = FlagOption(
        "IP_RECVERR",
        """Whether ICMP errors and local ones are kept in the error queue for `read_error`
        (ip(7), IP_RECVERR, Linux 2.2; RFC 1122 section 4.1.3.3). On an unconnected
        socket such an error never fails a call for another datagram; on a connected one it is
        raised once.
        """,
    )

    @property
    def path_mtu(self):
        """Known MTU of the path to the peer, in bytes; read-only (ip(7), IP_MTU, Linux 2.2).

        Raises
        ------
        OSError
            ENOTCONN on a socket that is not connected.
        """
        return self._get_int(KERNEL["IPPROTO_IP"], KERNEL["IP_MTU"], "IP_MTU")

    @property
    def ip_options(self):
        """IP options of every packet sent, at most 40 bytes; ``b""`` for none (ip(7),
        IP_OPTIONS, Linux 2.0; RFC 791). The kernel pads them to a multiple of 4. Kinds that it
        does not know, and with newer kernels source routes, need CAP_NET_RAW.

        Raises
        ------
        ValueError
            For more than 40 bytes.
        OSError
            EINVAL for options that the kernel finds malformed, or does not know and the process
            has not CAP_NET_RAW; EPERM for source routes without it.
        """
        return self._get_bytes(KERNEL["IPPROTO_IP"], KERNEL["IP_OPTIONS"], 40, "IP_OPTIONS")

    @ip_options.setter
    def ip_options(self, value):
        raw = _bytes(value, 40, "ip_options", "a bytes-like object")
        self._set_bytes(KERNEL["IPPROTO_IP"], KERNEL["IP_OPTIONS"], raw, "IP_OPTIONS")

    def getsockopt(self, level, option, buflen=0):
        """An option that has no name here, as ``socket.getsockopt``.

        Parameters
        ----------
        level, option : int
            Their numbers.
        buflen : int
            0 for an integer, else how many bytes to ask for, up to 65535.
        """
        level = integer(level, 0, 0x7FFFFFFF, "level")
        option = integer(option, 0, 0x7FFFFFFF, "option")
        buflen = integer(buflen, 0, 65535, "buflen")
        what = f"level {level} option {option}"
        if buflen:
            return self._get_bytes(level, option, buflen, what)
        return self._get_int(level, option, what)

    def setsockopt(self, level, option, value):
        """Set an option that has no name here, as ``socket.setsockopt``.

        Parameters
        ----------
        level, option : int
            Their numbers.
        value : int or bytes-like
            A C int, or the bytes of what the option takes.
        """
        level = integer(level, 0, 0x7FFFFFFF, "level")
        option = integer(option, 0, 0x7FFFFFFF, "option")
        what = f"setsockopt level {level} option {option}"
        if hasattr(value, "__index__"):
            try:
                value = integer(value, -(1 << 31), (1 << 32) - 1, "value")
            except ValueError:
                raise ValueError(f"value must fit 32 bits, not {shown(value)}") from None
            self._set_int(level, option, value - (1 << 32) if value > 0x7FFFFFFF else value, what)
        else:
            raw = _bytes(value, 0x7FFFFFFF, "value", "an integer or bytes-like")
            self._set_bytes(level, option, raw, what)
        self._expect_control(level, option)


class RawOptions(DatagramOptions):
    """Options of RawConn alone."""

    __slots__ = ()

    @property
    def router_alert(self):
        """Whether packets to be forwarded that bear the Router Alert option come here instead
        (RFC 2113; ip(7), IP_ROUTER_ALERT, Linux 2.2). It takes no privilege beyond the CAP_NET_RAW
        that opened the socket; with protocol 255 it is EINVAL. Linux cannot be asked for its state:
        what was set is what is read.
        """
        return self._router_alert

    @router_alert.setter
    def router_alert(self, value):
        if not isinstance(value, (bool, int)):
            raise TypeError(f"router_alert must be True or False, not {type(value).__name__}")
        self._set_int(
            KERNEL["IPPROTO_IP"], KERNEL["IP_ROUTER_ALERT"], int(bool(value)), "IP_ROUTER_ALERT"
        )
        self._router_alert = bool(value)


def _bytes(value, limit, name, wanted):
    """A copy of a buffer, whose length is looked at before."""
    try:
        view = memoryview(value)
    except TypeError:
        raise TypeError(f"{name} must be {wanted}, not {type(value).__name__}") from None
    except ValueError:  # a memoryview released, a mapping closed
        raise ValueError(f"{name} must be open memory, not {shown(value)}") from None
    with view:
        if view.nbytes > limit:
            raise ValueError(f"{name} must be at most {limit} bytes long, not {view.nbytes}")
        return bytes(view)
