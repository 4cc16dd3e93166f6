"""What is counted in logs; two counts become one by `merge`, in any order."""

import heapq
import math
from collections import Counter
from collections.abc import Mapping
from typing import Self

from ddsketch import DDSketch

from opskit.logs.shape import Shapes
from opskit.logs.stats_timeline import ERRORS, Timeline
from opskit.records import MutableRecord, Record, field, names

#: So much of a slow line is kept.
PREVIEW = 240
#: What a line that names no node or model is counted under, and what goes beyond MAX_PLACES.
UNKNOWN, OTHER = "-", "(other)"
MAX_PLACES = 2000
MAX_FAULTS = 200
#: More requests than this are not kept open: the requests answered longest ago are closed for good.
MAX_OPEN = 20_000
#: The largest relative error of a quantile.
ACCURACY = 0.01
#: Shorter durations count as nothing, longer ones as this: about 1,700 buckets at most.
SMALLEST_S, LARGEST_S = 1e-6, 1e9
_MICRO = 1_000_000
# What is known of a request.
ASKED, ANSWERED, FAILED = 1, 2, 4


class Durations:
    """Durations in seconds: quantiles within 1 % (DDSketch, VLDB 2019), all else exact.

    The sum is kept in millionths, as an integer: sums of floats depend on their order.
    """

    __slots__ = ("_sketch", "count", "greatest", "least", "sum_micro")

    def __init__(self) -> None:
        self.count = 0
        self.sum_micro = 0
        self.least = math.inf
        self.greatest = 0.0
        self._sketch = DDSketch(ACCURACY)

    def add(self, value_s: float, times: int = 1) -> None:
        """Ignores what is not a finite number from 0 on."""
        if not 0 <= value_s < math.inf:
            return
        value_s = min(value_s, LARGEST_S)
        self.count += times
        self.sum_micro += round(value_s * _MICRO) * times
        self.least = min(self.least, value_s)
        self.greatest = max(self.greatest, value_s)
        self._sketch.add(0.0 if value_s < SMALLEST_S else value_s, times)

    def merge(self, other: Self) -> None:
        self.count += other.count
        self.sum_micro += other.sum_micro
        self.least = min(self.least, other.least)
        self.greatest = max(self.greatest, other.greatest)
        self._sketch.merge(other._sketch)

    @property
    def mean(self) -> float | None:
        return self.sum_micro / _MICRO / self.count if self.count else None

    def quantile(self, part: float) -> float | None:
        """The value at rank floor(part · (count - 1)), `part` from 0 to 1; None when nothing was added."""
        value = self._sketch.get_quantile_value(part)
        return None if value is None else min(max(value, self.least), self.greatest)

    def as_json(self) -> Mapping[str, float | int | None]:
        return {
            "count": self.count,
            "total_s": round(self.sum_micro / _MICRO, 6),
            "avg_s": rounded(self.mean),
            "min_s": rounded(self.least) if self.count else None,
            "p50_s": rounded(self.quantile(0.5)),
            "p95_s": rounded(self.quantile(0.95)),
            "max_s": rounded(self.greatest) if self.count else None,
        }


def rounded(value: float | None) -> float | None:
    return None if value is None else round(value, 3)


class CallStats(MutableRecord):
    """The calls of one model on one node.

    `seconds` is of answers, `tokens` and `token_micros` (millionths of a second) of answers that say
    both. `slow` counts calls over the threshold, however they ended. `fallbacks`: how often a request left
    from here for another model; `fallback_calls`: how often one came here.
    """

    calls: int = 0
    ok: int = 0
    fallbacks: int = 0
    fallback_calls: int = 0
    crashes: int = 0
    slow: int = 0
    tokens: int = 0
    token_micros: int = 0
    faults: Counter[str] = field(default_factory=Counter)
    seconds: Durations = field(default_factory=Durations)

    @property
    def failed(self) -> int:
        return self.faults.total()

    @property
    def fallback_rate(self) -> float | None:
        return self.fallbacks / self.calls if self.calls else None

    @property
    def tokens_per_s(self) -> float | None:
        return self.tokens * _MICRO / self.token_micros if self.token_micros else None

    def answered(self, seconds: float | None, tokens: int | None) -> None:
        self.ok += 1
        if seconds is not None:
            self.seconds.add(seconds)
            if tokens is not None:
                self.tokens += tokens
                self.token_micros += round(seconds * _MICRO)

    def failed_with(self, fault: str, *, crash: bool) -> None:
        if fault not in self.faults and len(self.faults) >= MAX_FAULTS:
            fault = OTHER
        self.faults[fault] += 1
        self.crashes += crash

    def merge(self, other: Self) -> None:
        _add(self, other)


class Places(MutableRecord):
    """By node and model, as the log names them. `[FALLBACK]` lines name where a request came from."""

    pairs: dict[tuple[str, str], CallStats] = field(default_factory=dict)

    def at(self, node: str, model: str) -> CallStats:
        place = self.pairs.get((node, model))
        if place is None:
            if len(self.pairs) >= MAX_PLACES:
                node = model = OTHER
            place = self.pairs.setdefault((node, model), CallStats())
        return place

    def merge(self, other: Self) -> None:
        for (node, model), place in other.pairs.items():
            self.at(node, model).merge(place)

    def total(self) -> CallStats:
        whole = CallStats()
        for place in self.pairs.values():
            whole.merge(place)
        return whole

    def by_model(self) -> dict[str, CallStats]:
        """Leaves out lines that name a node only: they are no calls of a model."""
        return self._by(1)

    def by_node(self) -> dict[str, CallStats]:
        return self._by(0)

    def _by(self, index: int) -> dict[str, CallStats]:
        places: dict[str, CallStats] = {}
        for key, place in sorted(self.pairs.items()):
            if key[index] != UNKNOWN or key == (UNKNOWN, UNKNOWN):
                places.setdefault(key[index], CallStats()).merge(place)
        return places


#: First and last time in epoch seconds (+inf and -inf when no line has a time), and ASKED and its like.
Course = tuple[float, float, int]


class EndedRequests(MutableRecord):
    """Requests that are counted for good. `slowest` holds seconds, begin and id, as a heap."""

    total: int = 0
    answered: int = 0
    failed: int = 0
    slow: int = 0
    seconds: Durations = field(default_factory=Durations)
    slowest: list[tuple[float, float, str]] = field(default_factory=list)

    def merge(self, other: Self) -> None:
        _add(self, other)

    def end(self, identifier: str, course: Course, slow_s: float) -> None:
        """A request without its `[REQUEST]` line began before the log did, and is not counted."""
        first, last, bits = course
        if not bits & ASKED:
            return
        self.total += 1
        if not bits & (ANSWERED | FAILED):
            return
        self.answered += bool(bits & ANSWERED)
        self.failed += not bits & ANSWERED
        if last < first:
            return
        self.seconds.add(last - first)
        if last - first > slow_s:
            self.slow += 1
            self.slowest.append((round(last - first, 6), first, identifier))


class RequestStats(MutableRecord):
    """Requests by correlation id, from their first to their last tagged line.

    `calls.RequestCalls` cannot stand here: it reads the lines of a request in their order, and these counts
    come from parts of a log, in any order. Order and place of a cut make no difference while at most MAX_OPEN
    requests are kept open; beyond it requests answered longest ago are closed, and what might still come of
    them is not theirs any more. `announced` counts beginnings that name no id, as other writers of the tags
    produce them; `named` counts the lines by which such a writer tells the id of a request that it has just
    announced.
    """

    slow_s: float = 5.0
    keep: int = 20
    announced: int = 0
    named: int = 0
    open: dict[str, Course] = field(default_factory=dict)
    closed: EndedRequests = field(default_factory=EndedRequests)

    def saw(self, identifier: str, first: float, last: float, bits: int) -> None:
        """Note lines of a request between two times."""
        known = self.open.get(identifier)
        if known is not None:
            self.open[identifier] = (min(first, known[0]), max(last, known[1]), bits | known[2])
            return
        self.open[identifier] = (first, last, bits)
        if len(self.open) > MAX_OPEN:
            self._close_some()

    def merge(self, other: Self) -> None:
        self.announced += other.announced
        self.named += other.named
        self.closed.merge(other.closed)
        self.closed.slowest = heapq.nlargest(self.keep, self.closed.slowest)
        for identifier, course in other.open.items():
            self.saw(identifier, *course)

    def ended(self) -> EndedRequests:
        """All of them, as if the log ended here; the slowest first."""
        whole = EndedRequests()
        whole.merge(self.closed)
        for identifier, course in self.open.items():
            whole.end(identifier, course, self.slow_s)
        whole.total += max(0, self.announced - self.named)
        whole.slowest = heapq.nlargest(self.keep, whole.slowest)
        return whole

    def _close_some(self) -> None:
        """Complete requests before open ones (no beginning or no answer yet), then by their last line."""

        def order(item: tuple[str, Course]) -> tuple[bool, float, str]:
            identifier, (_, last, bits) = item
            return (bits & (ASKED | ANSWERED) != ASKED | ANSWERED, last, identifier)

        for identifier, course in heapq.nsmallest(MAX_OPEN // 2, self.open.items(), key=order):
            self.closed.end(identifier, course, self.slow_s)
            del self.open[identifier]
        self.closed.slowest = heapq.nlargest(self.keep, self.closed.slowest)


class CountLimits(Record):
    """From when on something is slow (SPEC C5, C7), in seconds, and how many slow ones are kept."""

    slow_entry_s: float = 10.0
    slow_request_s: float = 5.0
    slow_generation_s: float = 30.0
    keep: int = 20


class SlowEntry(Record, order=True):
    """One slow entry; `at` is -1 when its line has no time."""

    seconds: float
    at: float
    source: str
    line: bytes


class Counts(MutableRecord):
    """Everything known about some logs.

    `timed` is of every entry that says a duration and is not tagged: the requests of a log without tags.
    `slow` is a heap of the slowest entries.
    """

    limits: CountLimits = field(default_factory=CountLimits)
    lines: int = 0
    size_bytes: int = 0
    first: float | None = None
    last: float | None = None
    errors: Shapes = field(default_factory=Shapes)
    warnings: Shapes = field(default_factory=Shapes)
    tags: Counter[str] = field(default_factory=Counter)
    sources: Counter[str] = field(default_factory=Counter)
    places: Places = field(default_factory=Places)
    requests: RequestStats = field(default_factory=RequestStats)
    timed: Durations = field(default_factory=Durations)
    timed_slow: int = 0
    slow: list[SlowEntry] = field(default_factory=list)
    slow_total: int = 0
    timeline: Timeline = field(default_factory=Timeline)

    def __post_init__(self) -> None:
        self.requests.slow_s = self.limits.slow_request_s
        self.requests.keep = self.limits.keep

    def saw_time(self, at: float) -> None:
        self.first = at if self.first is None else min(self.first, at)
        self.last = at if self.last is None else max(self.last, at)

    def saw_slow(self, seconds: float, at: float | None, source: str, line: bytes) -> None:
        """Of equally slow entries the later ones are kept."""
        self.slow_total += 1
        if len(self.slow) < self.limits.keep or seconds >= self.slow[0].seconds:
            self._keep(SlowEntry(seconds, -1.0 if at is None else at, source, line[:PREVIEW]))

    def merge(self, other: "Counts") -> None:
        for at in (other.first, other.last):
            if at is not None:
                self.saw_time(at)
        for entry in other.slow:
            self._keep(entry)
        _add(self, other, "limits", "first", "last", "slow")

    def complain(self, level: str, at: float | None, source: str, message: bytes) -> None:
        (self.warnings if level == "warning" else self.errors).add(at, source, message)
        if at is not None:
            self.saw_time(at)
        if level != "warning" and at is not None:
            self.timeline.add(at, ERRORS)

    def slowest(self) -> list[SlowEntry]:
        return sorted(self.slow, reverse=True)

    def _keep(self, entry: SlowEntry) -> None:
        if len(self.slow) < self.limits.keep:
            heapq.heappush(self.slow, entry)
        else:
            heapq.heappushpop(self.slow, entry)


def _add(ours: CallStats | EndedRequests | Counts, theirs: object, *but: str) -> None:
    """Add each field of one record to that of another of its class: numbers, Counters, lists and records."""
    for name in (each for each in names(ours) if each not in but):
        mine, more = getattr(ours, name), getattr(theirs, name)
        if not isinstance(mine, Counter) and hasattr(mine, "merge"):
            mine.merge(more)
        else:
            setattr(ours, name, mine + more)
