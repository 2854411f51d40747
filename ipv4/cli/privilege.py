"""Capabilities of this process (capabilities(7)), and what to say when one is missing."""

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager

__all__ = ["CAPABILITIES", "effective_capabilities", "grant", "needed"]

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


def grant(capability: str) -> str:
    """What setcap(8) is to be told, to give this interpreter the capability."""
    return f"{capability.lower()}+ep {os.path.realpath(sys.executable)}"


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
            f' `sudo "$(command -v ipv4)" {command} ...`, or give it to this Python for good with'
            f" `sudo setcap {grant(capability)}`{', or ' + instead if instead else ''}."
        )
