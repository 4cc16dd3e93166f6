"""Running work in the order of what it waits for: so many at once, under one deadline."""

import asyncio
from collections.abc import Awaitable, Callable, Collection, Mapping
from graphlib import TopologicalSorter


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
