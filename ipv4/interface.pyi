from typing import NamedTuple

__all__ = ["Interface", "MemoryInfo"]

class Interface(NamedTuple):
    index: int  # type: ignore[assignment]
    name: str

class MemoryInfo(NamedTuple):
    receive_queue: int
    receive_buffer: int
    send_queue: int
    send_buffer: int
    forward: int
    write_queued: int
    options: int
    backlog: int
    drops: int
