"""Datagram endpoints: ours beside the loop's own, under programs that ask and answer.

Run by itself with a case, a loop, a count and a number of rounds, this is one process that has both
endpoints open, each between a client and a server of its own, and lets them take turns: it prints
for each round the wall-clock and CPU nanoseconds of an operation, ours and the loop's own.
"""

import asyncio
import datetime
import os
import socket
import ssl
import subprocess
import sys
import warnings
from pathlib import Path
from time import perf_counter_ns, process_time_ns

sys.path.insert(0, str(Path(__file__).parent))

from host import Failed
from report import Progress, ratios, row

PART = "datagram endpoints"
LOOPS = ("asyncio", "uvloop")
GOAL = 1.02  # no slower, as well as a round can tell
HERE = ("127.0.0.1", 0)


class Loop:
    """The running loop, but for who opens its datagram endpoints."""

    def __init__(self, create):
        self.loop = asyncio.get_running_loop()
        self.create_datagram_endpoint = create

    def __getattr__(self, name):
        return getattr(self.loop, name)


# Echo: so many datagrams under way at a time


class Echo(asyncio.DatagramProtocol):
    def connection_made(self, transport):
        self.transport = transport

    def datagram_received(self, data, addr):
        self.transport.sendto(data, addr)


class Asking(asyncio.DatagramProtocol):
    def connection_made(self, transport):
        self.transport = transport

    def ask(self, count, window):
        self.left = count
        self.done = asyncio.get_running_loop().create_future()
        for _ in range(window):
            self.transport.sendto(bytes(64))
        return self.done

    def datagram_received(self, data, addr):
        self.left -= 1
        if self.left >= 0:
            self.transport.sendto(data)
            if self.left == 0:
                self.done.set_result(None)


async def echo(create, window):
    server, _ = await create(Echo, local_addr=HERE)
    client, asking = await create(Asking, remote_addr=server.get_extra_info("sockname"))

    async def work(count):
        await asking.ask(count, window)
        await asyncio.sleep(0.01)  # what is still under way belongs to nobody's time

    return work, (client.close, server.close)


# CoAP


async def coap(create):
    from aiocoap import GET, Context, Message, resource

    class Small(resource.Resource):
        async def render_get(self, request):
            return Message(payload=bytes(64))

    site = resource.Site()
    site.add_resource(["small"], Small())
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as spare:
        spare.bind(HERE)
        port = spare.getsockname()[1]
    server = await Context.create_server_context(
        site, bind=("127.0.0.1", port), transports=["simplesocketserver"], loop=Loop(create)
    )
    client = await Context.create_client_context(transports=["simple6"], loop=Loop(create))

    async def work(count):
        for _ in range(count):
            request = Message(code=GET, uri=f"coap://127.0.0.1:{port}/small")
            answer = await client.request(request).response
            if answer.payload != bytes(64):
                raise SystemExit("a wrong answer")

    return work, (client.shutdown, server.shutdown)


# QUIC: an operation is a stream of 100 kB that comes back


def certificate():
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes
    from cryptography.hazmat.primitives.asymmetric import ec

    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "localhost")])
    now, day = datetime.datetime.now(datetime.UTC), datetime.timedelta(days=1)
    made = x509.CertificateBuilder().subject_name(name).issuer_name(name)
    made = made.public_key(key.public_key()).serial_number(1)
    made = made.not_valid_before(now - day).not_valid_after(now + day)
    return made.sign(key, hashes.SHA256()), key


async def quic(create):
    from aioquic.asyncio.protocol import QuicConnectionProtocol
    from aioquic.asyncio.server import QuicServer
    from aioquic.quic.configuration import QuicConfiguration
    from aioquic.quic.connection import QuicConnection

    content = bytes(100_000)
    tasks = set()

    def answer(reader, writer):
        async def back():
            writer.write(await reader.read())
            writer.write_eof()

        task = asyncio.ensure_future(back())
        tasks.add(task)
        task.add_done_callback(tasks.discard)

    told = QuicConfiguration(is_client=False, alpn_protocols=["echo"])
    told.certificate, told.private_key = certificate()
    server, _ = await create(
        lambda: QuicServer(configuration=told, stream_handler=answer), local_addr=HERE
    )
    told = QuicConfiguration(
        is_client=True, alpn_protocols=["echo"], server_name="localhost", verify_mode=ssl.CERT_NONE
    )
    client, asking = await create(
        lambda: QuicConnectionProtocol(QuicConnection(configuration=told)), local_addr=HERE
    )
    asking.connect(server.get_extra_info("sockname"))
    await asking.wait_connected()

    async def work(count):
        for _ in range(count):
            reader, writer = await asking.create_stream()
            writer.write(content)
            writer.write_eof()
            if await reader.read() != content:
                raise SystemExit("a wrong stream came back")

    async def close():
        asking.close()
        await asking.wait_closed()
        client.close()
        server.close()

    return work, (close,)


# A case: its name, what makes it, its operations a round, and its package.
CASES = {
    "echo, one by one": (lambda create: echo(create, 1), 1000, None),
    "echo, 8 under way": (lambda create: echo(create, 8), 2000, None),
    "echo, 50 under way": (lambda create: echo(create, 50), 4000, None),
    "CoAP requests": (coap, 150, "aiocoap"),
    "QUIC streams": (quic, 3, "aioquic"),
}


async def turns(make, count, rounds):
    """Let ours and the loop's own take turns, in both orders."""
    from ipv4.aio import create_datagram_endpoint

    loop = asyncio.get_running_loop()
    works, ends = [], []
    for create in (create_datagram_endpoint, loop.create_datagram_endpoint):
        work, closers = await make(create)
        works.append(work)
        ends += closers
        await work(max(count // 5, 1))
    for turn in range(rounds):
        spent = {}
        for which in (0, 1) if turn % 2 else (1, 0):
            wall, cpu = perf_counter_ns(), process_time_ns()
            await works[which](count)
            spent[which] = (process_time_ns() - cpu, perf_counter_ns() - wall)
        print(*spent[0], *spent[1], flush=True)
    for end in ends:
        ended = end()
        if ended is not None:
            await ended
    await asyncio.sleep(0.01)


def measure(case, loop, count, rounds):
    """CPU and wall-clock times of each round, ours and theirs; None when the package is missing."""
    argv = [sys.executable, "-P", __file__, case, loop, str(count), str(rounds)]
    done = subprocess.run(
        argv,
        preexec_fn=lambda: os.sched_setaffinity(0, {0}),
        capture_output=True,
        text=True,
        timeout=120,
    )
    if done.returncode:
        error = (done.stderr.strip().splitlines() or ["it ended"])[-1]
        if "ModuleNotFoundError" in error:
            return None
        raise Failed(f"{case} on {loop}: {error}")
    return [tuple(map(int, line.split())) for line in done.stdout.splitlines()]


def measure_all(rounds, scale, results, clock):
    """Rows of the table, and what is missing and why, into the results."""
    progress = Progress(PART, len(CASES) * len(LOOPS))
    for case, (_, count, package) in CASES.items():
        for loop in LOOPS:
            progress.step()
            if clock.left() < 0:
                results.missing[f"endpoints: {case} on {loop}"] = "no time was left"
                continue
            try:
                lines = measure(case, loop, max(count // scale, 1), 3 * rounds)
            except subprocess.TimeoutExpired:
                results.missing[f"{case} on {loop}"] = "it took too long: is the machine busy?"
                continue
            except Failed as failure:
                results.failures.append(str(failure))
                continue
            if lines is None:
                results.missing[f"{case} on {loop}"] = f"pip install {package or loop}"
                continue
            ours_cpu, ours_wall, own_cpu, own_wall = zip(*lines, strict=True)
            for what, ours, own in (("CPU", ours_cpu, own_cpu), ("time", ours_wall, own_wall)):
                name = f"{case}, {what}"
                results.rows.append(row(PART, name, f"{loop}'s own", ratios(ours, own), GOAL))


if __name__ == "__main__":
    warnings.simplefilter("ignore")
    case, loop, count, rounds = sys.argv[1:]
    main = turns(CASES[case][0], int(count), int(rounds))
    if loop == "uvloop":
        import uvloop

        uvloop.run(main)
    else:
        asyncio.run(main)
