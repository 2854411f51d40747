"""Capabilities of this process (capabilities(7)), and what to say when one is missing."""

import os
import sys
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager

__all__ = ["CAPABILITIES", "advice", "effective_capabilities", "given_away", "grant", "needed"]

# Bit numbers of those that matter to sockets, from <linux/capability.h>.
CAPABILITIES = {
    "CAP_NET_BIND_SERVICE": 10,
    "CAP_NET_ADMIN": 12,
    "CAP_NET_RAW": 13,
    "CAP_SYS_ADMIN": 21,
}


def effective_capabilities() -> set[str]:
    """Which of `CAPABILITIES` this process holds now; none where there is no /proc."""
    try:
        with open("/proc/self/status") as status:
            bits = next(int(line.split()[1], 16) for line in status if line.startswith("CapEff:"))
    except (OSError, StopIteration):
        return set()
    return {name for name, bit in CAPABILITIES.items() if bits >> bit & 1}


def grant(capabilities: Iterable[str]) -> str:
    """The command lines that give an interpreter capabilities which no other program shares."""
    names = ",".join(name.lower() for name in capabilities)
    here, prefix = os.path.realpath(sys.executable), os.path.realpath(sys.prefix)
    if sys.prefix != sys.base_prefix and here.startswith(prefix + os.sep):
        return f"sudo setcap {names}+ep {here}"
    return f"python3 -m venv --copies ENV && sudo setcap {names}+ep ENV/bin/python3"


def advice(capabilities: Sequence[str]) -> list[tuple[str, str]]:
    """Ways to get capabilities, the safest first, as what to run and what comes with it."""
    names = " ".join(capabilities)
    return [
        (
            "unshare -rn COMMAND",
            "a network namespace of its own, in which the command has all of them and the"
            " machine's network is out of reach: for trying and testing",
        ),
        (
            f"AmbientCapabilities={names}",
            "in the [Service] section of a systemd unit, beside User=: for this service alone",
        ),
        (
            grant(capabilities),
            "an interpreter copied into a virtual environment: for whoever may run it; keep its"
            " folder from others (chmod 700)",
        ),
        (
            'sudo "$(command -v ipv4)" ...',
            "everything, for one command",
        ),
    ]


def given_away(capabilities: Sequence[str]) -> str:
    """What setcap(8) on the system's interpreter does."""
    all_of_it = (
        " With CAP_SYS_ADMIN that is as good as root." if "CAP_SYS_ADMIN" in capabilities else ""
    )
    return (
        f"Do not run setcap on the system's own interpreter ({os.path.realpath(sys.executable)}):"
        f" it gives the capability to every script of every user.{all_of_it}"
    )


@contextmanager
def needed(command: str, capability: str, instead: str = "") -> Iterator[None]:
    """End the command with a sentence if what is done inside lacks a capability.

    Parameters
    ----------
    command : str
        The subcommand, for the sentence.
    capability : str
        A key of `CAPABILITIES`.
    instead : str
        What can be done without it, to follow "or".
    """
    try:
        yield
    except PermissionError:
        sys.exit(
            f"ipv4 {command}: this takes the capability {capability}, which the process lacks: run"
            f' `sudo "$(command -v ipv4)" {command} ...`, or give it to an interpreter of its own:'
            f" `{grant([capability])}`{', or ' + instead if instead else ''}"
            " (`ipv4 doctor` tells all ways)."
        )
