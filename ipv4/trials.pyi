from collections.abc import Callable
from typing import NamedTuple

__all__ = ["features"]

class Feature(NamedTuple):
    attempt: Callable[[], object]
    use: str
    takes: str

FEATURES: dict[str, Feature]

def features() -> dict[str, OSError | NotImplementedError | None]: ...
