"""The story of one request: all its lines from all sources in the order of time, its attempts, its gaps."""

import re
from collections.abc import Iterable, Mapping
from operator import itemgetter

from opskit.errors import UsageError
from opskit.logs.calls import ModelCall, RequestCalls, State
from opskit.logs.levels import Level
from opskit.logs.record import UUID, Facts, LogEntry, facts
from opskit.logs.select import identifier_pattern
from opskit.logs.times import zoned_timestamp
from opskit.records import Record, replace
from opskit.text import printable
from opskit.trace.span import Span, SpanKind, SpanStatus
from opskit.trace.store import Trace

#: A silence longer than this is worth a mark.
GAP_S = 2.0
#: A prefix shorter than this would find too much.
MIN_PREFIX = 4
_MAX_CANDIDATES = 20
#: A UUID without its dashes.
_TRACE_ID = re.compile(rb"(?<![0-9a-zA-Z])[0-9a-f]{32}(?![0-9a-zA-Z])", re.IGNORECASE)
_UUID_LIKE = re.compile(r"[0-9a-f]{8}(?:-|[0-9a-f]|$)")


class TimelineLine(Record):
    """One event of the story. `since_s`: seconds after the line before it, `gap` when that is a long silence.

    `text` is for people, on one line, without time, level and tag where they are known; `raw` is what stands
    in the log, lines that continue it included.
    """

    source: str
    at: float | None
    since_s: float | None
    gap: bool
    level: Level | None
    tag: str | None
    text: str
    raw: bytes


class Story(Record):
    """Everything the logs say about one request. `total_s` is from its first to its last line.

    `state` is running where no line tells of an end; `code` is why it failed, where a line says so.
    """

    correlation_id: str
    lines: tuple[TimelineLine, ...]
    attempts: tuple[ModelCall, ...]
    sources: tuple[str, ...]
    started: float | None
    total_s: float | None
    goal: str | None
    state: State
    code: str | None

    @property
    def answered(self) -> bool:
        """Whether there is an answer; an answered call counts where no line tells of the request's end."""
        called = self.state == "running" and any(call.outcome == "ok" for call in self.attempts)
        return called or self.state == "answered"

    @property
    def gaps(self) -> tuple[TimelineLine, ...]:
        return tuple(line for line in self.lines if line.gap)


def story(entries: Iterable[LogEntry], identifier: str, *, gap_s: float = GAP_S) -> Story:
    """The story of the request whose id is, or begins with, `identifier`; case does not matter.

    `entries` are whole events: of one source in their order, sources in any. Raises UsageError when no line
    names such an id, and when several ids begin so.
    """
    if len(identifier.strip()) < MIN_PREFIX:
        raise UsageError(
            f"{identifier!r} is too short to tell requests apart",
            remedy=f"give at least {MIN_PREFIX} characters of the correlation id",
        )
    name, events = _events_of(entries, identifier.strip().lower())
    timed = _timed(events)
    calls, attempts = RequestCalls(), dict[int, ModelCall]()
    lines: list[TimelineLine] = []
    before: float | None = None
    for at, entry, said in timed:
        if (call := calls.take(said, at)) is not None:
            attempts[call.number] = call
        since_s = None if at is None or before is None else max(0.0, at - before)
        before = at if at is not None else before
        lines.append(
            TimelineLine(
                source=entry.source,
                at=at,
                since_s=since_s,
                gap=since_s is not None and since_s > gap_s,
                level=said.level,
                tag=said.tag,
                text=_text(entry, said),
                raw=entry.raw,
            )
        )
    times = [line.at for line in lines if line.at is not None]
    return Story(
        correlation_id=name,
        lines=tuple(lines),
        attempts=tuple(attempts.values()),
        sources=tuple(dict.fromkeys(line.source for line in lines)),
        started=times[0] if times else None,
        total_s=times[-1] - times[0] if times and times[-1] >= times[0] else None,
        goal=calls.goal or None,
        state=calls.settled,
        code=calls.code,
    )


def _events_of(entries: Iterable[LogEntry], wanted: str) -> tuple[str, list[LogEntry]]:
    """The one id that begins as wanted, and its events. Raises UsageError when there is none, or several.

    Lines that hold what is wanted as a word of its own, as logs that shorten ids do, belong to any of them.
    """
    text = identifier_pattern(wanted)
    word = re.compile(rb"(?<![\w-])" + text + rb"(?![\w-])", re.IGNORECASE)
    events: list[tuple[Mapping[str, str], LogEntry]] = []
    #: The ids by their letters and digits, each as it was written first.
    names: dict[str, str] = {}
    for entry in entries:
        own = _names_in(entry.raw, wanted)
        if own or (own is not None and word.search(entry.raw)):
            names = own | names
            events.append((own, entry))
    keys = [_key(wanted)] if _key(wanted) in names else sorted(names)
    if len(keys) > 1:
        more = ", ..." if len(keys) > _MAX_CANDIDATES else ""
        shown = ", ".join(names[key] for key in keys[:_MAX_CANDIDATES])
        raise UsageError(
            f"several requests begin with {wanted}: {shown}{more}", remedy="give more characters of the id"
        )
    name = keys[0] if keys else _key(wanted)
    chosen = [entry for own, entry in events if not own or name in own]
    if not chosen:
        raise UsageError(
            f"no line carries an id that begins with {wanted}",
            remedy="`opskit logs --tag REQUEST` shows the requests with their ids",
        )
    return names.get(name, wanted), chosen


def _names_in(raw: bytes, wanted: str) -> dict[str, str] | None:
    """The ids in a line that begin as wanted: what a field says, every UUID, every id of a trace.

    A tagged line that has an id is of that request, whatever its texts mention: None where that is another.
    """
    said = facts(raw)
    own = said.fields.get("correlation_id") if said.tag is not None else None
    names = [name.lower().decode() for pattern in (UUID, _TRACE_ID) for name in pattern.findall(raw)]
    names += [said.correlation_id.lower()] if said.correlation_id is not None else []
    names = [own.lower()] if isinstance(own, str) else names
    beginning = {_key(name): name for name in names if _key(name).startswith(_key(wanted))}
    return None if isinstance(own, str) and not beginning else beginning


def _key(name: str) -> str:
    """An id without the dashes of a UUID."""
    return name.replace("-", "") if _UUID_LIKE.match(name) else name


Timed = tuple[float | None, LogEntry, Facts]


def _timed(entries: list[LogEntry]) -> list[Timed]:
    """In the order of time, but never against the order inside a source, whose clock may be set back."""
    last: dict[str, float] = {}
    placed: list[tuple[float, Timed]] = []
    for entry in entries:
        said = facts(entry.raw)
        # Without a zone a container writes its own local time: Docker's is known to be right.
        own_at = said.at if entry.at is None or zoned_timestamp(entry.raw) is not None else None
        at = own_at if own_at is not None else entry.at
        if at is not None:
            last[entry.source] = max(at, last.get(entry.source, at))
        placed.append((last.get(entry.source, float("-inf")), (at, entry, said)))
    return [timed for _, timed in sorted(placed, key=itemgetter(0))]


def _text(entry: LogEntry, said: Facts) -> str:
    """The message; of a tagged line its fields, except the id, which every line has."""
    text = said.message or entry.raw.partition(b"\n")[0].decode("utf-8", "replace")
    if said.form == "tagged" and said.fields:
        fields = [f"{key}={value}" for key, value in said.fields.items() if key != "correlation_id"]
        prose = "" if said.message.startswith(f"{next(iter(said.fields))}=") else said.message
        text = " ".join([*fields, prose])
    return " ".join(printable(text).split())


def completed(trace: Trace, story: Story) -> Trace:
    """Return the trace with the calls that an agent elsewhere logged while this process waited for it.

    A span of an agent that has children has reported its own work.
    """
    added = [
        _call(call, agent)
        for agent in silent_agents(trace)
        for call in story.attempts
        if call.node != agent.attributes.get("gen_ai.agent.name")
        and call.began is not None
        and agent.start <= call.began <= agent.end
    ]
    return replace(trace, spans=tuple(sorted((*trace.spans, *added), key=lambda span: span.start)))


def silent_agents(trace: Trace) -> list[Span]:
    """Return the spans of agents that were asked and reported nothing of what they did."""
    parents = {span.parent_id for span in trace.spans}
    return [
        span
        for span in trace.spans
        if span.name.startswith("invoke_agent ")
        and span.kind is SpanKind.CLIENT
        and span.span_id not in parents
    ]


def trace_of(story: Story) -> Trace:
    start = story.started or 0.0
    trace_id = story.correlation_id.replace("-", "")
    root = Span(
        trace_id=trace_id,
        span_id=f"{0:016x}",
        parent_id=None,
        name="request",
        start=start,
        seconds=story.total_s if story.answered or story.state != "running" else None,
        attributes={"opskit.source": "log"},
    )
    if story.answered:
        root.status = SpanStatus.OK
    elif story.state != "running":
        root.fail(story.code or story.state)
    calls = [_call(call, root) for call in story.attempts if call.began is not None]
    return Trace(trace_id, story.correlation_id, story.goal or "", start, (root, *calls))


def _call(call: ModelCall, parent: Span) -> Span:
    span = Span(
        trace_id=parent.trace_id,
        span_id=f"{call.number + 1:016x}",
        parent_id=parent.span_id,
        name=f"chat {call.model or '?'}",
        kind=SpanKind.CLIENT,
        start=call.began or parent.start,
        seconds=call.seconds,
    )
    span.set(
        {
            "gen_ai.operation.name": "chat",
            "gen_ai.request.model": call.model,
            "gen_ai.response.time_to_first_chunk": call.first_token_s,
            "gen_ai.usage.output_tokens": call.tokens,
            "opskit.node": call.node,
            "opskit.fallback": call.fallback or None,
            "opskit.source": "log",
        }
    )
    if call.failed:
        span.fail(call.fault or call.outcome)
    elif call.outcome == "ok":
        span.status = SpanStatus.OK
    return span
