"""The parser of log lines: time, level, tag, correlation id and message of a line, whatever its form.

Three forms are read in any mixture: our tagged lines and foreign ones with the same tags (SPEC A1), JSON
lines (SPEC C5), and plain text. A line may carry a compose prefix (`service-1  | `). Lines are bytes: logs
hold invalid UTF-8 and NUL bytes, and raw output must be byte for byte what stands there.
"""

import json
import re
from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Any, Literal

from opskit.logs.tag_search import STANDARD_TAGS, tag_pattern
from opskit.logs.times import HEAD, timestamp, written_time
from opskit.records import Record, field, replace
from opskit.tags import Value, parse
from opskit.text import epoch_s

Level = Literal["debug", "info", "warning", "error", "critical"]

#: Order of severity.
LEVELS: tuple[Level, ...] = ("debug", "info", "warning", "error", "critical")
COMPLAINTS: tuple[Level, ...] = ("warning", "error", "critical")

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
_COMPOSE = re.compile(rb"^(?:\x1b\[[0-9;]*m)*([A-Za-z0-9][\w.-]*?) *(?:\|\x1b\[0m ?|\| ?(?:\x1b\[0m)?)")
_WORDS = rb"TRACE|DEBUG|INFO|NOTICE|WARN|WARNING|ERR|ERROR|FATAL|CRITICAL|CRIT|PANIC"
#: A level in capitals, logfmt's `level=warn`, or the `[error]` and `[core:error]` of nginx and Apache.
_LEVEL = re.compile(
    rb"(?:^|[\s\[|:\"=<(])(%b)(?=$|[\s\]|:,;\">)!-])|(?:^|[\s{,])(?:level|lvl|severity)=\"?(\w+)"
    rb"|[\[:](debug|info|notice|warn|error|crit|alert|emerg)\]" % _WORDS
)
#: What terminals take for colours and the like.
_ANSI = re.compile(rb"\x1b\[[0-9;?]*[ -/]*[@-~]")
#: A line of a GIN server: time, status, seconds, client, method and path.
_GIN = re.compile(rb"\[GIN\] [\d/]{10} - [\d:]{8} \| *(\d{3}) \|[^|]*\|[^|]*\| *(.*)", re.DOTALL)
#: klog and glog: `E0101 12:30:00.123456   17 file.go:20] text`.
_KLOG = re.compile(rb"([DIWEF])\d{4} \d\d:\d\d:\d\d\.\d+ +\d+ [^\s\]]+\] ?(.*)", re.DOTALL)
#: llama.cpp's server: minutes, seconds, ms and µs since its start, and a letter: `0.06.027.351 E text`.
_LLAMACPP = re.compile(rb"\d+\.\d\d\.\d{3}\.\d{3} ([DIWE]) (.*)", re.DOTALL)
_KLOG_LEVELS: dict[bytes, Level] = {
    b"D": "debug",
    b"I": "info",
    b"W": "warning",
    b"E": "error",
    b"F": "critical",
}
#: The numbers of pino and bunyan, each the least of its level.
_NUMBERED: tuple[tuple[int, Level], ...] = (
    (60, "critical"),
    (50, "error"),
    (40, "warning"),
    (30, "info"),
    (10, "debug"),
)
_HIGHEST_NUMBER = 69
#: The severities of syslog, 0 to 7.
SEVERITIES: tuple[Level, ...] = (
    "critical",
    "critical",
    "critical",
    "error",
    "warning",
    "info",
    "info",
    "debug",
)
_LEADING_LEVEL = re.compile(rb"^[\s\[|:(-]*(?:%b)\b[\]:)]*" % _WORDS)
_LOGFMT_MESSAGE = re.compile(rb'\b(?:msg|message|error|err)=("(?:[^"\\]|\\.)*"|\S+)')
_TAG = re.compile(rb"\[([A-Z][A-Z0-9]*(?:_[A-Z0-9]+)+|REQUEST|FALLBACK)\]")
STANDARD_TAG = re.compile(tag_pattern(STANDARD_TAGS).replace(b"(?:", b"(", 1))
_STANDARD_NAMES = frozenset(name.encode() for name in STANDARD_TAGS)
#: `[REQUEST] Correlation ID: job-12`, as another writer has it.
_NAMED = re.compile(rb"correlation[ _-]?id:?\s+(\S{1,64})", re.IGNORECASE)
UUID = re.compile(rb"\b[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}\b", re.IGNORECASE)
_LEVEL_KEYS = ("level", "severity", "lvl", "levelname", "log.level")
_MESSAGE_KEYS = ("message", "msg", "event", "error", "text", "short_message")
_TIME_KEYS = ("timestamp", "time", "ts", "@timestamp", "asctime")
_IDENTIFIER_KEYS = ("correlation_id", "request_id", "trace_id", "correlationId")
#: More digits than a time in nanoseconds has.
_MOST_DIGITS = 30
#: A level word further behind than this is not in front of the message.
_LEVEL_IN_FRONT = 120
#: A time further behind than this is a part of the message.
_TIME_IN_FRONT = 40
_MESSAGE_BYTES = 500
_AROUND = b" \t-:|]>)[\r"


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
    if prefix is None or is_level(prefix[1].decode("ascii", "replace")):
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
    return _tagged(first, tag) if tag is not None else _text(first)


def _json(line: bytes) -> Facts | None:
    """What a JSON line says; None for one that is no JSON object."""
    body = json_object(line)
    if body is None:
        return None
    level, message = _json_level(body), _first_of(body, _MESSAGE_KEYS)
    at = _json_time(body)
    if isinstance(message, str) and (tag := _TAG.match(text := message.encode("utf-8", "replace"))):
        # A formatter of JSON around a tagged line.
        inner = _tagged(text, tag)
        return replace(inner, at=at, level=level or inner.level)
    identifier = _first_of(body, _IDENTIFIER_KEYS)
    return Facts(
        "json",
        at=at,
        level=level,
        correlation_id=str(identifier) if identifier is not None else None,
        message=str(message) if message is not None else "",
        fields=body,
    )


def complaint(line: bytes) -> tuple[Level, bytes, float | None] | None:
    """The level, the message and the time of a line that is an error or a warning, else None.

    The line has neither a tag, a compose prefix nor colours. The message of a text line is what its level
    introduces.
    """
    if (body := json_object(line)) is not None:
        level = _json_level(body)
        if level is None or level not in COMPLAINTS:
            return None
        message = _first_of(body, _MESSAGE_KEYS)
        return level, str("" if message is None else message).encode("utf-8", "replace"), _json_time(body)
    if (special := _special_form(line)) is not None:
        level, message = special
        return (level, message.strip(), timestamp(line)) if level in COMPLAINTS else None
    word = _LEVEL.search(line, 0, HEAD)
    level = None if word is None else _word_level(word[1] or word[2] or word[3])
    if word is None or level is None or level not in COMPLAINTS:
        return None
    if word[2]:
        quoted = _LOGFMT_MESSAGE.search(line)
        text = line[word.end() :] if quoted is None else quoted[1].strip(b'"')
    elif word.start() < _LEVEL_IN_FRONT:
        text = line[word.end() : word.end() + _MESSAGE_BYTES]
    else:
        text = line[:_MESSAGE_BYTES]
    return level, text.lstrip(_AROUND).rstrip(), timestamp(line)


def is_level(word: str) -> bool:
    """Whether a word is a level and not, for instance, the name of a service."""
    return level_of(word) is not None


def level_of(word: str) -> Level | None:
    """The level that a word stands for, in any case, or a number of pino and bunyan."""
    text = word.strip().lower()
    if len(text) == len("50") and text.isascii() and text.isdigit():
        return _numbered(int(text))
    return _LEVEL_WORDS.get(text)


def _numbered(number: float) -> Level | None:
    if number > _HIGHEST_NUMBER:
        return None
    return next((level for least, level in _NUMBERED if number >= least), None)


def uncoloured(line: bytes) -> bytes:
    """A line without the escape sequences of a terminal."""
    return _ANSI.sub(b"", line) if b"\x1b" in line else line


def _special_form(line: bytes) -> tuple[Level, bytes] | None:
    """The level and the message of a line whose level is no word: GIN's status, a letter."""
    if line[:5] == b"[GIN]" and (request := _GIN.match(line)) is not None:
        level: Level = "error" if request[1] >= b"500" else "info"
        return level, request[1] + b" " + b" ".join(request[2].split())
    if line[1:5].isdigit() and (logged := _KLOG.match(line)) is not None:
        return _KLOG_LEVELS[logged[1]], logged[2]
    if line[:1].isdigit() and (logged := _LLAMACPP.match(line)) is not None:
        return _KLOG_LEVELS[logged[1]], logged[2]
    return None


@lru_cache(maxsize=256)
def _word_level(word: bytes) -> Level | None:
    return level_of(word.decode())


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
    level = None if timed_only or not begin else _level(line[:begin])
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
    message = line[time.end :] if time is not None and time.start < _TIME_IN_FRONT else line
    message = _LEADING_LEVEL.sub(b"", message, count=1)
    level = _level(line)
    if (special := _special_form(line)) is not None:
        level, message = special
    uuid = UUID.search(line)
    return Facts(
        "text",
        at=None if time is None else time.at,
        level=level,
        correlation_id=uuid[0].decode().lower() if uuid else None,
        message=message.decode("utf-8", "replace").strip(" \t-:,|]"),
    )


def _level(line: bytes) -> Level | None:
    word = _LEVEL.search(line, 0, HEAD)
    return None if word is None else _word_level(word[1] or word[2] or word[3])


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


def _json_level(body: Mapping[str, Any]) -> Level | None:
    word = _first_of(body, _LEVEL_KEYS)
    if isinstance(word, int | float) and not isinstance(word, bool):
        if "short_message" in body and word in range(len(SEVERITIES)):
            return SEVERITIES[int(word)]  # GELF
        return _numbered(word)
    return None if word is None else level_of(str(word))


def _json_time(body: Mapping[str, Any]) -> float | None:
    value = _first_of(body, _TIME_KEYS)
    if not isinstance(value, str):
        return epoch_s(value)
    if value.isascii() and value.isdigit():
        return epoch_s(int(value[:_MOST_DIGITS]))
    return timestamp(value.encode("utf-8", "replace"))


def _first_of(body: Mapping[str, Any], names: Sequence[str]) -> Any:
    for name in names:
        if (value := body.get(name)) is not None:
            return value
    return None
