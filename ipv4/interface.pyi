from typing import NamedTuple

__all__ = ["Interface"]

class Interface(NamedTuple):
    index: int  # type: ignore[assignment]
    name: str
