"""Kinds that ask Docker for more than one container: compose (1 or 2), docker_network, volume, image."""

import functools
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from opskit.checks.container_assessment import (
    AssessedContainer,
    ContainerCondition,
    ContainerRules,
    assessed,
)
from opskit.checks.kinds.containers import DOCKER
from opskit.checks.spec import CheckContext, Observation, kind
from opskit.config.fields import Text, Texts, parameters
from opskit.facts.container import docker_time
from opskit.facts.container_survey import read_containers, survey_containers
from opskit.text import counted

_STATES = frozenset({"up", "down", "states", "unhealthy", "exited"})
_GOOD = (ContainerCondition.WELL, ContainerCondition.UNCHECKED)


@parameters
class ComposeParams:
    """`services` must be up (all of the file when none is named); `one_shot` ones may have ended with 0."""

    file: Text = "docker-compose.yml"
    project: Text | None = None
    services: Texts = ()
    one_shot: Texts = ()


@kind(
    "a compose file is valid and its services are up (compose 1 and 2)",
    {
        "valid": "whether the file can be read by compose",
        "services": "names of its services",
        "version": "1 or 2, of compose",
        "up": "services that are well",
        "down": "services that are not",
        "states": "state of each service",
        "unhealthy": "services whose health check fails",
        "exited": "services that have ended",
        "error": "missing, unreadable, or null",
    },
    {"valid": True, "down": {"len": 0}},
    lambda p: str(p.project or p.file),
    timeout_s=30.0,
    imports=("opskit.system.compose",),
)
async def compose(params: ComposeParams, context: CheckContext) -> Observation:
    from opskit.system.compose import find

    path = context.path(params.file)
    try:
        path.open("rb").close()
    except OSError as exc:
        missing = isinstance(exc, FileNotFoundError)
        problem = "there is no such compose file" if missing else f"it cannot be read: {exc.strerror}"
        state = "missing" if missing else "unreadable"
        return Observation({"valid": False, "error": state}, problem=problem, state=state)
    compose = await find([path], project=params.project, env=context.survey.environ)
    try:
        services = await compose.services()
    except ValueError as exc:
        values: dict[str, Any] = {"valid": False, "services": []}
        return Observation(values, f"the file is not valid: {exc}", state="invalid")
    values = {"valid": True, "services": services, "version": 2 if compose.modern else 1}
    if not context.wanted & _STATES:
        return Observation(values, f"valid, {counted(len(services), 'service')}", state="ok")
    docker, config = await context.survey.docker(), context.survey.config
    containers = await read_containers(docker, await compose.container_ids())
    survey = await survey_containers(docker, [member for member in containers if not member.one_off], config)
    project = assessed(survey, ContainerRules.of(config.recovery))
    values |= states(project, list(params.services) or services, params.one_shot)
    down = values["down"]
    unchecked = [member for member in project if member.condition is ContainerCondition.UNCHECKED]
    if unchecked and not down:
        return Observation(
            values,
            "; ".join(f"{member.container.service}: {member.assessment.detail}" for member in unchecked),
            unseen=frozenset({"up", "down", "unhealthy"}),
            state="unchecked",
            remedy=unchecked[0].assessment.remedy,
        )
    detail = f"{len(values['up'])} of {counted(len(values['up']) + len(down), 'service')} are up"
    if not down:
        return Observation(values, detail, state="ok")
    words = {member.container.service: _words(member) for member in project}
    detail += ": " + ", ".join(f"{name} is {words.get(name, 'not created')}" for name in down)
    remedy = f"`{' '.join(compose.command)} up -d {' '.join(down)}`"
    return Observation(values, detail, state="down", remedy=remedy)


def _words(assessed_container: AssessedContainer) -> str:
    container, assessment = assessed_container.container, assessed_container.assessment
    code = f" with {container.exit_code}" if container.status == "exited" else ""
    health = f", {assessment.health}" if assessment.health and container.running else ""
    how = f" ({assessment.left})" if assessment.left else ""
    return f"{container.status}{code}{health}{how}"


def states(
    project: Sequence[AssessedContainer], wanted: Sequence[str], one_shot: Sequence[str]
) -> dict[str, Any]:
    """Return which services are up: all containers of a service, at least one, are well. Pure.

    One that has ended well is up only where it is a one-shot.
    """
    by_service: dict[str, list[AssessedContainer]] = {}
    for member in project:
        by_service.setdefault(member.container.service or "", []).append(member)
    up, unhealthy, exited = [], [], []
    for name, members in sorted(by_service.items()):
        containers = [member.container for member in members]
        is_running = all(container.running for container in containers)
        if all(member.condition in _GOOD for member in members) and (is_running or name in one_shot):
            up.append(name)
        checked = [member for member in members if member.condition is not ContainerCondition.UNCHECKED]
        if any(member.assessment.health == "unhealthy" for member in checked):
            unhealthy.append(name)
        if any(container.status == "exited" for container in containers):
            exited.append(name)
    return {
        "up": [name for name in wanted if name in up],
        "down": [name for name in wanted if name not in up],
        "states": {name: members[0].container.status for name, members in by_service.items()},
        "unhealthy": unhealthy,
        "exited": exited,
    }


@parameters
class NamedParams:
    name: Text


async def _observed(
    noun: str,
    params: NamedParams,
    context: CheckContext,
    values_of: Callable[[Mapping[str, Any]], Mapping[str, Any]],
    remedy: str,
) -> Observation:
    item = await (await context.survey.docker()).found(noun, params.name)
    if item is None:
        return Observation({"exists": False}, f"there is no such {noun}", state="missing", remedy=remedy)
    values = {"exists": True, **values_of(item)}
    shown = ("driver", "containers", "tags")
    detail = ", ".join(f"{key} {value}" for key, value in values.items() if key in shown)
    return Observation(values, detail or "it is there", state="present")


def network_values(item: Mapping[str, Any]) -> dict[str, Any]:
    pools = (item.get("IPAM") or {}).get("Config") or ()
    return {
        "driver": item.get("Driver"),
        "internal": bool(item.get("Internal")),
        "subnets": [pool.get("Subnet") for pool in pools],
        "containers": sorted(member.get("Name", "") for member in (item.get("Containers") or {}).values()),
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


_object = functools.partial(kind, expects={"exists": True}, target=lambda p: str(p.name), imports=DOCKER)
_EXISTS = {"exists": "whether it is"}


@_object(
    "a Docker network is there",
    {
        **_EXISTS,
        "driver": "bridge, host, overlay, ...",
        "internal": "whether it has no way out",
        "subnets": "its address ranges",
        "containers": "names of the containers in it that run",
    },
)
async def docker_network(params: NamedParams, context: CheckContext) -> Observation:
    remedy = f"`docker network create {params.name}`"
    return await _observed("network", params, context, network_values, remedy)


@_object(
    "a Docker volume is there",
    {**_EXISTS, "driver": "its driver", "mountpoint": "where Docker keeps it", "labels": "its labels"},
)
async def volume(params: NamedParams, context: CheckContext) -> Observation:
    remedy = f"`docker volume create {params.name}`"
    return await _observed("volume", params, context, volume_values, remedy)


@_object(
    "a Docker image is there; it is never pulled",
    {
        **_EXISTS,
        "id": "its digest",
        "tags": "its names",
        "size_bytes": "its size",
        "age_s": "seconds since it was built",
        "architecture": "amd64, arm64, ...",
    },
)
async def image(params: NamedParams, context: CheckContext) -> Observation:
    remedy = f"`docker pull {params.name}`, or build it"
    return await _observed("image", params, context, image_values, remedy)
