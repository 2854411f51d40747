"""Every option as a row: what a fresh socket has, what can be set, what is refused."""

import errno
import re
import socket

import pytest

import ipv4
from ipv4 import Conn, Interface, PacketConn, PathMTUDiscovery, RawConn
from ipv4.engine.kernel import KERNEL


def udp():
    return PacketConn.udp(("127.0.0.1", 0))


def raw_payload():
    return PacketConn.ip(1, "127.0.0.1")


def raw_packets():
    return RawConn.ip(1, "127.0.0.1")


def tcp():
    return Conn(socket.socket(socket.AF_INET, socket.SOCK_STREAM))


def plain_udp():
    return Conn(socket.socket(socket.AF_INET, socket.SOCK_DGRAM))


privileged = pytest.mark.privileged
DATAGRAM = [
    udp,
    pytest.param(raw_payload, marks=privileged),
    pytest.param(raw_packets, marks=privileged),
]
EVERY = [tcp, plain_udp, *DATAGRAM]

# option, its value on a fresh socket, what can be set and is read back, what is a ValueError
UNICAST_ROWS = [
    pytest.param(
        "tos", 0, [0x28, 0xC0, 255, 0], [-1, 256, 1 << 40],
        marks=pytest.mark.parity("TOS", "SetTOS"), id="tos",
    ),
    pytest.param(
        "ttl", 64, [1, 128, 255], [0, -2, 256, 1 << 40],
        marks=pytest.mark.parity("TTL", "SetTTL"), id="ttl",
    ),
]  # fmt: skip
MULTICAST_ROWS = [
    pytest.param(
        "multicast_ttl", 1, [0, 1, 2, 255], [-2, 256, 1 << 40],
        marks=pytest.mark.parity("MulticastTTL", "SetMulticastTTL"), id="multicast_ttl",
    ),
    pytest.param(
        "multicast_loopback", True, [False, True], [],
        marks=pytest.mark.parity("MulticastLoopback", "SetMulticastLoopback"),
        id="multicast_loopback",
    ),
]  # fmt: skip


def check_row(conn, name, default, values, refused):
    assert getattr(conn, name) == default
    for value in values:
        setattr(conn, name, value)
        assert getattr(conn, name) == value
        assert type(getattr(conn, name)) is type(default)
    for value in refused:
        with pytest.raises(ValueError, match=rf"^{name} must be"):
            setattr(conn, name, value)
        assert getattr(conn, name) == values[-1]
    for wrong in ("1", None, 1.5, b"1", [1]):
        with pytest.raises(TypeError, match=rf"^{name} must be"):
            setattr(conn, name, wrong)
        assert getattr(conn, name) == values[-1]
    with pytest.raises(AttributeError):
        delattr(conn, name)


@pytest.mark.parametrize("make", EVERY[1:])
@pytest.mark.parametrize(("name", "default", "values", "refused"), UNICAST_ROWS)
@pytest.mark.parity("options read back, and the kernel's errors")
def test_unicast_option(make, name, default, values, refused):
    with make() as conn:
        check_row(conn, name, default, values, refused)


@pytest.mark.parametrize("make", DATAGRAM)
@pytest.mark.parametrize(("name", "default", "values", "refused"), MULTICAST_ROWS)
@pytest.mark.parity("options read back, and the kernel's errors")
def test_multicast_option(make, name, default, values, refused):
    with make() as conn:
        check_row(conn, name, default, values, refused)


@pytest.mark.parity("Conn", "NewConn", "Conn.TOS", "Conn.SetTOS", "Conn.TTL", "Conn.SetTTL")
def test_options_of_an_established_tcp_connection():
    with socket.create_server(("127.0.0.1", 0)) as server:
        with socket.create_connection(server.getsockname()) as client, Conn(client) as conn:
            accepted, _ = server.accept()
            with Conn(accepted) as other:
                for each in (conn, other):
                    each.tos = 0x28
                    each.ttl = 255
                    assert (each.tos, each.ttl) == (0x28, 255)
                    assert client.getsockopt(socket.IPPROTO_IP, socket.IP_TTL) == 255


@pytest.mark.parametrize(("value", "kept"), [(1, 0), (3, 0), (255, 252), (0xB9, 0xB8)])
@pytest.mark.parity("Conn.SetTOS")
def test_on_tcp_the_kernel_keeps_the_ecn_bits_for_itself(value, kept):
    with tcp() as conn:
        conn.tos = value
        assert conn.tos == kept


@pytest.mark.parametrize("make", EVERY)
@pytest.mark.parity("SetTTL")
def test_a_ttl_of_minus_one_restores_the_default(make):
    with make() as conn:
        before = conn.ttl
        conn.ttl = 9
        conn.ttl = -1
        assert conn.ttl == before


@pytest.mark.parity("SetMulticastTTL")
def test_a_multicast_ttl_of_minus_one_restores_one():
    with udp() as conn:
        conn.multicast_ttl = 9
        conn.multicast_ttl = -1
        assert conn.multicast_ttl == 1


@pytest.mark.parametrize("make", DATAGRAM)
@pytest.mark.parity("MulticastInterface", "SetMulticastInterface")
@pytest.mark.parity(
    "options read back, and the kernel's errors",
    "better than the reference: the multicast interface read back (go#41854)",
)
def test_multicast_interface_is_read_as_it_was_set(make, loopback):
    index, name, _ = loopback
    with make() as conn:
        assert conn.multicast_interface is None
        for form in (index, name, (index, name), Interface(index, name)):
            conn.multicast_interface = form
            assert conn.multicast_interface == Interface(index, name) == (index, name)
            assert isinstance(conn.multicast_interface, Interface)
            conn.multicast_interface = None
            assert conn.multicast_interface is None


@pytest.mark.parity("MulticastInterface")
def test_multicast_interface_set_by_address_elsewhere_is_found(loopback):
    with udp() as conn:
        address = socket.inet_aton("127.0.0.1")
        conn.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_IF, address)
        assert conn.multicast_interface == (loopback.index, loopback.name)


@pytest.mark.parity("SetMulticastInterface")
def test_a_refused_multicast_interface_leaves_the_one_before(loopback):
    with udp() as conn:
        conn.multicast_interface = loopback.index
        for wrong, code in ((9999, errno.EADDRNOTAVAIL), ("nonesuch0", errno.ENODEV)):
            with pytest.raises(OSError) as caught:
                conn.multicast_interface = wrong
            assert caught.value.errno == code
            assert str(wrong) in str(caught.value)
        for wrong in (0, -1, 1 << 31, "", "n" * 16, "a\0b", (1, "lo", 2)):
            with pytest.raises(ValueError, match=r"^multicast_interface"):
                conn.multicast_interface = wrong
        for wrong in (1.0, b"lo", ["lo"]):
            with pytest.raises(TypeError, match=r"^multicast_interface"):
                conn.multicast_interface = wrong
        assert conn.multicast_interface == (loopback.index, loopback.name)


@pytest.mark.parametrize("name", ["tos", "ttl", "multicast_ttl", "multicast_loopback"])
@pytest.mark.parity("platform: what a platform lacks")
def test_what_a_platform_lacks_says_which_feature_and_platform(monkeypatch, name):
    import sys

    # As on a system whose headers do not know the option.
    option = PacketConn.__dict__.get(name) or getattr(PacketConn, name)
    monkeypatch.setattr(option, "option", -1)
    with udp() as conn:
        said = rf"{option.kernel_name}.* is not available on {sys.platform}"
        with pytest.raises(NotImplementedError, match=said):
            getattr(conn, name)
        with pytest.raises(NotImplementedError, match=said):
            setattr(conn, name, 1)


@pytest.mark.parity("platform: what a platform lacks")
def test_a_filter_that_the_platform_lacks_says_so(monkeypatch):
    import sys

    monkeypatch.setitem(KERNEL, "SO_ATTACH_FILTER", -1)
    with udp() as conn:
        with pytest.raises(NotImplementedError, match=rf"SO_ATTACH_FILTER.*{sys.platform}"):
            conn.set_bpf([ipv4.bpf.RawInstruction(6, 0, 0, 100)])


@pytest.mark.parametrize(("name", "number"), [("IP_HDRINCL", 3), ("ICMP_FILTER", 1)])
def test_an_option_of_another_kind_of_socket_is_refused_by_the_kernel(name, number):
    level = KERNEL["SOL_RAW"] if name == "ICMP_FILTER" else socket.IPPROTO_IP
    with udp() as conn, pytest.raises(OSError) as caught:
        conn.setsockopt(level, number, 1)
    assert caught.value.errno == errno.ENOPROTOOPT


@pytest.mark.parametrize("make", [udp, tcp])
def test_options_of_a_closed_conn_are_ebadf(make):
    conn = make()
    conn.close()
    for name in ("tos", "ttl", *(["multicast_ttl", "multicast_interface"] * (make is udp))):
        with pytest.raises(OSError) as caught:
            getattr(conn, name)
        assert caught.value.errno == errno.EBADF
        with pytest.raises(OSError) as caught:
            setattr(conn, name, 1)
        assert caught.value.errno == errno.EBADF


@pytest.mark.parity("SetTOS", "SetTTL")
def test_what_is_set_is_what_the_packets_bear(loopback):
    with udp() as sender, udp() as receiver:
        receiver.set_control_message(ipv4.ControlFlags.TTL | ipv4.ControlFlags.TOS, True)
        for tos, ttl in ((0xB8, 3), (0x03, 255)):
            sender.tos, sender.ttl = tos, ttl
            sender.write_to(b"x", receiver.local_addr)
            _, cm, _ = receiver.read_from(bytearray(1))
            assert (cm.tos, cm.ttl) == (tos, ttl)


@pytest.mark.parametrize("name", ["bound_interface", "unicast_interface", "multicast_interface"])
def test_an_interface_that_is_not_there_is_refused(name):
    with udp() as conn:
        for wrong in (9999, "nonesuch0", (1, "nonesuch0"), (9999, "lo")):
            with pytest.raises(OSError, match=re.escape(f"{wrong}")) as caught:
                setattr(conn, name, wrong)
            assert caught.value.errno in (errno.ENODEV, errno.EADDRNOTAVAIL)
            assert getattr(conn, name) is None
        with pytest.raises(OSError) as caught:
            conn.join_group("224.0.0.251", (1, "nonesuch0"))
        assert caught.value.errno == errno.ENODEV
        setattr(conn, name, (1, "lo"))
        assert getattr(conn, name) == (1, "lo")


def test_a_tcp_conn_has_the_whole_ip_level():
    with socket.create_server(("127.0.0.1", 0)) as server, socket.socket() as sock:
        conn = Conn(sock)
        with pytest.raises(OSError) as caught:
            _ = conn.path_mtu
        assert caught.value.errno == errno.ENOTCONN
        sock.connect(server.getsockname())
        assert conn.path_mtu > 0
        conn.priority, conn.path_mtu_discovery, conn.freebind = 3, 2, True
        conn.ip_options, conn.receive_errors = b"\x01", True
        assert (conn.priority, conn.path_mtu_discovery, conn.freebind) == (3, 2, True)
        assert conn.ip_options.rstrip(b"\0") == b"\x01"
        conn.setsockopt(socket.IPPROTO_IP, socket.IP_TTL, 9)
        assert conn.getsockopt(socket.IPPROTO_IP, socket.IP_TTL) == conn.ttl == 9
        with pytest.raises(OSError) as caught:
            _ = conn.original_dst
        assert caught.value.errno in (errno.ENOENT, errno.ENOPROTOOPT)
    with Conn(socket.socket(socket.AF_INET, socket.SOCK_DGRAM)) as conn:
        with pytest.raises(AttributeError, match=r"original_dst"):
            _ = conn.original_dst


def test_ports_and_rates():
    with udp() as conn:
        assert (conn.local_port_range, conn.max_pacing_rate) == (None, None)
        for given in ((40000, 50000), (0, 50000), (40000, 0), None):
            conn.local_port_range = given
            assert conn.local_port_range == given
        for wrong in ((5, 4), (0, 65536), (-1, 5)):
            with pytest.raises(ValueError, match=r"^local_port_range"):
                conn.local_port_range = wrong
        for wrong in (5, (1,), "ab", (1.5, 2)):
            with pytest.raises(TypeError, match=r"^local_port_range"):
                conn.local_port_range = wrong
        for rate in (1, 10**10, None):
            conn.max_pacing_rate = rate
            assert conn.max_pacing_rate == rate
        with pytest.raises(ValueError, match=r"^max_pacing_rate"):
            conn.max_pacing_rate = 0


@pytest.mark.privileged
def test_fragments_are_left_alone_by_raw_sockets_only():
    with RawConn.ip(253, no_defragment=True) as raw, udp() as conn:
        assert raw.no_defragment is True
        with pytest.raises(AttributeError, match=r"no_defragment: only raw sockets"):
            _ = conn.no_defragment
        with pytest.raises(OSError, match=r"IP_NODEFRAG") as caught:
            conn.no_defragment = True
        assert caught.value.errno == errno.ENOPROTOOPT


@pytest.fixture
def kinds():
    """A conn of each kind that has the options of all."""
    with PacketConn.udp() as udp, PacketConn.ip(253) as ip, RawConn.ip(253) as raw:
        yield udp, ip, raw


COMMON = [
    ("multicast_all", True, [False, True], []),
    ("path_mtu_discovery", PathMTUDiscovery.WANT, list(PathMTUDiscovery), [-1, 6]),
    ("freebind", False, [True, False], []),
    ("broadcast", False, [True, False], []),
    ("priority", 0, [1, 6], [-1, 2**31]),
    ("receive_errors", False, [True, False], []),
]


@privileged
@pytest.mark.parametrize(
    ("name", "default", "values", "refused"), COMMON, ids=lambda v: v if isinstance(v, str) else ""
)
def test_every_kind_of_conn_has_the_options(kinds, name, default, values, refused):
    for conn in kinds:
        if name != "path_mtu_discovery":  # raw sockets of IPPROTO_RAW differ
            assert getattr(conn, name) == default
        for value in values:
            setattr(conn, name, value)
            read = getattr(conn, name)
            assert read == value
            assert isinstance(read, type(value))
        for bad in refused:
            with pytest.raises(ValueError, match=rf"{name} .*{bad}"):
                setattr(conn, name, bad)
        for bad in ("1", None, 1.5, b"1"):
            with pytest.raises(TypeError, match=name):
                setattr(conn, name, bad)


def test_path_mtu(conn):
    with pytest.raises(OSError) as caught:
        _ = conn.path_mtu
    assert caught.value.errno == errno.ENOTCONN
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.connect(("127.0.0.1", 9))
        assert PacketConn(sock).path_mtu >= 65535


def test_buffer_sizes(conn):
    conn.receive_buffer = 100_000
    assert conn.receive_buffer == 200_000
    conn.send_buffer = 50_000
    assert conn.send_buffer == 100_000


@privileged
def test_options_of_the_administrator_are_read_as_they_were_set():
    with udp() as conn:
        conn.mark = 0xFFFFFFFF
        assert conn.mark == 0xFFFFFFFF
        conn.transparent = True
        assert conn.transparent is True
