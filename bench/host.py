"""Where the measuring happens: a network of its own, and the contenders' processes."""

import os
import select
import shutil
import subprocess
import sys
import sysconfig
import time
from contextlib import suppress
from pathlib import Path

import ipv4
from ipv4.cli import sandbox

HERE = Path(__file__).resolve().parent
PATIENCE = 60  # seconds that a case may take before a packet must have been lost


class Failed(Exception):
    """A contender moved something wrong, or nothing."""


def own_network():
    """Move into a network namespace with nothing but a loopback; no program is needed for it."""
    if shutil.which("go"):  # what it has to fetch, it can fetch here only; a failure shows later
        subprocess.run(["go", "mod", "download"], cwd=HERE / "peers" / "go", capture_output=True)
    uid, gid = os.getuid(), os.getgid()
    sandbox.enter()
    # In a user namespace of our own: who is nobody there loses the capabilities with each exec.
    with suppress(OSError):
        Path("/proc/self/setgroups").write_text("deny")
        Path("/proc/self/uid_map").write_text(f"0 {uid} 1")
        Path("/proc/self/gid_map").write_text(f"0 {gid} 1")


class Clock:
    """How long the run may still take: what there is no time for is named, not begun."""

    def __init__(self, seconds):
        self.end = time.monotonic() + seconds
        self.total = seconds

    def left(self, keep=0.0):
        """Seconds until the end, without the share that is kept for what comes after."""
        return self.end - keep * self.total - time.monotonic()


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
        with suppress(BrokenPipeError):
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


def build_floor(work):
    """The folder of the floor's extension and None, or None and why it could not be built."""
    include = sysconfig.get_path("include")
    if not shutil.which("cc"):
        return None, "no C compiler (cc)"
    if not Path(include, "Python.h").exists():
        return None, "no Python.h (Debian: python3-dev)"
    suffix = sysconfig.get_config_var("EXT_SUFFIX")
    source = HERE / "peers" / "c" / "floor.c"
    command = ["cc", "-O2", "-shared", "-fPIC", f"-I{include}", "-o", f"{work}/floor{suffix}"]
    done = subprocess.run([*command, source], capture_output=True, text=True)
    if done.returncode:
        return None, done.stderr.strip().splitlines()[-1]
    return work, None


def build(work):
    """The contenders that this machine has, as argument lists, and what is missing and why."""
    peers, missing = {}, {}
    python = [sys.executable, "-P", str(HERE / "worker.py")]
    peers["ours"] = [*python, "ours"]
    peers["stdlib"] = [*python, "stdlib"]
    floor, why = build_floor(work)
    if floor:
        peers["floor"] = [*python, "floor"]
        os.environ["IPV4_BENCH_FLOOR"] = str(floor)
    else:
        missing["the floor"] = why
    with ipv4.PacketConn.udp() as conn:
        if conn._moves_one_a_call():
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
