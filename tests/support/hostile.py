"""What the tests of hostile arguments share.

No argument takes the interpreter down: each is taken, or refused by one exception naming it. The
other files show what each call refuses in a program's daily life. In tests/hostile are the
arguments that somebody would have to mean: objects that raise, change their mind or pull the conn,
the buffer or the list away in the middle of the call; numbers at and beyond every border; objects
half made; calls from inside signal handlers, weak reference callbacks, trace and audit hooks.
"""

import mmap
import socket

import pytest

GIB2 = (1 << 31) + 4096  # beyond a C int; never touched, so it takes no memory


def mapped(size=4096):
    return mmap.mmap(-1, size)


class Own(Exception):
    """What an argument's own code raises: it comes out as it is."""


def needs_raw(world):
    if world.raw is None:
        pytest.skip("needs a raw socket")


def nothing_came(conn):
    with pytest.raises(BlockingIOError):
        conn.read_from(bytearray(1), socket.MSG_DONTWAIT)


def setting(of, name):
    return lambda w, v: setattr(getattr(w, of), name, v)


GROUP = "224.0.0.251"

INT32, UINT32, INT64 = (-(1 << 31), (1 << 31) - 1), (0, (1 << 32) - 1), (-(1 << 63), (1 << 63) - 1)

COUNT, OCTET = (0, (1 << 31) - 1), (0, 255)

OPTIONS = {
    "tos": OCTET, "ttl": (-1, 255), "multicast_ttl": (-1, 255), "path_mtu_discovery": (0, 5),
    "mark": UINT32, "priority": COUNT, "busy_poll": COUNT, "receive_buffer": (0, 0x3FFFFFFF),
    "send_buffer": (0, 0x3FFFFFFF), "min_ttl": OCTET,
}  # fmt: skip

FLAGS = (
    "multicast_loopback", "multicast_all", "freebind", "transparent", "broadcast", "receive_errors",
)  # fmt: skip

INTERFACES = ("bound_interface", "unicast_interface", "multicast_interface")


def state(world):
    """Everything that a refused call must leave as it was."""
    return (
        [getattr(world.conn, name) for name in (*OPTIONS, *FLAGS, *INTERFACES)],
        world.conn.control_flags,
        [repr(each) for each in (world.header, world.cm, world.message, world.slot)],
        world.batch.lengths.tolist(),
    )


class Raising:
    """Nothing can be done with it."""

    def fail(self, *args):
        raise Own

    __index__ = __int__ = __float__ = __len__ = __bytes__ = __iter__ = __next__ = fail
    __eq__ = __hash__ = __repr__ = __str__ = __bool__ = __getitem__ = __buffer__ = fail


class Fickle:
    """Another number each time it is asked."""

    def __init__(self, *numbers):
        self.numbers = list(numbers)

    def __index__(self):
        return self.numbers.pop(0)


DEADLINES = ("set_deadline", "set_read_deadline", "set_write_deadline")


def inet(kind, protocol=0, made=socket.socket):
    return made(socket.AF_INET, kind, protocol)
