"""A model, a request or an answer is at fault and the server is well: what each command says of it."""

import asyncio
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import pytest

from opskit.config.schema import Budgets, CircuitConfig, NodeConfig, RouterConfig, Source
from opskit.llm.answer import Ask, NoAnswer, Session
from opskit.llm.plan import ModelRequest
from opskit.llm.router import Router
from opskit.providers.base import DEFAULT_MODEL
from opskit.providers.node import Node
from opskit.sandbox.faults import parse_fault
from opskit.sandbox.ollama import SimModel
from opskit.sandbox.stage import Stage
from opskit.tags import TagLog
from tests.parts.command import Result, opskit
from tests.parts.examining import cause, keys, on_stage

GOAL = "What is 6 times 7?"
OLLAMA = [SimModel("phi3.5:3.8b", resident=True)]


@dataclass(frozen=True)
class Case:
    """A fault of the sandbox, its class, and what the remedy tells to type."""

    spec: str
    fault: str
    remedy: str

    @property
    def node(self) -> str:
        return self.spec.partition("=")[0]


OF_THE_MODEL = [
    Case("ollama=broken-file", "broken_model_file", "ollama pull phi3.5:3.8b"),
    Case("ollama=blob-missing", "broken_model_file", "ollama pull phi3.5:3.8b"),
    Case("ollama=broken-template", "broken_template", "ollama show --template phi3.5:3.8b"),
    Case("ollama=unknown-architecture", "unknown_architecture", "update Ollama"),
    Case("mlx=broken-file", "broken_model_file", "hf download"),
    Case("mlx=broken-template", "broken_template", "--chat-template"),
    Case("mlx=unknown-architecture", "unknown_architecture", "pip install --upgrade mlx-lm"),
]
OF_THE_REQUEST = [
    Case("ollama=bad-option", "bad_request", "correct what the message names"),
    Case("ollama=context-exceeded", "context_exceeded", "num_ctx"),
    Case("mlx=bad-option", "bad_request", "correct what the message names"),
    Case("mlx=context-exceeded", "context_exceeded", "shorten the prompt"),
]
OF_THE_ANSWER = [
    Case("ollama=unparsable", "unparsable_answer", "ask again"),
    Case("mlx=unparsable", "unparsable_answer", "ask again"),
]


def named(case: Case) -> str:
    return case.spec


def only(stage: Stage, node: str) -> dict[str, str]:
    """The addresses of the stage with every other node switched off."""
    return {name: url if node.upper() in name else "" for name, url in stage.environment().items()}


async def told(command: str, case: Case, tmp_path: Path, *arguments: str) -> Result:
    async with Stage([parse_fault(case.spec)], ollama_models=OLLAMA) as stage:
        return await asyncio.to_thread(
            opskit, *command.split(), *arguments, home=tmp_path / "home", env=only(stage, case.node)
        )


@pytest.mark.parametrize("case", OF_THE_MODEL + OF_THE_REQUEST + OF_THE_ANSWER, ids=named)
async def test_run_names_the_fault_and_what_helps(tmp_path: Path, case: Case) -> None:
    """The attempt has the class of the fault, the error its remedy."""
    result = await told("run", case, tmp_path, GOAL, "--local")
    assert result.status == 1
    assert f": {case.fault} after" in result.err
    assert "MODEL_004" in result.err
    assert case.remedy in result.err.partition("Next: ")[2]


@pytest.mark.parametrize("case", OF_THE_MODEL + OF_THE_REQUEST, ids=named)
async def test_a_probe_names_the_fault_and_what_helps(tmp_path: Path, case: Case) -> None:
    """No restart is advised: the server is well."""
    result = await told("probe", case, tmp_path, "--json")
    finding = result.finding(case.node)
    assert (result.status, finding["state"], finding["code"]) == (1, "failing", "GEN_001")
    assert case.fault in finding["detail"]
    assert case.remedy in finding["remedy"]
    assert "journalctl" not in finding["remedy"]
    assert "ollama serve" not in finding["remedy"]


@pytest.mark.parametrize("case", OF_THE_ANSWER, ids=named)
async def test_one_unparsable_answer_leaves_a_node_well(tmp_path: Path, case: Case) -> None:
    """The model wrote something: that is what a probe asks."""
    result = await told("probe", case, tmp_path, "--json")
    finding = result.finding(case.node)
    assert (result.status, finding["state"]) == (0, "ok")
    assert "could not parse that one answer" in finding["detail"]


@pytest.mark.parametrize("case", OF_THE_MODEL + OF_THE_REQUEST + OF_THE_ANSWER, ids=named)
async def test_an_examination_names_the_fault_and_what_helps(tmp_path: Path, case: Case) -> None:
    """An unparsable answer is a warning, like any text that is no answer; the others fail."""
    result = await told("models test", case, tmp_path, "--json")
    [row] = result.document["models"]
    finding = result.finding(f"{row['node']}/{row['model']}")
    assert finding["state"] == case.fault
    assert finding["status"] == ("warn" if case in OF_THE_ANSWER else "fail")
    assert case.remedy.replace("ask again", "opskit models test") in finding["remedy"]


@pytest.mark.parametrize("case", OF_THE_MODEL, ids=named)
async def test_the_doctor_blames_the_model_and_not_the_server(tmp_path: Path, case: Case) -> None:
    """One cause with the model's name, and its own remedy."""
    async with Stage([parse_fault(case.spec)], ollama_models=OLLAMA) as stage:
        found = await on_stage(tmp_path, stage)
    unusable = cause(found, f"model-unusable:{case.node}")
    assert keys(found) == [f"model-unusable:{case.node}"]
    assert "cannot be used" in unusable.title
    assert case.remedy in unusable.remedy


class Asked:
    """A router over one node of a stage and a healthy spare."""

    def __init__(self, stage: Stage, node: str) -> None:
        other = "mlx" if node == "ollama" else "ollama"
        self.nodes = [
            Node(NodeConfig(name, stage.nodes[name].url, _source(name)), Budgets()) for name in (node, other)
        ]
        self.router = Router(
            self.nodes, router=RouterConfig(), budgets=Budgets(), circuit=CircuitConfig(), log=TagLog()
        )
        self.request = ModelRequest(model="phi3.5:3.8b" if node == "ollama" else DEFAULT_MODEL)
        self.session = Session()

    async def __aenter__(self) -> Self:
        await self.router.catalog.snapshot(wait_for_all=True)
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.router.aclose()
        for node in self.nodes:
            await node.aclose()

    async def __call__(self) -> list[tuple[str, str | None]]:
        """The attempts of one request as (node, fault)."""
        attempts: Any
        try:
            attempts = (await self.router.chat(Ask.of(GOAL, request=self.request), self.session)).attempts
        except NoAnswer as refused:
            attempts = refused.attempts
        return [(attempt.node, attempt.fault) for attempt in attempts]


def _source(name: str) -> Source:
    return "mlx" if name == "mlx" else "ollama"


@pytest.mark.parametrize("case", OF_THE_REQUEST + OF_THE_ANSWER, ids=named)
async def test_a_healthy_model_answers_the_next_request(case: Case) -> None:
    """Another model answers this request; the session, the model and the node are as they were."""
    faults = [parse_fault(f"{case.spec},times=1")]
    async with Stage(faults, ollama_models=OLLAMA) as stage, Asked(stage, case.node) as ask:
        first, second = await ask(), await ask()
        health, failed = ask.router.health, ask.session.failed
    assert [fault for _, fault in first] == [case.fault, None]
    assert first[0][0] == case.node
    assert second == [(case.node, None)]
    assert (health.nodes, health.models, failed) == ({}, {}, set())


@pytest.mark.parametrize("case", OF_THE_MODEL, ids=named)
async def test_a_model_that_cannot_run_leaves_its_node_in_use(case: Case) -> None:
    """The model is not asked again in the session, and no circuit of the node opens."""
    faults = [parse_fault(case.spec)]
    async with Stage(faults, ollama_models=OLLAMA) as stage, Asked(stage, case.node) as ask:
        first, second = await ask(), await ask()
        nodes = ask.router.health.nodes
    assert first[0] == (case.node, case.fault)
    assert case.fault not in [fault for _, fault in second]
    assert nodes == {}


async def test_a_runner_that_was_killed_is_told_as_probably_out_of_memory(tmp_path: Path) -> None:
    """MODEL_003, with the word and the place where the kernel says so."""
    case = Case("ollama=killed", "out_of_memory", "")
    result = await told("run", case, tmp_path, GOAL, "--local")
    assert "MODEL_003" in result.err
    assert "out_of_memory" in result.err
    assert "probably" in result.err
    assert "journalctl -k" in result.err


async def test_numbers_of_an_exceeded_context_reach_the_user(tmp_path: Path) -> None:
    """Ollama wraps its runner's error as JSON in a string: one readable sentence comes out."""
    result = await told("run", OF_THE_REQUEST[1], tmp_path, GOAL, "--local")
    assert "request (5120 tokens) exceeds the available context size (4096 tokens)" in result.err
    assert '\\"' not in result.err
