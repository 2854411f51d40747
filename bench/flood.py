"""Processor time per datagram of a receiver that is sent more than it can take.

Each receiver is a process on one core, the sender (`peers/c/flood.c`) one on another. Run by itself
with a receiver's name and a count, this is that receiver: it prints its port, takes as many
datagrams, then prints the CPU time in nanoseconds, the datagrams and the bytes that it covers.
"""

import asyncio
import os
import socket
import subprocess
import sys
from pathlib import Path
from time import process_time_ns

sys.path.insert(0, str(Path(__file__).parent))

from cases import SIZE, verify
from host import Failed, compile_c
from report import Progress, ratios, row

PART = "flood, CPU per datagram"


class Tally:
    """Counts from the first datagram on, which the time before is not charged to."""

    def __init__(self, count):
        self.count = count
        self.taken = self.bytes = 0
        self.start = process_time_ns()

    def report(self, last):
        spent = process_time_ns() - self.start
        verify(last)
        print(spent, self.taken, self.bytes, flush=True)


async def batches(count):
    """This library: `AsyncPacketConn.batches`, each length read from the column."""
    import ipv4
    from ipv4.aio import AsyncPacketConn

    batch = ipv4.MessageBatch(64, SIZE + 1)
    async with AsyncPacketConn(ipv4.PacketConn.udp(("127.0.0.1", 0))) as conn:
        print(conn.local_addr[1], flush=True)
        tally = None
        async for n in conn.batches(batch):
            if tally is None:
                tally = Tally(count)
                continue
            tally.bytes += sum(batch.lengths[:n])
            tally.taken += n
            if tally.taken >= count:
                tally.report(batch[0].buffers[0][:SIZE])
                return


class Counting(asyncio.DatagramProtocol):
    """What a program on a loop's own datagram transport does at the least."""

    def __init__(self, count):
        self.count = count
        self.tally = None
        self.done = asyncio.get_running_loop().create_future()

    def datagram_received(self, data, addr):
        if self.tally is None:
            self.tally = Tally(self.count)
            return
        self.tally.taken += 1
        self.tally.bytes += len(data)
        if self.tally.taken == self.count:
            self.tally.report(data)
            self.done.set_result(None)


async def protocol(count, create=None):
    """The loop's datagram transport and protocol."""
    loop = asyncio.get_running_loop()
    sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    sock.setblocking(False)
    sock.bind(("127.0.0.1", 0))
    counting = Counting(count)
    if create is None:
        transport, _ = await loop.create_datagram_endpoint(lambda: counting, sock=sock)
    else:
        transport, _ = await create(loop, lambda: counting, sock=sock)
    print(sock.getsockname()[1], flush=True)
    await counting.done
    transport.abort()


async def endpoint(count):
    """This library: a datagram protocol over `ipv4.aio.create_datagram_endpoint`."""
    from ipv4.aio import create_datagram_endpoint

    async def create(_, factory, sock):
        return await create_datagram_endpoint(factory, sock=sock)

    await protocol(count, create)


async def fastnet(count):
    """aiofastnet's transport on asyncio's loop."""
    import aiofastnet

    await protocol(count, aiofastnet.create_datagram_endpoint)


def on_uvloop(main):
    import uvloop

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(main)


RECEIVERS = {
    "ours on asyncio": (asyncio.run, batches),
    "ours on uvloop": (on_uvloop, batches),
    "our endpoint on asyncio": (asyncio.run, endpoint),
    "our endpoint on uvloop": (on_uvloop, endpoint),
    "asyncio": (asyncio.run, protocol),
    "uvloop": (on_uvloop, protocol),
    "aiofastnet": (asyncio.run, fastnet),
}


def measure(binary, name, count):
    """Nanoseconds of CPU per datagram; None when the receiver's package is missing."""
    argv = [sys.executable, "-P", __file__, name, str(count)]
    if name == "C":
        argv = [binary, "receive", str(count)]
    receiver = subprocess.Popen(
        argv,
        preexec_fn=lambda: os.sched_setaffinity(0, {0}),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    port = receiver.stdout.readline()
    if not port:
        error = receiver.communicate()[1].strip().splitlines()[-1]
        if "ModuleNotFoundError" in error:
            return None
        raise Failed(f"{name}: {error}")
    core = os.cpu_count() - 1
    feeder = subprocess.Popen(
        [binary, "feed", port.strip(), "20"], preexec_fn=lambda: os.sched_setaffinity(0, {core})
    )
    try:
        answer, error = receiver.communicate(timeout=25)
    finally:
        receiver.kill()
        feeder.kill()
        feeder.wait()
    if receiver.returncode:
        raise Failed(f"{name}: {error.strip()}")
    spent, taken, moved = map(int, answer.split())
    if moved != taken * SIZE:
        raise Failed(f"{name}: {moved} bytes in {taken} datagrams")
    return spent / taken


def measure_all(rounds, count, work, results, clock):
    """Rows of the table, and what is missing and why, into the results."""
    binary = compile_c("flood", work)
    if not binary:
        results.missing["flood"] = "no C compiler (cc), which its sender needs"
        return
    if os.cpu_count() < 2:
        results.missing["flood"] = "it needs a core for its sender and one for its receiver"
        return
    names = ["C", *RECEIVERS]
    times = {name: [] for name in names}
    progress = Progress(PART, rounds * len(names))
    gone = set()
    for turn in range(rounds):
        for name in names[turn % len(names) :] + names[: turn % len(names)]:
            progress.step()
            if name in gone:
                continue
            if clock.left() < 0:
                results.missing[f"flood from round {turn + 1} on"] = "no time was left"
                break
            try:
                spent = measure(binary, name, count)
            except subprocess.TimeoutExpired:
                results.missing[f"flood of {name}"] = "it took too long: is the machine busy?"
                gone.add(name)
                continue
            except Failed as failure:
                results.failures.append(str(failure))
                gone.add(name)
                continue
            if spent is None:
                results.missing[f"flood of {name}"] = f"pip install {name}"
                gone.add(name)
            else:
                times[name].append(spent)
    for ours, other, limit in GOALS:
        shared = min(len(times[ours]), len(times[other]))  # the last round may be cut
        if shared:
            values = ratios(times[ours][:shared], times[other][:shared])
            results.rows.append(row(PART, ours, other, values, limit))


GOALS = (
    ("ours on asyncio", "C", 1.1),
    ("ours on asyncio", "asyncio", 1 / 6),
    ("ours on asyncio", "aiofastnet", None),
    ("ours on uvloop", "C", 1.1),
    ("ours on uvloop", "uvloop", 1 / 2),
    ("ours on uvloop", "aiofastnet", None),
    ("our endpoint on asyncio", "asyncio", 1 / 2),
    ("our endpoint on asyncio", "aiofastnet", None),
    ("our endpoint on uvloop", "uvloop", 1 / 2),
)


if __name__ == "__main__":
    runner, receiver = RECEIVERS[sys.argv[1]]
    runner(receiver(int(sys.argv[2])))
