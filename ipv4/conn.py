"""Conn, PacketConn and RawConn: what a program holds."""

import socket

from .engine.endpoint import Endpoint, enter_netns
from .engine.kernel import KERNEL
from .engine.multicast import Membership
from .engine.packet import PacketTransfer, RawTransfer
from .filtering import Filtering
from .options import DatagramOptions, IntOption, RawOptions, UnicastOptions
from .wire.boundary import bind_address, integer

__all__ = ["Conn", "PacketConn", "RawConn"]


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

    min_ttl = IntOption(
        "IP_MINTTL",
        0,
        255,
        """Smallest TTL of segments to be received on TCP, 1-255, or 0 for any: the Generalized
        TTL Security Mechanism (RFC 5082; ip(7), IP_MINTTL, Linux 2.6.34). It takes no privilege.
        """,
    )


class PacketConn(PacketTransfer, DatagramOptions, Membership, Filtering):
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

    __slots__ = ("__weakref__",)

    def _check_kind(self, kind):
        if kind not in (socket.SOCK_DGRAM, socket.SOCK_RAW):
            raise ValueError(f"sock must be a datagram or raw socket, not {kind!r}")

    @classmethod
    def udp(
        cls,
        address=("0.0.0.0", 0),
        *,
        reuse_address=False,
        reuse_port=False,
        netns=None,
        **options,
    ):
        """Open a UDP socket.

        Parameters
        ----------
        address : address
            To bind to; port 0 for one that the system chooses. Bound to a group, the socket
            hears that group alone.
        reuse_address, reuse_port : bool
            SO_REUSEADDR and SO_REUSEPORT (socket(7)).
        netns : str, optional
            Name (below /run/netns) or path of the network namespace to open it in; needs
            CAP_SYS_ADMIN.
        **options
            Any option property of the class, set before binding.

        Raises
        ------
        OSError
            As socket(2), setsockopt(2) and bind(2).
        TypeError
            For an unknown option.
        """
        return open_conn(
            cls,
            (socket.SOCK_DGRAM, socket.IPPROTO_UDP),
            address,
            netns,
            options,
            reuse_address,
            reuse_port,
        )

    @classmethod
    def ip(cls, protocol, address="0.0.0.0", *, netns=None, **options):
        """Open a raw socket that hears one IP protocol (raw(7)); needs CAP_NET_RAW.

        Parameters
        ----------
        protocol : int
            Number of the protocol, 1-255; ``socket.IPPROTO_ICMP`` is 1.
        address : address
            To bind to.
        netns, **options
            As for `udp`.

        Raises
        ------
        PermissionError
            Without CAP_NET_RAW.
        """
        return open_conn(cls, (socket.SOCK_RAW, protocol_number(protocol)), address, netns, options)

    @classmethod
    def ping(cls, address="0.0.0.0", *, netns=None, **options):
        """Open an ICMP echo socket, which needs no privilege (icmp(7)).

        Parameters
        ----------
        address : address
            To bind to; its port, when given, is the identifier of the echo messages.
        netns, **options
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
        try:
            return open_conn(cls, (socket.SOCK_DGRAM, socket.IPPROTO_ICMP), address, netns, options)
        except PermissionError as error:
            raise PermissionError(
                error.errno,
                f"{error.strerror}; ping sockets are for groups within the sysctl"
                " net.ipv4.ping_group_range: sysctl -w net.ipv4.ping_group_range='0 2147483647'",
            ) from None


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

    def __init__(self, sock):
        super().__init__(sock)
        try:
            self._set_int(KERNEL["IPPROTO_IP"], KERNEL["IP_HDRINCL"], 1, "IP_HDRINCL")
        except BaseException:
            self.detach()  # a refused socket stays open
            raise

    def _check_kind(self, kind):
        if kind != socket.SOCK_RAW:
            raise ValueError(f"sock must be a raw socket, not {kind!r}")

    @classmethod
    def ip(cls, protocol, address="0.0.0.0", *, netns=None, **options):
        """Open a raw socket for one IP protocol; needs CAP_NET_RAW. See `PacketConn.ip`.

        With protocol 255 (IPPROTO_RAW) packets of every protocol can be sent and none is heard.
        """
        return open_conn(cls, (socket.SOCK_RAW, protocol_number(protocol)), address, netns, options)


def protocol_number(value):
    """A protocol as a number the kernel takes for a raw socket."""
    if isinstance(value, bool):
        raise TypeError("protocol must be an integer, not bool")
    return integer(value, 1, 255, "protocol")


def open_conn(cls, kind, address, netns, options, reuse_address=False, reuse_port=False):
    """Open a socket, set what must be set before binding, bind it, and wrap it."""
    for name in options:
        if not hasattr(getattr(cls, name, None), "__set__"):
            raise TypeError(f"{cls.__name__} has no option {name!r}")
    where = ("0.0.0.0", 0) if address is None else bind_address(address, "address")
    sock = socket.socket(socket.AF_INET, *kind) if netns is None else open_in_netns(netns, kind)
    try:
        conn = cls(sock)
        conn._owned = True
        if reuse_address:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if reuse_port:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        for name, value in options.items():
            setattr(conn, name, value)
        try:
            sock.bind(where)
        except OSError as error:
            reason = f"{error.strerror}: bind to {where[0]}:{where[1]}"
            raise OSError(error.errno, reason) from None
    except BaseException:
        sock.close()
        raise
    return conn


def open_in_netns(netns, kind):
    """A socket of another network namespace, opened by a thread that enters it and ends."""
    from threading import Thread

    path = f"/run/netns/{netns}" if "/" not in str(netns) else str(netns)
    opened = []

    def enter_and_open():
        try:
            with open(path, "rb") as namespace:
                enter_netns(namespace.fileno())
            opened.append(socket.socket(socket.AF_INET, *kind))
        except BaseException as error:
            opened.append(error)

    thread = Thread(target=enter_and_open, name="ipv4-netns")
    thread.start()
    thread.join()
    if isinstance(opened[0], BaseException):
        raise opened[0]
    return opened[0]
