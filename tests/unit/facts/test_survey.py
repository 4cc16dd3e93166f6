"""The survey of a run reads each fact once."""

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from opskit.config.schema import Config
from opskit.facts.survey import Survey


@asynccontextmanager
async def surveying(folder: Path) -> AsyncIterator[Survey]:
    async with Survey(Config(str(folder), (), ()), {}, state_folder=folder, cwd=folder) as survey:
        yield survey


class Counted:
    """Collectors that count how often they read."""

    def __init__(self) -> None:
        self.read = 0
        self.waiting = asyncio.Event()
        self.go_on = asyncio.Event()

    async def number(self, survey: Survey, factor: int) -> int:
        self.read += 1
        return factor * self.read

    async def slow(self, survey: Survey) -> int:
        self.read += 1
        self.waiting.set()
        await self.go_on.wait()
        return self.read

    async def broken(self, survey: Survey) -> int:
        self.read += 1
        raise ValueError(self.read)


async def test_a_fact_is_read_once_for_each_of_its_arguments(tmp_path: Path) -> None:
    """Who asks again gets what was read, and `known` tells it without reading."""
    counted = Counted()
    async with surveying(tmp_path) as survey:
        collect = counted.number
        facts = [await survey.get(collect, factor) for factor in (10, 100, 10)]
        assert facts == [10, 200, 10]
        assert survey.known(collect) == {(10,): 10, (100,): 200}
        assert counted.read == 2


async def test_a_fact_that_must_be_newer_is_read_again(tmp_path: Path) -> None:
    """What was read before `not_before` does not do; what was read after it does."""
    counted = Counted()
    async with surveying(tmp_path) as survey:
        collect = counted.number
        await survey.get(collect, 1)
        now = time.monotonic()
        assert await survey.get(collect, 1, not_before=now) == 2
        assert await survey.get(collect, 1, not_before=now) == 2


async def test_those_who_ask_meanwhile_wait_for_one_reading(tmp_path: Path) -> None:
    """One that is cut off leaves the reading to the next."""
    counted = Counted()
    async with surveying(tmp_path) as survey:
        collect = counted.slow
        first, second, third = (asyncio.ensure_future(survey.get(collect)) for _ in range(3))
        await counted.waiting.wait()
        first.cancel()
        counted.go_on.set()
        assert await asyncio.gather(second, third) == [2, 2]
        assert first.cancelled()


async def test_a_reading_that_failed_is_not_kept(tmp_path: Path) -> None:
    """The next one tries anew."""
    counted = Counted()
    async with surveying(tmp_path) as survey:
        collect = counted.broken
        for _ in range(2):
            with pytest.raises(ValueError):
                await survey.get(collect)
        assert counted.read == 2
        assert survey.known(collect) == {}
