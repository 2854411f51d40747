"""What hostile arguments are given to."""

import time
from contextlib import suppress
from types import SimpleNamespace

import pytest
from exercise import calls

from ipv4 import ControlMessage, Header, Message, MessageBatch, RawConn


@pytest.fixture
def world(conn):
    """What the rows of the tables below work on."""
    batch = MessageBatch(4, 32)
    made = SimpleNamespace(
        conn=conn, here=conn.local_addr, batch=batch, slot=batch[1], message=Message(b"x"),
        cm=ControlMessage(), header=Header(dst="127.0.0.1", protocol=253), raw=None,
    )  # fmt: skip
    with suppress(PermissionError):
        made.raw = RawConn.ip(253, "127.0.0.1")
        made.raw.set_deadline(time.monotonic() + 20)
    yield made
    if made.raw is not None:
        made.raw.close()


@pytest.fixture
def table():
    """Every public call, its error paths included."""
    table, conns = calls()
    yield table
    for each in conns:
        each.close()
