"""User-space instructions per packet, the loop included: they do not move from run to run.

Each contender runs a loop while `peers/c/steps.c` single-steps it (x86-64). Run by itself with the
name of a loop, this is our contender.
"""

import os
import subprocess
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))

from cases import PAYLOAD, SIZE
from host import compile_c
from report import Progress, row

PART = "user-space instructions per packet"
# What a worker runs while it is counted: longer than the counting takes, and ended by the counter.
ENDLESS = 500_000_000

# System call that is made once a round (x86-64), and how many packets a round moves
SENDTO, SENDMSG, SENDMMSG = 44, 46, 307

# row: our loop, case of the C and Go peers, system calls tried, packets a round, goal
ROWS = {
    "pair": ("pair", "pair", (SENDTO,), 1, 1400),
    "pair, cm": ("pair_cm", "pair_cm", (SENDMSG,), 1, 2000),
    "batch 64, cm, untouched": ("untouched", "batch_64", (SENDMMSG,), 64, 80),
    "batch 64, cm, iterated": ("iterated", "batch_64", (SENDMMSG,), 64, 720),
    "batch 64, cm, list": ("list", "batch_64", (SENDMMSG,), 64, 1650),
    "raw pair": ("raw", "raw", (SENDMSG, SENDTO), 1, None),
}


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
    if name == "pair":
        while True:
            write(PAYLOAD, here)
            read(buffer)
    conn.set_control_message(flags, True)
    if name == "pair_cm":
        while True:
            write(PAYLOAD, here, told)
            _, cm, _ = read(buffer)
            cm.ttl  # noqa: B018
            cm.ifindex  # noqa: B018
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
    while name == "untouched":
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
            worker.stdin.write(f"{case} {ENDLESS}\n".encode())
            worker.stdin.flush()
            time.sleep(0.7)  # start, import and warm up
            command = [steps, str(worker.pid), str(call), str(times)]
            done = subprocess.run(
                command, capture_output=True, text=True, timeout=60, preexec_fn=one_core
            )
        finally:
            worker.kill()
            worker.communicate()
        if done.returncode == 0:
            return float(done.stdout)
    return None


def rows(peers, work):
    """Rows of the table, and what is missing and why."""
    steps = compile_c("steps", work)
    if not steps:
        return [], {"instructions": "no C compiler (cc)"}
    found, missing = [], {}
    progress = Progress(PART, len(ROWS))
    for name, (ours, case, calls, packets, goal) in ROWS.items():
        for who, argv in (
            ("", [sys.executable, "-P", __file__, ours]),
            ("C", peers.get("c")),
            ("Go x/net", peers.get("go")),
        ):
            value = argv and counted(steps, argv, case, calls, 20 if packets == 1 else 2)
            if value:
                limit = None if who else goal
                found.append(row(PART, f"{name}{who and ', ' + who}", "", [value / packets], limit))
            elif argv:
                why = (
                    "no thread of it ran on while it was stepped"
                    if who
                    else "it could not be stepped"
                )
                missing[f"instructions of {name}{who and ', ' + who}"] = why
        progress.step()
    return found, missing


if __name__ == "__main__":
    loop(sys.argv[1])
