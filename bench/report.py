"""Rows of the table: a figure, its spread, its goal, and whether that is met."""

import statistics
import sys
from dataclasses import asdict, dataclass


@dataclass
class Row:
    """One figure.

    `value` is the median, `low` and `high` its spread over the rounds; a goal is a limit above, or
    below where `at_least` is set.
    """

    part: str
    case: str
    against: str
    value: float
    low: float
    high: float
    goal: float | None = None
    at_least: bool = False

    @property
    def met(self):
        if self.goal is None:
            return None
        return self.value >= self.goal if self.at_least else self.value <= self.goal

    def as_dict(self):
        return asdict(self) | {"met": self.met}


def row(part, case, against, values, goal=None, at_least=False):
    """A row of the figures of several rounds."""
    values = sorted(values)
    return Row(
        part, case, against, statistics.median(values), values[0], values[-1], goal, at_least
    )


def ratios(ours, theirs):
    """Within the rounds: what the machine does meanwhile, it does to both."""
    return [a / b for a, b in zip(ours, theirs, strict=True)]


def figure(value):
    return f"{value:,.0f}" if abs(value) >= 50 else f"{value:.2f}"


def show(rows, missing):
    """Print the table."""
    part = None
    for each in rows:
        if each.part != part:
            part = each.part
            print(f"\n{part:44}{'against':24}{'median (spread)':32}goal")
        spread = f"{figure(each.value)} ({figure(each.low)} - {figure(each.high)})"
        goal = ""
        if each.goal is not None:
            sign = ">=" if each.at_least else "<="
            goal = f"{sign} {figure(each.goal):8}{'met' if each.met else 'NOT met'}"
        print(f"{each.case:44}{each.against:24}{spread:32}{goal}".rstrip())
    for who, why in missing.items():
        print(f"missing: {who}: {why}")


class Progress:
    """A bar on a terminal, a line now and then elsewhere."""

    def __init__(self, part, total):
        self.part, self.total, self.done = part, total, 0
        self.tell()

    def step(self):
        self.done += 1
        self.tell()

    def tell(self):
        done, total = self.done, max(self.total, 1)
        if sys.stderr.isatty():
            filled = 40 * done // total
            bar = "#" * filled + "." * (40 - filled)
            sys.stderr.write(f"\r{self.part:14} [{bar}] {done}/{total} ")
            if done == total:
                sys.stderr.write("\r" + " " * 78 + "\r")
        elif done * 4 // total != (done - 1) * 4 // total:
            sys.stderr.write(f"{self.part}: {done}/{total}\n")
        sys.stderr.flush()
