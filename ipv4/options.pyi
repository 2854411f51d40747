from typing import Any, Literal, Self, SupportsIndex, overload

from typing_extensions import Buffer

from ._types import InterfaceLike
from .constants import PathMTUDiscovery
from .interface import Interface

__all__ = ["DatagramOptions", "FlagOption", "IntOption", "RawOptions", "UnicastOptions"]

class Option:
    kernel_name: str
    level: int
    option: int
    name: str
    def __init__(self, kernel_name: str, level: str, doc: str) -> None: ...
    def __get__(self, conn: Any, owner: Any = None) -> Any: ...
    def __set__(self, conn: Any, value: Any) -> None: ...
    def __set_name__(self, owner: type, name: str) -> None: ...
    def check(self, value: Any) -> int: ...
    def show(self, value: int) -> Any: ...

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
        level: str = "IPPROTO_IP",
        enum: str | None = None,
    ) -> None: ...
    @overload
    def __get__(self, conn: None, owner: type) -> Self: ...
    @overload
    def __get__(self, conn: object, owner: type | None = None) -> int: ...
    def __set__(self, conn: object, value: SupportsIndex) -> None: ...

class TTLOption(IntOption): ...

class FlagOption(Option):
    def __init__(self, kernel_name: str, doc: str, level: str = "IPPROTO_IP") -> None: ...
    @overload
    def __get__(self, conn: None, owner: type) -> Self: ...
    @overload
    def __get__(self, conn: object, owner: type | None = None) -> bool: ...
    def __set__(self, conn: object, value: bool) -> None: ...

class InterfaceOption(Option):
    swapped: bool
    def __init__(self, kernel_name: str, level: str, doc: str, swapped: bool = False) -> None: ...
    def swap(self, number: int) -> int: ...
    @overload
    def __get__(self, conn: None, owner: type) -> Self: ...
    @overload
    def __get__(self, conn: object, owner: type | None = None) -> Interface | None: ...
    def __set__(self, conn: object, value: InterfaceLike | None) -> None: ...

class BufferOption(IntOption):
    forced: int
    forced_name: str
    def __init__(self, kernel_name: str, forced_name: str, doc: str) -> None: ...

class UnicastOptions:
    tos: IntOption
    ttl: TTLOption

class DatagramOptions(UnicastOptions):
    multicast_ttl: IntOption
    multicast_loopback: FlagOption
    multicast_all: FlagOption
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
    broadcast: FlagOption
    busy_poll: IntOption
    receive_buffer: BufferOption
    send_buffer: BufferOption
    receive_errors: FlagOption
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

class RawOptions(DatagramOptions):
    @property
    def router_alert(self) -> bool: ...
    @router_alert.setter
    def router_alert(self, value: bool) -> None: ...
