"""What this kernel and these privileges allow, found by trying."""

import socket

from .conn import Conn, PacketConn, RawConn
from .constants import ControlFlags, PathMTUDiscovery
from .engine.message import Message
from .filtering import ICMPFilter
from .wire.control import ControlMessage

__all__ = ["features"]


def features():
    """Try each feature that a kernel or a privilege may deny.

    Returns
    -------
    dict of str to OSError, NotImplementedError or None
        Name of the feature and why it is not to be had; None where it works. Nothing is sent
        beyond this host's loopback address, and nothing stays open.

    Notes
    -----
    A feature that needs a privilege is denied with PermissionError: the same kernel may allow it
    to another process.
    """
    outcome = {}
    for name, attempt in ATTEMPTS.items():
        try:
            attempt()
        except (OSError, NotImplementedError) as error:
            outcome[name] = error
        else:
            outcome[name] = None
    return outcome


def _loopback(**options):
    return PacketConn.udp(("127.0.0.1", 0), **options)


def _control(flag):
    def attempt():
        with _loopback() as conn:
            conn.set_control_message(flag, True)

    return attempt


def _option(name, value):
    def attempt():
        with _loopback(**{name: value}):
            pass

    return attempt


def _send(**told):
    def attempt():
        with _loopback() as conn:
            conn.write_to(b"12", conn.local_addr, ControlMessage(**told))
            if not conn.segmentation:
                raise OSError(5, "Input/output error: segmentation refused by the loopback")

    return attempt


def _batch():
    with _loopback() as conn:
        conn.write_batch([Message([b"1"], addr=conn.local_addr) for _ in range(2)])
        if conn._sends_singly():
            raise NotImplementedError("recvmmsg and sendmmsg are not available here")


def _raw():
    RawConn.ip(socket.IPPROTO_RAW).close()


def _ping():
    PacketConn.ping("127.0.0.1").close()


def _raw_option(name, value):
    def attempt():
        with RawConn.ip(socket.IPPROTO_ICMP, "127.0.0.1", **{name: value}):
            pass

    return attempt


def _tcp_min_ttl():
    with socket.socket() as sock:
        Conn(sock).min_ttl = 1


def _multicast():
    with _loopback(multicast_ttl=1, multicast_loopback=True, multicast_interface=1) as conn:
        conn.join_group("224.0.0.254", 1)


def _bpf():
    from . import bpf

    with _loopback() as conn:
        conn.set_bpf(bpf.minimum_ttl(1))
        conn.set_bpf(None)


def _reuseport_bpf():
    from . import bpf

    with _loopback(reuse_port=True) as conn:
        conn.set_reuseport_bpf([bpf.RetConstant(0)])


def _lock_bpf():
    with _loopback() as conn:
        conn.lock_bpf()


def _timestamping():
    with _loopback() as conn:
        conn.set_timestamping(1 << 1 | 1 << 3 | 1 << 4)


def _source_filter():
    with _loopback() as conn:
        conn.join_source_specific_group("232.1.1.1", "127.0.0.1", 1)
        conn.source_filter("232.1.1.1", 1)


def _netns():
    PacketConn.udp(netns="/proc/self/ns/net").close()


ATTEMPTS = {
    "batches": _batch,
    "raw sockets": _raw,
    "ping sockets": _ping,
    "receive TTL": _control(ControlFlags.TTL),
    "receive destination and interface": _control(ControlFlags.DST | ControlFlags.INTERFACE),
    "receive TOS": _control(ControlFlags.TOS),
    "receive timestamps": _control(ControlFlags.TIMESTAMP),
    "receive drop counter": _control(ControlFlags.DROPS),
    "receive original destination": _control(ControlFlags.ORIGINAL_DST),
    "receive options": _control(ControlFlags.OPTIONS),
    "receive coalesced segments (UDP_GRO)": _control(ControlFlags.SEGMENT_SIZE),
    "send TTL per packet": _send(send_ttl=1),
    "send TOS per packet": _send(send_tos=1),
    "send options per packet": _send(send_options=b"\x01\x01\x01\x00"),
    "send segments (UDP_SEGMENT)": _send(segment_size=1),
    "timestamping": _timestamping,
    "error queue": _option("receive_errors", True),
    "multicast": _multicast,
    "source-specific multicast": _source_filter,
    "multicast_all": _option("multicast_all", False),
    "path MTU discovery": _option("path_mtu_discovery", PathMTUDiscovery.PROBE),
    "bound_interface": _option("bound_interface", 1),
    "unicast_interface": _option("unicast_interface", 1),
    "options of every packet": _option("ip_options", b"\x01"),
    "router_alert": _raw_option("router_alert", True),
    "icmp_filter": _raw_option("icmp_filter", ICMPFilter()),
    "minimum TTL on TCP": _tcp_min_ttl,
    "broadcast": _option("broadcast", True),
    "freebind": _option("freebind", True),
    "transparent": _option("transparent", True),
    "mark": _option("mark", 1),
    "priority above 6": _option("priority", 7),
    "busy_poll": _option("busy_poll", 50),
    "BPF filters": _bpf,
    "locked BPF filters": _lock_bpf,
    "BPF steering of SO_REUSEPORT": _reuseport_bpf,
    "other network namespaces": _netns,
}
