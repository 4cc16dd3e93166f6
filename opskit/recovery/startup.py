"""Waiting until containers are well: by health that is newer than their start, never by a fixed time.

`docker compose up --wait` fails for one-shot services and gives up at the first unhealthy check (ops facts
12), so the waiting is ours.
"""

import asyncio
import time
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime

from opskit.checks.container_assessment import (
    STABLE_S,
    AssessedContainer,
    ContainerCondition,
    ContainerRules,
    ContainerState,
    assess_container,
)
from opskit.facts.container import Container, docker_time
from opskit.facts.container_survey import read_compose_containers, read_container_log
from opskit.records import replace
from opskit.recovery.procedure import Say
from opskit.recovery.step import RecoveryContext
from opskit.result import Finding, Status
from opskit.text import counted

_POLL_FIRST_S = 0.1
_POLL_LAST_S = 2.0
_LOG_LINES = 10
_LOG_S = 4.0
_LINE_CHARS = 300
#: After a repair nothing is excused by its age.
_RULES = ContainerRules(0.0, 0.0)
#: This gets well by waiting.
_PASSING = (ContainerState.STARTING, ContainerState.UNHEALTHY, ContainerState.REMOVING)


async def service_containers(
    context: RecoveryContext, project: str, service: str | None = None
) -> list[Container]:
    """Return the containers of a project, or of one service of it. Raises OpskitError DOCKER_*."""
    containers = await read_compose_containers(context.docker, project, service)
    lasting = [container for container in containers if not container.one_off]
    return sorted(lasting, key=lambda container: (container.service or "", container.name))


async def wait_until_well(
    context: RecoveryContext,
    project: str,
    services: Sequence[str],
    *,
    limit_s: float,
    say: Say,
    only: str | None = None,
) -> list[Finding]:
    """Return a finding for each service once all are well or beyond hope, or when `limit_s` is over.

    `only` is the one service that matters; the others are not looked at. Raises OpskitError DOCKER_*.
    """
    began, pause_s, said = time.monotonic(), _POLL_FIRST_S, ""
    took_s: dict[str, float] = {}
    while True:
        standings = await _standings(context, project, only)
        so_far_s = time.monotonic() - began
        final = {name for name, members in standings.items() if all(map(is_final, members))}
        for name in final:
            took_s.setdefault(name, so_far_s)
        waiting = sorted({*services, *standings} - final)
        line = f"waiting for {', '.join(waiting)}"
        if waiting and line != said:
            say(line)
            said = line
        if not waiting or so_far_s + pause_s > limit_s:
            break
        await asyncio.sleep(pause_s)
        pause_s = min(_POLL_LAST_S, pause_s * 1.5)
    findings = []
    for name in sorted({*services, *standings}):
        finding = await _finding(context, name, standings.get(name, ()), limit_s)
        findings.append(replace(finding, seconds=took_s.get(name, so_far_s)))
    return findings


async def _standings(
    context: RecoveryContext, project: str, service: str | None
) -> Mapping[str, list[AssessedContainer]]:
    containers = await service_containers(context, project, service)
    peers = {container.id: container for container in containers}
    now = docker_time((await context.docker.info()).get("SystemTime")) or datetime.now(UTC)
    standings: dict[str, list[AssessedContainer]] = {}
    for container in containers:
        standings.setdefault(container.service or "", []).append(standing(container, peers, now))
    return standings


def standing(container: Container, peers: Mapping[str, Container], now: datetime) -> AssessedContainer:
    """Return how one container stands; one that has no health check has to prove that it stays. Pure."""
    assessment = assess_container(container, peers=peers, events=None, rules=_RULES, now=now)
    unproven = assessment.state is ContainerState.UP and assessment.health is None
    if unproven and assessment.age_s is not None and assessment.age_s < STABLE_S:
        detail = "it runs, for less than a moment"
        assessment = replace(assessment, state=ContainerState.STARTING, detail=detail)
    return AssessedContainer(container, assessment)


def is_final(entry: AssessedContainer) -> bool:
    """Tell whether waiting changes nothing any more."""
    return entry.state not in _PASSING


def words(entry: AssessedContainer) -> str:
    if entry.state is ContainerState.UP:
        return "healthy" if entry.assessment.health == "healthy" else "running"
    return entry.assessment.words or entry.state.value


async def _finding(
    context: RecoveryContext, name: str, members: Sequence[AssessedContainer], limit_s: float
) -> Finding:
    if not members:
        remedy = "`docker compose ps --all` shows what is there"
        return Finding("service", name, Status.FAIL, "missing", "it has no container", "DOCKER_002", remedy)
    bad = [member for member in members if member.condition is not ContainerCondition.WELL]
    if not bad:
        states = ", ".join(dict.fromkeys(map(words, members)))
        count = f"{counted(len(members), 'container')}: " if len(members) > 1 else ""
        return Finding("service", name, Status.PASS, "ok", f"{count}{states}")
    worst = next((member for member in bad if member.condition is not ContainerCondition.UNCHECKED), bad[0])
    container, is_unchecked = worst.container.name, worst.condition is ContainerCondition.UNCHECKED
    late = "" if is_final(worst) else f" after {limit_s:.0f} s"
    log = await read_container_log(context.docker, container, _LOG_LINES, limit_s=_LOG_S)
    return Finding(
        "service",
        name,
        Status.INCONCLUSIVE if is_unchecked else Status.FAIL,
        worst.state.value,
        f"{container}: {words(worst)}{late}",
        None if is_unchecked else "DOCKER_003",
        (worst.assessment.remedy if is_unchecked else None) or f"`docker logs --tail 50 {container}`",
        evidence={"log": log.lines(_LINE_CHARS)},
    )
