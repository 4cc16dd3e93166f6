"""What was asked in a project and honestly answered: a cache for the same goal, hints for a similar one.

One SQLite file in the state folder. It is never evidence of how things stand now, and no run fails for it: a
problem with the file is a note.
"""

import contextlib
import json
import sqlite3
import time
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from hashlib import sha256
from pathlib import Path
from typing import Any

from opskit.agent.agreement import likeness, stems
from opskit.diagnose.redaction import Redactor
from opskit.records import Record

STORE_NAME = "memory.db"
#: The newest answers that are kept, of all projects.
KEPT_ANSWERS = 2000
#: A longer goal or answer is not kept.
_LONGEST_CHARS = 20_000
_BUSY_S = 1.0
_SIMILAR = 0.6
_CANDIDATES = 10
_SHOWN_CHARS = 300
_SCHEMA = """
CREATE TABLE IF NOT EXISTS answers (
    id INTEGER PRIMARY KEY,
    at REAL NOT NULL,
    project TEXT NOT NULL,
    key TEXT,
    goal TEXT NOT NULL,
    output TEXT NOT NULL,
    method TEXT NOT NULL,
    model TEXT NOT NULL,
    node TEXT NOT NULL,
    calls TEXT NOT NULL
);
CREATE INDEX IF NOT EXISTS answers_key ON answers (key, at);
CREATE VIRTUAL TABLE IF NOT EXISTS goals USING fts5(goal, tokenize = 'unicode61 remove_diacritics 2');
"""


class KeptAnswer(Record):
    """An answer with its goal. `calls` are the tools that led to it, with their arguments."""

    at: float
    goal: str
    output: str
    method: str
    model: str
    node: str
    calls: Sequence[Mapping[str, Any]] = ()

    def as_hint(self, *, about_machine: bool) -> str:
        """Return a sentence for a model; of a goal about this machine only the way, never what was found."""
        day, goal = datetime.fromtimestamp(self.at, UTC).date(), self.goal[:_SHOWN_CHARS]
        if not about_machine:
            return f"on {day} the answer to {goal!r} was: {self.output[:_SHOWN_CHARS]}"
        if not self.calls:
            return ""
        calls = [f"{call['tool']} {json.dumps(call['args'], ensure_ascii=False)}" for call in self.calls]
        return f"a similar goal was answered by {', then '.join(calls)}"[:_SHOWN_CHARS]


class AnswerMemory:
    """The answers of a state folder. `on_problem` gets a sentence where the file cannot be used."""

    def __init__(
        self,
        folder: Path,
        redactor: Redactor,
        on_problem: Callable[[str], None] = lambda _: None,
        *,
        clock: Callable[[], float] = time.time,
        kept: int = KEPT_ANSWERS,
    ) -> None:
        self.path = folder / STORE_NAME
        self._redactor = redactor
        self._on_problem = on_problem
        self._clock = clock
        self._kept = kept

    def cached(self, key: str, max_age_s: float) -> KeptAnswer | None:
        """Return the newest answer under a key, where it is young enough."""
        rows = self._read(
            "SELECT * FROM answers WHERE key = ? AND at > ? ORDER BY at DESC LIMIT 1",
            (key, self._clock() - max_age_s),
        )
        return rows[0] if rows else None

    def similar(self, project: str, goal: str) -> KeptAnswer | None:
        """Return the answer to the goal of this project that is most like this one; None where none is."""
        words = " OR ".join(f'"{stem}"*' for stem in sorted(stems(goal)))
        if not words:
            return None
        rows = self._read(
            "SELECT answers.* FROM goals JOIN answers ON answers.id = goals.rowid"
            " WHERE goals MATCH ? AND project = ? ORDER BY bm25(goals), at DESC LIMIT ?",
            (words, project, _CANDIDATES),
        )
        answers = [(likeness(goal, answer.goal), answer) for answer in rows]
        score, best = max(answers, key=lambda pair: pair[0], default=(0.0, None))
        return best if score >= _SIMILAR else None

    def keep(self, project: str, key: str | None, answer: KeptAnswer) -> None:
        """Keep an answer with secrets masked; one that held some is not cached. The oldest give way."""
        goal, output = self._redactor.text(answer.goal), self._redactor.text(answer.output)
        if max(len(goal), len(output)) > _LONGEST_CHARS:
            return
        key = key if (goal, output) == (answer.goal, answer.output) else None
        calls = json.dumps(self._redactor.value(list(answer.calls)), ensure_ascii=False, default=str)
        row = (answer.at, project, key, goal, output, answer.method, answer.model, answer.node, calls)

        def insert(db: sqlite3.Connection) -> list[KeptAnswer]:
            self.path.chmod(0o600)
            # An answer may be lost when the power fails: no run waits for the disk.
            db.execute("PRAGMA synchronous = OFF")
            db.executescript(_SCHEMA)
            number = db.execute("INSERT INTO answers VALUES (NULL, ?, ?, ?, ?, ?, ?, ?, ?, ?)", row).lastrowid
            db.execute(
                "INSERT INTO goals (rowid, goal) VALUES (?, ?)", (number, goal.casefold().replace("ё", "е"))
            )
            last = db.execute(
                "SELECT id FROM answers ORDER BY id DESC LIMIT 1 OFFSET ?", (self._kept,)
            ).fetchone()
            for table in ("answers", "goals") if last is not None else ():
                db.execute(f"DELETE FROM {table} WHERE rowid <= ?", last)  # noqa: S608 - our own names
            return []

        self._done("rwc", insert)

    def _read(self, statement: str, values: Sequence[Any]) -> list[KeptAnswer]:
        if not self.path.exists():
            return []
        return self._done("ro", lambda db: [_answer(row) for row in db.execute(statement, values)])

    def _done(self, mode: str, work: Callable[[sqlite3.Connection], list[KeptAnswer]]) -> list[KeptAnswer]:
        """Return what the work on the file came to; nothing, and a note, where the file cannot be used."""
        try:
            uri = f"{self.path.absolute().as_uri()}?mode={mode}"
            with contextlib.closing(sqlite3.connect(uri, uri=True, timeout=_BUSY_S)) as db, db:
                return work(db)
        except (sqlite3.Error, OSError, ValueError) as error:
            self._on_problem(f"the memory of answers is not used: {self.path}: {error}")
            return []


def cache_key(*parts: object) -> str:
    """Return the same text for the same parts."""
    return sha256(json.dumps(parts, ensure_ascii=False, default=str).encode()).hexdigest()


def _answer(row: Sequence[Any]) -> KeptAnswer:
    _, at, _, _, goal, output, method, model, node, calls = row
    return KeptAnswer(at, goal, output, method, model, node, json.loads(calls))
