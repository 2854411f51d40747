"""Runs worlds of stress, each slice in a process of its own, and adds up what they counted.

A world is a function ``world(seed, until)``: it works until that moment of ``time.monotonic()``,
checks its books, and returns counts. Whatever it raises, a crash, or a slice that does not end,
fails the run. Slices are short, so that everything is also started and ended many times.
"""

import argparse
import collections
import faulthandler
import json
import os
import random
import signal
import sys
import time
import traceback

SLICE = 1.0  # seconds
HANG = 40.0  # seconds that a slice may last beyond its end


def run(worlds, description):
    """Parse the command line, run the worlds in turn, print their counts; exit status."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--seconds", type=float, default=10, help="for all worlds together")
    parser.add_argument("--seed", type=int, default=None, help="of the first slice")
    parser.add_argument("--only", choices=sorted(worlds), action="append", help="leave out others")
    arguments = parser.parse_args()
    names = arguments.only or list(worlds)
    seed = random.randrange(1 << 32) if arguments.seed is None else arguments.seed
    size = min(SLICE, arguments.seconds / len(names))
    end = time.monotonic() + arguments.seconds
    totals = {name: collections.Counter() for name in names}
    failed = False
    while not failed:
        for name in names:
            counts, problem = one_slice(worlds[name], seed, size)
            totals[name].update(counts)
            totals[name]["slices"] += 1
            if problem:
                print(f"{name}, --seed {seed}: {problem}", file=sys.stderr)
                failed = True
            seed += 1
        if time.monotonic() + size * len(names) > end:
            break
    for name, counts in totals.items():
        print(f"{name}:", ", ".join(f"{value} {what}" for what, value in counts.items()))
    return 1 if failed else 0


def one_slice(world, seed, seconds):
    """Run one slice in a child; its counts, and what went wrong with it, or an empty string."""
    sys.stdout.flush()
    sys.stderr.flush()
    reader, writer = os.pipe()
    pid = os.fork()
    if pid == 0:
        os.close(reader)
        faulthandler.enable()
        faulthandler.dump_traceback_later(seconds + HANG, exit=True)
        try:
            counts = world(seed, time.monotonic() + seconds)
            os.write(writer, json.dumps(counts).encode())
        except BaseException:
            traceback.print_exc()
            sys.stderr.flush()
            os._exit(1)
        os._exit(0)
    os.close(writer)
    with os.fdopen(reader, "rb") as answer:
        text = answer.read()
    status = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    problem = ""
    if status < 0:
        problem = f"killed by {signal.Signals(-status).name}"
    elif status > 0:
        problem = "failed, as told above"
    return json.loads(text) if text else {}, problem
