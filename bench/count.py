"""User-space instructions per packet, the loop included: they do not move from run to run.

Each contender runs a loop while `peers/c/steps.c` single-steps it (x86-64). Run by itself with the
name of a loop, this is our contender.
"""

import os
import socket
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))

from cases import PAYLOAD, SIZE
from host import compile_c
from report import Progress, row

PART = "user-space instructions per packet"
# What a worker runs while it is counted: longer than the counting takes, and ended by the counter.
ENDLESS = 500_000_000
PATIENCE = 60
"""Seconds that one count may take."""
KEEP = 0.25
"""Share of the time that is left to the other parts."""

# System call that is made once a round (x86-64), and how many packets a round moves
SENDTO, SENDMSG, SENDMMSG = 44, 46, 307

# row: our loop, the floor's, case of the C and Go peers, system calls tried, packets a round, goal.
# Goals are in instructions, which hold on any machine with this processor and interpreter.
ROWS = {
    "pair": ("pair", "pair", "pair", (SENDTO,), 1, 620),
    "pair, methods called as conn.read_from": (
        "pair_unbound", "pair_unbound", None, (SENDTO,), 1, 680,
    ),
    "pair, two destinations in turn": ("pair_two", "pair", None, (SENDTO,), 1, 700),
    "pair, connected": ("pair_connected", "pair", None, (SENDTO, SENDMSG), 1, 600),
    "pair, 1400 bytes": ("pair_long", "pair_long", None, (SENDTO,), 1, 640),
    "pair, far deadline": ("pair_deadline", "pair", None, (SENDTO,), 1, 740),
    "pair, control messages off again": ("pair_after", "pair", None, (SENDTO,), 1, 640),
    "pair, cm": ("pair_cm", "pair_cm", "pair_cm", (SENDMSG,), 1, 1100),
    "pair, cm, dst read as well": ("pair_dst", "pair_cm", None, (SENDMSG,), 1, 1250),
    "batch 64, cm, untouched": ("untouched", "batch", "batch_64", (SENDMMSG,), 64, 70),
    "batch 64, cm, iterated": ("iterated", "batch", "batch_64", (SENDMMSG,), 64, 340),
    "batch 64, cm, list": ("list", "batch", "batch_64", (SENDMMSG,), 64, 900),
    "raw pair": ("raw", None, "raw", (SENDMSG, SENDTO), 1, 2600),
}  # fmt: skip


def floor_loop(name):
    """The same loops over methods that do nothing but the system call."""
    from cases import LONG, Floor

    contender = Floor(LONG if name == "pair_long" else PAYLOAD)
    conn, here, buffer = contender.conn, None, bytearray(2048)
    write, read = conn.write_to, conn.read_from
    if name == "pair_unbound":
        while True:
            conn.write_to(PAYLOAD, here)
            conn.read_from(buffer)
    while name in ("pair", "pair_long"):
        write(PAYLOAD, here)
        read(buffer)
    contender.control(True)
    read = conn.read_from_cm
    while name == "pair_cm":
        write(PAYLOAD, here, None)
        _, _, _ = read(buffer)
    write, read = conn.write_batch, conn.read_batch
    while True:
        write()
        read()


def plain_loop(name, conn, write, read, here, buffer):
    """Our loops without control messages, each on a conn that had none of another's options."""
    from cases import LONG

    import ipv4

    if name == "pair_unbound":
        while True:
            conn.write_to(PAYLOAD, here)
            conn.read_from(buffer)
    if name == "pair_two":
        # Two addresses of the loopback, one socket: it is bound to all of them.
        conn = ipv4.PacketConn.udp(("0.0.0.0", 0))
        write, read = conn.write_to, conn.read_from
        one, two = (f"127.0.0.{n}" for n in (1, 2))
        one, two = (one, conn.local_addr[1]), (two, conn.local_addr[1])
        while True:
            write(PAYLOAD, one)
            read(buffer)
            write(PAYLOAD, two)
            read(buffer)
    if name == "pair_connected":
        sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        sock.bind(("127.0.0.1", 0))
        sock.connect(sock.getsockname())
        conn = ipv4.PacketConn(sock)
        write, read = conn.write_to, conn.read_from
        while True:
            write(PAYLOAD, None)
            read(buffer)
    if name == "pair_deadline":
        conn.set_deadline(time.monotonic() + 100_000)
    elif name == "pair_after":
        conn.set_control_message(ipv4.ControlFlags.TTL, True)
        conn.set_control_message(ipv4.ControlFlags.TTL, False)
    payload = LONG if name == "pair_long" else PAYLOAD
    while True:
        write(payload, here)
        read(buffer)


def loop(name):
    """One of our loops, for ever."""
    import ipv4

    flags = ipv4.ControlFlags.TTL | ipv4.ControlFlags.INTERFACE
    told = ipv4.ControlMessage(src="127.0.0.1", ifindex=1)
    if name == "raw":
        raw, buffer = ipv4.RawConn.ip(253, "127.0.0.1"), bytearray(2048)
        while True:
            header = ipv4.Header(total_len=20 + SIZE, ttl=64, protocol=253, dst="127.0.0.1")
            raw.write_to(header, PAYLOAD)
            head, payload, _ = raw.read_from(buffer)
            head.ttl  # noqa: B018
            head.total_len  # noqa: B018
            head.protocol  # noqa: B018
            len(payload)
    conn = ipv4.PacketConn.udp(("127.0.0.1", 0))
    here, buffer = conn.local_addr, bytearray(2048)
    write, read = conn.write_to, conn.read_from
    if name.startswith("pair") and name not in ("pair_cm", "pair_dst"):
        plain_loop(name, conn, write, read, here, buffer)
    if name == "pair_dst":
        flags |= ipv4.ControlFlags.DST
    conn.set_control_message(flags, True)
    if name == "pair_cm":
        while True:
            write(PAYLOAD, here, told)
            _, cm, _ = read(buffer)
            cm.ttl  # noqa: B018
            cm.ifindex  # noqa: B018
    if name == "pair_dst":
        while True:  # CPython 3.11 specialises no loop whose condition is tested at its end
            write(PAYLOAD, here, told)
            _, cm, _ = read(buffer)
            cm.ttl  # noqa: B018
            cm.ifindex  # noqa: B018
            cm.dst  # noqa: B018
    oob, write, read = told.marshal(), conn.write_batch, conn.read_batch
    if name == "list":
        room = ipv4.new_control_message
        out = [ipv4.Message([PAYLOAD], oob, here) for _ in range(64)]
        back = [ipv4.Message([bytearray(SIZE)], room(flags)) for _ in range(64)]
        while True:
            write(out)
            read(back)
            for message in back:
                cm = message.control
                message.n  # noqa: B018
                message.addr  # noqa: B018
                cm.ttl  # noqa: B018
                cm.ifindex  # noqa: B018
    out, back = ipv4.MessageBatch(64, SIZE), ipv4.MessageBatch(64, SIZE, flags)
    for message in (out[i] for i in range(64)):
        message.addr, message.oob = here, oob
        message.buffers[0][:] = PAYLOAD
    if name == "untouched":
        while True:
            write(out)
            read(back)
    while True:
        write(out)
        for _ in back.heads(read(back)):
            pass


def one_core():
    """Where the stepped and the stepping process take turns, a step takes a third of the time."""
    os.sched_setaffinity(0, {0})


def counted(steps, argv, case, calls, times):
    """Instructions from one of the calls to the next; None when this contender cannot say."""
    quiet = {"GOGC": "off", "GODEBUG": "asyncpreemptoff=1", "GOMAXPROCS": "1"}
    for call in calls:
        worker = subprocess.Popen(
            argv,
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            env=os.environ | quiet,
            preexec_fn=one_core,
        )
        try:
            with suppress(BrokenPipeError):
                worker.stdin.write(f"{case} {ENDLESS}\n".encode())
                worker.stdin.flush()
            time.sleep(0.7)  # start, import and warm up
            command = [steps, str(worker.pid), str(call), str(times)]
            done = subprocess.run(
                command, capture_output=True, text=True, timeout=PATIENCE, preexec_fn=one_core
            )
        finally:
            worker.kill()
            with suppress(BrokenPipeError):
                worker.communicate()
        if done.returncode == 0:
            return float(done.stdout)
    return None


def measure(peers, work, results, clock):
    """Rows of the table, and what is missing and why, into the results."""
    steps = compile_c("steps", work)
    if not steps:
        results.missing["instructions"] = "no C compiler (cc)"
        return
    progress = Progress(PART, len(ROWS))
    for name, (ours, floor, case, calls, packets, goal) in ROWS.items():
        for who, argv in (
            ("", [sys.executable, "-P", __file__, ours]),
            ("the floor", "floor" in peers and [sys.executable, "-P", __file__, f"floor_{floor}"]),
            ("C", case and peers.get("c")),
            ("Go x/net", case and peers.get("go")),
        ):
            if not argv or (who == "the floor" and not floor):
                continue
            label = f"{name}{who and ', ' + who}"
            if clock.left(KEEP) < 0:
                results.missing[f"instructions of {label}"] = "no time was left"
                continue
            try:
                value = counted(steps, argv, case, calls, 20 if packets <= 2 else 2)
            except subprocess.TimeoutExpired:
                results.missing[f"instructions of {label}"] = f"not stepped within {PATIENCE} s"
                continue
            if value:
                limit = None if who else goal
                results.rows.append(row(PART, label, "", [value / packets], limit))
            else:
                results.missing[f"instructions of {label}"] = (
                    "no thread of it ran on while it was stepped"
                    if who
                    else "it could not be stepped"
                )
        progress.step()


if __name__ == "__main__":
    if sys.argv[1].startswith("floor_"):
        floor_loop(sys.argv[1].removeprefix("floor_"))
    loop(sys.argv[1])
