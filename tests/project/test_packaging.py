"""What is installed and shipped: every file of the package, and the version from one place."""

import importlib.machinery
import importlib.metadata
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import ipv4

ROOT = Path(__file__).resolve().parents[2]
INSTALLED = Path(ipv4.__file__).parent
SOURCE = ROOT / "ipv4"


def test_every_source_file_is_installed():
    if INSTALLED == SOURCE:
        pytest.skip("an editable install")
    sources = {
        str(path.relative_to(SOURCE))
        for path in SOURCE.rglob("*")
        if path.suffix in (".py", ".pyi", ".typed") or path.name == "py.typed"
    }
    assert {name for name in sources if not (INSTALLED / name).exists()} == set()


def test_compiled_modules_have_a_stub_and_no_others():
    modules = list(SOURCE.rglob("*.pyx"))
    assert {path.with_suffix(".pyi") for path in modules} == set(SOURCE.rglob("*.pyi"))
    for path in modules:
        name = ".".join(path.relative_to(ROOT).with_suffix("").parts)
        module = importlib.import_module(name)
        assert module.__file__.endswith(tuple(importlib.machinery.EXTENSION_SUFFIXES)), name


def test_the_version_stands_in_one_place():
    said = re.search(r"version: '([^']+)'", (ROOT / "meson.build").read_text()).group(1)
    assert importlib.metadata.version("ipv4") == said == ipv4.__version__
    assert 'dynamic = ["version"]' in (ROOT / "pyproject.toml").read_text()
    elsewhere = subprocess.run(
        [sys.executable, "-P", "-m", "ipv4", "--version"], capture_output=True, text=True
    )
    assert elsewhere.stdout == f"ipv4 {said}\n"


def test_the_repository_holds_no_generated_file():
    if not (ROOT / ".git").exists() or not shutil.which("git"):
        pytest.skip("no repository")
    listed = subprocess.run(
        ["git", "-c", f"safe.directory={ROOT}", "ls-files", "ipv4"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    ).stdout.split()
    assert "ipv4/py.typed" in listed
    assert "ipv4/engine/packet.pyi" in listed
    generated = [name for name in listed if name.endswith((".c", ".so", ".html"))]
    assert generated == []


def test_each_promise_names_tests_that_exist():
    """Of SECURITY.md's table: files, programs, and the worlds of the stress driver."""
    rows = [
        line
        for line in (ROOT / "SECURITY.md").read_text().splitlines()
        if re.match(r"\| (?!promise)", line)
    ]
    assert len(rows) > 10
    gone = []
    for row in rows:
        tested = row.rstrip("| ").rpartition(" | ")[2]
        places = re.findall(r"`((?:tests|fuzz|\.ci)/[\w/.]+)`", tested)
        gone += [place for place in places if not (ROOT / place).exists()]
        gone += [row] if not places else []
        drivers = [(ROOT / place).read_text() for place in places if "/stress/" in place]
        for world in re.findall(r"the world `(\w+)`", tested):
            if not any(f"def {world}(" in driver for driver in drivers):
                gone.append(world)
    assert gone == []


WITHOUT_SOCKETS = """
import sys
sys.modules["_socket"] = None
sys.platform = "emscripten"
import ipv4
"""


@pytest.mark.parity("platform: no sockets")
def test_a_platform_without_sockets_is_told_in_one_sentence(tmp_path):
    done = subprocess.run(
        [sys.executable, "-c", WITHOUT_SOCKETS], capture_output=True, text=True, cwd=tmp_path
    )
    assert done.returncode == 1
    last = done.stderr.splitlines()[-1]
    assert last == "ImportError: ipv4 does not support emscripten: it has no sockets"
    assert done.stderr.count("Traceback") == 1
