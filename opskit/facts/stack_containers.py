"""The containers that belong to the stack, by one rule for every command, and the clients of its servers."""

import asyncio
import re
import shlex
from collections.abc import Collection, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from opskit.config.schema import StackConfig
from opskit.errors import OpskitError
from opskit.facts.compose_project import ComposeFacts, read_compose_project, stack_files
from opskit.facts.container import Container, StartObstacle, compose_files_of, container, real_files
from opskit.facts.container_survey import ContainerSurvey, survey_containers
from opskit.facts.environment import addresses_in
from opskit.facts.start_obstacles import (
    read_project_obstacle,
    read_service_obstacle,
    read_start_obstacles,
)
from opskit.facts.survey import Survey
from opskit.records import Record, replace
from opskit.system.docker_records import PROJECT, ListedContainer
from opskit.system.network import endpoint

#: Containers that nothing puts in the stack are looked into for their addresses, but not by hundreds.
_MAX_STRANGERS = 100
_NAMES_S = 2.0
#: Variables that make a container a client of the model servers (SPEC B7).
_ADDRESSES = ("OLLAMA_API_URL", "OLLAMA_BASE_URL", "MLX_API_URL", "VICTORIA_URL", "VERONICA_URL")


class StackContainers(Record, kw_only=True):
    """`listed` are all that there are, `survey` the stack's own and others with its addresses.

    `named` are ids that a name or a label puts in the stack, `projects` the Compose projects of these ids: by
    the name of the configuration, where that knows them. `clients` are ids of others that use its servers.
    `documents` is what `docker inspect` says of each that was read, by id.
    """

    listed: tuple[ListedContainer, ...]
    survey: ContainerSurvey
    named: frozenset[str]
    clients: frozenset[str]
    projects: Mapping[str, str]
    documents: Mapping[str, Mapping[str, Any]]

    @property
    def members(self) -> list[Container]:
        """The containers of the stack: all, where nobody has said which ones these are."""
        return [member for member in self.survey.containers if not self.named or member.id in self.named]


async def read_stack_containers(survey: Survey) -> StackContainers:
    """Read the containers of the stack, and others that know its addresses. Raises OpskitError DOCKER_*."""
    config, docker = survey.config, await survey.docker()
    urls = [*(node.url for node in config.nodes), *(agent.url for agent in config.agents)]
    ports = {endpoint(url)[1] for url in urls}
    names = {name for group in config.stack.containers.values() for name in group}
    listed = await docker.containers()
    files = stack_files(config, survey.cwd)
    projects = stack_projects(listed, files, names)
    named = {member.id for member in listed if member.name in names or member.id in projects}
    strangers = [
        member.id for member in listed if member.id not in named and member.state in ("running", "restarting")
    ]
    wanted = [*named, *strangers[:_MAX_STRANGERS]] if named else [member.id for member in listed]
    inspected = await asyncio.gather(*map(docker.named, wanted))
    documents = {str(document["Id"]): document for document in inspected if document is not None}
    read = sorted(map(container, documents.values()), key=lambda member: member.name)
    stopped = {projects.get(member.id) for member in read if not member.running and member.name not in names}
    declared = await asyncio.gather(
        *(survey.get(read_compose_project, key) for key in files if key in stopped)
    )
    wishes = {facts.name: facts for facts in declared if facts.project and not facts.unknown}
    read = [_with_wish(member, wishes.get(projects.get(member.id, "")), names) for member in read]
    clients = {
        member.id
        for member in read
        if member.id in strangers and not member.one_off and _has_addresses(member, ports)
    }
    chosen = [member for member in read if not named or member.id in named | clients]
    return StackContainers(
        listed=tuple(listed),
        survey=await survey_containers(
            docker, chosen, config, obstacles=await read_start_obstacles(survey, chosen)
        ),
        named=frozenset(named),
        clients=frozenset(clients),
        projects=projects,
        documents=documents,
    )


async def read_service_obstacles(survey: Survey, name: str) -> dict[str, StartObstacle]:
    """Read what keeps services of a project that have no container from one. Raises OpskitError DOCKER_*."""
    facts, stack = await survey.get(read_compose_project, name), await survey.get(read_stack_containers)
    members = [member for member in stack.survey.containers if stack.projects.get(member.id) == name]
    made = {member.service for member in members}
    missing = [service for service in facts.services if service not in made]
    if facts.project is None or facts.unknown or not missing:
        return {}
    others = [
        await survey.get(read_compose_project, key) for key in survey.config.stack.compose if key != name
    ]
    makers = {own: other.name for other in others if other.project for own in other.project.own_networks}
    if (obstacle := await read_project_obstacle(survey, facts.project, makers=makers)) is not None:
        return dict.fromkeys(missing, obstacle)
    compose, obstacles = shlex.join(facts.command), {}
    for service in map(facts.project.services.__getitem__, missing):
        obstacle = await read_service_obstacle(survey, service, compose, is_made=False, mounts=bool(made))
        if obstacle is not None:
            obstacles[service.name] = obstacle
    return obstacles


def missing_containers(listed: Sequence[ListedContainer], stack: StackConfig) -> list[str]:
    """Return the containers that a person named and that do not exist; the defaults name nobody. Pure."""
    usual = StackConfig().containers
    groups = [group for member, group in stack.containers.items() if usual.get(member) != group]
    names = {container.name for container in listed}
    return [name for group in groups for name in group if name not in names]


def _with_wish(member: Container, facts: ComposeFacts | None, names: Collection[str]) -> Container:
    """Add whether the files of its project, where these were read, want a container of its service."""
    project = None if facts is None else facts.project
    if facts is None or project is None or member.name in names or member.service in project.services:
        return member
    is_optional = member.service in project.optional or not real_files(member.compose_files) <= real_files(
        facts.files
    )
    return replace(member, wanted=False, optional=is_optional)


def stack_projects(
    listed: Sequence[ListedContainer], files: Mapping[str, Iterable[Path]], names: Collection[str]
) -> dict[str, str]:
    """Return the projects of the containers that belong to the stack by a project, by their ids. Pure.

    These are the projects of the configuration, and that of each container in `names`.
    """
    known = {member.project for member in listed if member.name in names and member.project}
    projects = {member.id: project_of(member.labels, files) for member in listed}
    return {
        member.id: projects[member.id] or member.project or ""
        for member in listed
        if projects[member.id] is not None or member.project in known
    }


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
    """Return the configured project that a container belongs to, by its files, else by its name."""
    name = labels.get(PROJECT)
    if name is None:
        return None
    own = real_files(compose_files_of(labels))
    for project, paths in files.items():
        # Compose writes the name of a project so into its labels.
        written = re.sub(r"[^-_a-z0-9]", "", project.lower())
        if own & real_files(paths) or (not own and written == name):
            return project
    return None


def _has_addresses(member: Container, ports: Collection[int]) -> bool:
    """Tell whether a container is a client of the stack, by its variables or its command."""
    if any(member.variables.get(name, "").strip() for name in _ADDRESSES):
        return True
    texts = (*member.variables.values(), " ".join(member.arguments))
    return any(address.port in ports for text in texts for address in addresses_in(text))
