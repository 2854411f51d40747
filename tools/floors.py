"""Fail when a room of the package imports one that stands above it, or two import each other.

    python tools/floors.py [DIRECTORY]

The floors are those of the table in DIRECTORY's CONTRIBUTING.md (by default the repository's), the
package its `ipv4/`. An import inside a function counts too, and so does one by `import_module`;
one for type checkers alone does not, for nothing is imported.
"""

import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

ROW = re.compile(r"^\| *(\d+) *\|([^|]*)\|", re.MULTILINE)
SOURCES = {".py", ".pyx", ".pxd"}
FACE = "__init__"  # what `import ipv4` gives: everything that stands below

# A string stays, it may be what import_module is given; docstrings and comments speak of imports.
TEXT = re.compile(
    r"""(?P<gone>\"{3}.*?\"{3}|'{3}.*?'{3}|\#[^\n]*)"""
    r"""|"(?:\\.|[^"\\\n])*"|'(?:\\.|[^'\\\n])*'""",
    re.DOTALL,
)
PART = re.compile(r";|(?<=:)[ \t]+(?=(?:from|c?import)\b)")
BRACKETS = re.compile(r"\([^()]*\)")
CHECKED = re.compile(r"^( *)if TYPE_CHECKING:[^\n]*\n(?:(?:\1 +[^\n]*)?\n)*", re.MULTILINE)
JOINED, PARTED = "\f", "\n\v"  # blanks that count the lines taken out and put in
FROM = re.compile(r"^\s*from\s+(\.*)\s*([\w.]*)\s+c?import\b([^\n]*)", re.MULTILINE)
IMPORT = re.compile(r"^\s*c?import\b([^(\n]+)$", re.MULTILINE)
DYNAMIC = re.compile(r"""\b(?:import_module|__import__)\s*\(\s*['"](\.*)([\w.]+)['"]""")


class Import(NamedTuple):
    """Where a file imports what: a module of the package as a path without suffix."""

    file: Path
    line: int
    module: str


def floors(contributing: str) -> dict[str, int]:
    """From a room, a path without suffix ("engine/batch", "cli"), to the number of its floor."""
    return {
        room.removesuffix("/").rpartition(".")[0] or room.removesuffix("/"): int(number)
        for number, rooms in ROW.findall(contributing)
        for room in re.findall(r"`([^`]+)`", rooms)
    }


def module_of(path: Path, package: Path) -> str:
    """The file's path in the package, without its suffix; a folder's name for its __init__."""
    name = path.relative_to(package).with_suffix("").as_posix()
    return name.removesuffix("/__init__")


def statements(source: str) -> str:
    """The source with each import on one line, and the same number of lines before it."""
    source = TEXT.sub(lambda text: "\n" * text[0].count("\n") if text["gone"] else text[0], source)
    source = source.replace("\\\n", JOINED)
    source = BRACKETS.sub(lambda found: found[0].replace("\n", JOINED), source)
    source = CHECKED.sub(lambda block: "\n" * block[0].count("\n"), source)
    return PART.sub(PARTED, source)


def dotted(source: str, parent: list[str]) -> Iterator[tuple[int, list[str]]]:
    """Yield position and parts of everything that may be a module of the package: a/b/c.

    Of `from a import b` both a/b and, where b is no module, a; so a name is tried longest first.
    """
    for found in FROM.finditer(source):
        dots, path, names = found.groups()
        if dots:
            start = parent[: len(parent) - len(dots) + 1]
        elif path.split(".")[0] == "ipv4":
            start, path = [], path.partition(".")[2]
        else:
            continue
        base = start + [part for part in path.split(".") if part]
        for name in re.findall(r"(\w+|\*)(?:\s+as\s+\w+)?", names):
            yield found.start(2), [*base, name]
    for found in IMPORT.finditer(source):
        for name in found[1].split(","):
            first, _, path = name.split()[0].partition(".") if name.split() else ("", "", "")
            if first == "ipv4":
                yield found.start(1), path.split(".") if path else []
    for found in DYNAMIC.finditer(source):
        dots, path = found.groups()
        if dots:
            yield found.start(2), parent[: len(parent) - len(dots) + 1] + path.split(".")
        elif path.split(".")[0] == "ipv4":
            yield found.start(2), path.split(".")[1:]


def imports(path: Path, package: Path, modules: set[str]) -> Iterator[Import]:
    """Yield each import of a module of this package."""
    source = statements(path.read_text())
    folder = path.parent.relative_to(package)
    for position, parts in dotted(source, list(folder.parts)):
        while parts and "/".join(parts) not in modules:
            parts = parts[:-1]
        before = source[:position]
        line = 1 + before.count("\n") + before.count(JOINED) - before.count(PARTED)
        yield Import(path, line, "/".join(parts) or FACE)


def circle(graph: dict[str, set[str]]) -> list[str]:
    """Return modules each of which imports the next, and the last the first; [] if none do."""
    done: set[str] = set()

    def walk(module: str, way: list[str]) -> list[str]:
        if module in way:
            return way[way.index(module) :]
        if module in done:
            return []
        for other in sorted(graph.get(module, ())):
            if found := walk(other, [*way, module]):
                return found
        done.add(module)
        return []

    for module in sorted(graph):
        if found := walk(module, []):
            return found
    return []


def violations(root: Path) -> Iterator[str]:
    """Yield a sentence for each import that goes up or sideways in a circle."""
    package = root / "ipv4"
    floor = floors((root / "CONTRIBUTING.md").read_text())
    paths = sorted(path for path in package.rglob("*.p*") if path.suffix in SOURCES)
    modules = {module_of(path, package) for path in paths}
    graph: dict[str, set[str]] = {}

    def room(module: str) -> str:
        while module not in floor and "/" in module:
            module = module.rpartition("/")[0]
        return module

    found = {path: list(imports(path, package, modules - {FACE})) for path in paths}
    for path in paths:
        module = module_of(path, package)
        if module == FACE:
            tops = [floor.get(room(each.module), 0) for each in found[path]]
            floor[FACE] = max(tops, default=0)
    rooms = floor.keys() | {"/".join(each.split("/")[:-1]) for each in floor}
    for path in paths:
        module = module_of(path, package)
        where = path.relative_to(root)
        if module == "__main__" or (path.stem == "__init__" and module in rooms - floor.keys()):
            continue
        own = room(module)
        if own not in floor:
            yield f"{where}: {module} stands on no floor of CONTRIBUTING.md"
            continue
        for each in found[path]:
            other = room(each.module)
            if other not in floor:
                continue  # said where that file is looked at; a folder stands nowhere
            if each.module != module:
                graph.setdefault(module, set()).add(each.module)
            if other != own and floor[other] > floor[own]:
                yield (
                    f"{where}:{each.line}: {own} (floor {floor[own]}) imports {other}"
                    f" ({floor[other]})"
                )
    for each in sorted(floor.keys() - {room(module) for module in modules}):
        yield f"CONTRIBUTING.md: there is no {each}"
    if around := circle(graph):
        yield f"a circle: {' imports '.join([*around, around[0]])}"


if __name__ == "__main__":
    there = Path(sys.argv[1]) if len(sys.argv) > 1 else Path(__file__).resolve().parent.parent
    found = list(violations(there))
    print("\n".join(found) or "every import goes down")
    sys.exit(bool(found))
