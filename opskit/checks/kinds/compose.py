"""The kind that asks Docker Compose, version 1 or 2: the file is valid, its services are up."""

from collections.abc import Iterable, Sequence
from typing import Any

from opskit.checks.container_assessment import (
    AssessedContainer,
    ContainerCondition,
    ContainerRules,
    assessed,
)
from opskit.checks.spec import CheckContext, Kind, Observation
from opskit.config.fields import Text, Texts, parameters
from opskit.facts.container_survey import read_containers, survey_containers

_STATES = frozenset({"up", "down", "states", "unhealthy", "exited"})


@parameters
class ComposeParams:
    """`services` are those that must be up, all of the file when none is named; `one_shot` ones may have

    ended with 0.
    """

    file: Text = "docker-compose.yml"
    project: Text | None = None
    services: Texts = ()
    one_shot: Texts = ()


async def _compose(params: ComposeParams, scene: CheckContext) -> Observation:
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
    docker, config = await scene.around.docker(), scene.around.config
    containers = await read_containers(docker, await compose.container_ids())
    survey = await survey_containers(docker, [one for one in containers if not one.one_off], config)
    there = assessed(survey, ContainerRules.of(config.recovery))
    values |= states(there, list(params.services) or declared, params.one_shot)
    down = values["down"]
    words = {one.container.service: _words(one) for one in there}
    unchecked = [one for one in there if one.condition is ContainerCondition.UNCHECKED]
    if unchecked and not down:
        return Observation(
            values,
            "; ".join(f"{one.container.service}: {one.assessment.detail}" for one in unchecked),
            unseen=frozenset({"up", "down", "unhealthy"}),
            state="unchecked",
            remedy=unchecked[0].assessment.remedy,
        )
    detail = f"{len(values['up'])} of {len(values['up']) + len(down)} services are up"
    if down:
        told = ", ".join(f"{name} is {words.get(name, 'not created')}" for name in down)
        detail = f"{detail}: {told}"
    remedy = f"`{' '.join(compose.command)} up -d {' '.join(down)}`" if down else None
    return Observation(values, detail, state="down" if down else "ok", remedy=remedy)


def _words(one: AssessedContainer) -> str:
    container = one.container
    code = f" with {container.exit_code}" if container.status == "exited" else ""
    health = f", {one.assessment.health}" if one.assessment.health and container.running else ""
    left = f" ({one.assessment.left})" if one.assessment.left else ""
    return f"{container.status}{code}{health}{left}"


def _services(containers: Iterable[AssessedContainer]) -> list[str]:
    return sorted({one.container.service or "" for one in containers})


def states(
    there: Sequence[AssessedContainer], wanted: Sequence[str], one_shot: Sequence[str]
) -> dict[str, Any]:
    """Which services are up: those with a container, all of which are well. Pure.

    One that has ended well is up only where it is a one-shot.
    """
    by_service: dict[str, list[AssessedContainer]] = {}
    for one in there:
        by_service.setdefault(one.container.service or "", []).append(one)

    def well(name: str) -> bool:
        found = by_service.get(name, [])
        good = (ContainerCondition.WELL, ContainerCondition.UNCHECKED)
        return bool(found) and all(
            one.condition in good and (one.container.running or name in one_shot) for one in found
        )

    return {
        "up": [name for name in wanted if well(name)],
        "down": [name for name in wanted if not well(name)],
        "states": {name: found[0].container.status for name, found in by_service.items()},
        "unhealthy": _services(
            one
            for one in there
            if one.assessment.health == "unhealthy" and one.condition is not ContainerCondition.UNCHECKED
        ),
        "exited": _services(one for one in there if one.container.status == "exited"),
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
            "up": "services that are well",
            "down": "services that are not",
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
