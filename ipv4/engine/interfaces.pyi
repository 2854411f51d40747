from typing import SupportsIndex

from ..interface import Interface
from .sockopt import OptionDoor

class InterfaceLookup(OptionDoor):
    def interface(self, index: SupportsIndex) -> Interface: ...
