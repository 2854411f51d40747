"""What callers may hand in, as names for annotations.

>>> from ipv4.types import Address
>>> def ask(server: Address) -> bytes: ...
"""

import sys
from collections.abc import Sequence
from ipaddress import IPv4Address
from typing import TYPE_CHECKING, SupportsIndex, TypeAlias

from .bpf import Instruction
from .engine.message import Message
from .engine.message_batch import MessageBatch

if TYPE_CHECKING:
    from typing_extensions import Buffer
elif sys.version_info >= (3, 12):
    from collections.abc import Buffer
else:  # CPython 3.11 has no name for the buffer protocol
    Buffer: TypeAlias = bytes | bytearray | memoryview

__all__ = ["Address", "Buffers", "Host", "InterfaceLike", "Messages", "Program"]

Host: TypeAlias = str | IPv4Address | bytes
"""An address without a port: a dotted quad, an `ipaddress.IPv4Address`, or 4 bytes."""

Address: TypeAlias = Host | tuple[Host, SupportsIndex]
"""A host, or a ``(host, port)`` pair."""

InterfaceLike: TypeAlias = SupportsIndex | str | tuple[SupportsIndex, str]
"""An interface by its index, its name, or an ``(index, name)`` pair, such as `ipv4.Interface`."""

Buffers: TypeAlias = Buffer | Sequence[Buffer]
"""Memory for one message: a buffer, or several that are filled or sent one after the other."""

Messages: TypeAlias = MessageBatch | Sequence[Message]
"""What `read_batch` and `write_batch` take."""

Program: TypeAlias = Sequence[Instruction | tuple[int, int, int, int]]
"""A BPF program for `set_bpf`: instructions, or machine words as tuples."""
