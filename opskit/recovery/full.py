"""`recover full` (SPEC C14): a Compose project down, cleaned, built anew, up, and judged by its health.

Only what is the project's own is removed: its containers and networks, and those images that no name and no
container holds any more. Never a prune of the whole machine; volumes only when that was asked for and typed.
"""

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from opskit.errors import OpskitError, UsageError
from opskit.facts.container_survey import read_containers
from opskit.recovery.compose_projects import ComposeProject, configured
from opskit.recovery.outcome import Ran
from opskit.recovery.procedure import Procedure, ProcedureResult
from opskit.recovery.startup import risen
from opskit.recovery.step import Command
from opskit.result import Finding, Status
from opskit.system.docker_records import PROJECT

_DOWN_S = 180.0
_CLEAN_S = 60.0
_UP_S = 180.0


@dataclass(frozen=True, slots=True)
class RebuildOptions:
    """How it is done; each phase has its own deadline. `prune_volumes` was confirmed by a person."""

    prune_volumes: bool = False
    build_timeout_s: float = 1800.0
    wait_s: float = 300.0


@dataclass(frozen=True, slots=True)
class Prospect:
    """What it is going to be about, for a person to agree to."""

    work: ComposeProject
    containers: tuple[str, ...]
    services: tuple[str, ...]
    volumes: tuple[str, ...]
    built: tuple[str, ...]
    images: Mapping[str, str]
    """Ids of the images that containers of built services use now, by name: the way back."""


def chosen(configured_keys: Sequence[str], name: str | None) -> str:
    """The project that is meant. Raises OpskitError RECOVER_002, UsageError where it must be named."""
    if not configured_keys:
        raise UsageError(
            "no Compose project is configured",
            remedy="name its files in `stack.compose` of the configuration",
        )
    known = ", ".join(configured_keys)
    if name is not None:
        if name not in configured_keys:
            raise OpskitError("RECOVER_002", f"there is no Compose project {name!r}; known: {known}")
        return name
    if len(configured_keys) > 1:
        raise UsageError(f"there are several Compose projects: {known}", remedy="name one with --project")
    return configured_keys[0]


async def prospect(it: Procedure, key: str) -> Prospect:
    """Look at everything that the end needs before anything is taken down.

    Raises OpskitError: RECOVER_003 (paused, or somebody is at it), RECOVER_004 (a file is wrong, an image
    is missing), DOCKER_*.
    """
    it.check_pauses(f"compose:{key}", key)
    work = await configured(it.context, key)
    if work.project is None:
        raise AssertionError("a configured project is declared")
    door = it.context.docker
    listed = await door.containers(labels=[f"{PROJECT}={work.name}"])
    containers = await read_containers(door, [one.id for one in listed])
    built = tuple(sorted(name for name, one in work.project.services.items() if one.built))
    images: dict[str, str] = {}
    for container in containers:
        if container.service in built:
            images[container.image] = container.image_id
    await _check_images(it, work)
    await it.check_nobody_is_at_it()
    volumes = [one["Name"] for one in await door.all_of("volume") if _label(one) == work.name]
    return Prospect(
        work,
        tuple(one.name for one in listed),
        tuple(sorted(work.project.services)),
        tuple(sorted(volumes)),
        built,
        images,
    )


async def full(it: Procedure, plan: Prospect, wish: RebuildOptions) -> ProcedureResult:
    """Do it, phase by phase; a phase that fails ends it with what is down now and what to type."""
    phases = _phases(plan, wish)
    for name, commands in phases:
        it.say(f"{name}: {_told(name, plan, wish)}")
        failed = await it.do_all(commands)
        if failed is not None:
            return it.done([_failed(it, plan, name, failed)])
        if name == "down":
            await _clean(it, plan)
    if it.dry:
        return it.done([])
    findings = await risen(it.context, plan.work.name, plan.services, limit_s=wish.wait_s, say=it.say)
    if all(one.status is Status.PASS for one in findings):
        await _drop_replaced(it, plan)
    else:
        it.notes += _way_back(plan)
    return it.done(findings)


def _phases(plan: Prospect, wish: RebuildOptions) -> list[tuple[str, list[Command]]]:
    """The commands in order. `down` keeps volumes unless they are to go, and never takes images."""
    work = plan.work
    volumes = ("--volumes",) if wish.prune_volumes else ()
    phases = [("down", [work.command("down", "--remove-orphans", *volumes, timeout_s=_DOWN_S)])]
    if plan.built:
        build = work.command("build", "--no-cache", *plan.built, timeout_s=wish.build_timeout_s)
        phases.append(("build", [build]))
    phases.append(("up", [work.command(*work.up, timeout_s=_UP_S)]))
    return phases


def _told(name: str, plan: Prospect, wish: RebuildOptions) -> str:
    match name:
        case "down":
            return f"{len(plan.containers)} containers and the networks of {plan.work.name}"
        case "build":
            return f"{', '.join(plan.built)}, without cache, for {wish.build_timeout_s:.0f} s at most"
    return f"{', '.join(plan.services)}, without pulling"


async def _clean(it: Procedure, plan: Prospect) -> None:
    """Images of earlier builds of this project that have lost their name. What is in use Docker keeps."""
    nameless = [
        str(one["Id"])
        for one in await it.context.docker.all_of("image")
        if _label(one) == plan.work.name and not _names(one) and str(one["Id"]) not in plan.images.values()
    ]
    for identifier in nameless:
        await it.do(Command(("docker", "image", "rm", _short(identifier)), _CLEAN_S))


async def _drop_replaced(it: Procedure, plan: Prospect) -> None:
    """All is well: the images that the build replaced are no way back any more.

    Version 1 of Compose writes no labels on images, so they are known by the containers that used them.
    """
    there = {str(one["Id"]): one for one in await it.context.docker.all_of("image")}
    for identifier in dict.fromkeys(plan.images.values()):
        if identifier in there and not _names(there[identifier]):
            removal = await it.do(Command(("docker", "image", "rm", _short(identifier)), _CLEAN_S))
            if removal.exit != 0:
                it.notes.append(f"the replaced image {_short(identifier)} stays: {removal.said}")


def _failed(it: Procedure, plan: Prospect, name: str, failed: Ran) -> Finding:
    """Which phase failed, what is down because of it, and how to go on or back."""
    shown = plan.work.shown
    if name == "down":
        remedy = f"`{shown} ps --all` shows what is left"
    elif name == "build":
        it.notes.append(f"down now: {', '.join(plan.services)}; their volumes were not touched")
        it.notes += _way_back(plan)
        remedy = f"mend what the build says, then `opskit recover full --project {plan.work.key}`"
    else:
        it.notes.append(f"not all of {', '.join(plan.services)} are up")
        it.notes += _way_back(plan)
        remedy = f"`{shown} ps --all`, then `{shown} {' '.join(plan.work.up)}`"
    detail = f"`{failed.command.shown}` failed: {failed.said}"
    return Finding("phase", name, Status.FAIL, "failed", detail, "DOCKER_003", remedy, failed.seconds)


def _way_back(plan: Prospect) -> list[str]:
    """How to run what ran before: the images are still there, under their names or by their ids."""
    tags = [
        f"docker tag {_short(identifier)} {name}"
        for name, identifier in plan.images.items()
        if name and not name.startswith("sha256:")
    ]
    again = f"{plan.work.shown} {' '.join(plan.work.up)}"
    return [f"to go back to what ran before: `{'; '.join([*tags, again])}`"]


async def _check_images(it: Procedure, work: ComposeProject) -> None:
    """What is not built must be here already: nothing is pulled."""
    if work.project is None:
        return
    for name, service in work.project.services.items():
        if service.built:
            continue
        found = await asyncio.gather(*(it.context.docker.found("image", one) for one in service.images))
        if not any(found):
            raise OpskitError(
                "RECOVER_004",
                f"service {name} needs the image {service.images[0]}, which is not on this machine",
                remedy=f"`docker pull {service.images[0]}`, then again",
            )


def _label(item: Mapping[str, Any]) -> str | None:
    return (item.get("Labels") or {}).get(PROJECT)


def _names(image: Mapping[str, Any]) -> list[str]:
    names = (*(image.get("RepoTags") or ()), *(image.get("RepoDigests") or ()))
    return [name for name in names if "<none>" not in name]


def _short(identifier: str) -> str:
    return identifier.removeprefix("sha256:")[:12]


def warned(plan: Prospect, wish: RebuildOptions) -> list[str]:
    """What a person agrees to, line by line. Pure."""
    gone = f"{len(plan.containers)} containers ({', '.join(plan.containers) or 'none'}) and their networks"
    lines = [
        f"project {plan.work.name}: {gone} are removed",
        f"built anew without cache: {', '.join(plan.built) or 'nothing'}",
        f"started: {', '.join(plan.services)}",
    ]
    if wish.prune_volumes:
        lines.append(f"VOLUMES ARE DELETED with all that is in them: {', '.join(plan.volumes) or 'none'}")
    else:
        lines.append(f"kept: volumes ({', '.join(plan.volumes) or 'none'})")
    return lines
