"""The database kinds on a real PostgreSQL."""

from pathlib import Path

import pytest

from tests.parts.checking import check
from tests.parts.postgres import Postgres, postgres

__all__ = ["postgres"]

psycopg = pytest.importorskip("psycopg", reason="psycopg is not installed: pip install 'opskit[postgres]'")


@pytest.fixture(scope="module", autouse=True)
def _tasks(postgres: Postgres) -> None:
    postgres.run(
        "CREATE TABLE IF NOT EXISTS tasks (id int, status text, metadata jsonb)",
        "DELETE FROM tasks",
        "INSERT INTO tasks VALUES (1, 'completed', '{\"preferred_source\": \"mlx\"}'), (2, 'pending', '{}')",
    )


async def test_a_table_and_a_query_are_judged(tmp_path: Path, postgres: Postgres):
    """Columns, rows and values of a query come from the server."""
    found = await check(
        tmp_path,
        "database",
        {
            "url": postgres.url,
            "table": "tasks",
            "query": "SELECT metadata->>'preferred_source' AS source FROM tasks WHERE status LIKE 'compl%'",
        },
        {"columns": {"contains": "metadata"}, "value": "mlx", "rows": 1, "row": {"has_key": "source"}},
    )
    assert found.status == "pass", found.detail


@pytest.mark.parametrize(
    "params, error, part",
    [
        ({"table": "nope"}, None, "complete is false"),
        ({"query": "SELEC 1"}, "query", "syntax error"),
        ({"query": "DELETE FROM tasks"}, "query", "read-only transaction"),
        ({"query": "SELECT pg_sleep(60)"}, "query", "statement timeout"),
    ],
)
async def test_what_is_wrong_is_told(
    tmp_path: Path,
    postgres: Postgres,
    params: dict[str, str],
    error: str | None,
    part: str,
):
    """A missing table, a broken query, one that writes and one that hangs fail with the server's words."""
    found = await check(tmp_path, "database", {"url": postgres.url, **params}, timeout="2s")
    assert found.status == "fail"
    assert found.evidence["values"]["error"] == error
    assert part in found.detail


async def test_a_server_that_is_not_there_fails_without_its_password(tmp_path: Path):
    """A refused connection is a failure, and the password is nowhere in the finding."""
    found = await check(tmp_path, "database", {"url": "postgresql://bob:geheim@127.0.0.1:9/x"})
    assert found.status == "fail"
    assert found.evidence["values"]["error"] == "connect"
    assert "geheim" not in str(found.as_json())


async def test_a_pool_that_fills_up_is_seen(tmp_path: Path, postgres: Postgres):
    """Connections in use are counted against what an ordinary user can have."""
    with psycopg.connect(postgres.url) as holder:
        holder.execute("SELECT 1")
        found = await check(
            tmp_path,
            "postgres_pool",
            {"url": postgres.url},
            {"max": 30, "idle_in_transaction": 1, "used": {"ge": 2}, "used_percent": {"lt": 50}},
        )
        full = await check(tmp_path, "postgres_pool", {"url": postgres.url}, {"used_percent": {"lt": 1}})
    assert found.status == "pass", found.detail
    assert full.status == "fail"
