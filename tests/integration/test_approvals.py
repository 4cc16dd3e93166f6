"""Commands that need a person: runs wait, and go on exactly as approved, once, on real servers."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import pytest
import pytest_asyncio

from opskit.sandbox.stage import Stage
from tests.parts.approving import GOAL, Workplace, scripted
from tests.parts.command import Result, opskit
from tests.parts.victoria_server import VictoriaServer

pytestmark = pytest.mark.asyncio(loop_scope="module")
BODY = {"goal": GOAL, "method": "react", "async_mode": True}
ARGV = ["deployer", "--to", "production"]


class Victoria:
    """A server over a scripted model, with its client."""

    def __init__(self, place: Workplace, stage: Stage, server: VictoriaServer, token: str | None) -> None:
        self.place = place
        self.stage = stage
        self.server = server
        headers = {"Authorization": f"Bearer {token}"} if token else {}
        self.client = httpx.AsyncClient(base_url=server.url, timeout=30, headers=headers)

    async def until(self, task_id: str, *statuses: str) -> dict[str, Any]:
        async with asyncio.timeout(30):
            while (document := await self.status(task_id))["status"] not in statuses:
                await asyncio.sleep(0.02)
        return document

    async def status(self, task_id: str) -> dict[str, Any]:
        return (await self.client.get(f"/run/status/{task_id}")).json()

    async def waiting(self, **body: Any) -> dict[str, Any]:
        """Submit the goal and return what it waits for."""
        receipt = (await self.client.post("/run", json={**BODY, **body})).json()
        return (await self.until(receipt["task_id"], "needs_approval"))["approval"]

    async def decide(self, approval_id: str, decision: str = "approve") -> httpx.Response:
        body = {"decision": decision, "by": "ann@desk"}
        return await self.client.post(f"/run/approve/{approval_id}", json=body)

    @property
    def calls(self) -> int:
        """How often a model was asked for a step."""
        requests = self.stage.mlx.requests + self.stage.ollama.requests
        return sum("messages" in (request.body or {}) for request in requests)

    async def opskit(self, *arguments: str) -> Result:
        env = {**self.place.environment(self.stage), "VICTORIA_URL": self.server.url}
        return await asyncio.to_thread(opskit, *arguments, home=self.place.home, env=env)


@contextlib.asynccontextmanager
async def running(home: Path, *, token: str | None = None, **agent: Any) -> AsyncIterator[Victoria]:
    place = Workplace(home, **agent)
    async with Stage(reply=scripted) as stage:
        env = place.environment(stage) | ({"OPSKIT_SERVE_TOKEN": token} if token else {})
        server = VictoriaServer(home, env, ["--concurrency", "1"])
        await asyncio.to_thread(server.start)
        victoria = Victoria(place, stage, server, token)
        try:
            async with victoria.client:
                yield victoria
        finally:
            server.kill()


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def server(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Victoria]:
    async with running(tmp_path_factory.mktemp("approvals") / "home") as victoria:
        yield victoria


@pytest.fixture
def victoria(server: Victoria) -> Victoria:
    """The server, before anything was deployed."""
    server.place.reset()
    return server


async def test_a_run_waits_through_a_restart_and_goes_on_where_it_stopped(victoria: Victoria):
    """The command is shown exactly, no worker is held, and no model is asked again for what it said."""
    approval = await victoria.waiting()
    assert approval["argv"] == ARGV
    assert approval["cwd"] == str(victoria.place.workspace)
    assert approval["program"] == str(victoria.place.program)
    assert approval["rule"].startswith("ask.")
    assert approval["why"]
    assert len(approval["digest"]) == 64
    other = await victoria.client.post("/run", json={"goal": "What is 6 times 7?"})
    assert other.json()["output"] == "42"
    victoria.server.kill()
    await asyncio.to_thread(victoria.server.start)
    (listed,) = (await victoria.client.get("/approvals")).json()["approvals"]
    assert listed["approval_id"] == approval["approval_id"]
    assert listed["age_s"] >= 0
    assert (await victoria.client.get("/status")).json()["queue"]["needs_approval"] == 1
    assert victoria.place.deployments == []
    calls = victoria.calls
    assert (await victoria.decide(approval["approval_id"])).status_code == 200
    document = await victoria.until(approval["task_id"], "completed", "failed", "needs_approval")
    assert (document["status"], document["output"]) == ("completed", "The release is deployed.")
    assert victoria.place.deployments == ["--to production"]
    assert victoria.calls == calls + 1
    assert (await victoria.client.get("/approvals")).json() == {"approvals": []}


async def test_of_two_decisions_at_once_one_wins_and_none_counts_twice(victoria: Victoria):
    """The command runs once; the audit says who decided, and when it was used."""
    approval = await victoria.waiting()
    identifier = approval["approval_id"]
    replies = await asyncio.gather(*(victoria.decide(identifier) for _ in range(8)))
    assert sorted(reply.status_code for reply in replies) == [200, *[409] * 7]
    await victoria.until(approval["task_id"], "completed")
    assert (await victoria.decide(identifier)).json()["error_code"] == "APPROVAL_002"
    assert (await victoria.decide(identifier, "deny")).status_code == 409
    assert victoria.place.deployments == ["--to production"]
    audit = victoria.place.audit
    assert [line["event"] for line in audit] == ["approval_requested", "approval_decided", "approval_used"]
    assert audit[1]["by"] == "ann@desk from 127.0.0.1"
    assert all((line["argv"], line["digest"]) == (ARGV, approval["digest"]) for line in audit)


async def test_a_denied_command_ends_its_run(victoria: Victoria):
    """The model gets no turn to talk around it."""
    approval = await victoria.waiting()
    calls = victoria.calls
    assert (await victoria.decide(approval["approval_id"], "deny")).json()["status"] == "failed"
    document = await victoria.until(approval["task_id"], "failed")
    assert document["error_code"] == "APPROVAL_002"
    assert "ann@desk" in document["error"]
    assert (victoria.place.deployments, victoria.calls) == ([], calls)


async def test_another_program_file_is_asked_for_again(victoria: Victoria):
    """An approval holds for the content of the file; the next one has another id, and the first is spent."""
    first = await victoria.waiting()
    victoria.place.write_program("deployed and more")
    await victoria.decide(first["approval_id"])
    second = (await victoria.until(first["task_id"], "needs_approval", "completed"))["approval"]
    assert victoria.place.deployments == []
    assert second["argv"] == ARGV
    assert second["digest"] != first["digest"]
    assert "not the one that was approved" in second["why"]
    assert (await victoria.decide(first["approval_id"])).status_code == 409
    assert (await victoria.decide(second["task_id"])).status_code == 409
    await victoria.decide(second["approval_id"])
    await victoria.until(first["task_id"], "completed")
    assert victoria.place.deployments == ["--to production"]


async def test_a_cancelled_run_cannot_be_approved(victoria: Victoria):
    """It waits for nobody any more."""
    approval = await victoria.waiting()
    assert (await victoria.client.post(f"/run/cancel/{approval['task_id']}")).json()["cancelled"] is True
    assert (await victoria.client.get("/approvals")).json() == {"approvals": []}
    assert (await victoria.decide(approval["approval_id"])).status_code == 409
    assert (await victoria.decide("no-such-run.1")).status_code == 404
    assert (await victoria.decide(approval["approval_id"], "perhaps")).status_code == 422
    assert victoria.place.deployments == []


async def test_listeners_and_waiting_clients_are_told(victoria: Victoria):
    """A client that waits gets 202 with the command; events go on behind the decision to the end."""
    reply = await victoria.client.post("/run", json={**BODY, "async_mode": False})
    document = reply.json()
    assert (reply.status_code, document["status"]) == (202, "needs_approval")
    kinds = []
    async with victoria.client.stream("GET", f"/run/events/{document['task_id']}") as stream:
        async for line in stream.aiter_lines():
            if line.startswith("event: "):
                kinds.append(line.removeprefix("event: "))
                if kinds[-1] == "needs_approval":
                    await victoria.decide(document["approval"]["approval_id"])
    assert kinds[-1] == "end"
    assert kinds.index("needs_approval") < kinds.index("observation") < kinds.index("end")


async def test_an_approval_expires(tmp_path: Path):
    """After `agent.approval_s` the run has failed, and nobody can approve it."""
    async with running(tmp_path / "home", approval_s=0.3) as victoria:
        approval = await victoria.waiting()
        async with asyncio.timeout(20):
            while (await victoria.client.get("/approvals")).json()["approvals"]:
                await asyncio.sleep(0.05)
        assert (await victoria.decide(approval["approval_id"])).status_code == 409
        assert (await victoria.status(approval["task_id"]))["error_code"] == "APPROVAL_002"
        assert victoria.place.audit[-1]["event"] == "approval_expired"
        assert victoria.place.deployments == []


async def test_a_server_with_a_token_takes_no_decision_without_it(tmp_path: Path):
    """Neither the list nor a decision."""
    async with running(tmp_path / "home", token="s3cret") as victoria:
        approval = await victoria.waiting()
        async with httpx.AsyncClient(base_url=victoria.server.url) as stranger:
            path = f"/run/approve/{approval['approval_id']}"
            assert (await stranger.post(path, json={"decision": "approve"})).status_code == 401
            assert (await stranger.get("/approvals")).status_code == 401
        refused = await victoria.opskit("approve", approval["approval_id"])
        assert refused.status == 1
        assert "api_key" in refused.err
        assert victoria.place.deployments == []


async def test_the_commands_speak_with_victoria(victoria: Victoria):
    """A run through her exits with 3 and is answered nowhere else; `approve` shows the answer."""
    stopped = await victoria.opskit("run", GOAL, "--async", "--method", "react")
    assert stopped.status == 0
    task_id = stopped.out.strip()
    followed = await victoria.opskit("run", "--follow", task_id, "--json")
    assert followed.status == 3
    document = followed.document
    assert (document["status"], document["error"]["code"]) == ("needs_approval", "APPROVAL_001")
    approval_id = document["approval"]["approval_id"]
    listed = await victoria.opskit("approvals")
    assert approval_id in listed.out
    assert "deployer --to production" in listed.out
    approved = await victoria.opskit("approve", approval_id)
    assert (approved.status, approved.out) == (0, "The release is deployed.\n")
    again = await victoria.opskit("approve", approval_id)
    assert again.status == 1
    assert "APPROVAL_002" in again.err
    assert victoria.place.deployments == ["--to production"]
    assert "@" in victoria.place.audit[1]["by"]


async def test_an_asynchronous_run_survives_a_restart(victoria: Victoria):
    """`run --async` prints the id alone; the answer is there after a crash of the server."""
    queued = await victoria.opskit("run", "What is 6 times 7?", "--async", "--json")
    receipt = queued.document
    assert (queued.status, receipt["status"]) == (0, "queued")
    assert receipt["status_url"] == f"/run/status/{receipt['task_id']}"
    victoria.server.kill()
    await asyncio.to_thread(victoria.server.start)
    followed = await victoria.opskit("run", "--follow", receipt["task_id"], "--json")
    # What ran in the moment of the crash is told as interrupted; what had not begun is answered.
    assert followed.status in (0, 1)
    if followed.status == 0:
        assert followed.document["output"] == "42"
    else:
        assert "server ended" in followed.document["error"]["message"]


async def test_a_run_of_this_process_goes_on_in_another(tmp_path: Path):
    """Without a terminal it exits with 3 and is kept; `approve` runs the command and prints the answer."""
    place = Workplace(tmp_path / "home")
    async with Stage(reply=scripted) as stage:

        async def ran(*arguments: str) -> Result:
            return await asyncio.to_thread(opskit, *arguments, home=place.home, env=place.environment(stage))

        goal = ("run", GOAL, "--local", "--method", "react", "--json")
        first, second = (await ran(*goal)).document, await ran(*goal)
        assert second.status == 3
        assert first["status"] == "needs_approval"
        assert first["approval"]["argv"] == ARGV
        listed = (await ran("approvals", "--json")).document["approvals"]
        identifiers = [each["approval_id"] for each in listed]
        assert identifiers == [first["approval"]["approval_id"], second.document["approval"]["approval_id"]]
        denied = await ran("approve", identifiers[0], "--deny")
        assert denied.status == 0
        assert place.deployments == []
        approved = await ran("approve", identifiers[1], "--json")
        assert approved.status == 0
        assert approved.document["output"] == "The release is deployed."
        assert approved.document["correlation_id"] == second.document["correlation_id"]
        assert (await ran("approve", identifiers[1])).status == 1
        assert place.deployments == ["--to production"]
