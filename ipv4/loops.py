"""What `ipv4.aio` asks of an event loop: one class for each kind, and here is all that differs.

A loop watches descriptors of the conn's own (`engine.readiness`), never the socket's. A task tries
its call, waits when it would block, and tries again when anything new happened: woken once too
often it only tries in vain. No wait is by time but for deadlines.
"""

from __future__ import annotations

import asyncio
import math
import sys
from collections.abc import Callable, Hashable, Iterable
from contextvars import Context, copy_context
from threading import get_ident
from typing import TYPE_CHECKING, Any, ClassVar

from .engine.readiness import Watch

__all__ = ["CALL", "ERRORS", "READ", "WRITE", "AsyncioGate", "Gate", "TrioGate", "current_gate"]

# As engine/wait.pxd numbers what a call waits for.
READ, WRITE, ERRORS = range(3)

# What one asyncio task may do in a row before others get their turn, counted in messages: a
# millisecond or two. A call counts as `CALL` of them besides.
TURN = 2048
CALL = 16

# So often in a row a loop is woken for nobody before its registration is taken back.
IDLE = 8


class Budget:
    """What is left of the running task's turn, in messages; a call takes `CALL` of them.

    An object, for an attribute of a class that is set has CPython look everything else of the class
    up anew.
    """

    __slots__ = ("left",)

    def __init__(self, left: int) -> None:
        self.left = left


class Gate(Watch):
    """Where the tasks of one loop wait for one direction of a conn.

    A kind of loop is a class below this one: how a task of it waits and gives up its turn.
    """

    __slots__ = ("edges", "idle", "waiting")

    def __init__(self) -> None:
        self.waiting: dict[Any, None] = {}  # whom to wake, in their order
        self.edges: int = 0  # how often something new was told
        self.idle: int = 0

    @staticmethod
    def here() -> Hashable:
        """Key of the running loop of this kind."""
        raise NotImplementedError

    budget: ClassVar[Budget]
    checkpoints: ClassVar[bool] = False  # whether each call that did not wait ends with `after`

    @staticmethod
    async def turn() -> None:
        """Let others run, and be cancelled: before anything is taken, when the budget is gone."""
        raise NotImplementedError

    @staticmethod
    async def after() -> None:
        """Let others run, but not be cancelled: something may have been taken."""

    async def wait(self, seconds: float | None) -> None:
        """Return when something new happened, when signalled, or after some seconds if not None."""
        raise NotImplementedError

    def wake(self, waiting: Iterable[Any]) -> None:
        """Let tasks that wait try again."""
        raise NotImplementedError

    def told(self) -> None:
        """Something new happened, or the conn signalled: the loop's callback."""
        # What a signal handler raises here may end this at any point: it is told again then, for
        # what was told is taken last.
        self.edges += 1
        if self.waiting:
            self.idle = 0
            self.wake(self.waiting)
            self.waiting.clear()
        else:
            self.idle += 1
        if self.ended or self.idle >= IDLE:
            self.unregister()
        self.drain()

    def unregister(self) -> None:
        """Take the registration back, if the loop keeps one."""


class Step(asyncio.Future[None]):
    """What one task waits for; the callback that ends it can go on with the task at once.

    After ``set_result`` a loop would look at all its descriptors once more before the task runs,
    which made a wake-up dearer by a system call and a third of its instructions.
    """

    going = False  # whether the task is run by `go_on`, and not by the loop
    callback: Callable[[asyncio.Future[None]], object]
    context: Context

    def add_done_callback(  # type: ignore[override]
        self,
        callback: Callable[[asyncio.Future[None]], object],
        *,
        context: Context | None = None,
    ) -> None:
        self.callback = callback
        self.context = copy_context() if context is None else context
        super().add_done_callback(callback, context=context)

    def go_on(self) -> None:
        """Run the task that waits, from a callback of its loop; what ended this can repeat it."""
        callback = self.callback
        self.going = True
        self.remove_done_callback(callback)
        if not self.done():
            self.set_result(None)
        self.context.run(callback, self)


class AsyncioGate(Gate):
    """asyncio's loops, and those of its kind such as uvloop's.

    The loop keeps the registration, under load for many waits, and with it this object: both go
    when the conn closes, when the loop does, or when nobody waits any more.
    """

    __slots__ = ("fresh", "registered", "thread")

    budget = Budget(TURN)

    def __init__(self) -> None:
        super().__init__()
        self.registered: bool = False
        self.fresh: bool = False  # whether the task that goes on is to take what was told
        self.thread: int = get_ident()

    @property
    def loop(self) -> asyncio.AbstractEventLoop:
        """The loop that watches."""
        return self.key  # type: ignore[return-value]

    @staticmethod
    def here() -> asyncio.AbstractEventLoop:
        try:
            return asyncio.get_running_loop()
        except RuntimeError:
            raise RuntimeError(
                "no event loop runs here that ipv4.aio knows: asyncio, uvloop or trio"
            ) from None

    @staticmethod
    async def turn() -> None:
        AsyncioGate.budget.left = TURN
        await asyncio.sleep(0)

    async def wait(self, seconds: float | None) -> None:
        if not self.registered and not self.register():
            return
        future = Step(loop=self.loop)
        self.waiting[future] = None
        timer = None
        if seconds is not None:
            # Loops count in milliseconds: never wake before the deadline has come.
            timer = self.loop.call_later(math.ceil(seconds * 1000) / 1000, self.wake, (future,))
        try:
            await future
        finally:
            self.waiting.pop(future, None)
            if timer is not None:
                timer.cancel()
        if self.fresh:
            self.drain()
            self.fresh = False

    def told(self) -> None:
        waiting = self.waiting
        if len(waiting) == 1 and not self.ended:
            (future,) = waiting
            if future.going or not future.done():
                self.edges += 1
                self.idle = 0
                # It takes what was told when it has come so far: until then it is told again.
                self.fresh = True
                AsyncioGate.budget.left = TURN
                future.go_on()
                return
        super().told()

    def wake(self, waiting: Iterable[Any]) -> None:
        for future in waiting:
            if not future.done():
                future.set_result(None)

    def register(self) -> bool:
        """Have the loop watch; False when the conn has ended meanwhile."""
        if not self.hold():
            return False
        self.registered = True
        # In no task's context, which the loop would keep alive as long as the registration.
        Context().run(self.add)
        return True

    def add(self) -> None:
        """Give the loop the descriptors."""
        for number, writing in self.numbers:
            (self.loop.add_writer if writing else self.loop.add_reader)(number, self.told)

    def unregister(self) -> None:
        if self.registered:
            self.registered = False
            if not self.loop.is_closed():
                for number, writing in self.numbers:
                    (self.loop.remove_writer if writing else self.loop.remove_reader)(number)
            self.let_go()

    def take_back(self) -> None:
        # Elsewhere the loop does it, which the conn's end has woken.
        loop = self.loop
        running = asyncio._get_running_loop()
        if running is loop or (
            self.thread == get_ident() and not loop.is_running() and not loop.is_closed()
        ):
            super().told()  # perhaps within a task, where no other can go on


class TrioGate(Gate):
    """trio: one of the tasks that wait leads, and watches for all. None leaves anything behind."""

    __slots__ = ("leading",)

    kept = True
    checkpoints = True
    budget = Budget(0)

    def __init__(self) -> None:
        super().__init__()
        self.leading: bool = False

    # One run after the other goes on in a thread, so that the next can use what the last one had.
    if not TYPE_CHECKING:
        here = staticmethod(get_ident)

    @staticmethod
    async def turn() -> None:
        TrioGate.budget.left = 0
        await sys.modules["trio"].lowlevel.checkpoint_if_cancelled()

    @staticmethod
    async def after() -> None:
        await sys.modules["trio"].lowlevel.cancel_shielded_checkpoint()

    async def wait(self, seconds: float | None) -> None:
        trio = sys.modules["trio"]
        if seconds is None:
            await self.follow_or_lead(trio)
        else:
            with trio.move_on_after(seconds):
                await self.follow_or_lead(trio)

    async def follow_or_lead(self, trio: Any) -> None:
        """Wait for the task that leads, or be it."""
        if self.leading:
            task = trio.lowlevel.current_task()
            self.waiting[task] = None

            def give_up(_: Any) -> Any:
                self.waiting.pop(task, None)
                return trio.lowlevel.Abort.SUCCEEDED

            await trio.lowlevel.wait_task_rescheduled(give_up)
        elif self.hold():
            self.leading = True
            try:
                await self.watch(trio)
            finally:
                self.leading = False
                # Cancelled or not: who leads next is found by trying again.
                self.told()
                self.let_go()
        else:
            await trio.lowlevel.checkpoint()

    async def watch(self, trio: Any) -> None:
        """Return when one of the descriptors is ready."""
        numbers = self.numbers
        if len(numbers) == 1:
            await trio.lowlevel.wait_readable(numbers[0][0])
            return
        async with trio.open_nursery() as nursery:

            async def first(number: int, writing: bool) -> None:
                lowlevel = trio.lowlevel
                await (lowlevel.wait_writable if writing else lowlevel.wait_readable)(number)
                nursery.cancel_scope.cancel()

            for number, writing in numbers:
                nursery.start_soon(first, number, writing)

    def wake(self, waiting: Iterable[Any]) -> None:
        reschedule = sys.modules["trio"].lowlevel.reschedule
        for task in waiting:
            reschedule(task)


def current_gate() -> type[Gate]:
    """The kind of Gate for the loop that runs here."""
    trio = sys.modules.get("trio")
    if trio is None or not trio.lowlevel.in_trio_task():
        return AsyncioGate
    # asyncio's coroutines may run inside of a task of trio's, which sniffio tells apart.
    sniffio = sys.modules.get("sniffio")
    return AsyncioGate if sniffio and sniffio.thread_local.name == "asyncio" else TrioGate
