"""The fuzzers' kept inputs, run once each without a fuzzer."""

import sys
from pathlib import Path

import pytest

FUZZ = Path(__file__).resolve().parents[2] / "fuzz"
sys.path.append(str(FUZZ))

from targets import TARGETS  # noqa: E402

INPUTS = [
    pytest.param(target, path, id=f"{target}-{path.name}")
    for target in TARGETS
    for path in sorted((FUZZ / "corpus" / target).iterdir())
]


@pytest.mark.parametrize(("target", "path"), INPUTS)
@pytest.mark.parity("hostile headers and control data")
def test_replay(target, path):
    TARGETS[target](path.read_bytes())


@pytest.mark.parametrize("target", TARGETS)
def test_empty_and_odd(target):
    for data in (b"", b"\0", b"\xff" * 19, bytes(64), b"\xff" * 64):
        TARGETS[target](data)
