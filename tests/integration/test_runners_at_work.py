"""One real runner, behind an Ollama whose API is simulated: what commands tell of it, and do for it."""

import asyncio
import os
import signal
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path

import httpx
import pytest

from opskit.checks.model_rows import read_loaded
from opskit.checks.node_probe import probe_node
from opskit.checks.probe_record import ProbeOptions
from opskit.checks.request_watch import RequestWatch
from opskit.checks.runner_assessment import RunnerState
from opskit.config.load import LoadedConfig
from opskit.config.schema import Config, NodeConfig
from opskit.doctor.areas.nodes import causes
from opskit.doctor.evidence import Evidence
from opskit.doctor.target import ExaminationTarget
from opskit.facts.node import read_metadata
from opskit.facts.survey import Survey
from opskit.records import replace
from opskit.recovery.audit import last
from opskit.recovery.outcome import RepairResult
from opskit.recovery.steps.servers import nodes
from opskit.result import Status
from tests.parts.healing import Healing, configured, machine, outcome
from tests.parts.ollama_process import MODEL, OllamaProcess, ollama_process


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory, gguf_model: Path) -> Iterator[OllamaProcess]:
    """An Ollama with one loaded model, which a test leaves as it was."""
    with ollama_process(tmp_path_factory.mktemp("ollama")) as process:
        process.start_runner(gguf_model)
        yield process


@asynccontextmanager
async def surveying(server: OllamaProcess, folder: Path) -> AsyncIterator[tuple[Survey, NodeConfig]]:
    node = NodeConfig("ollama", server.url, "ollama")
    async with Survey(Config(str(folder), (node,), ()), {}, state_folder=folder, cwd=folder) as survey:
        yield survey, node


@contextmanager
def stopped(server: OllamaProcess) -> Iterator[int]:
    assert server.runner is not None
    os.kill(server.runner, signal.SIGSTOP)
    try:
        yield server.runner
    finally:
        os.kill(server.runner, signal.SIGCONT)


def recovering(server: OllamaProcess, folder: Path) -> Healing:
    node = NodeConfig("ollama", server.url, "ollama", explicit=True)
    config = replace(configured(folder / "home", {}), nodes=(node,), agents=())
    config = replace(config, probe=replace(config.probe, first_token_s=10.0))
    return Healing(folder / "state", config, machine(folder / "home"))


@asynccontextmanager
async def generating(server: OllamaProcess) -> AsyncIterator[None]:
    """Somebody's long answer, which has begun."""
    body = {"prompt": "Once upon a time", "n_predict": 1500, "ignore_eos": True, "stream": True}
    async with (
        httpx.AsyncClient(trust_env=False, timeout=60.0) as client,
        client.stream("POST", f"http://127.0.0.1:{server.port}/completion", json=body) as response,
    ):
        # A generator that nobody holds would close the stream.
        pieces = response.aiter_bytes()
        await anext(pieces)
        yield


async def test_what_a_loaded_model_works_on_is_shown(server: OllamaProcess, tmp_path: Path) -> None:
    """Idle, then generating, with the tokens so far; nothing is asked of the model for it."""
    async with surveying(server, tmp_path) as (survey, node):
        (idle,), _ = await read_loaded(survey, [await read_metadata(survey.node(node))])
        async with generating(server):
            (works,), report = await read_loaded(survey, [await read_metadata(survey.node(node))])
    assert idle.runner is not None
    assert works.runner is not None
    assert (idle.runner.state, works.runner.state) == (RunnerState.IDLE, RunnerState.GENERATING)
    assert works.runner.tokens > 0
    assert report.status is Status.PASS


async def test_a_stopped_model_is_shown_with_what_wakes_it(server: OllamaProcess, tmp_path: Path) -> None:
    """The list of loaded models would show it for ever."""
    async with surveying(server, tmp_path) as (survey, node):
        with stopped(server) as pid:
            (row,), report = await read_loaded(survey, [await read_metadata(survey.node(node))])
    assert row.runner is not None
    assert row.runner.state is RunnerState.STOPPED
    assert f"`kill -CONT {pid}` lets it go on" in {finding.remedy for finding in report.findings}


async def test_a_request_that_waits_is_told_from_the_process_behind_it(
    server: OllamaProcess, tmp_path: Path
) -> None:
    """At work, with its rate; stopped, with its remedy; idle although somebody waits."""
    async with surveying(server, tmp_path) as (survey, node):
        watch = RequestWatch(survey, survey.node(node), MODEL)
        async with generating(server):
            first = await watch.look()
            await asyncio.sleep(0.3)
            working = await watch.look()
        with stopped(server) as pid:
            halted = await watch.look()
    assert first is not None
    assert working is not None
    assert halted is not None
    assert (first.state, working.state, halted.state) == ("busy", "busy", "wedged")
    assert "tokens/s" in working.rate
    assert halted.remedy == f"`kill -CONT {pid}` lets it go on"


async def test_recovery_lets_a_stopped_process_of_a_model_go_on(
    server: OllamaProcess, tmp_path: Path
) -> None:
    """Nothing is restarted; what was done stands in the audit, with the requests that it held up."""
    healing = recovering(server, tmp_path)
    with stopped(server) as pid:
        run = await healing.run(nodes)
    seen = outcome(run, "ollama")
    assert seen.result is RepairResult.REPAIRED, seen
    assert [done.command.argv for done in seen.ran] == [("kill", "-CONT", str(pid))]
    assert "is stopped" in seen.cause
    begun = next(line for line in last(healing.folder, 10) if line["event"] == "repair_begins")
    assert "connections" in begun["evidence"]["requests"]


@pytest.fixture(scope="module")
def hanging(tmp_path_factory: pytest.TempPathFactory, gguf_model: Path) -> Iterator[OllamaProcess]:
    """An Ollama that keeps every request from the process of its model."""
    folder = tmp_path_factory.mktemp("hanging")
    with ollama_process(folder, "ollama=slow-token,seconds=600") as process:
        process.start_runner(gguf_model)
        yield process


async def test_a_scheduler_that_hangs_is_a_cause_of_its_own(hanging: OllamaProcess, tmp_path: Path) -> None:
    """Its remedy unloads the model, and restarts the server only if that hangs too."""
    node = NodeConfig("ollama", hanging.url, "ollama")
    config = recovering(hanging, tmp_path).config
    async with Survey(config, {}, state_folder=tmp_path, cwd=tmp_path) as survey:
        probe = await probe_node(survey, node, ProbeOptions())
    target = ExaminationTarget(loaded=LoadedConfig(config, {}), environ={}, cwd=tmp_path, platform="linux")
    (cause,) = causes(Evidence(target=target, nodes=(probe,)))
    assert cause.key == "scheduler-hangs:ollama"
    assert cause.remedy.index("ollama stop") < cause.remedy.index("restart")


async def test_a_model_is_unloaded_before_a_server_that_hangs_is_restarted(
    hanging: OllamaProcess, tmp_path: Path
) -> None:
    """Where that was done a moment ago and did not help, the server itself is next."""
    healing = recovering(hanging, tmp_path)
    first = outcome(await healing.run(nodes, dry=True), "ollama")
    healing.memory.marks["unload:ollama"] = healing.clock()
    second = outcome(await healing.run(nodes, dry=True), "ollama")
    assert (first.result, first.planned[0].argv[3:]) == (
        RepairResult.WOULD_REPAIR,
        ("opskit.recovery.unload", hanging.url, MODEL),
    )
    assert (second.result, f"kill {hanging.process.pid}" in (second.remedy or "")) == (
        RepairResult.MANUAL,
        True,
    )
