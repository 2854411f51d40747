"""Control messages in the layout of this machine: cmsg(3), as the C library of the build has it."""

import socket
import struct

LARGEST = (1 << 8 * struct.calcsize("@N")) - 1  # of size_t
HEAD = socket.CMSG_LEN(0)  # 16 on 64-bit systems, 12 on 32-bit ones


def cmsg(
    level: int, kind: int, data: bytes, length: int | None = None, *, pad: bool = True
) -> bytes:
    """Return one control message; `length` is what its header says instead of the truth."""
    length = HEAD + len(data) if length is None else length
    head = struct.pack("@Nii", length & LARGEST, level, kind)
    padding = socket.CMSG_SPACE(len(data)) - socket.CMSG_LEN(len(data))
    return head.ljust(HEAD, b"\0") + data + bytes(padding if pad else 0)


def native(wire: str | bytes) -> bytes:
    """Lay control bytes of a 64-bit system, also malformed ones, out for this machine."""
    rest = bytes.fromhex(wire) if isinstance(wire, str) else wire
    if HEAD == 16:
        return rest
    laid = b""
    while len(rest) >= 16:
        length, level, kind = struct.unpack_from("=Qii", rest)
        data = rest[16 : max(length, 16)]
        whole = 16 <= length <= len(rest)
        laid += cmsg(level, kind, data, max(0, length - 16 + HEAD), pad=whole)
        rest = rest[(length + 7) & ~7 :] if whole else b""
    return laid + rest[: HEAD - 1]
