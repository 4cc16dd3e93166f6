"""A question that is asked again and again, never twice at the same time, and whose last answer stays."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, Generic, TypeVar

T = TypeVar("T")


class Poller(Generic[T]):
    """`ask` must end by itself: it carries its own deadline. `clock` gives monotonic seconds.

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


async def ask_all(questions: Sequence[Poller[Any]], patience_s: float) -> None:
    """Ask all side by side, and wait a moment for the answers: never for one that was late before."""
    for one in questions:
        one.settle()
        one.begin()
    waiting = [one.pending for one in questions if one.pending is not None and not one.late]
    if waiting:
        await asyncio.wait(waiting, timeout=patience_s)
    for one in questions:
        one.settle()
