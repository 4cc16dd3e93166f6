"""Containers that die, restart or turn unhealthy, as Docker's events tell of them."""

import asyncio
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from opskit.checks.health_check import HealthCheckFault, health_check_fault
from opskit.errors import OpskitError
from opskit.facts.container import Container, container
from opskit.logs.outage import back_off_s
from opskit.system.docker_objects import DockerObjects
from opskit.system.docker_records import Happening

ACTIONS = ("start", "die", "oom", "health_status", "destroy", "pause", "unpause")
#: More containers than this are not remembered; those that are well are forgotten first.
MAX_KNOWN = 500


@dataclass(frozen=True, slots=True)
class ContainerState:
    """One container by its name. `restarts` counts those seen by this watch; `at` is epoch seconds."""

    name: str
    state: str = "running"
    detail: str = ""
    restarts: int = 0
    at: float = 0.0
    out_of_memory: bool = False

    @property
    def is_well(self) -> bool:
        return self.state in ("running", "healthy")

    @property
    def is_sick(self) -> bool:
        """Not well, as far as anything can tell: a health check that cannot run tells nothing."""
        return not self.is_well and self.state != "unchecked"

    def as_json(self) -> dict[str, Any]:
        return {
            "name": self.name,
            "state": self.state,
            "detail": self.detail,
            "restarts": self.restarts,
        }


def of(found: Container, at: float) -> ContainerState:
    """A container as `inspect` shows it."""
    if not found.running:
        ended = f"exit code {found.exit_code}" if found.started is not None else "never started"
        memory = ", out of memory" if found.oom_killed else ""
        return ContainerState(found.name, found.status, ended + memory, at=at)
    fault = health_check_fault(found)
    if fault is not None:
        return ContainerState(found.name, "unchecked", fault.detail, at=at)
    state = found.health if found.health in ("healthy", "unhealthy", "starting") else found.status
    return ContainerState(found.name, state, at=at)


def after(before: ContainerState | None, seen: Happening) -> ContainerState | None:
    """The state after an event; None when the container is gone. Pure."""
    one = before or ContainerState(seen.name)
    at = seen.at_ns / 1e9
    match seen.action:
        case "start":
            again = before is not None and before.state == "exited"
            return ContainerState(
                one.name, "running", "restarted" if again else "started", one.restarts + again, at
            )
        case "oom":
            return replace(one, out_of_memory=True, at=at)
        case "die":
            code = seen.attributes.get("exitCode", "?")
            memory = ", out of memory" if one.out_of_memory else ""
            return replace(
                one, state="exited", detail=f"exit code {code}{memory}", at=at, out_of_memory=False
            )
        case "health_status":
            return replace(one, state=seen.detail or "?", detail="its health check says so", at=at)
        case "pause":
            return replace(one, state="paused", detail="", at=at)
        case "unpause":
            return replace(one, state="running", detail="goes on after a pause", at=at)
        case "destroy":
            return None
        case _:
            return one


def is_news(before: ContainerState | None, now: ContainerState | None) -> bool:
    """Whether a change is worth a word: trouble, the end of trouble, a restart."""
    if now is None:
        return before is not None and not before.is_well and before.detail != "exit code 0"
    if before is not None and (before.state, before.restarts) == (now.state, now.restarts):
        return False
    if now.state in ("exited", "dead"):
        return now.detail != "exit code 0"
    if now.state in ("unhealthy", "unchecked", "restarting", "paused"):
        return True
    return before is not None and (not before.is_well or now.restarts > before.restarts)


class Containers:
    """Listens until cancelled.

    `changed` hears of news: before, now, and when (epoch seconds, 0.0 for what was found so). `reached` hears
    why Docker is gone (once), None when it is there; `started` each name that may begin to write a log.
    """

    def __init__(
        self,
        docker: DockerObjects,
        names: Iterable[str],
        *,
        changed: Callable[[ContainerState | None, ContainerState | None, float], None],
        reached: Callable[[str | None], None],
        started: Callable[[str], None],
    ) -> None:
        self._docker = docker
        self._names = tuple(names)
        self._changed = changed
        self._reached = reached
        self._started = started
        self._known: dict[str, ContainerState] = {}
        self._there: bool | None = None
        self.running = 0

    @property
    def present(self) -> bool | None:
        """Whether Docker answers; None before it was asked."""
        return self._there

    @property
    def known(self) -> Mapping[str, ContainerState]:
        return self._known

    async def run(self) -> None:
        """Raises nothing for what Docker does."""
        since_ns: int | None = None
        tries = 0
        while True:
            try:
                async with (
                    self._docker,
                    self._docker.events({"event": list(ACTIONS)}, since_ns=since_ns) as events,
                ):
                    tries, since_ns = 0, since_ns or events.began_ns
                    self._is_there(None)
                    await self._look()
                    async for event in events:
                        since_ns = event.at_ns + 1
                        self._take(event, await self._fault(event))
            except OpskitError as error:
                self._is_there(error.message)
                await asyncio.sleep(back_off_s(tries))
                tries += 1

    async def _look(self) -> None:
        """The containers of the stack as they are now: no event tells of what has long been so."""
        for name in self._names:
            item = await self._docker.named(name)
            if item is None:
                continue
            found = container(item)
            now, before = of(found, 0.0), self._known.get(found.name)
            self._known[found.name] = now
            if before != now and (before is not None or not now.is_well):
                self._changed(before, now, 0.0)
            if found.running:
                self._started(found.name)

    async def _fault(self, event: Happening) -> HealthCheckFault | None:
        """Why the check behind an event `unhealthy` cannot run: the event itself does not tell."""
        if (event.action, event.detail) != ("health_status", "unhealthy"):
            return None
        item = await self._docker.named(event.id)
        return None if item is None else health_check_fault(container(item))

    def _take(self, event: Happening, fault: HealthCheckFault | None) -> None:
        before = self._known.get(event.name)
        now = after(before, event)
        if fault is not None and now is not None:
            now = replace(now, state="unchecked", detail=fault.detail)
        if now is None:
            self._known.pop(event.name, None)
        else:
            self._known[event.name] = now
            self._bound()
        if event.action == "start":
            self._started(event.name)
        if is_news(before, now):
            self._changed(before, now, event.at_ns / 1e9)

    def _bound(self) -> None:
        while len(self._known) > MAX_KNOWN:
            well = next((name for name, one in self._known.items() if one.is_well), next(iter(self._known)))
            del self._known[well]

    def _is_there(self, problem: str | None) -> None:
        if self._there is not (problem is None):
            self._there = problem is None
            self._reached(problem)
