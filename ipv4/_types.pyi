"""What callers may hand in; exists for type checkers only."""

from collections.abc import Sequence
from ipaddress import IPv4Address
from typing import SupportsIndex, TypeAlias

from .bpf import Instruction
from .engine.message import Message
from .engine.message_batch import MessageBatch

Host: TypeAlias = str | IPv4Address | bytes
Address: TypeAlias = Host | tuple[Host, SupportsIndex]
InterfaceLike: TypeAlias = SupportsIndex | str | tuple[SupportsIndex, str]
Messages: TypeAlias = MessageBatch | Sequence[Message]
Program: TypeAlias = Sequence[Instruction | tuple[int, int, int, int]]
