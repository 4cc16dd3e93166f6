"""The workers of a server: a database that goes away ends none of them, and no last event is lost."""

import asyncio
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

from opskit.errors import StateError
from opskit.recovery.audit import NoAudit
from opskit.server import runs as runs_module
from opskit.server.approvals import Approvals
from opskit.server.database import SqliteDatabase
from opskit.server.run_store import RunStatus, RunStore
from opskit.server.runs import Runs, Work


class Failing(SqliteDatabase):
    """A real database that is away for a while."""

    away = False

    def execute(self, statement: str, values: Sequence[Any] = ()) -> list[tuple[Any, ...]]:
        if self.away:
            raise StateError("the database is away")
        return super().execute(statement, values)


def workers(store: RunStore, work: Work) -> Runs:
    """Return a server with one worker; nothing that it does needs an approval."""
    return Runs(Approvals(store, NoAudit(), 60), work, 1)


async def test_workers_go_on_once_the_database_is_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """What was queued meanwhile is worked off."""
    monkeypatch.setattr(runs_module, "_AWAY_S", 0.01)
    database = Failing(tmp_path / "runs.db")

    async def work(run: Any, report: Any) -> Mapping[str, Any]:
        return {"output": "42"}

    runs = workers(RunStore(database, "a:1"), work)
    task_id = runs.store.add({"body": {}}, "c")
    database.away = True
    with pytest.raises(StateError):
        runs.store.counts()
    database.away = False
    await runs.start()
    database.away = True
    await asyncio.sleep(0.05)
    database.away = False
    async with asyncio.timeout(10):
        assert (await runs.ended(task_id)).status in (RunStatus.COMPLETED, RunStatus.RUNNING)
        second = await runs.submit({"body": {}}, "c")
        assert (await runs.ended(second)).status is RunStatus.COMPLETED
    await runs.aclose(1)
    database.close()


async def test_what_came_of_a_run_waits_for_the_database(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """An answer that was found while the database was away is not lost, and its run was not interrupted."""
    monkeypatch.setattr(runs_module, "_AWAY_S", 0.01)
    database = Failing(tmp_path / "runs.db")

    async def work(run: Any, report: Any) -> Mapping[str, Any]:
        database.away = True
        return {"output": "42"}

    runs = workers(RunStore(database, "a:1"), work)
    await runs.start()
    task_id = await runs.submit({"body": {}}, "c")
    async with asyncio.timeout(10):
        while not database.away:
            await asyncio.sleep(0.01)
        await asyncio.sleep(0.05)
        database.away = False
        run = await runs.ended(task_id)
    assert (run.status, run.as_json()["output"]) == (RunStatus.COMPLETED, "42")
    await runs.aclose(1)
    database.close()


async def test_the_last_events_of_a_run_are_told(tmp_path: Path):
    """They come although the run ends in the same moment."""

    async def work(run: Any, report: Any) -> Mapping[str, Any]:
        await asyncio.sleep(0.05)
        report("step", {"n": 1})
        report("step", {"n": 2})
        return {"output": "42"}

    runs = workers(RunStore(SqliteDatabase(tmp_path / "runs.db"), "a:1"), work)
    await runs.start()
    task_id = await runs.submit({"body": {}}, "c")
    async with asyncio.timeout(10):
        kinds = [kind async for kind, _ in runs.events(task_id)]
    assert kinds.count("step") == 2
    assert kinds[-1] == "end"
    await runs.aclose(1)
    runs.store.close()


async def test_a_run_here_outlives_a_jump_of_the_clock(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """A machine that slept does not take its own runs for those of a server that died."""
    monkeypatch.setattr(runs_module, "_LOST_S", 0.01)
    now, go_on = [1000.0], asyncio.Event()

    async def work(run: Any, report: Any) -> Mapping[str, Any]:
        await go_on.wait()
        return {"output": "42"}

    runs = workers(RunStore(SqliteDatabase(tmp_path / "runs.db"), "a:1", lambda: now[0]), work)
    await runs.start()
    try:
        async with asyncio.timeout(30):
            task_id = await runs.submit({"body": {}}, "c")
            while (await runs.store.ask(runs.store.get, task_id)).status is not RunStatus.RUNNING:
                await asyncio.sleep(0)
            now[0] += 8 * 3600
            leases = "SELECT lease_until FROM runs"
            while runs.store.database.execute(leases) < [(now[0],)]:
                await asyncio.sleep(0.01)
            go_on.set()
            assert (await runs.ended(task_id)).status is RunStatus.COMPLETED
    finally:
        await runs.aclose(0)
        runs.store.close()
