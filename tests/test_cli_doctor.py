"""`ipv4 doctor`: what it says is what this machine does."""

import errno
import importlib.metadata
import json
import platform
import resource
import socket
import subprocess
from pathlib import Path

import pytest
from cli_program import SCRIPT, run
from support import CAP_NET_RAW, run_with_fault, without_privilege

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


def test_each_thing_has_a_line_with_its_state_and_meaning():
    report = examine()
    lines = run("doctor").stdout.splitlines()
    for name, feature in report["features"].items():
        state = "yes" if feature["works"] else "no"
        (line,) = [line for line in lines if f"  {name}  " in line]
        assert line.split()[0] == state
        assert (feature["error"] or "")[:12] in line
    for name in (*CAPABILITIES, *SYSCTLS, "RLIMIT_NOFILE"):
        (line,) = [line for line in lines if f"  {name}  " in line]
        meaning = line.partition(f"  {name}  ")[2].strip()
        assert len(meaning) > 10
    for name in SYSCTLS:
        if report["limits"][name] is not None:
            (line,) = [line for line in lines if f"  {name}  " in line]
            assert line.split("  ")[1] == report["limits"][name]
            assert f"sudo sysctl -w {name}=" in line


def test_every_feature_has_a_meaning():
    assert list(doctor.FEATURES) == list(ipv4.features())


def test_what_is_missing_comes_with_the_way_to_get_it():
    done = without_privilege(
        lambda: subprocess.run([SCRIPT, "doctor"], capture_output=True, text=True, check=True)
    )
    (line,) = [line for line in done.stdout.splitlines() if "  CAP_NET_RAW  " in line]
    assert line.startswith("  no ")
    assert "sudo setcap cap_net_raw+ep /" in line
    (line,) = [line for line in done.stdout.splitlines() if "  raw sockets  " in line]
    assert "Operation not permitted" in line
    assert "sudo setcap cap_net_raw+ep /" in line


@pytest.mark.needs_faults
def test_what_the_kernel_lacks_comes_with_the_one_that_has_it():
    udp_gro = ("setsockopt", socket.IPPROTO_UDP, 104)
    done = run_with_fault({udp_gro: errno.ENOPROTOOPT}, run, "doctor")
    (line,) = [line for line in done.stdout.splitlines() if "(UDP_GRO)" in line]
    assert line.startswith("  no ")
    assert "Protocol not available" in line
    assert line.endswith("takes Linux 5.0 or newer")
