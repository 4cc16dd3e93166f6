"""The containers that belong to the stack, and those that have its addresses in their variables."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from opskit.errors import OpskitError
from opskit.facts.compose_project import compose_files
from opskit.facts.container import Container
from opskit.facts.container_survey import ContainerSurvey, read_containers, survey_containers
from opskit.facts.survey import Survey
from opskit.system.docker_records import PROJECT

_FILES = "com.docker.compose.project.config_files"
_FOLDER = "com.docker.compose.project.working_dir"
#: Containers that nothing puts in the stack are looked into for their variables, but not by hundreds.
_MAX_STRANGERS = 100
_NAMES_S = 2.0
#: Variables that make a container a client of the model servers (SPEC B7).
_ADDRESSES = ("OLLAMA_API_URL", "OLLAMA_BASE_URL", "MLX_API_URL", "VICTORIA_URL", "VERONICA_URL")


@dataclass(frozen=True, slots=True, kw_only=True)
class StackContainers:
    """`named` are ids that a name or a label puts in the stack, `projects` the Compose projects of these ids.

    A project has its name in the configuration.
    """

    survey: ContainerSurvey
    named: frozenset[str]
    projects: Mapping[str, str]


async def read_stack_containers(survey: Survey) -> StackContainers:
    """Read the containers of the stack, and those that know its addresses. Raises OpskitError DOCKER_*."""
    config, docker = survey.config, await survey.docker()
    names = {name for listed in config.stack.containers.values() for name in listed}
    files = compose_files(config)
    listed = await docker.containers()
    projects = {
        container.id: project
        for container in listed
        if (project := project_of(container.labels, files)) is not None
    }
    named = [container.id for container in listed if container.name in names or container.id in projects]
    strangers = [
        container.id
        for container in listed
        if container.id not in named and container.state in ("running", "restarting")
    ]
    containers = await read_containers(docker, [*named, *strangers[:_MAX_STRANGERS]])
    chosen = [
        container
        for container in containers
        if not container.one_off and (container.id in named or _has_addresses(container))
    ]
    return StackContainers(
        survey=await survey_containers(docker, chosen, config), named=frozenset(named), projects=projects
    )


async def read_container_names(environ: Mapping[str, str]) -> list[str]:
    """Return the names of all containers and of their services; none where Docker does not answer at once."""
    from opskit.system.docker import Docker

    async with Docker(environ, timeout_s=_NAMES_S) as docker:
        try:
            listed = await docker.containers()
        except OpskitError:
            return []
    names = [f"container:{container.name}" for container in listed]
    return [*names, *sorted({container.service for container in listed if container.service})]


def project_of(labels: Mapping[str, str], files: Mapping[str, Iterable[Path]]) -> str | None:
    """Return the configured project that a container belongs to, by its files, else by its name. Pure."""
    name = labels.get(PROJECT)
    if name is None:
        return None
    folder = Path(labels.get(_FOLDER) or "/")
    own = {str(folder / part.strip()) for part in (labels.get(_FILES) or "").split(",") if part.strip()}
    for project, paths in files.items():
        if own & {str(path) for path in paths}:
            return project
    return name if name in files and not own else None


def _has_addresses(container: Container) -> bool:
    return any(container.variables.get(name, "").strip() for name in _ADDRESSES)
