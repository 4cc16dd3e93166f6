"""The simulated agents over real HTTP."""

import asyncio

import httpx
import pytest

from opskit.sandbox.faults import SandboxFault, SandboxFaultKind
from opskit.sandbox.victoria import SimulatedAgent
from tests.parts.loopback import exchange, http_request, until

K = SandboxFaultKind
GOAL = "What is 6 times 7?"


@pytest.fixture
async def agent():
    async with SimulatedAgent() as server:
        yield server


@pytest.fixture
async def client(agent):
    async with httpx.AsyncClient(base_url=agent.url, timeout=30, trust_env=False) as client:
        yield client


async def finished(client, agent, goal=GOAL):
    """Run a goal as a task and return its final status."""
    receipt = (await client.post("/run", json={"goal": goal, "async_mode": True})).json()
    await until(lambda: agent.tasks[receipt["task_id"]]["status"] in {"completed", "failed"})
    return (await client.get(receipt["status_url"])).json()


async def test_status_shows_the_levels(client):
    """`/status` tells the three levels, `/health` only that it lives."""
    assert (await client.get("/status")).json()["victoria_levels"] == {
        "agent": True,
        "enhanced": True,
        "initiative": True,
    }
    assert (await client.get("/health")).json()["status"] == "ok"


async def test_levels_can_be_off():
    """The levels are those it was built with."""
    levels = {"agent": True, "enhanced": False, "initiative": False}
    async with (
        SimulatedAgent("veronica", levels=levels) as server,
        httpx.AsyncClient(trust_env=False) as client,
    ):
        body = (await client.get(f"{server.url}/status")).json()
    assert (body["agent"], body["victoria_levels"]) == ("veronica", levels)


async def test_a_goal_is_answered_at_once(client):
    """A synchronous run has status, output and the method in its knowledge."""
    reply = await client.post("/run", json={"goal": GOAL, "session_id": "s1"})
    assert reply.status_code == 200
    assert (reply.json()["status"], reply.json()["output"]) == ("success", "42")
    assert reply.json()["knowledge"]["method"] == "simple"
    assert reply.json()["knowledge"]["metadata"]["session_id"] == "s1"


async def test_an_analysis_goes_through_departments(client):
    """The live chain's goal is answered by the method it expects, in its language."""
    body = (await client.post("/run", json={"goal": "Помоги с анализом данных"})).json()
    assert body["knowledge"]["method"] == "department_heads"
    assert "4 слова" in body["output"]


@pytest.mark.parametrize("query,field", [("", True), ("?async_mode=1", None), ("?async_mode=true", None)])
async def test_a_task_is_accepted_and_completes(client, agent, query, field):
    """Asynchronous mode, in the body or in the query, gives 202 and a status to poll."""
    body = {"goal": GOAL} if field is None else {"goal": GOAL, "async_mode": field}
    reply = await client.post(f"/run{query}", json=body)
    assert reply.status_code == 202
    receipt = reply.json()
    assert receipt["status_url"] == f"/run/status/{receipt['task_id']}"
    await until(lambda: agent.tasks[receipt["task_id"]]["status"] == "completed")
    task = (await client.get(receipt["status_url"])).json()
    assert (task["output"], task["knowledge"]["method"]) == ("42", "simple")


async def test_a_slow_task_is_seen_running(client, agent):
    """While the agent works, its task is running and has no output."""
    agent.faults.set(None, SandboxFault(K.SLOW_TOKEN, seconds=3600))
    receipt = (await client.post("/run", json={"goal": GOAL, "async_mode": True})).json()
    await until(lambda: agent.tasks[receipt["task_id"]]["status"] == "running")
    task = (await client.get(receipt["status_url"])).json()
    assert (task["status"], task["output"]) == ("running", None)


async def test_an_unknown_task_is_404(client):
    """A task nobody started is not found, as is a path nobody serves."""
    assert (await client.get("/run/status/none")).json() == {"detail": "Task not found"}
    assert (await client.get("/nowhere")).status_code == 404


@pytest.mark.parametrize("raw", [b"", b"[]", b'{"goal": " "}', b'{"goal": 7}'])
async def test_a_run_without_a_goal_is_422(client, raw):
    """The missing field is named."""
    reply = await client.post("/run", content=raw)
    assert reply.status_code == 422
    assert reply.json()["detail"][0]["loc"] == ["body", "goal"]


async def test_a_crash_is_500_or_a_failed_task(client, agent):
    """The same breakdown is a status for who waits and a failed task for who polls."""
    agent.faults.set(None, SandboxFault(K.CRASH))
    assert (await client.post("/run", json={"goal": GOAL})).status_code == 500
    task = await finished(client, agent)
    assert (task["status"], task["error"], task["output"]) == ("failed", "Internal Server Error", None)


@pytest.mark.parametrize("kind,output", [(K.EMPTY, ""), (K.ECHO, GOAL)])
async def test_a_bad_answer_is_called_a_success(client, agent, kind, output):
    """An empty or echoed output comes with status success, which is the trap."""
    agent.faults.set(None, SandboxFault(kind))
    body = (await client.post("/run", json={"goal": GOAL})).json()
    assert (body["status"], body["output"]) == ("success", output)
    assert (await finished(client, agent))["output"] == output


async def test_garbage_is_200_and_no_json(client, agent):
    """The body cannot be parsed."""
    agent.faults.set(None, SandboxFault(K.GARBAGE))
    reply = await client.post("/run", json={"goal": GOAL})
    assert reply.status_code == 200
    with pytest.raises(ValueError):
        reply.json()


async def test_an_unauthorised_agent_still_shows_its_health(client, agent):
    """401 is for runs and their status, not for `/health`."""
    agent.faults.set(None, SandboxFault(K.UNAUTHORISED))
    assert (await client.post("/run", json={"goal": GOAL})).status_code == 401
    assert (await client.get("/run/status/none")).status_code == 401
    assert (await client.get("/health")).status_code == 200


async def test_a_cut_answer_is_shorter_than_announced(client, agent):
    """`cut` drops the connection in the middle of the body."""
    agent.faults.set(None, SandboxFault(K.CUT))
    with pytest.raises(httpx.RemoteProtocolError):
        await client.post("/run", json={"goal": GOAL})


async def test_a_reset_comes_before_any_byte(agent):
    """`reset` ends the run by RST."""
    agent.faults.set(None, SandboxFault(K.RESET))
    with pytest.raises(ConnectionResetError):
        await exchange(agent.url, http_request("POST", "/run", {"goal": GOAL}))


async def test_silence_and_refusal_reach_every_path(client, agent):
    """`silence` never answers, `refuse` never connects, and both end when cleared."""
    agent.faults.set(None, SandboxFault(K.SILENCE))
    with pytest.raises(httpx.ReadTimeout):
        await client.get("/health", timeout=httpx.Timeout(30, read=0.2))
    agent.faults.set(None, SandboxFault(K.REFUSE))
    with pytest.raises(httpx.ConnectError):
        await client.get("/health")
    agent.faults.clear()
    assert (await client.get("/health")).status_code == 200


async def test_a_stop_ends_the_tasks_in_progress(client, agent):
    """A stopped agent leaves no work behind, and starts again on its port."""
    before = asyncio.all_tasks()
    agent.faults.set(None, SandboxFault(K.SLOW_TOKEN, seconds=3600))
    await client.post("/run", json={"goal": GOAL, "async_mode": True})
    async with asyncio.timeout(0.5):
        await agent.stop()
    assert asyncio.all_tasks() <= before
    await agent.start()
    assert (await client.get("/health")).status_code == 200
