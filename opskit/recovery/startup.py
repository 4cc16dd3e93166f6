"""Waiting until containers are well: by health that is newer than their start, never by a fixed time.

`docker compose up --wait` fails for one-shot services and gives up at the first unhealthy check (ops facts
12), so the waiting is ours.
"""

import asyncio
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime

from opskit.checks.container_assessment import (
    ContainerAssessment,
    ContainerCondition,
    ContainerRules,
    ContainerState,
    assess_container,
)
from opskit.facts.container import Container, docker_time
from opskit.facts.container_log import read_container_log
from opskit.facts.container_survey import read_compose_containers
from opskit.recovery.procedure import Say
from opskit.recovery.step import RecoveryContext
from opskit.result import Finding, Status

#: What has no health check is well once it has run so long.
STABLE_S = 2.0
_POLL_FIRST_S = 0.1
_POLL_LAST_S = 2.0
_LOG_S = 4.0
_LINE_CHARS = 300
#: After a repair nothing is excused by its age.
_RULES = ContainerRules(0.0, 0.0)
#: This gets well by waiting.
_PASSING = (ContainerState.STARTING, ContainerState.UNHEALTHY, ContainerState.REMOVING)


@dataclass(frozen=True, slots=True)
class ServiceStanding:
    """One container at one moment. `assessment` None means that it runs and has to prove that it stays."""

    container: Container
    assessment: ContainerAssessment | None

    @property
    def well(self) -> bool:
        return self.assessment is not None and self.assessment.condition is ContainerCondition.WELL

    @property
    def unchecked(self) -> bool:
        return self.assessment is not None and self.assessment.condition is ContainerCondition.UNCHECKED

    @property
    def final(self) -> bool:
        return self.assessment is not None and self.assessment.state not in _PASSING

    @property
    def words(self) -> str:
        if self.assessment is None:
            return "it runs, for less than a moment"
        if self.assessment.state is ContainerState.UP:
            return "healthy" if self.assessment.health == "healthy" else "running"
        return self.assessment.words or self.assessment.state.value


async def containers_of(
    context: RecoveryContext, project: str, service: str | None = None
) -> list[Container]:
    """The containers of a project, or of one service of it. Raises OpskitError DOCKER_*."""
    containers = await read_compose_containers(context.docker, project, service)
    return sorted(
        (one for one in containers if not one.one_off), key=lambda one: (one.service or "", one.name)
    )


async def risen(
    context: RecoveryContext,
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
        found = await standings(context, project, narrow)
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
            await _finding(context, name, found.get(name, ()), limit_s), seconds=took_s.get(name, so_far_s)
        )
        for name in sorted({*services, *found})
    ]


async def standings(
    context: RecoveryContext, project: str, narrow: str | None
) -> Mapping[str, list[ServiceStanding]]:
    """How each container stands, by service."""
    containers = await containers_of(context, project, narrow)
    peers = {one.id: one for one in containers}
    now = docker_time((await context.docker.info()).get("SystemTime")) or datetime.now(UTC)
    found: dict[str, list[ServiceStanding]] = {}
    for one in containers:
        found.setdefault(one.service or "", []).append(standing(one, peers, now))
    return found


def standing(container: Container, peers: Mapping[str, Container], now: datetime) -> ServiceStanding:
    """How one container stands. Pure."""
    assessment = assess_container(container, peers=peers, events=None, rules=_RULES, now=now)
    unproven = assessment.state is ContainerState.UP and assessment.health is None
    if unproven and assessment.age_s is not None and assessment.age_s < STABLE_S:
        return ServiceStanding(container, None)
    return ServiceStanding(container, assessment)


async def _finding(
    context: RecoveryContext, name: str, those: Sequence[ServiceStanding], limit_s: float
) -> Finding:
    if not those:
        remedy = "`docker compose ps --all` shows what is there"
        return Finding("service", name, Status.FAIL, "missing", "it has no container", "DOCKER_002", remedy)
    bad = [one for one in those if not one.well]
    if not bad:
        words = ", ".join(dict.fromkeys(one.words for one in those))
        count = f"{len(those)} containers: " if len(those) > 1 else ""
        return Finding("service", name, Status.PASS, "ok", f"{count}{words}")
    worst = next((one for one in bad if not one.unchecked), bad[0])
    container, assessment = worst.container.name, worst.assessment
    late = "" if worst.final else f" after {limit_s:.0f} s"
    correct_check = assessment.remedy if assessment is not None and worst.unchecked else None
    return Finding(
        "service",
        name,
        Status.INCONCLUSIVE if worst.unchecked else Status.FAIL,
        "starting" if assessment is None else assessment.state.value,
        f"{container}: {worst.words}{late}",
        None if worst.unchecked else "DOCKER_003",
        correct_check or f"`docker logs --tail 50 {container}`",
        evidence={"log": await _log(context, container)},
    )


async def _log(context: RecoveryContext, name: str) -> list[str]:
    return (await read_container_log(context.docker, name, 10, limit_s=_LOG_S)).lines(_LINE_CHARS)
