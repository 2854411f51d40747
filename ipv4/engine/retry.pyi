from typing import SupportsIndex

from typing_extensions import disjoint_base

from ..constants import ControlFlags
from ..wire.cmsg import RECEIVE_OPTIONS as RECEIVE_OPTIONS
from .endpoint import Endpoint

@disjoint_base
class Transfer(Endpoint):
    def set_control_message(self, flags: SupportsIndex, on: bool) -> None: ...
    @property
    def control_flags(self) -> ControlFlags: ...
