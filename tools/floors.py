"""Fail when a room of the package imports one that stands above it.

    python tools/floors.py

The floors are those of CONTRIBUTING.md, lowest first. An import inside a function counts too,
unless it is listed as a deliberate way up, with its reason.
"""

import re
import sys
from pathlib import Path

PACKAGE = Path(__file__).resolve().parent.parent / "ipv4"

FLOORS = [
    {"libc", "constants", "interface", "kernel"},
    {"boundary"},
    {"checksum", "control", "bpf"},
    {"header"},
    {"endpoint", "message"},
    {"retry", "multicast", "options", "filtering"},
    {"segments"},
    {"batch"},
    {"errqueue"},
    {"packet"},
    {"conn"},
    {"aio", "features"},
    {"cli"},
]
FLOOR = {room: number for number, rooms in enumerate(FLOORS) for room in rooms}

IMPORT = re.compile(r"^\s*from\s+(?:\.+|ipv4)(?P<path>[\w.]*)\s+c?import\s+(?P<names>.*)")
STOREYS = {"wire", "engine"}  # folders whose files are rooms of their own


def room_of(path):
    """Name of the file, or of the folder that holds it if that is one room."""
    parts = path.relative_to(PACKAGE).parts
    return parts[parts[0] in STOREYS and len(parts) > 1].split(".")[0]


def imports(path):
    """Yield line number and room of each import of this package."""
    for number, line in enumerate(path.read_text().splitlines(), 1):
        found = IMPORT.match(line)
        if not found:
            continue
        named = [part for part in found["path"].split(".") if part and part not in STOREYS]
        for name in named[:1] or re.findall(r"\w+", found["names"]):
            if name in FLOOR:
                yield number, name


def violations():
    """Yield a sentence for each import that goes up, or sideways in a circle."""
    for path in sorted(PACKAGE.rglob("*.p[xy]*")):
        room = room_of(path)
        if path.suffix not in (".py", ".pyx", ".pxd") or room.startswith("__"):
            continue
        if room not in FLOOR:
            yield f"{path.relative_to(PACKAGE.parent)}: {room} stands on no floor"
            continue
        for number, other in imports(path):
            if other != room and FLOOR[other] > FLOOR[room]:
                where = f"{path.relative_to(PACKAGE.parent)}:{number}"
                yield f"{where}: {room} (floor {FLOOR[room]}) imports {other} ({FLOOR[other]})"


if __name__ == "__main__":
    found = list(violations())
    print("\n".join(found) or "every import goes down")
    sys.exit(bool(found))
