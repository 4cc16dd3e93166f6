"""What Docker tells of containers, as records of our own."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

PROJECT = "com.docker.compose.project"
SERVICE = "com.docker.compose.service"


@dataclass(frozen=True, slots=True)
class Container:
    """One container, running or not. `state` is Docker's word: created, running, paused, exited, dead..."""

    id: str
    name: str
    image: str
    state: str
    labels: Mapping[str, str] = field(default_factory=dict)

    @property
    def project(self) -> str | None:
        return self.labels.get(PROJECT)

    @property
    def service(self) -> str | None:
        return self.labels.get(SERVICE)


@dataclass(frozen=True, slots=True)
class Details(Container):
    """What only `inspect` tells. `health` is None without a health check; times are Docker's RFC 3339."""

    tty: bool = False
    running: bool = False
    exit_code: int = 0
    oom_killed: bool = False
    health: str | None = None
    started_at: str = ""
    finished_at: str = ""
    created_at: str = ""

    @property
    def was_started(self) -> bool:
        """Docker writes year 1 for never."""
        return not self.started_at.startswith("0001-")


@dataclass(frozen=True, slots=True)
class Happening:
    """One event of a container. `action` is Docker's word without its detail, e.g. `health_status`."""

    at_ns: int
    id: str
    name: str
    action: str
    detail: str = ""
    attributes: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class LogQuery:
    """Which lines of a container: times in nanoseconds since the epoch, both inclusive."""

    since_ns: int | None = None
    until_ns: int | None = None
    tail: int | None = None
    follow: bool = False


def listed(item: Mapping[str, Any]) -> Container:
    # A linked container has further names, with a slash inside.
    names = [name[1:] for name in item.get("Names") or [] if "/" not in name[1:]]
    return Container(
        item["Id"], names[0] if names else item["Id"][:12], item["Image"], item["State"], item["Labels"] or {}
    )


def details(item: Mapping[str, Any]) -> Details:
    state, config = item["State"], item["Config"]
    return Details(
        item["Id"],
        item["Name"].lstrip("/"),
        config["Image"],
        state["Status"],
        config["Labels"] or {},
        tty=bool(config["Tty"]),
        running=bool(state["Running"]),
        exit_code=int(state["ExitCode"]),
        oom_killed=bool(state["OOMKilled"]),
        health=(state.get("Health") or {}).get("Status"),
        started_at=state["StartedAt"],
        finished_at=state["FinishedAt"],
        created_at=item["Created"],
    )


def happening(item: Mapping[str, Any]) -> Happening:
    actor = item["Actor"]
    attributes = actor.get("Attributes") or {}
    action, _, detail = item["Action"].partition(": ")
    return Happening(
        int(item["timeNano"]), actor["ID"], attributes.get("name", ""), action, detail, attributes
    )
