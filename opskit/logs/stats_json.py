"""A tally as JSON, and what every other form of it needs too."""

from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from typing import Any

from opskit.logs.quantiles import rounded
from opskit.logs.shape import Shapes
from opskit.logs.stats_calls import CallStats
from opskit.logs.stats_counts import Counts
from opskit.logs.stats_timeline import CALLS, ERRORS, LINES

#: How many messages are told (SPEC C5).
TOP = 5


def as_json(tally: Counts, top: int = TOP) -> dict[str, Any]:
    """Everything counted; times are ISO 8601 in UTC, durations in seconds. The keys are always the same."""
    return {
        "lines": tally.lines,
        "bytes": tally.size_bytes,
        "first": _iso(tally.first),
        "last": _iso(tally.last),
        "sources": dict(sorted(tally.sources.items())),
        "errors": _shapes_json(tally.errors, top),
        "warnings": _shapes_json(tally.warnings, top),
        "slow": {
            "threshold_s": tally.limits.slow_entry_s,
            "total": tally.slow_total,
            "top": [
                {"seconds": rounded(s.seconds), "at": _at(s.at), "source": s.source, "line": shown(s.line)}
                for s in tally.slowest()
            ],
        },
        "requests": requests_json(tally),
        "calls": _place_json(tally.places.total()),
        "models": [{"model": name, **_place_json(place)} for name, place in ranked(tally.places.by_model())],
        "nodes": [{"node": name, **_place_json(place)} for name, place in ranked(tally.places.by_node())],
        "tags": dict(sorted(tally.tags.items())),
        "timeline": {
            "width_s": tally.timeline.width_s,
            "untimed_lines": tally.timeline.untimed_lines,
            "buckets": [
                {"at": _iso(at), "lines": counts[LINES], "errors": counts[ERRORS], "calls": counts[CALLS]}
                for at, counts in buckets(tally)
            ],
        },
    }


def requests_json(tally: Counts) -> dict[str, Any]:
    """Of tagged requests; without any, of all entries that say how long they took."""
    ended = tally.requests.ended()
    if not ended.total and tally.timed.count:
        return {
            "told_by": "durations",
            "total": tally.timed.count,
            "answered": None,
            "failed": None,
            "unfinished": None,
            "slow": tally.timed_slow,
            "slow_threshold_s": tally.limits.slow_request_s,
            "seconds": tally.timed.as_json(),
            "slowest": [],
        }
    return {
        "told_by": "tags",
        "total": ended.total,
        "answered": ended.answered,
        "failed": ended.failed,
        "unfinished": ended.total - ended.answered - ended.failed,
        "slow": ended.slow,
        "slow_threshold_s": tally.limits.slow_request_s,
        "seconds": ended.seconds.as_json(),
        "slowest": [
            {"seconds": rounded(seconds), "at": _iso(at), "correlation_id": shown(identifier)}
            for seconds, at, identifier in ended.slowest
        ],
    }


def faults(place: CallStats) -> list[tuple[str, int]]:
    return [(shown(f), n) for f, n in sorted(place.faults.items(), key=lambda pair: (-pair[1], pair[0]))]


def ranked(places: Mapping[str, CallStats]) -> list[tuple[str, CallStats]]:
    found = sorted(places.items(), key=lambda pair: (-pair[1].calls, pair[0]))
    return [(shown(name.encode()), place) for name, place in found]


def buckets(tally: Counts) -> Iterable[tuple[float, list[int]]]:
    line = tally.timeline
    return ((float(key * line.width_s), counts) for key, counts in sorted(line.buckets.items()))


def shown(text: bytes) -> str:
    """Foreign bytes as printable text on one line."""
    return "".join(char if char.isprintable() else " " for char in text.decode("utf-8", "replace")).strip()


def moment(at: float | None) -> datetime | None:
    try:
        return None if at is None else datetime.fromtimestamp(at, UTC)
    except (ValueError, OverflowError, OSError):
        return None


def _shapes_json(shapes: Shapes, top: int) -> dict[str, Any]:
    return {
        "total": shapes.total,
        "kinds": len(shapes.seen),
        "uncounted": shapes.other,
        "top": [
            {
                "message": name,
                "count": seen.count,
                "first": _iso(seen.first),
                "last": _iso(seen.last),
                "source": seen.sample[1],
                "sample": shown(seen.sample[2]),
            }
            for name, seen in shapes.top(top)
        ],
    }


def _place_json(place: CallStats) -> dict[str, Any]:
    return {
        "calls": place.calls,
        "ok": place.ok,
        "failed": place.failed,
        "faults": dict(faults(place)),
        "crashes": place.crashes,
        "fallbacks": place.fallbacks,
        "fallback_calls": place.fallback_calls,
        "fallback_rate": rounded(place.fallback_rate),
        "slow": place.slow,
        "tokens": place.tokens,
        "tokens_per_s": rounded(place.tokens_per_s),
        "seconds": place.seconds.as_json(),
    }


def _iso(at: float | None) -> str | None:
    when = moment(at)
    return None if when is None else when.isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _at(at: float) -> str | None:
    return _iso(at) if at >= 0 else None
