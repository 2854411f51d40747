from typing import Final, SupportsIndex

RECEIVE_OPTIONS: Final[tuple[tuple[int, int, int, str, int, tuple[str, ...], str, str], ...]]

def new_control_message(flags: SupportsIndex) -> bytearray: ...
