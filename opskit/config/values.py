"""What may stand in a section of the configuration file: readers, derived from the types of the schema.

Names carry the rules (house style): a float that ends in `_s` is a duration and may be written as `2s`, other
floats are positive numbers, integers are counts. pydantic, which reads checklists and the bodies of requests,
would cost each command that has a file 0.1 s of imports.
"""

import math
import re
import shlex
from collections.abc import Callable, Sequence
from fnmatch import fnmatchcase
from functools import cache
from types import NoneType, UnionType
from typing import Any, Literal, get_args, get_origin, get_type_hints

from opskit.config.document import Path, Report, retyped, unknown
from opskit.config.origins import printable_text
from opskit.config.schema import AgentConfig, NodeConfig, Secret
from opskit.records import Record, is_record
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


#: Returns a value as it is used; reports the problems of what stands at a path.
Reader = Callable[[object, Path, Report], Any]

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
#: Keys of nodes and agents that are found out, not written.
_NOT_WRITTEN = ("name", "explicit", "proxy")


class WrongValueError(ValueError):
    """A value is not what its key is for; the message says what it must be."""


def section(schema: type, raw: object, at: Path, report: Report) -> dict[str, Any]:
    """Return the keys that are set in the section that becomes `schema`; each of them may be left out."""
    if not isinstance(raw, dict):
        report(at, NOT_A_SECTION)
        return {}
    readers = _readers(schema)
    values = {}
    for key, value in raw.items():
        if key in readers:
            values[key] = readers[key](value, (*at, key), report)
        else:
            report((*at, key), unknown(key, readers))
    return values


@cache
def _readers(schema: type) -> dict[str, Reader]:
    readers = {key: _reader(key, hint) for key, hint in get_type_hints(schema).items()}
    if schema in (NodeConfig, AgentConfig):
        readers = {key: reader for key, reader in readers.items() if key not in _NOT_WRITTEN}
        readers["enabled"] = _checked(_flag)
    return readers


def _reader(key: str, hint: Any) -> Reader:
    """Return what reads the value of a key, by the type that it has in the schema."""
    if hint is bool:
        return _checked(_flag)
    if hint is int:
        read = _size if key.endswith("_bytes") else retyped
        return _checked(lambda value: _count(read(value), least=0 if key in _MAY_BE_ZERO else 1))
    if hint is float:
        return _checked(_float_reader(key))
    if hint is str:
        return _checked(_text if key == "url" else _printable)
    if is_record(hint):
        return lambda value, at, report: section(hint, value, at, report)
    if get_origin(hint) is UnionType:
        (inner,) = (arg for arg in get_args(hint) if arg is not NoneType)
        if inner is Secret:
            # A secret is resolved before it comes here, so that nothing else ever sees it.
            return _checked(lambda value: value)
        reader = _reader(key, inner)
        return lambda value, at, report: None if value is None else reader(value, at, report)
    if get_origin(hint) is Literal:
        return _checked(lambda value: _choice(value, get_args(hint)))
    if get_origin(hint) is tuple:
        return _list_reader(key, get_args(hint)[0])
    if get_origin(hint) is dict:
        return _mapping_reader(_reader(key, get_args(hint)[1]))
    raise TypeError(f"no key of a configuration file is a {hint}")


def _checked(check: Callable[[object], object]) -> Reader:
    """Return the reader of a single value, from a function that raises ValueError with the problem."""

    def read(value: object, at: Path, report: Report) -> object:
        try:
            return check(value)
        except ValueError as exc:
            report(at, str(exc))
            return None

    return read


def _list_reader(key: str, item: Any) -> Reader:
    is_choice = get_origin(item) is Literal
    reader = _reader(key, item) if is_choice else _checked(_ITEMS.get(key, _printable))

    def read(value: object, at: Path, report: Report) -> tuple[Any, ...]:
        if not isinstance(value, list | tuple):
            report(at, NOT_A_LIST)
            return ()
        items = tuple(reader(each, (*at, index), report) for index, each in enumerate(value))
        if is_choice and not items:
            report(at, EMPTY)
        for name in dict.fromkeys(items if is_choice else ()):
            if name is not None and items.count(name) > 1:
                report(at, f"names {name} twice")
        return items

    return read


def _mapping_reader(reader: Reader) -> Reader:
    def read(value: object, at: Path, report: Report) -> dict[str, Any]:
        if not isinstance(value, dict):
            report(at, NOT_A_SECTION)
            return {}
        for name in value:
            if not NAME.fullmatch(name):
                report((*at, name), NAME_RULE)
        return {name: reader(each, (*at, name), report) for name, each in value.items()}

    return read


def _flag(value: object) -> bool:
    value = retyped(value)
    if not isinstance(value, bool):
        raise WrongValueError(NOT_A_FLAG)
    return value


def _count(value: object, *, least: int) -> int:
    if not isinstance(value, int) or isinstance(value, bool):
        raise WrongValueError(NOT_A_COUNT)
    if value < least:
        raise WrongValueError(f"must be at least {least}")
    if value > MAX_COUNT:
        raise WrongValueError(f"must be at most {MAX_COUNT}")
    return value


def _size(value: object) -> object:
    value = retyped(value)
    amount = size_bytes(value) if isinstance(value, str) else value
    if not isinstance(amount, int):
        raise WrongValueError(NOT_A_SIZE)
    return amount


def _float_reader(key: str) -> Callable[[object], float]:
    if key.endswith("_s") and not key.endswith("_per_s"):
        return _duration
    most = 100.0 if key.endswith("_percent") else math.inf
    return lambda value: _number(retyped(value), may_be_zero=key in _MAY_BE_ZERO, most=most)


def _duration(value: object) -> float:
    value = retyped(value)
    if isinstance(value, str):
        value = duration_s(value)
        if value is None:
            raise WrongValueError(NOT_A_DURATION)
    return _number(value, most=MAX_DURATION_S)


def _number(value: object, *, may_be_zero: bool = False, most: float = math.inf) -> float:
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


def _choice(value: object, choices: tuple[str, ...]) -> str:
    if not isinstance(value, str) or value not in choices:
        *others, last = map(repr, choices)
        raise WrongValueError(f"must be {', '.join(others)} or {last}")
    return str(value)


def _ssh_host(value: object) -> str:
    text = _printable(value)
    if not _SSH_HOST.fullmatch(text):
        raise WrongValueError("must be a host as ssh names it: HOST or USER@HOST")
    return text


def _command_rule(value: object) -> str:
    text = _text(value)
    if not text:
        raise WrongValueError(EMPTY)
    return command_pattern(text).text


#: Texts of lists that are more than text, by the key of the list.
_ITEMS: dict[str, Callable[[object], str]] = {
    "ssh_hosts": _ssh_host,
    **dict.fromkeys(("deny", "ask", "allow"), _command_rule),
}
