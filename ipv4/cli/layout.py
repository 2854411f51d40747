"""Text as wide as the terminal, and its colours."""

import os
import shutil
import sys
import textwrap

__all__ = ["coloured", "columns", "paragraphs", "wrapped"]

NARROWEST, WIDEST = 40, 100
"""Columns below which nothing is gained by breaking lines, and beyond which they tire the eye."""


def columns() -> int:
    """Columns to fill: the terminal's, or of $COLUMNS, or 80; a margin of 2 is left."""
    room = shutil.get_terminal_size((80, 24)).columns - 2
    return min(max(room, NARROWEST), WIDEST)


def paragraphs(text: str, width: int, indent: str = "") -> str:
    """Fill each paragraph anew; indented lines, which are examples, stay as they are."""
    out: list[str] = []
    plain: list[str] = []

    def flush() -> None:
        if plain:
            out.append(
                textwrap.fill(
                    " ".join(plain),
                    width,
                    initial_indent=indent,
                    subsequent_indent=indent,
                    break_on_hyphens=False,  # commands and options are not torn
                    break_long_words=False,
                )
            )
            plain.clear()

    for line in text.strip("\n").splitlines():
        if line and not line[0].isspace():
            plain.append(line)
            continue
        flush()
        out.append(indent + line if line else "")
    flush()
    return "\n".join(out) + "\n"


def wrapped(text: str, margin: int) -> list[str]:
    """Lines of the text, for the columns from `margin` on."""
    lines = textwrap.wrap(
        text, max(columns() - margin, 20), break_on_hyphens=False, break_long_words=False
    )
    return lines or [""]


def coloured(text: str, colour: int) -> str:
    """The text in a colour of SGR (ECMA-48), on a terminal and unless NO_COLOR forbids it."""
    if not sys.stdout.isatty() or os.environ.get("NO_COLOR") or os.environ.get("TERM") == "dumb":
        return text
    return f"\x1b[{colour}m{text}\x1b[0m"
