"""What is found of a Compose project: what it declares against the containers that are there. Pure."""

from collections.abc import Mapping, Sequence
from graphlib import TopologicalSorter
from typing import Any

from opskit.checks.container_assessment import AssessedContainer, ContainerCondition, ContainerState
from opskit.checks.stopped_by_hand import removed_by_hand
from opskit.facts.container import Container, action_of
from opskit.recovery.step import WORST_FIRST, Condition, TargetFinding
from opskit.recovery.steps.project_facts import ProjectFacts, is_drifted
from opskit.text import counted, listing

_CONDITIONS = {
    ContainerCondition.WELL: Condition.HEALTHY,
    ContainerCondition.WAITING: Condition.WAITING,
    ContainerCondition.LEFT: Condition.LEFT,
    ContainerCondition.SICK: Condition.BROKEN,
    ContainerCondition.UNCHECKED: Condition.UNKNOWN,
}
#: Of so many services with the same reason each is named.
_MANY = 4
_RUN_BADLY = (ContainerState.UNHEALTHY, ContainerState.CUT_OFF, ContainerState.ORPHANED)


class ProjectAssessment:
    """The findings of one project, and what becomes of each service that is down.

    `start` are the services that are to be started, with the number of their containers where a person runs
    more than the files say: `up` would end the rest. Services of `recreate` get new containers; services
    that have a finding in `alone` are started each by itself, the others together. `left` and `refused` say
    why a service is not simply started; what is refused needs a person. `containers` are those of which
    there is something to say, `services` those without a container that a person paused.
    """

    def __init__(self, facts: ProjectFacts) -> None:
        self.facts = facts
        self.down = facts.down()
        self.start: dict[str, int | None] = {}
        self.left: dict[str, str] = {}
        self.refused: dict[str, str] = {}
        self.recreate: set[str] = set()
        self._remedies: list[str] = []
        self._assessed = facts.assessed_containers()
        removed: Mapping[str, str] = {}
        if facts.events is not None:
            removed = removed_by_hand(self.down, facts.project.name, facts.events, facts.rules.hands_off_s)
        for name in self.down:
            self._sort(name, removed.get(name))
        self._leave_dependants()
        needs = {name: facts.project.services[name].needs for name in self.start}
        in_order = TopologicalSorter(needs).static_order()
        self.alone = {name: self._service(name) for name in in_order if name in needs.keys() & facts.alone}
        self.project = self._project()
        self.containers = [
            (entry, finding) for entry in self._assessed if (finding := self._container(entry)) is not None
        ]
        self.services = [
            TargetFinding(facts.target_of(name), Condition.BROKEN, "down", f"it {self.down[name]}", (name,))
            for name in sorted(facts.paused & self.down.keys())
            if not facts.of(name)
        ]

    @property
    def findings(self) -> list[TargetFinding]:
        containers = (finding for _, finding in self.containers)
        return [self.project, *self.alone.values(), *containers, *self.services]

    def _sort(self, name: str, removed: str | None) -> None:
        containers, replicas = self.facts.of(name), self.facts.project.services[name].replicas
        orphans = [entry.container for entry in self._down(name) if entry.state is ContainerState.ORPHANED]
        match self._obstacle(name, removed, orphans):
            case why, None:
                self.left[name] = why
            case why, str(remedy):
                self.refused[name] = why
                self._remedies.append(remedy)
            case None:
                self.recreate |= {name} if orphans else set()
                self.start[name] = len(containers) if len(containers) > replicas else None

    def _obstacle(
        self, name: str, removed: str | None, orphans: Sequence[Container]
    ) -> tuple[str, str | None] | None:
        """Return why a service is not simply started, with what a person does where that is up to one."""
        facts, service, containers = self.facts, self.facts.project.services[name], self.facts.of(name)
        lacks = len(containers) < service.replicas
        by_hand = f"`{facts.command} up -d {'--force-recreate ' if orphans else ''}--no-deps {name}`"
        actions = {container.action for container in containers} or {action_of(service.labels)}
        if facts.busy is not None:
            return facts.busy, None
        if stopped := next(filter(None, (entry.assessment.left for entry in self._down(name))), ""):
            return stopped, None
        if lacks and (why := removed or facts.missed or facts.unasked.get(name)):
            return why, None
        if not actions <= {"restart", "notify"}:
            labels = " and ".join(f"`opskit.action={action}`" for action in sorted(actions))
            return f"its label says {labels}", None
        if "notify" in actions:
            return "its label says that a person is to be told", by_hand
        if name in facts.paused:
            return "it is paused", None
        obstacle, is_new = facts.obstacles.get(name), lacks or bool(orphans)
        if obstacle is None or (obstacle.of_new and not is_new):
            obstacle = facts.absent if is_new else None
        if obstacle is not None:
            return obstacle.detail, obstacle.remedy
        if (lacks or orphans) and facts.other_files:
            remedy = f"name in `stack.compose.{facts.key}` the files that the project is started from"
            return facts.other_files, remedy
        if (lacks or orphans) and service.blank:
            blank = ", ".join(service.blank)
            return (
                f"it would be made with nothing in {blank}",
                f"set {blank} in `.env` beside the Compose file",
            )
        if not all(map(facts.may_recreate, orphans)):
            return "it would be made of other settings than it was, or nobody can tell", by_hand
        if orphans and any(container.running for container in containers):
            return "others of its containers run, which would be made again too", by_hand
        return None

    def _down(self, service: str) -> list[AssessedContainer]:
        """Return the containers of a service that are to be started."""
        return [entry for entry in self._assessed if entry.container.service == service and entry.is_down]

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

    def _project(self) -> TargetFinding:
        """Return the finding of the project itself; a service with a container has its own."""
        facts, project, down = self.facts, self.facts.project, self.down
        bare = {
            name: why for name, why in self.left.items() if name not in facts.paused and not facts.of(name)
        }
        starting = [entry for entry in self._assessed if entry.state is ContainerState.STARTING]
        together = [name for name in self.start if name not in facts.alone]
        running = sum(container.running for container in facts.containers)
        parts = tuple(self._part(name) for name in project.wanted)
        # What is on its way is not down, and what is started by itself tells of itself.
        is_down = not (running or self.alone or all(part.condition is Condition.WAITING for part in parts))
        evidence: dict[str, Any] = {
            "project": project.name,
            "services": len(project.wanted),
            "containers": {entry.container.name: entry.condition.value for entry in self._assessed},
        }
        condition, state, remedy = Condition.HEALTHY, "ok", None
        services = counted(len(project.wanted), "service")
        words = [f"{counted(running, 'container')} of {services} run", *self._ended()]
        if together or self.refused:
            condition, state, remedy = Condition.BROKEN, "down", self._remedy(together)
            words = _grouped({name: down[name] for name in together})
            words += _grouped({name: f"{down[name]}, and {why}" for name, why in self.refused.items()})
            words += _grouped({name: f"is left alone: {why}" for name, why in bare.items()})
            scale = {name: count for name in together if (count := self.start[name]) is not None}
            evidence |= {"start": together, "scale": scale}
        elif bare or self.alone or is_down:
            condition, state = Condition.LEFT, "down"
            left = _grouped(
                {name: f"{down[name]}: {why}" for name, why in (self.left if is_down else bare).items()}
            )
            words = [
                *left,
                *(f"{name} {down[name]}: see {facts.target_of(name)}" for name in self.alone),
            ] or words
            remedy = f"`{facts.command} up -d {' '.join(down) or ' '.join(project.wanted)}` starts it now"
        elif starting:
            condition, state = Condition.WAITING, "starting"
            words = [f"{entry.container.name}: {entry.assessment.detail}" for entry in starting]
        return TargetFinding(
            facts.target,
            condition,
            state,
            "; ".join([*words, *self._notes()]),
            (facts.key, project.name),
            evidence,
            remedy,
            is_down=is_down and not down.keys() <= facts.paused,
            parts=parts,
            relapsed=frozenset(map(facts.target_of, facts.relapsed())),
        )

    def _remedy(self, together: Sequence[str]) -> str:
        """Return what a person types about what is refused, else to start the services."""
        again = [name for name in together if name in self.recreate]
        plain = [name for name in together if name not in self.recreate]
        commands = [f"up -d --force-recreate --no-deps {' '.join(again)}"] if again else []
        commands += [f"up -d {' '.join(plain)}"] if plain else []
        start = ", then ".join(f"`{self.facts.command} {command}`" for command in commands)
        return "; ".join(dict.fromkeys(self._remedies)) or start

    def _started_s(self, service: str) -> float | None:
        """Return when a service was last started; None for what never was."""
        starts = [container.started for container in self.facts.of(service)]
        return max((at.timestamp() for at in starts if at is not None), default=None)

    def _by_hand(self, name: str) -> str:
        """Return what a person types about a service that is down: no start helps what ends each time."""
        if name in self.facts.relapsed():
            return f"`docker logs --tail 50 {self.facts.of(name)[0].name}` tells why it ends"
        again = "--force-recreate " if name in self.recreate else ""
        return f"`{self.facts.command} up -d {again}--no-deps {name}`"

    def _service(self, name: str) -> TargetFinding:
        facts, target = self.facts, self.facts.target_of(name)
        return TargetFinding(
            target,
            Condition.BROKEN,
            "down",
            f"{name} {self.down[name]}",
            (name, *(container.name for container in facts.of(name)), facts.target, facts.key),
            {"start": [name]},
            self._by_hand(name),
            relapsed=frozenset({target} if name in facts.relapsed() else ()),
            started_s=self._started_s(name),
        )

    def _part(self, name: str) -> TargetFinding:
        target = self.facts.target_of(name)
        if name in self.down:
            condition = Condition.LEFT if name in self.left else Condition.BROKEN
            cause, started_s = f"{name} {self.down[name]}", self._started_s(name)
            remedy = self._by_hand(name)
            return TargetFinding(target, condition, "down", cause, remedy=remedy, started_s=started_s)
        return min(
            (
                TargetFinding(
                    target,
                    _CONDITIONS[entry.condition],
                    entry.state.value,
                    f"{entry.container.name}: {entry.assessment.detail}",
                )
                for entry in self._assessed
                if entry.container.service == name
            ),
            key=lambda part: WORST_FIRST.index(part.condition),
            default=TargetFinding(target, Condition.HEALTHY),
        )

    def _container(self, entry: AssessedContainer) -> TargetFinding | None:
        """Return the finding of a container; None for one that is well, unless it was repaired before."""
        facts, container, assessment = self.facts, entry.container, entry.assessment
        target, service = f"container:{container.name}", container.service or ""
        condition, why = _CONDITIONS[assessment.condition], ""
        if entry.is_down and service not in facts.project.services:
            why = assessment.left or facts.busy or ""
            condition = Condition.LEFT if why else Condition.BROKEN
        elif entry.is_down and service not in facts.paused:
            if service not in self.left:
                return None
            condition, why = Condition.LEFT, self.left[service]
        elif assessment.state in (ContainerState.PAUSED, ContainerState.ENDED):
            why = assessment.left
        elif assessment.state in _RUN_BADLY:
            why = self._reason_to_leave(entry)
            condition = Condition.LEFT if why else Condition.BROKEN
        elif entry.is_down:
            condition = Condition.BROKEN
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
                for entry in self._assessed
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
                # Compose 1 digests the image too.
                if container.service not in facts.obstacles and is_drifted(facts.project, container)
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


def _grouped(reasons: Mapping[str, str]) -> list[str]:
    """Say of each service what is wrong with it, once where it is the same with many."""
    names: dict[str, list[str]] = {}
    for name, reason in reasons.items():
        names.setdefault(reason, []).append(name)
    words = []
    for reason, services in names.items():
        if len(services) > _MANY:
            words.append(f"each of {counted(len(services), 'service')} ({listing(services)}) {reason}")
        else:
            words += [f"{service} {reason}" for service in services]
    return words
