"""Numbers at and beyond every border, and what is no number."""

import sys
from collections import UserString
from decimal import Decimal

import pytest
from support.hostile import (
    COUNT,
    DEADLINES,
    FLAGS,
    GROUP,
    INT32,
    INT64,
    INTERFACES,
    OCTET,
    OPTIONS,
    UINT32,
    Fickle,
    Own,
    Raising,
    nothing_came,
    setting,
    state,
)

import ipv4
from ipv4 import ICMPFilter, Message, MessageBatch, PacketConn, RawConn, bpf

privileged = pytest.mark.privileged
BITS = sum(ipv4.ControlFlags)


# Name in the message, the range, and the call.
NUMBERS = {
    "read_from": ("flags", COUNT, lambda w, v: w.conn.read_from(bytearray(1), v)),
    "write_to": ("flags", COUNT, lambda w, v: w.conn.write_to(b"", w.here, None, v)),
    "read_batch": ("flags", COUNT, lambda w, v: w.conn.read_batch([w.message], v)),
    "write_batch": ("flags", COUNT, lambda w, v: w.conn.write_batch(w.batch, v)),
    "raw read_from": ("flags", COUNT, lambda w, v: w.raw.read_from(bytearray(1), v)),
    "raw write_to": ("flags", COUNT, lambda w, v: w.raw.write_to(w.header, b"", None, v)),
    "set_control_message": ("flags", (0, BITS), lambda w, v: w.conn.set_control_message(v, True)),
    "set_timestamping": ("flags", COUNT, lambda w, v: w.conn.set_timestamping(v)),
    "new_control_message": ("flags", (0, BITS), lambda w, v: ipv4.new_control_message(v)),
    "getsockopt level": ("level", COUNT, lambda w, v: w.conn.getsockopt(v, 1)),
    "getsockopt option": ("option", COUNT, lambda w, v: w.conn.getsockopt(0, v)),
    "getsockopt buflen": ("buflen", (0, 65535), lambda w, v: w.conn.getsockopt(0, 1, v)),
    "setsockopt level": ("level", COUNT, lambda w, v: w.conn.setsockopt(v, 1, 0)),
    "setsockopt option": ("option", COUNT, lambda w, v: w.conn.setsockopt(0, v, 0)),
    "setsockopt value": ("value", (INT32[0], UINT32[1]), lambda w, v: w.conn.setsockopt(0, 1, v)),
    "batch count": ("count", (1, 1 << 24), lambda w, v: MessageBatch(v, 1)),
    "batch size": ("size", (0, 1 << 30), lambda w, v: MessageBatch(1, v)),
    "batch flags": ("flags", (0, BITS), lambda w, v: MessageBatch(1, 1, v)),
    "batch heads": ("count", (0, 4), lambda w, v: w.batch.heads(v)),
    "slot n": ("n", (0, 32), setting("slot", "n")),
    "slot flags": ("flags", COUNT, setting("slot", "flags")),
    "message n": ("n", UINT32, setting("message", "n")),
    "message nn": ("nn", UINT32, setting("message", "nn")),
    "message flags": ("flags", COUNT, setting("message", "flags")),
    "destination's port": ("port", (0, 65535), lambda w, v: w.conn.write_to(b"", ("1.2.3.4", v))),
    "message's port": ("port", (0, 65535), lambda w, v: Message(addr=("1.2.3.4", v))),
    "slot's port": ("port", (0, 65535), lambda w, v: setattr(w.slot, "addr", ("1.2.3.4", v))),
    "group's port": ("port", (0, 65535), lambda w, v: w.conn.join_group((GROUP, v))),
    "own port": ("port", (0, 65535), lambda w, v: PacketConn.udp(("127.0.0.1", v))),
    "interface": ("interface", (1, INT32[1]), lambda w, v: w.conn.join_group(GROUP, v)),
    "interface pair": ("index", (1, INT32[1]), lambda w, v: w.conn.join_group(GROUP, (v, "lo"))),
    "interfaces": ("interfaces", (1, INT32[1]), lambda w, v: w.conn.join_all(GROUP, [v])),
    "protocol": ("protocol", (1, 255), lambda w, v: PacketConn.ip(v)),
    "raw protocol": ("protocol", (1, 255), lambda w, v: RawConn.ip(v)),
    "checksum": ("initial", (0, INT64[1]), lambda w, v: ipv4.checksum(b"", v)),
    "accept": ("typ", (0, 31), lambda w, v: ICMPFilter().accept(v)),
    "block": ("typ", (0, 31), lambda w, v: ICMPFilter().block(v)),
    "will_block": ("typ", (0, 31), lambda w, v: ICMPFilter().will_block(v)),
    "extra level": ("level", INT32, lambda w, v: setattr(w.cm, "extra", [(v, 1, b"")])),
    "extra type": ("type", INT32, lambda w, v: setattr(w.cm, "extra", [(1, v, b"")])),
    "bpf op": ("op", (0, 0xFFFF), lambda w, v: w.conn.set_bpf([(v, 0, 0, 0)])),
    "bpf jt": ("jt", OCTET, lambda w, v: w.conn.set_bpf([(6, v, 0, 0)])),
    "bpf jf": ("jf", OCTET, lambda w, v: w.conn.set_reuseport_bpf([(6, 0, v, 0)])),
    "bpf k": ("k", UINT32, lambda w, v: bpf.disassemble([(6, 0, 0, v)])),
    "bpf val": ("val", UINT32, lambda w, v: bpf.RetConstant(v)),
    **{name: (name, span, setting("conn", name)) for name, span in OPTIONS.items()},
    **{name: (name, (1, INT32[1]), setting("conn", name)) for name in INTERFACES},
    **{
        f"header {name}": (name, INT32, setting("header", name))
        for name in ("version", "len", "tos", "total_len", "id", "flags", "frag_off", "ttl",
                     "protocol", "checksum")
    },
    **{
        f"cm {name}": (name, span, setting("cm", name))
        for name, span in {
            "ttl": OCTET, "ifindex": COUNT, "tos": OCTET, "timestamp": INT64, "drops": UINT32,
            "segment_size": (0, 65535), "send_ttl": OCTET, "send_tos": OCTET,
        }.items()
    },
}  # fmt: skip

BORDERS = {
    sign * ((1 << bits) + more)
    for bits in (0, 8, 15, 16, 31, 32, 33, 62, 63, 64, 65, 200)
    for more in (-1, 0, 1)
    for sign in (1, -1)
} | {10**5000, -(10**5000)}  # these the interpreter refuses to write in decimal

# None means "none" where an attribute or an argument may be absent.
OPTIONAL = {
    "batch heads", "interface", *INTERFACES, "cm tos", "cm timestamp", "cm drops",
    "cm segment_size", "cm send_ttl", "cm send_tos",
}  # fmt: skip

NO_NUMBER = (None, 1.0, float("nan"), "1", b"1", [], 1j, Decimal(1), UserString("1"), int)


@pytest.mark.parametrize("row", NUMBERS)
@privileged
@pytest.mark.parity("numbers at and beyond their borders")
def test_a_number_beyond_its_range_is_named_and_changes_nothing(world, row):
    name, (low, high), call = NUMBERS[row]
    before = state(world)
    for number in BORDERS | {low - 1, high + 1}:
        if not low <= number <= high:
            with pytest.raises(ValueError, match=rf"\b{name}\b.* must "):
                call(world, number)
    assert state(world) == before
    nothing_came(world.conn)


@pytest.mark.parametrize("row", NUMBERS)
@privileged
def test_what_is_no_number_is_named_and_changes_nothing(world, row):
    name, _, call = NUMBERS[row]
    before = state(world)
    for wrong in NO_NUMBER:
        if (
            (wrong is None and row in OPTIONAL)
            or (type(wrong) is str and name.startswith(("interface", *INTERFACES)))
            or (type(wrong) is bytes and row == "setsockopt value")
        ):
            continue
        with pytest.raises(TypeError, match=rf"\b{name}\b.* must be "):
            call(world, wrong)
    assert state(world) == before
    nothing_came(world.conn)


class Mute(int):
    """A number that cannot be shown."""

    def __repr__(self):
        raise Own

    __str__ = __format__ = __repr__


@pytest.mark.parametrize("row", NUMBERS)
@privileged
def test_a_number_is_asked_once_and_its_own_error_comes_out(world, row):
    name, (low, high), call = NUMBERS[row]
    before = state(world)
    fickle = Fickle(high + 1, low, low)
    with pytest.raises(ValueError, match=rf"\b{name}\b.* must "):
        call(world, fickle)
    assert fickle.numbers == [low, low]
    with pytest.raises(ValueError, match=rf"\b{name}\b.* must "):
        call(world, Mute(high + 1))
    with pytest.raises(Own):
        call(world, Raising())
    assert state(world) == before


@pytest.mark.parametrize("name", [name for name in OPTIONS if "buffer" not in name])
@privileged
def test_what_an_option_takes_is_what_it_shows(conn, name):
    for number in (True, Mute(2), Fickle(3)):
        wanted = number.numbers[0] if isinstance(number, Fickle) else int(number)
        setattr(conn, name, number)
        assert getattr(conn, name) == wanted


@pytest.mark.parametrize("name", FLAGS)
@privileged
def test_a_flag_takes_numbers_for_their_truth_alone(conn, name):
    before = getattr(conn, name)
    for wrong in (None, 1.0, "yes", b"", [], Raising()):
        with pytest.raises(TypeError, match=rf"^{name} must be True or False"):
            setattr(conn, name, wrong)
    assert getattr(conn, name) == before
    for truth in (1 << 32, 1 << 200, -1, 0):  # nothing is cut to an int's lower bits
        setattr(conn, name, truth)
        assert getattr(conn, name) is bool(truth)


@pytest.mark.parametrize("verb", DEADLINES)
@pytest.mark.parity("numbers at and beyond their borders")
def test_deadlines_at_the_borders(conn, verb):
    here, buf = conn.local_addr, bytearray(1)
    write = (lambda: conn.write_to(b"x", here)) if "read" not in verb else None
    read = (lambda: conn.read_from(buf)) if "write" not in verb else None
    conn.set_deadline(None)
    for passed in (float("-inf"), -1, -0.0, 0, 5e-324, -(10**400), -(1 << 64), Decimal(-1)):
        getattr(conn, verb)(passed)
        for call in filter(None, (read, write)):
            with pytest.raises(TimeoutError):
                call()
    for never in (float("inf"), 1e300, 10**400, 1 << 63, 1 << 64, 9.3e9, sys.maxsize, None):
        getattr(conn, verb)(never)
        assert conn.write_to(b"x", here) == conn.read_from(buf)[0] == 1
    for wrong, kind in (
        (float("nan"), ValueError), (Decimal("nan"), ValueError), ("1", TypeError),
        (b"1", TypeError), ([], TypeError), (1j, TypeError), (int, TypeError),
    ):  # fmt: skip
        with pytest.raises(kind, match=r"^when must be"):
            getattr(conn, verb)(wrong)
    with pytest.raises(Own):
        getattr(conn, verb)(Raising())
    assert conn.write_to(b"x", here) == conn.read_from(buf)[0] == 1
