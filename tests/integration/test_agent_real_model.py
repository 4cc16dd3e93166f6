"""The agent on a real small model behind the real server of llama.cpp: honest ends, real tools."""

import contextlib
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from opskit.agent.method import METHODS
from opskit.agent.run_state import RunLimits
from opskit.agent.victoria import Victoria
from opskit.app import App
from opskit.config.schema import Config, NodeConfig, RouterConfig
from opskit.engine.goal import Goal, RunFailed
from tests.parts.command import Result, opskit
from tests.parts.real_llamacpp import RealLlamaCpp
from tests.parts.victoria_server import VictoriaServer


@pytest.fixture(scope="module")
def server(gguf_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[RealLlamaCpp]:
    options = ("--context", "4096", "--slots", "1", "--alias", "smollm2")
    with RealLlamaCpp.start(gguf_model, tmp_path_factory.mktemp("llama"), options=options) as running:
        yield running


def ran(server: RealLlamaCpp, home: Path, *arguments: str) -> Result:
    home.mkdir(exist_ok=True)
    config = home / "opskit.yaml"
    config.write_text(f"nodes: {{llama: {{url: '{server.url}', source: llamacpp}}}}\n")
    env = {"OLLAMA_API_URL": "", "MLX_API_URL": ""}
    return opskit(*arguments, "--config", str(config), home=home, env=env, timeout=240)


def test_a_fact_is_one_call(server: RealLlamaCpp, tmp_path: Path):
    """No stage that a simple question does not need."""
    result = ran(server, tmp_path, "trace", "In which year did World War II end?", "--local", "--json")
    calls = [span for span in result.document["spans"] if span["name"].startswith("chat ")]
    assert result.status == 0
    assert len(calls) == 1


def test_a_question_about_the_stack_is_answered_from_evidence(server: RealLlamaCpp, tmp_path: Path):
    """The first step is a tool of opskit, and the answer names what it showed, whoever put it into words."""
    goal = "Which models are loaded on the model servers?"
    result = ran(server, tmp_path, "run", goal, "--local", "--json", "--max-steps", "3")
    document = result.document
    assert result.status == 0
    assert document["method"] in ("react", "doctor")
    assert "smollm2" in document["output"]
    shown = ran(server, tmp_path, "trace", "show", document["correlation_id"], "--trajectory", "--json")
    lines = shown.document["lines"]
    assert lines[0]["kind"] == "goal"
    steps = [line for line in lines if line["kind"] == "step"]
    assert steps
    assert steps[0]["tool"] in ("check_stack", "list_models", "search_logs", "show_container")
    assert lines[-1]["kind"] == "end"


def test_the_live_chain_passes_against_our_own_server(server: RealLlamaCpp, tmp_path: Path):
    """Waited for and in the background; the goal is English, because this model loops in Russian."""
    home = tmp_path / "home"
    home.mkdir()
    config = home / "opskit.yaml"
    config.write_text(f"nodes: {{llama: {{url: '{server.url}', source: llamacpp}}}}\n")
    env = {"OLLAMA_API_URL": "", "MLX_API_URL": ""}
    with VictoriaServer(home, env, ["--config", str(config)]) as victoria:
        url = {"VICTORIA_URL": victoria.url}
        goal = "goal=Help with data analysis: name five steps."
        result = opskit("verify", "live_chain", "--var", goal, "--json", home=home, env=url, timeout=240)
    findings = result.document["findings"]
    assert [finding["status"] for finding in findings] == ["pass", "pass", "pass"]
    assert result.status == 0


def test_without_a_model_the_doctor_answers_and_says_so(tmp_path: Path):
    """Nothing listens: the question why is answered all the same."""
    result = opskit(
        "run", "Почему Ollama не отвечает?", "--local", "--json", home=tmp_path, env={"MLX_API_URL": ""}
    )
    document = result.document
    assert result.status == 0
    assert document["method"] == "doctor"
    assert "No model" in document["output"]
    assert "refuse" in document["output"]


def test_a_question_about_a_file_has_no_such_answer(tmp_path: Path):
    """What only a model could tell fails as any other goal."""
    result = opskit("run", "How many lines has notes.txt?", "--local", home=tmp_path)
    assert result.status == 1
    assert "MODEL_001" in result.err


@pytest.mark.parametrize("method", [name for name in METHODS if name not in ("simple", "react")])
async def test_every_method_ends_on_a_tiny_model(server: RealLlamaCpp, tmp_path: Path, method: str):
    """With an answer or with why there is none, soon after its time is over, on a server with one slot."""
    node = NodeConfig("llama", server.url, "llamacpp")
    router = RouterConfig(max_tokens=40)
    async with App(Config(str(tmp_path / "state"), (node,), (), router=router)) as app:
        app.engine.solver = Victoria(app, limits=RunLimits(steps=2, wall_s=8, step_tokens=60))
        began = time.monotonic()
        with contextlib.suppress(RunFailed):
            result = await app.engine.run(Goal("Name one fruit.", "local", method=method))
            assert result.output.strip()
            assert (result.method, result.model) == (method, "smollm2")
    assert time.monotonic() - began < 60
