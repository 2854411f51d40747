"""Arguments of another class, and those that act in the middle of the call."""

import errno
import socket
from contextlib import suppress

import pytest
from support import in_child
from support.hostile import (
    DEADLINES,
    GROUP,
    INTERFACES,
    OPTIONS,
    Fickle,
    Own,
    Raising,
    nothing_came,
    setting,
    state,
)

import ipv4
from ipv4 import Conn, ControlFlags, ControlMessage, Header, Message, PacketConn, RawConn, bpf

privileged = pytest.mark.privileged


WALKED = {
    "read_batch": ("ms", lambda w, v: w.conn.read_batch(v)),
    "write_batch": ("ms", lambda w, v: w.conn.write_batch(v)),
    "write_all": ("messages", lambda w, v: w.conn.write_all(v)),
    "extra": ("extra", lambda w, v: setattr(w.cm, "extra", v)),
    "sources": ("sources", lambda w, v: w.conn.set_source_filter(GROUP, "include", v)),
    "interfaces": ("interfaces", lambda w, v: w.conn.join_all(GROUP, v)),
    "set_bpf": ("program", lambda w, v: w.conn.set_bpf(v)),
    "set_reuseport_bpf": ("program", lambda w, v: w.conn.set_reuseport_bpf(v)),
    "assemble": ("instructions", lambda w, v: bpf.assemble(v)),
    "disassemble": ("raw", lambda w, v: bpf.disassemble(v)),
    "VM": ("instructions", lambda w, v: bpf.VM(v)),
}

OF_A_CLASS = {
    "write_to": ("cm", lambda w, v: w.conn.write_to(b"", w.here, v)),
    "raw write_to cm": ("cm", lambda w, v: w.raw.write_to(w.header, b"", v)),
    "raw write_to": ("header", lambda w, v: w.raw.write_to(v, b"")),
    "read_batch": (r"ms\[0\]", lambda w, v: w.conn.read_batch([v])),
    "write_batch": (r"ms\[0\]", lambda w, v: w.conn.write_batch((v,))),
    "write_all": (r"ms\[0\]", lambda w, v: w.conn.write_all([v])),
    "icmp_filter": ("icmp_filter", lambda w, v: setattr(w.conn, "icmp_filter", v)),
    "release_gil": ("release_gil", lambda w, v: setattr(w.conn, "release_gil", v)),
    "segmentation": ("segmentation", lambda w, v: setattr(w.conn, "segmentation", v)),
    "mode": ("mode", lambda w, v: w.conn.set_source_filter(GROUP, v, [])),
    "format": ("format", lambda w, v: Header(dst="1.2.3.4").marshal(v)),
    "Conn": ("sock", lambda w, v: Conn(v)),
    "PacketConn": ("sock", lambda w, v: PacketConn(v)),
    "RawConn": ("sock", lambda w, v: RawConn(v)),
    "loads": ("text", lambda w, v: bpf.loads(v)),
}


@pytest.mark.parametrize("row", WALKED)
def test_what_cannot_be_walked_is_named(world, row):
    name, call = WALKED[row]
    before = state(world)
    for wrong in (5, 1.5, object(), int, world.conn):
        with pytest.raises(TypeError, match=rf"^{name} must "):
            call(world, wrong)
    with pytest.raises(Own):
        call(world, Raising())

    def breaks():
        raise Own
        yield

    with pytest.raises(Own):
        call(world, breaks())
    assert state(world) == before


@pytest.mark.parametrize("row", OF_A_CLASS)
@privileged
def test_what_is_of_another_class_is_named(world, row):
    name, call = OF_A_CLASS[row]
    for wrong in (-5, object(), ControlMessage, Raising(), [], Fickle(1)):
        with pytest.raises((TypeError, ValueError), match=rf"^{name} must be "):
            call(world, wrong)
    nothing_came(world.conn)


class Turn:
    """Does something when it is converted, and is a plain number then."""

    def __init__(self, act, value=1):
        self.act = act
        self.value = value

    def __index__(self):
        self.act()
        return self.value

    def __float__(self):
        return float(self.__index__())

    def __bool__(self):
        self.act()
        return True

    def before(self, *items):
        """Walk over some items; but act first."""
        self.act()
        yield from items


CLOSING = {
    "read_from": lambda w, t: w.conn.read_from(bytearray(8), t),
    "write_to": lambda w, t: w.conn.write_to(b"x", w.here, None, t),
    "write_to with cm": lambda w, t: w.conn.write_to(b"x", w.here, w.cm, t),
    "write_to port": lambda w, t: w.conn.write_to(b"x", ("127.0.0.1", t)),
    "read_batch": lambda w, t: w.conn.read_batch([Message(bytearray(8))], t),
    "read_batch walked": lambda w, t: w.conn.read_batch(t.before(Message(bytearray(8)))),
    "read a MessageBatch": lambda w, t: w.conn.read_batch(w.batch, t),
    "write_batch": lambda w, t: w.conn.write_batch([w.message], t),
    "write a MessageBatch": lambda w, t: w.conn.write_batch(w.batch, t),
    "write_all walked": lambda w, t: w.conn.write_all(t.before(w.message)),
    **{verb: lambda w, t, verb=verb: getattr(w.conn, verb)(t) for verb in DEADLINES},
    "set_control_message": lambda w, t: w.conn.set_control_message(t, True),
    "set_control_message on": lambda w, t: w.conn.set_control_message(1, t),
    "set_timestamping": lambda w, t: w.conn.set_timestamping(t),
    "getsockopt": lambda w, t: w.conn.getsockopt(t, 1),
    "getsockopt bytes": lambda w, t: w.conn.getsockopt(0, 1, t),
    "setsockopt": lambda w, t: w.conn.setsockopt(0, t, 1),
    "setsockopt value": lambda w, t: w.conn.setsockopt(0, 1, t),
    "group": lambda w, t: w.conn.join_group((GROUP, t)),
    "interface": lambda w, t: w.conn.join_group(GROUP, t),
    "interface pair": lambda w, t: w.conn.leave_group(GROUP, (t, "lo")),
    "source": lambda w, t: w.conn.join_source_specific_group(GROUP, ("127.0.0.1", t), "lo"),
    "join_all": lambda w, t: w.conn.join_all(GROUP, t.before("lo")),
    "source_filter": lambda w, t: w.conn.source_filter(GROUP, t),
    "sources": lambda w, t: w.conn.set_source_filter(GROUP, "include", t.before("1.2.3.4"), "lo"),
    "sources port": lambda w, t: w.conn.set_source_filter(GROUP, "include", [("1.2.3.4", t)]),
    "set_bpf": lambda w, t: w.conn.set_bpf(t.before((6, 0, 0, 0))),
    "set_bpf drain": lambda w, t: w.conn.set_bpf([(6, 0, 0, 0)], drain=t),
    "set_bpf field": lambda w, t: w.conn.set_bpf([(6, 0, 0, t)]),
    "set_reuseport_bpf": lambda w, t: w.conn.set_reuseport_bpf([(6, 0, 0, t)]),
    **{name: setting("conn", name) for name in (*OPTIONS, *INTERFACES)},
}


@pytest.mark.parametrize("row", CLOSING)
@pytest.mark.parity("arguments whose methods act in the middle of a call")
def test_an_argument_may_close_the_conn(world, row):
    with pytest.raises(OSError) as caught:
        CLOSING[row](world, Turn(world.conn.close))
    assert caught.value.errno == errno.EBADF
    assert world.conn.closed


@privileged
def test_an_argument_may_close_a_raw_conn(world):
    for call in (
        lambda raw, turn: raw.read_from(bytearray(60), turn),
        lambda raw, turn: raw.write_to(world.header, b"x", None, turn),
    ):
        with RawConn.ip(253, "127.0.0.1") as raw, pytest.raises(OSError) as caught:
            call(raw, Turn(raw.close))
        assert caught.value.errno == errno.EBADF


@privileged
@pytest.mark.parity("arguments whose methods act in the middle of a call")
def test_an_argument_may_take_the_buffer_away(world):
    conn, here = world.conn, world.here
    for call, name in (
        (lambda view, turn: conn.write_to(view, here, None, turn), "data"),
        (lambda view, turn: conn.write_to(view, ("127.0.0.1", turn)), "data"),
        (lambda view, turn: conn.read_from(view, turn), "buf"),
        (lambda view, turn: world.raw.read_from(view, turn), "buf"),
        (lambda view, turn: world.raw.write_to(world.header, view, None, turn), "payload"),
        (lambda view, turn: ipv4.checksum(view, turn), "buf"),
        (lambda view, turn: ControlMessage(extra=[(1, turn, view)]), "extra: data"),
    ):
        view = memoryview(bytearray(64))
        with pytest.raises(ValueError, match=rf"^{name} must be open memory"):
            call(view, Turn(view.release, int(socket.MSG_DONTWAIT)))
        room = bytearray(1 << 16)
        with suppress(ValueError, OSError):
            call(room, Turn(room.clear, int(socket.MSG_DONTWAIT)))
        room.append(1)  # nothing pins it any longer


@pytest.mark.parity("arguments whose methods act in the middle of a call")
def test_an_argument_may_change_the_list_that_holds_it(world):
    """What is walked is what stood there at the start, or what is left: never what is gone."""
    conn, here = world.conn, world.here
    lists = []

    def emptied(*items):
        """A list of the items and one that clears the list when it is converted."""
        lists.append([])
        lists[-1] += [item(lists[-1].clear) if callable(item) else item for item in items]
        return lists[-1]

    messages = [Message(b"x", addr=here) for _ in range(4)]
    assert conn.write_batch(messages, Turn(messages.clear, 0)) == 0
    messages += [Message(b"x", addr=here) for _ in range(2)]
    assert conn.write_batch(messages, Turn(messages.pop, 0)) == 1
    rooms = [Message(bytearray(1))]
    assert conn.read_batch(rooms, Turn(rooms.clear, 0)) == 0
    assert conn.read_from(bytearray(2))[0] == 1
    sources = emptied(lambda act: ("127.0.0.1", Turn(act)), "127.0.0.2")
    conn.set_source_filter(GROUP, "include", sources, "lo")
    assert len(conn.source_filter(GROUP, "lo")[1]) == 2
    assert len(conn.join_all("224.0.0.252", emptied(lambda act: (Turn(act), "lo"), "lo"))) == 1
    world.cm.extra = emptied(lambda act: (7, Turn(act), b"one"), (8, 9, b"two"))
    assert world.cm.extra == ((7, 1, b"one"), (8, 9, b"two"))
    word = (6, 0, 0, 0)
    assert bpf.to_raw(emptied(lambda act: (6, 0, 0, Turn(act)), word)) == [(6, 0, 0, 1), word]
    assert bpf.disassemble(emptied(lambda act: (6, 0, 0, Turn(act)), word)) == (
        [bpf.RetConstant(1)],
        True,
    )
    conn.set_bpf(emptied(lambda act: (6, 0, 0, Turn(act)), word))
    assert not any(lists)


@pytest.mark.parity("arguments whose methods act in the middle of a call")
def test_a_list_that_lies_about_its_length_ends():
    """In a child: a call that trusts the length never returns."""

    class Long(list):
        def __len__(self):
            return 5

    class Short(list):
        def __len__(self):
            return 0

        def __getitem__(self, key):
            raise Own

    def body():
        with PacketConn.udp(("127.0.0.1", 0)) as conn:
            message = Message(b"x", addr=conn.local_addr)
            answers = [
                call(kind([message] * times))
                for call in (conn.write_all, conn.write_batch)
                for kind in (Long, Short)
                for times in (0, 2)
            ]
            buffers = Message(Long([b"a", b"b"])).buffers, Message(Short([b"a", b"b"])).buffers
            return answers, buffers

    with PacketConn.udp() as conn:
        two = 1 if conn._moves_one_a_call() else 2  # of the portable build a call moves one
    wanted = [[], [], [], [], 0, two, 0, two], ([b"a", b"b"], [b"a", b"b"])
    assert in_child(body, timeout=10) == wanted


def test_what_a_refusal_leaves_of_a_received_message(conn):
    """A refused `src` or `segment_size` does not make what was received a thing to be sent."""
    conn.set_control_message(ControlFlags.DST, True)
    conn.write_to(b"x", conn.local_addr)
    cm = conn.read_from(bytearray(1))[1]
    before = cm.marshal()
    for name in ("src", "segment_size", "extra", "dst", "ifindex", "options", "send_options"):
        for wrong in ("nowhere", -1, Raising(), [1]):
            with pytest.raises((ValueError, TypeError, Own)):
                setattr(cm, name, wrong)
        assert cm.marshal() == before


def test_memory_refused_for_options_leaves_the_ones_before():
    testcapi = pytest.importorskip("_testcapi")

    def body():
        header = Header(options=b"\1" * 60000)
        longer = b"\2" * 61000
        for k in range(1, 10):
            testcapi.set_nomemory(k, k + 1)
            try:
                header.options = longer
            except MemoryError:
                pass
            finally:
                testcapi.remove_mem_hooks()
            assert header.options in (b"\1" * 60000, longer)
            header.options = b"\1" * 60000
        return True

    assert in_child(body)
