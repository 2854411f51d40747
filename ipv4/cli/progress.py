"""A progress bar on a terminal, plain lines everywhere else."""

import shutil
import sys
import time

__all__ = ["Progress"]

WIDTH = 32
"""Columns of the bar, where the terminal has room for it."""


class Progress:
    """Shows how far a count has come.

    Parameters
    ----------
    total : int
        Where the count ends.
    unit : str
        What is counted, in the plural.
    """

    def __init__(self, total: int, unit: str) -> None:
        self.total = total
        self.unit = unit
        self.live = sys.stdout.isatty()
        # Beside the brackets and the indent: the longest count and rate, and the cursor's column.
        text = len(f"{total:,} {unit}, 99,999,999/s ")
        self.width = max(0, min(WIDTH, shutil.get_terminal_size().columns - text - 7))
        self.started = time.monotonic()
        self.next_time = self.started
        self.next_count = total // 4

    def update(self, count: int) -> None:
        """Tell the count so far; cheap enough to be called for every batch."""
        if self.live:
            now = time.monotonic()
            if now >= self.next_time or count >= self.total:
                self.next_time = now + 0.05
                filled = self.width * count // self.total
                rate = count / max(now - self.started, 1e-6)
                bar = "#" * filled + "." * (self.width - filled)
                line = f"  [{bar}] {count:,} {self.unit}, {rate:,.0f}/s "
                # A line that wraps could not be drawn over.
                print("\r" + line[: shutil.get_terminal_size().columns - 1], end="", flush=True)
        elif count >= self.next_count:
            print(f"  {count:,} of {self.total:,} {self.unit}")
            self.next_count += max(self.total // 4, 1)

    def close(self) -> None:
        """End the bar's line."""
        if self.live:
            print()
