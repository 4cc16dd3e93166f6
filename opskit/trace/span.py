"""Spans, and the recording that collects the spans of one request.

Names and attributes follow OpenTelemetry's semantic conventions for GenAI (as of August 2026, status
Development): `chat MODEL`, `invoke_agent NAME`, `execute_tool NAME`. What these do not name begins with
`opskit.`.
A piece of code that works without a recording makes spans that nobody keeps.
"""

import contextlib
import os
import re
import time
from collections.abc import Iterator, Mapping
from contextvars import ContextVar
from enum import StrEnum
from typing import Any

from opskit.records import MutableRecord, Record, field

Attribute = str | int | float | bool | tuple[str, ...] | None
_TRACEPARENT = re.compile(r"[0-9a-f]{2}-([0-9a-f]{32})-([0-9a-f]{16})-[0-9a-f]{2}(?:-.*)?")


class SpanKind(StrEnum):
    """Who waits for whom, in OpenTelemetry's words."""

    INTERNAL = "internal"
    CLIENT = "client"
    SERVER = "server"


class SpanStatus(StrEnum):
    UNSET = "unset"
    OK = "ok"
    ERROR = "error"


class Span(MutableRecord, kw_only=True):
    """One stage of a request. `start` is in seconds since the epoch; `seconds` is None while it runs."""

    trace_id: str
    span_id: str
    parent_id: str | None
    name: str
    start: float
    kind: SpanKind = SpanKind.INTERNAL
    seconds: float | None = None
    status: SpanStatus = SpanStatus.UNSET
    #: Why it failed, for people.
    message: str = ""
    attributes: dict[str, Attribute] = field(default_factory=dict)

    @property
    def end(self) -> float:
        """Seconds since the epoch; the start of a span that has not ended."""
        return self.start + (self.seconds or 0.0)

    @property
    def traceparent(self) -> str:
        """The W3C header that makes another process continue this span."""
        return f"00-{self.trace_id}-{self.span_id}-01"

    def set(self, attributes: Mapping[str, Attribute]) -> None:
        """Set attributes; what is None is left out."""
        self.attributes |= {key: value for key, value in attributes.items() if value is not None}

    def fail(self, error_type: str, message: str = "") -> None:
        """Mark it as failed, by the low-cardinality word of `error.type` and a sentence."""
        self.status, self.message = SpanStatus.ERROR, message
        self.attributes["error.type"] = error_type

    def as_json(self) -> dict[str, Any]:
        return {
            "span_id": self.span_id,
            "parent_id": self.parent_id,
            "trace_id": self.trace_id,
            "name": self.name,
            "kind": self.kind.value,
            "start": round(self.start, 6),
            "seconds": None if self.seconds is None else round(self.seconds, 6),
            "status": self.status.value,
            "message": self.message,
            "attributes": {key: value for key, value in self.attributes.items() if value is not None},
        }


class Recording:
    """The spans of one request in this process.

    The trace id is the correlation id without its dashes where that is a UUID and no caller gave another.
    All times come from one reading of the wall clock, so that a clock that is set in between tears nothing.
    """

    def __init__(self, correlation_id: str, traceparent: str | None = None) -> None:
        self.correlation_id = correlation_id
        parent = _TRACEPARENT.fullmatch(traceparent or "")
        digits = correlation_id.replace("-", "").lower()
        own = digits if re.fullmatch(r"[0-9a-f]{32}", digits) else os.urandom(16).hex()
        self.trace_id = parent[1] if parent else own
        self._remote_parent = parent[2] if parent else None
        self._wall, self._monotonic = time.time(), time.monotonic()
        self.spans: list[Span] = []

    def now(self) -> float:
        """Seconds since the epoch, by the clock of this recording."""
        return self._wall + time.monotonic() - self._monotonic

    def begin(
        self, name: str, parent: Span | None, kind: SpanKind, attributes: Mapping[str, Attribute]
    ) -> Span:
        """Begin a span; without a parent it continues the caller's trace."""
        return self.add(name, parent, kind, self.now(), None, attributes)

    def end(self, span: Span) -> None:
        """End a span; one that has not failed is well."""
        span.seconds = max(0.0, self.now() - span.start)
        if span.status is SpanStatus.UNSET:
            span.status = SpanStatus.OK

    def add(
        self,
        name: str,
        parent: Span | None,
        kind: SpanKind,
        start: float,
        seconds: float | None,
        attributes: Mapping[str, Attribute],
    ) -> Span:
        """Add a span whose times are known."""
        span = Span(
            trace_id=self.trace_id,
            span_id=os.urandom(8).hex(),
            parent_id=self._remote_parent if parent is None else parent.span_id,
            name=name,
            kind=kind,
            start=start,
            seconds=seconds,
        )
        span.set(attributes)
        self.spans.append(span)
        return span


class _Active(Record):
    recording: Recording
    span: Span


_active: ContextVar[_Active | None] = ContextVar("opskit_span", default=None)


def current_span() -> Span | None:
    """Return the span that this code runs in; None where nothing is recorded."""
    active = _active.get()
    return None if active is None else active.span


@contextlib.contextmanager
def record(
    name: str,
    correlation_id: str,
    *,
    traceparent: str | None = None,
    kind: SpanKind = SpanKind.INTERNAL,
    attributes: Mapping[str, Attribute] | None = None,
) -> Iterator[tuple[Recording, Span]]:
    """Record everything inside, under a root span of this process."""
    recording = Recording(correlation_id, traceparent)
    root = recording.begin(name, None, kind, attributes or {})
    with _inside(recording, root):
        yield recording, root


@contextlib.contextmanager
def span(
    name: str, *, kind: SpanKind = SpanKind.INTERNAL, attributes: Mapping[str, Attribute] | None = None
) -> Iterator[Span]:
    """Run what is inside as a stage of the current request; an exception marks it as failed."""
    active = _active.get()
    if active is None:
        yield _unkept(name)
        return
    stage = active.recording.begin(name, active.span, kind, attributes or {})
    with _inside(active.recording, stage):
        yield stage


@contextlib.contextmanager
def _inside(recording: Recording, stage: Span) -> Iterator[None]:
    token = _active.set(_Active(recording, stage))
    try:
        yield
    except BaseException as error:
        # A reader may go away once it has what it wanted.
        if stage.status is SpanStatus.UNSET:
            # What is no Exception comes from outside: a task that is cancelled, Ctrl-C, a reader that left.
            is_own = isinstance(error, Exception)
            kind = getattr(error, "code", None) or type(error).__name__
            stage.fail(kind if is_own else "interrupted", str(error))
        raise
    finally:
        recording.end(stage)
        _active.reset(token)


def _unkept(name: str) -> Span:
    """Return a span of code that nothing records."""
    return Span(trace_id="", span_id="", parent_id=None, name=name, start=0.0)


class Leaf:
    """A span without stages of its own code, for generators: it does not become the current one.

    `part` adds what went on inside once that is known, each behind the part before it; the part that lasted
    until the end has failed where the whole has.
    """

    def __init__(self, name: str, kind: SpanKind, attributes: Mapping[str, Attribute]) -> None:
        active = _active.get()
        self._recording = None if active is None else active.recording
        self.span = (
            _unkept(name) if active is None else active.recording.begin(name, active.span, kind, attributes)
        )

    def part(self, name: str, after_s: float, until_s: float) -> None:
        """Add a part from `after_s` to `until_s`, in seconds since the beginning of the span."""
        if self._recording is not None and until_s > after_s:
            start = self.span.start + after_s
            part = self._recording.add(name, self.span, SpanKind.INTERNAL, start, until_s - after_s, {})
            is_last = until_s >= (self.span.seconds or 0.0)
            part.status = self.span.status if is_last else SpanStatus.OK

    def end(self) -> None:
        if self._recording is not None:
            self._recording.end(self.span)
