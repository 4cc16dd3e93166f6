"""Our own Victoria over HTTP: answers now and later, events, sessions, refusals, restarts, load."""

import asyncio
import contextlib
import json
import signal
import sqlite3
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from hypothesis import HealthCheck, given, settings

from opskit.sandbox.faults import parse_fault
from opskit.sandbox.stage import Stage
from tests.parts.command import opskit, started
from tests.parts.server_process import free_port
from tests.parts.victoria_server import VictoriaServer

GOAL = "What is 6 times 7?"


@pytest.fixture(scope="module")
def sandboxed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[VictoriaServer]:
    """A server over a simulated stack of its own."""
    with VictoriaServer(tmp_path_factory.mktemp("victoria") / "home", {}, ["--sandbox"]) as server:
        yield server


@pytest.fixture
async def client(sandboxed: VictoriaServer) -> AsyncIterator[httpx.AsyncClient]:
    async with httpx.AsyncClient(base_url=sandboxed.url, timeout=30) as opened:
        yield opened


@contextlib.asynccontextmanager
async def slow_server(home: Path, seconds: int, *options: str) -> AsyncIterator[VictoriaServer]:
    """A server that takes one run at a time, over models that take their time."""
    faults = [parse_fault(f"{node}=slow-token,seconds={seconds}") for node in ("mlx", "ollama")]
    async with Stage(faults) as stage:
        server = VictoriaServer(home, stage.environment(), ["--concurrency", "1", *options])
        await asyncio.to_thread(server.start)
        yield server
        server.__exit__()


async def ended(client: httpx.AsyncClient, task_id: str) -> dict[str, Any]:
    async with asyncio.timeout(30):
        while True:
            document = (await client.get(f"/run/status/{task_id}")).json()
            if document["status"] not in ("queued", "running"):
                return document
            await asyncio.sleep(0.02)


async def test_an_answer_at_once(client: httpx.AsyncClient):
    """The shape that clients of Victoria know, with the caller's correlation id."""
    reply = await client.post("/run", json={"goal": GOAL}, headers={"X-Correlation-ID": "abc-1"})
    document = reply.json()
    assert (reply.status_code, document["status"], document["output"]) == (200, "success", "42")
    assert document["knowledge"]["method"] == "simple"
    assert document["knowledge"]["metadata"]["model"]
    assert reply.headers["X-Correlation-ID"] == document["correlation_id"] == "abc-1"


async def test_an_answer_later(client: httpx.AsyncClient):
    """202 with where to ask; the status leads to the same answer."""
    reply = await client.post("/run", json={"goal": GOAL, "async_mode": True})
    receipt = reply.json()
    assert reply.status_code == 202
    assert receipt["status_url"] == f"/run/status/{receipt['task_id']}"
    document = await ended(client, receipt["task_id"])
    assert (document["status"], document["output"]) == ("completed", "42")
    by_query = await client.post("/orchestrate?async_mode=true", json={"goal": GOAL})
    assert by_query.status_code == 202


async def test_events_tell_the_steps_and_the_end(client: httpx.AsyncClient):
    """A listener sees what the agent does, and the stream ends by itself."""
    body = {"goal": "What is wrong with the stack?", "async_mode": True, "max_steps": 2}
    receipt = (await client.post("/run", json=body)).json()
    events = []
    async with client.stream("GET", receipt["events_url"]) as stream:
        assert stream.headers["content-type"].startswith("text/event-stream")
        async for line in stream.aiter_lines():
            if line.startswith("event: "):
                events.append(line.removeprefix("event: "))
            elif line.startswith("data: "):
                last = json.loads(line.removeprefix("data: "))
    assert events[-1] == "end"
    assert last["status"] == "completed"
    late = await client.get(receipt["events_url"])
    assert "event: end" in late.text


async def test_a_listener_that_comes_again_goes_on_where_it_was(client: httpx.AsyncClient):
    """`Last-Event-ID` leaves out what was seen; behind the end 204 tells a browser not to come again."""
    body = {"goal": "What is wrong with the stack?", "async_mode": True, "max_steps": 2}
    url = (await client.post("/run", json=body)).json()["events_url"]
    whole = (await client.get(url)).text
    ids = [line.removeprefix("id: ") for line in whole.splitlines() if line.startswith("id: ")]
    assert ids == [*map(str, range(1, len(ids))), "end"]
    again = await client.get(url, headers={"Last-Event-ID": "999"})
    assert again.text.count("event: end") == 1
    assert (await client.get(url, headers={"Last-Event-ID": "end"})).status_code == 204


async def test_a_session_is_remembered(tmp_path: Path):
    """The next goal of a session reaches the model with the lines before it; sent history wins."""
    async with Stage() as stage:
        server = await asyncio.to_thread(VictoriaServer(tmp_path / "home", stage.environment()).start)
        async with httpx.AsyncClient(base_url=server.url, timeout=30) as client:
            await _remembers(client, stage)
        server.kill()


async def _remembers(client: httpx.AsyncClient, stage: Stage) -> None:
    for goal in (GOAL, "And 6 times 8?"):
        await client.post("/run", json={"goal": goal, "session_id": "s1"})
    asked = [r.body for r in stage.mlx.requests + stage.ollama.requests if r.body and "messages" in r.body]
    contents = [message["content"] for message in asked[-1]["messages"]]
    assert contents == [GOAL, "42", "And 6 times 8?"]
    pairs = [{"user": f"q{n}", "assistant": f"a{n}"} for n in range(40)]
    await client.post("/run", json={"goal": GOAL, "session_id": "s1", "chat_history": pairs})
    asked = [r.body for r in stage.mlx.requests + stage.ollama.requests if r.body and "messages" in r.body]
    sent = max((body["messages"] for body in asked), key=len)
    assert len(sent) == 61
    assert sent[0]["content"] == "q10"


async def test_an_answer_is_remembered_unless_the_client_wants_a_new_one(client: httpx.AsyncClient):
    """The metadata say which it is; a probe asks with no-cache, so that it never praises dead models."""
    goal = "What is 7 times 9?"
    metadata = []
    for headers in ({}, {}, {"Cache-Control": "no-cache"}):
        reply = await client.post("/run", json={"goal": goal}, headers=headers)
        assert reply.json()["output"] == "63"
        metadata.append(reply.json()["knowledge"]["metadata"])
    assert [entry["cached"] for entry in metadata] == [False, True, False]
    assert [len(entry["attempts"]) for entry in metadata] == [1, 0, 1]
    assert metadata[0]["category"] == "fast"
    assert metadata[0]["task_id"]


async def test_a_probe_of_a_goal_through_victoria_is_never_answered_from_a_cache(tmp_path: Path):
    """Whatever agent it is."""
    async with Stage() as stage:
        env = stage.environment()
        await asyncio.to_thread(opskit, "probe", home=tmp_path, env=env)
        await asyncio.to_thread(opskit, "verify", "live_chain", home=tmp_path, env=env)
        runs = [request for request in stage.victoria.requests if request.path == "/run"]
    assert len(runs) >= 2
    assert {request.headers.get("cache-control") for request in runs} == {"no-cache"}


async def test_only_known_projects_are_taken(client: httpx.AsyncClient):
    """A name that is not allowed becomes the main project, and stands in no prompt."""
    for wanted, project in (("atra", "atra"), ("../etc", "atra-web-ide"), (None, "atra-web-ide")):
        reply = await client.post("/run", json={"goal": GOAL, "project_context": wanted})
        assert reply.json()["knowledge"]["project"] == project


async def test_the_status_page_is_what_the_probe_reads(client: httpx.AsyncClient, tmp_path: Path):
    """`opskit probe` knows this server, its levels, and the cycle through it."""
    document = (await client.get("/status")).json()
    assert document["victoria_levels"] == {"agent": True, "enhanced": False, "initiative": False}
    assert document["nodes"]["mlx"]["ok"]
    assert set(document["queue"]) >= {"queued", "running", "completed", "failed", "interrupted"}
    url = str(client.base_url).rstrip("/")
    result = await asyncio.to_thread(
        opskit, "run", GOAL, "--remote", "--json", home=tmp_path / "other", env={"VICTORIA_URL": url}
    )
    assert (result.status, result.document["output"], result.document["node"]) == (0, "42", "victoria")
    assert "opskit_runs" in (await client.get("/metrics")).text


def test_one_trace_holds_both_sides(tmp_path: Path):
    """The spans of the server stand beneath the span that waits for it."""
    with VictoriaServer(tmp_path / "home", {}, ["--sandbox"]) as server:
        env = {"VICTORIA_URL": server.url}
        result = opskit("trace", GOAL, "--json", home=tmp_path / "home", env=env)
    spans = {span["span_id"]: span for span in result.document["spans"]}
    call = next(span for span in spans.values() if span["name"].startswith("chat "))
    path = [call["name"]]
    while (parent := spans.get(call["parent_id"])) is not None:
        path.append(parent["name"])
        call = parent
    assert path[1:] == ["opskit run", "invoke_agent victoria", "opskit run"]


async def test_a_failure_has_the_shape_of_the_catalogue(tmp_path: Path):
    """No model: 503 at once, `failed` later, and the status page names it."""
    server = VictoriaServer(tmp_path / "home", {})
    await asyncio.to_thread(server.start)
    async with httpx.AsyncClient(base_url=server.url, timeout=30) as client:
        reply = await client.post("/run", json={"goal": GOAL})
        document = reply.json()
        assert (reply.status_code, document["status"]) == (503, "error")
        assert set(document) >= {"error_code", "error_message", "details", "timestamp"}
        assert document["error_code"] == "MODEL_001"
        assert (await client.get("/status")).json()["last_error"]["error_code"] == "MODEL_001"
    assert server.stop() == 0


async def test_a_database_that_another_program_locks_holds_nobody_up(tmp_path: Path):
    """A page that needs none is served before the run that waits for it, and the run is queued then."""
    with VictoriaServer(tmp_path / "home", {}, ["--sandbox"]) as server:
        [path] = (tmp_path / "home").rglob("runs.db")
        with contextlib.closing(sqlite3.connect(path, isolation_level=None)) as other:
            async with httpx.AsyncClient(base_url=server.url, timeout=60) as client:
                other.execute("BEGIN IMMEDIATE")
                body = {"goal": GOAL, "async_mode": True}
                queueing = asyncio.create_task(client.post("/run", json=body))
                for _ in range(50):
                    assert (await client.get("/health")).status_code == 200
                assert not queueing.done()
                other.execute("ROLLBACK")
                assert (await queueing).status_code == 202
                assert (await ended(client, (await queueing).json()["task_id"]))["output"] == "42"


@pytest.mark.parametrize(
    ("body", "status", "code"),
    [
        (b"{not json", 422, "VAL_002"),
        (b"[]", 422, "VAL_002"),
        (b"null", 422, "VAL_002"),
        (b"{}", 422, "VAL_003"),
        (b'{"goal": ""}', 422, "VAL_002"),
        (b'{"goal": "  "}', 422, "VAL_002"),
        (b'{"goal": 3}', 422, "VAL_002"),
        (b'{"goal": "x", "session_id": "../../etc"}', 422, "VAL_002"),
        (b'{"goal": "x", "chat_history": "no"}', 422, "VAL_002"),
        (b'{"goal": "x", "max_steps": 5000}', 422, "VAL_002"),
        (b'{"goal": "x", "method": "rm"}', 422, "VAL_002"),
        (b'{"goal": "\xff"}', 400, "VAL_002"),
        (b'{"goal": "' + b"x" * 3_000_000 + b'"}', 413, "VAL_002"),
    ],
)
async def test_a_bad_body_is_refused_in_the_shape_of_the_catalogue(
    client: httpx.AsyncClient, body: bytes, status: int, code: str
):
    """The places are named, the values are not."""
    reply = await client.post("/run", content=body, headers={"Content-Type": "application/json"})
    document = reply.json()
    assert (reply.status_code, document["error_code"]) == (status, code)
    assert set(document) == {"error_code", "error_message", "details", "timestamp"}


async def test_a_body_without_an_end_is_cut_off(client: httpx.AsyncClient):
    """50 MB in pieces, without a length."""

    async def pieces() -> AsyncIterator[bytes]:
        for _ in range(800):
            yield b"x" * 65536

    try:
        reply = await client.post("/run", content=pieces(), headers={"Content-Type": "application/json"})
        assert reply.status_code == 413
    except httpx.WriteError:
        pass  # the server hung up in the middle, which is as good
    assert (await client.get("/health")).status_code == 200


@pytest.mark.parametrize(
    ("body", "headers", "says"),
    [
        (b"goal=hello", {"Content-Type": "application/json"}, "must be a JSON object"),
        (b'{"goal": "x"}', {"Content-Type": "text/plain"}, "`Content-Type: application/json`"),
        (b'{"gaol": "x"}', {}, "body.goal: Field required"),
        (b'{"goal": "a\\u0000b"}', {}, "body.goal"),
        (b'{"goal": "x", "chat_history": [{"role": "user", "content": "hi"}]}', {}, "`user`, `assistant`"),
        (b'{"goal": "x", "max_steps": 400}', {}, "less than or equal to 50"),
    ],
)
async def test_the_message_of_a_refusal_says_what_is_wrong(
    client: httpx.AsyncClient, body: bytes, headers: dict[str, str], says: str
):
    """Clients show only the message."""
    reply = await client.post("/run", content=body, headers={"Content-Type": "application/json"} | headers)
    assert (reply.status_code, says in reply.json()["error_message"]) == (422, True), reply.text


async def test_events_are_not_held_back_by_a_proxy(client: httpx.AsyncClient):
    """nginx collects an answer unless it is asked not to."""
    task_id = (await client.post("/run", json={"goal": GOAL, "async_mode": True})).json()["task_id"]
    headers = (await client.get(f"/run/events/{task_id}")).headers
    assert (headers["X-Accel-Buffering"], headers["Cache-Control"]) == ("no", "no-cache")


def test_where_runs_are_kept_is_said_for_another_database(tmp_path: Path):
    """The address is never shown: it may have a password."""
    env = {"DATABASE_URL": "mysql://somebody:s3cret@db/shop"}
    with VictoriaServer(tmp_path / "home", env) as server:
        assert f"DATABASE_URL names no PostgreSQL: runs are kept in {tmp_path}" in server.log
        assert "s3cret" not in server.log


async def test_a_value_that_is_null_is_none(client: httpx.AsyncClient):
    """Clients send what they do not know as null."""
    body = {"goal": GOAL, "chat_history": None, "async_mode": None, "session_id": None, "model": None}
    assert (await client.post("/run", json=body)).json()["output"] == "42"


async def test_monitors_ask_for_the_head_of_the_health_page(client: httpx.AsyncClient):
    """405 would look down; what is refused by its path or its method is named."""
    assert (await client.head("/health")).status_code == 200
    assert (await client.get("/run")).json()["error_message"] == "GET is not possible on /run"
    assert (await client.get("/nothing")).json()["error_message"] == "there is no path /nothing"


async def test_what_is_not_there_and_whom_it_is_not_meant_for(client: httpx.AsyncClient):
    """An unknown run, an unknown path, and a name that a page elsewhere would use."""
    assert (await client.get("/run/status/nope")).status_code == 404
    assert (await client.get("/run/events/nope")).status_code == 404
    assert (await client.post("/run/cancel/nope")).status_code == 404
    assert (await client.get("/nothing")).json()["error_code"] == "VAL_002"
    assert (await client.get("/status", headers={"Host": "evil.example"})).status_code == 403
    assert (await client.get("/docs")).status_code == 200


async def test_a_token_guards_everything_but_the_health_page(tmp_path: Path):
    """Any address but loopback must have one."""
    refused = await asyncio.to_thread(
        opskit, "serve", "victoria", "--host", "0.0.0.0", "--port", "0", home=tmp_path / "other"
    )
    assert refused.status == 2
    assert "token" in refused.err
    with VictoriaServer(tmp_path / "home", {"OPSKIT_SERVE_TOKEN": "s3crét"}) as server:
        async with httpx.AsyncClient(base_url=server.url) as client:
            assert (await client.get("/health")).status_code == 200
            for headers in ({}, {"Authorization": "Bearer wrong"}, {"Authorization": "s3crét".encode()}):
                reply = await client.get("/status", headers=headers)
                assert (reply.status_code, reply.headers["WWW-Authenticate"]) == (401, "Bearer")
            for scheme in ("Bearer", "bearer"):
                good = {"Authorization": f"{scheme} s3crét".encode()}
                assert (await client.get("/status", headers=good)).status_code == 200
        assert "s3crét" not in server.log


async def test_a_run_is_cancelled(tmp_path: Path):
    """A queued and a running one; what they would have answered is gone."""
    async with (
        slow_server(tmp_path / "home", 20) as server,
        httpx.AsyncClient(base_url=server.url, timeout=30) as client,
    ):
        ids = [
            (await client.post("/run", json={"goal": GOAL, "async_mode": True})).json()["task_id"]
            for _ in range(2)
        ]
        for task_id in reversed(ids):
            assert (await client.post(f"/run/cancel/{task_id}")).json()["cancelled"] is True
        for task_id in ids:
            assert (await ended(client, task_id))["status"] == "cancelled"
        assert (await client.post(f"/run/cancel/{ids[0]}")).json()["cancelled"] is False


async def test_five_hundred_at_once_lose_nothing(client: httpx.AsyncClient):
    """Every submission gets an id, every id gets an answer, and the status page answers meanwhile."""
    limits = httpx.Limits(max_connections=100)
    async with httpx.AsyncClient(base_url=client.base_url, timeout=60, limits=limits) as many:
        replies = await asyncio.gather(
            *(many.post("/run", json={"goal": GOAL, "async_mode": True}) for _ in range(500))
        )
        assert {reply.status_code for reply in replies} == {202}
        status = await many.get("/status")
        assert status.status_code == 200
        ids = {reply.json()["task_id"] for reply in replies}
        assert len(ids) == 500
        until = time.monotonic() + 90
        while time.monotonic() < until:
            queue = (await many.get("/status")).json()["queue"]
            if queue["queued"] == queue["running"] == 0:
                break
            await asyncio.sleep(0.2)
        documents = await asyncio.gather(*(many.get(f"/run/status/{task_id}") for task_id in ids))
        assert {reply.json()["status"] for reply in documents} == {"completed"}


async def test_a_client_that_goes_away_costs_only_its_own_answer(client: httpx.AsyncClient):
    """The run goes on and can be asked for."""
    before = (await client.get("/status")).json()["queue"]["completed"]
    with pytest.raises(httpx.TimeoutException):
        await client.post("/run", json={"goal": GOAL}, timeout=httpx.Timeout(30, read=0.001))
    async with asyncio.timeout(20):
        while (await client.get("/status")).json()["queue"]["completed"] == before:
            await asyncio.sleep(0.05)


async def test_sigterm_lets_a_run_end(tmp_path: Path):
    """What is under way ends well, what is queued waits for the next server."""
    async with slow_server(tmp_path / "home", 2) as server:
        async with httpx.AsyncClient(base_url=server.url, timeout=30) as client:
            ids = [
                (await client.post("/run", json={"goal": GOAL, "async_mode": True})).json()["task_id"]
                for _ in range(2)
            ]
            while (await client.get(f"/run/status/{ids[0]}")).json()["status"] == "queued":
                await asyncio.sleep(0.02)
        assert await asyncio.to_thread(server.stop) == 0
        await asyncio.to_thread(server.start)
        async with httpx.AsyncClient(base_url=server.url, timeout=30) as client:
            assert (await client.get(f"/run/status/{ids[0]}")).json()["status"] == "completed"
            assert (await ended(client, ids[1]))["status"] == "completed"


async def test_clients_that_wait_are_answered_when_the_server_ends(tmp_path: Path):
    """A client learns what became of its run, be it under way or queued, in the time given."""
    async with (
        slow_server(tmp_path / "home", 60, "--drain", "1") as server,
        httpx.AsyncClient(base_url=server.url, timeout=30) as client,
    ):
        first = asyncio.create_task(client.post("/run", json={"goal": GOAL}))
        while (await client.get("/status")).json()["queue"]["running"] == 0:
            await asyncio.sleep(0.1)
        second = asyncio.create_task(client.post("/run", json={"goal": GOAL}))
        while (await client.get("/status")).json()["queue"]["queued"] == 0:
            await asyncio.sleep(0.1)
        began = time.monotonic()
        assert await asyncio.to_thread(server.stop) == 0
        assert time.monotonic() - began < 10
        interrupted, queued = (await first).json(), await second
        assert "shut down while the run was under way" in interrupted["error_message"]
        assert (queued.status_code, queued.json()["error_code"]) == (503, "COMM_001")
        assert "is queued" in queued.json()["error_message"]
        assert "Traceback" not in server.log


async def test_the_trace_of_a_run_whose_server_was_killed_tells_it(tmp_path: Path):
    """The trace is found by the id of the run too, and does not say "running" for ever."""
    home = tmp_path / "home"
    async with slow_server(home, 60) as server:
        async with httpx.AsyncClient(base_url=server.url, timeout=30) as client:
            receipt = (await client.post("/run", json={"goal": GOAL, "async_mode": True})).json()
            while (await client.get(receipt["status_url"])).json()["status"] == "queued":
                await asyncio.sleep(0.02)
            await asyncio.sleep(0.3)
            running = await asyncio.to_thread(opskit, "trace", receipt["correlation_id"], home=home)
            server.kill()
            await asyncio.to_thread(server.start)
            killed = await asyncio.to_thread(opskit, "trace", receipt["correlation_id"], home=home)
            again = {"goal": GOAL, "async_mode": True}
            second = (await client.post("/run", json=again)).json()["task_id"]
            while (await client.get(f"/run/status/{second}")).json()["status"] == "queued":
                await asyncio.sleep(0.02)
            assert (await client.post(f"/run/cancel/{second}")).json()["cancelled"] is True
        async with asyncio.timeout(20):
            while (ended := await asyncio.to_thread(opskit, "trace", second, home=home)).status:
                await asyncio.sleep(0.1)
    assert "no end in its log: it still runs, or its process was killed" in running.out
    assert (killed.status, "interrupted" in killed.out) == (0, True)
    assert "failed" in killed.out.splitlines()[1]
    assert (f"goal: {GOAL}" in ended.out, "interrupted" in ended.out) == (True, True)


async def test_who_stops_waiting_for_victoria_stops_her_run(tmp_path: Path):
    """Ctrl-C of `opskit run` leaves no run behind that holds a model."""
    async with (
        slow_server(tmp_path / "home", 60) as server,
        httpx.AsyncClient(base_url=server.url, timeout=30) as client,
    ):
        env = {"VICTORIA_URL": server.url}
        with started(["run", GOAL, "--remote"], home=tmp_path, env=env) as command:
            while (await client.get("/status")).json()["queue"]["running"] == 0:
                await asyncio.sleep(0.1)
            command.send_signal(signal.SIGINT)
            assert await asyncio.to_thread(command.wait, 10) == 130
        async with asyncio.timeout(10):
            while (await client.get("/status")).json()["queue"]["cancelled"] == 0:
                await asyncio.sleep(0.1)


def test_who_follows_a_run_is_told_at_once_that_nobody_answers(tmp_path: Path):
    """It waits for a restart, and says for how long."""
    home, env = tmp_path / "home", {"VICTORIA_URL": f"http://127.0.0.1:{free_port()}"}
    with started(["run", "--follow", "11111111-2222-4333-8444-555555555555"], home=home, env=env) as command:
        assert command.stderr is not None
        says = command.stderr.readline()
        command.kill()
    assert "nothing listens there; asking again for up to 60 s" in says


async def test_a_server_killed_twenty_times_loses_no_run(tmp_path: Path):
    """Of 200 runs each is completed or reported as interrupted; those that may run again all complete."""
    async with Stage() as stage:
        server = VictoriaServer(tmp_path / "home", stage.environment(), ["--concurrency", "4"])
        await asyncio.to_thread(server.start)
        ids: dict[str, bool] = {}
        for turn in range(20):
            async with httpx.AsyncClient(base_url=server.url, timeout=30) as client:
                for number in range(10):
                    rerun = number % 2 == 0
                    body = {"goal": GOAL, "async_mode": True, "rerun": rerun}
                    ids[(await client.post("/run", json=body)).json()["task_id"]] = rerun
            await asyncio.sleep(0.01 * (turn % 5))
            server.kill()
            await asyncio.to_thread(server.start)
        async with httpx.AsyncClient(base_url=server.url, timeout=30) as client:
            documents = [await ended(client, task_id) for task_id in ids]
        server.kill()
    statuses = {(ids[document["task_id"]], document["status"]) for document in documents}
    assert len(documents) == 200
    assert statuses <= {(True, "completed"), (False, "completed"), (False, "interrupted")}
    assert all(document["output"] == "42" for document in documents if document["status"] == "completed")
    assert all(document["error"] for document in documents if document["status"] == "interrupted")


def test_a_port_that_is_taken_is_told(tmp_path: Path):
    """Who wants to know who holds it is told what to type."""
    with VictoriaServer(tmp_path / "home", {}) as server:
        result = opskit("serve", "victoria", "--port", str(server.port), home=tmp_path / "other")
    assert result.status == 1
    assert f"Address already in use by process {server.pid} (" in result.err
    assert "--port" in result.err


def test_an_address_that_is_none_of_this_machine_is_told(tmp_path: Path):
    """Nobody else holds its port."""
    environ = {"OPSKIT_SERVE_TOKEN": "x"}
    result = opskit("serve", "victoria", "--host", "192.0.2.1", "--port", "8099", home=tmp_path, env=environ)
    assert result.status == 1
    assert "192.0.2.1:8099 cannot be listened on" in result.err
    assert "`--host`" in result.err


def test_the_documentation_holds_against_generated_requests(sandboxed: VictoriaServer):
    """Every request that the OpenAPI document permits, or nearly permits, is answered as it says."""
    import schemathesis
    from schemathesis.checks import not_a_server_error
    from schemathesis.specs.openapi.checks import content_type_conformance, status_code_conformance

    schema = schemathesis.openapi.from_url(f"{sandboxed.url}/openapi.json")
    paths = []
    for result in schema.get_all_operations():
        operation = result.ok()

        @settings(max_examples=12, deadline=None, suppress_health_check=list(HealthCheck), database=None)
        @given(case=operation.as_strategy())
        def holds(case: schemathesis.Case) -> None:
            response = case.call(base_url=sandboxed.url)
            # A good goal may find no answer: that is a failure of the run, in the shape of the catalogue.
            fault = [] if "error_code" in response.text else [not_a_server_error]
            checks = [content_type_conformance, status_code_conformance, *fault]
            case.validate_response(response, checks=checks)

        holds()
        paths.append(operation.path)
    assert "/run" in paths
    assert httpx.get(f"{sandboxed.url}/health").status_code == 200


def test_the_documentation_names_what_is_served(sandboxed: VictoriaServer):
    """Events and metrics are no JSON, an unknown Host is refused, and only a new run is queued."""
    paths = httpx.get(f"{sandboxed.url}/openapi.json").json()["paths"]
    events, metrics = (paths[path]["get"]["responses"] for path in ("/run/events/{task_id}", "/metrics"))
    assert list(events["200"]["content"]) == ["text/event-stream"]
    assert "204" in events
    assert list(metrics["200"]["content"]) == ["text/plain"]
    answers = {path: operation["responses"] for path, each in paths.items() for operation in each.values()}
    assert all("403" in responses for responses in answers.values())
    assert {path for path, responses in answers.items() if "202" in responses} == {"/run", "/orchestrate"}


@pytest.mark.parametrize(
    "body", [b"[" * 100_000 + b"]" * 100_000, b'{"goal": "\xff"}', b'{"goal": ' + b"9" * 5000]
)
async def test_a_body_that_no_reader_takes_is_told_what_it_should_be(client: httpx.AsyncClient, body: bytes):
    """Too deep, not UTF-8, or a number without an end."""
    reply = await client.post("/run", content=body, headers={"Content-Type": "application/json"})
    assert reply.status_code in (400, 422)
    assert "must be a JSON object" in reply.json()["error_message"]


async def test_a_server_that_drains_answers_and_is_not_down(tmp_path: Path):
    """Its pages say so until its run has ended; new runs are refused, and probe calls it busy."""
    async with slow_server(tmp_path / "home", 4) as server:
        async with httpx.AsyncClient(base_url=server.url, timeout=30) as client:
            await client.post("/run", json={"goal": GOAL, "async_mode": True})
            async with asyncio.timeout(10):
                while (await client.get("/status")).json()["queue"]["running"] == 0:
                    await asyncio.sleep(0.02)
            ending = asyncio.create_task(asyncio.to_thread(server.stop))
            async with asyncio.timeout(30):
                while (page := (await client.get("/status")).json())["status"] != "draining":
                    await asyncio.sleep(0.02)
            assert page["queue"]["running"] == 1
            assert (await client.post("/run", json={"goal": GOAL})).status_code == 503
        env = {"VICTORIA_URL": server.url}
        probed = await asyncio.to_thread(opskit, "probe", "--json", home=tmp_path / "other", env=env)
        finding = probed.finding("victoria", "agent")
        assert (finding["state"], finding["status"]) == ("busy", "warn")
        assert finding["evidence"]["queue"]["draining"] is True
        assert await ending == 0


def test_probe_verify_and_watch_tell_the_queue_and_the_last_error(tmp_path: Path):
    """They read the page of our own server: levels, queue, and the error of its newest failed run."""
    with VictoriaServer(tmp_path / "home", {}) as server:
        httpx.post(f"{server.url}/run", json={"goal": GOAL}, timeout=30)
        env = {"VICTORIA_URL": server.url}
        finding = opskit("probe", "--json", home=tmp_path / "b", env=env).finding("victoria", "agent")
        verified = opskit("verify", "victoria", "--tag", "queue", "--json", home=tmp_path / "c", env=env)
        watched = opskit("watch", "--count", "1", "--only", "agents", "--json", home=tmp_path / "d", env=env)
    empty = {"queued": 0, "running": 0, "needs_approval": 0, "oldest_s": None, "draining": False}
    assert finding["evidence"]["queue"] == empty
    assert "0 runs queued, 0 running; its last error: no node can answer" in finding["detail"]
    assert verified.finding("victoria")["status"] == "pass", verified.out
    events = [json.loads(line) for line in watched.out.splitlines()]
    assert [event["agents"][0]["queue"] for event in events if "agents" in event] == [empty]
