"""Objects half made, made twice, copied; methods of something else."""

import copy
import gc
import importlib
import os
import pickle
import pkgutil
import socket
import warnings
from contextlib import suppress

import pytest
from support import in_child
from support.hostile import GROUP, inet

import ipv4
from ipv4 import (
    Conn,
    ControlFlags,
    ControlMessage,
    Header,
    Message,
    MessageBatch,
    PacketConn,
    RawConn,
    bpf,
)

# Programs; what only a running loop may use; and ipv4.features, which is a function.
APART = tuple(
    f"ipv4.{name}" for name in ("cli", "__main__", "aio", "loops", "datagrams", "features")
)


def classes():
    found = {}
    for module in pkgutil.walk_packages(ipv4.__path__, "ipv4."):
        if module.name.startswith(APART):
            continue
        for value in vars(importlib.import_module(module.name)).values():
            where = value.__module__ if isinstance(value, type) else ""
            if where.startswith("ipv4.") and not where.startswith(APART):
                found[value.__qualname__] = value
    return found


def poke(thing, names):
    """Use a thing in every way; nobody promises anything but that the interpreter survives."""
    for function in (
        repr, str, bytes, hash, len, bool, iter, int, memoryview, copy.copy, copy.deepcopy,
        pickle.dumps, next, reversed, lambda t: t == t, lambda t: t == Header(), lambda t: t[0],
        lambda t: t[0:1], lambda t: t.__enter__(), ipv4.checksum, ipv4.parse_header, PacketConn,
        Message, lambda t: bpf.to_raw([t]),
    ):  # fmt: skip
        with suppress(Exception):
            function(thing)
    for name in names:
        with suppress(Exception):
            getattr(thing, name)
        for args in ((), (None,), ("224.0.0.251",), (0,), (1, 1), (None, None, None), (b"", b"")):
            with suppress(Exception):
                getattr(thing, name)(*args)
        for value in (None, 0, -1, b"", "1.2.3.4", []):
            with suppress(Exception):
                setattr(thing, name, value)
        with suppress(Exception):
            delattr(thing, name)


def survives(body):
    """Call it in a child, which must neither die nor lose a descriptor that is not its own."""

    def child():
        warnings.simplefilter("ignore", ResourceWarning)
        os.dup2(os.open("/dev/null", os.O_RDONLY), 0)  # the number that zeroed memory stands for
        before = set(os.listdir("/proc/self/fd"))
        body()
        gc.collect()
        return before - set(os.listdir("/proc/self/fd"))

    # The directory itself is open while it is listed, under a number that may be another's later.
    assert len(in_child(child)) <= 1


def members(cls):
    return [name for name in dir(cls) if name not in ("__class__", "__init_subclass__")]


ODD = ((), (None,), (0,), (-1, -1), (1, 1), (1, 1, 1), (1 << 63, 8, 8), ("a", "b"))


@pytest.mark.parametrize("name", classes())
def test_half_made_objects_do_not_take_the_interpreter_down(name):
    cls = classes()[name]
    names = members(cls)

    poked = []

    def late(self):
        if not poked:  # not the copies too that it makes
            poked.append(self)
            poke(poked[0], names)
            poked.clear()

    def body():
        made = [cls]
        with suppress(TypeError, AttributeError):  # its __del__ is called on what could not be made
            made.append(type("Late", (cls,), {"__del__": late}))
        for each in made:
            for args in ODD:
                with suppress(Exception):
                    each(*args)
                with suppress(Exception):
                    poke(each.__new__(each, *args), names)

    survives(body)


@pytest.mark.parametrize("name", classes())
def test_methods_called_on_something_else_do_not_take_the_interpreter_down(name):
    cls = classes()[name]
    arguments = (*ODD, (GROUP,), (GROUP, "1.2.3.4"), (GROUP, "include", []))

    def body():
        others = (None, 5, object(), Header(), ControlMessage(), Message(), MessageBatch(1, 1), cls)
        for member in (getattr(cls, each) for each in members(cls)):
            accessors = (getattr(member, each, None) for each in ("fget", "fset", "__get__"))
            for function in (member, *accessors):
                for other in others:
                    for args in arguments:
                        with suppress(Exception):
                            function(other, *args)

    survives(body)


@pytest.mark.parametrize("cls", [Conn, PacketConn, RawConn])
def test_a_refused_construction_touches_no_descriptor(cls):
    """Descriptor 0 is what zeroed memory would name."""

    class Late(cls):
        def __del__(self):
            told.append((self.fileno(), self.closed, self.close(), repr(self)))

    told = []

    def body():
        for each in (cls, Late):
            for args in ((), (5,), (None, 1), (socket.socket.__new__(socket.socket),)):
                named = r"\bsock\b" if len(args) == 1 else "argument"
                with pytest.raises((TypeError, OSError), match=named):
                    each(*args)
        os.fstat(0)
        assert told == [(-1, True, None, "<ipv4.Late closed>")] * 4

    survives(body)


@pytest.mark.parametrize("cls", [Conn, PacketConn, RawConn])
def test_a_subclass_that_forgets_its_base_is_told(cls):
    class Own(cls):
        def __init__(self, sock):
            self.name = "mine"

    with inet(socket.SOCK_DGRAM) as sock:
        own = Own(sock)
        assert (own.closed, own.fileno()) == (True, -1)
        with pytest.raises(OSError, match=r"call super\(\).__init__\(sock\)"):
            own.ttl = 5
        own.close()
        assert sock.fileno() >= 0


def test_a_method_is_of_conns_alone():
    for call in (
        lambda conn: PacketConn.join_group(conn, GROUP),
        lambda conn: RawConn.leave_source_specific_group(conn, GROUP, "1.2.3.4"),
        lambda conn: PacketConn.set_source_filter(conn, GROUP, "include", []),
        lambda conn: PacketConn.source_filter(conn, GROUP),
        lambda conn: PacketConn.join_all(conn, GROUP),
        lambda conn: PacketConn.multicast_interface.fget(conn),
        lambda conn: PacketConn.multicast_interface.fset(conn, "lo"),
    ):
        for wrong in (None, 5, Header()):
            with pytest.raises(TypeError, match="self must be a conn"):
                call(wrong)


@pytest.mark.parametrize("cls", [Header, ControlMessage, Message, MessageBatch])
def test_what_cannot_be_inherited(cls):
    with pytest.raises(TypeError, match="not an acceptable base type"):
        type("Own", (cls,), {})


def test_copies(conn):
    header = Header(dst="1.2.3.4", options=bytes(50), tos=-5, id=70000)
    cm = ControlMessage(src="1.2.3.4", extra=[(1, 2, b"three")], send_ttl=5, timestamp=-1)
    program = bpf.minimum_ttl(3)
    interface = ipv4.Interface(1, "lo")
    for value in (header, cm, program, interface, ipv4.ICMPType(200), ControlFlags.TTL):
        copies = copy.copy(value), copy.deepcopy(value), pickle.loads(pickle.dumps(value))
        assert all(each == value and type(each) is type(value) for each in copies)
    for thing in (conn, Message(b""), MessageBatch(1, 1), MessageBatch(2, 1)[0]):
        for function in (copy.copy, copy.deepcopy, pickle.dumps):
            with pytest.raises(TypeError, match="cannot pickle"):
                function(thing)


def test_init_called_again(conn):
    header = Header(tos=5, options=bytes(60), dst="1.2.3.4")
    with pytest.raises(TypeError, match="ttl"):
        header.__init__(ttl="x")
    header.__init__(dst="1.2.3.5", options=b"")
    assert len(header.marshal()) == 20
    room = bytearray(8)
    message = Message([room, room], bytearray(9), ("1.2.3.4", 5))
    message.__init__()
    assert (message.buffers, message.oob, message.addr) == ([], None, None)
    room.append(1)  # it is no longer pinned
    batch = MessageBatch(2, 3)
    batch.__init__(1 << 40, 1 << 40)
    assert len(batch) == 2
    with pytest.raises(TypeError, match="fixed"):
        batch[0].__init__()
    with inet(socket.SOCK_STREAM) as stream:
        before = conn.fileno()
        for cls in (PacketConn, RawConn):
            with pytest.raises((ValueError, TypeError)):
                cls.__init__(conn, stream)
        assert conn.fileno() == before
    conn.write_to(b"x", conn.local_addr)
