"""Control messages as macOS, FreeBSD and NetBSD lay them out, which no machine of ours runs.

The bytes are what <sys/socket.h> and <netinet/in.h> of each system make of the message: a cmsg_len
of 4 bytes, and headers and data padded to 4 on Darwin, to 8 on FreeBSD and NetBSD. The numbers
are those of libc/numbers.h, which `.ci/cross` compiles against the headers themselves.
"""

import json
import random
import socket
import struct
import sys
from ipaddress import IPv4Address
from pathlib import Path

import pytest

from ipv4 import ControlMessage
from ipv4.wire.systems import marshal_for, parse_for

SYSTEMS = ["linux", "darwin", "freebsd", "netbsd"]
VECTORS = json.loads((Path(__file__).parent.parent / "vectors.json").read_text())
HERE, GROUP = socket.inet_aton("192.0.2.1"), socket.inet_aton("224.0.0.5")
# struct sockaddr_dl of "em0", index 5: its own length, AF_LINK, index, IFT_ETHER, 3 and 6 bytes
LINK = struct.pack("=BBHBBBB3s6s", 20, 18, 5, 6, 3, 6, 0, b"em0", bytes(6))


def pack(layout, *values):
    """`struct.pack` in this machine's byte order, with no padding but what is written."""
    return struct.pack("=" + layout, *values)


# What a packet to 224.0.0.5 with TTL 64 by interface 5 brings there.
RECEIVED = {
    "darwin, IP_RECVTTL": ("darwin", pack("3IB3x", 13, 0, 24, 64), {"ttl": 64}),
    "darwin, IP_PKTINFO": (
        "darwin",
        pack("3II4s4s", 24, 0, 26, 5, HERE, GROUP),
        {"ifindex": 5, "spec_dst": "192.0.2.1", "dst": "224.0.0.5"},
    ),
    "darwin, IP_RECVDSTADDR": ("darwin", pack("3I4s", 16, 0, 7, GROUP), {"dst": "224.0.0.5"}),
    "darwin, IP_RECVIF": ("darwin", pack("3I20s", 32, 0, 20, LINK), {"ifindex": 5}),
    "darwin, IP_RECVTOS": ("darwin", pack("3IB", 13, 0, 27, 0xB8), {"tos": 0xB8}),
    "darwin, both": (
        "darwin",
        pack("3IB3x3II4s4s", 13, 0, 24, 64, 24, 0, 26, 5, HERE, GROUP),
        {"ttl": 64, "ifindex": 5, "spec_dst": "192.0.2.1", "dst": "224.0.0.5"},
    ),
    "freebsd, IP_RECVTTL": ("freebsd", pack("3I4xB7x", 17, 0, 65, 64), {"ttl": 64}),
    "freebsd, IP_RECVDSTADDR": (
        "freebsd", pack("3I4x4s4x", 20, 0, 7, GROUP), {"dst": "224.0.0.5"},
    ),
    "freebsd, IP_RECVIF": ("freebsd", pack("3I4x54s2x", 70, 0, 20, LINK), {"ifindex": 5}),
    "freebsd, IP_RECVTOS": ("freebsd", pack("3I4xB", 17, 0, 68, 0xB8), {"tos": 0xB8}),
    "freebsd, IP_ORIGDSTADDR": (
        "freebsd",
        pack("3I4xBB2s4s8x", 32, 0, 27, 16, 2, b"\x00\x35", HERE),
        {"original_dst": ("192.0.2.1", 53)},
    ),
    "freebsd, all three": (
        "freebsd",
        pack("3I4x4s4x3I4xB7x3I4x20s", 20, 0, 7, GROUP, 17, 0, 65, 64, 36, 0, 20, LINK),
        {"ttl": 64, "ifindex": 5, "dst": "224.0.0.5"},
    ),
    "netbsd, IP_RECVTTL": ("netbsd", pack("3I4xB7x", 17, 0, 23, 64), {"ttl": 64}),
    "netbsd, IP_RECVPKTINFO": (
        "netbsd", pack("3I4x4sI", 24, 0, 25, GROUP, 5), {"ifindex": 5, "dst": "224.0.0.5"},
    ),
    "netbsd, IP_RECVDSTADDR": ("netbsd", pack("3I4x4s4x", 20, 0, 7, GROUP), {"dst": "224.0.0.5"}),
    "netbsd, IP_RECVIF": ("netbsd", pack("3I4x20s", 36, 0, 20, LINK), {"ifindex": 5}),
}  # fmt: skip


@pytest.mark.parametrize(("system", "wire", "told"), RECEIVED.values(), ids=list(RECEIVED))
def test_what_a_receive_tells_there(system, wire, told):
    cm = parse_for(system, wire)
    wanted = ControlMessage(**told)
    for name in ControlMessage.__match_args__:
        assert getattr(cm, name) == getattr(wanted, name), name


# What a send is told there.
SENT = {
    "darwin, source and interface": (
        "darwin", {"src": "192.0.2.1", "ifindex": 5}, pack("3II4s4x", 24, 0, 26, 5, HERE),
    ),
    "darwin, interface": ("darwin", {"ifindex": 5}, pack("3II8x", 24, 0, 26, 5)),
    "darwin, TOS": ("darwin", {"send_tos": 0xB8}, pack("3IB3x", 13, 0, 3, 0xB8)),
    "freebsd, source": ("freebsd", {"src": "192.0.2.1"}, pack("3I4x4s4x", 20, 0, 7, HERE)),
    "freebsd, source and TOS": (
        "freebsd",
        {"src": "192.0.2.1", "send_tos": 0xB8},
        pack("3I4x4s4x3I4xB7x", 20, 0, 7, HERE, 17, 0, 3, 0xB8),
    ),
    # There is no message for it.
    "freebsd, interface": ("freebsd", {"ifindex": 5}, b""),
    "netbsd, source and interface": (
        "netbsd", {"src": "192.0.2.1", "ifindex": 5}, pack("3I4x4sI", 24, 0, 25, HERE, 5),
    ),
    "netbsd, interface": ("netbsd", {"ifindex": 5}, pack("3I4x4xI", 24, 0, 25, 5)),
    "netbsd, a message of one's own": (
        "netbsd", {"extra": [(1, 2, b"four")]}, pack("3I4x4s4x", 20, 1, 2, b"four"),
    ),
}  # fmt: skip


@pytest.mark.parametrize(("system", "given", "wire"), SENT.values(), ids=list(SENT))
def test_what_a_send_is_told_there(system, given, wire):
    assert marshal_for(system, ControlMessage(**given)) == wire


@pytest.mark.parametrize("system", SYSTEMS)
def test_an_unknown_message_is_kept_whole(system):
    whole = marshal_for(system, ControlMessage(extra=[(41, 50, b"abc"), (0, 99, b"")], ifindex=3))
    assert parse_for(system, whole).extra == ((41, 50, b"abc"), (0, 99, b""))


@pytest.mark.parametrize("system", SYSTEMS)
def test_lengths_that_lie_are_refused_there_too(system):
    one = marshal_for(system, ControlMessage(extra=[(0, 99, b"four")]))
    word = "=Q" if system == "linux" else "=I"
    head = len(marshal_for(system, ControlMessage(extra=[(0, 99, b"")])))
    for length in (0, 1, head - 1, len(one) + 1, 2**31, 2**32 - 1):
        lying = struct.pack(word, length) + one[struct.calcsize(word) :]
        with pytest.raises(ValueError, match="at offset 0"):
            parse_for(system, lying)
        with pytest.raises(ValueError, match=f"at offset {len(one)}"):
            parse_for(system, one + lying)
    assert parse_for(system, one + one[: head - 1]).extra == ((0, 99, b"four"),)


@pytest.mark.parametrize("system", SYSTEMS)
def test_any_bytes_are_read_or_refused(system):
    chance = random.Random(17)
    for _ in range(3000):
        layout = "=Qii" if system == "linux" else "=Iii4x"
        wire = bytearray()
        for _ in range(chance.randrange(4)):
            data = chance.randbytes(chance.randrange(30))
            length = chance.choice([16 + len(data), chance.randrange(60)])
            wire += struct.pack(layout, length, chance.choice([0, 0, 17]), chance.randrange(70))
            wire += data
        try:
            cm = parse_for(system, wire)
        except ValueError:
            continue
        for kind, value in (("ttl", 255), ("ifindex", 2**31 - 1)):
            assert 0 <= getattr(cm, kind) <= value


@pytest.mark.skipif(
    socket.CMSG_LEN(0) != 16 or sys.platform != "linux", reason="this is not 64-bit Linux"
)
def test_the_table_of_linux_is_what_conns_use():
    for case in VECTORS["cm_parse"]:
        if "ok" not in case:
            continue
        cm = ControlMessage()
        cm.parse(bytes.fromhex(case["hex"]))
        assert parse_for("linux", bytes.fromhex(case["hex"])) == cm
    cm = ControlMessage(
        src="192.0.2.1", ifindex=7, send_ttl=3, send_tos=4, send_options=b"\1" * 4,
        segment_size=500, extra=[(1, 2, b"abc")],
    )  # fmt: skip
    assert marshal_for("linux", cm) == cm.marshal()
    assert len(cm.marshal()) == 32 + 24 + 24 + 24 + 24 + 24


def test_a_system_that_is_not_written_down_is_named():
    with pytest.raises(ValueError, match=r"one of linux, darwin, freebsd, netbsd, not 'plan9'"):
        marshal_for("plan9", ControlMessage())
    with pytest.raises(TypeError):
        marshal_for("linux", None)
    assert IPv4Address("224.0.0.5").packed == GROUP
