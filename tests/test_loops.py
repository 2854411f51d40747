"""Loops of each kind: what a conn leaves in them, in threads, in a forked child, at their end."""

import asyncio
import contextlib
import contextvars
import errno
import gc
import importlib.util
import os
import socket
import subprocess
import sys
import threading
import time
import weakref
from pathlib import Path

import pytest
from support import when_it_waits
from support.loops import LOOPS, each_loop, opened, run_on, warm_uvloop

from ipv4 import Message, MessageBatch, PacketConn
from ipv4.aio import AsyncPacketConn
from ipv4.loops import READ, AsyncioGate, Step

__all__ = ["warm_uvloop"]  # a fixture


@each_loop
async def test_conns_one_after_the_other():
    """Each has the number of the last one, of which no loop knows anything any more."""
    loop = None
    with contextlib.suppress(RuntimeError):
        loop = asyncio.get_running_loop()
    numbers = set()
    anyio = pytest.importorskip("anyio")
    for door in (PacketConn.close, AsyncPacketConn.close, None):
        conn = PacketConn.udp(("127.0.0.1", 0))
        aconn = AsyncPacketConn(conn)
        numbers.add(conn.fileno())
        async with anyio.create_task_group() as group:
            group.start_soon(aconn.read_from, bytearray(9))
            await anyio.wait_all_tasks_blocked()
            conn.write_to(b"answer", conn.local_addr)
        if door is not None:
            door(aconn if door is AsyncPacketConn.close else conn)
        else:
            with conn:
                pass
        if loop is not None:
            with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as other:
                other.setblocking(False)
                other.bind(("127.0.0.1", 0))
                numbers.add(other.fileno())
                loop.call_soon(other.sendto, b"x", other.getsockname())
                assert await asyncio.wait_for(loop.sock_recv(other, 9), 10) == b"x"
    assert len(numbers) == 1


@pytest.mark.parametrize("loop", ["asyncio", "debug", "uvloop"])
@pytest.mark.parametrize(
    ("at", "readers"),
    # One task goes on at once, several in the loop's next turn.
    [
        ("told", 1),
        ("told", 2),
        ("go_on", 1),
        ("wake", 2),
        ("unregister", 1),
        ("drain", 1),
        ("drain", 2),
    ],
)
def test_an_exception_in_the_loops_callback_leaves_nobody_unwoken(loop, at, readers, monkeypatch):
    """As a signal's handler may raise one at any point of it."""
    raised = []

    def interrupted(gate, *args):
        if not raised:
            raised.append(at)
            raise ZeroDivisionError
        return step(gate, *args)

    async def read():
        try:
            await conn.read_from(bytearray(1))
        except ZeroDivisionError:  # which came while the task itself ran
            assert at == "drain"
            await conn.read_from(bytearray(1))

    async def work():
        running = asyncio.get_running_loop()
        running.set_exception_handler(lambda *_: None)
        watch = conn.conn._watch(AsyncioGate, running, READ)
        for _ in range(readers):
            running.call_later(0.01, conn.conn.write_to, b"x", conn.local_addr)
        await asyncio.wait_for(asyncio.gather(*(read() for _ in range(readers))), 10)
        with contextlib.suppress(ZeroDivisionError):
            conn.close()
        while watch.numbers[0][0] >= 0:  # until the loop has let go
            await asyncio.sleep(0)

    owner = Step if at == "go_on" else AsyncioGate
    step = getattr(owner, at)
    monkeypatch.setattr(owner, at, interrupted)
    with opened() as conn:
        run_on(loop, work)
        assert raised == [at]


def open_descriptors():
    return len(os.listdir("/proc/self/fd"))


@each_loop
async def test_a_conn_that_is_closed_or_dropped_leaves_no_descriptor():
    anyio = pytest.importorskip("anyio")
    for close in (True, False):
        before = open_descriptors()
        conn = AsyncPacketConn(PacketConn.udp(("127.0.0.1", 0)))
        here = conn.local_addr
        async with anyio.create_task_group() as group:
            for _ in range(2):
                group.start_soon(conn.read_from, bytearray(1))
            await anyio.wait_all_tasks_blocked()
            for _ in range(2):
                conn.conn.write_to(b"x", here)
        assert open_descriptors() > before
        if close:
            conn.close()
        gone = weakref.ref(conn.conn)
        with contextlib.ExitStack() as stack:
            if not close:
                stack.enter_context(pytest.warns(ResourceWarning))
            del conn
            gc.collect()
        assert gone() is None
        with anyio.fail_after(10):
            while open_descriptors() > before:
                await anyio.lowlevel.checkpoint()


@pytest.mark.parametrize("loop", ["asyncio", "uvloop"])
def test_the_end_of_a_loop_leaves_no_descriptor(loop):
    run = asyncio.run if loop == "asyncio" else pytest.importorskip("uvloop").run

    async def read(conn):
        asyncio.get_running_loop().call_later(0.01, conn.conn.write_to, b"x", conn.local_addr)
        await conn.read_from(bytearray(1))

    with opened() as conn:
        before = open_descriptors()
        for _ in range(3):
            run(read(conn))
            gc.collect()
            assert open_descriptors() == before


def test_loops_in_threads_share_a_conn():
    """Every loop is woken; every one is told of the end, by a thread that has none."""
    loops = [loop for loop in LOOPS if loop == "debug" or importlib.util.find_spec(loop)]
    with opened() as conn:
        got, told = [], []
        wait = threading.Barrier(len(loops) + 1)

        def reader(loop):
            async def work():
                buffer = bytearray(2)
                wait.wait()
                while True:
                    try:
                        await conn.read_from(buffer)
                    except OSError as error:
                        told.append(error.errno)
                        return
                    got.append(int.from_bytes(buffer, "big"))

            run_on(loop, work)

        threads = [threading.Thread(target=reader, args=(loop,)) for loop in loops]
        for thread in threads:
            thread.start()
        wait.wait()
        for number in range(1000):
            conn.conn.write_to(number.to_bytes(2, "big"), conn.local_addr)
        deadline = time.monotonic() + 30
        while len(got) < 1000 and time.monotonic() < deadline:
            time.sleep(0.001)
        conn.conn.close()
        for thread in threads:
            thread.join(30)
            assert not thread.is_alive()
        assert sorted(got) == list(range(1000))
        assert told == [errno.EBADF] * len(loops)


@pytest.mark.parametrize("loop", LOOPS)
def test_closing_after_the_loop_and_from_a_thread(loop):
    async def wait_briefly():
        anyio = pytest.importorskip("anyio")
        with anyio.move_on_after(0.01):
            await conn.read_from(bytearray(1))

    with opened() as conn:
        run_on(loop, wait_briefly)
        conn.close()
        assert conn.closed

    async def wait_for_the_end():
        thread = when_it_waits(conn.close)
        with pytest.raises(OSError) as caught:
            await conn.read_from(bytearray(1))
        assert caught.value.errno == errno.EBADF
        thread.join()

    with opened() as conn:
        run_on(loop, wait_for_the_end)


def test_every_call_is_a_checkpoint_on_trio():
    trio = pytest.importorskip("trio")

    async def work():
        with opened() as conn:
            here = conn.local_addr
            message = Message(b"x", addr=here)
            for _ in range(10):
                await conn.write_to(b"x", here)
            with trio.testing.assert_checkpoints():
                await conn.write_to(b"x", here)
            with trio.testing.assert_checkpoints():
                await conn.write_batch([message])
            with trio.testing.assert_checkpoints():
                await conn.write_all([message])
            with trio.testing.assert_checkpoints():
                await conn.read_from(bytearray(1))
            with trio.testing.assert_checkpoints():
                await conn.read_batch([Message(bytearray(1))])
            with trio.testing.assert_checkpoints():
                await anext(conn.batches(MessageBatch(1, 1)))
            with trio.testing.assert_checkpoints():
                assert await conn.read_error(wait=False) is None
            with trio.testing.assert_checkpoints():
                await conn.aclose()

    trio.run(work)


# faulthandler's watchdog is a thread, and Python >= 3.12 warns of any at a fork.
@pytest.mark.filterwarnings("ignore:This process:DeprecationWarning")
@each_loop
async def test_a_forked_child_has_loops_of_its_own():
    anyio = pytest.importorskip("anyio")
    with opened() as conn:
        got = []

        async def read():
            buffer = bytearray(1)
            await conn.read_from(buffer)
            got.append(buffer[0])

        async def in_the_child():
            asyncio.get_running_loop().call_soon(conn.conn.write_to, b"c", conn.local_addr)
            buffer = bytearray(1)
            await asyncio.wait_for(conn.read_from(buffer), 10)
            return buffer[0]

        with anyio.fail_after(20):
            async with anyio.create_task_group() as group:
                group.start_soon(read)
                await anyio.wait_all_tasks_blocked()
                child = os.fork()
                if child == 0:
                    status = 1
                    try:
                        thread = [0]
                        one = threading.Thread(
                            target=lambda: thread.append(asyncio.run(in_the_child()))
                        )
                        one.start()
                        one.join()
                        conn.conn.write_to(b"p", conn.local_addr)
                        conn.close()  # by the forking thread, whose loop is the parent's
                        status = 0 if thread[-1] == ord("c") else 2
                    finally:
                        os._exit(status)
                assert os.waitpid(child, 0)[1] == 0
            assert got == [ord("p")]


def test_the_books_balance_on_three_loops():
    """Minutes of it: ``python tests/stress/loops.py --seconds 300``."""
    for package in ("anyio", "trio", "uvloop"):
        pytest.importorskip(package)
    program = Path(__file__).parent / "stress" / "loops.py"
    done = subprocess.run(
        [sys.executable, "-P", program, "--seconds", "3"],
        capture_output=True,
        text=True,
        timeout=200,
        env=os.environ | {"PYTHONPATH": str(program.parent)},
    )
    assert done.returncode == 0, done.stderr


def test_trio_needs_nothing_but_trio():
    program = """
import sys, trio, ipv4.aio
async def work():
    conn = ipv4.aio.AsyncPacketConn.udp(("127.0.0.1", 0))
    async with trio.open_nursery() as nursery:
        nursery.start_soon(conn.read_from, bytearray(1))
        await trio.sleep(0.01)
        await conn.write_to(b"x", conn.local_addr)
    await conn.aclose()
sys.modules["anyio"] = None
trio.run(work)
"""
    pytest.importorskip("trio")
    subprocess.run([sys.executable, "-P", "-c", program], check=True)


@pytest.mark.parametrize("loop", ["asyncio", "debug", "uvloop"])
def test_one_task_goes_on_in_the_turn_that_woke_it(loop):
    """And nobody else's: who ran before keeps its own context and name."""
    turns = []
    mine = contextvars.ContextVar("mine", default="nobody's")

    async def read():
        await conn.read_from(bytearray(1))  # in a context that is empty
        mine.set("the reader's")
        ready.set()
        await conn.read_from(bytearray(1))
        turns.append(asyncio.current_task().get_name())
        assert mine.get() == "the reader's"

    def send():
        conn.conn.write_to(b"x", conn.local_addr)
        running.call_soon(count)

    def count():
        if not turns or turns[-1] != "reader":
            turns.append(mine.get())
            running.call_soon(count)

    async def work():
        nonlocal running, ready
        ready = asyncio.Event()
        running = asyncio.get_running_loop()
        task = asyncio.create_task(read(), name="reader", context=contextvars.Context())
        running.call_later(0.01, conn.conn.write_to, b"x", conn.local_addr)
        await ready.wait()
        running.call_later(0.01, send)
        await asyncio.wait_for(task, 10)
        assert turns[:-1] == ["nobody's"] * (len(turns) - 1)
        assert len(turns) <= 3

    running = ready = None
    with opened() as conn:
        run_on(loop, work)
