"""A server whose PostgreSQL is stopped: it answers what needs no database, and ends when it is told to."""

import asyncio
import signal
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import httpx
import psutil
import pytest

from opskit.errors import StateError
from opskit.server.database import PostgresDatabase
from opskit.server.run_store import RunStatus, RunStore
from tests.parts.postgres import Postgres, server
from tests.parts.victoria_server import VictoriaServer


@pytest.fixture(scope="module")
def postgres() -> Iterator[Postgres]:
    with server() as found:
        yield found


class Stopped:
    """All processes of a PostgreSQL, stopped as `kill -STOP` does."""

    def __init__(self, postgres: Postgres) -> None:
        self._port = postgres.port

    def __enter__(self) -> None:
        main = next(
            process
            for process in psutil.process_iter(["cmdline"])
            if "-p" in (words := process.info["cmdline"] or ()) and str(self._port) in words
            if "postgres" in Path(words[0]).name
        )
        self._processes = [main, *main.children(recursive=True)]
        self._parent = main.parent()
        for process in self._processes:
            process.send_signal(signal.SIGSTOP)

    def __exit__(self, *_: object) -> None:
        # runuser stops itself beside its child.
        for process in (*self._processes, self._parent):
            if process is not None:
                process.send_signal(signal.SIGCONT)


def test_a_server_whose_database_is_stopped_goes_on(postgres: Postgres, tmp_path: Path):
    """/health is quick, /status says that the queue is not known, and a goal is refused."""
    env = {"DATABASE_URL": postgres.url, "OLLAMA_API_URL": "", "MLX_API_URL": ""}
    with VictoriaServer(tmp_path / "home", env) as victoria, httpx.Client(base_url=victoria.url) as client:
        assert client.get("/status").json()["queue"]["queued"] == 0
        with Stopped(postgres):
            with pytest.raises(httpx.ReadTimeout):
                client.post(
                    "/run", json={"goal": "hi", "async_mode": True}, timeout=httpx.Timeout(30, read=0.05)
                )
            began = time.monotonic()
            assert client.get("/health").status_code == 200
            assert time.monotonic() - began < 1
            while (status := client.get("/status", timeout=3).json())["queue"] is not None:
                assert time.monotonic() - began < 5  # a page may be half a second old
            assert (status["status"], status["queue"]) == ("online", None)
            assert "PostgreSQL" in status["last_error"]["error_message"]
            reply = client.post("/run", json={"goal": "hi", "async_mode": True}, timeout=30)
            assert (reply.status_code, reply.json()["error_code"]) == (503, "STATE_001")
            assert "PostgreSQL" in reply.json()["error_message"]
        receipt = client.post("/run", json={"goal": "hi", "async_mode": True}, timeout=30).json()
        assert receipt["status"] == "queued"
        assert client.get(receipt["status_url"], timeout=30).status_code == 200
        with Stopped(postgres):
            assert victoria.stop(timeout_s=25) == 0


async def test_who_waits_beside_others_waits_no_longer(postgres: Postgres):
    """What was asked while the server was away is not asked again, each for its own time."""
    with closing(RunStore(PostgresDatabase(postgres.url), "a:1")) as store:
        with Stopped(postgres):
            began = time.monotonic()
            replies = await asyncio.gather(
                *(store.ask(store.counts) for _ in range(6)), return_exceptions=True
            )
            assert time.monotonic() - began < 9
        assert [str(reply) for reply in replies] == ["PostgreSQL: it gave no answer within 5 s"] * 6
        assert (await store.ask(store.counts))["queued"] == 0


async def test_a_claim_that_nobody_answered_is_taken_up(postgres: Postgres):
    """The server did it after the connection was given up: the run has a worker all the same."""
    with closing(RunStore(PostgresDatabase(postgres.url), "a:1")) as store:
        task_id = store.add({"body": {}}, "c")
        with Stopped(postgres):
            claiming = asyncio.ensure_future(store.ask(store.claim))
            began = time.monotonic()
            await asyncio.sleep(0.2)
            assert time.monotonic() - began < 1
            with pytest.raises(StateError):
                await claiming
        async with asyncio.timeout(30):
            # Until the server has done what was asked while it stood, or seen that nobody waits for it.
            while (claimed := await store.ask(store.claim)) is None:
                await asyncio.sleep(0.02)
        assert claimed[0].task_id == task_id
        assert await store.ask(store.end, claimed[1], RunStatus.COMPLETED)
