"""``ipv4 trace``: the route to a host, told by the routers that let a probe expire."""

import argparse
import errno
import json
import os
import secrets
import select
import signal
import socket
import sys
import time
from collections.abc import Iterator
from contextlib import closing, suppress
from dataclasses import dataclass
from ipaddress import AddressValueError, IPv4Address, IPv6Address

from ipv4 import ControlFlags, ControlMessage, ErrorOrigin, ICMPFilter, ICMPType, PacketConn

from . import arguments, icmp, privilege

SUMMARY = "the route to a host; with --udp without any privilege"

DESCRIPTION = """\
List the routers on the way to a host: for each hop who answered, after how many milliseconds, and
the control message that the answer came with. `*` is a probe without an answer; `!H`, `!N`, `!X`
say that host or network is unreachable, or that it is prohibited to go there.

The times are those of the kernel's own stamps, from the probe's leaving to the answer's coming, so
that no work of this program is in them. Names are looked up by processes of their own.

Probes are ICMP echo requests, which take the capability CAP_NET_RAW. With --udp they are UDP
datagrams, and the answers are read from the socket's error queue, which takes no privilege at all;
the lines are then without control messages.
"""

EPILOG = """\
example:
  ipv4 trace --udp --max-hops 20 example.com
"""

NAME_PATIENCE = 1.0
"""Seconds that the name of a hop is waited for."""

STAMPS = 1 << 1 | 1 << 4 | 1 << 7 | 1 << 11
"""SOF_TIMESTAMPING_*: software stamps of what is sent, numbered, without the payload."""

FLAGS = (
    ControlFlags.TTL
    | ControlFlags.SRC
    | ControlFlags.DST
    | ControlFlags.INTERFACE
    | ControlFlags.TIMESTAMP
)
FIRST_PORT = 33434
"""Where traceroutes send: ports that nobody listens on, one for each probe."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of the command."""
    add = parser.add_argument
    add("host", metavar="HOST", help="name or address of the host")
    add("--udp", action="store_true", help="probe by UDP, which takes no privilege")
    add(
        "--max-hops",
        metavar="N",
        type=arguments.integer(1, 255),
        default=30,
        help="give up after so many hops (default: 30)",
    )
    add(
        "--probes",
        metavar="N",
        type=arguments.integer(1, 10),
        default=3,
        help="probes for each hop, sent at once (default: 3)",
    )
    add(
        "--timeout",
        metavar="S",
        type=arguments.seconds,
        default=2.0,
        help="seconds to wait for the answers of a hop (default: 2)",
    )
    add("--numeric", action="store_true", help="do not look up the names of the hops")
    add("--json", action="store_true", help="print a JSON object for each hop instead, one a line")


@dataclass
class Answer:
    """What came back for one probe.

    `last` tells that the route ends here: at the host, or where it cannot be reached. `elapsed` is
    the round-trip time in seconds.
    """

    sequence: int
    address: str
    last: bool
    mark: str = ""
    control: str = ""
    elapsed: float = 0.0


def run(args: argparse.Namespace) -> int:
    """Probe hop after hop, and print what each answered, until the route ends."""
    target = resolve(args.host)
    prober: EchoProber | UDPProber
    if args.udp:
        prober = UDPProber(target)
    else:
        with privilege.needed("trace", "CAP_NET_RAW", "trace with --udp, which takes none"):
            prober = EchoProber(target)
    names = Names() if not args.numeric else None
    with closing(prober):
        try:
            if not args.json:
                print(f"trace to {args.host} ({target}), at most {args.max_hops} hops")
            for hop in range(1, args.max_hops + 1):
                answers = probe_hop(prober, hop, args.probes, args.timeout, names)
                show = print_json if args.json else print_hop
                show(hop, answers, args.probes, names)
                if any(answer.last for answer in answers):
                    return 0
        except PermissionError as error:
            if error.errno != errno.EACCES:
                raise
            sys.exit(
                f"ipv4 trace: {target} is a broadcast address of a link: a route leads to one host"
            )
        finally:
            if names:
                names.close()
    return 1


def resolve(host: str) -> IPv4Address:
    """The address that a route can lead to; ends the command with a sentence for any other."""
    with suppress(AddressValueError):
        address = IPv6Address(host.strip("[]"))
        sys.exit(f"ipv4 trace: {address} is an IPv6 address: this command traces IPv4 alone")
    if not host.strip():
        sys.exit("ipv4 trace: HOST is empty: give the name or the address of a host")
    with suppress(OSError):
        socket.inet_aton(host)  # takes 1.2.3 for 1.2.0.3, and 010 for 8
        try:
            IPv4Address(host)
        except AddressValueError:
            sys.exit(f"ipv4 trace: {host!r} is not an IPv4 address such as 192.0.2.1")
    try:
        found = socket.getaddrinfo(host, None, socket.AF_INET, socket.SOCK_DGRAM)
    except socket.gaierror as error:
        if error.errno in (socket.EAI_ADDRFAMILY, socket.EAI_NODATA):
            sys.exit(f"ipv4 trace: {host} has no IPv4 address")
        sys.exit(f"ipv4 trace: {host}: {error.strerror}")
    except (UnicodeError, ValueError) as error:  # no name of the DNS, or a NUL
        sys.exit(f"ipv4 trace: {host!r} is no host name: {error}")
    target = IPv4Address(found[0][4][0])
    for is_so, what in (
        (target.is_multicast, "is a multicast group"),
        (int(target) == 0xFFFFFFFF, "is the broadcast address"),
        (int(target) >> 24 == 0, "stands for no host"),
    ):
        if is_so:
            sys.exit(f"ipv4 trace: {target} {what}: a route leads to one host")
    return target


def probe_hop(
    prober: "EchoProber | UDPProber",
    hop: int,
    probes: int,
    timeout: float,
    names: "Names | None",
) -> list[Answer]:
    """Send a hop's probes, and collect their answers."""
    left = set(range((hop - 1) * probes, hop * probes))
    answers = []
    for sequence in sorted(left):
        prober.send(hop, sequence)
    for answer in prober.answers(time.monotonic() + timeout):
        # Late answers about earlier hops, and second ones, find nothing here.
        if answer.sequence in left:
            left.remove(answer.sequence)
            answers.append(answer)
            if names:
                names.start(answer.address)
        if not left:
            break
    return answers


def print_hop(hop: int, answers: list[Answer], probes: int, names: "Names | None") -> None:
    """One line for each way in which the probes were answered; `*` stands for a probe lost."""
    ways: dict[tuple[str, str, str], list[str]] = {}
    for answer in answers:
        way = answer.address, answer.mark, answer.control
        ways.setdefault(way, []).append(f"{1000 * answer.elapsed:.3f} ms")
    if not ways:
        ways["", "", ""] = []
    ways[next(reversed(ways))] += "*" * (probes - len(answers))
    number = f"{hop:>3}"
    for (address, mark, control), times in ways.items():
        name = names.get(address) if names and address else ""
        who = f"{address} ({name})" if name else address
        print("  ".join(filter(None, (number, who, *times, mark, control))))
        number = "   "


def print_json(hop: int, answers: list[Answer], probes: int, names: "Names | None") -> None:
    """One object: each answer in the order in which it came, and how many probes got none."""
    told = [
        {
            "address": answer.address,
            "name": (names.get(answer.address) if names else "") or None,
            "ms": round(1000 * answer.elapsed, 3),
            "mark": answer.mark or None,
            "control": answer.control or None,
        }
        for answer in answers
    ]
    print(json.dumps({"hop": hop, "answers": told, "lost": probes - len(answers)}))


class Stopwatch:
    """When probes left and answers came, by the kernel's stamps where there are any.

    Parameters
    ----------
    conn : PacketConn
        Whose every datagram is a probe.
    """

    def __init__(self, conn: PacketConn) -> None:
        self.conn = conn
        self.sequences: list[int] = []  # of each datagram, in the order in which they were sent
        self.clocks: dict[int, tuple[int, int]] = {}  # realtime and monotonic, before the sending
        self.stamps: dict[int, int] = {}
        with suppress(OSError, NotImplementedError):
            conn.set_timestamping(STAMPS)

    def start(self, sequence: int) -> None:
        """Tell that a probe is sent now."""
        self.sequences.append(sequence)
        self.clocks[sequence] = time.time_ns(), time.monotonic_ns()

    def stamp(self, key: int | None, stamp: int | None) -> None:
        """Take in when the kernel says that its `key`-th datagram left."""
        if key is not None and stamp is not None and key < len(self.sequences):
            self.stamps[self.sequences[key]] = stamp

    def elapsed(self, sequence: int, cm: ControlMessage | None) -> float:
        """Seconds from when a probe left to when the answer came that this came with."""
        if sequence not in self.clocks:
            return 0.0
        clock, start = self.clocks[sequence]
        most = time.monotonic_ns() - start
        came = cm.timestamp if cm is not None and cm.timestamp is not None else time.time_ns()
        between = came - self.stamps.get(sequence, clock)
        # Somebody may set the realtime clock meanwhile.
        return (between if 0 < between <= most else most) / 1e9


class EchoProber:
    """Probes by ICMP echo; routers answer "time exceeded", the host with an echo reply."""

    def __init__(self, target: IPv4Address) -> None:
        self.target = target
        # All raw sockets of a host hear all of its ICMP: these tell our probes from others'.
        self.identifier = secrets.randbits(16)
        self.data = secrets.token_bytes(16)
        self.buffer = bytearray(65535)
        self.conn = PacketConn.ip(socket.IPPROTO_ICMP)
        self.conn.set_control_message(FLAGS, True)
        self.watch = Stopwatch(self.conn)
        filter = ICMPFilter()
        filter.set_all(True)
        for kind in (
            ICMPType.ECHO_REPLY,
            ICMPType.TIME_EXCEEDED,
            ICMPType.DESTINATION_UNREACHABLE,
        ):
            filter.accept(kind)
        self.conn.icmp_filter = filter

    def close(self) -> None:
        """Close the conn of the probes."""
        self.conn.close()

    def send(self, hop: int, sequence: int) -> None:
        """Send one probe, whose TTL is the hop's number."""
        request = icmp.echo_request(self.identifier, sequence, self.data)
        self.watch.start(sequence)
        self.conn.write_to(request, self.target, ControlMessage(send_ttl=hop))

    def answers(self, deadline: float) -> Iterator[Answer]:
        """The answers to our probes, and nobody else's, until the deadline."""
        self.conn.set_read_deadline(deadline)
        while True:
            try:
                n, cm, peer = self.conn.read_from(self.buffer)
            except TimeoutError:
                return
            # A probe has left before its answer comes, and so its stamp is there.
            while (report := self.conn.read_error()) is not None:
                self.watch.stamp(report.key, report.timestamp)
            try:
                answer = icmp.parse_answer(memoryview(self.buffer)[:n])
            except ValueError:
                continue  # somebody's garbage
            if answer is None or not self.is_ours(answer, peer[0]):
                continue
            exceeded = answer.type == ICMPType.TIME_EXCEEDED
            mark = ""
            if answer.type == ICMPType.DESTINATION_UNREACHABLE:
                mark = icmp.unreachable_mark(answer.code)
            elapsed = self.watch.elapsed(answer.sequence, cm)
            assert cm is not None  # it was asked for
            cm.timestamp = None  # which is in the time already
            yield Answer(answer.sequence, peer[0], not exceeded, mark, str(cm), elapsed)

    def is_ours(self, answer: icmp.Answer, peer: str) -> bool:
        """Whether an answer is to a probe of this run, by what it quotes or echoes."""
        if answer.identifier != self.identifier:
            return False
        if answer.type == ICMPType.ECHO_REPLY:
            return IPv4Address(peer) == self.target and answer.data == self.data
        return answer.destination == self.target


class UDPProber:
    """Probes by UDP to a port for each probe; the kernel matches the errors to our socket."""

    def __init__(self, target: IPv4Address) -> None:
        self.target = str(target)
        self.conn = PacketConn.udp(receive_errors=True)
        self.conn.set_control_message(ControlFlags.TIMESTAMP, True)
        self.watch = Stopwatch(self.conn)
        self.poller = select.poll()
        self.poller.register(self.conn, select.POLLIN)

    def close(self) -> None:
        """Close the conn of the probes."""
        self.conn.close()

    def send(self, hop: int, sequence: int) -> None:
        """Send one probe, whose TTL is the hop's number."""
        destination = (self.target, FIRST_PORT + sequence)
        self.watch.start(sequence)
        self.conn.write_to(b"ipv4 trace --udp", destination, ControlMessage(send_ttl=hop))

    def answers(self, deadline: float) -> Iterator[Answer]:
        """What the error queue tells about our probes, until the deadline."""
        while (left := deadline - time.monotonic()) > 0:
            # The error queue never blocks; poll(2) wakes for it unasked.
            self.poller.poll(1000 * left)
            while (report := self.conn.read_error()) is not None:
                self.watch.stamp(report.key, report.timestamp)
                if report.origin != ErrorOrigin.ICMP or report.addr is None:
                    continue
                host, port = report.addr
                if host != self.target:
                    continue
                exceeded = report.icmp_type == ICMPType.TIME_EXCEEDED
                mark = "" if exceeded else icmp.unreachable_mark(report.icmp_code or 0)
                offender = str(report.offender)
                cm = getattr(report, "control", None)
                yield self.answer(port, offender, not exceeded, mark, cm)
            # A host that has a program on the port may answer with data: it was reached as well.
            with suppress(OSError):  # nothing there, or an error that the next round will read
                _, cm, (host, port) = self.conn.read_from(bytearray(1), socket.MSG_DONTWAIT)
                if host == self.target:
                    yield self.answer(port, host, True, "", cm)

    def answer(
        self, port: int, address: str, last: bool, mark: str, cm: ControlMessage | None
    ) -> Answer:
        """The answer to the probe that went to a port, with the time that it took."""
        sequence = port - FIRST_PORT
        return Answer(sequence, address, last, mark, "", self.watch.elapsed(sequence, cm))


class Names:
    """Names of addresses, each looked up by a process of its own.

    Not by a thread: there are interpreters whose getnameinfo() keeps all other threads waiting.
    """

    def __init__(self) -> None:
        self.lookups: dict[str, tuple[int, int, float]] = {}  # pid, pipe, deadline
        self.found: dict[str, str] = {}

    def start(self, address: str) -> None:
        """Begin to look up an address, once."""
        if address in self.lookups:
            return
        reader, writer = os.pipe()
        try:
            pid = os.fork()
        except OSError:  # no room for another process: no name
            os.close(reader)
            os.close(writer)
            return
        if pid == 0:
            look_up(address, writer)
        os.close(writer)
        self.lookups[address] = pid, reader, time.monotonic() + NAME_PATIENCE

    def get(self, address: str) -> str:
        """The name, or "" if there is none or it did not come in time."""
        if address in self.lookups and address not in self.found:
            _, reader, deadline = self.lookups[address]
            left = max(deadline - time.monotonic(), 0)
            # A name fits a pipe, and so comes whole; none is the pipe's end.
            ready, _, _ = select.select([reader], [], [], left)
            self.found[address] = os.read(reader, 4096).decode(errors="replace") if ready else ""
        return self.found.get(address, "")

    def close(self) -> None:
        """Close the conn of the probes."""
        """End what is still being looked up."""
        for pid, reader, _ in self.lookups.values():
            os.close(reader)
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
            with suppress(ChildProcessError):
                os.waitpid(pid, 0)
        self.lookups.clear()


def look_up(address: str, writer: int) -> None:
    """Write the address's name to a pipe, and end this process."""
    try:
        signal.signal(signal.SIGINT, signal.SIG_DFL)
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        name, _ = socket.getnameinfo((address, 0), socket.NI_NAMEREQD)
        # Whoever owns the address chose its name, and a terminal would obey it.
        os.write(writer, "".join(c if c.isprintable() else "?" for c in name).encode())
    finally:
        os._exit(0)
