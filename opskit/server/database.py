"""The database of an agent server: SQLite in a file, or PostgreSQL for several servers."""

import asyncio
import contextlib
import errno
import math
import os
import socket
import sqlite3
import threading
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, TypeVar

from opskit.errors import StateError
from opskit.system.network import postgres_url

T = TypeVar("T")

_BUSY_S = 10.0
_POSTGRES_REMEDY = (
    "start the PostgreSQL that DATABASE_URL names with its user and database, or unset it to use a file"
)


class Database(ABC):
    """Executes statements, which are written with `?`, and keeps the event loop free while it waits."""

    #: What makes a SELECT pass over rows that another connection is taking.
    skip_locked = ""
    #: How long a call may wait before `_break_off` ends it.
    _silent_s: float | None = None

    def __init__(self, name: str, remedy: str | None = None) -> None:
        self.name = name
        self._remedy = remedy
        self._lock = threading.Lock()
        #: Why the database was away, and when that was known.
        self._away, self._away_at = "", -math.inf
        self._thread = ThreadPoolExecutor(1, "database")

    @abstractmethod
    def execute(self, statement: str, values: Sequence[Any] = ()) -> list[tuple[Any, ...]]:
        """Run a statement, a transaction of its own, and return its rows. Raises StateError."""

    @abstractmethod
    def close(self) -> None: ...

    @abstractmethod
    def _break_off(self) -> None:
        """End the statement that waits for an answer, in whichever thread."""

    async def off_loop(self, call: Callable[[], T]) -> T:
        """Return what a call that uses this database returns; the event loop goes on meanwhile."""
        asked_at = time.monotonic()

        def answer() -> T:
            if self._away_at > asked_at:
                # Each call in the queue would wait for a time limit of its own.
                raise self._unusable(self._away)
            return call()

        waiting = asyncio.get_running_loop().run_in_executor(self._thread, answer)
        waiting.add_done_callback(lambda ended: ended.cancelled() or ended.exception())
        done, _ = await asyncio.wait({waiting}, timeout=self._silent_s)
        if not done:
            self._break_off()
        return await waiting

    def _went_away(self, why: str) -> StateError:
        """Remember that the database is away, for all who wait already, and return the error."""
        self._away, self._away_at = why, time.monotonic()
        return self._unusable(why)

    def _unusable(self, why: str) -> StateError:
        return StateError(f"{self.name}: {why}", remedy=self._remedy)


class SqliteDatabase(Database):
    """SQLite in a file, written ahead: a crash of the process loses nothing that was answered."""

    def __init__(self, path: Path) -> None:
        super().__init__(str(path))
        with self._translated():
            self._connection = sqlite3.connect(
                path, timeout=_BUSY_S, isolation_level=None, check_same_thread=False
            )
            self._connection.execute("PRAGMA journal_mode = WAL")
            self._connection.execute("PRAGMA synchronous = NORMAL")
            path.chmod(0o600)

    def execute(self, statement: str, values: Sequence[Any] = ()) -> list[tuple[Any, ...]]:
        with self._translated(), self._lock:
            return self._connection.execute(statement, values).fetchall()

    def close(self) -> None:
        self._thread.shutdown()
        with self._lock:
            self._connection.close()

    @contextlib.contextmanager
    def _translated(self) -> Iterator[None]:
        try:
            yield
        except sqlite3.Error as error:
            code = getattr(error, "sqlite_errorcode", 0) & 0xFF
            if code == sqlite3.SQLITE_BUSY:
                why = f"another process has locked it for {_BUSY_S:g} s: `lsof {self.name}` shows which"
                raise self._went_away(why) from error
            if code == sqlite3.SQLITE_FULL:
                raise StateError.of(self.name, OSError(errno.ENOSPC, "its disk is full")) from error
            raise self._unusable(str(error)) from error

    def _break_off(self) -> None:
        """Wait: SQLite gives up by itself."""


class PostgresDatabase(Database):
    """PostgreSQL by an address; a connection that broke is made again for the next statement.

    A server that is stopped keeps its connections and answers nothing: they are broken off after a while.
    """

    skip_locked = " FOR UPDATE SKIP LOCKED"
    _silent_s = 5.0

    def __init__(self, url: str) -> None:
        super().__init__("PostgreSQL", _POSTGRES_REMEDY)
        try:
            import psycopg
        except ImportError as error:
            raise StateError(
                "DATABASE_URL names PostgreSQL, and psycopg is not installed",
                remedy="`pip install 'opskit[postgres]'`",
            ) from error
        self._psycopg = psycopg
        self._url = url
        self._connection: Any = None
        self._is_broken_off = False

    def _break_off(self) -> None:
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
                why = f"it gave no answer within {self._silent_s:g} s" if self._is_broken_off else why
                is_away = isinstance(error, self._psycopg.OperationalError)
                raise (self._went_away(why) if is_away else self._unusable(why)) from error

    def close(self) -> None:
        if self._lock.locked():
            self._break_off()
        self._thread.shutdown()
        with self._lock:
            if self._connection is not None:
                self._connection.close()


def open_database(url: str | None, folder: Path) -> Database:
    """Return the database that DATABASE_URL names, else a file in the state folder. Raises StateError."""
    address = postgres_url(url)
    return SqliteDatabase(folder / "runs.db") if address is None else PostgresDatabase(address)
