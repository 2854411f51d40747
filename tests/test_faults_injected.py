"""Faults, injected for real: what a kernel refuses, interrupts, or runs out of."""

import errno
import os
import resource
import socket
import subprocess
import sys
import threading
import time
import warnings
from pathlib import Path

import pytest
from support import in_child, run_with_fault

from ipv4 import ControlFlags, ControlMessage, Message, MessageBatch, PacketConn

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
def test_a_kernel_without_batches(batch, missing):
    wanted, calls = exchange(batch, 20)
    got, fallen = run_with_fault(dict.fromkeys(missing, errno.ENOSYS), exchange, batch, 20)
    assert got == wanted
    assert fallen == calls or set(calls) == {1}  # the portable path moves one a call
    assert [payload for payload, _ in got] == [b"%d" % i for i in range(20)]


@pytest.mark.needs("strace")
@pytest.mark.unsanitized
def test_enosys_is_met_once(tmp_path):
    """A kernel without sendmmsg is asked for it once a conn; a portable build never asks."""
    code = (
        "from ipv4 import Message, PacketConn\n"
        "with PacketConn.udp(('127.0.0.1', 0)) as conn:\n"
        "    asks = not conn._sends_singly()\n"
        "    for _ in range(5):\n"
        "        conn.write_batch([Message(b'x', addr=conn.local_addr)])\n"
        "    print(asks, conn._sends_singly())\n"
    )
    log = tmp_path / "log"
    done = subprocess.run(
        ["strace", "-f", "-qq", "-o", log, "-e", "trace=sendmmsg",
         "-e", "inject=sendmmsg:error=ENOSYS", sys.executable, "-P", "-c", code],
        capture_output=True, text=True, timeout=60, check=True,
    )  # fmt: skip
    asks, sends_singly = done.stdout.split()
    assert sends_singly == "True"
    assert log.read_text().count("sendmmsg(") == (asks == "True")


@pytest.mark.needs("strace")
@pytest.mark.unsanitized
def test_a_read_error_met_late_comes_out_of_a_read():
    """Without recvmmsg: the error behind a batch's second message is the next read's own."""
    with PacketConn.udp(("127.0.0.1", 0)) as conn:
        if conn._sends_singly():
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
        ["strace", "-f", "-qq", "-o", os.devnull, "-e", "inject=recvmmsg:error=ENOSYS",
         "-e", "inject=recvmsg:error=ENOMEM:when=3", sys.executable, "-P", "-c", code],
        capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == f"[2, 1, 1, {errno.ENOMEM}, 2]"


def send_segments(fail_once):
    """Payload sent by segments while UDP_SEGMENT is refused; sizes that arrived, and the switch."""
    with PacketConn.udp(("127.0.0.1", 0)) as conn:
        conn.set_deadline(time.monotonic() + 10)
        payload = bytes(range(250)) * 8
        assert conn.segmentation is True
        n = conn.write_to(payload, conn.local_addr, ControlMessage(segment_size=300, send_ttl=9))
        conn.set_control_message(ControlFlags.TTL, True)
        sizes, got = [], b""
        while len(got) < n:
            buffer = bytearray(2000)
            k, _, _ = conn.read_from(buffer)
            sizes.append(k)
            got += buffer[:k]
        assert got == payload[:n]
        with pytest.raises(BlockingIOError):
            conn.read_from(bytearray(1), socket.MSG_DONTWAIT)
        return n, sizes, conn.segmentation


def test_segments_of_the_kernel():
    assert send_segments(False) == (2000, [300] * 6 + [200], True)


@pytest.mark.needs("strace")
@pytest.mark.unsanitized
def test_an_interface_that_refuses_segments(tmp_path):
    """EIO for the first sendmsg: every segment arrives once, and the conn remembers."""
    code = (
        "import sys; sys.path.insert(0, sys.argv[1])\n"
        "from test_faults_injected import send_segments\n"
        "print(send_segments(True))\n"
    )
    log = tmp_path / "log"
    done = subprocess.run(
        ["strace", "-f", "-qq", "-o", log, "-e", "inject=sendmsg:error=EIO:when=1",
         sys.executable, "-P", "-c", code, str(Path(__file__).parent)],
        capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert log.read_text().count("INJECTED") == 1
    assert done.stdout.strip() == "(2000, [300, 300, 300, 300, 300, 300, 200], False)"


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


@pytest.mark.needs("strace")
@pytest.mark.unsanitized
@pytest.mark.parametrize("inject", ["error=ENOBUFS:when=2", "retval=1:when=1"])
def test_a_batch_that_the_kernel_cuts(tmp_path, inject):
    """What was not sent is sent by the next call; the counts add up."""
    with PacketConn.udp() as probe:
        if probe._sends_singly():
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


# The error queue


def closed_port():
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.bind(("127.0.0.1", 0))
        return sock.getsockname()


def test_one_destinations_error_does_not_fail_the_next(conn):
    conn.receive_errors = True
    dead = closed_port()
    for call in (
        lambda: conn.write_to(b"alive", conn.local_addr),
        lambda: conn.write_batch([Message(b"alive", addr=conn.local_addr)]),
        lambda: conn.write_to(b"alive", conn.local_addr, ControlMessage(send_ttl=3)),
    ):
        conn.write_to(b"dead", dead)
        time.sleep(0.02)
        call()
        buffer = bytearray(9)
        assert conn.read_from(buffer)[0] == 5
        report = conn.read_error()
        assert (report.errno, report.addr, report.payload) == (errno.ECONNREFUSED, dead, b"dead")
        assert str(report.offender) == "127.0.0.1"
        assert conn.read_error() is None


def test_reading_after_a_stale_error(conn):
    conn.receive_errors = True
    conn.write_to(b"dead", closed_port())
    time.sleep(0.02)
    conn.write_to(b"alive", conn.local_addr)
    for call in (
        lambda: conn.read_from(bytearray(9))[0],
        lambda: conn.read_batch(MessageBatch(2, 9)),
    ):
        conn.write_to(b"alive", conn.local_addr)
        assert call() in (5, 1, 2)


def test_on_a_connected_socket_it_is_raised_once():
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.connect(closed_port())
        conn = PacketConn(sock)
        conn.write_to(b"dead")
        time.sleep(0.02)
        with pytest.raises(ConnectionRefusedError):
            conn.write_to(b"again")
        conn.set_read_deadline(time.monotonic() + 0.05)
        with pytest.raises(TimeoutError):
            conn.read_from(bytearray(1))


@pytest.mark.unsanitized
def test_an_unread_error_queue_does_not_make_a_wait_spin(conn):
    conn.receive_errors = True
    for _ in range(3):
        conn.write_to(b"dead", closed_port())
    time.sleep(0.05)
    for call in (lambda: conn.read_from(bytearray(9)), lambda: conn.read_batch(MessageBatch(2, 9))):
        conn.set_read_deadline(time.monotonic() + 0.5)
        start = time.thread_time()
        with pytest.raises(TimeoutError):
            call()
        assert time.thread_time() - start < 0.1
        conn.set_read_deadline(time.monotonic() + 10)
        threading.Timer(0.2, conn.write_to, (b"data", conn.local_addr)).start()
        begun = time.monotonic()
        call()
        assert time.monotonic() - begun < 5
        threading.Timer(0.2, conn.set_read_deadline, (0,)).start()
        with pytest.raises(TimeoutError):
            call()
    time.sleep(0.1)


# Exhaustion


def test_a_wait_without_descriptors_for_a_waker():
    """With every descriptor in use a wait still ends by deadline, data and close."""

    def body():
        conn = PacketConn.udp(("127.0.0.1", 0))
        taken = []
        resource.setrlimit(resource.RLIMIT_NOFILE, (64, 64))
        try:
            while True:
                taken.append(socket.socket())
        except OSError as error:
            assert error.errno == errno.EMFILE
        start = time.monotonic()
        conn.set_read_deadline(start + 0.2)
        with pytest.raises(TimeoutError):
            conn.read_from(bytearray(1))
        assert time.monotonic() - start < 5
        for change, error in (
            (lambda: conn.set_read_deadline(0), TimeoutError),
            (conn.close, OSError),
        ):
            conn.set_read_deadline(None)
            threading.Timer(0.1, change).start()
            start = time.monotonic()
            with pytest.raises(error):
                conn.read_from(bytearray(1))
            assert time.monotonic() - start < 5
        with pytest.raises(OSError) as caught:
            while True:
                taken.append(PacketConn.udp())
        assert caught.value.errno == errno.EMFILE
        for other in taken:
            other.close()
        return True

    assert in_child(body)


@pytest.mark.unsanitized
def test_memory_refused_at_every_step():
    """Every public call with the k-th allocation refused, for each k: MemoryError or success."""
    _testcapi = pytest.importorskip("_testcapi")
    from exercise import calls

    def body():
        # A socket whose wrapping was refused is closed by the interpreter, which warns.
        warnings.simplefilter("ignore", ResourceWarning)
        before = len(os.listdir("/proc/self/fd"))
        table, conns = calls()
        refused = 0
        for name, call in table.items():
            if name in ("waiting", "hostile", "shut", "exchange_list"):
                continue  # they assert on errors of their own
            call()  # what it imports is compiled before: there CPython 3.11 itself crashes
            for k in range(1, 201):
                _testcapi.set_nomemory(k, k + 1)
                try:
                    try:
                        call()
                    finally:
                        _testcapi.remove_mem_hooks()
                except BaseException:
                    refused += 1  # a MemoryError, or what a caller made of it
        for conn in conns:
            assert conn.local_addr[0] == "127.0.0.1"
            conn.close()
        assert len(os.listdir("/proc/self/fd")) == before
        return refused

    assert in_child(body, timeout=120) > 100


# Overload


def test_a_full_receive_queue_is_counted(conn):
    conn.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    conn.set_control_message(ControlFlags.DROPS, True)
    for i in range(200):
        conn.write_to(bytes([i]) * 100, conn.local_addr)
    got = 0
    with pytest.raises(BlockingIOError):
        while True:
            conn.read_from(bytearray(200), socket.MSG_DONTWAIT)
            got += 1
    assert 0 < got < 200
    conn.write_to(b"after", conn.local_addr)
    _, cm, _ = conn.read_from(bytearray(200))
    assert cm.drops == 200 - got


# Between hosts


def assert_refused(conn, dst, number):
    for call in (
        lambda: conn.write_to(b"x", dst),
        lambda: conn.write_batch([Message(b"x", addr=dst)]),
    ):
        with pytest.raises(OSError, match=dst[0].replace(".", r"\.")) as caught:
            call()
        assert caught.value.errno == number


@pytest.mark.needs("nft")
def test_what_a_firewall_answers(pair):
    pair.a.run(["nft", "add table ip t; add chain ip t o { type filter hook output priority 0; };"
                       " add rule ip t o udp dport 1111 drop"])  # fmt: skip
    with pair.a.call(PacketConn.udp, ("10.1.0.1", 0)) as conn:
        assert_refused(conn, ("10.1.0.2", 1111), errno.EPERM)
        assert conn.write_to(b"x", ("10.1.0.2", 2222)) == 1


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


def test_a_closed_interface_and_its_memberships(hosts):
    a, b = hosts("a"), hosts("b")
    hosts.link(a, b, "10.9.0.1/24", "10.9.0.2/24")
    with a.call(PacketConn.udp, ("0.0.0.0", 0)) as conn:
        index = conn._interface_index("eth0")
        conn.join_group("224.0.0.250", "eth0")
        a.delete_link("eth0")
        assert conn._interface(index) == (index, "")
        conn.leave_group("224.0.0.250", index)
        with pytest.raises(OSError) as caught:
            conn.join_group("224.0.0.250", index)
        assert caught.value.errno == errno.ENODEV
        assert "224.0.0.250" in str(caught.value)
