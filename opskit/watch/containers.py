"""Containers that die, restart or turn unhealthy, as Docker's events tell of them."""

from collections import deque
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from functools import partial
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
from opskit.facts.container_events import KEPT_EVENTS, ContainerEvents, may_be_stopping, was_stopped
from opskit.facts.container_survey import read_container, read_containers, survey_containers
from opskit.facts.stack_containers import stack_projects
from opskit.logs.following import Backoff
from opskit.records import Record, asdict, replace
from opskit.system.docker import Docker
from opskit.system.docker_records import DockerEvent
from opskit.watch.event import Emit

ACTIONS = ("start", "kill", "die", "stop", "oom", "health_status", "destroy", "pause", "unpause")
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

    def as_json(self) -> dict[str, Any]:
        return {name: value for name, value in asdict(self).items() if name != "at"}


def after(container: Container, event: DockerEvent) -> Container:
    """Return what a container is after an event, as far as the event itself tells."""
    change = partial(replace, container)
    match event.action:
        case "start":
            health = "starting" if container.has_health_check else None
            return change(status="running", started=event.at, exit_code=0, oom_killed=False, health=health)
        case "die":
            code = event.attributes.get("exitCode", "")
            exit_code = int(code) if code.isdecimal() else container.exit_code
            return change(status="exited", finished=event.at, exit_code=exit_code)
        case "oom":
            return change(oom_killed=True)
        case "health_status":
            return change(health=event.detail or container.health)
        case "pause" | "unpause":
            return change(status="paused" if event.action == "pause" else "running")
    return container


def watched(
    before: WatchedContainer | None, assessed: AssessedContainer, at: float, action: str = ""
) -> WatchedContainer:
    """Return how a container is shown; `action` is the event that led to it, if one did."""
    again = action == "start" and before is not None and before.state == "exited"
    is_same = before is not None and (before.state, before.condition) == (assessed.word, assessed.condition)
    return WatchedContainer(
        name=assessed.container.name,
        state=assessed.word,
        detail=before.detail if before and is_same and not action else _detail(assessed, action, again=again),
        restarts=(before.restarts if before else 0) + again,
        at=at,
        condition=assessed.condition,
    )


def _detail(assessed: AssessedContainer, action: str, *, again: bool) -> str:
    container, assessment = assessed.container, assessed.assessment
    if container.status in ("exited", "dead", "created"):
        end = f"exit code {container.exit_code}" if container.started is not None else "never started"
        return "; ".join(filter(None, (end + ", out of memory" * container.oom_killed, assessment.left)))
    if again:
        return "restarted"
    return assessment.words or {"start": "started", "unpause": "goes on after a pause"}.get(action, "")


def is_news(before: WatchedContainer | None, now: WatchedContainer | None) -> bool:
    """Tell whether a change is worth a word: trouble, the end of trouble, a restart."""
    if now is None:
        return before is not None and not before.is_well
    if before is not None and now.restarts > before.restarts:
        return True
    if before is not None and (before.state, before.condition) == (now.state, now.condition):
        return False
    was_well = before is None or before.condition in (ContainerCondition.WELL, ContainerCondition.WAITING)
    return now.condition is not ContainerCondition.WAITING and not (now.is_well and was_well)


class ContainersView(Record):
    """The containers that changed. `docker` tells whether Docker answers, None before it was asked."""

    known: tuple[WatchedContainer, ...]
    docker: bool | None

    def as_json(self) -> dict[str, Any]:
        return {"docker": self.docker, "known": [container.as_json() for container in self.known]}


class ContainerWatch:
    """Listens to Docker, and keeps the state of each container that it tells of.

    The state of the containers `names`, and of the containers of Compose projects, is read at the start, when
    no event tells it. `is_asked` False keeps changes of containers to itself. `started` is called with each
    name that may begin to write a log, `note` with a line for the screen. `wall` is epoch seconds.
    """

    def __init__(
        self,
        docker: Docker,
        names: Sequence[str],
        config: Config,
        *,
        is_asked: bool,
        emit: Emit,
        note: Callable[[str], None],
        started: Callable[[str], None],
        wall: Callable[[], float],
    ) -> None:
        self._docker, self._names, self._config = docker, names, config
        self._emit, self._note, self._started, self._wall = emit, note, started, wall
        self._is_asked = is_asked
        self._records: dict[str, Container] = {}
        self._known: dict[str, WatchedContainer] = {}
        self._past: deque[DockerEvent] = deque(maxlen=KEPT_EVENTS)
        self._before = ContainerEvents(datetime.fromtimestamp(wall(), UTC))
        self._peers: Mapping[str, Container] = {}
        self._ahead_s = 0.0
        self._there: bool | None = None

    def view(self) -> ContainersView:
        return ContainersView(tuple(self._known.values()), self._there)

    async def run(self) -> None:
        """Listen until cancelled. Raises nothing for what Docker does."""
        since_ns: int | None = None
        backoff = Backoff()
        while True:
            try:
                async with (
                    self._docker as docker,
                    docker.events({"event": list(ACTIONS)}, since_ns=since_ns) as events,
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

    async def look(self) -> None:
        """Judge once more what time alone changes: a grace that is over, a stop of long ago."""
        for container in list(self._records.values()):
            self._show(container)

    async def _read_all(self) -> None:
        """The containers of the stack as they are now: no event tells of what has long been so."""
        listed = await self._docker.containers()
        of_project = stack_projects(listed, self._config.compose_files(), self._names)
        names = [*self._names, *(member.name for member in listed if member.id in of_project)]
        read = await read_containers(self._docker, dict.fromkeys(names))
        containers = [container for container in read if not container.one_off]
        survey = await survey_containers(self._docker, containers, self._config)
        self._ahead_s = survey.now.timestamp() - self._wall()
        self._peers, self._before = survey.peers, survey.events or self._before
        for container in containers:
            self._show(container)
            if container.running:
                self._started(container.name)

    async def _take(self, event: DockerEvent) -> None:
        known = self._records.get(event.name)
        if event.action == "start" and known is not None:
            self._show(known, is_settled=True)
        self._past.append(event)
        if event.action == "kill":
            return  # it tells who ended the container, once that has ended
        if event.action == "destroy":
            self._records.pop(event.name, None)
            self._tell(self._known.pop(event.name, None), None, event.at_ns / 1e9)
            return
        if event.action == "start":
            self._started(event.name)
        if known is None or known.id != event.id or event.action in _READ_AGAIN:
            known = await read_container(self._docker, event.id) or known
        known = known or Container(id=event.id, name=event.name, status="running")
        self._show(after(known, event), event, is_settled=event.action in ("start", "stop"))
        while len(self._known) > MAX_KNOWN:
            name = min(self._known, key=lambda name: not self._known[name].is_well)
            del self._known[name], self._records[name]

    def _show(
        self, container: Container, event: DockerEvent | None = None, *, is_settled: bool = False
    ) -> None:
        """Show a container as it is now; `is_settled`: no `stop` is awaited that explains its end."""
        at, action = (0.0, "") if event is None else (event.at_ns / 1e9, event.action)
        now = datetime.fromtimestamp(max(at, self._wall() + self._ahead_s), UTC)
        before = self._known.get(container.name)
        self._records[container.name] = container
        if is_settled or not may_be_stopping(container, self._past, now):
            shown_at = at or (before.at if before else 0.0)
            shown = watched(before, self._assessed(container, now), shown_at, action)
            self._known[container.name] = shown
            self._tell(before, shown, at)

    def _assessed(self, container: Container, now: datetime) -> AssessedContainer:
        past, were_ended = self._past, self._before.were_ended
        if any(event.id == container.id for event in past):
            were_ended = frozenset({container.id} if was_stopped(container, past) else ())
        events = replace(self._before, now=now, events=[*self._before.events, *past], were_ended=were_ended)
        peers = {**self._peers, **{record.id: record for record in self._records.values()}}
        rules = ContainerRules.of(self._config.recovery)
        assessment = assess_container(container, peers=peers, events=events, rules=rules, now=now)
        return AssessedContainer(container, assessment)

    def _tell(self, before: WatchedContainer | None, now: WatchedContainer | None, at: float) -> None:
        container = now or before
        if container is None or not self._is_asked or not is_news(before, now):
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
        self._emit("state", body, at)

    def _is_there(self, problem: str | None) -> None:
        if self._there is (problem is None):
            return
        self._there, text = problem is None, problem or "connected to Docker"
        self._note(text)
        state = "absent" if problem else "ok"
        self._emit("state", {"kind": "docker", "target": "docker", "from": None, "to": state, "detail": text})
