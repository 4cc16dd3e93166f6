"""Threads that may be left behind: what hangs in one delays neither its check nor the end of the run."""

import asyncio
import contextlib
import os
import sys
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from functools import partial
from typing import Any, TypeVar

T = TypeVar("T")


class Abandonable(ThreadPoolExecutor):
    """A daemon thread for each call: one that hangs is waited for neither by its caller nor by the process.

    asyncio accepts nothing but a ThreadPoolExecutor as its default one; of that class only the type is used.
    """

    def __init__(self) -> None:
        super().__init__(max_workers=1)

    def submit(self, fn: Callable[..., T], /, *args: Any, **kwargs: Any) -> Future[T]:
        future: Future[T] = Future()
        threading.Thread(target=_fulfil, args=(future, partial(fn, *args, **kwargs)), daemon=True).start()
        return future


def _fulfil(future: Future[T], call: Callable[[], T]) -> None:
    if not future.set_running_or_notify_cancel():
        return
    try:
        result = call()
    except BaseException as exc:  # noqa: BLE001 - carried to the waiting task
        future.set_exception(exc)
    else:
        future.set_result(result)


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
