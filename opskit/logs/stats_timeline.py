"""How much happened when: lines, errors and calls in buckets of a minute, wider when the log is long."""

import re
from dataclasses import dataclass, field

from opskit.logs.record import timestamp
from opskit.text import epoch_s

MINUTE_S = 60
#: More buckets than this are joined in pairs: a week in minutes, a year in hours.
MAX_BUCKETS = 12_000
LINES, ERRORS, CALLS = range(3)
_LONGEST_MINUTE_S = 61.0
_POINT = ord(".")

_TIME = re.compile(
    rb"(\d{4}-\d\d-\d\d[T ]\d\d:\d\d):(\d\d)(?:[.,](\d{1,9}))?\d*\s?(Z|[+-]\d\d:?\d\d)?"
    rb'|"(?:ts|time|timestamp)"\s*:\s*(\d{10}(?:\d{3}){0,3}(?:\.\d{1,9})?)\b'
)
#: How far behind a line's beginning a time is sought when the line itself need not have one.
_REACH = 2000
_HEAD = 400
#: So many lines without a time are stepped over.
_BACK = 200
# Z, or a blank and what cannot be a zone.
_NO_ZONE = frozenset(
    [b"Z" + bytes([second]) for second in range(256)]
    + [b" " + bytes([second]) for second in range(ord("A"), 256) if second != ord("Z")]
)


class Clock:
    """Times of lines as epoch seconds, fast: the minute is read once, then remembered."""

    def __init__(self) -> None:
        self._minutes: dict[bytes, float | None] = {}

    def __call__(self, text: bytes, start: int = 0, end: int = _HEAD) -> float | None:
        """The first time in text[start:end]; one without a zone is taken as UTC."""
        when = self.stamp(text, start)
        if when is not None:
            return when
        found = _TIME.search(text, start, end)
        return None if found is None else self.read(found)

    def stamp(self, text: bytes, start: int) -> float | None:
        """`2026-03-01 12:30:15.250` without a zone or with Z, in a minute met before; most lines have it."""
        base = self._minutes.get(text[start : start + 16])
        if base is None or text[start + 23 : start + 25] not in _NO_ZONE:
            return None
        digits = text[start + 17 : start + 23]
        try:
            seconds = float(digits if digits[2] == _POINT else digits.replace(b",", b"."))
        except (ValueError, IndexError):
            return None
        return base + seconds if 0.0 <= seconds < _LONGEST_MINUTE_S else None

    def read(self, found: re.Match[bytes]) -> float | None:
        minute, seconds, fraction, zone, number = found.groups()
        if number is not None:
            return epoch_s(float(number))
        key = minute if zone is None or zone == b"Z" else minute + zone
        base = self._minutes.get(key)
        if base is None:
            if key in self._minutes:
                return None
            if len(self._minutes) > MAX_BUCKETS:
                self._minutes.clear()
            base = self._minutes[key] = timestamp(minute + b":00" + (zone or b""))
            if base is None:
                return None
        return base + float(b"%b.%b" % (seconds, fraction or b"0"))


@dataclass(slots=True)
class Timeline:
    """`buckets`: begin of a bucket, in units of `width_s` since the epoch, to its three counts.

    Errors and calls are placed by their own time. Lines are placed by `spread`.
    """

    width_s: int = MINUTE_S
    buckets: dict[int, list[int]] = field(default_factory=dict)
    untimed_lines: int = 0

    def add(self, at: float, what: int, count: int = 1) -> None:
        key = int(at // self.width_s)
        bucket = self.buckets.get(key)
        if bucket is None:
            bucket = self.buckets[key] = [0, 0, 0]
            if len(self.buckets) > MAX_BUCKETS:
                bucket[what] += count
                self._widen(self.width_s * 2)
                return
        bucket[what] += count

    def merge(self, other: "Timeline") -> None:
        self.untimed_lines += other.untimed_lines
        if other.width_s > self.width_s:
            self._widen(other.width_s)
        for key, counts in other.buckets.items():
            for what, count in enumerate(counts):
                self.add(key * other.width_s, what, count)

    def _widen(self, width_s: int) -> None:
        """Until it fits. The width at the end depends only on what was added, not on the order."""
        old, old_width = self.buckets, self.width_s
        self.buckets, self.width_s = {}, width_s
        for key, counts in old.items():
            bucket = self.buckets.setdefault(key * old_width // width_s, [0, 0, 0])
            for what, count in enumerate(counts):
                bucket[what] += count
        if len(self.buckets) > MAX_BUCKETS:
            self._widen(width_s * 2)

    def spread(
        self, block: bytes, clock: Clock, otherwise: float | None = None
    ) -> tuple[int, float | None, float | None]:
        """Place the lines of a block; gives their number and the times of its ends.

        The lines of a log are nearly in the order of their times, so only the borders between buckets are
        sought, by halving: a stretch whose ends are in the same bucket lies in it as a whole. A line without
        a time belongs to the one before it, at the beginning of a block to the one behind it. `otherwise` is
        the time of a block that has none.
        """
        first = clock(block, 0, min(len(block), 64 * 1024))
        if first is None:
            lines = block.count(b"\n")
            if otherwise is None:
                self.untimed_lines += lines
            else:
                self.add(otherwise, LINES, lines)
            return lines, otherwise, otherwise
        found = _last_timed(block, 0, len(block), clock)
        last = first if found is None else found[1]
        lines = 0
        stretches = [(0, first, len(block), last)]
        while stretches:
            start, begins, end, ends = stretches.pop()
            border = None
            if int(begins // self.width_s) != int(ends // self.width_s):
                border = _middle(block, start, end, clock)
            if border is None:
                count = block.count(b"\n", start, end)
                lines += count
                if count:
                    self.add(begins, LINES, count)
                continue
            middle, at = border
            before = _last_timed(block, start, middle, clock)
            stretches.append((middle, at, end, ends))
            stretches.append((start, begins, middle, begins if before is None else before[1]))
        return lines, first, last


def _middle(block: bytes, start: int, end: int, clock: Clock) -> tuple[int, float] | None:
    """A line with a time near the middle of a stretch, not its first; None when there is none."""
    middle = block.find(b"\n", (start + end) // 2, end - 1) + 1 or end
    found = _TIME.search(block, middle, min(middle + _REACH, end)) if middle < end else None
    at = None if found is None else clock.read(found)
    if found is not None and at is not None:
        return block.rfind(b"\n", middle, found.start()) + 1 or middle, at
    border = _last_timed(block, start, middle, clock)
    return None if border is None or border[0] <= start else border


def _last_timed(block: bytes, start: int, end: int, clock: Clock) -> tuple[int, float] | None:
    """The last line of a stretch that has a time, sought not too far back."""
    at = end
    for _ in range(_BACK):
        begin = block.rfind(b"\n", start, at - 1) + 1 or start
        found = clock(block, begin, min(begin + _HEAD, at))
        if found is not None:
            return begin, found
        if begin <= start:
            break
        at = begin
    return None
