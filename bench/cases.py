"""The cases, once for every Python contender: what is moved, and how each contender moves it.

A case is a function of a count that returns (nanoseconds, bytes of payload that arrived). Every
contender sends to itself over one loopback socket, so that one thread does all the work. Each
length is looked at; every message of a batch bears a payload of its own, and after the time was
taken the last ones are verified byte by byte, and nothing may be left in the queue.
"""

import os
import socket
import struct
import sys
from contextlib import suppress
from time import monotonic, perf_counter_ns

SIZE = 64
PAYLOADS = [bytes((i + j) & 255 for i in range(SIZE)) for j in range(1024)]
PAYLOAD = PAYLOADS[0]
SEGMENT = 1400
LONG = bytes(i & 255 for i in range(SEGMENT))
SEGMENTS = 46
BIG = bytes(i % SEGMENT % SIZE for i in range(SEGMENT * SEGMENTS))
PROTOCOL = 254  # each contender its own: all raw sockets of a protocol get every packet
PART = 128  # a small receive buffer's queue holds a few hundred: larger batches go in parts
HEADER = bytes.fromhex("4500005400070000400100000a0000010a000002")
CONTROL = bytes.fromhex(
    "1c000000000000000000000008000000010000007f0000017f00000100000000"
    "140000000000000000000000020000004000000000000000"
)


def verify(arrived, sent=PAYLOAD):
    """A wrong byte ends the run."""
    if bytes(arrived) != sent:
        raise SystemExit(f"a wrong byte arrived: {bytes(arrived)[:80]!r}")


def wrong(length):
    raise SystemExit(f"a packet of {length} bytes arrived")


class Ours:
    """This library."""

    def __init__(self):
        import ipv4

        self.ipv4 = ipv4
        self.conn = ipv4.PacketConn.udp(("127.0.0.1", 0))
        self.plain_conn = None
        self.moves_one_a_call = self.conn._moves_one_a_call()  # the portable build
        self.here = self.conn.local_addr
        self.told = ipv4.ControlMessage(src="127.0.0.1", ifindex=1)
        self.flags = ipv4.ControlFlags.TTL | ipv4.ControlFlags.INTERFACE
        try:
            self.raw_conn = ipv4.RawConn.ip(PROTOCOL, "127.0.0.1")
        except PermissionError:
            self.raw_conn = None

    def nothing_left(self):
        for conn in filter(None, (self.conn, self.plain_conn, self.raw_conn)):
            try:
                n, _, _ = conn.read_from(bytearray(SIZE), socket.MSG_DONTWAIT)
            except BlockingIOError:
                continue
            wrong(n)

    def control(self, on):
        self.conn.set_control_message(self.flags, on)

    def fill(self, count):
        write, here = self.conn.write_to, self.here
        for payload in PAYLOADS[:count]:
            write(payload, here)

    def pair(self, count):
        conn = self.plain()
        write, read, here, buffer = conn.write_to, conn.read_from, conn.local_addr, bytearray(99)
        start = perf_counter_ns()
        for _ in range(count):
            write(PAYLOAD, here)
            n, _, _ = read(buffer)
            if n != SIZE:
                wrong(n)
        spent = perf_counter_ns() - start
        verify(buffer[:SIZE])
        return spent, count * SIZE

    def plain(self):
        """A conn that never had control messages on; one and the same for all plain pairs."""
        if self.plain_conn is None:
            self.plain_conn = self.ipv4.PacketConn.udp(("127.0.0.1", 0))
        return self.plain_conn

    def bound_pair(self, count, conn, destinations, payload=PAYLOAD):
        """Pairs through bound methods, to the destinations in turn."""
        write, read, buffer, size = conn.write_to, conn.read_from, bytearray(2048), len(payload)
        start = perf_counter_ns()
        for _ in range(0, count, len(destinations)):
            for here in destinations:
                write(payload, here)
                n, _, _ = read(buffer)
                if n != size:
                    wrong(n)
        spent = perf_counter_ns() - start
        verify(buffer[:size], payload)
        return spent, count * size

    def pair_long(self, count):
        conn = self.plain()
        return self.bound_pair(count, conn, [conn.local_addr] * 2, LONG)

    def pair_two(self, count):
        with self.ipv4.PacketConn.udp(("0.0.0.0", 0)) as conn:
            port = conn.local_addr[1]
            return self.bound_pair(count, conn, [("127.0.0.1", port), ("127.0.0.2", port)])

    def pair_connected(self, count):
        sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        sock.bind(("127.0.0.1", 0))
        sock.connect(sock.getsockname())
        with self.ipv4.PacketConn(sock) as conn:
            return self.bound_pair(count, conn, [None] * 2)

    def pair_deadline(self, count):
        conn = self.plain()
        conn.set_deadline(monotonic() + 100_000)
        try:
            return self.bound_pair(count, conn, [conn.local_addr] * 2)
        finally:
            conn.set_deadline(None)

    def pair_unbound(self, count):
        conn, here, buffer = self.plain(), self.plain().local_addr, bytearray(99)
        start = perf_counter_ns()
        for _ in range(count):
            conn.write_to(PAYLOAD, here)
            n, _, _ = conn.read_from(buffer)
            if n != SIZE:
                wrong(n)
        spent = perf_counter_ns() - start
        verify(buffer[:SIZE])
        return spent, count * SIZE

    def pair_dst(self, count):
        with self.ipv4.PacketConn.udp(("127.0.0.1", 0)) as conn:
            conn.set_control_message(self.flags | self.ipv4.ControlFlags.DST, True)
            write, read, here, told = conn.write_to, conn.read_from, conn.local_addr, self.told
            buffer = bytearray(99)
            start = perf_counter_ns()
            for _ in range(count):
                write(PAYLOAD, here, told)
                n, cm, _ = read(buffer)
                cm.dst  # noqa: B018
                cm.ifindex  # noqa: B018
                if n != SIZE:
                    wrong(n)
            spent = perf_counter_ns() - start
        verify(buffer[:SIZE])
        return spent, count * SIZE

    def pair_cm(self, count):
        self.control(True)
        write, read, here, buffer = (
            self.conn.write_to,
            self.conn.read_from,
            self.here,
            bytearray(99),
        )
        told = self.told
        start = perf_counter_ns()
        for _ in range(count):
            write(PAYLOAD, here, told)
            n, cm, _ = read(buffer)
            cm.ttl  # noqa: B018
            cm.ifindex  # noqa: B018
            if n != SIZE:
                wrong(n)
        spent = perf_counter_ns() - start
        verify(buffer[:SIZE])
        return spent, count * SIZE

    def receive(self, count, look=False):
        self.control(look)
        read, buffer = self.conn.read_from, bytearray(99)
        spent = 0
        for _ in range(0, count, PART):
            self.fill(PART)
            start = perf_counter_ns()
            if look:
                for _ in range(PART):
                    n, cm, _ = read(buffer)
                    cm.ttl  # noqa: B018
                    cm.ifindex  # noqa: B018
                    if n != SIZE:
                        wrong(n)
            else:
                for _ in range(PART):
                    n, _, _ = read(buffer)
                    if n != SIZE:
                        wrong(n)
            spent += perf_counter_ns() - start
            verify(buffer[:SIZE], PAYLOADS[PART - 1])
        return spent, count * SIZE

    def receive_cm(self, count):
        return self.receive(count, True)

    def lists(self, count):
        oob, room = self.told.marshal(), self.ipv4.new_control_message
        message = self.ipv4.Message
        out = [message([payload], oob, self.here) for payload in PAYLOADS[:count]]
        back = [message([bytearray(SIZE)], room(self.flags)) for _ in range(count)]
        return out, back

    def rings(self, count):
        out = self.ipv4.MessageBatch(count, SIZE)
        back = self.ipv4.MessageBatch(count, SIZE, self.flags)
        oob = self.told.marshal()
        for message, payload in zip(out, PAYLOADS, strict=False):
            message.addr, message.oob = self.here, oob
            message.buffers[0][:] = payload
        return out, back

    def parts(self, out, back):
        return [(out[at : at + PART], back[at : at + PART]) for at in range(0, len(out), PART)]

    def batch_list(self, count, size):
        self.control(True)
        parts = self.parts(*self.lists(size))
        write, read = self.conn.write_batch, self.conn.read_batch
        start = perf_counter_ns()
        for _ in range(0, count, size):
            for sent, got in parts:
                if write(sent) != len(sent) or read(got) != len(got):
                    raise SystemExit("a batch went partly")
                for m in got:
                    if m.n != SIZE:
                        wrong(m.n)
                    m.addr  # noqa: B018
                    cm = m.control
                    cm.ttl  # noqa: B018
                    cm.ifindex  # noqa: B018
        return self.verified(start, parts, count)

    def batch_ring(self, count, size):
        self.control(True)
        parts = self.parts(*self.rings(size))
        write, read = self.conn.write_batch, self.conn.read_batch
        start = perf_counter_ns()
        for _ in range(0, count, size):
            for sent, got in parts:
                if write(sent) != len(sent) or read(got) != len(got):
                    raise SystemExit("a batch went partly")
                for n, _, _, _ in got.heads():
                    if n != SIZE:
                        wrong(n)
        return self.verified(start, parts, count)

    def batch_coalesced(self, count, size):
        """As `batch_ring`, joined on its way where neighbours can be."""
        self.conn.coalesce = True
        try:
            return self.batch_ring(count, size)
        finally:
            self.conn.coalesce = False

    def verified(self, start, parts, count):
        spent = perf_counter_ns() - start
        for sent, got in parts:
            for one, other in zip(sent, got, strict=True):
                verify(other.buffers[0], bytes(one.buffers[0]))
        return spent, count * SIZE

    def half(self, count, how):
        self.control(True)
        _, back = self.lists(64) if how == "list" else self.rings(64)
        read = self.conn.read_batch
        spent = 0
        for _ in range(0, count, 64):
            self.fill(64)
            start = perf_counter_ns()
            if read(back) != 64:
                raise SystemExit("a batch came partly")
            if how == "list":
                for m in back:
                    if m.n != SIZE:
                        wrong(m.n)
                    m.addr  # noqa: B018
                    cm = m.control
                    cm.ttl  # noqa: B018
                    cm.ifindex  # noqa: B018
            elif how == "ring":
                for n, _, _, _ in back.heads():
                    if n != SIZE:
                        wrong(n)
            spent += perf_counter_ns() - start
        for m, payload in zip(back, PAYLOADS, strict=False):
            verify(m.buffers[0], payload)
        return spent, count * SIZE

    def raw(self, count):
        if self.raw_conn is None:
            return None
        header, raw, buffer = self.ipv4.Header, self.raw_conn, bytearray(200)
        write, read = raw.write_to, raw.read_from
        start = perf_counter_ns()
        for _ in range(count):
            write(header(total_len=84, ttl=64, protocol=PROTOCOL, dst="127.0.0.1"), PAYLOAD)
            head, payload, _ = read(buffer)
            head.ttl  # noqa: B018
            head.protocol  # noqa: B018
            if head.total_len != 84 or len(payload) != SIZE:
                wrong(head.total_len)
        spent = perf_counter_ns() - start
        verify(payload)
        return spent, count * SIZE

    def segments(self, count):
        self.control(False)
        flag = self.ipv4.ControlFlags.SEGMENT_SIZE
        self.conn.set_control_message(flag, True)
        write, read, here, buffer = (
            self.conn.write_to,
            self.conn.read_from,
            self.here,
            bytearray(65536),
        )
        told = self.ipv4.ControlMessage(segment_size=SEGMENT)
        total = n = 0
        start = perf_counter_ns()
        for _ in range(0, count, SEGMENTS):
            write(BIG, here, told)
            got = 0
            while got < len(BIG):
                n, _, _ = read(buffer)
                got += n
            total += got
        spent = perf_counter_ns() - start
        verify(buffer[:n], BIG[len(BIG) - n :])
        self.conn.set_control_message(flag, False)
        return spent, total

    def coalesced(self, count):
        """As `segments`, sent by a batch of messages that `coalesce` joins."""
        self.control(False)
        flag = self.ipv4.ControlFlags.SEGMENT_SIZE
        self.conn.set_control_message(flag, True)
        self.conn.coalesce = True
        parts = [BIG[at : at + SEGMENT] for at in range(0, len(BIG), SEGMENT)]
        out = [self.ipv4.Message(part, addr=self.here) for part in parts]
        write, read, buffer = self.conn.write_batch, self.conn.read_from, bytearray(65536)
        total = n = 0
        start = perf_counter_ns()
        for _ in range(0, count, SEGMENTS):
            write(out)
            got = 0
            while got < len(BIG):
                n, _, _ = read(buffer)
                got += n
            total += got
        spent = perf_counter_ns() - start
        verify(buffer[:n], BIG[len(BIG) - n :])
        self.conn.coalesce = False
        self.conn.set_control_message(flag, False)
        return spent, total

    def parse_header(self, count):
        return codec(count, self.ipv4.parse_header, HEADER)

    def header_parse(self, count):
        return codec(count, self.ipv4.Header().parse, HEADER)

    def header_marshal(self, count):
        return codec(count, self.ipv4.parse_header(HEADER).marshal)

    def control_parse(self, count):
        return codec(count, self.ipv4.ControlMessage().parse, CONTROL)

    def control_marshal(self, count):
        return codec(count, self.told.marshal)

    def checksum(self, count, size):
        return codec(count, self.ipv4.checksum, BIG[:size] + bytes(max(size - len(BIG), 0)))


class Stdlib:
    """The standard library: `socket` and `struct`."""

    moves_one_a_call = False

    def __init__(self):
        self.sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.sock.bind(("127.0.0.1", 0))
        self.here = self.sock.getsockname()
        self.told = [(0, 8, struct.pack("=i4s4s", 1, socket.inet_aton("127.0.0.1"), bytes(4)))]
        self.room = socket.CMSG_SPACE(4) + socket.CMSG_SPACE(12)

    def nothing_left(self):
        with suppress(BlockingIOError):
            wrong(self.sock.recv_into(bytearray(SIZE), 0, socket.MSG_DONTWAIT))

    def control(self, on):
        self.sock.setsockopt(socket.IPPROTO_IP, 12, on)  # IP_RECVTTL
        self.sock.setsockopt(socket.IPPROTO_IP, 8, on)  # IP_PKTINFO

    def fill(self, count):
        for payload in PAYLOADS[:count]:
            self.sock.sendto(payload, self.here)

    def look(self, ancillary):
        ttl = index = 0
        for _, kind, data in ancillary:
            if kind == 2:
                (ttl,) = struct.unpack("=i", data)
            elif kind == 8:
                (index,) = struct.unpack_from("=i", data)
        return ttl, index

    def pair(self, count):
        self.control(0)
        send, receive, here, buffer = (
            self.sock.sendto,
            self.sock.recvfrom_into,
            self.here,
            bytearray(99),
        )
        start = perf_counter_ns()
        for _ in range(count):
            send(PAYLOAD, here)
            n, _ = receive(buffer)
            if n != SIZE:
                wrong(n)
        spent = perf_counter_ns() - start
        verify(buffer[:SIZE])
        return spent, count * SIZE

    def pair_cm(self, count):
        return self.batch(count, 1)

    def receive(self, count):
        self.control(0)
        receive, buffer = self.sock.recvfrom_into, bytearray(99)
        spent = 0
        for _ in range(0, count, PART):
            self.fill(PART)
            start = perf_counter_ns()
            for _ in range(PART):
                n, _ = receive(buffer)
                if n != SIZE:
                    wrong(n)
            spent += perf_counter_ns() - start
            verify(buffer[:SIZE], PAYLOADS[PART - 1])
        return spent, count * SIZE

    def receive_cm(self, count):
        self.control(1)
        receive, buffer, look, room = self.sock.recvmsg_into, bytearray(99), self.look, self.room
        spent = 0
        for _ in range(0, count, PART):
            self.fill(PART)
            start = perf_counter_ns()
            for _ in range(PART):
                n, ancillary, _, _ = receive([buffer], room)
                look(ancillary)
                if n != SIZE:
                    wrong(n)
            spent += perf_counter_ns() - start
            verify(buffer[:SIZE], PAYLOADS[PART - 1])
        return spent, count * SIZE

    def batch(self, count, size):
        """No batches here: as many single calls."""
        self.control(1)
        send, receive, here, buffer = (
            self.sock.sendmsg,
            self.sock.recvmsg_into,
            self.here,
            bytearray(99),
        )
        told, room, look = self.told, self.room, self.look
        payloads = PAYLOADS[: min(size, PART)]
        start = perf_counter_ns()
        for _ in range(0, count, len(payloads)):
            for payload in payloads:
                send([payload], told, 0, here)
            for _ in payloads:
                n, ancillary, _, _ = receive([buffer], room)
                look(ancillary)
                if n != SIZE:
                    wrong(n)
        spent = perf_counter_ns() - start
        verify(buffer[:SIZE], payloads[-1])
        return spent, count * SIZE

    def parse_header(self, count):
        return codec(count, struct.Struct("!BBHHHBBH4s4s").unpack, HEADER)

    header_parse = parse_header

    def header_marshal(self, count):
        fields = struct.unpack("!BBHHHBBH4s4s", HEADER)
        return codec(count, struct.Struct("!BBHHHBBH4s4s").pack, *fields)

    def checksum(self, count, size):
        """No checksum here: what a call that does nothing much costs."""
        return codec(count, len, BIG[:size])


class Floor:
    """What CPython itself costs: methods of our signatures that make the system call alone."""

    moves_one_a_call = False

    def __init__(self, payload=PAYLOAD):
        folder = os.environ.get("IPV4_BENCH_FLOOR")
        if not folder:
            raise ImportError("the floor is built by bench/run.py")
        sys.path.append(folder)
        from floor import Floor as Built

        self.sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.sock.bind(("127.0.0.1", 0))
        self.conn = Built(self.sock.fileno(), payload)

    def nothing_left(self):
        with suppress(BlockingIOError):
            wrong(self.sock.recv_into(bytearray(SIZE), 0, socket.MSG_DONTWAIT))

    def control(self, on):
        self.sock.setsockopt(socket.IPPROTO_IP, 12, on)  # IP_RECVTTL
        self.sock.setsockopt(socket.IPPROTO_IP, 8, on)  # IP_PKTINFO

    def pair(self, count):
        self.control(False)
        write, read, buffer = self.conn.write_to, self.conn.read_from, bytearray(99)
        start = perf_counter_ns()
        for _ in range(count):
            write(PAYLOAD, None)
            n, _, _ = read(buffer)
            if n != SIZE:
                wrong(n)
        return perf_counter_ns() - start, count * SIZE

    def pair_unbound(self, count):
        self.control(False)
        conn, buffer = self.conn, bytearray(99)
        start = perf_counter_ns()
        for _ in range(count):
            conn.write_to(PAYLOAD, None)
            n, _, _ = conn.read_from(buffer)
            if n != SIZE:
                wrong(n)
        return perf_counter_ns() - start, count * SIZE

    def pair_long(self, count):
        other = Floor(LONG)
        with other.sock:
            spent, packets = other.pair_of(count, LONG)
        return spent, packets * len(LONG)

    def pair_of(self, count, payload):
        write, read, buffer, size = self.conn.write_to, self.conn.read_from, None, len(payload)
        start = perf_counter_ns()
        for _ in range(count):
            write(payload, None)
            n, _, _ = read(buffer)
            if n != size:
                wrong(n)
        return perf_counter_ns() - start, count

    def pair_cm(self, count):
        self.control(True)
        write, read, buffer = self.conn.write_to, self.conn.read_from_cm, bytearray(99)
        start = perf_counter_ns()
        for _ in range(count):
            write(PAYLOAD, None, None)
            n, _, _ = read(buffer)
            if n != SIZE:
                wrong(n)
        return perf_counter_ns() - start, count * SIZE

    def receive(self, count, look=False):
        self.control(look)
        read, buffer = self.conn.read_from_cm if look else self.conn.read_from, bytearray(99)
        spent = 0
        for _ in range(0, count, PART):
            for _ in range(PART):
                self.conn.write_to(PAYLOAD, None)
            start = perf_counter_ns()
            for _ in range(PART):
                n, _, _ = read(buffer)
                if n != SIZE:
                    wrong(n)
            spent += perf_counter_ns() - start
        return spent, count * SIZE

    def receive_cm(self, count):
        return self.receive(count, True)


class Dpkt:
    """dpkt, for the header."""

    moves_one_a_call = False

    def __init__(self):
        from dpkt.ip import IP

        self.ip = IP

    def nothing_left(self):
        """It has no socket."""

    def parse_header(self, count):
        return codec(count, self.ip, HEADER)

    header_parse = parse_header

    def header_marshal(self, count):
        return codec(count, bytes, self.ip(HEADER))


def codec(count, call, *arguments):
    """Many calls, without what the loop itself costs."""
    rounds = range(count)
    start = perf_counter_ns()
    if not arguments:
        for _ in rounds:
            call()
    elif len(arguments) == 1:
        (argument,) = arguments
        for _ in rounds:
            call(argument)
    else:
        for _ in rounds:
            call(*arguments)
    middle = perf_counter_ns()
    for _ in rounds:
        pass
    return 2 * middle - start - perf_counter_ns(), count


CONTENDERS = {"ours": Ours, "floor": Floor, "stdlib": Stdlib, "dpkt": Dpkt}


def run(contender, name, count):
    """One case by its name, ``method`` or ``method_argument``; None when there is none such."""
    method, _, argument = name.rpartition("_")
    if name.startswith(("batch", "half")) and contender.moves_one_a_call:
        return None
    if method in ("batch_list", "batch_ring", "batch_coalesced", "batch", "checksum"):
        call = getattr(contender, method, None)
        outcome = call and call(count, int(argument))
    elif method == "half":
        call = getattr(contender, method, None)
        outcome = call and call(count, argument)
    else:
        call = getattr(contender, name, None)
        outcome = call and call(count)
    contender.nothing_left()
    return outcome
