"""A Python contender as a process: "case count" lines in, "nanoseconds bytes" or "missing" out."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))

from cases import CONTENDERS, run


def main():
    contender = CONTENDERS[sys.argv[1]]()
    print("ready", flush=True)
    for line in sys.stdin:
        name, count = line.split()
        outcome = run(contender, name, int(count))
        print("missing" if not outcome else f"{outcome[0]} {outcome[1]}", flush=True)


if __name__ == "__main__":
    main()
