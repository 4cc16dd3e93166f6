"""Kinds that look at files: file, env_file."""

import asyncio
import fnmatch
import grp
import hashlib
import pwd
import re
import stat
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from opskit.checks.spec import CheckContext, Kind, Observation
from opskit.config.fields import CONFIG, Bytes, Text, Texts

_TYPES = (
    (stat.S_ISREG, "file"),
    (stat.S_ISDIR, "folder"),
    (stat.S_ISSOCK, "socket"),
    (stat.S_ISFIFO, "pipe"),
    (stat.S_ISBLK, "device"),
    (stat.S_ISCHR, "device"),
)
#: Names whose values must not be empty.
_SECRETS = ("*KEY*", "*TOKEN*", "*SECRET*", "*PASSWORD*", "*PASSWD*", "*CREDENTIAL*")
_ENV_LINE = re.compile(r"(?:export\s+)?([A-Za-z_][A-Za-z0-9_.-]*)\s*=(.*)", re.DOTALL)
_ENV_BYTES = 4 * 1024 * 1024
#: What example files leave for a person to replace; nothing that could be somebody's real secret.
_PLACEHOLDER = re.compile(
    r"change[-_ ]?(me|this|it)\W*|your[-_ ].*|<.*>|x{3,}|\*{3,}|(sk-)?\.{3}|(sk-)?…|to[-_ ]?do"
    r"|placeholder|replace[-_ ]?(me|this|with).*|.*[-_ ]goes[-_ ]here|.*[-_ ]here",
    re.IGNORECASE,
)


@dataclass(frozen=True, slots=True)
class FileParams:
    __pydantic_config__ = CONFIG

    path: Text
    max_bytes: Bytes = 1024 * 1024


async def _file(params: FileParams, scene: CheckContext) -> Observation:
    path = scene.path(params.path)
    return await asyncio.to_thread(_look, path, params, scene.wanted)


def _look(path: Path, params: FileParams, wanted: frozenset[str]) -> Observation:
    try:
        found = path.stat()
    except (FileNotFoundError, NotADirectoryError):
        dangling = path.is_symlink()
        values: dict[str, Any] = {"exists": False, "link": dangling, "error": None}
        detail = "it is a link that leads nowhere" if dangling else "there is no such file"
        return Observation(values, detail, state="missing")
    except (OSError, ValueError) as exc:
        return _unreadable(exc)
    kind = next((name for test, name in _TYPES if test(found.st_mode)), "other")
    values = {
        "exists": True,
        "type": kind,
        "link": path.is_symlink(),
        "size_bytes": found.st_size,
        "mode": f"{stat.S_IMODE(found.st_mode):04o}",
        "owner": _name(pwd.getpwuid, found.st_uid),
        "group": _name(grp.getgrgid, found.st_gid),
        "age_s": max(0.0, time.time() - found.st_mtime),
        "error": None,
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
    return Observation(values, f"{kind}, {found.st_size} bytes, mode {values['mode']}", state="present")


def _unreadable(exc: Exception) -> Observation:
    why = getattr(exc, "strerror", None) or "it is not a usable path"
    return Observation({"error": "unreadable"}, problem=f"it cannot be read: {why}", state="unreadable")


def _name(look: Any, number: int) -> str:
    try:
        return str(look(number)[0])
    except KeyError:
        return str(number)


@dataclass(frozen=True, slots=True)
class EnvFileParams:
    """`keys` must be there; `secrets` are names, or patterns of names, whose values must not be empty."""

    __pydantic_config__ = CONFIG

    path: Text = ".env"
    keys: Texts = ()
    secrets: Texts = _SECRETS


@dataclass(frozen=True, slots=True)
class EnvFile:
    """What is in an environment file, without a single value."""

    keys: tuple[str, ...]
    empty: tuple[str, ...]
    twice: tuple[str, ...]
    malformed: tuple[int, ...]
    placeholders: tuple[str, ...] = ()


def env_file(text: str) -> EnvFile:
    """Read it as Docker Compose does, as far as keys are concerned. `malformed` are line numbers."""
    filled: dict[str, str] = {}
    twice: list[str] = []
    malformed: list[int] = []
    open_quote, number = "", 0
    for number, line in enumerate(text.splitlines(), 1):
        if open_quote:
            if open_quote in line.replace(f"\\{open_quote}", ""):
                open_quote = ""
            continue
        bare = line.strip()
        if not bare or bare.startswith("#"):
            continue
        match = _ENV_LINE.fullmatch(bare)
        if match is None:
            malformed.append(number)
            continue
        key, value = match[1], match[2].strip()
        if key in filled:
            twice.append(key)
        quote = value[:1] if value[:1] in ("'", '"') else ""
        if quote:
            inner, end, _ = value[1:].replace(f"\\{quote}", "").partition(quote)
            # A value that goes on in the next line is something, whatever it begins with.
            filled[key] = inner.strip() if end else inner + "\n"
            open_quote = "" if end else quote
        else:
            filled[key] = re.split(r"(?:^|\s)#", value)[0].strip()
    if open_quote:
        malformed.append(number)
    empty = tuple(key for key, value in filled.items() if not value)
    left = tuple(key for key, value in filled.items() if _PLACEHOLDER.fullmatch(value))
    return EnvFile(tuple(filled), empty, tuple(dict.fromkeys(twice)), tuple(malformed), left)


async def _env_file(params: EnvFileParams, scene: CheckContext) -> Observation:
    path = scene.path(params.path)
    return await asyncio.to_thread(_look_env, path, params)


def _look_env(path: Path, params: EnvFileParams) -> Observation:
    try:
        with path.open("rb") as stream:
            raw = stream.read(_ENV_BYTES)
        mode = stat.S_IMODE(path.stat().st_mode)
    except (FileNotFoundError, NotADirectoryError):
        values: dict[str, Any] = {"exists": False, "missing": list(params.keys), "error": "missing"}
        return Observation(values, problem="there is no such file", state="missing", settled=("exists",))
    except (OSError, ValueError) as exc:
        return _unreadable(exc)
    found = env_file(raw.decode("utf-8-sig", "replace"))
    missing = [key for key in params.keys if key not in found.keys]
    empty = _secrets(found.empty, params)
    placeholders = _secrets(found.placeholders, params)
    values = {
        "exists": True,
        "keys": list(found.keys),
        "missing": missing,
        "empty": list(found.empty),
        "empty_secrets": empty,
        "placeholders": placeholders,
        "twice": list(found.twice),
        "malformed": list(found.malformed),
        "readable_by_all": bool(mode & stat.S_IROTH),
        "error": None,
    }
    parts = [f"{len(found.keys)} keys"]
    parts += [f"missing: {', '.join(missing)}"] if missing else []
    parts += [f"without a value: {', '.join(empty)}"] if empty else []
    parts += [f"with a placeholder: {', '.join(placeholders)}"] if placeholders else []
    parts += [f"lines that say nothing: {', '.join(map(str, found.malformed))}"] if found.malformed else []
    remedy = f"add to {params.path}: {', '.join([*missing, *empty])}" if missing or empty else None
    return Observation(values, "; ".join(parts), state="present", remedy=remedy)


def _secrets(names: Sequence[str], params: EnvFileParams) -> list[str]:
    return [name for name in names if any(fnmatch.fnmatchcase(name, one) for one in params.secrets)]


KINDS = (
    Kind(
        "file",
        "a file or folder is as it should be",
        FileParams,
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
        _file,
        lambda p: str(p.path),
    ),
    Kind(
        "env_file",
        "an environment file has its keys and no empty secrets; values are never shown",
        EnvFileParams,
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
        _env_file,
        lambda p: str(p.path),
    ),
)
