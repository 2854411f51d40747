"""Every program on every page runs, and prints what the page says it prints."""

import doctest
import importlib
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("**/*.rst"))]


def blocks(page):
    """Yield line number, language and text of each code block of a page."""
    lines = page.read_text().splitlines()
    at = 0
    while at < len(lines):
        line = lines[at]
        at += 1
        start = at
        if found := re.match(r"```(\w+)", line):
            while lines[at] != "```":
                at += 1
            yield start, found[1], "\n".join(lines[start:at])
        elif found := re.match(r"\.\. code-block:: (\w+)", line):
            while at < len(lines) and (not lines[at] or lines[at].startswith("   ")):
                at += 1
            yield start, found[1], "\n".join(each[3:] for each in lines[start:at]).strip()


def programs():
    """Each program, with the output that the block after it shows, if it shows one."""
    for page in PAGES:
        found = list(blocks(page))
        for at, (line, language, text) in enumerate(found):
            if language != "python":
                continue
            shown = (
                found[at + 1][2] if found[at + 1 : at + 2] and found[at + 1][1] == "text" else None
            )
            yield pytest.param(text, shown, id=f"{page.relative_to(ROOT)}:{line}")


@pytest.mark.privileged
@pytest.mark.parametrize(("program", "shown"), list(programs()))
def test_programs_of_the_pages(program, shown, tmp_path):
    done = subprocess.run(
        [sys.executable, "-P", "-W", "error", "-c", program],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    if shown is not None:
        assert done.stdout.strip() == shown.strip()


def test_the_first_program_is_short():
    _, language, text = next(blocks(ROOT / "README.md"))
    assert language == "python"
    assert len([line for line in text.splitlines() if line]) <= 10


def test_the_quick_start_is_two_commands():
    page = (ROOT / "README.md").read_text()
    section = page.partition("## Quick start")[2].partition("```sh\n")[2].partition("```")[0]
    assert section.splitlines() == ["pip install . && ipv4 demo", "pip install '.[test]' && pytest"]


def test_imports_of_the_package_go_down():
    done = subprocess.run([sys.executable, ROOT / "tools" / "floors.py"], capture_output=True)
    assert done.returncode == 0, done.stdout.decode()


@pytest.mark.parametrize("module", ["ipv4", "ipv4.bpf"])
def test_examples_in_docstrings(module):
    found = doctest.testmod(importlib.import_module(module))
    assert found.attempted > 0
    assert found.failed == 0
