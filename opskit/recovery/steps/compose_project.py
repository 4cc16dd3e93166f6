"""The Compose projects of the stack: what is declared runs and is well, and nothing a person did is undone.

Services that are not created or have stopped are started by one `up` that recreates, builds and pulls
nothing and starts no other; containers that run badly are restarted one by one.
"""

import asyncio
import shlex
from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from datetime import UTC, datetime
from functools import partial
from typing import Any

from opskit.checks.container_assessment import (
    STABLE_S,
    AssessedContainer,
    ContainerRepair,
    ContainerRules,
    ContainerState,
)
from opskit.checks.project_assessment import moved_project, other_files, other_folder
from opskit.checks.restore_assessment import assess_interrupted_restore
from opskit.checks.stopped_by_hand import until
from opskit.facts.compose_project import Sources
from opskit.facts.container import Container, StartObstacle, compose_files_of, real_files
from opskit.facts.container_events import ContainerEvents
from opskit.facts.container_survey import (
    read_compose_containers,
    read_container,
    read_container_log,
    read_network_ids,
)
from opskit.facts.start_obstacles import (
    read_project_obstacle,
    read_service_obstacle,
    read_start_obstacles,
)
from opskit.records import Record, replace
from opskit.recovery import budget, hands_off, pauses
from opskit.recovery.compose_projects import UnusableProject, configured, read_project, usable_projects
from opskit.recovery.step import Command, Condition, RecoveryContext, Repair, Step, TargetFinding
from opskit.recovery.steps.decision import container_restart
from opskit.recovery.steps.project_facts import ProjectFacts
from opskit.recovery.steps.project_state import ProjectAssessment
from opskit.system.compose_declaration import ComposeService, Project
from opskit.system.docker_records import PROJECT, SERVICE

_UP_S = 120.0
_STOP_MARGIN_S = 30.0
_LOG_LINES = 20
_LOG_S = 3.0
_LINE_CHARS = 300


def compose_projects(context: RecoveryContext) -> list[Step]:
    """Return a step for each project of `stack.compose`, one after the other as they stand there."""
    steps: list[Step] = []
    before = "network"
    for key in context.config.stack.compose:
        name = f"compose:{key}"
        steps.append(Step(name, _ComposeStep(context, key, name).look, requires=("docker",), after=(before,)))
        before = name
    return steps


class _ComposeStep(Record):
    context: RecoveryContext
    key: str
    name: str

    async def look(self) -> Sequence[TargetFinding]:
        files = self.context.config.compose_files()[self.key]
        if (restore := await hands_off.interrupted_restore(self.context, files)) is not None:
            half = assess_interrupted_restore(restore)
            cause, more = f"it is left alone: {half.detail}", {"code": half.code, "evidence": half.evidence}
            return self._unusable(half.state, cause, half.remedy, **more)
        try:
            sources, project = await read_project(self.context, self.key)
        except UnusableProject as unusable:
            return await self._as_it_was(unusable)
        containers = await self._containers(project.name)
        if containers:
            marks, now_s = self.context.memory.marks, self.context.clock()
            marks[f"seen {self.name}"] = now_s
            marks |= {f"had {self.name}/{container.service}": now_s for container in containers}
        elif moved := moved_project(await self.context.docker.containers(), project.services, sources.files):
            return self._unusable(moved.state, moved.detail, moved.remedy)
        if (folder := other_folder(containers, sources.files)) is not None:
            cause = f"the project name {project.name} is also that of {folder}, whose containers run"
            remedy = "give one of the two a name of its own: `COMPOSE_PROJECT_NAME=...` in its `.env`"
            return self._unusable("name taken", cause, remedy)
        seen = ProjectAssessment(await self._known(sources, project, containers))
        together = seen.start.keys() - seen.alone.keys()
        return [
            replace(seen.project, read_again=partial(self._startable, seen, seen.project, together)),
            *await self._parts(seen),
        ]

    def _unusable(self, state: str, cause: str, remedy: str | None, **more: Any) -> list[TargetFinding]:
        return [UnusableProject(self.key, state, cause, remedy, **more).finding]

    async def _as_it_was(self, unusable: UnusableProject) -> Sequence[TargetFinding]:
        """Return the findings of a project whose files Compose does not accept.

        Docker starts its containers as they were made, which the labels say.
        """
        finding, sources = unusable.finding, unusable.sources
        files = None if sources is None else real_files(sources.files)
        listed = await self.context.docker.containers()
        names = {item.project for item in listed if real_files(compose_files_of(item.labels)) == files}
        if sources is None or not (name := next(iter(names), None)):
            return [finding]
        containers = await self._containers(name)
        counts = Counter(container.service or "" for container in containers)
        services = {service: ComposeService(service, (), replicas=count) for service, count in counts.items()}
        facts = await self._known(sources, Project(name, "", services), containers)
        absent = StartObstacle(finding.cause, finding.remedy or "")
        seen = ProjectAssessment(replace(facts, absent=absent, alone=frozenset(facts.down())))
        return [replace(finding, parts=seen.project.parts), *await self._parts(seen)]

    async def _known(
        self, sources: Sources, project: Project, containers: Sequence[Container]
    ) -> ProjectFacts:
        """Return what is known of a project: the past where a container does not run, all in trouble."""
        facts = self._facts(sources, project, containers)
        if not all(container.running for container in containers):
            facts = await self._with_past(facts)
        return facts if facts.is_well() else await self._in_trouble(facts, sources)

    async def _parts(self, seen: ProjectAssessment) -> list[TargetFinding]:
        return [
            *(
                replace(finding, read_again=partial(self._startable, seen, finding, {name}))
                for name, finding in seen.alone.items()
            ),
            *[await self._planned(seen.facts, assessed, finding) for assessed, finding in seen.containers],
            *seen.services,
        ]

    async def _planned(
        self, facts: ProjectFacts, assessed: AssessedContainer, finding: TargetFinding
    ) -> TargetFinding:
        """Add how a container is repaired; nothing repairs a loop, whose last lines are shown."""
        if assessed.state is ContainerState.LOOPING:
            evidence = {**finding.evidence, "log": await self._log(assessed.container.name)}
            return replace(finding, evidence=evidence)
        return replace(finding, read_again=partial(self._repairable, facts, assessed, finding))

    async def _startable(
        self, seen: ProjectAssessment, finding: TargetFinding, services: Collection[str]
    ) -> TargetFinding:
        """Add one `up` for everything that is to be started, unless it was paused meanwhile.

        Pulls nothing: Compose 1 has no option for that, but every image is known to be there.
        """
        facts, paused = seen.facts, pauses.read(self.context.folder, self.context.clock())
        names = [name for name in seen.start if name in services and not facts.is_paused(name, paused)]
        if not names:
            return finding
        now = replace(facts, containers=await self._containers(facts.project.name))
        unmet = {name: why for name in names if (why := now.unmet(name, names))}
        names = [name for name in names if name not in unmet]
        if not names:
            why = "; ".join(f"{name} is not started: {reason}" for name, reason in unmet.items())
            return replace(finding, condition=Condition.BLOCKED, cause=f"{finding.cause}; {why}")
        # Compose refuses what it could not make; Docker starts what is there.
        made = [name for name in names if facts.absent is None and name not in facts.obstacles]
        containers = [container.name for name in names if name not in made for container in facts.of(name)]
        commands = [Command(("docker", "start", *containers), _UP_S)] if containers else []
        undo = [f"docker stop {' '.join(containers)}"] if containers else []
        if made:
            work = await configured(self.context, self.key)
            undo.append(work.command("stop", *made, timeout_s=_UP_S).shown)
            # What is recreated joins what has to run by then, unless that itself needs it.
            needs = {need for name in made for need in facts.project.services[name].needs}
            is_needed = not needs.isdisjoint(seen.recreate)
            for is_new in (True, False) if is_needed else (False, True):
                switch = "--force-recreate" if is_new else "--no-recreate"
                group = [name for name in made if (name in seen.recreate) is is_new]
                scale = [
                    f"--scale={name}={seen.start[name]}" for name in group if seen.start[name] is not None
                ]
                switches = (switch, *work.no_new_images, "--no-deps", *scale)
                commands += [work.command("up", "-d", *switches, *group, timeout_s=_UP_S)] if group else []
        # A health check proves that a container runs; without one, or where none is known, it has to stay.
        known = map(facts.of, names)
        proven = all(own and all(container.has_health_check for container in own) for own in known)
        repair = Repair(
            tuple(commands),
            finding.cause,
            " && ".join(undo),
            evidence=partial(self._ends, facts.project.name, names),
            counted=tuple(map(facts.target_of, names)),
            steady_s=0.0 if proven else STABLE_S,
        )
        return replace(finding, repair=repair)

    async def _ends(self, project: str, services: Collection[str]) -> Mapping[str, Any]:
        stopped = [container for container in await self._containers(project) if not container.running]
        names = [container.name for container in stopped if container.service in services]
        logs = await asyncio.gather(*map(self._log, names))
        return {"logs": dict(zip(names, logs, strict=True))}

    async def _repairable(
        self, facts: ProjectFacts, assessed: AssessedContainer, finding: TargetFinding
    ) -> TargetFinding:
        """Add how a container is repaired that runs badly; nothing when it is gone, or a person's.

        Nothing either when a start would do harm.
        """
        container = await read_container(self.context.docker, assessed.container.name)
        if container is None:
            return finding
        name, cause, repair = container.name, finding.cause, None
        obstacle = (await read_start_obstacles(self.context.survey, [container])).get(container.id)
        if obstacle is not None and assessed.assessment.repair is not ContainerRepair.STOP:
            return replace(finding, cause=f"{cause}; {obstacle.detail}", remedy=obstacle.remedy)
        match assessed.assessment.repair:
            case ContainerRepair.STOP:
                stop = Command(("docker", "stop", name), container.stop_timeout_s + _STOP_MARGIN_S)
                repair = Repair((stop,), f"{cause}; its label says to stop it", f"docker start {name}")
            case ContainerRepair.START if assessed.container.optional:
                repair = Repair(
                    (Command(("docker", "start", name), _STOP_MARGIN_S),), cause, f"docker stop {name}"
                )
            case ContainerRepair.RECREATE:
                repair = await self._recreation(facts, container, cause)
            case ContainerRepair.RESTART:
                if assessed.state is not ContainerState.CUT_OFF or await self._has_network(container):
                    repair = Repair((container_restart(container),), cause, f"docker stop {name}")
        if repair is None:
            return finding
        is_proven = container.has_health_check or assessed.assessment.repair is ContainerRepair.STOP
        steady_s = 0.0 if is_proven else STABLE_S

        async def last_words() -> Mapping[str, Any]:
            return {"log": await self._log(name)}

        repair = replace(repair, evidence=last_words, steady_s=steady_s)
        return replace(finding, repair=repair)

    async def _recreation(self, facts: ProjectFacts, container: Container, cause: str) -> Repair | None:
        """Return how a container is recreated whose network is gone: it bears the id of the old one.

        Never where that would deploy other settings, or where the other does not run yet.
        """
        service = facts.project.services.get(container.service or "")
        if service is None or facts.other_files or not facts.may_recreate(container):
            return None
        running = {other.service for other in facts.containers if other.running}
        if not running.issuperset(service.joins) or len(facts.of(service.name)) != 1:
            return None
        work = await configured(self.context, self.key)
        switches = ("--force-recreate", *work.no_new_images, "--no-deps")
        timeout_s = container.stop_timeout_s + _UP_S
        command = work.command("up", "-d", *switches, service.name, timeout_s=timeout_s)
        return Repair((command,), cause, work.command("stop", service.name, timeout_s=_UP_S).shown)

    async def _has_network(self, container: Container) -> bool:
        """Tell whether the container runs whose network this one shares."""
        shared = container.shares_network_of
        owner = None if shared is None else await read_container(self.context.docker, shared)
        return owner is not None and owner.running

    def _facts(self, sources: Sources, project: Project, containers: Sequence[Container]) -> ProjectFacts:
        rules = self.context.config.recovery
        program = "docker-compose" if project.version.startswith("1.") else "docker compose"
        files = " ".join(f"-f {shlex.quote(str(path))}" for path in sources.files)
        return ProjectFacts(
            key=self.key,
            project=project,
            containers=containers,
            now=datetime.fromtimestamp(self.context.clock(), UTC),
            rules=ContainerRules(rules.startup_grace_s, rules.hands_off_s, f"{program} {files}"),
            changed_s=max(sources.edits.values()),
            remembered=frozenset(self.context.memory.targets),
            other_files=other_files(containers, sources.files),
        )

    async def _with_past(self, facts: ProjectFacts) -> ProjectFacts:
        """Add what Docker remembers, and which networks there are, unless that is known."""
        context = self.context
        if facts.events is not None:
            return facts
        events, networks = await asyncio.gather(
            hands_off.read_events(context, facts.containers), read_network_ids(context.docker)
        )
        return replace(facts, now=events.now, events=events, networks=networks)

    async def _in_trouble(self, facts: ProjectFacts, sources: Sources) -> ProjectFacts:
        """Add everything that decides whether the project may be touched."""
        context, hands_off_s = self.context, self.context.config.recovery.hands_off_s
        facts, busy = await asyncio.gather(self._with_past(facts), self._busy(sources, facts.project.name))
        facts, events = replace(facts, busy=busy), facts.events or ContainerEvents(facts.now)
        down = facts.down()
        # A whole project that is not there may have been taken down; one of several containers is missed.
        created = {} if facts.containers else down
        marks, now_s = context.memory.marks, context.clock()
        mark, seen_s = f"missed {self.name}", marks.get(f"seen {self.name}")
        missed = hands_off.first_missed(marks, mark, created, now_s, events, hands_off_s, seen_s)
        paused = pauses.read(context.folder, now_s)
        return replace(
            facts,
            missed=missed,
            absent=await self._absent(facts.project, paused),
            obstacles=await self._obstacles(facts, down),
            unasked=self._unasked(facts, events, down),
            paused=frozenset(name for name in down if facts.is_paused(name, paused)),
            alone=frozenset(name for name in down if self._stands_alone(facts, name)),
        )

    async def _absent(self, project: Project, paused: Collection[str]) -> StartObstacle | None:
        """Read what Compose lacks to make any container of the project."""
        shared = self.context.config.stack.docker_network
        # The step before makes it, unless a person paused that.
        made = (shared,) if shared and "network" not in paused else ()
        projects = [item async for item in usable_projects(self.context)]
        makers = {own: key for key, other in projects if key != self.key for own in other.own_networks}
        return await read_project_obstacle(self.context.survey, project, made=made, makers=makers)

    def _unasked(self, facts: ProjectFacts, events: ContainerEvents, down: Iterable[str]) -> dict[str, str]:
        """Return the services that have never had a container, as far as is known, and why none is made.

        Somebody starts only a part of the project, or has added them to the files and not started them.
        """
        marks, created = self.context.memory.marks, [*filter(self._is_of_people, facts.containers)]
        if not facts.containers:
            return {}
        newest = max(created or facts.containers, key=lambda container: container.created_s)
        own = (event.attributes for event in events.events if event.action in ("create", "destroy"))
        had = {labels.get(SERVICE) for labels in own if labels.get(PROJECT) == facts.project.name}
        services = [name for name in down if name not in had and f"had {facts.target_of(name)}" not in marks]
        ago_s = facts.now.timestamp() - newest.created_s
        if created and ago_s < facts.rules.hands_off_s and events.reach(newest.created or events.now):
            why = f"somebody made {newest.name} {ago_s:.0f} s ago{until(ago_s, facts.rules.hands_off_s)}"
            return dict.fromkeys(services, why)
        # A time ahead is of another clock.
        if newest.created_s < facts.changed_s <= facts.now.timestamp():
            return dict.fromkeys(services, "it is new in the files, and nobody has started it yet")
        return {}

    def _is_of_people(self, container: Container) -> bool:
        """Tell whether no repair that is remembered made a container."""
        record = self.context.memory.of(f"{self.name}/{container.service}")
        began_s = record.repairs[-1] if record.repairs else float("inf")
        ended_s = began_s + _UP_S if record.ended_at is None else record.ended_at
        return not began_s - 1.0 <= container.created_s <= ended_s

    async def _obstacles(self, facts: ProjectFacts, down: Iterable[str]) -> dict[str, StartObstacle]:
        """Return what keeps services from their start that are down, by service.

        What a project mounts that was never there may be made by its first start.
        """
        survey, obstacles = self.context.survey, {}
        was_there = f"seen {self.name}" in self.context.memory.marks
        for name in down:
            containers, service = facts.of(name), facts.project.services[name]
            had = f"had {facts.target_of(name)}" in self.context.memory.marks
            stopped = [container for container in containers if not container.running]
            obstacle = next(
                iter((await read_start_obstacles(survey, stopped)).values()), None
            ) or await read_service_obstacle(
                survey,
                service,
                facts.command,
                is_made=bool(containers),
                mounts=was_there,
                volumes=[volume for volume in service.volumes if had and volume in facts.project.own_volumes],
            )
            if obstacle is not None:
                obstacles[name] = obstacle
        return obstacles

    def _stands_alone(self, facts: ProjectFacts, service: str) -> bool:
        """Tell whether a service is started by itself, because its last start did not help."""
        context, lasted = self.context, service not in facts.relapsed()
        if not context.memory.is_lasting:
            return True
        record = context.memory.of(facts.target_of(service))
        return budget.stands_alone(record, context.clock(), context.config.recovery, lasted=lasted)

    async def _busy(self, sources: Sources, project: str) -> str | None:
        """Return why nothing of the project is touched now; None when nobody is at it."""
        edited = hands_off.just_edited(self.context, sources.edits)
        return edited or await hands_off.at_work(self.context, project=(project, sources.files))

    async def _containers(self, project: str) -> list[Container]:
        """Read the containers of `up`, none of `compose run`. Raises OpskitError DOCKER_*."""
        containers = await read_compose_containers(self.context.docker, project)
        return [container for container in containers if not container.one_off]

    async def _log(self, name: str) -> list[str]:
        log = await read_container_log(self.context.docker, name, _LOG_LINES, limit_s=_LOG_S)
        return log.lines(_LINE_CHARS)
