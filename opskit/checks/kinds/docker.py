"""Kinds that ask Docker: docker_daemon, container, stack_containers, compose (1 or 2), and its objects."""

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
from opskit.checks.kinds.machine import NoParams
from opskit.checks.spec import CheckContext, NotHere, Observation, kind
from opskit.config.fields import Text, Texts
from opskit.config.schema import StackConfig
from opskit.config.values import Parameters
from opskit.facts.container import Container, docker_time
from opskit.facts.container_survey import read_compose_containers, read_containers, survey_containers
from opskit.facts.docker_daemon import DockerDaemon, read_docker_daemon
from opskit.facts.stack_containers import missing_containers, read_stack_containers
from opskit.facts.start_obstacles import read_start_obstacles
from opskit.text import counted, listing

_STATES = frozenset({"up", "down", "states", "unhealthy", "exited"})
_GOOD = (ContainerCondition.WELL, ContainerCondition.UNCHECKED)
#: Of several containers of a service the worst counts.
_RANK = ("well", "unchecked", "waiting", "left", "sick")
DOCKER = ("opskit.system.docker",)
#: Attributes of DockerDaemon, but for the error.
_DAEMON_YIELDS = {
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
}
CONTAINER_YIELDS = {
    "exists": "whether there is one",
    "count": "how many of the service there are",
    "name": "its name",
    "state": "running, exited, restarting, paused, created, dead, missing",
    "health": "healthy, unhealthy, starting, unchecked (its check cannot run), or none without one",
    "health_output": "what its health check wrote last",
    "condition": "well, waiting, left (a person's doing), sick, unchecked or missing",
    "restarts": "how often Docker restarted it",
    "exit_code": "of its last end",
    "oom_killed": "whether it was killed for want of memory",
    "image": "its image",
    "up_s": "seconds since it was started, null when it does not run",
    "networks": "names of its networks",
    "variables": "names of its environment variables, without their values",
}


@kind("Docker answers", _DAEMON_YIELDS, {"answers": True}, lambda _: "docker", imports=DOCKER)
async def docker_daemon(_: NoParams, context: CheckContext) -> Observation:
    daemon = await context.survey.get(read_docker_daemon, not_before=context.not_before)
    if (error := daemon.error) is not None:
        # Here the daemon itself is in question: this is a failure, not a missing precondition.
        return Observation(
            {"answers": False, "error": error.code, "seconds": daemon.seconds},
            problem=error.message,
            state="down",
            code=error.code,
            remedy=error.remedy,
            settled=("answers",) if daemon.is_absent else (),
        )
    values = daemon_values(daemon)
    detail = f"Docker {daemon.version}: {daemon.running} of {daemon.containers} containers run"
    return Observation(values, detail, state="ok")


def daemon_values(daemon: DockerDaemon) -> dict[str, Any]:
    """Return what a daemon that answers said. Pure."""
    return {name: getattr(daemon, name) for name in _DAEMON_YIELDS if name != "error"} | {"answers": True}


class ContainerParams(Parameters):
    """By name (or id), or by compose service, with its project where there are several."""

    name: Text | None = None
    service: Text | None = None
    project: Text | None = None

    def __post_init__(self) -> None:
        if (self.name is None) == (self.service is None and self.project is None):
            raise ValueError("needs either name, or service (and project)")

    @property
    def shown(self) -> str:
        return self.name or "/".join(part for part in (self.project, self.service) if part)


@kind(
    "a container is well: it runs and is healthy, or has done its work; of several the worst counts",
    CONTAINER_YIELDS,
    {"condition": "well"},
    lambda p: str(p.shown),
    imports=DOCKER,
)
async def container(params: ContainerParams, context: CheckContext) -> Observation:
    docker = await context.survey.docker()
    if params.name is not None:
        containers = await read_containers(docker, [params.name])
    else:
        containers = await read_compose_containers(docker, params.project, params.service)
    if not containers:
        remedy = "`docker ps --all` lists containers; `docker compose up -d` creates the stack's"
        return _missing("there is no such container", remedy, 0)
    return observed_container(worst_of(await _judged(containers, context)), len(containers))


async def _judged(containers: Sequence[Container], context: CheckContext) -> list[AssessedContainer]:
    """Read what judging these containers needs, and judge them."""
    survey, config = context.survey, context.survey.config
    obstacles = await read_start_obstacles(survey, containers)
    read = await survey_containers(await survey.docker(), containers, config, obstacles=obstacles)
    return assessed(read, ContainerRules.of(config.recovery))


def _missing(detail: str, remedy: str, count: int) -> Observation:
    values = {"exists": False, "state": "missing", "condition": "missing", "count": count}
    return Observation(values, detail, state="missing", code="DOCKER_002", remedy=remedy)


def worst_of(judged: Sequence[AssessedContainer]) -> AssessedContainer:
    """Return the container that counts where there are several. Pure."""
    return max(judged, key=lambda assessed: (_RANK.index(assessed.condition), not assessed.container.running))


def observed_container(worst: AssessedContainer, count: int) -> Observation:
    """What a check sees of a container: the worst of `count`. Pure."""
    container, assessment, restarts = worst.container, worst.assessment, worst.container.restarts
    parts = (worst.word, assessment.words, f"{restarts} restarts" if restarts else "")
    words, is_unchecked = ", ".join(filter(None, parts)), worst.condition is ContainerCondition.UNCHECKED
    return Observation(
        {**container_values(worst), "exists": True, "count": count},
        words,
        undecided=words if worst.condition is ContainerCondition.WAITING else "",
        unseen=frozenset({"health", "condition"} if is_unchecked else ()),
        state="unchecked" if is_unchecked else container.status,
        remedy=assessment.remedy or f"`docker logs --tail 50 {container.name}` tells why",
    )


def container_values(assessed_container: AssessedContainer) -> dict[str, Any]:
    """What a check may ask of one container; names of variables, never their values."""
    container, assessment = assessed_container.container, assessed_container.assessment
    is_unchecked = assessed_container.condition is ContainerCondition.UNCHECKED
    return {
        "name": container.name,
        "state": container.status,
        "health": "unchecked" if is_unchecked else container.health or "none",
        "health_output": container.health_log[-1].output.strip() if container.health_log else "",
        "condition": assessed_container.condition.value,
        "restarts": container.restarts,
        "exit_code": container.exit_code,
        "oom_killed": container.oom_killed,
        "image": container.image,
        "up_s": assessment.age_s if container.running else None,
        "variables": sorted(container.variables),
        "networks": list(container.networks),
    }


@kind(
    "the containers of `stack.containers` and `stack.compose` are well; of several the worst counts",
    CONTAINER_YIELDS,
    {"condition": "well"},
    lambda _: "stack",
    timeout_s=30.0,
    imports=DOCKER,
)
async def stack_containers(_: NoParams, context: CheckContext) -> Observation:
    config, survey = context.survey.config, context.survey
    daemon = await survey.get(read_docker_daemon, not_before=context.not_before)
    is_wanted = bool(config.stack.compose) or config.stack.containers != StackConfig().containers
    if not daemon.answers and not is_wanted:
        raise NotHere(f"{daemon.problem}; nothing that is configured needs it")
    stack = await survey.get(read_stack_containers, not_before=context.not_before)
    judged = assessed(stack.survey, ContainerRules.of(config.recovery))
    own = [container for container in judged if container.container.id in stack.named]
    missing = missing_containers(stack.listed, config.stack)
    missing += [f"project {name}" for name in config.stack.compose if name not in stack.projects.values()]
    if missing:
        remedy = "`opskit doctor` tells what is missing, `opskit recover` starts the stack"
        return _missing(f"not there: {listing(missing)}", remedy, len(own))
    if not own:
        raise NotHere("no container of the stack is there, and none is configured")
    return observed_container(worst_of(own), len(own))


class ComposeParams(Parameters):
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
    containers = await read_containers(await context.survey.docker(), await compose.container_ids())
    project = await _judged([member for member in containers if not member.one_off], context)
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


class NamedParams(Parameters):
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
    labels = dict(item.get("Labels") or {})
    return {"driver": item.get("Driver"), "mountpoint": item.get("Mountpoint"), "labels": labels}


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
