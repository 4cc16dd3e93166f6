"""A Compose project of the configuration, as Compose itself reads its files. No daemon is needed."""

import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from opskit.config.schema import Config

if TYPE_CHECKING:
    from opskit.facts.survey import Survey

_VARIABLE = re.compile(r"\$(?:(\w+)|\{(\w+)(?::?-([^}]*))?\})")


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


async def read_compose_project(survey: "Survey", name: str) -> ComposeFacts:
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


def project_files(files: Sequence[Path], environ: Mapping[str, str]) -> tuple[Path, ...]:
    """Return the files that a project is made of: its own, what they name, and the `.env` beside each.

    They name environment files, includes, bases, secrets. What is only named and is not there is left out; a
    name that holds a variable without a value is kept as it is, with its `$`.
    """
    if not files:
        return ()
    dotenv = files[0].parent / ".env"
    values = {**_values(dotenv), **environ}
    # Paths in the project's own files belong to the folder of the first, in others to their own.
    folders = dict.fromkeys((*files, *([dotenv] if dotenv.is_file() else [])), dotenv.parent)
    waiting = list(folders)
    for path in waiting:
        named = [other for other in _named_in(path, folders[path], values) if other not in folders]
        folders |= {other: other.parent for other in named}
        waiting += named
    return tuple(folders)


def _values(dotenv: Path) -> dict[str, str]:
    from opskit.system.env_file import parse_env_file

    try:
        return parse_env_file(dotenv.read_text("utf-8", "replace")).values
    except OSError:
        return {}


def _named_in(path: Path, folder: Path, values: Mapping[str, str]) -> list[Path]:
    """Return the files that a Compose file names, the `.env` beside it, and where a link leads."""
    from opskit.system.compose import further_files

    def value(match: re.Match[str]) -> str:
        return values.get(match[1] or match[2]) or match[3] or match[0]

    files = [Path(os.path.realpath(path))] if path.is_symlink() else []
    if path.suffix in (".yml", ".yaml", ".json") and path.is_file():
        files.append(path.parent / ".env")
        try:
            names = sorted(further_files(path.read_text("utf-8", "replace")))
        except OSError:
            return files  # whoever needs its content says that it cannot be read
        files += [folder / Path(_VARIABLE.sub(value, name)).expanduser() for name in names]
    return [other for other in files if "$" in str(other) or other.is_file()]


def unset_variables(complaints: str) -> tuple[str, ...]:
    """Return names out of Compose's warnings: version 1 writes them bare, version 2 in quotes. Pure."""
    names = re.findall(r"[Tt]he \\?\"?([A-Za-z_][A-Za-z0-9_]*)\\?\"? variable is not set", complaints)
    return tuple(dict.fromkeys(names))
