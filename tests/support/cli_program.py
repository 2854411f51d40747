"""The `ipv4` command as a running program, for the tests of its subcommands."""

import os
import re
import signal
import subprocess
import sysconfig
import threading
import time

from support import Host

SCRIPT = os.path.join(sysconfig.get_path("scripts"), "ipv4")


def run(*args, host=None, check=True, timeout=30, **options):
    """Run the command to its end, on a host or in the session's own network."""
    start = subprocess.run if host is None else host.run
    options.setdefault("check", False)
    if host is None:
        options |= {"capture_output": True, "text": True, "stdin": subprocess.DEVNULL}
    done = start([SCRIPT, *args], timeout=timeout, **options)
    assert "Traceback" not in done.stderr, done.stderr
    if check:
        assert (done.returncode, done.stderr) == (0, "")
    return done


class Program:
    """The command running on a host, its lines read as they come.

    As a context manager it ends with the block; `interrupt` ends it as Ctrl-C does.
    """

    def __init__(self, host: Host, *args: str) -> None:
        self.lines: list[str] = []
        self.news = threading.Condition()
        self.process = host.popen(
            [SCRIPT, *args],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            # A test run that itself ignores Ctrl-C, in the background, would pass that on.
            preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
        )
        self.reader = threading.Thread(target=self._read, name="read ipv4")
        self.reader.start()

    def __enter__(self) -> "Program":
        return self

    def __exit__(self, *_: object) -> None:
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()
        self.reader.join()
        self.process.stdout.close()

    @property
    def output(self) -> str:
        return "".join(self.lines)

    def expect(self, pattern: str, timeout: float = 15) -> re.Match[str]:
        """Wait for output that the pattern is found in."""
        deadline = time.monotonic() + timeout
        with self.news:
            while not (found := re.search(pattern, self.output, re.MULTILINE)):
                left = deadline - time.monotonic()
                assert left > 0, f"no {pattern!r} within {timeout} s in:\n{self.output}"
                assert self.reader.is_alive() or self.news.wait(0.2), (
                    f"ended without {pattern!r}:\n{self.output}"
                )
                self.news.wait(min(left, 0.5))
        return found

    def interrupt(self, sign: signal.Signals = signal.SIGINT) -> int:
        """Send the signal of Ctrl-C; returns the exit status."""
        self.process.send_signal(sign)
        status = self.process.wait(10)
        self.reader.join()
        return status

    def _read(self) -> None:
        for line in self.process.stdout:
            with self.news:
                self.lines.append(line)
                self.news.notify_all()
