"""``ipv4 demo``: raw packets and batches, on a loopback of its own."""

import argparse
import socket
import time
from ipaddress import IPv4Address

import ipv4
from ipv4 import ControlFlags, ControlMessage, MessageBatch, PacketConn, RawConn

from . import ospf, sandbox
from .progress import Progress

SUMMARY = "raw packets and batches on a loopback of its own; needs no privilege"

DESCRIPTION = """\
Show the library at work. Needs no privilege and no network: the command moves itself into a
network namespace of its own, which holds nothing but a loopback.

First two OSPF routers greet each other with raw packets: headers written whole, the interface
chosen by control message, TTL, destination and interface told on arrival. Then a few hundred
thousand UDP datagrams cross the loopback in batches, one system call for each batch.
"""

EPILOG = """\
example:
  ipv4 demo
"""

DATAGRAMS = 300_000
BATCH = 64
SIZE = 64
LONGEST = 8.0
"""Seconds of the processor after which the flood ends on a slow machine, wherever it stands."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The demo takes none."""


def run(args: argparse.Namespace) -> int:
    """Show Hellos and a flood, in a network namespace where the system allows one."""
    try:
        sandbox.enter()
        print("In a network namespace of our own, whose only interface is a loopback.")
    except OSError as error:
        print(f"The system allows no network namespace of our own ({error.strerror}), so this")
        print("runs on the machine's loopback, which nothing leaves.")
    try:
        greet()
    except PermissionError:
        print("Raw sockets take the capability CAP_NET_RAW, which is missing: no OSPF Hellos.")
    flood()
    return 0


def greet() -> None:
    """Two routers say Hello; the second Hello of each lists whom it has heard."""
    loopback = ipv4.Interface(socket.if_nametoindex("lo"), "lo")
    with RawConn.ip(ospf.PROTOCOL) as sender, RawConn.ip(ospf.PROTOCOL) as receiver:
        receiver.multicast_all = False  # hear only the group as joined here, on the loopback
        receiver.join_group(ospf.ALL_SPF_ROUTERS, loopback)
        receiver.set_control_message(
            ControlFlags.TTL | ControlFlags.DST | ControlFlags.INTERFACE, True
        )
        print(f"\nOSPF Hellos to {ospf.ALL_SPF_ROUTERS} through RawConn:")
        one, two = IPv4Address("192.0.2.1"), IPv4Address("192.0.2.2")
        for router, heard in ((one, ()), (two, (one,)), (one, (two,))):
            packet = ospf.Hello(
                router_id=router,
                area_id=IPv4Address(0),
                mask=IPv4Address("255.0.0.0"),
                hello_interval=10,
                dead_interval=40,
                neighbors=heard,
            ).encode()
            way_out = ControlMessage(src="127.0.0.1", ifindex=loopback.index)
            sender.write_to(ospf.ip_header(packet), packet, way_out)
            receiver.set_read_deadline(time.monotonic() + 2)
            header, payload, cm = receiver.read_from(bytearray(1500))
            assert cm is not None  # it was asked for
            hello = ospf.Hello.decode(payload)
            neighbors = ", ".join(map(str, hello.neighbors)) or "nobody yet"
            print(
                f"  {header.src} -> {cm.dst} on {socket.if_indextoname(cm.ifindex)}"
                f" ttl={cm.ttl} tos={header.tos:#x} id={header.id:#06x} {len(payload)} bytes:"
                f" router {hello.router_id} has heard {neighbors}"
            )
        receiver.leave_group(ospf.ALL_SPF_ROUTERS, loopback)


def flood() -> None:
    """Send datagrams in batches, and count what arrives."""
    with PacketConn.udp(("127.0.0.1", 0)) as sender, PacketConn.udp(("127.0.0.1", 0)) as receiver:
        outgoing = MessageBatch(BATCH, SIZE)
        for message in outgoing:
            message.addr = receiver.local_addr
        incoming = MessageBatch(BATCH, SIZE)

        print(f"\n{DATAGRAMS:,} UDP datagrams through MessageBatch, {BATCH} in a system call:")
        progress = Progress(DATAGRAMS, "datagrams")
        sent = arrived = 0
        started = time.monotonic()
        # The processor's time: that others keep a machine busy makes it no slower one.
        last = time.process_time() + LONGEST
        while sent < DATAGRAMS and time.process_time() < last:
            sent += sender.write_batch(outgoing[: min(BATCH, DATAGRAMS - sent)])
            arrived += drain(receiver, incoming)
            progress.update(sent)
        elapsed = time.monotonic() - started
        progress.close()
    print(
        f"{arrived:,} of {sent:,} arrived in {elapsed:.2f} s:"
        f" {arrived / elapsed:,.0f} datagrams a second, sent and received by one thread."
    )


def drain(receiver: PacketConn, batch: MessageBatch) -> int:
    """Read what waits in the socket's queue; returns how many datagrams that were."""
    count = 0
    while True:
        try:
            count += receiver.read_batch(batch, socket.MSG_DONTWAIT)
        except BlockingIOError:
            return count
