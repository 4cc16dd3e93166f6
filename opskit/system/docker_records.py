"""Records of containers, events and log queries of Docker."""

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from opskit.records import Record, field

PROJECT = "com.docker.compose.project"
SERVICE = "com.docker.compose.service"


class ListedContainer(Record):
    """One container of a listing, running or not.

    `state` is Docker's word: created, running, paused, exited, dead...
    """

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


class LoggedContainer(ListedContainer):
    """A container whose log is read: how the log is framed, and which run of the container this is."""

    tty: bool = False
    running: bool = False
    started_at: str = ""

    @property
    def was_started(self) -> bool:
        """Docker writes year 1 for never."""
        return not self.started_at.startswith("0001-")


class DockerEvent(Record):
    """One event of a container. `action` is Docker's word without its detail, e.g. `health_status`."""

    at_ns: int
    id: str
    name: str
    action: str
    detail: str = ""
    attributes: Mapping[str, str] = field(default_factory=dict)

    @property
    def at(self) -> datetime:
        return datetime.fromtimestamp(self.at_ns / 1e9, UTC)


class LogQuery(Record):
    """Which lines of a log are asked for: times in nanoseconds since the epoch, both inclusive."""

    since_ns: int | None = None
    until_ns: int | None = None
    tail: int | None = None
    follow: bool = False


def listed(item: Mapping[str, Any]) -> ListedContainer:
    # A linked container has further names, with a slash inside.
    names = [name[1:] for name in item.get("Names") or [] if "/" not in name[1:]]
    return ListedContainer(
        item["Id"], names[0] if names else item["Id"][:12], item["Image"], item["State"], item["Labels"] or {}
    )


def logged(item: Mapping[str, Any]) -> LoggedContainer:
    state, config = item["State"], item["Config"]
    return LoggedContainer(
        item["Id"],
        item["Name"].lstrip("/"),
        config["Image"],
        state["Status"],
        config["Labels"] or {},
        tty=bool(config["Tty"]),
        running=bool(state["Running"]),
        started_at=state["StartedAt"],
    )


def happening(item: Mapping[str, Any]) -> DockerEvent:
    actor = item["Actor"]
    attributes = actor.get("Attributes") or {}
    action, _, detail = item["Action"].partition(": ")
    return DockerEvent(
        int(item["timeNano"]), actor["ID"], attributes.get("name", ""), action, detail, attributes
    )
