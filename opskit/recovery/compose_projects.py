"""The Compose projects of the stack: their files, what those declare, and Compose called for one of them.

What the files declare is asked of Compose once, and remembered until a file changes.
"""

import asyncio
import hashlib
import json
import re
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from opskit.errors import OpskitError
from opskit.facts.compose_project import project_files
from opskit.facts.container import Container
from opskit.recovery.step import Command, Condition, RecoveryContext, TargetFinding
from opskit.system.compose import (
    Compose,
    ComposeService,
    Project,
    find,
    old_name,
    project,
    variables,
)
from opskit.system.program import NotStarted

_ASK_S = 30.0
_FILE_BYTES = 4 * 1024 * 1024
_PLUGINS = (
    "~/.docker/cli-plugins",
    "/usr/local/lib/docker/cli-plugins",
    "/usr/local/libexec/docker/cli-plugins",
    "/usr/lib/docker/cli-plugins",
    "/usr/libexec/docker/cli-plugins",
    "/opt/homebrew/lib/docker/cli-plugins",
)
_CHOSEN = re.compile(r"^\s*(?:export\s+)?COMPOSE_PROJECT_NAME\s*=\s*(['\"]?)([^'\"#\n]*)\1", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class Sources:
    """The files of one project. `raw` is what the Compose files hold, `digest` stands for all that matters.

    `edits` tells when each file changed last, in seconds since the epoch.
    """

    files: tuple[Path, ...]
    raw: str
    digest: str
    chosen: str | None
    edits: Mapping[Path, float]

    @property
    def folder(self) -> Path:
        return self.files[0].parent


@dataclass(frozen=True, slots=True)
class ComposeProject:
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
    """The files of a configured project cannot be used; `finding` says so of its target."""

    def __init__(self, key: str, finding: TargetFinding) -> None:
        self.finding = finding
        super().__init__("RECOVER_004", f"Compose project {key}: {finding.cause}", remedy=finding.remedy)


async def configured(context: RecoveryContext, key: str) -> ComposeProject:
    """Return a project of `stack.compose`. Raises OpskitError RECOVER_004 when its files cannot be used."""
    sources, declared = await read_project(context, key)
    return ComposeProject(await _compose(context, sources.files), declared.name, key, declared)


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
    if (known := _remembered(context.memory.facts.get(target), sources.digest)) is not None:
        return sources, known
    try:
        async with asyncio.timeout(_ASK_S):
            declared = await _ask(context, sources)
    except NotStarted as error:
        raise _unusable(key, "no compose", error.message, error.remedy, code=error.code) from error
    except TimeoutError as error:
        why = f"Compose did not read its files within {_ASK_S:g} s"
        raise UnusableProject(key, TargetFinding(target, Condition.UNKNOWN, "timeout", why)) from error
    except ValueError as error:
        files = " ".join(f"-f {path}" for path in sources.files)
        remedy = f"`docker compose {files} config -q` shows what is wrong"
        raise _unusable(key, "invalid", str(error), remedy) from error
    context.memory.facts[target] = {"digest": sources.digest, "project": asdict(declared)}
    return sources, declared


async def _read_sources(context: RecoveryContext, key: str) -> Sources:
    """Return the files as they are now. Raises UnusableProject when one cannot be read."""
    files = tuple(context.config.located(path).absolute() for path in context.config.stack.compose[key])
    try:
        return await asyncio.to_thread(_read, files, context.environ)
    except FileNotFoundError as error:
        remedy = f"correct `stack.compose.{key}` in the configuration"
        raise _unusable(key, "no file", f"there is no file {error.filename}", remedy) from error
    except OSError as error:
        why = f"{error.filename or files[0]} cannot be read: {error.strerror}"
        remedy = "check its permissions; macOS denies background jobs Documents, Desktop and Downloads"
        raise _unusable(key, "unreadable", why, remedy) from error


def _unusable(
    key: str, state: str, cause: str, remedy: str | None, *, code: str | None = None
) -> UnusableProject:
    target = f"compose:{key}"
    finding = TargetFinding(target, Condition.BROKEN, state, cause, (key,), remedy=remedy, code=code)
    return UnusableProject(key, finding)


async def _ask(context: RecoveryContext, sources: Sources) -> Project:
    """Raises NotStarted without Compose, ValueError when it does not accept the files."""
    compose = await find(sources.files, env=context.environ)
    form = ("--format", "json") if compose.modern else ()
    config, digests, version = await asyncio.gather(
        compose("config", *form), compose("config", "--hash", "*"), compose("version", "--short")
    )
    if config.exit:
        raise ValueError(f"Compose does not accept its files: {config.complaint}")
    if digests.exit:
        raise ValueError(f"Compose cannot tell its services: {digests.complaint}")
    return project(
        config.out,
        digests.out,
        name=None if compose.modern else old_name(sources.folder.name, sources.chosen),
        version=version.out.strip().lstrip("v"),
        complaints=config.err,
        raw=sources.raw,
    )


def _remembered(fact: Any, digest: str) -> Project | None:
    """Return what an earlier run kept, unless it is of other files or not ours."""
    try:
        if fact["digest"] != digest:
            return None
        services = {
            name: ComposeService(**_tupled(kept_service))
            for name, kept_service in fact["project"]["services"].items()
        }
        return Project(**{**_tupled(fact["project"]), "services": services})
    except (TypeError, KeyError, AttributeError):
        return None


def _tupled(content: Mapping[str, Any]) -> dict[str, Any]:
    """Return the fields of a record whose tuples JSON made lists."""
    return {name: tuple(value) if isinstance(value, list) else value for name, value in content.items()}


def _read(files: Sequence[Path], environ: Mapping[str, str]) -> Sources:
    """Raises OSError."""
    contents = {path: _content(path) for path in files}
    raw = "\n---\n".join(content.decode("utf-8", "replace") for content in contents.values())
    folder = files[0].parent
    further = sorted(set(project_files(files, environ)) - contents.keys())
    contents |= {path: content for path in further if (content := _optional(path)) is not None}
    wanted = variables("\n".join(content.decode("utf-8", "replace") for content in contents.values()))
    values = {
        name: value
        for name, value in environ.items()
        if name in wanted or name.startswith(("COMPOSE_", "DOCKER_"))
    }
    digest = hashlib.sha256()
    for path, content in sorted((str(path), content) for path, content in contents.items()):
        digest.update(json.dumps([path, hashlib.sha256(content).hexdigest()]).encode())
    digest.update(json.dumps([sorted(values.items()), _programs(environ)]).encode())
    edits = {path: _edited(path) for path in contents}
    in_file = _CHOSEN.search(contents.get(folder / ".env", b"").decode("utf-8-sig", "replace"))
    chosen = environ.get("COMPOSE_PROJECT_NAME") or (in_file[2].strip() if in_file else None)
    return Sources(tuple(files), raw, digest.hexdigest(), chosen, edits)


def _edited(path: Path) -> float:
    """Return when a file, or a link on the way to it, changed last.

    What is moved, restored or copied with its times keeps an old mtime; its ctime nobody can set.
    """
    links = [part.lstat() for part in (path, *path.parents) if part.is_symlink()]
    return max(max(status.st_mtime, status.st_ctime) for status in (path.stat(), *links))


def _content(path: Path) -> bytes:
    with path.open("rb") as stream:
        return stream.read(_FILE_BYTES)


def _optional(path: Path) -> bytes | None:
    """None for what is no file: the word was a path inside a container, or an optional file."""
    try:
        return _content(path) if path.is_file() else None
    except (OSError, ValueError):
        return None


def _programs(environ: Mapping[str, str]) -> list[tuple[str, float, int]]:
    """Return what Compose is here: another version reads and digests differently."""
    path, home = environ.get("PATH"), environ.get("HOME", "~")
    names = [name for program in ("docker", "docker-compose") if (name := shutil.which(program, path=path))]
    names += [f"{folder.replace('~', home, 1)}/docker-compose" for folder in _PLUGINS]
    programs: list[tuple[str, float, int]] = []
    for name in names:
        try:
            stat = Path(name).stat()
        except OSError:
            continue
        programs.append((name, stat.st_mtime, stat.st_size))
    return programs
