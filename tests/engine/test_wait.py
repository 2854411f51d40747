"""Waiting: deadlines, timeouts, calls that never wait, and what closing does to those that do."""

import errno
import resource
import select
import signal
import socket
import threading
import time

import pytest
from support import in_child, until_it_waits, when_it_waits
from support.packets import until_an_error_waits

import ipv4
from ipv4 import ControlFlags, Message, MessageBatch, PacketConn


def test_a_past_deadline_fails_at_once_though_data_is_there(conn):
    conn.write_to(b"data", conn.local_addr)
    conn.set_read_deadline(time.monotonic() - 1)
    for call in (
        lambda: conn.read_from(bytearray(9)),
        lambda: conn.read_batch([ipv4.Message(bytearray(9))]),
    ):
        with pytest.raises(TimeoutError):
            call()
    conn.write_to(b"writes go on", conn.local_addr)
    conn.set_write_deadline(-5)
    with pytest.raises(TimeoutError):
        conn.write_to(b"", conn.local_addr)
    with pytest.raises(TimeoutError):
        conn.write_batch([ipv4.Message(b"", addr=conn.local_addr)])
    conn.set_deadline(None)
    assert conn.read_from(bytearray(9))[0] == 4


@pytest.mark.parametrize("change", ["sooner", "past", "cleared", "later"])
def test_a_deadline_set_elsewhere_governs_a_waiting_call(conn, change):
    now = time.monotonic()
    conn.set_read_deadline(now + {"sooner": 30, "past": 30, "cleared": 0.3, "later": 0.3}[change])
    outcome = []

    def read():
        try:
            outcome.append(conn.read_from(bytearray(9))[0])
        except OSError as error:
            outcome.append(error)

    thread = threading.Thread(target=read)
    thread.start()
    until_it_waits(thread)
    moved = time.monotonic()
    conn.set_read_deadline(
        {"sooner": moved + 0.1, "past": moved - 1, "cleared": None, "later": moved + 30}[change]
    )
    if change in ("cleared", "later"):
        time.sleep(0.4)  # the first deadline passes
        conn.write_to(b"late", conn.local_addr)
    thread.join(5)
    assert not thread.is_alive()
    if change in ("cleared", "later"):
        assert outcome == [4]
    else:
        assert isinstance(outcome[0], TimeoutError)
        assert time.monotonic() - moved < 1


def test_far_deadlines(conn):
    for when in (float("inf"), 1e300, 10**400):
        conn.set_deadline(when)
        conn.write_to(b"x", conn.local_addr)
        assert conn.read_from(bytearray(1))[0] == 1
    conn.set_deadline(-(10**400))
    with pytest.raises(TimeoutError):
        conn.read_from(bytearray(1))


def test_the_sockets_own_timeout_counts_without_deadline():
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.bind(("127.0.0.1", 0))
        conn = PacketConn(sock)
        sock.settimeout(0)
        with pytest.raises(BlockingIOError):
            conn.read_from(bytearray(1))
        with pytest.raises(BlockingIOError):
            conn.read_batch([ipv4.Message(bytearray(1))])
        conn.set_read_deadline(time.monotonic() + 0.1)
        with pytest.raises(TimeoutError):
            conn.read_from(bytearray(1))
        conn.set_read_deadline(None)
        sock.settimeout(0.1)
        start = time.monotonic()
        with pytest.raises(TimeoutError):
            conn.read_from(bytearray(1))
        assert 0.1 <= time.monotonic() - start < 1


def test_msg_dontwait_never_waits(conn):
    for call in (
        lambda: conn.read_from(bytearray(1), socket.MSG_DONTWAIT),
        lambda: conn.read_batch([ipv4.Message(bytearray(1))], socket.MSG_DONTWAIT),
        lambda: conn.read_batch(ipv4.MessageBatch(2, 2), socket.MSG_DONTWAIT),
    ):
        with pytest.raises(BlockingIOError) as caught:
            call()
        assert caught.value.errno == errno.EAGAIN


@pytest.mark.parity("Close ends waiting calls")
@pytest.mark.parametrize("call", ["read_from", "read_batch", "many"])
def test_close_ends_waiting_calls(call):
    conn = PacketConn.udp(("127.0.0.1", 0))
    outcome = []

    def wait():
        try:
            if call == "read_batch":
                conn.read_batch([ipv4.Message(bytearray(9)) for _ in range(16)])
            else:
                conn.read_from(bytearray(9))
        except OSError as error:
            outcome.append(error.errno)

    threads = [threading.Thread(target=wait) for _ in range(8 if call == "many" else 1)]
    for thread in threads:
        thread.start()
    until_it_waits(*threads)
    fd = conn.fileno()
    conn.close()
    for thread in threads:
        thread.join(5)
        assert not thread.is_alive()
    assert outcome == [errno.EBADF] * len(threads)
    with pytest.raises(OSError):
        socket.socket(fileno=fd).detach()


def test_no_descriptor_of_its_own_before_it_waits(conn):
    import os

    before = set(os.listdir("/proc/self/fd"))
    for _ in range(3):
        conn.write_to(b"x", conn.local_addr)
        select.select([conn], [], [], 5)  # on a busy machine it takes a moment
        conn.read_from(bytearray(1))
    assert set(os.listdir("/proc/self/fd")) == before


PAYLOAD = b"HELLO-R-U-THERE"

FLAGS = ControlFlags.TTL | ControlFlags.DST | ControlFlags.INTERFACE


@pytest.mark.parity("SetDeadline", "SetReadDeadline", "SetWriteDeadline")
@pytest.mark.parity("deadlines")
def test_a_past_deadline_fails_at_once_and_only_its_direction(conn):
    conn.write_to(PAYLOAD, conn.local_addr)
    conn.set_read_deadline(time.monotonic() - 1)
    for flags in (0, socket.MSG_DONTWAIT):
        with pytest.raises(TimeoutError):
            conn.read_from(bytearray(64), flags)
    conn.write_to(PAYLOAD, conn.local_addr)
    conn.set_write_deadline(0)
    with pytest.raises(TimeoutError):
        conn.write_to(PAYLOAD, conn.local_addr)
    conn.set_deadline(None)
    for _ in range(2):
        assert conn.read_from(bytearray(64))[0] == 15
    conn.set_deadline(-5)
    with pytest.raises(TimeoutError):
        conn.read_from(bytearray(64))
    with pytest.raises(TimeoutError):
        conn.write_to(PAYLOAD, conn.local_addr)
    conn.ttl = 5  # options know no deadline


@pytest.mark.parity("SetReadDeadline")
@pytest.mark.parity("deadlines")
def test_a_deadline_that_comes_ends_the_wait_and_the_conn_lives_on(conn):
    started = time.monotonic()
    conn.set_read_deadline(started + 0.1)
    with pytest.raises(TimeoutError):
        conn.read_from(bytearray(64))
    assert 0.09 <= time.monotonic() - started < 5
    conn.set_read_deadline(time.monotonic() + 30)
    conn.write_to(PAYLOAD, conn.local_addr)
    assert conn.read_from(bytearray(64))[0] == 15


def waiting(function):
    """Run `function` in a thread; return what it raised, once joined."""
    raised = []

    def run():
        try:
            function()
        except BaseException as error:
            raised.append(error)

    thread = threading.Thread(target=run)
    thread.start()
    return thread, raised


@pytest.mark.parametrize("verb", ["set_deadline", "set_read_deadline"])
@pytest.mark.parity("SetDeadline", "SetReadDeadline")
@pytest.mark.parity("deadlines")
def test_a_deadline_governs_calls_that_already_wait(conn, verb):
    threads = [waiting(lambda: conn.read_from(bytearray(64))) for _ in range(3)]
    until_it_waits(*(thread for thread, _ in threads))
    getattr(conn, verb)(time.monotonic() - 1)
    for thread, raised in threads:
        thread.join(20)
        assert [type(error) for error in raised] == [TimeoutError]


@pytest.mark.parity("Close")
@pytest.mark.parity("deadlines", "closing while others wait, and numbers used again")
def test_close_ends_calls_that_wait_and_all_later_ones(conn):
    threads = [waiting(lambda: conn.read_from(bytearray(64))) for _ in range(3)]
    until_it_waits(*(thread for thread, _ in threads))
    conn.close()
    conn.close()
    assert conn.closed
    for thread, raised in threads:
        thread.join(20)
        assert [error.errno for error in raised] == [errno.EBADF]
    for call in (
        lambda: conn.read_from(bytearray(1)),
        lambda: conn.write_to(b"x", "127.0.0.1"),
        lambda: conn.set_deadline(None),
        lambda: conn.set_control_message(FLAGS, True),
        lambda: conn.join_group("224.0.0.5"),
        lambda: conn.set_bpf(None),
    ):
        with pytest.raises(OSError) as caught:
            call()
        assert caught.value.errno == errno.EBADF


@pytest.mark.parametrize("wrong", ["1", b"1", [1]])
def test_a_deadline_of_a_wrong_type_is_refused(conn, wrong):
    for verb in ("set_deadline", "set_read_deadline", "set_write_deadline"):
        with pytest.raises(TypeError, match=r"^when\b"):
            getattr(conn, verb)(wrong)
        with pytest.raises(ValueError, match=r"^when\b"):
            getattr(conn, verb)(float("nan"))


@pytest.mark.parity("PacketConn.ReadFrom")
def test_dontwait_never_waits(conn):
    with pytest.raises(BlockingIOError):
        conn.read_from(bytearray(1), socket.MSG_DONTWAIT)
    conn.write_to(b"x", conn.local_addr, None, socket.MSG_DONTWAIT)
    assert conn.read_from(bytearray(1), socket.MSG_DONTWAIT)[0] == 1


@pytest.mark.parity("better than the reference: a signal during a call")
def test_a_signal_runs_its_handler_and_the_call_goes_on(conn):
    rung = []

    def ring(number, frame):
        rung.append(number)
        if len(rung) == 3:
            conn.write_to(b"at last", conn.local_addr)

    before = signal.signal(signal.SIGALRM, ring)
    try:
        signal.setitimer(signal.ITIMER_REAL, 0.05, 0.05)
        assert conn.read_from(bytearray(16))[0] == 7
        signal.setitimer(signal.ITIMER_REAL, 0)
        rung.clear()
        signal.setitimer(signal.ITIMER_REAL, 0.05, 0.05)
        assert conn.read_batch([Message(bytearray(16))]) == 1
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
    assert len(rung) >= 3


def closed_port():
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.bind(("127.0.0.1", 0))
        return sock.getsockname()


@pytest.mark.unsanitized
@pytest.mark.parity("every origin of the error queue")
def test_an_unread_error_queue_does_not_make_a_wait_spin(conn):
    conn.receive_errors = True
    for _ in range(3):
        conn.write_to(b"dead", closed_port())
    until_an_error_waits(conn)
    for call in (lambda: conn.read_from(bytearray(9)), lambda: conn.read_batch(MessageBatch(2, 9))):
        conn.set_read_deadline(time.monotonic() + 0.5)
        start = time.thread_time()
        with pytest.raises(TimeoutError):
            call()
        assert time.thread_time() - start < 0.1
        conn.set_read_deadline(time.monotonic() + 10)
        other = when_it_waits(conn.write_to, b"data", conn.local_addr)
        begun = time.monotonic()
        call()
        assert time.monotonic() - begun < 5
        other.join()
        other = when_it_waits(conn.set_read_deadline, 0)
        with pytest.raises(TimeoutError):
            call()
        other.join()


@pytest.mark.parity("descriptors and memory run out")
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
            # By time: no descriptor is left for a look into /proc.
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
