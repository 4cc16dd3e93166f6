"""What is seen of a Compose project: what it declares against the containers that are there. Pure."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from opskit.recovery.step import Condition, Seen
from opskit.recovery.steps.box import action_of
from opskit.recovery.steps.containers import State, Unit, Verdict, judge
from opskit.recovery.steps.hands_off import Past, removed, stopped, stopped_in_order
from opskit.system.compose_model import Project, Service

#: What is said of one container, and what mends it.
_RESTARTED = (State.UNHEALTHY, State.CUT_OFF)
_WELL = (State.UP, State.ENDED)


@dataclass(frozen=True, slots=True)
class Known:
    """Everything that is known of one project. `name` is the configuration's.

    `past` is None while everything seems well, and nobody asked. `busy` is why nothing of the project is
    touched, `missed` why nothing is created. `imageless` are services whose image is not on this machine,
    `netless` those that need a network which is not there and which Compose does not make,
    `paused` those that a person paused. `remembered` are targets that recovery has repaired before.
    `command` is how a person calls Compose for this project.
    """

    name: str
    project: Project
    units: Sequence[Unit]
    now: datetime
    grace_s: float
    hands_off_s: float
    command: str
    past: Past | None = None
    busy: str | None = None
    missed: str | None = None
    imageless: frozenset[str] = frozenset()
    netless: Mapping[str, str] = field(default_factory=dict)
    paused: frozenset[str] = frozenset()
    remembered: frozenset[str] = frozenset()

    @property
    def target(self) -> str:
        return f"compose:{self.name}"

    def of(self, service: str) -> list[Unit]:
        return [one for one in self.units if one.service == service]


@dataclass(slots=True)
class _Plan:
    """Services sorted by what becomes of them; `why` says it for those that are not simply started."""

    start: list[str] = field(default_factory=list)
    left: dict[str, str] = field(default_factory=dict)
    refused: dict[str, str] = field(default_factory=dict)
    remedies: list[str] = field(default_factory=list)


def verdicts(known: Known) -> dict[str, Verdict]:
    """What each container is, by its id."""
    there = {one.id: one for one in known.units}
    return {one.id: judge(one, there, known.now, known.grace_s) for one in known.units}


def fallen(known: Known, found: Mapping[str, Verdict]) -> dict[str, str]:
    """The services that `up` would start, and what is wrong with each."""
    result: dict[str, str] = {}
    for name, service in known.project.services.items():
        units = known.of(name)
        words = [found[one.id].cause for one in units if found[one.id].state is State.FALLEN]
        lacking = service.replicas - len(units)
        if lacking > 0:
            words.append(
                "is not created" if not units else f"lacks {lacking} of its {service.replicas} containers"
            )
        if words:
            result[name] = "; ".join(word.removeprefix("it ") for word in words)
    return result


def is_well(known: Known, found: Mapping[str, Verdict]) -> bool:
    """Whether there is nothing to ask Docker's past for: what ended well, somebody may have stopped."""
    if fallen(known, found) or any(one.state not in (*_WELL, State.STARTING) for one in found.values()):
        return False
    return not any(
        one.finished is not None and (known.now - one.finished).total_seconds() < known.hands_off_s
        for one in known.units
        if found[one.id].state is State.ENDED
    )


def seen(known: Known) -> list[Seen]:
    """The project itself, then each container of which there is something to say."""
    found = verdicts(known)
    down = fallen(known, found)
    plan = _planned(known, found, down)
    result = [_project(known, found, down, plan)]
    for one in known.units:
        result += _container(known, one, found, plan)
    for name in sorted(known.paused & down.keys()):
        if not known.of(name):
            result.append(
                Seen(f"{known.target}/{name}", Condition.BROKEN, "down", f"it {down[name]}", names=(name,))
            )
    return result


def _planned(known: Known, found: Mapping[str, Verdict], down: Mapping[str, str]) -> _Plan:
    plan = _Plan()
    gone = removed(down, known.project.name, known.past, known.hands_off_s) if known.past else {}
    for name in down:
        service, units = known.project.services[name], known.of(name)
        lacking = len(units) < service.replicas
        actions = {one.action for one in units} or {action_of(service.labels)}
        if known.busy is not None:
            plan.left[name] = known.busy
        elif (by_hand := _stopped(known, units, found)) is not None:
            plan.left[name] = by_hand
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


def _leave_dependants(services: Mapping[str, Service], plan: _Plan) -> None:
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


def _stopped(known: Known, units: Sequence[Unit], found: Mapping[str, Verdict]) -> str | None:
    if known.past is None:
        return None
    reasons = (
        stopped(one, known.past, known.hands_off_s) for one in units if found[one.id].state is State.FALLEN
    )
    return next((why for why in reasons if why is not None), None)


def _project(known: Known, found: Mapping[str, Verdict], down: Mapping[str, str], plan: _Plan) -> Seen:
    notes = _notes(known)
    evidence: dict[str, Any] = {"project": known.project.name, "services": len(known.project.services)}
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
        return Seen(known.target, Condition.BROKEN, "down", cause, names, evidence, remedy)
    if bare:
        cause = "; ".join([*(f"{name} {down[name]}: {why}" for name, why in bare.items()), *notes])
        remedy = f"`{known.command} up -d {' '.join(bare)}` starts it now"
        return Seen(known.target, Condition.LEFT, "down", cause, names, evidence, remedy)
    starting = [one for one in known.units if found[one.id].state is State.STARTING]
    if starting:
        words = [f"{one.name}: {found[one.id].cause}" for one in starting]
        return Seen(known.target, Condition.WAITING, "starting", "; ".join([*words, *notes]), names, evidence)
    running = sum(one.running for one in known.units)
    cause = "; ".join(
        [
            f"{_counted(running, 'container')} of {_counted(len(known.project.services), 'service')} run",
            *notes,
        ]
    )
    return Seen(known.target, Condition.HEALTHY, "ok", cause, names, evidence)


def _container(known: Known, one: Unit, found: Mapping[str, Verdict], plan: _Plan) -> list[Seen]:
    """Nothing for one that is well, unless it was repaired before: then its health counts."""
    verdict = found[one.id]
    target = f"container:{one.name}"
    names = (one.name, one.service, known.target)
    state, cause = str(verdict.state), verdict.cause
    evidence = {"id": one.id[:12], "service": one.service, **verdict.facts}

    def said(condition: Condition, why: str = "", remedy: str | None = None) -> list[Seen]:
        words = f"{cause}; {why}" if why and cause else why or cause
        return [Seen(target, condition, state, words, names, evidence, remedy)]

    if verdict.state is State.ENDED and known.past is not None:
        by_hand = stopped_in_order(one, known.past, known.hands_off_s)
        if by_hand is not None:
            return said(Condition.LEFT, by_hand, f"`docker start {one.name}` starts it now")
    match verdict.state:
        case State.UP | State.ENDED:
            return said(Condition.HEALTHY) if target in known.remembered else []
        case State.STARTING | State.LEAVING:
            return said(Condition.WAITING) if target in known.remembered else []
        case State.PAUSED:
            return said(Condition.LEFT, remedy=f"`docker unpause {one.name}` lets it go on")
        case State.FALLEN:
            if one.service in known.paused:
                return said(Condition.BROKEN)
            if one.service not in plan.left:
                return []
            return said(Condition.LEFT, plan.left[one.service], f"`docker start {one.name}` starts it now")
        case State.UNCHECKED:
            return said(Condition.UNKNOWN, remedy=one.fault_remedy)
        case State.LOOPING:
            return said(Condition.BROKEN, remedy=f"`docker logs --tail 50 {one.name}` tells why it ends")
        case State.DEAD:
            return said(Condition.BROKEN, remedy=f"`docker rm -f {one.name}`, then `{known.command} up -d`")
    return _restarted(known, one, verdict, plan, said)


def _restarted(known: Known, one: Unit, verdict: Verdict, plan: _Plan, said: Any) -> list[Seen]:
    """A container that runs badly, or whose network is gone."""
    result: list[Seen]
    owner = next((other.service for other in known.units if other.id == one.parent), None)
    if known.busy is not None:
        result = said(Condition.LEFT, known.busy)
    elif owner in plan.left:
        result = said(Condition.LEFT, f"{owner} is left alone: {plan.left[owner]}")
    elif one.action not in ("restart", "stop", "notify"):
        result = said(Condition.LEFT, f"its label says {_label({one.action})}")
    elif one.action == "notify":
        result = said(
            Condition.BROKEN, "its label says that a person is to be told", _by_hand(known, one, verdict)
        )
    else:
        result = said(Condition.BROKEN, remedy=_by_hand(known, one, verdict))
    return result


def _by_hand(known: Known, one: Unit, verdict: Verdict) -> str:
    if verdict.state in _RESTARTED:
        return f"`docker restart {one.name}`"
    return f"`{known.command} up -d --no-deps --force-recreate {one.service}`"


def is_drifted(project: Project, one: Unit) -> bool:
    """Whether a container was made of other settings than the files hold now.

    Versions of Compose digest differently: only a container of the same version can be compared.
    """
    service = project.services.get(one.service)
    comparable = (
        service is not None and one.version == project.version and None not in (one.digest, service.digest)
    )
    return comparable and service is not None and one.digest != service.digest


def _notes(known: Known) -> list[str]:
    """What is told and never acted on."""
    drifted = sorted({one.service for one in known.units if is_drifted(known.project, one)})
    notes = []
    if drifted:
        notes.append(
            f"{', '.join(drifted)}: made of older settings than the files hold now "
            f"(`{known.command} up -d` applies them)"
        )
    for one in known.units:
        service = known.project.services.get(one.service)
        if service is None or not one.running or one.parent is not None:
            continue
        notes += [
            f"{one.name} has lost the network {network} (`docker network connect {network} {one.name}`)"
            for network in sorted(set(service.networks) - set(one.networks))
        ]
    return notes


def _scale(known: Known, services: Collection[str]) -> dict[str, int]:
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
