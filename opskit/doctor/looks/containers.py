"""Looks at containers: those of the stack, and those that have its addresses in their variables."""

import asyncio
from collections.abc import Iterable, Mapping
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from opskit.checks.health_check import health_check_fault, health_check_remedy
from opskit.checks.kinds.containers import DOCKER, age_s, container_values
from opskit.checks.spec import Check, NotHere, Observation, Scene, Unjudged
from opskit.doctor.cause import counted
from opskit.doctor.environment import known, pairs
from opskit.doctor.evidence import ContainerFacts
from opskit.doctor.looks.board import Board, check
from opskit.facts.container import container
from opskit.system.docker_records import PROJECT, SERVICE

_FILES = "com.docker.compose.project.config_files"
_FOLDER = "com.docker.compose.project.working_dir"
_ONE_OFF = "com.docker.compose.oneoff"
#: Containers that nothing puts in the stack are looked into for their variables, but not by hundreds.
_MOST_STRANGERS = 100
_AT_ONCE = 16


def containers(board: Board, projects: Mapping[str, tuple[Path, ...]]) -> Check:
    """The containers of the stack, and any other that runs and has the stack's addresses in its variables."""

    async def look(scene: Scene) -> Observation:
        config = scene.around.config
        door = await scene.around.docker()
        names = {name for listed in config.stack.containers.values() for name in listed}
        listed = await door.containers()
        ours = [one for one in listed if one.name in names or _project(one.labels, projects)]
        strangers = [one for one in listed if one not in ours and one.state in ("running", "restarting")]
        gate = asyncio.Semaphore(_AT_ONCE)

        async def inspected(identifier: str) -> Mapping[str, Any] | None:
            async with gate:
                return await door.named(identifier)

        chosen = [*ours, *strangers[:_MOST_STRANGERS]]
        items = await asyncio.gather(*(inspected(one.id) for one in chosen))
        now = datetime.now(UTC)
        found = [_facts(item, projects, now) for item in items if item is not None and not _one_off(item)]
        of_stack = {one.name for one in ours}
        board.containers = tuple(
            replace(one, of_stack=one.name in of_stack)
            for one in found
            if one.name in of_stack or _speaks(one)
        )
        return Observation({}, f"{counted(len(board.containers), 'container')} of the stack", state="ok")

    return check(
        "containers",
        look,
        area="docker",
        target="containers",
        requires=("docker",),
        timeout_s=15.0,
        imports=DOCKER,
    )


def health(board: Board) -> Check:
    """Whether those containers are well."""

    async def look(scene: Scene) -> Observation:
        del scene
        if not board.containers:
            raise NotHere("no container belongs to the stack")
        ill = [one.name for one in board.containers if not well(one)]
        unchecked = [
            one for one in board.containers if one.state == "running" and one.health_fault is not None
        ]
        if unchecked and not ill:
            words = [
                f"{one.name}: {one.health_fault.detail}" for one in unchecked if one.health_fault is not None
            ]
            raise Unjudged("; ".join(words), remedy=unchecked[0].health_remedy)
        detail = f"{counted(len(board.containers), 'container')}, all well"
        problem = f"not well: {', '.join(ill)}" if ill else ""
        return Observation({}, detail, problem=problem, state="failing" if ill else "ok")

    return check("containers are well", look, area="docker", target="containers", requires=("containers",))


def well(one: ContainerFacts) -> bool:
    """Running and not unhealthy. One that has ended with 0, or was never started, is left alone."""
    if one.state == "running":
        sick = one.health == "unhealthy" and one.health_fault is None
        return not sick and not one.oom_killed and not one.loops
    return one.state == "created" or (one.state == "exited" and one.exit_code == 0 and not one.kept_up)


def _one_off(item: Mapping[str, Any]) -> bool:
    labels = item["Config"].get("Labels") or {}
    return str(labels.get(_ONE_OFF, "")).lower() == "true"


def _speaks(one: ContainerFacts) -> bool:
    """Whether it has the stack's addresses in its variables: a client of the model servers (SPEC B7)."""
    names = ("OLLAMA_API_URL", "OLLAMA_BASE_URL", "MLX_API_URL", "VICTORIA_URL", "VERONICA_URL")
    return any(name in one.environment.names for name in names)


def _project(labels: Mapping[str, str], projects: Mapping[str, tuple[Path, ...]]) -> str | None:
    """The project of the configuration that a container belongs to: by its files, else by its name."""
    name = labels.get(PROJECT)
    if name is None:
        return None
    folder = Path(labels.get(_FOLDER) or "/")
    theirs = {str(folder / part.strip()) for part in (labels.get(_FILES) or "").split(",") if part.strip()}
    for project, files in projects.items():
        if theirs & {str(path) for path in files}:
            return project
    return name if name in projects and not theirs else None


def _facts(
    item: Mapping[str, Any], projects: Mapping[str, tuple[Path, ...]], now: datetime
) -> ContainerFacts:
    values = container_values(item, now)
    host, config = item.get("HostConfig") or {}, item["Config"]
    labels = config.get("Labels") or {}
    record = container(item)
    fault = health_check_fault(record)
    return ContainerFacts(
        name=str(values["name"]),
        state=str(values["state"]),
        health=str(values["health"]),
        health_output=" ".join(str(values["health_output"]).split())[:200],
        exit_code=int(values["exit_code"] or 0),
        oom_killed=bool(values["oom_killed"]),
        restarts=int(values["restarts"] or 0),
        restart_policy=str((host.get("RestartPolicy") or {}).get("Name") or "no"),
        up_s=age_s(item["State"].get("StartedAt"), now),
        image=str(config.get("Image") or ""),
        project=_project(labels, projects),
        service=labels.get(SERVICE),
        network_mode=str(host.get("NetworkMode") or ""),
        memory_limit_bytes=int(host.get("Memory") or 0),
        ports=frozenset(_published(host.get("PortBindings") or {})),
        environment=known(pairs(config.get("Env") or ())),
        health_fault=fault,
        health_remedy=health_check_remedy(record, fault) if fault else "",
    )


def _published(bindings: Mapping[str, Iterable[Mapping[str, str]] | None]) -> Iterable[int]:
    for bound in bindings.values():
        for one in bound or ():
            if str(one.get("HostPort") or "").isdigit():
                yield int(one["HostPort"])
