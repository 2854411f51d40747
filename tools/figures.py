"""Write the figures of a benchmark into README.md; the manual takes them from the same file.

    python -P bench/run.py --json bench/figures.json --svg bench/batch.svg --replace
    python tools/figures.py

The run wants an idle machine. What pages and README say of speed stands in bench/figures.json
alone; with ``--check`` nothing is written, and the exit status is 1 where README says otherwise.
"""

import json
import re
import sys
import textwrap
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
FIGURES = ROOT / "bench" / "figures.json"
BETWEEN = re.compile(r"(?<=<!-- figures: begin -->\n).*?(?=!\[Time per packet)", re.DOTALL)
COLUMNS = ("C", "Go x/net", "socket, struct")
TABLE = (
    ("`write_to` and `read_from`", "pair"),
    ("the same, with control messages", "pair, cm"),
    ("`read_from` alone, with control messages", "receive, cm"),
    ("batches of 64 both ways, with control messages: list of `Message`", "batch 64, list"),
    ("`MessageBatch`", "batch 64, MessageBatch"),
    ("received half alone: list, each read", "receive half of 64, list"),
    ("`MessageBatch`, each read", "receive half of 64, MessageBatch iterated"),
    ("`MessageBatch`, columns left alone", "receive half of 64, columns untouched"),
    ("`RawConn`, header built and parsed", "raw pair, header built and parsed"),
    ("1400-byte datagrams by `segment_size`", "1400-byte segments, both ways"),
    ("`parse_header`", "parse_header"),
    ("`ControlMessage.parse`", "ControlMessage.parse"),
)
TEXT = """\
Measured on an idle machine ({machine}), on loopback: the time per packet as a ratio to that of the
others, the medians of the rounds.

{table}

A flood that an event loop takes with `aio`'s `batches` costs {flood_c} of the CPU of C's batches,
{flood_asyncio} of asyncio's datagram protocol, and on uvloop {flood_uvloop} of uvloop's. Beside a
thread that computes all the time {beside} times as many packets go to and fro as by `socket`; two
threads that each move batches of 64 get {threads} times as far as one.

What is above 1 in the first column is Python: a call made from Python, and the objects that it
gives, are {ours} instructions around the two system calls that C makes with {theirs}. It is least
in large batches and disappears in columns.

"""


class Figures:
    """The rows of a run, by case and what they are held against."""

    def __init__(self, path=FIGURES):
        self.kept = json.loads(path.read_text())
        self.rows = {(row["case"], row["against"]): row["value"] for row in self.kept["rows"]}

    def shown(self, case, against="", missing="-"):
        """A figure as pages show it; a dash where the run had none."""
        value = self.rows.get((case, against))
        if value is None:
            return missing
        return f"{value:,.0f}" if abs(value) >= 10 else f"{value:.2f}"

    @property
    def machine(self):
        found = self.kept["machine"]
        return f"{found['processor']}, {found['cores']} cores, {found['python']}, {found['system']}"


def table(figures):
    """README's table; nothing stands where there is no such contender."""
    lines = [
        "| what is moved, 64 bytes each | to C | to Go x/net | to `socket` and `struct` |",
        "|---|---|---|---|",
    ]
    for shown, case in TABLE:
        cells = [figures.shown(case, who, missing="") for who in COLUMNS]
        lines.append(f"| {shown} | " + " ".join(f"{cell} |" if cell else "|" for cell in cells))
    return "\n".join(lines)


def text(figures):
    """All that README says between its marks."""
    said = TEXT.format(
        machine=figures.machine,
        table=table(figures),
        flood_c=figures.shown("ours on asyncio", "C"),
        flood_asyncio=figures.shown("ours on asyncio", "asyncio"),
        flood_uvloop=figures.shown("ours on uvloop", "uvloop"),
        beside=figures.shown("ping-pong beside a computing thread", "socket"),
        threads=figures.shown("batches of 64, two threads", "one"),
        ours=figures.shown("pair"),
        theirs=figures.shown("pair, C"),
    )
    parts = (part if part[:1] == "|" else textwrap.fill(part, 100) for part in said.split("\n\n"))
    return "\n\n".join(parts)


def main(*arguments):
    readme = ROOT / "README.md"
    page = readme.read_text()
    said = BETWEEN.sub(lambda _: text(Figures()), page)
    if "--check" in arguments:
        sys.exit(said != page and "README.md says other figures than bench/figures.json has")
    readme.write_text(said)


if __name__ == "__main__":
    main(*sys.argv[1:])
