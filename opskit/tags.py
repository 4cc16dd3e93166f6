"""The log-tag grammar of SPEC A1: one writer, one parser, one correlation id.

A line reads `TIME [TAG] correlation_id=UUID key=value key="quoted value"`, always on one physical line.
Values that hold anything but plain word characters are JSON strings, so quotes, line breaks and control
characters survive the round trip: `parse(format_line(...))` gives back what went in.
"""

import contextlib
import json
import math
import re
import uuid
from collections.abc import Callable, Iterator, Mapping
from contextvars import ContextVar
from datetime import UTC, datetime
from enum import StrEnum

from opskit.records import Record, field

Value = str | int | float | bool | None


class Tag(StrEnum):
    """What a line is about."""

    EXECUTOR_INIT = "EXECUTOR_INIT"
    REQUEST = "REQUEST"
    REQUEST_END = "REQUEST_END"
    LLM_CALL = "LLM_CALL"
    LLM_WAIT = "LLM_WAIT"
    LLM_RESPONSE = "LLM_RESPONSE"
    LLM_ERROR = "LLM_ERROR"
    LLM_PARSE = "LLM_PARSE"
    LLM_CRASH = "LLM_CRASH"
    FALLBACK = "FALLBACK"
    #: A question of opskit itself that was left before its end: its server may log it as a failure.
    PROBE_LEFT = "PROBE_LEFT"


#: Carried by every line of one request; asyncio tasks inherit it.
correlation_id: ContextVar[str | None] = ContextVar("opskit_correlation_id", default=None)

_BARE = re.compile(r"[\w./:@+%*,-]+", re.ASCII)
_NUMBER = re.compile(r"-?\d+(\.\d+)?([eE][+-]?\d+)?")
_HEAD = re.compile(
    r"(?:(?P<time>\d{4}-\d\d-\d\dT[\d:.]+(?:Z|[+-]\d\d:\d\d))\s+)?\[(?P<tag>[A-Z][A-Z0-9_]*)\]\s?"
)
_VISIBLE = re.compile(r"\S")
_FIELD = re.compile(r"\s*([A-Za-z_][\w.-]*)=(?:([\w./:@+%*,-]+)|(?=\"))", re.ASCII)
_DIGITS = frozenset("0123456789")
_STRING = json.JSONDecoder(strict=False)
_QUOTED = json.JSONEncoder(ensure_ascii=False).encode
_WORDS: dict[str, Value] = {
    "true": True,
    "false": False,
    "null": None,
    "inf": math.inf,
    "-inf": -math.inf,
    "nan": math.nan,
}


class TaggedLine(Record):
    """One parsed line. `rest` is text that is not key=value, as other writers of these tags produce it."""

    tag: str
    fields: Mapping[str, Value] = field(default_factory=dict)
    at: datetime | None = None
    rest: str = ""

    @property
    def correlation_id(self) -> str | None:
        value = self.fields.get("correlation_id")
        return value if isinstance(value, str) else None


def new_correlation_id() -> str:
    return str(uuid.uuid4())


@contextlib.contextmanager
def correlated(identifier: str | None = None) -> Iterator[str]:
    """Everything tagged inside carries `identifier` (a new UUID when None)."""
    value = identifier or new_correlation_id()
    token = correlation_id.set(value)
    try:
        yield value
    finally:
        correlation_id.reset(token)


def format_line(tag: str, fields: Mapping[str, Value], at: datetime | None = None) -> str:
    """One line, without the line end. `at` must be timezone-aware."""
    head = f"[{tag}]"
    if at is not None:
        head = f"{at.astimezone(UTC).isoformat(timespec='milliseconds').replace('+00:00', 'Z')} {head}"
    return " ".join([head, *(f"{key}={_encode(value)}" for key, value in fields.items())])


def parse(line: str) -> TaggedLine | None:
    """Read a tagged line, ours or a foreign one; None when there is no tag at its head. Never raises."""
    head = _HEAD.match(line)
    if head is None:
        return None
    fields: dict[str, Value] = {}
    position = head.end()
    while (pair := _FIELD.match(line, position)) is not None:
        key, word = pair.groups()
        if word is not None:
            fields[key], position = _value(word), pair.end()
            continue
        try:
            fields[key], position = _STRING.raw_decode(line, pair.end())
        except json.JSONDecodeError:
            break
    return TaggedLine(head["tag"], fields, _time(head["time"]), line[position:].strip())


def _time(text: str | None) -> datetime | None:
    try:
        return datetime.fromisoformat(text) if text else None
    except ValueError:
        return None


def _encode(value: Value) -> str:
    if value is None or isinstance(value, bool):
        return "null" if value is None else "true" if value else "false"
    if isinstance(value, int | float):
        return repr(value)
    if _BARE.fullmatch(value) and value not in _WORDS and not _NUMBER.fullmatch(value):
        return value
    quoted = _QUOTED(value)
    if quoted.isprintable():
        return quoted
    # ASCII escapes only for what would break the line: U+2028, U+2029, U+0085 and controls.
    return "".join(_escape(char) for char in quoted)


def _escape(char: str) -> str:
    printable = char.isprintable() and not "\ud800" <= char <= "\udfff"
    return char if printable else json.dumps(char)[1:-1]


def _value(word: str) -> Value:
    if word in _WORDS:
        return _WORDS[word]
    if word[-1] in _DIGITS and _NUMBER.fullmatch(word):
        with contextlib.suppress(ValueError):  # an integer of thousands of digits stays a word
            return int(word) if word.lstrip("-").isdigit() else float(word)
    return word


def preview(text: str, limit: int) -> str:
    """The beginning of a text for a log line: white space folded, cut at `limit` characters."""
    folded = " ".join(text[: limit * 4].split())
    if len(folded) <= limit and not _VISIBLE.search(text, limit * 4):
        return folded
    return folded[: limit - 1] + "…"


class TagLog:
    """Writes tagged lines to its sinks; every line carries the current correlation id.

    `secrets` are masked in every text value and in previews.
    """

    def __init__(
        self,
        *sinks: Callable[[str], None],
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
        secrets: tuple[str, ...] = (),
        preview_chars: int = 120,
    ) -> None:
        self._sinks = sinks
        self._now = now
        # The longest first: one may begin with another.
        self._secrets = sorted(filter(None, secrets), key=len, reverse=True)
        self.preview_chars = preview_chars

    def write(self, tag: Tag, **fields: Value) -> None:
        """Format and hand one line to each sink."""
        if not self._sinks:
            return
        # Masked before they are written: quoting would change how a secret looks.
        shown = {k: self._masked(v) if isinstance(v, str) else v for k, v in fields.items()}
        line = format_line(tag.value, {"correlation_id": correlation_id.get(), **shown}, self._now())
        for sink in self._sinks:
            sink(line)

    def preview(self, text: str) -> str:
        return preview(self._masked(text), self.preview_chars)

    def _masked(self, text: str) -> str:
        for secret in self._secrets:
            text = text.replace(secret, "***")
        return text
