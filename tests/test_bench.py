"""The benchmark runs, says what it measured, and fails when something moved wrong."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from ipv4 import PacketConn

BENCH = Path(__file__).resolve().parent.parent / "bench"
pytestmark = [pytest.mark.needs("cc", "unshare", "ip"), pytest.mark.privileged]


def sends_singly():
    with PacketConn.udp() as conn:
        return conn._sends_singly()


def run(folder, *arguments):
    command = [sys.executable, "-P", folder / "run.py", "--quick", "--rounds", "1", *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=120)


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
    assert batches == (not sends_singly())
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
    folder = tmp_path / "bench"
    shutil.copytree(BENCH, folder, ignore=shutil.ignore_patterns("__pycache__"))
    source = (folder / "cases.py").read_text()
    assert good in source
    (folder / "cases.py").write_text(source.replace(good, bad, 1))
    done = run(folder, "--only", "packets", "--case", "pair")
    assert done.returncode == 1
    assert complaint in done.stderr
    assert "failed: ours ended in pair" in done.stderr
