"""Servers whose last word is no answer, and strangers on a port: `run`, `models` and `probe` as processes."""

import asyncio
import json
from pathlib import Path

import pytest

from tests.parts.command import Result, opskit
from tests.parts.dialects import DONE, delta, sse
from tests.parts.raw_server import RawServer, Reply, answer, reply_json, serving

CHAT = "/v1/chat/completions"
LISTED = reply_json({"object": "list", "data": [{"id": "m", "owned_by": "somebody"}]}, end="keep")
CALL = {"index": 0, "id": "1", "type": "function", "function": {"name": "get_weather", "arguments": "{}"}}
PAGE = answer(b"<!doctype html><title>My shop</title>", Content_Type="text/html", end="keep")
BUSY = answer(b"<title>503 Service Temporarily Unavailable</title>", status="503 Service Unavailable")


def stream(*chunks: bytes) -> Reply:
    return answer(*chunks, Content_Type="text/event-stream")


async def ran(
    server: RawServer, folder: Path, *arguments: str, queue_s: float = 5.0, source: str = "openai"
) -> Result:
    """Run a command whose only node is this server."""
    config = folder / "opskit.yaml"
    off = {"enabled": False}
    nodes = {"box": {"url": server.url, "source": source}, "ollama": off, "mlx": off}
    agents = {"victoria": off, "veronica": off}
    config.write_text(json.dumps({"nodes": nodes, "agents": agents, "budgets": {"queue_s": queue_s}}))
    return await asyncio.to_thread(opskit, *arguments, "--config", str(config), home=folder / "home")


async def asked(reply: Reply, folder: Path, **options: float) -> tuple[Result, int]:
    """Run a goal on a server that answers so; the result, and how often it was asked."""
    async with serving(**{"/v1/models": LISTED, CHAT: reply}) as server:
        result = await ran(server, folder, "run", "--local", "When did the war end?", **options)
        return result, len(server.bodies(CHAT))


async def test_a_call_that_was_not_offered_is_no_answer(tmp_path):
    """A call of a function without any text answers no question."""
    result, _ = await asked(
        stream(sse(delta(tool_calls=[CALL])), sse(delta(finish="tool_calls")), DONE), tmp_path
    )
    assert result.status == 1, result
    assert "no text, but a call of get_weather, which was not offered" in result.err


async def test_a_filter_that_ends_an_answer_is_named(tmp_path):
    """Its first words alone are no success."""
    result, _ = await asked(
        stream(sse(delta("The war")), sse(delta(finish="content_filter")), DONE), tmp_path
    )
    assert (result.status, result.out) == (1, ""), result
    assert "a filter of the server ended it" in result.err


async def test_an_answer_that_its_server_broke_off_is_none(tmp_path):
    """vLLM and SGLang end one so whose request they gave up."""
    result, _ = await asked(stream(sse(delta("The war")), sse(delta(finish="abort")), DONE), tmp_path)
    assert (result.status, result.out) == (1, ""), result
    assert "the server broke it off (abort)" in result.err


async def test_an_answer_at_its_limit_names_the_setting(tmp_path):
    """A person can raise what cut the answer."""
    result, _ = await asked(stream(sse(delta("The war began", finish="length")), DONE), tmp_path)
    assert result.status == 1
    assert "raise `router.max_tokens`" in result.err


@pytest.mark.parametrize(
    "text",
    ["<think>1939?</think>\n\nIn 1945.", "They ask for the end.\n</think>\n\nIn 1945.", "In 1945.<|im_end|>"],
)
async def test_thoughts_are_not_shown_as_the_answer(tmp_path, text):
    """What a template opened, and the model only closes, is a thought as well."""
    result, _ = await asked(stream(sse(delta(text, finish="stop")), DONE), tmp_path)
    assert (result.status, result.out.strip()) == (0, "In 1945."), result


async def test_a_small_model_that_says_nothing_is_not_called_unsure(tmp_path):
    """A question for a fact is asked twice of it; what is told is why neither answer counts."""
    message = {"role": "assistant", "content": ""}
    entry = {"name": "m", "model": "m", "digest": "d", "size": 1000, "size_vram": 1000}
    pages = {
        "/api/version": reply_json({"version": "0.30.1"}, end="keep"),
        "/api/tags": reply_json({"models": [entry]}, end="keep"),
        "/api/ps": reply_json({"models": [entry]}, end="keep"),
        "/api/chat": reply_json({"model": "m", "message": message, "done": True, "done_reason": "stop"}),
    }
    async with serving(**pages) as server:
        result = await ran(server, tmp_path, "run", "--local", "When did the war end?", source="ollama")
        assert len(server.bodies("/api/chat")) == 2
    assert result.status == 1
    assert "not sure" not in result.err
    assert "m on box: empty (0 characters, empty)" in result.err


async def test_a_quota_that_is_used_up_is_not_waited_for(tmp_path):
    """No time gives it back: one question, and what to do."""
    error = {"error": {"message": "You exceeded your current quota", "code": "insufficient_quota"}}
    result, times = await asked(reply_json(error, status="429 Too Many Requests"), tmp_path)
    assert (result.status, times) == (1, 1), result
    assert "no_credit" in result.err
    assert "pay for more" in result.err


async def test_a_wait_for_a_busy_server_is_told_and_summed_up(tmp_path):
    """Whoever waits reads why; the same failure is written once, with its count."""
    result, times = await asked(BUSY, tmp_path)
    assert times == 3, result
    assert "asked again in 1 s" in result.err
    assert "(503 Service Temporarily Unavailable), 3 times. Next: wait until" in result.err


async def test_a_server_without_chat_is_named(tmp_path):
    """`Not Found` alone does not tell that the page of chats is what is missing."""
    result, _ = await asked(reply_json({"detail": "Not Found"}, status="404 Not Found"), tmp_path)
    assert f"the server has no page {CHAT}" in result.err


async def test_a_page_too_large_names_what_stands_before_the_server(tmp_path):
    """A 413 comes from a proxy."""
    page = answer(b"<title>413 Request Entity Too Large</title>", status="413 Request Entity Too Large")
    result, _ = await asked(page, tmp_path)
    assert "`client_max_body_size`" in result.err


async def test_nobody_is_told_to_kill_a_stranger(tmp_path):
    """A web application on the port is another program's: `models` says what `probe` says."""
    async with serving(**dict.fromkeys(("/api/version", "/api/tags", "/v1/models"), PAGE)) as server:
        probed = await ran(server, tmp_path, "probe", "--json")
        listed = await ran(server, tmp_path, "models", "list", "--json")
        tested = await ran(server, tmp_path, "models", "test", "--json")
    remedies = {result.finding("box")["remedy"] for result in (probed, listed, tested)}
    assert len(remedies) == 1, remedies
    assert "`kill" not in remedies.pop()


async def test_a_server_that_does_not_tell_what_is_loaded_was_read(tmp_path):
    """Nothing is tested, and the command that tests is named."""
    async with serving(**{"/v1/models": LISTED}) as server:
        result = await ran(server, tmp_path, "models", "test")
    assert result.status == 3
    assert "what is loaded at box is not known" in result.err
    assert "`opskit models test --model NAME`" in result.err
