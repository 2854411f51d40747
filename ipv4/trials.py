"""What this kernel and these privileges allow, found by trying."""

from __future__ import annotations

import socket
from collections.abc import Callable
from typing import Any, NamedTuple

from .conn import Conn, PacketConn, RawConn
from .constants import ControlFlags
from .engine.message import Message
from .filtering import ICMPFilter
from .options import Option, rows
from .wire.cmsg import RECEIVE_OPTIONS
from .wire.control import ControlMessage

__all__ = ["features"]


class Feature(NamedTuple):
    """Something that a kernel or a privilege may deny."""

    attempt: Callable[[], object]
    use: str  # what it is for, in half a line
    takes: str  # a capability, or the version of Linux that brought it


def features() -> dict[str, OSError | NotImplementedError | None]:
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
    outcome: dict[str, OSError | NotImplementedError | None] = {}
    for name, feature in FEATURES.items():
        try:
            feature.attempt()
        except (OSError, NotImplementedError) as error:
            outcome[name] = error
        else:
            outcome[name] = None
    return outcome


def _loopback(**options: Any) -> PacketConn:
    return PacketConn.udp(("127.0.0.1", 0), **options)


def _control(flag: int) -> Callable[[], None]:
    def attempt() -> None:
        with _loopback() as conn:
            conn.set_control_message(flag, True)

    return attempt


def _option(row: Option) -> Feature:
    """The trial of a row of options.py, on a socket that has it."""

    def attempt() -> None:
        make: Callable[[], Any]
        if row.kind or row.name not in rows(PacketConn):
            make = _raw if row.name in rows(RawConn) else _stream
        else:
            make = _loopback
        with make() as conn:
            setattr(conn, row.name, row.trial)

    # What is free the first time lacks, where it does, for the kernel's age.
    capability = "" if row.free_at_first else row.takes.partition(" ")[0].rstrip(",")
    return Feature(attempt, row.use, capability or f"Linux {row.since}")


def _send(**told: Any) -> Callable[[], None]:
    def attempt() -> None:
        with _loopback() as conn:
            conn.write_to(b"12", conn.local_addr, ControlMessage(**told))
            if not conn.segmentation:
                raise OSError(5, "Input/output error: segmentation refused by the loopback")

    return attempt


def _batch() -> None:
    with _loopback() as conn:
        conn.write_batch([Message([b"1"], addr=conn.local_addr) for _ in range(2)])
        if conn._moves_one_a_call():
            raise NotImplementedError("recvmmsg and sendmmsg are not available here")


def _coalesce() -> None:
    with _loopback() as conn:
        conn.coalesce = True
        if conn._moves_one_a_call():
            raise NotImplementedError("sendmmsg is not available here")
        pair = [Message([b"1"], addr=conn.local_addr) for _ in range(2)]
        for _ in range(20):  # refusals after which it is given up
            conn.write_batch(pair)
        if not conn.coalescing:
            raise OSError(5, "Input/output error: joined messages refused by the loopback")


def _raw() -> RawConn:
    return RawConn.ip(socket.IPPROTO_ICMP, "127.0.0.1")


def _stream() -> Conn:
    return Conn(socket.socket())


def _raw_sockets() -> None:
    RawConn.ip(socket.IPPROTO_RAW).close()


def _ping() -> None:
    PacketConn.ping("127.0.0.1").close()


def _raw_option(name: str, value: Any) -> Callable[[], None]:
    def attempt() -> None:
        options: Any = {name: value}
        with RawConn.ip(socket.IPPROTO_ICMP, "127.0.0.1", **options):
            pass

    return attempt


def _ip_options() -> None:
    with _loopback(ip_options=b"\x01"):
        pass


def _connect() -> None:
    with _loopback() as conn:
        conn.connect(conn.local_addr)
        conn.disconnect()


def _memory_info() -> None:
    with _loopback() as conn:
        _ = conn.memory_info


def _multicast() -> None:
    with _loopback(multicast_ttl=1, multicast_loopback=True, multicast_interface=1) as conn:
        conn.join_group("224.0.0.254", 1)


def _bpf() -> None:
    from . import bpf

    with _loopback() as conn:
        conn.set_bpf(bpf.minimum_ttl(1))
        conn.set_bpf(None)


def _reuseport_bpf() -> None:
    from . import bpf

    with _loopback(reuse_port=True) as conn:
        conn.set_reuseport_bpf([bpf.RetConstant(0)])


def _lock_bpf() -> None:
    with _loopback() as conn:
        conn.lock_bpf()


def _timestamping() -> None:
    with _loopback() as conn:
        conn.set_timestamping(1 << 1 | 1 << 3 | 1 << 4)


def _source_filter() -> None:
    with _loopback() as conn:
        conn.join_source_specific_group("232.1.1.1", "127.0.0.1", 1)
        conn.source_filter("232.1.1.1", 1)


def _netns() -> None:
    PacketConn.udp(netns="/proc/self/ns/net").close()


# Those with a row in options.py are told there; these are calls.
FEATURES: dict[str, Feature] = {
    "batches": Feature(_batch, "read_batch and write_batch in one system call", "Linux 3.0"),
    "raw sockets": Feature(_raw_sockets, "RawConn and PacketConn.ip", "CAP_NET_RAW"),
    # Its error tells by itself what it takes.
    "ping sockets": Feature(_ping, "PacketConn.ping: echo requests without privilege", ""),
    **{
        feature: Feature(
            _control(flags), f"ControlFlags.{ControlFlags(flags).name}", f"Linux {since}"
        )
        for flags, _, _, _, _, _, since, feature in RECEIVE_OPTIONS
    },
    "send TTL per packet": Feature(_send(send_ttl=1), "ControlMessage.send_ttl", "Linux 3.13"),
    "send TOS per packet": Feature(_send(send_tos=1), "ControlMessage.send_tos", "Linux 3.13"),
    "send options per packet": Feature(
        _send(send_options=b"\x01\x01\x01\x00"), "ControlMessage.send_options", "Linux 2.2"
    ),
    "send segments (UDP_SEGMENT)": Feature(
        _send(segment_size=1), "ControlMessage.segment_size", "Linux 4.18"
    ),
    "join messages of a batch (coalesce)": Feature(
        _coalesce, "coalesce: batches at the speed of segmentation", "Linux 4.18"
    ),
    "timestamping": Feature(
        _timestamping, "set_timestamping: transmit and hardware stamps", "Linux 3.17"
    ),
    "multicast": Feature(_multicast, "join_group and the multicast_ options", "Linux 2.6"),
    "source-specific multicast": Feature(
        _source_filter, "join_source_specific_group, source_filter", "Linux 2.6"
    ),
    "options of every packet": Feature(_ip_options, "ip_options", "Linux 2.0"),
    "connected datagrams": Feature(_connect, "connect, disconnect, remote_addr", "Linux 1.0"),
    "memory_info": Feature(_memory_info, "what the queues hold, and what was lost", "Linux 4.12"),
    "router_alert": Feature(
        _raw_option("router_alert", True),
        "RawConn.router_alert: hear packets that routers shall look at",
        "CAP_NET_RAW",
    ),
    "icmp_filter": Feature(
        _raw_option("icmp_filter", ICMPFilter()),
        "which ICMP types a raw socket hears",
        "CAP_NET_RAW",
    ),
    "BPF filters": Feature(_bpf, "set_bpf", "Linux 2.2"),
    "locked BPF filters": Feature(_lock_bpf, "lock_bpf", "Linux 3.9"),
    "BPF steering of SO_REUSEPORT": Feature(_reuseport_bpf, "set_reuseport_bpf", "Linux 4.5"),
    "other network namespaces": Feature(
        _netns, "netns=: conns of other namespaces", "CAP_SYS_ADMIN"
    ),
} | {
    row.feature: _option(row)
    for table in (rows(PacketConn), rows(RawConn), rows(Conn))
    for row in table.values()
    if row.trial is not None
}
