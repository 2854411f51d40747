from typing import Final

FORMATS: Final[dict[str, int]]

def system_format(platform: str = ..., release: str | None = None) -> str: ...
