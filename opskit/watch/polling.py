"""When to ask again and what was answered: a fixed beat, and questions that are never open twice."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, Generic, TypeVar

from opskit.records import Record

T = TypeVar("T")


class Ticker(Record):
    """A beat that neither drifts nor catches up: ticks are due at `began`, `began + every_s`, ..."""

    began: float
    every_s: float

    def after(self, now: float) -> tuple[int, float]:
        """Return the number of the first tick that is due later than `now`, and when that is.

        What was missed is left out: a slow tick or a sleep is followed by one tick.
        """
        number = max(0, int((now - self.began) // self.every_s) + 1)
        # The product may round to `now` or just before it.
        while self.began + number * self.every_s <= now:
            number += 1
        return number, self.began + number * self.every_s


def jump_s(wall: tuple[float, float], steady: tuple[float, float]) -> float:
    """Return how far the wall clock moved beyond the steady one: the machine slept, or its clock was set."""
    return (wall[1] - wall[0]) - (steady[1] - steady[0])


class Poller(Generic[T]):
    """A question that is asked again and again, never twice at the same time, and whose last answer stays.

    `ask` must end by itself: it carries its own deadline. `clock` gives monotonic seconds.

    `answer` is the last one, `at` when it came; `late` means that an answer is awaited for longer than a
    round wanted to wait.
    """

    def __init__(self, ask: Callable[[], Awaitable[T]], clock: Callable[[], float]) -> None:
        self._ask = ask
        self._clock = clock
        self._task: asyncio.Task[T] | None = None
        self.answer: T | None = None
        self.at: float | None = None
        self.late = False

    @property
    def pending(self) -> asyncio.Task[T] | None:
        return self._task

    def begin(self) -> None:
        """Ask, unless the answer to the last asking is still awaited."""
        if self._task is None:
            self._task = asyncio.create_task(self._once())

    async def _once(self) -> T:
        self.answer = await self._ask()
        self.at = self._clock()
        return self.answer

    def settle(self) -> None:
        """Take note of whether it was answered. Raises what the asking raised."""
        if self._task is not None and self._task.done():
            task, self._task = self._task, None
            self.late = False
            task.result()
        else:
            self.late = self._task is not None

    async def aclose(self) -> None:
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
            self._task = None


async def ask_all(pollers: Sequence[Poller[Any]], patience_s: float) -> None:
    """Ask all at once, and wait a moment for the answers: never for one that was late before."""
    for poller in pollers:
        poller.settle()
        poller.begin()
    waiting = [poller.pending for poller in pollers if poller.pending is not None and not poller.late]
    if waiting:
        await asyncio.wait(waiting, timeout=patience_s)
    for poller in pollers:
        poller.settle()
