"""A Compose project that a procedure takes down or brings up: its program, files, name and services."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from opskit.errors import OpskitError
from opskit.facts.container import Container
from opskit.recovery.context import RecoveryContext
from opskit.recovery.step import Command, TargetObservation
from opskit.recovery.steps.declared import declared, sources
from opskit.system.compose import Compose, Project, find
from opskit.system.program import NotStarted


@dataclass(frozen=True, slots=True)
class ComposeProject:
    """`key` is the name in the configuration, None for a project that was found by its containers' labels."""

    compose: Compose
    name: str
    key: str | None = None
    project: Project | None = None

    def command(self, *arguments: str, timeout_s: float) -> Command:
        return Command((*self.compose.command, *arguments), timeout_s, cwd=str(self.compose.folder))

    @property
    def up(self) -> tuple[str, ...]:
        """`up` that neither builds nor pulls; version 1 has no switch for pulls."""
        never = ("--pull", "never") if self.compose.modern else ()
        return ("up", "-d", "--no-build", *never)

    @property
    def shown(self) -> str:
        """The command line without its verb, for advice."""
        return Command(self.compose.command).shown


async def configured(ground: RecoveryContext, key: str) -> ComposeProject:
    """A project of `stack.compose`. Raises OpskitError RECOVER_004 when its files cannot be used."""
    found = await sources(ground, key)
    if isinstance(found, TargetObservation):
        raise _unusable(key, found)
    project = await declared(ground, key, found)
    if isinstance(project, TargetObservation):
        raise _unusable(key, project)
    compose = await _found(ground, found.files, None)
    return ComposeProject(compose, project.name, key, project)


async def labelled(ground: RecoveryContext, container: Container, project: str) -> ComposeProject:
    """The project that made a container, by what Compose wrote on it. Raises OpskitError RECOVER_004."""
    folder = Path(container.folder or "/")
    files = [folder / file for file in container.config_files]
    gone = [str(one) for one in files if not one.is_file()]
    if not files or gone:
        what = f"{gone[0]} is not there" if gone else "its label names none"
        raise OpskitError("RECOVER_004", f"the Compose files of project {project} are not known: {what}")
    compose = await _found(ground, files, project)
    if container.env_file:
        with_file = (*compose.command, "--env-file", container.env_file)
        compose = replace(compose, command=with_file)
    return ComposeProject(compose, project)


async def _found(ground: RecoveryContext, files: Sequence[Path], project: str | None) -> Compose:
    try:
        return await find(files, project=project, env=ground.environ)
    except NotStarted as error:
        raise OpskitError("RECOVER_004", error.message, remedy=error.remedy) from error


def _unusable(key: str, seen: TargetObservation) -> OpskitError:
    return OpskitError("RECOVER_004", f"Compose project {key}: {seen.cause}", remedy=seen.remedy)
