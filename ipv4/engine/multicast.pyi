from collections.abc import Iterable
from ipaddress import IPv4Address
from typing import Literal

from ..interface import Interface
from ..types import Address, InterfaceLike

__all__ = ["Membership"]

class Membership:
    def join_group(self, group: Address, interface: InterfaceLike | None = None) -> None: ...
    def leave_group(self, group: Address, interface: InterfaceLike | None = None) -> None: ...
    def join_source_specific_group(
        self, group: Address, source: Address, interface: InterfaceLike | None = None
    ) -> None: ...
    def leave_source_specific_group(
        self, group: Address, source: Address, interface: InterfaceLike | None = None
    ) -> None: ...
    def exclude_source_specific_group(
        self, group: Address, source: Address, interface: InterfaceLike | None = None
    ) -> None: ...
    def include_source_specific_group(
        self, group: Address, source: Address, interface: InterfaceLike | None = None
    ) -> None: ...
    def join_all(
        self, group: Address, interfaces: Iterable[InterfaceLike] | None = None
    ) -> dict[Interface, OSError | None]: ...
    def source_filter(
        self, group: Address, interface: InterfaceLike | None = None
    ) -> tuple[Literal["include", "exclude"], list[IPv4Address]]: ...
    def set_source_filter(
        self,
        group: Address,
        mode: Literal["include", "exclude"],
        sources: Iterable[Address],
        interface: InterfaceLike | None = None,
    ) -> None: ...
    @property
    def multicast_interface(self) -> Interface | None: ...
    @multicast_interface.setter
    def multicast_interface(self, value: InterfaceLike | None) -> None: ...
