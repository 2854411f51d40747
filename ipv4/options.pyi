from typing import Any, Literal, Self, SupportsIndex, overload

from typing_extensions import Buffer

from .constants import PathMTUDiscovery
from .interface import Interface, MemoryInfo
from .types import InterfaceLike

__all__ = ["DatagramOptions", "FlagOption", "IntOption", "RawOptions", "UnicastOptions", "rows"]

class Option(property):
    kernel_name: str
    level: int
    option: int
    name: str
    use: str
    takes: str
    trial: Any
    feature: str
    since: str
    kind: str
    before: bool
    free_at_first: bool
    def __init__(
        self,
        kernel_name: str,
        doc: str,
        *,
        use: str = "",
        takes: str = "",
        trial: object = None,
        feature: str = "",
        since: str = "",
        kind: str = "",
        before: bool = False,
        free_at_first: bool = False,
    ) -> None: ...
    def __get__(self, conn: Any, owner: Any = None, /) -> Any: ...
    def __set__(self, conn: Any, value: Any, /) -> None: ...
    def __set_name__(self, owner: type, name: str) -> None: ...
    def check(self, value: Any) -> int: ...
    def show(self, value: int) -> Any: ...
    def read(self, conn: Any) -> Any: ...
    def write(self, conn: Any, value: Any) -> None: ...

class IntOption(Option):
    low: int
    high: int
    enum: str | None
    def __init__(
        self,
        kernel_name: str,
        low: int,
        high: int,
        doc: str,
        *,
        enum: str | None = None,
        **facts: Any,
    ) -> None: ...
    @overload
    def __get__(self, conn: None, owner: type, /) -> Self: ...
    @overload
    def __get__(self, conn: object, owner: type | None = None, /) -> int: ...
    def __set__(self, conn: object, value: SupportsIndex, /) -> None: ...

class TTLOption(IntOption): ...

class FlagOption(Option):
    @overload
    def __get__(self, conn: None, owner: type, /) -> Self: ...
    @overload
    def __get__(self, conn: object, owner: type | None = None, /) -> bool: ...
    def __set__(self, conn: object, value: bool, /) -> None: ...

class InterfaceOption(Option):
    swapped: bool
    unchecked: bool
    def __init__(
        self,
        kernel_name: str,
        doc: str,
        *,
        swapped: bool = False,
        unchecked: bool = False,
        **facts: Any,
    ) -> None: ...
    def swap(self, number: int) -> int: ...
    @overload
    def __get__(self, conn: None, owner: type, /) -> Self: ...
    @overload
    def __get__(self, conn: object, owner: type | None = None, /) -> Interface | None: ...
    def __set__(self, conn: object, value: InterfaceLike | None, /) -> None: ...

class BufferOption(IntOption):
    forced: int
    forced_name: str
    def __init__(self, kernel_name: str, forced_name: str, doc: str, **facts: Any) -> None: ...

class PortRangeOption(Option):
    @overload
    def __get__(self, conn: None, owner: type, /) -> Self: ...
    @overload
    def __get__(self, conn: object, owner: type | None = None, /) -> tuple[int, int] | None: ...
    def __set__(
        self, conn: object, value: tuple[SupportsIndex, SupportsIndex] | None, /
    ) -> None: ...

class RateOption(Option):
    NONE: int
    @overload
    def __get__(self, conn: None, owner: type, /) -> Self: ...
    @overload
    def __get__(self, conn: object, owner: type | None = None, /) -> int | None: ...
    def __set__(self, conn: object, value: SupportsIndex | None, /) -> None: ...

class UnicastOptions:
    tos: IntOption
    ttl: TTLOption
    @property
    def path_mtu_discovery(self) -> PathMTUDiscovery: ...
    @path_mtu_discovery.setter
    def path_mtu_discovery(self, value: SupportsIndex) -> None: ...
    bound_interface: InterfaceOption
    unicast_interface: InterfaceOption
    mark: IntOption
    priority: IntOption
    freebind: FlagOption
    transparent: FlagOption
    receive_errors: FlagOption
    local_port_range: PortRangeOption
    bind_address_no_port: FlagOption
    incoming_cpu: IntOption
    max_pacing_rate: RateOption
    def __dir__(self) -> list[str]: ...
    @property
    def memory_info(self) -> MemoryInfo: ...
    @property
    def pending(self) -> int: ...
    @property
    def unsent(self) -> int: ...
    @property
    def path_mtu(self) -> int: ...
    @property
    def ip_options(self) -> bytes: ...
    @ip_options.setter
    def ip_options(self, value: Buffer) -> None: ...
    @overload
    def getsockopt(  # type: ignore[overload-overlap]
        self, level: SupportsIndex, option: SupportsIndex, buflen: Literal[0] = 0
    ) -> int: ...
    @overload
    def getsockopt(
        self, level: SupportsIndex, option: SupportsIndex, buflen: SupportsIndex
    ) -> bytes: ...
    def setsockopt(
        self, level: SupportsIndex, option: SupportsIndex, value: SupportsIndex | Buffer
    ) -> None: ...

class DatagramOptions(UnicastOptions):
    multicast_ttl: IntOption
    multicast_loopback: FlagOption
    multicast_all: FlagOption
    broadcast: FlagOption
    busy_poll: IntOption
    receive_buffer: BufferOption
    send_buffer: BufferOption
    no_defragment: FlagOption

class RawOptions(DatagramOptions):
    @property
    def router_alert(self) -> bool: ...
    @router_alert.setter
    def router_alert(self, value: bool) -> None: ...

def can_be_read(conn: Any, name: str) -> bool: ...
def rows(cls: type) -> dict[str, Option]: ...
