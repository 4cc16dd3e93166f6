"""Requests as the tagged logs tell of them (SPEC A1): which run, how the others ended, how each model fares.

Pure: lines in, changes out; all times are epoch seconds. `opskit.logs.calls` joins the lines; a request that
no line ends has failed when its last open call failed and nothing followed, and is lost after a long silence.
"""

from collections import Counter, deque
from collections.abc import Iterator, Mapping
from typing import Any, Literal

from opskit.logs.calls import ModelCall, RequestCalls
from opskit.logs.record import Facts
from opskit.records import MutableRecord, Record, asdict, field

#: How long after a failed call its fallback may take to begin.
SETTLE_S = 2.0
#: More requests than this are not kept open; the oldest is given up.
MAX_OPEN = 1000
MAX_CALLS = 10_000
_NAME_CHARS = 120

State = Literal["running", "done", "failed", "interrupted", "lost"]


class RequestChange(Record, kw_only=True):
    """A request that began or ended. `seconds` is None while it runs; `fault` is a verdict too."""

    correlation_id: str
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
        document = {name: value for name, value in asdict(self).items() if name != "at"}
        return {**document, "seconds": None if self.seconds is None else round(self.seconds, 3)}


class ModelRow(Record, kw_only=True):
    """One model on one node: calls that run, and calls that ended within the window.

    `last_fault` is that of the last failure, `ails` tells that no call went well since.
    """

    node: str
    model: str
    running: int = 0
    done: int = 0
    failed: int = 0
    fallbacks: int = 0
    slow: int = 0
    median_s: float | None = None
    max_s: float | None = None
    last_fault: str | None = None
    ails: bool = False


class Summary(Record, kw_only=True):
    """The last `window_s` seconds. `lost`: no end was seen for as long as any request may take."""

    window_s: float
    running: int = 0
    done: int = 0
    failed: int = 0
    lost: int = 0
    fallbacks: int = 0
    slow: int = 0
    models: tuple[ModelRow, ...] = ()


class _Open(MutableRecord):
    began: float
    last: float
    calls: RequestCalls = field(default_factory=RequestCalls)
    fallback: bool = False


class RequestTracker:
    """`lost_s` is after how long a silence a request is given up; `slow_s` where slow begins (SPEC C7).

    `urls` are the addresses of the nodes by name: a call that went to another address is of another server
    of the same name, and counts for no model here.
    """

    def __init__(
        self,
        *,
        window_s: float = 300.0,
        lost_s: float = 600.0,
        slow_s: float = 5.0,
        urls: Mapping[str, str] | None = None,
    ) -> None:
        self.window_s, self.lost_s, self.slow_s = window_s, lost_s, slow_s
        self._urls = urls or {}
        self._open: dict[str, _Open] = {}
        self._ended: deque[RequestChange] = deque(maxlen=MAX_CALLS)
        self._calls: deque[tuple[float, ModelCall]] = deque(maxlen=MAX_CALLS)

    def take(self, said: Facts, at: float) -> list[RequestChange]:
        """Take one tagged line; return what it makes known: nothing without a correlation id."""
        if said.tag is None or said.correlation_id is None:
            return []
        identifier = said.correlation_id[:_NAME_CHARS]
        changes: list[RequestChange] = []
        request = self._open.get(identifier)
        if request is None:
            if said.tag not in ("REQUEST", "LLM_CALL"):
                return []  # the rest of a request that ended, or whose beginning was not seen
            request = self._open[identifier] = _Open(at, at)
            while len(self._open) > MAX_OPEN:
                changes.append(self._end(next(iter(self._open)), "lost", at))
        request.last = max(request.last, at)
        call = request.calls.take(said, at)
        if call is not None:
            request.fallback = request.fallback or call.fallback
            if call.outcome != "unfinished" and self._is_here(call):
                self._calls.append((at, call))
        if said.tag == "REQUEST":
            changes.append(self._change(identifier, request, "running", at))
        elif request.calls.state != "running":
            state = request.calls.state
            changes.append(self._end(identifier, "done" if state == "answered" else state, at))
        return changes

    def expire(self, now: float) -> list[RequestChange]:
        """Return what has ended by `now` without a line of its own."""
        changes = []
        for identifier, request in list(self._open.items()):
            failed_at = request.calls.failed_at
            if failed_at is not None and not request.calls.open and now - failed_at >= SETTLE_S:
                changes.append(self._end(identifier, "failed", failed_at))
            elif now - request.last >= self.lost_s:
                changes.append(self._end(identifier, "lost", request.last))
        return changes

    def summary(self, now: float) -> Summary:
        """Sum up the window that ends at `now`."""
        since = now - self.window_s
        ended = [change for change in self._ended if change.at >= since]
        states = Counter(change.state for change in ended)
        return Summary(
            window_s=self.window_s,
            running=len(self._open),
            done=states["done"],
            failed=states["failed"],
            lost=states["lost"],
            fallbacks=sum(change.fallback for change in ended),
            slow=sum(change.slow for change in ended),
            models=tuple(self._rows(since)),
        )

    def _is_here(self, call: ModelCall) -> bool:
        return call.url is None or self._urls.get(call.node or "", call.url) == call.url

    def _end(self, identifier: str, state: State, at: float) -> RequestChange:
        change = self._change(identifier, self._open.pop(identifier), state, at)
        self._ended.append(change)
        return change

    def _change(self, identifier: str, request: _Open, state: State, at: float) -> RequestChange:
        call, seconds = request.calls.last, None if state == "running" else max(0.0, at - request.began)
        node, model = ("?", "?") if call is None else _place(call)
        return RequestChange(
            correlation_id=identifier,
            state=state,
            at=at,
            goal=request.calls.goal,
            node=node,
            model=model,
            seconds=seconds,
            attempts=request.calls.count,
            fallback=request.fallback,
            fault=call.fault if call is not None and call.failed else request.calls.code,
            slow=seconds is not None and seconds > self.slow_s,
        )

    def _rows(self, since: float) -> Iterator[ModelRow]:
        ended: dict[tuple[str, str], list[ModelCall]] = {}
        for call in (call for at, call in self._calls if at >= since):
            ended.setdefault(_place(call), []).append(call)
        opened = (call for request in self._open.values() for call in request.calls.open)
        running = Counter(map(_place, filter(self._is_here, opened)))
        for place in sorted({*ended, *running}):
            calls = ended.get(place, [])
            seconds = sorted(call.seconds for call in calls if not call.failed and call.seconds is not None)
            faults = [call.fault for call in calls if call.failed]
            yield ModelRow(
                node=place[0],
                model=place[1],
                running=running[place],
                done=sum(not call.failed for call in calls),
                failed=len(faults),
                fallbacks=sum(call.fallback for call in calls),
                slow=sum(call.seconds is not None and call.seconds > self.slow_s for call in calls),
                median_s=seconds[len(seconds) // 2] if seconds else None,
                max_s=seconds[-1] if seconds else None,
                last_fault=faults[-1] if faults else None,
                ails=bool(calls) and calls[-1].failed,
            )


def _place(call: ModelCall) -> tuple[str, str]:
    return call.node or "?", call.model or "?"
