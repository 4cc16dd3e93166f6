"""Containers of the stack: killed, restarting, ended, missing, unhealthy."""

from collections.abc import Iterator

from opskit.doctor.areas.docker import ROOTS
from opskit.doctor.cause import Cause, Fix, key_of
from opskit.doctor.evidence import ContainerFacts, Evidence
from opskit.llm.fit import gib
from opskit.result import Status

CHECK = frozenset({"containers are well"})
#: How a process ends that was asked to: nothing of its own went wrong.
_ASKED = (0, 130, 137, 143)


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
             "container-unhealthy")  # fmt: skip
    return (*(ROOTS if names else ()), *(key_of(kind, name) for kind in kinds for name in names))


def _of(one: ContainerFacts) -> Cause | None:
    log = f"`docker logs --tail 50 {one.name}` tells why"
    told = [f"image {one.image}"] if one.image else []
    if one.oom_killed:
        limit = f"its limit is {gib(one.memory_limit_bytes)}" if one.memory_limit_bytes else "it has no limit"
        return Cause(
            "container-oom-killed",
            one.name,
            f"container {one.name} was killed for want of memory",
            (f"Docker says OOMKilled, exit code {one.exit_code}; {limit}", *told),
            f"give it more memory (`docker update --memory SIZE --memory-swap SIZE {one.name}`, or "
            f"`mem_limit` in its Compose file), then `docker start {one.name}`",
            CHECK,
            code="MODEL_003",
        )
    if one.loops:
        return Cause(
            "container-restarting",
            one.name,
            f"container {one.name} keeps restarting",
            (f"{one.restarts} restarts by Docker, last exit code {one.exit_code}", *told),
            f"{log}; `docker stop {one.name}` ends the loop",
            CHECK,
        )
    if one.state in ("exited", "dead", "paused") and one.of_stack:
        return _ended(one, told, log)
    if one.state == "running" and one.health_fault is not None:
        return Cause(
            "health-check-broken",
            one.name,
            f"the health check of container {one.name} cannot run",
            (one.health_fault.detail, "so Docker calls it unhealthy, and nobody knows how it is", *told),
            one.health_remedy,
            CHECK,
            status=Status.WARN,
        )
    if one.state == "running" and one.health == "unhealthy":
        said = f": {one.health_output}" if one.health_output else ""
        return Cause(
            "container-unhealthy",
            one.name,
            f"container {one.name} is unhealthy",
            (f"its health check fails{said}", *told),
            f"{log}; then `docker restart {one.name}`",
            CHECK,
            fix=Fix(("docker", "restart", one.name), target=f"container:{one.name}"),
        )
    return None


def _ended(one: ContainerFacts, told: list[str], log: str) -> Cause | None:
    if one.state == "paused":
        command = ("docker", "unpause", one.name)
        return Cause(
            "container-stopped",
            one.name,
            f"container {one.name} is paused",
            tuple(told) or ("Docker says so",),
            f"`docker unpause {one.name}`",
            CHECK,
            fix=Fix(command, safe=True),
        )
    if one.exit_code == 0 and not one.kept_up:
        return None
    # Somebody stopped it; a doctor says so, and starts it only when told to.
    asked = one.exit_code in _ASKED
    way = "was stopped" if asked else f"ended with exit code {one.exit_code}"
    return Cause(
        "container-stopped",
        one.name,
        f"container {one.name} {way}",
        tuple(told) or ("Docker says so",),
        f"`docker start {one.name}`" if asked else f"{log}; `docker start {one.name}` starts it again",
        CHECK,
        fix=Fix(("docker", "start", one.name), safe=True),
        status=Status.WARN if asked else Status.FAIL,
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
        there = {one.service for one in evidence.containers if one.project == project.name}
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
