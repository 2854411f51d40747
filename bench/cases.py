"""The cases, once for every Python contender: what is moved, and how each contender moves it.

A case is a function of a count that returns (nanoseconds, bytes of payload that arrived whole).
Every contender sends to itself over one loopback socket, so that one thread does all the work.
"""

import socket
import struct
from time import perf_counter_ns

SIZE = 64
PAYLOAD = bytes(range(SIZE))
SEGMENT = 1400
SEGMENTS = 46
PROTOCOL = 253
HEADER = bytes.fromhex("45000054000700004001000000000a00000100000a000002")[:20]
CONTROL = bytes.fromhex(
    "1c000000000000000000000008000000010000007f0000017f00000100000000"
    "140000000000000000000000020000004000000000000000"
)


def verify(buffer, expected=PAYLOAD):
    """A wrong byte ends the run."""
    if bytes(buffer) != expected:
        raise SystemExit(f"wrong bytes: {bytes(buffer)[:80]!r}")


class Ours:
    """This library."""

    def __init__(self):
        import ipv4

        self.ipv4 = ipv4
        self.conn = ipv4.PacketConn.udp(("127.0.0.1", 0))
        self.here = self.conn.local_addr
        self.told = ipv4.ControlMessage(src="127.0.0.1", ifindex=1)
        self.flags = ipv4.ControlFlags.TTL | ipv4.ControlFlags.INTERFACE
        try:
            self.raw_conn = ipv4.RawConn.ip(PROTOCOL, "127.0.0.1")
        except PermissionError:
            self.raw_conn = None

    def control(self, on):
        self.conn.set_control_message(self.flags, on)

    def fill(self, count):
        write, here = self.conn.write_to, self.here
        for _ in range(count):
            write(PAYLOAD, here)

    def pair(self, count):
        self.control(False)
        write, read, here, buffer = (
            self.conn.write_to,
            self.conn.read_from,
            self.here,
            bytearray(2048),
        )
        total = 0
        start = perf_counter_ns()
        for _ in range(count):
            write(PAYLOAD, here)
            n, _, _ = read(buffer)
            total += n
        spent = perf_counter_ns() - start
        verify(buffer[:SIZE])
        return spent, total

    def pair_cm(self, count):
        self.control(True)
        write, read, here, buffer = (
            self.conn.write_to,
            self.conn.read_from,
            self.here,
            bytearray(2048),
        )
        told = self.told
        total = 0
        start = perf_counter_ns()
        for _ in range(count):
            write(PAYLOAD, here, told)
            n, cm, _ = read(buffer)
            cm.ttl, cm.ifindex  # noqa: B018
            total += n
        spent = perf_counter_ns() - start
        verify(buffer[:SIZE])
        return spent, total

    def receive(self, count, look=False):
        self.control(look)
        read, buffer = self.conn.read_from, bytearray(2048)
        spent = total = 0
        for _ in range(0, count, 128):
            self.fill(128)
            start = perf_counter_ns()
            if look:
                for _ in range(128):
                    n, cm, _ = read(buffer)
                    cm.ttl, cm.ifindex  # noqa: B018
                    total += n
            else:
                for _ in range(128):
                    n, _, _ = read(buffer)
                    total += n
            spent += perf_counter_ns() - start
        verify(buffer[:SIZE])
        return spent, total

    def receive_cm(self, count):
        return self.receive(count, True)

    def lists(self, count):
        oob, room = self.told.marshal(), self.ipv4.new_control_message
        message = self.ipv4.Message
        out = [message([PAYLOAD], oob, self.here) for _ in range(count)]
        back = [message([bytearray(SIZE)], room(self.flags)) for _ in range(count)]
        return out, back

    def rings(self, count):
        out = self.ipv4.MessageBatch(count, SIZE)
        back = self.ipv4.MessageBatch(count, SIZE, self.flags)
        oob = self.told.marshal()
        for i in range(count):
            out[i].addr = self.here
            out[i].oob = oob
            out.data[i, 0]
            out[i].buffers[0][:] = PAYLOAD
        return out, back

    def batch_list(self, count, size):
        self.control(True)
        out, back = self.lists(size)
        parts = [(out[a : a + 128], back[a : a + 128]) for a in range(0, size, 128)]
        write, read = self.conn.write_batch, self.conn.read_batch
        total = 0
        start = perf_counter_ns()
        for _ in range(0, count, size):
            for sent, got in parts:
                if write(sent) != len(sent) or read(got) != len(got):
                    raise SystemExit("a batch went partly")
                for m in got:
                    total += m.n
                    m.addr  # noqa: B018
                    cm = m.control
                    cm.ttl, cm.ifindex  # noqa: B018
        spent = perf_counter_ns() - start
        verify(back[-1].buffers[0])
        return spent, total

    def batch_ring(self, count, size):
        self.control(True)
        out, back = self.rings(size)
        parts = [(out[a : a + 128], back[a : a + 128]) for a in range(0, size, 128)]
        write, read = self.conn.write_batch, self.conn.read_batch
        total = 0
        start = perf_counter_ns()
        for _ in range(0, count, size):
            for sent, got in parts:
                write(sent)
                for n, _, _, _ in got.heads(read(got)):
                    total += n
        spent = perf_counter_ns() - start
        verify(back[size - 1].buffers[0])
        return spent, total

    def half(self, count, how):
        self.control(True)
        _, back = self.lists(64) if how == "list" else self.rings(64)
        read = self.conn.read_batch
        spent = total = 0
        for _ in range(0, count, 64):
            self.fill(64)
            start = perf_counter_ns()
            n = read(back)
            if how == "list":
                for m in back:
                    total += m.n
                    m.addr  # noqa: B018
                    cm = m.control
                    cm.ttl, cm.ifindex  # noqa: B018
            elif how == "ring":
                for length, _, _, _ in back.heads(n):
                    total += length
            spent += perf_counter_ns() - start
            if how == "untouched":
                total += sum(back.lengths)
            if n != 64:
                raise SystemExit("a batch came partly")
        verify(back[63].buffers[0])
        return spent, total

    def raw(self, count):
        if self.raw_conn is None:
            return None
        header, raw, buffer = self.ipv4.Header, self.raw_conn, bytearray(2048)
        write, read = raw.write_to, raw.read_from
        total = 0
        start = perf_counter_ns()
        for _ in range(count):
            write(header(total_len=84, ttl=64, protocol=PROTOCOL, dst="127.0.0.1"), PAYLOAD)
            head, payload, _ = read(buffer)
            head.ttl, head.total_len, head.protocol  # noqa: B018
            total += len(payload)
        spent = perf_counter_ns() - start
        verify(payload)
        return spent, total

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
        big = bytes(SEGMENT * SEGMENTS)
        told = self.ipv4.ControlMessage(segment_size=SEGMENT)
        total = 0
        start = perf_counter_ns()
        for _ in range(0, count, SEGMENTS):
            write(big, here, told)
            got = 0
            while got < len(big):
                n, _, _ = read(buffer)
                got += n
            total += got
        spent = perf_counter_ns() - start
        self.conn.set_control_message(flag, False)
        return spent, total

    def parse_header(self, count):
        return codec(count, self.ipv4.parse_header, HEADER)

    def header_parse(self, count):
        return codec(count, self.ipv4.Header().parse, HEADER)

    def header_marshal(self, count):
        marshal = self.ipv4.parse_header(HEADER).marshal
        start = perf_counter_ns()
        for _ in range(count):
            marshal()
        return perf_counter_ns() - start - loop(count), count

    def control_parse(self, count):
        return codec(count, self.ipv4.ControlMessage().parse, CONTROL)

    def control_marshal(self, count):
        marshal = self.told.marshal
        start = perf_counter_ns()
        for _ in range(count):
            marshal()
        return perf_counter_ns() - start - loop(count), count

    def checksum(self, count, size):
        spent, _ = codec(count, self.ipv4.checksum, bytes(i % SEGMENT % SIZE for i in range(size)))
        return spent, count * size


class Stdlib:
    """The standard library: `socket` and `struct`."""

    def __init__(self):
        self.sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.sock.bind(("127.0.0.1", 0))
        self.here = self.sock.getsockname()
        self.told = [(0, 8, struct.pack("=i4s4s", 1, socket.inet_aton("127.0.0.1"), bytes(4)))]
        self.room = socket.CMSG_SPACE(4) + socket.CMSG_SPACE(12)

    def control(self, on):
        self.sock.setsockopt(socket.IPPROTO_IP, 12, on)  # IP_RECVTTL
        self.sock.setsockopt(socket.IPPROTO_IP, 8, on)  # IP_PKTINFO

    def fill(self, count):
        for _ in range(count):
            self.sock.sendto(PAYLOAD, self.here)

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
            bytearray(2048),
        )
        total = 0
        start = perf_counter_ns()
        for _ in range(count):
            send(PAYLOAD, here)
            n, _ = receive(buffer)
            total += n
        spent = perf_counter_ns() - start
        verify(buffer[:SIZE])
        return spent, total

    def pair_cm(self, count):
        self.control(1)
        send, receive, here, buffer = (
            self.sock.sendmsg,
            self.sock.recvmsg_into,
            self.here,
            bytearray(2048),
        )
        told, room, look = self.told, self.room, self.look
        total = 0
        start = perf_counter_ns()
        for _ in range(count):
            send([PAYLOAD], told, 0, here)
            n, ancillary, _, _ = receive([buffer], room)
            look(ancillary)
            total += n
        return perf_counter_ns() - start, total

    def receive(self, count):
        self.control(0)
        receive, buffer = self.sock.recvfrom_into, bytearray(2048)
        spent = total = 0
        for _ in range(0, count, 128):
            self.fill(128)
            start = perf_counter_ns()
            for _ in range(128):
                n, _ = receive(buffer)
                total += n
            spent += perf_counter_ns() - start
        return spent, total

    def receive_cm(self, count):
        self.control(1)
        receive, buffer, look, room = self.sock.recvmsg_into, bytearray(2048), self.look, self.room
        spent = total = 0
        for _ in range(0, count, 128):
            self.fill(128)
            start = perf_counter_ns()
            for _ in range(128):
                n, ancillary, _, _ = receive([buffer], room)
                look(ancillary)
                total += n
            spent += perf_counter_ns() - start
        return spent, total

    def batch_list(self, count, size):
        """No batches here: as many single calls."""
        self.control(1)
        send, receive, here, buffer = (
            self.sock.sendmsg,
            self.sock.recvmsg_into,
            self.here,
            bytearray(2048),
        )
        told, room, look = self.told, self.room, self.look
        size = min(size, 128)
        total = 0
        start = perf_counter_ns()
        for _ in range(0, count, size):
            for _ in range(size):
                send([PAYLOAD], told, 0, here)
            for _ in range(size):
                n, ancillary, _, _ = receive([buffer], room)
                look(ancillary)
                total += n
        return perf_counter_ns() - start, total

    def parse_header(self, count):
        unpack = struct.Struct("!BBHHHBBH4s4s").unpack
        return codec(count, unpack, HEADER)

    header_parse = parse_header

    def header_marshal(self, count):
        pack = struct.Struct("!BBHHHBBH4s4s").pack
        fields = struct.unpack("!BBHHHBBH4s4s", HEADER)
        start = perf_counter_ns()
        for _ in range(count):
            pack(*fields)
        return perf_counter_ns() - start - loop(count), count


class Dpkt:
    """dpkt, for the header."""

    def __init__(self):
        from dpkt.ip import IP

        self.ip = IP

    def parse_header(self, count):
        return codec(count, self.ip, HEADER)

    header_parse = parse_header

    def header_marshal(self, count):
        return codec(count, bytes, self.ip(HEADER))


def loop(count):
    """What the loop itself costs."""
    start = perf_counter_ns()
    for _ in range(count):
        pass
    return perf_counter_ns() - start


def codec(count, call, argument):
    start = perf_counter_ns()
    for _ in range(count):
        call(argument)
    return perf_counter_ns() - start - loop(count), count


CONTENDERS = {"ours": Ours, "stdlib": Stdlib, "dpkt": Dpkt}


def run(contender, name, count):
    """One case by its name as the runner knows it; None when the contender has none such."""
    if name.startswith("batch_"):
        parts = name.split("_")
        how = parts[2] if len(parts) > 2 else "list"
        call = getattr(contender, f"batch_{how}", None)
        return call and call(count, int(parts[1]))
    if name.startswith("half_"):
        call = getattr(contender, "half", None)
        return call and call(count, name.split("_")[2])
    if name.startswith("checksum_"):
        call = getattr(contender, "checksum", None)
        return call and call(count, int(name.split("_")[1]))
    call = getattr(contender, name, None)
    return call and call(count)
