"""Ollama's native protocol (wire facts A)."""

import json
from contextlib import asynccontextmanager
from datetime import UTC, datetime

import pytest

from opskit.llm.faults import FaultKind, classify
from opskit.providers.base import (
    CallCause,
    CallError,
    ChatRequest,
    End,
    Message,
    ModelInfo,
    Progress,
    Reasoning,
    Resident,
    Token,
    Usage,
)
from opskit.providers.http import HttpClient
from opskit.providers.node import read_contents
from opskit.providers.ollama import Ollama
from tests.parts.dialects import OLLAMA, collect, finished, said
from tests.parts.raw_server import answer, reply_json, serving

token, end = OLLAMA.token, OLLAMA.end


@pytest.fixture
async def node():
    """A server to be scripted, and a provider before it."""
    async with serving() as server:
        http = HttpClient(server.url, metadata_s=1.0)
        yield server, Ollama(http)
        await http.aclose()


@asynccontextmanager
async def refused(cause: CallCause):
    with pytest.raises(CallError) as caught:
        yield caught
    assert caught.value.cause is cause


def line(**fields) -> bytes:
    return json.dumps(fields).encode() + b"\n"


class TestStream:
    async def test_the_end_brings_counts_and_seconds(self, node):
        """Durations come in nanoseconds; a count of zero is left out on the wire."""
        server, ollama = node
        last = finished(
            done_reason="length",
            load_duration=2_500_000_000,
            eval_duration=500_000_000,
            prompt_eval_count=12,
        )
        server.replies["/api/chat"] = answer(token("Hi"), last, framing="chunked")
        assert await collect(ollama) == [Token("Hi"), End("length", Usage(12, None, 2.5, 0.5), "m")]

    async def test_thinking_is_not_the_answer(self, node):
        """What the model thinks aloud is told apart from what it says."""
        server, ollama = node
        thought = line(message={"role": "assistant", "content": "", "thinking": "hm"}, done=False)
        server.replies["/api/chat"] = answer(thought, token("Four"), end, framing="chunked")
        assert (await collect(ollama))[:2] == [Reasoning("hm"), Token("Four")]

    async def test_half_a_character_does_not_cost_the_answer(self, node):
        """A model may end in the middle of a sign, and its server pass the bytes on."""
        server, provider = node
        half = b'{"message": {"role": "assistant", "content": "In 1945. \xf0\x9f"}, "done": false}\n'
        server.replies["/api/chat"] = answer(half, finished(done_reason="stop"))
        assert said(await collect(provider)) == "In 1945. \ufffd"

    async def test_text_in_the_last_line_is_not_lost(self, node):
        """`done: true` may carry the last piece."""
        server, ollama = node
        server.replies["/api/chat"] = answer(token("Hello"), finished(" world"))
        assert said(await collect(ollama)) == "Hello world"

    async def test_an_error_after_the_first_token(self, node):
        """The status stays 200; the error is a line of its own (wire facts A5)."""
        server, ollama = node
        broken = line(error="an error was encountered while running the model: unexpected EOF")
        server.replies["/api/chat"] = answer(token("Hello"), broken, framing="chunked")
        async with refused(CallCause.IN_BAND) as caught:
            await collect(ollama)
        assert classify(caught.value).kind is FaultKind.RUNNER_CRASHED

    @pytest.mark.parametrize(
        "parts",
        [
            [token("Hello")],
            [line(model="m", message={"role": "assistant", "content": "all"}, done=False)],
            [line(model="m", done=False)],
        ],
    )
    async def test_an_end_without_done_is_no_success(self, node, parts):
        """The guard against repetition and a dead runner both end like this (wire facts A5)."""
        server, ollama = node
        server.replies["/api/chat"] = answer(*parts, framing="chunked")
        async with refused(CallCause.ENDED):
            await collect(ollama)

    async def test_blank_lines_and_signs_of_life_do_no_harm(self, node):
        """What is neither text nor end is passed over."""
        server, ollama = node
        server.replies["/api/chat"] = answer(b"\n", line(done=False), b"\r\n", token("Hi"), end)
        events = await collect(ollama)
        assert Progress() in events
        assert said(events) == "Hi"

    @pytest.mark.parametrize("chunk", [b"{}\n", line(response="generate"), b"{broken\n", b"\xff\xfe\n"])
    async def test_a_line_of_another_protocol_is_a_bad_payload(self, node, chunk):
        """A server that speaks otherwise is not believed."""
        server, ollama = node
        server.replies["/api/chat"] = answer(chunk, end)
        async with refused(CallCause.PAYLOAD):
            await collect(ollama)

    @pytest.mark.parametrize(
        "fields, sent",
        [
            ({}, {}),
            ({"max_tokens": 5}, {"options": {"num_predict": 5}}),
            ({"temperature": 0.0}, {"options": {"temperature": 0.0}}),
            ({"seed": 0}, {"options": {"seed": 0}}),
            ({"may_cut": False}, {"truncate": False}),
            ({"num_ctx": 8192}, {"options": {"num_ctx": 8192}}),
            (
                {"num_ctx": 8192, "load_options": (("num_thread", 1),)},
                {"options": {"num_thread": 1, "num_ctx": 8192}},
            ),
        ],
    )
    async def test_only_what_was_asked_for_is_sent(self, node, fields, sent):
        """An option that nobody set would reload the model."""
        server, ollama = node
        server.replies["/api/chat"] = answer(end)
        await collect(ollama, **fields)
        body = server.bodies("/api/chat")[0]
        assert body.items() >= sent.items()
        assert body.keys() - sent.keys() == {"model", "messages", "stream"}


class TestLoad:
    async def test_loading_generates_nothing(self, node):
        """No messages, no stream: the model is loaded and nothing is said (wire facts A3)."""
        server, ollama = node
        server.replies["/api/chat"] = reply_json({"done": True, "done_reason": "load"})
        await ollama.load("m", num_ctx=4096)
        assert server.bodies("/api/chat") == [
            {"model": "m", "messages": [], "stream": False, "options": {"num_ctx": 4096}}
        ]

    async def test_a_load_that_fails_says_why(self, node):
        """By status, or under a 200."""
        server, ollama = node
        server.replies["/api/chat"] = [
            reply_json({"error": "cudaMalloc failed: out of memory"}, status="500 Internal Server Error"),
            reply_json({"error": "mlx runner failed: x"}),
        ]
        async with refused(CallCause.STATUS) as caught:
            await ollama.load("m")
        assert classify(caught.value).kind is FaultKind.OUT_OF_MEMORY
        async with refused(CallCause.IN_BAND):
            await ollama.load("m")

    @pytest.mark.parametrize(
        ("text", "listed", "kind"),
        [
            ('model "m" not found, try pulling it first', "m:latest", FaultKind.BROKEN_MODEL_FILE),
            ('model "m" not found, try pulling it first', "other:latest", FaultKind.NOT_INSTALLED),
            ("404 page not found", "m:latest", FaultKind.SERVER_ERROR),
        ],
    )
    async def test_a_404_for_a_model_that_is_listed_is_a_missing_file(self, node, text, listed, kind):
        """Ollama keeps the name when a blob is gone (wire facts A8); a load and a stream tell the same."""
        server, ollama = node
        server.replies["/api/chat"] = reply_json({"error": text}, status="404 Not Found")
        server.replies["/api/tags"] = reply_json({"models": [{"name": listed, "model": listed}]})
        async with refused(CallCause.STATUS) as loading:
            await ollama.load("m")
        async with refused(CallCause.STATUS) as asking:
            await collect(ollama)
        assert {classify(caught.value).kind for caught in (loading, asking)} == {kind}

    async def test_the_type_of_an_error_within_a_stream_is_kept(self, node):
        """What the runner names outright reaches the classifier."""
        server, ollama = node
        body = {"error": {"message": "no", "type": "exceed_context_size_error"}}
        server.replies["/api/chat"] = answer(line(**body))
        async with refused(CallCause.IN_BAND) as caught:
            await collect(ollama)
        assert classify(caught.value).kind is FaultKind.CONTEXT_EXCEEDED


class TestMetadata:
    async def test_installed_models_with_what_is_told_of_them(self, node):
        """Recent builds tell more than old ones; a cloud stub is marked."""
        server, ollama = node
        details = {"family": "qwen2", "parameter_size": "7.6B", "quantization_level": "Q4_K_M"}
        server.replies["/api/tags"] = reply_json(
            {
                "models": [
                    {"name": "a:7b", "model": "a:7b", "size": 4_700_000_000, "details": details},
                    {"name": "b:cloud", "remote_host": "https://ollama.com", "capabilities": ["completion"]},
                    {"model": "c", "size": 1e999, "details": None},
                    {"name": ""},
                    "nonsense",
                ]
            }
        )
        assert await ollama.models() == (
            ModelInfo("a:7b", 4_700_000_000, "qwen2", 7.6e9, "Q4_K_M"),
            ModelInfo("b:cloud", capabilities=frozenset({"completion"}), cloud=True),
            ModelInfo("c"),
        )

    async def test_the_names_of_one_digest_are_one_model(self, node):
        """The first name counts, and is that of the loaded model too, whichever name loaded it (A8)."""
        server, ollama = node
        entries = [
            {"name": "copy:latest", "digest": "d1", "size": 1},
            {"name": "other:1b", "digest": "d2", "size": 1},
            {"name": "first:latest", "digest": "d1", "size": 1},
        ]
        server.replies["/api/tags"] = reply_json({"models": entries})
        server.replies["/api/ps"] = reply_json({"models": [{"name": "copy:latest", "digest": "d1"}]})
        assert await ollama.resident() == (Resident("first:latest"),)
        assert await ollama.models() == (
            ModelInfo("other:1b", 1),
            ModelInfo("first:latest", 1, aliases=("copy:latest",)),
        )
        contents = await read_contents(ollama)
        assert contents.resident == (Resident("first:latest"),)

    async def test_a_list_that_cannot_be_read_takes_no_name_away(self, node):
        """What is loaded is told by the name that loaded it where nothing else is known."""
        server, ollama = node
        server.replies["/api/ps"] = reply_json({"models": [{"name": "copy:latest", "digest": "d1"}]})
        assert await ollama.resident() == (Resident("copy:latest"),)

    async def test_loaded_models_with_their_times(self, node):
        """Go writes nanoseconds; the zero time is no time."""
        server, ollama = node
        entry = {"name": "a", "size": 10, "size_vram": 5, "context_length": 4096}
        server.replies["/api/ps"] = reply_json(
            {
                "models": [
                    entry | {"expires_at": "2026-03-01T12:00:00.123456789Z"},
                    {"name": "b", "expires_at": "0001-01-01T00:00:00Z"},
                    {"name": "c", "expires_at": "soon"},
                ]
            }
        )
        loaded = await ollama.resident()
        assert loaded[0] == Resident("a", 10, 5, 4096, datetime(2026, 3, 1, 12, 0, 0, 123456, UTC))
        assert [entry.expires_at for entry in loaded[1:]] == [None, None]

    async def test_nothing_installed_may_come_as_null(self, node):
        """Go writes an empty list as null."""
        server, ollama = node
        server.replies["/api/tags"] = reply_json({"models": None})
        assert await ollama.models() == ()

    @pytest.mark.parametrize("body", [{}, [], {"models": 5}, "x"])
    async def test_a_list_of_another_shape_is_a_bad_payload(self, node, body):
        """Not an empty one."""
        server, ollama = node
        server.replies["/api/tags"] = reply_json(body)
        async with refused(CallCause.PAYLOAD):
            await ollama.models()

    async def test_a_version_is_asked_without_touching_a_model(self, node):
        """A cheap sign of life."""
        server, ollama = node
        server.replies["/api/version"] = reply_json({"version": "0.33.0"})
        assert await ollama.version() == "Ollama 0.33.0"
        assert [request.path for request in server.seen] == ["/api/version"]


async def test_the_lost_error_of_the_v1_route_is_not_met_here(node):
    """opskit asks Ollama on its native route, where errors within a stream are told (wire facts A5)."""
    server, ollama = node
    server.replies["/api/chat"] = answer(end)
    await collect(ollama)
    assert {request.path for request in server.seen} == {"/api/chat"}
    assert ChatRequest((Message("user", "hi"),), "m").model == server.seen[0].body["model"]


@pytest.mark.parametrize("indent", [None, 4])
async def test_one_document_instead_of_a_stream_is_read(node, indent):
    """A server that ignores `stream` and answers one document, over several lines or not, is understood."""
    server, provider = node
    document = {"model": "m", "message": {"role": "assistant", "content": "Paris."}, "done": True}
    server.replies["/api/chat"] = answer(json.dumps(document, indent=indent).encode())
    events = [event async for event in provider.stream(ChatRequest((Message("user", "hi"),), "m"))]
    assert events[0] == Token("Paris.")
    assert isinstance(events[-1], End)
