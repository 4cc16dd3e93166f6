"""What a tally says: as JSON, as Markdown, as tables of text. Pure; foreign text comes out on one line."""

from collections.abc import Iterable, Sequence
from typing import Literal, NamedTuple

from opskit.errors import UsageError
from opskit.logs.shape import Shapes
from opskit.logs.stats_calls import CallStats
from opskit.logs.stats_counts import Counts
from opskit.logs.stats_json import TOP, as_json, buckets, faults, moment, ranked, requests_json, shown
from opskit.logs.stats_timeline import CALLS, ERRORS, LINES

__all__ = ["By", "Table", "as_json", "as_markdown", "rows_by", "sparkline", "summary"]

_COLUMNS = 60
_BARS = "▁▂▃▄▅▆▇█"
_MARKS = frozenset("\\`*_{}[]()<>#|~!&$")
By = Literal["model", "node", "tag", "minute"]
PLACE_COLUMNS = (
    "calls",
    "ok",
    "failed",
    "faults",
    "crashes",
    "fallbacks",
    "fallback rate",
    "p50",
    "p95",
    "max",
    "tokens/s",
)


class Table(NamedTuple):
    """Rows under columns; what has no rows is not shown."""

    heading: str
    columns: Sequence[str]
    rows: Sequence[Sequence[str]]


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
                [f"{s.seconds:.2f}", _time(s.at if s.at >= 0 else None), s.source, shown(s.line)]
                for s in tally.slowest()[:top]
            ],
        ),
        Table("Requests", ("what", "value"), _requests(tally)),
        Table("Models", *rows_by(tally, "model")),
        Table("Nodes", *rows_by(tally, "node")),
        Table("Over time", ("what", "course", "total"), _courses(tally)),
    ]
    return [table for table in tables if table.rows]


def as_markdown(tally: Counts, top: int = TOP) -> str:
    """The summary as a document. Foreign text cannot become markup in it."""
    parts = ["# Log statistics", ""]
    for heading, columns, rows in summary(tally, top):
        parts += [f"## {_escaped(heading)}", "", *_markdown_table(columns, rows), ""]
    return "\n".join(parts)


def rows_by(tally: Counts, key: str) -> tuple[Sequence[str], list[list[str]]]:
    """Columns and rows of one breakdown (see `By`). Raises UsageError for another key."""
    if key in ("model", "node"):
        places = tally.places.by_model() if key == "model" else tally.places.by_node()
        return (key, *PLACE_COLUMNS), [[name, *_place_cells(place)] for name, place in ranked(places)]
    if key == "tag":
        return (key, "lines"), [[tag, str(count)] for tag, count in tally.tags.most_common()]
    if key == "minute":
        return (key, "lines", "errors", "calls"), [
            [_time(at), *(str(count) for count in counts)] for at, counts in buckets(tally)
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
    rows = [[str(seen.count), name, _time(seen.first), _time(seen.last)] for name, seen in shapes.top(top)]
    kinds = f"{len(shapes.seen):,} kinds" if not shapes.other else f"over {len(shapes.seen):,} kinds"
    return Table(f"{heading}: {shapes.total:,} ({kinds})", ("count", "message", "first", "last"), rows)


def _requests(tally: Counts) -> list[list[str]]:
    found = requests_json(tally)
    if not found["total"]:
        return []
    seconds = found["seconds"]
    rows = [["told by", found["told_by"]], ["total", f"{found['total']:,}"]]
    rows += [[what, f"{found[what]:,}"] for what in ("answered", "failed", "unfinished") if found[what]]
    rows += [
        [name, _s(seconds[key])]
        for name, key in (
            ("average", "avg_s"),
            ("fastest", "min_s"),
            ("median", "p50_s"),
            ("p95", "p95_s"),
            ("slowest", "max_s"),
        )
        if seconds[key] is not None
    ]
    rows.append([f"over {found['slow_threshold_s']:g} s", f"{found['slow']:,}"])
    generation = tally.places.total().slow
    if generation:
        rows.append([f"calls over {tally.limits.slow_generation_s:g} s", f"{generation:,}"])
    return rows


def _place_cells(place: CallStats) -> list[str]:
    rate, speed, seconds = place.fallback_rate, place.tokens_per_s, place.seconds
    return [
        str(place.calls),
        str(place.ok),
        str(place.failed),
        ", ".join(f"{fault} {count}" for fault, count in faults(place)),
        str(place.crashes),
        str(place.fallbacks),
        "" if rate is None else f"{rate:.1%}",
        _s(seconds.quantile(0.5)),
        _s(seconds.quantile(0.95)),
        _s(seconds.greatest if seconds.count else None),
        "" if speed is None else f"{speed:.1f}",
    ]


def _courses(tally: Counts) -> list[list[str]]:
    course = list(buckets(tally))
    if len(course) < 2:
        return []
    width = tally.timeline.width_s
    first, last = course[0][0], course[-1][0]
    spread = [[0] * min(_COLUMNS, int((last - first) // width) + 1) for _ in range(3)]
    places = len(spread[0])
    for at, counts in course:
        column = int((at - first) // width) * places // (int((last - first) // width) + 1)
        for what, count in enumerate(counts):
            spread[what][column] += count
    return [
        [name, sparkline(spread[what]), f"{sum(spread[what]):,}"]
        for name, what in (("lines", LINES), ("errors", ERRORS), ("calls", CALLS))
        if any(spread[what])
    ]


def _time(at: float | None) -> str:
    when = moment(at)
    return "" if when is None else f"{when:%Y-%m-%d %H:%M:%S}"


def _s(value: float | None) -> str:
    return "" if value is None else f"{value:.2f} s"


def _escaped(text: str) -> str:
    return "".join(f"\\{char}" if char in _MARKS else char for char in shown(text.encode()))


def _markdown_table(columns: Sequence[str], rows: Iterable[Sequence[str]]) -> list[str]:
    lines = [columns, ["---"] * len(columns), *([_escaped(cell) for cell in row] for row in rows)]
    return [f"| {' | '.join(line)} |" for line in lines]
