"""Environment files by the names that they set, without a single value."""

import asyncio
import fnmatch
import re
import stat
from collections.abc import Iterable
from pathlib import Path

from opskit.facts.survey import Survey
from opskit.records import Record
from opskit.system.env_file import parse_env_file

#: Names whose values must not be empty.
SECRET_NAMES = ("*KEY*", "*TOKEN*", "*SECRET*", "*PASSWORD*", "*PASSWD*", "*CREDENTIAL*")
_MAX_BYTES = 4 * 1024 * 1024
#: What example files leave for a person to replace; nothing that could be somebody's real secret.
_PLACEHOLDER = re.compile(
    r"change[-_ ]?(me|this|it)\W*|your[-_ ].*|<.*>|x{3,}|\*{3,}|(sk-)?\.{3}|(sk-)?…|to[-_ ]?do"
    r"|placeholder|replace[-_ ]?(me|this|with).*|.*[-_ ]goes[-_ ]here|.*[-_ ]here",
    re.IGNORECASE,
)


class EnvFileFacts(Record, kw_only=True):
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


async def read_env_file(_: Survey, path: Path) -> EnvFileFacts:
    """Read an environment file. Never raises for what it is."""
    return await asyncio.to_thread(_read, path)


def _read(path: Path) -> EnvFileFacts:
    try:
        with path.open("rb") as stream:
            content = stream.read(_MAX_BYTES)
        mode = stat.S_IMODE(path.stat().st_mode)
    except (OSError, ValueError) as error:
        return EnvFileFacts(error=error)
    file = parse_env_file(content.decode("utf-8-sig", "replace"))
    values = {name: value.strip() for name, value in file.values.items()}
    return EnvFileFacts(
        keys=tuple(values),
        empty=tuple(name for name, value in values.items() if not value),
        placeholders=tuple(name for name, value in values.items() if _PLACEHOLDER.fullmatch(value)),
        twice=file.repeated,
        malformed=file.malformed,
        readable_by_all=bool(mode & stat.S_IROTH),
    )


def matching(names: Iterable[str], patterns: Iterable[str]) -> tuple[str, ...]:
    patterns = tuple(patterns)
    return tuple(name for name in names if any(fnmatch.fnmatchcase(name, pattern) for pattern in patterns))
