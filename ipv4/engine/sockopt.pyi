from typing_extensions import disjoint_base

from .wait import Waiting

@disjoint_base
class OptionDoor(Waiting): ...
