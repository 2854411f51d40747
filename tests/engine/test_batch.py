"""Batches: one system call for many messages, what went of them, and the error queue."""

import errno
import os
import socket
import struct
import subprocess
import sys
import threading
import time
from ipaddress import IPv4Address

import pytest
from support import eventually, until_it_waits, when_it_waits
from support.faults import ALONE, READ_ALONE, straced, under_strace
from support.packets import PAYLOAD, drained, udp, until_an_error_waits

import ipv4
from ipv4 import ControlFlags, ControlMessage, Header, Message, MessageBatch, PacketConn, RawConn

LOCAL = IPv4Address("127.0.0.1")
ALL = ControlFlags(15)


@pytest.fixture
def conn(conn):
    conn.receive_buffer = 4 << 20
    return conn


def read_all(conn, count, size=64, control=0):
    got = []
    while len(got) < count:
        room = [
            Message(bytearray(size), bytearray(control) if control else None)
            for _ in range(count - len(got))
        ]
        got += room[: conn.read_batch(room)]
    return got


def write_all(conn, messages, until):
    """Call write_batch until so many are sent; return what each call said."""
    went = []
    while sum(went) < until:
        went.append(conn.write_batch(messages[sum(went) :]))
    return went


def text(message):
    return b"".join(map(bytes, message.buffers))[: message.n]


def test_a_message_whose_address_was_taken_away_goes_to_the_peer():
    here = ("127.0.0.1", 0)
    with (
        PacketConn.udp(here) as peer,
        PacketConn.udp(here) as other,
        PacketConn.udp(here, peer.local_addr) as conn,
    ):
        message = Message([b"1"], addr=other.local_addr)
        assert conn.write_batch([message]) == 1
        message.addr = None
        assert conn.write_batch([message]) == 1
        for each in (other, peer):
            each.set_read_deadline(time.monotonic() + 10)
            assert each.receive()[0] == b"1"
        assert drained(other) == []


@pytest.mark.parametrize("count", [1, 2, 63, 64, 65, 200])
@pytest.mark.parity("ReadBatch", "WriteBatch", "Message")
def test_what_is_written_is_read_in_order(conn, count):
    out = [Message([b"%d" % i], addr=conn.local_addr) for i in range(count)]
    done = 0
    while done < count:
        done += conn.write_batch(out[done:])
    assert [message.n for message in out] == [len(b"%d" % i) for i in range(count)]
    got = read_all(conn, count)
    assert [text(message) for message in got] == [b"%d" % i for i in range(count)]
    assert {message.addr for message in got} == {conn.local_addr}


@pytest.mark.parity("Message", "ReadBatch", "WriteBatch")
def test_a_message_is_gathered_from_and_scattered_over_many_buffers(conn):
    out = Message([b"HELLO-", b"R-", b"U-", b"THERE"], addr=conn.local_addr)
    assert conn.write_batch([out]) == 1
    assert out.n == 15
    into = Message([bytearray(size) for size in (1, 2, 4, 4, 21)])
    assert conn.read_batch([into]) == 1
    assert (into.n, text(into), into.flags) == (15, PAYLOAD, 0)


@pytest.mark.parity("ReadBatch")
def test_it_waits_for_the_first_and_leaves_the_others_untouched(conn):
    other = when_it_waits(conn.write_to, b"first", conn.local_addr)
    room = [Message(bytearray(b"\xee" * 16), addr=("192.0.2.1", 9)) for _ in range(3)]
    assert conn.read_batch(room) == 1
    other.join()
    assert text(room[0]) == b"first"
    for message in room[1:]:
        assert (message.n, message.addr) == (0, ("192.0.2.1", 9))
        assert bytes(message.buffers[0]) == b"\xee" * 16


@pytest.mark.parity("ReadBatch", "WriteBatch")
def test_nothing_to_do_is_zero_and_nothing_there_is_an_error(conn):
    assert conn.read_batch([]) == conn.write_batch([]) == 0
    with pytest.raises(BlockingIOError):
        conn.read_batch([Message(bytearray(8))], socket.MSG_DONTWAIT)
    conn.set_deadline(0)
    with pytest.raises(TimeoutError):
        conn.read_batch([Message(bytearray(8))])
    with pytest.raises(TimeoutError):
        conn.write_batch([Message(b"x", addr=conn.local_addr)])


@pytest.mark.parity("WriteBatch")
@pytest.mark.parity("a batch that went partly, and 1024 in one call", "a batch that goes partly")
def test_a_batch_that_went_partly_returns_its_count_and_the_rest_can_be_sent_again(conn):
    out = [Message(b"%d" % i, addr=conn.local_addr) for i in range(5)]
    out[3].addr = ("127.0.0.1", 0)  # the kernel refuses port 0
    at_once = not conn._moves_one_a_call()
    went = write_all(conn, out, until=3)
    assert went == ([3] if at_once else [1, 1, 1])
    with pytest.raises(OSError, match=r"write_batch") as caught:
        conn.write_batch(out[3:])
    assert caught.value.errno == errno.EINVAL
    out[3].addr = conn.local_addr
    assert write_all(conn, out[3:], until=2) == ([2] if at_once else [1, 1])
    assert [text(each) for each in read_all(conn, 5)] == [b"0", b"1", b"2", b"3", b"4"]
    with pytest.raises(BlockingIOError):
        conn.read_from(bytearray(1), socket.MSG_DONTWAIT)


@pytest.mark.parity("WriteBatch")
@pytest.mark.parity("a batch that went partly, and 1024 in one call", "a batch that goes partly")
def test_the_kernel_takes_1024_at_most_in_one_call(conn):
    one = [Message(b"x", addr=conn.local_addr) for _ in range(1100)]
    done = conn.write_batch(one)
    assert done == (1 if conn._moves_one_a_call() else 1024)
    assert all(message.n == 1 for message in one[:done])
    assert len(read_all(conn, done)) == done


@pytest.mark.parity("Message", "ReadBatch")
@pytest.mark.parity("payload or control data cut")
def test_a_datagram_longer_than_its_buffer_says_so(conn):
    for _ in range(2):
        conn.write_to(PAYLOAD, conn.local_addr)
    (cut,) = read_all(conn, 1, size=5)
    assert (cut.n, text(cut)) == (5, b"HELLO")
    assert cut.flags & socket.MSG_TRUNC
    message = Message(bytearray(5))
    assert conn.read_batch([message], socket.MSG_TRUNC) == 1
    assert message.n == 15
    assert message.flags & socket.MSG_TRUNC


@pytest.mark.parity("Message")
def test_control_data_in_a_batch(conn, loopback):
    conn.set_control_message(ALL, True)
    oob = ControlMessage(src="127.0.0.1", ifindex=loopback.index).marshal()
    out = Message(PAYLOAD, oob, conn.local_addr)
    assert conn.write_batch([out]) == 1
    assert out.nn == len(oob)
    (got,) = read_all(conn, 1, control=len(ipv4.new_control_message(ALL)))
    cm = ControlMessage()
    cm.parse(got.oob[: got.nn])
    assert (cm.ttl, cm.dst, cm.ifindex) == (64, LOCAL, loopback.index)
    assert got.control.dst == LOCAL
    assert not got.flags & socket.MSG_CTRUNC


@pytest.mark.privileged
@pytest.mark.parametrize("options", [b"", b"\x94\x04\0\0", b"\x01" * 40], ids=len)
@pytest.mark.parametrize("cls", [PacketConn, RawConn])
@pytest.mark.parity("ReadBatch", "WriteBatch")
@pytest.mark.parity("batches keep the header that read_from strips, with options and without")
def test_headers_are_not_stripped_where_read_from_strips_them(cls, options):
    header = Header(ttl=9, protocol=253, src=LOCAL, dst=LOCAL, options=options)
    with RawConn.ip(253, LOCAL) as sender, cls.ip(253, LOCAL) as conn:
        conn.set_deadline(time.monotonic() + 30)
        for _ in range(2):
            wire = [header.marshal(), PAYLOAD]
            assert sender.write_batch([Message(wire, addr=LOCAL)]) == 1
        (got,) = read_all(conn, 1, size=128)
        parsed = ipv4.parse_header(text(got))
        assert (parsed.options, parsed.total_len) == (options, got.n)
        assert text(got)[parsed.len :] == PAYLOAD
        assert got.addr == ("127.0.0.1", 0)
        if cls is PacketConn:
            room = bytearray(64)
            assert room[: conn.read_from(room)[0]] == PAYLOAD
        else:
            assert conn.read_from(bytearray(128))[1] == PAYLOAD


@pytest.mark.privileged
@pytest.mark.parity("ReadBatch", "WriteBatch")
def test_gre_datagrams():
    inner = Header(total_len=35, ttl=1, protocol=255, src="192.0.2.1", dst="192.0.2.254")
    datagram = bytes.fromhex("0000080000000000") + inner.marshal() + PAYLOAD
    with PacketConn.ip(47, "127.0.0.1") as conn:
        conn.set_deadline(time.monotonic() + 30)
        out = Message(datagram, addr=LOCAL)
        assert (conn.write_batch([out]), out.n) == (1, 43)
        (got,) = read_all(conn, 1, size=128)
        assert text(got)[20:] == datagram


@pytest.mark.parity("ReadBatch")
@pytest.mark.parity(
    "better than the reference: entries of the error queue without a name (go#47926)"
)
def test_the_error_queue_is_read_in_batches_though_its_entries_bear_no_name(conn):
    software_stamps = 1 << 1 | 1 << 4 | 1 << 7 | 1 << 11  # TX_SOFTWARE, SOFTWARE, OPT_ID, TSONLY
    conn.set_timestamping(software_stamps)
    for _ in range(3):
        conn.write_to(PAYLOAD, conn.local_addr)
    got = []

    def drained():
        room = [Message(bytearray(64), bytearray(256)) for _ in range(4)]
        try:
            got.extend(room[: conn.read_batch(room, socket.MSG_ERRQUEUE | socket.MSG_DONTWAIT)])
        except BlockingIOError:
            return False
        return len(got) >= 3

    eventually(drained)
    for message in got:
        assert message.flags & socket.MSG_ERRQUEUE
        assert message.addr is None
        assert message.nn > 0


def test_the_error_queue_tells_where_a_refused_datagram_was_going(conn):
    with PacketConn.udp(("127.0.0.1", 0)) as gone:
        nobody = gone.local_addr
    conn.receive_errors = True
    conn.write_to(PAYLOAD, nobody)
    message = Message(bytearray(64), bytearray(256))

    def came():
        try:
            return conn.read_batch([message], socket.MSG_ERRQUEUE | socket.MSG_DONTWAIT)
        except BlockingIOError:
            return 0

    assert eventually(came) == 1
    assert (message.addr, text(message)) == (nobody, PAYLOAD)
    assert struct.unpack_from("@I", message.oob, socket.CMSG_LEN(0))[0] == errno.ECONNREFUSED


def test_messages_without_destination_must_not_be_sent(conn):
    conn.write_batch([Message(b"a", addr=conn.local_addr)])
    read_all(conn, 1)
    with pytest.raises(OSError) as caught:
        conn.write_batch([Message(b"b")])  # no name is left over from before
    assert caught.value.errno == errno.EDESTADDRREQ


def test_no_name_is_left_over_from_a_read_that_brought_none(conn):
    conn.set_timestamping(1 << 1 | 1 << 4 | 1 << 11)  # entries of the error queue without a name
    conn.write_to(PAYLOAD, conn.local_addr)
    until_an_error_waits(conn)
    message = Message(bytearray(64), bytearray(256), conn.local_addr)
    assert conn.read_batch([message], socket.MSG_ERRQUEUE | socket.MSG_DONTWAIT) == 1
    assert message.addr is None
    message.oob = None
    with pytest.raises(OSError) as caught:
        conn.write_batch([message])
    assert caught.value.errno == errno.EDESTADDRREQ


@pytest.mark.parity("ReadBatch", "WriteBatch", "Message")
def test_a_wrong_argument_is_named(conn):
    for call in (conn.read_batch, conn.write_batch):
        for wrong in (None, 5, Message(bytearray(1))):
            with pytest.raises(TypeError, match=r"^ms\b"):
                call(wrong)
        with pytest.raises(TypeError, match=r"^ms\[1\]"):
            call([Message(bytearray(1), addr=conn.local_addr), b"x"])
        with pytest.raises(TypeError, match=r"^flags\b"):
            call([Message(bytearray(1))], "flags")
    with pytest.raises(TypeError, match=r"^ms\[0\]\.buffers must be writable"):
        conn.read_batch([Message(b"read only")])
    with pytest.raises(TypeError, match=r"^ms\[0\]\.oob must be writable"):
        conn.read_batch([Message(bytearray(1), b"read only")])
    with pytest.raises(BlockingIOError):  # and none of all that was sent
        conn.read_from(bytearray(1), socket.MSG_DONTWAIT)


@pytest.mark.parity("Message")
def test_what_a_message_is_made_of(conn):
    message = Message()
    assert (message.buffers, message.oob, message.addr) == ([], None, None)
    assert (message.n, message.nn, message.flags) == (0, 0, 0)
    room = bytearray(4)
    message.buffers = room
    assert len(message.buffers) == 1
    with pytest.raises(BufferError):
        room.append(1)
    message.buffers = []
    room.append(1)
    for name, wrong in (("buffers", 5), ("buffers", ["text"]), ("oob", "text"), ("oob", 5)):
        with pytest.raises(TypeError, match=rf"^{name}"):
            setattr(message, name, wrong)
    for wrong in ("host", ("127.0.0.1", 65536), b"123"):
        with pytest.raises(ValueError, match=r"^addr"):
            message.addr = wrong
    message.addr = "10.0.0.1"
    assert message.addr == ("10.0.0.1", 0)
    # No buffer at all is an empty datagram.
    assert conn.write_batch([Message(addr=conn.local_addr)]) == 1
    assert conn.read_from(bytearray(4))[0] == 0


LOOPBACK = IPv4Address("127.0.0.1")


def write_whole(conn, batch):
    assert conn.write_all(batch) == []


def read_whole(conn, batch):
    n = 0
    while n < len(batch):
        n += conn.read_batch(batch[n:])
    return n


@pytest.mark.parity("ReadBatch", "WriteBatch")
@pytest.mark.parametrize("count", [1, 2, 7, 8, 64, 65, 200])
@pytest.mark.parametrize("kind", ["list", "batch"])
def test_batches_of_every_size_as_list_and_as_batch(conn, count, kind):
    conn.set_control_message(ALL, True)
    payloads = [bytes([i % 251]) * (i % 40) for i in range(count)]
    write_whole(conn, [Message([p[:3], p[3:]], addr=conn.local_addr) for p in payloads])
    if kind == "list":
        got = [
            Message([bytearray(5), bytearray(60)], ipv4.new_control_message(ALL))
            for _ in range(count)
        ]
    else:
        got = MessageBatch(count, 64, ALL)
    if not conn._moves_one_a_call():
        assert conn.read_batch(got) == count
    else:
        read_whole(conn, got)
    for i in range(count):
        message = got[i]
        assert b"".join(message.buffers)[: message.n] == payloads[i]
        assert message.addr == conn.local_addr
        assert (message.control.ttl, message.control.ifindex) == (64, 1)
        assert message.control.src == LOOPBACK


def test_empty_batches(conn):
    for nothing in ([], (), iter([]), MessageBatch(1, 1)[:0]):
        assert conn.read_batch(nothing) == 0
    assert conn.write_batch([]) == 0
    assert conn.write_all([]) == []


def test_a_batch_that_went_partly(conn):
    here = conn.local_addr
    messages = [Message(body, addr=here) for body in (b"0", b"1", bytes(70000), b"3")]
    sent = conn.write_batch(messages)
    assert sent == (1 if conn._moves_one_a_call() else 2)
    while sent < 2:
        sent += conn.write_batch(messages[sent:])
    with pytest.raises(OSError, match="write_batch") as caught:
        conn.write_batch(messages[2:])
    assert caught.value.errno == errno.EMSGSIZE
    assert conn.write_batch(messages[3:]) == 1
    failed = conn.write_all(messages)
    assert [(i, e.errno) for i, e in failed] == [(2, errno.EMSGSIZE)]
    got = [conn.read_from(buffer := bytearray(9)) and bytes(buffer[:1]) for _ in range(6)]
    assert got == [b"0", b"1", b"3"] * 2


def test_one_message_twice(conn):
    message = Message(b"twice", addr=conn.local_addr)
    write_whole(conn, [message, message])
    assert conn.read_from(bytearray(9))[0] == conn.read_from(bytearray(9))[0] == 5
    inward = Message(bytearray(9))
    with pytest.raises(BufferError, match=r"ms\[1\]"):
        conn.read_batch([inward, inward])
    conn.write_to(b"ok", conn.local_addr)
    assert conn.read_batch([inward]) == 1


def test_nothing_in_flight_can_change(conn):
    message = Message(bytearray(9), bytearray(9))
    batch = MessageBatch(4, 16)
    with PacketConn.udp(("127.0.0.1", 0)) as other:
        threads = [
            threading.Thread(target=conn.read_batch, args=([message],)),
            threading.Thread(target=other.read_batch, args=(batch[1:3],)),
        ]
        for thread in threads:
            thread.start()
        until_it_waits(*threads)
        for change in (
            lambda: setattr(message, "buffers", []),
            lambda: setattr(message, "oob", None),
            lambda: setattr(message, "addr", None),
            lambda: setattr(message, "n", 0),
            lambda: other.read_batch([message]),
            lambda: conn.write_batch(batch),
            lambda: conn.write_batch([batch[2]]),
            lambda: setattr(batch[1], "addr", None),
        ):
            with pytest.raises(BufferError, match="in flight"):
                change()
        batch[0].n = 3  # a slot that is not in flight
        conn.write_to(b"a", conn.local_addr)
        conn.write_to(b"b", other.local_addr)
        for thread in threads:
            thread.join(5)
    message.buffers = []
    assert batch[1].n == 1


@pytest.mark.parametrize("kind", ["list", "batch"])
def test_the_error_queue_is_read_by_list_and_by_batch(conn, kind):
    conn.receive_errors = True
    conn.set_timestamping(1 << 1 | 1 << 4 | 1 << 11)  # transmit stamps, without payload: no name
    conn.write_to(b"stamp", conn.local_addr)
    messages = [Message(bytearray(64), bytearray(256))] if kind == "list" else MessageBatch(1, 64)
    deadline = time.monotonic() + 5
    while True:
        try:
            assert conn.read_batch(messages, socket.MSG_ERRQUEUE) == 1
            break
        except BlockingIOError:
            assert time.monotonic() < deadline
    assert messages[0].flags & socket.MSG_ERRQUEUE
    assert messages[0].addr is None
    assert messages[0].n == 0


FLAGS = ControlFlags.TTL | ControlFlags.DST | ControlFlags.INTERFACE


@pytest.mark.parity("better than the reference: both kinds of truncation")
def test_both_kinds_of_truncation_are_told_of_one_message(conn):
    conn.set_control_message(FLAGS, True)
    for _ in range(2):
        conn.write_to(b"12345", conn.local_addr)
    assert conn.read_from(bytearray(2), socket.MSG_TRUNC)[0] == 5
    message = Message(bytearray(2), bytearray(16))
    conn.read_batch([message])
    assert message.flags & socket.MSG_TRUNC
    assert message.flags & socket.MSG_CTRUNC


def descriptors():
    return set(os.listdir("/proc/self/fd"))


def wait_for(conn, seconds):
    """Read in vain for so long."""
    conn.set_read_deadline(time.monotonic() + seconds)
    with pytest.raises(TimeoutError):
        conn.read_from(bytearray(64))
    conn.set_read_deadline(time.monotonic() + 30)


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


@straced
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


@straced
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


@straced
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


@pytest.mark.needs("strace")
@pytest.mark.unsanitized
@pytest.mark.parametrize("inject", ["error=ENOBUFS:when=2", "retval=1:when=1"])
@pytest.mark.parity("a batch that goes partly")
def test_a_batch_that_the_kernel_cuts(tmp_path, inject):
    """What was not sent is sent by the next call; the counts add up."""
    with PacketConn.udp() as probe:
        if probe._moves_one_a_call():
            inject = "sendmsg:" + inject.replace("retval=1:when=1", "error=ENOBUFS:when=2")
        else:
            inject = "sendmmsg:" + inject
    code = (
        "import ipv4\n"
        "conn = ipv4.PacketConn.udp(('127.0.0.1', 0))\n"
        "out = [ipv4.Message(bytes([i]), addr=conn.local_addr) for i in range(10)]\n"
        "sent, failed = 0, 0\n"
        "while sent < 10:\n"
        "    try:\n"
        "        sent += conn.write_batch(out[sent:sent + 5])\n"
        "    except OSError as error:\n"
        "        failed += 1\n"
        "conn.close()\n"
        "print(sent, failed)\n"
    )
    log = tmp_path / "log"
    done = subprocess.run(
        ["strace", "-f", "-qq", "-o", log, "-e", f"inject={inject}",
         sys.executable, "-P", "-c", code],
        capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert done.stdout.split() == (["10", "1"] if "ENOBUFS" in inject else ["10", "0"]), done.stderr
