"""One request, one story: `logs request`, `logs stats`, `watch` and `doctor` say the same of it."""

import json
import signal
from pathlib import Path
from typing import Any

import pytest
from pytest_httpserver import HTTPServer

from tests.parts.command import NOBODY, opskit, started

REFUSED = {"OLLAMA_API_URL": NOBODY, "MLX_API_URL": "http://127.0.0.1:10"}


@pytest.fixture
def home(tmp_path: Path) -> Path:
    return tmp_path / "home"


def last_line(home: Path) -> str:
    return (home / "state" / "opskit" / "opskit.log").read_text().splitlines()[-1]


def identifier(home: Path) -> str:
    return last_line(home).partition("correlation_id=")[2].split()[0]


def watched(home: Path) -> dict[str, Any]:
    # The last line of the log is read once it is known that nothing continues it.
    watch = opskit("watch", "--count", "3", "--every", "500ms", "--json", home=home, env=REFUSED)
    lines = watch.out.splitlines()
    ticks = [document for document in map(json.loads, lines) if document["event"] == "tick"]
    return ticks[-1]["requests"]


def test_a_request_that_nobody_took_has_failed_everywhere(home: Path) -> None:
    """Both nodes refuse: its last line says so, and so do the four commands that read the log."""
    assert opskit("run", "hi", home=home, env=REFUSED).status == 1
    assert "[REQUEST_END]" in last_line(home)
    assert "outcome=failed code=MODEL_001" in last_line(home)
    told = opskit("logs", "request", identifier(home), home=home, env=REFUSED)
    assert told.out.splitlines()[-1].startswith("failed (MODEL_001) in ")
    stats = opskit("logs", "stats", "--json", home=home, env=REFUSED).document["stats"]["requests"]
    assert (stats["total"], stats["answered"], stats["failed"]) == (1, 0, 1)
    seen = watched(home)
    assert (seen["running"], seen["failed"], seen["done"]) == (0, 1, 0)
    doctor = opskit("doctor", "--json", home=home, env=REFUSED).document
    details = [one["detail"] for one in doctor["findings"] if one["check"] == "requests"]
    assert details == ["1 request in the last hour, 0 calls, 1 failed"]


def test_an_answered_request_is_answered_everywhere(home: Path) -> None:
    """Through an agent, whose answer counts for the model that was called."""
    assert opskit("run", "What is 6 times 7?", "--sandbox", home=home).status == 0
    assert "outcome=answered" in last_line(home)
    told = opskit("logs", "request", identifier(home), home=home)
    assert told.out.splitlines()[-1].startswith("answered in ")
    models = opskit("logs", "stats", "--json", home=home).document["stats"]["models"]
    assert [(one["model"], one["calls"], one["ok"]) for one in models] == [("agent", 1, 1)]
    seen = watched(home)
    assert (seen["running"], seen["failed"], seen["done"]) == (0, 0, 1)


def test_a_call_to_another_server_says_nothing_of_this_one(home: Path) -> None:
    """A node of the same name at another address, as in the sandbox, is another server."""
    assert opskit("run", "What is 6 times 7?", "--local", "--sandbox", home=home).status == 0
    assert watched(home)["models"] == []


def test_ctrl_c_ends_a_request_in_the_log(home: Path, httpserver: HTTPServer) -> None:
    """A request that was broken off is told as such, and runs no more."""
    httpserver.expect_request("/api/tags").respond_with_json({"models": []})
    asked = []

    def never(request):
        asked.append(request)
        process.send_signal(signal.SIGINT)
        process.wait(60)

    httpserver.expect_request("/health").respond_with_json({"status": "ok"})
    httpserver.expect_request("/status").respond_with_json({"status": "ok"})
    httpserver.expect_request("/run", method="POST").respond_with_handler(never)
    env = {**REFUSED, "VICTORIA_URL": httpserver.url_for("")}
    process = started(["run", "hi"], home=home, env=env)
    process.communicate(timeout=60)
    assert process.returncode == 130
    assert "[REQUEST_END]" in last_line(home)
    assert "outcome=interrupted" in last_line(home)
    told = opskit("logs", "request", identifier(home), home=home, env=REFUSED)
    assert told.out.splitlines()[-1].startswith("interrupted in ")
    seen = watched(home)
    assert (seen["running"], seen["failed"], seen["done"]) == (0, 0, 0)
