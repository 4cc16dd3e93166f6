"""Containers that die, restart or turn unhealthy, as Docker's events tell of them."""

import time
from collections import deque
from collections.abc import Callable, Iterable, Mapping
from datetime import UTC, datetime

from opskit.checks.container_assessment import AssessedContainer, ContainerRules, assess_container
from opskit.config.schema import Config
from opskit.errors import OpskitError
from opskit.facts.container import Container
from opskit.facts.container_events import KEPT_EVENTS, ContainerEvents
from opskit.facts.container_survey import read_container, read_containers, survey_containers
from opskit.logs.following import Backoff
from opskit.system.docker import Docker
from opskit.system.docker_records import DockerEvent
from opskit.watch.watched_container import WatchedContainer, after, is_news, watched

ACTIONS = ("start", "die", "stop", "oom", "health_status", "destroy", "pause", "unpause")
#: More containers than this are not remembered; those that are well are forgotten first.
MAX_KNOWN = 500
#: Only Docker itself tells these: the health log, and how often it has restarted a container.
_READ_AGAIN = ("start", "health_status")


class Containers:
    """Listens until cancelled.

    `changed` hears of news: before, now, and when (epoch seconds, 0.0 for what was found so). `reached` hears
    why Docker is gone (once), None when it is there; `started` each name that may begin to write a log.
    `wall` is epoch seconds.
    """

    def __init__(
        self,
        docker: Docker,
        names: Iterable[str],
        config: Config,
        *,
        changed: Callable[[WatchedContainer | None, WatchedContainer | None, float], None],
        reached: Callable[[str | None], None],
        started: Callable[[str], None],
        wall: Callable[[], float] = time.time,
    ) -> None:
        self._docker = docker
        self._names = tuple(names)
        self._config = config
        self._rules = ContainerRules.of(config.recovery)
        self._changed = changed
        self._reached = reached
        self._started = started
        self._wall = wall
        self._records: dict[str, Container] = {}
        self._known: dict[str, WatchedContainer] = {}
        self._past: deque[DockerEvent] = deque(maxlen=KEPT_EVENTS)
        self._before = ContainerEvents(datetime.fromtimestamp(wall(), UTC))
        self._peers: Mapping[str, Container] = {}
        self._ahead_s = 0.0
        self._there: bool | None = None

    @property
    def present(self) -> bool | None:
        """Whether Docker answers; None before it was asked."""
        return self._there

    @property
    def known(self) -> Mapping[str, WatchedContainer]:
        return self._known

    async def run(self) -> None:
        """Raises nothing for what Docker does."""
        since_ns: int | None = None
        backoff = Backoff()
        while True:
            try:
                async with (
                    self._docker,
                    self._docker.events({"event": list(ACTIONS)}, since_ns=since_ns) as events,
                ):
                    backoff.reset()
                    since_ns = since_ns or events.began_ns
                    self._is_there(None)
                    await self._look()
                    async for event in events:
                        since_ns = event.at_ns + 1
                        await self._take(event)
            except OpskitError as error:
                self._is_there(error.message)
                await backoff.wait()

    def look_again(self) -> None:
        """Judge once more what time alone changes: a grace that is over, a stop of long ago."""
        for container in list(self._records.values()):
            self._show(container, 0.0)

    async def _look(self) -> None:
        """The containers of the stack as they are now: no event tells of what has long been so."""
        containers = await read_containers(self._docker, self._names)
        survey = await survey_containers(self._docker, containers, self._config)
        self._ahead_s = survey.now.timestamp() - self._wall()
        self._peers = survey.peers
        if survey.events is not None:
            self._before = survey.events
        for container in containers:
            self._show(container, 0.0)
            if container.running:
                self._started(container.name)

    async def _take(self, event: DockerEvent) -> None:
        self._past.append(event)
        known = self._records.get(event.name)
        if event.action == "destroy":
            self._forget(event)
            return
        if known is None or known.id != event.id or event.action in _READ_AGAIN:
            known = await read_container(self._docker, event.id) or known
        container = after(known or Container(id=event.id, name=event.name, status="running"), event)
        if known is not None and event.action in _READ_AGAIN:
            container = known
        if event.action == "start":
            self._started(event.name)
        self._show(container, event.at_ns / 1e9, event.action)
        self._bound()

    def _show(self, container: Container, at: float, action: str = "") -> None:
        before = self._known.get(container.name)
        now = watched(before, self._assessed(container, at), at or (before.at if before else 0.0), action)
        self._records[container.name] = container
        self._known[container.name] = now
        if is_news(before, now):
            self._changed(before, now, at)

    def _assessed(self, container: Container, at: float) -> AssessedContainer:
        now = datetime.fromtimestamp(max(at, self._wall() + self._ahead_s), UTC)
        events = ContainerEvents(
            now, [*self._before.events, *self._past], self._before.complete, self._before.own_repairs
        )
        peers = {**self._peers, **{one.id: one for one in self._records.values()}}
        return AssessedContainer(
            container, assess_container(container, peers=peers, events=events, rules=self._rules, now=now)
        )

    def _forget(self, event: DockerEvent) -> None:
        before = self._known.pop(event.name, None)
        self._records.pop(event.name, None)
        if is_news(before, None):
            self._changed(before, None, event.at_ns / 1e9)

    def _bound(self) -> None:
        while len(self._known) > MAX_KNOWN:
            well = next((name for name, one in self._known.items() if one.is_well), next(iter(self._known)))
            del self._known[well], self._records[well]

    def _is_there(self, problem: str | None) -> None:
        if self._there is not (problem is None):
            self._there = problem is None
            self._reached(problem)
