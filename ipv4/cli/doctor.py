"""``ipv4 doctor``: what this machine lets the library do, and how to change that."""

import argparse
import json
import platform
import resource
from pathlib import Path
from typing import Any

import ipv4

from . import privilege

SUMMARY = "what this machine lets the library do, and how to change it"

DESCRIPTION = """\
Show what this machine lets the library do: kernel features, each tried out; the capabilities of
this process; and the limits that sockets meet. Each line says what it means, and how to change it.
"""

EPILOG = """\
examples:
  ipv4 doctor
  ipv4 doctor --json | jq .features
"""

CAPABILITIES = {
    "CAP_NET_RAW": "raw sockets: RawConn, PacketConn.ip, transparent",
    "CAP_NET_ADMIN": "mark, priority above 6, buffers beyond rmem_max and wmem_max",
    "CAP_NET_BIND_SERVICE": "ports below 1024",
    "CAP_SYS_ADMIN": "netns=: sockets of other network namespaces",
}

# Kernel parameters, as files under /proc/sys and in the words of sysctl(8).
SYSCTLS = {
    "net.core.rmem_max": "bytes that receive_buffer grants without CAP_NET_ADMIN, doubled",
    "net.core.wmem_max": "bytes that send_buffer grants without CAP_NET_ADMIN, doubled",
    "net.core.optmem_max": "bytes for a socket's options: control messages, filters, source lists",
    "net.ipv4.ping_group_range": "first and last group id that may open PacketConn.ping",
    "net.ipv4.igmp_max_memberships": "groups that one socket may join",
    "net.ipv4.igmp_max_msf": "sources that one source filter may list",
}

# What to set where "a larger number" would be no answer.
RAISED = {"net.ipv4.ping_group_range": "0 2147483647"}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--json", action="store_true", help="print one JSON object instead")


def run(args: argparse.Namespace) -> int:
    report = examine()
    if args.json:
        print(json.dumps(report, indent=2))
    else:
        show(report)
    return 0


def examine() -> dict[str, Any]:
    """Everything that the doctor knows, as JSON takes it."""
    held = privilege.effective_capabilities()
    limits = {name: read_sysctl(name) for name in SYSCTLS}
    limits["RLIMIT_NOFILE"] = str(resource.getrlimit(resource.RLIMIT_NOFILE)[0])
    return {
        "ipv4": ipv4.__version__,
        "python": f"{platform.python_implementation()} {platform.python_version()}",
        "kernel": f"{platform.system()} {platform.release()}",
        "libc": libc_name(),
        "features": {
            name: {"works": error is None, "error": None if error is None else str(error)}
            for name, error in ipv4.features().items()
        },
        "capabilities": {name: name in held for name in CAPABILITIES},
        "limits": limits,
    }


def show(report: dict[str, Any]) -> None:
    """One line for each thing."""
    print(f"ipv4 {report['ipv4']}, {report['python']}, {report['kernel']}, {report['libc']}")

    print("\nKernel features, tried with the privileges of this process")
    for name, feature in report["features"].items():
        line(yes(feature["works"]), name, feature["error"] or "")

    print("\nCapabilities of this process")
    for name, held in report["capabilities"].items():
        remedy = "" if held else f"; sudo setcap {privilege.grant(name)}"
        line(yes(held), name, CAPABILITIES[name] + remedy)

    print("\nLimits")
    for name, meaning in SYSCTLS.items():
        value = report["limits"][name]
        if value is None:
            line("-", name, f"{meaning}; not to be seen in this network namespace")
        else:
            line(value, name, f"{meaning}; sudo sysctl -w {name}='{RAISED.get(name, 'N')}'")
    line(report["limits"]["RLIMIT_NOFILE"], "RLIMIT_NOFILE", "descriptors at once; ulimit -n N")


def line(value: str, name: str, meaning: str) -> None:
    print(f"  {value:<10}  {name:<32}  {meaning}".rstrip())


def yes(works: bool) -> str:
    return "yes" if works else "no"


def read_sysctl(name: str) -> str | None:
    """The value as /proc shows it, or None where it cannot be seen."""
    try:
        text = Path("/proc/sys", *name.split(".")).read_text()
    except OSError:
        return None
    return " ".join(text.split())


def libc_name() -> str:
    """Name and version of the C library."""
    name, release = platform.libc_ver()
    return f"{name} {release}" if name else "a C library that is not glibc"
