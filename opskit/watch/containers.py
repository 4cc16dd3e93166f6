"""Containers that die, restart or turn unhealthy, as Docker's events tell of them."""

import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import KW_ONLY, dataclass, field
from datetime import UTC, datetime
from typing import Any

from opskit.checks.container_assessment import (
    AssessedContainer,
    ContainerCondition,
    ContainerRules,
    assess_container,
)
from opskit.config.schema import Config
from opskit.errors import OpskitError
from opskit.facts.container import Container
from opskit.facts.container_events import KEPT_EVENTS, ContainerEvents, was_stopped
from opskit.facts.container_survey import read_container, read_containers, survey_containers
from opskit.logs.following import Backoff
from opskit.records import Record, asdict, replace
from opskit.system.docker import Docker
from opskit.system.docker_records import DockerEvent
from opskit.watch.view import Emit

ACTIONS = ("start", "die", "stop", "oom", "health_status", "destroy", "pause", "unpause")
#: More containers than this are not remembered; a container that is well is forgotten first.
MAX_KNOWN = 500
#: Only Docker itself tells these: the health log, and how often it has restarted a container.
_READ_AGAIN = ("start", "health_status")


class WatchedContainer(Record):
    """One container by its name. `restarts` counts what this watch saw; `at` is epoch seconds.

    `state` is Docker's word for it, `condition` what every command calls it.
    """

    name: str
    state: str = "running"
    detail: str = ""
    restarts: int = 0
    at: float = 0.0
    condition: ContainerCondition = ContainerCondition.WELL

    @property
    def is_well(self) -> bool:
        return self.condition is ContainerCondition.WELL

    @property
    def is_sick(self) -> bool:
        return self.condition is ContainerCondition.SICK

    def as_json(self) -> dict[str, Any]:
        document = asdict(self)
        del document["at"]
        return document


def after(container: Container, event: DockerEvent) -> Container:
    """Return what a container is after an event, as far as the event itself tells."""
    match event.action:
        case "start":
            return replace(
                container,
                status="running",
                started=event.at,
                exit_code=0,
                oom_killed=False,
                health="starting" if container.has_health_check else None,
            )
        case "die":
            code = event.attributes.get("exitCode", "")
            return replace(
                container,
                status="exited",
                finished=event.at,
                exit_code=int(code) if code.isdecimal() else container.exit_code,
            )
        case "oom":
            return replace(container, oom_killed=True)
        case "health_status":
            return replace(container, health=event.detail or container.health)
        case "pause":
            return replace(container, status="paused")
        case "unpause":
            return replace(container, status="running")
        case _:
            return container


def watched(
    before: WatchedContainer | None, assessed: AssessedContainer, at: float, action: str = ""
) -> WatchedContainer:
    """Return how a container is shown; `action` is the event that led to it, if one did."""
    again = action == "start" and before is not None and before.state == "exited"
    restarts = (before.restarts if before is not None else 0) + again
    detail = _detail(assessed, action, again=again)
    if (
        before is not None
        and not action
        and (before.state, before.condition) == (assessed.word, assessed.condition)
    ):
        detail = before.detail
    return WatchedContainer(
        name=assessed.container.name,
        state=assessed.word,
        detail=detail,
        restarts=restarts,
        at=at,
        condition=assessed.condition,
    )


def _detail(assessed: AssessedContainer, action: str, *, again: bool) -> str:
    container, assessment = assessed.container, assessed.assessment
    if container.status in ("exited", "dead", "created"):
        end = f"exit code {container.exit_code}" if container.started is not None else "never started"
        memory = "out of memory" if container.oom_killed else ""
        return "; ".join(filter(None, (", ".join(filter(None, (end, memory))), assessment.left)))
    if again:
        return "restarted"
    if assessment.words:
        return assessment.words
    return {"start": "started", "unpause": "goes on after a pause"}.get(action, "")


def is_news(before: WatchedContainer | None, now: WatchedContainer | None) -> bool:
    """Tell whether a change is worth a word: trouble, the end of trouble, a restart."""
    if now is None:
        return before is not None and not before.is_well
    if before is not None:
        if now.restarts > before.restarts:
            return True
        if (before.state, before.condition) == (now.state, now.condition):
            return False
    if now.condition is ContainerCondition.WAITING:
        return False
    if now.is_well:
        return before is not None and before.condition not in (
            ContainerCondition.WELL,
            ContainerCondition.WAITING,
        )
    return True


class ContainersView(Record):
    """The containers that changed. `docker` tells whether Docker answers, None before it was asked."""

    known: tuple[WatchedContainer, ...]
    docker: bool | None

    def as_json(self) -> dict[str, Any]:
        return {"docker": self.docker, "known": [container.as_json() for container in self.known]}


@dataclass(slots=True, eq=False)
class ContainerWatch:
    """Listens to Docker until cancelled.

    The state of the containers `names` is read at the start, when no event tells it. `is_asked` False keeps
    changes of containers to itself. `started` is called with each name that may begin to write a log, `note`
    with a line for the screen. `wall` is epoch seconds.
    """

    docker: Docker
    names: Sequence[str]
    config: Config
    _: KW_ONLY
    is_asked: bool
    emit: Emit
    note: Callable[[str], None]
    started: Callable[[str], None]
    wall: Callable[[], float] = time.time
    _records: dict[str, Container] = field(default_factory=dict, init=False)
    _known: dict[str, WatchedContainer] = field(default_factory=dict, init=False)
    _past: deque[DockerEvent] = field(default_factory=lambda: deque(maxlen=KEPT_EVENTS), init=False)
    _before: ContainerEvents = field(init=False)
    _peers: Mapping[str, Container] = field(default_factory=dict, init=False)
    _ahead_s: float = field(default=0.0, init=False)
    _there: bool | None = field(default=None, init=False)

    def __post_init__(self) -> None:
        self._before = ContainerEvents(datetime.fromtimestamp(self.wall(), UTC))

    def view(self) -> ContainersView:
        return ContainersView(tuple(self._known.values()), self._there)

    async def run(self) -> None:
        """Raises nothing for what Docker does."""
        since_ns: int | None = None
        backoff = Backoff()
        while True:
            try:
                async with (
                    self.docker,
                    self.docker.events({"event": list(ACTIONS)}, since_ns=since_ns) as events,
                ):
                    backoff.reset()
                    since_ns = since_ns or events.began_ns
                    self._is_there(None)
                    await self._read_all()
                    async for event in events:
                        since_ns = event.at_ns + 1
                        await self._take(event)
            except OpskitError as error:
                self._is_there(error.message)
                await backoff.wait()

    def judge_again(self) -> None:
        """Judge once more what time alone changes: a grace that is over, a stop of long ago."""
        for container in list(self._records.values()):
            self._show(container, 0.0)

    async def _read_all(self) -> None:
        """The containers of the stack as they are now: no event tells of what has long been so."""
        containers = await read_containers(self.docker, self.names)
        survey = await survey_containers(self.docker, containers, self.config)
        self._ahead_s = survey.now.timestamp() - self.wall()
        self._peers = survey.peers
        if survey.events is not None:
            self._before = survey.events
        for container in containers:
            self._show(container, 0.0)
            if container.running:
                self.started(container.name)

    async def _take(self, event: DockerEvent) -> None:
        self._past.append(event)
        known = self._records.get(event.name)
        if event.action == "destroy":
            self._forget(event)
            return
        if known is None or known.id != event.id or event.action in _READ_AGAIN:
            known = await read_container(self.docker, event.id) or known
        container = after(known or Container(id=event.id, name=event.name, status="running"), event)
        if known is not None and event.action in _READ_AGAIN:
            container = known
        if event.action == "start":
            self.started(event.name)
        self._show(container, event.at_ns / 1e9, event.action)
        self._bound()

    def _show(self, container: Container, at: float, action: str = "") -> None:
        before = self._known.get(container.name)
        now = watched(before, self._assessed(container, at), at or (before.at if before else 0.0), action)
        self._records[container.name] = container
        self._known[container.name] = now
        self._tell(before, now, at)

    def _assessed(self, container: Container, at: float) -> AssessedContainer:
        now = datetime.fromtimestamp(max(at, self.wall() + self._ahead_s), UTC)
        before = self._before
        were_ended = before.were_ended
        if any(event.id == container.id for event in self._past):
            is_stopped = was_stopped(container, self._past)
            were_ended = frozenset({container.id} if is_stopped else ())
        events = replace(before, now=now, events=[*before.events, *self._past], were_ended=were_ended)
        peers = {**self._peers, **{record.id: record for record in self._records.values()}}
        rules = ContainerRules.of(self.config.recovery)
        assessment = assess_container(container, peers=peers, events=events, rules=rules, now=now)
        return AssessedContainer(container, assessment)

    def _forget(self, event: DockerEvent) -> None:
        before = self._known.pop(event.name, None)
        self._records.pop(event.name, None)
        self._tell(before, None, event.at_ns / 1e9)

    def _bound(self) -> None:
        while len(self._known) > MAX_KNOWN:
            name = min(self._known, key=lambda name: not self._known[name].is_well)
            del self._known[name], self._records[name]

    def _tell(self, before: WatchedContainer | None, now: WatchedContainer | None, at: float) -> None:
        container = now or before
        if container is None or not self.is_asked or not is_news(before, now):
            return
        body = {
            "kind": "container",
            "target": container.name,
            "from": None if before is None else before.state,
            "to": "removed" if now is None else now.state,
            "condition": container.condition.value,
            "detail": container.detail,
            "restarts": container.restarts,
        }
        self.emit("state", body, at)

    def _is_there(self, problem: str | None) -> None:
        if self._there is (problem is None):
            return
        self._there = problem is None
        text = problem or "connected to Docker"
        self.note(text)
        state = "absent" if problem else "ok"
        body = {"kind": "docker", "target": "docker", "from": None, "to": state, "detail": text}
        self.emit("state", body)
