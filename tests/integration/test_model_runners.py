"""What the process behind a model shows: a real runner, behind an Ollama whose API is simulated."""

import asyncio
import os
import signal
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import httpx

from opskit.checks.model_rows import read_loaded
from opskit.checks.node_probe import probe_node
from opskit.checks.probe_record import NodeProbe, ProbeOptions
from opskit.checks.runner_assessment import RunnerState
from opskit.checks.state import NodeState
from opskit.config.schema import Config, NodeConfig
from opskit.facts.node import read_metadata
from opskit.facts.runner import RunnerHealth, read_orphaned_runners, read_runners
from opskit.facts.survey import Survey
from opskit.sandbox.ollama import SimModel
from tests.parts.ollama_process import MODEL, OllamaProcess, ollama_process


@asynccontextmanager
async def surveying(server: OllamaProcess, folder: Path) -> AsyncIterator[tuple[Survey, NodeConfig]]:
    node = NodeConfig("ollama", server.url, "ollama")
    config = Config(str(folder), (node,), ())
    async with Survey(config, {}, state_folder=folder, cwd=folder) as survey:
        yield survey, node


async def probed(server: OllamaProcess, folder: Path) -> NodeProbe:
    async with surveying(server, folder) as (survey, node):
        return await probe_node(survey, node, ProbeOptions())


async def test_an_idle_runner_leaves_the_word_to_a_token(tmp_path: Path, gguf_model: Path) -> None:
    """The runner is found by its parent and its arguments, and its slot is free."""
    with ollama_process(tmp_path) as server:
        server.start_runner(gguf_model)
        async with surveying(server, tmp_path) as (survey, node):
            runners = await read_runners(survey, node)
            probe = await probe_node(survey, node, ProbeOptions())
    (runner,) = runners.runners
    assert runner.process.pid == server.runner
    assert (runner.health, [slot.busy for slot in runner.slots or ()]) == (RunnerHealth.OK, [False])
    assert (probe.state, probe.model) == (NodeState.OK, MODEL)


async def test_a_runner_that_generates_is_busy_at_once(tmp_path: Path, gguf_model: Path) -> None:
    """No token is asked for, and it is told what the model works on."""
    with ollama_process(tmp_path) as server:
        server.start_runner(gguf_model)
        url = f"http://127.0.0.1:{server.port}/completion"
        body = {"prompt": "Once upon a time", "n_predict": 1500, "ignore_eos": True, "stream": True}
        async with (
            httpx.AsyncClient(trust_env=False, timeout=60.0) as client,
            client.stream("POST", url, json=body) as response,
        ):
            pieces = response.aiter_bytes()
            await anext(pieces)
            began = time.monotonic()
            probe = await probed(server, tmp_path)
            took_s = time.monotonic() - began
    assert probe.state is NodeState.BUSY
    assert "it generates (" in probe.detail
    assert probe.first_token_s is None
    assert took_s < 10


async def test_a_stopped_runner_is_named_and_woken(tmp_path: Path, gguf_model: Path) -> None:
    """The server itself runs; the remedy is for the process that does not."""
    with ollama_process(tmp_path) as server:
        server.start_runner(gguf_model)
        assert server.runner is not None
        os.kill(server.runner, signal.SIGSTOP)
        probe = await probed(server, tmp_path)
    assert probe.state is NodeState.WEDGED
    assert f"process {server.runner}" in probe.detail
    assert probe.remedy == f"`kill -CONT {server.runner}` lets it go on"


async def test_a_load_that_stands_still_is_not_nothing(tmp_path: Path, gguf_model: Path) -> None:
    """A model that is being loaded is not listed: its process shows that, and that it is stopped."""
    with ollama_process(tmp_path, models=(SimModel(MODEL),)) as server:
        server.start_runner(gguf_model)
        assert server.runner is not None
        os.kill(server.runner, signal.SIGSTOP)
        probe = await probed(server, tmp_path)
        async with surveying(server, tmp_path) as (survey, node):
            rows, report = await read_loaded(survey, [await read_metadata(survey.node(node))])
    assert (probe.state, probe.remedy) == (NodeState.WEDGED, f"`kill -CONT {server.runner}` lets it go on")
    assert [row.runner.state for row in rows if row.runner is not None] == [RunnerState.STOPPED]
    assert f"kill -CONT {server.runner}" in str(report.as_json())


async def test_a_runner_that_died_is_not_loaded_again_by_a_probe(tmp_path: Path, gguf_model: Path) -> None:
    """Ollama still lists the model; a question would load it."""
    with ollama_process(tmp_path) as server:
        server.start_runner(gguf_model)
        server.end_runner()
        probe = await probed(server, tmp_path)
    assert probe.state is NodeState.IDLE
    assert "is gone" in probe.detail


async def test_a_request_that_hangs_beside_an_idle_runner_is_the_scheduler(
    tmp_path: Path, gguf_model: Path
) -> None:
    """It is told long before the time that a first token may take, with how to free the model."""
    with ollama_process(tmp_path, "ollama=slow-token,seconds=600") as server:
        server.start_runner(gguf_model)
        began = time.monotonic()
        probe = await probed(server, tmp_path)
        took_s = time.monotonic() - began
    assert probe.state is NodeState.WEDGED
    assert "the scheduler" in probe.detail
    assert f"ollama stop {MODEL}" in (probe.remedy or "")
    assert took_s < 12


async def test_a_runner_whose_server_has_ended_is_an_orphan(tmp_path: Path, gguf_model: Path) -> None:
    """It holds its memory for nobody; only a blob of a store tells whose it was."""
    blob = tmp_path / ("sha256-" + "0" * 64)
    blob.symlink_to(gguf_model)
    with ollama_process(tmp_path) as server:
        server.start_runner(blob)
        server.process.kill()
        server.process.wait()
        async with surveying(server, tmp_path) as (survey, _), asyncio.timeout(10):
            while server.runner not in {orphan.pid for orphan in await read_orphaned_runners(survey)}:
                await asyncio.sleep(0.05)
