"""`ipv4 demo` as root, as anybody, where namespaces are forbidden, in a pipe and on a terminal."""

import contextlib
import errno
import fcntl
import os
import pty
import re
import struct
import subprocess
import termios

import pytest
from support import CAP_NET_RAW, capture, run_with_fault, without_privilege
from support.cli_program import SCRIPT, run

SIOCSIFFLAGS = 0x8914

HELLO = re.compile(
    r"^  127\.0\.0\.1 -> 224\.0\.0\.5 on lo ttl=1 tos=0xc0 id=0x[0-9a-f]{4} (\d+) bytes:"
    r" router (\S+) has heard (.+)$",
    re.MULTILINE,
)
HELLOS = [
    ("44", "192.0.2.1", "nobody yet"),
    ("48", "192.0.2.2", "192.0.2.1"),
    ("48", "192.0.2.1", "192.0.2.2"),
]
RATE = re.compile(
    r"^([\d,]+) of ([\d,]+) arrived in ([\d.]+) s: ([\d,]+) datagrams a second", re.MULTILINE
)


def number(text):
    return int(text.replace(",", ""))


def assert_datagrams_arrived(output):
    arrived, sent, seconds, rate = RATE.search(output).groups()
    assert number(sent) >= 200_000
    assert arrived == sent
    assert number(rate) == pytest.approx(number(arrived) / float(seconds), rel=0.05)


@pytest.mark.privileged
def test_as_whoever_runs_the_tests():
    done = run("demo")
    assert done.stdout.startswith("In a network namespace of our own")
    assert HELLO.findall(done.stdout) == HELLOS
    assert_datagrams_arrived(done.stdout)


def test_without_a_terminal_it_prints_plain_lines():
    done = run("demo")
    assert "\r" not in done.stdout
    assert "\x1b" not in done.stdout
    marks = re.findall(r"^  ([\d,]+) of 300,000 datagrams$", done.stdout, re.MULTILINE)
    assert len(marks) == 4
    assert marks == sorted(marks, key=number)
    assert marks[-1] == "300,000"


@pytest.mark.privileged
@pytest.mark.parametrize(("columns", "width"), [(80, 32), (60, 21), (30, 0)])
def test_on_a_terminal_it_draws_a_bar(columns, width):
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("4H", 24, columns, 0, 0))
    with open(ours, "rb", buffering=0) as terminal:
        with os.fdopen(theirs, "wb", buffering=0) as end:
            environ = {name: value for name, value in os.environ.items() if name != "COLUMNS"}
            program = subprocess.Popen(
                [SCRIPT, "demo"], stdin=end, stdout=end, stderr=end, env=environ
            )
        shown = b""
        with contextlib.suppress(OSError):  # EIO: the other end is closed
            while part := terminal.read(65536):
                shown += part
        assert program.wait(60) == 0
    text = shown.decode().replace("\r\n", "\n")
    drawn = re.findall(r"\r([^\r\n]*)", text)
    assert len(drawn) >= 3
    assert max(map(len, drawn)) < columns
    if columns < 60:
        return
    bars = re.findall(r"\r  \[(#*)(\.*)\] ([\d,]+) datagrams, [\d,]+/s ", text)
    assert len(bars) >= 3
    assert {len(done) + len(left) for done, left, _ in bars} == {width}
    counts = [number(count) for _, _, count in bars]
    assert counts == sorted(counts)
    assert bars[-1] == ("#" * width, "", "300,000")
    assert HELLO.findall(text) == HELLOS
    assert_datagrams_arrived(text)


@pytest.mark.root
def test_as_an_ordinary_user():
    nobody = ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups"]
    readable = subprocess.run([*nobody, SCRIPT, "--version"], capture_output=True, check=False)
    if readable.returncode:
        pytest.skip("needs an interpreter that an ordinary user may read")
    done = subprocess.run(
        [*nobody, SCRIPT, "demo"], capture_output=True, text=True, timeout=30, check=False
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith("In a network namespace of our own")
    assert HELLO.findall(done.stdout) == HELLOS
    assert_datagrams_arrived(done.stdout)


@pytest.mark.privileged
def test_without_any_capability_the_namespace_gives_them():
    done = without_privilege(run, "demo")
    assert done.stdout.startswith("In a network namespace of our own")
    assert HELLO.findall(done.stdout) == HELLOS


@pytest.mark.privileged
def test_nothing_of_it_is_seen_on_the_loopback_outside(hosts):
    host = hosts("outside")
    with capture(host, "lo") as seen:
        run("demo", host=host)
    assert seen.packets == []


@pytest.mark.needs_faults
class TestWhereNamespacesAreForbidden:
    def test_without_the_capability_it_says_so_and_does_the_rest(self):
        def forbidden():
            return run_with_fault({"unshare": errno.EPERM}, run, "demo")

        done = without_privilege(forbidden)
        assert done.stdout.startswith(
            "The system allows no network namespace of our own (Operation not permitted)"
        )
        assert "the capability CAP_NET_RAW, which is missing: no OSPF Hellos" in done.stdout
        assert not HELLO.search(done.stdout)
        assert_datagrams_arrived(done.stdout)

    @pytest.mark.privileged
    def test_with_the_capability_it_stays_on_the_loopback_it_finds(self):
        def forbidden():
            return run_with_fault({"unshare": errno.EPERM}, run, "demo")

        done = without_privilege(forbidden, keep=(CAP_NET_RAW,))
        assert "allows no network namespace" in done.stdout
        assert HELLO.findall(done.stdout) == HELLOS
        assert_datagrams_arrived(done.stdout)

    @pytest.mark.privileged
    def test_namespace_whose_loopback_cannot_be_raised_is_not_entered(self):
        # Ubuntu's way: the namespace is granted, what it is for is refused.
        done = run_with_fault({("ioctl", SIOCSIFFLAGS): errno.EPERM}, run, "demo")
        assert "allows no network namespace of our own (Operation not permitted)" in done.stdout
        assert HELLO.findall(done.stdout) == HELLOS
        assert_datagrams_arrived(done.stdout)
