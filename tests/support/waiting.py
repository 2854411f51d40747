"""What the kernel does by now, instead of a sleep in the hope that it does."""

import contextlib
import socket
import struct
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from .hosts import eventually

# A thread that waits for the GIL wakes up every 5 ms (sys.getswitchinterval); one that was still
# asleep after so many looks, 5 ms apart, waits for something else.
LOOKS = 5

SO_TIMESTAMPNS = 35  # asm-generic/socket.h


def until_it_waits(*sleepers: threading.Thread | subprocess.Popen[bytes]) -> None:
    """Return when each of these threads (or the first of a program's) waits in a system call.

    It sleeps, not for a lock where the kernel tells what for, and was not woken between several
    looks; a wait that a call makes before the one that is meant is over by then.
    """
    for sleeper in sleepers:
        number = sleeper.native_id if isinstance(sleeper, threading.Thread) else sleeper.pid
        seen: list[str] = []

        def asleep(number: int | None = number, seen: list[str] = seen) -> bool:
            seen.append(_sleep(f"/proc/{number}"))
            return bool(seen[-1]) and seen[-LOOKS:] == [seen[-1]] * LOOKS

        eventually(asleep, every=0.005, what=f"{sleeper} waits")


def when_it_waits(
    call: Callable[..., object], *args: object, sleeper: threading.Thread | None = None
) -> threading.Thread:
    """Start a thread that makes a call as soon as this one (or `sleeper`) waits in the kernel."""
    waited_for = sleeper or threading.current_thread()

    def run() -> None:
        until_it_waits(waited_for)
        call(*args)

    thread = threading.Thread(target=run)
    thread.start()
    return thread


@contextlib.contextmanager
def stamped_on_arrival() -> Iterator[None]:
    """Have the kernel stamp packets when they come, for as long as the context lasts.

    It leaves the beginning to a worker (net_enable_timestamp), which a busy machine delays; what
    came without a stamp is stamped when it is read.
    """
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as conn:
        conn.bind(("127.0.0.1", 0))
        conn.setsockopt(socket.SOL_SOCKET, SO_TIMESTAMPNS, 1)

        def early() -> bool:
            conn.sendto(b"", conn.getsockname())
            sent = time.time_ns()
            [(_, _, stamp)] = conn.recvmsg(0, socket.CMSG_SPACE(struct.calcsize("ll")))[1]
            seconds, nanoseconds = struct.unpack("ll", stamp)
            return bool(seconds * 10**9 + nanoseconds <= sent)

        eventually(early, what="the kernel stamps on arrival")
        yield


def _sleep(task: str) -> str:
    """What names the present sleep of a thread: how often it went to sleep; "" when awake."""
    with contextlib.suppress(FileNotFoundError):
        fields = dict(
            line.split(":\t", 1) for line in Path(task, "status").read_text().splitlines()
        )
        function = ""
        with contextlib.suppress(OSError):  # not for everybody; "0" where it is kept secret
            function = Path(task, "wchan").read_text()
        if fields["State"].startswith("S") and "futex" not in function:
            return fields["voluntary_ctxt_switches"]
    return ""
