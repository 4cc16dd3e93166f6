"""Environment files by the names that they set, without a single value."""

import asyncio
import fnmatch
import re
import stat
from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path

from opskit.facts.survey import Survey

#: Names whose values must not be empty.
SECRET_NAMES = ("*KEY*", "*TOKEN*", "*SECRET*", "*PASSWORD*", "*PASSWD*", "*CREDENTIAL*")
_LINE = re.compile(r"(?:export\s+)?([A-Za-z_][A-Za-z0-9_.-]*)\s*=(.*)", re.DOTALL)
_MAX_BYTES = 4 * 1024 * 1024
#: What example files leave for a person to replace; nothing that could be somebody's real secret.
_PLACEHOLDER = re.compile(
    r"change[-_ ]?(me|this|it)\W*|your[-_ ].*|<.*>|x{3,}|\*{3,}|(sk-)?\.{3}|(sk-)?…|to[-_ ]?do"
    r"|placeholder|replace[-_ ]?(me|this|with).*|.*[-_ ]goes[-_ ]here|.*[-_ ]here",
    re.IGNORECASE,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class EnvFile:
    """What is in an environment file. `malformed` are line numbers; `error` is why it cannot be read."""

    keys: tuple[str, ...] = ()
    empty: tuple[str, ...] = ()
    placeholders: tuple[str, ...] = ()
    twice: tuple[str, ...] = ()
    malformed: tuple[int, ...] = ()
    readable_by_all: bool = False
    error: OSError | ValueError | None = None

    @property
    def problem(self) -> str:
        """Why it cannot be read."""
        if self.error is None:
            return ""
        if isinstance(self.error, FileNotFoundError | NotADirectoryError):
            return "there is no such file"
        return f"it cannot be read: {getattr(self.error, 'strerror', None) or 'it is not a usable path'}"

    @property
    def empty_secrets(self) -> tuple[str, ...]:
        return matching(self.empty, SECRET_NAMES)

    @property
    def placeholder_secrets(self) -> tuple[str, ...]:
        return matching(self.placeholders, SECRET_NAMES)


async def read_env_file(survey: Survey, path: Path) -> EnvFile:
    """Read an environment file. Never raises for what it is."""
    del survey
    return await asyncio.to_thread(_read, path)


def _read(path: Path) -> EnvFile:
    try:
        with path.open("rb") as stream:
            content = stream.read(_MAX_BYTES)
        mode = stat.S_IMODE(path.stat().st_mode)
    except (OSError, ValueError) as error:
        return EnvFile(error=error)
    env_file = parse_env_file(content.decode("utf-8-sig", "replace"))
    return replace(env_file, readable_by_all=bool(mode & stat.S_IROTH))


def parse_env_file(text: str) -> EnvFile:
    """Read it as Docker Compose does, as far as keys are concerned. Pure.

    python-dotenv is no help: it takes the comment of `KEY= # note` for a value.
    """
    values: dict[str, str] = {}
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
        match = _LINE.fullmatch(bare)
        if match is None:
            malformed.append(number)
            continue
        key, value = match[1], match[2].strip()
        if key in values:
            twice.append(key)
        quote = value[:1] if value[:1] in ("'", '"') else ""
        if quote:
            inner, end, _ = value[1:].replace(f"\\{quote}", "").partition(quote)
            # A value that goes on in the next line is something, whatever it begins with.
            values[key] = inner.strip() if end else inner + "\n"
            open_quote = "" if end else quote
        else:
            values[key] = re.split(r"(?:^|\s)#", value)[0].strip()
    if open_quote:
        malformed.append(number)
    return EnvFile(
        keys=tuple(values),
        empty=tuple(key for key, value in values.items() if not value),
        placeholders=tuple(key for key, value in values.items() if _PLACEHOLDER.fullmatch(value)),
        twice=tuple(dict.fromkeys(twice)),
        malformed=tuple(malformed),
    )


def matching(names: Iterable[str], patterns: Iterable[str]) -> tuple[str, ...]:
    """Return the names that match one of the patterns. Pure."""
    patterns = tuple(patterns)
    return tuple(name for name in names if any(fnmatch.fnmatchcase(name, pattern) for pattern in patterns))
