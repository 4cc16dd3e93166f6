"""The Compose projects of the configuration: their files, and what Compose makes of them."""

import asyncio
import hashlib
import json
import os
import re
import shutil
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from msgspec import ValidationError, convert

from opskit.config.compose_files import COMPOSE_FILES, with_override
from opskit.config.schema import Config
from opskit.facts.survey import Survey
from opskit.records import Record, replace
from opskit.system.compose import Compose, find
from opskit.system.compose_declaration import (
    Project,
    further_files,
    old_name,
    optional_services,
    plain_project,
    project,
    unset,
    variables,
)
from opskit.system.program import NotStarted

_NEXT = "\n---\n"
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
_VARIABLE = re.compile(r"\$(?:(\w+)|\{(\w+)(?::?-([^}]*))?\})")
#: What is remembered of a project has this shape; another one is asked for again.
_SHAPE = 7


class Sources(Record):
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


class ComposeFacts(Record, kw_only=True):
    """What Compose says of one project. `problem` is why it cannot use the files, `unset` are variables.

    `name` is that of the configuration. `command` is what a person types for this project; empty where there
    is no Compose (`has_no_program`) or a file `is_missing`. `unknown` is what of the files nobody could
    resolve without it; `version` is of the Compose that did.
    """

    name: str
    files: tuple[Path, ...]
    has_no_program: bool = False
    is_missing: bool = False
    problem: str = ""
    project: Project | None = None
    unknown: tuple[str, ...] = ()
    version: str = ""
    unset: tuple[str, ...] = ()
    command: tuple[str, ...] = ()

    @property
    def services(self) -> tuple[str, ...]:
        """The services that are to have containers."""
        return () if self.project is None else tuple(sorted(self.project.wanted))


async def read_compose_project(survey: Survey, name: str) -> ComposeFacts:
    """Ask Compose for a project of the stack. Never raises for what its files are."""
    files = stack_files(survey.config, survey.cwd)[name]
    facts = ComposeFacts(name=name, files=files)
    try:
        sources = await asyncio.to_thread(read_sources, files, survey.environ)
        compose = await find(files, env=survey.environ)
    except FileNotFoundError as error:
        return replace(facts, is_missing=True, problem=f"there is no file {error.filename}")
    except OSError as error:
        return replace(facts, problem=f"{error.filename or files[0]} cannot be read: {error.strerror}")
    except NotStarted as error:
        return _without_compose(replace(facts, has_no_program=True, problem=error.message), sources, survey)
    facts = replace(facts, command=compose.command, version=compose.version)
    known = remembered_project(survey.remembered().get(f"compose:{name}"), sources.digest)
    if known is not None:
        return replace(facts, project=known[0], unset=known[1])
    try:
        declared, blank = await declaration(compose, sources)
    except ValueError as error:
        return replace(facts, problem=str(error))
    return replace(facts, project=declared, unset=tuple(sorted(blank)))


def remembered_project(fact: Any, digest: str) -> tuple[Project, tuple[str, ...]] | None:
    """Return what recovery kept of a project, with its variables that had no value.

    None where that is of other files, or not ours.
    """
    try:
        if fact["digest"] != digest:
            return None
        return convert(fact["project"], Project), tuple(fact["unset"])
    except (TypeError, KeyError, ValidationError):
        return None


def _without_compose(facts: ComposeFacts, sources: Sources, survey: Survey) -> ComposeFacts:
    """Add what the files say by themselves, and what they leave to Compose."""
    name = old_name(sources.folder.name, sources.chosen)
    try:
        declared, unknown = plain_project(
            sources.raw.split(_NEXT), name, survey.environ.get("COMPOSE_PROFILES", "")
        )
    except ValueError as error:
        return replace(facts, unknown=(str(error),))
    return replace(facts, project=declared, unknown=unknown)


async def declaration(compose: Compose, sources: Sources) -> tuple[Project, set[str]]:
    """Return what `up` would start, as Compose resolves the files, and the variables without a value.

    Raises ValueError when Compose does not accept the files.
    """
    if compose.modern:
        config = await compose("config", "--format", "json")
        resolved = () if config.exit else (config.out, _without_needs(config.out))
        digests = await asyncio.gather(*map(compose.digests, resolved))
    else:
        config, *digests = await asyncio.gather(compose("config"), compose("config", "--hash", "*"))
    if config.exit:
        raise ValueError(f"Compose does not accept its files: {config.complaint}")
    if failed := next((result for result in digests if result.exit), None):
        raise ValueError(f"Compose cannot tell its services: {failed.complaint}")
    # Bases, includes and files over one another are resolved, variables are not.
    plain = await compose("config", "--no-interpolate") if unset(config.err) else None
    declared = project(
        config.out,
        "\n".join(result.out for result in digests),
        name=None if compose.modern else old_name(sources.folder.name, sources.chosen),
        version=compose.version,
        complaints=config.err,
        raw=sources.raw if plain is None or plain.exit else plain.out,
    )
    optional = optional_services(sources.raw) - declared.services.keys()
    return replace(declared, optional=tuple(sorted(optional))), unset(config.err)


def _without_needs(resolved: str) -> str:
    """Return a project as `up --no-deps` digests it. Raises ValueError for what is no project."""
    try:
        content = json.loads(resolved)
        for service in (content.get("services") or {}).values():
            service.pop("depends_on", None)
    except (ValueError, AttributeError) as exc:
        raise ValueError(f"what `compose config` wrote cannot be read ({type(exc).__name__})") from exc
    return json.dumps(content)


def stack_files(config: Config, cwd: Path) -> dict[str, tuple[Path, ...]]:
    """Return the files of the stack's Compose projects: where none is configured, of the working folder's."""
    if config.stack.compose:
        return config.compose_files()
    usual = next((cwd / name for name in COMPOSE_FILES if (cwd / name).is_file()), None)
    return {} if usual is None else {cwd.absolute().name or "project": with_override([usual])}


def env_files(config: Config, cwd: Path) -> list[Path]:
    """Return the configured files, then each `.env` beside a Compose file or in the working folder."""
    beside = [files[0].parent / ".env" for files in stack_files(config, cwd).values() if files]
    paths = [config.located(path) for path in config.stack.env_files]
    paths += [path for path in (*beside, cwd / ".env") if path.is_file()]
    return list(dict.fromkeys(paths))


def read_sources(files: Sequence[Path], environ: Mapping[str, str]) -> Sources:
    """Read the files of a project, and all that decides what Compose makes of them. Raises OSError."""
    contents = {path: _content(path) for path in files}
    raw = _NEXT.join(content.decode("utf-8", "replace") for content in contents.values())
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
    digest.update(json.dumps([_SHAPE, sorted(values.items()), _programs(environ)]).encode())
    edits = {changed: at for path in contents for changed, at in _edited(path)}
    in_file = _CHOSEN.search(contents.get(folder / ".env", b"").decode("utf-8-sig", "replace"))
    chosen = environ.get("COMPOSE_PROJECT_NAME") or (in_file[2].strip() if in_file else None)
    return Sources(tuple(files), raw, digest.hexdigest(), chosen, edits)


def _edited(path: Path) -> Iterator[tuple[Path, float]]:
    """Yield when a file, and each link on the way to it, changed last.

    What is moved, restored or copied with its times keeps an old mtime; its ctime nobody can set.
    """
    for part in (path, *path.parents):
        if part.is_symlink():
            yield part, _changed(part.lstat())
    yield (path.resolve() if path.is_symlink() else path), _changed(path.stat())


def _changed(status: os.stat_result) -> float:
    return max(status.st_mtime, status.st_ctime)


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
    from opskit.system.textfile import parse_env_file

    try:
        return parse_env_file(dotenv.read_text("utf-8", "replace")).values
    except OSError:
        return {}


def _named_in(path: Path, folder: Path, values: Mapping[str, str]) -> list[Path]:
    """Return the files that a Compose file names, the `.env` beside it, and where a link leads."""

    def value(match: re.Match[str]) -> str:
        return values.get(match[1] or match[2]) or match[3] or match[0]

    files = [Path(os.path.realpath(path))] if path.is_symlink() else []
    if path.suffix in (".yml", ".yaml", ".json") and path.is_file():
        files.append(path.parent / ".env")
        try:
            names = sorted(further_files(path.read_text("utf-8", "replace")))
        except OSError:
            return files  # the reader of its content says that it cannot be read
        files += [folder / Path(_VARIABLE.sub(value, name)).expanduser() for name in names]
    return [other for other in files if "$" in str(other) or other.is_file()]
