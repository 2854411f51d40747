"""Awaited calls under cancellation, deadlines, closing, other wrappers, an unread or read error
queue and forks, on three loops, writes waiting for room; what was sent is accounted for.

    python tests/stress/loops.py [--seconds 300]

Each datagram bears a number; at the end of a round each has been received once, every one that
went to a port where nobody listens was reported once, every deadline has ended the call that
waited for it, and every task was told of the end. Forks come from tasks, and from a signal's
handler at any point of any of it. Where a network of one's own is to be had, its loopback is so
slow that writes wait.
"""

import asyncio
import collections
import contextlib
import errno
import itertools
import math
import os
import random
import signal
import struct
import sys
import threading
import time
import traceback
from pathlib import Path

import anyio
import anyio._backends._asyncio
import anyio._backends._trio  # here and not anew in each slice: it takes most of one
import trio
import uvloop
from driver import run

from ipv4 import Message, MessageBatch, PacketConn
from ipv4.aio import AsyncPacketConn

sys.path.insert(0, str(Path(__file__).parent.parent / "support"))
from linux import become_private

NUMBER = struct.Struct("=Q")
WINDOW = 100  # datagrams under way: the receive buffer must hold them
NOBODY = ("127.0.0.1", 1)
ROUND = 0.3  # seconds for which conns are open
PAD = bytes(500)
PATIENCE = 20  # seconds after which a round has hung


class Books:
    """What was sent, received and reported, and who was told of the end."""

    def __init__(self):
        self.numbers = itertools.count()
        self.open = []  # conns that a child of the signal's handler may close
        self.sent = self.refused = self.writing = self.forked = 0
        self.received = collections.Counter()
        self.reported = self.timeouts = self.told = self.readers = self.ended = self.rounds = 0

    def under_way(self):
        return self.sent - len(self.received)


async def read(aconn, books, choose):
    """Read by one verb after the other until the conn is closed."""
    batch = MessageBatch(8, NUMBER.size)
    buffer = bytearray(NUMBER.size)
    while True:
        try:
            verb = choose.randrange(3)
            if verb == 0:
                await aconn.read_from(buffer)
                books.received[NUMBER.unpack(buffer)[0]] += 1
                continue
            if verb == 1:
                n = await aconn.read_batch(batch)
            else:
                n = await anext(aconn.batches(batch))
            for i in range(n):
                books.received[NUMBER.unpack(batch[i].buffers[0])[0]] += 1
        except TimeoutError:
            books.timeouts += 1
            await anyio.lowlevel.checkpoint()


async def reader(aconn, books, choose, patient=False):
    """A task that reads by wrappers of its own, and is cancelled again and again unless patient."""
    books.readers += 1
    try:
        while True:
            with anyio.move_on_after(math.inf if patient else choose.random() * 0.01):
                await read(AsyncPacketConn(aconn.conn), books, choose)
    except OSError as error:
        assert error.errno == errno.EBADF, error
        books.told += 1


async def waiter(quiet, books):
    """A task that waits for what never comes: each time until a deadline."""
    books.readers += 1
    try:
        while True:
            with contextlib.suppress(TimeoutError):
                await quiet.read_from(bytearray(1))
            books.ended += 1
            await anyio.lowlevel.checkpoint()
    except OSError as error:
        assert error.errno == errno.EBADF, error
        books.told += 1


async def report(aconn, books):
    while True:
        with contextlib.suppress(TimeoutError):
            async for _ in aconn.errors():
                books.reported += 1
            return
        await anyio.lowlevel.checkpoint()


async def write(narrow, here, books, choose, until):
    """Write what waits for room, cancelled again and again."""
    books.writing += 1
    while time.monotonic() < until:
        while books.under_way() >= WINDOW:
            await anyio.sleep(0.001)
        with anyio.move_on_after(choose.random() * 0.01):
            verb = choose.randrange(3)
            count = 8 if verb else 1
            messages = [
                Message(NUMBER.pack(next(books.numbers)) + PAD, addr=here) for _ in range(count)
            ]
            if verb == 0:
                await narrow.write_to(messages[0].buffers[0], here)
                books.sent += 1
                continue
            try:
                await (narrow.write_batch if verb == 1 else narrow.write_all)(messages)
            finally:
                books.sent += sum(message.n > 0 for message in messages)
        await anyio.lowlevel.checkpoint()
    books.writing -= 1


async def fill(narrow, sink, books):
    """Wait for room until the conn is closed."""
    books.readers += 1
    try:
        while True:
            await narrow.write_to(PAD, sink)
    except OSError as error:
        assert error.errno == errno.EBADF, error
        books.told += 1


def child(conn):
    """Wait, on a loop of the child's own, for what nobody sends; then close."""

    async def work():
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(0.005):
                await AsyncPacketConn(conn).read_from(bytearray(1))

    thread = threading.Thread(target=lambda: asyncio.run(work()))
    thread.start()
    thread.join()
    conn.close()


def fork(conn):
    pid = os.fork()
    if pid == 0:
        status = 1
        try:
            child(conn)
            status = 0
        except BaseException:
            traceback.print_exc()
        finally:
            os._exit(status)
    assert os.waitpid(pid, 0)[1] == 0


async def work(seed, until, books):
    choose = random.Random(seed)
    while time.monotonic() < until:
        with anyio.fail_after(PATIENCE):
            await one_round(choose, min(until, time.monotonic() + ROUND), books)


async def one_round(choose, until, books):
    """Open conns, under the numbers that the last round's had, and close them under all calls."""
    aconn = AsyncPacketConn(PacketConn.udp(("127.0.0.1", 0), receive_buffer=1 << 22))
    faulty = AsyncPacketConn(PacketConn.udp(("127.0.0.1", 0), receive_errors=True))
    quiet = AsyncPacketConn(PacketConn.udp(("127.0.0.1", 0)))
    narrow = AsyncPacketConn(PacketConn.udp(("127.0.0.1", 0), send_buffer=1))
    here = aconn.local_addr
    books.open = [faulty.conn, quiet.conn, narrow.conn]
    async with anyio.create_task_group() as group:
        for patient in (False, False, False, True, True):
            group.start_soon(reader, aconn, books, random.Random(choose.random()), patient)
        group.start_soon(report, faulty, books)
        group.start_soon(reader, faulty, books, random.Random(choose.random()))
        group.start_soon(waiter, quiet, books)
        group.start_soon(fill, narrow, narrow.local_addr, books)
        for _ in range(2):
            group.start_soon(write, narrow, here, books, random.Random(choose.random()), until)
        while time.monotonic() < until:
            for _ in range(choose.randrange(20)):
                if books.under_way() < WINDOW:
                    await aconn.write_to(NUMBER.pack(next(books.numbers)), here)
                    books.sent += 1
            chance = choose.random()
            if chance < 0.05 and books.refused - books.reported < 10:
                await faulty.write_to(b"x", NOBODY)
                books.refused += 1
            elif chance < 0.1:
                aconn.set_read_deadline(time.monotonic() + choose.random() * 0.005)
            elif chance < 0.2:
                aconn.set_read_deadline(None)
            elif chance < 0.21:
                # A fork within CPython's own hooks of a fork hangs in logging's lock.
                opened, books.open = books.open, []
                fork(faulty.conn)
                books.open = opened
            elif chance < 0.25:
                ended = books.ended
                quiet.set_read_deadline(time.monotonic() + choose.random() * 0.001)
                while books.ended == ended:
                    await anyio.lowlevel.checkpoint()
                quiet.set_read_deadline(None)
            await anyio.lowlevel.checkpoint()
        aconn.set_read_deadline(None)
        while books.writing or books.under_way() or books.reported < books.refused:
            await anyio.sleep(0.001)
        books.open = []
        conns = [each.conn for each in (aconn, faulty, quiet, narrow)]
        if choose.randrange(2):
            closers = [threading.Thread(target=each.close) for each in conns]
            for each in closers:
                each.start()
            for each in closers:
                each.join()
        else:
            for each in conns:
                each.close()
    books.rounds += 1


@contextlib.contextmanager
def forks_from_a_handler(books, choose):
    """Fork wherever the main thread is when a timer goes off."""

    def handler(*_):
        if books.open:
            fork(choose.choice(books.open))
            books.forked += 1
        again()

    def again():
        signal.setitimer(signal.ITIMER_REAL, 0.01 + choose.random() * 0.05)

    before = signal.signal(signal.SIGALRM, handler)
    again()
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def slow_network():
    """Have a loopback of one's own, slower than programs write, if that is to be had."""
    try:
        become_private()
        from pyroute2 import IPRoute

        with IPRoute() as ip:
            ip.tc("add", "tbf", 1, 1 << 16, rate="40mbit", burst=1 << 16, limit=1 << 20)
    except (ImportError, OSError):
        return False
    return True


def world(start):
    def run_slice(seed, until):
        books = Books()
        slow = slow_network()
        with forks_from_a_handler(books, random.Random(seed)):
            start(lambda: work(seed, until, books))
        assert books.told == books.readers, f"{books.readers - books.told} readers were not told"
        doubled = [number for number, count in books.received.items() if count > 1]
        assert not doubled, f"received twice: {doubled[:10]}"
        assert len(books.received) == books.sent
        assert books.reported == books.refused
        return {
            "sent": books.sent,
            "received": len(books.received),
            "reported": books.reported,
            "timeouts": books.timeouts + books.ended,
            "rounds": books.rounds,
            "forks by a handler": books.forked,
            "slices with waiting writes": int(slow),
        }

    return run_slice


WORLDS = {
    "asyncio": world(lambda main: asyncio.run(main())),
    "uvloop": world(lambda main: uvloop.run(main())),
    "trio": world(trio.run),
}

if __name__ == "__main__":
    sys.exit(run(WORLDS, __doc__.partition("\n")[0]))
