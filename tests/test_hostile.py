"""No argument takes the interpreter down: each is taken, or refused by one exception naming it.

The other files show what each call refuses in a program's daily life. Here are the arguments that
somebody would have to mean: objects that raise, change their mind or pull the conn, the buffer or
the list away in the middle of the call; numbers at and beyond every border; objects half made;
calls from inside signal handlers, weak reference callbacks, trace and audit hooks.
"""

import copy
import errno
import gc
import importlib
import mmap
import os
import pickle
import pkgutil
import signal
import socket
import subprocess
import sys
import time
import warnings
import weakref
from collections import UserString
from contextlib import suppress
from decimal import Decimal
from ipaddress import IPv4Address
from pathlib import Path
from types import SimpleNamespace

import pytest
from exercise import calls, wait_once
from support import in_child

import ipv4
from ipv4 import (
    Conn,
    ControlFlags,
    ControlMessage,
    Header,
    ICMPFilter,
    Message,
    MessageBatch,
    PacketConn,
    RawConn,
    bpf,
)

privileged = pytest.mark.privileged
GROUP = "224.0.0.251"
GIB2 = (1 << 31) + 4096  # beyond a C int; never touched, so it takes no memory


@pytest.fixture
def world(conn):
    """What the rows of the tables below work on."""
    batch = MessageBatch(4, 32)
    made = SimpleNamespace(
        conn=conn, here=conn.local_addr, batch=batch, slot=batch[1], message=Message(b"x"),
        cm=ControlMessage(), header=Header(dst="127.0.0.1", protocol=253), raw=None,
    )  # fmt: skip
    with suppress(PermissionError):
        made.raw = RawConn.ip(253, "127.0.0.1")
        made.raw.set_deadline(time.monotonic() + 20)
    yield made
    if made.raw is not None:
        made.raw.close()


def needs_raw(world):
    if world.raw is None:
        pytest.skip("needs a raw socket")


def nothing_came(conn):
    with pytest.raises(BlockingIOError):
        conn.read_from(bytearray(1), socket.MSG_DONTWAIT)


class Own(Exception):
    """What an argument's own code raises: it comes out as it is."""


# Buffers


def mapped(size=4096):
    return mmap.mmap(-1, size)


def released():
    view = memoryview(bytearray(8))
    view.release()
    return view


def closed_mapping():
    mapping = mapped()
    mapping.close()
    return mapping


class Unpinnable:
    """Exports a buffer by Python code, which raises (Python 3.12 and later)."""

    def __buffer__(self, flags):
        raise Own

    def __len__(self):
        raise Own


NO_BUFFER = [
    ("released", released, ValueError),
    ("closed mapping", closed_mapping, ValueError),
    ("strided", lambda: memoryview(bytearray(8))[::2], BufferError),
    ("backwards", lambda: memoryview(bytearray(8))[::-1], BufferError),
    ("list", lambda: [1, 2], TypeError),
    ("number", lambda: 1 << 200, TypeError),
    ("text", lambda: UserString("text"), TypeError),
    ("a type", lambda: bytes, TypeError),
]
READ_ONLY = [
    ("bytes", lambda: bytes(8), TypeError),
    ("view of bytes", lambda: memoryview(bytearray(8)).toreadonly(), TypeError),
    ("read-only mapping", lambda: mmap.mmap(-1, 8, prot=mmap.PROT_READ), TypeError),
]
# Name in the message, and the call.
FILLED = {
    "read_from": ("buf", lambda w, b: w.conn.read_from(b)),
    "read_batch": (r"ms\[0\].buffers|buffers\[0\]", lambda w, b: w.conn.read_batch([Message(b)])),
    "read_batch, second": (
        r"ms\[0\].buffers|buffers\[1\]",
        lambda w, b: w.conn.read_batch([Message([bytearray(4), b])]),
    ),
    "read_batch, oob": (
        r"ms\[0\].oob|oob",
        lambda w, b: w.conn.read_batch([Message(bytearray(4), b)]),
    ),
    "raw read_from": ("buf", lambda w, b: w.raw.read_from(b)),
}
SENT = {
    "write_to": ("data", lambda w, b: w.conn.write_to(b, w.here)),
    "write_to with cm": ("data", lambda w, b: w.conn.write_to(b, w.here, w.cm)),
    "raw write_to": ("payload", lambda w, b: w.raw.write_to(w.header, b)),
    "Message": (r"buffers\[0\]", lambda w, b: Message(b)),
    "Message, third": (r"buffers\[2\]", lambda w, b: Message([b"", b"", b])),
    "Message.buffers": (r"buffers\[0\]", lambda w, b: setattr(w.message, "buffers", [b])),
    "Message.oob": ("oob", lambda w, b: setattr(w.message, "oob", b)),
    "slot's oob": ("oob", lambda w, b: setattr(w.slot, "oob", b)),
    "parse_header": ("buf", lambda w, b: ipv4.parse_header(b)),
    "Header.parse": ("buf", lambda w, b: w.header.parse(b)),
    "Header.options": ("options", lambda w, b: setattr(w.header, "options", b)),
    "ControlMessage.parse": ("buf", lambda w, b: w.cm.parse(b)),
    "ControlMessage.options": ("options", lambda w, b: ControlMessage(options=b)),
    "send_options": ("send_options", lambda w, b: ControlMessage(send_options=b)),
    "extra": ("extra: data", lambda w, b: ControlMessage(extra=[(1, 2, b)])),
    "checksum": (r"buf(\[0\])?", lambda w, b: ipv4.checksum(b)),
}
COPIED = {  # these take what lies in pieces too, and one of them a number
    "ip_options": ("ip_options", lambda w, b: setattr(w.conn, "ip_options", b)),
    "setsockopt": ("value", lambda w, b: w.conn.setsockopt(0, 1, b)),
}


@pytest.mark.parametrize("row", [*FILLED, *SENT, *COPIED])
@privileged
def test_what_is_no_buffer_is_named(world, row):
    name, call = (FILLED | SENT | COPIED)[row]
    for what, make, kind in NO_BUFFER + (READ_ONLY if row in FILLED else []):
        if row in COPIED and what in ("strided", "backwards", "number"):
            continue
        world.conn.write_to(b"waits", world.here)
        with pytest.raises(kind, match=rf"^({name}) must be "):
            call(world, make())
        assert world.conn.read_from(bytearray(8))[0] == 5, what  # it was not lost
    nothing_came(world.conn)


if sys.version_info >= (3, 12):

    @pytest.mark.parametrize("row", [*FILLED, *SENT, *COPIED])
    @privileged
    def test_an_exporters_own_error_comes_out(world, row):
        with pytest.raises(Own):
            (FILLED | SENT | COPIED)[row][1](world, Unpinnable())


HUGE = {  # what each says to more than 2 GiB: the system's EMSGSIZE or ENOBUFS, or a refusal
    "write_to": errno.EMSGSIZE,
    "write_to with cm": errno.EMSGSIZE,
    "raw write_to": errno.EMSGSIZE,
    "Header.options": ValueError,
    "ControlMessage.parse": ValueError,
    "ControlMessage.options": ValueError,
    "send_options": ValueError,
    "extra": ValueError,
    "slot's oob": ValueError,
    "parse_header": ValueError,
    "Header.parse": ValueError,
    "ip_options": ValueError,
    "setsockopt": ValueError,
    "Message": None,
    "Message.oob": None,
    "Message.buffers": None,
}


@pytest.mark.skipif(sys.maxsize < 1 << 32, reason="needs addresses of 64 bits")
@pytest.mark.parametrize("row", HUGE)
@privileged
def test_more_than_two_gibibytes(world, row):
    name, call = (SENT | COPIED)[row]
    with mapped(GIB2) as huge:
        answer = HUGE[row]
        if answer is None:
            call(world, huge)
            world.message.addr = world.here
            if row != "Message":
                with pytest.raises(OSError) as caught:
                    world.conn.write_batch([world.message])
                assert caught.value.errno in (errno.EMSGSIZE, errno.ENOBUFS, errno.EINVAL)
            world.message.buffers, world.message.oob = b"", None
        elif answer is ValueError:
            wanted = "header too short" if "arse_header" in row or "r.parse" in row else name
            with pytest.raises(ValueError, match="invalid" if "e.parse" in row else wanted):
                call(world, huge)
        else:
            with pytest.raises(OSError) as caught:
                call(world, huge)
            assert caught.value.errno == answer
    nothing_came(world.conn)


@pytest.mark.skipif(sys.maxsize < 1 << 32, reason="needs addresses of 64 bits")
@pytest.mark.parametrize("row", FILLED)
@privileged
def test_reading_into_more_than_two_gibibytes(world, row):
    with mapped(GIB2) as huge:
        if row == "raw read_from":
            world.raw.write_to(world.header, b"packet")
            _, payload, _ = FILLED[row][1](world, huge)
            assert bytes(payload) == b"packet"
            payload.release()
            return
        world.conn.write_to(b"packet", world.here)
        FILLED[row][1](world, huge)
        assert huge[:6] == {"read_batch, second": b"et", "read_batch, oob": b""}.get(
            row, b"packet"
        ).ljust(6, b"\0")


def test_more_bytes_than_an_int_counts_do_not_wrap_into_few(conn):
    with mapped((1 << 32) + 4) as huge, pytest.raises(ValueError, match=r"^value\b"):
        conn.setsockopt(socket.IPPROTO_IP, socket.IP_TTL, huge)


@privileged
def test_an_empty_datagram_is_sent_and_received_everywhere(world):
    conn, here, batch = world.conn, world.here, world.batch
    batch[0].addr, batch[0].n = here, 0
    sends = (
        lambda: conn.write_to(b"", here),
        lambda: conn.write_to(b"", here, ControlMessage(send_ttl=3)),
        lambda: conn.write_batch([Message([], addr=here)]) - 1,
        lambda: conn.write_batch([Message([b"", b""], None, here)]) - 1,
        lambda: conn.write_batch(batch[:1]) - 1,
        lambda: len(conn.write_all([Message(b"", addr=here)])),
    )
    empty = Message([bytearray(0)])
    nothing = Message()
    without = MessageBatch(1, 0)
    reads = (
        lambda: conn.read_from(bytearray(0))[0],
        lambda: conn.read_from(bytearray(9))[0],
        lambda: conn.read_batch([empty]) - 1 + empty.n,
        lambda: conn.read_batch([nothing]) - 1 + nothing.n,
        lambda: conn.read_batch(without) - 1 + without.lengths[0],
        lambda: conn.read_batch(batch[1:2]) - 1 + batch.lengths[1],
    )
    for send in sends:
        for read in reads:
            assert send() == 0
            assert read() == 0
    nothing_came(conn)
    needs_raw(world)
    assert world.raw.write_to(world.header, b"") == 20
    assert world.raw.read_from(bytearray(20))[1].nbytes == 0
    world.raw.write_to(world.header, b"")
    with pytest.raises(ValueError, match="header too short"):
        world.raw.read_from(bytearray(0))


# Canaries

CANARY = b"\xa5"


def by_list(conn, view):
    message = Message(view)
    assert conn.read_batch([message]) == 1
    return message.n


def by_pieces(conn, view):
    third = len(view) // 3
    message = Message([view[:third], view[third:third], view[third:]], bytearray(64))
    assert conn.read_batch([message]) == 1
    return message.n


def single(conn, view):
    return conn.read_from(view)[0]


def whole(conn, view):
    try:
        header, payload, _ = conn.read_from(view)
    except ValueError:  # not even a header
        return len(view)
    with payload:
        return header.len + payload.nbytes


READS = {"single": single, "list": by_list, "pieces": by_pieces}


@pytest.mark.parametrize("control", [False, True])
@pytest.mark.parametrize("read", READS)
@pytest.mark.parametrize("kind", ["udp", "payload", "payload, options", "raw", "raw, options"])
@privileged
def test_no_byte_around_what_was_read_is_touched(world, kind, read, control):
    needs_raw(world)
    options = b"\1" * 40 if "options" in kind else b""
    with PacketConn.ip(253, "127.0.0.1") as payloads:
        conn = {"u": world.conn, "p": payloads, "r": world.raw}[kind[0]]
        conn.set_control_message(ControlFlags.TTL | ControlFlags.DST, control)
        function = whole if kind[0] == "r" and read == "single" else READS[read]
        for length in (0, 1, 200):
            payload = bytes(range(length))
            packet = 0 if kind == "udp" else 20 + len(options)
            for room in {0, 1, 19, 20, 59, 60, 61, length, length + packet, 300}:
                if kind == "udp":
                    world.conn.write_to(payload, world.here)
                else:
                    world.header.options = options
                    world.raw.write_to(world.header, payload)
                memory = bytearray(CANARY * (64 + room + 64))
                with memoryview(memory) as all_of_it, all_of_it[64 : 64 + room] as view:
                    n = function(conn, view)
                assert n <= room
                assert memory[:64] == memory[64 + room :] == CANARY * 64
                if kind in ("udp", "payload", "raw"):  # options may leave their traces in the room
                    assert memory[64 + n : 64 + room] == CANARY * (room - n)
                if read == "single" and kind[0] in "up":
                    assert memory[64 : 64 + n] == payload[:room]


@pytest.mark.parametrize("length", [0, 1, 31, 32, 33, 500])
def test_no_slot_around_the_one_read_is_touched(world, length):
    batch = world.batch
    for row in range(4):
        for column in range(32):
            batch.data[row, column] = 0xA5
    world.conn.write_to(bytes(length), world.here)
    assert world.conn.read_batch(batch[2:3]) == 1
    n = batch.lengths[2]
    assert n == min(length, 32)
    assert bytes(batch.data) == CANARY * 64 + bytes(n) + CANARY * (32 - n) + CANARY * 32
    assert batch.lengths.tolist() == [32, 32, n, 32]
    assert batch.addrs[1] == batch.addrs[3] == 0


def test_control_bytes_that_change_while_they_are_parsed():
    """Another process rewrites a length in shared memory: an error, or what stood there once."""

    def body():
        one = (20).to_bytes(8, sys.byteorder) + bytes(4) + b"\x63" + bytes(11)
        area = mapped(2000 * len(one))
        area[:] = one * 2000
        last = len(area) - len(one) + 5
        end = time.monotonic() + 0.5
        if os.fork() == 0:
            while time.monotonic() < end + 0.1:
                for area[last] in (1, 0) * 1000:
                    pass
            os._exit(0)
        while time.monotonic() < end:
            with suppress(ValueError):
                ControlMessage().parse(area)
        os.wait()
        return True

    assert in_child(body)


# Numbers

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


def setting(of, name):
    return lambda w, v: setattr(getattr(w, of), name, v)


# Name in the message, the range, and the call.
NUMBERS = {
    "read_from": ("flags", COUNT, lambda w, v: w.conn.read_from(bytearray(1), v)),
    "write_to": ("flags", COUNT, lambda w, v: w.conn.write_to(b"", w.here, None, v)),
    "read_batch": ("flags", COUNT, lambda w, v: w.conn.read_batch([w.message], v)),
    "write_batch": ("flags", COUNT, lambda w, v: w.conn.write_batch(w.batch, v)),
    "raw read_from": ("flags", COUNT, lambda w, v: w.raw.read_from(bytearray(1), v)),
    "raw write_to": ("flags", COUNT, lambda w, v: w.raw.write_to(w.header, b"", None, v)),
    "set_control_message": ("flags", (0, 1023), lambda w, v: w.conn.set_control_message(v, True)),
    "set_timestamping": ("flags", COUNT, lambda w, v: w.conn.set_timestamping(v)),
    "new_control_message": ("flags", (0, 1023), lambda w, v: ipv4.new_control_message(v)),
    "getsockopt level": ("level", COUNT, lambda w, v: w.conn.getsockopt(v, 1)),
    "getsockopt option": ("option", COUNT, lambda w, v: w.conn.getsockopt(0, v)),
    "getsockopt buflen": ("buflen", (0, 65535), lambda w, v: w.conn.getsockopt(0, 1, v)),
    "setsockopt level": ("level", COUNT, lambda w, v: w.conn.setsockopt(v, 1, 0)),
    "setsockopt option": ("option", COUNT, lambda w, v: w.conn.setsockopt(0, v, 0)),
    "setsockopt value": ("value", (INT32[0], UINT32[1]), lambda w, v: w.conn.setsockopt(0, 1, v)),
    "batch count": ("count", (1, 1 << 24), lambda w, v: MessageBatch(v, 1)),
    "batch size": ("size", (0, 1 << 30), lambda w, v: MessageBatch(1, v)),
    "batch flags": ("flags", (0, 1023), lambda w, v: MessageBatch(1, 1, v)),
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


def state(world):
    """Everything that a refused call must leave as it was."""
    return (
        [getattr(world.conn, name) for name in (*OPTIONS, *FLAGS, *INTERFACES)],
        world.conn.control_flags,
        [repr(each) for each in (world.header, world.cm, world.message, world.slot)],
        world.batch.lengths.tolist(),
    )


@pytest.mark.parametrize("row", NUMBERS)
@privileged
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


class Fickle:
    """Another number each time it is asked."""

    def __init__(self, *numbers):
        self.numbers = list(numbers)

    def __index__(self):
        return self.numbers.pop(0)


class Mute(int):
    """A number that cannot be shown."""

    def __repr__(self):
        raise Own

    __str__ = __format__ = __repr__


class Raising:
    """Nothing can be done with it."""

    def fail(self, *args):
        raise Own

    __index__ = __int__ = __float__ = __len__ = __bytes__ = __iter__ = __next__ = fail
    __eq__ = __hash__ = __repr__ = __str__ = __bool__ = __getitem__ = __buffer__ = fail


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


DEADLINES = ("set_deadline", "set_read_deadline", "set_write_deadline")


@pytest.mark.parametrize("verb", DEADLINES)
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


# Addresses

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


# Arguments that are to be walked, chosen or of one class

WALKED = {
    "read_batch": ("ms", lambda w, v: w.conn.read_batch(v)),
    "write_batch": ("ms", lambda w, v: w.conn.write_batch(v)),
    "write_all": ("messages", lambda w, v: w.conn.write_all(v)),
    "extra": ("extra", lambda w, v: setattr(w.cm, "extra", v)),
    "sources": ("sources", lambda w, v: w.conn.set_source_filter(GROUP, "include", v)),
    "interfaces": ("interfaces", lambda w, v: w.conn.join_all(GROUP, v)),
    "set_bpf": ("program", lambda w, v: w.conn.set_bpf(v)),
    "set_reuseport_bpf": ("program", lambda w, v: w.conn.set_reuseport_bpf(v)),
    "assemble": ("instructions", lambda w, v: bpf.assemble(v)),
    "disassemble": ("raw", lambda w, v: bpf.disassemble(v)),
    "VM": ("instructions", lambda w, v: bpf.VM(v)),
}
OF_A_CLASS = {
    "write_to": ("cm", lambda w, v: w.conn.write_to(b"", w.here, v)),
    "raw write_to cm": ("cm", lambda w, v: w.raw.write_to(w.header, b"", v)),
    "raw write_to": ("header", lambda w, v: w.raw.write_to(v, b"")),
    "read_batch": (r"ms\[0\]", lambda w, v: w.conn.read_batch([v])),
    "write_batch": (r"ms\[0\]", lambda w, v: w.conn.write_batch((v,))),
    "write_all": (r"ms\[0\]", lambda w, v: w.conn.write_all([v])),
    "icmp_filter": ("icmp_filter", lambda w, v: setattr(w.conn, "icmp_filter", v)),
    "release_gil": ("release_gil", lambda w, v: setattr(w.conn, "release_gil", v)),
    "segmentation": ("segmentation", lambda w, v: setattr(w.conn, "segmentation", v)),
    "mode": ("mode", lambda w, v: w.conn.set_source_filter(GROUP, v, [])),
    "format": ("format", lambda w, v: Header(dst="1.2.3.4").marshal(v)),
    "Conn": ("sock", lambda w, v: Conn(v)),
    "PacketConn": ("sock", lambda w, v: PacketConn(v)),
    "RawConn": ("sock", lambda w, v: RawConn(v)),
    "loads": ("text", lambda w, v: bpf.loads(v)),
}


@pytest.mark.parametrize("row", WALKED)
def test_what_cannot_be_walked_is_named(world, row):
    name, call = WALKED[row]
    before = state(world)
    for wrong in (5, 1.5, object(), int, world.conn):
        with pytest.raises(TypeError, match=rf"^{name} must "):
            call(world, wrong)
    with pytest.raises(Own):
        call(world, Raising())

    def breaks():
        raise Own
        yield

    with pytest.raises(Own):
        call(world, breaks())
    assert state(world) == before


@pytest.mark.parametrize("row", OF_A_CLASS)
@privileged
def test_what_is_of_another_class_is_named(world, row):
    name, call = OF_A_CLASS[row]
    for wrong in (-5, object(), ControlMessage, Raising(), [], Fickle(1)):
        with pytest.raises((TypeError, ValueError), match=rf"^{name} must be "):
            call(world, wrong)
    nothing_came(world.conn)


# Arguments that act in the middle of the call


class Turn:
    """Does something when it is converted, and is a plain number then."""

    def __init__(self, act, value=1):
        self.act = act
        self.value = value

    def __index__(self):
        self.act()
        return self.value

    def __float__(self):
        return float(self.__index__())

    def __bool__(self):
        self.act()
        return True

    def before(self, *items):
        """Walk over some items; but act first."""
        self.act()
        yield from items


CLOSING = {
    "read_from": lambda w, t: w.conn.read_from(bytearray(8), t),
    "write_to": lambda w, t: w.conn.write_to(b"x", w.here, None, t),
    "write_to with cm": lambda w, t: w.conn.write_to(b"x", w.here, w.cm, t),
    "write_to port": lambda w, t: w.conn.write_to(b"x", ("127.0.0.1", t)),
    "read_batch": lambda w, t: w.conn.read_batch([Message(bytearray(8))], t),
    "read_batch walked": lambda w, t: w.conn.read_batch(t.before(Message(bytearray(8)))),
    "read a MessageBatch": lambda w, t: w.conn.read_batch(w.batch, t),
    "write_batch": lambda w, t: w.conn.write_batch([w.message], t),
    "write a MessageBatch": lambda w, t: w.conn.write_batch(w.batch, t),
    "write_all walked": lambda w, t: w.conn.write_all(t.before(w.message)),
    **{verb: lambda w, t, verb=verb: getattr(w.conn, verb)(t) for verb in DEADLINES},
    "set_control_message": lambda w, t: w.conn.set_control_message(t, True),
    "set_control_message on": lambda w, t: w.conn.set_control_message(1, t),
    "set_timestamping": lambda w, t: w.conn.set_timestamping(t),
    "getsockopt": lambda w, t: w.conn.getsockopt(t, 1),
    "getsockopt bytes": lambda w, t: w.conn.getsockopt(0, 1, t),
    "setsockopt": lambda w, t: w.conn.setsockopt(0, t, 1),
    "setsockopt value": lambda w, t: w.conn.setsockopt(0, 1, t),
    "group": lambda w, t: w.conn.join_group((GROUP, t)),
    "interface": lambda w, t: w.conn.join_group(GROUP, t),
    "interface pair": lambda w, t: w.conn.leave_group(GROUP, (t, "lo")),
    "source": lambda w, t: w.conn.join_source_specific_group(GROUP, ("127.0.0.1", t), "lo"),
    "join_all": lambda w, t: w.conn.join_all(GROUP, t.before("lo")),
    "source_filter": lambda w, t: w.conn.source_filter(GROUP, t),
    "sources": lambda w, t: w.conn.set_source_filter(GROUP, "include", t.before("1.2.3.4"), "lo"),
    "sources port": lambda w, t: w.conn.set_source_filter(GROUP, "include", [("1.2.3.4", t)]),
    "set_bpf": lambda w, t: w.conn.set_bpf(t.before((6, 0, 0, 0))),
    "set_bpf drain": lambda w, t: w.conn.set_bpf([(6, 0, 0, 0)], drain=t),
    "set_bpf field": lambda w, t: w.conn.set_bpf([(6, 0, 0, t)]),
    "set_reuseport_bpf": lambda w, t: w.conn.set_reuseport_bpf([(6, 0, 0, t)]),
    **{name: setting("conn", name) for name in (*OPTIONS, *INTERFACES)},
}


@pytest.mark.parametrize("row", CLOSING)
def test_an_argument_may_close_the_conn(world, row):
    with pytest.raises(OSError) as caught:
        CLOSING[row](world, Turn(world.conn.close))
    assert caught.value.errno == errno.EBADF
    assert world.conn.closed


@privileged
def test_an_argument_may_close_a_raw_conn(world):
    for call in (
        lambda raw, turn: raw.read_from(bytearray(60), turn),
        lambda raw, turn: raw.write_to(world.header, b"x", None, turn),
    ):
        with RawConn.ip(253, "127.0.0.1") as raw, pytest.raises(OSError) as caught:
            call(raw, Turn(raw.close))
        assert caught.value.errno == errno.EBADF


@privileged
def test_an_argument_may_take_the_buffer_away(world):
    conn, here = world.conn, world.here
    for call, name in (
        (lambda view, turn: conn.write_to(view, here, None, turn), "data"),
        (lambda view, turn: conn.write_to(view, ("127.0.0.1", turn)), "data"),
        (lambda view, turn: conn.read_from(view, turn), "buf"),
        (lambda view, turn: world.raw.read_from(view, turn), "buf"),
        (lambda view, turn: world.raw.write_to(world.header, view, None, turn), "payload"),
        (lambda view, turn: ipv4.checksum(view, turn), "buf"),
        (lambda view, turn: ControlMessage(extra=[(1, turn, view)]), "extra: data"),
    ):
        view = memoryview(bytearray(64))
        with pytest.raises(ValueError, match=rf"^{name} must be open memory"):
            call(view, Turn(view.release, int(socket.MSG_DONTWAIT)))
        room = bytearray(1 << 16)
        with suppress(ValueError, OSError):
            call(room, Turn(room.clear, int(socket.MSG_DONTWAIT)))
        room.append(1)  # nothing pins it any longer


def test_an_argument_may_change_the_list_that_holds_it(world):
    """What is walked is what stood there at the start, or what is left: never what is gone."""
    conn, here = world.conn, world.here
    lists = []

    def emptied(*items):
        """A list of the items and one that clears the list when it is converted."""
        lists.append([])
        lists[-1] += [item(lists[-1].clear) if callable(item) else item for item in items]
        return lists[-1]

    messages = [Message(b"x", addr=here) for _ in range(4)]
    assert conn.write_batch(messages, Turn(messages.clear, 0)) == 0
    messages += [Message(b"x", addr=here) for _ in range(2)]
    assert conn.write_batch(messages, Turn(messages.pop, 0)) == 1
    rooms = [Message(bytearray(1))]
    assert conn.read_batch(rooms, Turn(rooms.clear, 0)) == 0
    assert conn.read_from(bytearray(2))[0] == 1
    sources = emptied(lambda act: ("127.0.0.1", Turn(act)), "127.0.0.2")
    conn.set_source_filter(GROUP, "include", sources, "lo")
    assert len(conn.source_filter(GROUP, "lo")[1]) == 2
    assert len(conn.join_all("224.0.0.252", emptied(lambda act: (Turn(act), "lo"), "lo"))) == 1
    world.cm.extra = emptied(lambda act: (7, Turn(act), b"one"), (8, 9, b"two"))
    assert world.cm.extra == ((7, 1, b"one"), (8, 9, b"two"))
    word = (6, 0, 0, 0)
    assert bpf.to_raw(emptied(lambda act: (6, 0, 0, Turn(act)), word)) == [(6, 0, 0, 1), word]
    assert bpf.disassemble(emptied(lambda act: (6, 0, 0, Turn(act)), word)) == (
        [bpf.RetConstant(1)],
        True,
    )
    conn.set_bpf(emptied(lambda act: (6, 0, 0, Turn(act)), word))
    assert not any(lists)


def test_a_list_that_lies_about_its_length_ends():
    """In a child: a call that trusts the length never returns."""

    class Long(list):
        def __len__(self):
            return 5

    class Short(list):
        def __len__(self):
            return 0

        def __getitem__(self, key):
            raise Own

    def body():
        with PacketConn.udp(("127.0.0.1", 0)) as conn:
            message = Message(b"x", addr=conn.local_addr)
            answers = [
                call(kind([message] * times))
                for call in (conn.write_all, conn.write_batch)
                for kind in (Long, Short)
                for times in (0, 2)
            ]
            buffers = Message(Long([b"a", b"b"])).buffers, Message(Short([b"a", b"b"])).buffers
            return answers, buffers

    with PacketConn.udp() as conn:
        two = 1 if conn._sends_singly() else 2  # of the portable build a call moves one
    wanted = [[], [], [], [], 0, two, 0, two], ([b"a", b"b"], [b"a", b"b"])
    assert in_child(body, timeout=10) == wanted


def test_what_a_refusal_leaves_of_a_received_message(conn):
    """A refused `src` or `segment_size` does not make what was received a thing to be sent."""
    conn.set_control_message(ControlFlags.DST, True)
    conn.write_to(b"x", conn.local_addr)
    cm = conn.read_from(bytearray(1))[1]
    before = cm.marshal()
    for name in ("src", "segment_size", "extra", "dst", "ifindex", "options", "send_options"):
        for wrong in ("nowhere", -1, Raising(), [1]):
            with pytest.raises((ValueError, TypeError, Own)):
                setattr(cm, name, wrong)
        assert cm.marshal() == before


def test_memory_refused_for_options_leaves_the_ones_before():
    testcapi = pytest.importorskip("_testcapi")

    def body():
        header = Header(options=b"\1" * 60000)
        longer = b"\2" * 61000
        for k in range(1, 10):
            testcapi.set_nomemory(k, k + 1)
            try:
                header.options = longer
            except MemoryError:
                pass
            finally:
                testcapi.remove_mem_hooks()
            assert header.options in (b"\1" * 60000, longer)
            header.options = b"\1" * 60000
        return True

    assert in_child(body)


# Sockets


class LiesAboutFamily(socket.socket):
    family = socket.AF_INET


def inet(kind, protocol=0, made=socket.socket):
    return made(socket.AF_INET, kind, protocol)


def detached():
    sock = inet(socket.SOCK_DGRAM)
    os.close(sock.detach())
    return sock


NO_SOCKET = [
    ("packet", lambda: socket.socket(socket.AF_PACKET, socket.SOCK_DGRAM), ValueError),
    ("netlink", lambda: socket.socket(socket.AF_NETLINK, socket.SOCK_RAW), ValueError),
    ("unix stream", lambda: socket.socket(socket.AF_UNIX, socket.SOCK_STREAM), ValueError),
    ("IPv6 raw", lambda: socket.socket(socket.AF_INET6, socket.SOCK_RAW, 253), ValueError),
    ("detached", detached, OSError),
    ("IPv6 in disguise", lambda: LiesAboutFamily(socket.AF_INET6), ValueError),
]
KINDS = [
    (socket.SOCK_RAW, socket.IPPROTO_RAW, (Conn, PacketConn, RawConn)),
    (socket.SOCK_RAW, socket.IPPROTO_ICMP, (Conn, PacketConn, RawConn)),
    (socket.SOCK_DGRAM, socket.IPPROTO_ICMP, (Conn, PacketConn)),
    (socket.SOCK_STREAM, socket.IPPROTO_TCP, (Conn,)),
]


@pytest.mark.parametrize("cls", [Conn, PacketConn, RawConn])
@privileged
def test_sockets_that_no_conn_takes(cls):
    for what, make, kind in NO_SOCKET:
        with make() as sock:
            with pytest.raises(kind, match=r"\bsock(et)?s?\b"):
                cls(sock)
            assert socket.socket.fileno(sock) >= 0 or kind is OSError, what  # it is left open
    with pytest.raises(OSError, match="sock is closed"):
        cls(socket.socket.__new__(socket.socket))


@privileged
def test_sockets_that_some_conns_take():
    Path("/proc/sys/net/ipv4/ping_group_range").write_text("0 0")
    for kind, protocol, takers in KINDS:
        for cls in (Conn, PacketConn, RawConn):
            with inet(kind, protocol) as sock:
                if cls in takers:
                    assert cls(sock).fileno() == sock.fileno()
                else:
                    with pytest.raises(ValueError, match=r"^sock must be "):
                        cls(sock)


def test_a_socket_that_changes_under_its_conn():
    """The conn never uses a descriptor that its socket no longer has."""
    again = socket.socket.__init__
    for change in (socket.socket.close, lambda sock: os.close(sock.detach()), again):
        sock = inet(socket.SOCK_DGRAM)
        number = sock.fileno()
        with PacketConn(sock) as conn, inet(socket.SOCK_DGRAM) as spare:
            change(sock)
            if change is again:
                os.close(number)
            assert conn.closed
            with pytest.raises(OSError) as caught:
                conn.write_to(b"x", "127.0.0.1")
            assert caught.value.errno == errno.EBADF
            assert spare.fileno() >= 0
        sock.close()


# Objects half made, made twice, copied


# Programs; what only a running loop may use; and ipv4.features, which is a function.
APART = tuple(
    f"ipv4.{name}" for name in ("cli", "__main__", "aio", "loops", "datagrams", "features")
)


def classes():
    found = {}
    for module in pkgutil.walk_packages(ipv4.__path__, "ipv4."):
        if module.name.startswith(APART):
            continue
        for value in vars(importlib.import_module(module.name)).values():
            where = value.__module__ if isinstance(value, type) else ""
            if where.startswith("ipv4.") and not where.startswith(APART):
                found[value.__qualname__] = value
    return found


def poke(thing, names):
    """Use a thing in every way; nobody promises anything but that the interpreter survives."""
    for function in (
        repr, str, bytes, hash, len, bool, iter, int, memoryview, copy.copy, copy.deepcopy,
        pickle.dumps, next, reversed, lambda t: t == t, lambda t: t == Header(), lambda t: t[0],
        lambda t: t[0:1], lambda t: t.__enter__(), ipv4.checksum, ipv4.parse_header, PacketConn,
        Message, lambda t: bpf.to_raw([t]),
    ):  # fmt: skip
        with suppress(Exception):
            function(thing)
    for name in names:
        with suppress(Exception):
            getattr(thing, name)
        for args in ((), (None,), ("224.0.0.251",), (0,), (1, 1), (None, None, None), (b"", b"")):
            with suppress(Exception):
                getattr(thing, name)(*args)
        for value in (None, 0, -1, b"", "1.2.3.4", []):
            with suppress(Exception):
                setattr(thing, name, value)
        with suppress(Exception):
            delattr(thing, name)


def survives(body):
    """Call it in a child, which must neither die nor lose a descriptor that is not its own."""

    def child():
        warnings.simplefilter("ignore", ResourceWarning)
        os.dup2(os.open("/dev/null", os.O_RDONLY), 0)  # the number that zeroed memory stands for
        before = set(os.listdir("/proc/self/fd"))
        body()
        gc.collect()
        return before - set(os.listdir("/proc/self/fd"))

    # The directory itself is open while it is listed, under a number that may be another's later.
    assert len(in_child(child)) <= 1


def members(cls):
    return [name for name in dir(cls) if name not in ("__class__", "__init_subclass__")]


ODD = ((), (None,), (0,), (-1, -1), (1, 1), (1, 1, 1), (1 << 63, 8, 8), ("a", "b"))


@pytest.mark.parametrize("name", classes())
def test_half_made_objects_do_not_take_the_interpreter_down(name):
    cls = classes()[name]
    names = members(cls)

    poked = []

    def late(self):
        if not poked:  # not the copies too that it makes
            poked.append(self)
            poke(poked[0], names)
            poked.clear()

    def body():
        made = [cls]
        with suppress(TypeError, AttributeError):  # its __del__ is called on what could not be made
            made.append(type("Late", (cls,), {"__del__": late}))
        for each in made:
            for args in ODD:
                with suppress(Exception):
                    each(*args)
                with suppress(Exception):
                    poke(each.__new__(each, *args), names)

    survives(body)


@pytest.mark.parametrize("name", classes())
def test_methods_called_on_something_else_do_not_take_the_interpreter_down(name):
    cls = classes()[name]
    arguments = (*ODD, (GROUP,), (GROUP, "1.2.3.4"), (GROUP, "include", []))

    def body():
        others = (None, 5, object(), Header(), ControlMessage(), Message(), MessageBatch(1, 1), cls)
        for member in (getattr(cls, each) for each in members(cls)):
            accessors = (getattr(member, each, None) for each in ("fget", "fset", "__get__"))
            for function in (member, *accessors):
                for other in others:
                    for args in arguments:
                        with suppress(Exception):
                            function(other, *args)

    survives(body)


@pytest.mark.parametrize("cls", [Conn, PacketConn, RawConn])
def test_a_refused_construction_touches_no_descriptor(cls):
    """Descriptor 0 is what zeroed memory would name."""

    class Late(cls):
        def __del__(self):
            told.append((self.fileno(), self.closed, self.close(), repr(self)))

    told = []

    def body():
        for each in (cls, Late):
            for args in ((), (5,), (None, 1), (socket.socket.__new__(socket.socket),)):
                named = r"\bsock\b" if len(args) == 1 else "argument"
                with pytest.raises((TypeError, OSError), match=named):
                    each(*args)
        os.fstat(0)
        assert told == [(-1, True, None, "<ipv4.Late closed>")] * 4

    survives(body)


@pytest.mark.parametrize("cls", [Conn, PacketConn, RawConn])
def test_a_subclass_that_forgets_its_base_is_told(cls):
    class Own(cls):
        def __init__(self, sock):
            self.name = "mine"

    with inet(socket.SOCK_DGRAM) as sock:
        own = Own(sock)
        assert (own.closed, own.fileno()) == (True, -1)
        with pytest.raises(OSError, match=r"call super\(\).__init__\(sock\)"):
            own.ttl = 5
        own.close()
        assert sock.fileno() >= 0


def test_a_method_is_of_conns_alone():
    for call in (
        lambda conn: PacketConn.join_group(conn, GROUP),
        lambda conn: RawConn.leave_source_specific_group(conn, GROUP, "1.2.3.4"),
        lambda conn: PacketConn.set_source_filter(conn, GROUP, "include", []),
        lambda conn: PacketConn.source_filter(conn, GROUP),
        lambda conn: PacketConn.join_all(conn, GROUP),
        lambda conn: PacketConn.multicast_interface.fget(conn),
        lambda conn: PacketConn.multicast_interface.fset(conn, "lo"),
    ):
        for wrong in (None, 5, Header()):
            with pytest.raises(TypeError, match="self must be a conn"):
                call(wrong)


@pytest.mark.parametrize("cls", [Header, ControlMessage, Message, MessageBatch])
def test_what_cannot_be_inherited(cls):
    with pytest.raises(TypeError, match="not an acceptable base type"):
        type("Own", (cls,), {})


def test_copies(conn):
    header = Header(dst="1.2.3.4", options=bytes(50), tos=-5, id=70000)
    cm = ControlMessage(src="1.2.3.4", extra=[(1, 2, b"three")], send_ttl=5, timestamp=-1)
    program = bpf.minimum_ttl(3)
    interface = ipv4.Interface(1, "lo")
    for value in (header, cm, program, interface, ipv4.ICMPType(200), ControlFlags.TTL):
        copies = copy.copy(value), copy.deepcopy(value), pickle.loads(pickle.dumps(value))
        assert all(each == value and type(each) is type(value) for each in copies)
    for thing in (conn, Message(b""), MessageBatch(1, 1), MessageBatch(2, 1)[0]):
        for function in (copy.copy, copy.deepcopy, pickle.dumps):
            with pytest.raises(TypeError, match="cannot pickle"):
                function(thing)


def test_init_called_again(conn):
    header = Header(tos=5, options=bytes(60), dst="1.2.3.4")
    with pytest.raises(TypeError, match="ttl"):
        header.__init__(ttl="x")
    header.__init__(dst="1.2.3.5", options=b"")
    assert len(header.marshal()) == 20
    room = bytearray(8)
    message = Message([room, room], bytearray(9), ("1.2.3.4", 5))
    message.__init__()
    assert (message.buffers, message.oob, message.addr) == ([], None, None)
    room.append(1)  # it is no longer pinned
    batch = MessageBatch(2, 3)
    batch.__init__(1 << 40, 1 << 40)
    assert len(batch) == 2
    with pytest.raises(TypeError, match="fixed"):
        batch[0].__init__()
    with inet(socket.SOCK_STREAM) as stream:
        before = conn.fileno()
        for cls in (PacketConn, RawConn):
            with pytest.raises((ValueError, TypeError)):
                cls.__init__(conn, stream)
        assert conn.fileno() == before
    conn.write_to(b"x", conn.local_addr)


# Garbage, and the end of the interpreter


class Holding(PacketConn):
    """A conn that refers to itself."""


class HoldingSocket(socket.socket):
    """A socket that can refer to its conn."""


@pytest.mark.parametrize("cycle", ["conn", "socket", "message", "callback"])
def test_a_conn_dropped_in_a_cycle_is_warned_of_once_and_closed(cycle):
    sock = inet(socket.SOCK_DGRAM, made=HoldingSocket)
    conn = Holding(sock)
    number = conn.fileno()
    if cycle == "conn":
        conn.me = conn
    elif cycle == "socket":
        sock.conn = conn
    elif cycle == "message":
        conn.messages = [Message(bytearray(8)), conn, MessageBatch(2, 8)]
    else:
        conn.call = conn.close
    gone = weakref.ref(conn)
    del conn, sock
    with warnings.catch_warnings(record=True) as seen:
        warnings.simplefilter("always")
        # CPython 3.15 clears weak references after the finalizers: what one of these has revived
        # lives until the next collection.
        for _ in range(3):
            gc.collect()
    assert gone() is None
    assert [warning.category for warning in seen] == [ResourceWarning]
    with pytest.raises(OSError):
        os.fstat(number)


EXIT = """
import ipv4, gc, sys, weakref
class Holding(ipv4.PacketConn):
    def __del__(self):
        self.read_errors = [m.n for m in self.messages]
        try:
            self.write_to(b"x", ("127.0.0.1", 9))
            self.read_batch(self.messages, 64)
        except OSError:
            pass
        self.close()
        print("closed", self.closed)
here = []
for way in range(3):
    conn = Holding.udp()
    conn.messages = [ipv4.Message(bytearray(8), bytearray(64)), ipv4.MessageBatch(2, 9)[1]]
    if way:
        conn.me = conn
    if way == 2:
        conn.callback = weakref.ref(conn, lambda ref: print("never"))
    here.append(conn)
plain = ipv4.PacketConn.udp()
sys.modules["kept"] = plain
view = ipv4.MessageBatch(3, 4).data
del conn
"""


@pytest.mark.parametrize("end", ["", "sys.exit()", "del here[1:]; gc.collect()", "del ipv4, sys"])
def test_the_interpreter_ends_with_conns_open(end):
    done = subprocess.run(
        [sys.executable, "-P", "-c", EXIT + end], capture_output=True, text=True, timeout=60
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert set(done.stdout.splitlines()) <= {"closed True"}


# Calls from places where nobody expects them


@pytest.fixture
def table():
    """Every public call, its error paths included."""
    table, conns = calls()
    yield table
    for each in conns:
        each.close()


def test_every_call_inside_a_signal_handler(table, conn):
    """A call waits; the handler, which interrupts it, makes every other call."""
    made = []

    def handler(number, frame):
        for name, call in table.items():
            call()
            made.append(name)
        conn.write_to(b"from the handler", conn.local_addr)

    before = signal.signal(signal.SIGALRM, handler)
    try:
        signal.setitimer(signal.ITIMER_REAL, 0.05)
        assert conn.read_from(bytearray(32))[0] == 16
    finally:
        signal.signal(signal.SIGALRM, before)
    assert made == list(table)


def test_a_handler_may_make_the_same_call(conn):
    """A read inside a read, with the same message refused and another taken."""
    outer, inner = Message(bytearray(8)), Message(bytearray(8))
    caught = []

    def handler(number, frame):
        for change in (lambda: conn.read_batch([outer]), lambda: setattr(outer, "buffers", b"")):
            with pytest.raises(BufferError) as refused:
                change()
            caught.append(refused.value)
        conn.write_to(b"inner", conn.local_addr)
        assert conn.read_batch([inner]) == 1
        conn.write_to(b"outer", conn.local_addr)

    before = signal.signal(signal.SIGALRM, handler)
    try:
        signal.setitimer(signal.ITIMER_REAL, 0.05)
        assert conn.read_batch([outer]) == 1
    finally:
        signal.signal(signal.SIGALRM, before)
    assert (outer.buffers[0][:5], inner.buffers[0][:5]) == (b"outer", b"inner")
    assert len(caught) == 2


def test_every_call_inside_a_weak_reference_callback(table):
    made = []

    class Gone:
        def __del__(self):
            run("__del__")

    def run(place):
        for name, call in table.items():
            call()
            made.append((place, name))

    thing = Gone()
    thing.me = thing
    reference = weakref.ref(thing, lambda ref: run("callback"))
    del thing
    gc.collect()
    assert reference() is None
    assert made == [(place, name) for place in ("callback", "__del__") for name in table]


@pytest.mark.parametrize("hook", [sys.settrace, sys.setprofile])
def test_every_call_while_traced(table, hook):
    seen = 0

    def trace(frame, event, arg):
        nonlocal seen
        seen += 1
        return trace

    before = sys.gettrace() if hook is sys.settrace else sys.getprofile()
    hook(trace)
    try:
        for call in table.values():
            call()
    finally:
        hook(before)
    assert seen > len(table)


def test_a_trace_function_that_raises(table):
    def body():
        # Between opening a socket and giving it to its conn it belongs to nobody.
        warnings.simplefilter("ignore", ResourceWarning)
        for call in table.values():
            for k in range(40):
                left = [k]

                def trace(frame, event, arg, left=left):
                    left[0] -= 1
                    if left[0] < 0:
                        raise Own
                    return trace

                with suppress(Own, AssertionError, OSError):  # of what the round before left
                    sys.settrace(trace)
                    try:
                        call()
                    finally:
                        sys.settrace(None)
        fresh, _ = calls()
        for call in fresh.values():
            call()
        return True

    assert in_child(body)


def test_an_audit_hook_that_raises():
    """It refuses sockets, binding, files: that error comes out, and no descriptor stays open."""

    def body():
        armed = []
        table, opened = calls()
        with PacketConn.udp(("127.0.0.1", 0)) as conn:
            here = conn.local_addr
            wait_once(conn)

            def hook(event, args):
                if armed and event.startswith(armed[0]):
                    raise Own(event)

            sys.addaudithook(hook)
            before = len(os.listdir("/proc/self/fd"))
            for event in ("socket.__new__", "socket.bind"):
                armed[:] = [event]
                for make in (PacketConn.udp, PacketConn.udp):
                    with pytest.raises(Own, match=event):
                        make(("127.0.0.1", 0))
            armed[:] = ["o"]  # open, os.*, object.*
            with pytest.raises(Own, match="open"):
                PacketConn.udp(netns="nowhere")
            armed[:] = [""]
            for call in table.values():
                with suppress(Own):
                    call()
            assert conn.write_to(b"x", here) == conn.read_from(bytearray(8))[0] == 1
            armed.clear()
            assert len(os.listdir("/proc/self/fd")) == before
        for each in opened:
            each.close()
        return True

    assert in_child(body)
