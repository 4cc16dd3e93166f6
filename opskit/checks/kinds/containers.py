"""Kinds that ask Docker: docker_daemon, container, docker_network, volume, image."""

import functools
import time
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from opskit.checks.fields import CONFIG, Text
from opskit.checks.kinds.machine import NoParams
from opskit.checks.spec import Kind, Observation, Scene
from opskit.errors import OpskitError

_NEVER = "0001-"


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
        return Observation(values, problem=error.message, state="down", code=error.code, remedy=error.remedy)
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
        values = {"exists": False, "state": "missing", "health": "none", "count": 0, "error": None}
        remedy = "`docker ps --all` lists containers; `docker compose up -d` creates those of the stack"
        return Observation(
            values, "there is no such container", state="missing", code="DOCKER_002", remedy=remedy
        )
    seen = [container_values(one, datetime.now(UTC)) for one in found]
    worst = next((one for one in seen if one["state"] != "running"), None)
    worst = worst or next((one for one in seen if one["health"] not in ("healthy", "none")), seen[0])
    remedy = f"`docker logs --tail 50 {worst['name']}` tells why"
    values = {**worst, "exists": True, "count": len(seen), "error": None}
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


@dataclass(frozen=True, slots=True)
class NamedParams:
    __pydantic_config__ = CONFIG

    name: Text


async def _object(params: NamedParams, scene: Scene, *, kind: str) -> Observation:
    door = await scene.around.docker()
    found = await door.found(kind, params.name)
    if found is None:
        return Observation(
            {"exists": False, "error": None},
            f"there is no such {kind}",
            state="missing",
            remedy=_CREATES[kind].format(params.name),
        )
    values = {"exists": True, **_VALUES[kind](found), "error": None}
    told = ", ".join(
        f"{key} {value}" for key, value in values.items() if key in ("driver", "containers", "tags")
    )
    return Observation(values, told or "it is there", state="present")


def network_values(item: Mapping[str, Any]) -> dict[str, Any]:
    pools = (item.get("IPAM") or {}).get("Config") or ()
    return {
        "driver": item.get("Driver"),
        "internal": bool(item.get("Internal")),
        "subnets": [pool.get("Subnet") for pool in pools],
        "containers": sorted(one.get("Name", "") for one in (item.get("Containers") or {}).values()),
    }


def volume_values(item: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "driver": item.get("Driver"),
        "mountpoint": item.get("Mountpoint"),
        "labels": dict(item.get("Labels") or {}),
    }


def image_values(item: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "id": item.get("Id"),
        "tags": list(item.get("RepoTags") or ()),
        "size_bytes": item.get("Size"),
        "age_s": age_s(item.get("Created"), datetime.now(UTC)),
        "architecture": item.get("Architecture"),
    }


_VALUES = {"network": network_values, "volume": volume_values, "image": image_values}
_CREATES = {
    "network": "`docker network create {}`",
    "volume": "`docker volume create {}`",
    "image": "`docker pull {}`, or build it",
}
_DOCKER = ("opskit.system.docker_objects",)
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
        imports=_DOCKER,
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
            "health": "healthy, unhealthy, starting, or none without a health check",
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
        imports=_DOCKER,
    ),
    Kind(
        "docker_network",
        "a Docker network is there",
        NamedParams,
        {
            "exists": "whether it is",
            "driver": "bridge, host, overlay, ...",
            "internal": "whether it has no way out",
            "subnets": "its address ranges",
            "containers": "names of the containers in it that run",
            "error": "null",
        },
        {"exists": True},
        functools.partial(_object, kind="network"),
        lambda p: str(p.name),
        imports=_DOCKER,
    ),
    Kind(
        "volume",
        "a Docker volume is there",
        NamedParams,
        {
            "exists": "whether it is",
            "driver": "its driver",
            "mountpoint": "where Docker keeps it",
            "labels": "its labels",
            "error": "null",
        },
        {"exists": True},
        functools.partial(_object, kind="volume"),
        lambda p: str(p.name),
        imports=_DOCKER,
    ),
    Kind(
        "image",
        "a Docker image is there; it is never pulled",
        NamedParams,
        {
            "exists": "whether it is",
            "id": "its digest",
            "tags": "its names",
            "size_bytes": "its size",
            "age_s": "seconds since it was built",
            "architecture": "amd64, arm64, ...",
            "error": "null",
        },
        {"exists": True},
        functools.partial(_object, kind="image"),
        lambda p: str(p.name),
        imports=_DOCKER,
    ),
)
