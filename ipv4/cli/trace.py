"""``ipv4 trace``: the route to a host, told by the routers that let a probe expire."""

import argparse
import secrets
import select
import socket
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import closing, suppress
from dataclasses import dataclass
from ipaddress import IPv4Address

from ipv4 import ControlFlags, ControlMessage, ErrorOrigin, ICMPFilter, ICMPType, PacketConn

from . import arguments, icmp, privilege

SUMMARY = "the route to a host; with --udp without any privilege"

DESCRIPTION = """\
List the routers on the way to a host: for each hop who answered, after how many milliseconds, and
the control message that the answer came with. `*` is a probe without an answer; `!H`, `!N`, `!X`
say that host or network is unreachable, or that it is prohibited to go there.

Probes are ICMP echo requests, which take the capability CAP_NET_RAW. With --udp they are UDP
datagrams, and the answers are read from the socket's error queue, which takes no privilege at all
(and tells no control message).
"""

EPILOG = """\
example:
  ipv4 trace --udp --max-hops 20 example.com
"""

NAME_PATIENCE = 1.0
"""Seconds that the name of a hop is waited for."""

FIRST_PORT = 33434
"""Where traceroutes send: ports that nobody listens on, one for each probe."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
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


@dataclass
class Answer:
    """What came back for one probe.

    `last` tells that the route ends here: at the host, or where it cannot be reached.
    """

    sequence: int
    address: str
    last: bool
    mark: str = ""
    control: str = ""
    received: float = 0.0


def run(args: argparse.Namespace) -> int:
    try:
        found = socket.getaddrinfo(args.host, None, socket.AF_INET, socket.SOCK_DGRAM)
    except (socket.gaierror, UnicodeError) as error:
        sys.exit(f"ipv4 trace: {args.host}: {getattr(error, 'strerror', None) or error}")
    target = IPv4Address(found[0][4][0])
    prober: EchoProber | UDPProber
    if args.udp:
        prober = UDPProber(target)
    else:
        with privilege.needed("trace", "CAP_NET_RAW", "trace with --udp, which takes none"):
            prober = EchoProber(target)
    print(f"trace to {args.host} ({target}), at most {args.max_hops} hops")
    names = Names() if not args.numeric else None
    with closing(prober):
        for hop in range(1, args.max_hops + 1):
            answers = probe_hop(prober, hop, args.probes, args.timeout, names)
            print_hop(hop, answers, args.probes, names)
            if any(answer.last for answer, _ in answers):
                return 0
    return 1


def probe_hop(
    prober: "EchoProber | UDPProber",
    hop: int,
    probes: int,
    timeout: float,
    names: "Names | None",
) -> list[tuple[Answer, float]]:
    """Send a hop's probes, and collect each answer with its round-trip time in seconds."""
    sent: dict[int, float] = {}
    answers = []
    for sequence in range((hop - 1) * probes, hop * probes):
        sent[sequence] = time.monotonic()
        prober.send(hop, sequence)
    for answer in prober.answers(time.monotonic() + timeout):
        # Late answers about earlier hops, and second ones, find nothing here.
        if answer.sequence in sent:
            answers.append((answer, answer.received - sent.pop(answer.sequence)))
            if names:
                names.start(answer.address)
        if not sent:
            break
    return answers


def print_hop(
    hop: int, answers: list[tuple[Answer, float]], probes: int, names: "Names | None"
) -> None:
    """One line for each way in which the probes were answered; `*` stands for a probe lost."""
    ways: dict[tuple[str, str, str], list[str]] = {}
    for answer, elapsed in answers:
        way = answer.address, answer.mark, answer.control
        ways.setdefault(way, []).append(f"{1000 * elapsed:.3f} ms")
    if not ways:
        ways["", "", ""] = []
    ways[next(reversed(ways))] += "*" * (probes - len(answers))
    number = f"{hop:>3}"
    for (address, mark, control), times in ways.items():
        name = names.get(address) if names and address else ""
        who = f"{address} ({name})" if name else address
        print("  ".join(filter(None, (number, who, *times, mark, control))))
        number = "   "


class EchoProber:
    """Probes by ICMP echo; routers answer "time exceeded", the host with an echo reply."""

    def __init__(self, target: IPv4Address) -> None:
        self.target = target
        # All raw sockets of a host hear all of its ICMP: these tell our probes from others'.
        self.identifier = secrets.randbits(16)
        self.data = secrets.token_bytes(16)
        self.buffer = bytearray(65535)
        self.conn = PacketConn.ip(socket.IPPROTO_ICMP)
        flags = ControlFlags.TTL | ControlFlags.SRC | ControlFlags.DST | ControlFlags.INTERFACE
        self.conn.set_control_message(flags, True)
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
        self.conn.close()

    def send(self, hop: int, sequence: int) -> None:
        request = icmp.echo_request(self.identifier, sequence, self.data)
        self.conn.write_to(request, self.target, ControlMessage(send_ttl=hop))

    def answers(self, deadline: float) -> Iterator[Answer]:
        """The answers to our probes, and nobody else's, until the deadline."""
        self.conn.set_read_deadline(deadline)
        while True:
            try:
                n, cm, peer = self.conn.read_from(self.buffer)
            except TimeoutError:
                return
            received = time.monotonic()
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
            yield Answer(answer.sequence, peer[0], not exceeded, mark, str(cm), received)

    def is_ours(self, answer: icmp.Answer, peer: str) -> bool:
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
        self.poller = select.poll()
        self.poller.register(self.conn, select.POLLIN)

    def close(self) -> None:
        self.conn.close()

    def send(self, hop: int, sequence: int) -> None:
        destination = (self.target, FIRST_PORT + sequence)
        self.conn.write_to(b"ipv4 trace --udp", destination, ControlMessage(send_ttl=hop))

    def answers(self, deadline: float) -> Iterator[Answer]:
        """What the error queue tells about our probes, until the deadline."""
        while (left := deadline - time.monotonic()) > 0:
            # The error queue never blocks; poll(2) wakes for it unasked.
            self.poller.poll(1000 * left)
            while (report := self.conn.read_error()) is not None:
                if report.origin != ErrorOrigin.ICMP or report.addr is None:
                    continue
                host, port = report.addr
                if host != self.target:
                    continue
                exceeded = report.icmp_type == ICMPType.TIME_EXCEEDED
                mark = "" if exceeded else icmp.unreachable_mark(report.icmp_code or 0)
                offender = str(report.offender)
                received = time.monotonic()
                yield Answer(port - FIRST_PORT, offender, not exceeded, mark, "", received)
            # A host that has a program on the port may answer with data: it was reached as well.
            with suppress(BlockingIOError):
                _, _, (host, port) = self.conn.read_from(bytearray(1), socket.MSG_DONTWAIT)
                if host == self.target:
                    yield Answer(port - FIRST_PORT, host, True, "", "", time.monotonic())


class Names:
    """Names of addresses, each looked up in a thread of its own."""

    def __init__(self) -> None:
        self.lookups: dict[str, tuple[threading.Thread, float]] = {}
        self.found: dict[str, str] = {}

    def start(self, address: str) -> None:
        """Begin to look up an address, once."""
        if address not in self.lookups:
            # A daemon, so that a resolver that hangs does not keep the command from ending.
            thread = threading.Thread(target=self.look_up, args=(address,), daemon=True)
            self.lookups[address] = thread, time.monotonic() + NAME_PATIENCE
            thread.start()

    def look_up(self, address: str) -> None:
        with suppress(OSError):
            self.found[address], _ = socket.getnameinfo((address, 0), socket.NI_NAMEREQD)

    def get(self, address: str) -> str:
        """The name, or "" if there is none or it did not come in time."""
        thread, deadline = self.lookups[address]
        thread.join(max(deadline - time.monotonic(), 0))
        return self.found.get(address, "")
