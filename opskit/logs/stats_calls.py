"""Calls of models and requests of people, counted from tagged lines (SPEC A1, A2, C7)."""

import heapq
import math
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field

from opskit.logs.quantiles import Sketch

#: What a line that names no node or model is counted under.
UNKNOWN = b"-"
#: More pairs of node and model than this are counted as one.
MAX_PLACES = 2000
MAX_FAULTS = 200
OTHER = b"(other)"
#: More requests than this are not kept open: those answered longest ago are closed for good.
MAX_OPEN = 20_000


@dataclass(slots=True)
class CallStats:
    """The calls of one model on one node.

    `seconds` is of answers, `tokens` and `token_micros` (millionths of a second) of those answers that say
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
    faults: Counter[bytes] = field(default_factory=Counter)
    seconds: Sketch = field(default_factory=Sketch)

    @property
    def failed(self) -> int:
        return self.faults.total()

    @property
    def fallback_rate(self) -> float | None:
        return self.fallbacks / self.calls if self.calls else None

    @property
    def tokens_per_s(self) -> float | None:
        return self.tokens * 1_000_000 / self.token_micros if self.token_micros else None

    def answered(self, seconds: float | None, tokens: int | None) -> None:
        self.ok += 1
        if seconds is not None:
            self.seconds.add(seconds)
            if tokens is not None:
                self.tokens += tokens
                self.token_micros += round(seconds * 1_000_000)

    def failed_with(self, fault: bytes, *, crash: bool) -> None:
        if fault not in self.faults and len(self.faults) >= MAX_FAULTS:
            fault = OTHER
        self.faults[fault] += 1
        self.crashes += crash

    def merge(self, other: "CallStats") -> None:
        self.calls += other.calls
        self.ok += other.ok
        self.fallbacks += other.fallbacks
        self.fallback_calls += other.fallback_calls
        self.crashes += other.crashes
        self.slow += other.slow
        self.tokens += other.tokens
        self.token_micros += other.token_micros
        self.faults.update(other.faults)
        self.seconds.merge(other.seconds)


@dataclass(slots=True)
class Places:
    """By node and model, as the log names them. `[FALLBACK]` lines name where a request came from."""

    pairs: dict[tuple[bytes, bytes], CallStats] = field(default_factory=dict)

    def at(self, node: bytes, model: bytes) -> CallStats:
        place = self.pairs.get((node, model))
        if place is None:
            if len(self.pairs) >= MAX_PLACES:
                node = model = OTHER
            place = self.pairs.setdefault((node, model), CallStats())
        return place

    def merge(self, other: "Places") -> None:
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
        found: dict[str, CallStats] = {}
        for key, place in sorted(self.pairs.items()):
            if key[index] != UNKNOWN or key == (UNKNOWN, UNKNOWN):
                found.setdefault(key[index].decode("utf-8", "replace"), CallStats()).merge(place)
        return found


# What has been seen of a request.
ASKED, ANSWERED, FAILED = 1, 2, 4
#: First and last time in epoch seconds (+inf and -inf when no line has a time), and the bits above.
Course = tuple[float, float, int]


@dataclass(slots=True)
class Ended:
    """Requests that are counted for good."""

    total: int = 0
    answered: int = 0
    failed: int = 0
    slow: int = 0
    seconds: Sketch = field(default_factory=Sketch)
    #: Seconds, begin, id: the slowest.
    slowest: list[tuple[float, float, bytes]] = field(default_factory=list)

    def merge(self, other: "Ended", keep: int) -> None:
        self.total += other.total
        self.answered += other.answered
        self.failed += other.failed
        self.slow += other.slow
        self.seconds.merge(other.seconds)
        # In ascending order, which is a heap.
        self.slowest = sorted([*self.slowest, *other.slowest])[-keep:]

    def end(self, identifier: bytes, course: Course, slow_s: float, keep: int) -> None:
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
            entry = (round(last - first, 6), first, identifier)
            if len(self.slowest) < keep:
                heapq.heappush(self.slowest, entry)
            else:
                heapq.heappushpop(self.slowest, entry)


@dataclass(slots=True)
class RequestStats:
    """Requests by correlation id, from their first to their last tagged line.

    Order and place of a cut make no difference while at most MAX_OPEN requests are kept open; beyond it those
    answered longest ago are closed, and what might still come of them is not theirs any more.
    `announced` counts beginnings that name no id, as other writers of the tags produce them; `named` counts
    the lines by which such a writer tells the id of a request that it has just announced.
    """

    slow_s: float = 5.0
    keep: int = 20
    announced: int = 0
    named: int = 0
    open: dict[bytes, Course] = field(default_factory=dict)
    closed: Ended = field(default_factory=Ended)

    def saw(self, identifier: bytes, at: float | None, bits: int) -> None:
        """A tagged line of a request."""
        known = self.open.get(identifier)
        if known is None or at is None:
            self._join(identifier, math.inf if at is None else at, -math.inf if at is None else at, bits)
            return
        first, last, had = known
        self.open[identifier] = (min(first, at), max(last, at), had | bits)

    def merge(self, other: "RequestStats") -> None:
        self.announced += other.announced
        self.named += other.named
        self.closed.merge(other.closed, self.keep)
        for identifier, (first, last, bits) in other.open.items():
            self._join(identifier, first, last, bits)

    def ended(self) -> Ended:
        """All of them, as if the log ended here."""
        whole = Ended()
        whole.merge(self.closed, self.keep)
        for identifier, course in self.open.items():
            whole.end(identifier, course, self.slow_s, self.keep)
        whole.total += max(0, self.announced - self.named)
        whole.slowest.sort(reverse=True)
        return whole

    def _join(self, identifier: bytes, first: float, last: float, bits: int) -> None:
        known = self.open.get(identifier)
        if known is not None:
            began, ended, had = known
            self.open[identifier] = (min(first, began), max(last, ended), had | bits)
            return
        self.open[identifier] = (first, last, bits)
        if len(self.open) > MAX_OPEN:
            self._close_some()

    def _close_some(self) -> None:
        for identifier in self._oldest(MAX_OPEN // 2):
            self.closed.end(identifier, self.open.pop(identifier), self.slow_s, self.keep)

    def _oldest(self, count: int) -> Iterator[bytes]:
        """Complete ones before those that still want a beginning or an answer, then by their last line."""
        whole = ASKED | ANSWERED

        def order(item: tuple[bytes, Course]) -> tuple[bool, float, bytes]:
            identifier, (_, last, bits) = item
            return (bits & whole != whole, last, identifier)

        yield from [identifier for identifier, _ in heapq.nsmallest(count, self.open.items(), key=order)]
