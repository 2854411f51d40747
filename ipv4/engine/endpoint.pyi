from typing_extensions import disjoint_base

from .sockopt import OptionDoor

@disjoint_base
class Endpoint(OptionDoor):
    @property
    def local_addr(self) -> tuple[str, int]: ...
