"""Questions that are asked again and again."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import pytest

from opskit.watch.polling import Poller, ask_all


class Slow:
    """Answers 1, 2, 3... once it is let."""

    def __init__(self) -> None:
        self.asked = 0
        self.let = asyncio.Event()

    async def __call__(self) -> int:
        self.asked += 1
        await self.let.wait()
        return self.asked


@asynccontextmanager
async def question(ask: Callable[[], Awaitable[int]]) -> AsyncIterator[Poller[int]]:
    one = Poller(ask, asyncio.get_running_loop().time)
    try:
        yield one
    finally:
        await one.aclose()


async def _one() -> int:
    return 1


async def test_a_hanging_question_is_asked_once_and_waited_for_once() -> None:
    """It stays late, without a second asking, while the other is answered each time."""
    slow = Slow()
    async with question(slow) as hangs, question(_one) as well:
        await ask_all([hangs, well], 0.01)
        assert (hangs.late, hangs.answer, well.late, well.answer) == (True, None, False, 1)
        before = asyncio.get_running_loop().time()
        # Patience for a minute, and nobody to be patient with.
        await ask_all([hangs, well], 60.0)
        assert slow.asked == 1
        assert asyncio.get_running_loop().time() < before + 60.0


async def test_the_last_answer_stays_while_the_next_is_awaited() -> None:
    """What is shown is the answer before, and that it is old."""
    slow = Slow()
    slow.let.set()
    async with question(slow) as one:
        await ask_all([one], 1.0)
        at = one.at
        slow.let.clear()
        await ask_all([one], 0.01)
        assert (one.answer, one.at, one.late) == (1, at, True)
        slow.let.set()
        await asyncio.gather(*([one.pending] if one.pending else []))
        await ask_all([one], 1.0)
        assert (one.answer, one.late) == (3, False)


async def test_a_failure_of_ours_is_not_swallowed() -> None:
    """What the asking raises comes out."""

    async def broken() -> int:
        raise ValueError("broken")

    async with question(broken) as one:
        with pytest.raises(ValueError, match="broken"):
            await ask_all([one], 1.0)
