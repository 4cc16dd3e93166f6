"""Kinds that read files: file, env_file, and config for opskit's own configuration."""

import asyncio
import grp
import hashlib
import pwd
import stat
import time
from pathlib import Path
from typing import Any

from opskit.checks.spec import CheckContext, Observation, kind
from opskit.config.fields import Bytes, Text, Texts, parameters
from opskit.errors import ConfigError
from opskit.facts.env_file import SECRET_NAMES, matching, read_env_file
from opskit.text import and_more, counted

_TYPES = (
    (stat.S_ISREG, "file"),
    (stat.S_ISDIR, "folder"),
    (stat.S_ISSOCK, "socket"),
    (stat.S_ISFIFO, "pipe"),
    (stat.S_ISBLK, "device"),
    (stat.S_ISCHR, "device"),
)


@parameters
class FileParams:
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
    kind = next((name for test, name in _TYPES if test(status.st_mode)), "other")
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
                values["content"] = stream.read(params.max_bytes).decode("utf-8", "replace")
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


@parameters
class EnvFileParams:
    """`keys` must be there; `secrets` are names, or patterns of names, whose values must not be empty."""

    path: Text = ".env"
    keys: Texts = ()
    secrets: Texts = SECRET_NAMES


@kind(
    "an environment file has its keys and no empty secrets; values are never shown",
    {
        "exists": "whether it is there",
        "keys": "names that are set",
        "missing": "those of `keys` that are not",
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


@parameters
class ConfigParams:
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
