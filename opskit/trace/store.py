"""Traces kept in SQLite: one row a request, one a span. Several processes may write to one trace."""

import contextlib
import json
import sqlite3
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from opskit.errors import StateError, UsageError
from opskit.records import Record, asdict
from opskit.trace.span import Recording, Span, SpanKind, SpanStatus

STORE_NAME = "traces.db"
#: The newest traces that are kept.
KEPT_TRACES = 2000
#: A shorter beginning of an id would find too much.
MIN_PREFIX = 4
_BUSY_S = 5.0
_SCHEMA = """
CREATE TABLE IF NOT EXISTS traces (
    trace_id TEXT PRIMARY KEY,
    correlation_id TEXT NOT NULL,
    goal TEXT NOT NULL,
    start REAL NOT NULL
);
CREATE INDEX IF NOT EXISTS traces_start ON traces (start);
CREATE INDEX IF NOT EXISTS traces_correlation_id ON traces (correlation_id);
CREATE TABLE IF NOT EXISTS spans (
    trace_id TEXT NOT NULL,
    span_id TEXT NOT NULL,
    parent_id TEXT,
    name TEXT NOT NULL,
    kind TEXT NOT NULL,
    start REAL NOT NULL,
    seconds REAL,
    status TEXT NOT NULL,
    message TEXT NOT NULL,
    attributes TEXT NOT NULL,
    PRIMARY KEY (trace_id, span_id)
) WITHOUT ROWID;
"""


class Trace(Record):
    """A request with the spans of all processes that took part, in the order of their starts."""

    trace_id: str
    correlation_id: str
    goal: str
    start: float
    spans: tuple[Span, ...]

    @property
    def root(self) -> Span | None:
        """The first span whose parent is not known here."""
        known = {span.span_id for span in self.spans}
        return next((span for span in self.spans if span.parent_id not in known), None)

    @property
    def seconds(self) -> float:
        """From the first start to the last end."""
        return max((span.end for span in self.spans), default=self.start) - self.start

    @property
    def status(self) -> SpanStatus:
        return SpanStatus.UNSET if self.root is None else self.root.status

    def tree(self) -> list[tuple[int, Span]]:
        """Return each span with its depth, a parent before its children."""
        known = {span.span_id for span in self.spans}
        children: dict[str | None, list[Span]] = {}
        for span in self.spans:
            parent = span.parent_id if span.parent_id in known else None
            children.setdefault(parent, []).append(span)
        rows: list[tuple[int, Span]] = []
        waiting = [(0, span) for span in reversed(children.pop(None, []))]
        while waiting:
            depth, span = waiting.pop()
            rows.append((depth, span))
            waiting += [(depth + 1, child) for child in reversed(children.pop(span.span_id, []))]
        return rows

    def as_json(self) -> dict[str, Any]:
        return {
            "correlation_id": self.correlation_id,
            "trace_id": self.trace_id,
            "goal": self.goal,
            "start": round(self.start, 6),
            "seconds": round(self.seconds, 6),
            "status": self.status.value,
            "spans": [span.as_json() for span in self.spans],
        }


class TraceStore:
    """The traces of a state folder. Every method raises StateError where the file cannot be used."""

    def __init__(self, folder: Path) -> None:
        self.path = folder / STORE_NAME

    def save(self, recording: Recording, goal: str) -> None:
        """Keep the spans of a recording; the oldest traces give way."""
        start = min(span.start for span in recording.spans)
        row = (recording.trace_id, recording.correlation_id, goal, start)
        with self._opened(create=True) as db, db:
            db.execute(
                "INSERT INTO traces VALUES (?, ?, ?, ?)"
                " ON CONFLICT (trace_id) DO UPDATE SET start = min(start, excluded.start)",
                row,
            )
            db.executemany(
                "INSERT OR REPLACE INTO spans VALUES (:trace_id, :span_id, :parent_id, :name, :kind, :start,"
                " :seconds, :status, :message, :attributes)",
                [
                    {**asdict(span), "attributes": json.dumps(span.attributes, ensure_ascii=False)}
                    for span in recording.spans
                ],
            )
            if db.execute("SELECT count(*) FROM traces").fetchone()[0] > KEPT_TRACES:
                # A tenth more than needed, so that not every request pays for it.
                kept = "SELECT trace_id FROM traces ORDER BY start DESC LIMIT -1 OFFSET ?"
                offset = (KEPT_TRACES - KEPT_TRACES // 10,)
                db.execute(f"DELETE FROM traces WHERE trace_id IN ({kept})", offset)  # noqa: S608 - our own
                db.execute("DELETE FROM spans WHERE trace_id NOT IN (SELECT trace_id FROM traces)")

    def newest(self, count: int) -> list[Trace]:
        if not self.path.exists():
            return []
        with self._opened() as db:
            rows = db.execute("SELECT * FROM traces ORDER BY start DESC LIMIT ?", (count,)).fetchall()
            return [self._trace(db, row) for row in rows]

    def find(self, identifier: str) -> Trace | None:
        """Return the trace whose correlation or trace id, or task id at Victoria, begins with `identifier`.

        None where there is none. Raises UsageError for a beginning that is too short or fits several.
        """
        wanted = identifier.strip().lower()
        if len(wanted) < MIN_PREFIX:
            raise UsageError(
                f"{identifier!r} is too short to tell traces apart",
                remedy=f"give at least {MIN_PREFIX} characters; `opskit trace list` shows the ids",
            )
        if not self.path.exists():
            return None
        with self._opened() as db:
            rows = db.execute(
                "SELECT * FROM traces WHERE substr(correlation_id, 1, ?1) = ?2"
                " OR substr(trace_id, 1, ?1) = ?2 OR trace_id IN"
                " (SELECT trace_id FROM spans WHERE instr(attributes, ?3)) ORDER BY start DESC LIMIT 20",
                (len(wanted), wanted, f'"opskit.task_id": "{wanted}'),
            ).fetchall()
            exact = [row for row in rows if wanted in (row[0], row[1])]
            if len(rows) > 1 and len(exact) != 1:
                ids = ", ".join(row[1] for row in rows)
                raise UsageError(
                    f"several traces begin with {wanted}: {ids}", remedy="give more characters of the id"
                )
            return self._trace(db, (exact or rows)[0]) if rows else None

    def _trace(self, db: sqlite3.Connection, row: Sequence[Any]) -> Trace:
        rows = db.execute("SELECT * FROM spans WHERE trace_id = ? ORDER BY start, span_id", (row[0],))
        return Trace(row[0], row[1], row[2], row[3], tuple(map(_span, rows)))

    @contextlib.contextmanager
    def _opened(self, *, create: bool = False) -> Iterator[sqlite3.Connection]:
        mode = "rwc" if create else "ro"
        try:
            with contextlib.closing(
                sqlite3.connect(f"{self.path.absolute().as_uri()}?mode={mode}", uri=True, timeout=_BUSY_S)
            ) as db:
                if create:
                    self.path.chmod(0o600)
                    # A trace may be lost when the power fails: no request waits for the disk.
                    db.execute("PRAGMA synchronous = OFF")
                    db.executescript(_SCHEMA)
                db.row_factory = sqlite3.Row
                yield db
        except sqlite3.Error as error:
            raise StateError(
                f"{self.path}: {error}", remedy=f"move {self.path} away; it is made again"
            ) from error


def _span(row: sqlite3.Row) -> Span:
    attributes = {
        key: tuple(value) if isinstance(value, list) else value
        for key, value in json.loads(row["attributes"]).items()
    }
    kind, status = SpanKind(row["kind"]), SpanStatus(row["status"])
    return Span(**{**dict(row), "kind": kind, "status": status, "attributes": attributes})
