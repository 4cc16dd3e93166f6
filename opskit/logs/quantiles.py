"""Durations in little memory: quantiles within 1 % (DDSketch, VLDB 2019), all else exact."""

import math
from collections.abc import Mapping

from ddsketch import DDSketch

#: The largest relative error of a quantile.
ACCURACY = 0.01
#: Values outside count as nothing and as this; together they bound the number of buckets to about 1,700.
SMALLEST, LARGEST = 1e-6, 1e9
_MICRO = 1_000_000


class Sketch:
    """Durations in seconds. Two sketches merge, in any order, to the sketch of the whole.

    The sum is kept in millionths, as an integer: sums of floats depend on their order.
    """

    __slots__ = ("_sketch", "count", "greatest", "least", "sum_micro")

    def __init__(self) -> None:
        self.count = 0
        self.sum_micro = 0
        self.least = math.inf
        self.greatest = 0.0
        self._sketch = DDSketch(ACCURACY)

    def add(self, value: float, times: int = 1) -> None:
        """Ignores what is not a finite number from 0 on."""
        if not 0 <= value < math.inf:
            return
        self.count += times
        self.sum_micro += round(value * _MICRO) * times
        self.least = min(self.least, value)
        self.greatest = max(self.greatest, value)
        self._sketch.add(0.0 if value < SMALLEST else min(value, LARGEST), times)

    def merge(self, other: "Sketch") -> None:
        self.count += other.count
        self.sum_micro += other.sum_micro
        self.least = min(self.least, other.least)
        self.greatest = max(self.greatest, other.greatest)
        self._sketch.merge(other._sketch)  # noqa: SLF001 - of the same class

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Sketch) and self._state() == other._state()

    __hash__ = None  # type: ignore[assignment]  # it changes

    @property
    def mean(self) -> float | None:
        return self.sum_micro / _MICRO / self.count if self.count else None

    @property
    def total(self) -> float:
        return self.sum_micro / _MICRO

    @property
    def buckets(self) -> dict[int, float]:
        """How many values lie in each bucket that holds any."""
        store = self._sketch._store  # noqa: SLF001 - it has no other way out
        return {index: count for index, count in enumerate(store.bins, store.offset) if count}

    def quantile(self, part: float) -> float | None:
        """The value at rank floor(part · (count - 1)), `part` from 0 to 1; None when nothing was added."""
        value = self._sketch.get_quantile_value(part)
        return None if value is None else min(max(value, self.least), self.greatest)

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

    def _state(self) -> tuple[object, ...]:
        return (self.count, self.sum_micro, self.least, self.greatest, self.buckets)


def rounded(value: float | None) -> float | None:
    return None if value is None else round(value, 3)
