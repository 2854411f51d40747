"""What this machine allows, by trying; options that a kernel or a platform lacks."""

import errno
import socket
import subprocess
import sys
import textwrap

import pytest
from support import run_with_fault, without_privilege

import ipv4
from ipv4 import Conn, ControlFlags, ICMPFilter, PacketConn, PathMTUDiscovery, RawConn, bpf
from ipv4.engine.kernel import KERNEL


@pytest.mark.parity("platform: what a platform lacks")
@pytest.mark.parametrize("flag", ["IP_TOS", "SO_ATTACH_FILTER", "ICMP_FILTER", "SO_LOCK_FILTER"])
def test_a_feature_that_is_absent_is_named_with_the_platform(monkeypatch, flag):
    from ipv4.engine.kernel import KERNEL

    if flag == "IP_TOS":
        monkeypatch.setattr(PacketConn.tos, "option", -1)
    monkeypatch.setitem(KERNEL, flag, -1)
    calls = {
        "IP_TOS": lambda conn: conn.tos,
        "SO_ATTACH_FILTER": lambda conn: conn.set_bpf([ipv4.bpf.RetConstant(1)]),
        "ICMP_FILTER": lambda conn: conn.icmp_filter,
        "SO_LOCK_FILTER": lambda conn: conn.lock_bpf(),
    }
    with PacketConn.udp() as conn:
        with pytest.raises(NotImplementedError, match=rf"{flag}.* not available on {sys.platform}"):
            calls[flag](conn)


def udp(**options):
    return PacketConn.udp(("127.0.0.1", 0), **options)


def raw():
    return RawConn.ip(1, "127.0.0.1")


def tcp():
    return Conn(socket.socket())


def option(name, value):
    return lambda conn: setattr(conn, name, value)


def told(flags):
    return lambda conn: conn.set_control_message(flags, True)


GROUP, CHANNEL = "224.0.0.254", "232.1.1.1"

RET = [bpf.RetConstant(0)]

PAIR = ControlFlags.DST | ControlFlags.INTERFACE

# The option as the kernel calls it, its level, who sets it how, and what `features` calls it;
# None where every Linux has it.
ROWS = [
    ("IP_TOS", "IPPROTO_IP", udp, option("tos", 1), None),
    ("IP_TTL", "IPPROTO_IP", udp, option("ttl", 1), None),
    ("IP_MINTTL", "IPPROTO_IP", tcp, option("min_ttl", 1), "minimum TTL on TCP"),
    ("IP_MULTICAST_TTL", "IPPROTO_IP", udp, option("multicast_ttl", 1), "multicast"),
    ("IP_MULTICAST_LOOP", "IPPROTO_IP", udp, option("multicast_loopback", True), "multicast"),
    ("IP_MULTICAST_IF", "IPPROTO_IP", udp, option("multicast_interface", 1), "multicast"),
    ("IP_MULTICAST_ALL", "IPPROTO_IP", udp, option("multicast_all", False), "multicast_all"),
    ("IP_MTU_DISCOVER", "IPPROTO_IP", udp, option("path_mtu_discovery", PathMTUDiscovery.DO),
     "path MTU discovery"),
    ("SO_BINDTOIFINDEX", "SOL_SOCKET", udp, option("bound_interface", 1), "bound_interface"),
    ("IP_UNICAST_IF", "IPPROTO_IP", udp, option("unicast_interface", 1), "unicast_interface"),
    ("SO_MARK", "SOL_SOCKET", udp, option("mark", 1), "mark"),
    ("SO_PRIORITY", "SOL_SOCKET", udp, option("priority", 7), "priority above 6"),
    ("IP_FREEBIND", "IPPROTO_IP", udp, option("freebind", True), "freebind"),
    ("IP_TRANSPARENT", "IPPROTO_IP", udp, option("transparent", True), "transparent"),
    ("SO_BROADCAST", "SOL_SOCKET", udp, option("broadcast", True), "broadcast"),
    ("SO_BUSY_POLL", "SOL_SOCKET", udp, option("busy_poll", 1), "busy_poll"),
    ("IP_RECVERR", "IPPROTO_IP", udp, option("receive_errors", True), "error queue"),
    ("IP_OPTIONS", "IPPROTO_IP", udp, option("ip_options", b"\1"), "options of every packet"),
    ("IP_LOCAL_PORT_RANGE", "IPPROTO_IP", udp, option("local_port_range", (0, 9)),
     "local_port_range"),
    ("IP_BIND_ADDRESS_NO_PORT", "IPPROTO_IP", udp, option("bind_address_no_port", True),
     "bind_address_no_port"),
    ("SO_INCOMING_CPU", "SOL_SOCKET", udp, option("incoming_cpu", 0), "incoming_cpu"),
    ("SO_MAX_PACING_RATE", "SOL_SOCKET", udp, option("max_pacing_rate", 9), "max_pacing_rate"),
    ("IP_NODEFRAG", "IPPROTO_IP", raw, option("no_defragment", True), "no_defragment"),
    ("IP_ROUTER_ALERT", "IPPROTO_IP", raw, option("router_alert", True), "router_alert"),
    ("ICMP_FILTER", "SOL_RAW", raw, option("icmp_filter", ICMPFilter()), "icmp_filter"),
    ("SO_ATTACH_FILTER", "SOL_SOCKET", udp, option("min_ttl", 1), "BPF filters"),
    ("SO_ATTACH_FILTER", "SOL_SOCKET", udp, lambda conn: conn.set_bpf(RET), "BPF filters"),
    ("SO_LOCK_FILTER", "SOL_SOCKET", udp, lambda conn: conn.lock_bpf(), "locked BPF filters"),
    ("SO_ATTACH_REUSEPORT_CBPF", "SOL_SOCKET", lambda: udp(reuse_port=True),
     lambda conn: conn.set_reuseport_bpf(RET), "BPF steering of SO_REUSEPORT"),
    ("SO_TIMESTAMPING", "SOL_SOCKET", udp, lambda conn: conn.set_timestamping(26), "timestamping"),
    ("IP_RECVTTL", "IPPROTO_IP", udp, told(ControlFlags.TTL), "receive TTL"),
    ("IP_PKTINFO", "IPPROTO_IP", udp, told(PAIR), "receive destination and interface"),
    ("IP_RECVTOS", "IPPROTO_IP", udp, told(ControlFlags.TOS), "receive TOS"),
    ("SO_TIMESTAMPNS", "SOL_SOCKET", udp, told(ControlFlags.TIMESTAMP), "receive timestamps"),
    ("SO_RXQ_OVFL", "SOL_SOCKET", udp, told(ControlFlags.DROPS), "receive drop counter"),
    ("IP_RECVORIGDSTADDR", "IPPROTO_IP", udp, told(ControlFlags.ORIGINAL_DST),
     "receive original destination"),
    ("UDP_GRO", "SOL_UDP", udp, told(ControlFlags.SEGMENT_SIZE),
     "receive coalesced segments (UDP_GRO)"),
    ("IP_RECVOPTS", "IPPROTO_IP", udp, told(ControlFlags.OPTIONS), "receive options"),
    ("MCAST_JOIN_GROUP", "IPPROTO_IP", udp, lambda conn: conn.join_group(GROUP, 1), "multicast"),
    ("MCAST_JOIN_SOURCE_GROUP", "IPPROTO_IP", udp,
     lambda conn: conn.join_source_specific_group(CHANNEL, "127.0.0.1", 1),
     "source-specific multicast"),
    ("MCAST_MSFILTER", "IPPROTO_IP", udp,
     lambda conn: conn.set_source_filter(CHANNEL, "include", ["127.0.0.1"], 1), None),
]  # fmt: skip

PRIVILEGED = {
    "SO_MARK",
    "SO_PRIORITY",
    "IP_TRANSPARENT",
    "IP_ROUTER_ALERT",
    "IP_NODEFRAG",
    "ICMP_FILTER",
}

# What the text of the error calls it, where that is the verb.
VERBS = {
    "MCAST_JOIN_GROUP": "join_group",
    "MCAST_JOIN_SOURCE_GROUP": "join_source_specific_group",
    "MCAST_MSFILTER": "set_source_filter",
}


def rows():
    for row in ROWS:
        marks = [pytest.mark.privileged] if row[0] in PRIVILEGED else []
        yield pytest.param(*row, marks=marks, id=row[0])


def outcome(make, act):
    """The error, if any, of setting an option, and what `features` says."""
    with make() as conn:
        try:
            act(conn)
        except OSError as error:
            return error.errno, str(error), ipv4.features()
    return None, "", ipv4.features()


@pytest.mark.needs_faults
@pytest.mark.parametrize(("name", "level", "make", "act", "feature"), list(rows()))
@pytest.mark.parity("options", "a kernel without a feature")
def test_setting_what_a_kernel_lacks_raises_and_features_tells(name, level, make, act, feature):
    number, text, here = outcome(make, act)
    if number in (errno.ENOPROTOOPT, errno.EPERM):
        pytest.skip(f"not to be had here in the first place: {text}")
    assert (number, text) == (None, "")

    rule = ("setsockopt", KERNEL[level], KERNEL[name])
    number, text, there = run_with_fault({rule: errno.ENOPROTOOPT}, outcome, make, act)
    assert number == errno.ENOPROTOOPT
    assert VERBS.get(name, name) in text
    if feature is not None:
        assert here[feature] is None
        assert there[feature].errno == errno.ENOPROTOOPT
        assert VERBS.get(name, name) in str(there[feature])


@pytest.mark.needs_faults
@pytest.mark.parametrize(
    ("name", "plain", "forced"),
    [
        ("receive_buffer", "SO_RCVBUF", "SO_RCVBUFFORCE"),
        ("send_buffer", "SO_SNDBUF", "SO_SNDBUFFORCE"),
    ],
)
def test_a_kernel_without_the_forced_buffer_sizes_has_the_plain_ones(name, plain, forced):
    def body():
        with udp() as conn:
            setattr(conn, name, 50_000)
            return getattr(conn, name)

    level = KERNEL["SOL_SOCKET"]
    without_forced = {("setsockopt", level, KERNEL[forced]): errno.ENOPROTOOPT}
    without_any = without_forced | {("setsockopt", level, KERNEL[plain]): errno.ENOPROTOOPT}
    assert run_with_fault(without_forced, body) == 100_000
    with pytest.raises(OSError, match=plain) as caught:
        run_with_fault(without_any, body)
    assert caught.value.errno == errno.ENOPROTOOPT


@pytest.mark.needs("strace")
def test_what_a_kernel_lacks_injected_from_outside(tmp_path):
    """By strace, in a program of its own: every setsockopt(2) of it fails."""
    program = """
        import ipv4
        with ipv4.PacketConn.udp(("127.0.0.1", 0)) as conn:
            try:
                conn.multicast_all = False
            except OSError as error:
                print(error.errno, error)
        print(ipv4.features()["multicast_all"].errno)
    """
    done = subprocess.run(
        ["strace", "-f", "-o", tmp_path / "log", "-e", "trace=setsockopt",
         "-e", "inject=setsockopt:error=ENOPROTOOPT",
         sys.executable, "-P", "-c", textwrap.dedent(program)],
        capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    if "ptrace" in done.stderr:
        pytest.skip(f"strace may not trace here: {done.stderr.strip()}")
    assert done.stderr == ""
    first, second = done.stdout.splitlines()
    assert first.startswith(f"{errno.ENOPROTOOPT} ")
    assert "IP_MULTICAST_ALL" in first
    assert second == str(errno.ENOPROTOOPT)


def test_features():
    found = ipv4.features()
    assert found["batches"] is None or isinstance(found["batches"], NotImplementedError)
    assert found["receive TTL"] is None
    assert found["send segments (UDP_SEGMENT)"] is None
    joined = found["join messages of a batch (coalesce)"]
    assert joined is None or isinstance(joined, NotImplementedError)
    assert isinstance(without_privilege(ipv4.features)["raw sockets"], PermissionError)
