"""Each symbol of the reference, its Python name, the tests that show it: PARITY.md, and its check.

    pytest --collect-only -q --parity=write  # writes PARITY.md from the tests' marks
    pytest --parity=check                    # fails also for a row that no test passed

The symbols are the table in tools/parity.toml. Which test shows which stand in the tests, as
``pytest.mark.parity("Header.Parse")``; a mark that is no symbol names a point of behaviour.
"""

import tomllib
from collections import defaultdict
from collections.abc import Iterable, Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
SECTIONS = {
    "ipv4": ("golang.org/x/net/ipv4, in Python's ipv4", ""),
    "both": ("Methods of both PacketConn and RawConn", ""),
    "bpf": ("golang.org/x/net/bpf, in Python's ipv4.bpf", "bpf."),
    "platforms": ("Platforms", "platform: "),
}
HEAD = """\
# Parity with the reference

Each symbol that Go's golang.org/x/net/ipv4 and golang.org/x/net/bpf export, its Python name, and
the tests that show it on a real kernel. Written from the tests' marks by
`pytest --collect-only -q --parity=write`; not to be edited. `pytest --parity=check` fails when a
row has no test that passes.
"""


class Parity:
    """What the tests of a session show, and how they went; a plugin of pytest."""

    def __init__(self, table: dict[str, dict[str, str]], file: Path, writes: bool) -> None:
        self.table = table
        self.file = file
        self.writes = writes
        self.shown: dict[str, dict[str, None]] = defaultdict(dict)  # symbol: tests, in their order
        self.went: dict[str, set[str]] = defaultdict(set)  # test: how its cases went
        self.bad: list[str] = []

    def note(self, items: Iterable[pytest.Item]) -> None:
        for item in items:
            for mark in item.iter_markers("parity"):
                for symbol in mark.args:
                    self.shown[symbol.removeprefix("ipv4.")][_test(item.nodeid)] = None

    def rows(self) -> Iterator[tuple[str, str, str, list[str]]]:
        """Section, symbol or point, Python name ("" of a point), and the tests."""
        rest = dict(self.shown)
        everywhere = rest.pop("bpf.*", {})
        for section, (_, prefix) in SECTIONS.items():
            for symbol, python in self.table[section].items():
                found = rest.pop(prefix + symbol, None) or (everywhere if prefix == "bpf." else {})
                yield section, symbol, python, list(found)
        for point in sorted(rest):
            yield "", point, "", list(rest[point])

    def text(self) -> str:
        lines = [HEAD]
        before = None
        for section, symbol, python, tests in self.rows():
            if section != before:
                title = SECTIONS[section][0] if section else "Points of behaviour"
                names = ["reference", "Python", "shown by"] if section else ["point", "shown by"]
                lines += [f"\n## {title}\n", _row(*names), _row(*("---" for _ in names))]
                before = section
            links = ", ".join(
                f"[{name}]({file})" for file, _, name in (test.partition("::") for test in tests)
            )
            cells = [f"`{symbol}`", f"`{python}`"] if section else [symbol]
            lines.append(_row(*cells, links))
        return "\n".join(lines).replace("\n\n\n", "\n\n") + "\n"

    def problems(self) -> Iterator[str]:
        for section, symbol, _, tests in self.rows():
            went = set().union(*(self.went[test] for test in tests))
            if "failed" in went or "passed" not in went:
                words = "failed" if "failed" in went else "skipped" if went else "not run"
                prefix = SECTIONS[section][1] if section else ""
                yield f"{prefix}{symbol}: {words if tests else 'no test'}"
        if not self.file.exists() or self.file.read_text() != self.text():
            yield f"{self.file.name} is not what the marks make: --collect-only --parity=write"

    def pytest_collection_finish(self, session: pytest.Session) -> None:
        self.note(session.items)
        if self.writes:
            self.file.write_text(self.text())

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        if report.when == "call" or report.outcome != "passed":
            self.went[_test(report.nodeid)].add(report.outcome)

    @pytest.hookimpl(tryfirst=True)
    def pytest_sessionfinish(self, session: pytest.Session) -> None:
        if not self.writes:
            self.bad = list(self.problems())
        if self.bad and session.exitstatus == pytest.ExitCode.OK:
            session.exitstatus = pytest.ExitCode.TESTS_FAILED

    def pytest_terminal_summary(self, terminalreporter: pytest.TerminalReporter) -> None:
        for line in self.bad:
            terminalreporter.write_line(f"parity: {line}", red=True)


def _row(*cells: str) -> str:
    return f"| {' | '.join(cells)} |"


def _test(nodeid: str) -> str:
    """A test's file and name, without the parameters of a case."""
    return nodeid.partition("[")[0]


def add_option(parser: pytest.Parser) -> None:
    parser.addoption(
        "--parity",
        choices=["check", "write"],
        help="check that each row of PARITY.md has a passing test, or write it from the marks",
    )


def configure(config: pytest.Config) -> None:
    if wanted := config.getoption("--parity"):
        table = tomllib.loads((ROOT / "tools" / "parity.toml").read_text())
        config.pluginmanager.register(Parity(table, ROOT / "PARITY.md", wanted == "write"))
