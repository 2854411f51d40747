"""PARITY.md: made from the tests' marks, and held against how the tests went."""

from types import SimpleNamespace

import pytest
from support.parity import Parity

TABLE = {"ipv4": {"Version": "VERSION"}, "both": {}, "bpf": {"RetA": "RetA", "VM": "VM"},
         "platforms": {"no sockets": "ImportError"}}  # fmt: skip
MARKS = {
    "tests/test_a.py::test_one[1]": ["Version", "bpf.VM"],
    "tests/test_a.py::test_one[2]": ["Version", "bpf.VM"],
    "tests/b/test_b.py::test_two": ["bpf.*", "platform: no sockets", "what is not in Go"],
}


def item(nodeid):
    marks = [pytest.mark.parity(*MARKS[nodeid]).mark]
    return SimpleNamespace(nodeid=nodeid, iter_markers=lambda name: marks)


@pytest.fixture
def parity(tmp_path):
    made = Parity(TABLE, tmp_path / "PARITY.md", writes=False)
    made.note(map(item, MARKS))
    made.file.write_text(made.text())
    return made


def run(parity, nodeid, outcome):
    report = SimpleNamespace(nodeid=nodeid, when="call", outcome=outcome)
    parity.pytest_runtest_logreport(report)


def test_each_row_names_its_tests(parity):
    rows = [line for line in parity.text().splitlines() if line.startswith("| ")]
    assert "| `Version` | `VERSION` | [test_one](tests/test_a.py) |" in rows
    assert "| `RetA` | `RetA` | [test_two](tests/b/test_b.py) |" in rows
    assert "| what is not in Go | [test_two](tests/b/test_b.py) |" in rows


def test_a_row_without_a_passing_test_is_told(parity):
    assert "Version: not run" in list(parity.problems())
    run(parity, "tests/b/test_b.py::test_two", "skipped")
    assert "platform: no sockets: skipped" in list(parity.problems())
    assert "bpf.RetA: skipped" in list(parity.problems())
    run(parity, "tests/test_a.py::test_one[1]", "passed")
    run(parity, "tests/b/test_b.py::test_two", "passed")
    assert list(parity.problems()) == []
    run(parity, "tests/test_a.py::test_one[2]", "failed")
    assert list(parity.problems()) == ["Version: failed", "bpf.VM: failed"]


def test_a_file_that_is_not_what_the_marks_make_is_told(parity):
    parity.file.write_text("# Parity")
    assert [line for line in parity.problems() if line.startswith("PARITY.md is not")]
    parity.table = TABLE | {"both": {"JoinGroup": "join_group"}}
    assert "JoinGroup: no test" in list(parity.problems())
