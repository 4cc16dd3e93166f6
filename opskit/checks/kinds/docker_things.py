"""Kinds that ask Docker for what containers need: docker_network, volume, image."""

import functools
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from opskit.checks.kinds.containers import DOCKER
from opskit.checks.spec import CheckContext, Kind, Observation
from opskit.config.fields import Text, parameters
from opskit.facts.container import docker_time


@parameters
class NamedParams:
    name: Text


async def _object(params: NamedParams, scene: CheckContext, *, kind: str) -> Observation:
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
    built = docker_time(item.get("Created"))
    return {
        "id": item.get("Id"),
        "tags": list(item.get("RepoTags") or ()),
        "size_bytes": item.get("Size"),
        "age_s": None if built is None else (datetime.now(UTC) - built).total_seconds(),
        "architecture": item.get("Architecture"),
    }


_VALUES = {"network": network_values, "volume": volume_values, "image": image_values}
_CREATES = {
    "network": "`docker network create {}`",
    "volume": "`docker volume create {}`",
    "image": "`docker pull {}`, or build it",
}
KINDS = (
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
        imports=DOCKER,
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
        imports=DOCKER,
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
        imports=DOCKER,
    ),
)
