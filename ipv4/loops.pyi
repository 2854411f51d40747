import asyncio
from collections.abc import Hashable, Iterable
from typing import Any, ClassVar

from .engine.readiness import Watch

__all__ = ["CALL", "ERRORS", "READ", "WRITE", "AsyncioGate", "Gate", "TrioGate", "current_gate"]

READ: int
WRITE: int
ERRORS: int
TURN: int
CALL: int
IDLE: int

class Gate(Watch):
    waiting: dict[Any, None]
    edges: int
    idle: int
    left: ClassVar[int]
    checkpoints: ClassVar[bool]
    def __init__(self) -> None: ...
    @staticmethod
    def here() -> Hashable: ...
    @staticmethod
    async def turn() -> None: ...
    @staticmethod
    async def after() -> None: ...
    async def wait(self, seconds: float | None) -> None: ...
    def wake(self, waiting: Iterable[Any]) -> None: ...
    def told(self) -> None: ...
    def unregister(self) -> None: ...

class AsyncioGate(Gate):
    registered: bool
    thread: int
    @property
    def loop(self) -> asyncio.AbstractEventLoop: ...
    def register(self) -> bool: ...
    def add(self) -> None: ...

class TrioGate(Gate):
    leading: bool
    async def follow_or_lead(self, trio: Any) -> None: ...
    async def watch(self, trio: Any) -> None: ...

def current_gate() -> type[Gate]: ...
