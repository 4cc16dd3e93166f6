"""A node says by itself what it speaks."""

from contextlib import asynccontextmanager

import pytest

from opskit.config.schema import Budgets, NodeConfig
from opskit.providers.base import CallCause, CallError
from opskit.providers.kinds import LLAMACPP, LMSTUDIO, MLX_LM, OLLAMA, OPENAI, UNNAMED_MLX
from opskit.providers.node import Node
from tests.parts.raw_server import Reply, answer, free_port, reply_json, serving

BUDGETS = Budgets(metadata_s=0.3)
MODELS = reply_json({"object": "list", "data": [{"id": "m"}]})
BARE = "BaseHTTP/0.6 Python/3.11.7"
HEALTHY = reply_json({"status": "ok"}, Server=BARE)
DEAD_WORKER = reply_json({"status": "unavailable"}, status="503 Service Unavailable", Server=BARE)
BEHIND_NGINX = reply_json({"object": "list", "data": [{"id": "m"}]}, Server="nginx/1.22.1")
PAGE = answer(b"<html>Welcome</html>", Content_Type="text/html")


@asynccontextmanager
async def at(url: str, source="openai", **options):
    node = Node(NodeConfig("n", url, source, **options), BUDGETS)
    try:
        yield node
    finally:
        await node.aclose()


@asynccontextmanager
async def before(replies: dict[str, Reply], **options):
    async with serving() as server:
        server.replies |= replies
        async with at(server.url, **options) as node:
            yield node, server


@pytest.mark.parametrize(
    "replies, source, kind",
    [
        ({"/api/version": reply_json({"version": "0.33.0"})}, "mlx", OLLAMA),
        ({"/v1/models": reply_json({"data": []}, Server=BARE), "/health": HEALTHY}, "openai", MLX_LM),
        ({"/v1/models": answer(b"", framing="close", Server=BARE), "/health": HEALTHY}, "mlx", MLX_LM),
        ({"/v1/models": answer(b"", framing="close", Server=BARE), "/health": DEAD_WORKER}, "mlx", MLX_LM),
        (
            {"/v1/models": MODELS, "/api/v0/models": reply_json({"data": [{"id": "m", "state": "loaded"}]})},
            "mlx",
            LMSTUDIO,
        ),
        ({"/v1/models": MODELS}, "openai", OPENAI),
        ({"/v1/models": MODELS}, "mlx", UNNAMED_MLX),
        (
            {"/v1/models": BEHIND_NGINX, "/health": reply_json({"status": "ok"}, Server="nginx")},
            "mlx",
            MLX_LM,
        ),
        ({"/v1/models": reply_json({"data": []}, Server="uvicorn"), "/health": HEALTHY}, "mlx", UNNAMED_MLX),
        (
            {"/v1/models": MODELS, "/api/version": reply_json({"error": "Unexpected endpoint"})},
            "openai",
            OPENAI,
        ),
        ({"/v1/models": MODELS, "/api/version": PAGE}, "openai", OPENAI),
    ],
    ids=[
        "ollama",
        "mlx_lm",
        "mlx_lm without cache",
        "mlx_lm with a dead worker",
        "LM Studio",
        "generic",
        "where MLX is expected",
        "mlx_lm behind nginx",
        "another server where MLX is expected",
        "LM Studio-like",
        "page",
    ],
)
async def test_a_server_is_recognised(replies, source, kind):
    """By what it answers, not by the port it stands on."""
    async with before(replies, source=source) as (node, _):
        assert (await node.provider()).kind is kind


async def test_what_does_not_say_that_it_is_mlx_lm_is_not_called_so():
    """It is treated as carefully, for a name may swap its model, and called what it is known to be."""
    async with before({"/v1/models": MODELS}, source="mlx") as (node, _):
        provider = await node.provider()
        assert await provider.version() == provider.kind.label == "OpenAI-style server"
        assert provider.kind.naming_swaps


async def test_a_stranger_is_called_as_it_calls_itself():
    """The header tells which program to look for."""
    page = answer(b"<html></html>", status="404 Not Found", Server="SimpleHTTP/0.6 Python/3.11.7")
    async with before({"/v1/models": page, "/api/version": page}, source="mlx") as (node, _):
        with pytest.raises(CallError) as caught:
            await node.provider()
        assert caught.value.text.startswith("SimpleHTTP/0.6 Python/3.11.7 answers HTTP there, but neither")


def llamacpp(body, status="200 OK"):
    return reply_json(body, status=status, Server="llama.cpp")


LISTED_BY_LLAMACPP = {"object": "list", "data": [{"id": "smol", "object": "model", "owned_by": "llamacpp"}]}
ABSENT = llamacpp({"error": {"message": "File Not Found", "code": 404}}, "404 Not Found")
LOADING = llamacpp(
    {"error": {"message": "Loading model", "type": "unavailable_error", "code": 503}},
    "503 Service Unavailable",
)
LOCKED = llamacpp({"error": {"message": "Invalid API Key", "code": 401}}, "401 Unauthorized")


@pytest.mark.parametrize("source", ["llamacpp", "mlx", "openai", "ollama"])
@pytest.mark.parametrize(
    "replies",
    [
        {"/api/version": ABSENT, "/v1/models": llamacpp(LISTED_BY_LLAMACPP)},
        {"/api/version": LOADING, "/v1/models": LOADING},
        {"/api/version": LOCKED, "/v1/models": LOCKED},
        {"/v1/models": reply_json(LISTED_BY_LLAMACPP, Server="nginx")},
        {"/v1/models": reply_json(LISTED_BY_LLAMACPP, Server=BARE), "/health": HEALTHY},
    ],
    ids=["ready", "loading", "locked", "behind nginx", "behind a proxy in Python"],
)
async def test_a_llamacpp_server_is_recognised_behind_any_address(replies, source):
    """By its header in every state, or by the owner of its models behind a proxy that hides the header."""
    async with before(replies, source=source) as (node, _):
        assert (await node.provider()).kind is LLAMACPP


async def test_a_llamacpp_server_is_recognised_without_a_question_for_ollama():
    """`protocol: openai` asks for no page of Ollama's, and finds out all the same."""
    replies = {"/v1/models": llamacpp(LISTED_BY_LLAMACPP)}
    async with before(replies, source="mlx", protocol="openai") as (node, server):
        assert (await node.provider()).kind is LLAMACPP
        assert [request.path for request in server.seen] == ["/v1/models"]


@pytest.mark.parametrize(
    "replies",
    [
        {"/v1/models": reply_json({"object": "list", "data": [{"id": "m", "owned_by": "vllm"}]})},
        {"/v1/models": reply_json({"object": "list", "data": [{"id": "m", "owned_by": "x"}]}, Server=BARE)},
    ],
    ids=["vLLM", "a proxy in Python"],
)
async def test_a_server_that_names_another_owner_is_no_mlx_server(replies):
    """Not even where one is expected: what it says outranks its address."""
    async with before(replies, source="mlx") as (node, _):
        assert (await node.provider()).kind is OPENAI


@pytest.mark.parametrize("source", ["mlx", "openai"])
@pytest.mark.parametrize(
    "replies",
    [
        {"/v1/models": answer(b"", framing="close", Server=BARE)},
        {"/v1/models": answer(b"", framing="close", Server=BARE), "/health": answer(b"ok", Server=BARE)},
        {"/v1/models": answer(b"<html></html>", Content_Type="text/html", Server=BARE), "/health": HEALTHY},
        {"/v1/models": reply_json({"hello": 1}, Server=BARE), "/health": HEALTHY},
        {"/v1/models": answer(b"<html></html>", status="404 Not Found", Server="SimpleHTTP/0.6 Python/3.11")},
    ],
    ids=["empty", "another health page", "page", "other JSON", "http.server"],
)
async def test_a_server_in_python_is_not_taken_for_an_mlx_server(replies, source):
    """Many a small server is a bare `http.server`; only what mlx_lm.server says makes it one."""
    async with before(replies, source=source) as (node, _):
        with pytest.raises(CallError) as caught:
            await node.provider()
        assert caught.value.cause is CallCause.PAYLOAD


@pytest.mark.parametrize(
    "replies",
    [
        {},
        {"/v1/models": PAGE},
        {"/v1/models": PAGE, "/api/version": PAGE},
        {"/v1/models": reply_json({"hello": 1})},
    ],
    ids=["404 for all", "page", "page for all", "other JSON"],
)
async def test_something_else_is_not_taken_for_a_model_server(replies):
    """It answers HTTP and speaks no protocol we know: that is said, and not called down."""
    async with before(replies) as (node, _):
        with pytest.raises(CallError) as caught:
            await node.provider()
        assert caught.value.cause is CallCause.PAYLOAD
        assert "neither as Ollama nor in the OpenAI style" in caught.value.text


@pytest.mark.parametrize("path", ["/api/version", "/v1/models"])
async def test_a_locked_door_is_called_locked(path):
    """401 is not "unknown server"."""
    async with before({path: reply_json({"error": "no key"}, status="401 Unauthorized")}) as (
        node,
        _,
    ):
        with pytest.raises(CallError) as caught:
            await node.provider()
        assert caught.value.status == 401


async def test_an_ollama_in_trouble_is_not_called_unknown():
    """A 500 just now says nothing about the protocol."""
    reply = reply_json({"error": "model list cache unavailable"}, status="500 Internal Server Error")
    async with before({"/api/version": reply}) as (node, _):
        with pytest.raises(CallError) as caught:
            await node.provider()
        assert (caught.value.cause, caught.value.status) == (CallCause.STATUS, 500)


async def test_nobody_there_is_refused():
    """Detection tells what the connection shows."""
    async with at(f"http://127.0.0.1:{free_port()}") as node:
        with pytest.raises(CallError) as caught:
            await node.provider()
        assert caught.value.cause is CallCause.REFUSED


async def test_a_silent_server_has_a_deadline():
    """No detection hangs."""
    async with before({"/api/version": Reply(end="silence")}) as (node, _):
        with pytest.raises(CallError) as caught:
            await node.provider()
        assert caught.value.cause is CallCause.TIMEOUT


async def test_a_configured_protocol_is_not_asked_for():
    """Who says `ollama` gets Ollama without a question."""
    async with before({}, protocol="ollama") as (node, server):
        assert (await node.provider()).kind is OLLAMA
        assert server.seen == []


async def test_a_server_is_asked_once_and_again_after_it_was_forgotten():
    """Another server may have taken the port."""
    async with before({"/api/version": reply_json({"version": "1"})}) as (node, server):
        assert node.known is None
        assert await node.provider() is await node.provider() is node.known
        assert len(server.seen) == 1
        server.replies = {"/v1/models": MODELS}
        node.forget()
        assert (await node.provider()).kind is OPENAI


async def test_an_ollama_without_version_and_ps_is_still_one(httpserver):
    """A server that only lists and chats is Ollama-shaped; what it holds in memory is not known."""
    httpserver.no_handler_status_code = 404
    httpserver.expect_request("/api/tags").respond_with_json({"models": [{"name": "m:1b", "size": 1}]})
    node = Node(NodeConfig("ollama", httpserver.url_for("").rstrip("/"), OLLAMA), BUDGETS)
    try:
        provider = await node.provider()
        assert provider.kind is OLLAMA
        assert await provider.version() == "Ollama"
        assert await provider.resident() is None
    finally:
        await node.aclose()
