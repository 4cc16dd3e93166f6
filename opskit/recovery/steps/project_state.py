"""What is found of a Compose project: what it declares against the containers that are there. Pure."""

from collections.abc import Mapping, Sequence
from graphlib import TopologicalSorter
from typing import Any

from opskit.checks.container_assessment import AssessedContainer, ContainerCondition, ContainerState
from opskit.checks.stopped_by_hand import removed_by_hand
from opskit.facts.container import action_of
from opskit.records import MutableRecord, Record, field
from opskit.recovery.step import WORST_FIRST, Condition, TargetFinding
from opskit.recovery.steps.project_facts import ProjectFacts, is_drifted
from opskit.system.compose import Project
from opskit.text import counted

_CONDITIONS = {
    ContainerCondition.WELL: Condition.HEALTHY,
    ContainerCondition.WAITING: Condition.WAITING,
    ContainerCondition.LEFT: Condition.LEFT,
    ContainerCondition.SICK: Condition.BROKEN,
    ContainerCondition.UNCHECKED: Condition.UNKNOWN,
}


class ProjectAssessment(Record):
    """The findings of one project.

    `start` are the services that are to be started, with the number of their containers where a person runs
    more than the files say: `up` would end the rest. Services of `recreate` get new containers; services
    that have a finding in `alone` are started each by itself, the others together. `containers` are those of
    which there is something to say, `services` those without a container that a person paused.
    """

    project: TargetFinding
    start: Mapping[str, int | None]
    recreate: frozenset[str]
    alone: Mapping[str, TargetFinding]
    containers: Sequence[tuple[AssessedContainer, TargetFinding]]
    services: Sequence[TargetFinding]

    @property
    def findings(self) -> list[TargetFinding]:
        containers = (finding for _, finding in self.containers)
        return [self.project, *self.alone.values(), *containers, *self.services]


def assess_project(facts: ProjectFacts) -> ProjectAssessment:
    """Judge the project itself, then each container."""
    judgement = _Judgement(facts, facts.assessed_containers(), facts.down())
    judgement.sort()
    containers = [
        (entry, finding) for entry in judgement.assessed_containers if (finding := judgement.container(entry))
    ]
    services = [
        TargetFinding(facts.target_of(name), Condition.BROKEN, "down", f"it {judgement.down[name]}", (name,))
        for name in sorted(facts.paused & judgement.down.keys())
        if not facts.of(name)
    ]
    recreate = frozenset(judgement.recreate & judgement.start.keys())
    needs = {name: facts.project.services[name].needs for name in judgement.start}
    in_order = [name for name in TopologicalSorter(needs).static_order() if name in judgement.start]
    alone = {name: judgement.service(name) for name in in_order if name in facts.alone}
    return ProjectAssessment(judgement.project(), judgement.start, recreate, alone, containers, services)


class _Judgement(MutableRecord):
    """Services that are down, sorted by what becomes of them.

    `left` and `refused` say why a service is not simply started; what is refused needs a person.
    """

    facts: ProjectFacts
    assessed_containers: Sequence[AssessedContainer]
    down: Mapping[str, str]
    start: dict[str, int | None] = field(default_factory=dict)
    left: dict[str, str] = field(default_factory=dict)
    refused: dict[str, str] = field(default_factory=dict)
    recreate: set[str] = field(default_factory=set)
    remedies: list[str] = field(default_factory=list)

    def sort(self) -> None:
        facts = self.facts
        removed: Mapping[str, str] = {}
        if facts.events is not None:
            removed = removed_by_hand(self.down, facts.project.name, facts.events, facts.rules.hands_off_s)
        for name in self.down:
            self._sort_service(name, removed.get(name))
        self._leave_dependants()

    def _sort_service(self, name: str, removed: str | None) -> None:
        facts, service, containers = self.facts, self.facts.project.services[name], self.facts.of(name)
        orphans = [entry.container for entry in self._down(name) if entry.state is ContainerState.ORPHANED]
        made = len(containers) < service.replicas or orphans
        by_hand = f"`{facts.command} up -d {'--force-recreate ' if orphans else ''}--no-deps {name}`"
        actions = {container.action for container in containers} or {action_of(service.labels)}
        if facts.busy is not None:
            self.left[name] = facts.busy
        elif stopped := self._stopped_by_hand(name):
            self.left[name] = stopped
        elif len(containers) < service.replicas and (
            why := removed or facts.missed or facts.unasked.get(name)
        ):
            self.left[name] = why
        elif not actions <= {"restart", "notify"}:
            labels = " and ".join(f"`opskit.action={action}`" for action in sorted(actions))
            self.left[name] = f"its label says {labels}"
        elif "notify" in actions:
            self.refused[name] = "its label says that a person is to be told"
            self.remedies.append(by_hand)
        elif name in facts.paused:
            self.left[name] = "it is paused"
        elif name in facts.imageless:
            self.refused[name] = f"its image {service.images[0]} is not on this machine"
            self.remedies.append(f"`{facts.command} {'build' if service.built else 'pull'} {name}`")
        elif name in facts.netless:
            self.refused[name] = f"there is no network {facts.netless[name]}"
            self.remedies.append(f"`docker network create {facts.netless[name]}`")
        elif (obstacle := facts.obstacles.get(name)) is not None:
            self.refused[name] = obstacle.detail
            self.remedies.append(obstacle.remedy)
        elif made and facts.other_files:
            self.refused[name] = facts.other_files
            self.remedies.append(
                f"name in `stack.compose.{facts.key}` the files that the project is started from"
            )
        elif made and service.blank:
            self.refused[name] = f"it would be made with nothing in {', '.join(service.blank)}"
            self.remedies.append(f"set {', '.join(service.blank)} in `.env` beside the Compose file")
        elif orphans and not all(map(facts.may_recreate, orphans)):
            self.refused[name] = "it would be made of other settings than it was, or nobody can tell"
            self.remedies.append(by_hand)
        elif orphans and any(container.running for container in containers):
            self.refused[name] = "others of its containers run, which would be made again too"
            self.remedies.append(by_hand)
        else:
            self.recreate |= {name} if orphans else set()
            self.start[name] = len(containers) if len(containers) > service.replicas else None

    def _stopped_by_hand(self, service: str) -> str:
        """Return why people are behind the end of a service, empty when they are not."""
        return next(filter(None, (entry.assessment.left for entry in self._down(service))), "")

    def _down(self, service: str) -> list[AssessedContainer]:
        """Return the containers of a service that are to be started."""
        return [
            entry
            for entry in self.assessed_containers
            if entry.container.service == service and entry.is_down
        ]

    def _leave_dependants(self) -> None:
        """Leave what needs a service that is not started: it would only fail, or start that too."""
        changed = True
        while changed:
            changed = False
            for name in list(self.start):
                needs = self.facts.project.services[name].needs
                need = next((other for other in needs if other in self.left or other in self.refused), None)
                if need is not None:
                    del self.start[name]
                    self.left[name] = f"it needs {need}, which is not started"
                    changed = True

    def project(self) -> TargetFinding:
        """Return the finding of the project itself; a service with a container has its own."""
        facts, project, down = self.facts, self.facts.project, self.down
        evidence: dict[str, Any] = {
            "project": project.name,
            "services": len(project.wanted),
            "containers": {entry.container.name: entry.condition.value for entry in self.assessed_containers},
        }
        remedy = None
        bare = {
            name: why for name, why in self.left.items() if name not in facts.paused and not facts.of(name)
        }
        starting = [entry for entry in self.assessed_containers if entry.state is ContainerState.STARTING]
        together = [name for name in self.start if name not in facts.alone]
        alone = [name for name in self.start if name in facts.alone]
        running = sum(container.running for container in facts.containers)
        parts = [self._part(name) for name in project.wanted]
        # What is on its way is not down, and what is started by itself tells of itself.
        is_down = not (running or alone or all(part.condition is Condition.WAITING for part in parts))
        if together or self.refused:
            condition, state = Condition.BROKEN, "down"
            words = [f"{name} {down[name]}" for name in together]
            words += [f"{name} {down[name]}, and {why}" for name, why in self.refused.items()]
            words += [f"{name} is left alone: {why}" for name, why in bare.items()]
            scale = {name: count for name in together if (count := self.start[name]) is not None}
            evidence |= {"start": together, "scale": scale}
            remedy = "; ".join(dict.fromkeys(self.remedies))
            again = [name for name in together if name in self.recreate]
            commands = [f"up -d --force-recreate --no-deps {' '.join(again)}"] if again else []
            plain = [name for name in together if name not in self.recreate]
            commands += [f"up -d {' '.join(plain)}"] if plain else []
            remedy = remedy or ", then ".join(f"`{facts.command} {command}`" for command in commands)
        elif bare or alone or is_down:
            condition, state = Condition.LEFT, "down"
            words = [f"{name} {down[name]}: {why}" for name, why in (self.left if is_down else bare).items()]
            words += [f"{name} {down[name]}: see {facts.target_of(name)}" for name in alone]
            words = words or [f"{counted(running, 'container')} of {_services(project)} run", *self._ended()]
            names = " ".join(down) or " ".join(project.wanted)
            remedy = f"`{facts.command} up -d {names}` starts it now"
        elif starting:
            condition, state = Condition.WAITING, "starting"
            words = [f"{entry.container.name}: {entry.assessment.detail}" for entry in starting]
        else:
            condition, state = Condition.HEALTHY, "ok"
            words = [f"{counted(running, 'container')} of {_services(project)} run", *self._ended()]
        return TargetFinding(
            facts.target,
            condition,
            state,
            "; ".join([*words, *self._notes()]),
            (facts.key, project.name),
            evidence,
            remedy,
            is_down=is_down and not down.keys() <= facts.paused,
            parts=tuple(parts),
            relapsed=frozenset(map(facts.target_of, facts.relapsed())),
        )

    def _started_s(self, service: str) -> float | None:
        """Return when a service was last started; None for what never was."""
        starts = [container.started for container in self.facts.of(service)]
        return max((at.timestamp() for at in starts if at is not None), default=None)

    def service(self, name: str) -> TargetFinding:
        facts = self.facts
        target, again = facts.target_of(name), "--force-recreate " if name in self.recreate else ""
        remedy = f"`{facts.command} up -d {again}--no-deps {name}`"
        names = (name, *(container.name for container in facts.of(name)), facts.target, facts.key)
        evidence = {"start": [name]}
        cause = f"{name} {self.down[name]}"
        relapsed = frozenset({target} if name in facts.relapsed() else ())
        return TargetFinding(
            target,
            Condition.BROKEN,
            "down",
            cause,
            names,
            evidence,
            remedy,
            relapsed=relapsed,
            started_s=self._started_s(name),
        )

    def _part(self, name: str) -> TargetFinding:
        target = self.facts.target_of(name)
        if name in self.down:
            condition = Condition.LEFT if name in self.left else Condition.BROKEN
            cause, started_s = f"{name} {self.down[name]}", self._started_s(name)
            return TargetFinding(target, condition, "down", cause, started_s=started_s)
        return min(
            (
                TargetFinding(
                    target,
                    _CONDITIONS[entry.condition],
                    entry.state.value,
                    f"{entry.container.name}: {entry.assessment.detail}",
                )
                for entry in self.assessed_containers
                if entry.container.service == name
            ),
            key=lambda part: WORST_FIRST.index(part.condition),
            default=TargetFinding(target, Condition.HEALTHY),
        )

    def container(self, entry: AssessedContainer) -> TargetFinding | None:
        """Return the finding of a container; None for one that is well, unless it was repaired before."""
        facts, container, assessment = self.facts, entry.container, entry.assessment
        target, service = f"container:{container.name}", container.service or ""
        condition, why = Condition.BROKEN, ""
        match assessment.state:
            case ContainerState.UP | ContainerState.ENDED if not assessment.left:
                condition = Condition.HEALTHY
            case ContainerState.STARTING | ContainerState.REMOVING:
                condition = Condition.WAITING
            case ContainerState.PAUSED | ContainerState.ENDED:
                condition, why = Condition.LEFT, assessment.left
            case _ if entry.is_down and service not in facts.project.services:
                why = assessment.left or facts.busy or ""
                condition = Condition.LEFT if why else Condition.BROKEN
            case _ if entry.is_down and service not in facts.paused:
                if service not in self.left:
                    return None
                condition, why = Condition.LEFT, self.left[service]
            case ContainerState.UNCHECKED:
                condition = Condition.UNKNOWN
            case ContainerState.UNHEALTHY | ContainerState.CUT_OFF | ContainerState.ORPHANED:
                why = self._reason_to_leave(entry)
                condition = Condition.LEFT if why else Condition.BROKEN
        is_well = condition in (Condition.HEALTHY, Condition.WAITING)
        if is_well and target not in facts.remembered:
            return None
        evidence = {
            "id": container.id[:12],
            "service": container.service,
            "condition": assessment.condition.value,
            **assessment.evidence,
        }
        return TargetFinding(
            target,
            condition,
            str(assessment.state),
            "; ".join(filter(None, (assessment.detail, why))),
            (container.name, service, facts.target),
            evidence,
            None if is_well else assessment.remedy,
            started_s=None if container.started is None else container.started.timestamp(),
        )

    def _reason_to_leave(self, entry: AssessedContainer) -> str:
        """Return why a container that runs badly is left to people; nothing when it is not."""
        shared = entry.container.shares_network_of
        owner = next((other.service for other in self.facts.containers if other.id == shared), None)
        if self.facts.busy is not None:
            return self.facts.busy
        if owner in self.left:
            return f"{owner} is left alone: {self.left[owner]}"
        return entry.assessment.left

    def _ended(self) -> list[str]:
        """Say of what ended well by itself that it is not started again, unless others awaited its end."""
        services = self.facts.project.services
        awaited = {need for service in services.values() for need in service.depends_on}
        ended = sorted(
            {
                entry.container.service or ""
                for entry in self.assessed_containers
                if entry.state is ContainerState.ENDED
                and entry.container.wanted
                and not entry.assessment.left
            }
            - awaited
        )
        if not ended:
            return []
        words = f"{', '.join(ended)} ended with exit code 0, as a job does, and is not started again"
        return [f"{words} (`{self.facts.command} up -d {' '.join(ended)}` does)"]

    def _notes(self) -> list[str]:
        """Return what is reported and never acted on."""
        facts, notes = self.facts, []
        drifted = sorted(
            {
                container.service or ""
                for container in facts.containers
                if is_drifted(facts.project, container)
            }
        )
        if facts.other_files and facts.other_files not in self.refused.values():
            notes.append(facts.other_files)
        if drifted and not facts.other_files:
            notes.append(
                f"{', '.join(drifted)}: made of older settings than the files hold now "
                f"(`{facts.command} up -d` applies them)"
            )
        for container in facts.containers:
            service = facts.project.services.get(container.service or "")
            if service is None or not container.running or container.shares_network_of is not None:
                continue
            name = container.name
            notes += [
                f"{name} has lost the network {network} (`docker network connect {network} {name}`)"
                for network in sorted(set(service.networks) - set(container.networks))
            ]
        return notes


def _services(project: Project) -> str:
    return counted(len(project.wanted), "service")
