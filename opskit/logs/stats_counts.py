"""What is counted in a log, and how two counts become one."""

import heapq
from collections import Counter
from dataclasses import dataclass, field

from opskit.logs.quantiles import Sketch
from opskit.logs.shape import Shapes
from opskit.logs.stats_calls import Places, RequestStats
from opskit.logs.stats_timeline import Timeline

#: So much of a slow line is kept.
PREVIEW = 240


@dataclass(frozen=True, slots=True)
class CountLimits:
    """From when on something is slow (SPEC C5, C7), in seconds, and how many slow ones are kept."""

    slow_entry_s: float = 10.0
    slow_request_s: float = 5.0
    slow_generation_s: float = 30.0
    keep: int = 20


@dataclass(order=True, frozen=True, slots=True)
class Slow:
    """One slow entry; `at` is -1 when its line has no time."""

    seconds: float
    at: float
    source: str
    line: bytes


@dataclass(slots=True)
class Counts:
    """Everything known about some logs.

    `timed` is of every entry that says a duration and is not tagged: the requests of a log without tags.
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
    timed: Sketch = field(default_factory=Sketch)
    timed_slow: int = 0
    slow: list[Slow] = field(default_factory=list)
    slow_total: int = 0
    timeline: Timeline = field(default_factory=Timeline)

    def __post_init__(self) -> None:
        self.requests.slow_s = self.limits.slow_request_s
        self.requests.keep = self.limits.keep

    def saw_time(self, at: float) -> None:
        if self.first is None or at < self.first:
            self.first = at
        if self.last is None or at > self.last:
            self.last = at

    def saw_slow(self, seconds: float, at: float | None, source: str, line: bytes) -> None:
        """Of equally slow entries the later ones are kept."""
        self.slow_total += 1
        if len(self.slow) < self.limits.keep or seconds >= self.slow[0].seconds:
            self._keep(Slow(seconds, -1.0 if at is None else at, source, line[:PREVIEW]))

    def merge(self, other: "Counts") -> None:
        self.lines += other.lines
        self.size_bytes += other.size_bytes
        for at in (other.first, other.last):
            if at is not None:
                self.saw_time(at)
        self.errors.merge(other.errors)
        self.warnings.merge(other.warnings)
        self.tags.update(other.tags)
        self.sources.update(other.sources)
        self.places.merge(other.places)
        self.requests.merge(other.requests)
        self.timed.merge(other.timed)
        self.timed_slow += other.timed_slow
        self.slow_total += other.slow_total
        for entry in other.slow:
            self._keep(entry)
        self.timeline.merge(other.timeline)

    def slowest(self) -> list[Slow]:
        """The slowest first."""
        return sorted(self.slow, reverse=True)

    def _keep(self, entry: Slow) -> None:
        if len(self.slow) < self.limits.keep:
            heapq.heappush(self.slow, entry)
        else:
            heapq.heappushpop(self.slow, entry)
