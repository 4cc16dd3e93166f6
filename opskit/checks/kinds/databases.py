"""Kinds that look into databases without changing them: database (SQLite, PostgreSQL), postgres_pool.

The standard library and psycopg 3 block and belong in a thread. Every connection is read-only.
"""

import asyncio
import contextlib
import errno
import importlib
import os
import sqlite3
import stat
import time
from collections.abc import Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import Annotated, Any
from urllib.parse import quote, urlsplit

from opskit.checks.kinds.network import OWN_SHARE
from opskit.checks.matchers import PartCount
from opskit.checks.spec import CheckContext, Observation, Unjudged, kind
from opskit.config.fields import Text
from opskit.config.values import Parameters, Rule
from opskit.records import Record
from opskit.system.network import has_port
from opskit.text import counted

MAX_ROWS = 1000
#: Instructions of SQLite between two looks at the clock: some tens of microseconds.
_STEPS = 10_000
_POSTGRES = ("postgres", "postgresql")
_ENCODE = "its address ends at a / of the password, to be written %2F"
#: `FATAL: database "x" does not exist`, `FATAL: password authentication failed for user "x"`, ...
_REJECTIONS = ("does not exist", "authentication failed", "no pg_hba.conf entry", "permission denied for")
#: What a user may read is not what there is: information_schema hides tables without a privilege.
_COLUMNS = """
SELECT a.attname FROM pg_attribute a
  JOIN pg_class c ON c.oid = a.attrelid JOIN pg_namespace n ON n.oid = c.relnamespace
 WHERE c.relname = ANY(%s) AND c.relkind IN ('r', 'p', 'v', 'm', 'f') AND a.attnum > 0 AND NOT a.attisdropped
   AND n.nspname = ANY(CASE WHEN %s = '' THEN current_schemas(true) ELSE %s::name[] END)
 ORDER BY a.attnum
"""
_SETTINGS = """
SELECT (SELECT setting::int FROM pg_settings WHERE name = 'max_connections') AS max_connections,
       (SELECT coalesce(sum(setting::int), 0) FROM pg_settings
         WHERE name IN ('superuser_reserved_connections', 'reserved_connections')) AS reserved
"""
_ACTIVITY = """
SELECT coalesce(state, 'unknown') AS state, count(*) AS clients,
       coalesce(max(extract(epoch FROM clock_timestamp() - xact_start)), 0)::float8 AS longest_s,
       count(*) FILTER (WHERE wait_event_type = 'Lock') AS waiting
  FROM pg_stat_activity WHERE backend_type = 'client backend' GROUP BY 1
"""


def can_be_read(url: str) -> bool:
    """Tell whether an address is one of a database that the kinds here can read."""
    return url.partition(":")[0] in ("sqlite", *_POSTGRES)


def _is_database(text: str) -> str:
    if not can_be_read(text):
        raise ValueError("must be sqlite:///FILE or postgresql://USER@HOST:PORT/NAME")
    return text if text.startswith("sqlite") else _is_postgres(text)


def _is_postgres(text: str) -> str:
    if text.partition(":")[0] not in _POSTGRES:
        raise ValueError("must be postgresql://USER@HOST:PORT/NAME")
    if not all(has_port(f"{_POSTGRES[0]}://{host}") for host in _hosts(text).split(",")):
        raise ValueError(
            "has no port from 1 to 65535 behind its host; in a password `/` is %2F, `#` %23, `@` %40"
        )
    return text


def _hosts(url: str) -> str:
    """Return the hosts of an address with their ports, as they stand in it."""
    return urlsplit(url).netloc.rpartition("@")[2]


class DatabaseParams(Parameters):
    """A relative SQLite file is written `sqlite:FILE`. A query is only ever run read-only."""

    url: Annotated[Text, Rule(_is_database)]
    table: Text | None = None
    query: Text | None = None


class PoolParams(Parameters):
    url: Annotated[Text, Rule(_is_postgres)]


class DatabaseError(Exception):
    """A database refused; `phase` is connect or query.

    `certain` is true of a connection where there is no such database, or where it refuses this name: it was
    not only out of reach.
    """

    def __init__(self, phase: str, message: str, *, certain: bool = False) -> None:
        self.phase = phase
        self.certain = certain
        super().__init__(" ".join(message.split())[:300])


class DatabaseSession(Record):
    connection: Any
    postgres: bool

    @property
    def version(self) -> str:
        rows = self.query("SHOW server_version" if self.postgres else "SELECT sqlite_version()")
        return str(next(iter(rows[0].values())))

    @property
    def is_standby(self) -> bool:
        return self.postgres and bool(self.query("SELECT pg_is_in_recovery() AS standby")[0]["standby"])

    def columns(self, table: str) -> list[str]:
        """Return the columns of a table or a view (`schema.name` too); none where there is none."""
        if self.postgres:
            schema, _, name = table.rpartition(".")
            # A name may stand as it is, or as in SQL, which folds it unless it is quoted.
            names = [name.strip('"')] if '"' in name else [name, name.lower()]
            rows = self.query(_COLUMNS, (names, schema, [schema]))
        else:
            rows = self.query("SELECT name FROM pragma_table_info(?)", (table,))
        return [str(value) for row in rows for value in row.values()]

    def query(self, text: str, values: Sequence[Any] = ()) -> list[dict[str, Any]]:
        """Return the rows by column, at most one more than MAX_ROWS."""
        cursor = self.connection.cursor()
        try:
            # A streamed statement is a single one: none in front of it can end the read-only transaction.
            # Without values psycopg leaves `%` alone.
            rows = cursor.stream(text, values or None) if self.postgres else cursor.execute(text, values)
            return [
                {str(column[0]): value for column, value in zip(cursor.description, row, strict=True)}
                for row in islice(rows, MAX_ROWS + 1)
            ]
        except Exception as exc:
            # Both drivers follow the same convention (PEP 249), in modules of their own.
            if type(exc).__module__.partition(".")[0] not in ("sqlite3", "psycopg"):
                raise
            raise DatabaseError("query", str(exc)) from exc
        finally:
            cursor.close()


@contextlib.contextmanager
def opened(url: str, timeout_s: float) -> Iterator[DatabaseSession]:
    """Open a session. Raises DatabaseError, or Unjudged when the driver is missing."""
    parts = urlsplit(url)
    postgres = parts.scheme in _POSTGRES
    connection = _postgres(url, timeout_s) if postgres else _sqlite(Path(parts.path), timeout_s)
    try:
        yield DatabaseSession(connection, postgres=postgres)
    finally:
        connection.close()


def _sqlite(path: Path, timeout_s: float) -> Any:
    try:
        regular = stat.S_ISREG(path.stat().st_mode)
    except (FileNotFoundError, NotADirectoryError):
        regular = False
    except OSError as exc:
        raise DatabaseError("connect", str(exc.strerror)) from exc
    if not regular:
        raise DatabaseError("connect", "there is no such database file", certain=True)
    try:
        connection = sqlite3.connect(f"file:{quote(str(path))}?mode=ro", uri=True, timeout=timeout_s)
        # A thread cannot be ended from outside: the query ends itself.
        limit = time.monotonic() + timeout_s
        connection.set_progress_handler(lambda: time.monotonic() > limit, _STEPS)
        # Opening reads nothing; this does.
        connection.execute("SELECT count(*) FROM sqlite_master").fetchone()
    except sqlite3.Error as exc:
        certain = exc.sqlite_errorcode in (sqlite3.SQLITE_NOTADB, sqlite3.SQLITE_CORRUPT)
        raise DatabaseError("connect", str(exc), certain=certain) from exc
    return connection


def _postgres(url: str, timeout_s: float) -> Any:
    psycopg = driver()
    limit = max(1, int(timeout_s))
    try:
        connection = psycopg.connect(
            url,
            connect_timeout=limit,
            application_name="opskit verify",
            options=f"-c statement_timeout={limit * 1000}",
        )
    except psycopg.Error as exc:
        # libpq reads the other characters that should be encoded as they stand.
        authority, _, rest = url.partition("://")[2].partition("/")
        is_cut = "@" not in authority and "@" in rest.partition("?")[0]
        why = f"{_ENCODE}: {exc}" if is_cut else str(exc)
        raise DatabaseError("connect", why, certain=is_cut or _certain(why)) from exc
    connection.read_only = True
    return connection


def _certain(message: str) -> bool:
    """Whether a failed connection proves that nothing listens, or that the server refuses this name.

    libpq gives no code for what happens before a session, only text: of the system in the language of the
    user, of the server in its own.
    """
    nobody = {os.strerror(errno.ECONNREFUSED), os.strerror(errno.ENOENT)}
    return any(text in message for text in (*nobody, *_REJECTIONS))


def driver() -> Any:
    """Import psycopg, which is an extra. Raises Unjudged with the command that installs it."""
    try:
        return importlib.import_module("psycopg")
    except ImportError as exc:
        raise Unjudged(
            "PostgreSQL cannot be asked: psycopg is not installed",
            remedy="`pip install 'opskit[postgres]'`",
        ) from exc


def without_password(url: str) -> str:
    parts = urlsplit(url)
    if parts.scheme == "sqlite":
        return parts.path or url
    return f"{_hosts(url) or 'local'}{parts.path}"


@kind(
    "a database can be read: SQLite, or PostgreSQL with the extra `postgres`",
    {
        "connected": "whether it could be opened",
        "complete": "whether the table that was named is there",
        "version": "of the engine",
        "standby": "whether it is a standby or replays its log: it takes no writes",
        "table_exists": "whether the table is there",
        "columns": "its columns",
        "rows": "how many rows the query gave, at most 1000",
        "more": "whether there were more",
        "row": "the first row, by column",
        "value": "the first value of the first row",
        "seconds": "how long it took",
        "error": "connect, query, or null",
    },
    {"connected": True, "complete": True},
    lambda p: without_password(p.url),
    imports=("sqlite3",),
)
async def database(params: DatabaseParams, context: CheckContext) -> Observation:
    url, parts = params.url, urlsplit(params.url)
    if parts.scheme == "sqlite":
        url = f"sqlite://{context.path(parts.path).absolute()}"
    return await asyncio.to_thread(_read_database, params, url, context.timeout_s * OWN_SHARE)


def _read_database(params: DatabaseParams, url: str, timeout_s: float) -> Observation:
    values: dict[str, Any] = {"connected": False}
    try:
        with opened(url, timeout_s) as session:
            values |= {"connected": True, "version": session.version, "standby": session.is_standby}
            detail = f"{'PostgreSQL' if session.postgres else 'SQLite'} {values['version']}"
            detail += ", in recovery: it takes no writes" if session.is_standby else ""
            if params.table is not None:
                columns = session.columns(params.table)
                values |= {"table_exists": bool(columns), "columns": columns}
                detail += f", table {params.table} {'is there' if columns else 'is missing'}"
            if params.query is not None:
                rows = session.query(params.query)
                is_cut = len(rows) > MAX_ROWS
                values |= {"rows": PartCount(MAX_ROWS) if is_cut else len(rows), "more": is_cut}
                values["row"] = rows[0] if rows else None
                values["value"] = next(iter(rows[0].values()), None) if rows else None
                shown = f"more than {MAX_ROWS} rows" if is_cut else counted(len(rows), "row")
                detail += f", {shown}, first value {str(values['value'])[:60]}"
    except DatabaseError as error:
        values["error"] = error.phase
        problem = f"{'it cannot be opened' if error.phase == 'connect' else 'the query failed'}: {error}"
        settled = ["connected"] if error.phase == "connect" and error.certain else []
        # A query fails of itself where its table is missing.
        settled += ["table_exists", "columns"] if values.get("table_exists") is False else []
        return Observation(values, problem=problem, state="failing", code="COMM_002", settled=settled)
    if params.table is not None and not values["table_exists"]:
        # A missing table fails the check by default, whatever else it asks.
        values["complete"] = False
    return Observation({"complete": True, **values}, detail, state="ok")


@kind(
    "connections of a PostgreSQL server that are in use, of all that an ordinary user can have",
    {
        "max": "max_connections",
        "reserved": "connections kept for superusers",
        "used": "connections of clients",
        "free": "what is left",
        "used_percent": "percent, 0 to 100",
        "active": "clients whose query runs",
        "idle": "clients that do nothing",
        "idle_in_transaction": "clients that hold a transaction open",
        "waiting_for_locks": "clients that wait for a lock",
        "longest_transaction_s": "age of the oldest transaction",
        "seconds": "how long it took",
        "error": "connect, query, or null",
    },
    {"used_percent": {"lt": 80}},
    lambda p: without_password(p.url),
)
async def postgres_pool(params: PoolParams, context: CheckContext) -> Observation:
    return await asyncio.to_thread(_read_pool, params.url, context.timeout_s * OWN_SHARE)


def _read_pool(url: str, timeout_s: float) -> Observation:
    try:
        with opened(url, timeout_s) as session:
            settings = session.query(_SETTINGS)[0]
            activity = session.query(_ACTIVITY)
    except DatabaseError as error:
        values: dict[str, Any] = {"error": error.phase}
        return Observation(values, problem=f"PostgreSQL: {error}", state="failing", code="COMM_002")
    states = {str(row["state"]): int(row["clients"]) for row in activity}
    used = sum(states.values())
    limit, reserved = int(settings["max_connections"]), int(settings["reserved"])
    usable = max(1, limit - reserved)
    values = {
        "max": limit,
        "reserved": reserved,
        "used": used,
        "free": max(0, usable - used),
        "used_percent": round(100.0 * used / usable, 1),
        "active": states.get("active", 0),
        "idle": states.get("idle", 0),
        "idle_in_transaction": states.get("idle in transaction", 0),
        "waiting_for_locks": sum(int(row["waiting"]) for row in activity),
        "longest_transaction_s": max((float(row["longest_s"]) for row in activity), default=0.0),
    }
    detail = (
        f"{used} of {usable} connections are in use, {values['idle_in_transaction']} idle in a transaction"
    )
    remedy = "`SELECT * FROM pg_stat_activity` shows who holds them"
    return Observation(values, detail, state="ok", remedy=remedy)
