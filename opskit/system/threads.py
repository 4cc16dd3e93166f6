"""Threads that may be left behind: what hangs in one delays neither its check nor the end of the run."""

import asyncio
import contextlib
import os
import sys
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from queue import SimpleQueue
from typing import Any


@dataclass(slots=True, eq=False)
class _Work:
    future: Future[Any]
    call: Callable[[], Any]

    def do(self) -> None:
        if not self.future.set_running_or_notify_cancel():
            return
        try:
            result = self.call()
        except BaseException as exc:  # noqa: BLE001 - carried to the waiting task
            self.future.set_exception(exc)
        else:
            self.future.set_result(result)


@dataclass(slots=True, eq=False)
class _Worker:
    """One daemon thread and what it is handed next; None ends it."""

    queue: "SimpleQueue[_Work | None]" = field(default_factory=SimpleQueue)


class Abandonable(ThreadPoolExecutor):
    """Daemon threads, used again once they are free; one that hangs is missed by nobody.

    asyncio accepts nothing but a ThreadPoolExecutor as its default one; of that class only the type is used.
    How many threads there are is bounded by the number of checks that run at once, and by what hangs.
    """

    def __init__(self) -> None:
        super().__init__(max_workers=1)
        self._free: list[_Worker] = []
        self._guard = threading.Lock()
        self._ended = False

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
        work = _Work(Future(), lambda: fn(*args, **kwargs))
        with self._guard:
            worker = self._free.pop() if self._free else None
        if worker is None:
            worker = _Worker()
            threading.Thread(target=self._serve, args=(worker,), name="opskit-check", daemon=True).start()
        worker.queue.put(work)
        return work.future

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        """Let idle threads end; threads that hang are left to the end of the process."""
        del wait, cancel_futures
        with self._guard:
            self._ended = True
            free, self._free = self._free, []
        for worker in free:
            worker.queue.put(None)

    def _serve(self, worker: _Worker) -> None:
        while (work := worker.queue.get()) is not None:
            work.do()
            del work
            with self._guard:
                if self._ended:
                    return
                self._free.append(worker)


def use_abandonable_threads() -> None:
    """Let everything that blocks in the running loop (names, files, sockets) use such threads."""
    asyncio.get_running_loop().set_default_executor(Abandonable())


@contextlib.contextmanager
def children_without_threads() -> Iterator[None]:
    """Python 3.11 starts a thread for each program that it waits for; Linux can do without, as 3.12 does.

    It changes the whole process, so it is for the command line alone.
    """
    if sys.version_info >= (3, 12) or not hasattr(os, "pidfd_open"):
        yield
        return
    try:
        os.close(os.pidfd_open(os.getpid()))
    except OSError:
        yield
        return
    watcher = asyncio.PidfdChildWatcher()
    watcher.attach_loop(asyncio.get_running_loop())
    asyncio.set_child_watcher(watcher)
    try:
        yield
    finally:
        # None makes asyncio choose its own again.
        asyncio.set_child_watcher(None)  # type: ignore[arg-type]
