"""Threads that may be left behind: what hangs in one delays neither its check nor the end of the run."""

import asyncio
import threading
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any


class Abandonable(ThreadPoolExecutor):
    """Each call gets a daemon thread of its own, and nobody waits for it at the end.

    asyncio accepts nothing but a ThreadPoolExecutor as its default one; of that class only the type is used.
    How many run at once is bounded by the number of checks that run at once.
    """

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
        future: Future[Any] = Future()

        def work() -> None:
            if not future.set_running_or_notify_cancel():
                return
            try:
                result = fn(*args, **kwargs)
            except BaseException as exc:  # noqa: BLE001 - carried to whoever waits
                future.set_exception(exc)
            else:
                future.set_result(result)

        threading.Thread(target=work, name="opskit-check", daemon=True).start()
        return future

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        """Nothing to wait for."""


def use_abandonable_threads() -> None:
    """Let everything that blocks in the running loop (names, files, sockets) use such threads."""
    asyncio.get_running_loop().set_default_executor(Abandonable())
