"""The parser of log lines: time, level, tag, correlation id and message of a line, whatever its form.

Three forms are read in any mixture: our tagged lines and foreign ones with the same tags (SPEC A1), JSON
lines (SPEC C5), and plain text. A line may carry a compose prefix (`service-1  | `). Lines are bytes: logs
hold invalid UTF-8 and NUL bytes, and raw output must be byte for byte what stands there.
"""

import json
import re
from collections.abc import Mapping, Sequence
from typing import Any, Literal

from opskit.logs.levels import (
    COMPLAINTS,
    LEADING_LEVEL,
    TRACEBACK,
    Level,
    json_level,
    level_of,
    line_level,
    word_level,
)
from opskit.logs.tag_search import STANDARD_TAGS, tag_pattern
from opskit.logs.times import HEAD, timestamp, written_time
from opskit.records import Record, field, replace
from opskit.tags import Value, parse
from opskit.text import epoch_s

#: Tags that are errors by themselves.
_TAG_LEVELS: dict[str, Level] = {
    "LLM_ERROR": "error",
    "LLM_CRASH": "error",
    "LLM_PARSE": "warning",
    "FALLBACK": "warning",
}
# `web-1  | text`: compose pads the name with blanks and ends the prefix with a bar and one blank.
_COMPOSE = re.compile(rb"^(?:\x1b\[[0-9;]*m)*([A-Za-z0-9][\w.-]*?) *(?:\|\x1b\[0m ?|\| ?(?:\x1b\[0m)?)")
#: What terminals take for colours and the like.
_ANSI = re.compile(rb"\x1b\[[0-9;?]*[ -/]*[@-~]")
_TAG = re.compile(rb"\[([A-Z][A-Z0-9]*(?:_[A-Z0-9]+)+|REQUEST|FALLBACK)\]")
STANDARD_TAG = re.compile(tag_pattern(STANDARD_TAGS).replace(b"(?:", b"(", 1))
_STANDARD_NAMES = frozenset(name.encode() for name in STANDARD_TAGS)
#: `[REQUEST] Correlation ID: job-12`, as another writer has it.
_NAMED = re.compile(rb"correlation[ _-]?id:?\s+(\S{1,64})", re.IGNORECASE)
UUID = re.compile(rb"\b[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}\b", re.IGNORECASE)
#: Keys of JSON lines as their writers mean them: small letters without `_`, `-`, `.` and a leading `@`.
_LEVEL_KEYS = ("level", "severity", "lvl", "levelname", "loglevel", "errorseverity", "severitytext", "l")
_MESSAGE_KEYS = ("message", "msg", "event", "error", "text", "shortmessage", "body", "mt", "m")
_TIME_KEYS = ("timestamp", "time", "ts", "asctime", "t")
_IDENTIFIER_KEYS = ("correlationid", "xcorrelationid", "requestid", "xrequestid", "traceid")
_PUNCTUATION = str.maketrans("", "", "_-.@")
#: More digits than a time in nanoseconds has.
_MOST_DIGITS = 30
#: A time further behind than this is a part of the message.
_TIME_IN_FRONT = 40
_MESSAGE_BYTES = 500


class LogEntry(Record):
    """One event of one source: a line and the lines that continue it, joined by LF, without the last LF.

    `at` is epoch seconds: from the line, else from where it was read (Docker), else None. Of a line in an
    envelope `raw` is the text inside it, `written` the line as it stands in the source, `service` who wrote
    it and `level` what the envelope says of a text without a level.
    """

    source: str
    raw: bytes
    at: float | None = None
    written: bytes | None = None
    service: str | None = None
    level: Level | None = None

    @property
    def bytes_in_source(self) -> bytes:
        return self.raw if self.written is None else self.written

    @property
    def shown(self) -> bytes:
        """What a person reads: the text of an envelope in JSON, the whole line of any other."""
        return self.raw if self.written is None or self.written.startswith(b"{") else self.written


class Facts(Record):
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
    prefix = _COMPOSE.match(line)
    if prefix is None or level_of(prefix[1].decode("ascii", "replace")):
        return None, line
    return prefix[1].decode("ascii", "replace"), line[prefix.end() :]


def facts(raw: bytes) -> Facts:
    """Read one entry. Never raises."""
    _, line = without_prefix(raw)
    first = uncoloured(line.partition(b"\n")[0])
    tag = _TAG.search(first, 0, HEAD)
    if tag is not None and tag[1] not in _STANDARD_NAMES:
        # A logger's name may look like a tag.
        tag = STANDARD_TAG.search(first, tag.end(), HEAD) or tag
    read = _json(first)
    if read is not None:
        return read
    if tag is not None:
        return _tagged(first, tag)
    said = _text(first)
    # A program that dies prints its traceback behind whatever it said last.
    is_raised = said.level not in COMPLAINTS and TRACEBACK in raw[len(first) :]
    return replace(said, level="error") if is_raised else said


def _json(line: bytes) -> Facts | None:
    """What a JSON line says; None for one that is no JSON object."""
    body = json_object(line)
    if body is None:
        return None
    level, message, at, identifier = _said(body)
    if tag := _TAG.match(text := message.encode("utf-8", "replace")):
        # A formatter of JSON around a tagged line.
        inner = _tagged(text, tag)
        return replace(inner, at=at, level=level or inner.level)
    return Facts("json", at=at, level=level, correlation_id=identifier, message=message, fields=body)


def complaint(line: bytes) -> tuple[Level, bytes, float | None] | None:
    """The level, the message and the time of a line that is an error or a warning, else None.

    The line has neither a tag, a compose prefix nor colours. The message of a text line is what its level
    introduces.
    """
    if (body := json_object(line)) is not None:
        level, message, at, _ = _said(body)
        return (level, message.encode("utf-8", "replace"), at) if level in COMPLAINTS else None
    said = line_level(line)
    if said is None or said.level not in COMPLAINTS:
        return None
    return said.level, said.message, timestamp(line)


def uncoloured(line: bytes) -> bytes:
    """A line without the escape sequences of a terminal and the mark that begins a file of UTF-8."""
    line = line.removeprefix(b"\xef\xbb\xbf")
    return _ANSI.sub(b"", line) if b"\x1b" in line else line


def _tagged(line: bytes, tag: re.Match[bytes]) -> Facts:
    name = tag[1].decode("ascii")
    begin = tag.start()
    text = line[begin:].decode("utf-8", "replace")
    parsed = parse(text)
    fields: Mapping[str, Value] = parsed.fields if parsed is not None else {}
    prose = parsed.rest if parsed is not None else ""
    identifier = fields.get("correlation_id")
    if not isinstance(identifier, str):
        identifier = _identifier(line)
    time = written_time(line)
    # Only what stands in front of the tag is the line's own level; behind it is content, previews included.
    timed_only = time is not None and time.start == 0 and begin - time.end <= 1
    level = None if timed_only or not begin else word_level(line[:begin])
    return Facts(
        "tagged",
        at=None if time is None else time.at,
        level=level or _TAG_LEVELS.get(name, "info"),
        tag=name,
        correlation_id=identifier,
        message=prose or text[len(name) + 2 :].strip(),
        fields=fields,
    )


def _text(line: bytes) -> Facts:
    time = written_time(line)
    said = line_level(line)
    if said is not None and not said.is_word:
        message = said.message
    else:
        message = line[time.end :] if time is not None and time.start < _TIME_IN_FRONT else line
        message = LEADING_LEVEL.sub(b"", message, count=1)
    uuid = UUID.search(line)
    return Facts(
        "text",
        at=None if time is None else time.at,
        level=None if said is None else said.level,
        correlation_id=uuid[0].decode().lower() if uuid else None,
        message=message.decode("utf-8", "replace").strip(" \t-:,|]"),
    )


def _identifier(line: bytes) -> str | None:
    """The id that a line says without a field of its own: any UUID, or a word that is called so."""
    if (uuid := UUID.search(line)) is not None:
        return uuid[0].decode().lower()
    name = _NAMED.search(line)
    return None if name is None else name[1].decode("utf-8", "replace")


def json_object(line: bytes) -> dict[str, Any] | None:
    """The JSON object that a line is; None for any other."""
    line = line.lstrip()
    if not line.startswith(b"{"):
        return None
    try:
        body = json.loads(line.decode("utf-8", "replace"))
    except (ValueError, RecursionError):
        return None
    return body if isinstance(body, dict) else None


def _said(body: Mapping[str, Any]) -> tuple[Level | None, str, float | None, str | None]:
    """The level, message, time and id of a JSON line; what it does not say itself an object in it may say."""
    keys = _by_meaning(body)
    below = [_by_meaning(value) for value in body.values() if isinstance(value, dict)]
    level: Level | None = None
    place = keys
    for named in (keys, *below):
        levels = (json_level(named[key], body) for key in _LEVEL_KEYS if key in named)
        if (level := next(filter(None, levels), None)) is not None:
            place = named
            break
    message = next(
        (text for each in (place, keys, *below) if (text := _first_of(each, _MESSAGE_KEYS)) is not None), ""
    )
    times = (time for each in (keys, *below) if (time := _first_of(each, _TIME_KEYS)) is not None)
    identifiers = (name for each in (keys, *below) if (name := _first_of(each, _IDENTIFIER_KEYS)) is not None)
    identifier = next(identifiers, None)
    return level, str(message), _json_time(next(times, None)), None if identifier is None else str(identifier)


def _by_meaning(body: Mapping[str, Any]) -> dict[str, Any]:
    return {key.lower().translate(_PUNCTUATION): value for key, value in body.items() if value is not None}


def _json_time(value: Any) -> float | None:
    if isinstance(value, dict):
        value = value.get("timestamp")
    if not isinstance(value, str):
        return epoch_s(value)
    if value.isascii() and value.isdigit():
        return epoch_s(int(value[:_MOST_DIGITS]))
    return timestamp(value.encode("utf-8", "replace"))


def _first_of(keys: Mapping[str, Any], names: Sequence[str]) -> Any:
    return next((keys[name] for name in names if name in keys), None)
