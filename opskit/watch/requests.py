"""Requests as the tagged logs tell of them (SPEC A1): which run, how the others ended, how each model fares.

Pure: lines in, news out; all times are epoch seconds. A call begins with [LLM_CALL] and ends with
[LLM_RESPONSE], [LLM_ERROR], [LLM_CRASH] or [LLM_PARSE] of the same request and node. A request is done with
the answer to its last open call; it has failed when its last open call failed and nothing followed.
"""

from collections import OrderedDict, deque
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, Literal

from opskit.logs.record import Facts

#: How long after a failed call its fallback may take to begin.
SETTLE_S = 2.0
#: More requests than this are not kept open; the oldest is given up.
MAX_OPEN = 1000
MAX_CALLS = 10_000
_FAILURES = ("LLM_ERROR", "LLM_CRASH", "LLM_PARSE")
_NAME_CHARS = 120

State = Literal["running", "done", "failed", "lost"]
Place = tuple[str, str]


@dataclass(frozen=True, slots=True)
class News:
    """A request that began or ended. `seconds` is None while it runs; `fault` is a verdict too."""

    identifier: str
    state: State
    at: float
    goal: str
    node: str
    model: str
    seconds: float | None = None
    attempts: int = 0
    fallback: bool = False
    fault: str | None = None
    slow: bool = False

    def as_json(self) -> dict[str, Any]:
        return {
            "correlation_id": self.identifier,
            "state": self.state,
            "goal": self.goal,
            "node": self.node,
            "model": self.model,
            "seconds": None if self.seconds is None else round(self.seconds, 3),
            "attempts": self.attempts,
            "fallback": self.fallback,
            "fault": self.fault,
            "slow": self.slow,
        }


@dataclass(frozen=True, slots=True)
class ModelRow:
    """One model on one node: calls that run, and those that ended within the window.

    `fault` is that of the last failure, `ails` tells that no call went well since.
    """

    node: str
    model: str
    running: int
    done: int
    failed: int
    fallbacks: int
    slow: int
    median_s: float | None
    max_s: float | None
    fault: str | None
    ails: bool = False

    def as_json(self) -> dict[str, Any]:
        return {
            "node": self.node,
            "model": self.model,
            "running": self.running,
            "done": self.done,
            "failed": self.failed,
            "fallbacks": self.fallbacks,
            "slow": self.slow,
            "median_s": self.median_s,
            "max_s": self.max_s,
            "last_fault": self.fault,
            "ails": self.ails,
        }


@dataclass(frozen=True, slots=True)
class Summary:
    """The last `window_s` seconds. `lost`: no end was seen for as long as any request may take."""

    window_s: float
    running: int = 0
    done: int = 0
    failed: int = 0
    lost: int = 0
    fallbacks: int = 0
    slow: int = 0
    models: tuple[ModelRow, ...] = ()

    def as_json(self) -> dict[str, Any]:
        return {
            "window_s": self.window_s,
            "running": self.running,
            "done": self.done,
            "failed": self.failed,
            "lost": self.lost,
            "fallbacks": self.fallbacks,
            "slow": self.slow,
            "models": [row.as_json() for row in self.models],
        }


@dataclass(slots=True)
class _Open:
    identifier: str
    began: float
    last: float
    goal: str = ""
    place: Place = ("?", "?")
    calls: dict[Place, tuple[float, bool]] = field(default_factory=dict)
    attempts: int = 0
    fallback: bool = False
    fault: str | None = None
    failed_at: float | None = None


@dataclass(frozen=True, slots=True)
class _Call:
    at: float
    place: Place
    ok: bool
    seconds: float | None
    fallback: bool
    fault: str | None


class Requests:
    """`lost_s` is after how long a silence a request is given up; `slow_s` where slow begins (SPEC C7)."""

    def __init__(self, *, window_s: float = 300.0, lost_s: float = 600.0, slow_s: float = 5.0) -> None:
        self._window_s = window_s
        self._lost_s = lost_s
        self._slow_s = slow_s
        self._open: OrderedDict[str, _Open] = OrderedDict()
        self._ended: deque[News] = deque(maxlen=MAX_CALLS)
        self._calls: deque[_Call] = deque(maxlen=MAX_CALLS)

    def take(self, said: Facts, at: float) -> list[News]:
        """One tagged line; what it makes known. A line without a correlation id tells of no request."""
        if said.tag is None or said.correlation_id is None:
            return []
        identifier = said.correlation_id[:_NAME_CHARS]
        news: list[News] = []
        one = self._open.get(identifier)
        if one is None:
            if said.tag not in ("REQUEST", "LLM_CALL"):
                return []  # the rest of a request that ended, or whose beginning was not seen
            one = self._open[identifier] = _Open(identifier, at, at)
            while len(self._open) > MAX_OPEN:
                _, oldest = self._open.popitem(last=False)
                news.append(self._end(oldest, "lost", at))
        one.last = max(one.last, at)
        if said.tag == "REQUEST":
            one.goal = _text(said, "goal")
            news.append(_news(one, "running", at))
        elif said.tag == "LLM_CALL":
            self._call(one, said, at)
        elif said.tag == "LLM_RESPONSE":
            if self._answered(one, said, at) and not one.calls:
                del self._open[identifier]
                news.append(self._end(one, "done", at))
        elif said.tag in _FAILURES:
            self._failed(one, said, at)
        return news

    def expire(self, now: float) -> list[News]:
        """What has ended without a word of its own by `now`."""
        news = []
        for identifier, one in list(self._open.items()):
            if one.failed_at is not None and not one.calls and now - one.failed_at >= SETTLE_S:
                del self._open[identifier]
                news.append(self._end(one, "failed", one.failed_at))
            elif now - one.last >= self._lost_s:
                del self._open[identifier]
                news.append(self._end(one, "lost", one.last))
        return news

    def summary(self, now: float) -> Summary:
        """The window that ends at `now`."""
        since = now - self._window_s
        while self._ended and self._ended[0].at < since:
            self._ended.popleft()
        while self._calls and self._calls[0].at < since:
            self._calls.popleft()
        ended = [one for one in self._ended if one.at >= since]
        return Summary(
            self._window_s,
            len(self._open),
            sum(one.state == "done" for one in ended),
            sum(one.state == "failed" for one in ended),
            sum(one.state == "lost" for one in ended),
            sum(one.fallback for one in ended),
            sum(one.slow for one in ended),
            tuple(self._rows(since)),
        )

    def _call(self, one: _Open, said: Facts, at: float) -> None:
        place = (_text(said, "node") or "?", _text(said, "model") or "?")
        fallback = said.fields.get("fallback") is True
        one.calls[place] = (at, fallback)
        one.place, one.failed_at = place, None
        one.attempts += 1
        one.fallback = one.fallback or fallback

    def _answered(self, one: _Open, said: Facts, at: float) -> bool:
        found = _which(one, said)
        if found is None:
            return False
        began, fallback = one.calls.pop(found)
        one.place, one.fault, one.failed_at = found, None, None
        self._calls.append(_Call(at, found, True, _seconds(said, at - began), fallback, None))
        return True

    def _failed(self, one: _Open, said: Facts, at: float) -> None:
        found = _which(one, said)
        if found is None:
            return  # an error beside the call, such as a node that is not there
        began, fallback = one.calls.pop(found)
        one.place, one.failed_at = found, at
        one.fault = _text(said, "fault") or _text(said, "verdict") or said.tag
        self._calls.append(_Call(at, found, False, _seconds(said, at - began), fallback, one.fault))

    def _end(self, one: _Open, state: State, at: float) -> News:
        news = _news(one, state, at, max(0.0, at - one.began), slow_s=self._slow_s)
        self._ended.append(news)
        return news

    def _rows(self, since: float) -> Iterator[ModelRow]:
        ended: dict[Place, list[_Call]] = {}
        for call in self._calls:
            if call.at >= since:
                ended.setdefault(call.place, []).append(call)
        running: dict[Place, int] = {}
        for one in self._open.values():
            for place in one.calls:
                running[place] = running.get(place, 0) + 1
        for place in sorted({*ended, *running}):
            calls = ended.get(place, [])
            took = sorted(one.seconds for one in calls if one.ok and one.seconds is not None)
            faults = [one.fault for one in calls if not one.ok]
            yield ModelRow(
                *place,
                running.get(place, 0),
                sum(one.ok for one in calls),
                len(faults),
                sum(one.fallback for one in calls),
                sum(one.seconds is not None and one.seconds > self._slow_s for one in calls),
                took[len(took) // 2] if took else None,
                took[-1] if took else None,
                faults[-1] if faults else None,
                bool(calls) and not calls[-1].ok,
            )


def _news(one: _Open, state: State, at: float, seconds: float | None = None, *, slow_s: float = 0.0) -> News:
    return News(
        one.identifier,
        state,
        at,
        one.goal,
        *one.place,
        seconds,
        one.attempts,
        one.fallback,
        one.fault,
        seconds is not None and seconds > slow_s,
    )


def _which(one: _Open, said: Facts) -> Place | None:
    """The open call that a line ends: by node and model, as far as the line names them; else the latest."""
    node, model = _text(said, "node"), _text(said, "model")
    fitting = [place for place in one.calls if node in ("", place[0]) and model in ("", place[1])]
    return fitting[-1] if fitting else None


def _seconds(said: Facts, measured: float) -> float:
    told = said.fields.get("seconds")
    if isinstance(told, int | float) and not isinstance(told, bool) and 0 <= told < 1e8:
        return float(told)
    return round(max(0.0, measured), 3)


def _text(said: Facts, key: str) -> str:
    value = said.fields.get(key)
    return str(value)[:_NAME_CHARS] if value is not None else ""
