"""The container in which a server of the stack lives. Pure."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from opskit.recovery.step import Command
from opskit.system.docker_records import PROJECT

#: What a container's own labels may ask of a healer (ops facts 2.2).
ACTION = "opskit.action"
_AUTOHEAL = "autoheal"
#: Docker's own default for `docker stop`.
_STOP_S = 10.0
_MARGIN_S = 30.0
_FRACTION = re.compile(r"\.(\d{1,6})\d*")


@dataclass(frozen=True, slots=True)
class Box:
    """One container. Ages are in seconds, on the daemon's clock.

    `left` is why it is left alone, empty when nobody stopped it lately. `project` is that of Docker Compose,
    `action` restart, notify or none.
    """

    name: str
    status: str
    age_s: float
    health: str | None = None
    exit_code: int = 0
    project: str | None = None
    action: str = "restart"
    stop_s: float = _STOP_S
    left: str = ""
    variables: Mapping[str, str] | None = None

    @property
    def running(self) -> bool:
        return self.status == "running"

    @property
    def restart(self) -> Command:
        """`docker restart`, with time for its own stop."""
        return Command(("docker", "restart", self.name), self.stop_s + _MARGIN_S)

    @property
    def start(self) -> Command:
        return Command(("docker", "start", self.name), _MARGIN_S)


def box(item: Mapping[str, Any], now: datetime, left: str = "") -> Box:
    """Out of `docker inspect`; `now` is the daemon's."""
    state, config = item["State"], item["Config"]
    labels = config.get("Labels") or {}
    began = instant(state.get("StartedAt"))
    health = state.get("Health")
    stop_s = config.get("StopTimeout")
    return Box(
        str(item["Name"]).lstrip("/"),
        str(state["Status"]),
        float("inf") if began is None else max(0.0, (now - began).total_seconds()),
        fresh_health(health, began) if health else None,
        int(state.get("ExitCode") or 0),
        labels.get(PROJECT),
        action_of(labels),
        _STOP_S if stop_s is None else float(stop_s),
        left,
        variables(config.get("Env") or ()),
    )


def fresh_health(health: Mapping[str, Any], began: datetime | None) -> str:
    """The health, `starting` until a check has ended since the container began (ops facts 12)."""
    log = health.get("Log") or []
    last = instant(log[-1].get("End")) if log else None
    if began is not None and (last is None or last < began):
        return "starting"
    return str(health.get("Status") or "none")


def was_healthy(health: Mapping[str, Any], began: datetime | None) -> bool:
    """Whether one of the checks that Docker remembers (the last five) succeeded since the container began."""
    ends = [
        instant(one.get("End"))
        for one in health.get("Log") or ()
        if isinstance(one, Mapping) and one.get("ExitCode") == 0
    ]
    return any(end is not None and (began is None or end >= began) for end in ends)


def action_of(labels: Mapping[str, str]) -> str:
    """What the labels let a healer do; a word that is not known forbids it."""
    if labels.get(_AUTOHEAL, "").lower() == "false":
        return "none"
    return labels.get(ACTION, "restart").lower()


def variables(pairs: Any) -> dict[str, str]:
    """The environment that a container was made with."""
    return {name: value for pair in pairs for name, _, value in [str(pair).partition("=")]}


def instant(text: Any) -> datetime | None:
    """Docker's RFC 3339 with nanoseconds; None for the year 1, which means never, and for what is no time."""
    if not isinstance(text, str) or text.startswith("0001-"):
        return None
    try:
        found = datetime.fromisoformat(_FRACTION.sub(lambda match: f".{match[1]:0<6}", text, count=1))
    except ValueError:
        return None
    return found if found.tzinfo is not None else found.replace(tzinfo=UTC)
