"""The benchmark runs, says what it measured, and fails when something moved wrong."""

import json
import re
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest

from ipv4 import PacketConn

BENCH = Path(__file__).resolve().parents[2] / "bench"
pytestmark = [pytest.mark.needs("cc"), pytest.mark.privileged]


def moves_one_a_call():
    with PacketConn.udp() as conn:
        return conn._moves_one_a_call()


def run(folder, *arguments, **options):
    command = [sys.executable, "-P", folder / "run.py", "--quick", "--rounds", "1", *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=120, **options)


def changed(tmp_path, changes):
    """A copy of the benchmark with other words in its files."""
    folder = tmp_path / "bench"
    shutil.copytree(BENCH, folder, ignore=shutil.ignore_patterns("__pycache__"))
    for name, (good, bad) in changes.items():
        source = (folder / name).read_text()
        assert good in source
        (folder / name).write_text(source.replace(good, bad, 1))
    return folder


@pytest.mark.unsanitized  # with an environment of its own, without their runtime
def test_no_program_but_the_compiler_is_needed(tmp_path):
    for name in ("cc", "as", "ld"):
        (tmp_path / name).symlink_to(shutil.which(name))
    done = run(
        BENCH, "--only", "packets", "--only", "flood", "--case", "pair",
        env={"PATH": str(tmp_path), "HOME": str(tmp_path)},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert re.search(r"^pair +C  ", done.stdout, re.MULTILINE)
    assert re.search(r"^ours on asyncio +C  ", done.stdout, re.MULTILINE)
    assert "missing: go: no go tool" in done.stdout


def test_floor_is_a_contender(tmp_path):
    done = run(BENCH, "--only", "packets", "--case", "pair", "--case", "pair, 1400 bytes")
    assert done.returncode == 0, done.stderr
    if "missing: the floor" not in done.stdout:  # without Python.h
        assert re.search(r"^pair +the floor  ", done.stdout, re.MULTILINE)
        assert re.search(r"^pair, 1400 bytes +the floor  ", done.stdout, re.MULTILINE)


def test_what_takes_too_long_is_named_and_the_rest_is_shown(tmp_path):
    folder = changed(
        tmp_path,
        {
            "count.py": ("PATIENCE = 60", "PATIENCE = 0.001"),
            "cases.py": (
                "    def pair(self, count):\n        conn = self.plain()",
                "    def pair(self, count):\n        sys.stdin.read()",
            ),
            "host.py": ("PATIENCE = 60", "PATIENCE = 3"),
        },
    )
    done = run(
        folder, "--only", "packets", "--only", "instructions", "--case", "pair",
        "--case", "receive",
    )  # fmt: skip
    assert done.returncode == 1
    assert "failed: ours: a packet was lost in pair: it waits for ever" in done.stderr
    assert re.search(r"^receive +C  ", done.stdout, re.MULTILINE)
    assert "missing: instructions of pair, C: not stepped within 0.001 s" in done.stdout


def test_when_no_time_is_left_nothing_is_begun():
    started = time.monotonic()
    done = run(BENCH, "--minutes", "0")
    assert time.monotonic() - started < 60
    assert done.returncode == 0, done.stderr
    for part in ("packets", "instructions", "system", "flood", "endpoints"):
        assert re.search(rf"^missing: .*{part}.*: no time was left", done.stdout, re.MULTILINE)


def test_the_kept_picture_is_written_over_when_that_is_asked_for(tmp_path):
    folder = changed(tmp_path, {})
    kept = (folder / "batch.svg").read_text()
    arguments = ("--only", "packets", "--case", "batch of 8, both ways", "--svg")
    assert run(folder, *arguments, folder / "batch.svg").returncode == 0
    assert (folder / "batch.svg").read_text() == kept
    drawn = (folder / "batch.new.svg").read_text()
    assert drawn.startswith("<svg")
    assert run(folder, *arguments, folder / "batch.svg", "--replace").returncode == 0
    assert (folder / "batch.svg").read_text() != kept


def test_one_command_gives_table_json_and_picture(tmp_path):
    done = run(
        BENCH, "--only", "packets", "--case", "pair", "--case", "batch of 8, both ways",
        "--json", tmp_path / "figures.json", "--svg", tmp_path / "picture.svg",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    figures = json.loads((tmp_path / "figures.json").read_text())
    (pair,) = (each for each in figures["rows"] if (each["case"], each["against"]) == ("pair", "C"))
    assert 0.5 < pair["low"] <= pair["value"] <= pair["high"] < 50
    assert pair["met"] == (pair["value"] <= pair["goal"])
    assert ("go" in figures["missing"]) == ("Go x/net" not in done.stdout)
    batches = "our batches" not in figures["missing"]
    assert batches == (not moves_one_a_call())
    assert ("ipv4, MessageBatch" in (tmp_path / "picture.svg").read_text()) == batches


@pytest.mark.parametrize(
    ("good", "bad", "complaint"),
    [
        ("write(PAYLOAD, here)", "write(PAYLOADS[1], here)", "a wrong byte arrived"),
        ("write(PAYLOAD, here)", "write(PAYLOAD[1:], here)", "a packet of 63 bytes arrived"),
        ("write(PAYLOAD, here)", "write(PAYLOAD, here) and write(PAYLOAD, here)", "arrived"),
    ],
)
def test_what_moved_wrong_fails_the_run(tmp_path, good, bad, complaint):
    done = run(changed(tmp_path, {"cases.py": (good, bad)}), "--only", "packets", "--case", "pair")
    assert done.returncode == 1
    assert complaint in done.stderr
    assert "failed: ours ended in pair" in done.stderr
