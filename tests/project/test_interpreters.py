"""One interpreter of a process may load the library; any other is refused, and nothing breaks.

The extension modules keep C globals, so they do not declare interpreters with a GIL of their own
(PEP 684). They do declare running without one (PEP 703).
"""

import subprocess
import sys
import sysconfig

import pytest

# Python's module for interpreters: public from 3.14 on, and each older one has another private one.
CREATE = """
import os, sys
try:
    import _interpreters as interpreters
except ImportError:
    import _xxsubinterpreters as interpreters

def create(own_gil):
    if sys.version_info >= (3, 13):
        return interpreters.create("isolated" if own_gil else "legacy")
    return interpreters.create(isolated=own_gil)

def run(interpreter, code):
    run_code = getattr(interpreters, "exec", None) or interpreters.run_string
    failed = run_code(interpreter, code)
    assert not failed, failed
"""

# What it prints goes past sys.stdout, whose buffer belongs to one interpreter.
EXCHANGE = """
import os
def say(text):
    os.write(1, (text + "\\n").encode())
try:
    import ipv4
    with ipv4.PacketConn.udp(("127.0.0.1", 0)) as conn:
        conn.set_control_message(ipv4.ControlFlags.TTL, True)
        conn.write_to(b"datagram", conn.local_addr)
        n, cm, src = conn.read_from(bytearray(10))
        say(f"works: {n} {src == conn.local_addr}")
except ImportError as error:
    say(f"refused: {error}")
"""

WORKS = "works: 8 True"
REFUSED = (
    "refused: ipv4 works in one interpreter of a process, the first that imports it, and in none"
    " with a lock of its own: its compiled modules keep their state in variables that all"
    " interpreters would share (the manual's page on thread safety says more). Use threads of one"
    " interpreter, or processes."
)

OWN_GIL = [False, True] if sys.version_info >= (3, 12) else [False]


def said(code, cwd):
    """Run `code` in a new process; return the lines that it prints."""
    done = subprocess.run(
        [sys.executable, "-c", CREATE + f"EXCHANGE = {EXCHANGE!r}\n" + code],
        cwd=cwd,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout.splitlines()


@pytest.mark.parametrize("own_gil", OWN_GIL)
@pytest.mark.parity("other interpreters in the process")
def test_other_interpreters_are_refused_and_the_first_goes_on(tmp_path, own_gil):
    code = f"""
exec(EXCHANGE)
for _ in range(2):
    other = create({own_gil})
    run(other, EXCHANGE)
    interpreters.destroy(other)
exec(EXCHANGE)
"""
    assert said(code, tmp_path) == [WORKS, REFUSED, REFUSED, WORKS]


def test_interpreter_that_shares_the_gil_may_be_the_first(tmp_path):
    code = """
first = create(False)
run(first, EXCHANGE)
run(first, EXCHANGE)
exec(EXCHANGE)
interpreters.destroy(first)
exec(EXCHANGE)
"""
    assert said(code, tmp_path) == [WORKS, WORKS, REFUSED, REFUSED]


if True in OWN_GIL:

    def test_refusing_an_interpreter_with_its_own_gil_leaves_the_place_free(tmp_path):
        code = """
other = create(True)
run(other, EXCHANGE)
interpreters.destroy(other)
exec(EXCHANGE)
"""
        assert said(code, tmp_path) == [REFUSED, WORKS]


if sysconfig.get_config_var("Py_GIL_DISABLED"):

    def test_the_gil_stays_off(tmp_path):
        """All modules of the package are loaded, and not one turns it on."""
        code = """
import importlib, pkgutil, ipv4
assert not sys._is_gil_enabled(), "run the suite with PYTHON_GIL=0"
for module in pkgutil.walk_packages(ipv4.__path__, "ipv4."):
    if module.name.rpartition(".")[2] != "__main__":
        importlib.import_module(module.name)
        assert not sys._is_gil_enabled(), module.name
os.write(1, b"off")
"""
        assert said(code, tmp_path) == ["off"]
