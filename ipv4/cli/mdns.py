"""``ipv4 mdns``: answers one-shot multicast DNS queries (RFC 6762 sections 5.1 and 6.7)."""

import argparse
import errno
import sys
from contextlib import suppress
from typing import TYPE_CHECKING

from ipv4 import ControlFlags, PacketConn

from . import arguments
from .telling import Teller, add_json

if TYPE_CHECKING:
    from dns.message import Message
    from dns.name import Name

SUMMARY = "answer one-shot multicast DNS queries"

DESCRIPTION = """\
Answer one-shot multicast DNS queries: those of plain resolvers, sent from a port of their own to
224.0.0.251, port 5353. The answer goes back to the asker alone, with its query id and question
and a time to live of 10 s, as RFC 6762 section 6.7 asks. What is sent to this host's own address
is not answered, and full mDNS queriers, which ask from port 5353, are left to a full responder.

Builds its answers with dnspython: pip install 'ipv4[mdns]'. Ctrl-C leaves the group and ends.
"""

EPILOG = """\
example, with a client on the same link:
  ipv4 mdns eth0 printer.local=192.0.2.7
  dig -p 5353 @224.0.0.251 printer.local

dig hears no mDNS answers, whoever sends them, from its version 9.18 on; dnspython does:
  python -c 'import dns.message as m, dns.query as q
  print(q.udp(m.make_query("printer.local", "A"), "224.0.0.251", port=5353))'
"""

GROUP = "224.0.0.251"
PORT = 5353
LONGEST_ANSWER = 9000 - 28
"""Bytes that a response may have beside its headers (RFC 6762 section 17)."""
LONGEST_TTL = 10
"""Seconds that a plain resolver may keep an answer, as nothing will tell it of a change."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of the command."""
    add = parser.add_argument
    add("interface", metavar="IFACE", type=arguments.interface, help="interface to answer on")
    add(
        "records",
        metavar="NAME=ADDRESS",
        type=arguments.record,
        nargs="+",
        help="a name and its address; .local is added to a name without a dot",
    )
    add_json(parser)


def run(args: argparse.Namespace) -> int:
    """Join the group, and answer for the names given until interrupted."""
    try:
        import dns.message  # noqa: F401
    except ImportError:
        sys.exit(
            "ipv4 mdns: the DNS answers are built with dnspython, which is not installed:"
            " pip install 'ipv4[mdns]'."
        )
    zone = read_zone(args.records)
    tell, link = Teller(args.json), args.interface.name
    with PacketConn.udp(("0.0.0.0", PORT), reuse_address=True, ttl=255) as conn:
        conn.join_group(GROUP, args.interface)
        conn.set_control_message(ControlFlags.DST | ControlFlags.INTERFACE, True)
        try:
            with suppress(KeyboardInterrupt):
                # Who reads this may interrupt us at once.
                names = [str(name) for name in zone]
                tell(
                    f"answering for {', '.join(names)} on {link}",
                    "answering", names=names, interface=link,
                )  # fmt: skip
                serve(conn, args.interface.index, zone, tell)
        finally:
            conn.leave_group(GROUP, args.interface)
        tell(f"left {GROUP} on {link}", "left", group=GROUP, interface=link)
    return 0


def read_zone(records: list[tuple[str, str]]) -> "dict[Name, list[str]]":
    """The addresses of each name."""
    import dns.exception
    import dns.name

    zone: dict[dns.name.Name, list[str]] = {}
    for text, address in records:
        try:
            name = dns.name.from_text(text if "." in text else f"{text}.local")
        except (dns.exception.DNSException, UnicodeError) as error:
            sys.exit(f"ipv4 mdns: {text!r} is no name of the DNS: {error}")
        zone.setdefault(name, []).append(address)
    return zone


def serve(conn: PacketConn, ifindex: int, zone: "dict[Name, list[str]]", tell: Teller) -> None:
    """Answer queries until interrupted."""
    import dns.exception

    buffer = bytearray(9000)
    while True:
        try:
            n, cm, peer = conn.read_from(buffer)
        except OSError as error:
            if error.errno in (errno.EBADF, errno.ENOTSOCK):
                raise
            # Of this datagram, or of an answer that could not be taken: the next may be sound.
            tell(f"a query was not read: {error.strerror}", "unread", reason=error.strerror)
            continue
        if cm is None or str(cm.dst) != GROUP or cm.ifindex != ifindex or peer[1] == PORT:
            continue
        who = dict(zip(("address", "port"), peer, strict=True))
        response = answer(bytes(buffer[:n]), zone)
        if response is None:
            continue
        try:
            # reply() answers from where the query came in: our address on that interface.
            conn.write_to(response.to_wire(max_size=LONGEST_ANSWER), peer, cm.reply())
        except dns.exception.TooBig:
            reason = "its answer would outgrow a datagram"
            tell(f"{peer[0]}:{peer[1]} not answered: {reason}", "unanswered", reason=reason, **who)
            continue
        except OSError as error:
            reason = str(error.strerror)
            tell(f"{peer[0]}:{peer[1]} not answered: {reason}", "unanswered", reason=reason, **who)
            continue
        for rrset in response.answer:
            tell(f"{peer[0]}:{peer[1]} asked for {rrset.name}", "asked", name=rrset.name, **who)


def answer(wire: bytes, zone: "dict[Name, list[str]]") -> "Message | None":
    """The response to a query, or None when there is nothing to say: mDNS has no "no such name"."""
    import dns.exception
    import dns.flags
    import dns.message
    import dns.opcode
    import dns.rdataclass
    import dns.rdatatype
    import dns.rrset

    try:
        query = dns.message.from_wire(wire)
        if query.flags & dns.flags.QR or query.opcode() != dns.opcode.QUERY:
            return None
        response = dns.message.make_response(query)
    except Exception:
        # Whatever a stranger's bytes can make dnspython raise, and it is more than its own errors:
        # what cannot be read is not answered.
        return None
    response.flags = dns.flags.QR | dns.flags.AA  # nothing here recurses (section 18)
    answered = set()
    for question in query.question:
        # The top bit of the class asks for a unicast answer (section 5.4), which this one is.
        asked_class = question.rdclass & 0x7FFF
        if (
            question.name in zone
            and question.name not in answered  # however often it is asked for
            and question.rdtype in (dns.rdatatype.A, dns.rdatatype.ANY)
            and asked_class in (dns.rdataclass.IN, dns.rdataclass.ANY)
        ):
            answered.add(question.name)
            response.answer.append(
                dns.rrset.from_text_list(question.name, LONGEST_TTL, "IN", "A", zone[question.name])
            )
    return response if response.answer else None
