"""The store of runs: the same promises on SQLite and on PostgreSQL."""

import threading
from collections.abc import Callable, Iterator, Sequence
from itertools import chain
from pathlib import Path
from typing import Any

import pytest

from opskit.errors import StateError
from opskit.server.database import Database, PostgresDatabase, SqliteDatabase, open_database
from opskit.server.run_store import LEASE_S, RunStatus, RunStore
from tests.parts.postgres import Postgres, postgres

__all__ = ["postgres"]
REQUEST = {"body": {"goal": "Привет"}}


@pytest.fixture(params=["sqlite", "postgresql"])
def opened(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Callable[[], Database]]:
    """Opens connections to one empty database."""
    made: list[Database] = []
    if request.param == "postgresql":
        server: Postgres = request.getfixturevalue("postgres")
        server.run("DROP TABLE IF EXISTS runs", "DROP TABLE IF EXISTS session_lines")

    def open_one() -> Database:
        if request.param == "sqlite":
            made.append(SqliteDatabase(tmp_path / "runs.db"))
        else:
            made.append(PostgresDatabase(request.getfixturevalue("postgres").url))
        return made[-1]

    yield open_one
    for database in made:
        database.close()


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        self.now += 0.001
        return self.now


def test_a_run_goes_from_queued_to_its_end(opened: Callable[[], Database]):
    """Each change is seen by another connection at once."""
    store, other = RunStore(opened(), "a:1"), RunStore(opened(), "b:1")
    task_id = store.add(REQUEST, "corr")
    queued = other.get(task_id)
    assert queued is not None
    assert (queued.status, queued.request, queued.correlation_id) == (RunStatus.QUEUED, REQUEST, "corr")
    claimed = store.claim()
    assert claimed is not None
    run, token = claimed
    assert (run.task_id, run.status) == (task_id, RunStatus.RUNNING)
    assert store.end(token, RunStatus.COMPLETED, result={"output": "да"})
    ended = other.get(task_id)
    assert ended is not None
    assert ended.as_json()["output"] == "да"
    assert other.counts()["completed"] == 1


def test_the_oldest_is_taken_first_and_each_once(opened: Callable[[], Database]):
    """Two servers never work on the same run."""
    store, clock = RunStore(opened(), "a:1", Clock()), Clock()
    ids = [store.add({"body": {"n": number}}, "c") for number in range(30)]
    servers = [RunStore(opened(), f"s:{number}", clock) for number in range(3)]
    taken: list[list[str]] = [[], [], []]

    def takes(number: int) -> None:
        while (claimed := servers[number].claim()) is not None:
            taken[number].append(claimed[0].task_id)

    threads = [threading.Thread(target=takes, args=(number,)) for number in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(chain.from_iterable(taken)) == sorted(ids)
    assert store.claim() is None


def test_a_server_that_was_taken_for_dead_cannot_end_its_run(opened: Callable[[], Database]):
    """The late answer is refused, and what was settled stays."""
    clock = Clock()
    store, other = RunStore(opened(), "a:1", clock), RunStore(opened(), "b:1", clock)
    task_id = store.add(REQUEST, "c")
    claimed = store.claim()
    assert claimed is not None
    assert other.recover(starting=False) == []
    clock.now += LEASE_S + 1
    assert [run.task_id for run in other.recover(starting=False)] == [task_id]
    assert not store.renew(claimed[1])
    assert not store.end(claimed[1], RunStatus.COMPLETED, result={"output": "late"})
    run = store.get(task_id)
    assert run is not None
    assert run.status is RunStatus.INTERRUPTED
    assert "server ended" in run.as_json()["error"]


def test_a_run_that_may_run_again_does(opened: Callable[[], Database]):
    """The client said so; the first token is worth nothing any more."""
    clock = Clock()
    store = RunStore(opened(), "a:1", clock)
    store.add({**REQUEST, "rerun": True}, "c")
    first = store.claim()
    assert first is not None
    clock.now += LEASE_S + 1
    assert store.recover(starting=False) == []
    second = store.claim()
    assert second is not None
    assert second[0].task_id == first[0].task_id
    assert not store.end(first[1], RunStatus.COMPLETED, result={})
    assert store.end(second[1], RunStatus.COMPLETED, result={"output": "x"})


def test_a_claim_that_was_done_long_after_it_was_given_up_is_found(tmp_path: Path):
    """Other claims find nothing meanwhile; each run is given to a worker once."""
    database = Late(tmp_path / "runs.db")
    store = RunStore(database, "a:1", Clock())
    first, second = store.add(REQUEST, "1"), store.add(REQUEST, "2")
    database.is_stopped = True
    with pytest.raises(StateError):
        store.claim()
    database.is_stopped = False
    taken = store.claim()
    assert taken is not None
    database.go_on()
    late = store.claim()
    assert late is not None
    assert (taken[0].task_id, late[0].task_id) == (first, second)
    assert store.claim() is None
    assert [store.end(token, RunStatus.COMPLETED) for token in (taken[1], late[1])] == [True, True]
    database.close()


class Late(SqliteDatabase):
    """A database that is stopped for a while and then does what it did not answer."""

    is_stopped = False

    def execute(self, statement: str, values: Sequence[Any] = ()) -> list[tuple[Any, ...]]:
        if not self.is_stopped:
            return super().execute(statement, values)
        self._asked = (statement, values)
        raise StateError("no answer")

    def go_on(self) -> None:
        super().execute(*self._asked)


def test_a_restart_settles_its_own_runs_at_once_and_no_others(opened: Callable[[], Database]):
    """Only one server listens at an address; another's run is still alive."""
    first, neighbour = RunStore(opened(), "a:1"), RunStore(opened(), "b:1")
    own, foreign = first.add(REQUEST, "c"), first.add(REQUEST, "c")
    assert first.claim() is not None
    assert neighbour.claim() is not None
    again = RunStore(opened(), "a:1")
    assert [run.task_id for run in again.recover(starting=True)] == [own]
    run = again.get(foreign)
    assert run is not None
    assert run.status is RunStatus.RUNNING


def test_cancelling_wins_over_a_late_answer(opened: Callable[[], Database]):
    """What a person has ended stays ended; an ended run cannot be cancelled."""
    store = RunStore(opened(), "a:1")
    queued, running = store.add(REQUEST, "c"), None
    assert store.cancel(queued)
    assert not store.cancel(queued)
    running = store.add(REQUEST, "c")
    claimed = store.claim()
    assert claimed is not None
    assert store.cancel(running)
    assert not store.end(claimed[1], RunStatus.COMPLETED, result={"output": "late"})
    assert not store.cancel("no such run")


def test_a_session_keeps_its_last_thirty_pairs(opened: Callable[[], Database]):
    """Older lines give way, other sessions are left alone."""
    store = RunStore(opened(), "a:1", Clock())
    store.remember("other", "q", "a")
    for number in range(40):
        store.remember("s", f"q{number}", f"a{number}")
    lines = store.session("s")
    assert len(lines) == 60
    assert lines[0] == ("user", "q10")
    assert lines[-1] == ("assistant", "a39")
    assert store.session("other") == [("user", "q"), ("assistant", "a")]


def test_a_session_keeps_its_order_when_the_clock_goes_back(opened: Callable[[], Database]):
    """What was said last is last."""
    clock = Clock()
    store = RunStore(opened(), "a:1", clock)
    store.remember("s", "first", "1")
    clock.now -= 3600
    store.remember("s", "second", "2")
    assert [content for _, content in store.session("s")] == ["first", "1", "second", "2"]


def test_the_last_error_is_the_newest(opened: Callable[[], Database]):
    """For the status page."""
    store = RunStore(opened(), "a:1", Clock())
    assert store.last_error() is None
    for code in ("MODEL_001", "GEN_001"):
        store.add(REQUEST, "c")
        claimed = store.claim()
        assert claimed is not None
        store.end(claimed[1], RunStatus.FAILED, error={"error_code": code, "error_message": "m"})
    last = store.last_error()
    assert last is not None
    assert last["error_code"] == "GEN_001"


def test_a_connection_that_broke_is_made_again(postgres: Postgres):
    """A restarted database costs one statement, not the server."""
    postgres.run("DROP TABLE IF EXISTS runs")
    store = RunStore(PostgresDatabase(postgres.url), "a:1")
    store.add(REQUEST, "c")
    postgres.run(
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
        " WHERE pid <> pg_backend_pid() AND datname = current_database()"
    )
    with pytest.raises(StateError, match="PostgreSQL"):
        store.counts()
    assert store.counts()["queued"] == 1
    store.close()


@pytest.mark.parametrize("url", [None, "", "mysql://x", "redis://y"])
def test_any_other_address_is_the_file(tmp_path: Path, url: str | None):
    """Only PostgreSQL is taken by DATABASE_URL."""
    database = open_database(url, tmp_path)
    assert isinstance(database, SqliteDatabase)
    database.close()
    assert (tmp_path / "runs.db").stat().st_mode & 0o777 == 0o600


def test_a_database_that_is_not_there_is_told_without_its_password(tmp_path: Path):
    """The first line of the reason, and no secret in it."""
    database = open_database("postgresql+asyncpg://u:secret@127.0.0.1:9/x", tmp_path)
    with pytest.raises(StateError) as caught:
        database.execute("SELECT 1")
    assert "secret" not in caught.value.message


def waiting(store: RunStore, number: int = 1, expires: float = 9e9) -> tuple[str, str]:
    """A run that waits for an approval, and the id of the approval."""
    store.add(REQUEST, "c")
    claimed = store.claim()
    assert claimed is not None
    run, token = claimed
    approval_id = f"{run.task_id}.{number}"
    saved = {"approval": {"approval_id": approval_id, "number": number}, "checkpoint": {"step": "x"}}
    assert store.suspend(token, approval_id, expires, saved)
    assert not store.end(token, RunStatus.COMPLETED, result={})
    return run.task_id, approval_id


def test_a_run_that_waits_is_taken_up_by_the_decision_alone(opened: Callable[[], Database]):
    """No worker and no restart touches it; then it goes on, on any server, with what was kept."""
    store, other = RunStore(opened(), "a:1"), RunStore(opened(), "b:1")
    task_id, approval_id = waiting(store)
    assert store.claim() is None
    assert RunStore(opened(), "a:1").recover(starting=True) == []
    assert [run.task_id for run in other.waiting()] == [task_id]
    saved = {"approval": {"number": 1}, "checkpoint": {"step": "x"}}
    assert not other.decide(task_id, f"{task_id}.2", RunStatus.QUEUED, result=saved)
    assert other.decide(task_id, approval_id, RunStatus.QUEUED, result=saved)
    assert not store.decide(task_id, approval_id, RunStatus.QUEUED, result=saved)
    claimed = other.claim()
    assert claimed is not None
    assert claimed[0].result == saved
    assert other.end(claimed[1], RunStatus.COMPLETED, result={"output": "x"})
    assert store.waiting() == []


def test_of_many_decisions_at_once_one_wins(opened: Callable[[], Database]):
    """Whichever server takes it."""
    store = RunStore(opened(), "a:1")
    task_id, approval_id = waiting(store)
    servers = [RunStore(opened(), f"s:{number}") for number in range(4)]
    won: list[bool] = []
    threads = [
        threading.Thread(
            target=lambda server=server: won.append(server.decide(task_id, approval_id, RunStatus.QUEUED))
        )
        for server in servers
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(won) == [False, False, False, True]


def test_an_approval_that_expired_is_worth_nothing(opened: Callable[[], Database]):
    """Its run has failed, and says so."""
    clock = Clock()
    store = RunStore(opened(), "a:1", clock)
    task_id, approval_id = waiting(store, expires=clock.now + 5)
    error = {"error_code": "APPROVAL_002", "error_message": "too late"}
    assert store.expire(error) == []
    clock.now += 6
    assert not store.decide(task_id, approval_id, RunStatus.QUEUED)
    assert [run.task_id for run in store.expire(error)] == [task_id]
    run = store.get(task_id)
    assert run is not None
    assert (run.status, run.as_json()["error"]) == (RunStatus.FAILED, "too late")


def test_a_run_that_begins_again_does_not_use_its_approval(opened: Callable[[], Database]):
    """The command may have run before the crash: it is asked for again, under another number."""
    clock = Clock()
    store = RunStore(opened(), "a:1", clock)
    store.add({**REQUEST, "rerun": True}, "c")
    claimed = store.claim()
    assert claimed is not None
    task_id = claimed[0].task_id
    saved = {"approval": {"approval_id": f"{task_id}.1", "number": 1}, "checkpoint": {"step": "x"}}
    assert store.suspend(claimed[1], f"{task_id}.1", 9e9, saved)
    assert store.decide(task_id, f"{task_id}.1", RunStatus.QUEUED, result=saved)
    assert store.claim() is not None
    clock.now += LEASE_S + 1
    store.recover(starting=False)
    again = store.claim()
    assert again is not None
    assert again[0].result == {"approval": {"number": 1}}


def test_runs_of_a_command_and_of_a_server_are_kept_apart(opened: Callable[[], Database]):
    """In one database neither decides for the other, nor works off what is not its own."""
    server, local = RunStore(opened(), "a:1"), RunStore(opened(), RunStore.LOCAL)
    run, token = local.add_running(REQUEST, "c")
    approval_id = f"{run.task_id}.1"
    assert local.suspend(token, approval_id, 9e9, {"approval": {"approval_id": approval_id}})
    assert (server.waiting(), server.claim()) == ([], None)
    assert not server.decide(run.task_id, approval_id, RunStatus.QUEUED)
    assert local.decide(run.task_id, approval_id, RunStatus.RUNNING, token="t")
    assert server.recover(starting=True) == []
    assert local.end("t", RunStatus.COMPLETED)
