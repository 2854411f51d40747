"""Threads under signals, forks, interrupted closes and greenlets; what was sent is accounted for.

    python tests/stress/threads.py [--seconds 300]

The books are kept by number: each datagram bears the number of its conn and one of its own, and
at the end of a slice every one that was sent has been received once, by a call of the parent or of
a child, or lies unread in the socket's queue.
"""

import collections
import contextlib
import errno
import faulthandler
import functools
import itertools
import os
import queue
import random
import signal
import socket
import struct
import sys
import threading
import time

from driver import run

import ipv4
from ipv4 import Message, MessageBatch

NUMBERS = struct.Struct("=IQ")  # of the conn, and of the datagram
WINDOW = 64  # datagrams under way: the receive buffer must hold them
PATIENCE = 10  # seconds after which a call that must end has hung
EMPTY = bytes(NUMBERS.size)


class Interrupted(BaseException):
    """What a handler, or a socket's own close, raises; nothing else may let it go by."""


class Problems:
    """What went wrong in any thread, or where nothing can be raised."""

    def __init__(self):
        self.seen = []
        sys.unraisablehook = self.ignored
        threading.excepthook = lambda args: self.seen.append(repr(args.exc_value))

    def ignored(self, problem):
        # An interrupted close may be told here, once the call has its results to return.
        if not isinstance(problem.exc_value, Interrupted):
            self.seen.append(f"ignored: {problem.exc_value!r} in {problem.object!r}")

    def check(self):
        assert not self.seen, "\n".join(map(str, self.seen[:10]))


class Stream:
    """Numbered datagrams to one conn, sent from threads, at most WINDOW of them under way."""

    def __init__(self, number, conn):
        self.number = number
        self.where = conn.local_addr
        self.out = ipv4.PacketConn.udp(("127.0.0.1", 0))
        self.room = threading.Semaphore(WINDOW)
        self.numbers = itertools.count()
        self.sent = []
        self.got = collections.Counter()
        self.stop = False

    def send(self):
        """Send until `stop`: one by one, and in batches of which a part may be sent."""
        rng = random.Random(self.number)
        while not self.stop:
            count = rng.choice((1, 1, 4, 16))
            for _ in range(count):
                if not self.room.acquire(timeout=0.5):
                    break  # the books will say what became of them
            group = [next(self.numbers) for _ in range(count)]
            data = [NUMBERS.pack(self.number, number) for number in group]
            if count == 1:
                self.out.write_to(data[0], self.where)
                self.sent += group
            else:
                sent = self.out.write_batch([Message(part, addr=self.where) for part in data])
                self.sent += group[:sent]

    def end(self):
        """Have `send` return soon."""
        self.stop = True
        self.room.release(WINDOW)

    def take(self, data):
        """Enter a datagram that a call has received."""
        stream, number = NUMBERS.unpack(data[: NUMBERS.size])
        assert stream == self.number, f"conn {self.number} received what was sent to {stream}"
        self.got[number] += 1
        self.room.release()

    def balance(self, unread):
        """Check the books, with what lay unread in the socket's queue."""
        self.out.close()
        for data in unread:
            self.take(data)
        twice = [number for number, times in self.got.items() if times > 1]
        assert not twice, f"received more than once: {twice[:10]}"
        lost = set(self.sent) - set(self.got)
        assert not lost, f"{len(lost)} of {len(self.sent)} lost: {sorted(lost)[:10]}"
        assert len(self.got) == len(self.sent), "more received than sent"


class Reader:
    """One thread's reads, by every verb; the buffers tell what came if a call was interrupted."""

    def __init__(self, conn, take, rng):
        self.conn, self.take, self.rng = conn, take, rng
        self.buffer = bytearray(32)
        self.messages = [Message(bytearray(32)) for _ in range(4)]
        self.batch = MessageBatch(4, 32)
        self.inside = False  # a handler may raise now

    def read(self):
        """One call; raises what it raised, after what it received was entered."""
        call, target = self.rng.choice(
            (
                (self.conn.read_from, self.buffer),
                (self.conn.read_batch, self.messages),
                (self.conn.read_batch, self.batch),
            )
        )
        for buffer in self.buffers(target):
            buffer[:] = bytes(len(buffer))
        try:
            self.inside = True
            call(target)
            self.inside = False
        finally:
            self.inside = False
            # A handler may have given the messages other buffers before the call began.
            for buffer in self.buffers(target):
                if bytes(buffer[: NUMBERS.size]) != EMPTY:
                    self.take(bytes(buffer))

    def buffers(self, target):
        return [target] if target is self.buffer else [m.buffers[0] for m in target]

    def all_buffers(self):
        return [self.buffer, *self.buffers(self.messages), *self.buffers(self.batch)]


def descriptors():
    """What this process has open, by what it is."""
    found = {}
    for fd in os.listdir("/proc/self/fd"):
        with contextlib.suppress(OSError):
            found[int(fd)] = os.readlink(f"/proc/self/fd/{fd}")
    return found


def duplicate(conn):
    """Another descriptor of its socket, which outlives it."""
    return socket.socket(fileno=os.dup(conn.fileno()))


def drain(sock):
    """What lies unread."""
    unread = []
    with contextlib.suppress(BlockingIOError):
        while True:
            unread.append(sock.recv(64, socket.MSG_DONTWAIT))
    return unread


def start(*functions):
    threads = [threading.Thread(target=function) for function in functions]
    for thread in threads:
        thread.start()
    return threads


def join(threads):
    end = time.monotonic() + PATIENCE
    for thread in threads:
        thread.join(max(0, end - time.monotonic()))
        assert not thread.is_alive(), "a call did not end"


def every(seconds, handler):
    """Call `handler` every so often in the main thread, at whatever point that is."""
    signal.signal(signal.SIGALRM, lambda *_: handler())
    signal.setitimer(signal.ITIMER_REAL, seconds, seconds)


def quiet():
    signal.setitimer(signal.ITIMER_REAL, 0)


def signals(seed, until):
    """Handlers raise and move deadlines while calls of all threads wait and work."""
    rng, problems, counts = random.Random(seed), Problems(), collections.Counter()
    conn = ipv4.PacketConn.udp(("127.0.0.1", 0))
    stream = Stream(1, conn)
    lock = threading.Lock()

    def take(data):
        with lock:
            stream.take(data)

    mine = Reader(conn, take, random.Random(seed + 1))

    def handler():
        counts["signals"] += 1
        if rng.random() < 0.5:
            when = rng.choice((None, 0, time.monotonic() + 0.001, time.monotonic() + 5))
            conn.set_read_deadline(when)
        if mine.inside and rng.random() < 0.5:
            raise Interrupted

    def beside():
        reader = Reader(conn, take, random.Random(seed + 2))
        while not stream.stop:
            with contextlib.suppress(TimeoutError):
                reader.read()

    # The handler needs the books' lock of the main thread free: it never touches them.
    threads = start(stream.send, beside, beside)
    every(0.001, handler)
    while time.monotonic() < until:
        try:
            mine.read()
        except TimeoutError:
            conn.set_read_deadline(None)
        except Interrupted:
            counts["raised"] += 1
    quiet()
    stream.end()
    conn.set_read_deadline(0)
    join(threads)
    with duplicate(conn) as spare:
        conn.close()
        stream.balance(drain(spare))
    problems.check()
    return {"sent": len(stream.sent), **counts}


def forks(seed, until):
    """Forks from a handler, inside of any call, and from a thread; each child goes on and ends."""
    rng, problems, counts = random.Random(seed), Problems(), collections.Counter()
    conn = ipv4.PacketConn.udp(("127.0.0.1", 0))
    stream = Stream(1, conn)
    reports, report = os.pipe()  # what the children read, for it is gone from the parent's queue
    known = set(descriptors())
    lock = threading.Lock()
    parent, children = os.getpid(), queue.SimpleQueue()
    victims = []
    inherited = set()  # what the parent's call had received when its handler forked

    def take(data):
        if os.getpid() != parent:
            if data not in inherited:
                os.write(report, b"G" + data[: NUMBERS.size])
            return
        with lock:
            stream.take(data)

    mine = Reader(conn, take, random.Random(seed + 1))

    def handler():
        # Not while the books are open: a child could not get their lock.
        if os.getpid() != parent or not mine.inside or rng.random() < 0.5:
            return
        pid = os.fork()
        if pid:
            children.put(pid)
            return
        quiet()
        inherited.update(map(bytes, mine.all_buffers()))
        begin_child()
        # A call that this handler interrupts still has its messages: they cannot be pulled away.
        # (Those of the parent's other threads are not in use here.) What is freed is taken again.
        for message in mine.messages:
            with contextlib.suppress(BufferError):
                message.buffers = (bytearray(32),)
        victims.extend(bytearray(b"\xee" * 32) for _ in range(100))

    def begin_child():
        signal.signal(signal.SIGALRM, signal.SIG_DFL)
        faulthandler.register(signal.SIGALRM, chain=True)  # to see where it hangs
        signal.alarm(PATIENCE)
        conn.set_read_deadline(time.monotonic() + 0.02)

    def child():
        """What a child does once its own call has ended; never returns."""
        status = 0
        try:
            assert all(victim == b"\xee" * 32 for victim in victims), "memory written over"
            with ipv4.PacketConn.udp(("127.0.0.1", 0)) as sink:
                out = [Message(b"x", addr=sink.local_addr) for _ in range(256)]
                go = True

                def write():
                    while go:
                        conn.write_batch(out)

                def wait():
                    reader = Reader(conn, take, random.Random(seed + 2))
                    try:
                        while True:
                            reader.read()
                    except OSError as error:
                        assert error.errno in (errno.ETIMEDOUT, errno.EBADF), error

                threads = start(write, wait, wait)
                time.sleep(0.002)
                conn.set_read_deadline(None)
                go = False
                join(threads[:1])
                conn.close()
                join(threads[1:])
            stream.out.close()
            left = {fd: what for fd, what in descriptors().items() if fd not in known}
            assert not left, f"left open in a child: {left}"
            kept = [fd for fd in (number, other) if fd in descriptors()]
            assert not kept, f"closed in a child, and open: {kept}"
            problems.check()
        except BaseException as error:
            os.write(report, b"E" + repr(error).encode()[:400].ljust(400))
            status = 1
        os._exit(status)

    def collect():
        with os.fdopen(reports, "rb") as lines:
            while kind := lines.read(1):
                if kind == b"G":
                    with lock:
                        stream.take(lines.read(NUMBERS.size))
                    counts["received by children"] += 1
                else:
                    problems.seen.append("child: " + lines.read(400).decode().strip())

    def reap():
        while (pid := children.get()) is not None:
            counts["children"] += 1
            status = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
            if status:
                problems.seen.append(f"child: exit status {status}")

    def beside():
        reader = Reader(conn, take, random.Random(seed + 3))
        while not stream.stop:
            with contextlib.suppress(TimeoutError):
                reader.read()

    def fork_here():
        while not stream.stop:
            time.sleep(0.03)
            pid = os.fork()
            if pid == 0:
                begin_child()
                child()
            children.put(pid)

    number, other = conn.fileno(), stream.out.fileno()
    known -= {number, other}
    books = start(collect, reap)
    threads = start(stream.send, beside, beside, fork_here)
    every(0.02, handler)
    while time.monotonic() < until and not problems.seen:
        with contextlib.suppress(TimeoutError):
            mine.read()
        if os.getpid() != parent:
            child()
    quiet()
    if os.getpid() != parent:
        child()
    stream.end()
    conn.set_read_deadline(0)
    join(threads)
    children.put(None)
    join(books[1:])
    os.close(report)
    join(books[:1])
    problems.check()
    with duplicate(conn) as spare:
        conn.close()
        stream.balance(drain(spare))
    return {"sent": len(stream.sent), **counts}


class Stubborn(socket.socket):
    """A socket whose close is interrupted some times before it closes."""

    refusals = 0

    def close(self):
        if self.refusals:
            self.refusals -= 1
            raise Interrupted
        super().close()


def closing(seed, until):
    """Closed from threads and handlers, interrupted, under calls that wait, read and write."""
    rng, problems, counts = random.Random(seed), Problems(), collections.Counter()
    before, rounds = set(descriptors()), itertools.count(1)
    while time.monotonic() < until:
        close_once(next(rounds), rng, counts)
        problems.check()
        left = {fd: what for fd, what in descriptors().items() if fd not in before}
        assert not left, f"left open: {left}"
    return counts


def close_once(number, rng, counts):
    sock = Stubborn(socket.AF_INET, socket.SOCK_DGRAM)
    sock.bind(("127.0.0.1", 0))
    sock.refusals = rng.choice((0, 0, 1, 2))
    conn = ipv4.PacketConn(sock)
    spare = duplicate(conn)
    fd, stream, lock = conn.fileno(), Stream(number, conn), threading.Lock()

    def take(data):
        with lock:
            stream.take(data)

    def beside(seed):
        reader = Reader(conn, take, random.Random(seed))
        try:
            while True:
                reader.read()
        except OSError as error:
            assert error.errno == errno.EBADF, error

    def close():
        try:
            conn.close()
        except Interrupted:
            counts["interrupted"] += 1
            raise

    def close_in_handler():
        with contextlib.suppress(Interrupted):
            close()

    def close_again():
        """Until it is done: handlers raise at any point of it."""
        while True:
            try:
                return close()
            except Interrupted:
                pass

    def interrupt():
        if closes:
            raise Interrupted

    closes = False
    seeds = [rng.random() for _ in range(rng.choice((0, 1, 3)))]
    readers = [functools.partial(beside, seed) for seed in seeds]
    threads = start(stream.send, *readers)
    how = rng.choice(("main", "handler", "thread"))
    mine = Reader(conn, take, rng)
    if how == "main":
        time.sleep(rng.random() / 200)
        every(0.0003, interrupt)
        try:
            closes = True
            close_again()
            closes = False
        except Interrupted:  # between the two lines
            closes = False
        quiet()
    else:
        if how == "handler":
            every(rng.random() / 200 + 0.0001, close_in_handler)
        else:
            threads += start(lambda: (time.sleep(rng.random() / 200), close_again()))
        try:
            while True:
                mine.read()
        except OSError as error:
            assert error.errno == errno.EBADF, error
        quiet()
    stream.end()
    join(threads)
    close_again()
    assert conn.closed
    with contextlib.suppress(OSError):
        assert os.fstat(fd).st_ino != os.fstat(spare.fileno()).st_ino, "open after close()"
    with spare:
        stream.balance(drain(spare))
    counts["closed"] += 1
    counts["sent"] += len(stream.sent)


def greenlets(seed, until):
    """A handler goes on in another greenlet while a call of this one waits."""
    rng, problems, counts = random.Random(seed), Problems(), collections.Counter()
    conn = ipv4.PacketConn.udp(("127.0.0.1", 0))
    stream = Stream(1, conn)
    main = greenlet.getcurrent()
    mine = Reader(conn, stream.take, random.Random(seed + 1))

    def deep(levels):
        return deep(levels - 1) + 1 if levels else 0

    def other():
        reader = Reader(conn, stream.take, random.Random(seed + 2))
        while True:
            conn.set_read_deadline(time.monotonic() + 0.001)
            deep(rng.randrange(50))
            with contextlib.suppress(TimeoutError):
                reader.read()
            conn.set_read_deadline(None)
            counts["switches"] += 1
            main.switch()

    others = [greenlet.greenlet(other) for _ in range(3)]

    def handler():
        # Not while the books are open, and never within another greenlet.
        if mine.inside and greenlet.getcurrent() is main:
            rng.choice(others).switch()

    threads = start(stream.send)
    every(0.002, handler)
    while time.monotonic() < until:
        with contextlib.suppress(TimeoutError):
            mine.read()
    quiet()
    stream.end()
    join(threads)
    with duplicate(conn) as spare:
        conn.close()
        stream.balance(drain(spare))
    problems.check()
    return {"sent": len(stream.sent), **counts}


WORLDS = {"signals": signals, "forks": forks, "closing": closing}
try:
    import greenlet

    if "libasan" in os.environ.get("LD_PRELOAD", ""):  # which does not hear of stacks that move
        raise ImportError("greenlets are not for ASAN")

    WORLDS["greenlets"] = greenlets
except ImportError:
    pass

if __name__ == "__main__":
    sys.exit(run(WORLDS, __doc__))
