"""The watch over scripted targets, on virtual time."""

import asyncio
from collections.abc import Sequence
from contextlib import aclosing
from typing import Literal

import pytest

from opskit.config.schema import Config
from opskit.result import Finding, Status
from opskit.watch.event import WatchEvent
from opskit.watch.targets import Target, TargetReply
from opskit.watch.watching import FIRST_PATIENCE_S, Watch, WatchParts


class Scripted:
    """A target that is in the next of its states at each look; None hangs for ever."""

    kind: Literal["node", "agent"] = "node"

    def __init__(self, *states: str | None, name: str = "ollama") -> None:
        self.name = name
        self.required = False
        self._states = list(states)

    async def read(self) -> TargetReply:
        state = self._states.pop(0) if len(self._states) > 1 else self._states[0]
        if state is None:
            await asyncio.Event().wait()
        finding = Finding("node", self.name, Status.PASS, state or "")
        return TargetReply(finding, asyncio.get_running_loop().time())


class Clocks:
    """The loop's time, and a wall clock; either can be moved."""

    def __init__(self) -> None:
        self.steady_offset = 0.0
        self.wall_offset = 1_000_000.0

    def steady(self) -> float:
        return asyncio.get_running_loop().time() + self.steady_offset

    def wall(self) -> float:
        return asyncio.get_running_loop().time() + self.wall_offset


def watch(targets: Sequence[Target], clocks: Clocks) -> Watch:
    config = Config("/nonexistent", (), ())
    parts = WatchParts(areas=frozenset({"nodes"}), every_s=5.0, targets=targets)
    return Watch(config, parts, clock=clocks.steady, wall=clocks.wall)


async def watched(targets: Sequence[Scripted], count: int) -> list[tuple[float, WatchEvent]]:
    """The events of so many looks, each with the time at which it came."""
    clocks = Clocks()
    began = clocks.steady()
    async with aclosing(watch(targets, clocks).events(count)) as events:
        return [(clocks.steady() - began, event) async for event in events]


async def test_a_target_that_hangs_moves_only_the_first_look() -> None:
    """It is waited for once, for a moment; after that every look is on the beat."""
    told = await watched([Scripted("ok"), Scripted(None, name="mlx")], 5)
    assert [at for at, event in told if event.kind == "tick"] == [FIRST_PATIENCE_S, 5.0, 10.0, 15.0, 20.0]
    last = told[-1][1].body
    assert [node["state"] for node in last["nodes"]] == ["ok", "unknown"]
    assert [node["late"] for node in last["nodes"]] == [False, True]


async def test_a_state_is_told_when_it_changes() -> None:
    """From what to what, once."""
    told = await watched([Scripted("ok", "ok", "refused", "refused", "ok")], 6)
    changes = [(event.body["from"], event.body["to"]) for _, event in told if event.kind == "state"]
    assert changes == [(None, "ok"), ("ok", "refused"), ("refused", "ok")]


async def test_a_process_that_stood_still_looks_once() -> None:
    """An hour is 720 looks that nobody needs any more; they are counted."""
    clocks, numbers = Clocks(), []
    async with aclosing(watch([Scripted("ok")], clocks).events(3)) as events:
        async for event in events:
            if event.kind == "tick":
                numbers.append((event.body["number"], event.body["skipped"]))
                if len(numbers) == 1:
                    clocks.steady_offset += 3600.0
                    clocks.wall_offset += 3600.0
    assert numbers == [(1, 0), (2, 720), (3, 720)]


async def test_nothing_is_left_running() -> None:
    """However a watch is ended, even with a question open."""
    async with aclosing(watch([Scripted(None)], Clocks()).events()) as events:
        await anext(events)
    assert asyncio.all_tasks() == {asyncio.current_task()}


class Questions:
    """A target that answers 1, 2, 3... once it is let, or fails."""

    kind: Literal["node", "agent"] = "node"
    name, required = "slow", False

    def __init__(self, fault: Exception | None = None) -> None:
        self.asked = 0
        self.let = asyncio.Event()
        self._fault = fault

    async def read(self) -> TargetReply:
        self.asked += 1
        if self._fault is not None:
            raise self._fault
        await self.let.wait()
        now = asyncio.get_running_loop().time()
        return TargetReply(Finding("node", self.name, Status.PASS, str(self.asked)), now)


async def test_a_hanging_question_is_asked_once_and_waited_for_once() -> None:
    """It stays late, without a second asking, while the other is answered each time."""
    slow, ticks, clocks = Questions(), [], Clocks()
    async with aclosing(watch([slow, Scripted("ok", name="well")], clocks).events(4)) as events:
        ticks = [event.body["nodes"] async for event in events if event.kind == "tick"]
    assert slow.asked == 1
    assert [(hung["late"], hung["state"]) for hung, _ in ticks] == [(True, "unknown")] * 4
    assert [(well["late"], well["state"]) for _, well in ticks] == [(False, "ok")] * 4


async def test_the_last_answer_stays_while_the_next_is_awaited() -> None:
    """What is shown is the answer before, and that it is old; a late one is told as it comes."""
    slow, clocks, told = Questions(), Clocks(), []
    slow.let.set()
    async with aclosing(watch([slow], clocks).events(3)) as events:
        async for event in events:
            if event.kind == "state":
                told.append((event.body["to"], event.at - clocks.wall_offset))
                continue
            (node,) = event.body["nodes"]
            told.append((node["state"], node["age_s"], node["late"]))
            slow.let.clear()
            if event.body["number"] == 2:
                asyncio.get_running_loop().call_later(1.0, slow.let.set)
    assert told[:3] == [("1", 0.0), ("1", 0.0, False), ("1", 5.25, True)]
    assert told[3] == ("2", 6.25)


async def test_a_failure_of_ours_is_not_swallowed() -> None:
    """What a look raises comes out, without a tick between."""
    with pytest.raises(ValueError, match="broken"):
        await anext(watch([Questions(ValueError("broken"))], Clocks()).events())
