"""Kinds that ask Docker: docker_daemon, container."""

import errno
import time
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from opskit.checks.fields import CONFIG, Text
from opskit.checks.health_check import health_check_fault, health_check_remedy
from opskit.checks.kinds.machine import NoParams
from opskit.checks.spec import Kind, Observation, Scene
from opskit.errors import OpskitError
from opskit.facts.container import container

_NEVER = "0001-"
#: Errors of the socket that tell that no daemon is there, unlike one that may not be asked or is silent.
_NOBODY = (errno.ENOENT, errno.ECONNREFUSED)


def age_s(moment: str | None, now: datetime) -> float | None:
    """Seconds since one of Docker's times; None for never."""
    if not moment or moment.startswith(_NEVER):
        return None
    return (now - datetime.fromisoformat(moment)).total_seconds()


async def _daemon(params: NoParams, scene: Scene) -> Observation:
    del params
    door = await scene.around.docker()
    began = time.monotonic()
    try:
        version, info = await door.version(), await door.info()
    except OpskitError as error:
        # Here the daemon itself is in question: this is a failure, not a missing precondition.
        values = {"answers": False, "error": error.code, "seconds": time.monotonic() - began}
        return Observation(
            values,
            problem=error.message,
            state="down",
            code=error.code,
            remedy=error.remedy,
            settled=("answers",) if getattr(error.__cause__, "errno", None) in _NOBODY else (),
        )
    values = {
        "answers": True,
        "version": version.get("Version"),
        "api_version": version.get("ApiVersion"),
        "containers": info.get("Containers"),
        "running": info.get("ContainersRunning"),
        "stopped": info.get("ContainersStopped"),
        "images": info.get("Images"),
        "storage": info.get("Driver"),
        "memory_bytes": info.get("MemTotal"),
        "cpus": info.get("NCPU"),
        "warnings": list(info.get("Warnings") or ()),
        "error": None,
        "seconds": time.monotonic() - began,
    }
    detail = f"Docker {values['version']}: {values['running']} of {values['containers']} containers run"
    return Observation(values, detail, state="ok")


@dataclass(frozen=True, slots=True)
class ContainerParams:
    """By name (or id), or by compose service, with its project where there are several."""

    __pydantic_config__ = CONFIG

    name: Text | None = None
    service: Text | None = None
    project: Text | None = None

    def __post_init__(self) -> None:
        if (self.name is None) == (self.service is None and self.project is None):
            raise ValueError("needs either name, or service (and project)")

    @property
    def shown(self) -> str:
        return self.name or "/".join(part for part in (self.project, self.service) if part)


async def _container(params: ContainerParams, scene: Scene) -> Observation:
    door = await scene.around.docker()
    if params.name is not None:
        one = await door.named(params.name)
        found = [] if one is None else [one]
    else:
        found = await door.of_compose(params.project, params.service)
    if not found:
        values = {"exists": False, "state": "missing", "count": 0, "error": None}
        remedy = "`docker ps --all` lists containers; `docker compose up -d` creates those of the stack"
        return Observation(
            values, "there is no such container", state="missing", code="DOCKER_002", remedy=remedy
        )
    records = {one.name: one for one in map(container, found)}
    seen = [container_values(one, datetime.now(UTC)) for one in found]
    worst = next((one for one in seen if one["state"] != "running"), None)
    sick = [one for one in seen if one["health"] not in ("healthy", "none")]
    judged = [one for one in sick if health_check_fault(records[str(one["name"])]) is None]
    worst = worst or next(iter(judged or sick), seen[0])
    remedy = f"`docker logs --tail 50 {worst['name']}` tells why"
    values = {**worst, "exists": True, "count": len(seen), "error": None}
    record = records[str(worst["name"])]
    fault = health_check_fault(record)
    if fault is not None and worst["state"] == "running":
        return Observation(
            {**values, "health": "unchecked"},
            fault.detail,
            unseen=frozenset({"health"}),
            state="unchecked",
            remedy=health_check_remedy(record, fault),
        )
    return Observation(values, _container_words(worst), state=str(worst["state"]), remedy=remedy)


def container_values(item: Mapping[str, Any], now: datetime) -> dict[str, Any]:
    """What a check may ask of one container, out of `docker inspect`."""
    state = item["State"]
    health = state.get("Health") or {}
    log = health.get("Log") or [{}]
    return {
        "name": item["Name"].lstrip("/"),
        "state": state["Status"],
        "health": health.get("Status") or "none",
        "health_output": str(log[-1].get("Output") or "").strip(),
        "restarts": item.get("RestartCount", 0),
        "exit_code": state.get("ExitCode"),
        "oom_killed": bool(state.get("OOMKilled")),
        "image": item["Config"]["Image"],
        "up_s": age_s(state.get("StartedAt"), now) if state.get("Running") else None,
        # Names only: values may be secrets.
        "variables": sorted(one.partition("=")[0] for one in item["Config"].get("Env") or ()),
        "networks": sorted((item.get("NetworkSettings") or {}).get("Networks") or {}),
    }


def _container_words(one: Mapping[str, Any]) -> str:
    parts = [str(one["state"])]
    if one["health"] != "none":
        parts.append(str(one["health"]))
    if one["state"] != "running":
        parts.append(f"exit code {one['exit_code']}")
    if one["oom_killed"]:
        parts.append("killed for want of memory")
    if one["restarts"]:
        parts.append(f"{one['restarts']} restarts")
    if one["health"] == "unhealthy" and one["health_output"]:
        parts.append(f"its health check says: {' '.join(one['health_output'].split())[:200]}")
    return ", ".join(parts)


DOCKER = ("opskit.system.docker_objects",)
KINDS = (
    Kind(
        "docker_daemon",
        "Docker answers",
        NoParams,
        {
            "answers": "whether it does",
            "version": "of the engine",
            "api_version": "of its API",
            "containers": "how many there are",
            "running": "how many run",
            "stopped": "how many do not",
            "images": "how many there are",
            "storage": "its storage driver",
            "memory_bytes": "memory of its machine",
            "cpus": "processors of its machine",
            "warnings": "what it complains of",
            "error": "DOCKER_001, DOCKER_003, or null",
            "seconds": "time to answer",
        },
        {"answers": True},
        _daemon,
        lambda _: "docker",
        imports=DOCKER,
    ),
    Kind(
        "container",
        "a container runs and is healthy; of several of a service the worst counts",
        ContainerParams,
        {
            "exists": "whether there is one",
            "count": "how many of the service there are",
            "name": "its name",
            "state": "running, exited, restarting, paused, created, dead, missing",
            "health": "healthy, unhealthy, starting, unchecked (its check cannot run), or none without one",
            "health_output": "what its health check wrote last",
            "restarts": "how often Docker restarted it",
            "exit_code": "of its last end",
            "oom_killed": "whether it was killed for want of memory",
            "image": "its image",
            "up_s": "seconds since it was started, null when it does not run",
            "networks": "names of its networks",
            "variables": "names of its environment variables, without their values",
            "error": "null",
        },
        {"state": "running", "health": {"any": ["healthy", "none"]}},
        _container,
        lambda p: str(p.shown),
        imports=DOCKER,
    ),
)
