"""What people write in configurations and checklists, and models in calls of tools, read by type hints.

In the configuration names carry the rules (house style): a float that ends in `_s` is a duration and may be
written as `2s`, other floats are positive numbers, integers are counts. Elsewhere a type has its `Rule`.
pydantic, which reads the bodies of requests, would cost each command 0.1 s of imports.
"""

import math
import re
import shlex
from collections.abc import Callable, Mapping, Sequence
from fnmatch import fnmatchcase
from functools import cache
from types import NoneType, UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin, get_type_hints

from msgspec import structs

from opskit.config.document import Path, Report, retyped, unknown
from opskit.config.origins import FOUND_OUT, printable_text
from opskit.config.schema import AgentConfig, NodeConfig, Secret
from opskit.records import Record, is_record, names
from opskit.text import duration_s, size_bytes

#: Stands for any number of further words.
REST = "..."


class CommandPattern(Record):
    """`docker restart *`: a program, then one pattern for each word; `...` at the end takes all others."""

    text: str
    words: tuple[str, ...]
    rest: bool

    def matches(
        self, programs: Sequence[str], arguments: Sequence[str], free: Callable[[str], bool] = lambda _: True
    ) -> bool:
        """Tell whether a command has this shape.

        `programs` are the names of its program. A word that only a wildcard takes must be `free`.
        """
        program, *patterns = self.words
        if not any(fnmatchcase(name, program) for name in programs):
            return False
        if len(arguments) < len(patterns) or (len(arguments) > len(patterns) and not self.rest):
            return False
        return all(
            word == pattern or (fnmatchcase(word, pattern) and free(word))
            for word, pattern in zip(arguments, patterns, strict=False)
        ) and all(free(word) for word in arguments[len(patterns) :])


def command_pattern(text: str) -> CommandPattern:
    """Return the pattern that a text in the configuration means. Raises ValueError."""
    if not text.isprintable():
        raise ValueError("holds characters that cannot be shown")
    try:
        words = shlex.split(text)
    except ValueError as exc:
        raise ValueError("has a quote that is not closed") from exc
    rest = bool(words) and words[-1] == REST
    words = words[:-1] if rest else words
    if not words:
        raise ValueError("must begin with the name of a program")
    if REST in words:
        raise ValueError(f"has `{REST}` before its end: only the last word may be `{REST}`")
    if any(char in words[0] for char in "*?["):
        raise ValueError("must name its program without wildcards")
    return CommandPattern(text, tuple(words), rest)


_UNIONS = (Union, UnionType)
MAX_DURATION_S = 365 * 24 * 3600.0
MAX_COUNT = 2**53
NOT_A_FLAG = "must be true or false"
NOT_A_COUNT = "must be a whole number"
NOT_A_NUMBER = "must be a number"
NOT_TEXT = "must be text: put it in quotes"
NOT_A_LIST = "must be a list"
NOT_A_SECTION = "must be a section of `key: value` lines"
NOT_A_DURATION = "must be a duration: seconds, or text such as 500ms, 2s, 1m"
NOT_A_SIZE = "must be a size: bytes, or text such as 64KiB, 10MB"
EMPTY = "must not be empty"
NAME = re.compile(r"[a-z0-9][a-z0-9_-]*")
NAME_RULE = "a name is made of a-z, 0-9, _ and -"

_SSH_HOST = re.compile(r"(?:[A-Za-z0-9_][\w.-]*@)?[A-Za-z0-9](?:[\w.-]*\w)?", re.ASCII)
#: Numbers for which zero is a choice; of the others it would switch the whole thing off by accident.
_MAY_BE_ZERO = (
    *("temperature", "seed", "memory_reserve_bytes", "backups"),
    *("preview_chars", "max_fallbacks", "holdback_chars"),
)


class WrongValueError(ValueError):
    """A value is not what its key is for; the message says what it must be."""


class Rule(Record, eq=False):
    """How a value of an Annotated type is read, and its JSON schema where that is not the one of its type.

    `read` returns the value; a ValueError says what is wrong with it.
    """

    read: Callable[[Any], object]
    schema: Mapping[str, Any] | None = None


class Parameters(Record):
    """What may be written in a section with fields of its own; other keys are refused."""


def validated(shape: type, raw: object, at: Path, report: Report) -> Any:
    """Return an instance of `shape`, or None after problems, which went to `report`."""
    problems: dict[Path, str] = {}
    given = {} if raw is None else raw
    values = section(shape, given, at, lambda path, message: problems.update({path: message}))
    required = [field.name for field in structs.fields(shape) if field.required]
    for name in [name for name in required if isinstance(given, dict) and name not in given]:
        # A missing key that is there under a mistyped name is reported anyway.
        if not any(message.endswith(f"did you mean `{name}`?") for message in problems.values()):
            problems[*at, name] = "is missing"
    if not problems:
        try:
            return shape(**values)
        except ValueError as exc:
            problems[at] = str(exc)
    for path, message in problems.items():
        report(path, message)
    return None


def section(schema: type, raw: object, at: Path, report: Report) -> dict[str, Any]:
    """Return the keys that are set in the section that becomes `schema`; each of them may be left out."""
    if not isinstance(raw, dict):
        report(at, NOT_A_SECTION)
        return {}
    hints = hints_of(schema)
    values = {}
    for key, value in raw.items():
        if key in hints:
            values[key] = _value(key, hints[key], value, (*at, key), report)
        else:
            report((*at, key), unknown(key, [*hints, *getattr(schema, "OF_THE_KIND", ())]))
    return values


@cache
def hints_of(schema: type) -> dict[str, Any]:
    """Return the type of every key that may be written."""
    every = get_type_hints(schema, include_extras=True)
    hints = {name: every[name] for name in names(schema)}
    if schema in (NodeConfig, AgentConfig):
        hints = {key: hint for key, hint in hints.items() if key not in FOUND_OUT} | {"enabled": bool}
    return hints


def _value(key: str, hint: Any, value: object, at: Path, report: Report) -> Any:
    """Return the value of a key, by the type that it has in the schema; None after a problem."""
    kind, parts = get_origin(hint), get_args(hint)
    if is_record(hint):
        return (validated if issubclass(hint, Parameters) else section)(hint, value, at, report)
    # A secret is resolved before it comes here, so that nothing else ever sees it.
    if hint is Any or (kind in _UNIONS and (value is None or parts[0] is Secret)):
        return value
    if kind in _UNIONS:
        return _one_of(key, [part for part in parts if part is not NoneType], value, at, report)
    if kind is tuple:
        return _items(key, parts[0], value, at, report)
    if kind is dict:
        if not isinstance(value, dict):
            report(at, NOT_A_SECTION)
            return {}
        for name in value:
            if parts[0] is not str:
                _value(key, parts[0], name, (*at, name), report)
            elif not NAME.fullmatch(name):
                report((*at, name), NAME_RULE)
        return {name: _value(key, parts[1], item, (*at, name), report) for name, item in value.items()}
    try:
        if kind is not Annotated:
            return _TEXTS.get(key, _printable)(value) if hint is str else _single(key, hint, value)
        for rule in parts[1:]:
            value = rule.read(value)
    except ValueError as exc:
        report(at, str(exc))
        return None
    return _value(key, parts[0], value, at, report) if get_origin(parts[0]) is tuple else value


def _one_of(key: str, hints: Sequence[Any], value: object, at: Path, report: Report) -> Any:
    """Return the value by the first type that it has; the problems are those of the last one."""
    problems: list[tuple[Path, str]] = []
    for hint in hints:
        problems.clear()
        result = _value(key, hint, value, at, lambda path, message: problems.append((path, message)))
        if not problems:
            return result
    for path, message in problems:
        report(path, message)
    return None


def _items(key: str, hint: Any, value: object, at: Path, report: Report) -> tuple[Any, ...]:
    if not isinstance(value, list | tuple):
        report(at, NOT_A_LIST)
        return ()
    items = tuple(_value(key, hint, item, (*at, index), report) for index, item in enumerate(value))
    if get_origin(hint) is Literal:
        if not items:
            report(at, EMPTY)
        for name in dict.fromkeys(items):
            if name is not None and items.count(name) > 1:
                report(at, f"names {name} twice")
    return items


def _single(key: str, hint: Any, value: object) -> object:
    """Return a choice, a truth value or a number. Raises ValueError with the problem."""
    if get_origin(hint) is Literal:
        if not isinstance(value, str) or value not in get_args(hint):
            *others, last = map(repr, get_args(hint))
            raise WrongValueError(f"must be {', '.join(others)} or {last}")
        return str(value)
    value = retyped(value)
    if hint is bool:
        if not isinstance(value, bool):
            raise WrongValueError(NOT_A_FLAG)
        return value
    least = 0 if key in _MAY_BE_ZERO else 1
    if hint is int:
        return whole(size(value) if key.endswith("_bytes") else value, least)
    if key.endswith("_s") and not key.endswith("_per_s"):
        return number(duration(value), most=MAX_DURATION_S)
    return number(value, most=100.0 if key.endswith("_percent") else math.inf, may_be_zero=not least)


def whole(value: object, least: int, most: int = MAX_COUNT) -> int:
    """Return a whole number between two others. Raises ValueError."""
    if not isinstance(value, int) or isinstance(value, bool):
        raise WrongValueError(NOT_A_COUNT)
    if not least <= value <= most:
        raise WrongValueError(f"must be at {f'least {least}' if value < least else f'most {most}'}")
    return value


def size(value: object) -> int:
    """Return the number of a size. Raises ValueError."""
    value = size_bytes(value) if isinstance(value, str) else value
    if not isinstance(value, int):
        raise WrongValueError(NOT_A_SIZE)
    return value


def duration(value: object) -> object:
    """Return the seconds of a text, and anything else as it is. Raises ValueError."""
    seconds = duration_s(value) if isinstance(value, str) else value
    if seconds is None and value is not None:
        raise WrongValueError(NOT_A_DURATION)
    return seconds


def number(value: object, *, most: float = math.inf, may_be_zero: bool = False) -> float:
    """Return a positive number. Raises ValueError."""
    if not isinstance(value, int | float) or isinstance(value, bool):
        raise WrongValueError(NOT_A_NUMBER)
    if not math.isfinite(value):
        raise WrongValueError("must be a finite number")
    if value < 0 or (value == 0 and not may_be_zero):
        raise WrongValueError("must be at least 0" if may_be_zero else "must be more than 0")
    if value > most:
        raise WrongValueError(f"must be at most {most:.0f}")
    return float(value)


def _text(value: object) -> str:
    if not isinstance(value, str):
        raise WrongValueError(NOT_TEXT)
    return str(value)


def _printable(value: object) -> str:
    text = _text(value)
    if not text:
        raise WrongValueError(EMPTY)
    return printable_text(text)


def _ssh_host(value: object) -> str:
    text = _printable(value)
    if not _SSH_HOST.fullmatch(text):
        raise WrongValueError("must be a host as ssh names it: HOST or USER@HOST")
    return text


#: Texts that are less, or more, than one printable line, by their key.
_TEXTS: dict[str, Callable[[object], str]] = {
    "url": _text,
    # Patterns of models are matched against lower-cased names.
    "categories": lambda value: _printable(value).lower(),
    "ssh_hosts": _ssh_host,
    **dict.fromkeys(("deny", "ask", "allow"), lambda value: command_pattern(_printable(value)).text),
}
