"""``ipv4 mark-tcp``: a TCP server whose segments carry a type of service and TTL."""

import argparse
import errno
import socket
import sys
import threading
import time
from contextlib import suppress

from ipv4 import Conn

from . import arguments, privilege
from .telling import Teller, add_json

SUMMARY = "a TCP server that marks its segments with a type of service and TTL"

DESCRIPTION = """\
Serve a greeting over TCP on connections whose segments are marked with a type of service and a
TTL. Ctrl-C ends the server.
"""

EPILOG = """\
example, with a client in another terminal:
  ipv4 mark-tcp --listen 127.0.0.1:1024 --tos 0x28 --ttl 128
  nc 127.0.0.1 1024
"""

GREETING = b"HELLO-R-U-THERE-ACK"
PATIENCE = 5.0
"""Seconds for a client to take the greeting and close."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of the command."""
    add = parser.add_argument
    add(
        "--listen",
        metavar="A:P",
        type=arguments.endpoint,
        default="127.0.0.1:1024",
        help="address or name, and port (default: 127.0.0.1:1024)",
    )
    add(
        "--tos",
        metavar="N",
        type=arguments.integer(0, 255),
        default=0x28,
        help="type of service (default: 0x28, AF11); TCP keeps the low two bits, ECN, for itself",
    )
    add(
        "--ttl",
        metavar="N",
        type=arguments.integer(1, 255),
        default=128,
        help="time to live (default: 128)",
    )
    add_json(parser)


def run(args: argparse.Namespace) -> int:
    """Listen, and greet each client in a thread, until interrupted."""
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        # The kernel answers a SYN before the connection can be accepted: with the listener's marks.
        mark(listener, args.tos, args.ttl)
        with privilege.needed("mark-tcp", "CAP_NET_BIND_SERVICE", "take a port above 1023"):
            try:
                listener.bind(args.listen)
            except PermissionError:
                raise
            except OSError as error:
                host, port = args.listen
                sys.exit(f"ipv4 mark-tcp: cannot listen on {host}:{port}: {error.strerror}")
        listener.listen()
        host, port = listener.getsockname()
        with suppress(KeyboardInterrupt):
            # Who reads this may interrupt us at once.
            tell = Teller(args.json)
            tell(f"listening on {host}:{port}", "listening", address=host, port=port)
            while True:
                try:
                    sock, peer = listener.accept()
                except ConnectionAbortedError:
                    continue  # it was there when the kernel woke us, and is gone
                except OSError as error:
                    if error.errno not in (errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM):
                        raise
                    # Each client has a descriptor and PATIENCE; the next waits for one to be free.
                    time.sleep(0.1)
                    continue
                serve = threading.Thread(
                    target=greet, args=(sock, peer, args.tos, args.ttl, tell), daemon=True
                )
                serve.start()
    return 0


def mark(sock: socket.socket, tos: int, ttl: int) -> Conn:
    """Give a socket its type of service and TTL; the conn that goes around it."""
    conn = Conn(sock)
    conn.tos = tos
    conn.ttl = ttl
    return conn


def greet(sock: socket.socket, peer: tuple[str, int], tos: int, ttl: int, tell: Teller) -> None:
    """Send one client the greeting."""
    with sock, suppress(OSError):  # a client that goes away is its own affair
        conn = mark(sock, tos, ttl)
        address, port = peer
        tell(
            f"{address}:{port}: tos={conn.tos:#x} ttl={conn.ttl}",
            "connection", address=address, port=port, tos=conn.tos, ttl=conn.ttl,
        )  # fmt: skip
        sock.settimeout(PATIENCE)
        sock.sendall(GREETING)
        # Let the client close first: the last word of a socket that is already gone would be the
        # kernel's own, without marks.
        sock.shutdown(socket.SHUT_WR)
        while sock.recv(4096):
            pass
