"""What runs a command: its one event loop, and Ctrl-C, which ends it quietly and at once wherever it stands.

Before a command begins, and after it, Ctrl-C ends the process as it ends any program. In between it is
KeyboardInterrupt; where a loop runs, it is the end of the command's task.
"""

import os
import signal
import sys
from contextlib import contextmanager

TYPE_CHECKING = False  # as `typing` has it, which is 3 ms that a plain search does not need
if TYPE_CHECKING:
    from asyncio import AbstractEventLoop, Task
    from collections.abc import Coroutine, Iterator
    from types import FrameType
    from typing import Any, TypeVar

    T = TypeVar("T")

#: How long a loop may be busy before its work is broken off.
_TURN_S = 0.1
#: How long a thread may go on with what it has begun.
_THREAD_S = 1.0


class Interrupts:
    """Turns Ctrl-C into KeyboardInterrupt while it is armed. `came` counts how often it was pressed."""

    def __init__(self) -> None:
        self.came = 0

    @contextmanager
    def armed(self) -> "Iterator[None]":
        before = signal.signal(signal.SIGINT, self._interrupt)
        try:
            yield
        finally:
            signal.signal(signal.SIGINT, before)

    def _interrupt(self, _number: int, _frame: "FrameType | None") -> None:
        import warnings

        # What an interrupted command leaves unfinished is no news for a person.
        warnings.simplefilter("ignore")
        sys.unraisablehook = lambda _: None
        self.came += 1
        self._end()

    def _end(self) -> None:
        raise KeyboardInterrupt


class _LoopInterrupts(Interrupts):
    """Turns Ctrl-C into the end of a loop's main task. A loop that does not turn, and a second Ctrl-C, is
    KeyboardInterrupt at the line that runs.
    """

    def __init__(self, loop: "AbstractEventLoop") -> None:
        super().__init__()
        self.task: Task[Any] | None = None
        self._loop = loop

    @contextmanager
    def armed(self) -> "Iterator[None]":
        before = signal.signal(signal.SIGALRM, self._overdue)
        try:
            with super().armed():
                yield
        finally:
            signal.setitimer(signal.ITIMER_REAL, 0)
            signal.signal(signal.SIGALRM, before)

    def _end(self) -> None:
        if self.came > 1 or self.task is None or self.task.done():
            raise KeyboardInterrupt
        from concurrent.futures import ThreadPoolExecutor

        # The loop waits at its end for the threads of the executor that it has by then.
        self._loop.set_default_executor(ThreadPoolExecutor())
        self.task.cancel()
        signal.setitimer(signal.ITIMER_REAL, _TURN_S)
        # Wakes the loop as well.
        self._loop.call_soon_threadsafe(signal.setitimer, signal.ITIMER_REAL, 0)

    def _overdue(self, _number: int, _frame: "FrameType | None") -> None:
        self._loop.set_exception_handler(lambda *_: None)
        raise KeyboardInterrupt


def run(work: "Coroutine[Any, Any, T]") -> "T":
    """The one event loop of a command. Raises KeyboardInterrupt for a command that Ctrl-C has ended."""
    try:
        import asyncio  # 18 ms that `--help` does not need

        runner = asyncio.Runner()
        interrupts = _LoopInterrupts(runner.get_loop())

        async def command() -> "T":
            interrupts.task = asyncio.current_task()
            return await work

        try:
            with interrupts.armed(), runner:
                return runner.run(command())
        except BaseException:
            if interrupts.came:
                raise KeyboardInterrupt from None
            raise
    finally:
        work.close()


def leave_threads(status: int) -> None:
    """End the process now if threads of an interrupted command go on: at its usual end Python waits for them,
    and stops other threads in the middle of foreign code, which may abort the process.
    """
    import threading

    others = [thread for thread in threading.enumerate() if thread is not threading.current_thread()]
    awaited = [thread for thread in others if not thread.daemon]
    for thread in awaited:
        thread.join(_THREAD_S / len(awaited))
    if any(thread.is_alive() for thread in others):
        sys.stderr.flush()
        os._exit(status)
