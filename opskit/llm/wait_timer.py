"""A deadline for many short waits of one task: one timer, moved along, instead of one for each wait.

`asyncio.timeout` around every token costs more than the token. A watch keeps a single timer, and its due time
is a plain attribute; the timer looks again when it fires. It interrupts only while `wait` waits, so it may
stand around an async generator that yields between two waits.
"""

import asyncio
from collections.abc import Awaitable, Callable
from typing import TypeVar

T = TypeVar("T")


def _expire() -> float | None:
    return None


class WaitTimer:
    """For one task at a time. Close it when done: `with contextlib.closing(Watch()) as watch`."""

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._timer: asyncio.TimerHandle | None = None
        self._due = 0.0
        self._on_due: Callable[[], float | None] = _expire
        self._task: asyncio.Task[object] | None = None
        self._expired = False

    async def wait(
        self, work: Awaitable[T], seconds: float, on_due: Callable[[], float | None] = _expire
    ) -> T:
        """The result of `work`. Raises TimeoutError when it is not there in time; `work` is then cancelled.

        `on_due` is asked when the time is over: it returns for how many seconds more to wait, or None to give
        up.
        """
        task = asyncio.current_task()
        if task is None:
            raise RuntimeError("a watch works inside a task")
        cancelling = task.cancelling()
        self._on_due, self._expired, self._task = on_due, False, task
        self._arm(max(0.0, seconds))
        try:
            return await work
        except asyncio.CancelledError:
            if self._expired and task.cancelling() <= cancelling + 1:
                raise TimeoutError from None
            raise
        finally:
            self._task = None
            if self._expired:
                # However `work` took it: the cancellation was ours, and is over.
                task.uncancel()

    def close(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _arm(self, seconds: float) -> None:
        self._due = self._loop.time() + seconds
        # A timer that fires too early looks again; only one that would fire too late is replaced.
        if self._timer is None or self._timer.when() > self._due:
            self.close()
            self._timer = self._loop.call_at(self._due, self._fire)

    def _fire(self) -> None:
        self._timer = None
        if self._task is None:
            return
        if self._loop.time() < self._due:
            self._timer = self._loop.call_at(self._due, self._fire)
            return
        more = self._on_due()
        if more is not None:
            self._arm(max(0.0, more))
            return
        self._expired = True
        self._task.cancel()
