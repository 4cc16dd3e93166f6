"""The shipped list of the worker on a real `tasks` table, a real container's log and answering agents."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Mapping
from pathlib import Path

import pytest

from opskit.checks.checklist import load
from opskit.sandbox.stage import Stage
from tests.parts.checking import configuration, findings, statuses
from tests.parts.docker import Engine
from tests.parts.postgres import Postgres, postgres

__all__ = ["postgres"]

pytest.importorskip("psycopg", reason="psycopg is not installed: pip install 'opskit[postgres]'")

WELL = """
echo 'INFO Found 12 pending tasks'
echo 'INFO Батчи по модели: 3 блоков'
echo 'INFO Completed: 12 tasks processed'
sleep 1000
"""
SICK = """
for i in 1 2 3; do echo 'ERROR Heartbeat error: timeout'; echo 'WARN Эхо-ответ от ollama'; done
sleep 1000
"""
ADDRESSES = {"OLLAMA_API_URL": "http://host.docker.internal:11434", "MLX_API_URL": "http://x:11435"}


@pytest.fixture
async def stage() -> AsyncIterator[Stage]:
    async with Stage() as made:
        yield made


def _tasks(postgres: Postgres, *rows: str) -> None:
    postgres.run(
        "DROP TABLE IF EXISTS tasks",
        "CREATE TABLE tasks (id serial, status text, metadata jsonb DEFAULT '{}', updated_at timestamptz)",
        *(f"INSERT INTO tasks (status, metadata, updated_at) VALUES {row}" for row in rows),
    )


async def _verified(
    folder: Path, stage: Stage, box: Engine, postgres: Postgres, worker: str
) -> Mapping[str, str]:
    env = {**box.environment, **stage.environment()}
    given = {"worker": worker, "database": postgres.url}
    checklist = load(["worker"], given=given, environ=env, cwd=folder)
    found = await findings(checklist, folder, env=env, config=configuration(folder, env))
    return statuses(found)


async def test_a_worker_that_is_well_passes(tmp_path, stage, box, postgres):
    """Every item of the list holds on a database, a log and agents that are as they should be."""
    worker = box.run(WELL, environment=ADDRESSES).name
    _tasks(
        postgres,
        "('completed', '{\"preferred_source\": \"mlx\"}', now())",
        "('in_progress', '{\"preferred_source\": \"ollama\"}', now())",
    )
    found = await _verified(tmp_path, stage, box, postgres, worker)
    assert {name: status for name, status in found.items() if status != "pass"} == {
        "stuck tasks are put back with a message": "skip"
    }


async def test_each_sign_of_a_sick_worker_is_found(tmp_path, stage, box, postgres):
    """Late heartbeats, echoes, no batches, stuck tasks and an idle MLX are each named."""
    worker = box.run(SICK).name
    _tasks(
        postgres,
        "('in_progress', '{\"preferred_source\": \"ollama\"}', now() - interval '20 minutes')",
        "('in_progress', '{\"preferred_source\": \"ollama\"}', now())",
    )
    found = await _verified(tmp_path, stage, box, postgres, worker)
    assert {name: status for name, status in found.items() if status not in ("pass", "skip")} == {
        "heartbeats are on time": "warn",
        "no heartbeat errors": "fail",
        "the worker knows its addresses": "fail",
        "no echoed answers": "warn",
        "the worker finds tasks": "warn",
        "the worker makes batches by model": "warn",
        "the worker completes tasks": "warn",
        "completed tasks grow": "warn",
        "nothing is stuck": "fail",
        "mlx is not idle while ollama works": "warn",
    }


async def test_without_its_database_the_worker_cannot_be_judged(tmp_path, stage, box, postgres):
    """A missing table fails once, and what depends on it is inconclusive."""
    worker = box.run(WELL, environment=ADDRESSES).name
    postgres.run("DROP TABLE IF EXISTS tasks")
    found = await _verified(tmp_path, stage, box, postgres, worker)
    assert found["the database answers"] == "fail"
    dependants = ("the pool has room", "heartbeats are on time", "nothing is stuck", "completed tasks grow")
    assert {found[name] for name in dependants} == {"inconclusive"}


async def test_a_transaction_that_holds_the_others_up_is_named(tmp_path, stage, box, postgres):
    """A forgotten transaction locks the tasks, three clients wait for it, and the pool itself has room."""
    import psycopg

    worker = box.run(WELL, environment=ADDRESSES).name
    _tasks(postgres)
    with contextlib.ExitStack() as sessions:

        def session() -> psycopg.Connection:
            return sessions.enter_context(contextlib.closing(psycopg.connect(postgres.url)))

        session().execute("LOCK TABLE tasks IN ACCESS EXCLUSIVE MODE")
        for waiting in [session() for _ in range(3)]:
            waiting.pgconn.send_query(b"UPDATE tasks SET status = 'failed'")
        watching = psycopg.connect(postgres.url, autocommit=True)
        sessions.callback(watching.close)
        count = "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock'"
        while watching.execute(count).fetchone() != (3,):
            await asyncio.sleep(0.02)
        found = await _verified(tmp_path, stage, box, postgres, worker)
    assert (found["the database answers"], found["the pool has room"]) == ("pass", "pass")
    assert found["no transaction holds the others up"] == "fail"
    assert found["the database takes writes"] == "pass"
