"""One YAML document: its values, the line of every key, what its texts mean, and what is wrong with it.

A problem is described in one line and never quotes a value, which may be a secret.
"""

import os
import re
import select
from collections.abc import Callable, Collection, Mapping, Sequence
from pathlib import Path as FilePath

from opskit.errors import ConfigError, catalogue
from opskit.records import Record
from opskit.text import and_more, did_you_mean, shortened

Path = tuple[str | int, ...]
#: Takes the problem of the value at a path.
Report = Callable[[Path, str], None]

#: A path of a file is shown whole: its end is what tells files apart.
PATH_CHARS = 4096
_SHOWN_CHARS = 60
#: How long a pipe, such as that of `--config <(sops -d FILE)`, may be silent.
_PIPE_S = 5.0
_NULL = re.compile(r"|~|null|Null|NULL")
_BOOL = re.compile(r"true|True|TRUE|false|False|FALSE")
_INT = re.compile(r"[-+]?[0-9]{1,30}")
_FLOAT = re.compile(
    r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?|[-+]?\.(inf|Inf|INF)|\.(nan|NaN|NAN)",
)
_REFERENCE = re.compile(r"\$\$|\$\{(?P<name>[A-Za-z_][A-Za-z0-9_]*)(?P<default>:-[^}]*)?\}|(?P<open>\$\{)")
_ONLY_NAME = re.compile(r"\$\{([A-Za-z_][A-Za-z0-9_]*)(?::-)?\}")


def printable(text: str, limit: int = _SHOWN_CHARS) -> str:
    """Return `text` fit for one line of a terminal: without control characters, and cut at `limit`."""
    return shortened("".join(char if char.isprintable() else "?" for char in text), limit)


def dotted(path: Path) -> str:
    """Return the key path as people write it: `nodes.ollama.url`."""
    return ".".join(printable(str(part)) for part in path)


def unknown(word: str, known: Collection[str], what: str = "key") -> str:
    """Return the message for a name that does not exist."""
    return f"unknown {what}; {did_you_mean(printable(word), known, limit=1, quote='`')}"


class Problem(Record):
    """One thing to correct. `path` is the file, or the environment variable, that holds it."""

    path: str
    line: int | None
    key: str
    message: str
    code: str = "CONFIG_001"
    remedy: str | None = None
    column: int | None = None

    @property
    def where(self) -> str:
        return ":".join(str(part) for part in (self.path, self.line, self.column) if part is not None)

    @property
    def advice(self) -> str:
        if self.remedy is None and self.code == "CONFIG_001":
            return f"correct {self.path}" + (f", line {self.line}" if self.line else "")
        return self.remedy or catalogue()[self.code].remedy

    def __str__(self) -> str:
        return ": ".join(part for part in (self.where, self.key, self.message) if part)


class InvalidConfigError(ConfigError):
    """All problems of a configuration; the message is the first one and says how many follow."""

    def __init__(self, problems: Sequence[Problem]) -> None:
        first, *others = problems
        more = and_more(len(others), "opskit config check")
        super().__init__(f"{first}{more}", code=first.code, remedy=first.remedy)
        self.problems = tuple(problems)


def read_file(path: FilePath, name: str, max_bytes: int) -> bytes:
    """Return the content of a file that is called `name` in messages.

    Raises ConfigError CONFIG_002 for one that cannot be read, InvalidConfigError for one that is too large.
    """
    shown = printable(name, PATH_CHARS)
    try:
        # Not blocking: to open a named pipe that nobody writes to would wait for ever.
        with os.fdopen(os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC), "rb") as stream:
            content, poll = b"", select.poll()
            poll.register(stream)
            while len(content) <= max_bytes:
                if not poll.poll(_PIPE_S * 1000):
                    raise ConfigError(f"{shown}: nothing is written to it", code="CONFIG_002")
                if not (more := os.read(stream.fileno(), max_bytes + 1 - len(content))):
                    break
                content += more
    except (OSError, ValueError) as exc:
        reason = getattr(exc, "strerror", None) or "not a usable path"
        raise ConfigError(f"{shown or 'the path'}: {reason}", code="CONFIG_002") from exc
    if len(content) > max_bytes:
        raise InvalidConfigError([Problem(shown, None, "", f"larger than {max_bytes} bytes")])
    return content


class Mark(Record):
    """Where a key begins, counted from 1."""

    line: int
    column: int


class Document(Record):
    """The content of one file. `marks` knows every key path, `("nodes", "ollama", "url")`."""

    shown: str
    data: dict[str, object]
    marks: dict[Path, Mark]

    def mark(self, path: Path) -> Mark | None:
        """Return the mark of `path` or of the nearest section around it; None for an empty document."""
        return next((self.marks[path[:n]] for n in range(len(path), 0, -1) if path[:n] in self.marks), None)

    def where(self, path: Path) -> str:
        mark = self.mark(path)
        return f"{self.shown}:{mark.line}" if mark else self.shown

    def problem(
        self, path: Path, message: str, *, code: str = "CONFIG_001", remedy: str | None = None
    ) -> Problem:
        mark = self.mark(path)
        line, column = (mark.line, mark.column) if mark else (None, None)
        return Problem(self.shown, line, dotted(path), message, code, remedy, column)


def scalar(text: str) -> str | int | float | bool | None:
    """Return what an unquoted word means in the core schema of YAML 1.2: `yes` and `1:30` are text."""
    if _NULL.fullmatch(text):
        return None
    if _BOOL.fullmatch(text):
        return text.lower() == "true"
    if _INT.fullmatch(text):
        return int(text)
    if _FLOAT.fullmatch(text):
        return float(text.lower().replace(".inf", "inf").replace(".nan", "nan"))
    return text


class FromEnvironment(str):
    """Text that a reference helped to write: it may stand for a number or a truth value too."""

    __slots__ = ()


def retyped(value: object) -> object:
    """Return the value that text out of a variable stands for, and anything else as it is."""
    return scalar(value) if isinstance(value, FromEnvironment) else value


class Substitution(Record):
    """A text with its references replaced; `text` is usable only without `unset` and `problem`.

    `unset` are the variables without a value and without a default, `problem` is a broken `${`.
    """

    text: str
    unset: tuple[str, ...] = ()
    problem: str = ""


def substitute(text: str, environ: Mapping[str, str]) -> Substitution:
    """Replace every `${NAME}` and `${NAME:-default}` once; `$$` is a dollar sign.

    As in a shell, `${NAME}` takes an empty variable as it is and `${NAME:-default}` does not.
    """
    unset: list[str] = []
    referred, problem = False, ""

    def replacement(match: re.Match[str]) -> str:
        nonlocal referred, problem
        if match[0] == "$$":
            return "$"
        if match["open"]:
            problem = "a `${` needs a name and a `}`; a dollar sign is `$$`"
            return match[0]
        referred = True
        value = environ.get(match["name"])
        if match["default"] is not None:
            return value or match["default"].removeprefix(":-")
        if value is None:
            unset.append(match["name"])
        return value or ""

    result = _REFERENCE.sub(replacement, text)
    return Substitution(FromEnvironment(result) if referred else result, tuple(unset), problem)


def only_name(text: str) -> str | None:
    """Return the variable when `text` is a single reference and nothing else, as a secret must be."""
    match = _ONLY_NAME.fullmatch(text)
    return match[1] if match else None


def names(text: str) -> tuple[str, ...]:
    """Return every variable that `text` refers to, with or without a default, once each."""
    return tuple(dict.fromkeys(match["name"] for match in _REFERENCE.finditer(text) if match["name"]))
