"""Quantiles of a stream in little memory: a histogram whose buckets grow by 2 % (as in DDSketch, VLDB 2019).

Bucket `i` holds the values in (γ^(i-1), γ^i] and stands for the value whose relative distance to both ends is
the same. With γ = 1.01 / 0.99 that distance is at most 1 %, whatever was added and in whatever order. Two
histograms merge by adding their counts, so a merged one equals the one of the whole stream.
"""

import math
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field

#: The largest relative error of a quantile.
ACCURACY = 0.01
_GAMMA = (1 + ACCURACY) / (1 - ACCURACY)
_LOG_GAMMA = math.log(_GAMMA)
#: Values outside count as these; together they bound the number of buckets to about 1,700.
SMALLEST, LARGEST = 1e-6, 1e9
_MICRO = 1_000_000


@dataclass(slots=True, eq=True)
class Sketch:
    """Count, sum, least and greatest are exact; `quantile` is within 1 %. Values are not negative.

    The sum is kept in millionths, as an integer: sums of floats depend on their order.
    """

    count: int = 0
    sum_micro: int = 0
    least: float = math.inf
    greatest: float = 0.0
    buckets: Counter[int] = field(default_factory=Counter)

    def add(self, value: float, times: int = 1) -> None:
        """Ignores what is not a finite number from 0 on."""
        if 0 <= value < math.inf:
            self.add_placed(place(value), times)

    def add_placed(self, placed: "Placed", times: int = 1) -> None:
        """For who remembers where a value belongs: twice as fast."""
        value, micro, bucket = placed
        self.count += times
        self.sum_micro += micro * times
        self.buckets[bucket] += times
        self.least = min(self.least, value)
        self.greatest = max(self.greatest, value)

    def merge(self, other: "Sketch") -> None:
        self.count += other.count
        self.sum_micro += other.sum_micro
        self.least = min(self.least, other.least)
        self.greatest = max(self.greatest, other.greatest)
        self.buckets.update(other.buckets)

    @property
    def mean(self) -> float | None:
        return self.sum_micro / _MICRO / self.count if self.count else None

    @property
    def total(self) -> float:
        return self.sum_micro / _MICRO

    def quantile(self, part: float) -> float | None:
        """The value at rank floor(part · (count - 1)), `part` from 0 to 1; None when nothing was added."""
        if not self.count:
            return None
        rank = math.floor(part * (self.count - 1))
        seen = 0
        for index in sorted(self.buckets):
            seen += self.buckets[index]
            if seen > rank:
                middle = 2 * math.pow(_GAMMA, index) / (_GAMMA + 1)
                return min(max(middle, self.least), self.greatest)
        raise AssertionError("the buckets hold every value")

    def as_json(self) -> Mapping[str, float | int | None]:
        """In seconds, as all sketches here are of durations."""
        return {
            "count": self.count,
            "total_s": round(self.total, 6),
            "avg_s": rounded(self.mean),
            "min_s": rounded(self.least) if self.count else None,
            "p50_s": rounded(self.quantile(0.5)),
            "p95_s": rounded(self.quantile(0.95)),
            "max_s": rounded(self.greatest) if self.count else None,
        }


#: A value, its millionths, its bucket.
Placed = tuple[float, int, int]


def place(value: float) -> Placed:
    """Where a finite value from 0 on belongs."""
    inside = SMALLEST if value < SMALLEST else min(value, LARGEST)
    return value, round(value * _MICRO), math.ceil(math.log(inside) / _LOG_GAMMA)


def rounded(value: float | None) -> float | None:
    return None if value is None else round(value, 3)
