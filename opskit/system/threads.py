"""Threads that may be left behind: what hangs in one delays neither its check nor the end of the run."""

import asyncio
import threading
from collections.abc import Callable
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
