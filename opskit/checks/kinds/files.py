"""Kinds that read files: file, env_file, config for opskit's own configuration, log_pattern for a log too."""

import asyncio
import grp
import hashlib
import pwd
import stat
import time
from collections.abc import Iterable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from opskit.checks.kinds.processes import Pattern
from opskit.checks.matchers import PartText
from opskit.checks.spec import CheckContext, Observation, kind
from opskit.config.fields import Bytes, Seconds, Text, Texts
from opskit.config.values import Parameters
from opskit.errors import ConfigError, OpskitError
from opskit.facts.environment import SECRET_NAMES, matching, read_env_file
from opskit.records import MutableRecord
from opskit.text import and_more, counted, printable

_TYPES = {stat.S_IFREG: "file", stat.S_IFDIR: "folder", stat.S_IFSOCK: "socket", stat.S_IFIFO: "pipe"}
_TYPES |= dict.fromkeys((stat.S_IFBLK, stat.S_IFCHR), "device")
_SHOWN_CHARS = 300
_CONTAINER_TAIL = 20_000


class FileParams(Parameters):
    path: Text
    max_bytes: Bytes = 1024 * 1024


@kind(
    "a file or folder is as it should be",
    {
        "exists": "whether it is there",
        "type": "file, folder, socket, pipe, device, other",
        "link": "whether it is a symbolic link",
        "size_bytes": "its size",
        "mode": "permissions as text: '0600'",
        "owner": "name of its user",
        "group": "name of its group",
        "age_s": "seconds since it was changed",
        "sha256": "its digest, read only when expected",
        "content": "its text up to max_bytes, read only when expected",
        "entries": "how many entries a folder has",
        "error": "unreadable, or null",
    },
    {"exists": True},
    lambda p: str(p.path),
)
async def file(params: FileParams, context: CheckContext) -> Observation:
    path = context.path(params.path)
    return await asyncio.to_thread(_read_file, path, params, context.wanted)


def _read_file(path: Path, params: FileParams, wanted: frozenset[str]) -> Observation:
    try:
        status = path.stat()
    except (FileNotFoundError, NotADirectoryError):
        dangling = path.is_symlink()
        values: dict[str, Any] = {"exists": False, "link": dangling}
        detail = "it is a link that leads nowhere" if dangling else "there is no such file"
        return Observation(values, detail, state="missing")
    except (OSError, ValueError) as exc:
        return _unreadable(exc)
    kind = _TYPES.get(stat.S_IFMT(status.st_mode), "other")
    values = {
        "exists": True,
        "type": kind,
        "link": path.is_symlink(),
        "size_bytes": status.st_size,
        "mode": f"{stat.S_IMODE(status.st_mode):04o}",
        "owner": _name(pwd.getpwuid, status.st_uid),
        "group": _name(grp.getgrgid, status.st_gid),
        "age_s": max(0.0, time.time() - status.st_mtime),
    }
    try:
        if kind == "file" and "sha256" in wanted:
            with path.open("rb") as stream:
                values["sha256"] = hashlib.file_digest(stream, "sha256").hexdigest()
        if kind == "file" and "content" in wanted:
            with path.open("rb") as stream:
                content = stream.read(params.max_bytes).decode("utf-8", "replace")
                values["content"] = PartText(content) if stream.read(1) else content
        if kind == "folder":
            values["entries"] = len(list(path.iterdir())) if "entries" in wanted else 0
    except OSError as exc:
        return _unreadable(exc)
    return Observation(values, f"{kind}, {status.st_size} bytes, mode {values['mode']}", state="present")


def _unreadable(exc: Exception) -> Observation:
    why = getattr(exc, "strerror", None) or "it is not a usable path"
    return Observation({"error": "unreadable"}, problem=f"it cannot be read: {why}", state="unreadable")


def _name(line: Any, number: int) -> str:
    try:
        return str(line(number)[0])
    except KeyError:
        return str(number)


class EnvFileParams(Parameters):
    """`keys` must be there; `secrets` are names, or patterns of names, whose values must not be empty."""

    path: Text = ".env"
    keys: Texts = ()
    secrets: Texts = SECRET_NAMES


@kind(
    "an environment file has its keys and no empty secrets; values are never shown",
    {
        "exists": "whether it is there",
        "keys": "names that are set",
        "missing": "the names of `keys` that are not there",
        "empty": "names without a value",
        "empty_secrets": "names without a value among `secrets`",
        "placeholders": "names among `secrets` whose value is still that of an example",
        "twice": "names that are set more than once",
        "malformed": "numbers of lines that set nothing",
        "readable_by_all": "whether every user of the machine may read it",
        "error": "missing, unreadable, or null",
    },
    {"missing": {"len": 0}, "empty_secrets": {"len": 0}, "malformed": {"len": 0}},
    lambda p: str(p.path),
)
async def env_file(params: EnvFileParams, context: CheckContext) -> Observation:
    path = context.path(params.path)
    env_file = await context.survey.get(read_env_file, path, not_before=context.not_before)
    if env_file.error is not None:
        if isinstance(env_file.error, FileNotFoundError | NotADirectoryError):
            values: dict[str, Any] = {"exists": False, "missing": list(params.keys), "error": "missing"}
            return Observation(values, problem=env_file.problem, state="missing", settled=("exists",))
        return _unreadable(env_file.error)
    missing = [key for key in params.keys if key not in env_file.keys]
    empty = matching(env_file.empty, params.secrets)
    placeholders = matching(env_file.placeholders, params.secrets)
    values = {
        "exists": True,
        "keys": list(env_file.keys),
        "missing": missing,
        "empty": list(env_file.empty),
        "empty_secrets": list(empty),
        "placeholders": list(placeholders),
        "twice": list(env_file.twice),
        "malformed": list(env_file.malformed),
        "readable_by_all": env_file.readable_by_all,
    }
    shown = {
        "missing": missing,
        "without a value": empty,
        "with a placeholder": placeholders,
        "lines that set nothing": map(str, env_file.malformed),
    }
    parts = [f"{name}: {names}" for name, items in shown.items() if (names := ", ".join(items))]
    remedy = f"add to {params.path}: {', '.join([*missing, *empty])}" if missing or empty else None
    detail = "; ".join([counted(len(env_file.keys), "key"), *parts])
    return Observation(values, detail, state="present", remedy=remedy)


class ConfigParams(Parameters):
    """`file` None is the configuration of this run."""

    file: Text | None = None


@kind(
    "the configuration of opskit is valid",
    {
        "valid": "whether it can be used",
        "problems": "what is wrong, with file and line",
        "path": "the file in use, or null",
        "nodes": "names of the nodes",
        "agents": "names of the agents",
        "unset_secrets": "keys whose variable holds nothing",
        "notes": "what was changed while it was read",
        "error": "unreadable, or null",
    },
    {"valid": True, "unset_secrets": {"len": 0}},
    lambda p: str(p.file or "configuration"),
)
async def config(params: ConfigParams, context: CheckContext) -> Observation:
    return await asyncio.to_thread(_read_config, params, context)


def _read_config(params: ConfigParams, context: CheckContext) -> Observation:
    from opskit.config.load import InvalidConfigError, load

    path = str(context.path(params.file)) if params.file is not None else context.survey.config_path
    try:
        loaded = load(path, environ=context.survey.environ, cwd=context.survey.cwd)
    except InvalidConfigError as error:
        problems = [str(problem) for problem in error.problems]
        detail = problems[0] + and_more(len(problems) - 1)
        values: dict[str, Any] = {"valid": False, "problems": problems}
        return Observation(values, detail, state="invalid", code=error.code, remedy=error.remedy)
    except ConfigError as error:
        values, why = {"valid": False, "error": "unreadable"}, error.message
        return Observation(values, problem=why, state="unreadable", code=error.code, remedy=error.remedy)
    config = loaded.config
    values = {
        "valid": True,
        "problems": [],
        "path": config.path,
        "nodes": [node.name for node in config.nodes],
        "agents": [agent.name for agent in config.agents],
        "unset_secrets": [key for key, origin in loaded.origins.items() if origin.unset],
        "notes": list(loaded.notes),
    }
    members = f"{counted(len(config.nodes), 'node')}, {counted(len(config.agents), 'agent')}"
    return Observation(values, f"{config.path or 'no file, defaults'}: {members}", state="ok")


class LogParams(Parameters):
    """`since` is how far back to look; without it the whole file, or the last lines of a container."""

    pattern: Pattern
    path: Text | None = None
    container: Text | None = None
    since: Seconds | None = None

    def __post_init__(self) -> None:
        if (self.path is None) == (self.container is None):
            raise ValueError("needs either path or container")


class _Tally(MutableRecord):
    """The entries that match; `untimed` counts entries that may lie outside of the window."""

    since: float | None = None
    untimed: int = 0
    count: int = 0
    first: Any = None
    last: Any = None

    def add(self, entries: Iterable[Any]) -> None:
        for entry in entries:
            if self.since is not None and entry.at is None:
                self.untimed += 1
            elif self.since is None or entry.at >= self.since:
                self.count += 1
                self.first = self.first or entry
                self.last = entry


@kind(
    "a pattern (RE2) is seen in a log, or is not, over a window of time",
    {
        "seen": "whether it is",
        "count": "in how many entries",
        "first": "the first of them",
        "last": "the last of them",
        "last_age_s": "seconds since the last, null without a time",
        "seconds": "how long it took",
        "error": "unreadable, or null",
    },
    {"seen": True},
    lambda p: str(p.path or p.container),
    timeout_s=30.0,
    imports=("opskit.logs.select",),
)
async def log_pattern(params: LogParams, context: CheckContext) -> Observation:
    now = time.time()
    since = now - params.since if params.since is not None else None
    try:
        if params.path is not None:
            tally = await asyncio.to_thread(_in_file, params, context, since)
        else:
            tally = await _in_container(params, context, since)
    except OpskitError as error:
        if error.code != "LOG_001":
            raise
        return Observation(
            {"error": "unreadable"}, problem=error.message, state="unreadable", code=error.code
        )
    values = {
        "seen": tally.count > 0,
        "count": tally.count,
        "first": _words(tally.first),
        "last": _words(tally.last),
        "last_age_s": now - tally.last.at if tally.last and tally.last.at is not None else None,
    }
    window = f" in the last {params.since:g} s" if params.since is not None else ""
    if tally.count:
        detail = f"/{params.pattern}/ is seen {counted(tally.count, 'time')}{window}, last: {values['last']}"
        return Observation(values, detail, state="seen")
    if tally.untimed:
        problem = f"/{params.pattern}/ is seen {counted(tally.untimed, 'time')}, in lines without a time"
        return Observation(values, problem=problem, undecided=problem, state="unknown")
    return Observation(values, f"/{params.pattern}/ is not seen{window}", state="not seen")


def _in_file(params: LogParams, context: CheckContext, since: float | None) -> _Tally:
    from opskit.logs.files import FileSource
    from opskit.logs.select import EntryFilter

    source = FileSource(context.path(params.path or ""))
    tally = _Tally(since)
    tally.add(source.wanted(EntryFilter(grep=(params.pattern,))))
    return tally


async def _in_container(params: LogParams, context: CheckContext, since: float | None) -> _Tally:
    """Docker finds the window itself: it reads a long log from its beginning, a tail at once."""
    from opskit.logs.container import containers
    from opskit.logs.record import LogEntry
    from opskit.logs.select import EntryFilter
    from opskit.logs.source import Unreadable, Window

    selection = EntryFilter(grep=(params.pattern,))
    window = Window(since=since, tail=None if since is not None else _CONTAINER_TAIL)
    tally = _Tally()
    for source in await containers(params.container or "", docker=await context.survey.docker()):
        async for batch in source.read(window):
            for item in batch:
                if isinstance(item, Unreadable):
                    raise item.error
            tally.add(item for item in batch if isinstance(item, LogEntry) and selection.accepts(item))
    return tally


def _words(entry: Any) -> str | None:
    if entry is None:
        return None
    text = entry.raw.decode("utf-8", "replace").split("\n")[0]
    when = "" if entry.at is None else f"{datetime.fromtimestamp(entry.at, UTC):%Y-%m-%d %H:%M:%S} UTC "
    shown = printable(text)[:_SHOWN_CHARS]
    return shown if shown.startswith(when[:10]) and when else f"{when}{shown}"
