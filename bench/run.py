"""Measure every contender, interleaved in one run, and hold the ratios against the goals.

    python -P bench/run.py [--rounds 7] [--quick] [--case NAME]... [--json FILE] [--svg FILE]

Each contender is a process of its own, pinned to one core, that runs a case when told to. Within a
round the contenders run back to back, in an order that rotates; what is reported is the median of
the ratios within rounds, with their spread. What was moved is counted and compared: a lost packet
ends the run. All of it happens on the loopback of a network namespace made for the run.
"""

import argparse
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE))  # -P, which keeps the source folder ipv4/ out, keeps this out too

from chart import draw  # noqa: E402

# row: case of each contender, how many packets a round, goals against C and against Go (x/net)
CASES = {
    "pair": ({"ours": "pair", "c": "pair", "go": "pair", "stdlib": "pair"}, 30000, 1.07, 0.62),
    "pair (Go: AddrPort)": ({"ours": "pair", "go": "pair_addrport"}, 30000, None, 0.80),
    "pair, cm": (
        {"ours": "pair_cm", "c": "pair_cm", "go": "pair_cm", "stdlib": "pair_cm"},
        30000,
        1.08,
        0.67,
    ),
    "receive": (
        {"ours": "receive", "c": "receive", "go": "receive", "stdlib": "receive"},
        25600,
        None,
        None,
    ),
    "receive, cm": (
        {"ours": "receive_cm", "c": "receive_cm", "go": "receive_cm", "stdlib": "receive_cm"},
        25600,
        1.15,
        0.40,
    ),
    "batch 64, list": (
        {"ours": "batch_64_list", "c": "batch_64", "go": "batch_64", "stdlib": "batch_64"},
        25600,
        1.03,
        0.89,
    ),
    "batch 64, MessageBatch": (
        {"ours": "batch_64_ring", "c": "batch_64", "go": "batch_64"},
        25600,
        1.01,
        0.88,
    ),
    "half 64, list": ({"ours": "half_64_list", "c": "half_64", "go": "half_64"}, 25600, 1.14, 0.97),
    "half 64, MessageBatch iterated": (
        {"ours": "half_64_ring", "c": "half_64", "go": "half_64"},
        25600,
        1.06,
        0.90,
    ),
    "half 64, columns untouched": (
        {"ours": "half_64_untouched", "c": "half_64_untouched", "go": "half_64"},
        25600,
        1.01,
        0.85,
    ),
    "raw pair, header built and parsed": (
        {"ours": "raw", "c": "raw", "go": "raw"},
        20000,
        1.13,
        0.62,
    ),
    "1400-byte segments": (
        {"ours": "segments", "c": "segments", "go": "segments"},
        46000,
        1.05,
        0.05,
    ),
    "parse_header": (
        dict.fromkeys(("ours", "go", "stdlib", "dpkt"), "parse_header"),
        200000,
        None,
        0.65,
    ),
    "Header.parse": ({"ours": "header_parse", "go": "header_parse"}, 200000, None, 0.65),
    "Header.marshal": (
        {"ours": "header_marshal", "go": "header_marshal", "stdlib": "header_marshal",
         "dpkt": "header_marshal"},
        200000,
        None,
        1.1,
    ),
    "ControlMessage.parse": ({"ours": "control_parse", "go": "control_parse"}, 200000, None, 0.45),
    "ControlMessage.marshal": (
        {"ours": "control_marshal", "go": "control_marshal"},
        200000,
        None,
        0.90,
    ),
    "checksum, 1500 bytes": ({"ours": "checksum_1500", "c": "checksum_1500"}, 200000, 1.1, None),
    "checksum, 65535 bytes": ({"ours": "checksum_65535", "c": "checksum_65535"}, 10000, 1.1, None),
}  # fmt: skip
BATCHES = (1, 8, 64, 256, 1024)
for size in BATCHES:
    CASES.setdefault(
        f"batch {size}",
        (
            {
                "ours": f"batch_{size}_list",
                "ring": f"batch_{size}_ring",
                "c": f"batch_{size}",
                "go": f"batch_{size}",
                "stdlib": f"batch_{size}",
            },
            20480,
            None,
            None,
        ),
    )


class Peer:
    """A contender's process."""

    def __init__(self, argv, core):
        self.process = subprocess.Popen(
            argv,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            preexec_fn=lambda: os.sched_setaffinity(0, {core}),
            env=os.environ | {"GOMAXPROCS": "1"},
        )
        if not self.process.stdout.readline().startswith("ready"):
            raise SystemExit(f"{argv[0]} did not start")

    def run(self, case, count):
        """Nanoseconds and bytes of one case, None when this contender has it not."""
        self.process.stdin.write(f"{case} {count}\n")
        self.process.stdin.flush()
        answer = self.process.stdout.readline().split()
        if not answer:
            raise SystemExit(f"{self.process.args[0]} died in {case}")
        return None if answer[0] == "missing" else (int(answer[0]), int(answer[1]))

    def close(self):
        self.process.stdin.close()
        self.process.wait(10)


def build(work):
    """The contenders that this machine has, as argument lists, and what is missing and why."""
    peers, missing = {}, {}
    python = [sys.executable, "-P", str(HERE / "worker.py")]
    peers["ours"] = [*python, "ours"]
    peers["stdlib"] = [*python, "stdlib"]
    try:
        import dpkt  # noqa: F401

        peers["dpkt"] = [*python, "dpkt"]
    except ImportError:
        missing["dpkt"] = "pip install dpkt"
    compiler = shutil.which("cc")
    if compiler:
        source = HERE / "peers" / "c" / "peer.c"
        subprocess.run([compiler, "-O2", "-o", f"{work}/c", source], check=True)
        peers["c"] = [f"{work}/c"]
    else:
        missing["c"] = "no C compiler (cc)"
    if shutil.which("go"):
        done = subprocess.run(
            ["go", "build", "-o", f"{work}/go", "."],
            cwd=HERE / "peers" / "go",
            capture_output=True,
            text=True,
        )
        if done.returncode == 0:
            peers["go"] = [f"{work}/go"]
        else:
            missing["go"] = done.stderr.strip().splitlines()[-1]
    else:
        missing["go"] = "no go tool"
    return peers, missing


def progress(done, total):
    if sys.stderr.isatty():
        filled = 40 * done // total
        sys.stderr.write(f"\r[{'#' * filled}{'.' * (40 - filled)}] {done}/{total} ")
        if done == total:
            sys.stderr.write("\r" + " " * 60 + "\r")
    elif done % 20 == 0 or done == total:
        sys.stderr.write(f"{done}/{total}\n")
    sys.stderr.flush()


def measure(peers, names, rounds, scale):
    """Nanoseconds per packet: {case: {contender: [one a round]}}."""
    running = {who: Peer(argv, 0) for who, argv in peers.items()}
    running["ring"] = running["ours"]
    times = {name: {} for name in names}
    done = 0
    try:
        for turn in range(-1, rounds):  # the first round warms up
            for name in names:
                cases, count, _, _ = CASES[name]
                count = max(count // scale, 2048)
                order = [who for who in cases if who in running]
                order = order[turn % len(order) :] + order[: turn % len(order)]
                moved = {}
                for who in order:
                    outcome = running[who].run(cases[who], count)
                    if outcome is None:
                        continue
                    moved[who] = outcome[1]
                    if turn >= 0:
                        times[name].setdefault(who, []).append(outcome[0] / count)
                if name[0] in "pbrh" and "parse" not in name:
                    for who, total in moved.items():
                        if total < count * 64:
                            raise SystemExit(f"{who} lost packets in {name}: {total} bytes")
                done += 1
                progress(done, (rounds + 1) * len(names))
    finally:
        for who, peer in running.items():
            if who != "ring":
                peer.close()
    return times


def ratio(times, name, who, other):
    """Median and spread of the ratios within rounds, or None."""
    ours, theirs = times[name].get(who), times[name].get(other)
    if not ours or not theirs:
        return None
    ratios = sorted(a / b for a, b in zip(ours, theirs, strict=True))
    return statistics.median(ratios), ratios[0], ratios[-1]


def verdict(found, goal):
    if found is None:
        return "-"
    text = f"{found[0]:.2f} ({found[1]:.2f}-{found[2]:.2f})"
    if goal is None:
        return text
    return f"{text} {'<=' if found[0] <= goal else '> '} {goal:g}"


def report(times, missing):
    print(f"{'case':36}{'against C':30}{'against Go x/net':30}{'against stdlib':24}")
    rows = []
    for name, (_, _, goal_c, goal_go) in CASES.items():
        if name not in times:
            continue
        found = {
            other: ratio(times, name, "ours", other) for other in ("c", "go", "stdlib", "dpkt")
        }
        print(
            f"{name:36}{verdict(found['c'], goal_c):30}{verdict(found['go'], goal_go):30}"
            f"{verdict(found['stdlib'], None):24}"
        )
        rows.append({"case": name, "ratios": found, "goals": {"c": goal_c, "go": goal_go}})
    for who, why in missing.items():
        print(f"missing: {who}: {why}")
    return rows


def own_network():
    """Run again in a network namespace with nothing but a loopback."""
    if os.environ.get("IPV4_BENCH_INSIDE"):
        return
    wrap = ["unshare", "-n"] if os.geteuid() == 0 else ["unshare", "-Urn"]
    script = 'ip link set lo up; exec "$@"'
    command = [*wrap, "sh", "-c", script, "sh", sys.executable, "-P", *sys.argv]
    os.environ["IPV4_BENCH_INSIDE"] = "1"
    os.execvp(wrap[0], command)


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument(
        "--rounds", type=int, default=7, help="rounds counted, at least 7 for a figure"
    )
    parser.add_argument("--quick", action="store_true", help="a tenth of the packets")
    parser.add_argument("--case", action="append", help="only this row; may be given again")
    parser.add_argument("--json", type=Path, help="where to write every round's figures")
    parser.add_argument("--svg", type=Path, help="where to draw time per packet by batch size")
    options = parser.parse_args()
    own_network()
    names = options.case or list(CASES)
    for name in names:
        if name not in CASES:
            parser.error(f"no case {name!r}; there are: {', '.join(CASES)}")
    with tempfile.TemporaryDirectory() as work:
        peers, missing = build(work)
        times = measure(peers, names, options.rounds, 10 if options.quick else 1)
    rows = report(times, missing)
    if options.json:
        options.json.write_text(
            json.dumps({"times": times, "rows": rows, "missing": missing}, indent=1)
        )
    if options.svg:
        lines = {
            label: [
                (size, statistics.median(times[f"batch {size}"][who]))
                for size in BATCHES
                if who in times.get(f"batch {size}", {})
            ]
            for who, label in (
                ("c", "C, sendmmsg and recvmmsg"), ("ring", "ipv4, MessageBatch"),
                ("ours", "ipv4, list of Message"), ("go", "Go x/net/ipv4"),
                ("stdlib", "socket, one by one"),
            )
        }  # fmt: skip
        options.svg.write_text(draw(lines))


if __name__ == "__main__":
    main()
