"""The cases under pytest-benchmark, for looking at one change: `pytest bench --benchmark-only`.

To compare with other languages run `bench/run.py`. The traffic stays on loopback.
"""

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parent))

from cases import CONTENDERS, run
from packets import CASES

pytest.importorskip("pytest_benchmark")
COUNT = 1280  # a whole number of batches of every size up to 128
NAMES = sorted(
    {
        (who.partition(",")[0], case)
        for cases, _, _ in CASES.values()
        for who, case in cases.items()
        if who.partition(",")[0] in CONTENDERS
    }
)


@pytest.fixture(scope="module")
def contenders():
    made = {}

    def get(name):
        if name not in made:
            try:
                made[name] = CONTENDERS[name]()
            except ImportError as error:
                pytest.skip(str(error))
        return made[name]

    yield get
    for contender in made.values():
        for attribute in ("conn", "plain_conn", "raw_conn", "sock"):
            if hasattr(getattr(contender, attribute, None), "close"):
                getattr(contender, attribute).close()


@pytest.mark.parametrize(("who", "case"), NAMES, ids=[f"{who}-{case}" for who, case in NAMES])
def test_case(benchmark, contenders, who, case):
    contender = contenders(who)
    if run(contender, case, COUNT) is None:
        pytest.skip(f"{who} cannot do {case} here")
    benchmark.extra_info["packets a round"] = COUNT
    benchmark.pedantic(run, (contender, case, COUNT), rounds=7, warmup_rounds=1)
