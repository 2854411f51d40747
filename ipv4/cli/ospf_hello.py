"""``ipv4 ospf-hello``: an OSPF neighbour that does nothing but greet (RFC 2328 section 9.5)."""

import argparse
import time
from contextlib import suppress
from dataclasses import dataclass, replace
from ipaddress import IPv4Address

from ipv4 import ControlFlags, ControlMessage, Header, Interface, RawConn

from . import arguments, ifreq, ospf, privilege
from .telling import Teller, add_json

SUMMARY = "greet the OSPF routers of a link, and list them"

DESCRIPTION = """\
Speak OSPF Hellos (RFC 2328) on an interface, and print the routers that answer, each with its
state: Init when we hear it, 2-Way when it hears us too, Down when it was silent for the dead
interval. A router of another area, mask or interval is no neighbour; the command says which of
them differs.

Takes the capability CAP_NET_RAW. Ctrl-C leaves the group and ends the command.
"""

EPILOG = """\
example, beside a router whose hello interval is 1 s:
  sudo "$(command -v ipv4)" ospf-hello eth0 --hello-interval 1 --dead-interval 4
"""

MOST = 256
"""Neighbours to remember: whoever invents more shall not make our Hellos outgrow the link."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of the command."""
    add = parser.add_argument
    add("interface", metavar="IFACE", type=arguments.interface, help="interface to speak on")
    add(
        "--router-id",
        metavar="A",
        type=arguments.address,
        help="our id (default: the interface's address)",
    )
    add(
        "--area",
        metavar="A",
        type=arguments.area,
        default="0.0.0.0",
        help="our area, as an address or in decimal (default: 0.0.0.0)",
    )
    add(
        "--mask",
        metavar="M",
        type=arguments.netmask,
        help="the link's mask (default: the interface's)",
    )
    add(
        "--hello-interval",
        metavar="S",
        type=arguments.integer(1, 0xFFFF),
        default=10,
        help="seconds between our Hellos (default: 10)",
    )
    add(
        "--dead-interval",
        metavar="S",
        type=arguments.integer(1, 0xFFFFFFFF),
        help="seconds of silence after which a neighbour is gone (default: 4 hello intervals)",
    )
    add(
        "--priority",
        metavar="N",
        type=arguments.integer(0, 255),
        default=0,
        help="for the election of a designated router, which this command never acts as: leave it"
        " at 0, the default, on a network that is in use",
    )
    add(
        "--count",
        metavar="N",
        type=arguments.integer(1, 1 << 31),
        help="end when the interval after the N-th Hello is over (default: go on)",
    )
    add_json(parser)


def run(args: argparse.Namespace) -> int:
    """Join the routers' group, and send and hear Hellos until interrupted."""
    interface, tell = args.interface, Teller(args.json)
    address = ifreq.interface_address(interface.name)
    hello = ospf.Hello(
        router_id=args.router_id or address,
        area_id=args.area,
        mask=args.mask or ifreq.interface_netmask(interface.name),
        hello_interval=args.hello_interval,
        dead_interval=args.dead_interval or 4 * args.hello_interval,
        priority=args.priority,
    )
    with privilege.needed("ospf-hello", "CAP_NET_RAW"):
        conn = RawConn.ip(ospf.PROTOCOL)
    with conn:
        # One socket hears the packets of all interfaces: ask by which each came, and for whom.
        conn.set_control_message(ControlFlags.DST | ControlFlags.INTERFACE, True)
        conn.join_group(ospf.ALL_SPF_ROUTERS, interface)
        try:
            with suppress(KeyboardInterrupt):
                # Who reads this may interrupt us at once.
                tell(
                    f"router {hello.router_id} in area {hello.area_id} on {interface.name},"
                    f" mask {hello.mask}, hello {hello.hello_interval} s,"
                    f" dead {hello.dead_interval} s",
                    "speaking", router=hello.router_id, area=hello.area_id,
                    interface=interface.name, mask=hello.mask,
                    hello_interval=hello.hello_interval, dead_interval=hello.dead_interval,
                )  # fmt: skip
                Speaker(conn, interface, address, hello, tell).speak(args.count)
        finally:
            conn.leave_group(ospf.ALL_SPF_ROUTERS, interface)
        group = ospf.ALL_SPF_ROUTERS
        tell(f"left {group} on {interface.name}", "left", group=group, interface=interface.name)
    return 0


@dataclass
class Neighbor:
    """A router that we hear, as our side sees it (RFC 2328 section 10)."""

    router_id: IPv4Address
    state: str
    expires: float


class Speaker:
    """Sends our Hellos on time, and keeps the neighbours that are heard in between."""

    def __init__(
        self,
        conn: RawConn,
        interface: Interface,
        address: IPv4Address,
        hello: ospf.Hello,
        tell: Teller,
    ) -> None:
        self.conn = conn
        self.interface = interface
        self.address = address
        self.hello = hello
        self.tell = tell
        self.neighbors: dict[IPv4Address, Neighbor] = {}  # by address, as on any broadcast link
        self.refused: dict[IPv4Address, str] = {}

    def speak(self, count: int | None) -> None:
        """Send `count` Hellos, or go on for ever, and listen until the next would be due."""
        buffer = bytearray(65535)
        due = time.monotonic()
        sent = 0
        while True:
            now = time.monotonic()
            self.drop_silent(now)
            if now >= due:
                if sent == count:
                    return
                self.send()
                sent += 1
                due = now + self.hello.hello_interval
            wake = min([due, *(neighbor.expires for neighbor in self.neighbors.values())])
            self.conn.set_read_deadline(wake)
            try:
                header, payload, cm = self.conn.read_from(buffer)
            except TimeoutError:
                continue
            if cm is not None:
                self.receive(header, payload, cm)

    def send(self) -> None:
        """Send one Hello, which lists everybody that we hear."""
        heard = tuple(neighbor.router_id for neighbor in self.neighbors.values())
        packet = replace(self.hello, neighbors=heard).encode()
        way_out = ControlMessage(ifindex=self.interface.index)
        try:
            self.conn.write_to(ospf.ip_header(packet), packet, way_out)
        except OSError as error:  # the link may be down for a while; the next Hello tries again
            self.tell(f"Hello not sent: {error.strerror}", "unsent", reason=error.strerror)

    def receive(self, header: Header, payload: memoryview, cm: ControlMessage) -> None:
        """Take in one OSPF packet."""
        sender = header.src
        if (
            sender is None
            or cm.ifindex != self.interface.index
            or payload[1:2] != bytes([ospf.HELLO])
        ):
            return  # another link's, or part of an adjacency, which is not formed here
        try:
            hello = ospf.Hello.decode(payload)
            if hello.router_id == self.hello.router_id:
                if sender == self.address:
                    return  # our own, looped back
                raise ValueError("it has our router id")
            self.check_agreement(hello)
        except ValueError as error:
            if self.refused.get(sender) != str(error):
                if len(self.refused) == MOST:
                    self.refused.clear()
                self.tell(
                    f"{sender} is no neighbour: {error}",
                    "refused", address=sender, reason=str(error),
                )  # fmt: skip
                self.refused[sender] = str(error)
            return
        self.refused.pop(sender, None)
        state = "2-Way" if self.hello.router_id in hello.neighbors else "Init"
        known = self.neighbors.get(sender)
        if known is None and len(self.neighbors) == MOST:
            return
        if known is None or (known.state, known.router_id) != (state, hello.router_id):
            before = known.state if known else "Down"
            self.tell(
                f"neighbour {hello.router_id} at {sender}: {before} -> {state}"
                f" (priority {hello.priority}, designated router {hello.designated_router})",
                "neighbour", router=hello.router_id, address=sender, before=before, state=state,
                priority=hello.priority, designated_router=hello.designated_router,
            )  # fmt: skip
        expires = time.monotonic() + self.hello.dead_interval
        self.neighbors[sender] = Neighbor(hello.router_id, state, expires)

    def check_agreement(self, theirs: ospf.Hello) -> None:
        """Refuse a Hello whose sender is set up differently (RFC 2328 sections 8.2, 10.5)."""
        ours = self.hello
        for name in ("area_id", "mask", "hello_interval", "dead_interval"):
            if getattr(theirs, name) != getattr(ours, name):
                raise ValueError(
                    f"its {name.replace('_', ' ')} is {getattr(theirs, name)},"
                    f" ours is {getattr(ours, name)}"
                )
        if (theirs.options ^ ours.options) & ospf.EXTERNAL_ROUTING:
            raise ValueError("it takes the area for a stub, we do not")

    def drop_silent(self, now: float) -> None:
        """Forget the neighbours whose dead interval is over."""
        for address, neighbor in list(self.neighbors.items()):
            if neighbor.expires <= now:
                del self.neighbors[address]
                self.tell(
                    f"neighbour {neighbor.router_id} at {address}: {neighbor.state} -> Down"
                    f" (silent for {self.hello.dead_interval} s)",
                    "neighbour", router=neighbor.router_id, address=address,
                    before=neighbor.state, state="Down",
                )  # fmt: skip
