"""What a single loop cannot show: threads, processes, queues, growth, memory, import."""

import gc
import os
import socket
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

from cases import PAYLOAD, SIZE
from host import compile_c
from report import Progress, row

PART = "system"
KEEP = 0.15
"""Share of the time that is left to the other parts."""


# Threads


def pingpong(make, seconds=1.5):
    """Packets a second sent and received beside a thread that computes all the time."""
    stop = False

    def compute():
        x = 0
        while not stop:
            x += 1

    thread = threading.Thread(target=compute)
    thread.start()
    step, close = make()
    count = 0
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        step()
        count += 1
    stop = True
    thread.join()
    close()
    return count / seconds


def ours_step():
    import ipv4

    conn = ipv4.PacketConn.udp(("127.0.0.1", 0))
    here, buffer = conn.local_addr, bytearray(2048)

    def step():
        conn.write_to(PAYLOAD, here)
        conn.read_from(buffer)

    return step, conn.close


def released_step():
    import ipv4

    conn = ipv4.PacketConn.udp(("127.0.0.1", 0))
    conn.release_gil = True
    here, buffer = conn.local_addr, bytearray(2048)

    def step():
        conn.write_to(PAYLOAD, here)
        conn.read_from(buffer)

    return step, conn.close


def stdlib_step():
    sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    sock.bind(("127.0.0.1", 0))
    here, buffer = sock.getsockname(), bytearray(2048)

    def step():
        sock.sendto(PAYLOAD, here)
        sock.recvfrom_into(buffer)

    return step, sock.close


def batch_rate(threads, size, seconds=1.0):
    """Packets a second of batches sent and received, one socket a thread."""
    import ipv4

    counts = [0] * threads

    def work(i):
        with ipv4.PacketConn.udp(("127.0.0.1", 0)) as conn:
            out, back = ipv4.MessageBatch(size, SIZE), ipv4.MessageBatch(size, SIZE)
            out.addrs  # noqa: B018
            for j in range(size):
                out[j].addr = conn.local_addr
            end = time.monotonic() + seconds
            while time.monotonic() < end:
                conn.write_batch(out)
                counts[i] += conn.read_batch(back)

    workers = [threading.Thread(target=work, args=(i,)) for i in range(threads)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    return sum(counts) / seconds


def single_rate(threads, seconds=1.0):
    """Packets a second of single datagrams sent and received, one socket a thread."""
    counts = [0] * threads

    def work(i):
        step, close = ours_step()
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            for _ in range(16):
                step()
            counts[i] += 16
        close()

    workers = [threading.Thread(target=work, args=(i,)) for i in range(threads)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    return sum(counts) / seconds


def without_gil(rounds, missing):
    """Two threads with sockets of their own, beside C's: only where no lock is between them."""
    if getattr(sys, "_is_gil_enabled", lambda: True)():
        missing["threads without the GIL"] = "this interpreter has one: run it on 3.13t or later"
        return
    seconds = 0.5
    goals = {1: 1.8, 8: 1.9}
    with tempfile.TemporaryDirectory() as work:
        peer = compile_c("threads", work)
        for size, goal in goals.items():

            def rate(threads, size=size):
                return (
                    single_rate(threads, seconds)
                    if size == 1
                    else batch_rate(threads, size, seconds)
                )

            def in_c(threads, size=size):
                done = subprocess.run(
                    [peer, str(threads), str(size), str(seconds)],
                    check=True, capture_output=True, text=True,
                )  # fmt: skip
                return float(done.stdout)

            name = "single datagrams" if size == 1 else f"batches of {size}"
            ours, theirs = [], []
            for _ in range(rounds):
                ours.append(rate(2) / rate(1))
                if peer:
                    theirs.append(in_c(2) / in_c(1))
            yield row(PART, f"{name}, two threads, no GIL", "one", ours, goal, at_least=True)
            if theirs:
                yield row(PART, f"{name}, two threads, C", "one", theirs)


def threads(rounds):
    seconds = 0.5
    name = "ping-pong beside a computing thread"
    ours = [pingpong(ours_step, seconds) for _ in range(rounds)]
    theirs = [pingpong(stdlib_step, seconds) for _ in range(rounds)]
    yield row(PART, f"{name}, packets/s", "", ours, 100_000, at_least=True)
    yield row(PART, f"{name}, socket, packets/s", "", theirs)
    shared = zip(ours, theirs, strict=True)
    yield row(PART, name, "socket", [a / b for a, b in shared])
    given = [pingpong(released_step, seconds) for _ in range(rounds)]
    yield row(PART, f"{name}, release_gil, packets/s", "", given)
    for size in (8, 64):
        scaled = [
            batch_rate(2, size, seconds) / batch_rate(1, size, seconds) for _ in range(rounds)
        ]
        yield row(PART, f"batches of {size}, two threads", "one", scaled, 1.85, at_least=True)


# Queues, processes, busy polling


def kept(**options):
    """How many datagrams of a burst wait to be read."""
    import ipv4

    with ipv4.PacketConn.udp(("127.0.0.1", 0), **options) as conn:
        for _ in range(20_000):
            conn.write_to(PAYLOAD, conn.local_addr)
        batch, count = ipv4.MessageBatch(1024, SIZE), 0
        conn.timeout = 0
        try:
            while True:
                count += conn.read_batch(batch)
        except BlockingIOError:
            return count


def queues():
    for size in (1 << 18, 1 << 21):
        name = f"datagrams that wait, {size >> 10} KiB"
        yield row(PART, name, "", [kept(receive_buffer=size)])


def worker_rate(workers, seconds=0.5):
    """Datagrams a second of processes that share a port, each sent what is steered to it."""
    import ipv4
    from ipv4 import bpf

    conns = [ipv4.PacketConn.udp(("127.0.0.1", 0), reuse_port=True, timeout=10)]
    address = conns[0].local_addr
    for _ in range(1, workers):
        conns.append(ipv4.PacketConn.udp(address, reuse_port=True, timeout=10))
    conns[0].set_reuseport_bpf([bpf.LoadAbsolute(0, 1), bpf.RetA()])  # the first byte's number
    answers, told = os.pipe()
    children = []
    for number, conn in enumerate(conns):
        child = os.fork()
        if child:
            children.append(child)
            continue
        try:
            payload, buffer, count = bytes([number]) + PAYLOAD[1:], bytearray(SIZE), 0
            with ipv4.PacketConn.udp(("127.0.0.1", 0)) as client:
                end = time.monotonic() + seconds
                while time.monotonic() < end:
                    client.write_to(payload, address)
                    conn.read_from(buffer)
                    count += 1
            os.write(told, b"%10d" % count)
        finally:
            os._exit(0)
    os.close(told)
    for child in children:
        os.waitpid(child, 0)
    counts = os.read(answers, 10 * workers).split()
    os.close(answers)
    for conn in conns:
        conn.close()
    if len(counts) != workers:
        raise RuntimeError("a process that shares the port got nothing")
    return sum(map(int, counts)) / seconds


def processes(rounds):
    if os.cpu_count() < 2:
        return
    scaled = [worker_rate(2) / worker_rate(1) for _ in range(rounds)]
    yield row(PART, "two processes on one port, steered", "one", scaled)


def round_trips(**options):
    """Seconds of round trips between two processes that wait for each other."""
    import ipv4

    with (
        ipv4.PacketConn.udp(("127.0.0.1", 0), timeout=10, **options) as asked,
        ipv4.PacketConn.udp(("127.0.0.1", 0), timeout=10, **options) as asks,
    ):
        count, buffer = 3000, bytearray(SIZE)
        child = os.fork()
        if not child:
            try:
                for _ in range(count):
                    asked.write_to(PAYLOAD, asked.read_from(buffer)[2])
            finally:
                os._exit(0)
        start = time.perf_counter()
        for _ in range(count):
            asks.write_to(PAYLOAD, asked.local_addr)
            asks.read_from(buffer)
        spent = time.perf_counter() - start
        os.waitpid(child, 0)
        return spent


def busy_polling(rounds):
    found = [round_trips(busy_poll=50) / round_trips() for _ in range(rounds)]
    yield row(PART, "round trip, busy_poll=50", "without", found)


# Answers


def echo_time(flags, batches=400, size=64):
    """Seconds of a server that reads a batch and sends it back; with flags, from where it came."""
    import ipv4

    with ipv4.PacketConn.udp(("0.0.0.0", 0)) as server, ipv4.PacketConn.udp() as client:
        server.set_control_message(flags, bool(flags))
        batch, out = ipv4.MessageBatch(size, SIZE, flags), ipv4.MessageBatch(size, SIZE)
        for message in out:
            message.addr = ("127.0.0.2", server.local_addr[1])
        spent = 0.0
        for _ in range(batches):
            client.write_batch(out)
            start = time.perf_counter()
            n = server.read_batch(batch)
            if flags:
                batch.reply(n)
            server.write_batch(batch[:n])
            spent += time.perf_counter() - start
            if client.read_batch(out) != size:
                raise SystemExit("an answer is missing")
            if flags and out[size - 1].addr != out[0].addr:
                raise SystemExit("an answer came from elsewhere")
            for message in out if not flags else ():
                message.addr = ("127.0.0.2", server.local_addr[1])
        return spent


def answers(rounds):
    """A batch server that answers from the asked address, beside one that does not care."""
    import ipv4

    told = ipv4.ControlFlags.DST | ipv4.ControlFlags.INTERFACE
    ratios = [echo_time(told) / echo_time(0) for _ in range(rounds)]
    yield row(PART, "echo of 64 by batch.reply", "plain batch", ratios, 1.25)


# Growth and memory


def resident():
    gc.collect()
    return int(Path("/proc/self/statm").read_text().split()[1]) * 4096


def pair_time(conn, count=20000):
    here, buffer = conn.local_addr, bytearray(2048)
    start = time.perf_counter()
    for _ in range(count):
        conn.write_to(PAYLOAD, here)
        conn.read_from(buffer)
    return time.perf_counter() - start


def growth(rounds):
    import ipv4

    with ipv4.PacketConn.udp(("127.0.0.1", 0)) as conn:
        pair_time(conn)
        before, blocks = resident(), sys.getallocatedblocks()
        pair_time(conn, 1_000_000)
        yield row(PART, "a million packets, bytes grown", "", [resident() - before], 65536)
        grown = sys.getallocatedblocks() - blocks
        yield row(PART, "a million packets, allocations grown", "", [grown], 100)
        ratios = []
        for _ in range(rounds):
            conn.set_deadline(time.monotonic() + 1000)
            timed = pair_time(conn)
            conn.set_deadline(None)
            ratios.append(timed / pair_time(conn))
        yield row(PART, "pair with a far deadline", "without", ratios, 1.02)


def crowd(rounds):
    """A conn among ten thousand, and what each of them costs."""
    import resource
    import tracemalloc

    import ipv4

    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    limit = 10_100 if hard == resource.RLIM_INFINITY else min(hard, 10_100)
    resource.setrlimit(resource.RLIMIT_NOFILE, (limit, hard))
    with ipv4.PacketConn.udp(("127.0.0.1", 0)) as conn:
        alone = [pair_time(conn) for _ in range(rounds)]
        socks = [socket.socket(socket.AF_INET, socket.SOCK_DGRAM) for _ in range(limit - 100)]
        tracemalloc.start()
        many = [ipv4.PacketConn(sock) for sock in socks]
        each = tracemalloc.get_traced_memory()[0] / len(many)
        tracemalloc.stop()
        among = [pair_time(conn) for _ in range(rounds)]
        ratios = [a / b for a, b in zip(among, alone, strict=True)]
        yield row(PART, f"pair beside {len(many):,} conns", "alone", ratios, 1.05)
        yield row(PART, "memory of a conn beyond its socket, bytes", "", [each], 1024)
        for other in many:
            other.close()


def memory():
    import tracemalloc

    import ipv4

    tracemalloc.start()
    batch = ipv4.MessageBatch(1024, 64, 9)
    each = tracemalloc.get_traced_memory()[0] / len(batch) - 64
    yield row(PART, "MessageBatch, bytes a message beyond its size", "", [each], 256)
    buffers = [(bytearray(64), bytearray(56)) for _ in range(1000)]
    before = tracemalloc.get_traced_memory()[0]
    messages = [ipv4.Message([data], oob) for data, oob in buffers]
    each = (tracemalloc.get_traced_memory()[0] - before) / len(messages)
    yield row(PART, "Message, bytes beside its buffers", "", [each], 400)
    tracemalloc.stop()


def imports(rounds):
    def took(code):
        start = time.perf_counter()
        subprocess.run([sys.executable, "-P", "-c", code], check=True)
        return time.perf_counter() - start

    parts = "import socket, ipaddress, enum"
    ratios = []
    for _ in range(3 * rounds):
        empty = took("pass")
        ratios.append((took("import ipv4") - empty) / (took(parts) - empty))
    yield row(PART, "import ipv4", parts.removeprefix("import "), ratios, 1.3)


def measure(rounds, results, clock):
    """Rows of the table, into the results."""
    parts = {
        "threads": lambda: threads(rounds),
        "without GIL": lambda: without_gil(rounds, results.missing),
        "queues": queues,
        "processes": lambda: processes(rounds),
        "busy polling": lambda: busy_polling(rounds),
        "answers": lambda: answers(rounds),
        "growth": lambda: growth(rounds),
        "crowd": lambda: crowd(rounds),
        "memory": memory,
        "imports": lambda: imports(rounds),
    }
    progress = Progress(PART, len(parts))
    for name, part in parts.items():
        if clock.left(KEEP) < 0:
            results.missing[f"system: {name}"] = "no time was left"
        else:
            with results.part(f"system: {name}"):
                for each in part():
                    results.rows.append(each)
        progress.step()
