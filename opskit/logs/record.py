"""The parser of log lines: time, level, tag, correlation id and message of a line, whatever its form.

Three forms are read in any mixture: our tagged lines and foreign ones with the same tags (SPEC A1), JSON
lines (SPEC C5), and plain text. A line may carry a compose prefix (`service-1  | `). Lines are bytes: logs
hold invalid UTF-8 and NUL bytes, and raw output must be byte for byte what stands there.
"""

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Literal

from opskit.logs.levels import (
    COMPLAINTS,
    LEADING_LEVEL,
    LEVELS,
    TRACEBACK,
    Level,
    json_level,
    letter_level,
    level_of,
    line_level,
    otel_level,
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
_LEVEL_KEYS = (
    "level",
    "severity",
    "lvl",
    "levelname",
    "loglevel",
    "errorseverity",
    "severitytext",
    "messagetype",
    "l",
)
_MESSAGE_KEYS = (
    *(
        "message",
        "msg",
        "event",
        "error",
        "text",
        "shortmessage",
        "body",
        "mt",
        "m",
        "textpayload",
        "eventmessage",
    ),
)
_TIME_KEYS = (
    *("timestamp", "time", "ts", "asctime", "t"),
    *("timeunixnano", "observedtimeunixnano", "observedtimestamp", "instant"),
)
#: OpenTelemetry writes the id of nothing as zeros.
_NO_IDS = ("", "0" * 16, "0" * 32)
#: What a time that is written as an object calls its number or its text, and the part of a second beside it.
_TIME_PARTS = ("timestamp", "$date", "$numberlong", "$timestamp", "t", "seconds", "epochsecond")
_NANOSECONDS = ("nanos", "nanoofsecond")
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
    read = _json(first) or (_json(line) if first.startswith(b"{") else None)
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
    at = timestamp(line) if at is None else at
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
        at = timestamp(line) if at is None else at
        return (level, message.encode("utf-8", "replace"), at) if level in COMPLAINTS else None
    said = line_level(line)
    if said is None or said.level not in COMPLAINTS:
        return None
    return said.level, said.message, timestamp(line)


def uncoloured(line: bytes) -> bytes:
    """A line without escape sequences, the mark of UTF-8, and the NUL bytes in front after a truncation."""
    line = line.lstrip(b"\0").removeprefix(b"\xef\xbb\xbf")
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
    if isinstance(body.get("resourceLogs"), list):
        return _worst_of(body["resourceLogs"])
    keys = _by_meaning(body)
    nested = (_object_of(value) for value in body.values() if isinstance(value, dict | list))
    below = [_by_meaning(value) for value in nested if value is not None]
    level, place = None, keys
    for named in (keys, *below):
        level = _level(named, body)
        if level is not None:
            place = named
            break
    message = next(
        (text for each in (place, keys, *below) if (text := _first_of(each, _MESSAGE_KEYS)) is not None), ""
    )
    written = (_json_time(each[name]) for each in (keys, *below) for name in _TIME_KEYS if name in each)
    at = next((at for at in written if at is not None), None)
    identifiers = (name for each in (keys, *below) if (name := _first_of(each, _IDENTIFIER_KEYS)) is not None)
    identifier = str(next(identifiers, "")).removeprefix("0x")
    return level, _text_in(message), at, None if identifier in _NO_IDS else identifier


def _by_meaning(body: Mapping[str, Any]) -> dict[str, Any]:
    return {key.lower().translate(_PUNCTUATION): value for key, value in body.items() if value is not None}


def _level(keys: Mapping[str, Any], body: Mapping[str, Any]) -> Level | None:
    levels = (json_level(keys[name], body) for name in _LEVEL_KEYS if name in keys)
    level = next((level for level in levels if level is not None), None)
    if level is None and "severitynumber" in keys:
        level = otel_level(keys["severitynumber"])
    return letter_level(keys["s"]) if level is None and {"t", "s", "c"} <= keys.keys() else level


def _worst_of(resources: Iterable[Any]) -> tuple[Level | None, str, float | None, str | None]:
    """What the worst record of a whole request of OpenTelemetry says: its collector writes one as a line."""
    scopes = (
        scope for each in resources if isinstance(each, dict) for scope in _listed(each.get("scopeLogs"))
    )
    records = (
        record for each in scopes if isinstance(each, dict) for record in _listed(each.get("logRecords"))
    )
    said = (_said(record) for record in records if isinstance(record, dict) and "resourceLogs" not in record)
    return max(
        said, key=lambda each: LEVELS.index(each[0]) if each[0] else -1, default=(None, "", None, None)
    )


def _object_of(value: Any) -> Mapping[str, Any] | None:
    """An object, or the list of keys and values that OpenTelemetry writes in the place of one."""
    if isinstance(value, dict):
        return value
    pairs = [each for each in _listed(value) if isinstance(each, dict) and isinstance(each.get("key"), str)]
    return {pair["key"]: _unwrapped(pair.get("value")) for pair in pairs} or None


def _listed(value: Any) -> list[Any]:
    return value if isinstance(value, list) else []


def _unwrapped(value: Any) -> Any:
    """A value without the object around it that names its kind: `{"stringValue": "text"}`."""
    if isinstance(value, dict) and len(value) == 1 and next(iter(value)).lower().endswith("value"):
        (value,) = value.values()
    return value.get("values", value) if isinstance(value, dict) else value


def _text_in(value: Any) -> str:
    """What a message says: a text, or of an object the text in it, else the whole in JSON."""
    value = _unwrapped(value)
    if isinstance(value, str):
        return value
    keys = _by_meaning(_object_of(value) or {})
    text = _first_of(keys, _MESSAGE_KEYS)
    if isinstance(text, str):
        return text
    return json.dumps(value, ensure_ascii=False) if isinstance(value, dict | list) else str(value)


def _json_time(value: Any) -> float | None:
    if isinstance(value, dict):
        parts = _by_meaning(value)
        at, nanoseconds = _json_time(_first_of(parts, _TIME_PARTS)), _first_of(parts, _NANOSECONDS)
        return at + nanoseconds / 1e9 if at is not None and isinstance(nanoseconds, int) else at
    if not isinstance(value, str):
        return epoch_s(value)
    if value.isascii() and value.isdigit():
        return epoch_s(int(value[:_MOST_DIGITS]))
    return timestamp(value.encode("utf-8", "replace"))


def _first_of(keys: Mapping[str, Any], names: Sequence[str]) -> Any:
    return next((keys[name] for name in names if name in keys), None)
