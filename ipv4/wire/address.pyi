# What the modules that are not compiled use; the rest are C functions.

from typing import Any

def bind_address(value: Any, name: str) -> tuple[str, int]: ...
