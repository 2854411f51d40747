"""Conn, PacketConn and RawConn: what a program holds."""

from __future__ import annotations

import socket

from .engine.connection import Connected, open_in_netns
from .engine.endpoint import Endpoint
from .engine.kernel import KERNEL
from .engine.multicast import Membership
from .engine.packet import PacketTransfer, with_own_methods
from .engine.raw import RawTransfer
from .filtering import Filtering
from .options import DatagramOptions, IntOption, Option, RawOptions, UnicastOptions, as_flag
from .wire.address import bind_address
from .wire.arguments import integer, shown

TYPE_CHECKING = False  # typing's own would cost more to import than this whole module
if TYPE_CHECKING:
    from collections.abc import Iterable
    from os import PathLike
    from typing import Any, Self, SupportsIndex, TypeAlias, TypeVar

    from typing_extensions import Buffer, Unpack

    from .constants import ControlFlags
    from .engine.anysocket import _SocketLike
    from .options import _Options, _RawOptions
    from .types import Address

    _C = TypeVar("_C")
    # Options without a name here: level, name and value.
    _Unnamed: TypeAlias = Iterable[tuple[SupportsIndex, SupportsIndex, SupportsIndex | Buffer]]

__all__ = ["Conn", "PacketConn", "RawConn"]


def as_properties(cls: type[_C]) -> type[_C]:
    """Make properties of what compiled classes have as descriptors of their own kind.

    What looks at an object, such as a console that completes a name, knows that reading a property
    may do something, and leaves it alone; it would read the others, also of a closed conn.
    """
    conn = cls.__new__(cls)  # without a socket, which no setter harms
    compiled: Any = type(Endpoint.closed)
    for name in dir(cls):
        found: Any = getattr(cls, name)
        if name[0] == "_" or type(found) is not compiled:
            continue
        setter: Any = found.__set__
        try:
            setter(conn, None)
        except AttributeError as error:
            if "not writable" in str(error):
                setter = None
        except Exception:
            pass
        setattr(cls, name, property(found.__get__, setter, doc=found.__doc__))
    return cls


@as_properties
class Conn(Endpoint, UnicastOptions):
    """IP-level options of any IPv4 socket, such as a TCP connection.

    Parameters
    ----------
    sock : socket.socket or int
        An open AF_INET socket. It stays usable; `close` closes it. Also a socket of gevent or
        eventlet, patched or not: calls then wait in their hub, and other greenlets go on; an
        asyncio ``TransportSocket``, which its transport closes and not `close`; the number of a
        descriptor, which the conn then owns.

    Raises
    ------
    TypeError
        If `sock` is none of these, by its type.
    ValueError
        If it is of another address family.
    OSError
        EBADF if it is closed.
    """

    __slots__ = ("__weakref__",)

    def __init__(self, sock: _SocketLike | int) -> None:
        super().__init__(sock)

    min_ttl: IntOption = IntOption(
        "IP_MINTTL",
        0,
        255,
        """Smallest TTL of segments to be received on TCP, 1-255, or 0 for any: the Generalized
        TTL Security Mechanism (RFC 5082).
        """,
        use="Conn.min_ttl",
        trial=1,
        feature="minimum TTL on TCP",
    )

    @property
    def original_dst(self) -> tuple[str, int]:
        """``(host, port)`` that a redirected TCP connection was made to, before the packet filter
        sent it here; read-only (SO_ORIGINAL_DST of ip(7)'s level, Linux 2.4, by connection
        tracking). It takes no privilege.

        Raises
        ------
        OSError
            ENOENT for a connection that was not redirected, ENOPROTOOPT where nothing tracks
            connections.
        AttributeError
            On a socket that is no stream.
        """
        self._require_kind("original_dst", "TCP")
        raw = self._get_bytes(
            KERNEL["IPPROTO_IP"], KERNEL["SO_ORIGINAL_DST"], 16, "SO_ORIGINAL_DST"
        )
        return socket.inet_ntoa(raw[4:8]), int.from_bytes(raw[2:4], "big")


@with_own_methods
@as_properties
class PacketConn(PacketTransfer, DatagramOptions, Membership, Filtering, Connected):
    """Datagrams and their control messages, on a UDP, ICMP ("ping") or raw IP socket.

    Parameters
    ----------
    sock : socket.socket or int
        An open AF_INET socket that is no stream, in any form that `Conn` takes. It stays usable;
        `close` closes it. `udp`, `ip` and `ping` open one.

    Raises
    ------
    TypeError
        If `sock` is none of these, by its type.
    ValueError
        If it is of another address family, or a stream socket.
    OSError
        EBADF if it is closed.
    """

    __slots__ = ("__weakref__", "_local_before")

    def __init__(self, sock: _SocketLike | int) -> None:
        super().__init__(sock)

    def _check_kind(self, kind: int) -> None:
        if kind not in (socket.SOCK_DGRAM, socket.SOCK_RAW):
            raise ValueError(f"sock must be a datagram or raw socket, not {kind!r}")

    @classmethod
    def udp(
        cls,
        address: Address | None = ("0.0.0.0", 0),
        peer: Address | None = None,
        *,
        reuse_address: bool = False,
        reuse_port: bool = False,
        netns: str | PathLike[str] | None = None,
        timeout: float | None = None,
        control: ControlFlags | int = 0,
        options: _Unnamed = (),
        **named: Unpack[_Options],
    ) -> Self:
        """Open a UDP socket.

        Parameters
        ----------
        address : address
            To bind to; port 0 for one that the system chooses. Bound to a group, the socket
            hears that group alone.
        peer : address, optional
            To `connect` to.
        reuse_address, reuse_port : bool
            SO_REUSEADDR and SO_REUSEPORT (socket(7)).
        netns : str, optional
            Name (below /run/netns) or path of the network namespace to open it in; needs
            CAP_SYS_ADMIN.
        timeout : float, optional
            Seconds that a call waits at most where no deadline is set; None for ever, 0 not at all.
        control : ControlFlags
            What received packets tell, as by `set_control_message`, from the first one on.
        options : iterable of (level, name, value)
            Options that have no name here, as for `setsockopt`, set before binding.
        **named
            Any option property of the class, set before binding, in an order that lets each have
            its effect, whatever the caller's.

        Raises
        ------
        OSError
            As socket(2), setsockopt(2) and bind(2).
        TypeError
            For what is no option; it names those there are.

        Notes
        -----
        What is given here holds for the first packet that is read: what came before all of it was
        set is thrown away.
        """
        return open_conn(
            cls, "udp", (socket.SOCK_DGRAM, socket.IPPROTO_UDP), address, peer,
            reuse_address, reuse_port, netns, timeout, control, options, named,
        )  # fmt: skip

    @classmethod
    def ip(
        cls,
        protocol: SupportsIndex,
        address: Address | None = "0.0.0.0",
        *,
        netns: str | PathLike[str] | None = None,
        timeout: float | None = None,
        control: ControlFlags | int = 0,
        options: _Unnamed = (),
        **named: Unpack[_Options],
    ) -> Self:
        """Open a raw socket that hears one IP protocol (raw(7)); needs CAP_NET_RAW.

        Parameters
        ----------
        protocol : int
            Number of the protocol, 1-255; ``socket.IPPROTO_ICMP`` is 1.
        address : address
            To bind to.
        netns, timeout, control, options, **named
            As for `udp`.

        Raises
        ------
        PermissionError
            Without CAP_NET_RAW.
        """
        return open_conn(
            cls, "ip", (socket.SOCK_RAW, protocol_number(protocol)), address, None,
            False, False, netns, timeout, control, options, named,
        )  # fmt: skip

    @classmethod
    def ping(
        cls,
        address: Address | None = "0.0.0.0",
        *,
        netns: str | PathLike[str] | None = None,
        timeout: float | None = None,
        control: ControlFlags | int = 0,
        options: _Unnamed = (),
        **named: Unpack[_Options],
    ) -> Self:
        """Open an ICMP echo socket, which needs no privilege (icmp(7)).

        Parameters
        ----------
        address : address
            To bind to; its port, when given, is the identifier of the echo messages.
        netns, timeout, control, options, **named
            As for `udp`.

        Notes
        -----
        The kernel sets identifier and checksum of what is sent, and delivers the replies to that
        identifier, without their IP header. `local_addr` tells the identifier once bound.

        Raises
        ------
        PermissionError
            When the process's group is not within the sysctl net.ipv4.ping_group_range, which by
            default holds nobody.
        """
        return open_conn(
            cls, "ping", (socket.SOCK_DGRAM, socket.IPPROTO_ICMP), address, None,
            False, False, netns, timeout, control, options, named,
        )  # fmt: skip


@with_own_methods
@as_properties
class RawConn(RawTransfer, RawOptions, Membership, Filtering):
    """Whole IPv4 packets, whose header the program writes and reads (raw(7), IP_HDRINCL).

    Parameters
    ----------
    sock : socket.socket or int
        An open AF_INET raw socket, in any form that `Conn` takes; IP_HDRINCL is set on it. It
        stays usable; `close` closes it. `ip` opens one.

    Raises
    ------
    TypeError
        If `sock` is none of these, by its type.
    ValueError
        If it is of another address family, or not raw.
    OSError
        EBADF if it is closed.
    """

    __slots__ = ("__weakref__",)

    def __init__(self, sock: _SocketLike | int) -> None:
        super().__init__(sock)
        try:
            self._set_int(KERNEL["IPPROTO_IP"], KERNEL["IP_HDRINCL"], 1, "IP_HDRINCL")
        except BaseException:
            self.detach()  # a refused socket stays open
            raise

    def _check_kind(self, kind: int) -> None:
        if kind != socket.SOCK_RAW:
            raise ValueError(f"sock must be a raw socket, not {kind!r}")

    @classmethod
    def ip(
        cls,
        protocol: SupportsIndex,
        address: Address | None = "0.0.0.0",
        *,
        netns: str | PathLike[str] | None = None,
        timeout: float | None = None,
        control: ControlFlags | int = 0,
        options: _Unnamed = (),
        **named: Unpack[_RawOptions],
    ) -> Self:
        """Open a raw socket for one IP protocol; needs CAP_NET_RAW. See `PacketConn.ip`.

        With protocol 255 (IPPROTO_RAW) packets of every protocol can be sent and none is heard.
        """
        return open_conn(
            cls, "ip", (socket.SOCK_RAW, protocol_number(protocol)), address, None,
            False, False, netns, timeout, control, options, named,
        )  # fmt: skip


def protocol_number(value: SupportsIndex) -> int:
    """A protocol as a number the kernel takes for a raw socket."""
    if isinstance(value, bool):
        raise TypeError("protocol must be an integer, not bool")
    return integer(value, 1, 255, "protocol")


def open_conn(
    cls: Any,
    opener: str,
    kind: tuple[int, int],
    address: Address | None,
    peer: Address | None,
    reuse_address: bool,
    reuse_port: bool,
    netns: str | PathLike[str] | None,
    timeout: float | None,
    control: int,
    options: _Unnamed,
    named: Any,
) -> Any:
    """Open a socket, set what is to be set, bind and connect it, and wrap it."""
    for name in named:
        if not is_option(cls, name):
            raise TypeError(no_option(cls, opener, name))
    options = unnamed_options(options)
    where = ("0.0.0.0", 0) if address is None else bind_address(address, "address")
    if peer is not None:
        bind_address(peer, "peer")
    sock = open_socket(cls, opener, kind, netns)
    try:
        conn = cls(sock)
        conn._owned = True
        conn.timeout = timeout
        # A raw socket hears from the moment it is open, another between bind and connect.
        early = kind[0] == socket.SOCK_RAW or peer is not None
        refusing = early and conn._refuse_all()
        min_ttl = named.pop("min_ttl", 0)
        filters = [each for each in options if early and is_filter(each)]
        if as_flag(reuse_address, "reuse_address"):
            conn._set_int(KERNEL["SOL_SOCKET"], KERNEL["SO_REUSEADDR"], 1, "SO_REUSEADDR")
        if as_flag(reuse_port, "reuse_port"):
            conn._set_int(KERNEL["SOL_SOCKET"], KERNEL["SO_REUSEPORT"], 1, "SO_REUSEPORT")
        # First what has no name: of two that mean the same, the named one holds.
        for at, option in enumerate(options):
            if option not in filters:
                try:
                    conn.setsockopt(*option)
                except (TypeError, ValueError) as error:
                    raise type(error)(f"options[{at}]: {error}") from None
        for name in sorted(named, key=lambda name: (not comes_first(cls, name), name)):
            setattr(conn, name, named[name])
        if control:
            conn.set_control_message(control, True)
        if min_ttl and not early:
            conn.min_ttl = min_ttl
        try:
            sock.bind(where)
        except OSError as error:
            reason = f"{error.strerror}: bind to {where[0]}:{where[1]}"
            raise OSError(error.errno, reason) from None
        if peer is not None:
            conn.connect(peer)
        if early:
            conn._hear(refusing, min_ttl, filters)
    except BaseException:
        sock.close()
        raise
    return conn


def is_option(cls: type, name: str) -> bool:
    """Whether an attribute of a class is one that can be set."""
    found = getattr(cls, name, None)
    return isinstance(found, property) and found.fset is not None


def no_option(cls: type, opener: str, name: str) -> str:
    """What is to be said of a keyword that is no option."""
    known = [each for each in dir(cls) if is_option(cls, each)]
    hint = ""
    if name in ("interface", "iface", "ifname", "device", "dev"):
        hint = "; did you mean bound_interface, or join_group(group, interface)?"
    elif isinstance(getattr(cls, name, None), property):
        hint = ", which can only be read"
    else:
        from difflib import get_close_matches

        if near := get_close_matches(name, known, 1):
            hint = f"; did you mean {near[0]}?"
    return f"{cls.__name__}.{opener} has no option {name!r}{hint}: options are {', '.join(known)}"


def comes_first(cls: type, name: str) -> bool:
    """Whether an option must be set before others, for it changes them or is refused after them."""
    found = getattr(cls, name)
    return name == "multicast_interface" or (isinstance(found, Option) and found.before)


def unnamed_options(options: _Unnamed) -> list[Any]:
    """The (level, name, value) of `options=`, each looked at."""
    try:
        options = list(options)
    except TypeError:
        raise TypeError(
            f"options must be (level, name, value) tuples, not {type(options).__name__}"
        ) from None
    for at, each in enumerate(options):
        if not isinstance(each, (tuple, list)) or len(each) != 3:
            raise TypeError(f"options[{at}] must be (level, name, value), not {shown(each)}")
    return options


def is_filter(option: tuple[Any, Any, Any]) -> bool:
    """Whether an unnamed option attaches or locks a filter."""
    level, name, _ = option
    so_attach_bpf = 50  # of an eBPF program
    return level == KERNEL["SOL_SOCKET"] and name in (
        KERNEL["SO_ATTACH_FILTER"],
        KERNEL["SO_LOCK_FILTER"],
        so_attach_bpf,
    )


def open_socket(
    cls: type, opener: str, kind: tuple[int, int], netns: str | PathLike[str] | None
) -> socket.socket:
    """A socket of this network namespace or another one."""
    try:
        if netns is None:
            return socket.socket(socket.AF_INET, *kind)
        path = f"/run/netns/{netns}" if "/" not in str(netns) else str(netns)
        with open(path, "rb") as namespace:
            fd = open_in_netns(namespace.fileno(), kind[0] | socket.SOCK_CLOEXEC, kind[1])
    except PermissionError as error:
        if error.filename is not None:
            raise
        raise PermissionError(error.errno, refusal(error, cls, opener, kind)) from None
    return socket.socket(socket.AF_INET, *kind, fileno=fd)


def refusal(error: OSError, cls: type, opener: str, kind: tuple[int, int]) -> str:
    """Why a socket was not to be had, and what to do next."""
    if kind[0] != socket.SOCK_RAW and "setns" not in str(error.strerror):
        return (
            f"{error.strerror}; ping sockets are for groups within the sysctl"
            " net.ipv4.ping_group_range: sysctl -w net.ipv4.ping_group_range='0 2147483647'"
        )
    takes = "CAP_SYS_ADMIN for netns=" if "setns" in str(error.strerror) else "CAP_NET_RAW"
    return (
        f"{error.strerror}: {cls.__name__}.{opener} needs {takes}; `ipv4 doctor` tells what this"
        " process may, and how to get it"
    )
