"""Packets seen on an interface, and what tshark says about them."""

import contextlib
import json
import re
import select
import socket
import struct
import subprocess
import tempfile
import threading
import time
from collections.abc import Iterator
from typing import Any

from .hosts import Host, eventually

ETH_P_ALL = 0x0003
PACKET_OUTGOING = 4
ARPHRD_LOOPBACK = 772
LINKTYPE_ETHERNET = 1
# The capture ends when nothing came for this long: the other CPU may still deliver.
QUIET = 0.05

# UDP and TCP checksums stay unchecked: on a veth pair nobody computes them, as with a card that
# does it in hardware. Those of ICMP, IGMP and OSPF are always checked.
_PREFERENCES = ("ip.check_checksum:TRUE", "ip.defragment:TRUE")
_COMPLAINT = re.compile(r"malformed|incorrect|bad checksum|bogus|\(error/|\[truncated", re.I)


class Capture:
    """What went over an interface while the `with` block of `capture` ran.

    Attributes
    ----------
    frames : list of (float, bytes)
        Time (seconds of the realtime clock) and whole frame, link-layer header included.
    """

    def __init__(self) -> None:
        self.frames: list[tuple[float, bytes]] = []

    @property
    def packets(self) -> list[bytes]:
        """The IPv4 packets among the frames."""
        return [frame[14:] for _, frame in self.frames if frame[12:14] == b"\x08\x00"]

    def wait_for(self, count: int, *, timeout: float = 10) -> None:
        """Wait until `count` IPv4 packets are there, inside the `with` block."""
        eventually(
            lambda: len(self.packets) >= count,
            timeout=timeout,
            every=0.01,
            what=f"{count} packets captured",
        )

    def tshark(self, *args: str) -> str:
        """Give the frames to ``tshark -r - args...`` and return what it prints."""
        pcap = [struct.pack("=IHHiIII", 0xA1B2C3D4, 2, 4, 0, 0, 65535, LINKTYPE_ETHERNET)]
        for when, frame in self.frames:
            seconds = int(when)
            record = (seconds, int((when - seconds) * 1e6), len(frame), len(frame))
            pcap.append(struct.pack("=IIII", *record) + frame)
        argv = ["tshark", "-n", "-r", "-"]
        for preference in _PREFERENCES:
            argv += ["-o", preference]
        # A home of its own: no preferences of whoever runs this, and nothing written there.
        with tempfile.TemporaryDirectory() as home:
            done = subprocess.run(
                [*argv, *args],
                input=b"".join(pcap),
                capture_output=True,
                timeout=60,
                env={"HOME": home, "PATH": "/usr/bin:/bin:/usr/sbin:/sbin", "LC_ALL": "C.UTF-8"},
            )
        if done.returncode:
            raise AssertionError(f"tshark {args}: {done.stderr.decode()}")
        return done.stdout.decode()

    def text(self, display_filter: str = "") -> str:
        """Every field of every packet that passes the display filter, as indented text."""
        return self.tshark("-V", *_filter(display_filter))

    def json(self, display_filter: str = "") -> list[dict[str, Any]]:
        """One dictionary of layers for each packet, as ``tshark -T json`` writes it."""
        found = json.loads(self.tshark("-T", "json", *_filter(display_filter)) or "[]")
        return [packet["_source"]["layers"] for packet in found]

    def fields(self, *names: str, display_filter: str = "") -> list[tuple[str, ...]]:
        """The values of some fields of each packet: ``fields("ip.ttl", "ospf.msg")``."""
        args = ["-T", "fields", "-E", "separator=/t", "-E", "occurrence=f"]
        for name in names:
            args += ["-e", name]
        lines = self.tshark(*args, *_filter(display_filter)).splitlines()
        return [tuple(line.split("\t")) for line in lines]

    def complaints(self, display_filter: str = "") -> list[str]:
        """Lines in which tshark calls a packet malformed or a checksum incorrect."""
        lines = self.text(display_filter).splitlines()
        return [line.strip() for line in lines if _COMPLAINT.search(line)]

    def assert_clean(self, display_filter: str = "") -> None:
        """Fail if nothing passed the display filter, or if tshark finds fault with any of it."""
        text = self.text(display_filter)
        assert text, f"nothing captured that passes {display_filter!r}"
        assert not self.complaints(display_filter), text


def _filter(display_filter: str) -> tuple[str, ...]:
    return ("-Y", display_filter) if display_filter else ()


@contextlib.contextmanager
def capture(host: Host | None, iface: str = "lo") -> Iterator[Capture]:
    """Capture on an interface of `host` (None: of the session's own network).

    It captures from the first line of the block on, without a program or a file; only decoding
    needs tshark. Filtering is done when decoding, by tshark's display filters.

    Examples
    --------
    >>> with capture(pair.b, "eth0") as seen:
    ...     send_hello()
    ...     seen.wait_for(1)
    >>> seen.assert_clean("ospf")
    """
    sock = host.call(_tap, iface) if host else _tap(iface)
    seen = Capture()
    stop = threading.Event()
    reader = threading.Thread(target=_read, args=(sock, seen, stop), name="capture")
    with sock:
        reader.start()
        try:
            yield seen
        finally:
            stop.set()
            reader.join()


def _tap(iface: str) -> socket.socket:
    # Protocol 0 until it is bound: else packets of other interfaces would queue up before.
    sock = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 0)
    try:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 8 << 20)
        sock.bind((iface, ETH_P_ALL))
    except BaseException:
        sock.close()
        raise
    return sock


def _read(sock: socket.socket, seen: Capture, stop: threading.Event) -> None:
    while True:
        ready, _, _ = select.select([sock], [], [], QUIET)
        if not ready:
            if stop.is_set():
                return
            continue
        frame, (_, _, kind, hardware, _) = sock.recvfrom(1 << 17)
        # On loopback every packet passes twice, going out and coming in.
        if not (hardware == ARPHRD_LOOPBACK and kind == PACKET_OUTGOING):
            seen.frames.append((time.time(), frame))
