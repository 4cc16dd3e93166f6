"""How much happened when: lines, errors and calls in buckets of a minute, wider when the log is long."""

from opskit.logs.times import last_timed, timestamp, written_time
from opskit.records import MutableRecord, field

MINUTE_S = 60
#: More buckets than this are joined in pairs: a week in minutes, a year in hours.
MAX_BUCKETS = 12_000
LINES, ERRORS, CALLS = range(3)
#: How far behind a line's beginning a time is sought when the line itself need not have one.
_REACH = 2000


class Timeline(MutableRecord):
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

    def spread(self, block: bytes, otherwise: float | None = None) -> tuple[int, float | None, float | None]:
        """Place the lines of a block; gives their number and the times of its ends.

        The lines of a log are nearly in the order of their times, so only the borders between buckets are
        sought, by halving: a stretch whose ends are in the same bucket lies in it as a whole. A line without
        a time belongs to the one before it, at the beginning of a block to the one behind it. `otherwise` is
        the time of a block that has none.
        """
        first = timestamp(block, 0, min(len(block), 64 * 1024))
        if first is None:
            lines = block.count(b"\n")
            if otherwise is None:
                self.untimed_lines += lines
            else:
                self.add(otherwise, LINES, lines)
            return lines, otherwise, otherwise
        last = _end(block, 0, len(block), first)
        lines = 0
        stretches = [(0, first, len(block), last)]
        while stretches:
            start, begins, end, ends = stretches.pop()
            border = None
            if int(begins // self.width_s) != int(ends // self.width_s):
                border = _middle(block, start, end)
            if border is None:
                count = block.count(b"\n", start, end)
                lines += count
                if count:
                    self.add(begins, LINES, count)
                continue
            middle, at = border
            stretches.append((middle, at, end, ends))
            stretches.append((start, begins, middle, _end(block, start, middle, begins)))
        return lines, first, last


def _middle(block: bytes, start: int, end: int) -> tuple[int, float] | None:
    """A line with a time near the middle of a stretch, not its first; None when there is none."""
    middle = block.find(b"\n", (start + end) // 2, end - 1) + 1 or end
    time = written_time(block, middle, min(middle + _REACH, end)) if middle < end else None
    if time is not None and time.at is not None:
        return block.rfind(b"\n", middle, time.start) + 1 or middle, time.at
    border = last_timed(block, start, middle)
    return None if border is None or border[0] <= start else border


def _end(block: bytes, start: int, end: int, otherwise: float) -> float:
    """The time of the last line of a stretch that has one."""
    line = last_timed(block, start, end)
    return otherwise if line is None else line[1]
