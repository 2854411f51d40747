"""Functions of a test file run in interpreters of their own, where the kernel is made to fail.

By strace, which makes system calls fail; or with a library loaded before libc, which answers for
the kernel what no kernel can be made to say.
"""

import json
import os
import re
import struct
import subprocess
import sys
import textwrap
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

TESTS = Path(__file__).resolve().parents[1]
# Rules for strace, so that a failure comes in the middle of a batch.
ALONE, READ_ALONE = "inject=sendmmsg:error=ENOSYS", "inject=recvmmsg:error=ENOSYS"

CALL = """
import importlib.util, json, sys
_, tests, file, name, arguments = sys.argv
sys.path.insert(0, tests)
spec = importlib.util.spec_from_file_location("of_a_test", file)
module = sys.modules["of_a_test"] = importlib.util.module_from_spec(spec)
spec.loader.exec_module(module)
print(json.dumps(getattr(module, name)(*json.loads(arguments))))
"""


def straced(test: Callable[..., None]) -> Callable[..., None]:
    """Mark a test that calls `under_strace`."""
    return pytest.mark.needs("strace")(pytest.mark.unsanitized(test))


def moves_one_a_call() -> bool:
    """Whether this is the portable build, whose batches move one message a call."""
    from ipv4 import PacketConn

    with PacketConn.udp() as conn:
        return conn._moves_one_a_call()


def of_this_machine(rule: str) -> str:
    """A rule for strace; with 32 bits the C library calls, by the time given, either of two."""
    if struct.calcsize("P") == 8:
        return rule
    return re.sub(r"\b(recvmmsg|ppoll)\b", r"\1,\1_time64", rule)


def under_strace(
    tmp_path: Path, rules: list[str], function: Callable[..., Any], *args: Any
) -> tuple[Any, str]:
    """Call a test file's function while system calls fail: its result, and strace's log."""
    if moves_one_a_call():  # the portable build has no call for batches
        if ALONE in rules:
            pytest.skip("portable build: every batch is one message")
        rules = [rule.replace("mmsg", "msg") for rule in rules if rule != READ_ALONE]
    rules = [of_this_machine(rule) for rule in rules]
    log = tmp_path / "log"
    options = [word for rule in rules for word in ("-e", rule)]
    found = _call(function, args, ["strace", "-f", "-qq", "-o", str(log), *options])
    return found, log.read_text()


def preloaded(
    tmp_path: Path, source: str, environ: dict[str, str], function: Callable[..., Any], *args: Any
) -> Any:
    """The result of a test file's function where this C source stands before libc."""
    (tmp_path / "preloaded.c").write_text(textwrap.dedent(source))
    library = tmp_path / "preloaded.so"
    subprocess.run(
        ["cc", "-shared", "-fPIC", "-o", library, tmp_path / "preloaded.c", "-ldl"], check=True
    )
    return _call(function, args, [], {"LD_PRELOAD": str(library)} | environ)


def _call(
    function: Callable[..., Any],
    args: tuple[Any, ...],
    before: list[str],
    environ: dict[str, str] | None = None,
) -> Any:
    file = function.__code__.co_filename
    done = subprocess.run(
        [*before, sys.executable, "-P", "-c", CALL, TESTS, file, function.__name__,
         json.dumps(args)],
        env=os.environ | (environ or {}),
        capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip
    assert (done.returncode, done.stderr) == (0, ""), done.stderr
    return json.loads(done.stdout)
