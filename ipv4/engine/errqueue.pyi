from ipaddress import IPv4Address
from typing import NamedTuple

from ..constants import ErrorOrigin

__all__ = ["ErrorReport"]

class ErrorReport(NamedTuple):
    errno: int
    origin: ErrorOrigin
    icmp_type: int | None
    icmp_code: int | None
    info: int
    offender: IPv4Address | None
    addr: tuple[str, int] | None
    payload: bytes
    timestamp: int | None = None
    key: int | None = None
