"""Causes that are named, and what is no cause, by the real command and servers that really are so."""

import json
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from pytest_httpserver import HTTPServer
from werkzeug import Request, Response

from tests.parts.command import Result, opskit, sandbox
from tests.parts.examining import QUIET

ON = {"agent": True, "enhanced": True, "initiative": True}
PATIENT = {"probe": {"first_token_s": 20, "http_s": 10}}
LOGIN = "<html><form action='/in'><input name=u><input name=p type='password'></form></html>"
#: Takes the lock of its first argument, says so, and holds it until it is ended; the name is its own.
HOLD = (
    "import fcntl,sys; f=open(sys.argv[1],'w'); fcntl.flock(f,2); print('held',flush=True); sys.stdin.read()"
)


def doctor(home: Path, *, config: dict[str, Any] | None = None, **env: str) -> Result:
    home.mkdir(exist_ok=True)
    (home / "opskit.yaml").write_text(json.dumps({**QUIET, **PATIENT, **(config or {})}))  # JSON is YAML
    off = {"OLLAMA_API_URL": "", "MLX_API_URL": ""}
    return opskit("doctor", "--json", home=home, env={**off, **env})


def causes(result: Result) -> dict[str, dict[str, Any]]:
    return {cause["key"]: cause for cause in result.document["causes"]}


@pytest.mark.parametrize("named_by", ["VICTORIA_MODEL", "default_model"])
def test_a_model_that_no_node_has(tmp_path: Path, named_by: str):
    """A model that the configuration or the environment names is told with who names it and how to get it."""
    config = {"nodes": {"ollama": {"default_model": "nobody:7b"}}} if named_by == "default_model" else {}
    with sandbox(tmp_path) as env:
        address = {"OLLAMA_API_URL": env["OLLAMA_API_URL"]}
        if named_by == "VICTORIA_MODEL":
            address["VICTORIA_MODEL"] = "nobody:7b"
        result = doctor(tmp_path, config=config, **address)
    cause = causes(result)["model-missing:nobody:7b"]
    assert named_by in str(cause["evidence"])
    assert "ollama pull nobody:7b" in cause["remedy"]


def agent(server: HTTPServer, **levels: bool) -> None:
    """An agent that is well, with the description of its API that FastAPI gives."""
    server.expect_request("/status").respond_with_json(
        {"status": "online", "victoria_levels": {**ON, **levels}}
    )
    server.expect_request("/openapi.json").respond_with_json({"paths": {"/run": {}, "/status": {}}})


def test_a_level_that_is_switched_off(tmp_path: Path, httpserver: HTTPServer):
    """Victoria answers, without one of her levels: told with the variable that switches it on."""
    agent(httpserver, initiative=False)
    [cause] = causes(doctor(tmp_path, VICTORIA_URL=httpserver.url_for(""))).values()
    assert (cause["key"], cause["status"]) == ("agent-level-off:victoria", "warn")
    assert "initiative" in cause["title"]
    assert "ENABLE_EVENT_MONITORING=true" in cause["remedy"]


def test_an_agent_of_another_version(tmp_path: Path, httpserver: HTTPServer):
    """An agent whose own description has no way to take work is not the one that opskit speaks to."""
    httpserver.expect_request("/status").respond_with_json({"status": "online"})
    httpserver.expect_request("/openapi.json").respond_with_json({"paths": {"/v2/tasks": {}, "/status": {}}})
    [cause] = causes(doctor(tmp_path, VICTORIA_URL=httpserver.url_for(""))).values()
    assert cause["key"] == "agent-version:victoria"
    assert "/v2/tasks" in str(cause["evidence"])


@pytest.mark.parametrize("way", ["key", "page", "redirect"])
def test_an_agent_behind_a_login(tmp_path: Path, httpserver: HTTPServer, way: str):
    """A key that is wanted, a page with a password, a redirect to a sign-in: somebody's login is named."""

    def answer(request: Request) -> Response:
        if way == "key":
            return Response('{"detail": "Not authenticated"}', 401, content_type="application/json")
        if way == "redirect":
            return Response("", 302, headers={"Location": f"https://sso.example.org/login?rd={request.path}"})
        return Response(LOGIN, content_type="text/html")

    for path in ("/status", "/health"):
        httpserver.expect_request(path).respond_with_handler(answer)
    url = httpserver.url_for("")
    [cause] = causes(doctor(tmp_path, VICTORIA_URL=url)).values()
    assert cause["key"] == f"{'agent-unauthorised' if way == 'key' else 'address-wrong'}:victoria"
    assert "agents.victoria" in cause["remedy"]
    assert ("login" in cause["title"]) == (way != "key")


@contextmanager
def holding(home: Path, *command: str) -> Iterator[subprocess.Popen[bytes]]:
    """A process that holds the lock of recovery."""
    lock = home / "state/opskit/recover.lock"
    lock.parent.mkdir(parents=True, exist_ok=True)
    line = [*(command or (sys.executable,)), "-c", HOLD, str(lock)]
    process = subprocess.Popen(line, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert process.stdout is not None
    try:
        assert process.stdout.readline() == b"held\n"
        yield process
    finally:
        process.kill()
        process.communicate()


def test_a_lock_that_somebody_holds(tmp_path: Path):
    """Who holds the lock of recovery is named, with the command that ends it."""
    with holding(tmp_path) as process:
        cause = causes(doctor(tmp_path))["lock-held:recover.lock"]
    assert f"process {process.pid}" in cause["title"]
    assert f"kill {process.pid}" in cause["remedy"]


def test_a_recovery_at_work_is_no_cause_until_it_is_stopped(tmp_path: Path):
    """A command of opskit that holds its lock works; one that was stopped holds everybody up."""
    program = tmp_path / "opskit"
    program.symlink_to(sys.executable)
    with holding(tmp_path, str(program)) as process:
        assert causes(doctor(tmp_path)) == {}
        process.send_signal(signal.SIGSTOP)
        cause = causes(doctor(tmp_path))["lock-held:recover.lock"]
    assert f"kill -CONT {process.pid}" in cause["remedy"]


def test_nothing_configured_and_nothing_there(tmp_path: Path):
    """Where every server is switched off nothing is broken."""
    result = doctor(tmp_path)
    assert (causes(result), result.status) == ({}, 0)


def test_a_path_that_a_proxy_needs(tmp_path: Path, httpserver: HTTPServer):
    """An agent and a model server below a path of a proxy are well at that address."""
    httpserver.expect_request("/ai/victoria/status").respond_with_json({"victoria_levels": ON})
    models = {"object": "list", "data": [{"id": "m", "object": "model", "owned_by": "me"}]}
    httpserver.expect_request("/ai/llm/v1/models").respond_with_json(models)
    done = {"choices": [{"index": 0, "delta": {"content": "x"}, "finish_reason": "stop"}]}
    stream = f"data: {json.dumps(done)}\n\ndata: [DONE]\n\n"
    httpserver.expect_request("/ai/llm/v1/chat/completions").respond_with_data(
        stream, content_type="text/event-stream"
    )
    config = {"nodes": {"llm": {"url": httpserver.url_for("/ai/llm"), "source": "openai"}}}
    result = doctor(tmp_path, config=config, VICTORIA_URL=httpserver.url_for("/ai/victoria"))
    assert causes(result) == {}
    assert result.status == 0
