"""More faults made to happen for real: by strace, a preloaded libc, networks that refuse.

What runs under strace is a function of this file, called in an interpreter of its own.
"""

import errno
import json
import os
import socket
import struct
import subprocess
import sys
import time
from pathlib import Path

import pytest

from ipv4 import (
    ControlFlags,
    ControlMessage,
    Header,
    Message,
    MessageBatch,
    PacketConn,
    RawConn,
)

privileged = pytest.mark.privileged
UDP_SEGMENT, SOL_UDP = 103, 17
PROTOCOL = 253  # RFC 3692: for experiments


def udp(**options):
    conn = PacketConn.udp(("127.0.0.1", 0), **options)
    conn.set_deadline(time.monotonic() + 30)
    return conn


def stripped(**options):
    return PacketConn.ip(PROTOCOL, "127.0.0.1", **options)


def raw(**options):
    return RawConn.ip(PROTOCOL, "127.0.0.1", **options)


def ping(**options):
    # Nobody may in a new network namespace, and the session has one.
    Path("/proc/sys/net/ipv4/ping_group_range").write_text("0 2147483647")
    return PacketConn.ping(("127.0.0.1", 0), **options)


def adopted():
    sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    sock.bind(("127.0.0.1", 0))
    return PacketConn(sock)


KINDS = [
    udp,
    adopted,
    pytest.param(stripped, marks=privileged),
    pytest.param(raw, marks=privileged),
    pytest.param(ping, marks=privileged),
]


def send_to_itself(conn, payload=b"payload"):
    """One datagram that `conn` will receive, whatever its kind."""
    if isinstance(conn, RawConn):
        conn.write_to(Header(protocol=PROTOCOL, ttl=9, dst="127.0.0.1"), payload)
    elif conn.getsockopt(socket.SOL_SOCKET, socket.SO_PROTOCOL) == socket.IPPROTO_ICMP:
        conn.write_to(struct.pack("!BBHHH", 8, 0, 0, 0, 1) + payload, ("127.0.0.1", 0))
    else:
        conn.write_to(payload, conn.local_addr)


def drained(conn, size=64):
    """Whatever is waiting: the payloads in their order."""
    found = []
    buffer = bytearray(size)
    while True:
        try:
            n = conn.read_from(buffer, socket.MSG_DONTWAIT)[0]
        except BlockingIOError:
            return found
        found.append(bytes(buffer[:n]))


def descriptors():
    return set(os.listdir("/proc/self/fd"))


def wait_for(conn, seconds):
    """Read in vain for so long."""
    conn.set_read_deadline(time.monotonic() + seconds)
    with pytest.raises(TimeoutError):
        conn.read_from(bytearray(64))
    conn.set_read_deadline(time.monotonic() + 30)


# By strace

# So that a failure comes in the middle of a batch.
ALONE, READ_ALONE = "inject=sendmmsg:error=ENOSYS", "inject=recvmmsg:error=ENOSYS"


def sends_singly():
    with PacketConn.udp() as conn:
        return conn._sends_singly()


def under_strace(tmp_path, rules, function, *args):
    """Call a function of this file while system calls fail; its result, and how many failed."""
    if sends_singly():  # the portable build has no call for batches
        if ALONE in rules:
            pytest.skip("every batch is one message")
        rules = [rule.replace("mmsg", "msg") for rule in rules if rule != READ_ALONE]
    log = tmp_path / "log"
    code = (
        "import json, sys\n"
        "sys.path.insert(0, sys.argv[1])\n"
        "import test_reliability\n"
        "function = getattr(test_reliability, sys.argv[2])\n"
        "print(json.dumps(function(*json.loads(sys.argv[3]))))\n"
    )
    done = subprocess.run(
        ["strace", "-f", "-qq", "-o", log, *(word for rule in rules for word in ("-e", rule)),
         sys.executable, "-P", "-c", code, str(Path(__file__).parent), function.__name__,
         json.dumps(args)],
        capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip
    assert (done.returncode, done.stderr) == (0, ""), done.stderr
    return json.loads(done.stdout), log.read_text()


straced = [pytest.mark.needs("strace"), pytest.mark.unsanitized]


def under(*marks):
    def mark(test):
        for each in marks:
            test = each(test)
        return test

    return mark


def send_numbers(verb, total, each):
    """Send numbered datagrams in batches; what was reported as sent, the errors, what arrived."""
    with udp(receive_buffer=1 << 20) as conn:
        wait_for(conn, 1e-4)  # a conn keeps the waker of its first wait
        before = descriptors()
        payloads = [bytearray(number.to_bytes(2, "big")) for number in range(total)]
        out = [Message(payload, addr=conn.local_addr) for payload in payloads]
        sent, errors = [], []
        if verb == "write_all":
            failed = dict(conn.write_all(out))
            errors = [errno.errorcode[error.errno] for error in failed.values()]
            sent = [number for number in range(total) if number not in failed]
        while verb == "write_batch" and len(sent) < total:
            try:
                start = len(sent)
                sent += range(start, start + conn.write_batch(out[start : start + each]))
            except OSError as error:
                errors.append(errno.errorcode[error.errno])
                assert len(errors) < total
        arrived = [int.from_bytes(payload, "big") for payload in drained(conn)]
        conn.write_batch([Message(b"on", addr=conn.local_addr)])
        assert drained(conn) == [b"on"]
        assert descriptors() == before
        del out
        for payload in payloads:
            payload.clear()  # nothing holds on to it
        return sent, errors, arrived


@under(*straced)
@pytest.mark.parametrize(
    ("rules", "verb", "errors", "lost"),
    [
        (["inject=sendmmsg:error=ENOBUFS:when=2"], "write_batch", ["ENOBUFS"], []),
        (["inject=sendmmsg:error=ENOMEM:when=1"], "write_batch", ["ENOMEM"], []),
        (["inject=sendmmsg:error=EIO:when=3"], "write_batch", ["EIO"], []),
        (["inject=sendmmsg:error=EPERM:when=1..3"], "write_batch", ["EPERM"] * 3, []),
        (["inject=sendmmsg:error=EINTR:when=1+2"], "write_batch", [], []),
        (["inject=sendmmsg:error=EAGAIN:when=1+2"], "write_batch", [], []),
        (["inject=sendmmsg:error=ENOMEM:when=1"], "write_all", ["ENOMEM"], [0]),
        (["inject=sendmmsg:error=ENOBUFS:when=1..2"], "write_all", ["ENOBUFS"] * 2, [0, 1]),
        ([ALONE, "inject=sendmsg:error=ENOBUFS:when=4"], "write_batch", [], []),
        ([ALONE, "inject=sendmsg:error=ENOBUFS:when=4..5"], "write_batch", ["ENOBUFS"], []),
        ([ALONE, "inject=sendmsg:error=EIO:when=4..5"], "write_all", ["EIO"], [3]),
        ([ALONE, "inject=sendmsg:error=ENOMEM:when=1"], "write_all", ["ENOMEM"], [0]),
        ([ALONE, "inject=sendmsg:error=EINTR:when=1+2"], "write_batch", [], []),
    ],
)
def test_counts_of_sent_batches_add_up(tmp_path, rules, verb, errors, lost):
    """Reported as sent = arrived, each once and in order; what failed has its error."""
    (sent, seen, arrived), log = under_strace(tmp_path, rules, send_numbers, verb, 20, 8)
    assert "INJECTED" in log
    assert seen == errors
    assert arrived == sent == [number for number in range(20) if number not in lost]


@pytest.mark.parametrize("kind", ["list", "arena"])
def test_the_error_behind_a_partial_count_can_be_had(kind):
    """The fourth of six is too long: three go, the next call says why, the rest can go on."""
    with udp(receive_buffer=1 << 20) as conn:
        if kind == "list":
            batch = [Message(bytes(1), addr=conn.local_addr) for _ in range(6)]
            batch[3].buffers = bytes(70000)
        else:
            batch = MessageBatch(6, 70000)
            for number in range(6):
                batch[number].addr = conn.local_addr
                batch.lengths[number] = 70000 if number == 3 else 1
        at = 0
        while at < 3:
            at += conn.write_batch(batch[at:])
        assert at == 3
        for _ in range(2):  # it stays the reason for as long as it is asked
            with pytest.raises(OSError, match=f":{conn.local_addr[1]}") as caught:
                conn.write_batch(batch[3:])
            assert caught.value.errno == errno.EMSGSIZE
        while at < 5:
            at += conn.write_batch(batch[at + 1 :])
        assert len(drained(conn)) == 5


def do_nothing():
    with udp() as conn:
        nothing = MessageBatch(1, 1)[:0]
        os.getppid()
        for empty in ([], (), nothing):
            assert conn.read_batch(empty) == conn.write_batch(empty) == 0
            assert conn.write_all(empty) == []
        assert os.getppid()
    return len(nothing)


@under(*straced)
def test_an_empty_batch_makes_no_system_call(tmp_path):
    length, log = under_strace(tmp_path, ["trace=all"], do_nothing)
    calls = [line.split()[1].split("(")[0] for line in log.splitlines()]
    first = calls.index("getppid")
    between = calls[first + 1 : calls.index("getppid", first + 1)]
    assert (length, set(between) - {"brk", "mmap", "munmap", "madvise"}) == (0, set())


def receive_numbers(total, each):
    """Receive numbered datagrams in batches; the numbers and the errors in between."""
    with udp(receive_buffer=1 << 20) as conn:
        for number in range(total):
            conn.write_to(number.to_bytes(2, "big"), conn.local_addr)
        got, errors = [], []
        while len(got) < total:
            room = [Message(bytearray(2)) for _ in range(each)]
            try:
                n = conn.read_batch(room)
            except OSError as error:
                errors.append(errno.errorcode[error.errno])
                continue
            got += [int.from_bytes(message.buffers[0], "big") for message in room[:n]]
        return got, errors


@under(*straced)
@pytest.mark.parametrize(
    ("rules", "errors"),
    [
        (["inject=recvmmsg:error=ENOMEM:when=2"], ["ENOMEM"]),
        (["inject=recvmmsg:error=EIO:when=1..2"], ["EIO"] * 2),
        (["inject=recvmmsg:error=EINTR:when=1+2"], []),
        (["inject=recvmmsg:error=EAGAIN:when=1+2"], []),
        ([READ_ALONE, "inject=recvmsg:error=ENOMEM:when=1"], ["ENOMEM"]),
        ([READ_ALONE, "inject=recvmsg:error=ENOBUFS:when=4"], ["ENOBUFS"]),
        ([READ_ALONE, "inject=recvmsg:error=EINTR:when=2+2"], []),
        ([READ_ALONE, "inject=recvmsg:error=EAGAIN:when=1+3"], []),
    ],
)
def test_nothing_received_is_lost_to_an_error(tmp_path, rules, errors):
    (got, seen), log = under_strace(tmp_path, rules, receive_numbers, 20, 8)
    assert "INJECTED" in log
    assert got == list(range(20))
    assert seen == errors


# Interrupted system calls


def each_verb(name):
    """Six datagrams sent and received by one pair of verbs; what came."""
    kind, told, batch = {
        "plain": (udp, False, False),
        "told": (udp, True, False),
        "batch": (udp, True, True),
        "stripped": (stripped, True, False),
        "raw": (raw, True, False),
    }[name]
    got = []
    with kind() as conn:
        conn.set_deadline(time.monotonic() + 30)
        conn.set_control_message(ControlFlags.TTL, told)
        for number in range(6):
            data, buffer = bytes([number]), bytearray(64)
            cm = ControlMessage(send_ttl=9) if told else None
            if batch:
                conn.write_batch([Message(data, addr=conn.local_addr)])
                room = Message(buffer, bytearray(64))
                assert conn.read_batch([room]) == 1
                got.append(buffer[0])
            elif name == "raw":
                conn.write_to(Header(protocol=PROTOCOL, ttl=9, dst="127.0.0.1"), data)
                header, payload, cm = conn.read_from(buffer)
                assert header.ttl == cm.ttl == 9
                got.append(payload[0])
            else:
                conn.write_to(data, conn.local_addr, cm)
                n, cm, _ = conn.read_from(buffer)
                assert n == 1
                assert not told or cm.ttl == 9
                got.append(buffer[0])
        assert drained(conn) == []
    return got


def report_of_a_refusal():
    """The error queue is read."""
    with udp(receive_errors=True) as conn:
        with udp() as other:
            dead = other.local_addr
        conn.write_to(b"?", dead)
        found = conn.read_error()
        return [found.errno, conn.read_error()]


def wait_out_a_deadline():
    with udp() as conn:
        waited = []
        for read in (
            lambda: conn.read_from(bytearray(1)),
            lambda: conn.read_batch(MessageBatch(8, 8)),
        ):
            start = time.monotonic()
            conn.set_read_deadline(start + 0.2)
            with pytest.raises(TimeoutError):
                read()
            waited.append(time.monotonic() - start)
        return waited


def cut_by_the_program():
    """Segments sent one by one, as after an interface refused them."""
    with udp() as conn:
        conn.segmentation = False
        n = conn.write_to(bytes(950), conn.local_addr, ControlMessage(segment_size=300))
        return [n, [len(data) for data in drained(conn, 1000)]]


NUMBERS = [0, 1, 2, 3, 4, 5]


@under(*straced)
@pytest.mark.parametrize(
    ("calls", "function", "args", "answer"),
    [
        (["sendto"], each_verb, ["plain"], NUMBERS),
        (["recvfrom"], each_verb, ["plain"], NUMBERS),
        (["sendmsg"], each_verb, ["told"], NUMBERS),
        (["recvmsg"], each_verb, ["told"], NUMBERS),
        (["sendmmsg"], each_verb, ["batch"], NUMBERS),
        (["recvmmsg"], each_verb, ["batch"], NUMBERS),
        pytest.param(["recvmsg"], each_verb, ["stripped"], NUMBERS, marks=privileged),
        pytest.param(["sendmsg", "recvmsg"], each_verb, ["raw"], NUMBERS, marks=privileged),
        (["recvmsg"], report_of_a_refusal, [], [errno.ECONNREFUSED, None]),
        (["sendmsg"], cut_by_the_program, [], [950, [300, 300, 300, 50]]),
    ],
    ids=str,
)
def test_an_interrupted_call_is_made_again(tmp_path, calls, function, args, answer):
    rules = [f"inject={call}:error=EINTR:when=1+2" for call in calls]
    got, log = under_strace(tmp_path, rules, function, *args)
    assert log.count("INJECTED") >= (2 if function is not report_of_a_refusal else 1)
    assert got == answer


@under(*straced)
def test_interrupted_waits_keep_the_deadline(tmp_path):
    """Every poll is interrupted; the remaining time is counted on, not begun anew."""
    waited, log = under_strace(tmp_path, ["inject=ppoll,poll:error=EINTR"], wait_out_a_deadline)
    assert log.count("INJECTED") > 4
    assert all(0.2 <= seconds < 5 for seconds in waited)


def interrupted_for_good(write):
    """SIGINT comes together with EINTR: what left, and whether the buffer is free."""
    data = bytearray(b"never sent")
    with udp() as conn:
        with pytest.raises(KeyboardInterrupt):
            if write == "write_to":
                conn.write_to(data, conn.local_addr)
            elif write == "told":
                conn.write_to(data, conn.local_addr, ControlMessage(send_ttl=3))
            else:
                conn.write_batch([Message(data, addr=conn.local_addr)])
        data.extend(bytes(1000))
        conn.write_to(b"on", conn.local_addr)
        return [bytes(found).decode() for found in drained(conn)]


@under(*straced)
@pytest.mark.parametrize(
    ("call", "write"), [("sendto", "write_to"), ("sendmsg", "told"), ("sendmmsg", "write_batch")]
)
def test_control_c_gets_out_of_a_write(tmp_path, call, write):
    rule = f"inject={call}:error=EINTR:signal=SIGINT:when=1"
    got, log = under_strace(tmp_path, [rule], interrupted_for_good, write)
    assert log.count("INJECTED") == 1
    assert got == ["on"]


# Segmentation refused


def send_segments(size, total, position):
    """Payloads cut into segments, one by write_to or two in a batch; the switch afterwards."""
    payload = bytes(number % 251 for number in range(total))
    with udp(receive_buffer=1 << 22) as conn:
        if position is None:
            cm = ControlMessage(segment_size=size)
            assert conn.write_to(payload, conn.local_addr, cm) == total
            wanted = [payload]
        else:
            cm = ControlMessage(extra=[(SOL_UDP, UDP_SEGMENT, struct.pack("H", size))])
            wanted = [b"plain", b"whole"]
            wanted[position:position] = [payload, payload]
            out = [
                Message(data, cm.marshal() if data is payload else None, conn.local_addr)
                for data in wanted
            ]
            assert conn.write_all(out) == []
            assert [message.n for message in out] == [len(data) for data in wanted]
        pieces = [data[at : at + size] for data in wanted for at in range(0, len(data), size)]
        assert drained(conn, total) == pieces
        return conn.segmentation


@under(*straced)
@pytest.mark.parametrize(
    ("rules", "size", "total", "position", "kept"),
    [
        # A kernel whose limit is 64: it refuses what is cut into more.
        (["inject=sendmsg:error=EINVAL:when=1..2"], 10, 1900, None, True),
        (["inject=sendmsg:error=EINVAL:when=1"], 10, 1000, None, True),
        (["inject=sendmsg:error=EIO:when=1"], 300, 2000, None, False),
        (["inject=sendmsg:error=EIO:when=3"], 10, 1900, None, False),
        (["inject=sendmmsg:error=EIO:when=1"], 300, 2000, 0, False),
        ([ALONE, "inject=sendmsg:error=EIO:when=2..3"], 300, 2000, 1, False),
        ([ALONE, "inject=sendmsg:error=EIO:when=3..4"], 300, 2000, 2, False),
        ([ALONE, "inject=sendmsg:error=EINTR:when=1+2"], 300, 2000, 1, True),
    ],
)  # fmt: skip
def test_segments_that_are_refused_arrive_once(tmp_path, rules, size, total, position, kept):
    got, log = under_strace(tmp_path, rules, send_segments, size, total, position)
    assert "INJECTED" in log
    assert got is kept
