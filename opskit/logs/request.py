"""The story of one request: all its lines from all sources in the order of time, its attempts, its gaps."""

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal

from opskit.errors import UsageError
from opskit.logs.record import Entry, Facts, Level, facts
from opskit.logs.request_search import Search

#: A silence longer than this is worth a mark.
GAP_S = 2.0
#: A prefix shorter than this would find too much.
MIN_PREFIX = 4
#: Greater numbers of seconds or tokens say nothing.
_LARGEST = 1e12
_MODEL = re.compile(r"\bmodel:?\s+([\w./:@-]*\w)", re.IGNORECASE)

Outcome = Literal["ok", "fault", "rejected", "unfinished"]
_ENDS: dict[str, Outcome] = {
    "LLM_RESPONSE": "ok",
    "LLM_ERROR": "fault",
    "LLM_CRASH": "fault",
    "LLM_PARSE": "rejected",
}


@dataclass(frozen=True, slots=True)
class Line:
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
class Attempt:
    """One call of a model. Names are None when the log does not say them; `fault` is also a verdict."""

    number: int
    node: str | None
    model: str | None
    outcome: Outcome
    seconds: float | None = None
    fault: str | None = None
    fallback: bool = False
    first_token_s: float | None = None
    tokens: int | None = None


@dataclass(frozen=True, slots=True)
class Story:
    """Everything the logs say about one request. `total_s` is from its first to its last line."""

    correlation_id: str
    lines: tuple[Line, ...]
    attempts: tuple[Attempt, ...]
    sources: tuple[str, ...]
    started: float | None
    total_s: float | None
    goal: str | None

    @property
    def answered(self) -> bool:
        return any(attempt.outcome == "ok" for attempt in self.attempts)

    @property
    def gaps(self) -> tuple[Line, ...]:
        return tuple(line for line in self.lines if line.gap)


def story(entries: Iterable[Entry], identifier: str, *, gap_s: float = GAP_S) -> Story:
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


def _told(name: str, entries: list[Entry], gap_s: float) -> Story:
    read = [(entry, facts(entry.raw)) for entry in entries]
    timed = _timed(read)
    lines: list[Line] = []
    before: float | None = None
    for at, entry, said in timed:
        since = None if at is None or before is None else at - before
        lines.append(
            Line(
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
    goals = (said.fields.get("goal") for _, _, said in timed if said.tag == "REQUEST")
    return Story(
        name,
        tuple(lines),
        tuple(_attempts(timed)),
        tuple(dict.fromkeys(line.source for line in lines)),
        times[0] if times else None,
        times[-1] - times[0] if times else None,
        next((str(goal) for goal in goals if goal), None),
    )


Timed = tuple[float | None, Entry, Facts]


def _timed(read: Sequence[tuple[Entry, Facts]]) -> list[Timed]:
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


def _text(entry: Entry, said: Facts) -> str:
    """The message; of a tagged line its fields, except the id, which every line has."""
    text = said.message or entry.raw.partition(b"\n")[0].decode("utf-8", "replace")
    if said.form == "tagged" and said.fields:
        fields = [f"{key}={value}" for key, value in said.fields.items() if key != "correlation_id"]
        prose = "" if said.message.startswith(f"{next(iter(said.fields))}=") else said.message
        text = " ".join([*fields, prose])
    return " ".join("".join(char if char.isprintable() else " " for char in text).split())


def _attempts(lines: Sequence[Timed]) -> list[Attempt]:
    """Each call with what became of it: the next end that names the same node and model, or names none."""
    attempts: list[Attempt] = []
    begun: dict[int, float | None] = {}
    for at, _, said in lines:
        if said.tag == "LLM_CALL":
            node, model = _who(said)
            if node is None and model is None:
                continue  # another line about the same call, as other writers have them
            begun[len(attempts)] = at
            attempts.append(
                Attempt(
                    len(attempts) + 1,
                    node,
                    model,
                    "unfinished",
                    fallback=said.fields.get("fallback") is True,
                )
            )
        elif said.tag in _ENDS and (said.tag != "LLM_PARSE" or "verdict" in said.fields):
            index = _ended_by(said, attempts, begun)
            if index is None:
                node, model = _who(said)
                if model is None:
                    continue  # about a node, not about a call
                attempts.append(Attempt(len(attempts) + 1, node, model, "unfinished"))
                index = len(attempts) - 1
            attempts[index] = _ended(attempts[index], said, at, begun.pop(index, None))
    return attempts


def _who(said: Facts) -> tuple[str | None, str | None]:
    node, model = said.fields.get("node"), said.fields.get("model")
    if node is None and model is None and (found := _MODEL.search(said.message)) is not None:
        model = found[1]
    return None if node is None else str(node), None if model is None else str(model)


def _ended_by(said: Facts, attempts: Sequence[Attempt], begun: Mapping[int, float | None]) -> int | None:
    """Which open attempt an end belongs to: the last one that it does not contradict."""
    node, model = _who(said)
    for index in sorted(begun, reverse=True):
        attempt = attempts[index]
        if node in (None, attempt.node) and model in (None, attempt.model):
            return index
    return None


def _ended(attempt: Attempt, said: Facts, at: float | None, began: float | None) -> Attempt:
    """Seconds are those that the log says, else those between the two lines."""
    seconds = _number(said.fields.get("seconds"))
    if seconds is None and at is not None and began is not None:
        seconds = at - began
    fault = said.fields.get("fault", said.fields.get("verdict"))
    tokens = _number(said.fields.get("tokens"))
    return replace(
        attempt,
        outcome=_ENDS[said.tag or ""],
        seconds=seconds,
        fault=None if fault is None else str(fault),
        first_token_s=_number(said.fields.get("first_token_s")),
        tokens=None if tokens is None else int(tokens),
    )


def _number(value: object) -> float | None:
    """A number that can be meant; a word in the place of one says nothing."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not abs(value) < _LARGEST:
        return None
    return float(value)
