"""Control messages against the bytes of Linux (struct cmsghdr of this system)."""

import copy
import os
import pickle
import socket
import struct
import subprocess
import sys
import time
from ipaddress import IPv4Address

import pytest
from support import VECTORS
from support.controls import cmsg, native

import ipv4
from ipv4 import ControlFlags, ControlMessage

IP_TTL, IP_PKTINFO = 2, 8


def from_fields(fields):
    return ControlMessage(
        ttl=fields.get("TTL", 0),
        src=fields.get("Src"),
        dst=fields.get("Dst"),
        ifindex=fields.get("IfIndex", 0),
    )


SENDABLE = [case for case in VECTORS["cm_marshal"] if case.get("IfIndex") != -1]
SENDABLE = [case for case in SENDABLE if ":" not in case.get("Src", "")]


@pytest.mark.parametrize("case", SENDABLE, ids=str)
@pytest.mark.parity("ControlMessage.Marshal")
@pytest.mark.parity("control messages marshalled and parsed")
def test_marshal(case):
    assert from_fields(case).marshal() == native(case["hex"] or "")


@pytest.mark.parity("ControlMessage.Marshal")
def test_marshal_of_nothing_and_of_the_zero_address():
    assert ControlMessage().marshal() == b""
    assert ControlMessage(src="0.0.0.0").marshal() == cmsg(0, IP_PKTINFO, bytes(12))


@pytest.mark.parity("ControlMessage")
def test_what_does_not_fit_is_refused_by_name():
    for fields, name in [
        ({"ifindex": -1}, "ifindex"),
        ({"ifindex": 1 << 31}, "ifindex"),
        ({"ttl": 256}, "ttl"),
        ({"ttl": -1}, "ttl"),
        ({"src": "::1"}, "src"),
        ({"dst": "here"}, "dst"),
    ]:
        with pytest.raises(ValueError, match=rf"^{name}\b"):
            ControlMessage(**fields)
        cm = ControlMessage()
        for field, value in fields.items():
            with pytest.raises(ValueError, match=rf"^{name}\b"):
                setattr(cm, field, value)
        assert cm == ControlMessage()
    for name in ("ttl", "ifindex"):
        with pytest.raises(TypeError, match=rf"^{name}\b"):
            ControlMessage(**{name: "1"})


PARSED = [case for case in VECTORS["cm_parse"] if "ok" in case]
REFUSED = [case for case in VECTORS["cm_parse"] if "err" in case]


@pytest.mark.parametrize("case", PARSED, ids=lambda case: case["hex"][:48])
@pytest.mark.parity("ControlMessage.Parse")
@pytest.mark.parity("control messages marshalled and parsed")
def test_parse(case):
    cm = ControlMessage()
    assert cm.parse(native(case["hex"])) is None
    wanted = from_fields(case["ok"])
    assert (cm.ttl, cm.src, cm.dst, cm.ifindex) == (
        wanted.ttl,
        wanted.src,
        wanted.dst,
        wanted.ifindex,
    )


@pytest.mark.parametrize("case", REFUSED, ids=lambda case: case["hex"])
@pytest.mark.parity("ControlMessage.Parse")
@pytest.mark.parity("control messages marshalled and parsed", "hostile headers and control data")
def test_parse_refuses_a_bad_frame_and_leaves_the_object(case):
    cm = ControlMessage(ttl=9, dst="10.0.0.9", ifindex=3)
    with pytest.raises(ValueError):
        cm.parse(native(case["hex"]))
    # Also when what stands before the bad frame is good.
    with pytest.raises(ValueError):
        cm.parse(cmsg(0, IP_TTL, b"\x40\0\0\0") + native(case["hex"]))
    assert cm == ControlMessage(ttl=9, dst="10.0.0.9", ifindex=3)


@pytest.mark.parity("ControlMessage.Parse")
def test_parse_walks_over_other_levels_and_unknown_types():
    info = struct.pack("@i4s4s", 5, b"\x0a\0\0\1", b"\xe0\0\0\5")
    wire = (
        cmsg(1, 1, b"")
        + cmsg(0, 0, b"four")
        + cmsg(0, 99, b"something")
        + cmsg(41, IP_TTL, b"\x07\0\0\0")
        + cmsg(0, IP_PKTINFO, info)
        + cmsg(0, IP_TTL, struct.pack("@i", 17), pad=False)
    )
    cm = ControlMessage()
    cm.parse(wire)
    assert (cm.ttl, cm.dst, cm.ifindex) == (17, IPv4Address("224.0.0.5"), 5)


@pytest.mark.parity("ControlMessage.Parse")
def test_parse_every_prefix_of_real_bytes_without_reading_outside():
    both = {"TTL": 64, "Dst": "127.0.0.1", "IfIndex": 1}
    whole = bytes.fromhex(next(case["hex"] for case in PARSED if case["ok"] == both))
    assert len(whole) == 56
    for length in range(len(whole) + 1):
        cm = ControlMessage()
        try:
            cm.parse(whole[:length])
        except ValueError:
            assert cm == ControlMessage()
        else:
            assert cm.dst in (None, IPv4Address("127.0.0.1"))
            assert cm.ttl in (0, 64)


@pytest.mark.parity("ControlMessage.Parse")
def test_fields_whose_message_does_not_appear_keep_their_value():
    cm = ControlMessage(dst="10.0.0.9", ifindex=3)
    cm.parse(cmsg(0, IP_TTL, struct.pack("@i", 200)))
    assert (cm.ttl, cm.dst, cm.ifindex) == (200, IPv4Address("10.0.0.9"), 3)


@pytest.mark.parity("ControlMessage.String")
@pytest.mark.parity("texts")
def test_string():
    assert str(ControlMessage()) == "ttl=0 src=<nil> dst=<nil> ifindex=0"
    cm = ControlMessage(ttl=64, src="127.0.0.1", ifindex=1)
    assert str(cm) == "ttl=64 src=127.0.0.1 dst=<nil> ifindex=1"


@pytest.mark.parity("ControlMessage")
def test_attributes_equality_and_repr():
    cm = ControlMessage()
    assert (cm.ttl, cm.src, cm.dst, cm.ifindex) == (0, None, None, 0)
    for name, value in [
        ("ttl", 255),
        ("src", IPv4Address("10.0.0.1")),
        ("dst", IPv4Address("10.0.0.2")),
        ("ifindex", 7),
    ]:
        other = ControlMessage()
        setattr(other, name, value)
        assert getattr(other, name) == value
        assert other == ControlMessage(**{name: value}) != cm
        assert name in repr(other)


@pytest.mark.parametrize("flags", range(16))
@pytest.mark.parity("NewControlMessage")
@pytest.mark.parity("control messages marshalled and parsed")
def test_new_control_message_has_room_for_exactly_what_is_asked(flags):
    room = ipv4.new_control_message(ControlFlags(flags))
    assert type(room) is bytearray
    assert room == bytes(
        (socket.CMSG_SPACE(4) if flags & 1 else 0) + (socket.CMSG_SPACE(12) if flags & 14 else 0)
    )


def test_new_control_message_agrees_with_the_vectors():
    for flags, length in VECTORS["new_control_message_len64"].items():
        room = {0: 0, 24: socket.CMSG_SPACE(4), 32: socket.CMSG_SPACE(12)}
        room[56] = room[24] + room[32]
        assert len(ipv4.new_control_message(int(flags))) == room[length]


def test_unknown_control_flags_are_refused():
    for wrong in (-1, 1 << 20):
        with pytest.raises(ValueError, match=r"^flags"):
            ipv4.new_control_message(wrong)
    with pytest.raises(TypeError, match=r"^flags"):
        ipv4.new_control_message("ttl")


@pytest.mark.parametrize("case", VECTORS["control_lists"], ids=lambda case: case["hex"][:24])
@pytest.mark.parity("ControlMessage.Marshal", "ControlMessage.Parse")
@pytest.mark.parity("control messages of any level and type")
def test_messages_of_any_level_and_type_both_ways(case):
    wire = native(case["hex"])
    listed = tuple((level, typ, bytes.fromhex(data)) for level, typ, data in case["list"])
    cm = ControlMessage()
    cm.extra = listed
    assert cm.marshal() == wire
    last = len(listed[-1][2])
    for padding in (
        0,
        socket.CMSG_SPACE(last) - socket.CMSG_LEN(last),
    ):  # the last one's padding may be cut off
        parsed = ControlMessage()
        parsed.parse(wire[: len(wire) - padding])
        assert parsed.extra == listed


# Replies


def asked(to, spec_dst, sender="10.1.0.1", ifindex=7):
    """Return what a request told, as a receive makes it."""
    info = struct.pack("@i4s4s", ifindex, IPv4Address(spec_dst).packed, IPv4Address(to).packed)
    cm = ControlMessage(src=sender)
    cm.parse(cmsg(0, IP_PKTINFO, info))
    return cm


@pytest.mark.parametrize(
    ("cm", "source", "ifindex"),
    [
        (asked("10.1.0.2", "10.1.0.2"), "10.1.0.2", 0),
        (asked("224.0.0.251", "10.1.0.2"), "10.1.0.2", 7),
        (asked("10.1.0.255", "10.1.0.2"), "10.1.0.2", 7),
        (asked("255.255.255.255", "10.1.0.2"), "10.1.0.2", 7),
        (asked("169.254.1.2", "169.254.1.2", sender="169.254.9.9"), "169.254.1.2", 7),
        (asked("10.1.0.2", "10.1.0.2", sender="169.254.9.9"), "10.1.0.2", 7),
        (asked("10.1.0.2", "10.1.0.2", sender="169.253.9.9"), "10.1.0.2", 0),
        # What came before the flags were set has neither interface nor local address.
        (asked("127.0.0.2", "0.0.0.0", ifindex=0), "127.0.0.2", 0),
        (asked("224.0.0.251", "0.0.0.0", ifindex=0), None, 0),
        (asked("255.255.255.255", "0.0.0.0", ifindex=0), None, 0),
        (ControlMessage(spec_dst="10.1.0.2", ifindex=3), "10.1.0.2", 0),
        (ControlMessage(ttl=3, ifindex=3), None, 0),
    ],
    ids=str,
)
def test_where_a_reply_leaves_from(cm, source, ifindex):
    answer = cm.reply()
    wanted = source and IPv4Address(source)
    assert (answer.src, answer.ifindex) == (wanted, ifindex)
    assert (cm.reply(interface=True).src, cm.reply(interface=True).ifindex) == (wanted, cm.ifindex)
    assert (cm.reply(False).src, cm.reply(interface=False).ifindex) == (wanted, 0)


@pytest.mark.parametrize("wrong", [1, "eth0", 0.5])
def test_a_reply_is_tied_or_not(wrong):
    with pytest.raises(TypeError, match=r"^interface must be None, True or False, not"):
        ControlMessage().reply(interface=wrong)


def test_a_reply_to_another_address_of_this_host_arrives(loopback):
    """Tied to the interface of the request it would be lost without an error."""
    with ipv4.PacketConn.udp(("127.0.0.1", 0)) as server, ipv4.PacketConn.udp() as client:
        server.set_control_message(ControlFlags.DST | ControlFlags.INTERFACE, True)
        for conn in (server, client):
            conn.set_read_deadline(time.monotonic() + 10)
        client.write_to(b"?", server.local_addr, ControlMessage(src="127.0.0.9"))
        _, cm, peer = server.read_from(bytearray(9))
        assert cm.ifindex == loopback.index
        assert cm.reply().ifindex == 0
        server.write_to(b"!", peer, cm.reply())
        assert client.read_from(bytearray(9)) == (1, None, server.local_addr)


def test_a_reply_to_what_came_before_the_flags_leaves_from_the_address_asked():
    with ipv4.PacketConn.udp() as server, ipv4.PacketConn.udp(("127.0.0.1", 0)) as client:
        for conn in (server, client):
            conn.set_read_deadline(time.monotonic() + 10)
        client.write_to(b"?", ("127.0.0.2", server.local_addr[1]))
        server.set_control_message(ControlFlags.DST | ControlFlags.INTERFACE, True)
        _, cm, peer = server.read_from(bytearray(9))
        server.write_to(b"!", peer, cm.reply())
        assert client.read_from(bytearray(9))[2] == ("127.0.0.2", server.local_addr[1])


# One reading for attributes and columns


HOSTILE = [  # level, type, data, attribute, its value, the column
    (0, IP_PKTINFO, struct.pack("@iii", -5, 0, 0), "ifindex", 0, "ifindexes"),
    (17, 104, struct.pack("@i", 70000), "segment_size", None, "segment_sizes"),
    (17, 104, struct.pack("@i", -1), "segment_size", None, "segment_sizes"),
    (17, 104, struct.pack("@i", 65535), "segment_size", 65535, "segment_sizes"),
    (0, IP_TTL, struct.pack("@i", 0x140), "ttl", 0x40, "ttls"),
    (0, IP_TTL, b"", "ttl", 0, "ttls"),
    (0, 1, b"\x2e", "tos", 0x2E, "toses"),
    (0, 1, struct.pack("@i", 0x12E), "tos", 0x2E, "toses"),
    (1, 35, bytes(struct.calcsize("@l")), "timestamp", None, "timestamps"),  # half a timespec
]

# Writes the control bytes that the environment names into what the real recvmmsg delivered.
CONTROL_WRITER = """
#define _GNU_SOURCE
#include <dlfcn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
int recvmmsg(int fd, struct mmsghdr *m, unsigned n, int flags, struct timespec *t) {
  int (*real)(int, struct mmsghdr *, unsigned, int, struct timespec *) =
      dlsym(RTLD_NEXT, "recvmmsg");
  int got = real(fd, m, n, flags, t);
  const char *hex = getenv("WIRE");
  unsigned char *out = m->msg_hdr.msg_control;
  size_t i, size = strlen(hex) / 2;
  for (i = 0; i < size; i++) sscanf(hex + 2 * i, "%2hhx", out + i);
  m->msg_hdr.msg_controllen = size;
  return got;
}
"""
COLUMN_READER = """
import os, sys, ipv4
conn = ipv4.PacketConn.udp(("127.0.0.1", 0))
for line in sys.stdin:
    wire, column = line.split()
    os.environ["WIRE"] = wire
    batch = ipv4.MessageBatch(1, 16)
    conn.write_to(b"x", conn.local_addr)
    conn.read_batch(batch)
    print(getattr(batch, column)[0])
"""


@pytest.mark.needs("cc")
@pytest.mark.unsanitized
def test_hostile_values_read_alike_as_attribute_and_as_column(tmp_path):
    with ipv4.PacketConn.udp(("127.0.0.1", 0)) as conn:
        if conn._moves_one_a_call():
            pytest.skip("portable build: it calls no recvmmsg")
    (tmp_path / "writer.c").write_text(CONTROL_WRITER)
    library = tmp_path / "writer.so"
    subprocess.run(
        ["cc", "-shared", "-fPIC", "-o", library, tmp_path / "writer.c", "-ldl"], check=True
    )
    done = subprocess.run(
        [sys.executable, "-P", "-c", COLUMN_READER],
        env=os.environ | {"LD_PRELOAD": str(library)},
        input="".join(f"{cmsg(*case[:3]).hex()} {case[5]}\n" for case in HOSTILE),
        capture_output=True,
        text=True,
        check=True,
    )
    for (level, typ, data, attribute, value, _), column in zip(
        HOSTILE, map(int, done.stdout.split()), strict=True
    ):
        cm = ControlMessage()
        cm.parse(cmsg(level, typ, data))
        assert (getattr(cm, attribute), column) == (value, value or 0), (attribute, data)


# Python's manners


def test_a_match_names_the_fields_in_the_order_of_the_constructor():
    assert ControlMessage.__match_args__[:5] == ("ttl", "src", "dst", "ifindex", "tos")
    match ControlMessage(7, "10.0.0.1"):
        case ControlMessage(ttl, src, None, 0, tos=None):
            assert (ttl, src) == (7, IPv4Address("10.0.0.1"))
        case _:
            raise AssertionError


def test_a_copy_with_other_values():
    cm = asked("224.0.0.251", "10.1.0.2")
    other = cm.__replace__(ttl=9, dst=None)
    assert (other.ttl, other.dst, other.spec_dst) == (9, None, cm.spec_dst)
    assert cm.dst == IPv4Address("224.0.0.251")
    assert cm.__replace__() == cm
    with pytest.raises(TypeError, match="no field 'colour'"):
        cm.__replace__(colour=3)


def test_what_a_receive_filled_is_not_sent_by_a_copy_either():
    with ipv4.PacketConn.udp(("127.0.0.1", 0)) as conn:
        conn.set_control_message(ControlFlags.TTL, True)
        conn.write_to(b"x", conn.local_addr)
        _, cm, _ = conn.read_from(bytearray(9))
    assert cm.src == IPv4Address("127.0.0.1")
    assert cm.__replace__(ttl=1).marshal() == b""
    assert cm.__replace__(src="127.0.0.1").marshal() != b""


def test_an_interface_is_taken_for_its_index(loopback):
    interface = ipv4.Interface(loopback.index, loopback.name)
    cm = ControlMessage(ifindex=interface)
    assert cm.ifindex == loopback.index
    cm.ifindex = 0
    cm.ifindex = (9, "eth9")
    assert cm.ifindex == 9
    for wrong in [(1, 2), ("lo", 1), (1,), (-1, "lo")]:
        with pytest.raises((TypeError, ValueError), match=r"^ifindex\b"):
            cm.ifindex = wrong
    assert cm.ifindex == 9


@pytest.mark.parity("ControlMessage", "ControlMessage.String")
def test_each_attribute_refuses_what_it_cannot_hold():
    cm = ControlMessage(ttl=64, src="127.0.0.1", ifindex=1)
    assert str(cm) == "ttl=64 src=127.0.0.1 dst=<nil> ifindex=1"
    assert str(ControlMessage()) == "ttl=0 src=<nil> dst=<nil> ifindex=0"
    assert cm == ControlMessage(64, "127.0.0.1", None, 1)
    assert cm != ControlMessage(64, "127.0.0.1", None, 2)
    assert "127.0.0.1" in repr(cm)
    with pytest.raises(TypeError):
        hash(cm)
    for name, bad in (("ttl", 256), ("ttl", -1), ("ifindex", -1), ("ifindex", 2**31), ("tos", 256),
                      ("send_ttl", 256), ("send_tos", -1), ("segment_size", 65536), ("drops", -1),
                      ("send_options", bytes(41)), ("options", bytes(41))):  # fmt: skip
        with pytest.raises(ValueError, match=name):
            setattr(cm, name, bad)
    for name in ("ttl", "ifindex", "tos", "send_ttl", "segment_size", "timestamp"):
        with pytest.raises(TypeError, match=name):
            setattr(cm, name, "1")


@pytest.mark.parity("better than the reference: a control message of level 0 and type 0")
def test_a_level_zero_type_zero_message_is_kept_as_unknown():
    cm = ControlMessage()
    cm.parse(cmsg(0, 0, b"abcd"))
    assert cm.extra == ((0, 0, b"abcd"),)


def test_a_parsed_buffer_is_not_written():
    data = bytearray(native(VECTORS["cm_parse"][9]["hex"]))
    cm = ControlMessage(dst="9.9.9.9")
    cm.parse(data)
    assert data == bytearray(native(VECTORS["cm_parse"][9]["hex"]))
    assert cm.dst == IPv4Address("127.0.0.1")


def test_what_was_received_is_not_sent_back():
    cm = ControlMessage()
    wire = cmsg(0, 2, struct.pack("=i", 64))  # IP_TTL
    wire += cmsg(17, 104, struct.pack("=i", 1200))  # UDP_GRO
    wire += cmsg(3, 3, b"unknown!")
    cm.parse(wire)
    assert (cm.ttl, cm.segment_size, cm.extra) == (64, 1200, ((3, 3, b"unknown!"),))
    assert cm.marshal() == b""
    assert copy.copy(cm) == cm
    assert pickle.loads(pickle.dumps(cm)).marshal() == b""
    cm.segment_size = 1200
    cm.extra = cm.extra
    assert len(cm.marshal()) == socket.CMSG_SPACE(2) + socket.CMSG_SPACE(8)


def test_options_of_40_bytes_are_the_most_that_a_packet_has():
    cm = ControlMessage()
    cm.parse(cmsg(0, 6, b"\1" * 40))  # IP_RECVOPTS
    assert cm.options == b"\1" * 40
    cm.parse(cmsg(0, 6, b"\2" * 41))
    assert cm.options == b"\1" * 40
