"""One container as a watch shows it: Docker's word, what it means, and whether a change is news. Pure."""

from dataclasses import dataclass, replace
from typing import Any

from opskit.checks.container_assessment import AssessedContainer, ContainerCondition
from opskit.facts.container import Container
from opskit.system.docker_records import DockerEvent


@dataclass(frozen=True, slots=True)
class WatchedContainer:
    """One container by its name. `restarts` counts those seen by this watch; `at` is epoch seconds.

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
        return {
            "name": self.name,
            "state": self.state,
            "condition": self.condition.value,
            "detail": self.detail,
            "restarts": self.restarts,
        }


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
    before: WatchedContainer | None, one: AssessedContainer, at: float, action: str = ""
) -> WatchedContainer:
    """Return how a container is shown; `action` is the event that led to it, if one did."""
    again = action == "start" and before is not None and before.state == "exited"
    restarts = (before.restarts if before is not None else 0) + again
    detail = _detail(one, action, again=again)
    if before is not None and not action and (before.state, before.condition) == (one.word, one.condition):
        detail = before.detail
    return WatchedContainer(one.container.name, one.word, detail, restarts, at, one.condition)


def _detail(one: AssessedContainer, action: str, *, again: bool) -> str:
    container, assessment = one.container, one.assessment
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
