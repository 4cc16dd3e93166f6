"""Looks at containers: those of the stack, and those that have its addresses in their variables."""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from opskit.checks.container_assessment import ContainerCondition, ContainerRules, assessed
from opskit.checks.kinds.containers import DOCKER
from opskit.checks.spec import Check, CheckContext, NotHere, Observation
from opskit.doctor.cause import counted
from opskit.doctor.evidence import ExaminedContainer
from opskit.doctor.looks.board import FactBoard, check
from opskit.facts.container import Container
from opskit.facts.container_survey import read_containers, survey_containers
from opskit.facts.environment import known
from opskit.system.docker_records import PROJECT

_FILES = "com.docker.compose.project.config_files"
_FOLDER = "com.docker.compose.project.working_dir"
#: Containers that nothing puts in the stack are looked into for their variables, but not by hundreds.
_MOST_STRANGERS = 100


def containers(board: FactBoard, projects: Mapping[str, tuple[Path, ...]]) -> Check:
    """The containers of the stack, and any other that runs and has the stack's addresses in its variables."""

    async def look(scene: CheckContext) -> Observation:
        config = scene.around.config
        door = await scene.around.docker()
        names = {name for listed in config.stack.containers.values() for name in listed}
        listed = await door.containers()
        ours = [one for one in listed if one.name in names or _project(one.labels, projects)]
        strangers = [one for one in listed if one not in ours and one.state in ("running", "restarting")]
        chosen = [*ours, *strangers[:_MOST_STRANGERS]]
        containers = [
            one for one in await read_containers(door, [one.id for one in chosen]) if not one.one_off
        ]
        of_stack = {one.name for one in ours}
        judged = [one for one in containers if one.name in of_stack or _speaks(one)]
        survey = await survey_containers(door, judged, config)
        board.containers = tuple(
            ExaminedContainer(
                replace(one.container, variables={}),
                one.assessment,
                _project_of(one.container, projects),
                known(one.container.variables),
                one.container.name in of_stack,
            )
            for one in assessed(survey, ContainerRules.of(config.recovery))
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


def health(board: FactBoard) -> Check:
    """Whether those containers are well."""

    async def look(scene: CheckContext) -> Observation:
        del scene
        if not board.containers:
            raise NotHere("no container belongs to the stack")
        conditions = {one.name: one.assessment.condition for one in board.containers}
        evidence = {"conditions": {name: condition.value for name, condition in conditions.items()}}
        bad = (ContainerCondition.SICK, ContainerCondition.LEFT)
        if sick := [name for name, condition in conditions.items() if condition in bad]:
            return Observation({}, problem=f"not well: {', '.join(sick)}", state="failing", evidence=evidence)
        unchecked = [
            f"{one.name}: {one.assessment.detail}"
            for one in board.containers
            if one.assessment.condition is ContainerCondition.UNCHECKED
        ]
        if unchecked:
            why = "; ".join(unchecked)
            return Observation({}, problem=why, undecided=why, state="unchecked", evidence=evidence)
        waiting = [name for name, condition in conditions.items() if condition is ContainerCondition.WAITING]
        well = f", {', '.join(waiting)} on the way" if waiting else ", all well"
        detail = f"{counted(len(board.containers), 'container')}{well}"
        return Observation({}, detail, state="ok", evidence=evidence)

    return check("containers are well", look, area="docker", target="containers", requires=("containers",))


def _speaks(container: Container) -> bool:
    """Whether it has the stack's addresses in its variables: a client of the model servers (SPEC B7)."""
    names = ("OLLAMA_API_URL", "OLLAMA_BASE_URL", "MLX_API_URL", "VICTORIA_URL", "VERONICA_URL")
    return any(container.variables.get(name, "").strip() for name in names)


def _project_of(container: Container, projects: Mapping[str, tuple[Path, ...]]) -> str | None:
    labels = {
        PROJECT: container.project or "",
        _FOLDER: container.folder or "",
        _FILES: ",".join(container.config_files),
    }
    return _project({name: value for name, value in labels.items() if value}, projects)


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
