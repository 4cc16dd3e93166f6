"""`opskit trace`: a goal with its waterfall, one trace, the list; whole processes over the sandbox."""

import asyncio
import sqlite3
from html.parser import HTMLParser
from pathlib import Path

import pytest
from pytest_httpserver import HTTPServer
from werkzeug import Request, Response

from opskit.sandbox.faults import parse_fault
from opskit.sandbox.stage import Stage
from tests.parts.command import Result, opskit

GOAL = "What is 6 times 7?"


async def ran(stage: Stage | None, home: Path, *arguments: str, **env: str) -> Result:
    staged = {} if stage is None else stage.environment()
    return await asyncio.to_thread(opskit, *arguments, home=home, env={**staged, **env})


def names(document: dict) -> list[str]:
    return [span["name"] for span in document["spans"]]


async def test_a_local_answer_shows_every_stage(tmp_path: Path):
    """The choice of the model, its call, and in it the wait and the answer, apart."""
    async with Stage() as stage:
        result = await ran(stage, tmp_path, "trace", GOAL, "--local", "--json")
    document = result.document
    assert result.status == 0
    assert (document["status"], document["goal"]) == ("ok", GOAL)
    assert document["trace_id"] == document["correlation_id"].replace("-", "")
    spans = {span["name"]: span for span in document["spans"]}
    root, call = spans["opskit run"], spans["chat default_model"]
    assert set(root) == {
        "span_id", "parent_id", "trace_id", "name", "kind", "start", "seconds", "status", "message",
        "attributes",
    }  # fmt: skip
    assert root["parent_id"] is None
    assert root["attributes"]["opskit.method"] == "simple"
    assert call["parent_id"] == root["span_id"]
    assert call["attributes"]["gen_ai.operation.name"] == "chat"
    assert call["attributes"]["gen_ai.provider.name"] == "mlx"
    parts = [s for s in document["spans"] if s["parent_id"] == call["span_id"]]
    assert {"wait for the first token", "generate"} <= {part["name"] for part in parts}
    assert sum(part["seconds"] for part in parts) == pytest.approx(call["seconds"], abs=0.02)


async def test_a_failover_shows_both_attempts_and_the_fault(tmp_path: Path):
    """The crashed call is a failed span beside the one that answered."""
    async with Stage([parse_fault("mlx=reset")]) as stage:
        result = await ran(stage, tmp_path, "trace", GOAL, "--local", "--json")
    calls = [s for s in result.document["spans"] if s["name"].startswith("chat ")]
    assert result.status == 0
    assert [call["status"] for call in calls] == ["error", "ok"]
    assert calls[0]["attributes"]["error.type"]
    assert calls[1]["attributes"]["opskit.fallback"] is True


async def test_a_goal_that_fails_shows_its_trace_and_the_error(tmp_path: Path):
    """The waterfall is most wanted when nothing came out."""
    result = await ran(None, tmp_path, "trace", GOAL, "--local")
    assert result.status == 1
    assert "opskit run" in result.out
    assert "choose model" in result.out
    assert "failed" in result.out
    assert "MODEL_001" in result.err or "COMM_001" in result.err
    as_json = await ran(None, tmp_path, "trace", GOAL, "--local", "--json")
    assert as_json.document["ok"] is False
    assert as_json.document["trace"]["status"] == "error"


async def test_every_run_is_traced_and_found_again(tmp_path: Path):
    """`list` shows the newest first, `show` takes the beginning of an id."""
    async with Stage() as stage:
        first = await ran(stage, tmp_path, "run", GOAL, "--local", "--json")
        second = await ran(stage, tmp_path, "run", GOAL, "--json")
    listed = (await ran(None, tmp_path, "trace", "list", "--json")).document["traces"]
    ids = [first.document["correlation_id"], second.document["correlation_id"]]
    assert [entry["correlation_id"] for entry in listed] == ids[::-1]
    shown = await ran(None, tmp_path, "trace", "show", ids[0][:8], "--json")
    assert shown.document["correlation_id"] == ids[0]
    drawn = await ran(None, tmp_path, "trace", "show", ids[1][:8])
    assert "invoke_agent victoria" in drawn.out
    assert "█" in drawn.out


async def test_an_agent_continues_the_trace(tmp_path: Path, httpserver: HTTPServer):
    """Victoria gets the correlation id and a traceparent whose parent is the span that waits for her."""
    requests: list[Request] = []

    def run(request: Request) -> Response:
        requests.append(request)
        return Response('{"status": "success", "output": "42"}', content_type="application/json")

    httpserver.expect_request("/status").respond_with_json({"status": "ok"})
    httpserver.expect_request("/run", method="POST").respond_with_handler(run)
    address = httpserver.url_for("").rstrip("/")
    result = await ran(None, tmp_path, "trace", GOAL, "--json", VICTORIA_URL=address)
    document = result.document
    waits = next(s for s in document["spans"] if s["name"] == "invoke_agent victoria")
    assert requests[0].headers["X-Correlation-ID"] == document["correlation_id"]
    assert requests[0].headers["traceparent"] == f"00-{document['trace_id']}-{waits['span_id']}-01"


async def test_what_a_foreign_agent_logged_is_added_by_its_correlation_id(
    tmp_path: Path, httpserver: HTTPServer
):
    """An agent that sends no spans still tells which model it asked, in its own log."""
    log = tmp_path / "agent.log"

    def run(request: Request) -> Response:
        name = request.headers["X-Correlation-ID"]
        from datetime import UTC, datetime

        now = datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
        log.write_text(
            f"{now} [LLM_CALL] correlation_id={name} node=ollama model=qwq:32b fallback=false\n"
            f"{now} [LLM_ERROR] correlation_id={name} node=ollama model=qwq:32b fault=runner_crashed"
            f" seconds=0.2\n"
            f"{now} [LLM_CALL] correlation_id={name} node=mlx model=phi3.5 fallback=true\n"
            f"{now} [LLM_RESPONSE] correlation_id={name} node=mlx model=phi3.5 status=200 seconds=0.3\n"
        )
        return Response('{"status": "success", "output": "42"}', content_type="application/json")

    httpserver.expect_request("/status").respond_with_json({"status": "ok"})
    httpserver.expect_request("/run", method="POST").respond_with_handler(run)
    address = httpserver.url_for("").rstrip("/")
    result = await ran(None, tmp_path, "trace", GOAL, "--json", "--source", str(log), VICTORIA_URL=address)
    spans = {s["name"]: s for s in result.document["spans"]}
    waits = spans["invoke_agent victoria"]
    assert spans["chat qwq:32b"]["parent_id"] == waits["span_id"]
    assert spans["chat qwq:32b"]["attributes"]["error.type"] == "runner_crashed"
    assert spans["chat phi3.5"]["status"] == "ok"
    assert spans["chat phi3.5"]["attributes"]["opskit.source"] == "log"


async def test_a_request_that_only_the_log_knows_is_shown_from_there(tmp_path: Path):
    """Without the store the log's own times make the waterfall."""
    async with Stage() as stage:
        made = await ran(stage, tmp_path, "run", GOAL, "--local", "--json")
    store = next(tmp_path.rglob("traces.db"))
    store.unlink()
    shown = await ran(None, tmp_path, "trace", "show", made.document["correlation_id"], "--json")
    assert names(shown.document)[0] == "request"
    assert "chat default_model" in names(shown.document)


class _Page(HTMLParser):
    """What a page holds: its tags, what it would load, its text."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.loads: list[str] = []
        self.text = ""
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.loads += [value or "" for name, value in attrs if name in ("src", "href")]

    def handle_data(self, data: str) -> None:
        self.text += data


async def test_the_page_stands_alone_and_shows_hostile_text_as_text(tmp_path: Path):
    """No script, nothing to load, and a goal cannot write HTML."""
    page = tmp_path / "trace.html"
    goal = "<script>alert(1)</script> & <img src=x onerror=y>"
    async with Stage() as stage:
        result = await ran(stage, tmp_path, "trace", goal, "--local", "--html", str(page))
    parsed = _Page(page.read_text("utf-8"))
    assert result.status == 0
    assert "script" not in parsed.tags
    assert "img" not in parsed.tags
    assert parsed.loads == []
    assert goal in parsed.text
    assert "chat default_model" in parsed.text
    assert "prefers-color-scheme" in page.read_text("utf-8")


async def test_a_store_that_cannot_be_written_does_not_fail_the_run(tmp_path: Path):
    """The answer is what was asked for; the trace is a note."""
    async with Stage() as stage:
        await ran(stage, tmp_path, "run", GOAL, "--local")
        store = next(tmp_path.rglob("traces.db"))
        store.write_bytes(b"no database at all " * 100)
        result = await ran(stage, tmp_path, "run", GOAL, "--local")
    assert (result.status, result.out) == (0, "42\n")
    assert "the trace is not kept" in result.err


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (["show"], "which trace"),
        (["show", "abc"], "too short"),
        (["show", "deadbeef"], "no trace whose id begins with deadbeef"),
        (["two", "words"], "quotes"),
        ([""], "goal"),
        (["goal", "--html", "/nonexistent/x.html"], "cannot be written"),
    ],
)
def test_bad_input_is_refused_with_what_to_type(tmp_path: Path, arguments: list[str], text: str):
    """No traceback, exit status 2."""
    result = opskit("trace", *arguments, home=tmp_path)
    assert result.status == 2
    assert text in result.err
    assert "Traceback" not in result.err


async def test_the_database_is_one_that_others_can_read(tmp_path: Path):
    """Two tables with plain columns, for those who write queries of their own."""
    async with Stage() as stage:
        await ran(stage, tmp_path, "run", GOAL, "--local")
    with sqlite3.connect(next(tmp_path.rglob("traces.db"))) as database:
        rows = database.execute(
            "SELECT t.goal, count(*) FROM traces t JOIN spans s USING (trace_id) GROUP BY 1"
        ).fetchall()
    assert [goal for goal, _ in rows] == [GOAL]
    assert rows[0][1] >= 4
