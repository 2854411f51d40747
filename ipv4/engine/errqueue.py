"""What an entry of a socket's error queue says (ip(7), IP_RECVERR)."""

from collections import namedtuple

__all__ = ["ErrorReport"]


class ErrorReport(
    namedtuple(
        "ErrorReport",
        (
            "errno",
            "origin",
            "icmp_type",
            "icmp_code",
            "info",
            "offender",
            "addr",
            "payload",
            "timestamp",
            "key",
        ),
        defaults=(None, None),
    )
):
    """One entry of the error queue.

    Attributes
    ----------
    errno : int
        The error as the kernel would raise it, such as ``errno.ECONNREFUSED``; ENOMSG for
        timestamps, 0 for completions.
    origin : ErrorOrigin
        Who reported it.
    icmp_type, icmp_code : int or None
        Type and code of the ICMP message, None for other origins.
    info : int
        The path MTU in bytes when a packet was too big, else what the origin defines (ee_info).
    offender : ipaddress.IPv4Address or None
        The router or host that sent the ICMP message.
    addr : tuple of (str, int) or None
        Where the packet was going.
    payload : bytes
        As much of the packet's payload as came back; on raw sockets what the kernel kept of it.
    timestamp : int or None
        For origin TIMESTAMPING: nanoseconds of the realtime clock, or of the hardware's.
    key : int or None
        For origin TIMESTAMPING: number of the datagram (SOF_TIMESTAMPING_OPT_ID). For ZEROCOPY:
        the last of the sends that are done, of which `info` is the first (MSG_ZEROCOPY).
    """

    __slots__ = ()
