"""Groups and source filters: the kernel's answers, and what is then heard."""

import contextlib
import errno
import ipaddress
import json
import socket
import time
from ipaddress import IPv4Address

import pytest
from support import capture, eventually, without_privilege
from support.packets import PAYLOAD, echo

import ipv4
from ipv4 import ControlFlags, ControlMessage, Header, PacketConn, RawConn

GROUP, CHANNEL = "224.0.0.254", "232.0.1.254"
LO = 1


def udp():
    return PacketConn.udp()


def raw_payload():
    return PacketConn.ip(253)


def raw_packets():
    return RawConn.ip(253)


privileged = pytest.mark.privileged
KINDS = [
    udp,
    pytest.param(raw_payload, marks=privileged),
    pytest.param(raw_packets, marks=privileged),
]

JOIN, LEAVE = "join_group", "leave_group"
JOIN_SOURCE, LEAVE_SOURCE = "join_source_specific_group", "leave_source_specific_group"
EXCLUDE, INCLUDE = "exclude_source_specific_group", "include_source_specific_group"
ANY = (GROUP,)
ONE, TWO = (GROUP, "127.0.0.1"), (GROUP, "127.0.0.2")

# what was done before, what is then done, what the kernel answers
ANSWERS = {
    "join twice": ([(JOIN, ANY)], (JOIN, ANY), errno.EADDRINUSE),
    "join no group": ([], (JOIN, ("10.0.0.1",)), errno.EINVAL),
    "join the zero address": ([], (JOIN, ("0.0.0.0",)), errno.EINVAL),
    "join after a source": ([(JOIN_SOURCE, ONE)], (JOIN, ANY), errno.EADDRINUSE),
    "leave what was not joined": ([], (LEAVE, ANY), errno.EADDRNOTAVAIL),
    "leave no group": ([], (LEAVE, ("10.0.0.1",)), errno.EADDRNOTAVAIL),
    "leave twice": ([(JOIN, ANY), (LEAVE, ANY)], (LEAVE, ANY), errno.EADDRNOTAVAIL),
    "join a source twice": ([(JOIN_SOURCE, ONE)], (JOIN_SOURCE, ONE), errno.EADDRNOTAVAIL),
    "join a source of no group": (
        [],
        (JOIN_SOURCE, ("10.0.0.1", "127.0.0.1")),
        errno.EINVAL,
    ),
    "leave another source": ([(JOIN_SOURCE, ONE)], (LEAVE_SOURCE, TWO), errno.EADDRNOTAVAIL),
    "leave a source without membership": ([], (LEAVE_SOURCE, ONE), errno.EINVAL),
    "exclude without membership": ([], (EXCLUDE, ONE), errno.EINVAL),
    "exclude in include mode": ([(JOIN_SOURCE, ONE)], (EXCLUDE, TWO), errno.EINVAL),
    "exclude twice": ([(JOIN, ANY), (EXCLUDE, ONE)], (EXCLUDE, ONE), errno.EADDRNOTAVAIL),
    "include what is not excluded": ([(JOIN, ANY)], (INCLUDE, ONE), errno.EADDRNOTAVAIL),
    "include without membership": ([], (INCLUDE, ONE), errno.EINVAL),
}


@pytest.mark.parametrize("make", KINDS)
@pytest.mark.parametrize(("before", "act", "answer"), ANSWERS.values(), ids=ANSWERS)
@pytest.mark.parity("options read back, and the kernel's errors")
def test_the_kernels_refusal_comes_as_it_is_and_says_what_was_tried(make, before, act, answer):
    with make() as conn:
        for verb, arguments in before:
            getattr(conn, verb)(*arguments, LO)
        verb, arguments = act
        with pytest.raises(OSError) as caught:
            getattr(conn, verb)(*arguments, LO)
        assert caught.value.errno == answer
        assert f"{verb} {arguments[0]}" in str(caught.value)


def mode_of(conn):
    """Return the source filter, None without membership."""
    try:
        return conn.source_filter(GROUP, LO)
    except OSError as error:
        if error.errno != errno.EADDRNOTAVAIL:
            raise
        return None


PATHS = {
    "any source": [(JOIN, ANY), (LEAVE, ANY)],
    "exclude and include": [(JOIN, ANY), (EXCLUDE, ONE), (INCLUDE, ONE), (LEAVE, ANY)],
    "one source": [(JOIN_SOURCE, ONE), (LEAVE_SOURCE, ONE)],
    "two sources": [(JOIN_SOURCE, ONE), (JOIN_SOURCE, TWO), (LEAVE_SOURCE, ONE)],
    "leave ends sources": [(JOIN_SOURCE, ONE), (JOIN_SOURCE, TWO), (LEAVE, ANY)],
}


@pytest.mark.parametrize("make", KINDS)
@pytest.mark.parametrize("path", PATHS.values(), ids=PATHS)
@pytest.mark.parity(
    "options read back, and the kernel's errors", "memberships of interfaces that go"
)
def test_memberships_come_and_go(make, path):
    with make() as conn:
        modes = []
        for verb, arguments in path:
            assert getattr(conn, verb)(*arguments, LO) is None
            modes.append(mode_of(conn))
        assert modes == MODES[tuple(verb for verb, _ in path)]


S1, S2 = IPv4Address("127.0.0.1"), IPv4Address("127.0.0.2")
MODES = {
    (JOIN, LEAVE): [("exclude", []), None],
    (JOIN, EXCLUDE, INCLUDE, LEAVE): [
        ("exclude", []),
        ("exclude", [S1]),
        ("exclude", []),
        None,
    ],
    (JOIN_SOURCE, LEAVE_SOURCE): [("include", [S1]), None],
    (JOIN_SOURCE, JOIN_SOURCE, LEAVE_SOURCE): [
        ("include", [S1]),
        ("include", [S1, S2]),
        ("include", [S2]),
    ],
    (JOIN_SOURCE, JOIN_SOURCE, LEAVE): [("include", [S1]), ("include", [S1, S2]), None],
}


@pytest.mark.parametrize(
    ("interface", "answer"),
    [(9999, errno.ENODEV), ((9999, "gone"), errno.ENODEV), ("nonesuch0", errno.ENODEV)],
)
def test_an_unknown_interface_is_refused(interface, answer):
    with udp() as conn, pytest.raises(OSError) as caught:
        conn.join_group(GROUP, interface)
    assert caught.value.errno == answer


@pytest.mark.parametrize("verb", [JOIN, LEAVE])
def test_a_wrong_group_is_named(verb):
    with udp() as conn:
        for wrong in ("ospf.example", "ff02::1", "", b"123", ("224.0.0.5",), "224.0.0"):
            with pytest.raises((ValueError, TypeError), match=r"^group\b"):
                getattr(conn, verb)(wrong)
        for wrong in (None, 5, 1.5):
            with pytest.raises((ValueError, TypeError), match=r"^group\b"):
                getattr(conn, verb)(wrong)


@pytest.mark.parametrize("verb", [JOIN_SOURCE, LEAVE_SOURCE, EXCLUDE, INCLUDE])
def test_a_wrong_source_is_named(verb):
    with udp() as conn:
        for wrong in (None, 5, "::1", "host"):
            with pytest.raises((ValueError, TypeError), match=r"^source\b"):
                getattr(conn, verb)(CHANNEL, wrong)
            with pytest.raises((ValueError, TypeError), match=r"^group\b"):
                getattr(conn, verb)(wrong, "127.0.0.1")


@pytest.mark.parametrize("form", [GROUP, IPv4Address(GROUP), b"\xe0\0\0\xfe", (GROUP, 5000)])
@pytest.mark.parametrize("interface", [LO, "lo", (LO, "lo"), ipv4.Interface(LO, "lo")])
@pytest.mark.parity("JoinGroup", "LeaveGroup")
def test_every_form_of_group_and_interface(form, interface):
    with udp() as conn:
        conn.join_group(form, interface)
        assert conn.source_filter(GROUP, LO) == ("exclude", [])
        conn.leave_group(form, interface)


@pytest.mark.privileged
@pytest.mark.parity("ENOBUFS, ENOMEM and the limits of groups")
def test_too_many_groups_and_sources_name_the_limit(hosts):
    host = hosts()
    host.sysctl("net.ipv4.igmp_max_memberships", 3)
    host.sysctl("net.ipv4.igmp_max_msf", 2)
    with PacketConn.udp(netns=host.path) as conn:
        for last in (1, 2, 3):
            conn.join_group(f"224.0.1.{last}", LO)
        with pytest.raises(OSError, match=r"igmp_max_memberships") as caught:
            conn.join_group("224.0.1.4", LO)
        assert caught.value.errno == errno.ENOBUFS
    with PacketConn.udp(netns=host.path) as conn:
        for last in (1, 2):
            conn.join_source_specific_group(CHANNEL, f"127.0.0.{last}", LO)
        with pytest.raises(OSError, match=r"igmp_max_msf") as caught:
            conn.join_source_specific_group(CHANNEL, "127.0.0.3", LO)
        assert caught.value.errno == errno.ENOBUFS


def hears(conn, marker):
    """Say whether `marker`, sent before a last datagram that always comes, was heard."""
    seen = []
    while not seen or seen[-1] != b"last":
        room = bytearray(64)
        n, _, _ = conn.read_from(room)
        seen.append(bytes(room[:n]))
    return marker in seen


@pytest.mark.parity(
    "JoinGroup",
    "LeaveGroup",
    "JoinSourceSpecificGroup",
    "LeaveSourceSpecificGroup",
    "ExcludeSourceSpecificGroup",
    "IncludeSourceSpecificGroup",
)
def test_what_is_heard_over_a_real_link(pair):
    with (
        PacketConn.udp(("0.0.0.0", 0), netns=pair.b.path, multicast_all=False) as receiver,
        PacketConn.udp(("10.1.0.1", 0), netns=pair.a.path) as sender,
    ):
        port = receiver.local_addr[1]
        sender.multicast_interface = "eth0"
        receiver.set_deadline(time.monotonic() + 30)

        def heard(group=GROUP):
            sender.write_to(b"marker", (group, port))
            sender.write_to(b"last", ("10.1.0.2", port))
            return hears(receiver, b"marker")

        assert not heard()
        receiver.join_group(GROUP, "eth0")
        assert heard()
        receiver.exclude_source_specific_group(GROUP, "10.1.0.1", "eth0")
        assert not heard()
        receiver.include_source_specific_group(GROUP, "10.1.0.1", "eth0")
        assert heard()
        receiver.leave_group(GROUP, "eth0")
        assert not heard()
        receiver.join_source_specific_group(CHANNEL, "10.1.0.99", "eth0")
        assert not heard(CHANNEL)
        receiver.join_source_specific_group(CHANNEL, "10.1.0.1", "eth0")
        assert heard(CHANNEL)
        receiver.leave_source_specific_group(CHANNEL, "10.1.0.1", "eth0")
        assert not heard(CHANNEL)


@pytest.mark.parametrize("source", [None, "10.1.0.1"], ids=["any source", "one source"])
@pytest.mark.parity("PacketConn.ReadFrom", "PacketConn.WriteTo", "SetMulticastTTL")
def test_udp_between_hosts(pair, source):
    group = CHANNEL if source else GROUP
    with (
        PacketConn.udp((group, 0), netns=pair.b.path) as receiver,
        PacketConn.udp(netns=pair.a.path) as sender,
    ):
        receiver.set_deadline(time.monotonic() + 30)
        if source:
            receiver.join_source_specific_group(group, source, "eth0")
        else:
            receiver.join_group(group, "eth0")
        sender.multicast_interface = "eth0"
        for ttl in (1, 2, 3):
            receiver.set_control_message(FLAGS, ttl != 2)
            sender.multicast_ttl = ttl
            assert sender.write_to(PAYLOAD, (group, receiver.local_addr[1])) == 15
            room = bytearray(128)
            n, cm, src = receiver.read_from(room)
            assert (room[:n], src) == (PAYLOAD, ("10.1.0.1", sender.local_addr[1]))
            if ttl == 2:
                assert cm is None
            else:
                index = pair.b.call(socket.if_nametoindex, "eth0")
                assert (cm.ttl, cm.src, cm.dst, cm.ifindex) == (
                    ttl,
                    IPv4Address("10.1.0.1"),
                    IPv4Address(group),
                    index,
                )


FLAGS = ControlFlags.TTL | ControlFlags.DST | ControlFlags.INTERFACE


@pytest.mark.parametrize("source", [None, "10.1.0.1"], ids=["any source", "one source"])
@pytest.mark.parity("RawConn", "PacketConn.ReadFrom", "PacketConn.WriteTo")
def test_raw_icmp_between_hosts(pair, source):
    group = CHANNEL if source else GROUP
    pair.b.sysctl("net.ipv4.icmp_echo_ignore_broadcasts", 0)
    with (
        RawConn.ip(1, netns=pair.b.path) as receiver,
        RawConn.ip(1, netns=pair.a.path) as sender,
    ):
        for conn in (receiver, sender):
            conn.set_deadline(time.monotonic() + 30)
        receiver.set_control_message(FLAGS, True)
        if source:
            receiver.join_source_specific_group(group, source, "eth0")
        else:
            receiver.join_group(group, "eth0")
        sender.multicast_interface = "eth0"
        for seq in (1, 2, 3):
            header = Header(tos=seq, total_len=43, protocol=1, ttl=seq, dst=group)
            group_bytes = socket.inet_aton(group).hex()
            wire = f"450{seq}002b000000000{seq}010000" + "00000000" + group_bytes
            assert header.marshal().hex() == wire
            assert sender.write_to(header, echo(seq)) == 43
            got, payload, cm = receiver.read_from(bytearray(128))
            assert payload == echo(seq)
            assert (got.tos, got.ttl, got.src) == (seq, seq, IPv4Address("10.1.0.1"))
            assert (cm.ttl, cm.dst) == (seq, IPv4Address(group))
            # The other host's own stack answers, as a member.
            got, payload, cm = sender.read_from(bytearray(128))
            assert (got.src, got.dst) == (IPv4Address("10.1.0.2"), IPv4Address("10.1.0.1"))
            assert payload == echo(seq, typ=0)
            assert cm is None


def test_icmp_payloads_between_hosts(pair):
    with (
        PacketConn.ip(1, netns=pair.b.path) as receiver,
        PacketConn.ip(1, netns=pair.a.path) as sender,
    ):
        receiver.set_deadline(time.monotonic() + 30)
        receiver.join_group(GROUP, "eth0")
        receiver.set_control_message(FLAGS, True)
        sender.multicast_interface = "eth0"
        sender.multicast_ttl = 7
        sender.write_to(echo(1), GROUP)
        room = bytearray(128)
        n, cm, src = receiver.read_from(room)
        assert (room[:n], src) == (echo(1), ("10.1.0.1", 0))
        assert (cm.ttl, cm.dst) == (7, IPv4Address(GROUP))


@pytest.mark.parity("SetMulticastLoopback")
def test_loopback_decides_whether_the_sender_hears_itself(pair):
    with PacketConn.udp((GROUP, 0), netns=pair.a.path) as conn:
        conn.join_group(GROUP, "eth0")
        conn.multicast_interface = "eth0"
        conn.set_read_deadline(time.monotonic() + 30)
        for on in (False, True):
            conn.multicast_loopback = on
            conn.write_to(b"on" if on else b"off", conn.local_addr)
        room = bytearray(8)
        n, _, _ = conn.read_from(room)
        assert room[:n] == b"on"


@pytest.mark.parity("JoinGroup", "LeaveGroup")
def test_several_sockets_and_groups_at_once(pair):
    groups = ["224.0.0.249", "224.0.0.250", "224.0.0.254"]
    with (
        PacketConn.udp(("0.0.0.0", 0), netns=pair.a.path, reuse_address=True) as one,
        PacketConn.udp(
            ("0.0.0.0", one.local_addr[1]), netns=pair.a.path, reuse_address=True
        ) as two,
    ):
        for conn in (one, two):
            for group in groups:
                conn.join_group(group, "eth0")
        for conn in (one, two):
            for group in groups:
                conn.leave_group(group, "eth0")
            with pytest.raises(OSError):
                conn.leave_group(groups[0], "eth0")


@pytest.fixture
def host(hosts):
    """A host without routes to groups: e0 with an alias label, e1, and bare, without address."""
    host = hosts()
    for name in ("e0", "e1", "bare", "down"):
        host.add_link(name, "bridge")
        host.set_link(name, up=name != "down")
    host.add_address("10.0.0.1/24", "e0")
    host.add_address("10.0.0.2/24", "e0", label="e0:1")
    host.add_address("10.0.1.1/24", "e1")
    return host


def told(outcome):
    return {
        interface: error if error is None else error.errno for interface, error in outcome.items()
    }


@pytest.mark.privileged
def test_join_all_has_one_entry_an_interface_with_or_without_an_address(host):
    expected = {(host.index(name), name): None for name in ("e0", "e1", "bare")}
    with PacketConn.udp(netns=host.path) as conn:
        assert told(conn.join_all(GROUP)) == expected
        assert set(told(conn.join_all(GROUP)).values()) == {errno.EADDRINUSE}


@pytest.mark.privileged
def test_join_all_takes_an_interface_once_however_often_it_is_named(host):
    e0 = host.index("e0")
    with PacketConn.udp(netns=host.path) as conn:
        forms = ["e0", "e0:1", e0, (e0, "e0"), (e0, "e0:1"), ipv4.Interface(e0, "")]
        assert told(conn.join_all(GROUP, forms)) == {(e0, "e0"): None}


@pytest.mark.privileged
def test_join_all_tells_of_every_interface_whatever_happens_to_one(host):
    e0 = host.index("e0")
    with PacketConn.udp(netns=host.path) as conn:
        outcome = conn.join_all(GROUP, ["gone7", "e0", 9999, (e0, "e1"), "gone7", "lo"])
        assert told(outcome) == {
            (0, "gone7"): errno.ENODEV,
            (e0, "e0"): None,
            (9999, ""): errno.ENODEV,
            (e0, "e1"): errno.ENODEV,
            (1, "lo"): None,
        }
        assert "gone7" in str(outcome[ipv4.Interface(0, "gone7")])
        for wrong in (None, "a-name-that-is-too-long"):
            with pytest.raises((TypeError, ValueError), match=r"^interfaces\b"):
                conn.join_all(CHANNEL, ["e0", wrong])
        with pytest.raises(OSError):  # nothing was joined before the refusal
            conn.source_filter(CHANNEL, "e0")
        with pytest.raises(ValueError, match=r"^group\b"):
            conn.join_all("no group", [])


@pytest.mark.privileged
@pytest.mark.parametrize("text", ["lo", b"lo", bytearray(b"lo"), ""])
def test_a_text_is_no_list_of_interfaces_nor_of_sources(text):
    with PacketConn.udp(("127.0.0.1", 0)) as conn:
        with pytest.raises(TypeError, match="interfaces must be a list of interfaces, not"):
            conn.join_all(CHANNEL, text)
        with pytest.raises(TypeError, match="sources must be a list of addresses, not"):
            conn.set_source_filter(CHANNEL, "include", text, "lo")


def test_join_all_goes_on_when_a_link_vanishes_while_it_joins(host):
    class Vanishing(PacketConn):
        def join_group(self, group, interface=None):
            if interface.name == "e0":
                host.delete_link("e1")
            super().join_group(group, interface)

    e0, e1, bare = map(host.index, ("e0", "e1", "bare"))
    with Vanishing.udp(netns=host.path) as conn:
        outcome = told(conn.join_all(GROUP))
    assert outcome == {(e0, "e0"): None, (e1, "e1"): errno.ENODEV, (bare, "bare"): None}


@pytest.mark.privileged
@pytest.mark.parametrize(("index", "inside"), [(3000, False), (100_000, True)])
def test_join_all_finds_what_has_no_address_without_privilege(host, index, inside):
    host.add_link("far", "bridge", index=index)
    host.set_link("far", up=True)
    with PacketConn.udp(netns=host.path) as conn:
        with host.inside() if inside else contextlib.nullcontext():
            outcome = without_privilege(conn.join_all, GROUP)
    assert {interface.name for interface in outcome} == {"e0", "e1", "bare", "far"}
    assert set(outcome.values()) == {None}


@pytest.mark.privileged
def test_an_interface_is_found_by_its_address_behind_many(host):
    host.netlink(
        lambda ip: [
            ip.addr("add", index=LO, address=f"10.9.0.{last}", prefixlen=32)
            for last in range(1, 200)
        ]
    )
    with host.call(socket.socket, socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_IF, socket.inet_aton("10.0.1.1"))
        assert PacketConn(sock).multicast_interface == (host.index("e1"), "e1")


@pytest.mark.privileged
def test_without_a_route_the_error_says_what_to_do(hosts):
    with PacketConn.udp(netns=hosts().path) as conn:
        for verb, more in ((JOIN, ()), (JOIN_SOURCE, ("10.0.0.9",))):
            match = rf"{verb} {CHANNEL}.*no route to the group: name an interface"
            with pytest.raises(OSError, match=match) as caught:
                getattr(conn, verb)(CHANNEL, *more)
            assert caught.value.errno == errno.ENODEV


def member(conn, *names):
    """Of the interfaces named, those on which the conn is a member of CHANNEL."""
    found = set()
    for name in names or ("e0", "e1"):
        try:
            conn.source_filter(CHANNEL, name)
        except OSError as error:
            assert error.errno == errno.EADDRNOTAVAIL
        else:
            found.add(name)
    return found


CALLS = {
    "any source": (JOIN, LEAVE, ()),
    "one source": (JOIN_SOURCE, LEAVE_SOURCE, ("10.0.0.9",)),
    "a source, then the group": (JOIN_SOURCE, LEAVE, ("10.0.0.9",)),
}


@pytest.mark.privileged
@pytest.mark.parametrize(("join", "leave", "source"), CALLS.values(), ids=CALLS)
@pytest.mark.parametrize("option", ["multicast_interface", "bound_interface"])
def test_without_an_interface_the_conns_own_is_joined_and_that_is_left(
    host, option, join, leave, source
):
    left_with = source if leave == LEAVE_SOURCE else ()
    with PacketConn.udp(netns=host.path) as conn:
        setattr(conn, option, "e0")
        getattr(conn, join)(CHANNEL, *source)
        assert member(conn) == {"e0"}
        setattr(conn, option, "e1")
        if option == "multicast_interface":
            getattr(conn, join)(CHANNEL, *source)
            assert member(conn) == {"e0", "e1"}
            getattr(conn, leave)(CHANNEL, *left_with)
        assert member(conn) == {"e0"}
        getattr(conn, leave)(CHANNEL, *left_with)
        assert member(conn) == set()
        with pytest.raises(OSError):
            getattr(conn, leave)(CHANNEL, *left_with)


@pytest.mark.privileged
def test_multicast_interface_goes_before_bound_interface(host):
    with PacketConn.udp(netns=host.path, bound_interface="e0") as conn:
        conn.set_source_filter(CHANNEL, "exclude", [])
        assert member(conn) == {"e0"}
        conn.bound_interface = None
        conn.exclude_source_specific_group(CHANNEL, "10.0.0.9")
        assert conn.source_filter(CHANNEL) == ("exclude", [IPv4Address("10.0.0.9")])
        conn.include_source_specific_group(CHANNEL, "10.0.0.9")
        conn.leave_group(CHANNEL)
    with PacketConn.udp(netns=host.path) as conn:
        conn.multicast_interface = "e1"
        with pytest.raises(OSError):
            conn.leave_group(CHANNEL)
        conn.join_group(CHANNEL, "e0")
        conn.join_group(CHANNEL)
        conn.leave_group(CHANNEL, "e1")  # what is left by name is forgotten
        conn.multicast_interface = "e0"
        conn.leave_group(CHANNEL)
        assert member(conn) == set()


@pytest.mark.privileged
def test_what_the_kernel_chose_is_left_when_its_route_has_changed(host):
    host.add_route("232.0.0.0/8", iface="e0")
    with PacketConn.udp(netns=host.path) as conn:
        conn.join_group(CHANNEL)
        assert member(conn) == {"e0"}
        host.add_route("232.0.1.0/24", iface="e1")
        conn.leave_group(CHANNEL)
        assert member(conn) == set()


ALL = ControlFlags.TTL | ControlFlags.SRC | ControlFlags.DST | ControlFlags.INTERFACE


def test_raw_multicast_between_hosts(pair):
    with pair.b.call(RawConn.ip, 253) as receiver, pair.a.call(RawConn.ip, 253) as sender:
        receiver.set_read_deadline(time.monotonic() + 10)
        receiver.join_group("224.0.0.254", "eth0")
        receiver.set_control_message(ALL, True)
        route = ControlMessage(ifindex=sender._interface_index("eth0"))
        sender.write_to(Header(protocol=253, ttl=1, tos=0xC0, dst="224.0.0.254"), b"hello", route)
        header, payload, cm = receiver.read_from(bytearray(99))
        assert (header.ttl, header.tos, str(header.src)) == (1, 0xC0, "10.1.0.1")
        assert (bytes(payload), str(cm.dst)) == (b"hello", "224.0.0.254")


def test_whole_packets_of_one_source_are_heard(pair):
    with RawConn.ip(253, netns=pair.b.path) as hearing, RawConn.ip(253, netns=pair.a.path) as conn:
        hearing.set_deadline(time.monotonic() + 30)
        hearing.join_source_specific_group("232.0.1.254", "10.1.0.1", "eth0")
        conn.multicast_interface = "eth0"
        conn.write_to(Header(ttl=1, protocol=253, dst="232.0.1.254"), b"over the link")
        header, payload, _ = hearing.read_from(bytearray(64))
        assert (header.src, payload) == (IPv4Address("10.1.0.1"), b"over the link")


@pytest.mark.parity("options")
def test_multicast_all(pair):
    """Turned off, a socket hears its own groups alone, whatever others of the host joined."""
    options = {"reuse_address": True}
    with (
        pair.b.call(PacketConn.udp, ("0.0.0.0", 5000), **options) as other,
        pair.b.call(PacketConn.udp, ("0.0.0.0", 5000), multicast_all=False, **options) as own,
        pair.b.call(PacketConn.udp, ("0.0.0.0", 5000), **options) as every,
        pair.a.call(PacketConn.udp, ("10.1.0.1", 0), multicast_interface="eth0") as sender,
    ):
        other.join_group("224.0.0.250", "eth0")
        own.join_group("224.0.0.251", "eth0")
        for group in ("224.0.0.250", "224.0.0.251"):
            sender.write_to(group.encode(), (group, 5000))

        def heard(conn, count):
            conn.set_read_deadline(time.monotonic() + 10)
            return [read_text(conn) for _ in range(count)]

        both = ["224.0.0.250", "224.0.0.251"]
        assert heard(every, 2) == heard(other, 2) == both
        assert heard(own, 1) == both[1:]
        own.multicast_all = True
        sender.write_to(b"now too", ("224.0.0.250", 5000))
        assert heard(own, 1) == ["now too"]


def read_text(conn):
    buffer = bytearray(100)
    n, _, _ = conn.read_from(buffer)
    return buffer[:n].decode()


@pytest.mark.parity("options")
def test_a_source_filter_between_hosts(pair):
    """The whole filter at once, either mode: what it lists is heard, or all but that."""
    group = "232.1.1.1"
    for number in (11, 12, 13):
        pair.a.add_address(f"10.1.0.{number}/24", "eth0")
    with (
        pair.b.call(PacketConn.udp, ("0.0.0.0", 5000), multicast_all=False) as conn,
        pair.a.call(PacketConn.udp, ("0.0.0.0", 0), multicast_interface="eth0") as sender,
    ):
        conn.set_read_deadline(time.monotonic() + 10)
        for mode, sources, heard in (
            ("include", ["10.1.0.11"], "11"),
            ("include", ["10.1.0.12", "10.1.0.13"], "12 13"),
            ("exclude", ["10.1.0.12"], "11 13"),
            ("exclude", [], "11 12 13"),
        ):
            conn.set_source_filter(group, mode, sources, "eth0")
            found, listed = conn.source_filter(group, "eth0")
            assert (found, sorted(map(str, listed))) == (mode, sources)
            for n in (11, 12, 13):
                told = ControlMessage(src=f"10.1.0.{n}")
                sender.write_to(str(n).encode(), (group, 5000), told)
            sender.write_to(b"end", ("10.1.0.2", 5000))
            assert list(iter(lambda: read_text(conn), "end")) == heard.split()


@pytest.mark.parity("options")
def test_source_filter(conn):
    group = "232.1.1.1"
    conn.set_source_filter(group, "include", ["10.0.0.1", "10.0.0.2"], 1)
    mode, sources = conn.source_filter(group, "lo")
    assert (mode, sorted(map(str, sources))) == ("include", ["10.0.0.1", "10.0.0.2"])
    conn.set_source_filter(group, "exclude", [], 1)
    assert conn.source_filter(group, 1) == ("exclude", [])
    for bad in ("both", None, 1):
        with pytest.raises(ValueError, match="mode"):
            conn.set_source_filter(group, bad, [], 1)
    with pytest.raises(ValueError, match=r"sources\[1\]"):
        conn.set_source_filter(group, "include", ["10.0.0.1", "x"], 1)
    with pytest.raises(OSError, match="igmp_max_msf") as caught:
        conn.set_source_filter(group, "include", [f"10.0.0.{i}" for i in range(1, 12)], 1)
    assert caught.value.errno == errno.ENOBUFS
    conn.set_source_filter(group, "include", [], 1)
    with pytest.raises(OSError):
        conn.source_filter(group, 1)


@pytest.mark.parity("Router Alert and IGMP")
def test_an_igmp_report_is_read_with_its_router_alert(pair):
    with (
        pair.b.call(RawConn.ip, 2) as whole,
        pair.b.call(PacketConn.ip, 2) as payloads,
        pair.a.call(PacketConn.udp) as member,
    ):
        payloads.set_control_message(ControlFlags.OPTIONS, True)
        for conn in (whole, payloads):
            conn.set_read_deadline(time.monotonic() + 10)
            conn.join_group("224.0.0.22", "eth0")
        member.join_group("239.1.2.3", "eth0")
        payload = b""
        while not (payload[:1] == b"\x22" and b"\xef\1\2\3" in bytes(payload)):
            header, payload, _ = whole.read_from(bytearray(256))
        assert (str(header.dst), header.ttl, header.options) == ("224.0.0.22", 1, ipv4.ROUTER_ALERT)
        assert ipv4.checksum(payload) == 0
        buffer = bytearray(256)
        while b"\xef\1\2\3" not in buffer:
            _, cm, _ = payloads.read_from(buffer)
        assert cm.options == ipv4.ROUTER_ALERT


@pytest.mark.needs("bridge")
@pytest.mark.parity("Router Alert and IGMP")
def test_a_querier_accepts_our_igmp_reports(pair):
    """A snooping bridge with a querier lists the groups of well-formed reports only."""
    pair.b.add_link("br0", "bridge", br_mcast_snooping=1, br_mcast_querier=1)
    pair.b.set_link("eth0", master="br0")
    pair.b.set_link("br0", up=True)

    def listed():
        (shown,) = json.loads(pair.b.run(["bridge", "-j", "mdb", "show"]).stdout)
        return {entry["grp"] for entry in shown["mdb"] if entry["port"] == "eth0"}

    def report(group, version, flaw=0):
        number = ipaddress.IPv4Address(group).packed
        if version == 2:  # RFC 2236: to the group itself
            body, dst = b"\x16\0\0\0" + number, group
        else:  # RFC 3376: one record, "change to exclude" of no source
            body, dst = b"\x22" + bytes(6) + b"\1\4\0\0\0" + number, "224.0.0.22"
        checksum = ipv4.checksum(body) ^ flaw
        return (
            Header(protocol=2, tos=0xC0, ttl=1, dst=dst, options=ipv4.ROUTER_ALERT),
            body[:2] + checksum.to_bytes(2, "big") + body[4:],
        )

    # A port that the bridge has not yet put to forwarding learns nothing.
    eventually(lambda: "state forwarding" in pair.b.run(["bridge", "link", "show"]).stdout)
    with (
        capture(pair.b, "eth0") as seen,
        pair.a.call(RawConn.ip, 2, multicast_interface="eth0") as conn,
    ):
        conn.write_to(*report("239.1.2.1", 3, flaw=1))
        conn.write_to(*report("239.1.2.2", 2, flaw=1))
        conn.write_to(*report("239.1.2.3", 3))
        conn.write_to(*report("239.1.2.4", 2))
        eventually(lambda: {"239.1.2.3", "239.1.2.4"} <= listed())
        seen.wait_for(4)
        assert not {"239.1.2.1", "239.1.2.2"} & listed()
    ours = [packet for packet in seen.packets if packet[12:16] == b"\x0a\1\0\1"]
    assert {packet[20:24] for packet in ours} == {ipv4.ROUTER_ALERT}


@pytest.mark.parity("memberships of interfaces that go")
def test_a_closed_interface_and_its_memberships(hosts):
    a, b = hosts("a"), hosts("b")
    hosts.link(a, b, "10.9.0.1/24", "10.9.0.2/24")
    with a.call(PacketConn.udp, ("0.0.0.0", 0)) as conn:
        index = conn._interface_index("eth0")
        conn.join_group("224.0.0.250", "eth0")
        a.delete_link("eth0")
        assert conn._interface(index) == (index, "")
        conn.leave_group("224.0.0.250", index)
        with pytest.raises(OSError) as caught:
            conn.join_group("224.0.0.250", index)
        assert caught.value.errno == errno.ENODEV
        assert "224.0.0.250" in str(caught.value)
