"""What a log line says: its time, level, tag, correlation id and message, whatever its form.

Three forms are read in any mixture: our tagged lines and foreign ones with the same tags (SPEC A1), JSON
lines (SPEC C5), and plain text. A line may carry a compose prefix (`service-1  | `). Lines are bytes: logs
hold invalid UTF-8 and NUL bytes, and raw output must be byte for byte what stands there.
"""

import json
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from functools import lru_cache
from typing import Any, Literal

from opskit.logs.tag_names import STANDARD_TAGS, tag_pattern
from opskit.tags import Value, parse
from opskit.text import EARLIEST_S, LATEST_S, epoch_s

Level = Literal["debug", "info", "warning", "error", "critical"]

#: Order of severity.
LEVELS: tuple[Level, ...] = ("debug", "info", "warning", "error", "critical")

_LEVEL_WORDS: dict[str, Level] = {
    "trace": "debug",
    "debug": "debug",
    "info": "info",
    "notice": "info",
    "warn": "warning",
    "warning": "warning",
    "err": "error",
    "error": "error",
    "fatal": "critical",
    "critical": "critical",
    "crit": "critical",
    "panic": "critical",
    "alert": "critical",
    "emerg": "critical",
}
#: Tags that are errors by themselves.
_TAG_LEVELS: dict[str, Level] = {
    "LLM_ERROR": "error",
    "LLM_CRASH": "error",
    "LLM_PARSE": "warning",
    "FALLBACK": "warning",
}
# `web-1  | text`: compose pads the name with blanks and ends the prefix with a bar and one blank.
_COMPOSE = re.compile(rb"^(?:\x1b\[[0-9;]*m)*([A-Za-z0-9][\w.-]*?) *\| ?(?:\x1b\[0m)?")
_TIME = re.compile(
    rb"(?P<date>\d{4}-\d\d-\d\d)[T ](?P<time>\d\d:\d\d:\d\d)(?:[.,](?P<fraction>\d{1,9}))?"
    rb"\d*\s?(?P<zone>Z|[+-]\d\d:?\d\d)?"
)
_LEVEL = re.compile(
    rb"(?:^|[\s\[|:\"=<(])(TRACE|DEBUG|INFO|NOTICE|WARN|WARNING|ERR|ERROR|FATAL|CRITICAL|CRIT|PANIC)(?=$|[\s\]|:,;\">)!-])"
)
_LOGFMT_LEVEL = re.compile(rb"(?:^|\s)(?:level|lvl|severity)=\"?([A-Za-z]+)")
_LEADING_LEVEL = re.compile(
    rb"^[\s\[|:(-]*(?:TRACE|DEBUG|INFO|NOTICE|WARN|WARNING|ERR|ERROR|FATAL|CRITICAL|CRIT|PANIC)\b[\]:)]*"
)
_TAG = re.compile(rb"\[([A-Z][A-Z0-9]*(?:_[A-Z0-9]+)+|REQUEST|FALLBACK)\]")
_STANDARD = re.compile(tag_pattern(STANDARD_TAGS).replace(b"(?:", b"(", 1))
_STANDARD_TAGS = frozenset(name.encode() for name in STANDARD_TAGS)
#: `[REQUEST] Correlation ID: job-12`, as another writer has it.
_NAMED = re.compile(rb"correlation[ _-]?id:?\s+(\S{1,64})", re.IGNORECASE)
_UUID = re.compile(rb"\b[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}\b", re.IGNORECASE)
LEVEL_KEYS = ("level", "severity", "lvl", "levelname", "log.level")
MESSAGE_KEYS = ("message", "msg", "event", "error", "text")
TIME_KEYS = ("timestamp", "time", "ts", "@timestamp", "asctime")
_IDENTIFIER_KEYS = ("correlation_id", "request_id", "trace_id", "correlationId")
#: How far into a line its time and level are looked for.
_HEAD = 400
#: More digits than a time in nanoseconds has.
_MOST_DIGITS = 30


@dataclass(frozen=True, slots=True)
class LogEntry:
    """One event of one source: a line and the lines that continue it, joined by LF, without the last LF.

    `at` is epoch seconds: from the line, else from where it was read (Docker), else None.
    """

    source: str
    raw: bytes
    at: float | None = None


@dataclass(frozen=True, slots=True)
class Facts:
    """What an entry says. `message` is text without time, level and tag."""

    form: Literal["tagged", "json", "text"]
    at: float | None = None
    level: Level | None = None
    tag: str | None = None
    correlation_id: str | None = None
    message: str = ""
    fields: Mapping[str, Any] = field(default_factory=dict)


def without_prefix(line: bytes) -> tuple[str | None, bytes]:
    """The compose service and the line behind its prefix; (None, line) when there is no prefix."""
    found = _COMPOSE.match(line)
    if found is None:
        return None, line
    return found[1].decode("ascii", "replace"), line[found.end() :]


def timestamp(line: bytes) -> float | None:
    """The first time in the head of a line as epoch seconds; one without a zone is taken as UTC."""
    found = _TIME.search(line, 0, _HEAD)
    return None if found is None else _epoch(found)


def facts(raw: bytes) -> Facts:
    """Read one entry. Never raises."""
    _, line = without_prefix(raw)
    first = line.partition(b"\n")[0]
    tag = _TAG.search(first, 0, _HEAD)
    if tag is not None and tag[1] not in _STANDARD_TAGS:
        # A logger's name may look like a tag.
        tag = _STANDARD.search(first, tag.end(), _HEAD) or tag
    stripped = first.lstrip() if tag is None or first.lstrip().startswith(b"{") else b""
    if stripped.startswith(b"{"):
        found = _json(stripped)
        if found is not None:
            return found
    return _tagged(first, tag) if tag is not None else _text(first)


def level_of(word: str) -> Level | None:
    """The level that a word stands for, in any case."""
    return _LEVEL_WORDS.get(word.strip().lower())


def _tagged(line: bytes, tag: re.Match[bytes]) -> Facts:
    name = tag[1].decode("ascii")
    begin = tag.start()
    text = line[begin:].decode("utf-8", "replace")
    read = parse(text)
    fields: Mapping[str, Value] = read.fields if read is not None else {}
    rest = read.rest if read is not None else ""
    identifier = fields.get("correlation_id")
    if not isinstance(identifier, str):
        identifier = _identifier(line)
    when = _TIME.search(line, 0, _HEAD)
    # Only what stands in front of the tag is the line's own level; behind it is content, previews included.
    timed_only = when is not None and when.start() == 0 and begin - when.end() <= 1
    level = None if timed_only or not begin else _level(line[:begin])
    return Facts(
        "tagged",
        None if when is None else _epoch(when),
        level or _TAG_LEVELS.get(name, "info"),
        name,
        identifier,
        rest or text[len(name) + 2 :].strip(),
        fields,
    )


def _identifier(line: bytes) -> str | None:
    """The id that a line says without a field of its own: any UUID, or a word that is called so."""
    if (uuid := _UUID.search(line)) is not None:
        return uuid[0].decode().lower()
    named = _NAMED.search(line)
    return None if named is None else named[1].decode("utf-8", "replace")


def _json(line: bytes) -> Facts | None:
    try:
        body = json.loads(line)
    except (ValueError, RecursionError):
        return None
    if not isinstance(body, dict):
        return None
    word = first_of(body, LEVEL_KEYS)
    message = first_of(body, MESSAGE_KEYS)
    identifier = first_of(body, _IDENTIFIER_KEYS)
    when = first_of(body, TIME_KEYS)
    if (
        isinstance(message, str)
        and (tag := _TAG.match(said := message.encode("utf-8", "replace"))) is not None
    ):
        # A formatter of JSON around a tagged line.
        inner = _tagged(said, tag)
        level = level_of(str(word)) if word is not None else None
        return replace(inner, at=json_time(when), level=level or inner.level)
    return Facts(
        "json",
        json_time(when),
        level_of(str(word)) if word is not None else None,
        None,
        str(identifier) if identifier is not None else None,
        str(message) if message is not None else "",
        body,
    )


def _text(line: bytes) -> Facts:
    found = _TIME.search(line, 0, _HEAD)
    rest = line[found.end() :] if found is not None and found.start() < 40 else line
    rest = _LEADING_LEVEL.sub(b"", rest, count=1)
    uuid = _UUID.search(line)
    return Facts(
        "text",
        _epoch(found) if found is not None else None,
        _level(line),
        None,
        uuid[0].decode().lower() if uuid else None,
        rest.decode("utf-8", "replace").strip(" \t-:,|]"),
    )


def _level(line: bytes) -> Level | None:
    found = _LEVEL.search(line, 0, _HEAD)
    if found is not None:
        return _LEVEL_WORDS[found[1].decode().lower()]
    found = _LOGFMT_LEVEL.search(line, 0, _HEAD)
    return level_of(found[1].decode()) if found is not None else None


def first_of(body: Mapping[str, Any], names: Sequence[str]) -> Any:
    """The first of these fields that is not null."""
    for name in names:
        value = body.get(name)
        if value is not None:
            return value
    return None


def json_time(value: Any, read: Callable[[bytes], float | None] = timestamp) -> float | None:
    """The time that a value of a JSON line says, as epoch seconds. `read` reads a written one."""
    if not isinstance(value, str):
        return epoch_s(value)
    if value.isascii() and value.isdigit():
        return epoch_s(int(value[:_MOST_DIGITS]))
    return read(value.encode("utf-8", "replace"))


def _epoch(found: re.Match[bytes]) -> float | None:
    date, time, fraction, zone = found.groups()
    second = _second(date, time)
    if second is None:
        return None
    seconds = second + (int(fraction) / 10 ** len(fraction) if fraction else 0.0)
    if zone and zone != b"Z":
        digits = zone[1:].replace(b":", b"")
        offset = int(digits[:2]) * 3600 + int(digits[2:]) * 60
        seconds -= offset if zone[:1] == b"+" else -offset
    return seconds if EARLIEST_S <= seconds < LATEST_S else None


@lru_cache(maxsize=1024)
def _second(date: bytes, time: bytes) -> float | None:
    """Lines that follow each other mostly share their second."""
    try:
        return datetime.fromisoformat(f"{date.decode()}T{time.decode()}+00:00").timestamp()
    except ValueError:
        return None
