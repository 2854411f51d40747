"""Whatever stands for a socket: what is taken, what is refused, and in whose loop calls wait."""

import asyncio
import errno
import importlib.util
import os
import socket
import struct
import subprocess
import sys
import textwrap
from pathlib import Path
from unittest import mock

import pytest
from support import eventually

from ipv4 import Conn, PacketConn, RawConn

DGRAM = socket.SOCK_DGRAM


def inet(kind=DGRAM, made=socket.socket):
    return made(socket.AF_INET, kind)


class SaysNothing(socket.socket):
    """Its own answers mislead; the interpreter's do not."""

    def fileno(self):
        return 0

    family = socket.AF_INET6


class Number(int):
    pass


# What is taken


def test_a_subclass_is_known_by_what_it_is():
    with PacketConn(SaysNothing(socket.AF_INET, DGRAM)) as conn:
        assert conn.fileno() == socket.socket.fileno(conn.socket)
        conn.ttl = 9
        assert conn.ttl == 9


@pytest.mark.parametrize("as_number", [int, Number])
def test_a_number_is_owned_and_closed(as_number):
    with inet() as sock:
        number = os.dup(sock.fileno())
    with PacketConn(as_number(number)) as conn:
        conn.set_read_deadline(0)
        with pytest.raises(TimeoutError):
            conn.read_from(bytearray(1))
        assert conn.fileno() == number
    with pytest.raises(OSError):
        os.fstat(number)


ACTIVATED = """
import os
from ipv4 import ControlFlags, PacketConn

assert os.environ["LISTEN_FDS"] == "1" and os.environ["LISTEN_PID"] == str(os.getpid())
with PacketConn(3) as conn:  # SD_LISTEN_FDS_START
    conn.set_control_message(ControlFlags.DST | ControlFlags.INTERFACE, True)
    conn.timeout = 20
    data, cm, src = conn.receive()  # what woke systemd came before the flags were set
    conn.write_to(data.upper(), src, cm and cm.reply())
"""


@pytest.mark.needs("systemd-socket-activate")
def test_systemd_hands_over_a_descriptor(tmp_path):
    with inet() as spare:
        spare.bind(("127.0.0.1", 0))
        there = spare.getsockname()
    program = tmp_path / "activated.py"
    program.write_text(ACTIVATED)
    argv = ["systemd-socket-activate", "--datagram", f"--listen={there[0]}:{there[1]}"]
    argv += [f"--setenv={name}={value}" for name, value in os.environ.items()]
    activating = subprocess.Popen([*argv, sys.executable, "-P", str(program)])
    try:
        with PacketConn.udp(("127.0.0.1", 0)) as client:

            def answered():
                client.write_to(b"wake", there)
                try:
                    return client.receive()[::2] == (b"WAKE", there)
                except TimeoutError:
                    return False

            client.timeout = 0.5
            eventually(answered, timeout=20, what="the activated program answers")
        assert activating.wait(20) == 0
    finally:
        activating.kill()
        activating.wait()


def test_a_number_whose_conn_is_gone_is_closed():
    number = inet().detach()
    conn = PacketConn(number)
    with pytest.warns(ResourceWarning):
        del conn
    with pytest.raises(OSError):
        os.fstat(number)


def test_a_transports_socket():
    """Its conn reads, writes and sets options; the transport goes on when the conn is closed."""

    async def main():
        loop = asyncio.get_running_loop()
        transport, _ = await loop.create_datagram_endpoint(
            asyncio.DatagramProtocol, local_addr=("127.0.0.1", 0)
        )
        sock = transport.get_extra_info("socket")
        with PacketConn(sock) as conn, PacketConn.udp(("127.0.0.1", 0)) as other:
            conn.tos = 0x28
            assert conn.socket is sock
            assert conn.write_to(b"ours", other.local_addr) == 4
            with pytest.raises(BlockingIOError):  # the loop waits, the conn does not
                conn.read_from(bytearray(1))
        assert conn.closed
        assert sock.getsockopt(socket.IPPROTO_IP, socket.IP_TOS) == 0x28
        transport.close()
        await asyncio.sleep(0)
        assert sock.fileno() == -1
        with pytest.raises(OSError) as caught:
            PacketConn(sock)
        assert caught.value.errno == errno.EBADF

    asyncio.run(main())


def test_a_transport_that_closes_its_socket_under_the_conn():
    async def main():
        transport, _ = await asyncio.get_running_loop().create_datagram_endpoint(
            asyncio.DatagramProtocol, local_addr=("127.0.0.1", 0)
        )
        conn = PacketConn(transport.get_extra_info("socket"))
        number = conn.fileno()
        transport.close()
        await asyncio.sleep(0)
        with inet() as spare:  # which may have the number now
            assert conn.closed
            assert conn.fileno() == -1
            for call in (lambda: conn.write_to(b"x", spare.getsockname()), lambda: conn.ttl):
                with pytest.raises(OSError) as caught:
                    call()
                assert caught.value.errno == errno.EBADF
            conn.close()
            assert number < 0 or spare.fileno() >= 0
            spare.getsockname()

    asyncio.run(main())


def test_detach_lets_go_what_nobody_else_holds():
    """What an opener made, or came by number, has then one handle; a given socket stays whole."""
    with inet() as given:
        conn = PacketConn(given)
        assert conn.detach() == given.fileno()
        assert conn.closed
        del conn
        given.getsockname()
    for make in (PacketConn.udp, lambda: PacketConn(inet().detach())):
        conn = make()
        number = conn.detach()
        assert conn.closed
        with pytest.raises(OSError) as caught:
            conn.detach()
        assert caught.value.errno == errno.EBADF
        conn.close()
        del conn
        os.fstat(number)
        os.close(number)


# What is refused


def fake_float():
    """Says to be a socket, and its memory looks like one's."""
    real = inet()

    class Fake(float):
        __class__ = property(lambda self: socket.socket)
        family, type, proto = socket.AF_INET, DGRAM, 17

        def fileno(self):
            return real.fileno()

        def detach(self):
            real.close()

    return Fake(struct.unpack("d", struct.pack("ii", real.fileno(), socket.AF_INET))[0])


def mocked():
    made = mock.Mock(spec=socket.socket)
    made.fileno.return_value, made.family = 5, socket.AF_INET
    return made


@pytest.mark.parametrize("cls", [Conn, PacketConn, RawConn])
@pytest.mark.parametrize("make", [mocked, fake_float, lambda: True, lambda: 5.0, lambda: "5"])
def test_what_is_no_socket_by_its_type(cls, make):
    wrong = make()
    with pytest.raises(TypeError, match=r"^sock must be a socket\.socket.*, not "):
        cls(wrong)
    if hasattr(wrong, "detach"):
        wrong.detach()


def open_null():
    return Path(os.devnull).open("rb")


@pytest.mark.parametrize(
    ("make", "kind", "said"),
    [
        (lambda: socket.socket(socket.AF_INET6, DGRAM), ValueError, "^sock must be .*AF_INET6"),
        (lambda: inet(socket.SOCK_STREAM), ValueError, "^sock must be a datagram"),
        (open_null, OSError, "sock is the number"),
    ],
)
def test_a_number_that_is_refused_stays_open(make, kind, said):
    with make() as file:
        with pytest.raises(kind, match=said):
            PacketConn(file.fileno())
        os.fstat(file.fileno())


def test_numbers_that_are_no_descriptors():
    for number in (-1, -(1 << 70), 1 << 31, 1 << 70):
        with pytest.raises(ValueError, match=r"^sock must be a socket's descriptor"):
            Conn(number)
    with pytest.raises(OSError) as caught:
        Conn((1 << 31) - 1)
    assert caught.value.errno == errno.EBADF


# In whose loop calls wait: each stack runs in a process of its own, patched and not

STACKS = {
    "gevent": """
        import gevent, gevent.monkey, gevent.socket
        if PATCHED: gevent.monkey.patch_all()
        spawn, sleep, Socket = gevent.spawn, gevent.sleep, gevent.socket.socket
        def join(*tasks): gevent.joinall(tasks, raise_error=True, timeout=20)
    """,
    "eventlet": """
        import warnings
        warnings.simplefilter("ignore")
        import eventlet, eventlet.green.socket
        if PATCHED: eventlet.monkey_patch()
        spawn, sleep, Socket = eventlet.spawn, eventlet.sleep, eventlet.green.socket.socket
        def join(*tasks):
            with eventlet.Timeout(20):
                for task in tasks: task.wait()
    """,
}
PROGRAM = """
    import errno, os, socket, sys, time
    import ipv4
    from ipv4 import Message, PacketConn

    def made():
        if PATCHED:
            conn = PacketConn.udp(("127.0.0.1", 0))
        else:
            sock = Socket(socket.AF_INET, socket.SOCK_DGRAM)
            sock.bind(("127.0.0.1", 0))
            conn = PacketConn(sock)
        assert type(conn.socket) is Socket, type(conn.socket)
        return conn

    def ended(conn, how):
        try:
            conn.read_from(bytearray(9))
        except OSError as error:
            assert error.errno == how, error
        else:
            raise AssertionError("it has read")

    def until_closed(number):
        # gevent closes in its loop
        end = time.monotonic() + 20
        while os.path.exists(f"/proc/self/fd/{number}"):
            assert time.monotonic() < end, "still open"
            sleep(0.001)

    with made() as conn, made() as other:
        # Another greenlet goes on while two of them wait.
        ticks, got, here = [], [], conn.local_addr
        def read():
            buffer = bytearray(9)
            n, _, src = conn.read_from(buffer)
            assert src == other.local_addr
            got.append(bytes(buffer[:n]))
        def tick():
            for _ in range(20):
                sleep(0.005)
                ticks.append(time.monotonic())
            other.write_to(b"one", here)
            other.write_batch([Message(b"two", addr=here)])
        start = time.monotonic()
        join(spawn(read), spawn(read), spawn(tick))
        assert sorted(got) == [b"one", b"two"] and len(ticks) == 20, (got, ticks)

        # Deadlines: set before, moved meanwhile; the socket's own timeout.
        conn.set_read_deadline(time.monotonic() + 0.05)
        ended(conn, errno.ETIMEDOUT)
        conn.set_read_deadline(time.monotonic() + 100)
        task = spawn(ended, conn, errno.ETIMEDOUT)
        sleep(0.02)
        conn.set_read_deadline(time.monotonic() + 0.02)
        join(task)
        conn.set_read_deadline(None)
        conn.timeout = 0.02
        ended(conn, errno.ETIMEDOUT)
        conn.timeout = 0
        ended(conn, errno.EAGAIN)
        conn.timeout = None

        # An error that lies unread: waiting goes on, and uses no time of the processor.
        conn.receive_errors = True
        with made() as gone: nobody, number = gone.local_addr, gone.fileno()
        until_closed(number)
        conn.write_to(b"x", nobody)
        conn.set_read_deadline(time.monotonic() + 0.3)
        before = time.process_time()
        try: conn.read_from(bytearray(1))
        except ConnectionRefusedError: ended(conn, errno.ETIMEDOUT)
        except TimeoutError: pass
        assert time.process_time() - before < 0.2
        conn.set_read_deadline(None)
        assert conn.read_error() is not None

        # Closed by another greenlet, and by a thread of the system's own.
        number = conn.fileno()
        tasks = [spawn(ended, conn, errno.EBADF) for _ in range(3)]
        sleep(0.02)
        conn.close()
        join(*tasks)
        until_closed(number)
        task = spawn(ended, other, errno.ETIMEDOUT)
        sleep(0.02)
        import _thread
        NATIVE(other.set_read_deadline, (0,))
        join(task)
    print("done")
"""
NATIVE = {
    "gevent": "NATIVE = gevent.monkey.get_original('_thread', 'start_new_thread')\n",
    "eventlet": "NATIVE = eventlet.patcher.original('_thread').start_new_thread\n",
}


@pytest.mark.unsanitized  # greenlets move C stacks, of which ASAN does not hear
@pytest.mark.parametrize("patched", [False, True], ids=["as it is", "patched"])
@pytest.mark.parametrize("stack", STACKS)
def test_waits_of_one_greenlet_let_others_go_on(stack, patched):
    if importlib.util.find_spec(stack) is None:
        pytest.skip(f"needs {stack}")
    program = f"PATCHED = {patched}\n" + textwrap.dedent(STACKS[stack]) + NATIVE[stack]
    done = subprocess.run(
        [sys.executable, "-P", "-c", program + textwrap.dedent(PROGRAM)],
        # eventlet's own names would bring dnspython, and that trio, onto its sockets.
        env=os.environ | {"EVENTLET_NO_GREENDNS": "yes"},
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert (done.returncode, done.stdout) == (0, "done\n"), done.stderr
