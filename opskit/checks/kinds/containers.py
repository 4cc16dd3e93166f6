"""Kinds that ask Docker: docker_daemon, container, stack_containers."""

from collections.abc import Sequence
from typing import Any

from opskit.checks.container_assessment import (
    AssessedContainer,
    ContainerCondition,
    ContainerRules,
    assessed,
)
from opskit.checks.kinds.machine import NoParams
from opskit.checks.spec import CheckContext, NotHere, Observation, kind
from opskit.config.fields import Text, parameters
from opskit.config.schema import StackConfig
from opskit.facts.container_survey import read_compose_containers, read_containers, survey_containers
from opskit.facts.docker_daemon import read_docker_daemon
from opskit.facts.stack_containers import missing_containers, read_stack_containers
from opskit.text import listing

#: Of several containers of a service the worst counts.
_RANK = (
    ContainerCondition.WELL,
    ContainerCondition.UNCHECKED,
    ContainerCondition.WAITING,
    ContainerCondition.LEFT,
    ContainerCondition.SICK,
)
DOCKER = ("opskit.system.docker",)
#: Attributes of DockerDaemon, but for the error.
_DAEMON_YIELDS = {
    "answers": "whether it does",
    "version": "of the engine",
    "api_version": "of its API",
    "containers": "how many there are",
    "running": "how many run",
    "stopped": "how many do not",
    "images": "how many there are",
    "storage": "its storage driver",
    "memory_bytes": "memory of its machine",
    "cpus": "processors of its machine",
    "warnings": "what it complains of",
    "error": "DOCKER_001, DOCKER_003, or null",
    "seconds": "time to answer",
}
CONTAINER_YIELDS = {
    "exists": "whether there is one",
    "count": "how many of the service there are",
    "name": "its name",
    "state": "running, exited, restarting, paused, created, dead, missing",
    "health": "healthy, unhealthy, starting, unchecked (its check cannot run), or none without one",
    "health_output": "what its health check wrote last",
    "condition": "well, waiting, left (a person's doing), sick, unchecked or missing",
    "restarts": "how often Docker restarted it",
    "exit_code": "of its last end",
    "oom_killed": "whether it was killed for want of memory",
    "image": "its image",
    "up_s": "seconds since it was started, null when it does not run",
    "networks": "names of its networks",
    "variables": "names of its environment variables, without their values",
}


@kind(
    "Docker answers",
    _DAEMON_YIELDS,
    {"answers": True},
    lambda _: "docker",
    imports=DOCKER,
)
async def docker_daemon(_: NoParams, context: CheckContext) -> Observation:
    daemon = await context.survey.get(read_docker_daemon, not_before=context.not_before)
    if (error := daemon.error) is not None:
        # Here the daemon itself is in question: this is a failure, not a missing precondition.
        return Observation(
            {"answers": False, "error": error.code, "seconds": daemon.seconds},
            problem=error.message,
            state="down",
            code=error.code,
            remedy=error.remedy,
            settled=("answers",) if daemon.is_absent else (),
        )
    values = {name: getattr(daemon, name) for name in _DAEMON_YIELDS if name != "error"} | {"answers": True}
    detail = f"Docker {daemon.version}: {daemon.running} of {daemon.containers} containers run"
    return Observation(values, detail, state="ok")


@parameters
class ContainerParams:
    """By name (or id), or by compose service, with its project where there are several."""

    name: Text | None = None
    service: Text | None = None
    project: Text | None = None

    def __post_init__(self) -> None:
        if (self.name is None) == (self.service is None and self.project is None):
            raise ValueError("needs either name, or service (and project)")

    @property
    def shown(self) -> str:
        return self.name or "/".join(part for part in (self.project, self.service) if part)


@kind(
    "a container is well: it runs and is healthy, or has done its work; of several the worst counts",
    CONTAINER_YIELDS,
    {"condition": "well"},
    lambda p: str(p.shown),
    imports=DOCKER,
)
async def container(params: ContainerParams, context: CheckContext) -> Observation:
    docker = await context.survey.docker()
    if params.name is not None:
        containers = await read_containers(docker, [params.name])
    else:
        containers = await read_compose_containers(docker, params.project, params.service)
    if not containers:
        values = {"exists": False, "state": "missing", "count": 0, "condition": "missing"}
        remedy = "`docker ps --all` lists containers; `docker compose up -d` creates those of the stack"
        detail = "there is no such container"
        return Observation(values, detail, state="missing", code="DOCKER_002", remedy=remedy)
    config = context.survey.config
    survey = await survey_containers(docker, containers, config)
    judged = assessed(survey, ContainerRules.of(config.recovery))
    return observed_container(worst_of(judged), len(containers))


def worst_of(judged: Sequence[AssessedContainer]) -> AssessedContainer:
    """Return the container that counts where there are several. Pure."""
    return max(judged, key=lambda assessed: (_RANK.index(assessed.condition), not assessed.container.running))


def observed_container(worst: AssessedContainer, count: int) -> Observation:
    """What a check sees of a container: the worst of `count`. Pure."""
    container, assessment, restarts = worst.container, worst.assessment, worst.container.restarts
    parts = (worst.word, assessment.words, f"{restarts} restarts" if restarts else "")
    words, is_unchecked = ", ".join(filter(None, parts)), worst.condition is ContainerCondition.UNCHECKED
    return Observation(
        {**container_values(worst), "exists": True, "count": count},
        words,
        undecided=words if worst.condition is ContainerCondition.WAITING else "",
        unseen=frozenset({"health", "condition"} if is_unchecked else ()),
        state="unchecked" if is_unchecked else container.status,
        remedy=assessment.remedy or f"`docker logs --tail 50 {container.name}` tells why",
    )


def container_values(assessed_container: AssessedContainer) -> dict[str, Any]:
    """What a check may ask of one container; names of variables, never their values."""
    container, assessment = assessed_container.container, assessed_container.assessment
    return {
        "name": container.name,
        "state": container.status,
        "health": "unchecked"
        if assessed_container.condition is ContainerCondition.UNCHECKED
        else container.health or "none",
        "health_output": container.health_log[-1].output.strip() if container.health_log else "",
        "condition": assessed_container.condition.value,
        "restarts": container.restarts,
        "exit_code": container.exit_code,
        "oom_killed": container.oom_killed,
        "image": container.image,
        "up_s": assessment.age_s if container.running else None,
        "variables": sorted(container.variables),
        "networks": list(container.networks),
    }


@kind(
    "the containers of `stack.containers` and `stack.compose` are well; of several the worst counts",
    CONTAINER_YIELDS,
    {"condition": "well"},
    lambda _: "stack",
    timeout_s=30.0,
    imports=DOCKER,
)
async def stack_containers(_: NoParams, context: CheckContext) -> Observation:
    config, survey = context.survey.config, context.survey
    daemon = await survey.get(read_docker_daemon, not_before=context.not_before)
    is_wanted = bool(config.stack.compose) or config.stack.containers != StackConfig().containers
    if not daemon.answers and not is_wanted:
        raise NotHere(f"{daemon.problem}; nothing that is configured needs it")
    stack = await survey.get(read_stack_containers, not_before=context.not_before)
    judged = assessed(stack.survey, ContainerRules.of(config.recovery))
    own = [container for container in judged if container.container.id in stack.named]
    missing = missing_containers(stack.listed, config.stack)
    missing += [f"project {name}" for name in config.stack.compose if name not in stack.projects.values()]
    if missing:
        values = {"exists": False, "state": "missing", "condition": "missing", "count": len(own)}
        remedy = "`opskit doctor` tells what is missing, `opskit recover` starts the stack"
        detail = f"not there: {listing(missing)}"
        return Observation(values, detail, state="missing", code="DOCKER_002", remedy=remedy)
    if not own:
        raise NotHere("no container of the stack is there, and none is configured")
    return observed_container(worst_of(own), len(own))
