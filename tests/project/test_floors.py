"""tools/floors.py sees every way in which a room may import one that stands above it."""

import importlib.util
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
TABLE = """
| floor | room | what it does |
|---|---|---|
| 3 | `cli/` | the command |
| 2 | `conn.py` | conns |
| 1 | `engine/batch.pyx`, `engine/retry.pyx` | engines |
| 0 | `wire/control.pyx` | codecs |
"""
HOUSE = {
    "__init__.py": "from .conn import Conn",
    "__main__.py": "from .cli import main",
    "cli/__init__.py": "import ipv4",
    "cli/one.py": "from ipv4 import Conn",
    "conn.py": "from .engine.batch import Batch\nfrom ipv4.engine import retry",
    "engine/__init__.py": "",
    "engine/batch.pyx": "from ipv4.wire.control cimport Control",
    "engine/batch.pxd": "",
    "engine/retry.pyx": "",
    "wire/__init__.py": "",
    "wire/control.pyx": '"""Looks like one:\n\nfrom ipv4 import conn\n"""\n# import ipv4.conn',
}


@pytest.fixture(scope="module")
def floors():
    spec = importlib.util.spec_from_file_location("floors", ROOT / "tools" / "floors.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def told(floors, tmp_path):
    """What is said of the house with some of its files changed."""

    def tell(changes):
        (tmp_path / "CONTRIBUTING.md").write_text(TABLE)
        for name, source in (HOUSE | changes).items():
            path = tmp_path / "ipv4" / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(source + "\n")
        return list(floors.violations(tmp_path))

    return tell


def test_this_package_and_a_sound_one_are_passed(floors, told):
    assert list(floors.violations(ROOT)) == []
    assert told({}) == []


@pytest.mark.parametrize(
    "source",
    [
        "import ipv4.conn",
        "import os, ipv4.conn as above",
        "import os; import ipv4.conn",
        "from ipv4.conn import Conn",
        "from ipv4 import (\n    conn,\n)",
        "from ipv4 import (  # a comment (of two lines)\n    wire,\n    conn as above,\n)",
        "from ipv4 import wire, \\\n    conn",
        "from .. import conn",
        "from ..conn import Conn",
        "from ..conn cimport Conn",
        "from ..conn import *",
        "from ipv4 cimport conn",
        "cimport ipv4.conn",
        "def later():\n    from ipv4.conn import Conn",
        "if True: from ipv4.conn import Conn",
        "from importlib import import_module\nabove = import_module('ipv4.conn')",
        'import importlib\nabove = importlib.import_module("..conn", __package__)',
        "above = __import__('ipv4.conn')",
        "from ipv4 import Conn",
        "import ipv4",
        "from ..cli.one import main",
    ],
)
def test_an_import_that_goes_up_is_seen(told, source):
    (sentence,) = [each for each in told({"engine/retry.pyx": source}) if "circle" not in each]
    assert sentence.startswith("ipv4/engine/retry.pyx:")
    assert "engine/retry (floor 1) imports " in sentence


def test_what_type_checkers_alone_import_is_no_import(told):
    above = "if TYPE_CHECKING:\n    from ..conn import Conn\n\n    class C(Conn): ..."
    assert told({"engine/retry.pyx": f"{above}\nelse:\n    C = object"}) == []
    assert len(told({"engine/retry.pyx": f"{above}\nfrom ..conn import Conn"})) == 2


def test_the_line_is_named(told):
    source = '"""Two\nlines."""\nimport os; import sys\nfrom os import (\n  path)\nimport ipv4.cli'
    sentence, _ = told({"conn.py": source})
    assert sentence == "ipv4/conn.py:6: conn (floor 2) imports cli (3)"


@pytest.mark.parametrize(
    ("changes", "around"),
    [
        (
            {
                "engine/batch.pyx": "from . import retry",
                "engine/retry.pxd": "from .batch cimport *",
            },
            "engine/batch imports engine/retry imports engine/batch",
        ),
        (
            {"cli/one.py": "from .two import a", "cli/two.py": "def f():\n    from . import one"},
            "cli/one imports cli/two imports cli/one",
        ),
        ({"conn.py": "from ipv4 import Conn"}, "__init__ imports conn imports __init__"),
    ],
)
def test_a_circle_on_one_floor_is_seen(told, changes, around):
    assert told(changes) == [f"a circle: {around}"]


def test_the_table_and_the_files_agree(told):
    assert told({"engine/new.pyx": ""}) == [
        "ipv4/engine/new.pyx: engine/new stands on no floor of CONTRIBUTING.md"
    ]
    assert told({"new.py": ""})[-1] == "ipv4/new.py: new stands on no floor of CONTRIBUTING.md"


def test_a_room_that_is_gone_is_told(floors, tmp_path):
    (tmp_path / "ipv4").mkdir()
    (tmp_path / "CONTRIBUTING.md").write_text("| 0 | `wire/control.pyx` | codecs |\n")
    assert list(floors.violations(tmp_path)) == ["CONTRIBUTING.md: there is no wire/control"]
