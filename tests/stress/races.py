"""Many threads on one object: conns, messages, batches, control messages, headers.

    python tests/stress/races.py [--seconds 300]

With a GIL the threads take turns; without one they meet inside of every call. Each world checks
that what it is told is true at some moment: a sender is the datagram's own, bytes are those of one
setting, a flag that was set is on. Refusals that are promised (a message in flight, a closed conn)
are let pass, nothing else.
"""

import collections
import contextlib
import errno
import os
import random
import socket
import struct
import sys
import threading
import time

from driver import run

import ipv4
from ipv4 import ControlFlags, ControlMessage, Header, Message, MessageBatch

PATIENCE = 20  # seconds after which a call that must end has hung
LOOPBACK = ("127.0.0.1", 0)


def together(until, *jobs):
    """Run each job again and again in a thread of its own; what one raises ends all."""
    counts, problems, stop = collections.Counter(), [], threading.Event()

    start = threading.Barrier(len(jobs))

    def work(job):
        rounds = 0
        start.wait()
        try:
            while not stop.is_set():
                job()  # once at least, though the machine be so busy that the time is over
                rounds += 1
                if time.monotonic() >= until:
                    break
        except BaseException as error:
            problems.append(error)
            stop.set()
        counts[job.__name__.replace("_", " ")] += rounds

    threads = [threading.Thread(target=work, args=(job,), daemon=True) for job in jobs]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(max(0, until - time.monotonic()) + PATIENCE)
        assert not thread.is_alive(), "a call did not end"
    if problems:
        raise problems[0]
    return counts


def conn(seed, until):
    """Conns are closed under reads, waits and writes, while numbers are given to others."""
    counts, rng = collections.Counter(), random.Random(seed)
    problems, stop = [], threading.Event()
    mine, alien = b"mine", b"alien"

    def open_others():
        """Sockets that get the numbers that were just closed; nothing of theirs may be touched."""
        while not stop.is_set():
            with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as other:
                other.bind(LOOPBACK)
                other.sendto(alien, other.getsockname())
                if other.recv(16, socket.MSG_DONTWAIT) != alien:
                    problems.append("another socket's datagram was changed")
                other.sendto(alien, other.getsockname())

    others = [threading.Thread(target=open_others, daemon=True) for _ in range(2)]
    for thread in others:
        thread.start()

    def use(opened, verb):
        buffer, batch = bytearray(16), MessageBatch(4, 16)
        where = opened.local_addr
        messages = [Message(bytearray(16)) for _ in range(4)]
        outs = [Message(mine, addr=where) for _ in range(4)]
        call = {
            "read": lambda: opened.read_from(buffer),
            "batch": lambda: opened.read_batch(batch),
            "list": lambda: opened.read_batch(messages),
            "write": lambda: opened.write_to(mine, where),
            "writes": lambda: opened.write_batch(outs),
            "option": lambda: (opened.ttl, opened.local_addr, opened.closed, opened.fileno()),
            "flags": lambda: opened.set_control_message(ControlFlags.TTL, True),
            "error": lambda: opened.read_error(),
            "deadline": lambda: opened.set_deadline(time.monotonic() + rng.random() * 0.002),
        }[verb]
        try:
            while True:
                try:
                    call()
                except TimeoutError:
                    opened.set_deadline(None)
                if bytes(buffer[:5]) == alien or bytes(batch.payload(0)[:5]) == alien:
                    problems.append("another socket's datagram was read")
        except OSError as error:
            if error.errno != errno.EBADF:
                problems.append(error)
        except BaseException as error:
            problems.append(error)

    verbs = ["read", "read", "batch", "list", "write", "writes", "option", "flags", "error",
             "deadline"]  # fmt: skip
    while not problems:
        opened = ipv4.PacketConn.udp(LOOPBACK)
        opened.release_gil = rng.choice((None, True, False))
        threads = [threading.Thread(target=use, args=(opened, verb), daemon=True) for verb in verbs]
        closers = [threading.Thread(target=opened.close, daemon=True) for _ in range(2)]
        for thread in threads:
            thread.start()
        time.sleep(rng.random() * 0.005)
        for thread in closers:
            thread.start()
        for thread in closers + threads:
            thread.join(PATIENCE)
            assert not thread.is_alive(), "a call did not end"
        counts["closed"] += 1
        if time.monotonic() >= until:
            break
    stop.set()
    for thread in others:
        thread.join(PATIENCE)
    assert not problems, problems[:3]
    return counts


def peers(seed, until):
    """Several read what several sent, each datagram with the number of its sender."""
    number = struct.Struct("=H")
    receiver = ipv4.PacketConn.udp(LOOPBACK)
    receiver.timeout = 0.01
    senders = [ipv4.PacketConn.udp((f"127.0.0.{1 + i % 3}", 0)) for i in range(12)]
    mailboxes = [ipv4.PacketConn.udp(LOOPBACK) for _ in range(2)]
    by_port = [(conn, number.pack(conn.local_addr[1])) for conn in senders]
    host = {conn.local_addr[1]: conn.local_addr[0] for conn in senders}
    where = receiver.local_addr
    batch = MessageBatch(8, 16)

    def send():
        for out, data in by_port:
            out.write_to(data, where)

    def check(data, src):
        port = number.unpack(data[:2])[0]
        assert src == (host[port], port), f"{src} was told of what {port} sent"

    def read():
        data = bytearray(16)
        with contextlib.suppress(TimeoutError):
            _, _, src = receiver.read_from(data)
            check(data, src)

    def read_many():
        with contextlib.suppress(TimeoutError, BufferError):
            receiver.read_batch(batch)
        list(batch.peers())
        list(batch.heads())

    def write_in_turn():
        for box in mailboxes:
            to = box.local_addr
            shared.write_to(number.pack(to[1]), to)
        for box in mailboxes:
            with contextlib.suppress(BlockingIOError):
                data, _, _ = box.receive(16, socket.MSG_DONTWAIT)
                assert number.unpack(data)[0] == box.local_addr[1], "went to another destination"

    shared = ipv4.PacketConn.udp(LOOPBACK)
    try:
        return together(until, send, read, read, read_many, write_in_turn, write_in_turn)
    finally:
        for each in [receiver, shared, *senders, *mailboxes]:
            each.close()


def message(seed, until):
    """One message is changed, looked at and moved by all."""
    here = ipv4.PacketConn.udp(LOOPBACK)
    here.timeout = 0.001
    here.set_control_message(ControlFlags.TTL | ControlFlags.DST, True)
    where = here.local_addr
    one = Message(bytearray(16), ipv4.new_control_message(ControlFlags.TTL | ControlFlags.DST))
    flags = ControlFlags.TTL | ControlFlags.DST

    def change():
        with contextlib.suppress(BufferError):
            one.buffers = [bytearray(8), bytearray(8)]
        with contextlib.suppress(BufferError):
            one.oob = ipv4.new_control_message(flags)
        with contextlib.suppress(BufferError):
            one.addr = where
        with contextlib.suppress(BufferError):
            one.buffers = bytearray(16)
        with contextlib.suppress(BufferError):
            one.n = 3
        with contextlib.suppress(BufferError):
            one.oob = None

    def look():
        assert sum(map(len, one.buffers)) == 16
        assert one.addr is None or len(one.addr) == 2
        with contextlib.suppress(ValueError):  # cut, for want of room
            control = one.control
            assert control is None or control.ttl in (0, 64)
        repr(one)
        assert one.n <= 16
        assert one.flags >= 0
        assert one.nn >= 0

    def read():
        with contextlib.suppress(BufferError, TimeoutError):
            here.read_batch([one])

    def write():
        here.write_to(b"datagram", where)
        with contextlib.suppress(BufferError, OSError):
            here.write_batch([one, one])

    with here:
        return together(until, change, change, look, look, read, read, write)


def batch(seed, until):
    """One batch, its halves and its slots in several calls; columns, answers, iterators."""
    flags = ControlFlags.TTL | ControlFlags.DST
    here = ipv4.PacketConn.udp(LOOPBACK)
    here.timeout = 0.001
    here.set_control_message(flags, True)
    where = here.local_addr
    whole = MessageBatch(16, 32, flags)
    into = MessageBatch(64, 32, flags)
    payloads = [bytes([i]) * (i + 1) for i in range(16)]
    parts = [whole, whole[:8], whole[8:], whole[4:12]]
    shared = [whole.payloads(), whole.heads(), whole.peers(), whole.datagrams(), iter(whole)]

    def send():
        here.write_batch([Message(data, addr=where) for data in payloads])

    def read():
        for part in parts:
            with contextlib.suppress(BufferError, TimeoutError):
                here.read_batch(part)

    def read_slots():
        with contextlib.suppress(BufferError, TimeoutError):
            here.read_batch([whole[3], whole[9]])

    def answer():
        for part in parts:
            with contextlib.suppress(BufferError, ValueError):
                part.reply()
            with contextlib.suppress(BufferError, OSError):
                here.write_batch(part)

    def change():
        with contextlib.suppress(BufferError):
            whole[5].addr = where
        with contextlib.suppress(BufferError):
            whole[5].oob = b""
        with contextlib.suppress(BufferError):
            whole[5].n = 5

    def look():
        ttls = [*whole.ttls, *whole[2:].ttls]
        assert all(ttl in (0, 64) for ttl in ttls), ttls
        for column in ("lengths", "flags", "addrs", "ports", "toses", "ifindexes", "timestamps",
                       "segment_sizes", "dsts", "spec_dsts", "drops", "data"):  # fmt: skip
            getattr(whole, column).tolist()
        with contextlib.suppress(ValueError):
            _ = whole[7].control

    def make_columns():
        fresh = MessageBatch(4, 8)
        marks = [threading.Thread(target=lambda: (fresh.dsts, fresh.drops, fresh.send_ttls))
                 for _ in range(2)]  # fmt: skip
        for each in marks:
            each.start()
        fresh.send_toses[0] = 0
        for each in marks:
            each.join()

    def split():
        with contextlib.suppress(BufferError, ValueError):
            whole.split(into)

    def iterate():
        for position, each in enumerate(shared):
            if next(each, None) is None:
                shared[position] = (whole.payloads(), whole.heads(), whole.peers(),
                                    whole.datagrams(), iter(whole))[position]  # fmt: skip

    with here:
        return together(
            until, send, read, read, read_slots, answer, change, look, look, make_columns, split,
            iterate, iterate,
        )  # fmt: skip


def control(seed, until):
    """One control message is set, read, parsed, encoded and sent by all."""
    here = ipv4.PacketConn.udp(LOOPBACK)
    where = here.local_addr
    cm = ControlMessage()
    extra = [(0x7FFF, kind, bytes([kind]) * 400) for kind in range(3)]
    first = ControlMessage(send_ttl=64, send_tos=4, extra=extra[:1]).marshal()

    def grow():
        cm.extra = extra
        cm.send_options = bytes(40)
        cm.src = "127.0.0.1"
        cm.ifindex = 100_000

    def shrink():
        cm.extra = ()
        cm.send_options = None
        cm.src = None
        cm.ifindex = 0

    def set_numbers():
        cm.send_ttl, cm.send_tos, cm.ttl = 64, 16, 300 - 45
        cm.timestamp, cm.drops, cm.tos = 1 << 40, 7, 3
        cm.segment_size = 100
        cm.dst = cm.spec_dst = "127.0.0.2"
        cm.original_dst = ("127.0.0.3", 9)
        cm.send_ttl = cm.send_tos = cm.timestamp = cm.tos = cm.segment_size = None
        cm.original_dst = None

    def parse():
        cm.parse(first)

    def encode():
        whole = ControlMessage()
        whole.parse(cm.marshal())  # what is torn would be malformed
        assert whole.send_ttl is None
        assert len(whole.extra) <= 6

    def look():
        assert cm.send_ttl in (None, 64)
        assert cm.send_tos in (None, 4, 16)
        assert cm.ttl in (0, 255, 64)
        assert cm.ifindex in (0, 100_000)
        assert cm.original_dst in (None, ("127.0.0.3", 9)), cm.original_dst
        assert cm.timestamp in (None, 1 << 40)
        assert cm.drops in (None, 7)
        assert str(cm.src) in ("None", "127.0.0.1")
        assert str(cm.dst) in ("None", "127.0.0.2")
        assert cm.ecn in (None, 0, 3)
        for _, kind, data in cm.extra:
            assert data in (b"", bytes([kind]) * len(data)) or len(data) < 8, (kind, data)
        repr(cm), str(cm), cm.reply(), cm == ControlMessage(), cm.options, cm.send_options

    def send():
        with contextlib.suppress(OSError):  # an interface that is not there, options refused
            here.write_to(b"datagram", where, cm)

    with here:
        return together(until, grow, shrink, set_numbers, parse, encode, encode, look, look, send)


def header(seed, until):
    """One header grows, shrinks, is parsed and encoded by all."""
    one = Header(dst="127.0.0.1", src="127.0.0.1")
    options = [b"", b"\x01" * 4, b"\x01" * 40, b"\x01" * 400]
    packets = [Header(dst="127.0.0.1", ttl=ttl, tos=ttl, options=b"\x01" * (4 * ttl)).marshal()
               for ttl in range(11)]  # fmt: skip

    def set_options():
        for each in options:
            one.options = each

    def set_fields():
        one.ttl, one.tos, one.id, one.flags = 7, 7, 7, 2
        one.src = None
        one.dst = "127.0.0.1"
        one.src = "127.0.0.1"

    def parse():
        for each in packets:
            one.parse(each)

    def encode():
        with contextlib.suppress(ValueError):  # options too long to encode
            data = one.marshal()
            assert len(data) == (data[0] & 15) * 4, data
            assert set(data[20:]) <= {1}, data
        with contextlib.suppress(ValueError):
            one.compute_checksum()
            list(one.iter_options())

    def look():
        assert set(one.options) <= {1}
        assert str(one.src) in ("None", "0.0.0.0", "127.0.0.1")
        assert one.ttl <= 10
        assert one.tos <= 10
        repr(one), str(one), one == Header(), one.flags, one.__reduce__()

    return together(until, set_options, set_fields, parse, encode, encode, look, look)


def flags(seed, until):
    """Control flags, timeouts and deadlines are set by all; what is set last holds."""
    here = ipv4.PacketConn.udp(LOOPBACK)
    kinds = [ControlFlags.TTL, ControlFlags.DST, ControlFlags.TOS, ControlFlags.TIMESTAMP]

    def toggle(kind):
        def toggle_flags():
            here.set_control_message(kind, False)
            here.set_control_message(kind, True)
            assert here.control_flags & kind, "a flag was lost"

        return toggle_flags

    def move():
        here.set_deadline(time.monotonic() + 0.0005)
        here.timeout = 0.0005
        here.set_read_deadline(None)
        here.timeout = 0.001

    def wait():
        with contextlib.suppress(TimeoutError):
            here.read_from(bytearray(8))

    with here:
        counts = together(until, *map(toggle, kinds), move, move, wait, wait, wait)
        assert here.control_flags == kinds[0] | kinds[1] | kinds[2] | kinds[3]
        here.set_deadline(None)
        here.write_to(b"last", here.local_addr)
        _, cm, _ = here.read_from(bytearray(8))
        assert cm.ttl
        assert cm.dst
        assert cm.tos is not None
        assert cm.timestamp
        return counts


def lists(seed, until):
    """A list of messages loses and gains some while calls go over it."""
    here = ipv4.PacketConn.udp(LOOPBACK)
    here.timeout = 0.001
    where = here.local_addr
    held = [Message(bytearray(8), addr=where) for _ in range(64)]

    def shrink():
        del held[8:]
        held.extend(Message(bytearray(8), addr=where) for _ in range(56))

    def read():
        with contextlib.suppress(BufferError, TimeoutError, IndexError):
            here.read_batch(held)

    def write():
        with contextlib.suppress(BufferError, OSError, IndexError):
            here.write_batch(held)

    def write_all():
        with contextlib.suppress(BufferError, OSError, IndexError):
            here.write_all(held)

    with here:
        return together(until, shrink, read, read, write, write_all)


def groups(seed, until):
    """Groups are joined and left by all, without naming an interface."""
    here = ipv4.PacketConn.udp(("0.0.0.0", 0))
    here.multicast_interface = socket.if_nametoindex("lo")

    def member(last):
        group = f"239.1.2.{last}"

        def join_and_leave():
            here.join_group(group)
            here.leave_group(group)
            here.join_source_specific_group(group, "127.0.0.1")
            here.source_filter(group)
            here.leave_source_specific_group(group, "127.0.0.1")

        return join_and_leave

    def meet():
        with contextlib.suppress(OSError):  # joined or left by the other already
            here.join_group("239.1.2.9")
        with contextlib.suppress(OSError):
            here.set_source_filter("239.1.2.9", "include", ["127.0.0.1"])
        with contextlib.suppress(OSError):
            here.leave_group("239.1.2.9")

    with here:
        return together(until, *map(member, (1, 2, 3)), meet, meet)


WORLDS = {
    each.__name__: each
    for each in (conn, peers, message, batch, control, header, flags, lists, groups)
}

if __name__ == "__main__":
    os.environ.setdefault("PYTHON_GIL", "0")
    sys.exit(run(WORLDS, __doc__.splitlines()[0]))
