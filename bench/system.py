"""What a single loop cannot show: event loops under a flood, threads, memory, import.

    python -P bench/system.py

Each line is a ratio or a count with its goal. Floods come from a process on another core, which
sends by segments, so that the receiver is what is measured: processor time per packet received.
"""

import asyncio
import gc
import os
import socket
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE))

from cases import PAYLOAD, SIZE  # noqa: E402
from run import build, own_network  # noqa: E402

FLOOD = 300_000
BURST = 64


def line(what, value, goal="", met=None):
    mark = "" if met is None else "met" if met else "NOT met"
    print(f"{what:58}{value:>16}  {goal:24}{mark}", flush=True)


# Floods


def sender(port):
    """A process that sends FLOOD datagrams by segments to a port, then ends."""
    code = (
        "import ipv4, os, sys, time\n"
        "os.sched_setaffinity(0, {os.cpu_count() - 1})\n"
        "conn = ipv4.PacketConn.udp()\n"
        f"told = ipv4.ControlMessage(segment_size={SIZE})\n"
        f"for i in range({FLOOD // BURST}):\n"
        f"    conn.write_to(bytes({SIZE * BURST}), ('127.0.0.1', {port}), told)\n"
        "    if i % 16 == 15: time.sleep(0.0002)\n"
        "conn.close()\n"
    )
    return subprocess.Popen([sys.executable, "-P", "-c", code])


def flood_c(binary):
    peer = subprocess.Popen(
        [binary], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
        preexec_fn=lambda: os.sched_setaffinity(0, {0}),
    )  # fmt: skip
    port = int(peer.stdout.readline().split()[1])
    peer.stdin.write(f"flood {FLOOD}\n")
    peer.stdin.flush()
    feeding = sender(port)
    ns, received = map(int, peer.stdout.readline().split())
    peer.stdin.close()
    feeding.wait()
    peer.wait()
    return ns / (received / SIZE)


def flood_ours(run):
    import ipv4
    from ipv4.aio import AsyncPacketConn

    conn = ipv4.PacketConn.udp(("127.0.0.1", 0), receive_buffer=1 << 21)
    batch = ipv4.MessageBatch(64, SIZE)
    got = 0

    async def receive():
        nonlocal got
        other = AsyncPacketConn(conn)
        try:
            async with asyncio.timeout(3):
                async for n in other.batches(batch):
                    got += n
                    if got >= FLOOD * 0.98:
                        break
        except TimeoutError:
            pass
        other.close()

    feeding = sender(conn.local_addr[1])
    time.sleep(0.15)  # the sender's own start is not measured
    start = time.process_time()
    run(receive())
    spent = time.process_time() - start
    feeding.wait()
    return spent * 1e9 / max(got, 1)


def flood_protocol(run):
    class Counter(asyncio.DatagramProtocol):
        got = 0

        def datagram_received(self, data, addr):
            self.got += 1

    sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    sock.setsockopt(socket.SOL_SOCKET, 33, 1 << 21)  # SO_RCVBUFFORCE
    sock.bind(("127.0.0.1", 0))
    sock.setblocking(False)
    port = sock.getsockname()[1]
    counter = Counter()

    async def receive():
        transport, _ = await asyncio.get_running_loop().create_datagram_endpoint(
            lambda: counter, sock=sock
        )
        last, idle = -1, 0
        while idle < 3:
            await asyncio.sleep(0.1)
            idle = idle + 1 if counter.got == last and counter.got else 0
            last = counter.got
        transport.close()

    feeding = sender(port)
    start = time.process_time()
    run(receive())
    spent = time.process_time() - start
    feeding.wait()
    return spent * 1e9 / max(counter.got, 1)


def floods(binary):
    runs = {"asyncio": asyncio.run}
    try:
        import uvloop

        runs["uvloop"] = uvloop.run
    except ImportError:
        line("uvloop", "missing", "pip install uvloop")
    os.sched_setaffinity(0, {0})
    limit = statistics.median(flood_c(binary) for _ in range(3)) if binary else None
    for name, run in runs.items():
        ours = statistics.median(flood_ours(run) for _ in range(3))
        theirs = statistics.median(flood_protocol(run) for _ in range(3))
        goal = 1 / 6 if name == "asyncio" else 1 / 2
        ratio = ours / theirs
        what = f"flood on {name}: ours / its datagram protocol, CPU"
        line(what, f"{ratio:.2f}", f"<= {goal:.2f}", ratio <= goal)
        if limit:
            line(f"flood on {name}: ours / C's batches, CPU", f"{ours / limit:.2f}", "<= 1.10",
                 ours / limit <= 1.1)  # fmt: skip
    os.sched_setaffinity(0, range(os.cpu_count()))


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


def threads():
    rate = pingpong(ours_step)
    line("ping-pong beside a computing thread, packets/s", f"{rate:,.0f}", ">= 100,000",
         rate >= 100_000)  # fmt: skip
    line("the same with stdlib socket, packets/s", f"{pingpong(stdlib_step):,.0f}", "(peer)")
    for size in (8, 64):
        ratios = [batch_rate(2, size) / batch_rate(1, size) for _ in range(5)]
        ratio = statistics.median(ratios)
        line(f"batches of {size}: two threads / one", f"{ratio:.2f}", ">= 1.85", ratio >= 1.85)


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


def growth():
    import resource
    import tracemalloc

    import ipv4

    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    limit = 10_100 if hard == resource.RLIM_INFINITY else min(hard, 10_100)
    resource.setrlimit(resource.RLIMIT_NOFILE, (limit, hard))
    count = limit - 100
    with ipv4.PacketConn.udp(("127.0.0.1", 0)) as conn:
        pair_time(conn)
        before, blocks = resident(), sys.getallocatedblocks()
        pair_time(conn, 1_000_000)
        line("a million packets: bytes grown, blocks grown",
             f"{resident() - before}, {sys.getallocatedblocks() - blocks}", "0",
             resident() - before < 1 << 16)  # fmt: skip
        plain = [pair_time(conn) for _ in range(7)]
        conn.set_deadline(time.monotonic() + 1000)
        timed = [pair_time(conn) for _ in range(7)]
        conn.set_deadline(None)
        ratio = statistics.median(timed) / statistics.median(plain)
        line("pair with a far deadline / without", f"{ratio:.3f}", "<= 1.02", ratio <= 1.02)
        alone = statistics.median(pair_time(conn) for _ in range(7))
        socks = [socket.socket(socket.AF_INET, socket.SOCK_DGRAM) for _ in range(count)]
        tracemalloc.start()
        many = [ipv4.PacketConn(sock) for sock in socks]
        each = tracemalloc.get_traced_memory()[0] / len(many)
        tracemalloc.stop()
        ratio = statistics.median(pair_time(conn) for _ in range(7)) / alone
        line(f"pair beside {count:,} conns / alone", f"{ratio:.2f}", "1")
        line("memory of a conn beyond its socket, bytes", f"{each:.0f}", "<= 1024", each <= 1024)
        for other in many:
            other.close()
    tracemalloc.start()
    batch = ipv4.MessageBatch(1024, 64, 9)
    each = tracemalloc.get_traced_memory()[0] / 1024 - 64
    line("MessageBatch, bytes a message beyond its size", f"{each:.0f}", "<= 256", each <= 256)
    before = tracemalloc.get_traced_memory()[0]
    buffers = [(bytearray(64), bytearray(56)) for _ in range(1000)]
    middle = tracemalloc.get_traced_memory()[0]
    messages = [ipv4.Message([a], b) for a, b in buffers]
    each = (tracemalloc.get_traced_memory()[0] - middle) / 1000
    line("Message, bytes beside its buffers", f"{each:.0f}", "<= 400", each <= 400)
    tracemalloc.stop()
    del before, batch, messages


def imports():
    def took(code):
        times = []
        for _ in range(21):
            start = time.perf_counter()
            subprocess.run([sys.executable, "-I", "-c", code], check=True)
            times.append(time.perf_counter() - start)
        return statistics.median(times)

    empty = took("pass")
    ratio = (took("import ipv4") - empty) / (took("import socket, ipaddress, enum") - empty)
    line("import ipv4 / import socket, ipaddress, enum", f"{ratio:.2f}", "<= 1.30", ratio <= 1.3)


def main():
    own_network()
    with tempfile.TemporaryDirectory() as work:
        peers, missing = build(work)
        for who, why in missing.items():
            line(who, "missing", why)
        floods(peers.get("c", [None])[0])
    threads()
    growth()
    imports()


if __name__ == "__main__":
    main()
