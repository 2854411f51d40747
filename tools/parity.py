#!/usr/bin/env python3
"""Write PARITY.md: each symbol of the reference, its Python name, the tests that show it.

    pytest --junitxml=results.xml
    tools/parity.py results.xml            # writes PARITY.md
    tools/parity.py --check results.xml    # exit status 1 when a row has no passing test

The symbols are the table in parity.toml; which test shows which is read from the marks in the
tests' source, and how it went from the results of pytest, of one run or of several.
"""

import argparse
import ast
import sys
import tomllib
import xml.etree.ElementTree as ElementTree
from collections import Counter, defaultdict
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
SECTIONS = {
    "ipv4": ("golang.org/x/net/ipv4, in Python's ipv4", ""),
    "both": ("Methods of both PacketConn and RawConn", ""),
    "bpf": ("golang.org/x/net/bpf, in Python's ipv4.bpf", "bpf."),
    "platforms": ("Platforms", "platform: "),
}


def marked(folder):
    """Which tests bear a parity mark: a dict from symbol to a list of ``module.function``."""
    found = defaultdict(list)
    for path in sorted(folder.rglob("test_*.py")):
        tree = ast.parse(path.read_text(encoding="utf-8"), str(path))
        for function in tree.body:
            if isinstance(function, ast.FunctionDef):
                test = f"{path.stem}.{function.name}"
                calls = [node for each in function.decorator_list for node in ast.walk(each)]
                for symbol in marks_among(calls):
                    found[symbol].append(test)
                found_in_rows(function, tree, test, found)
    return found


def marks_among(nodes):
    """Arguments of the calls of a ``parity`` mark."""
    for node in nodes:
        if isinstance(node, ast.Call) and ast.unparse(node.func).split(".")[-1] == "parity":
            for argument in node.args:
                yield argument.value.removeprefix("ipv4.")


def found_in_rows(function, tree, test, found):
    """Add the marks in a table of the module that the test is parametrised with."""
    names = {
        node.id
        for each in function.decorator_list
        for node in ast.walk(each)
        if isinstance(node, ast.Name)
    }
    for statement in tree.body:
        if isinstance(statement, ast.Assign) and ast.unparse(statement.targets[0]) in names:
            for symbol in marks_among(ast.walk(statement.value)):
                found[symbol].append(test)


def outcomes(files):
    """How each test went: a dict from ``module.function`` to a Counter of outcomes."""
    went = defaultdict(Counter)
    for file in files:
        for case in ElementTree.parse(file).iter("testcase"):
            name = case.get("name").partition("[")[0]
            test = f"{case.get('classname').rpartition('.')[2]}.{name}"
            kinds = {child.tag for child in case} & {"failure", "error", "skipped"}
            went[test]["failed" if kinds - {"skipped"} else "skipped" if kinds else "passed"] += 1
    return went


def result(tests, went):
    """One word on a row, from all cases of its tests."""
    total = sum((went[test] for test in tests if test in went), Counter())
    if total["failed"]:
        return "failed"
    if not tests:
        return "no test"
    return "passed" if total["passed"] else "skipped" if total["skipped"] else "not run"


def links(tests):
    pairs = (test.split(".") for test in tests)
    return ", ".join(f"[{function}](tests/{module}.py)" for module, function in pairs)


def render(table, shown, went):
    """PARITY.md as text, and the rows that did not pass."""
    lines = [
        "# Parity with the reference",
        "",
        "Each symbol that Go's golang.org/x/net/ipv4 and golang.org/x/net/bpf export, its Python",
        "name, and the tests that show it on a real kernel. Written by `tools/parity.py` from the",
        "tests' marks and results; not to be edited.",
    ]
    bad = []
    rest = dict(shown)
    for section, (title, prefix) in SECTIONS.items():
        lines += ["", f"## {title}", "", "| reference | Python | shown by | result |"]
        lines += ["|---|---|---|---|"]
        for symbol, python in table[section].items():
            key = prefix + symbol
            tests = list(dict.fromkeys(rest.pop(key, None) or shown.get(f"{prefix}*", [])))
            outcome = result(tests, went)
            if outcome != "passed":
                bad.append(f"{key}: {outcome}")
            lines.append(f"| `{symbol}` | `{python}` | {links(tests)} | {outcome} |")
    # Marks that are no symbol say a point of behaviour, or are misspelt: both are to be seen.
    lines += ["", "## Points of behaviour", "", "| point | shown by | result |", "|---|---|---|"]
    for point in sorted(rest.keys() - {"bpf.*"}):
        outcome = result(rest[point], went)
        if outcome != "passed":
            bad.append(f"{point}: {outcome}")
        lines.append(f"| {point} | {links(rest[point])} | {outcome} |")
    return "\n".join(lines) + "\n", bad


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("results", nargs="+", type=Path, help="what pytest --junitxml wrote")
    parser.add_argument("--check", action="store_true", help="compare, write nothing")
    arguments = parser.parse_args()
    table = tomllib.loads((ROOT / "tools" / "parity.toml").read_text(encoding="utf-8"))
    shown = marked(ROOT / "tests")
    for symbol, tests in table["shown"].items():
        shown[symbol] = tests + shown.get(symbol, [])
    went = outcomes(arguments.results)
    text, wrong = render(table, shown, went)
    file = ROOT / "PARITY.md"
    if not arguments.check:
        file.write_text(text, encoding="utf-8")
    elif not file.exists() or file.read_text(encoding="utf-8") != text:
        wrong.append(
            "PARITY.md is not what these results make: run tools/parity.py without --check"
        )
    for line in wrong:
        print(line, file=sys.stderr)
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
