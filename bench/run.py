"""Measure this library, the same loops in C and Go, and what Python programs use today.

    python -P bench/run.py [--rounds N] [--quick] [--only PART]... [--json FILE] [--svg FILE]

Every contender is pinned to a core; what is compared runs back to back within a round, and what is
reported is the median over the rounds of the ratios within them, with its spread. What was moved is
verified: a wrong byte or a lost packet ends the run with exit status 1. All of it happens on the
loopback of a network namespace made for the run.
"""

import argparse
import json
import sys
import tempfile
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent))  # -P keeps this folder out too

import count
import flood
import packets
import system
from chart import draw
from host import Failed, build, own_network
from report import show

PARTS = ("packets", "instructions", "system", "flood")


def measure(options, work):
    """All rows, what is missing, and the times behind the rows on packets."""
    peers, missing = build(work)
    scale = 10 if options.quick else 1
    rows, times = [], {}
    if "packets" in options.only:
        times = packets.measure(peers, options.rounds, scale, options.case)
        rows += [*packets.rows(times), *packets.growth(times)]
    if "instructions" in options.only:
        found, lacking = count.rows(peers, work)
        rows += found
        missing |= lacking
    if "system" in options.only:
        rows += system.rows(max(options.rounds // scale, 1))
    if "flood" in options.only:
        found, lacking = flood.rows(max(options.rounds // scale, 1), 200_000 // scale, work)
        rows += found
        missing |= lacking
    return rows, missing, times


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--rounds", type=int, default=7, help="rounds counted (default: 7)")
    parser.add_argument("--quick", action="store_true", help="a tenth of the packets: a try")
    parser.add_argument("--only", action="append", choices=PARTS, help="only this part; repeatable")
    parser.add_argument("--case", action="append", help="only this row on packets; repeatable")
    parser.add_argument("--json", type=Path, help="where to write every figure")
    parser.add_argument("--svg", type=Path, help="where to draw time per packet by batch size")
    options = parser.parse_args()
    options.only = options.only or PARTS
    for name in options.case or ():
        if name not in packets.CASES:
            parser.error(f"no case {name!r}; there are: {', '.join(packets.CASES)}")
    own_network()
    with tempfile.TemporaryDirectory() as work:
        try:
            rows, missing, times = measure(options, work)
        except Failed as failure:
            sys.exit(f"failed: {failure}")
    show(rows, missing)
    if options.json:
        figures = {"rows": [each.as_dict() for each in rows], "missing": missing, "times": times}
        options.json.write_text(json.dumps(figures, indent=1) + "\n")
    if options.svg:
        options.svg.write_text(draw(packets.lines(times)))


if __name__ == "__main__":
    main()
