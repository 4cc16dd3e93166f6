"""The Compose projects of the stack: what their files declare, and Compose called for one of them.

What the files declare is asked of Compose once, and remembered until a file changes.
"""

import asyncio
import contextlib
import shlex
from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from typing import Any

from opskit.errors import OpskitError
from opskit.facts.compose_project import Sources, declaration, read_sources, remembered_project
from opskit.facts.container import Container
from opskit.records import Record, asdict, replace
from opskit.recovery.step import Command, Condition, RecoveryContext, TargetFinding
from opskit.system.compose import Compose, find
from opskit.system.compose_declaration import Project
from opskit.system.program import NotStarted

_ASK_S = 30.0


class ComposeProject(Record):
    """One project. `project` is what its files declare.

    `key` is its name in the configuration; it and `project` are None for a project that was found
    by the labels of its containers.
    """

    compose: Compose
    name: str
    key: str | None = None
    project: Project | None = None

    def command(self, *arguments: str, timeout_s: float) -> Command:
        return Command((*self.compose.command, *arguments), timeout_s, cwd=str(self.compose.folder))

    @property
    def no_new_images(self) -> tuple[str, ...]:
        """Return what keeps `up` from building and pulling; version 1 has no switch for pulls."""
        return ("--no-build", "--pull", "never") if self.compose.modern else ("--no-build",)

    @property
    def up(self) -> tuple[str, ...]:
        """`up` that neither builds nor pulls."""
        return ("up", "-d", *self.no_new_images)

    @property
    def shown(self) -> str:
        """The command line without its verb, for advice."""
        return Command(self.compose.command).shown


class UnusableProject(OpskitError):  # noqa: N818 - it reads as what it is
    """The files of a configured project cannot be used; `finding` says so of its target.

    `sources` are the files where they were read, and Compose does not accept them.
    """

    def __init__(self, key: str, state: str, cause: str, remedy: str | None, **more: Any) -> None:
        self.sources: Sources | None = more.pop("sources", None)
        condition = more.pop("condition", Condition.BROKEN)
        self.finding = TargetFinding(f"compose:{key}", condition, state, cause, (key,), remedy=remedy, **more)
        super().__init__("RECOVER_004", f"Compose project {key}: {cause}", remedy=remedy)


async def configured(context: RecoveryContext, key: str) -> ComposeProject:
    """Return a project of `stack.compose`. Raises OpskitError RECOVER_004 when its files cannot be used."""
    sources, declared = await read_project(context, key)
    return ComposeProject(await _compose(context, sources.files), declared.name, key, declared)


async def usable_projects(context: RecoveryContext) -> AsyncIterator[tuple[str, Project]]:
    """Yield the projects of `stack.compose` by key, without the projects whose files cannot be used."""
    for key in context.config.stack.compose:
        with contextlib.suppress(UnusableProject):
            yield key, (await read_project(context, key))[1]


async def labelled(context: RecoveryContext, container: Container, name: str) -> ComposeProject:
    """Return the project that made a container, by its labels. Raises OpskitError RECOVER_004."""
    files = container.compose_files
    missing = [str(file) for file in files if not file.is_file()]
    if not files or missing:
        what = f"{missing[0]} is not there" if missing else "its label names none"
        raise OpskitError("RECOVER_004", f"the Compose files of project {name} are not known: {what}")
    compose = await _compose(context, files, name)
    if container.env_file:
        compose = replace(compose, command=(*compose.command, "--env-file", container.env_file))
    return ComposeProject(compose, name)


async def _compose(context: RecoveryContext, files: Sequence[Path], name: str | None = None) -> Compose:
    try:
        return await find(files, project=name, env=context.environ)
    except NotStarted as error:
        raise OpskitError("RECOVER_004", error.message, remedy=error.remedy) from error


async def read_project(context: RecoveryContext, key: str) -> tuple[Sources, Project]:
    """Read the files of a project, and what `up` would start: from memory when nothing changed.

    Raises UnusableProject.
    """
    target = f"compose:{key}"
    sources = await _read_sources(context, key)
    if (known := remembered_project(context.memory.facts.get(target), sources.digest)) is not None:
        return sources, known[0]
    try:
        async with asyncio.timeout(_ASK_S):
            compose = await find(sources.files, env=context.environ)
            declared, blank = await declaration(compose, sources)
    except NotStarted as error:
        raise UnusableProject(key, "no compose", error.message, error.remedy, code=error.code) from error
    except TimeoutError as error:
        why = f"Compose did not read its files within {_ASK_S:g} s"
        raise UnusableProject(key, "timeout", why, None, condition=Condition.UNKNOWN) from error
    except ValueError as error:
        remedy = f"`{shlex.join(compose.command)} config -q` shows what is wrong"
        raise UnusableProject(key, "invalid", str(error), remedy, sources=sources) from error
    context.memory.facts[target] = {
        "digest": sources.digest,
        "project": asdict(declared),
        "unset": sorted(blank),
    }
    return sources, declared


async def _read_sources(context: RecoveryContext, key: str) -> Sources:
    """Return the files as they are now. Raises UnusableProject when one cannot be read."""
    files = context.config.compose_files()[key]
    try:
        return await asyncio.to_thread(read_sources, files, context.environ)
    except FileNotFoundError as error:
        remedy = f"correct `stack.compose.{key}` in the configuration"
        raise UnusableProject(key, "no file", f"there is no file {error.filename}", remedy) from error
    except OSError as error:
        why = f"{error.filename or files[0]} cannot be read: {error.strerror}"
        remedy = "check its permissions; macOS denies background jobs Documents, Desktop and Downloads"
        raise UnusableProject(key, "unreadable", why, remedy) from error
