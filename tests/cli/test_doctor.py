"""`ipv4 doctor`: what it says is what this machine does."""

import contextlib
import errno
import importlib.metadata
import itertools
import json
import os
import platform
import pty
import re
import resource
import socket
import subprocess
import sys
from pathlib import Path

import pytest
from support import CAP_NET_RAW, run_with_fault, without_privilege
from support.cli_program import SCRIPT, run

import ipv4
from ipv4.cli import doctor

SYSCTLS = [
    "net.core.rmem_max",
    "net.core.wmem_max",
    "net.core.optmem_max",
    "net.ipv4.ping_group_range",
    "net.ipv4.igmp_max_memberships",
    "net.ipv4.igmp_max_msf",
]
CAPABILITIES = ["CAP_NET_RAW", "CAP_NET_ADMIN", "CAP_NET_BIND_SERVICE", "CAP_SYS_ADMIN"]


def examine(*, keep=None):
    """The doctor's report, of a process that has only the capabilities of `keep`."""
    done = run("doctor", "--json") if keep is None else without_privilege(
        run, "doctor", "--json", keep=keep
    )  # fmt: skip
    return json.loads(done.stdout)


def test_report_names_the_versions():
    report = examine()
    assert report["ipv4"] == importlib.metadata.version("ipv4")
    assert report["python"] == f"{platform.python_implementation()} {platform.python_version()}"
    assert report["kernel"] == f"{platform.system()} {platform.release()}"
    assert report["libc"]


def test_features_are_those_of_the_library():
    features = examine()["features"]
    errors = ipv4.features()
    assert list(features) == list(errors)
    for name, error in errors.items():
        assert features[name]["works"] is (error is None)
        # Not the whole text: it may name a port, which is another one each time.
        assert features[name]["error"] is None or features[name]["error"][:12] in str(error)
        assert (features[name]["error"] is None) is (error is None)
    assert features["receive TTL"] == {"works": True, "error": None}


def test_limits_are_those_of_the_kernel():
    limits = examine()["limits"]
    for name in SYSCTLS:
        file = Path("/proc/sys", *name.split("."))
        assert limits[name] == (" ".join(file.read_text().split()) if file.exists() else None)
    assert limits["RLIMIT_NOFILE"] == str(resource.getrlimit(resource.RLIMIT_NOFILE)[0])


def test_capabilities_are_those_of_the_process():
    assert examine(keep=())["capabilities"] == dict.fromkeys(CAPABILITIES, False)


@pytest.mark.privileged
def test_one_capability_is_told_from_the_others():
    report = examine(keep=(CAP_NET_RAW,))
    assert report["capabilities"] == dict.fromkeys(CAPABILITIES, False) | {"CAP_NET_RAW": True}
    assert report["features"]["raw sockets"]["works"]


def text(*, environ=(), **options):
    """The doctor's words, as lines."""
    return run("doctor", env=os.environ | dict(environ), **options).stdout.splitlines()


def entry(lines, name):
    """The line of a thing and those that belong to it, and all of it as one line."""
    (at,) = [
        i for i, line in enumerate(lines) if re.match(rf"  \S.*  {re.escape(name)}(  |$)", line)
    ]
    more = itertools.takewhile(lambda line: line.startswith(" " * 20), lines[at + 1 :])
    return " ".join(" ".join([lines[at], *more]).split())


def test_each_thing_has_its_state_and_meaning():
    report = examine()
    lines = text()
    for name, feature in report["features"].items():
        found = entry(lines, name)
        assert found.startswith(f"{'yes' if feature['works'] else 'no'} {name} ")
        assert (feature["error"] or "")[:12] in found
    for name in (*CAPABILITIES, *SYSCTLS, "RLIMIT_NOFILE"):
        assert len(entry(lines, name).partition(f" {name} ")[2]) > 10
    for name in SYSCTLS:
        if report["limits"][name] is not None:
            assert entry(lines, name).startswith(f"{report['limits'][name]} {name} ")


@pytest.mark.parametrize("width", [70, 80, 200])
def test_lines_fit_the_terminal(width):
    assert max(map(len, text(environ={"COLUMNS": str(width)}))) <= min(width, 100)
    if width == 80:
        assert max(map(len, without_privilege(text))) <= width


def test_summary_ends_what_it_says():
    report = examine(keep=())
    lines = without_privilege(text)
    lacking = [name for name, feature in report["features"].items() if not feature["works"]]
    summary = " ".join(" ".join(lines[lines.index("Summary") :]).split())
    works = len(report["features"]) - len(lacking)
    assert f"{works} of {len(report['features'])} features work" in summary
    for name in (*lacking, *CAPABILITIES):
        assert name in summary


def on_a_terminal(environ):
    ours, theirs = pty.openpty()
    with os.fdopen(theirs, "wb", buffering=0) as end:
        program = subprocess.Popen([SCRIPT, "doctor"], stdin=end, stdout=end, env=environ)
    shown = b""
    with open(ours, "rb", buffering=0) as terminal:
        with contextlib.suppress(OSError):  # EIO: the other end is closed
            while part := terminal.read(65536):
                shown += part
        assert program.wait(15) == 0
    return shown


def test_colours_are_for_terminals_that_want_them():
    plain = {name: value for name, value in os.environ.items() if name != "NO_COLOR"}
    plain["TERM"] = "xterm"
    assert b"\x1b[32myes" in on_a_terminal(plain)
    assert b"\x1b" not in on_a_terminal(plain | {"NO_COLOR": "1"})
    assert "\x1b" not in "".join(text())


def test_every_feature_has_a_meaning():
    assert list(doctor.FEATURES) == list(ipv4.features())


def test_what_is_missing_comes_with_the_ways_to_get_it_the_safest_first():
    lines = without_privilege(text)
    assert entry(lines, "CAP_NET_RAW").startswith("no ")
    found = entry(lines, "raw sockets")
    assert found.startswith("no ")
    assert "Operation not permitted" in found
    assert "takes CAP_NET_RAW" in found
    summary = " ".join(" ".join(lines[lines.index("Summary") :]).split())
    ways = [summary.index(way) for way in ("unshare", "AmbientCapabilities", "setcap", 'sudo "$(')]
    assert ways == sorted(ways)
    # Never on what other programs run: what that gives away is said.
    system = os.path.realpath(sys._base_executable)
    assert f"+ep {system}" not in summary
    assert "every script of every user" in summary
    assert "as good as root" in summary


@pytest.mark.needs_faults
def test_what_the_kernel_lacks_comes_with_the_one_that_has_it():
    udp_gro = ("setsockopt", socket.IPPROTO_UDP, 104)
    done = run_with_fault({udp_gro: errno.ENOPROTOOPT}, run, "doctor")
    found = entry(done.stdout.splitlines(), "receive coalesced segments (UDP_GRO)")
    assert found.startswith("no ")
    assert "Protocol not available" in found
    assert found.endswith("takes Linux 5.0 or newer")
