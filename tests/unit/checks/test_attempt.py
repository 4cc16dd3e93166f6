"""Work under a deadline: whatever becomes of it is data."""

import asyncio
import gc

import pytest

from opskit.checks.attempt import Failure, attempt
from opskit.errors import OpskitError


async def test_work_that_ends_gives_its_result():
    """A result passes through, whatever it is."""

    async def work() -> str | None:
        return None

    assert await attempt(work(), 1.0) is None


async def test_work_that_hangs_ends_at_its_deadline():
    """The deadline ends work, and becomes an error of the catalogue."""
    cancelled = asyncio.Event()

    async def hang() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            cancelled.set()

    failure = await attempt(hang(), 0.01)
    assert isinstance(failure, Failure)
    assert (failure.is_late, failure.is_bug, failure.error.code, failure.trace(5)) == (
        True,
        False,
        "COMM_003",
        [],
    )
    assert cancelled.is_set()


@pytest.mark.parametrize(
    "raised, code, is_bug",
    [(OpskitError("DOCKER_001", "no daemon"), "DOCKER_001", False), (KeyError("name"), "BUG_001", True)],
)
async def test_what_work_raises_becomes_data(raised: Exception, code: str, is_bug: bool):
    """An expected failure keeps its code; any other is a mistake of opskit, with its traceback."""

    async def work() -> None:
        raise raised

    failure = await attempt(work(), 1.0)
    assert isinstance(failure, Failure)
    assert (failure.error.code, failure.is_bug, failure.is_late) == (code, is_bug, False)
    assert "raise raised" in "".join(failure.trace(4))


async def test_work_that_is_cancelled_from_within_ends_nothing_else():
    """A cancellation that the work brings along does not cancel its caller."""

    async def work() -> None:
        raise asyncio.CancelledError

    assert isinstance(await attempt(work(), 1.0), Failure)


async def test_a_caller_that_is_cancelled_takes_its_work_along():
    """Nothing goes on after an interrupt."""
    begun, cancelled = asyncio.Event(), asyncio.Event()

    async def hang() -> None:
        begun.set()
        try:
            await asyncio.Event().wait()
        finally:
            cancelled.set()

    caller = asyncio.create_task(attempt(hang(), 60.0))
    await begun.wait()
    caller.cancel()
    with pytest.raises(asyncio.CancelledError):
        await caller
    assert cancelled.is_set()


async def test_a_caller_that_is_cancelled_leaves_no_failure_behind():
    """What failed just before that is not reported as an exception that nobody asked for."""
    reports: list[object] = []
    asyncio.get_running_loop().set_exception_handler(lambda _loop, about: reports.append(about))

    async def fails() -> None:
        raise OSError("refused")

    caller = asyncio.create_task(attempt(fails(), 5.0))
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    caller.cancel()
    await asyncio.gather(caller, return_exceptions=True)
    gc.collect()
    assert reports == []
