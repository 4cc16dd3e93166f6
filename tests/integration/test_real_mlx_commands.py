"""The main job on real input: the commands against a real `mlx_lm.server`."""

import asyncio
import contextlib
import time
from pathlib import Path

import pytest

from opskit.config.schema import Budgets, CircuitConfig, NodeConfig, RouterConfig
from opskit.llm.answer import Answer, Ask, NoAnswer
from opskit.llm.router import Router
from opskit.providers.node import Node
from opskit.sandbox.ollama import SimModel, SimulatedOllama
from opskit.tags import TagLog
from tests.parts.command import opskit
from tests.parts.tiny_mlx import ANSWER


@pytest.fixture
def home(tmp_path: Path) -> Path:
    return tmp_path / "home"


def test_probe_climbs_to_a_token(real_mlx, home: Path) -> None:
    """`probe --use-mlx` proves a real server by a token and exits 0, with nothing else running."""
    result = opskit("probe", "--use-mlx", "--json", home=home, env={"MLX_API_URL": real_mlx.url})
    assert result.status == 0, result
    mlx = result.finding("mlx")
    assert (mlx["status"], mlx["state"]) == ("pass", "ok")
    rungs = [rung["rung"] for rung in mlx["evidence"]["ladder"]]
    assert rungs == ["tcp", "http", "models", "resident", "first token"]
    assert mlx["evidence"]["server"] == "mlx_lm.server"
    assert result.finding("chain")["status"] == "pass"


def test_probe_asks_for_a_whole_answer(real_mlx, home: Path) -> None:
    """`probe --goal` adds the direct test of the model."""
    result = opskit(
        "probe",
        "--use-mlx",
        "--goal",
        "Say something",
        "--json",
        home=home,
        env={"MLX_API_URL": real_mlx.url},
    )
    assert result.status == 0, result
    assert result.finding("mlx")["evidence"]["answer"] == ANSWER


def test_run_answers(real_mlx, home: Path) -> None:
    """`run` prints the model's answer to stdout and who gave it to stderr."""
    result = opskit("run", "What do you say?", home=home, env={"MLX_API_URL": real_mlx.url})
    assert result.status == 0, result
    assert result.out == ANSWER + "\n"
    assert "on mlx" in result.err


def test_run_streams(real_mlx, home: Path) -> None:
    """`run --stream` prints the same answer."""
    result = opskit("run", "What do you say?", "--stream", home=home, env={"MLX_API_URL": real_mlx.url})
    assert result.status == 0, result
    assert result.out == ANSWER + "\n"


def test_models_are_tested(real_mlx, home: Path, tmp_path: Path) -> None:
    """`models test` measures the resident model and writes a report."""
    report = tmp_path / "report.md"
    result = opskit(
        "models", "test", "--json", "--markdown", str(report), home=home, env={"MLX_API_URL": real_mlx.url}
    )
    assert result.status == 0, result
    tested = [f for f in result.document["findings"] if f["check"] == "model"]
    assert [f["status"] for f in tested] == ["pass"]
    assert "1 of 1 tested models work" in report.read_text()


def test_the_folder_of_its_model_is_no_second_model(own_real_mlx, mlx_model: Path, home: Path) -> None:
    """The default model and the folder that it was started with, by a link, are one, under one name."""
    link = mlx_model.with_name("link")
    link.symlink_to(mlx_model)
    env = {"MLX_API_URL": own_real_mlx(link).url, "OLLAMA_API_URL": ""}
    listed = opskit("models", "list", "--json", home=home, env=env)
    assert [model["name"] for model in listed.document["models"]] == [f"{mlx_model} (default)"]
    route = opskit("models", "route", "--json", home=home, env=env)
    assert [model["model"] for model in route.document["models"]] == ["default_model"]
    assert route.document["fallbacks"] == []
    asked = opskit("run", "What do you say?", "--model", str(mlx_model), home=home, env=env)
    assert (asked.status, asked.out) == (0, ANSWER + "\n")
    tested = opskit("models", "test", "--all", "--yes", "--json", home=home, env=env)
    assert [model["model"] for model in tested.document["models"]] == ["default_model"]
    assert "replace" not in tested.err


def test_an_unknown_name_never_reaches_the_server(real_mlx, home: Path) -> None:
    """A name that the server does not list is refused here, not sent there."""
    before = real_mlx.log_text()
    result = opskit(
        "run",
        "hello",
        "--model",
        "mlx-community/nobody-has-this",
        home=home,
        env={"MLX_API_URL": real_mlx.url},
    )
    assert result.status == 1
    assert "MODEL_001" in result.err
    assert "POST" not in real_mlx.log_text()[len(before) :]


def test_a_frozen_server_is_wedged(own_real_mlx, home: Path, tmp_path: Path) -> None:
    """A server stopped by SIGSTOP is called wedged, with the process and the command that wakes it."""
    server = own_real_mlx()
    config = tmp_path / "o.yaml"
    config.write_text("probe: {http_s: 1, first_token_s: 1}\n")
    server.freeze()
    result = opskit(
        "probe", "--use-mlx", "--json", "--config", str(config), home=home, env={"MLX_API_URL": server.url}
    )
    server.thaw()
    assert result.status == 1
    mlx = result.finding("mlx")
    assert (mlx["status"], mlx["state"]) == ("fail", "wedged")
    assert str(server.pid) in mlx["detail"]
    assert mlx["remedy"].startswith(f"`kill -CONT {server.pid}`")


def test_a_dead_worker_is_wedged(own_real_mlx, home: Path) -> None:
    """A server whose generation thread has died while its port answers is called wedged."""
    server = own_real_mlx()
    server.break_worker()
    result = opskit("probe", "--use-mlx", "--json", home=home, env={"MLX_API_URL": server.url})
    assert result.status == 1
    assert result.finding("mlx")["state"] == "wedged"


def _router(stack: contextlib.AsyncExitStack, mlx_url: str, ollama_url: str, budgets: Budgets) -> Router:
    nodes = [
        Node(NodeConfig("mlx", mlx_url, "mlx"), budgets),
        Node(NodeConfig("ollama", ollama_url, "ollama"), budgets),
    ]
    for node in nodes:
        stack.push_async_callback(node.aclose)
    router = Router(nodes, router=RouterConfig(), budgets=budgets, circuit=CircuitConfig(), log=TagLog())
    stack.push_async_callback(router.aclose)
    return router


SPARE = "The spare has an answer of its own, which is long enough and says nothing of the question."


def _spare() -> SimulatedOllama:
    return SimulatedOllama(models=[SimModel("spare:3b", resident=True)], reply=lambda _m, _n: SPARE)


async def test_killed_in_the_middle_the_other_node_answers(own_real_mlx, endless_mlx_model) -> None:
    """kill -9 in the middle of an answer: the other node answers, the attempt is recorded as truncated."""
    server = own_real_mlx(endless_mlx_model)
    async with contextlib.AsyncExitStack() as stack:
        spare = await stack.enter_async_context(_spare())
        router = _router(stack, server.url, spare.url, Budgets())
        await router.catalog.snapshot(wait_for_all=True)
        ask = Ask.of("Say all you know, repeat 10000 times", max_tokens=1_000_000)
        before = _posts(server)
        asked = asyncio.create_task(router.chat(ask))
        await _answering(server, before)
        server.kill()
        answer = await asyncio.wait_for(asked, 20)
    assert answer.text == SPARE
    assert [attempt.fault for attempt in answer.attempts] == ["truncated", None]


async def test_killed_in_a_stream_that_was_shown_is_an_error(own_real_mlx, endless_mlx_model) -> None:
    """kill -9 after text was shown: the stream ends with an error, never cleanly."""
    server = own_real_mlx(endless_mlx_model)
    async with contextlib.AsyncExitStack() as stack:
        spare = await stack.enter_async_context(_spare())
        router = _router(stack, server.url, spare.url, Budgets())
        await router.catalog.snapshot(wait_for_all=True)
        shown = ""
        with pytest.raises(NoAnswer) as refused:
            async for piece in router.stream(Ask.of("Say all, repeat 10000 times", max_tokens=1_000_000)):
                assert not isinstance(piece, Answer)
                shown += piece
                if len(shown) > 100 and server.alive:
                    server.kill()
    assert refused.value.partial == shown
    assert refused.value.code == "MODEL_004"


async def test_frozen_in_a_request_the_other_node_answers(own_real_mlx) -> None:
    """A server frozen before the request costs its budget once, then nothing while its circuit is open."""
    server = own_real_mlx()
    async with contextlib.AsyncExitStack() as stack:
        spare = await stack.enter_async_context(_spare())
        budgets = Budgets(first_token_s=1.0, metadata_s=0.5)
        router = _router(stack, server.url, spare.url, budgets)
        await router.catalog.snapshot(wait_for_all=True)
        server.freeze()
        first = await router.chat(Ask.of("Tell me of the weather"))
        began = time.monotonic()
        second = await router.chat(Ask.of("Tell me of the weather"))
        took = time.monotonic() - began
        server.thaw()
    assert first.text == second.text == SPARE
    assert first.attempts[0].fault in ("first_token_timeout", "wedged")
    assert [attempt.node for attempt in second.attempts] == ["ollama"]
    assert took < 1.0


def _posts(server) -> int:
    return server.log_text().count("POST /v1/chat/completions")


async def _answering(server, before: int) -> None:
    """The server has logged one more request: tokens are on their way."""
    async with asyncio.timeout(20):
        while _posts(server) == before:
            await asyncio.sleep(0.02)
