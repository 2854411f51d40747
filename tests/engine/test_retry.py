"""What a failed system call means, and when it is made again: faults injected for real."""

import errno
import os
import socket
import struct
import subprocess
import sys
import time

import pytest
from support import run_with_fault
from support.faults import of_this_machine, straced, under_strace
from support.packets import drained, udp, until_an_error_waits

from ipv4 import (
    ControlFlags,
    ControlMessage,
    Header,
    Message,
    MessageBatch,
    PacketConn,
    RawConn,
    checksum,
)


def move_one_by_one():
    with PacketConn.udp(("127.0.0.1", 0)) as conn:
        conn.set_deadline(time.monotonic() + 30)
        out = [Message(b"%d" % i, addr=conn.local_addr) for i in range(3)]
        portable = conn._moves_one_a_call()
        sent = [conn.write_batch(out[i:]) for i in range(3)]
        room = [Message(bytearray(8)) for _ in range(3)]
        got = [conn.read_batch(room[i:]) for i in range(3)]
        assert [bytes(each.buffers[0][: each.n]) for each in room] == [b"0", b"1", b"2"]
        assert conn.read_batch([]) == conn.write_batch([]) == 0
        return portable, sent, got


@pytest.mark.needs_faults
@pytest.mark.parity("platform: Unix without batches")
def test_without_the_batch_calls_messages_move_one_call_each():
    absent = {"recvmmsg": errno.ENOSYS, "sendmmsg": errno.ENOSYS}
    portable, sent, got = run_with_fault(absent, move_one_by_one)
    # Built without the calls, the library moves one message; where only the kernel lacks them,
    # it makes a call for each.
    assert sent == got == ([1, 1, 1] if portable else [3, 2, 1])


privileged = pytest.mark.privileged

PROTOCOL = 253  # RFC 3692: for experiments


def stripped(**options):
    return PacketConn.ip(PROTOCOL, "127.0.0.1", **options)


def raw(**options):
    return RawConn.ip(PROTOCOL, "127.0.0.1", **options)


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


@straced
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


@straced
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


@straced
@pytest.mark.parametrize(
    ("call", "write"), [("sendto", "write_to"), ("sendmsg", "told"), ("sendmmsg", "write_batch")]
)
def test_control_c_gets_out_of_a_write(tmp_path, call, write):
    rule = f"inject={call}:error=EINTR:signal=SIGINT:when=1"
    got, log = under_strace(tmp_path, [rule], interrupted_for_good, write)
    assert log.count("INJECTED") == 1
    assert got == ["on"]


needs_faults = pytest.mark.needs_faults


def exchange(batch, count):
    """Send and receive a batch over loopback; what arrived and how many calls said how many."""
    with PacketConn.udp(("127.0.0.1", 0)) as conn:
        conn.set_deadline(time.monotonic() + 10)
        conn.set_control_message(ControlFlags.TTL, True)
        out = [Message([b"%d" % i], addr=conn.local_addr) for i in range(count)]
        assert conn.write_all(out) == []
        back = MessageBatch(count, 16) if batch else [
            Message(bytearray(16), bytearray(64)) for _ in range(count)
        ]  # fmt: skip
        calls = []
        while sum(calls) < count:
            calls.append(conn.read_batch(back[sum(calls) :]))
        return [
            (bytes(back[i].buffers[0])[: back[i].n], back[i].control.ttl) for i in range(count)
        ], calls


@needs_faults
@pytest.mark.parametrize("batch", [False, True])
@pytest.mark.parametrize("missing", [("recvmmsg",), ("sendmmsg",), ("recvmmsg", "sendmmsg")])
@pytest.mark.parity("a kernel without a feature")
def test_a_kernel_without_batches(batch, missing):
    wanted, calls = exchange(batch, 20)
    got, fallen = run_with_fault(dict.fromkeys(missing, errno.ENOSYS), exchange, batch, 20)
    assert got == wanted
    assert fallen == calls or set(calls) == {1}  # the portable path moves one a call
    assert [payload for payload, _ in got] == [b"%d" % i for i in range(20)]


@pytest.mark.needs("strace")
@pytest.mark.unsanitized
@pytest.mark.parity("a kernel without a feature")
def test_enosys_is_met_once(tmp_path):
    """A kernel without sendmmsg is asked for it once a conn; a portable build never asks."""
    code = (
        "from ipv4 import Message, PacketConn\n"
        "with PacketConn.udp(('127.0.0.1', 0)) as conn:\n"
        "    asks = not conn._moves_one_a_call()\n"
        "    for _ in range(5):\n"
        "        conn.write_batch([Message(b'x', addr=conn.local_addr)])\n"
        "    print(asks, conn._moves_one_a_call())\n"
    )
    log = tmp_path / "log"
    done = subprocess.run(
        ["strace", "-f", "-qq", "-o", log, "-e", "trace=sendmmsg",
         "-e", "inject=sendmmsg:error=ENOSYS", sys.executable, "-P", "-c", code],
        capture_output=True, text=True, timeout=60, check=True,
    )  # fmt: skip
    asks, moves_one = done.stdout.split()
    assert moves_one == "True"
    assert log.read_text().count("sendmmsg(") == (asks == "True")


@pytest.mark.needs("strace")
@pytest.mark.unsanitized
def test_a_read_error_met_late_comes_out_of_a_read():
    """Without recvmmsg: the error behind a batch's second message is the next read's own."""
    with PacketConn.udp(("127.0.0.1", 0)) as conn:
        if conn._moves_one_a_call():
            pytest.skip("portable build: a batch has no second message")
    code = (
        "from ipv4 import Message, PacketConn\n"
        "with PacketConn.udp(('127.0.0.1', 0)) as conn, PacketConn.udp(('127.0.0.1', 0)) as peer:\n"
        "    for _ in range(4):\n"
        "        peer.write_to(b'x', conn.local_addr)\n"
        "    ms = [Message(bytearray(9)) for _ in range(4)]\n"
        "    said = [conn.read_batch(ms)]\n"
        "    said.append(conn.write_batch([Message(b'y', addr=peer.local_addr)]))\n"
        "    said.append(peer.read_from(bytearray(9))[0])\n"
        "    try:\n"
        "        conn.read_batch(ms)\n"
        "    except OSError as error:\n"
        "        said.append(error.errno)\n"
        "    said.append(conn.read_batch(ms))\n"
        "    print(said)\n"
    )
    done = subprocess.run(
        ["strace", "-f", "-qq", "-o", os.devnull,
         "-e", of_this_machine("inject=recvmmsg:error=ENOSYS"),
         "-e", "inject=recvmsg:error=ENOMEM:when=3", sys.executable, "-P", "-c", code],
        capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == f"[2, 1, 1, {errno.ENOMEM}, 2]"


@pytest.mark.needs("strace")
@pytest.mark.unsanitized
@pytest.mark.parametrize(
    ("inject", "wanted"),
    [
        ("sendto:error=EINTR:when=1+2", "[0, 1, 2, 3, 4, 5]"),
        ("recvfrom:error=EINTR:when=1..3", "[0, 1, 2, 3, 4, 5]"),
        ("sendto:error=ENOBUFS:when=2", "[0, 'ENOBUFS', 2, 3, 4, 5]"),
        ("sendto:error=ENOMEM:when=1", "['ENOMEM', 1, 2, 3, 4, 5]"),
        ("sendto:error=EPERM:when=6", "[0, 1, 2, 3, 4, 'EPERM']"),
        ("sendto:error=EIO:when=3", "[0, 1, 'EIO', 3, 4, 5]"),
    ],
)
@pytest.mark.parity("signals", "ENOBUFS, ENOMEM and the limits of groups")
def test_a_failed_send_is_reported_and_the_conn_goes_on(tmp_path, inject, wanted):
    code = (
        "import errno, ipv4, time\n"
        "conn = ipv4.PacketConn.udp(('127.0.0.1', 0))\n"
        "conn.set_deadline(time.monotonic() + 10)\n"
        "outcome = []\n"
        "for i in range(6):\n"
        "    try:\n"
        "        conn.write_to(bytes([i]), conn.local_addr)\n"
        "        buffer = bytearray(1)\n"
        "        conn.read_from(buffer)\n"
        "        outcome.append(buffer[0])\n"
        "    except OSError as error:\n"
        "        assert '127.0.0.1' in str(error)\n"
        "        outcome.append(errno.errorcode[error.errno])\n"
        "conn.close()\n"
        "print(outcome)\n"
    )
    log = tmp_path / "log"
    done = subprocess.run(
        ["strace", "-f", "-qq", "-o", log, "-e", f"inject={inject}",
         sys.executable, "-P", "-c", code],
        capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert done.stdout.strip() == wanted, done.stderr
    assert "INJECTED" in log.read_text()


def assert_refused(conn, dst, number):
    for call in (
        lambda: conn.write_to(b"x", dst),
        lambda: conn.write_batch([Message(b"x", addr=dst)]),
    ):
        with pytest.raises(OSError, match=dst[0].replace(".", r"\.")) as caught:
            call()
        assert caught.value.errno == number


@pytest.mark.needs("nft")
@pytest.mark.parity("firewalls, routes and links that refuse")
def test_what_a_firewall_answers(pair):
    pair.a.run(["nft", "add table ip t; add chain ip t o { type filter hook output priority 0; };"
                       " add rule ip t o udp dport 1111 drop"])  # fmt: skip
    with pair.a.call(PacketConn.udp, ("10.1.0.1", 0)) as conn:
        assert_refused(conn, ("10.1.0.2", 1111), errno.EPERM)
        assert conn.write_to(b"x", ("10.1.0.2", 2222)) == 1


@pytest.mark.parity("firewalls, routes and links that refuse")
def test_what_routes_answer(pair):
    pair.a.add_route("10.66.1.0/24", kind="unreachable")
    pair.a.add_route("10.66.2.0/24", kind="prohibit")
    pair.a.add_route("10.66.3.0/24", kind="blackhole")
    with pair.a.call(PacketConn.udp, ("10.1.0.1", 0)) as conn:
        for dst, number in (
            (("10.66.1.1", 1), errno.EHOSTUNREACH),
            (("10.66.2.1", 1), errno.EACCES),
            (("10.66.3.1", 1), errno.EINVAL),
            (("10.77.0.1", 1), errno.ENETUNREACH),
            (("255.255.255.255", 1), errno.EACCES),
        ):
            assert_refused(conn, dst, number)
        assert conn.write_to(b"x", ("10.1.0.2", 2222)) == 1


@pytest.mark.parity("firewalls, routes and links that refuse")
def test_the_interface_goes_down_in_the_middle(pair):
    with pair.a.call(PacketConn.udp, ("0.0.0.0", 0)) as conn:
        messages = [Message(b"x", addr=("10.1.0.2", 9)) for _ in range(4)]
        assert conn.write_all(messages) == []
        pair.a.set_link("eth0", up=False)
        failed = conn.write_all(messages)
        assert [index for index, _ in failed] == [0, 1, 2, 3]
        assert {error.errno for _, error in failed} <= {errno.ENETUNREACH, errno.ENETDOWN}
        pair.a.set_link("eth0", up=True)
        assert conn.write_all(messages) == []


@pytest.mark.parametrize("code", [code for code in range(16) if code != 4])
def test_no_icmp_error_fails_a_call_for_another_datagram(pair, code):
    """Whatever errno the kernel makes of it (icmp_err_convert): the queue keeps the report."""
    a, b = "10.1.0.1", "10.1.0.2"
    with (
        pair.a.call(PacketConn.udp, (a, 0), receive_errors=True) as conn,
        pair.b.call(PacketConn.udp, (b, 0)) as peer,
        pair.b.call(PacketConn.ip, socket.IPPROTO_ICMP, b) as icmp,
    ):
        conn.write_to(b"x", peer.local_addr)
        ports = struct.pack(">4H", conn.local_addr[1], peer.local_addr[1], 9, 0)
        quoted = Header(total_len=29, ttl=64, protocol=17, src=a, dst=b).marshal() + ports
        message = struct.pack(">BBHI", 3, code, 0, 0) + quoted
        summed = message[:2] + struct.pack(">H", checksum(message)) + message[4:]
        icmp.write_to(summed, a)
        until_an_error_waits(conn)
        assert conn.write_to(b"y", peer.local_addr) == 1
        assert conn.read_error().icmp_code == code
