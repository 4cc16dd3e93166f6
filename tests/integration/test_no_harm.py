"""No command that looks at a model server changes how it serves others (a simulated Ollama)."""

import asyncio
import contextlib
import signal
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from pathlib import Path

import httpx
import pytest

from opskit.checks.node_probe import probe_node
from opskit.checks.probe_record import ProbeOptions
from opskit.config.schema import Config, NodeConfig, ProbeConfig
from opskit.facts.survey import Survey
from opskit.llm.one_token import one_token
from opskit.providers.base import ChatRequest, Message, Resident, Token
from opskit.providers.http import HttpClient
from opskit.providers.ollama import Ollama
from opskit.records import replace
from opskit.result import Finding
from opskit.sandbox.faults import parse_fault
from opskit.sandbox.ollama import SimModel
from opskit.sandbox.stage import Stage
from tests.parts.command import Result, opskit, started
from tests.parts.raw_server import reply_json, serving

MODEL = SimModel("phi3.5:3.8b", resident=True)
PROBES = 200
#: Wide enough that a client which closes at the first token is always noticed.
WINDOW = "ollama=close-before-done,seconds=0.05"
LIST = """checks:
  - {name: ladder, kind: node_ladder, with: {node: ollama}}
  - {name: answers, kind: model, with: {node: ollama, model: "phi3.5:3.8b"}}
"""


@contextlib.asynccontextmanager
async def staged(*faults: str, models: tuple[SimModel, ...] = (MODEL,)) -> AsyncIterator[Stage]:
    async with Stage([parse_fault(fault) for fault in faults], ollama_models=models) as stage:
        yield stage


async def run(stage: Stage, tmp_path: Path, *arguments: str) -> Result:
    urls = {name: url if "OLLAMA" in name else "" for name, url in stage.environment().items()}
    return await asyncio.to_thread(opskit, *arguments, home=tmp_path, env=urls)


async def answers(stage: Stage) -> bool:
    """Whether another client still gets an answer of the model."""
    async with httpx.AsyncClient(base_url=stage.ollama.url, timeout=30, trust_env=False) as client:
        body = {"model": MODEL.name, "messages": [{"role": "user", "content": "hello"}], "stream": False}
        try:
            return (await client.post("/api/chat", json=body)).json()["done"] is True
        except httpx.TimeoutException:
            return False


async def test_a_client_that_leaves_before_the_end_blocks_the_model_until_it_is_unloaded():
    """The fault is real: the lists stay green, every later request hangs, an unload heals it."""
    async with (
        staged(WINDOW) as stage,
        httpx.AsyncClient(base_url=stage.ollama.url, timeout=1, trust_env=False) as client,
    ):
        body = {"model": MODEL.name, "messages": [{"role": "user", "content": "hello"}]}
        async with client.stream("POST", "/api/chat", json=body | {"options": {"num_predict": 1}}) as reply:
            await anext(reply.aiter_lines())
        while not stage.ollama.memory.listed()[0][0].blocked:
            await asyncio.sleep(0.01)
        assert (await client.get("/api/ps")).json()["models"][0]["name"] == MODEL.name
        with pytest.raises(httpx.TimeoutException):
            await client.post("/api/chat", json=body | {"stream": False})
        await client.post("/api/generate", json={"model": MODEL.name, "keep_alive": 0})
        assert await answers(stage)


async def test_two_hundred_probes_leave_the_model_serving(tmp_path: Path):
    """Each probe reads its one token to the end of the answer."""
    async with staged(WINDOW + ",times=1000") as stage:
        for _ in range(PROBES):
            finding = await probed(stage, tmp_path)
            assert finding.state == "ok", finding
        assert await answers(stage)


@pytest.mark.parametrize(
    "arguments",
    [
        ("probe",),
        ("probe", "--goal", "Say something about the sea"),
        ("probe", "--model", MODEL.name),
        ("doctor",),
        ("doctor", "--deep"),
        ("diagnose", "models", "--ask"),
        ("recover",),
        ("recover", "--dry-run"),
        ("verify", "list.yaml"),
        ("verify", "smoke"),
        ("watch", "--count", "3", "--every", "500ms", "--json"),
        ("models", "list"),
        ("models", "loaded"),
        ("models", "test"),
        ("models", "test", MODEL.name),
        ("models", "route"),
        ("run", "--local", "Say something about the sea"),
        ("run", "--local", "--stream", "Say something about the sea"),
    ],
    ids=" ".join,
)
async def test_no_command_blocks_a_model(tmp_path: Path, arguments: tuple[str, ...]):
    """Whatever a command asks, it leaves no stream between the last token and the end."""
    (tmp_path / "list.yaml").write_text(LIST)
    async with staged(WINDOW) as stage:
        for _ in range(3):
            result = await run(stage, tmp_path, *arguments)
            assert result.status != 70, result
        assert await answers(stage), result


@pytest.mark.parametrize(
    "arguments",
    [
        ("probe",),
        ("doctor",),
        ("recover",),
        ("verify", "list.yaml"),
        ("models", "test"),
        ("watch", "--count", "2"),
    ],
    ids=" ".join,
)
async def test_no_probe_says_how_long_a_model_stays(tmp_path: Path, arguments: tuple[str, ...]):
    """What a request says of `keep_alive` holds for all later requests of everybody: a probe says nothing."""
    (tmp_path / "list.yaml").write_text(LIST)
    async with staged() as stage:
        await run(stage, tmp_path, *arguments)
        [(runner, _)] = stage.ollama.memory.listed()
        assert runner.stay_s == stage.ollama.memory.keep_alive_s
        assert not [request for request in stage.ollama.requests if "keep_alive" in (request.body or {})]


async def test_an_interrupted_answer_leaves_the_model_serving(tmp_path: Path):
    """Ctrl-C in the middle of a streamed answer, and near its end, is not the end of the model."""
    async with staged(WINDOW) as stage:
        stage.ollama._token_s = 0.03
        urls = {name: url if "OLLAMA" in name else "" for name, url in stage.environment().items()}
        for _ in range(3):
            asked = len(stage.ollama.requests)
            program = started(("run", "--local", "--stream", "Say something long"), home=tmp_path, env=urls)
            while not any(request.path == "/api/chat" for request in stage.ollama.requests[asked:]):
                await asyncio.sleep(0.01)
            await asyncio.sleep(0.1)
            program.send_signal(signal.SIGINT)
            await asyncio.to_thread(program.communicate, timeout=20)
        stage.ollama._token_s = 0.0
        assert await answers(stage)


@pytest.mark.parametrize(("seen", "limit"), [(1, 1), (1, 2), (2, 3), (3, 8)])
async def test_a_stream_that_is_left_near_its_limit_is_read_to_its_end(seen: int, limit: int):
    """The last tokens are read on, whoever has heard enough."""
    async with staged(WINDOW) as stage:
        http = HttpClient(stage.ollama.url)
        provider = Ollama(http)
        stream = provider.stream(
            ChatRequest((Message("user", "Say something long"),), MODEL.name, max_tokens=limit)
        )
        for _ in range(seen):
            assert isinstance(await anext(stream), Token)
        await stream.aclose()
        await http.aclose()
        assert await answers(stage)


async def test_a_stream_that_is_left_in_its_middle_ends_at_once():
    """One more token is waited for, not the whole answer."""
    async with staged() as stage:
        stage.ollama._token_s = 0.02
        http = HttpClient(stage.ollama.url)
        stream = Ollama(http).stream(ChatRequest((Message("user", "hi"),), MODEL.name, max_tokens=4096))
        await anext(stream)
        async with asyncio.timeout(3):
            await stream.aclose()
        await http.aclose()
        assert await answers(stage)


def here(seconds: float = 300.0) -> Resident:
    return Resident(MODEL.name, expires_at=datetime.now(UTC) + timedelta(seconds=seconds))


@pytest.mark.parametrize(
    ("left_s", "users", "state", "status", "asked"),
    [
        (5.0, 0, "ok", "skip", False),
        (9.0, 0, "ok", "skip", False),
        (30.0, 0, "ok", "pass", True),
        (1e9, 0, "ok", "pass", True),
        (-5.0, 1, "busy", "skip", False),
    ],
)
async def test_a_model_that_goes_soon_or_is_overdue_is_not_asked(
    tmp_path: Path, left_s: float, users: int, state: str, status: str, asked: bool
):
    """Less than 10 s left, or a request in flight past the expiry: no token is asked for."""
    async with staged() as stage:
        [(runner, _)] = stage.ollama.memory.listed()
        runner.expires, runner.users = stage.ollama.memory._clock() + left_s, users
        finding = await probed(stage, tmp_path)
        paths = [request.path for request in stage.ollama.requests]
    assert (finding.state, finding.status.value) == (state, status), finding
    assert ("/api/chat" in paths) is asked


@pytest.mark.parametrize(("ahead_s", "left_s"), [(-3600, 300), (3600, 300), (0, 300), (-3600, -50)])
async def test_an_expiry_is_read_by_the_clock_of_the_server(ahead_s: int, left_s: int):
    """A server whose clock is wrong is judged by the time that it tells in the same reply."""
    now = datetime.now(UTC) + timedelta(seconds=ahead_s)
    entry = {"name": "m", "expires_at": (now + timedelta(seconds=left_s)).isoformat()}
    reply = reply_json({"models": [entry]}, Date=format_datetime(now, usegmt=True))
    async with serving() as server:
        server.replies["/api/ps"] = reply
        http = HttpClient(server.url)
        [resident] = await Ollama(http).resident() or ()
        await http.aclose()
    assert resident.expires_at is not None
    assert abs((resident.expires_at - datetime.now(UTC)).total_seconds() - left_s) < 5


async def test_a_probe_that_turns_into_a_load_is_waited_for(tmp_path: Path):
    """The runner had died: the probe waits for the load that it caused, says so, and aborts nothing."""
    async with staged(models=(replace(MODEL, load_s=2.5),)) as stage:
        stage.ollama.memory.listed()[0][0].dead = True
        finding = await probed(stage, tmp_path, first_token_s=0.5)
        assert stage.ollama.memory.loads == [MODEL.name]
        assert stage.ollama.memory.aborted_loads == []
    assert finding.state == "slow", finding
    assert "not listed as loaded any more" in finding.detail


async def test_a_list_that_is_silent_while_the_server_lives_is_waited_for(tmp_path: Path):
    """While /api/ps hangs and /api/version answers, a runner is being replaced or loaded: nobody leaves."""
    async with staged("ollama=slow-token,seconds=4", "ollama=ps-blocks") as stage:
        http = HttpClient(stage.ollama.url, metadata_s=0.5)
        got = await one_token(Ollama(http), here(), limit_s=0.5, load_s=20)
        await http.aclose()
    assert got.ended
    assert "silent" in got.loading


async def test_a_server_that_does_not_load_is_left_at_the_limit():
    """Without evidence of a load nobody waits longer than the limit."""
    async with staged("ollama=slow-token,seconds=60") as stage:
        http = HttpClient(stage.ollama.url)
        async with asyncio.timeout(30):
            got = await one_token(Ollama(http), here(), limit_s=0.5, load_s=60)
        await http.aclose()
    assert (got.first_s, got.ended, got.loading) == (None, False, "")


async def probed(stage: Stage, tmp_path: Path, first_token_s: float = 15.0) -> Finding:
    node = NodeConfig("ollama", stage.ollama.url, "ollama")
    config = Config(str(tmp_path), (node,), (), probe=ProbeConfig(first_token_s=first_token_s))
    async with Survey(config, {}, state_folder=tmp_path, cwd=tmp_path) as survey:
        return (await probe_node(survey, node, ProbeOptions())).finding()
