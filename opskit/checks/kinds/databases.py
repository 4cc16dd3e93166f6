"""Kinds that look into databases: database, postgres_pool."""

import asyncio
import time
from typing import Annotated, Any
from urllib.parse import urlsplit

from pydantic import AfterValidator

from opskit.checks.databases import DatabaseAddress, DatabaseError, as_record, without_password
from opskit.checks.kinds.network import OWN_SHARE
from opskit.checks.spec import CheckContext, Kind, Observation
from opskit.config.fields import Text, parameters

_SETTINGS = """
SELECT (SELECT setting::int FROM pg_settings WHERE name = 'max_connections'),
       (SELECT coalesce(sum(setting::int), 0) FROM pg_settings
         WHERE name IN ('superuser_reserved_connections', 'reserved_connections'))
"""
_ACTIVITY = """
SELECT coalesce(state, 'unknown'), count(*),
       coalesce(max(extract(epoch FROM clock_timestamp() - xact_start)), 0)::float8,
       count(*) FILTER (WHERE wait_event_type = 'Lock')
  FROM pg_stat_activity WHERE backend_type = 'client backend' GROUP BY 1
"""


def _sqlite_or_postgres(text: str) -> str:
    if urlsplit(text).scheme not in ("sqlite", "postgres", "postgresql"):
        raise ValueError("must be sqlite:///FILE or postgresql://USER@HOST:PORT/NAME")
    return text


def _postgres(text: str) -> str:
    if urlsplit(text).scheme not in ("postgres", "postgresql"):
        raise ValueError("must be postgresql://USER@HOST:PORT/NAME")
    return text


@parameters
class DatabaseParams:
    """A relative SQLite file is written `sqlite:FILE`. A query is only ever run read-only."""

    url: Annotated[Text, AfterValidator(_sqlite_or_postgres)]
    table: Text | None = None
    query: Text | None = None


@parameters
class PoolParams:
    url: Annotated[Text, AfterValidator(_postgres)]


def _place(url: str, scene: CheckContext) -> DatabaseAddress:
    parts = urlsplit(url)
    if parts.scheme == "sqlite":
        url = f"sqlite://{scene.path(parts.path).absolute()}"
    return DatabaseAddress(url, scene.timeout_s * OWN_SHARE)


async def _database(params: DatabaseParams, scene: CheckContext) -> Observation:
    return await asyncio.to_thread(_look, params, _place(params.url, scene))


def _look(params: DatabaseParams, place: DatabaseAddress) -> Observation:
    began = time.monotonic()
    values: dict[str, Any] = {"connected": False, "error": None}
    try:
        with place.opened() as session:
            values |= {"connected": True, "version": session.version}
            detail = f"{'PostgreSQL' if place.is_postgres else 'SQLite'} {values['version']}"
            if params.table is not None:
                columns = session.columns(params.table)
                values |= {"table_exists": bool(columns), "columns": columns}
                detail += f", table {params.table} {'is there' if columns else 'is missing'}"
            if params.query is not None:
                found = session.query(params.query)
                row = as_record(found)
                values |= {"rows": len(found.rows), "more": found.more, "row": row}
                values["value"] = next(iter(row.values()), None) if row else None
                detail += f", {len(found.rows)} rows, first value {str(values['value'])[:60]}"
    except DatabaseError as error:
        values |= {"error": error.phase, "seconds": time.monotonic() - began}
        problem = f"{'it cannot be opened' if error.phase == 'connect' else 'the query failed'}: {error}"
        settled = ["connected"] if error.phase == "connect" and error.certain else []
        # A query fails of itself where its table is missing.
        settled += ["table_exists", "columns"] if values.get("table_exists") is False else []
        return Observation(values, problem=problem, state="failing", code="COMM_002", settled=settled)
    if params.table is not None and not values["table_exists"]:
        # A missing table fails the check by default, whatever else it asks.
        values["complete"] = False
    values = {"complete": True, **values, "seconds": time.monotonic() - began}
    return Observation(values, detail, state="ok")


async def _pool(params: PoolParams, scene: CheckContext) -> Observation:
    return await asyncio.to_thread(_look_pool, _place(params.url, scene))


def _look_pool(place: DatabaseAddress) -> Observation:
    began = time.monotonic()
    try:
        with place.opened() as session:
            limit, reserved = session.query(_SETTINGS).rows[0]
            activity = session.query(_ACTIVITY).rows
    except DatabaseError as error:
        values: dict[str, Any] = {"error": error.phase, "seconds": time.monotonic() - began}
        return Observation(values, problem=f"PostgreSQL: {error}", state="failing", code="COMM_002")
    states = {str(row[0]): int(row[1]) for row in activity}
    used = sum(states.values())
    usable = max(1, int(limit) - int(reserved))
    values = {
        "max": int(limit),
        "reserved": int(reserved),
        "used": used,
        "free": max(0, usable - used),
        "used_percent": round(100.0 * used / usable, 1),
        "active": states.get("active", 0),
        "idle": states.get("idle", 0),
        "idle_in_transaction": states.get("idle in transaction", 0),
        "waiting_for_locks": sum(int(row[3]) for row in activity),
        "longest_transaction_s": max((float(row[2]) for row in activity), default=0.0),
        "seconds": time.monotonic() - began,
        "error": None,
    }
    detail = (
        f"{used} of {usable} connections are in use, {values['idle_in_transaction']} idle in a transaction"
    )
    remedy = "`SELECT * FROM pg_stat_activity` shows who holds them"
    return Observation(values, detail, state="ok", remedy=remedy)


KINDS = (
    Kind(
        "database",
        "a database can be read: SQLite, or PostgreSQL with the extra `postgres`",
        DatabaseParams,
        {
            "connected": "whether it could be opened",
            "complete": "whether the table that was named is there",
            "version": "of the engine",
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
        _database,
        lambda p: without_password(p.url),
        imports=("sqlite3",),
    ),
    Kind(
        "postgres_pool",
        "connections of a PostgreSQL server that are in use, of those an ordinary user can have",
        PoolParams,
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
        _pool,
        lambda p: without_password(p.url),
    ),
)
