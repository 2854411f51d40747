"""Socket options as rows of tables: what an option is called, what it takes, what it does.

An option of the class tables below becomes a property of the conns that inherit the table, a
keyword of their openers, a line of `features()` and of ``ipv4 doctor``. Adding one is adding its
number to libc/numbers.h, and a row here.
"""

from __future__ import annotations

import errno
import os
import sys
from socket import IPPROTO_ICMP, SOCK_RAW, SOCK_STREAM

from .engine.connection import queued
from .engine.kernel import KERNEL, LEVEL, SINCE
from .wire.arguments import integer, shown

TYPE_CHECKING = False  # typing's own would cost more to import than this whole module
if TYPE_CHECKING:
    from typing import Any, Literal, Self, SupportsIndex, TypedDict, overload

    from typing_extensions import Buffer

    from .constants import PathMTUDiscovery
    from .engine.sockopt import _Door
    from .filtering import ICMPFilter
    from .interface import Interface, MemoryInfo
    from .types import InterfaceLike
else:
    _Door = object

__all__ = ["DatagramOptions", "FlagOption", "IntOption", "RawOptions", "UnicastOptions", "rows"]

PAGES = {
    "IPPROTO_IP": "ip(7)",
    "SOL_SOCKET": "socket(7)",
    "SOL_UDP": "udp(7)",
    "SOL_RAW": "raw(7)",
}

# Kinds of sockets that some options are for: type and protocol, None for any.
KINDS = {
    "raw": (SOCK_RAW, None),
    "raw ICMP": (SOCK_RAW, IPPROTO_ICMP),
    "TCP": (SOCK_STREAM, None),
}


def as_flag(value: Any, name: str) -> int:
    """1 or 0 for what is on or off: True, False, or a number for its truth."""
    if not isinstance(value, int):
        raise TypeError(f"{name} must be True or False, not {type(value).__name__}")
    return int(bool(value))


class Option(property):
    """One socket option as a property.

    Parameters
    ----------
    kernel_name : str
        As libc/numbers.h, ip(7), socket(7) or udp(7) has it.
    doc : str
        The property's docstring; where to read on, since when and the privilege are added to it.
    use : str
        What it is for, in half a line.
    takes : str
        Capability that setting it takes, with what is to be said of it; "" where it takes none.
    trial : object
        A value to try whether it can be set, None where no kernel of today refuses.
    feature : str
        What `features` calls the trial, when not as the property.
    since : str
        Version of Linux that has what the trial sets, when it is not the option's own.
    kind : str
        Of `KINDS`: which sockets alone have it.
    before : bool
        Whether openers set it before all others, which do not work or do something else after it.
    free_at_first : bool
        Whether the trial takes no privilege, though setting it again does.
    """

    def __init__(
        self,
        kernel_name: str,
        doc: str,
        *,
        use: str = "",
        takes: str = "",
        trial: object = None,
        feature: str = "",
        since: str = "",
        kind: str = "",
        before: bool = False,
        free_at_first: bool = False,
    ) -> None:
        level = LEVEL[kernel_name]
        told = f"{PAGES[level]}, {kernel_name}, Linux {SINCE[kernel_name]}"
        privilege = f"setting it takes {takes}" if takes else "it takes no privilege"
        super().__init__(self.read, self.write)
        doc = doc.replace("\n        ", "\n")  # the rows of the tables are indented
        self.__doc__ = f"{doc.rstrip()}\n\n{told}; {privilege}.\n"
        self.kernel_name = kernel_name
        self.level: int = KERNEL[level]
        self.option: int = KERNEL[kernel_name]
        self.use = use
        self.takes = takes
        self.trial = trial
        self.feature: str = feature
        self.since: str = since or SINCE[kernel_name]
        self.kind = kind
        self.before = before
        self.free_at_first = free_at_first

    def __set_name__(self, owner: type, name: str) -> None:
        self.name: str = name
        self.feature = self.feature or name

    def check(self, value: Any) -> int:
        """The number to hand to the kernel; raises for what the option does not take."""
        raise NotImplementedError

    def show(self, value: int) -> Any:
        """What the kernel's number means."""
        return value

    def read(self, conn: Any) -> Any:
        """The option of a conn, as Python has it."""
        if self.kind and self.option >= 0:
            conn._require_kind(self.name, self.kind)
        return self.show(conn._get_int(self.level, self.option, self.kernel_name))

    def write(self, conn: Any, value: Any) -> None:
        """Set the option of a conn."""
        number = self.check(value)
        conn._set_int(self.level, self.option, number, f"{self.kernel_name} {shown(value)}")


class IntOption(Option):
    """An option that takes an integer of a range."""

    if TYPE_CHECKING:

        @overload
        def __get__(self, conn: None, owner: type, /) -> Self: ...
        @overload
        def __get__(self, conn: object, owner: type | None = None, /) -> int: ...
        def __get__(self, conn: Any, owner: Any = None, /) -> Any: ...
        def __set__(self, conn: object, value: SupportsIndex, /) -> None: ...

    def __init__(self, kernel_name: str, low: int, high: int, doc: str, **facts: Any) -> None:
        super().__init__(kernel_name, doc, **facts)
        self.low = low
        self.high = high

    def check(self, value: Any) -> int:
        number = integer(value, self.low, self.high, self.name)
        # The door takes a C int; the kernel reads the same 32 bits.
        return number - (1 << 32) if number > 0x7FFFFFFF else number

    def show(self, value: int) -> Any:
        return value & 0xFFFFFFFF if self.high > 0x7FFFFFFF else value


class TTLOption(IntOption):
    """A TTL, where -1 restores the system's default and 0 may not be sent."""

    def check(self, value: Any) -> int:
        number = super().check(value)
        if number == 0:
            raise ValueError(f"{self.name} must be in 1..{self.high} or -1, not 0")
        return number


class DiscoveryOption(Option):
    """How the path's MTU is found: a `PathMTUDiscovery`."""

    if TYPE_CHECKING:

        @overload
        def __get__(self, conn: None, owner: type, /) -> Self: ...
        @overload
        def __get__(self, conn: object, owner: type | None = None, /) -> PathMTUDiscovery: ...
        def __get__(self, conn: Any, owner: Any = None, /) -> Any: ...
        def __set__(self, conn: object, value: SupportsIndex, /) -> None: ...

    def check(self, value: Any) -> int:
        return integer(value, 0, 5, self.name)

    def show(self, value: int) -> Any:
        from .constants import PathMTUDiscovery

        try:
            return PathMTUDiscovery(value)
        except ValueError:
            return value


class FlagOption(Option):
    """An option that is on or off."""

    if TYPE_CHECKING:

        @overload
        def __get__(self, conn: None, owner: type, /) -> Self: ...
        @overload
        def __get__(self, conn: object, owner: type | None = None, /) -> bool: ...
        def __get__(self, conn: Any, owner: Any = None, /) -> Any: ...
        def __set__(self, conn: object, value: bool, /) -> None: ...

    def check(self, value: Any) -> int:
        return as_flag(value, self.name)

    def show(self, value: int) -> Any:
        return value != 0


class InterfaceOption(Option):
    """An option that takes an interface; read back as `Interface`, None for none.

    Parameters
    ----------
    swapped : bool
        Whether the kernel wants the index in network order, as IP_UNICAST_IF does (ip(7)).
    unchecked : bool
        Whether the kernel takes an index that no interface has, which makes the socket deaf.
    """

    if TYPE_CHECKING:

        @overload
        def __get__(self, conn: None, owner: type, /) -> Self: ...
        @overload
        def __get__(self, conn: object, owner: type | None = None, /) -> Interface | None: ...
        def __get__(self, conn: Any, owner: Any = None, /) -> Any: ...
        def __set__(self, conn: object, value: InterfaceLike | None, /) -> None: ...

    def __init__(
        self,
        kernel_name: str,
        doc: str,
        *,
        swapped: bool = False,
        unchecked: bool = False,
        **facts: Any,
    ) -> None:
        super().__init__(kernel_name, doc, **facts)
        self.swapped = swapped
        self.unchecked = unchecked

    def swap(self, number: int) -> int:
        """The index as the kernel has it, or back: some options take it in network order."""
        if not self.swapped:
            return number
        return int.from_bytes((number & 0xFFFFFFFF).to_bytes(4, sys.byteorder), "big", signed=True)

    def read(self, conn: Any) -> Any:
        number = self.swap(conn._get_int(self.level, self.option, self.kernel_name))
        return conn._interface(number) if number else None

    def write(self, conn: Any, value: Any) -> None:
        number = conn._interface_index(value, self.name)
        if number and self.unchecked and not conn._interface(number).name:
            raise OSError(errno.ENODEV, f"{os.strerror(errno.ENODEV)}: {self.name} {shown(value)}")
        conn._set_int(
            self.level, self.option, self.swap(number), f"{self.kernel_name} {shown(value)}"
        )


class BufferOption(IntOption):
    """A buffer size: asks for the privileged, unlimited form first, then for the plain one."""

    def __init__(self, kernel_name: str, forced_name: str, doc: str, **facts: Any) -> None:
        super().__init__(kernel_name, 0, 0x3FFFFFFF, doc, **facts)
        self.forced: int = KERNEL[forced_name]
        self.forced_name = forced_name

    def write(self, conn: Any, value: Any) -> None:
        number = self.check(value)
        if self.forced >= 0:
            try:
                conn._set_int(self.level, self.forced, number, self.forced_name)
            except OSError:  # not allowed, or older than the forced form: the plain one decides
                pass
            else:
                return
        conn._set_int(self.level, self.option, number, f"{self.kernel_name} {number}")


class PortRangeOption(Option):
    """Two ports in one number: the lower in its lower half; None for neither."""

    if TYPE_CHECKING:

        @overload
        def __get__(self, conn: None, owner: type, /) -> Self: ...
        @overload
        def __get__(self, conn: object, owner: type | None = None, /) -> tuple[int, int] | None: ...
        def __get__(self, conn: Any, owner: Any = None, /) -> Any: ...
        def __set__(
            self, conn: object, value: tuple[SupportsIndex, SupportsIndex] | None, /
        ) -> None: ...

    def check(self, value: Any) -> int:
        if value is None:
            return 0
        if not isinstance(value, tuple) or len(value) != 2:
            raise TypeError(f"{self.name} must be a (low, high) tuple or None, not {shown(value)}")
        low, high = (integer(port, 0, 65535, self.name) for port in value)
        if high and low > high:
            raise ValueError(f"{self.name} must have its lower port first, not {shown(value)}")
        number = high << 16 | low
        return number - (1 << 32) if number > 0x7FFFFFFF else number

    def show(self, value: int) -> Any:
        return (value & 0xFFFF, value >> 16 & 0xFFFF) if value else None


class RateOption(Option):
    """Bytes a second, None for no limit. Kernels before 5.0 take 32 bits."""

    if TYPE_CHECKING:

        @overload
        def __get__(self, conn: None, owner: type, /) -> Self: ...
        @overload
        def __get__(self, conn: object, owner: type | None = None, /) -> int | None: ...
        def __get__(self, conn: Any, owner: Any = None, /) -> Any: ...
        def __set__(self, conn: object, value: SupportsIndex | None, /) -> None: ...

    NONE: int = 0xFFFFFFFFFFFFFFFF

    def read(self, conn: Any) -> Any:
        raw = conn._get_bytes(self.level, self.option, 8, self.kernel_name)
        rate = int.from_bytes(raw, sys.byteorder)
        return None if rate == (1 << 8 * len(raw)) - 1 else rate

    def write(self, conn: Any, value: Any) -> None:
        rate = self.NONE if value is None else integer(value, 1, (1 << 63) - 1, self.name)
        raw = rate.to_bytes(8, sys.byteorder)
        if len(conn._get_bytes(self.level, self.option, 8, self.kernel_name)) == 4:
            raw = min(rate, 0xFFFFFFFF).to_bytes(4, sys.byteorder)
        conn._set_bytes(self.level, self.option, raw, f"{self.kernel_name} {shown(value)}")


class UnicastOptions(_Door):
    """Options of every conn."""

    __slots__ = ()

    tos: IntOption = IntOption(
        "IP_TOS",
        0,
        255,
        """Type of service of packets sent, 0-255 (RFC 2474, RFC 3168).

        On TCP the kernel keeps the two ECN bits for itself. Setting it changes `priority`. Old
        kernels want CAP_NET_ADMIN for classes above 0xa0. RawConn packets carry their own header's
        value instead.
        """,
        before=True,
    )
    ttl: TTLOption = TTLOption(
        "IP_TTL",
        -1,
        255,
        """Time to live of unicast packets sent, 1-255 hops; -1 restores the system's default,
        the sysctl net.ipv4.ip_default_ttl. RawConn packets carry their own header's value instead.
        """,
    )
    path_mtu_discovery: DiscoveryOption = DiscoveryOption(
        "IP_MTU_DISCOVER",
        """How packets are kept within the path's MTU, a `PathMTUDiscovery` (RFC 1191).

        DO sets "don't fragment" and refuses larger datagrams with EMSGSIZE; PROBE (Linux 2.6.22)
        sets it too but ignores the MTU learned; INTERFACE (3.13) goes by the interface's MTU and
        never sets it; OMIT (3.15) also fragments here.
        """,
        use="path_mtu_discovery, its PROBE mode too",
        trial=3,
        feature="path MTU discovery",
        since="2.6.22",
    )
    bound_interface: InterfaceOption = InterfaceOption(
        "SO_BINDTOIFINDEX",
        """The one interface that the socket sends and receives by, None for all; of a VRF, its
        device. An index or name that no interface has is ENODEV.
        """,
        use="send and receive by one interface",
        takes="CAP_NET_RAW before Linux 5.7, and since then where it was set already",
        free_at_first=True,
        trial=1,
        unchecked=True,
    )
    unicast_interface: InterfaceOption = InterfaceOption(
        "IP_UNICAST_IF",
        """The interface that unicast packets leave by, None for the route's. What is received is
        not restricted. An index that no interface has is EADDRNOTAVAIL, a name ENODEV; beside
        another `bound_interface` it is EINVAL.
        """,
        swapped=True,
        use="send unicast by one interface",
        trial=1,
        before=True,
    )
    mark: IntOption = IntOption(
        "SO_MARK",
        0,
        0xFFFFFFFF,
        """Mark of packets sent, for policy routing and firewalls.
        """,
        use="mark packets for policy routing and firewalls",
        takes="CAP_NET_ADMIN, or CAP_NET_RAW since Linux 5.17",
        trial=1,
    )
    priority: IntOption = IntOption(
        "SO_PRIORITY",
        0,
        0x7FFFFFFF,
        """Queueing priority of packets sent. Setting `tos` changes it.
        """,
        use="the upper queueing priorities",
        takes="CAP_NET_ADMIN beyond 0-6; newer kernels are content with CAP_NET_RAW",
        trial=7,
        feature="priority above 6",
    )
    freebind: FlagOption = FlagOption(
        "IP_FREEBIND",
        """Whether the socket may bind to an address that no interface has, or has not yet.
        """,
        use="bind to addresses that are not there yet",
        trial=True,
    )
    transparent: FlagOption = FlagOption(
        "IP_TRANSPARENT",
        """Whether the socket may bind to, send from and receive for foreign addresses, as a
        transparent proxy does (the kernel's networking/tproxy document).
        """,
        use="bind to foreign addresses, for proxies",
        takes="CAP_NET_ADMIN or CAP_NET_RAW",
        trial=True,
    )
    receive_errors: FlagOption = FlagOption(
        "IP_RECVERR",
        """Whether ICMP errors and local ones are kept in the error queue for `read_error` (RFC 1122
        section 4.1.3.3).

        On an unconnected socket such an error never fails a call for another datagram; on a
        connected one it is raised once. On TCP it makes errors of a connection known at once.
        """,
        use="receive_errors and read_error",
        trial=True,
        feature="error queue",
    )
    local_port_range: PortRangeOption = PortRangeOption(
        "IP_LOCAL_PORT_RANGE",
        """Ports that the kernel may choose from, ``(low, high)``, either 0 for the system's end;
        None for the system's whole range.

        It narrows the sysctl net.ipv4.ip_local_port_range and has no effect outside of it, nor on
        a socket that is bound already: openers set it before they bind.
        """,
        use="which ports the kernel may choose from",
        trial=(0, 0xFFFF),
    )
    bind_address_no_port: FlagOption = FlagOption(
        "IP_BIND_ADDRESS_NO_PORT",
        """Whether binding to port 0 leaves the choice of the port until the socket is connected,
        when more ports can be had, for only the pair of addresses must be free.
        """,
        use="choose the port not before connecting",
        trial=True,
    )
    incoming_cpu: IntOption = IntOption(
        "SO_INCOMING_CPU",
        -1,
        0x7FFFFFFF,
        """The CPU that the socket's packets were last taken in by; -1 for none yet. Set, packets
        that this CPU takes in prefer this member of a SO_REUSEPORT group (Linux 6.2).
        """,
        use="which CPU takes packets in",
        trial=0,
    )
    max_pacing_rate: RateOption = RateOption(
        "SO_MAX_PACING_RATE",
        """Bytes a second that the socket sends at most, None for no limit. The fq queueing
        discipline of the interface (tc-fq(8)) keeps it; without one nothing does, but on TCP.
        """,
        use="limit the rate of sending",
        trial=1 << 20,
    )

    @property
    def path_mtu(self) -> int:
        """Known MTU of the path to the peer, in bytes; read-only (ip(7), IP_MTU, Linux 2.2).

        Raises
        ------
        OSError
            ENOTCONN on a socket that is not connected. It may also be ENOTCONN after an option was
            set that drops the route, such as `tos`, until the next packet was sent.
        """
        return self._get_int(KERNEL["IPPROTO_IP"], KERNEL["IP_MTU"], "IP_MTU")

    @property
    def ip_options(self) -> bytes:
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
    def ip_options(self, value: Buffer) -> None:
        raw = _bytes(value, 40, "ip_options", "a bytes-like object")
        self._set_bytes(KERNEL["IPPROTO_IP"], KERNEL["IP_OPTIONS"], raw, "IP_OPTIONS")

    @property
    def memory_info(self) -> MemoryInfo:
        """What the socket's queues hold, a `MemoryInfo`; read-only (SO_MEMINFO of socket(7)'s
        level, Linux 4.12). Its `drops` tells what was lost also while nothing arrives.
        """
        from .interface import MemoryInfo

        raw = self._get_bytes(KERNEL["SOL_SOCKET"], KERNEL["SO_MEMINFO"], 36, "SO_MEMINFO")
        raw = raw.ljust(36, b"\0")  # older kernels tell fewer
        return MemoryInfo._make(
            int.from_bytes(raw[at : at + 4], sys.byteorder) for at in range(0, 36, 4)
        )

    @property
    def pending(self) -> int:
        """Bytes that can be read: of a datagram socket, those of the next datagram, 0 also where
        that is empty; read-only (udp(7), SIOCINQ, Linux 2.0).
        """
        return queued(self, False)

    @property
    def unsent(self) -> int:
        """Bytes of the send queue that have not left; read-only (udp(7), SIOCOUTQ, Linux 2.0). Of
        datagrams the kernel counts its own overhead as well.
        """
        return queued(self, True)

    def __dir__(self) -> list[str]:
        """Without what cannot be read now, so that nothing that walks over it meets an error."""
        return [name for name in object.__dir__(self) if can_be_read(self, name)]

    def _require_kind(self, name: str, kind: str) -> None:
        """AttributeError for what this kind of socket can never have."""
        type_, protocol = KINDS[kind]
        if type_ in (None, self._type) and protocol in (None, self._protocol):
            return
        raise AttributeError(
            f"{type(self).__name__} of this socket has no {name}: only {kind} sockets have it",
            name=name,
            obj=self,
        )

    def _expect_control(self, level: int, option: int) -> None:
        """For classes that read no control messages: nothing to expect."""

    if TYPE_CHECKING:

        @overload
        def getsockopt(  # type: ignore[overload-overlap]
            self, level: SupportsIndex, option: SupportsIndex, buflen: Literal[0] = 0
        ) -> int: ...
        @overload
        def getsockopt(
            self, level: SupportsIndex, option: SupportsIndex, buflen: SupportsIndex
        ) -> bytes: ...

    def getsockopt(
        self, level: SupportsIndex, option: SupportsIndex, buflen: SupportsIndex = 0
    ) -> int | bytes:
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

    def setsockopt(
        self, level: SupportsIndex, option: SupportsIndex, value: SupportsIndex | Buffer
    ) -> None:
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


class DatagramOptions(UnicastOptions):
    """Options of PacketConn and RawConn."""

    __slots__ = ()

    multicast_ttl: IntOption = IntOption(
        "IP_MULTICAST_TTL",
        -1,
        255,
        """Time to live of multicast packets sent, 0-255 hops, 1 by default; -1 restores that (RFC
        1112). 0 keeps them on this host.
        """,
    )
    multicast_loopback: FlagOption = FlagOption(
        "IP_MULTICAST_LOOP",
        """Whether multicast packets sent are heard by this host's own members; True by default. It
        is the sender's setting that counts.
        """,
    )
    multicast_all: FlagOption = FlagOption(
        "IP_MULTICAST_ALL",
        """Whether a socket bound to the wildcard address hears every group that any socket of
        the host has joined, True by default, or only its own.
        """,
        use="multicast_all = False hears the conn's own groups alone",
        trial=False,
    )
    broadcast: FlagOption = FlagOption(
        "SO_BROADCAST",
        """Whether broadcast destinations may be sent to, which otherwise is EACCES (RFC 919).
        """,
        use="send to broadcast addresses",
        trial=True,
    )
    busy_poll: IntOption = IntOption(
        "SO_BUSY_POLL",
        0,
        0x7FFFFFFF,
        """Microseconds that a blocking receive polls the device's queue. The default is the sysctl
        net.core.busy_read.
        """,
        use="poll the device while waiting",
        takes="CAP_NET_ADMIN for raising it on most kernels, not on the newest",
        trial=50,
    )
    receive_buffer: BufferOption = BufferOption(
        "SO_RCVBUF",
        "SO_RCVBUFFORCE",
        """Bytes that may wait to be read.

        Setting asks for the forced variant (SO_RCVBUFFORCE, Linux 2.6.14), then for the plain one,
        which the sysctl net.core.rmem_max limits; reading gives what the kernel granted, twice what
        was asked to account for its own needs.
        """,
        takes="CAP_NET_ADMIN beyond that limit",
    )
    send_buffer: BufferOption = BufferOption(
        "SO_SNDBUF",
        "SO_SNDBUFFORCE",
        """Bytes that may wait to be sent, like `receive_buffer`; the forced variant is
        SO_SNDBUFFORCE (Linux 2.6.14), the limit net.core.wmem_max.
        """,
        takes="CAP_NET_ADMIN beyond that limit",
    )
    no_defragment: FlagOption = FlagOption(
        "IP_NODEFRAG",
        """Whether fragments that a raw socket with IP_HDRINCL sends pass the packet filters of this
        host as they are, rather than put together before.
        """,
        kind="raw",
        use="send fragments that packet filters leave alone",
        trial=True,
    )


class RawOptions(DatagramOptions):
    """Options of RawConn alone."""

    __slots__ = ()

    @property
    def router_alert(self) -> bool:
        """Whether packets to be forwarded that bear the Router Alert option come here instead
        (RFC 2113; ip(7), IP_ROUTER_ALERT, Linux 2.2). It takes no privilege beyond the CAP_NET_RAW
        that opened the socket; with protocol 255 it is EINVAL. Linux cannot be asked for its state:
        what was set is what is read.
        """
        return self._router_alert

    @router_alert.setter
    def router_alert(self, value: bool) -> None:
        number = as_flag(value, "router_alert")
        self._set_int(KERNEL["IPPROTO_IP"], KERNEL["IP_ROUTER_ALERT"], number, "IP_ROUTER_ALERT")
        self._router_alert = bool(value)


if TYPE_CHECKING:  # the options as keywords of the openers

    class _Options(TypedDict, total=False):
        tos: SupportsIndex
        ttl: SupportsIndex
        multicast_ttl: SupportsIndex
        multicast_loopback: bool
        multicast_all: bool
        multicast_interface: InterfaceLike | None
        path_mtu_discovery: SupportsIndex
        bound_interface: InterfaceLike | None
        unicast_interface: InterfaceLike | None
        mark: SupportsIndex
        priority: SupportsIndex
        freebind: bool
        transparent: bool
        broadcast: bool
        busy_poll: SupportsIndex
        receive_buffer: SupportsIndex
        send_buffer: SupportsIndex
        receive_errors: bool
        local_port_range: tuple[SupportsIndex, SupportsIndex] | None
        bind_address_no_port: bool
        incoming_cpu: SupportsIndex
        max_pacing_rate: SupportsIndex | None
        no_defragment: bool
        ip_options: Buffer
        icmp_filter: ICMPFilter
        min_ttl: SupportsIndex
        release_gil: bool | None
        segmentation: bool

    class _RawOptions(_Options, total=False):
        router_alert: bool


def can_be_read(conn: Any, name: str) -> bool:
    """Whether an attribute is there now: not an option that this kind of socket, this kernel or
    a closed conn has not.
    """
    if name.startswith("__") or not hasattr(getattr(type(conn), name, None), "__set__"):
        return True
    try:
        getattr(conn, name)
    except (AttributeError, OSError, NotImplementedError):
        return False
    return True


def rows(cls: type) -> dict[str, Option]:
    """The rows that a class has as properties, by name."""
    found: dict[str, Option] = {}
    for base in reversed(cls.__mro__):
        found |= {name: row for name, row in vars(base).items() if isinstance(row, Option)}
    return found


def _bytes(value: Any, limit: int, name: str, wanted: str) -> bytes:
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
