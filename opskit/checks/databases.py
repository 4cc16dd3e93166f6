"""Looking into databases without changing them: SQLite by the standard library, PostgreSQL by psycopg 3.

Both block and belong in a thread. Every connection is read-only.
"""

import contextlib
import errno
import importlib
import os
import sqlite3
import stat
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlsplit

from opskit.checks.spec import Unjudged

MAX_ROWS = 1000
#: Instructions of SQLite between two looks at the clock: some tens of microseconds.
_STEPS = 10_000
_POSTGRES = ("postgres", "postgresql")
#: `FATAL: database "x" does not exist`, `FATAL: password authentication failed for user "x"`, ...
_REJECTIONS = ("does not exist", "authentication failed", "no pg_hba.conf entry", "permission denied for")
#: What a user may read is not what there is: information_schema hides tables without a privilege.
_COLUMNS = """
SELECT a.attname FROM pg_attribute a
  JOIN pg_class c ON c.oid = a.attrelid JOIN pg_namespace n ON n.oid = c.relnamespace
 WHERE c.relname = %s AND c.relkind IN ('r', 'p', 'v', 'm', 'f') AND a.attnum > 0 AND NOT a.attisdropped
   AND n.nspname = ANY(CASE WHEN %s = '' THEN current_schemas(true) ELSE %s::name[] END)
 ORDER BY a.attnum
"""


class DatabaseError(Exception):
    """What the database said; `phase` is connect or query.

    `certain` tells of a connection that there is no such database, or that it takes nobody of this name: not
    only that it could not be reached.
    """

    def __init__(self, phase: str, message: str, *, certain: bool = False) -> None:
        self.phase = phase
        self.certain = certain
        super().__init__(" ".join(message.split())[:300])


@dataclass(frozen=True, slots=True)
class Rows:
    """At most MAX_ROWS of a result; `columns` are their names."""

    columns: tuple[str, ...]
    rows: Sequence[Sequence[Any]]
    more: bool = False


@dataclass(frozen=True, slots=True)
class DatabaseAddress:
    """A database as a URL says it: `sqlite:///file.db`, `postgresql://user@host/name`."""

    url: str
    timeout_s: float

    @property
    def is_postgres(self) -> bool:
        return urlsplit(self.url).scheme in _POSTGRES

    @contextlib.contextmanager
    def opened(self) -> Iterator["DatabaseSession"]:
        """Raises DatabaseError, or Unjudged when the driver is missing."""
        connection = self._postgres() if self.is_postgres else self._sqlite()
        try:
            yield DatabaseSession(connection, postgres=self.is_postgres)
        finally:
            connection.close()

    def _sqlite(self) -> Any:
        path = Path(urlsplit(self.url).path)
        try:
            regular = stat.S_ISREG(path.stat().st_mode)
        except (FileNotFoundError, NotADirectoryError):
            regular = False
        except OSError as exc:
            raise DatabaseError("connect", str(exc.strerror)) from exc
        if not regular:
            raise DatabaseError("connect", "there is no such database file", certain=True)
        try:
            connection = sqlite3.connect(f"file:{quote(str(path))}?mode=ro", uri=True, timeout=self.timeout_s)
            # A thread cannot be ended from outside: the query ends itself.
            limit = time.monotonic() + self.timeout_s
            connection.set_progress_handler(lambda: time.monotonic() > limit, _STEPS)
            # Opening reads nothing; this does.
            connection.execute("SELECT count(*) FROM sqlite_master").fetchone()
        except sqlite3.Error as exc:
            certain = exc.sqlite_errorcode in (sqlite3.SQLITE_NOTADB, sqlite3.SQLITE_CORRUPT)
            raise DatabaseError("connect", str(exc), certain=certain) from exc
        return connection

    def _postgres(self) -> Any:
        psycopg = driver()
        limit = max(1, int(self.timeout_s))
        try:
            return psycopg.connect(
                self.url,
                autocommit=True,
                connect_timeout=limit,
                application_name="opskit verify",
                options=f"-c default_transaction_read_only=on -c statement_timeout={limit * 1000}",
            )
        except psycopg.Error as exc:
            raise DatabaseError("connect", str(exc), certain=_certain(str(exc))) from exc


def _certain(message: str) -> bool:
    """Whether a failed connection tells that nobody listens, or that the server takes nobody of this name.

    libpq gives no code for what happens before a session, only text: of the system in the language of the
    user, of the server in its own.
    """
    nobody = {os.strerror(errno.ECONNREFUSED), os.strerror(errno.ENOENT)}
    return any(text in message for text in (*nobody, *_REJECTIONS))


def driver() -> Any:
    """psycopg, which is an extra. Raises Unjudged with the command that installs it."""
    try:
        return importlib.import_module("psycopg")
    except ImportError as exc:
        raise Unjudged(
            "PostgreSQL cannot be asked: psycopg is not installed",
            remedy="`pip install 'opskit[postgres]'`",
        ) from exc


@dataclass(frozen=True, slots=True)
class DatabaseSession:
    """An open connection."""

    connection: Any
    postgres: bool

    @property
    def version(self) -> str:
        text = "SHOW server_version" if self.postgres else "SELECT sqlite_version()"
        return str(self.query(text).rows[0][0])

    def columns(self, table: str) -> list[str]:
        """Names of the columns of a table or a view (`schema.name` too); empty when there is none."""
        schema, _, name = table.rpartition(".")
        if not self.postgres:
            found = self.query("SELECT name FROM pragma_table_info(?)", (table,))
        else:
            found = self.query(_COLUMNS, (name, schema, [schema]))
        return [str(row[0]) for row in found.rows]

    def query(self, text: str, values: Sequence[Any] = ()) -> Rows:
        cursor = self.connection.cursor()
        try:
            # Without values psycopg leaves `%` alone.
            cursor.execute(text, values) if values else cursor.execute(text)
            if cursor.description is None:
                return Rows((), ())
            names = tuple(str(column[0]) for column in cursor.description)
            rows = cursor.fetchmany(MAX_ROWS + 1)
        except Exception as exc:
            if not _database_error(exc):
                raise
            raise DatabaseError("query", str(exc)) from exc
        finally:
            cursor.close()
        return Rows(names, rows[:MAX_ROWS], len(rows) > MAX_ROWS)


def _database_error(exc: Exception) -> bool:
    """Both drivers follow the same convention (PEP 249), in modules of their own."""
    return type(exc).__module__.partition(".")[0] in ("sqlite3", "psycopg")


def without_password(url: str) -> str:
    """A database's address for a report."""
    parts = urlsplit(url)
    if parts.scheme == "sqlite":
        return parts.path or url
    host = parts.hostname or "local"
    port = f":{parts.port}" if parts.port else ""
    return f"{host}{port}{parts.path}"


def as_record(rows: Rows) -> Mapping[str, Any] | None:
    """The first row by column."""
    return dict(zip(rows.columns, rows.rows[0], strict=False)) if rows.rows else None
