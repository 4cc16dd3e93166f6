"""Docker itself, Compose, the network: why nothing can be said of containers."""

import asyncio
from collections.abc import Iterator
from functools import partial
from typing import Literal

from opskit.checks.spec import Check, CheckContext, NotHere, Observation, assessing
from opskit.doctor.cause import Cause, Fix, key_of, warning
from opskit.doctor.evidence import Evidence, read_victoria_job
from opskit.doctor.target import ExaminationTarget
from opskit.facts.compose_project import ComposeFacts, read_compose_project
from opskit.facts.docker_daemon import (
    DockerDaemon,
    has_docker_network,
    read_docker_daemon,
    read_other_daemons,
)
from opskit.facts.survey import Survey
from opskit.schedule.job import VICTORIA
from opskit.system.docker_runtime import Runtime, RuntimeKind, by_hand
from opskit.system.network import connects
from opskit.text import counted, listing

#: The causes for which no container can be looked at; others may follow from them.
ROOTS = (
    "docker-context-invalid",
    "docker-host-stale",
    "docker-not-permitted",
    "docker-silent",
    "docker-down",
)
#: Loaded before a check that asks Docker is on the clock.
IMPORTS = ("opskit.system.docker",)
_CONNECT_S = 1.0


def checks(target: ExaminationTarget) -> Iterator[Check]:
    stack, check = target.config.stack, partial(assessing, tags=("docker",), imports=IMPORTS)
    yield check("docker", _daemon, target, "docker", name="docker", timeout_s=12.0)
    if (network := stack.docker_network) is not None and target.chosen("stack.docker_network"):
        yield check("network", _network, network, network, requires=("docker",))
    for name in stack.compose:
        yield check("compose", _compose, name, name, timeout_s=30.0, imports=("opskit.system.compose",))


async def _daemon(target: ExaminationTarget, context: CheckContext) -> Observation:
    survey = context.survey
    daemon = await survey.get(read_docker_daemon)
    if daemon.answers:
        return Observation({}, f"Docker {daemon.version}: {daemon.running} containers run", state="ok")
    if not daemon.address.problem:
        await survey.get(read_other_daemons)
    if not (_is_wanted(target) or (daemon.address.is_here and await _is_needed(target, survey))):
        raise NotHere(f"{daemon.problem}; nothing that is configured needs it")
    return Observation({}, problem=daemon.problem, state="down", code="DOCKER_001")


def _is_wanted(target: ExaminationTarget) -> bool:
    """Tell whether a person spoke of Docker, in the configuration or by the variables for its address."""
    stack = target.config.stack
    named = [member for member, names in stack.containers.items() if names]
    return (
        any(target.environ.get(name) for name in ("DOCKER_HOST", "DOCKER_CONTEXT"))
        or bool(stack.compose)
        or (stack.docker_network is not None and target.chosen("stack.docker_network"))
        or any(target.chosen(f"stack.containers.{member}") for member in named)
    )


async def _is_needed(target: ExaminationTarget, survey: Survey) -> bool:
    """Tell whether a node or agent that a person asked for lives in a container and does not answer.

    A Victoria that a job of opskit keeps lives in none.
    """
    containers = target.config.stack.containers
    expected = [member for member in target.members if member.explicit or member.required]
    in_docker = [member for member in expected if containers.get(member.name)]
    results = await asyncio.gather(*(connects(member.url, timeout_s=_CONNECT_S) for member in in_docker))
    down = {
        member.name for member, result in zip(in_docker, results, strict=True) if result.problem == "refused"
    }
    if VICTORIA.name in down and (await survey.get(read_victoria_job)).installed:
        down.remove(VICTORIA.name)
    return bool(down)


async def _network(name: str, context: CheckContext) -> Observation:
    exists = await context.survey.get(has_docker_network, name)
    problem = "" if exists else "there is no such network"
    return Observation(
        {"exists": exists}, "it is there", problem=problem, state="ok" if exists else "missing"
    )


async def _compose(name: str, context: CheckContext) -> Observation:
    project = await context.survey.get(read_compose_project, name)
    detail = f"{counted(len(project.services), 'service')}"
    if project.problem:
        code = "HOST_001" if project.has_no_program else "CONFIG_001"
        return Observation({}, problem=project.problem, state="invalid", code=code)
    problem = f"variables without a value: {', '.join(project.unset)}" if project.unset else ""
    return Observation({}, detail, problem=problem)


def causes(evidence: Evidence) -> Iterator[Cause]:
    daemon, network = evidence.docker, evidence.config.stack.docker_network
    if daemon is not None and not daemon.answers and evidence.failed("docker"):
        yield _no_answer(daemon, evidence)
    for project in evidence.projects:
        yield from _of_project(project, evidence)
    if network is not None and evidence.networks.get(network) is False:
        command = ("docker", "network", "create", network)
        yield Cause(
            id="network-missing",
            target=network,
            title=f"the Docker network {network} is missing",
            evidence=("`stack.docker_network` names it, and Docker has none of that name",),
            remedy=f"`docker network create {network}`",
            claims=frozenset({f"network {network}"}),
            fix=Fix(command, safe=True, target="network", undo=f"`docker network rm {network}`"),
        )


def _no_answer(daemon: DockerDaemon, evidence: Evidence) -> Cause:
    identifier, title, remedy, fix = _why(daemon, evidence)
    facts = [daemon.problem] if daemon.problem else []
    if daemon.address.chosen_by != "default":
        facts.append(f"{daemon.address.chosen_by} decides where it is looked for")
    if evidence.other_daemons:
        facts.append(f"a daemon answers at {listing(evidence.other_daemons)}")
    needing = ("docker", "containers", "containers are well", "disk docker", "requests of containers")
    networks = (f"network {evidence.config.stack.docker_network}",)
    unread = [f"compose {project.name}" for project in evidence.projects if _needs_daemon(project, evidence)]
    return Cause(
        id=identifier,
        title=title,
        evidence=tuple(facts),
        remedy=remedy,
        claims=frozenset({*needing, *networks, *unread}),
        fix=fix,
    )


def _why(daemon: DockerDaemon, evidence: Evidence) -> tuple[str, str, str, Fix | None]:
    address, platform, others = daemon.address, evidence.target.platform, evidence.other_daemons
    if address.problem:
        remedy = "`docker context ls` shows what there is; correct or unset DOCKER_HOST and DOCKER_CONTEXT"
        return "docker-context-invalid", "Docker's address cannot be told", remedy, None
    if others and not daemon.is_silent and address.is_permitted:
        remedy = (
            f"`unset {address.chosen_by}`"
            if address.chosen_by.startswith("DOCKER_")
            else "`docker context ls`, then `docker context use NAME` with the one that runs"
        )
        remedy += f"; or `export DOCKER_HOST=unix://{others[0]}`"
        return "docker-host-stale", "Docker is looked for where it is not", remedy, None
    if daemon.is_refused:
        remedy = "`sudo usermod -aG docker $USER`, then log in again"
        return "docker-not-permitted", "this user may not use Docker", remedy, None
    if (process := daemon.stopped_process) is not None:
        remedy = f"`sudo kill -CONT {process.pid}` lets it go on where it was"
        title = f"Docker never answers: {process.name} (process {process.pid}) is stopped (SIGSTOP or Ctrl-Z)"
        return "docker-silent", title, remedy, None
    if daemon.is_silent:
        remedy = _by_hand(daemon, "restart", platform)
        if daemon.runtime is not None and daemon.runtime.managed:
            remedy += "; `journalctl -u docker -n 50` tells what it waits for"
        return "docker-silent", "Docker accepts connections and never answers", remedy, None
    if daemon.error is not None and daemon.error.code == "DOCKER_003":
        # Its proxy tells that it is paused by a sentence alone.
        if "paused" in daemon.error.message:
            remedy = "unpause it in the menu of its whale, or `docker desktop restart`"
            return "docker-down", "Docker Desktop is paused", remedy, None
        remedy = f"`docker info` shows the error; {_by_hand(daemon, 'restart', platform)}"
        return "docker-down", "Docker answers with errors", remedy, None
    opening = Fix(("open", "-ga", "Docker"), safe=True, target="docker", undo="quit Docker")
    if daemon.is_cut_off:
        title = "Docker ends connections before it answers"
        return "docker-down", title, _by_hand(daemon, "restart", platform), None
    remedy = _by_hand(daemon, "start", platform)
    return "docker-down", "Docker is down", remedy, opening if platform == "darwin" else None


def _by_hand(daemon: DockerDaemon, verb: Literal["start", "restart"], platform: str) -> str:
    return by_hand(
        daemon.runtime or Runtime(RuntimeKind.SERVICE, managed=True, mac=platform == "darwin"), verb, platform
    )


def _needs_daemon(project: ComposeFacts, evidence: Evidence) -> bool:
    """Tell whether Compose fails for want of the daemon: version 1 asks it before it reads a file."""
    is_down = evidence.docker is not None and not evidence.docker.answers
    return is_down and project.version.startswith("1.")


def _of_project(project: ComposeFacts, evidence: Evidence) -> Iterator[Cause]:
    claims = frozenset({f"compose {project.name}"})
    files, unknown = [str(path) for path in project.files], project.unknown
    newer = "; Compose 2 may accept what version 1 does not know" if project.version.startswith("1.") else ""
    if project.has_no_program:
        yield Cause(
            id="compose-missing",
            title="there is no Docker Compose",
            evidence=(
                "neither `docker compose` nor `docker-compose` is on PATH",
                *((f"only it knows of {listing(files)}: {listing(unknown)}",) if unknown else ()),
            ),
            remedy="install the plug-in: `apt-get install docker-compose-plugin`, or Docker Desktop",
            claims=claims,
        )
    elif project.problem and not _needs_daemon(project, evidence):
        command = " ".join((*project.command, "config", "--quiet")) if project.command else ""
        yield Cause(
            id="compose-broken",
            target=project.name,
            title=f"the Compose files of {project.name} cannot be used",
            evidence=(project.problem,),
            remedy=f"correct {listing(files)}" + (f"; `{command}` checks it" if command else "") + newer,
            claims=claims,
            because=evidence.half_restored(project.files),
        )
    if project.unset:
        yield warning(
            id="compose-variable-unset",
            target=project.name,
            title=f"{project.name} uses variables that have no value: {listing(project.unset)}",
            evidence=("Compose puts an empty text in their place",),
            remedy=f"set {listing(project.unset)} in the .env beside {files[0]}",
            claims=claims,
            because=(key_of("compose-broken", project.name),),
        )
