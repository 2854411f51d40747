"""Running a test's coroutine on each event loop."""

import asyncio
import contextlib

import pytest

from ipv4 import PacketConn
from ipv4.aio import AsyncPacketConn

LOOPS = ["asyncio", "debug", "uvloop", "trio"]


@pytest.fixture(scope="module", autouse=True)
def warm_uvloop():
    """uvloop opens a pipe and starts threads that look up addresses, once for the whole process:
    before anybody counts descriptors.
    """

    async def look_up():
        await asyncio.get_running_loop().getaddrinfo("127.0.0.1", 0)

    with contextlib.suppress(ImportError):
        import uvloop

        uvloop.run(look_up())


def run_on(loop, work, *args):
    """Run ``work(*args)`` on this loop; on asyncio's in its debug mode where that is asked for."""
    if loop == "trio":
        return pytest.importorskip("trio").run(work, *args)
    if loop == "uvloop":
        return pytest.importorskip("uvloop").run(work(*args))
    return asyncio.run(work(*args), debug=loop == "debug")


def each_loop(test):
    """Run an async test on each loop."""

    @pytest.mark.parametrize("loop", LOOPS)
    def run(loop):
        run_on(loop, test)

    run.__name__ = test.__name__
    run.__doc__ = test.__doc__
    return run


@contextlib.contextmanager
def opened():
    """A conn on loopback whose verbs are awaited."""
    conn = AsyncPacketConn(PacketConn.udp(("127.0.0.1", 0), receive_buffer=1 << 22))
    try:
        yield conn
    finally:
        conn.close()
