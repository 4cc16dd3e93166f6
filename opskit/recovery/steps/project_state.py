"""What is seen of a Compose project: what it declares against the containers that are there. Pure."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from opskit.checks.container_assessment import (
    ContainerAssessment,
    ContainerCondition,
    ContainerRules,
    ContainerState,
    assess_container,
)
from opskit.checks.stopped_by_hand import removed_by_hand
from opskit.facts.container import Container, action_of
from opskit.facts.container_events import ContainerEvents
from opskit.recovery.step import Condition, TargetObservation
from opskit.system.compose import ComposeService, Project

_Assessments = Mapping[str, ContainerAssessment]


@dataclass(frozen=True, slots=True)
class ProjectKnowledge:
    """Everything that is known of one project. `name` is the configuration's.

    `events` is None while everything seems well, and nobody asked. `busy` is why nothing of the project is
    touched, `missed` why nothing is created. `imageless` are services whose image is not on this machine,
    `netless` those that need a network which is not there and which Compose does not make,
    `paused` those that a person paused. `remembered` are targets that recovery has repaired before.
    """

    name: str
    project: Project
    containers: Sequence[Container]
    now: datetime
    rules: ContainerRules
    events: ContainerEvents | None = None
    busy: str | None = None
    missed: str | None = None
    imageless: frozenset[str] = frozenset()
    netless: Mapping[str, str] = field(default_factory=dict)
    paused: frozenset[str] = frozenset()
    remembered: frozenset[str] = frozenset()

    @property
    def target(self) -> str:
        return f"compose:{self.name}"

    @property
    def command(self) -> str:
        """How a person calls Compose for this project."""
        return self.rules.compose

    def of(self, service: str) -> list[Container]:
        return [one for one in self.containers if one.service == service]


@dataclass(slots=True)
class _Plan:
    """Services sorted by what becomes of them; `why` says it for those that are not simply started."""

    start: list[str] = field(default_factory=list)
    left: dict[str, str] = field(default_factory=dict)
    refused: dict[str, str] = field(default_factory=dict)
    remedies: list[str] = field(default_factory=list)


def assessments(known: ProjectKnowledge) -> dict[str, ContainerAssessment]:
    """Assess each container; by its id."""
    peers = {one.id: one for one in known.containers}
    return {
        one.id: assess_container(one, peers=peers, events=known.events, rules=known.rules, now=known.now)
        for one in known.containers
    }


def fallen(known: ProjectKnowledge, found: _Assessments) -> dict[str, str]:
    """The services that `up` would start, and what is wrong with each."""
    result: dict[str, str] = {}
    for name, service in known.project.services.items():
        containers = known.of(name)
        words = [found[one.id].detail for one in containers if found[one.id].state is ContainerState.DOWN]
        lacking = service.replicas - len(containers)
        if lacking > 0:
            count = f"lacks {lacking} of its {service.replicas} containers"
            words.append(count if containers else "is not created")
        if words:
            result[name] = "; ".join(word.removeprefix("it ") for word in words)
    return result


def is_well(known: ProjectKnowledge, found: _Assessments) -> bool:
    """Whether there is nothing to ask Docker's past for: what ended well, somebody may have stopped."""
    usual = (ContainerCondition.WELL, ContainerCondition.WAITING)
    if fallen(known, found) or any(one.condition not in usual for one in found.values()):
        return False
    return not any(
        one.finished is not None and (known.now - one.finished).total_seconds() < known.rules.hands_off_s
        for one in known.containers
        if found[one.id].state is ContainerState.ENDED
    )


def seen(known: ProjectKnowledge) -> list[TargetObservation]:
    """The project itself, then each container of which there is something to say."""
    found = assessments(known)
    down = fallen(known, found)
    plan = _planned(known, found, down)
    result = [_project(known, found, down, plan)]
    for one in known.containers:
        result += _container(known, one, found, plan)
    for name in sorted(known.paused & down.keys()):
        if not known.of(name):
            result.append(
                TargetObservation(
                    f"{known.target}/{name}", Condition.BROKEN, "down", f"it {down[name]}", names=(name,)
                )
            )
    return result


def _planned(known: ProjectKnowledge, found: _Assessments, down: Mapping[str, str]) -> _Plan:
    plan = _Plan()
    gone: Mapping[str, str] = {}
    if known.events is not None:
        gone = removed_by_hand(down, known.project.name, known.events, known.rules.hands_off_s)
    for name in down:
        service, containers = known.project.services[name], known.of(name)
        lacking = len(containers) < service.replicas
        actions = {one.action for one in containers} or {action_of(service.labels)}
        if known.busy is not None:
            plan.left[name] = known.busy
        elif left := _left(containers, found):
            plan.left[name] = left
        elif lacking and (why := gone.get(name) or known.missed) is not None:
            plan.left[name] = why
        elif not actions <= {"restart", "notify"}:
            plan.left[name] = f"its label says {_label(actions)}"
        elif "notify" in actions:
            plan.refused[name] = "its label says that a person is to be told"
            plan.remedies.append(f"`{known.command} up -d --no-deps {name}`")
        elif name in known.paused:
            plan.left[name] = "it is paused"
        elif name in known.imageless:
            plan.refused[name] = f"its image {service.images[0]} is not on this machine"
            plan.remedies.append(f"`{known.command} {'build' if service.built else 'pull'} {name}`")
        elif name in known.netless:
            plan.refused[name] = f"there is no network {known.netless[name]}"
            plan.remedies.append(f"`docker network create {known.netless[name]}`")
        elif lacking and service.blank:
            plan.refused[name] = f"it would be made with nothing in {', '.join(service.blank)}"
            plan.remedies.append(f"set {', '.join(service.blank)} in `.env` beside the Compose file")
        else:
            plan.start.append(name)
    _leave_dependants(known.project.services, plan)
    return plan


def _leave_dependants(services: Mapping[str, ComposeService], plan: _Plan) -> None:
    """What needs a service that is not started would only fail, or start it too."""
    changed = True
    while changed:
        changed = False
        for name in list(plan.start):
            need = next(
                (one for one in services[name].needs if one in plan.left or one in plan.refused), None
            )
            if need is not None:
                plan.start.remove(name)
                plan.left[name] = f"it needs {need}, which is not started"
                changed = True


def _left(containers: Sequence[Container], found: _Assessments) -> str:
    """Return why people are behind the end of a service, empty when they are not."""
    down = [found[one.id] for one in containers if found[one.id].state is ContainerState.DOWN]
    return next((one.left for one in down if one.left), "")


def _project(
    known: ProjectKnowledge, found: _Assessments, down: Mapping[str, str], plan: _Plan
) -> TargetObservation:
    notes = _notes(known)
    evidence: dict[str, Any] = {
        "project": known.project.name,
        "services": len(known.project.services),
        "containers": {one.name: found[one.id].condition.value for one in known.containers},
    }
    names = (known.name, known.project.name)
    # A service that has a container is told of there.
    bare = {name: why for name, why in plan.left.items() if name not in known.paused and not known.of(name)}
    if plan.start or plan.refused:
        words = [f"{name} {down[name]}" for name in plan.start]
        words += [f"{name} {down[name]}, and {why}" for name, why in plan.refused.items()]
        words += [f"{name} is left alone: {why}" for name, why in bare.items()]
        evidence |= {"start": plan.start, "scale": _scale(known, plan.start)}
        remedy = "; ".join(dict.fromkeys(plan.remedies)) or f"`{known.command} up -d {' '.join(plan.start)}`"
        cause = "; ".join([*words, *notes])
        return TargetObservation(known.target, Condition.BROKEN, "down", cause, names, evidence, remedy)
    if bare:
        cause = "; ".join([*(f"{name} {down[name]}: {why}" for name, why in bare.items()), *notes])
        remedy = f"`{known.command} up -d {' '.join(bare)}` starts it now"
        return TargetObservation(known.target, Condition.LEFT, "down", cause, names, evidence, remedy)
    starting = [one for one in known.containers if found[one.id].state is ContainerState.STARTING]
    if starting:
        words = [f"{one.name}: {found[one.id].detail}" for one in starting]
        return TargetObservation(
            known.target, Condition.WAITING, "starting", "; ".join([*words, *notes]), names, evidence
        )
    running = sum(one.running for one in known.containers)
    cause = "; ".join(
        [
            f"{_counted(running, 'container')} of {_counted(len(known.project.services), 'service')} run",
            *notes,
        ]
    )
    return TargetObservation(known.target, Condition.HEALTHY, "ok", cause, names, evidence)


def _container(
    known: ProjectKnowledge, one: Container, found: _Assessments, plan: _Plan
) -> list[TargetObservation]:
    """Nothing for one that is well, unless it was repaired before: then its health counts."""
    assessment = found[one.id]
    target = f"container:{one.name}"
    names = (one.name, one.service or "", known.target)
    evidence = {
        "id": one.id[:12],
        "service": one.service,
        "condition": assessment.condition.value,
        **assessment.evidence,
    }

    def said(condition: Condition, why: str = "") -> list[TargetObservation]:
        words = "; ".join(filter(None, (assessment.detail, why)))
        remedy = None if condition in (Condition.HEALTHY, Condition.WAITING) else assessment.remedy
        return [TargetObservation(target, condition, str(assessment.state), words, names, evidence, remedy)]

    match assessment.state:
        case ContainerState.UP | ContainerState.ENDED if not assessment.left:
            return said(Condition.HEALTHY) if target in known.remembered else []
        case ContainerState.STARTING | ContainerState.REMOVING:
            return said(Condition.WAITING) if target in known.remembered else []
        case ContainerState.PAUSED | ContainerState.ENDED:
            return said(Condition.LEFT, assessment.left)
        case ContainerState.DOWN:
            if one.service in known.paused:
                return said(Condition.BROKEN)
            return said(Condition.LEFT, plan.left[one.service]) if one.service in plan.left else []
        case ContainerState.UNCHECKED:
            return said(Condition.UNKNOWN)
        case ContainerState.LOOPING | ContainerState.DEAD:
            return said(Condition.BROKEN)
    # It runs badly, or its network is gone.
    owner = next((other.service for other in known.containers if other.id == one.shares_network_of), None)
    if known.busy is not None:
        return said(Condition.LEFT, known.busy)
    if owner in plan.left:
        return said(Condition.LEFT, f"{owner} is left alone: {plan.left[owner]}")
    return said(Condition.LEFT if assessment.left else Condition.BROKEN, assessment.left)


def is_drifted(project: Project, one: Container) -> bool:
    """Whether a container was made of other settings than the files hold now.

    Versions of Compose digest differently: only a container of the same version can be compared.
    """
    service = project.services.get(one.service or "")
    if service is None or one.compose_version != project.version:
        return False
    return None not in (one.config_hash, service.digest) and one.config_hash != service.digest


def _notes(known: ProjectKnowledge) -> list[str]:
    """What is told and never acted on."""
    drifted = sorted({one.service or "" for one in known.containers if is_drifted(known.project, one)})
    notes = []
    if drifted:
        notes.append(
            f"{', '.join(drifted)}: made of older settings than the files hold now "
            f"(`{known.command} up -d` applies them)"
        )
    for one in known.containers:
        service = known.project.services.get(one.service or "")
        if service is None or not one.running or one.shares_network_of is not None:
            continue
        notes += [
            f"{one.name} has lost the network {network} (`docker network connect {network} {one.name}`)"
            for network in sorted(set(service.networks) - set(one.networks))
        ]
    return notes


def _scale(known: ProjectKnowledge, services: Collection[str]) -> dict[str, int]:
    """Services of which a person runs more than the file says: `up` would end the rest."""
    return {
        name: len(known.of(name))
        for name in services
        if len(known.of(name)) > known.project.services[name].replicas
    }


def _label(actions: Collection[str]) -> str:
    return " and ".join(f"`opskit.action={one}`" for one in sorted(actions))


def _counted(count: int, word: str) -> str:
    return f"{count} {word}" if count == 1 else f"{count} {word}s"
