from ipaddress import IPv4Address
from typing import Literal, NamedTuple, SupportsIndex, overload

from ..constants import ErrorOrigin
from ..wire.control import ControlMessage
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
    control: ControlMessage | None = None

class ErrorQueue(Batches):
    @overload
    def read_error(self, wait: Literal[True]) -> ErrorReport: ...
    @overload
    def read_error(self, wait: bool = False) -> ErrorReport | None: ...
    def set_timestamping(self, flags: SupportsIndex) -> None: ...
