"""The kind that asks Docker Compose, version 1 or 2: the file is valid, its services are up."""

import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from opskit.checks.compose_output import Member, inspected, members
from opskit.checks.fields import CONFIG, Text, Texts
from opskit.checks.program import Done, run
from opskit.checks.spec import Kind, Observation, Scene, Unjudged

_NO_DAEMON = (
    "cannot connect to the docker daemon",
    "couldn't connect to docker daemon",
    "connection refused",
    "connection aborted",
    "error while fetching server api version",
)
_STATES = frozenset({"up", "down", "states", "unhealthy", "exited"})


@dataclass(frozen=True, slots=True)
class ComposeParams:
    """`services` are those that must be up, all of the file when none is named; `one_shot` ones may have

    ended with 0.
    """

    __pydantic_config__ = CONFIG

    file: Text = "docker-compose.yml"
    project: Text | None = None
    services: Texts = ()
    one_shot: Texts = ()


@dataclass(frozen=True, slots=True)
class _Compose:
    """The program that was found, with the arguments that name the project."""

    command: tuple[str, ...]
    modern: bool
    folder: Path
    env: Mapping[str, str]

    async def __call__(self, *arguments: str) -> Done:
        return await run((*self.command, *arguments), cwd=self.folder, env=self.env)


async def _compose(params: ComposeParams, scene: Scene) -> Observation:
    path = scene.path(params.file)
    if not path.is_file():
        values: dict[str, Any] = {"valid": False, "services": [], "error": "missing"}
        return Observation(values, problem="there is no such compose file", state="missing")
    compose = await _found(params, path, scene)
    listed = await compose("config", "--services")
    if listed.exit:
        values = {"valid": False, "services": [], "error": None}
        return Observation(values, f"the file is not valid: {listed.complaint}", state="invalid")
    declared = sorted(listed.out.split())
    values = {"valid": True, "services": declared, "version": 2 if compose.modern else 1, "error": None}
    if not scene.wanted & _STATES:
        return Observation(values, f"valid, {len(declared)} services", state="ok")
    there = await _members(compose, scene)
    values |= states(there, list(params.services) or declared, params.one_shot)
    down = values["down"]
    words = {one.service: one.words for one in there}
    detail = f"{len(values['up'])} of {len(values['up']) + len(down)} services are up"
    if down:
        told = ", ".join(f"{name} is {words.get(name, 'not created')}" for name in down)
        detail = f"{detail}: {told}"
    remedy = f"`{' '.join(compose.command)} up -d {' '.join(down)}`" if down else None
    return Observation(values, detail, state="down" if down else "ok", remedy=remedy)


def states(there: Sequence[Member], wanted: Sequence[str], one_shot: Sequence[str]) -> dict[str, Any]:
    """Which services are up. A service is up when all of its containers are, and there is one."""
    by_service: dict[str, list[Member]] = {}
    for one in there:
        by_service.setdefault(one.service, []).append(one)

    def well(name: str) -> bool:
        found = by_service.get(name, [])
        ended = name in one_shot and all(one.state == "exited" and one.exit_code == 0 for one in found)
        return bool(found) and (ended or all(one.up for one in found))

    return {
        "up": [name for name in wanted if well(name)],
        "down": [name for name in wanted if not well(name)],
        "states": {name: found[0].state for name, found in by_service.items()},
        "unhealthy": sorted({one.service for one in there if one.health == "unhealthy"}),
        "exited": sorted({one.service for one in there if one.state == "exited"}),
    }


async def _found(params: ComposeParams, path: Path, scene: Scene) -> _Compose:
    """The plug-in when there is one, else the program of version 1. Raises Unjudged when there is neither."""
    env = scene.around.environ
    named = ("-p", params.project) if params.project else ()
    rest = ("-f", str(path), *named)
    where = env.get("PATH")
    docker, old = shutil.which("docker", path=where), shutil.which("docker-compose", path=where)
    if docker is not None and (await run((docker, "compose", "version"), env=env)).exit == 0:
        return _Compose(("docker", "compose", *rest), True, path.parent, env)
    if old is None:
        raise Unjudged(
            "there is neither `docker compose` nor `docker-compose`",
            remedy="install the compose plug-in: `apt-get install docker-compose`, or Docker Desktop",
        )
    version = await run((old, "version", "--short"), env=env)
    modern = version.out.strip().lstrip("v").startswith("2")
    return _Compose(("docker-compose", *rest), modern, path.parent, env)


async def _members(compose: _Compose, scene: Scene) -> list[Member]:
    if compose.modern:
        done = _checked(await compose("ps", "--all", "--format", "json"))
        try:
            return members(done.out)
        except ValueError as exc:
            raise Unjudged(f"what `compose ps` wrote cannot be read: {exc}") from exc
    done = _checked(await compose("ps", "-q"))
    door = await scene.around.docker()
    found = [await door.named(identifier) for identifier in done.out.split()]
    return [one for item in found if item is not None and (one := inspected(item)) is not None]


def _checked(done: Done) -> Done:
    if done.exit:
        no_daemon = any(words in done.complaint.lower() for words in _NO_DAEMON)
        raise Unjudged(
            f"compose ps failed: {done.complaint}",
            code="DOCKER_001" if no_daemon else "DOCKER_003",
            remedy="`docker version` shows whether the daemon answers",
        )
    return done


KINDS = (
    Kind(
        "compose",
        "a compose file is valid and its services are up (compose 1 and 2)",
        ComposeParams,
        {
            "valid": "whether the file can be read by compose",
            "services": "names of its services",
            "version": "1 or 2, of compose",
            "up": "services that run and are not unhealthy",
            "down": "services that do not",
            "states": "state of each service",
            "unhealthy": "services whose health check fails",
            "exited": "services that have ended",
            "error": "missing, or null",
        },
        {"valid": True, "down": {"len": 0}},
        _compose,
        lambda p: str(p.project or p.file),
        30.0,
        imports=("opskit.system.docker_objects",),
    ),
)
