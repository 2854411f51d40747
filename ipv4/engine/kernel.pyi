from typing import Final

KERNEL: Final[dict[str, int]]
LEVEL: Final[dict[str, str]]
SINCE: Final[dict[str, str]]
