"""Addresses and flags of an interface, by the ioctls of netdevice(7)."""

import errno
import fcntl
import socket
import struct
from ipaddress import IPv4Address

__all__ = ["bring_up", "interface_address", "interface_netmask"]

# struct ifreq is a name and a union of 24 bytes; an address in it is a sockaddr_in, and the flags
# are a short at the same place.
ADDRESS = struct.Struct("16s4x4s16x")
FLAGS = struct.Struct("16sh22x")

SIOCGIFFLAGS = 0x8913
SIOCSIFFLAGS = 0x8914
SIOCGIFADDR = 0x8915
SIOCGIFNETMASK = 0x891B
IFF_UP = 1


def interface_address(name: str) -> IPv4Address:
    """The interface's first address.

    Raises
    ------
    OSError
        EADDRNOTAVAIL if it has none.
    """
    return _address(name, SIOCGIFADDR)


def interface_netmask(name: str) -> IPv4Address:
    """The mask of the interface's first address; errors as for `interface_address`."""
    return _address(name, SIOCGIFNETMASK)


def bring_up(name: str) -> None:
    """Set the interface up, as ``ip link set NAME up`` does; takes CAP_NET_ADMIN."""
    with _any_socket() as sock:
        request = FLAGS.pack(name.encode(), 0)
        _, flags = FLAGS.unpack(fcntl.ioctl(sock, SIOCGIFFLAGS, request))
        fcntl.ioctl(sock, SIOCSIFFLAGS, FLAGS.pack(name.encode(), flags | IFF_UP))


def _address(name: str, question: int) -> IPv4Address:
    with _any_socket() as sock:
        try:
            answer = fcntl.ioctl(sock, question, ADDRESS.pack(name.encode(), b""))
        except OSError as error:
            if error.errno == errno.EADDRNOTAVAIL:
                raise OSError(error.errno, f"{name} has no IPv4 address") from None
            raise
    return IPv4Address(ADDRESS.unpack(answer)[1])


def _any_socket() -> socket.socket:
    """A socket to ask through: these ioctls take any IPv4 socket."""
    return socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
