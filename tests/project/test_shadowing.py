"""What Python finds as `ipv4` in the repository's root, where the source folder has that name too.

The current directory comes first for ``python -c`` and ``python -m``; the source folder there has
no compiled modules. Either the installed package is found, or the error says what to type.
"""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import ipv4

ROOT = Path(__file__).resolve().parents[2]
INSTALLED = Path(ipv4.__file__).resolve().parent
# An editable install is imported from the source folder, wherever Python was started.
EDITABLE = INSTALLED == ROOT / "ipv4"

SHOW_FILE = "import ipv4; print(ipv4.__file__)"


def python(*args, cwd=ROOT):
    # PYTHONSAFEPATH would keep the current directory off sys.path.
    environment = {k: v for k, v in os.environ.items() if k not in ("PYTHONSAFEPATH", "PYTHONPATH")}
    return subprocess.run(
        [sys.executable, *args],
        cwd=cwd,
        env=environment,
        capture_output=True,
        text=True,
        timeout=120,
    )


def teaches(done):
    """Tell whether it ended with the error of an unbuilt source folder."""
    last = done.stderr.splitlines()[-1] if done.stderr else ""
    told = last.startswith(f"ImportError: this is ipv4's source folder, {ROOT / 'ipv4'}, ")
    return done.returncode == 1 and told and "`pip install .`" in last and "`pytest`" in last


@pytest.mark.parametrize("args", [["-c", SHOW_FILE], ["-m", "ipv4", "--version"]], ids=str)
def test_source_folder_in_the_current_directory(args):
    done = python(*args)
    if EDITABLE:
        assert done.returncode == 0, done.stderr
    else:
        assert teaches(done), done.stderr


@pytest.mark.parametrize("args", [["-c", SHOW_FILE], ["-m", "ipv4", "--version"]], ids=str)
def test_unbuilt_source_folder_without_any_installation(args):
    done = python("-S", *args)
    assert teaches(done), done.stderr


def test_safe_path_finds_the_installed_package():
    done = python("-P", "-c", SHOW_FILE)
    assert Path(done.stdout.strip()).parent == INSTALLED, done.stderr
    done = python("-P", "-m", "ipv4", "--version")
    assert done.stdout == f"ipv4 {ipv4.__version__}\n", done.stderr


def test_pytest_as_a_module_finds_the_installed_package():
    done = python("-m", "pytest", "--collect-only", "-p", "no:cacheprovider", __file__)
    assert done.returncode == 0, done.stdout + done.stderr
    assert f"ipv4: {ipv4.__version__} from {ipv4.__file__}\n" in done.stdout


def test_package_of_another_python_says_so(tmp_path):
    (tmp_path / "ipv4").mkdir()
    shutil.copy(ROOT / "ipv4" / "__init__.py", tmp_path / "ipv4")
    done = python("-S", "-c", "import ipv4", cwd=tmp_path)
    last = done.stderr.splitlines()[-1]
    assert done.returncode == 1
    assert last.startswith(f"ImportError: ipv4 in {tmp_path / 'ipv4'} has no compiled modules")
    assert sys.implementation.cache_tag in last
    assert f"`{sys.executable} -m pip install ipv4`" in last
