"""Where the measuring happens: a network of its own, and the contenders' processes."""

import os
import select
import shutil
import subprocess
import sys
from pathlib import Path

import ipv4

HERE = Path(__file__).resolve().parent
PATIENCE = 60  # seconds that a case may take before a packet must have been lost


class Failed(Exception):
    """A contender moved something wrong, or nothing."""


def own_network():
    """Run again in a network namespace with nothing but a loopback."""
    if os.environ.get("IPV4_BENCH_INSIDE"):
        return
    if shutil.which("go"):  # what it has to fetch, it can fetch here only; a failure shows later
        subprocess.run(["go", "mod", "download"], cwd=HERE / "peers" / "go", capture_output=True)
    wrap = ["unshare", "-n"] if os.geteuid() == 0 else ["unshare", "-Urn"]
    script = 'ip link set lo up; exec "$@"'
    command = [*wrap, "sh", "-c", script, "sh", sys.executable, "-P", *sys.argv]
    os.environ["IPV4_BENCH_INSIDE"] = "1"
    os.execvp(wrap[0], command)


class Peer:
    """A contender's process on one core, which runs a case when told to."""

    def __init__(self, argv, core=0):
        self.name = " ".join(map(str, argv[-1:]))
        self.process = subprocess.Popen(
            argv,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            preexec_fn=lambda: os.sched_setaffinity(0, {core}),
            env=os.environ | {"GOMAXPROCS": "1"},
        )
        self.answer("its start")

    def answer(self, what):
        if not select.select([self.process.stdout], [], [], PATIENCE)[0]:
            raise Failed(f"{self.name}: a packet was lost in {what}: it waits for ever")
        words = self.process.stdout.readline().split()
        if not words:
            raise Failed(f"{self.name} ended in {what}")
        return words

    def run(self, case, count):
        """Nanoseconds and bytes of one case; None when this contender has it not."""
        self.process.stdin.write(f"{case} {count}\n")
        self.process.stdin.flush()
        words = self.answer(case)
        return None if words[0] == "missing" else (int(words[0]), int(words[1]))

    def close(self):
        self.process.stdin.close()
        try:
            self.process.wait(5)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()


def compile_c(name, work):
    """A program of peers/c; None without a compiler."""
    if not shutil.which("cc"):
        return None
    source = HERE / "peers" / "c" / f"{name}.c"
    subprocess.run(["cc", "-O2", "-o", f"{work}/{name}", source], check=True)
    return f"{work}/{name}"


def build(work):
    """The contenders that this machine has, as argument lists, and what is missing and why."""
    peers, missing = {}, {}
    python = [sys.executable, "-P", str(HERE / "worker.py")]
    peers["ours"] = [*python, "ours"]
    peers["stdlib"] = [*python, "stdlib"]
    with ipv4.PacketConn.udp() as conn:
        if conn._sends_singly():
            missing["our batches"] = "this is a build that moves one message a call"
    try:
        import dpkt  # noqa: F401

        peers["dpkt"] = [*python, "dpkt"]
    except ImportError:
        missing["dpkt"] = "pip install dpkt"
    binary = compile_c("peer", work)
    if binary:
        peers["c"] = [binary]
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
