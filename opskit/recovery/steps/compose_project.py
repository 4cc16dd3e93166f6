"""The Compose projects of the stack: what is declared runs and is well, and nothing a person did is undone.

Services that are not created or have stopped are started by one `up` that recreates, builds and pulls
nothing and starts no other; containers that run badly are restarted one by one.
"""

import asyncio
import os
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from opskit.checks.container_assessment import ContainerRules, ContainerState
from opskit.errors import OpskitError
from opskit.facts.container import Container
from opskit.facts.container_survey import read_compose_containers, read_container
from opskit.recovery import pauses
from opskit.recovery.context import RecoveryContext
from opskit.recovery.step import LOOK_S, Command, Condition, Repair, Step, TargetObservation
from opskit.recovery.steps import hands_off, project_state
from opskit.recovery.steps.decision import container_restart
from opskit.recovery.steps.declared import Sources, declared, sources
from opskit.recovery.steps.project_state import ProjectKnowledge, assessments, is_drifted
from opskit.system.compose import Project

_UP_S = 120.0
_STOP_MARGIN_S = 30.0
_LOG_LINES = 20
_LOG_S = 3.0
_LINE_CHARS = 300


@dataclass(slots=True)
class _Project:
    ground: RecoveryContext
    key: str
    name: str
    title: str
    requires: tuple[str, ...]
    look_s = LOOK_S
    after: tuple[str, ...]

    async def look(self) -> Sequence[TargetObservation]:
        found = await sources(self.ground, self.key)
        if isinstance(found, TargetObservation):
            return [found]
        project = await declared(self.ground, self.key, found)
        if isinstance(project, TargetObservation):
            return [project]
        containers = await self._containers(project.name)
        if (other := _elsewhere(containers, found)) is not None:
            return [self._taken(project, other)]
        known = self._known(found, project, containers)
        if not project_state.is_well(known, assessments(known)):
            known = await self._in_trouble(known, found)
        return [await self._with_log(one) for one in project_state.seen(known)]

    async def evidence(self, seen: TargetObservation) -> Mapping[str, Any]:
        """The last lines of what has ended or runs badly."""
        if seen.target.startswith("container:"):
            return {"log": await self._log(seen.target.partition(":")[2])}
        services = seen.evidence.get("start") or ()
        containers = await self._containers(str(seen.evidence.get("project")))
        names = [one.name for one in containers if one.service in services and not one.running]
        logs = await asyncio.gather(*(self._log(name) for name in names))
        return {"logs": dict(zip(names, logs, strict=True))}

    async def plan(self, seen: TargetObservation) -> Repair | None:
        if seen.target == self.name:
            return await self._start(seen)
        if not seen.target.startswith("container:"):
            return None
        one = await read_container(self.ground.door, seen.target.partition(":")[2])
        return None if one is None else await self._mend(one, seen)

    async def _start(self, seen: TargetObservation) -> Repair | None:
        """One `up` for everything that is to be started. Pulls nothing: Compose 1 has no option for that,

        but every image is known to be there.
        """
        held = pauses.read(self.ground.folder, self.ground.clock())
        names = [name for name in seen.evidence.get("start") or () if name not in held]
        if not names:
            return None
        scale = [f"--scale={name}={count}" for name, count in seen.evidence["scale"].items() if name in names]
        compose = await self._compose()
        up = (*compose.command, "up", "-d", "--no-recreate", *_NOTHING_NEW[compose.modern], *scale, *names)
        undo = shlex.join((*compose.command, "stop", *names))
        return Repair((Command(up, _UP_S, str(compose.folder)),), seen.cause, undo)

    async def _mend(self, one: Container, seen: TargetObservation) -> Repair | None:
        if one.action == "stop":
            command = Command(("docker", "stop", one.name), one.stop_timeout_s + _STOP_MARGIN_S)
            return Repair((command,), f"{seen.cause}; its label says to stop it", f"docker start {one.name}")
        if one.action != "restart":
            return None
        if seen.state == ContainerState.ORPHANED:
            return await self._anew(one, seen)
        if seen.state == ContainerState.CUT_OFF and not await self._runs(one.shares_network_of):
            return None
        if seen.state not in (ContainerState.UNHEALTHY, ContainerState.CUT_OFF):
            return None
        return Repair((container_restart(one),), seen.cause, f"docker stop {one.name}")

    async def _anew(self, one: Container, seen: TargetObservation) -> Repair | None:
        """A container bears the id of the one whose network it shares: only a new one gets the new id.

        Never where that would deploy other settings, or where the other does not run yet.
        """
        found = await sources(self.ground, self.key)
        project = (
            None if isinstance(found, TargetObservation) else await declared(self.ground, self.key, found)
        )
        if project is None or isinstance(project, TargetObservation):
            return None
        service = project.services.get(one.service or "")
        if service is None or is_drifted(project, one) or one.compose_version != project.version:
            return None
        containers = await self._containers(project.name)
        running = {other.service for other in containers if other.running}
        siblings = [other for other in containers if other.service == one.service]
        if not set(service.needs) <= running or len(siblings) != 1:
            return None
        compose = await self._compose()
        up = (*compose.command, "up", "-d", "--force-recreate", *_NOTHING_NEW[compose.modern], service.name)
        command = Command(up, one.stop_timeout_s + _UP_S, str(compose.folder))
        return Repair((command,), seen.cause, shlex.join((*compose.command, "stop", service.name)))

    async def _in_trouble(self, known: ProjectKnowledge, found: Sources) -> ProjectKnowledge:
        """The same with everything that decides whether it may be touched."""
        events, busy = await asyncio.gather(
            hands_off.past_events(self.ground, known.containers),
            hands_off.busy(self.ground, found),
        )
        known = replace(known, now=events.now, events=events, busy=busy)
        down = project_state.fallen(known, assessments(known))
        # A whole project that is not there may have been taken down; one of several containers is missed.
        created = {} if known.containers else down
        rules, memory = self.ground.config.recovery, self.ground.memory
        missed = hands_off.first_missed(
            memory.marks, f"missed {self.name}", created, self.ground.clock(), events, rules.hands_off_s
        )
        services = known.project.services
        held = pauses.read(self.ground.folder, self.ground.clock())
        there = await asyncio.gather(*(self._has_image(services[name].images) for name in down))
        # The shared one is made by the step before, unless a person paused that.
        shared = self.ground.config.stack.docker_network
        made = {*known.project.own_networks, *({shared} if shared and "network" not in held else ())}
        wanted = sorted({one for name in down for one in services[name].networks} - made)
        gone = {one for one, has in zip(wanted, await self._are_networks(wanted), strict=True) if not has}
        netless = {name: lost[0] for name in down if (lost := sorted(gone & set(services[name].networks)))}
        paused = {name for name in down if {name, *(one.name for one in known.of(name))} & held.keys()}
        return replace(
            known,
            missed=missed,
            imageless=frozenset(name for name, has in zip(down, there, strict=True) if not has),
            netless=netless,
            paused=frozenset(paused),
        )

    def _known(self, found: Sources, project: Project, containers: Sequence[Container]) -> ProjectKnowledge:
        rules = self.ground.config.recovery
        program = "docker-compose" if project.version.startswith("1.") else "docker compose"
        files = " ".join(f"-f {shlex.quote(str(path))}" for path in found.files)
        return ProjectKnowledge(
            self.key,
            project,
            containers,
            datetime.fromtimestamp(self.ground.clock(), UTC),
            ContainerRules(rules.startup_grace_s, rules.hands_off_s, f"{program} {files}"),
            remembered=frozenset(self.ground.memory.targets),
        )

    def _taken(self, project: Project, folder: str) -> TargetObservation:
        cause = f"the project name {project.name} is also that of {folder}, whose containers run"
        remedy = "give one of the two a name of its own: `COMPOSE_PROJECT_NAME=...` in its `.env`"
        return TargetObservation(self.name, Condition.BROKEN, "name taken", cause, (self.key,), remedy=remedy)

    async def _containers(self, project: str) -> list[Container]:
        """Those of `up`: nobody wants one of `compose run` back. Raises OpskitError DOCKER_*."""
        containers = await read_compose_containers(self.ground.door, project)
        return [one for one in containers if not one.one_off]

    async def _has_image(self, names: Sequence[str]) -> bool:
        found = await asyncio.gather(*(self.ground.door.found("image", name) for name in names))
        return any(one is not None for one in found)

    async def _are_networks(self, names: Sequence[str]) -> list[bool]:
        found = await asyncio.gather(*(self.ground.door.found("network", name) for name in names))
        return [one is not None for one in found]

    async def _runs(self, identifier: str | None) -> bool:
        one = None if identifier is None else await read_container(self.ground.door, identifier)
        return one is not None and one.running

    async def _compose(self) -> Any:
        from opskit.system.compose import find

        files: list[Path] = [
            self.ground.config.located(path) for path in self.ground.config.stack.compose[self.key]
        ]
        return await find(files, env=self.ground.environ)

    async def _with_log(self, seen: TargetObservation) -> TargetObservation:
        """What nothing can be done about is told with the container's own last words."""
        if seen.state != ContainerState.LOOPING or not seen.target.startswith("container:"):
            return seen
        return replace(
            seen, evidence={**seen.evidence, "log": await self._log(seen.target.partition(":")[2])}
        )

    async def _log(self, name: str) -> list[str]:
        from opskit.logs.container import ContainerSource
        from opskit.logs.record import LogEntry
        from opskit.logs.source import Window

        lines: list[str] = []
        try:
            async with asyncio.timeout(_LOG_S):
                container = await self.ground.door.inspect(name)
                async for batch in ContainerSource(self.ground.door, container).read(Window(tail=_LOG_LINES)):
                    lines += [_line(one.raw) for one in batch if isinstance(one, LogEntry)]
        except TimeoutError:
            lines.append("(the log could not be read in time)")
        except OpskitError as error:
            lines.append(f"(the log could not be read: {error.message})")
        return lines


#: Neither image nor neighbour: what keeps `up` from doing more than it was asked for, by version 2 or not.
_NOTHING_NEW = {
    True: ("--no-build", "--pull", "never", "--no-deps"),
    False: ("--no-build", "--no-deps"),
}


def compose_projects(ground: RecoveryContext) -> list[Step]:
    """A step for each project of `stack.compose`, one after the other as they stand there."""
    steps: list[Step] = []
    before = "network"
    for key in ground.config.stack.compose:
        name = f"compose:{key}"
        steps.append(_Project(ground, key, name, f"Compose project {key}", ("docker",), (before,)))
        before = name
    return steps


def _line(raw: bytes) -> str:
    return raw.decode("utf-8", "replace")[:_LINE_CHARS]


def _elsewhere(containers: Sequence[Container], found: Sources) -> str | None:
    """The folder of another project that bears the same name; None when the containers are this one's.

    A folder that is no longer there is where this project was before it was moved.
    """
    here = os.path.realpath(found.folder)
    for one in containers:
        if one.folder and Path(one.folder).is_dir() and os.path.realpath(one.folder) != here:
            return one.folder
    return None
