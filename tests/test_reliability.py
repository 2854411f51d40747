"""More faults made to happen for real: by strace, a preloaded libc, networks that refuse.

What runs under strace is a function of this file, called in an interpreter of its own.
"""

import errno
import json
import os
import re
import socket
import struct
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

import pytest
from support import eventually
from support.controls import LARGEST, cmsg

from ipv4 import (
    ControlFlags,
    ControlMessage,
    ErrorOrigin,
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
            pytest.skip("portable build: every batch is one message")
        rules = [rule.replace("mmsg", "msg") for rule in rules if rule != READ_ALONE]
    if struct.calcsize("P") == 4:  # whose C library calls what takes times of 64 bits
        rules = [re.sub(r"\b(recvmmsg|ppoll)\b", r"\1_time64", rule) for rule in rules]
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
        wait_for(conn, 0.2)  # a conn keeps the waker of its first wait
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
        (["inject=sendmsg:error=EIO:when=2"], 10, 1900, None, False),
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


# The error queue as no network here produces it

PRELOADED = """
    /* Entries of an error queue come from the file $ENTRIES: lengths of name, control data and
       payload, then these. Its end is an empty queue. */
    #define _GNU_SOURCE
    #include <dlfcn.h>
    #include <errno.h>
    #include <poll.h>
    #include <stdint.h>
    #include <stdio.h>
    #include <stdlib.h>
    #include <sys/socket.h>

    /* Who asks whether an error lies there is told so. */
    int ppoll(struct pollfd *fds, nfds_t n, const struct timespec *t, const sigset_t *s) {
      int (*real)(struct pollfd *, nfds_t, const struct timespec *, const sigset_t *) =
          dlsym(RTLD_NEXT, "ppoll");
      if (n != 1 || fds->events) return real(fds, n, t, s);
      fds->revents = POLLERR;
      return 1;
    }
    int poll(struct pollfd *fds, nfds_t n, int ms) {
      int (*real)(struct pollfd *, nfds_t, int) = dlsym(RTLD_NEXT, "poll");
      if (n != 1 || fds->events) return real(fds, n, ms);
      fds->revents = POLLERR;
      return 1;
    }

    ssize_t recvmsg(int fd, struct msghdr *m, int flags) {
      static FILE *entries;
      uint32_t length[3];
      if (!(flags & MSG_ERRQUEUE)) {
        ssize_t (*real)(int, struct msghdr *, int) = dlsym(RTLD_NEXT, "recvmsg");
        return real(fd, m, flags);
      }
      if (!entries)
        entries = fopen(getenv("ENTRIES"), "rb");
      if (fread(length, sizeof(length), 1, entries) != 1) {
        errno = EAGAIN;
        return -1;
      }
      m->msg_flags = MSG_ERRQUEUE | (length[1] > m->msg_controllen ? MSG_CTRUNC : 0);
      m->msg_namelen = fread(m->msg_name, 1, length[0], entries);
      if (length[1] < m->msg_controllen)
        m->msg_controllen = length[1];
      fread(m->msg_control, 1, m->msg_controllen, entries);
      fseek(entries, length[1] - m->msg_controllen, SEEK_CUR);
      return fread(m->msg_iov[0].iov_base, 1, length[2], entries);
    }
"""
IP_RECVERR = 11


def extended(number, origin, kind=0, code=0, info=0, data=0, offender=b""):
    return struct.pack("=IBBBBII", number, origin, kind, code, 0, info, data) + offender


def address(host, family=socket.AF_INET):
    return struct.pack("=HH4s8x", family, 0, socket.inet_aton(host))


def reports_of_a_preloaded_queue():
    """What `read_error` makes of the entries: a report's fields, or the name of an exception."""
    found = []
    with udp() as conn:
        while True:
            try:
                report = conn.read_error()
            except (ValueError, OSError) as error:
                found.append(type(error).__name__)
                continue
            if report is None:
                return found
            found.append(
                [
                    report.errno,
                    str(report.origin),
                    report.icmp_type,
                    report.icmp_code,
                    report.info,
                    report.offender and str(report.offender),
                    report.addr and report.addr[0],
                    report.payload.decode(),
                    report.key,
                ]
            )


def recverr(*args, **kwargs):
    return cmsg(0, IP_RECVERR, extended(*args, **kwargs))


ROUTER = address("10.0.0.1")
ENTRIES = {
    "ICMP": (
        recverr(errno.EMSGSIZE, 2, 3, 4, 1300, 0, ROUTER),
        [errno.EMSGSIZE, "ICMP", 3, 4, 1300, "10.0.0.1"],
    ),
    "ICMP without offender": (
        recverr(errno.ECONNREFUSED, 2, 3, 3),
        [errno.ECONNREFUSED, "ICMP", 3, 3, 0, None],
    ),
    "an offender of no family": (
        recverr(errno.ECONNREFUSED, 2, 3, 3, offender=address("10.0.0.1", 0)),
        [errno.ECONNREFUSED, "ICMP", 3, 3, 0, None],
    ),
    "an offender cut short": (
        recverr(errno.ECONNREFUSED, 2, 3, 3, offender=ROUTER[:8]),
        [errno.ECONNREFUSED, "ICMP", 3, 3, 0, None],
    ),
    "LOCAL": (
        recverr(errno.EMSGSIZE, 1, info=1300, offender=ROUTER),
        [errno.EMSGSIZE, "LOCAL", None, None, 1300, None],
    ),
    "ICMP6": (recverr(113, 3, 1, 2, 3, 4), [113, "ICMP6", None, None, 3, None]),
    "TXTIME": (
        recverr(errno.ECANCELED, 6, 0, 2, 0xFFFFFFFF, 7),
        [errno.ECANCELED, "TXTIME", None, None, 0xFFFFFFFF, None],
    ),
    "ZEROCOPY, its counter about to wrap": (
        recverr(0, 5, 0, 1, 0xFFFFFFFE, 0xFFFFFFFF),
        [0, "ZEROCOPY", None, None, 0xFFFFFFFE, None, 0xFFFFFFFF],
    ),
    "an origin of the future": (
        recverr(5, 200, 1, 2, 3, 4, ROUTER),
        [5, "200", None, None, 3, None],
    ),
    "others before it": (
        cmsg(1, 99, b"odd") + cmsg(0, 8, bytes(12)) + recverr(111, 2, 3, 3, 0, 0, ROUTER),
        [111, "ICMP", 3, 3, 0, "10.0.0.1"],
    ),
    "no control data": (b"", [0, "NONE", None, None, 0, None]),
    "half a report": (
        cmsg(0, IP_RECVERR, extended(111, 2)[:8]),
        [0, "NONE", None, None, 0, None],
    ),
    "a length below its own header": (cmsg(0, IP_RECVERR, bytes(32), 3), "ValueError"),
    "a length of nothing": (cmsg(0, IP_RECVERR, bytes(32), 0), "ValueError"),
    "a length beyond the rest": (cmsg(0, IP_RECVERR, bytes(32), 4000), "ValueError"),
    "a length near its type's end": (cmsg(0, IP_RECVERR, bytes(32), LARGEST), "ValueError"),
    "control data that was cut": (cmsg(1, 99, bytes(2000)) + recverr(111, 2, 3, 3), "OSError"),
}


@pytest.mark.needs("cc")
@pytest.mark.unsanitized
@pytest.mark.skipif(sys.platform != "linux" or struct.calcsize("P") != 8, reason="64-bit Linux")
def test_every_kind_of_entry_of_the_error_queue(tmp_path):
    """Typed by its origin; an unknown one is kept; what is malformed is an error of its own."""
    (tmp_path / "preloaded.c").write_text(PRELOADED)
    library = tmp_path / "preloaded.so"
    subprocess.run(
        ["cc", "-shared", "-fPIC", "-o", library, tmp_path / "preloaded.c", "-ldl"], check=True
    )
    name = address("192.0.2.1")
    with (tmp_path / "entries").open("wb") as file:
        for control, _ in ENTRIES.values():
            file.write(struct.pack("=III", len(name), len(control), 4) + name + control + b"sent")
    code = (
        "import json, sys\n"
        "sys.path.insert(0, sys.argv[1])\n"
        "import test_reliability\n"
        "print(json.dumps(test_reliability.reports_of_a_preloaded_queue()))\n"
    )
    done = subprocess.run(
        [sys.executable, "-P", "-c", code, str(Path(__file__).parent)],
        env=os.environ | {"LD_PRELOAD": str(library), "ENTRIES": str(tmp_path / "entries")},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, ""), done.stderr
    found = dict(zip(ENTRIES, json.loads(done.stdout), strict=True))
    for case, (_, wanted) in ENTRIES.items():
        if isinstance(wanted, list):
            wanted = [*wanted[:6], "192.0.2.1", "sent", *(wanted[6:] or [None])]
            wanted[1] = str(ErrorOrigin[wanted[1]]) if wanted[1].isupper() else wanted[1]
        assert found[case] == wanted, case


def test_an_error_queue_that_is_full_is_drained_to_its_end():
    """More reports than the receive buffer holds: sends go on, and there is a last report."""
    with udp(receive_errors=True) as conn, udp() as other:
        dead = other.local_addr
        other.close()
        conn.receive_buffer = 1  # the least that the system grants
        for _ in range(1000):
            assert conn.write_to(bytes(100), dead) == 100
        count = 0
        while (report := conn.read_error()) is not None:
            assert (report.errno, report.addr) == (errno.ECONNREFUSED, dead)
            count += 1
        assert 0 < count < 1000
        conn.write_to(b"on", conn.local_addr)
        assert drained(conn) == [b"on"]


# A network that refuses


@pytest.fixture
def narrow(pair):
    """A conn that is told when its interface's short queue is full, and the one it sends to."""
    # Else the first datagrams wait, and are dropped without a word, while ARP asks.
    pair.a.add_neighbour("10.1.0.2", pair.b.lladdr("eth0"), "eth0")
    pair.a.slow_down("eth0", limit=3 << 10)
    with (
        pair.a.call(PacketConn.udp, ("10.1.0.1", 0), receive_errors=True) as conn,
        pair.b.call(PacketConn.udp, ("10.1.0.2", 0)) as there,
    ):
        there.set_read_deadline(time.monotonic() + 30)
        yield conn, there


@pytest.mark.parametrize("verb", ["write_to", "write_batch", "write_all"])
def test_what_a_full_interface_drops_is_told(narrow, verb):
    """ENOBUFS for each datagram that was dropped, and for no other: sent = arrived."""
    conn, there = narrow
    payloads = [number.to_bytes(2, "big") * 150 for number in range(40)]
    messages = [Message(payload, addr=there.local_addr) for payload in payloads]
    dropped = {}
    if verb == "write_all":
        dropped = dict(conn.write_all(messages))
    at = 0
    while verb != "write_all" and at < len(messages):
        try:
            if verb == "write_to":
                conn.write_to(payloads[at], there.local_addr)
                at += 1
            else:
                at += conn.write_batch(messages[at : at + 8])
        except OSError as error:
            dropped[at] = error
            at += 1
    assert {error.errno for error in dropped.values()} == {errno.ENOBUFS}

    def last():
        with suppress(OSError):
            return conn.write_to(b"last", there.local_addr)

    eventually(last, what="room in the queue again")
    arrived = []
    buffer = bytearray(300)
    while (n := there.read_from(buffer)[0]) != 4:
        arrived.append(bytes(buffer[:n]))
    assert arrived == [payloads[number] for number in range(40) if number not in dropped]
