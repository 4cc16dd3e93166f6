"""The shape of a message: what stays the same when numbers, names and places change; and a count of shapes.

`task 4711 failed after 1.5 s on 10.0.0.7:5432` and `task 12 failed after 90 ms on 10.0.0.8:5432` are one
shape: `task <n> failed after <duration> on <ip>`.
"""

import re
from collections.abc import Iterator
from functools import lru_cache

from opskit.records import MutableRecord, field, replace

#: A message is judged by so many bytes.
MAX_MESSAGE = 400
#: So many shapes are counted exactly; beyond it the rarest are given up for a common count.
MAX_SHAPES = 10_000

# In this order: what may hold another comes first.
_FOLDS: tuple[tuple[re.Pattern[str], str], ...] = tuple(
    (re.compile(pattern), placeholder)
    for pattern, placeholder in (
        (r"\b0{1,4}-0\d?-0\d?[T ]0\d?:0\d?(?::0\d?)?(?:[.,]0+)?(?:Z|[+-]0\d?:?0\d)?", "<time>"),
        (
            r"\b[0-9a-fA-F]{8}-[0-9a-fA-F]{4}-[0-9a-fA-F]{4}-[0-9a-fA-F]{4}-[0-9a-fA-F]{12}\b",
            "<uuid>",
        ),
        (r"\b[a-z][a-z0-9+.-]*://[^\s\"'<>,;)]+", "<url>"),
        (r"(?<![\w\"])\"(?:[^\"\\]|\\.)*\"|(?<![\w'])'[^']*'(?!\w)|`[^`]*`|«[^»]*»", "<text>"),
        (r"\b0{1,3}\.0{1,3}\.0{1,3}\.0{1,3}(?::0+)?\b", "<ip>"),
        (r"\[[0-9a-fA-F:]*:[0-9a-fA-F:]*:[0-9a-fA-F:]*\](?::0+)?", "<ip>"),
        (r"(?:(?<=^)|(?<=[\s=:(\[,]))(?:~|\.{1,2}|[A-Za-z]:)?(?:[/\\][\w.@+-]+){2,}[/\\]?", "<path>"),
        (r"\b0x[0-9a-fA-F]+\b", "<hex>"),
        (r"\b(?=[0-9a-fA-F]*0)(?=[0-9a-fA-F]*[a-fA-F])[0-9a-fA-F]{8,}\b", "<hex>"),
        (
            r"(?<![\w.])0+(?:\.0+)? ?(?:ms|us|µs|ns|s|sec|secs|seconds?|min|minutes?|hours?|h|m|d|days?)\b",
            "<duration>",
        ),
        (r"0+(?:[.,]0+)*", "<n>"),
    )
)
_DIGITS = bytes.maketrans(b"123456789", b"000000000")
_BLANKS = re.compile(r"\s+")


def shape(message: bytes) -> str:
    """Equal for messages that differ only in digits or in what is folded."""
    return _folded(message[:MAX_MESSAGE].translate(_DIGITS))


@lru_cache(maxsize=8192)
def _folded(message: bytes) -> str:
    """Digits are zeros by now, so that messages of one shape mostly meet in the cache."""
    text = _BLANKS.sub(" ", "".join(map(_visible, message.decode("utf-8", "replace")))).strip()
    for pattern, placeholder in _FOLDS:
        text = pattern.sub(placeholder, text)
    return text


def _visible(char: str) -> str:
    return char if char.isprintable() else " "


#: Time (None when unknown), source and text of one message.
Sighting = tuple[float | None, str, bytes]


class ShapeCount(MutableRecord):
    """How often a shape was seen, from when to when, and the first message of it."""

    count: int
    first: float | None
    last: float | None
    sample: Sighting

    def merge(self, other: "ShapeCount") -> None:
        self.count += other.count
        if other.first is not None:
            self.first = other.first if self.first is None else min(self.first, other.first)
        if other.last is not None:
            self.last = other.last if self.last is None else max(self.last, other.last)
        if _order(other.sample) < _order(self.sample):
            self.sample = other.sample


class Shapes(MutableRecord):
    """Messages counted by shape.

    Exact up to MAX_SHAPES; then the rarer half is given up: their counts live on in `other`, and a shape
    that comes again begins at zero. `total` is always exact.
    """

    total: int = 0
    other: int = 0
    seen: dict[str, ShapeCount] = field(default_factory=dict)

    def add(self, at: float | None, source: str, message: bytes) -> None:
        self.total += 1
        key = shape(message)
        known = self.seen.get(key)
        if known is None or at is None or known.first is None or known.last is None or at <= known.first:
            self._count(key, ShapeCount(1, at, at, (at, source, message[:MAX_MESSAGE])))
            return
        # Most messages are neither the first of their shape nor without a time.
        known.count += 1
        known.last = max(known.last, at)

    def merge(self, other: "Shapes") -> None:
        self.total += other.total
        self.other += other.other
        for key, theirs in other.seen.items():
            self._count(key, replace(theirs))

    def _count(self, key: str, more: ShapeCount) -> None:
        known = self.seen.get(key)
        if known is not None:
            known.merge(more)
            return
        self.seen[key] = more
        if len(self.seen) > MAX_SHAPES:
            most = dict(self.top(MAX_SHAPES // 2))
            self.other += sum(each.count for each in self.seen.values())
            self.other -= sum(each.count for each in most.values())
            self.seen = most

    def top(self, count: int) -> Iterator[tuple[str, ShapeCount]]:
        """The most frequent first; equals by name."""
        yield from sorted(self.seen.items(), key=lambda pair: (-pair[1].count, pair[0]))[:count]


def _order(sighting: Sighting) -> tuple[bool, float, str, bytes]:
    """A total order in which the earliest comes first and what has no time last."""
    at, source, message = sighting
    return (at is None, at or 0.0, source, message)
