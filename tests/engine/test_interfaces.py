"""Interfaces in every form, as the conn's own network namespace knows them."""

import errno
import socket
import time

import pytest

from ipv4 import Conn, Interface, PacketConn, RawConn

GROUP = "239.7.7.7"


@pytest.fixture
def host(hosts):
    """A host whose interfaces this one has not: two links, e0 with an alias label."""
    host = hosts()
    for name in ("e0", "e1"):
        host.add_link(name, "bridge")
        host.set_link(name, up=True)
    host.add_address("10.0.0.1/24", "e0")
    host.add_address("10.0.0.2/24", "e0", label="e0:1")
    host.add_address("10.0.1.1/24", "e1")
    return host


@pytest.mark.privileged
@pytest.mark.parametrize("kind", ["udp", "raw", "conn"])
def test_the_interface_of_an_index_is_that_of_the_conns_own_namespace(host, kind):
    def make():
        if kind == "conn":
            return Conn(socket.socket(socket.AF_INET, socket.SOCK_STREAM))
        return PacketConn.udp() if kind == "udp" else RawConn.ip(253)

    with host.call(make) as conn:
        for name in ("lo", "e0", "e1"):
            found = conn.interface(host.index(name))
            assert type(found) is Interface
            assert found == (host.index(name), name)
        for unknown in (0, 9999):
            with pytest.raises(OSError, match=rf"interface {unknown}$") as caught:
                conn.interface(unknown)
            assert caught.value.errno == errno.ENODEV
        for wrong in (-1, 2**31):
            with pytest.raises(ValueError, match=r"^index\b"):
                conn.interface(wrong)
        with pytest.raises(TypeError, match=r"^index\b"):
            conn.interface("e0")
    with pytest.raises(OSError, match="closed") as caught:
        conn.interface(1)
    assert caught.value.errno == errno.EBADF


TAKERS = {
    "join_group": lambda conn, interface: conn.join_group(GROUP, interface),
    "multicast_interface": lambda conn, i: setattr(conn, "multicast_interface", i),
    "unicast_interface": lambda conn, i: setattr(conn, "unicast_interface", i),
    "bound_interface": lambda conn, i: setattr(conn, "bound_interface", i),
    "source_filter": lambda conn, interface: conn.source_filter(GROUP, interface),
}


@pytest.mark.privileged
@pytest.mark.parametrize("take", TAKERS.values(), ids=TAKERS)
def test_an_index_and_a_name_that_do_not_belong_together_are_refused(host, take):
    e0, e1 = host.index("e0"), host.index("e1")
    with PacketConn.udp(netns=host.path) as conn:
        for pair in ((e0, "e1"), (e1, "e0:1"), (e0, "gone7"), (9999, "e0"), Interface(e1, "lo")):
            with pytest.raises(OSError) as caught:
                take(conn, pair)
            assert caught.value.errno == errno.ENODEV
            assert pair[1] in str(caught.value)


@pytest.mark.privileged
@pytest.mark.parametrize("name", ["multicast_interface", "unicast_interface", "bound_interface"])
def test_an_alias_label_is_its_interface(host, name):
    e0 = host.index("e0")
    for form in ("e0:1", (e0, "e0:1")):
        with PacketConn.udp(netns=host.path) as conn:
            setattr(conn, name, form)
            assert getattr(conn, name) == (e0, "e0")


@pytest.mark.privileged
def test_a_membership_on_an_interface_that_has_gone_can_still_be_left(host):
    e1 = Interface(host.index("e1"), "e1")
    with PacketConn.udp(netns=host.path) as conn:
        conn.join_group(GROUP, e1)
        host.delete_link("e1")
        conn.leave_group(GROUP, e1)
        with pytest.raises(OSError) as caught:
            conn.join_group(GROUP, e1)
        assert caught.value.errno == errno.ENODEV


def test_interface_is_a_named_tuple():
    one = Interface(1, "lo")
    assert one == (1, "lo")
    assert (one.index, one.name) == (1, "lo")
    assert one._asdict() == {"index": 1, "name": "lo"}


@pytest.mark.parity("options")
def test_a_bound_interface_hears_only_its_own(hosts):
    a, b, c = hosts("a"), hosts("b"), hosts("c")
    hosts.link(a, b, "10.2.0.1/24", "10.2.0.2/24")
    hosts.link(c, b, "10.3.0.1/24", "10.3.0.2/24")
    with b.call(PacketConn.udp, ("0.0.0.0", 5000), bound_interface="eth1") as conn:
        for host, to in ((a, "10.2.0.2"), (c, "10.3.0.2")):
            with host.call(PacketConn.udp) as sender:
                sender.write_to(host.name.encode(), (to, 5000))
        conn.set_read_deadline(time.monotonic() + 5)
        buffer = bytearray(9)
        _, _, src = conn.read_from(buffer)
        assert src[0] == "10.3.0.1"
        with pytest.raises(BlockingIOError):
            conn.read_from(buffer, socket.MSG_DONTWAIT)
