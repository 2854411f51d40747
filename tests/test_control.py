"""Control messages against the bytes of Linux (struct cmsghdr of 64-bit systems)."""

import json
import struct
from ipaddress import IPv4Address
from pathlib import Path

import pytest

import ipv4
from ipv4 import ControlFlags, ControlMessage

VECTORS = json.loads((Path(__file__).parent / "vectors.json").read_text())
IP_TTL, IP_PKTINFO = 2, 8


def cmsg(level, typ, data, pad=True):
    """Return one control message as the kernel lays it out."""
    wire = struct.pack("@Lii", 16 + len(data), level, typ) + data
    return wire + bytes(-len(wire) % 8 if pad else 0)


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
def test_marshal(case):
    assert from_fields(case).marshal() == bytes.fromhex(case["hex"] or "")


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
def test_parse(case):
    cm = ControlMessage()
    assert cm.parse(bytes.fromhex(case["hex"])) is None
    wanted = from_fields(case["ok"])
    assert (cm.ttl, cm.src, cm.dst, cm.ifindex) == (
        wanted.ttl,
        wanted.src,
        wanted.dst,
        wanted.ifindex,
    )


@pytest.mark.parametrize("case", REFUSED, ids=lambda case: case["hex"])
@pytest.mark.parity("ControlMessage.Parse")
def test_parse_refuses_a_bad_frame_and_leaves_the_object(case):
    cm = ControlMessage(ttl=9, dst="10.0.0.9", ifindex=3)
    with pytest.raises(ValueError):
        cm.parse(bytes.fromhex(case["hex"]))
    # Also when what stands before the bad frame is good.
    with pytest.raises(ValueError):
        cm.parse(cmsg(0, IP_TTL, b"\x40\0\0\0") + bytes.fromhex(case["hex"]))
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
def test_new_control_message_has_room_for_exactly_what_is_asked(flags):
    room = ipv4.new_control_message(ControlFlags(flags))
    assert type(room) is bytearray
    assert room == bytes((24 if flags & 1 else 0) + (32 if flags & 14 else 0))


def test_new_control_message_agrees_with_the_vectors():
    for flags, length in VECTORS["new_control_message_len64"].items():
        assert len(ipv4.new_control_message(int(flags))) == length


def test_unknown_control_flags_are_refused():
    for wrong in (-1, 1 << 20):
        with pytest.raises(ValueError, match=r"^flags"):
            ipv4.new_control_message(wrong)
    with pytest.raises(TypeError, match=r"^flags"):
        ipv4.new_control_message("ttl")


@pytest.mark.parametrize("case", VECTORS["control_lists"], ids=lambda case: case["hex"][:24])
@pytest.mark.parity("ControlMessage.Marshal", "ControlMessage.Parse")
def test_messages_of_any_level_and_type_both_ways(case):
    wire = bytes.fromhex(case["hex"])
    listed = tuple((level, typ, bytes.fromhex(data)) for level, typ, data in case["list"])
    cm = ControlMessage()
    cm.extra = listed
    assert cm.marshal() == wire
    last = len(listed[-1][2])
    for padding in (0, -last % 8):  # the last one's padding may be cut off
        parsed = ControlMessage()
        parsed.parse(wire[: len(wire) - padding])
        assert parsed.extra == listed
