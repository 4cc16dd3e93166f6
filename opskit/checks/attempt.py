"""Running work that may hang or fail: under a deadline, and in the order of what it waits for."""

import asyncio
import traceback
from collections.abc import Awaitable, Callable, Collection, Mapping
from graphlib import TopologicalSorter
from typing import TypeVar

from opskit.errors import OpskitError
from opskit.records import Record

T = TypeVar("T")
#: How long work that was cut off may take to tidy up before it is left behind.
_TIDY_S = 1.0


class Failure(Record):
    """Why an attempt gave no result. `exception` None means that its deadline of `limit_s` came first."""

    limit_s: float
    exception: BaseException | None = None

    @property
    def is_late(self) -> bool:
        return self.exception is None

    @property
    def is_bug(self) -> bool:
        """Tell whether opskit itself failed, which says nothing of what was looked at."""
        return self.exception is not None and not isinstance(self.exception, OpskitError)

    @property
    def error(self) -> OpskitError:
        """The same as an error of the catalogue: COMM_003 at the deadline, BUG_001 for a mistake of ours."""
        if self.exception is None:
            return OpskitError("COMM_003", f"no end within {self.limit_s:g} s")
        if isinstance(self.exception, OpskitError):
            return self.exception
        return OpskitError("BUG_001", f"{type(self.exception).__name__}: {self.exception}")

    def trace(self, lines: int) -> list[str]:
        if self.exception is None:
            return []
        return "".join(traceback.format_exception(self.exception)).splitlines()[-lines:]


async def attempt(work: Awaitable[T], limit_s: float) -> T | Failure:
    """Return the result of the work, or why there is none. Raises only where the caller is cancelled.

    The deadline is kept from outside: work that hangs wherever it likes is left behind after a second.
    """
    task = asyncio.ensure_future(work)
    try:
        done, _ = await asyncio.wait({task}, timeout=limit_s)
    finally:
        if not task.done():
            task.cancel()
            await asyncio.wait({task}, timeout=_TIDY_S)
        elif not task.cancelled():
            task.exception()  # where the caller is cancelled nobody else asks for it
    if not done:
        return Failure(limit_s)
    try:
        return task.result()
    except (Exception, asyncio.CancelledError) as exc:  # noqa: BLE001 - one of the four edges (STYLE 6)
        return Failure(limit_s, exc)


async def in_order(
    before: Mapping[str, Collection[str]],
    turn: Callable[[str], Awaitable[None]],
    *,
    max_concurrent: int,
    limit_s: float | None = None,
) -> None:
    """Take each turn once all that comes before it have ended, so many at once.

    After `limit_s` what has not ended is cancelled. A turn that raises ends no other; the first exception is
    raised at the end. Names that have no entry of their own are passed over.
    """
    order = TopologicalSorter({name: [other for other in before[name] if other in before] for name in before})
    order.prepare()
    ready: asyncio.Queue[str | None] = asyncio.Queue()
    count = min(max_concurrent, len(before))

    def hand_out() -> None:
        for name in order.get_ready() if order.is_active() else ():
            ready.put_nowait(name)
        if not order.is_active():
            for _ in range(count):
                ready.put_nowait(None)

    async def work() -> None:
        failures: list[BaseException] = []
        while (name := await ready.get()) is not None:
            try:
                await turn(name)
            except Exception as exc:  # noqa: BLE001 - raised when the others have ended
                failures.append(exc)
            order.done(name)
            hand_out()
        if failures:
            raise failures[0]

    hand_out()
    workers = [asyncio.create_task(work()) for _ in range(count)]
    try:
        if workers:
            await asyncio.wait(workers, timeout=limit_s)
    finally:
        for worker in workers:
            worker.cancel()
        await asyncio.gather(*workers, return_exceptions=True)
    for worker in workers:
        if not worker.cancelled() and (failure := worker.exception()) is not None:
            raise failure
