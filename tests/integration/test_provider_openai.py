"""The OpenAI-style protocol, and mlx_lm.server's dialect of it (wire facts A5, B, C)."""

import json

import pytest

from opskit.llm.faults import FaultKind, classify
from opskit.providers.base import (
    DEFAULT_MODEL,
    CallCause,
    CallError,
    End,
    ModelInfo,
    Progress,
    Reasoning,
    Resident,
    Token,
    Usage,
)
from opskit.providers.http import HttpClient
from opskit.providers.kinds import LMSTUDIO, MLX_LM, OPENAI
from opskit.providers.openai import OpenAIStyle
from tests.parts.dialects import DONE, collect, delta, said, sse
from tests.parts.raw_server import answer, reply_json, serving

CHAT = "/v1/chat/completions"
HELLO = sse(delta("Hello", role="assistant"))
STOP = sse(delta(finish="stop"))
LISTED = reply_json({"object": "list", "data": [{"id": "m"}, {"id": "org/other"}]})


@pytest.fixture
async def node():
    """A server to be scripted, and a way to make providers before it."""
    async with serving() as server:
        server.replies["/v1/models"] = LISTED
        http = HttpClient(server.url, metadata_s=1.0)
        yield server, lambda *args: OpenAIStyle(http, *args)
        await http.aclose()


async def failure(provider, model: str = "m") -> CallError:
    with pytest.raises(CallError) as caught:
        await collect(provider, model)
    return caught.value


class TestEnds:
    @pytest.mark.parametrize(
        "parts, reason",
        [
            ([HELLO, STOP, DONE], "stop"),
            ([HELLO, STOP], "stop"),
            ([HELLO, DONE], "stop"),
            ([HELLO, sse(delta(finish="length")), DONE], "length"),
            ([HELLO, STOP, b"data: [DONE]"], "stop"),
            ([HELLO, STOP.rstrip()], "stop"),
            ([sse(delta("Hello", finish="stop"))], "stop"),
            ([HELLO, STOP, b"data: \n\n", b": bye\n\n", DONE], "stop"),
        ],
    )
    async def test_a_finish_reason_or_done_is_a_success(self, node, parts, reason):
        """Either is enough; some servers forget one of them."""
        server, make = node
        server.replies[CHAT] = answer(*parts, framing="chunked")
        events = await collect(make())
        assert said(events) == "Hello"
        assert events[-1].reason == reason

    @pytest.mark.parametrize(
        "parts",
        [
            [HELLO],
            [HELLO, sse(delta(""))],
            [sse(delta("", role="assistant"))],
            [HELLO, b": keepalive 1/2\n\n"],
        ],
        ids=["cut", "ollama lost its error", "nothing said", "silence"],
    )
    async def test_an_end_without_both_is_none(self, node, parts):
        """The only sign of a killed mlx_lm.server, and of an error that Ollama's /v1 route loses."""
        server, make = node
        server.replies[CHAT] = answer(*parts, framing="chunked")
        error = await failure(make())
        assert (error.cause, classify(error).kind) == (CallCause.ENDED, FaultKind.TRUNCATED)

    async def test_a_reply_of_nothing_is_called_so(self, node):
        """It was not cut: it never began."""
        server, make = node
        server.replies[CHAT] = answer(b"")
        assert (await failure(make())).text == "the server answered 200 with an empty body"

    async def test_a_page_for_people_is_called_so(self, node):
        """What stands before the server wants a login, and answers 200."""
        server, make = node
        server.replies[CHAT] = answer(b"<!doctype html><title>Sign in</title>", Content_Type="text/html")
        error = await failure(make())
        assert error.cause is CallCause.PAYLOAD
        assert error.text.endswith("an HTML page (Sign in)")

    async def test_the_counts_of_an_extra_chunk(self, node):
        """With `include_usage` they come after the end, in a chunk without choices."""
        server, make = node
        usage = sse(
            {
                "object": "chat.completion",
                "choices": [],
                "usage": {"prompt_tokens": 3, "completion_tokens": 2},
            }
        )
        server.replies[CHAT] = answer(HELLO, STOP, usage, DONE)
        assert (await collect(make()))[-1] == End("stop", Usage(3, 2))
        assert server.bodies(CHAT)[0]["stream_options"] == {"include_usage": True}

    @pytest.mark.parametrize(
        ("counts", "usage"),
        [
            ({"usage": {"prompt_tokens": 9, "completion_tokens": 2}}, Usage(9, 2)),
            (
                {
                    "usage": {
                        "prompt_tokens": 9,
                        "completion_tokens": 2,
                        "prompt_tokens_details": {"cached_tokens": 7},
                    }
                },
                Usage(9, 2, counts_cached=True),
            ),
            ({"timings": {"prompt_n": 2, "cache_n": 7}}, Usage(9, counts_cached=True)),
            ({"timings": {"prompt_n": 2}}, Usage()),
        ],
    )
    async def test_cached_tokens_of_a_prompt(self, node, counts, usage):
        """Whether they are in the count is told by the server, or not known."""
        server, make = node
        server.replies[CHAT] = answer(HELLO, STOP, sse({"choices": []} | counts), DONE)
        assert (await collect(make()))[-1] == End("stop", usage)


class TestEvents:
    async def test_comments_are_signs_of_life(self, node):
        """mlx_lm.server counts its prefill in them, OpenRouter says that it works."""
        server, make = node
        comments = b": keepalive 3/10\n\n: OPENROUTER PROCESSING\n\n: keepalive soon\n\n"
        server.replies[CHAT] = answer(comments, HELLO, STOP, DONE, framing="chunked")
        events = await collect(make())
        assert events[:4] == [Progress(3, 10), Progress(), Progress(), Token("Hello")]

    @pytest.mark.parametrize("key", ["reasoning", "reasoning_content"])
    async def test_thinking_is_not_the_answer(self, node, key):
        """Under either of its names; an empty thought is none."""
        server, make = node
        thoughts = sse(delta("", **{key: "hm"})) + sse(delta("", **{key: ""}))
        server.replies[CHAT] = answer(thoughts, HELLO, STOP, DONE)
        assert (await collect(make()))[:2] == [Reasoning("hm"), Token("Hello")]

    @pytest.mark.parametrize("indent", [None, 2])
    async def test_one_document_instead_of_a_stream(self, node, indent):
        """A server that ignores `stream` is understood all the same."""
        server, make = node
        message = {"role": "assistant", "content": "Hello"}
        body = {"choices": [{"message": message, "finish_reason": "stop"}], "usage": {"completion_tokens": 1}}
        server.replies[CHAT] = answer(json.dumps(body, indent=indent).encode())
        assert await collect(make()) == [Token("Hello"), End("stop", Usage(None, 1))]

    @pytest.mark.parametrize(
        "extra",
        [
            sse({"usage": {"prompt_tokens": 3, "completion_tokens": 2}}),
            sse({"choices": None, "usage": {"prompt_tokens": 3, "completion_tokens": 2}}),
            b"event: ping\n" + sse({"type": "ping"}),
        ],
        ids=["usage", "null", "ping"],
    )
    async def test_a_chunk_without_choices_takes_nothing_back(self, node, extra):
        """Counts and signs of life come in chunks of their own, before and after the text."""
        server, make = node
        server.replies[CHAT] = answer(extra, HELLO, extra, STOP, extra, DONE, framing="chunked")
        events = await collect(make())
        assert said(events) == "Hello"
        assert events[-1].reason == "stop"

    @pytest.mark.parametrize("said_as", ["message", "text"])
    async def test_whole_messages_may_be_streamed(self, node, said_as):
        """Some servers stream what others send as one document, or the texts of plain completions."""
        server, make = node
        content = {"message": {"role": "assistant", "content": "Hello"}, "text": "Hello"}[said_as]
        server.replies[CHAT] = answer(
            sse({"choices": [{said_as: content, "finish_reason": "stop"}]}), DONE, framing="chunked"
        )
        assert said(await collect(make())) == "Hello"

    async def test_a_raw_line_separator_within_json(self, node):
        """U+2028 does not end a line."""
        server, make = node
        server.replies[CHAT] = answer(sse(delta("a\u2028b\u2029c\u0085d")), STOP, DONE)
        assert said(await collect(make())) == "a\u2028b\u2029c\u0085d"


class TestErrorsUnderA200:
    @pytest.mark.parametrize(
        "body, text",
        [
            ({"error": {"message": "no memory", "code": 502}}, "no memory"),
            ({"object": "error", "message": "no memory", "type": "X"}, "no memory"),
            ({"error": "no memory"}, "no memory"),
            (
                {"choices": [{"delta": {}, "finish_reason": "error", "error": {"message": "no memory"}}]},
                "no memory",
            ),
            (
                {"choices": [{"delta": {}, "finish_reason": "error"}]},
                "the server ended the answer with an error",
            ),
        ],
        ids=["OpenAI", "vLLM", "plain", "OpenRouter", "reason only"],
    )
    @pytest.mark.parametrize("before", [b"", HELLO], ids=["first", "later"])
    async def test_an_error_is_an_error_in_any_shape(self, node, body, text, before):
        """At the beginning and in the middle; as an event and as a bare line."""
        server, make = node
        server.replies[CHAT] = [answer(before, sse(body)), answer(before, json.dumps(body).encode() + b"\n")]
        for _ in range(2):
            error = await failure(make())
            assert (error.cause, error.text) == (CallCause.IN_BAND, text)

    @pytest.mark.parametrize(
        "data",
        ['{"message": "no memory"}', '{"detail": "no memory"}', "no memory"],
        ids=["message", "detail", "text"],
    )
    async def test_an_event_named_error_is_one(self, node, data):
        """Whatever its data look like, as JSON and as plain words."""
        server, make = node
        server.replies[CHAT] = answer(HELLO, f"event: error\ndata: {data}\n\n".encode(), framing="chunked")
        error = await failure(make())
        assert (error.cause, error.text) == (CallCause.IN_BAND, "no memory")

    async def test_a_missing_model_is_one_under_any_status(self, node):
        """A gateway that always answers 200 says it in its body."""
        server, make = node
        server.replies[CHAT] = reply_json({"error": "model 'm' not found"})
        assert classify(await failure(make())).kind is FaultKind.NOT_INSTALLED

    async def test_a_code_within_the_error_counts_as_its_status(self, node):
        """OpenRouter puts 429 into the body of a 200."""
        server, make = node
        server.replies[CHAT] = answer(sse({"error": {"code": 429, "message": "slow down"}, "choices": []}))
        error = await failure(make())
        assert classify(error).kind is FaultKind.RATE_LIMITED

    async def test_no_choices_at_all_is_a_bad_payload(self, node):
        """A chunk of another protocol is not believed."""
        server, make = node
        server.replies[CHAT] = answer(sse({"message": {"content": "hi"}}), DONE)
        assert (await failure(make())).cause is CallCause.PAYLOAD


class TestNames:
    @pytest.mark.parametrize("kind", [MLX_LM, OPENAI, LMSTUDIO], ids=lambda kind: kind.name)
    async def test_a_name_that_is_not_listed_never_reaches_the_wire(self, node, kind):
        """mlx_lm.server would download it and swap it in (wire facts B3)."""
        server, make = node
        server.replies["/api/v0/models"] = reply_json(
            {"data": [{"id": "m", "type": "llm", "state": "loaded"}]}
        )
        error = await failure(make(kind), "qwq:32b")
        assert (error.cause, classify(error).kind) == (CallCause.NOT_LISTED, FaultKind.NOT_LISTED)
        assert {request.method for request in server.seen} == {"GET"}
        assert not any(b"qwq" in request.raw for request in server.seen)

    async def test_the_list_is_not_fetched_for_each_call(self, node):
        """A listed name is known to be one."""
        server, make = node
        server.replies[CHAT] = answer(HELLO, STOP, DONE)
        provider = make(MLX_LM)
        for _ in range(3):
            await collect(provider)
        assert [request.path for request in server.seen].count("/v1/models") == 1
        assert server.bodies(CHAT)[0]["model"] == "m"

    async def test_the_resident_model_is_asked_for_by_no_name(self, node):
        """Leaving the name out is what means it; a configured one is sent as it was given at the start."""
        server, make = node
        server.replies[CHAT] = answer(HELLO, STOP, DONE)
        await collect(make(MLX_LM), DEFAULT_MODEL)
        await collect(make(MLX_LM, "/models/qwen"), DEFAULT_MODEL)
        first, second = server.bodies(CHAT)
        assert "model" not in first
        assert second["model"] == "/models/qwen"
        assert [request.path for request in server.seen] == [CHAT, CHAT]


class TestLists:
    async def test_mlx_lists_its_resident_model_first(self, node):
        """The only one that is known to be loaded; the list is read once."""
        server, make = node
        assert await make(MLX_LM).models() == (
            ModelInfo(DEFAULT_MODEL, resident=True),
            ModelInfo("m"),
            ModelInfo("org/other"),
        )
        assert await make(MLX_LM).resident() == (Resident(DEFAULT_MODEL),)
        assert len(server.seen) == 1

    async def test_mlx_without_a_cache_folder_still_serves(self, node):
        """A 200 with no body at all (wire facts B1) is an empty list, and only there."""
        server, make = node
        server.replies["/v1/models"] = answer(b"", framing="close")
        assert await make(MLX_LM).models() == (ModelInfo(DEFAULT_MODEL, resident=True),)
        with pytest.raises(CallError) as caught:
            await make(OPENAI).models()
        assert caught.value.cause is CallCause.PAYLOAD

    async def test_lm_studio_tells_what_is_loaded(self, node):
        """Its own list says more; embedding models are left out."""
        server, make = node
        entries = [
            {"id": "a", "type": "llm", "arch": "qwen2", "state": "loaded", "max_context_length": 4096},
            {"id": "b", "type": "vlm", "state": "not-loaded", "quantization": "4bit"},
            {"id": "c", "type": "embeddings", "state": "loaded"},
        ]
        server.replies["/api/v0/models"] = reply_json({"data": entries})
        provider = make(LMSTUDIO)
        assert await provider.models() == (
            ModelInfo("a", family="qwen2", context_length=4096, resident=True),
            ModelInfo("b", quantization="4bit", resident=False),
        )
        assert await provider.resident() == (Resident("a"),)

    async def test_a_server_that_serves_what_it_lists(self, node):
        """vLLM holds its models, each under several names; of others nothing is claimed."""
        server, make = node
        entries = [
            {"id": "a", "owned_by": "vllm", "max_model_len": 8192, "root": "/m", "parent": None},
            {"id": "also-a", "owned_by": "vllm", "max_model_len": 8192, "root": "/m", "parent": None},
            {"id": "adapter", "owned_by": "vllm", "root": "/m", "parent": "a"},
            {"id": "b", "owned_by": "me"},
            {"id": 7},
        ]
        server.replies["/v1/models"] = reply_json({"data": entries})
        assert await make().models() == (
            ModelInfo("a", context_length=8192, resident=True, aliases=("also-a",)),
            ModelInfo("adapter", resident=True),
            ModelInfo("b"),
        )
        assert await make().resident() is None


class TestHealth:
    async def test_a_dead_generation_thread_shows_in_health(self, node):
        """mlx_lm.server answers 503 there (wire facts B1)."""
        server, make = node
        server.replies["/health"] = reply_json({"status": "unavailable"}, status="503 Service Unavailable")
        with pytest.raises(CallError) as caught:
            await make(MLX_LM).version()
        assert caught.value.status == 503

    async def test_a_living_one_is_named(self, node):
        """Without touching a model."""
        server, make = node
        server.replies["/health"] = reply_json({"status": "ok"})
        assert await make(MLX_LM).version() == "mlx_lm.server"
        assert await make(OPENAI).version() == "OpenAI-style server"
        assert {request.method for request in server.seen} == {"GET"}


class TestText:
    async def test_text_in_parts_is_joined(self, node):
        """Mistral sends parts, and thoughts among them."""
        server, make = node
        thought = {"type": "thinking", "thinking": [{"type": "text", "text": "Hm."}]}
        parts = [thought, {"type": "text", "text": "Hello"}]
        server.replies[CHAT] = answer(sse(delta(parts)), STOP, DONE)
        events = await collect(make())
        assert said(events) == "Hello"
        assert [event.text for event in events if isinstance(event, Reasoning)] == ["Hm."]

    async def test_a_byte_order_mark_hides_nothing(self, node):
        """A stream of events may begin with one."""
        server, make = node
        server.replies[CHAT] = answer(b"\xef\xbb\xbf" + HELLO, STOP, DONE)
        assert said(await collect(make())) == "Hello"
