"""Containers of the stack that are not well, as they were assessed: what it means, and what ends it."""

from collections.abc import Iterator
from typing import Literal

from opskit.checks.container_assessment import ContainerCondition, ContainerRepair, ContainerState
from opskit.doctor.areas.docker import ROOTS
from opskit.doctor.cause import Cause, Fix, key_of
from opskit.doctor.evidence import Evidence, ExaminedContainer
from opskit.llm.fit import gib
from opskit.result import Status

CHECK = frozenset({"containers are well"})
_LOST_NETWORK = (ContainerState.CUT_OFF, ContainerState.ORPHANED)


def causes(evidence: Evidence) -> Iterator[Cause]:
    for one in evidence.containers:
        cause = _of(one)
        if cause is not None:
            yield cause
    yield from _missing(evidence)


def of_member(evidence: Evidence, member: str) -> tuple[str, ...]:
    """Keys of the causes that may be behind a silent node or agent: Docker's, those of its containers."""
    names = evidence.config.stack.containers.get(member, ())
    kinds = ("container-oom-killed", "container-restarting", "container-stopped", "container-missing",
             "container-unhealthy", "container-network-lost")  # fmt: skip
    return (*(ROOTS if names else ()), *(key_of(kind, name) for kind in kinds for name in names))


def _of(one: ExaminedContainer) -> Cause | None:
    container, assessment, name = one.container, one.assessment, one.name
    image = (f"image {container.image}",) if container.image else ()
    if container.oom_killed:
        return _out_of_memory(one, image)
    if assessment.condition in (ContainerCondition.WELL, ContainerCondition.WAITING):
        return None
    if assessment.state is ContainerState.UNCHECKED:
        return Cause(
            "health-check-broken",
            name,
            f"the health check of container {name} cannot run",
            (assessment.detail, "so Docker calls it unhealthy, and nobody knows how it is", *image),
            assessment.remedy or "",
            CHECK,
            status=Status.WARN,
        )
    log = f"`docker logs --tail 50 {name}` tells why"
    if assessment.state is ContainerState.LOOPING:
        restarts = f"{container.restarts} restarts by Docker, last exit code {container.exit_code}"
        remedy = f"{log}; `docker stop {name}` ends the loop"
        title = f"container {name} keeps restarting"
        return Cause("container-restarting", name, title, (restarts, *image), remedy, CHECK)
    status = Status.WARN if assessment.condition is ContainerCondition.LEFT else Status.FAIL
    evidence = (assessment.words, *image)
    if assessment.state is ContainerState.UNHEALTHY:
        remedy = f"{log}; then {assessment.remedy}"
        fix = _fix("restart", name) if assessment.repair is ContainerRepair.RESTART else None
        title = f"container {name} is unhealthy"
        return Cause("container-unhealthy", name, title, evidence, remedy, CHECK, fix=fix, status=status)
    if assessment.state in _LOST_NETWORK and container.running:
        title = f"container {name} has lost its network"
        remedy = assessment.remedy or ""
        fix = _fix("restart", name) if assessment.repair is ContainerRepair.RESTART else None
        return Cause("container-network-lost", name, title, evidence, remedy, CHECK, fix=fix, status=status)
    return _stopped(one, evidence, status) if one.of_stack else None


def _fix(verb: Literal["start", "restart"], name: str) -> Fix:
    """The command of Docker that repairs a container; a start stops no work, a restart does."""
    undo = f"`docker stop {name}`" if verb == "start" else "a restart cannot be undone"
    return Fix(("docker", verb, name), safe=verb == "start", target=f"container:{name}", undo=undo)


def _out_of_memory(one: ExaminedContainer, image: tuple[str, ...]) -> Cause:
    """The kernel killed it, or a process of one that runs on."""
    container, name = one.container, one.name
    limit = (
        f"its limit is {gib(container.memory_limit_bytes)}"
        if container.memory_limit_bytes
        else "it has no limit"
    )
    again = "" if container.running else f", then `docker start {name}`"
    what = "a process in container" if container.running else "container"
    return Cause(
        "container-oom-killed",
        name,
        f"{what} {name} was killed for want of memory",
        (f"Docker says OOMKilled, exit code {container.exit_code}; {limit}", *image),
        f"give it more memory (`docker update --memory SIZE --memory-swap SIZE {name}`, or "
        f"`mem_limit` in its Compose file){again}",
        CHECK,
        status=Status.WARN if container.running else Status.FAIL,
        code="MODEL_003",
    )


def _stopped(one: ExaminedContainer, evidence: tuple[str, ...], status: Status) -> Cause:
    """It does not run. What people stopped, paused or labelled is theirs: no fix is offered for it."""
    assessment, name = one.assessment, one.name
    way = {
        ContainerState.PAUSED: "is paused",
        ContainerState.DEAD: "is dead",
        ContainerState.ENDED: "was stopped",
    }.get(assessment.state, "was never started" if one.container.started is None else "does not run")
    start = assessment.repair is ContainerRepair.START
    remedy = assessment.remedy or ""
    if start and one.container.exit_code:
        remedy = f"`docker logs --tail 50 {name}` tells why; {remedy}"
    return Cause(
        "container-stopped",
        name,
        f"container {name} {way}",
        evidence,
        remedy,
        CHECK,
        fix=_fix("start", name) if start else None,
        status=status,
    )


def _missing(evidence: Evidence) -> Iterator[Cause]:
    finding = evidence.finding("containers")
    if finding is None or finding.status is not Status.PASS:
        return
    names = {one.name for one in evidence.containers}
    if evidence.chosen("stack.containers"):
        for member, wanted in evidence.config.stack.containers.items():
            origin = evidence.origins.get(f"stack.containers.{member}")
            for name in wanted:
                if name not in names and origin is not None and origin.kind != "default":
                    yield _absent(name, f"`stack.containers.{member}` names it")
    for project in evidence.projects:
        there = {one.container.service for one in evidence.containers if one.project == project.name}
        if not there:
            continue
        for service in project.services:
            if service not in there:
                command = " ".join((*project.command, "up", "-d", "--no-recreate", service))
                yield Cause(
                    "container-missing",
                    f"{project.name}/{service}",
                    f"service {service} of {project.name} has no container",
                    ("its Compose file declares it, and others of the project are there",),
                    f"`{command}`",
                    CHECK,
                    status=Status.WARN,
                    code="DOCKER_002",
                )


def _absent(name: str, why: str) -> Cause:
    return Cause(
        "container-missing",
        name,
        f"there is no container {name}",
        (why,),
        "`docker compose up -d` creates the containers of the stack; `docker ps --all` lists those there are",
        CHECK,
        code="DOCKER_002",
    )
