"""Servers beside Ollama, MLX and llama.cpp, as their documentation has them, and what speaks for others."""

import asyncio
import json
from contextlib import asynccontextmanager

import pytest

from tests.parts.command import opskit
from tests.parts.dialects import DONE, delta, sse
from tests.parts.raw_server import answer, reply_json, serving

CHAT, MODELS = "/v1/chat/completions", "/v1/models"
ANSWER = (sse(delta("It ended in 1945.")), sse(delta(finish="stop")), DONE)


def listed(*names, owner="somebody", **more):
    rows = [{"id": name, "object": "model", "owned_by": owner, **more} for name in names]
    return reply_json({"object": "list", "data": rows}, end="keep")


def stream(*chunks, **head):
    return answer(*chunks, Content_Type="text/event-stream", **head)


def served_by(model):
    return stream(
        *(sse({**delta(text), "model": model}) for text in ("It ended ", "in 1945.")), ANSWER[1], DONE
    )


def error(status, **body):
    return reply_json(body, status=status)


@asynccontextmanager
async def box(folder, source="openai", **replies):
    """The only node of a command: its server, and how to run one."""
    async with serving(**{MODELS: listed("m"), CHAT: stream(*ANSWER)} | replies) as server:
        off = {"enabled": False}
        nodes = {"box": {"url": server.url, "source": source}, "ollama": off, "mlx": off}
        config = folder / "opskit.yaml"
        agents = {"victoria": off, "veronica": off}
        config.write_text(json.dumps({"nodes": nodes, "agents": agents, "budgets": {"queue_s": 0.1}}))

        async def run(*words):
            return await asyncio.to_thread(opskit, *words, "--config", str(config), home=folder / "home")

        yield server, run


GOAL = ("run", "--local", "When did the war end?")


@pytest.mark.parametrize(
    "owner, page, content",
    [
        (
            "llama-swap",
            "/running",
            {"running": [{"model": "b", "state": "ready"}, {"model": "a", "state": "stopping"}]},
        ),
        ("tabbyAPI", "/v1/model", {"id": "b", "object": "model", "owned_by": "tabbyAPI"}),
        ("user", "/v1/internal/model/info", {"model_name": "b", "lora_names": []}),
    ],
)
async def test_a_server_that_swaps_is_asked_for_what_it_runs(tmp_path, owner, page, content):
    """Neither a probe nor a goal without a model makes it load another."""
    pages = {MODELS: listed("a", "b", owner=owner), page: reply_json(content, end="keep")}
    async with box(tmp_path, **pages) as (server, run):
        probe, result = await run("probe"), await run(*GOAL)
        assert (probe.status, result.status) == (0, 0), (probe, result)
        assert {body["model"] for body in server.bodies(CHAT)} == {"b"}


@pytest.mark.parametrize(
    "owner, page, empty",
    [
        ("llama-swap", "/running", reply_json({"running": []}, end="keep")),
        ("tabbyAPI", "/v1/model", error("503 Service Unavailable", detail="No models are currently loaded.")),
        ("user", "/v1/internal/model/info", reply_json({"model_name": "None"}, end="keep")),
    ],
)
async def test_a_probe_loads_nothing_on_a_server_that_would(tmp_path, owner, page, empty):
    """It says that nothing is loaded."""
    async with box(tmp_path, **{MODELS: listed("a", owner=owner), page: empty}) as (server, run):
        probe = await run("probe")
        assert "no model is loaded" in probe.out
        assert not server.bodies(CHAT)


async def test_the_model_that_answered_is_named(tmp_path):
    """Some servers answer with what is loaded, whatever the request names."""
    async with box(tmp_path, **{MODELS: listed("a", "b"), CHAT: served_by("b")}) as (_, run):
        assert "answered by b on box" in (await run(*GOAL, "--model", "a")).err


async def test_a_longer_name_of_the_same_model_is_not_another(tmp_path):
    """A provider spells out which release of a model it is."""
    async with box(tmp_path, **{CHAT: served_by("m-2026-08-06")}) as (_, run):
        assert "answered by m on box" in (await run(*GOAL)).err


async def test_a_limit_that_a_context_cannot_hold_is_not_sent(tmp_path):
    """vLLM refuses a request whose answer might not fit, though the goal is short."""
    pages = {MODELS: listed("m", owner="vllm", root="m", max_model_len=4096)}
    async with box(tmp_path, **pages) as (server, run):
        assert (await run(*GOAL)).status == 0
        assert "max_tokens" not in server.bodies(CHAT)[-1]


@pytest.mark.parametrize(
    "reply, kind, next_step",
    [
        (error("400 Bad Request", error="Model is unloaded."), "not_loaded", "lms load"),
        (
            error("500 Server Error", error={"message": "APIConnectionError: Cannot connect to host X:9"}),
            "Cannot connect",
            "start the server behind box",
        ),
        (
            error(
                "400 Bad Request", error={"message": "'max_tokens' is too large: 4096. The context is 4096."}
            ),
            "too large",
            "lower `router.max_tokens`",
        ),
        (
            answer(b"<title>502 Bad Gateway</title>", status="502 Bad Gateway", Server="nginx"),
            "cannot be reached",
            "start the server behind box",
        ),
        (
            answer(b"<title>504 Time-out</title>", status="504 Gateway Time-out", Server="nginx"),
            "does not answer in time",
            "proxy_read_timeout",
        ),
        (
            answer(b"<title>403 Forbidden</title>", status="403 Forbidden", Server="nginx"),
            "403 Forbidden",
            "`opskit probe` tells what stands before box",
        ),
    ],
)
async def test_a_refusal_names_what_to_do(tmp_path, reply, kind, next_step):
    """The words of the server, and the step that mends it."""
    async with box(tmp_path, **{CHAT: reply}) as (_, run):
        result = await run(*GOAL)
        assert result.status == 1
        assert kind in result.err
        assert next_step in result.err


async def test_a_refusal_of_the_model_is_its_answer(tmp_path):
    """It comes in a field of its own."""
    async with box(tmp_path, **{CHAT: stream(sse(delta(None, refusal="I will not.")), *ANSWER[1:])}) as (
        _,
        run,
    ):
        assert (await run(*GOAL)).out.strip() == "I will not."


async def test_a_call_in_the_older_shape_is_named(tmp_path):
    """`function_call` was not offered either."""
    call = {"name": "search", "arguments": "{}"}
    reply = stream(sse(delta(None, function_call=call)), sse(delta(finish="function_call")), DONE)
    async with box(tmp_path, **{CHAT: reply}) as (_, run):
        assert "a call of search, which was not offered" in (await run(*GOAL)).err


async def test_a_head_that_is_cut_off_is_no_improper_http(tmp_path):
    """The connection ended within the head of the reply."""
    whole = stream(*ANSWER)
    async with box(tmp_path) as (server, run):
        server.replies[CHAT] = type(whole)((whole.parts[0][:30],))
        assert "closed the connection before the reply was complete" in (await run(*GOAL)).err


async def test_a_server_that_only_speaks_like_ollama_is_asked_in_its_own_way(tmp_path):
    """KoboldCpp has Ollama's pages, and names itself."""
    name = {"Server": "ConcedoLlamaForKoboldServer", "end": "keep"}
    pages = {
        "/api/version": reply_json({"version": "0.7.0"}, **name),
        "/api/tags": reply_json(
            {"models": [{"name": "koboldcpp", "model": "koboldcpp/tiny:latest"}]}, **name
        ),
        MODELS: listed("koboldcpp/tiny", owner="koboldcpp"),
    }
    async with box(tmp_path, source="openai", **pages) as (server, run):
        result = await run(*GOAL)
        assert "answered by koboldcpp/tiny on box" in result.err, result
        assert not server.bodies("/api/chat")


async def test_a_web_interface_is_no_ollama_and_its_api_is_found(tmp_path):
    """Open WebUI has a page with its version, and answers below /api."""
    page = answer(b"<!doctype html><title>Open WebUI</title>", Content_Type="text/html", end="keep")
    locked = error("401 Unauthorized", detail="Not authenticated")
    version = reply_json({"version": "0.6.30"}, Server="uvicorn", end="keep")
    pages = dict.fromkeys((MODELS, "/api/tags", "/api/api/version", "/api/api/tags", "/v1"), page)
    async with box(tmp_path, **pages | {"/api/version": version, "/api/v1/models": locked}) as (server, run):
        probe = await run("probe")
        assert probe.status == 1
        assert f"set `nodes.box.url` to {server.url}/api" in probe.out + probe.err


async def test_a_model_in_the_cloud_wants_a_login_of_ollama(tmp_path):
    """A key of the node is no help."""
    cloud = {"name": "big:cloud", "model": "big:cloud", "remote_host": "https://ollama.com", "size": 3}
    pages = {
        "/api/version": reply_json({"version": "0.33.0"}, end="keep"),
        "/api/tags": reply_json({"models": [cloud]}, end="keep"),
        "/api/ps": reply_json({"models": []}, end="keep"),
        "/api/chat": error("401 Unauthorized", error="unauthorized", signin_url="https://ollama.com/connect"),
    }
    async with box(tmp_path, source="ollama", **pages) as (_, run):
        result = await run(*GOAL, "--model", "big:cloud")
        assert "`ollama signin` on the machine of box" in result.err
        assert "api_key" not in result.err


async def test_who_answers_with_an_error_is_not_started(tmp_path):
    """A server behind a proxy that is busy, or refuses a name, is there."""
    busy = answer(b"<h1>503</h1>\nNo server is available to handle this request.", status="503 Unavailable")
    pages = {"/api/version": busy, "/api/tags": busy, MODELS: busy}
    async with box(tmp_path, source="ollama", **pages) as (server, run):
        result = await run(*GOAL)
        assert "so busy that the request waited in vain" in result.err
        assert f"{server.url.removeprefix('http://')} ollama serve" not in result.err
        refused = answer(b"", status="403 Forbidden")
        server.replies |= dict.fromkeys(pages, refused)
        result = await run(*GOAL)
        assert "`opskit probe` tells what stands before box" in result.err
