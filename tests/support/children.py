"""Calls in a child process: without capabilities, or with system calls that fail as told."""

import contextlib
import ctypes
import errno
import os
import pickle
import platform
import select
import signal
import struct
import sys
import time
import traceback
import warnings
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from .linux import check, libc

PR_SET_NO_NEW_PRIVS = 38
PR_SET_SECCOMP = 22
PR_CAP_AMBIENT = 47
PR_CAP_AMBIENT_CLEAR_ALL = 4
SECCOMP_MODE_FILTER = 2
CAPABILITY_VERSION_3 = 0x20080522
CAP_NET_ADMIN = 12
CAP_NET_RAW = 13
CAP_SETFCAP = 31


class ChildDied(Exception):
    """The child ended without an answer: killed by a signal, out of time, or by os._exit."""


def in_child(function: Callable[..., Any], *args: Any, timeout: float = 60) -> Any:
    """Fork and call `function(*args)` in the child; give back what came of it.

    Result and exception are pickled; what cannot be is told as text in a ChildDied. An exception
    that nobody could catch in the child (an "Exception ignored in ...") is raised here too.
    """
    sys.stdout.flush()
    sys.stderr.flush()
    reader, writer = os.pipe()
    if "libasan" in os.environ.get("LD_PRELOAD", ""):
        _await_ended_threads()
    with warnings.catch_warnings():
        # faulthandler's watchdog is a thread, and Python >= 3.12 warns of any at a fork.
        warnings.simplefilter("ignore", DeprecationWarning)
        pid = os.fork()
    if pid == 0:
        os.close(reader)
        _child(writer, function, args)
    os.close(writer)
    try:
        answer = _read_all(reader, time.monotonic() + timeout)
    finally:
        os.close(reader)
        if not _ended(pid):
            os.kill(pid, signal.SIGKILL)
        _, status = os.waitpid(pid, 0)
    if not answer:
        code = os.waitstatus_to_exitcode(status)
        how = f"exit status {code}" if code >= 0 else signal.Signals(-code).name
        raise ChildDied(f"the child gave no answer within {timeout} s: {how}")
    ok, value = pickle.loads(answer)
    if ok:
        return value
    raise value


def _await_ended_threads() -> None:
    """Wait until every thread that Python has joined has left the process as well.

    It gives memory back as the last thing it does, and a fork meanwhile would copy the locks of
    ASAN's allocator as it holds them; the C library's own know of forks.
    """
    deadline = time.monotonic() + 5
    while len(os.listdir("/proc/self/task")) > len(sys._current_frames()):
        if time.monotonic() > deadline:
            break
        time.sleep(0.001)


def _child(writer: int, function: Callable[..., Any], args: tuple[Any, ...]) -> None:
    ignored: list[str] = []
    sys.unraisablehook = lambda problem: ignored.append(
        f"{problem.err_msg or 'Exception ignored in'} {problem.object!r}: {problem.exc_value!r}"
    )
    try:
        try:
            outcome = (True, function(*args))
        except BaseException as error:
            error.add_note("".join(traceback.format_tb(error.__traceback__)))
            outcome = (False, error)
        if ignored:
            outcome = (False, ChildDied("in the child: " + "; ".join(ignored)))
        try:
            answer = pickle.dumps(outcome)
            pickle.loads(answer)
        except Exception as error:
            answer = pickle.dumps((False, ChildDied(f"{outcome!r} cannot be pickled: {error!r}")))
        view = memoryview(answer)
        while view:
            view = view[os.write(writer, view) :]
        sys.stdout.flush()
        sys.stderr.flush()
    finally:
        # Nothing of the parent's (pytest's reports, its atexit functions) may run twice.
        os._exit(0)


def _read_all(fd: int, deadline: float) -> bytes:
    parts = []
    while True:
        ready, _, _ = select.select([fd], [], [], max(0, deadline - time.monotonic()))
        if not ready:
            return b""
        part = os.read(fd, 1 << 16)
        if not part:
            return b"".join(parts)
        parts.append(part)


def _ended(pid: int) -> bool:
    # The answer is followed by os._exit at once; give it the moment that it takes.
    for _ in range(200):
        if os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT | os.WNOHANG) is not None:
            return True
        time.sleep(0.001)
    return False


# --- without capabilities -----------------------------------------------------------------------


def drop_capabilities(keep: Iterable[int] = ()) -> None:
    """Take every capability but `keep` from this process and from the programs it executes.

    The user id stays, so that the interpreter's files stay readable. With user id 0 the kernel
    wants CAP_SETFCAP (31) of whoever maps it into a new user namespace: keep it for that.
    """
    mask = sum(1 << number for number in keep)
    # no_new_privs keeps execve(2) from giving them back to user id 0.
    check(libc.prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0), "PR_SET_NO_NEW_PRIVS")
    check(libc.prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0), "PR_CAP_AMBIENT")
    low, high = mask & 0xFFFFFFFF, mask >> 32
    header = struct.pack("=Ii", CAPABILITY_VERSION_3, 0)
    data = struct.pack("=6I", low, low, low, high, high, high)
    check(libc.capset(header, data), "capset")


def without_privilege(
    function: Callable[..., Any], *args: Any, keep: Iterable[int] = (), timeout: float = 60
) -> Any:
    """Call `function(*args)` in a child process that has no capability (but `keep`).

    Parameters
    ----------
    function : callable
        Its result must be picklable. For a command: ``without_privilege(subprocess.run, argv)``.
    keep : iterable of int
        Numbers of capabilities(7) to keep.
    timeout : float
        Seconds after which the child is killed.

    Raises
    ------
    ChildDied
        It gave no answer. Otherwise whatever `function` raises.
    """

    def prepared() -> Any:
        drop_capabilities(keep)
        return function(*args)

    return in_child(prepared, timeout=timeout)


# --- with injected errors -----------------------------------------------------------------------

# Numbers of asm/unistd_64.h (x86-64) and asm-generic/unistd.h (aarch64); None: not there.
_X86_64, _AARCH64 = 0xC000003E, 0xC00000B7
_SYSCALLS: dict[str, tuple[int, int | None]] = {
    "accept4": (288, 242),
    "bind": (49, 200),
    "close": (3, 57),
    "connect": (42, 203),
    "dup": (32, 23),
    "epoll_create1": (291, 20),
    "epoll_ctl": (233, 21),
    "epoll_pwait": (281, 22),
    "epoll_wait": (232, None),
    "eventfd2": (290, 19),
    "fcntl": (72, 25),
    "getpeername": (52, 205),
    "getsockname": (51, 204),
    "getsockopt": (55, 209),
    "ioctl": (16, 29),
    "openat": (257, 56),
    "pipe2": (293, 59),
    "poll": (7, None),
    "ppoll": (271, 73),
    "recvfrom": (45, 207),
    "recvmmsg": (299, 243),
    "recvmsg": (47, 212),
    "sendmmsg": (307, 269),
    "sendmsg": (46, 211),
    "sendto": (44, 206),
    "setns": (308, 268),
    "setsockopt": (54, 208),
    "shutdown": (48, 210),
    "socket": (41, 198),
    "socketpair": (53, 199),
    "timerfd_create": (283, 85),
    "timerfd_settime": (286, 86),
    "unshare": (272, 97),
}

# A rule: the name of a system call, or (name, level, optname) for the two of socket options.
Rule = str | tuple[str, int, int]

_LD_W_ABS, _JEQ, _RET = 0x20, 0x15, 0x06
_ALLOW, _ERRNO = 0x7FFF0000, 0x00050000
_NR_AT, _ARCH_AT, _ARGS_AT = 0, 4, 16  # offsets in struct seccomp_data


def _fault_program(faults: Mapping[Rule, int]) -> bytes:
    """Compile `faults` to a seccomp filter (classic BPF over struct seccomp_data)."""
    column = {"x86_64": 0, "aarch64": 1}[platform.machine()]
    arch = (_X86_64, _AARCH64)[column]
    program = [(_LD_W_ABS, 0, 0, _ARCH_AT), (_JEQ, 1, 0, arch), (_RET, 0, 0, _ALLOW)]
    for rule, error in faults.items():
        name, *option = (rule,) if isinstance(rule, str) else rule
        number = _SYSCALLS[name][column]
        if number is None:
            continue
        answer = (_RET, 0, 0, _ERRNO | error)
        # Only the low words of the arguments: the kernel reads level and optname as ints.
        tests = []
        for position, value in enumerate(option, start=1):
            low = _ARGS_AT + 8 * position + (4 if sys.byteorder == "big" else 0)
            tests += [(_LD_W_ABS, low), (_JEQ, value)]
        program.append((_LD_W_ABS, 0, 0, _NR_AT))
        program.append((_JEQ, 0, len(tests) + 1, number))
        for index, (code, k) in enumerate(tests):
            beyond = len(tests) - index
            program.append((code, 0, beyond if code == _JEQ else 0, k & 0xFFFFFFFF))
        program.append(answer)
    program.append((_RET, 0, 0, _ALLOW))
    return b"".join(struct.pack("=HBBI", *instruction) for instruction in program)


def install_faults(faults: Mapping[Rule, int]) -> None:
    """Make system calls of this process fail from now on; there is no way back (seccomp(2))."""
    program = _fault_program(faults)
    buffer = ctypes.create_string_buffer(program, len(program))
    fprog = struct.pack("@HP", len(program) // 8, ctypes.addressof(buffer))
    check(libc.prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0), "PR_SET_NO_NEW_PRIVS")
    check(libc.prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, fprog, 0, 0), "PR_SET_SECCOMP")


def run_with_fault(
    faults: Mapping[Rule, int], function: Callable[..., Any], *args: Any, timeout: float = 60
) -> Any:
    """Call `function(*args)` in a child process whose system calls fail as `faults` says.

    Parameters
    ----------
    faults : mapping
        From a rule to an errno. A rule is the name of a system call (``"recvmmsg"``) or, for
        setsockopt and getsockopt, ``("setsockopt", level, optname)``. The name is the kernel's:
        ``socket.send`` is sendto, ``socket.recv`` is recvfrom, poll(2) may be ppoll.
    function : callable
        Its result must be picklable; the child has a copy of everything open here.
    timeout : float
        Seconds after which the child is killed.

    Raises
    ------
    ChildDied
        It gave no answer. Otherwise whatever `function` raises.

    Examples
    --------
    >>> run_with_fault({"recvmmsg": errno.ENOSYS}, read_a_batch)
    """

    def prepared() -> Any:
        install_faults(faults)
        return function(*args)

    return in_child(prepared, timeout=timeout)


def can_inject_faults() -> str:
    """Say why errors cannot be injected here, or "" when they can."""
    if platform.machine() not in ("x86_64", "aarch64"):
        return f"the numbers of the system calls of {platform.machine()} are not known"
    with contextlib.suppress(OSError, ChildDied):
        run_with_fault({"pipe2": errno.EXDEV}, lambda: None)
        return ""
    return "seccomp filters are refused here"
