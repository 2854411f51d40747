from ipaddress import IPv4Address
from typing import NamedTuple, SupportsIndex

from ..constants import ErrorOrigin
from .batch import Batches

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

class ErrorQueue(Batches):
    def read_error(self) -> ErrorReport | None: ...
    def set_timestamping(self, flags: SupportsIndex) -> None: ...
