"""The watch over scripted targets, on virtual time."""

import asyncio
from collections.abc import Sequence
from contextlib import aclosing
from typing import Literal

from opskit.config.schema import Config
from opskit.result import Finding, Status
from opskit.watch.targets import TargetReply
from opskit.watch.view import WatchEvent
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


def watch(targets: Sequence[Scripted], clocks: Clocks) -> Watch:
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


async def test_a_machine_that_slept_is_told_of() -> None:
    """The wall clock went on while the steady one stood: one event, one look."""
    clocks, told = Clocks(), []
    async with aclosing(watch([Scripted("ok")], clocks).events(3)) as events:
        async for event in events:
            told.append(event)
            if event.kind == "tick" and event.body["number"] == 1:
                clocks.wall_offset += 3600.0
    jumps = [event.body["detail"] for event in told if event.body.get("kind") == "clock"]
    assert len(jumps) == 1
    assert "forward by 3600 s" in jumps[0]
    assert [event.body["skipped"] for event in told if event.kind == "tick"] == [0, 0, 0]


async def test_nothing_is_left_running() -> None:
    """However a watch is ended, even with a question open."""
    async with aclosing(watch([Scripted(None)], Clocks()).events()) as events:
        await anext(events)
    assert asyncio.all_tasks() == {asyncio.current_task()}
