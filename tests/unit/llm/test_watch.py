"""The watch: one timer for many waits, and it never interrupts what it does not watch."""

import asyncio
import contextlib

import pytest

from opskit.llm.waiting import WaitTimer


async def _after(seconds: float, value: str = "done") -> str:
    await asyncio.sleep(seconds)
    return value


async def test_a_result_in_time_is_returned() -> None:
    """Work that ends in time gives its result."""
    with contextlib.closing(WaitTimer()) as watch:
        assert await watch.wait(_after(0.0), 1.0) == "done"


async def test_late_work_is_cancelled() -> None:
    """Work that is late is cancelled and TimeoutError rises, in a task that is not cancelled."""
    ended = asyncio.Event()

    async def late() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            ended.set()

    with contextlib.closing(WaitTimer()) as watch, pytest.raises(TimeoutError):
        await watch.wait(late(), 0.01)
    assert ended.is_set()
    task = asyncio.current_task()
    assert task is not None
    assert task.cancelling() == 0


async def test_each_wait_has_its_own_time() -> None:
    """A long limit after a short one, and a short one after a long one, both hold."""
    with contextlib.closing(WaitTimer()) as watch:
        assert await watch.wait(_after(0.0), 0.05) == "done"
        assert await watch.wait(_after(0.1), 1.0) == "done"
        with pytest.raises(TimeoutError):
            await watch.wait(_after(5.0), 0.02)


async def test_it_does_not_interrupt_between_waits() -> None:
    """The timer of an earlier wait leaves later work alone that it does not watch."""
    with contextlib.closing(WaitTimer()) as watch:
        await watch.wait(_after(0.0), 0.02)
        assert await _after(0.1) == "done"


async def test_more_time_can_be_given() -> None:
    """`on_due` may extend the wait; None ends it."""
    asked: list[int] = []

    def more() -> float | None:
        asked.append(1)
        return 0.03 if len(asked) < 3 else None

    with contextlib.closing(WaitTimer()) as watch:
        assert await watch.wait(_after(0.05), 0.01, lambda: 1.0) == "done"
        with pytest.raises(TimeoutError):
            await watch.wait(_after(5.0), 0.01, more)
    assert len(asked) == 3


async def test_a_cancellation_from_outside_is_a_cancellation() -> None:
    """Cancelling the waiting task raises CancelledError, not TimeoutError."""

    async def waiting() -> None:
        with contextlib.closing(WaitTimer()) as watch:
            await watch.wait(asyncio.Event().wait(), 5.0)

    task = asyncio.create_task(waiting())
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


async def test_an_exception_passes() -> None:
    """What the work raises is raised, StopAsyncIteration included."""

    async def nothing():
        return
        yield

    with contextlib.closing(WaitTimer()) as watch, pytest.raises(StopAsyncIteration):
        await watch.wait(anext(nothing()), 1.0)


async def test_work_that_answers_its_cancellation_otherwise_leaves_the_task_clean() -> None:
    """Whatever late work raises or returns, the task is not left half cancelled."""

    async def stubborn(*, fails: bool) -> str:
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            if fails:
                raise ValueError from None
        return "late"

    task = asyncio.current_task()
    assert task is not None
    with contextlib.closing(WaitTimer()) as watch:
        with pytest.raises(ValueError):
            await watch.wait(stubborn(fails=True), 0.01)
        assert task.cancelling() == 0
        assert await watch.wait(stubborn(fails=False), 0.01) == "late"
        assert task.cancelling() == 0
