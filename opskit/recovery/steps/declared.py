"""What the Compose files of the stack declare, asked of Compose once and remembered until a file changes."""

import asyncio
import hashlib
import json
import re
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from opskit.recovery.context import RecoveryContext
from opskit.recovery.step import Condition, TargetObservation
from opskit.system.compose import ComposeService, Project, further_files, old_name, project, variables
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

    `newest` is the file that changed last, at `changed` (seconds since the epoch).
    """

    files: tuple[Path, ...]
    raw: str
    digest: str
    chosen: str | None
    newest: Path
    changed: float

    @property
    def folder(self) -> Path:
        return self.files[0].parent


async def sources(ground: RecoveryContext, name: str) -> Sources | TargetObservation:
    """The files as they are now; what is seen of the project when one cannot be read."""
    files = tuple(ground.config.located(path).absolute() for path in ground.config.stack.compose[name])
    try:
        return await asyncio.to_thread(_read, files, ground.environ)
    except FileNotFoundError as exc:
        remedy = f"correct `stack.compose.{name}` in the configuration"
        return _unusable(name, "no file", f"there is no file {exc.filename}", remedy)
    except OSError as exc:
        why = f"{exc.filename or files[0]} cannot be read: {exc.strerror}"
        remedy = "check its permissions; macOS denies background jobs Documents, Desktop and Downloads"
        return _unusable(name, "unreadable", why, remedy)


async def declared(ground: RecoveryContext, name: str, found: Sources) -> Project | TargetObservation:
    """The services that `up` would start, from memory when nothing changed; or why they cannot be told."""
    key = f"compose:{name}"
    if (known := _remembered(ground.memory.facts.get(key), found.digest)) is not None:
        return known
    try:
        async with asyncio.timeout(_ASK_S):
            asked = await _ask(ground, found)
    except NotStarted as error:
        return _unusable(name, "no compose", error.message, error.remedy, code=error.code)
    except TimeoutError:
        return TargetObservation(
            key, Condition.UNKNOWN, "timeout", f"Compose did not read its files within {_ASK_S:g} s"
        )
    except ValueError as exc:
        remedy = f"`docker compose {_shown(found.files)} config -q` shows what is wrong"
        return _unusable(name, "invalid", str(exc), remedy)
    ground.memory.facts[key] = {"digest": found.digest, "project": asdict(asked)}
    return asked


async def _ask(ground: RecoveryContext, found: Sources) -> Project:
    """Raises NotStarted without Compose, ValueError when it does not accept the files."""
    from opskit.system.compose import find

    compose = await find(found.files, env=ground.environ)
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
        name=None if compose.modern else old_name(found.folder.name, found.chosen),
        version=version.out.strip().lstrip("v"),
        complaints=config.err,
        raw=found.raw,
    )


def _read(files: Sequence[Path], environ: Mapping[str, str]) -> Sources:
    """Raises OSError."""
    contents = [_content(path) for path in files]
    raw = "\n---\n".join(content.decode("utf-8", "replace") for content in contents)
    folder = files[0].parent
    further = sorted({folder / ".env", *(folder / Path(one).expanduser() for one in further_files(raw))})
    there = [(path, content) for path in further if (content := _optional(path)) is not None]
    texts = dict(
        zip(
            map(str, (*files, *(path for path, _ in there))), (*contents, *(c for _, c in there)), strict=True
        )
    )
    wanted = variables(raw + "".join(content.decode("utf-8", "replace") for _, content in there))
    values = {
        key: value
        for key, value in environ.items()
        if key in wanted or key.startswith(("COMPOSE_", "DOCKER_"))
    }
    digest = hashlib.sha256()
    for name, content in sorted(texts.items()):
        digest.update(json.dumps([name, hashlib.sha256(content).hexdigest()]).encode())
    digest.update(json.dumps([sorted(values.items()), _programs(environ)]).encode())
    changed, newest = max((path.stat().st_mtime, path) for path in (*files, *(path for path, _ in there)))
    in_file = _CHOSEN.search(texts.get(str(folder / ".env"), b"").decode("utf-8-sig", "replace"))
    chosen = environ.get("COMPOSE_PROJECT_NAME") or (in_file[2].strip() if in_file else None)
    return Sources(tuple(files), raw, digest.hexdigest(), chosen, newest, changed)


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
    """What Compose is here: another version reads and digests differently."""
    path = environ.get("PATH")
    names = [found for one in ("docker", "docker-compose") if (found := shutil.which(one, path=path))]
    home = environ.get("HOME", "~")
    names += [f"{folder.replace('~', home, 1)}/docker-compose" for folder in _PLUGINS]
    there: list[tuple[str, float, int]] = []
    for name in names:
        try:
            stat = Path(name).stat()
        except OSError:
            continue
        there.append((name, stat.st_mtime, stat.st_size))
    return there


def _remembered(fact: Any, digest: str) -> Project | None:
    """What an earlier run kept, unless it is of other files or not ours."""
    try:
        if fact["digest"] != digest:
            return None
        kept = fact["project"]
        services = {
            str(name): ComposeService(
                str(one["name"]),
                tuple(one["images"]),
                bool(one["built"]),
                int(one["replicas"]),
                tuple(one["needs"]),
                tuple(one["networks"]),
                dict(one["labels"]),
                one["digest"],
                tuple(one["blank"]),
            )
            for name, one in kept["services"].items()
        }
        return Project(str(kept["name"]), str(kept["version"]), services, tuple(kept["own_networks"]))
    except (TypeError, KeyError, ValueError, AttributeError):
        return None


def _unusable(
    name: str, state: str, cause: str, remedy: str | None, code: str | None = None
) -> TargetObservation:
    return TargetObservation(
        f"compose:{name}", Condition.BROKEN, state, cause, names=(name,), remedy=remedy, code=code
    )


def _shown(files: Sequence[Path]) -> str:
    return " ".join(f"-f {path}" for path in files)
