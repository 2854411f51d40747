"""Addresses and interfaces that are none, or lie."""

import errno
from ipaddress import IPv4Address

import pytest
from support.hostile import GROUP, INTERFACES, Own, Raising, nothing_came, setting, state

from ipv4 import Message, PacketConn, RawConn

NO_ADDRESS = [
    "", " ", "localhost", "example.org", "::1", "::ffff:1.2.3.4", "fe80::1%lo", "1.2.3.4%lo",
    "1.2.3", "1.2.3.4.5", "1.2.3.4.", ".1.2.3.4", "1..2.3", "01.2.3.4", "1.2.3.04", "0x1.2.3.4",
    "1.2.3.256", "1.2.3.4294967297", "1.2.3.-4", "+1.2.3.4", "1.2.3.4 ", " 1.2.3.4", "1.2.3.4\n",
    "1.2.3.4\0", "1.2.3.4\0.example.org", "\0", "1.2.3.4/8", "1.2.3.4:80", "16909060",
    "\u0661.2.3.4", "\uff11.2.3.4", "1\u30022.3.4", "\ud800", "\U0001d7cf.2.3.4", "1.2.3.4" * 1000,
    b"", b"123", b"12345", b"1.2.3.4", bytearray(3), memoryview(b"1234"), 0, 16909060, -1, 1 << 32,
    1.5, [1, 2, 3, 4], {}, object(), (), ("1.2.3.4",), ("1.2.3.4", 1, 2), ("::1", 1, 0, 0),
    (None, 1), (("1.2.3.4", 1), 2), (1, "1.2.3.4"), ["1.2.3.4", 5],
]  # fmt: skip

NO_PORT = [(-1, ValueError), (65536, ValueError), (1 << 32, ValueError), (1 << 200, ValueError),
           ("80", TypeError), (None, TypeError), (1.5, TypeError), (b"80", TypeError)]  # fmt: skip

ADDRESSED = {
    "write_to": ("dst", lambda w, a: w.conn.write_to(b"", a)),
    "write_to with cm": ("dst", lambda w, a: w.conn.write_to(b"", a, w.cm)),
    "Message": ("addr", lambda w, a: Message(b"", None, a)),
    "message": ("addr", lambda w, a: setattr(w.message, "addr", a)),
    "slot": ("addr", lambda w, a: setattr(w.slot, "addr", a)),
    "original_dst": ("original_dst", lambda w, a: setattr(w.cm, "original_dst", a)),
    "udp": ("address", lambda w, a: PacketConn.udp(a)),
    "ping": ("address", lambda w, a: PacketConn.ping(a)),
    "ip": ("address", lambda w, a: PacketConn.ip(253, a)),
    "raw": ("address", lambda w, a: RawConn.ip(253, a)),
    **{f"header {name}": (name, setting("header", name)) for name in ("src", "dst")},
    **{f"cm {name}": (name, setting("cm", name)) for name in ("src", "dst", "spec_dst")},
    "join_group": ("group", lambda w, a: w.conn.join_group(a)),
    "leave_group": ("group", lambda w, a: w.conn.leave_group(a)),
    "source_filter": ("group", lambda w, a: w.conn.source_filter(a)),
    "set_source_filter": ("group", lambda w, a: w.conn.set_source_filter(a, "include", [])),
    "join_all": ("group", lambda w, a: w.conn.join_all(a, ["lo"])),
    "sources": (
        r"sources\[1\]",
        lambda w, a: w.conn.set_source_filter(GROUP, "include", ["1.2.3.4", a]),
    ),
    **{
        verb: ("source", lambda w, a, verb=verb: getattr(w.conn, verb)(GROUP, a))
        for verb in ("join_source_specific_group", "leave_source_specific_group",
                     "exclude_source_specific_group", "include_source_specific_group")
    },
}  # fmt: skip


@pytest.mark.parametrize("row", ADDRESSED)
def test_what_is_no_address_is_named_and_changes_nothing(world, row):
    name, call = ADDRESSED[row]
    before = state(world)
    for wrong in NO_ADDRESS:
        with pytest.raises((ValueError, TypeError), match=rf"^{name}: ") as caught:
            call(world, wrong)
        assert caught.type is ValueError or isinstance(wrong, tuple)  # whose port is no number
    for port, kind in NO_PORT:
        with pytest.raises(kind, match=rf"^{name}: port must be "):
            call(world, ("127.0.0.1", port))
    assert state(world) == before
    nothing_came(world.conn)


class Text(str):
    """The text that it holds is what counts, whatever its methods say."""

    def fail(self, *args):
        raise Own

    __repr__ = __str__ = __len__ = __iter__ = __getitem__ = __format__ = __eq__ = encode = fail
    __hash__ = str.__hash__


class Lying(IPv4Address):
    number = 0

    def __int__(self):
        if self.number is None:
            raise Own
        return self.number


@pytest.mark.parametrize("row", ADDRESSED)
def test_addresses_that_lie(world, row):
    name, call = ADDRESSED[row]
    with pytest.raises(ValueError, match=rf"^{name}: "):
        call(world, Text("localhost"))
    address = Lying("1.2.3.4")
    for address.number in (-1, 1 << 32, 1 << 200):
        with pytest.raises(ValueError, match=rf"^{name} must be in 0\.\.4294967295"):
            call(world, address)
    address.number = None
    with pytest.raises(Own):
        call(world, address)


def test_text_of_another_class_is_text(world):
    world.conn.write_to(b"x", (Text("127.0.0.1"), world.here[1]))
    assert world.conn.read_from(bytearray(1))[0] == 1
    world.header.src = Text("1.2.3.4")
    assert world.header.src == IPv4Address("1.2.3.4")
    world.conn.multicast_interface = Text("lo")
    assert world.conn.multicast_interface.name == "lo"
    outcome = world.conn.join_all(GROUP, [Text("gone7"), (1, Text("gone7"))])
    assert [*outcome] == [(0, "gone7"), (1, "gone7")]
    for refused in (
        lambda: world.conn.join_group(Text("10.0.0.1"), "lo"),
        lambda: world.conn.join_group(GROUP, Text("nowhere0")),
        lambda: setattr(world.conn, "bound_interface", Text("nowhere0")),
        lambda: world.conn.leave_source_specific_group(GROUP, Text("1.2.3.4"), Text("lo")),
    ):
        with pytest.raises(OSError) as caught:
            refused()
        assert caught.value.errno in (errno.EINVAL, errno.ENODEV, errno.EADDRNOTAVAIL)


NO_INTERFACE = ["", "\0", "lo\0", "a" * 16, "\ud800", "x" * 4096, (), (1,), (1, "lo", 2)]


@pytest.mark.parametrize("name", INTERFACES)
def test_what_is_no_interface_is_named(conn, name):
    for wrong in (*NO_INTERFACE, (Raising(),), Text("b" * 16)):
        with pytest.raises(ValueError, match=rf"^{name}\b"):
            setattr(conn, name, wrong)
    assert getattr(conn, name) is None
