from typing_extensions import disjoint_base

from .readiness import Watched

@disjoint_base
class OptionDoor(Watched): ...
