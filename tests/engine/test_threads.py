"""Threads, signals, forks, closing: nothing lost, no crash, no foreign descriptor touched."""

import errno
import os
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

import pytest
from support import in_child, until_it_waits

import ipv4
from ipv4 import Message, MessageBatch, PacketConn

ROUNDS = 100_000


@pytest.fixture
def conn():
    with PacketConn.udp(("127.0.0.1", 0)) as conn:
        yield conn


@pytest.mark.parity("deadlines moved by another thread")
def test_a_waiting_call_ends_soon_after_its_deadline(conn):
    late = []
    for _ in range(20):
        when = time.monotonic() + 0.02
        conn.set_read_deadline(when)
        with pytest.raises(TimeoutError):
            conn.read_from(bytearray(1))
        late.append(time.monotonic() - when)
    late.sort()
    assert late[0] >= 0
    assert late[10] < 0.05  # the median: a busy machine may delay one or the other


@pytest.mark.parity("deadlines moved by another thread")
def test_every_waiter_obeys_a_deadline_moved_by_another(conn):
    ended = []

    def wait():
        with pytest.raises(TimeoutError):
            conn.read_from(bytearray(1))
        ended.append(time.monotonic())

    threads = [threading.Thread(target=wait) for _ in range(20)]
    for thread in threads:
        thread.start()
    until_it_waits(*threads)
    conn.set_read_deadline(time.monotonic() + 100)
    until_it_waits(*threads)
    assert not ended
    conn.set_read_deadline(0)
    for thread in threads:
        thread.join(10)
    assert len(ended) == 20


@pytest.mark.parity("closing while others wait, and numbers used again")
def test_a_hundred_thousand_rounds_of_open_read_close():
    """No descriptor of somebody else is read, written or closed, though numbers are reused."""
    stop = threading.Event()
    problems = []
    canary = b"not a packet"

    def other_files():
        # Each file must keep its content and stay open until its owner closes it.
        try:
            while not stop.is_set():
                with tempfile.TemporaryFile() as file:
                    file.write(canary)
                    file.flush()
                    here, there = socket.socketpair()
                    here.setblocking(False)
                    file.seek(0)
                    if file.read() != canary:
                        problems.append("a file was written to")
                    with pytest.raises(BlockingIOError):
                        here.recv(1)
                    here.close()
                    there.close()
        except BaseException as error:
            problems.append(error)

    def reader(conn):
        buffer = bytearray(16)
        try:
            while True:
                conn.read_from(buffer)
                if bytes(buffer[:5]) != b"round":
                    problems.append(f"foreign bytes {bytes(buffer)}")
        except OSError as error:
            if error.errno != errno.EBADF:
                problems.append(error)

    files = [threading.Thread(target=other_files) for _ in range(2)]
    for thread in files:
        thread.start()
    # Most rounds close a conn that others are about to use, one in a hundred one they wait on.
    sender = PacketConn.udp(("127.0.0.1", 0))
    for number in range(ROUNDS):
        conn = PacketConn(socket.socket(socket.AF_INET, socket.SOCK_DGRAM))
        if number % 100 == 0:
            conn._sock.bind(("127.0.0.1", 0))
            thread = threading.Thread(target=reader, args=(conn,))
            thread.start()
            sender.write_to(b"round", conn.local_addr)
            conn.close()
            thread.join(10)
            assert not thread.is_alive()
        else:
            conn.close()
            with pytest.raises(OSError):
                conn.read_from(bytearray(1), socket.MSG_DONTWAIT)
        if problems:
            break
    stop.set()
    for thread in files:
        thread.join(10)
    sender.close()
    assert problems == []


@pytest.mark.parity("closing while others wait, and numbers used again")
def test_the_number_is_kept_while_a_call_uses_it():
    conn = PacketConn.udp(("127.0.0.1", 0))
    fd = conn.fileno()
    inside = threading.Event()
    seen = []

    def handler_of_waiter():
        inside.set()
        try:
            conn.read_from(bytearray(1))
        except OSError as error:
            seen.append(error.errno)

    thread = threading.Thread(target=handler_of_waiter)
    thread.start()
    inside.wait()
    until_it_waits(thread)
    conn.close()
    thread.join(5)
    assert seen == [errno.EBADF]
    with pytest.raises(OSError):
        os.fstat(fd)


@pytest.mark.parity("buffers pinned, resized, strange")
def test_a_buffer_in_flight_cannot_be_resized(conn):
    buffer = bytearray(16)
    thread = threading.Thread(target=conn.read_from, args=(buffer,))
    thread.start()
    until_it_waits(thread)
    with pytest.raises(BufferError):
        buffer.extend(bytes(1000))
    conn.write_to(b"x", conn.local_addr)
    thread.join(5)
    buffer.extend(bytes(1000))


def test_many_threads_on_one_conn_lose_nothing(conn):
    conn.receive_buffer = 1 << 22
    each, readers = 500, 4
    got, lock = [], threading.Lock()

    def write(start):
        for i in range(start, start + each):
            conn.write_to(i.to_bytes(4, "big"), conn.local_addr)

    def read():
        batch = MessageBatch(16, 8)
        mine = []
        try:
            while True:
                n = conn.read_batch(batch)
                mine += [int.from_bytes(batch[i].buffers[0][:4], "big") for i in range(n)]
        except TimeoutError:
            with lock:
                got.extend(mine)

    conn.set_read_deadline(time.monotonic() + 3)
    threads = [threading.Thread(target=read) for _ in range(readers)]
    threads += [threading.Thread(target=write, args=(k * each,)) for k in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert sorted(got) == list(range(4 * each))


# Signals


class Ring(Exception):
    pass


@pytest.fixture
def alarm():
    """Calls its handler every millisecond."""
    calls = []

    def start(handler=None, interval=0.001):
        def ring(*_):
            calls.append(time.monotonic())
            if handler is not None:
                handler()

        signal.signal(signal.SIGALRM, ring)
        signal.setitimer(signal.ITIMER_REAL, interval, interval)
        return calls

    before = signal.getsignal(signal.SIGALRM)
    yield start
    signal.setitimer(signal.ITIMER_REAL, 0)
    signal.signal(signal.SIGALRM, before)


@pytest.mark.parity("signals")
def test_a_storm_of_signals_keeps_the_remaining_time(conn, alarm):
    calls = alarm()
    start = time.monotonic()
    conn.set_read_deadline(start + 0.5)
    with pytest.raises(TimeoutError):
        conn.read_batch([Message(bytearray(1))])
    assert 0.5 <= time.monotonic() - start < 2
    assert len(calls) > 20


@pytest.mark.parity("signals")
def test_a_handlers_exception_ends_the_wait(conn, alarm):
    def raise_ring():
        raise Ring

    alarm(raise_ring, 0.05)
    for call in (lambda: conn.read_from(bytearray(1)), lambda: conn.read_batch(MessageBatch(8, 8))):
        with pytest.raises(Ring):
            call()
    signal.setitimer(signal.ITIMER_REAL, 0)
    conn.write_to(b"x", conn.local_addr)
    assert conn.read_from(bytearray(1))[0] == 1


def test_a_handler_may_close_the_conn(alarm):
    conn = PacketConn.udp(("127.0.0.1", 0))
    alarm(conn.close, 0.05)
    with pytest.raises(OSError) as caught:
        conn.read_from(bytearray(1))
    assert caught.value.errno == errno.EBADF
    assert conn.closed


@pytest.mark.parity("signals")
def test_control_c_ends_a_program_that_waits():
    code = (
        "import ipv4, sys\n"
        "with ipv4.PacketConn.udp(('127.0.0.1', 0)) as conn:\n"
        "    print('waiting', flush=True)\n"
        "    try:\n"
        "        conn.read_from(bytearray(1))\n"
        "    except KeyboardInterrupt:\n"
        "        sys.exit(7)\n"
    )
    program = subprocess.Popen([sys.executable, "-P", "-c", code], stdout=subprocess.PIPE)
    assert program.stdout.readline() == b"waiting\n"
    until_it_waits(program)
    program.send_signal(signal.SIGINT)
    assert program.wait(10) == 7
    program.stdout.close()


@pytest.mark.parity("conns left open, and the end of the program")
def test_exit_with_a_thread_that_waits():
    code = (
        "import ipv4, sys, threading\n"
        "sys.path.append(sys.argv[1])\n"
        "from support import until_it_waits\n"
        "conn = ipv4.PacketConn.udp(('127.0.0.1', 0))\n"
        "thread = threading.Thread(target=conn.read_from, args=(bytearray(1),), daemon=True)\n"
        "thread.start()\n"
        "until_it_waits(thread)\n"
    )
    argv = [sys.executable, "-P", "-c", code, Path(__file__).parents[1]]
    done = subprocess.run(argv, capture_output=True, timeout=60, check=False)
    assert (done.returncode, done.stderr) == (0, b"")


# Fork


@pytest.mark.parity("fork")
def test_a_forked_child_goes_on(conn):
    batch, message = MessageBatch(4, 8), Message(bytearray(8))
    other = PacketConn.udp(("127.0.0.1", 0))
    threads = [
        threading.Thread(target=conn.read_batch, args=([message],)),
        threading.Thread(target=other.read_batch, args=(batch,)),
    ]
    for thread in threads:
        thread.start()
    until_it_waits(*threads)

    def child():
        # The parent's threads are not here: what they had in flight is free, and closing closes.
        with PacketConn.udp(("127.0.0.1", 0)) as mine:
            for target in (batch, [message]):
                mine.write_to(b"mine", mine.local_addr)
                assert mine.read_batch(target) == 1
        conn.set_read_deadline(time.monotonic() + 0.1)
        with pytest.raises(TimeoutError):
            conn.read_from(bytearray(1))
        fd = conn.fileno()
        conn.close()
        with pytest.raises(OSError):
            os.fstat(fd)
        return "done"

    assert in_child(child) == "done"
    assert all(thread.is_alive() for thread in threads)
    conn.write_to(b"x", conn.local_addr)
    other.write_to(b"x", other.local_addr)
    for thread in threads:
        thread.join(5)
        assert not thread.is_alive()
    other.close()


def test_the_books_balance_under_signals_forks_closes_and_greenlets():
    """Minutes of it: ``python tests/stress/threads.py --seconds 300``."""
    program = Path(__file__).parents[1] / "stress" / "threads.py"
    done = subprocess.run(
        [sys.executable, "-P", program, "--seconds", "6"],
        capture_output=True,
        text=True,
        timeout=200,
        env=os.environ | {"PYTHONPATH": str(program.parent)},
    )
    assert done.returncode == 0, done.stderr


def test_many_threads_meet_on_one_object():
    """Minutes of it: ``python tests/stress/races.py --seconds 300``."""
    program = Path(__file__).parents[1] / "stress" / "races.py"
    done = subprocess.run(
        [sys.executable, "-P", program, "--seconds", "9"],
        capture_output=True,
        text=True,
        timeout=200,
        env=os.environ | {"PYTHONPATH": str(program.parent)},
    )
    assert done.returncode == 0, done.stderr


@pytest.mark.needs("strace")
@pytest.mark.unsanitized
def test_nothing_but_the_call_itself_reaches_the_kernel(tmp_path):
    """No extra system call: strace counts them."""
    code = (
        "import ipv4, os\n"
        "conn = ipv4.PacketConn.udp(('127.0.0.1', 0))\n"
        "here, buffer = conn.local_addr, bytearray(9)\n"
        "os.getppid()\n"
        "for _ in range(50):\n"
        "    conn.write_to(b'x', here)\n"
        "    conn.read_from(buffer)\n"
        "out = [ipv4.Message(b'x', addr=here) for _ in range(4)]\n"
        "back = [ipv4.Message(bytearray(4)) for _ in range(4)]\n"
        "for _ in range(50):\n"
        "    conn.write_batch(out[:1])\n"
        "    conn.read_batch(back)\n"
        "os.getppid()\n"
        "conn.close()\n"
    )
    log = tmp_path / "log"
    subprocess.run(
        ["strace", "-f", "-qq", "-o", log, sys.executable, "-P", "-c", code], check=True, timeout=60
    )
    words = (line.split()[1].split("(")[0] for line in log.read_text().splitlines())
    calls = [word.removesuffix("_time64") for word in words]
    first = calls.index("getppid")
    inside = calls[first + 1 : calls.index("getppid", first + 1)]
    # The interpreter itself may fetch memory now and then.
    counts = {
        name: inside.count(name) for name in set(inside) - {"brk", "mmap", "munmap", "madvise"}
    }
    single = ipv4.PacketConn.udp()
    portable = single._moves_one_a_call()
    single.close()
    if portable:
        assert counts == {"sendto": 50, "recvfrom": 50, "sendmsg": 50, "recvmsg": 50}
    else:
        assert counts == {"sendto": 50, "recvfrom": 50, "sendmmsg": 50, "recvmmsg": 50}
