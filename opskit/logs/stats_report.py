"""What a tally says: as JSON, as Markdown, as tables of text. Pure; foreign text comes out on one line."""

from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, NamedTuple

from opskit.errors import UsageError
from opskit.logs.shape import Shapes
from opskit.logs.stats_counts import CallStats, Counts, rounded
from opskit.logs.stats_timeline import CALLS, ERRORS, LINES
from opskit.text import markdown_table, markdown_text, printable, utc

#: How many messages are listed (SPEC C5).
TOP = 5
_COLUMNS = 60
_BARS = "▁▂▃▄▅▆▇█"
_CALL_COLUMNS = (
    *("calls", "ok", "failed", "faults", "crashes", "fallbacks", "fallback rate"),
    *("p50", "p95", "max", "tokens/s"),
)


class Table(NamedTuple):
    """Rows under columns; what has no rows is not shown."""

    heading: str
    columns: Sequence[str]
    rows: Sequence[Sequence[str]]


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
                {
                    "seconds": rounded(slow.seconds),
                    "at": _iso(slow.at if slow.at >= 0 else None),
                    "source": slow.source,
                    "line": _shown(slow.line),
                }
                for slow in tally.slowest()
            ],
        },
        "requests": _requests_json(tally),
        "calls": _calls_json(tally.places.total()),
        "models": [{"model": name, **_calls_json(calls)} for name, calls in _ranked(tally.places.by_model())],
        "nodes": [{"node": name, **_calls_json(calls)} for name, calls in _ranked(tally.places.by_node())],
        "tags": dict(sorted(tally.tags.items())),
        "timeline": {
            "width_s": tally.timeline.width_s,
            "untimed_lines": tally.timeline.untimed_lines,
            "buckets": [
                {"at": _iso(at), "lines": counts[LINES], "errors": counts[ERRORS], "calls": counts[CALLS]}
                for at, counts in _buckets(tally)
            ],
        },
    }


def summary(tally: Counts, top: int = TOP) -> list[Table]:
    """The whole tally for people, the important first."""
    tables = [
        Table("Log", ("what", "value"), _overview(tally)),
        _messages("Errors", tally.errors, top),
        _messages("Warnings", tally.warnings, top),
        Table(
            f"Slow entries (over {tally.limits.slow_entry_s:g} s): {tally.slow_total}",
            ("seconds", "time", "source", "line"),
            [
                [
                    f"{slow.seconds:.2f}",
                    _time(slow.at if slow.at >= 0 else None),
                    slow.source,
                    _shown(slow.line),
                ]
                for slow in tally.slowest()[:top]
            ],
        ),
        Table("Requests", ("what", "value"), _requests(tally)),
        Table("Models", *rows_by(tally, "model")),
        Table("Nodes", *rows_by(tally, "node")),
        Table("Over time", ("what", "course", "total"), _courses(tally)),
    ]
    return [table for table in tables if table.rows]


def as_markdown(tally: Counts) -> str:
    """The summary as a document. Foreign text cannot become markup in it."""
    parts = ["# Log statistics", ""]
    for heading, columns, rows in summary(tally):
        parts += [f"## {markdown_text(heading)}", "", *markdown_table(columns, rows), ""]
    return "\n".join(parts)


def rows_by(tally: Counts, key: str) -> tuple[Sequence[str], list[list[str]]]:
    """Columns and rows of one breakdown: model, node, tag or minute. Raises UsageError for another key."""
    if key in ("model", "node"):
        places = tally.places.by_model() if key == "model" else tally.places.by_node()
        return (key, *_CALL_COLUMNS), [[name, *_call_cells(calls)] for name, calls in _ranked(places)]
    if key == "tag":
        return (key, "lines"), [[tag, str(count)] for tag, count in tally.tags.most_common()]
    if key == "minute":
        return (key, "lines", "errors", "calls"), [
            [_time(at), *map(str, counts)] for at, counts in _buckets(tally)
        ]
    raise UsageError(
        f"cannot break statistics down by {key!r}", remedy="one of model, node, tag, minute can be used"
    )


def sparkline(values: Sequence[int], columns: int = _COLUMNS) -> str:
    """One bar for each value, or for as many together as make `columns`; a blank for nothing at all."""
    if len(values) > columns:
        values = [
            sum(values[len(values) * i // columns : len(values) * (i + 1) // columns]) for i in range(columns)
        ]
    most = max(values, default=0)
    return "".join(_BARS[(value * len(_BARS) - 1) // most] if value else " " for value in values)


def _shapes_json(shapes: Shapes, top: int) -> dict[str, Any]:
    return {
        "total": shapes.total,
        "kinds": len(shapes.seen),
        "uncounted": shapes.other,
        "top": [
            {
                "message": name,
                "count": shape.count,
                "first": _iso(shape.first),
                "last": _iso(shape.last),
                "source": shape.sample[1],
                "sample": _shown(shape.sample[2]),
            }
            for name, shape in shapes.top(top)
        ],
    }


def _requests_json(tally: Counts) -> dict[str, Any]:
    """Of tagged requests; without any, of all entries that say how long they took."""
    ended = tally.requests.ended()
    tagged = bool(ended.total or not tally.timed.count)
    return {
        "told_by": "tags" if tagged else "durations",
        "total": ended.total if tagged else tally.timed.count,
        "answered": ended.answered if tagged else None,
        "failed": ended.failed if tagged else None,
        "unfinished": ended.total - ended.answered - ended.failed if tagged else None,
        "slow": ended.slow if tagged else tally.timed_slow,
        "slow_threshold_s": tally.limits.slow_request_s,
        "seconds": (ended.seconds if tagged else tally.timed).as_json(),
        "slowest": [
            {"seconds": rounded(seconds), "at": _iso(at), "correlation_id": _shown(identifier)}
            for seconds, at, identifier in ended.slowest
        ],
    }


def _calls_json(calls: CallStats) -> dict[str, Any]:
    return {
        "calls": calls.calls,
        "ok": calls.ok,
        "failed": calls.failed,
        "faults": dict(_faults(calls)),
        "crashes": calls.crashes,
        "fallbacks": calls.fallbacks,
        "fallback_calls": calls.fallback_calls,
        "fallback_rate": rounded(calls.fallback_rate),
        "slow": calls.slow,
        "tokens": calls.tokens,
        "tokens_per_s": rounded(calls.tokens_per_s),
        "seconds": calls.seconds.as_json(),
    }


def _overview(tally: Counts) -> list[list[str]]:
    rows = [
        ["lines", f"{tally.lines:,}"],
        ["size", f"{tally.size_bytes / 1e6:,.1f} MB"],
        ["from", _time(tally.first)],
        ["to", _time(tally.last)],
        ["errors", f"{tally.errors.total:,}"],
        ["warnings", f"{tally.warnings.total:,}"],
        ["slow entries", f"{tally.slow_total:,}"],
    ]
    if len(tally.sources) > 1:
        rows += [[f"lines of {name}", f"{count:,}"] for name, count in sorted(tally.sources.items())]
    return rows


def _messages(heading: str, shapes: Shapes, top: int) -> Table:
    rows = [
        [str(shape.count), name, _time(shape.first), _time(shape.last)] for name, shape in shapes.top(top)
    ]
    kinds = f"{len(shapes.seen):,} kinds" if not shapes.other else f"over {len(shapes.seen):,} kinds"
    return Table(f"{heading}: {shapes.total:,} ({kinds})", ("count", "message", "first", "last"), rows)


def _requests(tally: Counts) -> list[list[str]]:
    requests = _requests_json(tally)
    if not requests["total"]:
        return []
    seconds = requests["seconds"]
    rows = [["told by", requests["told_by"]], ["total", f"{requests['total']:,}"]]
    rows += [[what, f"{requests[what]:,}"] for what in ("answered", "failed", "unfinished") if requests[what]]
    keys = {"average": "avg_s", "fastest": "min_s", "median": "p50_s", "p95": "p95_s", "slowest": "max_s"}
    rows += [[name, _s(seconds[key])] for name, key in keys.items() if seconds[key] is not None]
    rows.append([f"over {requests['slow_threshold_s']:g} s", f"{requests['slow']:,}"])
    generations = tally.places.total().slow
    if generations:
        rows.append([f"calls over {tally.limits.slow_generation_s:g} s", f"{generations:,}"])
    return rows


def _call_cells(calls: CallStats) -> list[str]:
    rate, speed, seconds = calls.fallback_rate, calls.tokens_per_s, calls.seconds
    return [
        str(calls.calls),
        str(calls.ok),
        str(calls.failed),
        ", ".join(f"{fault} {count}" for fault, count in _faults(calls)),
        str(calls.crashes),
        str(calls.fallbacks),
        "" if rate is None else f"{rate:.1%}",
        _s(seconds.quantile(0.5)),
        _s(seconds.quantile(0.95)),
        _s(seconds.greatest if seconds.count else None),
        "" if speed is None else f"{speed:.1f}",
    ]


def _courses(tally: Counts) -> list[list[str]]:
    buckets = list(_buckets(tally))
    if len(buckets) < 2:
        return []
    width_s, first = tally.timeline.width_s, buckets[0][0]
    steps = int((buckets[-1][0] - first) // width_s) + 1
    columns = min(_COLUMNS, steps)
    courses = [[0] * columns for _ in range(3)]
    for at, counts in buckets:
        column = int((at - first) // width_s) * columns // steps
        for what, count in enumerate(counts):
            courses[what][column] += count
    return [
        [name, sparkline(courses[what]), f"{sum(courses[what]):,}"]
        for name, what in (("lines", LINES), ("errors", ERRORS), ("calls", CALLS))
        if any(courses[what])
    ]


def _buckets(tally: Counts) -> Iterable[tuple[float, list[int]]]:
    timeline = tally.timeline
    return ((float(key * timeline.width_s), counts) for key, counts in sorted(timeline.buckets.items()))


def _faults(calls: CallStats) -> list[tuple[str, int]]:
    faults = sorted(calls.faults.items(), key=lambda pair: (-pair[1], pair[0]))
    return [(_shown(fault), count) for fault, count in faults]


def _ranked(places: Mapping[str, CallStats]) -> list[tuple[str, CallStats]]:
    pairs = sorted(places.items(), key=lambda pair: (-pair[1].calls, pair[0]))
    return [(_shown(name), calls) for name, calls in pairs]


def _shown(text: bytes | str) -> str:
    """Foreign text, printable and on one line."""
    text = text.decode("utf-8", "replace") if isinstance(text, bytes) else text
    return printable(text).strip()


def _iso(at: float | None) -> str | None:
    return None if at is None else utc(at)


def _time(at: float | None) -> str:
    return "" if at is None else f"{datetime.fromtimestamp(at, UTC):%Y-%m-%d %H:%M:%S}"


def _s(value: float | None) -> str:
    return "" if value is None else f"{value:.2f} s"
