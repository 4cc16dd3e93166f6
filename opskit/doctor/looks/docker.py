"""Looks at Docker itself: the daemon and its socket, the network of the stack."""

import asyncio
import hashlib
import json
import os
import shutil
from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from opskit.checks.kinds.containers import DOCKER
from opskit.checks.spec import Check, CheckContext, NotHere, Observation
from opskit.config.schema import AgentConfig, Config, NodeConfig
from opskit.doctor.evidence import ClockFacts, DockerFacts
from opskit.doctor.looks.board import FactBoard, check, engine
from opskit.errors import OpskitError
from opskit.system.docker import Docker
from opskit.system.network import connects

_CONNECT_S = 1.0
_OTHER_S = 2.0


def daemon(board: FactBoard, *, wanted: bool) -> Check:
    """`wanted`: something that is configured needs Docker. Else its absence is no news."""

    async def look(scene: CheckContext) -> Observation:
        facts = await asyncio.to_thread(_door, scene.around.environ)
        board.docker = facts
        if not facts.invalid:
            door = await scene.around.docker()
            try:
                info = await door.info()
            except OpskitError as error:
                board.docker = facts = await _absent(facts, error, scene.around.environ)
            else:
                board.docker = facts = replace(
                    facts,
                    answers=True,
                    desktop="Desktop" in str(info.get("OperatingSystem")),
                    root=str(info.get("DockerRootDir") or "") or None,
                )
                board.docker_clock = _clock(info, facts.where)
                detail = f"Docker {info.get('ServerVersion')}: {info.get('ContainersRunning')} containers run"
                return Observation({}, detail, state="ok")
        here = facts.installed or not facts.socket_missing
        if not (wanted or (here and await _needed(scene.around.config))):
            raise NotHere(f"{facts.problem or 'Docker does not answer'}; nothing that is configured needs it")
        return Observation({}, problem=facts.problem, state="down", code="DOCKER_001")

    return check("docker", look, area="docker", target="docker", timeout_s=12.0, imports=DOCKER)


async def _needed(config: Config) -> bool:
    """Whether an agent or a node that a person asked for lives in a container and does not answer."""
    everybody: tuple[NodeConfig | AgentConfig, ...] = (*config.agents, *config.nodes)
    members = [one for one in everybody if one.explicit or one.required]
    urls = [one.url for one in members if config.stack.containers.get(one.name)]
    results = await asyncio.gather(*(connects(url, timeout_s=_CONNECT_S) for url in urls))
    return any(result.problem == "refused" for result in results)


def _door(environ: Mapping[str, str]) -> DockerFacts:
    """Where Docker is looked for, and whether its socket is there and may be used. Reads files only."""
    from opskit.system.docker_host import resolve

    told_by = next((name for name in ("DOCKER_HOST", "DOCKER_CONTEXT") if environ.get(name)), "")
    installed = shutil.which("docker", path=environ.get("PATH")) is not None
    problem = _lost_context(environ)
    try:
        host = resolve(environ)
    except OpskitError as error:
        problem = problem or error.message
    if problem:
        told_by = told_by or "the Docker context in use"
        return DockerFacts(True, told_by=told_by, problem=problem, invalid=True, installed=installed)
    usual = host.socket in ("/var/run/docker.sock", "/run/docker.sock")
    told_by = told_by or ("default" if usual else "the Docker context in use")
    facts = DockerFacts(True, where=host.shown, told_by=told_by, installed=installed)
    if host.socket is None:
        return facts
    there = Path(host.socket).exists()
    return replace(
        facts,
        socket_missing=not there,
        permitted=not there or os.access(host.socket, os.R_OK | os.W_OK),
    )


def _lost_context(environ: Mapping[str, str]) -> str:
    """What is wrong with the chosen context: the SDK takes the default one for a name that it does not know.

    The command line keeps a context in a folder that bears the SHA-256 of its name.
    """
    if environ.get("DOCKER_HOST"):
        return ""
    home = Path(environ.get("HOME") or "~").expanduser()
    folder = Path(environ.get("DOCKER_CONFIG") or home / ".docker")
    name = environ.get("DOCKER_CONTEXT", "")
    if not name:
        try:
            content = json.loads((folder / "config.json").read_text(encoding="utf-8"))
            name = str(content.get("currentContext") or "")
        except (OSError, ValueError, AttributeError):
            return ""
    digest = hashlib.sha256(name.encode()).hexdigest()
    if name in ("", "default") or (folder / "contexts/meta" / digest).is_dir():
        return ""
    return f"there is no Docker context {name!r}"


async def _absent(facts: DockerFacts, error: OpskitError, environ: Mapping[str, str]) -> DockerFacts:
    found = await asyncio.gather(*(_answers(path) for path in _sockets(environ, facts.where)))
    others = tuple(path for path in found if path is not None)
    silent = "gave no answer" in error.message
    return replace(facts, problem=error.message, silent=silent, others=others)


async def _answers(path: str) -> str | None:
    async with Docker({"DOCKER_HOST": f"unix://{path}"}, timeout_s=_OTHER_S) as door:
        try:
            await door.version()
        except OpskitError:
            return None
    return path


def _sockets(environ: Mapping[str, str], where: str) -> list[str]:
    """Where the daemons of this machine usually listen, but for the one that was asked (ops facts 12)."""
    home = Path(environ.get("HOME") or "~").expanduser()
    runtime = Path(environ.get("XDG_RUNTIME_DIR") or f"/run/user/{os.getuid()}")
    places = (
        Path("/var/run/docker.sock"),
        home / ".docker/run/docker.sock",
        home / ".docker/desktop/docker.sock",
        home / ".orbstack/run/docker.sock",
        home / ".colima/default/docker.sock",
        runtime / "docker.sock",
    )
    asked = os.path.realpath(where.removeprefix("unix://"))
    found = {os.path.realpath(place): place for place in places if place.exists()}
    return [str(place) for real, place in found.items() if real != asked]


def _clock(info: Mapping[str, Any], where: str) -> ClockFacts | None:
    """After sleep the clock of Docker's virtual machine may lag behind."""
    try:
        theirs = datetime.fromisoformat(str(info.get("SystemTime")))
    except ValueError:
        return None
    if theirs.tzinfo is None:
        return None
    return ClockFacts("Docker", where, (theirs - datetime.now(UTC)).total_seconds())


def network(board: FactBoard, name: str) -> Check:
    def judge(seen: Observation) -> Observation:
        board.network_exists = bool(seen.values["exists"])
        return replace(seen, problem="" if board.network_exists else seen.detail)

    return engine(
        "docker_network",
        {"name": name},
        judge,
        name=f"network {name}",
        area="docker",
        target=name,
        requires=("docker",),
    )
