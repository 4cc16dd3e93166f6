"""The kind that asks Docker Compose, version 1 or 2: the file is valid, its services are up."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from opskit.checks.fields import CONFIG, Text, Texts
from opskit.checks.spec import Kind, Observation, Scene
from opskit.system.compose_output import Member

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


async def _compose(params: ComposeParams, scene: Scene) -> Observation:
    from opskit.system.compose import find

    path = scene.path(params.file)
    try:
        path.open("rb").close()
    except OSError as exc:
        missing = isinstance(exc, FileNotFoundError)
        problem = "there is no such compose file" if missing else f"it cannot be read: {exc.strerror}"
        state = "missing" if missing else "unreadable"
        return Observation({"valid": False, "error": state}, problem=problem, state=state)
    compose = await find([path], project=params.project, env=scene.around.environ)
    try:
        declared = await compose.services()
    except ValueError as exc:
        values: dict[str, Any] = {"valid": False, "services": [], "error": None}
        return Observation(values, f"the file is not valid: {exc}", state="invalid")
    values = {"valid": True, "services": declared, "version": 2 if compose.modern else 1, "error": None}
    if not scene.wanted & _STATES:
        return Observation(values, f"valid, {len(declared)} services", state="ok")
    there = await compose.members(await scene.around.docker())
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
            "error": "missing, unreadable, or null",
        },
        {"valid": True, "down": {"len": 0}},
        _compose,
        lambda p: str(p.project or p.file),
        30.0,
        imports=("opskit.system.compose",),
    ),
)
