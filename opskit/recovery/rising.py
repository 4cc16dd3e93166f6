"""Waiting until containers are well: by health that is newer than their start, never by a fixed time.

`docker compose up --wait` fails for one-shot services and gives up at the first unhealthy check (ops facts
12), so the waiting is ours.
"""

import asyncio
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime

from opskit.errors import OpskitError
from opskit.recovery.ground import Ground
from opskit.recovery.procedure import Say
from opskit.recovery.steps.box import instant
from opskit.recovery.steps.containers import State, Unit, Verdict, judge, unit
from opskit.recovery.steps.testimony import container_tail
from opskit.result import Finding, Status
from opskit.system.docker_records import PROJECT, SERVICE

#: What has no health check is well once it has run so long.
STABLE_S = 2.0
_POLL_FIRST_S = 0.1
_POLL_LAST_S = 2.0
_WELL = (State.UP, State.ENDED)
#: These do not get well by waiting.
_FINAL = (
    State.FALLEN,
    State.LOOPING,
    State.DEAD,
    State.ORPHANED,
    State.CUT_OFF,
    State.PAUSED,
    State.UNCHECKED,
)


@dataclass(frozen=True, slots=True)
class Standing:
    """One container at one moment. `verdict` None means that it runs and has to prove that it stays."""

    unit: Unit
    verdict: Verdict | None

    @property
    def well(self) -> bool:
        return self.verdict is not None and self.verdict.state in _WELL

    @property
    def final(self) -> bool:
        return self.well or (self.verdict is not None and self.verdict.state in _FINAL)

    @property
    def words(self) -> str:
        if self.verdict is None:
            return "it runs, for less than a moment"
        if self.verdict.state is State.UP:
            return "healthy" if self.unit.health == "healthy" else "running"
        return self.verdict.cause or self.verdict.state.value


async def units(ground: Ground, project: str, service: str | None = None) -> list[Unit]:
    """The containers of a project, or of one service of it. Raises OpskitError DOCKER_*."""
    labels = [f"{PROJECT}={project}", *([f"{SERVICE}={service}"] if service else [])]
    listed = await ground.door.containers(labels=labels)
    items = await asyncio.gather(*(ground.door.named(one.id) for one in listed))
    found = (unit(item) for item in items if item is not None)
    return sorted((one for one in found if one is not None), key=lambda one: (one.service, one.name))


async def risen(
    ground: Ground,
    project: str,
    services: Sequence[str],
    *,
    limit_s: float,
    say: Say,
    narrow: str | None = None,
) -> list[Finding]:
    """A finding for each service once all are well or beyond hope, or when `limit_s` is over.

    `narrow` is the one service that matters; the others are not looked at. Raises OpskitError DOCKER_*.
    """
    began, pause_s, told = time.monotonic(), _POLL_FIRST_S, ""
    took_s: dict[str, float] = {}
    while True:
        found = await standings(ground, project, narrow)
        so_far_s = time.monotonic() - began
        for name, those in found.items():
            if all(one.final for one in those):
                took_s.setdefault(name, so_far_s)
        missing = [name for name in services if name not in found]
        waiting = [name for name, those in found.items() if not all(one.final for one in those)]
        if not waiting and not missing:
            break
        line = f"waiting for {', '.join(sorted((*waiting, *missing)))}"
        if line != told:
            say(line)
            told = line
        if so_far_s + pause_s > limit_s:
            break
        await asyncio.sleep(pause_s)
        pause_s = min(_POLL_LAST_S, pause_s * 1.5)
    return [
        replace(
            await _finding(ground, name, found.get(name, ()), limit_s), seconds=took_s.get(name, so_far_s)
        )
        for name in sorted({*services, *found})
    ]


async def standings(ground: Ground, project: str, narrow: str | None) -> Mapping[str, list[Standing]]:
    """How each container stands, by service."""
    those = await units(ground, project, narrow)
    there = {one.id: one for one in those}
    now = instant((await ground.door.info()).get("SystemTime")) or datetime.now(UTC)
    found: dict[str, list[Standing]] = {}
    for one in those:
        found.setdefault(one.service, []).append(standing(one, there, now))
    return found


def standing(one: Unit, there: Mapping[str, Unit], now: datetime) -> Standing:
    """How one container stands. Pure."""
    verdict = judge(one, there, now, 0.0)
    if verdict.state is State.UP and one.health in (None, "none") and one.started is not None:
        young = (now - one.started).total_seconds() < STABLE_S
        return Standing(one, None if young else verdict)
    return Standing(one, verdict)


async def _finding(ground: Ground, name: str, those: Sequence[Standing], limit_s: float) -> Finding:
    if not those:
        remedy = "`docker compose ps --all` shows what is there"
        return Finding("service", name, Status.FAIL, "missing", "it has no container", "DOCKER_002", remedy)
    bad = [one for one in those if not one.well]
    if not bad:
        words = ", ".join(dict.fromkeys(one.words for one in those))
        count = f"{len(those)} containers: " if len(those) > 1 else ""
        return Finding("service", name, Status.PASS, "ok", f"{count}{words}")
    unchecked = all(one.verdict is not None and one.verdict.state is State.UNCHECKED for one in bad)
    worst = next(
        (one for one in bad if one.verdict is None or one.verdict.state is not State.UNCHECKED), bad[0]
    )
    state = worst.verdict.state.value if worst.verdict is not None else "starting"
    late = "" if worst.final else f" after {limit_s:.0f} s"
    return Finding(
        "service",
        name,
        Status.INCONCLUSIVE if unchecked else Status.FAIL,
        state,
        f"{worst.unit.name}: {worst.words}{late}",
        "DOCKER_003",
        worst.unit.fault_remedy if unchecked else f"`docker logs --tail 50 {worst.unit.name}`",
        evidence={"log": await _tail(ground, worst.unit.name)},
    )


async def _tail(ground: Ground, name: str) -> list[str]:
    try:
        return await container_tail(ground, name, 10)
    except OpskitError as error:
        return [f"(the log could not be read: {error.message})"]
