"""Calls from signal handlers, weak reference callbacks, trace and audit hooks."""

import gc
import os
import signal
import sys
import warnings
import weakref
from contextlib import suppress

import pytest
from exercise import calls, wait_once
from support import in_child
from support.hostile import Own

from ipv4 import Message, PacketConn


def test_every_call_inside_a_signal_handler(table, conn):
    """A call waits; the handler, which interrupts it, makes every other call."""
    made = []

    def handler(number, frame):
        for name, call in table.items():
            call()
            made.append(name)
        conn.write_to(b"from the handler", conn.local_addr)

    before = signal.signal(signal.SIGALRM, handler)
    try:
        signal.setitimer(signal.ITIMER_REAL, 0.05)
        assert conn.read_from(bytearray(32))[0] == 16
    finally:
        signal.signal(signal.SIGALRM, before)
    assert made == list(table)


def test_a_handler_may_make_the_same_call(conn):
    """A read inside a read, with the same message refused and another taken."""
    outer, inner = Message(bytearray(8)), Message(bytearray(8))
    caught = []

    def handler(number, frame):
        for change in (lambda: conn.read_batch([outer]), lambda: setattr(outer, "buffers", b"")):
            with pytest.raises(BufferError) as refused:
                change()
            caught.append(refused.value)
        conn.write_to(b"inner", conn.local_addr)
        assert conn.read_batch([inner]) == 1
        conn.write_to(b"outer", conn.local_addr)

    before = signal.signal(signal.SIGALRM, handler)
    try:
        signal.setitimer(signal.ITIMER_REAL, 0.05)
        assert conn.read_batch([outer]) == 1
    finally:
        signal.signal(signal.SIGALRM, before)
    assert (outer.buffers[0][:5], inner.buffers[0][:5]) == (b"outer", b"inner")
    assert len(caught) == 2


def test_every_call_inside_a_weak_reference_callback(table):
    made = []

    class Gone:
        def __del__(self):
            run("__del__")

    def run(place):
        for name, call in table.items():
            call()
            made.append((place, name))

    thing = Gone()
    thing.me = thing
    reference = weakref.ref(thing, lambda ref: run("callback"))
    del thing
    gc.collect()
    assert reference() is None
    assert made == [(place, name) for place in ("callback", "__del__") for name in table]


@pytest.mark.parametrize("hook", [sys.settrace, sys.setprofile])
def test_every_call_while_traced(table, hook):
    seen = 0

    def trace(frame, event, arg):
        nonlocal seen
        seen += 1
        return trace

    before = sys.gettrace() if hook is sys.settrace else sys.getprofile()
    hook(trace)
    try:
        for call in table.values():
            call()
    finally:
        hook(before)
    assert seen > len(table)


def test_a_trace_function_that_raises(table):
    def body():
        # Between opening a socket and giving it to its conn it belongs to nobody.
        warnings.simplefilter("ignore", ResourceWarning)
        for call in table.values():
            for k in range(40):
                left = [k]

                def trace(frame, event, arg, left=left):
                    left[0] -= 1
                    if left[0] < 0:
                        raise Own
                    return trace

                with suppress(Own, AssertionError, OSError):  # of what the round before left
                    sys.settrace(trace)
                    try:
                        call()
                    finally:
                        sys.settrace(None)
        fresh, _ = calls()
        for call in fresh.values():
            call()
        return True

    assert in_child(body)


def test_an_audit_hook_that_raises():
    """It refuses sockets, binding, files: that error comes out, and no descriptor stays open."""

    def body():
        armed = []
        table, opened = calls()
        with PacketConn.udp(("127.0.0.1", 0)) as conn:
            here = conn.local_addr
            wait_once(conn)

            def hook(event, args):
                if armed and event.startswith(armed[0]):
                    raise Own(event)

            sys.addaudithook(hook)
            before = len(os.listdir("/proc/self/fd"))
            for event in ("socket.__new__", "socket.bind"):
                armed[:] = [event]
                for make in (PacketConn.udp, PacketConn.udp):
                    with pytest.raises(Own, match=event):
                        make(("127.0.0.1", 0))
            armed[:] = ["o"]  # open, os.*, object.*
            with pytest.raises(Own, match="open"):
                PacketConn.udp(netns="nowhere")
            armed[:] = [""]
            for call in table.values():
                with suppress(Own):
                    call()
            assert conn.write_to(b"x", here) == conn.read_from(bytearray(8))[0] == 1
            armed.clear()
            assert len(os.listdir("/proc/self/fd")) == before
        for each in opened:
            each.close()
        return True

    assert in_child(body)
