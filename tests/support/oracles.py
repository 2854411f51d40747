"""What must be the same after every test as before it.

Open descriptors, threads, child processes, and the multicast memberships and source filters of
the session's own network.
"""

import contextlib
import gc
import os
import threading
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest


class State(NamedTuple):
    """Each line names one thing that is there; a thing that is there twice counts twice."""

    descriptors: Counter[str]
    threads: Counter[str]
    children: Counter[str]
    memberships: Counter[str]


def state(own_network: bool) -> State:
    return State(
        _descriptors(),
        _threads(),
        _children(),
        _memberships() if own_network else Counter(),
    )


def _descriptors() -> Counter[str]:
    found: Counter[str] = Counter()
    for name in os.listdir("/proc/self/fd"):
        # The descriptor that listed the directory is gone by now.
        with contextlib.suppress(FileNotFoundError):
            found[f"{name} -> {os.readlink(f'/proc/self/fd/{name}')}"] += 1
    return found


def _threads() -> Counter[str]:
    return Counter(f"thread {number}" for number in os.listdir("/proc/self/task"))


def _children() -> Counter[str]:
    found: Counter[str] = Counter()
    for thread in os.listdir("/proc/self/task"):
        with contextlib.suppress(OSError):
            for pid in Path(f"/proc/self/task/{thread}/children").read_text().split():
                found[f"process {pid}"] += 1
    return found


def _memberships() -> Counter[str]:
    """Return groups with their device and number of users, and the sources with theirs."""
    found: Counter[str] = Counter()
    device = ""
    for line in Path("/proc/net/igmp").read_text().splitlines()[1:]:
        fields = line.split()
        if line[0] not in " \t":
            device = fields[1]
        else:
            found[f"group {fields[0]} on {device}, {fields[1]} users"] += 1
    for line in Path("/proc/net/mcfilter").read_text().splitlines()[1:]:
        found["source filter " + " ".join(line.split())] += 1
    return found


def differences(before: State, after: State, *, closed_too: bool = True) -> list[str]:
    """Return a line for each thing that is new, and for each descriptor that is gone."""
    lines = []
    for kind, old, new in zip(State._fields, before, after, strict=True):
        lines += [f"{kind}: new: {_named(thing)}" for thing in (new - old).elements()]
    if closed_too:
        gone = before.descriptors - after.descriptors
        lines += [f"descriptors: closed or replaced: {thing}" for thing in gone.elements()]
    lines += [f"memberships: gone: {thing}" for thing in (before[3] - after[3]).elements()]
    return lines


def _named(thing: str) -> str:
    kind, _, number = thing.partition(" ")
    with contextlib.suppress(OSError):
        if kind == "process":
            return f"{thing} ({Path(f'/proc/{number}/comm').read_text().strip()})"
        if kind == "thread":
            known = {str(thread.native_id): thread.name for thread in threading.enumerate()}
            name = known.get(number) or Path(f"/proc/self/task/{number}/comm").read_text().strip()
            return f"{thing} ({name})"
    return thing


@contextlib.contextmanager
def unchanged(
    own_network: bool = True, *, closed_too: bool = True, patience: float = 1.0
) -> Iterator[None]:
    """Fail the test whose body leaves more (or less) open than it found.

    A difference gets a second look after a garbage collection, and more for `patience` seconds: a
    thread that was joined may be alive for the kernel a moment longer.
    """
    before = state(own_network)
    yield
    lines = differences(before, state(own_network), closed_too=closed_too)
    if not lines:
        return
    gc.collect()
    deadline = time.monotonic() + patience
    while lines := differences(before, state(own_network), closed_too=closed_too):
        if time.monotonic() > deadline:
            pytest.fail("left behind:\n  " + "\n  ".join(lines), pytrace=False)
        time.sleep(0.01)
