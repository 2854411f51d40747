"""Garbage, and the end of the interpreter, with conns open."""

import gc
import os
import socket
import subprocess
import sys
import warnings
import weakref

import pytest
from support.hostile import inet

from ipv4 import Message, MessageBatch, PacketConn


class Holding(PacketConn):
    """A conn that refers to itself."""


class HoldingSocket(socket.socket):
    """A socket that can refer to its conn."""


@pytest.mark.parametrize("cycle", ["conn", "socket", "message", "callback"])
def test_a_conn_dropped_in_a_cycle_is_warned_of_once_and_closed(cycle):
    sock = inet(socket.SOCK_DGRAM, made=HoldingSocket)
    conn = Holding(sock)
    number = conn.fileno()
    if cycle == "conn":
        conn.me = conn
    elif cycle == "socket":
        sock.conn = conn
    elif cycle == "message":
        conn.messages = [Message(bytearray(8)), conn, MessageBatch(2, 8)]
    else:
        conn.call = conn.close
    gone = weakref.ref(conn)
    del conn, sock
    with warnings.catch_warnings(record=True) as seen:
        warnings.simplefilter("always")
        # CPython 3.15 clears weak references after the finalizers: what one of these has revived
        # lives until the next collection, and a warning holds what it warns of.
        told = []
        for _ in range(3):
            gc.collect()
            told += [warning.category for warning in seen]
            seen.clear()
    assert gone() is None
    assert told == [ResourceWarning]
    with pytest.raises(OSError):
        os.fstat(number)


EXIT = """
import ipv4, gc, sys, weakref
class Holding(ipv4.PacketConn):
    def __del__(self):
        self.read_errors = [m.n for m in self.messages]
        try:
            self.write_to(b"x", ("127.0.0.1", 9))
            self.read_batch(self.messages, 64)
        except OSError:
            pass
        self.close()
        print("closed", self.closed)
here = []
for way in range(3):
    conn = Holding.udp()
    conn.messages = [ipv4.Message(bytearray(8), bytearray(64)), ipv4.MessageBatch(2, 9)[1]]
    if way:
        conn.me = conn
    if way == 2:
        conn.callback = weakref.ref(conn, lambda ref: print("never"))
    here.append(conn)
plain = ipv4.PacketConn.udp()
sys.modules["kept"] = plain
view = ipv4.MessageBatch(3, 4).data
del conn
"""


@pytest.mark.parametrize("end", ["", "sys.exit()", "del here[1:]; gc.collect()", "del ipv4, sys"])
def test_the_interpreter_ends_with_conns_open(end):
    done = subprocess.run(
        [sys.executable, "-P", "-c", EXIT + end], capture_output=True, text=True, timeout=60
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert set(done.stdout.splitlines()) <= {"closed True"}
