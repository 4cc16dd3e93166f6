"""What a container's state means: one judgement for every command that looks at containers. Pure.

Every threshold and every "did a person do this" stands here and in `stopped_by_hand`. Ages are on the
daemon's clock: the virtual machine of a Mac that slept may be far behind.
"""

import shlex
from collections.abc import Mapping
from datetime import datetime
from enum import StrEnum
from functools import partial
from typing import Any

from opskit.checks.health_check import (
    fresh_health,
    health_check_fault,
    health_check_remedy,
    health_words,
    was_healthy,
)
from opskit.checks.stopped_by_hand import ended_by_itself, last_event, stopped_by_hand
from opskit.config.schema import RecoveryConfig
from opskit.facts.container import KILLED, Container, StartObstacle, lost_networks
from opskit.facts.container_events import ContainerEvents
from opskit.facts.container_survey import ContainerSurvey
from opskit.records import Record, field, replace
from opskit.result import Status

#: Docker waits ever longer between its restarts, a minute at most; what ran so long has settled.
SETTLED_S = 10.0
#: What has no health check is well once it has run so long.
STABLE_S = 2.0
#: One restart by Docker is its business, a row of them is a loop.
_LOOP_RESTARTS = 3
COMPLETES = "service_completed_successfully"


class ContainerCondition(StrEnum):
    """How a container is, in the same word for every command.

    `waiting` changes by itself. `left` is a person's doing, or theirs to decide. `unchecked` runs, and nobody
    can tell how it is.
    """

    WELL = "well"
    WAITING = "waiting"
    LEFT = "left"
    SICK = "sick"
    UNCHECKED = "unchecked"


class ContainerState(StrEnum):
    """What a container is.

    `up` is well; `ended` is a one-shot that did its work. `down` has stopped, or was never started.
    `unhealthy` fails its health check, `cut_off` has lost its network namespace; a restart mends both.
    `orphaned` holds what is gone, a network that was removed or a namespace of a replaced container, and is
    recreated. `looping` and `dead` are for a person. `starting` and `removing` change by themselves, `paused`
    is a person's doing. The health check of an `unchecked` one cannot run, so a restart would not help.
    """

    UP = "up"
    ENDED = "ended"
    DOWN = "fallen"
    UNHEALTHY = "unhealthy"
    CUT_OFF = "cut off"
    ORPHANED = "orphaned"
    LOOPING = "restarting"
    DEAD = "dead"
    STARTING = "starting"
    REMOVING = "leaving"
    PAUSED = "paused"
    UNCHECKED = "unchecked"


class ContainerRepair(StrEnum):
    START = "start"
    RESTART = "restart"
    RECREATE = "recreate"
    STOP = "stop"


_CONDITIONS = {
    ContainerState.UP: ContainerCondition.WELL,
    ContainerState.ENDED: ContainerCondition.WELL,
    ContainerState.STARTING: ContainerCondition.WAITING,
    ContainerState.REMOVING: ContainerCondition.WAITING,
    ContainerState.PAUSED: ContainerCondition.LEFT,
    ContainerState.UNCHECKED: ContainerCondition.UNCHECKED,
}
_REPAIRS = {
    ContainerState.DOWN: ContainerRepair.START,
    ContainerState.UNHEALTHY: ContainerRepair.RESTART,
    ContainerState.CUT_OFF: ContainerRepair.RESTART,
    ContainerState.ORPHANED: ContainerRepair.RECREATE,
}
STATUSES = {
    ContainerCondition.WELL: Status.PASS,
    ContainerCondition.WAITING: Status.WARN,
    ContainerCondition.LEFT: Status.WARN,
    ContainerCondition.SICK: Status.FAIL,
    ContainerCondition.UNCHECKED: Status.INCONCLUSIVE,
}


class ContainerRules(Record):
    """The thresholds that a person may set.

    `grace_s` is for how long after its start a container may fail its health check, `hands_off_s` for how
    long what a person stopped is left alone; `compose` is how a person calls Compose for the project, and
    empty where the labels of each container say it.
    """

    grace_s: float
    hands_off_s: float
    compose: str = ""

    @classmethod
    def of(cls, rules: RecoveryConfig) -> "ContainerRules":
        return cls(rules.startup_grace_s, rules.hands_off_s)


class ContainerAssessment(Record):
    """What one container is, why, and what a person types about it.

    `left` is why it is left to people, empty when it is not. `repair` is what opskit may do, None when it may
    or can do nothing, as when an `obstacle` keeps it from its start. `age_s` are the seconds since it was
    last started, None for never.
    """

    state: ContainerState
    detail: str = ""
    remedy: str | None = None
    left: str = ""
    repair: ContainerRepair | None = None
    age_s: float | None = None
    health: str | None = None
    obstacle: StartObstacle | None = None
    evidence: Mapping[str, Any] = field(default_factory=dict)

    @property
    def condition(self) -> ContainerCondition:
        if self.left:
            return ContainerCondition.LEFT
        return _CONDITIONS.get(self.state, ContainerCondition.SICK)

    @property
    def status(self) -> Status:
        return STATUSES[self.condition]

    @property
    def words(self) -> str:
        """Why it is so, and why it is left to people."""
        return "; ".join(filter(None, (self.detail, self.left)))


class AssessedContainer(Record):
    container: Container
    assessment: ContainerAssessment

    @property
    def state(self) -> ContainerState:
        return self.assessment.state

    @property
    def condition(self) -> ContainerCondition:
        return self.assessment.condition

    @property
    def is_down(self) -> bool:
        """Tell whether it does not run and is to be started, as it is or made again."""
        return not self.container.running and self.state in (ContainerState.DOWN, ContainerState.ORPHANED)

    @property
    def word(self) -> str:
        """Docker's own word for it: its health where it runs with one, unless that says nothing."""
        if self.assessment.state in (ContainerState.UNCHECKED, ContainerState.LOOPING):
            return self.assessment.state.value
        if self.container.running:
            return self.assessment.health or self.container.status
        return self.container.status


def assessed(survey: ContainerSurvey, rules: ContainerRules) -> list[AssessedContainer]:
    assess = partial(
        assess_container,
        peers=survey.peers,
        events=survey.events,
        rules=rules,
        now=survey.now,
        networks=survey.networks,
    )
    return [
        AssessedContainer(container, assess(container, obstacle=survey.obstacles.get(container.id)))
        for container in survey.containers
    ]


def assess_container(
    container: Container,
    *,
    peers: Mapping[str, Container],
    events: ContainerEvents | None,
    rules: ContainerRules,
    now: datetime,
    networks: frozenset[str] | None = None,
    obstacle: StartObstacle | None = None,
) -> ContainerAssessment:
    """Judge one container.

    `peers` are, by id, the other containers of its project and the owner of its network. `events` None means
    that Docker's past was not asked, so that nobody is known to have stopped it. `networks` are the ids of
    existing networks, None where they were not asked for. An `obstacle` keeps it from its start.
    """
    age_s = None if container.started is None else max(0.0, (now - container.started).total_seconds())
    were_ended = frozenset() if events is None else events.were_ended
    if not container.wanted and container.is_stopped and not _is_missed(container, events):
        wanted = "its Compose file wants no container of its service"
        assessment = ContainerAssessment(ContainerState.ENDED, wanted)
    elif _did_its_work(container, peers, were_ended):
        assessment = ContainerAssessment(ContainerState.ENDED, "it ended well")
    elif lost := lost_networks(container, networks):
        detail = f"it {_end(container)}; the network {', '.join(lost)} that it holds was removed"
        assessment = _orphaned(container, rules, detail)
    else:
        assessment = _state(container, peers, rules, age_s)
    assessment = replace(assessment, age_s=age_s, health=fresh_health(container), obstacle=obstacle)
    if events is not None and (left := _left(container, assessment.state, events, rules)):
        return replace(assessment, left=left, remedy=assessment.remedy or _start(container))
    if assessment.state not in _REPAIRS:
        return assessment
    permitted = _permitted(container, assessment)
    if obstacle is None or permitted.repair in (None, ContainerRepair.STOP):
        return permitted
    detail = f"{assessment.detail}; {obstacle.detail}"
    return replace(assessment, detail=detail, remedy=obstacle.remedy)


def _state(
    container: Container, peers: Mapping[str, Container], rules: ContainerRules, age_s: float | None
) -> ContainerAssessment:
    name = container.name
    match container.status:
        case "running":
            return _running(container, peers, rules, float("inf") if age_s is None else age_s)
        case "restarting" if container.restarts < _LOOP_RESTARTS:
            return ContainerAssessment(ContainerState.STARTING, f"Docker restarts it ({_end(container)})")
        case "restarting":
            return _looping(container)
        case "paused":
            detail, remedy = (
                "it is paused, which only a person does",
                f"`docker unpause {name}` lets it go on",
            )
            return ContainerAssessment(ContainerState.PAUSED, detail, remedy)
        case "removing":
            return ContainerAssessment(ContainerState.REMOVING, "it is being removed")
        case "dead":
            remedy = f"`docker rm -f {name}`, then `{_compose(container, rules)} up -d`"
            detail = "Docker could not remove it and calls it dead"
            return ContainerAssessment(ContainerState.DEAD, detail, remedy)
    owners = [(container.shares_network_of, "network"), *((owner, "namespace") for owner in container.joins)]
    gone = next((shared for owner, shared in owners if owner is not None and owner not in peers), None)
    if gone is not None:
        detail = f"the container whose {gone} it shares is gone, and it {_end(container)}"
        return _orphaned(container, rules, detail)
    why = "was never started" + _why(container) if container.started is None else _end(container)
    return ContainerAssessment(ContainerState.DOWN, f"it {why}", _start(container))


def _did_its_work(container: Container, peers: Mapping[str, Container], were_ended: frozenset[str]) -> bool:
    """Tell whether a one-shot has ended as planned; a server is never done, unless others await its end.

    What others neither await nor use, and what looks like no server, did its work if it ended by itself.
    """
    if container.status != "exited" or container.exit_code or container.error:
        return False
    if container.restart_policy not in ("no", "", "on-failure"):
        return False
    awaited = {
        peer.depends_on.get(container.service or "")
        for peer in peers.values()
        if peer.project is not None and peer.project == container.project
    } - {None}
    if awaited:
        return awaited == {COMPLETES}
    return not (container.bindings or container.has_health_check or container.id in were_ended)


def _is_missed(container: Container, events: ContainerEvents | None) -> bool:
    """Tell whether a server fell that a person started with its profile, which is not active here."""
    is_server = container.bindings or container.has_health_check or container.exit_code == KILLED
    return container.optional and bool(is_server) and ended_by_itself(container, events)


def _running(
    container: Container, peers: Mapping[str, Container], rules: ContainerRules, age_s: float
) -> ContainerAssessment:
    if container.restarts >= _LOOP_RESTARTS and age_s < SETTLED_S:
        return _looping(container)
    if (lost := _lost_network(container, peers, rules)) is not None:
        return lost
    health = fresh_health(container)
    if health == "unhealthy":
        return _unhealthy(container, rules, age_s)
    if health == "starting":
        detail = f"it was started {age_s:.0f} s ago, and its health is not known yet"
        return ContainerAssessment(ContainerState.STARTING, detail)
    return ContainerAssessment(ContainerState.UP)


def _lost_network(
    container: Container, peers: Mapping[str, Container], rules: ContainerRules
) -> ContainerAssessment | None:
    if container.shares_network_of is None:
        return None
    owner = peers.get(container.shares_network_of)
    if owner is None:
        return _orphaned(container, rules, "the container whose network it shares was replaced")
    detail = f"{owner.name}, whose network it shares, does not run"
    if owner.running:
        if not owner.started or not container.started or owner.started <= container.started:
            return None
        detail = f"{owner.name}, whose network it shares, was started after it: its own network is gone"
    return ContainerAssessment(ContainerState.CUT_OFF, detail, f"`docker restart {container.name}`")


def _unhealthy(container: Container, rules: ContainerRules, age_s: float) -> ContainerAssessment:
    output = health_words(container)
    unhealthy = partial(ContainerAssessment, evidence={"health_output": output})
    if (fault := health_check_fault(container)) is not None:
        return unhealthy(ContainerState.UNCHECKED, fault.detail, health_check_remedy(container, fault))
    said = f": {output}" if output else ""
    grace_s = 0.0 if was_healthy(container) else max(rules.grace_s, container.start_period_s)
    if age_s < grace_s:
        detail = f"its health check fails, but it was started only {age_s:.0f} s ago{said}"
        return unhealthy(ContainerState.STARTING, detail)
    restart = f"`docker restart {container.name}`"
    return unhealthy(ContainerState.UNHEALTHY, f"its health check fails{said}", restart)


def _looping(container: Container) -> ContainerAssessment:
    times = f"Docker has restarted it {container.restarts} times"
    # Between two ends Docker tells 0: how the last one ended is not known then.
    end = "" if container.running else f" ({_end(container)})"
    detail = f"{times}, and it ends each time{end}"
    remedy = f"`docker logs --tail 50 {container.name}` tells why it ends"
    evidence = {"restarts": container.restarts, "exit_code": container.exit_code}
    return ContainerAssessment(ContainerState.LOOPING, detail, remedy, evidence=evidence)


def _left(container: Container, state: ContainerState, events: ContainerEvents, rules: ContainerRules) -> str:
    """Return why a person is behind the end of a container."""
    is_down = state in (ContainerState.DOWN, ContainerState.ORPHANED) and not container.running
    # What ended well by itself is done; what was stopped in order may be a server.
    last = last_event(container, events) if state is ContainerState.ENDED else None
    was_stopped = last is not None and last.action == "stop"
    return stopped_by_hand(container, events, rules.hands_off_s) if is_down or was_stopped else ""


def _permitted(container: Container, assessment: ContainerAssessment) -> ContainerAssessment:
    """Add the repair that the container's own labels permit."""
    repair, action = _REPAIRS[assessment.state], container.action
    if action == "restart":
        return replace(assessment, repair=repair)
    if action == "notify":
        return replace(assessment, detail=f"{assessment.detail}; its label says that a person is to be told")
    if action == "stop" and repair is not ContainerRepair.START:
        return replace(assessment, repair=ContainerRepair.STOP)
    return replace(assessment, left=f"its label says `opskit.action={action}`")


def _orphaned(container: Container, rules: ContainerRules, detail: str) -> ContainerAssessment:
    remedy = f"`{_compose(container, rules)} up -d --no-deps --force-recreate {container.service}`"
    if container.service is None:
        remedy = f"`docker rm {container.name}`, then make it again as it was made"
    return ContainerAssessment(ContainerState.ORPHANED, detail, remedy)


def _compose(container: Container, rules: ContainerRules) -> str:
    if rules.compose:
        return rules.compose
    program = "docker-compose" if (container.compose_version or "").startswith("1.") else "docker compose"
    files = [argument for path in container.compose_files for argument in ("-f", str(path))]
    return shlex.join([*program.split(), *files, *(("-p", container.project) if container.project else ())])


def _start(container: Container) -> str:
    return f"`docker start {container.name}` starts it now"


def _end(container: Container) -> str:
    if container.oom_killed:
        return f"was killed for want of memory (exit code {container.exit_code})"
    return f"ended with exit code {container.exit_code}{_why(container)}"


def _why(container: Container) -> str:
    return f": {container.error}" if container.error else ""
