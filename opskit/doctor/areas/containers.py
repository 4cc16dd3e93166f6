"""Containers of the stack that are not well, as they were assessed: what it means, and what ends it."""

import asyncio
from collections.abc import Iterator, Sequence
from functools import partial
from typing import Literal

from opskit.checks.container_assessment import ContainerCondition, ContainerRepair, ContainerState
from opskit.checks.project_assessment import other_files
from opskit.checks.spec import Check, CheckContext, NotHere, Observation, assessing
from opskit.doctor.areas.docker import IMPORTS, ROOTS
from opskit.doctor.cause import Cause, Fix, key_of, warning
from opskit.doctor.evidence import Evidence, ExaminedContainer, examined_containers
from opskit.doctor.target import ExaminationTarget
from opskit.explain.search import system_explanation
from opskit.facts.container_survey import read_last_words
from opskit.facts.stack_containers import read_service_obstacles, read_stack_containers
from opskit.llm.fit import gib
from opskit.records import replace
from opskit.result import Status
from opskit.system.host import is_loopback
from opskit.system.network import endpoint
from opskit.text import counted, listing, shortened

_CLAIMS = frozenset({"containers are well"})
_WORDS_CHARS = 240
_AT_ONCE_S = 1.0
_LOST_NETWORK = (ContainerState.CUT_OFF, ContainerState.ORPHANED)
#: The causes for which a node or an agent in a container does not answer.
_SILENCING = ("container-oom-killed", "container-restarting", "container-stopped", "container-missing",
              "container-unhealthy", "container-network-lost")  # fmt: skip


def checks(target: ExaminationTarget) -> Iterator[Check]:
    check = partial(assessing, "containers", target="containers", tags=("docker",), imports=IMPORTS)
    yield check(_containers, None, name="containers", requires=("docker",), timeout_s=15.0)
    yield check(_well, target, name="containers are well", requires=("containers",))


async def _containers(_: None, context: CheckContext) -> Observation:
    stack = await context.survey.get(read_stack_containers)
    for name in context.survey.config.stack.compose:
        await context.survey.get(read_service_obstacles, name)
    count = len(stack.named | stack.clients)
    return Observation({}, f"{counted(count, 'container')} of the stack", state="ok")


async def _well(target: ExaminationTarget, context: CheckContext) -> Observation:
    survey = context.survey
    examined = examined_containers(await survey.get(read_stack_containers), target.config)
    await asyncio.gather(*(survey.get(read_last_words, *log) for item in examined for log in _log_of(item)))
    return observed_conditions(examined)


def _log_of(examined: ExaminedContainer) -> Iterator[tuple[str, float | None]]:
    """Yield where the log of a container that ended by itself is read: its id, and from when on."""
    container, state = examined.container, examined.assessment.state
    if state is ContainerState.LOOPING:
        yield container.id, None
    elif state is ContainerState.DOWN and container.exit_code and container.started is not None:
        # Of one that ends at once Docker notes the start after what it wrote, and even after its end.
        yield container.id, container.started.timestamp() - _AT_ONCE_S


def observed_conditions(containers: Sequence[ExaminedContainer]) -> Observation:
    """Tell whether the containers of the stack are well. Raises NotHere where there are none. Pure."""
    if not containers:
        raise NotHere("no container belongs to the stack")
    conditions = {examined.name: examined.assessment.condition for examined in containers}
    evidence = {"conditions": {name: condition.value for name, condition in conditions.items()}}
    bad = (ContainerCondition.SICK, ContainerCondition.LEFT)
    if sick := [name for name, condition in conditions.items() if condition in bad]:
        return Observation({}, problem=f"not well: {', '.join(sick)}", state="failing", evidence=evidence)
    unchecked = [
        f"{examined.name}: {examined.assessment.detail}"
        for examined in containers
        if examined.assessment.condition is ContainerCondition.UNCHECKED
    ]
    if unchecked:
        why = "; ".join(unchecked)
        return Observation({}, problem=why, undecided=why, state="unchecked", evidence=evidence)
    waiting = [name for name, condition in conditions.items() if condition is ContainerCondition.WAITING]
    well = f", {', '.join(waiting)} on the way" if waiting else ", all well"
    detail = f"{counted(len(containers), 'container')}{well}"
    return Observation({}, detail, state="ok", evidence=evidence)


def causes(evidence: Evidence) -> Iterator[Cause]:
    for container in evidence.containers:
        cause = _of(container, evidence)
        if cause is not None:
            half_restored = evidence.half_restored(container.container.compose_files)
            if half_restored:
                cause = replace(cause, fix=None)
            yield replace(cause, because=(*half_restored, *_of_needs(container, evidence)))
    finding = evidence.finding("containers")
    if finding is not None and finding.status is Status.PASS:
        yield from _missing_containers(evidence)
        yield from _missing_services(evidence)


def names_of_member(evidence: Evidence, name: str) -> set[str]:
    """Return the containers of a node or an agent: the configured ones, and all that publish its port."""
    ports = {
        endpoint(url)[1]
        for url in (member.url for member in evidence.target.members if member.name == name)
        if is_loopback(url)
    }
    return set(evidence.config.stack.containers.get(name, ())) | {
        examined.name
        for examined in evidence.containers
        if any(binding.host_port in ports for binding in examined.container.bindings)
    }


def of_member(evidence: Evidence, name: str) -> tuple[str, ...]:
    """Return keys of the causes, of Docker and containers, that may be behind a silent node or agent."""
    names = sorted(names_of_member(evidence, name))
    return (*(ROOTS if names else ()), *(key_of(kind, name) for kind in _SILENCING for name in names))


def _of(examined: ExaminedContainer, evidence: Evidence) -> Cause | None:
    container, assessment, name = examined.container, examined.assessment, examined.name
    image = (f"image {container.image}",) if container.image else ()
    words = evidence.last_words.get(container.id, "")
    known = system_explanation(words or assessment.detail, NAME=name, IMAGE=container.image)
    if words:
        image = (f"its log says: {shortened(evidence.target.mask(words), _WORDS_CHARS)}", *image)
    if container.oom_killed:
        return _out_of_memory(examined, image)
    if assessment.condition in (ContainerCondition.WELL, ContainerCondition.WAITING):
        return None
    base = Cause(
        id="container-stopped",
        target=name,
        title="",
        evidence=(assessment.words, *image),
        remedy=assessment.remedy or "",
        claims=_CLAIMS,
        status=Status.WARN if assessment.condition is ContainerCondition.LEFT else Status.FAIL,
    )
    log = f"`docker logs --tail 50 {name}` tells why" if known is None else known.remedy
    restart = _fix("restart", name) if assessment.repair is ContainerRepair.RESTART else None
    match assessment.state:
        case ContainerState.UNCHECKED:
            return replace(
                base,
                id="health-check-broken",
                title=f"the health check of container {name} cannot run",
                evidence=(
                    assessment.detail,
                    "so Docker calls it unhealthy, and nobody knows how it is",
                    *image,
                ),
                status=Status.WARN,
            )
        case ContainerState.LOOPING:
            # Between two ends Docker tells 0: the code of the last one is not known then.
            code = "" if container.running else f", last exit code {container.exit_code}"
            restarts = f"{container.restarts} restarts by Docker{code}"
            return replace(
                base,
                id="container-restarting",
                title=f"container {name} keeps restarting",
                evidence=(restarts, *image),
                remedy=f"{log}; `docker stop {name}` ends the loop",
                status=Status.FAIL,
            )
        case ContainerState.UNHEALTHY:
            title, remedy = f"container {name} is unhealthy", f"{log}; then {assessment.remedy}"
            remedy = remedy if restart is not None else base.remedy
            return replace(base, id="container-unhealthy", title=title, remedy=remedy, fix=restart)
        case state if state in _LOST_NETWORK and container.running:
            title = f"container {name} has lost its network"
            return replace(base, id="container-network-lost", title=title, fix=restart)
    if not examined.of_stack:
        return None
    stopped = _stopped(base, examined, log)
    # What the words of its end tell of is there still when it is started again.
    return stopped if known is None else replace(stopped, fix=None)


def _of_needs(examined: ExaminedContainer, evidence: Evidence) -> Iterator[str]:
    """Yield keys of the causes of containers that a container needs, the nearest first."""
    container, project = examined.container, examined.project
    declared = [facts.project for facts in evidence.projects if facts.name == project and facts.project]
    needs = [container.service or "", *container.depends_on]
    for name in needs:
        services = [plan.services[name] for plan in declared if name in plan.services]
        needs += [need for service in services for need in service.needs if need not in needs]
    for need in needs[1:]:
        peers = [peer for peer in evidence.containers if project is not None and peer.project == project]
        names = [peer.name for peer in peers if peer.container.service == need]
        yield from (key_of(kind, name) for name in names for kind in _SILENCING)


def _fix(verb: Literal["start", "restart"], name: str) -> Fix:
    """Return the command of Docker that repairs a container; a start stops no work, a restart does."""
    undo = f"`docker stop {name}`" if verb == "start" else "a restart cannot be undone"
    return Fix(("docker", verb, name), safe=verb == "start", target=f"container:{name}", undo=undo)


def _out_of_memory(examined: ExaminedContainer, image: tuple[str, ...]) -> Cause:
    """The kernel killed it, or a process of one that runs on."""
    container, name = examined.container, examined.name
    limit_bytes = container.memory_limit_bytes
    limit = f"its limit is {gib(limit_bytes)}" if limit_bytes else "it has no limit"
    start = "" if container.running else f", then `docker start {name}`"
    what = "a process in container" if container.running else "container"
    return Cause(
        id="container-oom-killed",
        target=name,
        title=f"{what} {name} was killed for want of memory",
        evidence=(f"Docker says OOMKilled, exit code {container.exit_code}; {limit}", *image),
        remedy=f"give it more memory (`docker update --memory SIZE --memory-swap SIZE {name}`, or "
        f"`mem_limit` in its Compose file){start}",
        claims=_CLAIMS,
        status=Status.WARN if container.running else Status.FAIL,
    )


def _stopped(base: Cause, examined: ExaminedContainer, log: str) -> Cause:
    """It does not run. What people stopped, paused or labelled is theirs: no fix is offered for it."""
    assessment, name = examined.assessment, examined.name
    way = {
        ContainerState.PAUSED: "is paused",
        ContainerState.DEAD: "is dead",
        ContainerState.ENDED: "was stopped",
    }.get(assessment.state, "was never started" if examined.container.started is None else "does not run")
    title = f"container {name} {way}"
    if assessment.repair is not ContainerRepair.START:
        return replace(base, title=title)
    remedy = f"{log}; {base.remedy}" if examined.container.exit_code else base.remedy
    if examined.container.error and assessment.obstacle is None:
        # Docker could not start it: its log has nothing, and unless the machine has changed it cannot now.
        where = (
            "its Compose file, then `docker compose up -d`" if examined.container.service else "its options"
        )
        remedy = f"correct that in {where}; if it has passed, {base.remedy}"
    return replace(base, title=title, remedy=remedy, fix=_fix("start", name))


def _missing_containers(evidence: Evidence) -> Iterator[Cause]:
    """The containers that a person named and that Docker does not know."""
    names = {container.name for container in evidence.containers}
    for member, wanted in evidence.config.stack.containers.items():
        if not evidence.target.chosen(f"stack.containers.{member}"):
            continue
        for name in wanted:
            if name not in names:
                yield Cause(
                    id="container-missing",
                    target=name,
                    title=f"there is no container {name}",
                    evidence=(f"`stack.containers.{member}` names it",),
                    remedy="`docker compose up -d` creates the containers of the stack; `docker ps --all` "
                    "lists those there are",
                    claims=_CLAIMS,
                )


def _missing_services(evidence: Evidence) -> Iterator[Cause]:
    """The services without a container; a project that has none at all is one cause."""
    for project in evidence.projects:
        containers = [
            examined.container for examined in evidence.containers if examined.project == project.name
        ]
        services = {container.service for container in containers}
        obstacles = evidence.service_obstacles.get(project.name, {})
        if project.unknown or project.has_no_program:
            continue
        if project.services and not services:
            moved, obstacle = evidence.moved.get(project.name), next(iter(obstacles.values()), None)
            remedy = f"`{' '.join((*project.command, 'up', '-d'))}`"
            facts = [f"`stack.compose` names it: {listing(project.services)}"]
            if moved is not None:
                facts, remedy = [moved.detail], moved.remedy
            elif obstacle is not None:
                facts, remedy = [*facts, obstacle.detail], f"{obstacle.remedy}, then {remedy}"
            yield warning(
                id="container-missing",
                target=project.name,
                title=f"no service of {project.name} has a container",
                evidence=tuple(facts),
                remedy=remedy,
                claims=_CLAIMS,
            )
            continue
        other = other_files(containers, project.files)
        for service in project.services:
            if service not in services:
                command = " ".join((*project.command, "up", "-d", "--no-recreate", service))
                obstacle, remedy = obstacles.get(service), f"`{command}`"
                why = "its Compose file declares it, and others of the project are there"
                if other:
                    files = f"`stack.compose.{project.name}`"
                    why, remedy = other, f"name in {files} the files that the project is started from"
                elif obstacle is not None:
                    why, remedy = obstacle.detail, f"{obstacle.remedy}, then {remedy}"
                yield warning(
                    id="container-missing",
                    target=f"{project.name}/{service}",
                    title=f"service {service} of {project.name} has no container",
                    evidence=(why,),
                    remedy=remedy,
                    claims=_CLAIMS,
                    because=evidence.half_restored(project.files),
                )
