"""The database of an agent server: SQLite in a file, or PostgreSQL for several servers."""

import asyncio
import contextlib
import math
import os
import socket
import sqlite3
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, TypeVar

from opskit.errors import StateError
from opskit.system.network import postgres_url

T = TypeVar("T")

_BUSY_S = 10.0
_SILENT_S = 5.0


class SqliteDatabase:
    """SQLite in a file, written ahead: a crash of the process loses nothing that was answered."""

    #: What makes a SELECT pass over rows that another connection is taking.
    skip_locked = ""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._lock = threading.Lock()
        with self._translated():
            self._connection = sqlite3.connect(
                path, timeout=_BUSY_S, isolation_level=None, check_same_thread=False
            )
            self._connection.execute("PRAGMA journal_mode = WAL")
            self._connection.execute("PRAGMA synchronous = NORMAL")
            path.chmod(0o600)

    def execute(self, statement: str, values: Sequence[Any] = ()) -> list[tuple[Any, ...]]:
        """Run a statement, a transaction of its own, and return its rows. Raises StateError."""
        with self._translated(), self._lock:
            return self._connection.execute(statement, values).fetchall()

    async def off_loop(self, call: Callable[[], T]) -> T:
        """Return what a call that uses this database returns; the event loop does not wait for a server."""
        return call()

    def close(self) -> None:
        with self._lock:
            self._connection.close()

    @contextlib.contextmanager
    def _translated(self) -> Iterator[None]:
        try:
            yield
        except sqlite3.Error as error:
            raise StateError(f"{self._path}: {error}") from error


class PostgresDatabase:
    """PostgreSQL by an address; a connection that broke is made again for the next statement.

    A server that is stopped keeps its connections and answers nothing: they are broken off after a while.
    """

    skip_locked = " FOR UPDATE SKIP LOCKED"

    def __init__(self, url: str) -> None:
        try:
            import psycopg
        except ImportError as error:
            raise StateError(
                "DATABASE_URL names PostgreSQL, and psycopg is not installed",
                remedy="`pip install 'opskit[postgres]'`",
            ) from error
        self._psycopg = psycopg
        self._url = url
        self._lock = threading.Lock()
        self._connection: Any = None
        self._is_broken_off = False
        #: Why the server was away, and when that was known.
        self._away, self._away_at = "", -math.inf
        self._thread = ThreadPoolExecutor(1, "PostgreSQL")

    async def off_loop(self, call: Callable[[], T]) -> T:
        asked_at = time.monotonic()

        def answer() -> T:
            if self._away_at > asked_at:
                # Each call in the queue would wait for a time limit of its own.
                raise _unusable(self._away)
            return call()

        waiting = asyncio.get_running_loop().run_in_executor(self._thread, answer)
        waiting.add_done_callback(lambda ended: ended.cancelled() or ended.exception())
        done, _ = await asyncio.wait({waiting}, timeout=_SILENT_S)
        if not done:
            self._break_off()
        return await waiting

    def _break_off(self) -> None:
        """End the statement that waits for an answer, in whichever thread."""
        with contextlib.suppress(OSError, self._psycopg.Error):
            if self._connection is not None:
                self._is_broken_off = True
                with socket.socket(fileno=os.dup(self._connection.fileno())) as handle:
                    handle.shutdown(socket.SHUT_RDWR)

    def execute(self, statement: str, values: Sequence[Any] = ()) -> list[tuple[Any, ...]]:
        with self._lock:
            self._is_broken_off = False
            try:
                if self._connection is None or self._connection.closed:
                    self._connection = self._psycopg.connect(self._url, autocommit=True, connect_timeout=5)
                cursor = self._connection.execute(statement.replace("?", "%s"), values)
                return cursor.fetchall() if cursor.description is not None else []
            except self._psycopg.Error as error:
                why = next(iter(str(error).strip().splitlines()), type(error).__name__)
                self._away = f"it gave no answer within {_SILENT_S:g} s" if self._is_broken_off else why
                if isinstance(error, self._psycopg.OperationalError):
                    self._away_at = time.monotonic()
                raise _unusable(self._away) from error

    def close(self) -> None:
        if self._lock.locked():
            self._break_off()
        self._thread.shutdown()
        with self._lock:
            if self._connection is not None:
                self._connection.close()


#: Statements are written with `?` for both.
Database = SqliteDatabase | PostgresDatabase


def _unusable(why: str) -> StateError:
    remedy = (
        "start the PostgreSQL that DATABASE_URL names with its user and database, or unset it to use a file"
    )
    return StateError(f"PostgreSQL: {why}", remedy=remedy)


def open_database(url: str | None, folder: Path) -> Database:
    """Return the database that DATABASE_URL names, else a file in the state folder. Raises StateError."""
    address = postgres_url(url)
    return SqliteDatabase(folder / "runs.db") if address is None else PostgresDatabase(address)
