"""The story of one request: all its lines from all sources in the order of time, its attempts, its gaps."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from opskit.errors import UsageError
from opskit.logs.calls import ModelCall, RequestCalls, State
from opskit.logs.record import Facts, Level, LogEntry, facts
from opskit.logs.request_search import Search

#: A silence longer than this is worth a mark.
GAP_S = 2.0
#: A prefix shorter than this would find too much.
MIN_PREFIX = 4


@dataclass(frozen=True, slots=True)
class TimelineLine:
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


@dataclass(frozen=True, slots=True)
class Story:
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

    `entries` are lines or whole events, those of one source in their order, sources in any. Lines that
    continue a line of the request (a traceback) belong to it though they name no id. Raises UsageError when
    no line names such an id, and when several ids begin so.
    """
    if len(identifier.strip()) < MIN_PREFIX:
        raise UsageError(
            f"{identifier!r} is too short to tell requests apart",
            remedy=f"give at least {MIN_PREFIX} characters of the correlation id",
        )
    search = Search(identifier.strip())
    for entry in entries:
        search.look_at(entry)
    return _told(*search.chosen(), gap_s)


def _told(name: str, entries: list[LogEntry], gap_s: float) -> Story:
    read = [(entry, facts(entry.raw)) for entry in entries]
    timed = _timed(read)
    lines: list[TimelineLine] = []
    before: float | None = None
    for at, entry, said in timed:
        since = None if at is None or before is None else at - before
        lines.append(
            TimelineLine(
                entry.source,
                at,
                since,
                since is not None and since > gap_s,
                said.level,
                said.tag,
                _text(entry, said),
                entry.raw,
            )
        )
        before = at if at is not None else before
    times = [line.at for line in lines if line.at is not None]
    calls = RequestCalls()
    attempts: dict[int, ModelCall] = {}
    for at, _, said in timed:
        call = calls.take(said, at)
        if call is not None:
            attempts[call.number] = call
    return Story(
        name,
        tuple(lines),
        tuple(attempts.values()),
        tuple(dict.fromkeys(line.source for line in lines)),
        times[0] if times else None,
        times[-1] - times[0] if times else None,
        calls.goal or None,
        calls.settled,
        calls.code,
    )


Timed = tuple[float | None, LogEntry, Facts]


def _timed(read: Sequence[tuple[LogEntry, Facts]]) -> list[Timed]:
    """In the order of time. A line without one stays behind the line before it in its source."""
    last: dict[str, float | None] = {}
    placed: list[tuple[float, int, Timed]] = []
    for number, (entry, said) in enumerate(read):
        at = said.at if said.at is not None else entry.at
        if at is not None:
            last[entry.source] = at
        place = last.get(entry.source)
        placed.append((float("-inf") if place is None else place, number, (at, entry, said)))
    placed.sort(key=lambda item: item[:2])
    return [timed for _, _, timed in placed]


def _text(entry: LogEntry, said: Facts) -> str:
    """The message; of a tagged line its fields, except the id, which every line has."""
    text = said.message or entry.raw.partition(b"\n")[0].decode("utf-8", "replace")
    if said.form == "tagged" and said.fields:
        fields = [f"{key}={value}" for key, value in said.fields.items() if key != "correlation_id"]
        prose = "" if said.message.startswith(f"{next(iter(said.fields))}=") else said.message
        text = " ".join([*fields, prose])
    return " ".join("".join(char if char.isprintable() else " " for char in text).split())
