"""Every public call once, also along its error paths; each leaves things as it found them.

The leak check runs each ten thousand times, `.ci/valgrind` a few times under memcheck:

    python -P tests/exercise.py [times]
"""

import errno
import sys
import time
from socket import MSG_DONTWAIT, MSG_TRUNC

import ipv4
from ipv4 import ControlFlags, bpf

SOME_FLAGS = ControlFlags.TTL | ControlFlags.DST | ControlFlags.TOS
HEADER = bytes.fromhex("4601bef3cafe45dcff01deadac10fefec0a80001fffefeff")
CONTROL = ipv4.ControlMessage(
    extra=[
        (0, 8, bytes.fromhex("010000007f0000017f000001")),
        (0, 2, bytes.fromhex("40000000")),
        (3, 3, bytes.fromhex("fefffffe")),
    ]
).marshal()


class Raising:
    """An argument whose conversions all fail."""

    def __index__(self):
        raise RuntimeError("index")

    def __bytes__(self):
        raise RuntimeError("bytes")

    def __len__(self):
        raise RuntimeError("len")

    def __iter__(self):
        raise RuntimeError("iter")

    def __repr__(self):
        raise RuntimeError("repr")


def refused(call, *args, **kwargs):
    """A call that must raise; returns what it raised, without its traceback."""
    try:
        call(*args, **kwargs)
    except (ValueError, TypeError, AttributeError, OSError, BufferError, RuntimeError) as error:
        return error.with_traceback(None)
    raise AssertionError(f"{call} accepted {args} {kwargs}")


def wait_once(conn):
    """A conn keeps the waker of its first wait: from here on it opens no descriptor."""
    conn.set_read_deadline(time.monotonic() + 0.05)
    assert refused(conn.read_from, bytearray(1)).errno == errno.ETIMEDOUT
    conn.set_read_deadline(None)


def calls():
    """Names and functions, and what to close at the end."""
    conn = ipv4.PacketConn.udp(("127.0.0.1", 0))
    here = conn.local_addr
    told = ipv4.PacketConn.udp(("127.0.0.1", 0))
    told.set_control_message(SOME_FLAGS, True)
    there = told.local_addr
    closed = ipv4.PacketConn.udp(("127.0.0.1", 0))
    closed.close()
    late = ipv4.PacketConn.udp(("127.0.0.1", 0))
    late.set_deadline(0)
    # On a busy machine a datagram to oneself takes a moment, for which a read has to wait.
    wait_once(conn)
    wait_once(told)
    buf = bytearray(256)
    head = ipv4.parse_header(HEADER)
    cm = ipv4.ControlMessage(
        src="127.0.0.1", ifindex=1, send_ttl=3, send_tos=1, send_options=b"\1\1\1\0"
    )
    program = bpf.minimum_ttl(1)
    outgoing = [ipv4.Message([b"ab", b"cd"], addr=here) for _ in range(3)]
    incoming = [ipv4.Message([bytearray(8)], bytearray(64)) for _ in range(4)]
    batch = ipv4.MessageBatch(8, 32, SOME_FLAGS)
    readonly = ipv4.Message([b"read-only"])

    def exchange():
        conn.write_to(b"data", here)
        conn.read_from(buf)

    def exchange_told():
        told.write_to(b"data", there, cm)
        _, received, _ = told.read_from(buf, MSG_TRUNC)
        return received.ttl, received.extra, received.reply(), str(received), repr(received)

    def exchange_list():
        conn.write_batch(outgoing)
        n = conn.read_batch(incoming)
        assert n in (1, 3)
        while n < 3:  # a system without recvmmsg moves one message a call
            n += conn.write_batch(outgoing[:1]) and conn.read_batch(incoming)
        return [(m.n, m.nn, m.flags, m.addr, m.control, m.buffers, repr(m)) for m in incoming]

    def exchange_batch():
        for message in (batch[0], batch[1]):
            message.addr = there
            message.n = 4
            message.oob = cm.marshal()
        assert told.write_all(batch[:2]) == []
        for _ in range(2):
            told.read_batch(batch[:1])
        columns = (batch.addrs, batch.ports, batch.ttls, batch.toses, batch.ifindexes)
        return (
            [c.tolist() for c in columns],
            list(batch.heads(1)),
            batch[0].control,
            batch.data[0, 0],
        )

    def waiting():
        conn.set_read_deadline(time.monotonic() + 1e-5)
        error = refused(conn.read_from, buf)
        conn.set_read_deadline(None)
        assert error.errno == errno.ETIMEDOUT

    def open_and_close():
        with ipv4.PacketConn.udp(("127.0.0.1", 0), tos=4, multicast_all=False) as opened:
            repr(opened)
            opened.set_bpf(program)
            opened.set_bpf(None)
        opened.close()

    def messages():
        message = ipv4.Message(buf, bytearray(8), ("127.0.0.1", 1))
        message.buffers = [b"a", bytearray(2)]
        message.oob = None
        message.addr = None
        refused(setattr, message, "buffers", [1])
        refused(setattr, message, "oob", 1)
        refused(setattr, message, "addr", "nowhere")

    def headers():
        parsed = ipv4.Header(dst="10.0.0.1", options=b"\1" * 8, id=7)
        parsed.parse(HEADER)
        parsed.options = bytes(44)
        refused(parsed.marshal)
        parsed.options = b""
        parsed.ttl = 300
        refused(bytes, parsed)
        return repr(parsed), str(parsed), parsed == head, parsed.src, parsed.flags

    def controls():
        control = ipv4.ControlMessage()
        control.parse(CONTROL)
        control.extra = [(1, 2, b"three"), *control.extra]
        control.options = b"\1\1"
        control.original_dst = ("1.2.3.4", 5)
        refused(control.parse, CONTROL[:20])
        refused(setattr, control, "extra", [(1, 2)])
        refused(setattr, control, "ttl", 256)
        return control.marshal(), control == cm, repr(control)

    def options():
        for name in ("tos", "ttl", "multicast_ttl", "multicast_loopback", "multicast_all",
                     "path_mtu_discovery", "freebind", "broadcast", "priority", "ip_options",
                     "receive_buffer", "send_buffer", "receive_errors", "min_ttl"):  # fmt: skip
            setattr(conn, name, getattr(conn, name)) if "buffer" not in name else getattr(
                conn, name
            )
        conn.multicast_interface = "lo"
        conn.multicast_interface = None
        refused(setattr, conn, "tos", 256)
        refused(setattr, conn, "ttl", "1")
        refused(setattr, conn, "bound_interface", "nosuchif")
        refused(conn.getsockopt, 0, 9999)
        refused(getattr, conn, "path_mtu")
        refused(getattr, conn, "icmp_filter")

    def groups():
        conn.join_group("224.0.0.250", "lo")
        refused(conn.join_group, "224.0.0.250", "lo")
        conn.exclude_source_specific_group("224.0.0.250", "127.0.0.9", 1)
        conn.source_filter("224.0.0.250", (1, "lo"))
        conn.set_source_filter("224.0.0.250", "include", ["127.0.0.1"], 1)
        conn.leave_group("224.0.0.250", 1)
        refused(conn.leave_group, "224.0.0.250", 1)
        refused(conn.join_group, "10.0.0.1")
        refused(conn.join_group, "group")

    def error_queue():
        conn.receive_errors = True
        conn.write_to(b"?", ("127.0.0.1", 1))
        report = conn.read_error()
        conn.receive_errors = False
        return report, conn.read_error()

    def hostile():
        bad = Raising()
        for call, args in (
            (conn.write_to, (bad,)), (conn.write_to, (b"", bad)), (conn.write_to, (b"", here, bad)),
            (conn.write_to, (b"", here, None, bad)), (conn.read_from, (bad,)),
            (conn.read_from, (b"read-only",)), (conn.read_from, (memoryview(buf)[::2],)),
            (conn.read_batch, (bad,)), (conn.read_batch, ([bad],)),
            (conn.read_batch, ([readonly],)),
            (conn.read_batch, ([incoming[0], incoming[0]],)), (conn.write_batch, (3,)),
            (conn.set_read_deadline, (bad,)), (conn.set_deadline, (float("nan"),)),
            (conn.set_control_message, (bad, True)), (conn.set_control_message, (1 << 20, True)),
            (ipv4.checksum, (bad,)), (ipv4.parse_header, (bad,)), (ipv4.parse_header, (b"",)),
            (ipv4.new_control_message, (bad,)), (ipv4.Message, ([bad],)),
            (ipv4.MessageBatch, (0, 1)), (ipv4.MessageBatch, (bad, 1)), (conn.set_bpf, (bad,)),
            (ipv4.PacketConn, (bad,)), (ipv4.Interface, ()), (ipv4.Header, (bad,)),
            (conn.join_group, (bad,)), (conn.setsockopt, (0, 1, bad)),
        ):  # fmt: skip
            refused(call, *args)

    def shut():
        refused(closed.read_from, buf)
        refused(closed.write_to, b"", here)
        refused(closed.read_batch, incoming)
        refused(closed.set_deadline, None)
        refused(late.read_from, buf)
        refused(late.write_to, b"", here)
        refused(late.write_batch, batch[:1])
        refused(conn.read_from, buf, MSG_DONTWAIT)
        refused(conn.read_batch, batch, MSG_DONTWAIT)
        refused(conn.write_to, bytes(70000), here)

    table = {
        f.__name__: f
        for f in (
            exchange, exchange_told, exchange_list, exchange_batch, waiting, open_and_close,
            messages, headers, controls, options, groups, error_queue, hostile, shut,
        )
    }  # fmt: skip
    table["checksum"] = lambda: ipv4.checksum(HEADER, initial=5)
    table["iter_options"] = lambda: list(ipv4.Header(options=b"\x94\4\0\0").iter_options())
    table["compute_checksum"] = head.compute_checksum
    table["new_control_message"] = lambda: ipv4.new_control_message(SOME_FLAGS)
    table["bpf"] = lambda: bpf.VM(bpf.disassemble(program)[0][-1:]).run(HEADER)
    try:
        raw = ipv4.RawConn.ip(253, "127.0.0.1")
    except PermissionError:
        return table, (conn, told, late)
    raw.set_control_message(SOME_FLAGS, True)
    wait_once(raw)

    def exchange_raw():
        route = ipv4.ControlMessage(ifindex=1)  # the header bears all else
        raw.write_to(ipv4.Header(protocol=253, ttl=9, dst="127.0.0.1"), b"payload", route)
        header, payload, received = raw.read_from(buf)
        return header, bytes(payload), received

    def raw_refused():
        raw.write_to(ipv4.Header(protocol=253, ttl=9, dst="127.0.0.1"), b"payload")
        refused(raw.read_from, bytearray(19))
        refused(raw.write_to, ipv4.Header(), b"")
        refused(raw.write_to, Raising(), b"")

    table["exchange_raw"] = exchange_raw
    table["raw_refused"] = raw_refused
    return table, (conn, told, late, raw)


def main():
    times = int(sys.argv[1]) if len(sys.argv) > 1 else 3
    table, conns = calls()
    for name, call in table.items():
        for _ in range(times):
            call()
        print(name, flush=True)
    for conn in conns:
        conn.close()


if __name__ == "__main__":
    main()
