"""The runs of an agent server in a database: SQLite by default, PostgreSQL for several servers.

A run is queued, then running, then completed, failed, interrupted or cancelled. Only a run that needs an
approval goes back to the queue, when it is approved. Only the server that holds a run may end it: a claim
makes a new token, and every later change names it, so that a server that was taken for dead can no longer
overwrite what became of its run. The token of a run that needs an approval is the id of that approval,
`lease_until` is when it expires, and `result` holds what is to be approved and the checkpoint.
"""

import json
import time
from collections.abc import Callable, Mapping, Sequence
from enum import StrEnum
from functools import partial
from typing import Any, ParamSpec, TypeVar
from uuid import uuid4

from opskit.records import Record, replace
from opskit.server.database import Database

P = ParamSpec("P")
T = TypeVar("T")

#: A server that has not renewed its runs for so long is dead.
LEASE_S = 30.0
_LOCAL_LEASE_S = 3600.0
_KEPT_SESSION_LINES = 60
_SCHEMA = (
    """CREATE TABLE IF NOT EXISTS runs (
        task_id TEXT PRIMARY KEY,
        status TEXT NOT NULL,
        request TEXT NOT NULL,
        correlation_id TEXT NOT NULL,
        created DOUBLE PRECISION NOT NULL,
        started DOUBLE PRECISION,
        ended DOUBLE PRECISION,
        lease_until DOUBLE PRECISION,
        token TEXT,
        server TEXT,
        result TEXT,
        error TEXT
    )""",
    "CREATE INDEX IF NOT EXISTS runs_waiting ON runs (status, created)",
    "CREATE INDEX IF NOT EXISTS runs_failed ON runs (ended) WHERE error IS NOT NULL",
    """CREATE TABLE IF NOT EXISTS session_lines (
        session_id TEXT NOT NULL,
        at DOUBLE PRECISION NOT NULL,
        role TEXT NOT NULL,
        content TEXT NOT NULL
    )""",
    "CREATE INDEX IF NOT EXISTS session_lines_order ON session_lines (session_id, at)",
)
_CLAIM = (
    "UPDATE runs SET status = 'running', started = ?, lease_until = ?, token = ?, server = ? WHERE task_id ="
    " (SELECT task_id FROM runs WHERE status = 'queued' ORDER BY created, task_id LIMIT 1{skip_locked})"
    " AND status = 'queued' RETURNING *"
)


class RunStatus(StrEnum):
    QUEUED = "queued"
    RUNNING = "running"
    NEEDS_APPROVAL = "needs_approval"
    COMPLETED = "completed"
    FAILED = "failed"
    INTERRUPTED = "interrupted"
    CANCELLED = "cancelled"

    @property
    def is_end(self) -> bool:
        return self not in (RunStatus.QUEUED, RunStatus.RUNNING, RunStatus.NEEDS_APPROVAL)


class Run(Record):
    """One run as it stands in the database. `request`, `result` and `error` are JSON objects."""

    task_id: str
    status: RunStatus
    request: Mapping[str, Any]
    correlation_id: str
    created: float
    started: float | None = None
    ended: float | None = None
    result: Mapping[str, Any] | None = None
    error: Mapping[str, Any] | None = None
    server: str | None = None

    @property
    def approval(self) -> Mapping[str, Any] | None:
        """What the run needs approved, or what was approved for its next step; `number` counts within it."""
        return (self.result or {}).get("approval")

    def as_json(self) -> dict[str, Any]:
        """Return what `GET /run/status/ID` answers."""
        result = self.result or {}
        return {
            "task_id": self.task_id,
            "status": self.status.value,
            "output": result.get("output"),
            "knowledge": result.get("knowledge"),
            "approval": self.approval if self.status is RunStatus.NEEDS_APPROVAL else None,
            "error": None if self.error is None else self.error.get("error_message"),
            "error_code": None if self.error is None else self.error.get("error_code"),
            "correlation_id": self.correlation_id,
            "created": self.created,
            "started": self.started,
            "ended": self.ended,
        }


class RunStore:
    """The runs and the sessions of the agent. `server` is the address of this server.

    Runs of `opskit run` that need an approval have the server LOCAL: no other store touches them.
    """

    LOCAL = "local"

    def __init__(self, database: Database, server: str, clock: Callable[[], float] = time.time) -> None:
        self.database = database
        self._server = server
        self.clock = clock
        self._unsure: dict[str, float] = {}
        self._is_local = server == self.LOCAL
        for statement in _SCHEMA:
            database.execute(statement)

    async def ask(self, call: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Return what a method of this store, or a user of it, returns; the event loop goes on meanwhile."""
        return await self.database.off_loop(partial(call, *args, **kwargs))

    def _changed(self, statement: str, *values: Any) -> bool:
        """Tell whether a statement changed a run."""
        return bool(self.database.execute(f"{statement} RETURNING task_id", values))

    def add(self, request: Mapping[str, Any], correlation_id: str) -> str:
        """Queue a run and return its id."""
        task_id = str(uuid4())
        self.database.execute(
            "INSERT INTO runs (task_id, status, request, correlation_id, created) VALUES (?, ?, ?, ?, ?)",
            (task_id, RunStatus.QUEUED.value, json.dumps(request), correlation_id, self.clock()),
        )
        return task_id

    def add_running(self, request: Mapping[str, Any], correlation_id: str) -> tuple[Run, str]:
        """Add a run that this process works on already; the token is needed to end it."""
        task_id, token, now = str(uuid4()), uuid4().hex, self.clock()
        rows = self.database.execute(
            "INSERT INTO runs (task_id, status, request, correlation_id, created, started, lease_until,"
            " token, server) VALUES (?, 'running', ?, ?, ?, ?, ?, ?, ?) RETURNING *",
            (task_id, json.dumps(request), correlation_id, now, now, now + LEASE_S, token, self._server),
        )
        return _run(rows[0]), token

    def suspend(self, token: str, approval_id: str, expires: float, result: Mapping[str, Any]) -> bool:
        """Let a running run wait for an approval; False where it has ended already."""
        statement = (
            "UPDATE runs SET status = 'needs_approval', token = ?, lease_until = ?, result = ?"
            " WHERE token = ? AND status = 'running'"
        )
        return self._changed(statement, approval_id, expires, _json(result), token)

    def decide(
        self,
        task_id: str,
        approval_id: str,
        status: RunStatus,
        *,
        token: str | None = None,
        result: Mapping[str, Any] | None = None,
        error: Mapping[str, Any] | None = None,
    ) -> bool:
        """Take a run out of its wait for this approval; False where it waits for none, or not any more."""
        now = self.clock()
        ended, lease_until = now if status.is_end else None, now + _LOCAL_LEASE_S
        decided = (status.value, token, _json(result), _json(error), ended, lease_until)
        statement = (
            "UPDATE runs SET status = ?, token = ?, result = ?, error = ?, ended = ?, lease_until = ?"
            " WHERE task_id = ? AND token = ? AND status = 'needs_approval' AND lease_until > ?"
            " AND (server = 'local') = ?"
        )
        return self._changed(statement, *decided, task_id, approval_id, now, self._is_local)

    def waiting(self) -> list[Run]:
        """Return the runs that need an approval, the oldest first."""
        rows = self.database.execute(
            "SELECT * FROM runs WHERE status = 'needs_approval' AND (server = 'local') = ?"
            " ORDER BY created, task_id",
            (self._is_local,),
        )
        return [_run(row) for row in rows]

    def expire(self, error: Mapping[str, Any]) -> list[Run]:
        """Fail the runs whose approval nobody gave in time, and return them."""
        now = self.clock()
        rows = self.database.execute(
            "UPDATE runs SET status = 'failed', ended = ?, error = ?"
            " WHERE status = 'needs_approval' AND lease_until <= ? AND (server = 'local') = ? RETURNING *",
            (now, _json(error), now, self._is_local),
        )
        return [_run(row) for row in rows]

    def claim(self) -> tuple[Run, str] | None:
        """Take the oldest queued run; None where there is none. The token is needed to end it."""
        now = self.clock()
        self._unsure = {token: until for token, until in self._unsure.items() if until > now}
        for token in list(self._unsure):
            taken = "SELECT * FROM runs WHERE token = ? AND status = 'running'"
            if rows := self.database.execute(taken, (token,)):
                del self._unsure[token]
                return _run(rows[0]), token
        token, until = uuid4().hex, now + LEASE_S
        # A database that gives no answer may do it all the same, at any time while the lease lasts.
        self._unsure[token] = until
        rows = self.database.execute(
            _CLAIM.format(skip_locked=self.database.skip_locked), (now, until, token, self._server)
        )
        del self._unsure[token]
        return (_run(rows[0]), token) if rows else None

    def renew(self, token: str) -> bool:
        """Say that a run is still worked on; False where it is not ours any more."""
        statement = "UPDATE runs SET lease_until = ? WHERE token = ? AND status = 'running'"
        return self._changed(statement, self.clock() + LEASE_S, token)

    def end(
        self,
        token: str,
        status: RunStatus,
        *,
        result: Mapping[str, Any] | None = None,
        error: Mapping[str, Any] | None = None,
    ) -> bool:
        """End the run that the token was given for; False where it has ended already, and nothing changes."""
        statement = (
            "UPDATE runs SET status = ?, ended = ?, result = ?, error = ? WHERE token = ?"
            " AND status = 'running'"
        )
        return self._changed(statement, status.value, self.clock(), _json(result), _json(error), token)

    def cancel(self, task_id: str) -> bool:
        """Cancel a run that has not ended; False where there is no such run."""
        statement = (
            "UPDATE runs SET status = 'cancelled', ended = ?"
            " WHERE task_id = ? AND status IN ('queued', 'running', 'needs_approval')"
        )
        return self._changed(statement, self.clock(), task_id)

    def get(self, task_id: str) -> Run | None:
        rows = self.database.execute("SELECT * FROM runs WHERE task_id = ?", (task_id,))
        return _run(rows[0]) if rows else None

    def recover(self, *, starting: bool) -> list[Run]:
        """Settle the runs of servers that died; return the runs that were interrupted.

        A run whose client asked for it is queued again. When this server is `starting`, what an earlier one
        at the same address left running is settled at once: only one can listen there.
        """
        server = self._server if starting else ""
        rows = self.database.execute(
            "SELECT * FROM runs WHERE status = 'running' AND (lease_until < ? OR server = ?)",
            (self.clock(), server),
        )
        interrupted = []
        for row in rows:
            run, token = _run(row), row[8]
            if run.request.get("rerun") is True:
                # From its beginning: an approval was used, and the number of the next must be another.
                number = {"approval": {"number": run.approval["number"]}} if run.approval else None
                self.database.execute(
                    "UPDATE runs SET status = 'queued', started = NULL, token = NULL, result = ?"
                    " WHERE token = ? AND status = 'running'",
                    (_json(number), token),
                )
                continue
            error = {"error_code": "GEN_001", "error_message": "the server ended while the run was under way"}
            if self.end(token, RunStatus.INTERRUPTED, error=error):
                interrupted.append(replace(run, error=error))
        return interrupted

    def counts(self) -> dict[str, int]:
        """Return how many runs there are of each status."""
        rows = self.database.execute("SELECT status, count(*) FROM runs GROUP BY status")
        return {status.value: 0 for status in RunStatus} | dict(rows)

    def queue(self) -> dict[str, float | None]:
        """Return the counts, and `oldest_queued_s`: how long the first in the queue has waited."""
        [(created,)] = self.database.execute("SELECT min(created) FROM runs WHERE status = 'queued'")
        waited = None if created is None else round(max(0.0, self.clock() - created), 3)
        return {**self.counts(), "oldest_queued_s": waited}

    def last_error(self) -> dict[str, Any] | None:
        """Return the newest failure, for the status page."""
        rows = self.database.execute("SELECT * FROM runs WHERE error IS NOT NULL ORDER BY ended DESC LIMIT 1")
        if not rows:
            return None
        run = _run(rows[0])
        return {"task_id": run.task_id, "at": run.ended, **(run.error or {})}

    def remember(self, session_id: str, goal: str, answer: str) -> None:
        """Add a pair to a session behind its lines, whatever the clock says; the oldest lines give way."""
        newest = "SELECT max(at) FROM session_lines WHERE session_id = ?"
        [(last,)] = self.database.execute(newest, (session_id,))
        now = max(self.clock(), (last or 0.0) + 1e-5)
        for offset, (role, content) in enumerate((("user", goal), ("assistant", answer))):
            self.database.execute(
                "INSERT INTO session_lines VALUES (?, ?, ?, ?)",
                (session_id, now + offset / 1e6, role, content),
            )
        self.database.execute(
            "DELETE FROM session_lines WHERE session_id = ? AND at < (SELECT min(at) FROM"
            " (SELECT at FROM session_lines WHERE session_id = ? ORDER BY at DESC LIMIT ?) AS kept)",
            (session_id, session_id, _KEPT_SESSION_LINES),
        )

    def session(self, session_id: str) -> list[tuple[str, str]]:
        """Return the lines of a session, role and content, the oldest first."""
        rows = self.database.execute(
            "SELECT role, content FROM session_lines WHERE session_id = ? ORDER BY at", (session_id,)
        )
        return [(role, content) for role, content in rows]

    def close(self) -> None:
        self.database.close()


def _json(content: Mapping[str, Any] | None) -> str | None:
    return None if content is None else json.dumps(content, ensure_ascii=False, default=str)


def _run(row: Sequence[Any]) -> Run:
    task_id, status, request, correlation_id, created, started, ended, _, _, server, result, error = row
    return Run(
        task_id,
        RunStatus(status),
        json.loads(request),
        correlation_id,
        created,
        started,
        ended,
        None if result is None else json.loads(result),
        None if error is None else json.loads(error),
        server,
    )
