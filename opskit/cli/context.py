"""What runs a command: its one event loop, and Ctrl-C, which ends it quietly and at once wherever it stands.

Before a command begins, and after it, Ctrl-C ends the process as it ends any program. In between it is
KeyboardInterrupt; where a loop runs, it is the end of the command's task.
"""

import io
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


class InputFile(io.FileIO):
    """Standard input. Ctrl-C ends a read of it also where it came just before the read began.

    Python looks for signals before a system call, the kernel once it waits in it; the pipe of
    `Interrupts` tells of those in between.
    """

    def __init__(self) -> None:
        super().__init__(0, "rb", closefd=False)

    def readinto(self, buffer: "Any", /) -> int | None:
        import select

        while Interrupts.woken is not None:
            if self.fileno() in select.select([self.fileno(), Interrupts.woken], [], [])[0]:
                break
            _drain(Interrupts.woken)
        return super().readinto(buffer)


class Interrupts:
    """Turns Ctrl-C into KeyboardInterrupt while it is armed. `came` counts how often it was pressed."""

    #: What can be read from when a signal came.
    woken: "int | None" = None

    def __init__(self) -> None:
        self.came = 0

    @contextmanager
    def armed(self) -> "Iterator[int]":
        """Yields what can be read from when a signal came."""
        outer, (woken, waker) = Interrupts.woken, os.pipe()
        os.set_blocking(woken, False)
        os.set_blocking(waker, False)
        before = signal.signal(signal.SIGINT, self._interrupt)
        before_waker = signal.set_wakeup_fd(waker, warn_on_full_buffer=False)
        Interrupts.woken = woken
        try:
            yield woken
        finally:
            signal.signal(signal.SIGINT, before)
            signal.set_wakeup_fd(before_waker)
            Interrupts.woken = outer
            os.close(woken)
            os.close(waker)

    def _interrupt(self, _number: int, _frame: "FrameType | None") -> None:
        import warnings

        # What an interrupted command leaves unfinished is no news for a person.
        warnings.simplefilter("ignore")
        sys.unraisablehook = lambda _: None
        self.came += 1
        self._end()

    def _end(self) -> None:
        raise KeyboardInterrupt


def _drain(woken: int) -> None:
    try:
        os.read(woken, 512)
    except BlockingIOError:
        return  # another wait was quicker


class _LoopInterrupts(Interrupts):
    """Turns Ctrl-C into the end of a loop's main task. A loop that does not turn, and a second Ctrl-C, is
    KeyboardInterrupt at the line that runs.
    """

    def __init__(self, loop: "AbstractEventLoop") -> None:
        super().__init__()
        self.task: Task[Any] | None = None
        self._loop = loop

    @contextmanager
    def armed(self) -> "Iterator[int]":
        before = signal.signal(signal.SIGALRM, self._overdue)
        try:
            with super().armed() as woken:
                self._loop.add_reader(woken, _drain, woken)
                yield woken
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
