"""Buffers that are none, too long, empty or read-only; and no byte around one is touched."""

import errno
import mmap
import os
import socket
import sys
import time
from collections import UserString
from contextlib import suppress

import pytest
from support import in_child
from support.hostile import GIB2, Own, mapped, needs_raw, nothing_came

import ipv4
from ipv4 import ControlFlags, ControlMessage, Message, MessageBatch, PacketConn

privileged = pytest.mark.privileged


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
@pytest.mark.parity("buffers pinned, resized, strange")
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
@pytest.mark.parity("buffers pinned, resized, strange")
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


@pytest.mark.skipif(sys.maxsize < 1 << 32, reason="needs addresses of 64 bits")
def test_more_bytes_than_an_int_counts_do_not_wrap_into_few(conn):
    with mapped((1 << 32) + 4) as huge, pytest.raises(ValueError, match=r"^value\b"):
        conn.setsockopt(socket.IPPROTO_IP, socket.IP_TTL, huge)


@privileged
@pytest.mark.parity("buffers pinned, resized, strange")
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
@pytest.mark.parity("IP options in received packets")
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


@pytest.mark.parity("hostile headers and control data")
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
