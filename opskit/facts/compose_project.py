"""A Compose project of the configuration, as Compose itself reads its files. No daemon is needed."""

import re
from dataclasses import dataclass, replace
from pathlib import Path

from opskit.config.schema import Config
from opskit.facts.survey import Survey


@dataclass(frozen=True, slots=True, kw_only=True)
class ComposeFacts:
    """What Compose says of one project. `problem` is why it cannot use the files, `unset` are variables.

    `name` is that of the configuration. `command` is what a person types for this project; empty where there
    is no Compose (`has_no_program`).
    """

    name: str
    files: tuple[Path, ...]
    has_no_program: bool = False
    problem: str = ""
    services: tuple[str, ...] = ()
    unset: tuple[str, ...] = ()
    command: tuple[str, ...] = ()


async def read_compose_project(survey: Survey, name: str) -> ComposeFacts:
    """Ask Compose for the services of a project of the configuration. Never raises for what its files are."""
    from opskit.system.compose import find
    from opskit.system.program import NotStarted

    files = compose_files(survey.config)[name]
    project = ComposeFacts(name=name, files=files)
    lost = [str(path) for path in files if not path.is_file()]
    if lost:
        return replace(project, problem=f"there is no file {', '.join(lost)}")
    try:
        compose = await find(files, env=survey.environ)
    except NotStarted as error:
        return replace(project, has_no_program=True, problem=error.message)
    result = await compose("config", "--services")
    project = replace(project, command=compose.command, unset=unset_variables(result.err))
    if result.exit:
        return replace(project, problem=result.complaint)
    return replace(project, services=tuple(sorted(result.out.split())))


def compose_files(config: Config) -> dict[str, tuple[Path, ...]]:
    """Return the files of the Compose projects of the configuration, absolute, by project. Pure."""
    return {
        name: tuple(config.located(path).absolute() for path in files)
        for name, files in config.stack.compose.items()
    }


def unset_variables(complaints: str) -> tuple[str, ...]:
    """Return names out of Compose's warnings: version 1 writes them bare, version 2 in quotes. Pure."""
    names = re.findall(r"[Tt]he \\?\"?([A-Za-z_][A-Za-z0-9_]*)\\?\"? variable is not set", complaints)
    return tuple(dict.fromkeys(names))
