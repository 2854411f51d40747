"""Measure this library, the same loops in C and Go, and what Python programs use today.

    python -P bench/run.py [--rounds N] [--quick] [--only PART]... [--json FILE]
                         [--svg FILE [--replace]] [--minutes N]

Every contender is pinned to a core; what is compared runs back to back within a round, and what is
reported is the median over the rounds of the ratios within them, with its spread. What was moved is
verified: after a wrong byte or a lost packet the exit status is 1. A part that fails or takes too
long is named, and what was measured is shown all the same. All of it happens on the loopback of a
network namespace made for the run.
"""

import argparse
import json
import os
import platform
import re
import sys
import tempfile
from contextlib import contextmanager, suppress
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent))  # -P keeps this folder out too

import count
import endpoints
import flood
import packets
import system
from chart import draw
from host import Clock, Failed, build, own_network
from report import show

KEPT = Path(__file__).resolve().with_name("batch.svg")
PARTS = ("packets", "instructions", "system", "flood", "endpoints")


class Results:
    """What was measured so far, what is missing and why, and what went wrong."""

    def __init__(self):
        self.rows = []
        self.missing = {}
        self.times = {}
        self.failures = []

    @contextmanager
    def part(self, name):
        """Whatever ends a part, the others go on, and what it has measured stays."""
        try:
            yield
        except Failed as failure:
            self.failures.append(str(failure))
        except Exception as error:
            self.missing[f"the rest of {name}"] = f"{type(error).__name__}: {error}"


def measure(options, work, clock, results):
    """Fill the results; each part leaves time for those after it."""
    peers, missing = build(work)
    results.missing |= missing
    scale = 10 if options.quick else 1
    rounds = max(options.rounds // scale, 1)
    if "packets" in options.only:
        with results.part("packets"):
            packets.measure(peers, options.rounds, scale, options.case, results, clock)
        with results.part("packets"):
            times = results.times
            results.rows += [*packets.rows(times), *packets.growth(times), *packets.joined(times)]
    if "instructions" in options.only:
        with results.part("instructions"):
            count.measure(peers, work, results, clock)
    if "system" in options.only:
        with results.part("system"):
            system.measure(rounds, results, clock)
    if "flood" in options.only:
        with results.part("flood"):
            flood.measure_all(rounds, 200_000 // scale, work, results, clock)
    if "endpoints" in options.only:
        with results.part("endpoints"):
            endpoints.measure_all(rounds, scale, results, clock)


def machine():
    """What the figures are of: processor, cores, kernel, interpreter."""
    try:
        names = re.findall(
            r"^model name\s*: (.*)$", Path("/proc/cpuinfo").read_text(), re.MULTILINE
        )
    except OSError:
        names = []
    python = f"{platform.python_implementation()} {platform.python_version()}"
    system = f"{platform.system()} {platform.release().partition('-')[0]}"
    return {
        "processor": names[0] if names else platform.machine(),
        "cores": os.cpu_count(),
        "system": system,
        "python": python,
    }


def unharmed(path, replace):
    """Where the picture goes: the one that is kept is not written over unless that is asked for."""
    if path.resolve() == KEPT and not replace:
        return path.with_suffix(".new.svg")
    return path


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--rounds", type=int, default=7, help="rounds counted (default: 7)")
    parser.add_argument("--quick", action="store_true", help="a tenth of the packets: a try")
    parser.add_argument("--only", action="append", choices=PARTS, help="only this part; repeatable")
    parser.add_argument("--case", action="append", help="only this row on packets; repeatable")
    parser.add_argument("--json", type=Path, help="where to write every figure")
    parser.add_argument("--svg", type=Path, help="where to draw time per packet by batch size")
    parser.add_argument(
        "--replace", action="store_true", help="draw over bench/batch.svg, not beside it"
    )
    parser.add_argument(
        "--minutes", type=float, default=9.0, help="begin nothing after so many (default: 9)"
    )
    options = parser.parse_args()
    options.only = options.only or PARTS
    for name in options.case or ():
        if name not in packets.CASES:
            parser.error(f"no case {name!r}; there are: {', '.join(packets.CASES)}")
    own_network()
    results = Results()
    with tempfile.TemporaryDirectory() as work, suppress(KeyboardInterrupt):
        measure(options, work, Clock(60 * options.minutes), results)
    show(results.rows, results.missing)
    if options.json:
        figures = {
            "machine": machine(),
            "rows": [each.as_dict() for each in results.rows],
            "missing": results.missing,
            "times": results.times,
        }
        options.json.write_text(json.dumps(figures, indent=1) + "\n")
    if options.svg and any(packets.lines(results.times).values()):
        path = unharmed(options.svg, options.replace)
        path.write_text(draw(packets.lines(results.times)))
        print(f"drawn: {path}")
    if results.failures:
        sys.exit("\n".join(f"failed: {failure}" for failure in results.failures))


if __name__ == "__main__":
    main()
