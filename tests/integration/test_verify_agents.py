"""The kinds that ask models and agents, on the simulated stack with its faults and on real web servers."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from pytest_httpserver import HTTPServer
from werkzeug.wrappers import Request, Response

from opskit.config.schema import Config, ProbeConfig
from opskit.records import replace
from opskit.result import Finding
from opskit.sandbox.faults import parse_fault
from opskit.sandbox.stage import Stage
from tests.parts.checking import check, configuration

QUICK = ProbeConfig(http_s=1.0, first_token_s=0.3, cycle_s=1.0)


def config(folder: Path, stage: Stage) -> Config:
    return replace(configuration(folder, stage.environment()), probe=QUICK)


async def staged(
    folder: Path, kind: str, params: Mapping[str, Any], expect: Any = None, *faults: str, **more: Any
) -> Finding:
    async with Stage([parse_fault(fault) for fault in faults]) as stage:
        return await check(folder, kind, params, expect, config=config(folder, stage), **more)


@pytest.mark.parametrize("node", ["ollama", "mlx"])
async def test_a_node_that_gives_a_token_passes(tmp_path: Path, node: str):
    """All rungs up to the first token."""
    expect = {"token": True, "reached": "first token", "state": "ok"}
    found = await staged(tmp_path, "node_ladder", {"node": node}, expect)
    assert found.status == "pass", found.detail


@pytest.mark.parametrize(
    "node, fault, status, state",
    [
        ("ollama", "ollama=refuse", "fail", "refused"),
        ("mlx", "mlx=zombie", "fail", "wedged"),
        ("ollama", "ollama=fast-503", "inconclusive", "busy"),
        ("ollama", "ollama:phi3.5:3.8b=crash", "fail", "failing"),
    ],
)
async def test_a_node_in_trouble_is_called_by_its_state(
    tmp_path: Path, node: str, fault: str, status: str, state: str
):
    """Refused, wedged and failing nodes fail; a busy one is inconclusive and never called down."""
    found = await staged(tmp_path, "node_ladder", {"node": node}, None, fault)
    assert (found.status, found.state) == (status, state), found.detail


async def test_a_node_that_is_not_configured_is_inconclusive(tmp_path: Path):
    """A name that the configuration lacks is told with those it has."""
    found = await check(tmp_path, "node_ladder", {"node": "vllm"})
    assert found.status == "inconclusive"
    assert "known: ollama, mlx" in found.detail


async def test_a_resident_model_gives_a_real_answer(tmp_path: Path):
    """A loaded model answers, and its answer is no echo."""
    expect = {"resident": True, "answered": True, "verdict": None, "loaded": False}
    found = await staged(tmp_path, "model", {"node": "ollama", "model": "phi3.5:3.8b"}, expect)
    assert found.status == "pass", found.detail


async def test_an_echo_is_no_answer(tmp_path: Path):
    """A model that hands the prompt back fails."""
    found = await staged(tmp_path, "model", {"node": "ollama"}, None, "ollama:phi3.5:3.8b=echo")
    assert found.status == "fail"
    assert found.evidence["values"]["verdict"] == "echo"


async def test_a_model_is_loaded_only_with_leave(tmp_path: Path):
    """A model that is not loaded is inconclusive and stays where it is; with `load: true` it is loaded."""
    params = {"node": "ollama", "model": "qwen2.5-coder:7b"}
    async with Stage() as stage:
        whole = config(tmp_path, stage)
        left = await check(tmp_path, "model", params, config=whole)
        asked = [request.path for request in stage.ollama.requests]
        loaded = await check(tmp_path, "model", {**params, "load": True}, config=whole)
    assert left.status == "inconclusive"
    assert "may not load it" in left.detail
    assert not {"/api/chat", "/api/generate"} & set(asked)
    assert loaded.status == "pass", loaded.detail
    assert loaded.evidence["values"]["loaded"] is True


async def test_a_model_that_is_not_held_fails(tmp_path: Path):
    """A node that does not list the model fails with the command that gets it."""
    found = await staged(tmp_path, "model", {"node": "ollama", "model": "nope:1b"})
    assert (found.status, found.remedy) == ("fail", "`ollama pull nope:1b`")


async def test_a_model_that_hangs_is_cut(tmp_path: Path):
    """Silence ends at the deadline of the check."""
    found = await staged(tmp_path, "model", {"node": "ollama"}, None, "ollama=silence", timeout="200ms")
    assert (found.status, found.state) == ("fail", "timeout")


async def test_each_endpoint_of_victoria_has_status_and_seconds(tmp_path: Path):
    """Endpoints that only look are asked; those that make her work are named as not asked."""
    expect = {
        "endpoints": {"jsonpath": {"$['GET /status'].status": 200, "$['GET /status'].seconds": {"lt": 5}}},
        "failed": {"len": 0},
        "not_asked": ["POST /run", "POST /orchestrate"],
        "levels": {"jsonpath": {"$.initiative": True}},
    }
    found = await staged(tmp_path, "agent_api", {"agent": "victoria"}, expect)
    assert found.status == "pass", found.detail


async def test_an_agent_that_is_not_there_fails(tmp_path: Path):
    """A refused agent fails with its address."""
    found = await staged(tmp_path, "agent_api", {"agent": "veronica"}, None, "veronica=refuse")
    assert (found.status, found.state) == ("fail", "refused")


async def test_an_agent_that_hangs_is_told_by_endpoint(tmp_path: Path):
    """Each silent endpoint has its own limit."""
    params = {"agent": "victoria", "each": "100ms"}
    found = await staged(tmp_path, "agent_api", params, None, "victoria=silence")
    assert found.status == "fail"
    assert "GET /status timeout" in found.detail


@pytest.fixture
def code_agents(httpserver: HTTPServer) -> HTTPServer:
    """Generator, reviewer and chat on one server; the reviewer counts its reviews."""
    reviews = {"reviews": 0}

    def review(request: Request) -> Response:
        reviews["reviews"] += 1
        issues = ["no tests"] if not request.json["tests"] else []
        return Response(
            json.dumps({"approved": True, "issues": issues, "score": 7}), mimetype="application/json"
        )

    def stats(_request: Any) -> Any:
        import json

        from werkzeug.wrappers import Response

        return Response(json.dumps(reviews), mimetype="application/json")

    code = "Here you are:\n```python\ndef fib(n: int) -> int:\n    return n\n```\n"
    httpserver.expect_request("/health").respond_with_json({"status": "healthy"})
    httpserver.expect_request("/stats").respond_with_handler(stats)
    httpserver.expect_request("/generate", method="POST").respond_with_json({"code": code, "tests": ""})
    httpserver.expect_request("/review", method="POST").respond_with_handler(review)
    httpserver.expect_request("/chat", method="POST").respond_with_json({"response": "ready"})
    return httpserver


@pytest.mark.parametrize("agent", ["generator", "reviewer", "starcoder"])
async def test_code_agents_are_asked_by_their_own_endpoints(
    tmp_path: Path, code_agents: HTTPServer, agent: str
):
    """With `ask: true` /generate, /review and /chat are asked as well."""
    params = {"agent": agent, "url": code_agents.url_for("").rstrip("/"), "ask": True}
    found = await check(tmp_path, "agent_api", params, {"failed": {"len": 0}, "not_asked": {"len": 0}})
    assert found.status == "pass", found.detail


async def test_generated_code_is_really_reviewed(tmp_path: Path, code_agents: HTTPServer):
    """The code parses, the review says something, and the reviewer counted it."""
    url = code_agents.url_for("").rstrip("/")
    params = {"chain": "code", "generator": url, "reviewer": url}
    expect = {"generated": True, "parses": True, "reviewed": True, "counted": True, "held": True}
    found = await check(tmp_path, "agent_chain", params, expect)
    assert found.status == "pass", found.detail


async def test_a_review_that_did_not_happen_fails(tmp_path: Path, httpserver: HTTPServer):
    """A reviewer that answers 200 with a canned text, and counts nothing, did not review."""
    httpserver.expect_request("/stats").respond_with_json({"reviews": 5})
    httpserver.expect_request("/generate").respond_with_json({"code": "x = 1", "tests": ""})
    httpserver.expect_request("/review").respond_with_json({"approved": True, "issues": ["none"]})
    url = httpserver.url_for("").rstrip("/")
    found = await check(tmp_path, "agent_chain", {"chain": "code", "generator": url, "reviewer": url})
    assert found.status == "fail"
    assert "its statistics did not move" in found.detail


@pytest.mark.parametrize("background, status", [(False, 200), (True, 202)])
async def test_the_live_chain_gives_an_answer(tmp_path: Path, background: bool, status: int):
    """A goal about data goes through the departments and comes back as an answer, waited for or not."""
    expect = {"http_status": status, "held": True, "departments": True, "output": {"len": {"gt": 0}}}
    found = await staged(tmp_path, "agent_chain", {"background": background}, expect)
    assert found.status == "pass", found.detail


@pytest.mark.parametrize(
    "fault, verdict", [("victoria=empty", "empty"), ("victoria=echo", "echo"), ("victoria=crash", "empty")]
)
async def test_an_empty_answer_is_never_a_success(tmp_path: Path, fault: str, verdict: str):
    """Empty and echoed answers fail although the status is 200, and so does a crash."""
    found = await staged(tmp_path, "agent_chain", {}, None, fault)
    assert (found.status, found.evidence["values"]["verdict"]) == ("fail", verdict)
