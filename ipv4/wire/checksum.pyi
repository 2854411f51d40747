from typing import SupportsIndex

from typing_extensions import Buffer

from ..types import Host

def checksum(
    buf: Buffer | tuple[Buffer, ...] | list[Buffer], initial: SupportsIndex = 0
) -> int: ...
def pseudo_header(
    src: Host, dst: Host, protocol: SupportsIndex, length: SupportsIndex
) -> bytes: ...
