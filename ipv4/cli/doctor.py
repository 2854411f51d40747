"""``ipv4 doctor``: what this machine lets the library do, and how to change that."""

import argparse
import json
import platform
import resource
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import ipv4
from ipv4.trials import FEATURES as TRIED

from . import layout, privilege

SUMMARY = "what this machine lets the library do, and how to change it"

DESCRIPTION = """\
Show what this machine lets the library do: kernel features, each tried out; the capabilities of
this process; and the limits that sockets meet. The summary at the end says how to get what is
missing, the safest way first. The exit status is 0, whatever is missing.
"""

EPILOG = """\
examples:
  ipv4 doctor
  ipv4 doctor --json | jq .features
"""

# What each feature is for, and what it takes: a capability or a kernel.
FEATURES = {name: (each.use, each.takes) for name, each in TRIED.items()}

# The features under headings; what is in none comes last.
GROUPS = {
    "Sockets": (
        "batches",
        "raw sockets",
        "ping sockets",
        "other network namespaces",
        "bound_interface",
        "unicast_interface",
        "freebind",
        "transparent",
        "broadcast",
        "connected datagrams",
        "local_port_range",
        "bind_address_no_port",
        "incoming_cpu",
        "memory_info",
    ),
    "Told of each packet": (
        "receive TTL",
        "receive destination and interface",
        "receive TOS",
        "receive timestamps",
        "receive drop counter",
        "receive original destination",
        "receive options",
        "receive coalesced segments (UDP_GRO)",
        "timestamping",
        "error queue",
    ),
    "Chosen for each packet": (
        "send TTL per packet",
        "send TOS per packet",
        "send options per packet",
        "send segments (UDP_SEGMENT)",
        "join messages of a batch (coalesce)",
        "options of every packet",
        "path MTU discovery",
        "mark",
        "priority above 6",
        "busy_poll",
        "max_pacing_rate",
        "no_defragment",
    ),
    "Groups and filters": (
        "multicast",
        "source-specific multicast",
        "multicast_all",
        "router_alert",
        "icmp_filter",
        "minimum TTL on TCP",
        "BPF filters",
        "locked BPF filters",
        "BPF steering of SO_REUSEPORT",
    ),
}

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


NAME, VALUE = 27, 12
"""Columns of an entry's name, and of a limit's value."""

BOLD, RED, GREEN = 1, 31, 32
"""Of SGR (ECMA-48)."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of the command."""
    parser.add_argument("--json", action="store_true", help="print one JSON object instead")


def run(args: argparse.Namespace) -> int:
    """Examine the machine and say what was found, as text or JSON."""
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
            name: {"works": error is None, "error": reason(error)}
            for name, error in ipv4.features().items()
        },
        "capabilities": {name: name in held for name in CAPABILITIES},
        "limits": limits,
    }


def reason(error: Exception | None) -> str | None:
    """What an error says, without its number."""
    return None if error is None else getattr(error, "strerror", None) or str(error)


def show(report: dict[str, Any]) -> None:
    """One entry for each thing, and a summary."""
    versions = (report[name] for name in ("ipv4", "python", "kernel", "libc"))
    print("\n".join(layout.wrapped("ipv4 " + ", ".join(versions), 0)))
    for title, names in grouped(report["features"]).items():
        heading(title)
        for name in names:
            feature = report["features"][name]
            meaning, takes = FEATURES.get(name, ("", ""))
            if not feature["works"]:
                meaning = f"{meaning}: {feature['error']}{takes_text(takes)}"
            entry(yes(feature["works"]), name, meaning)

    heading("Capabilities of this process")
    for name, held in report["capabilities"].items():
        entry(yes(held), name, CAPABILITIES[name])

    heading("Limits")
    for name, meaning in SYSCTLS.items():
        value = report["limits"][name]
        if value is None:
            entry("-", name, f"{meaning}; not to be seen in this network namespace", VALUE)
        else:
            entry(value, name, meaning, VALUE)
    files = report["limits"]["RLIMIT_NOFILE"]
    entry(files, "RLIMIT_NOFILE", "descriptors at once; ulimit -n N", VALUE)
    paragraph("To change one: sudo sysctl -w NAME=N, and in /etc/sysctl.d for good.")
    summarize(report)


def summarize(report: dict[str, Any]) -> None:
    """What works, what does not for the lack of what, and how to get that."""
    features = report["features"]
    lacking = [name for name, feature in features.items() if not feature["works"]]
    heading("Summary")
    if not lacking:
        paragraph(f"All {len(features)} features work.")
    else:
        count = f"{len(features) - len(lacking)} of {len(features)} features work."
        paragraph(f"{count} Missing: {', '.join(lacking)}.")
    capabilities = [name for name, held in report["capabilities"].items() if not held]
    if "ping sockets" in lacking:
        raised = RAISED["net.ipv4.ping_group_range"]
        paragraph(f"Ping sockets: sudo sysctl -w net.ipv4.ping_group_range='{raised}'")
    if not capabilities:
        return
    paragraph(f"Not held: {', '.join(capabilities)}. To get what a program needs of them:")
    for number, (command, comes) in enumerate(privilege.advice(capabilities), 1):
        paragraph(f"{number}. {command}")
        paragraph(comes, 5)
    paragraph(privilege.given_away(capabilities))


def grouped(features: Iterable[str]) -> dict[str, list[str]]:
    """The features under their headings."""
    groups = {
        title: [name for name in names if name in features] for title, names in GROUPS.items()
    }
    known = {name for names in groups.values() for name in names}
    groups["Other"] = [name for name in features if name not in known]
    return {title: names for title, names in groups.items() if names}


def heading(title: str) -> None:
    """A group's title, after an empty line."""
    print("\n" + layout.coloured(title, BOLD))


def paragraph(text: str, margin: int = 2) -> None:
    """A text as wide as the terminal, indented."""
    for line in layout.wrapped(text, margin):
        print(" " * margin + line)


def entry(state: str, name: str, meaning: str, width: int = 3) -> None:
    """A state, what has it, and in the column beside it what that means."""
    colour = {"yes": GREEN, "no": RED}.get(state)
    shown = f"{state:<{width}}"
    margin = 2 + width + 2 + NAME + 2
    lines = layout.wrapped(meaning, margin)
    first = lines.pop(0) if len(name) <= NAME else ""
    print(
        f"  {layout.coloured(shown, colour) if colour else shown}  {name:<{NAME}}  {first}".rstrip()
    )
    for line in lines:
        print(" " * margin + line)


def takes_text(takes: str) -> str:
    """What a feature takes, to follow what is said of it."""
    if not takes:
        return ""
    return f"; takes {takes}" + ("" if takes in privilege.CAPABILITIES else " or newer")


def yes(works: bool) -> str:
    """A state in a word."""
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
