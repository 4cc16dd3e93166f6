"""The simulated Ollama over real HTTP."""

import asyncio
import contextlib
import json
import socket
import time
from datetime import UTC, datetime

import httpx
import pytest

from opskit.sandbox.faults import FaultBoard, SandboxFault, SandboxFaultKind
from opskit.sandbox.ollama import SimModel, SimulatedOllama
from tests.parts.loopback import dial, exchange, http_request, until

K = SandboxFaultKind
PHI = SimModel("phi3.5:3.8b", resident=True, family="phi3")
QWEN = SimModel("qwen2.5-coder:7b", 4_700_000_000)
STUCK = SimModel("stuck:70b", 40_000_000_000, load_s=3600)
TINY = SimModel("tinyllama:1.1b-chat")
EMBED = SimModel("nomic-embed-text:latest", capabilities=("embedding",))
MODELS = (PHI, QWEN, STUCK, TINY, EMBED)
ASK = [{"role": "user", "content": "describe this system in a sentence"}]
ANSWER = "Here is a short answer to a goal of 6 words."


def say(_messages, _model):
    return ANSWER


@pytest.fixture
async def ollama():
    async with SimulatedOllama(models=MODELS, reply=say) as server:
        yield server


@pytest.fixture
async def client(ollama):
    async with httpx.AsyncClient(base_url=ollama.url, timeout=30, trust_env=False) as client:
        yield client


def chat(model: str = PHI.name, **fields: object) -> dict[str, object]:
    return {"model": model, "messages": ASK, **fields}


async def lines(client, body, path="/api/chat"):
    reply = await client.post(path, json=body)
    return [json.loads(line) for line in reply.text.splitlines()]


def text(objects):
    return "".join(one["message"]["content"] for one in objects if "message" in one)


async def broken(client, body, path="/api/chat"):
    """Read a stream that breaks off; returns the whole lines before the break."""
    got = b""
    try:
        async with client.stream("POST", path, json=body) as reply:
            assert reply.status_code == 200
            async for part in reply.aiter_bytes():
                got += part
    except httpx.RemoteProtocolError:
        return [json.loads(line) for line in got.splitlines()]
    pytest.fail("the stream ended properly")


class TestLists:
    async def test_the_root_says_that_it_runs(self, client):
        """The root answers GET with the well-known text and HEAD with nothing but 200."""
        assert (await client.get("/")).text == "Ollama is running"
        assert (await client.head("/")).status_code == 200

    async def test_the_version_is_the_configured_one(self, client):
        """`/api/version` is one field."""
        assert (await client.get("/api/version")).json() == {"version": "0.33.0"}

    async def test_tags_list_what_is_installed(self, client):
        """Every installed model is listed with its size in bytes and its quantisation."""
        entries = (await client.get("/api/tags")).json()["models"]
        assert [entry["name"] for entry in entries] == [model.name for model in MODELS]
        assert entries[0]["size"] == PHI.size_bytes
        assert entries[0]["details"]["quantization_level"] == "Q4_K_M"

    async def test_ps_lists_what_is_resident_longest_first(self, client):
        """Only loaded models are in `/api/ps`, the one that stays longest at the top."""
        await client.post("/api/chat", json=chat(QWEN.name, keep_alive="1h"))
        entries = (await client.get("/api/ps")).json()["models"]
        assert [entry["name"] for entry in entries] == [QWEN.name, PHI.name]
        assert entries[0]["size_vram"] == entries[0]["size"] == QWEN.size_bytes
        assert entries[0]["context_length"] == 4096

    async def test_show_tells_the_context_and_loads_nothing(self, client, ollama):
        """`/api/show` reads metadata and leaves memory alone."""
        body = (await client.post("/api/show", json={"model": QWEN.name})).json()
        assert body["model_info"]["llama.context_length"] == QWEN.context_length
        assert body["capabilities"] == ["completion"]
        assert ollama.memory.loads == []

    async def test_the_openai_list_names_the_same_models(self, client):
        """`/v1/models` and its single entries follow the installed models."""
        listed = (await client.get("/v1/models")).json()
        assert [entry["id"] for entry in listed["data"]] == [model.name for model in MODELS]
        assert (await client.get(f"/v1/models/{PHI.name}")).json()["owned_by"] == "library"
        assert (await client.get("/v1/models/none")).status_code == 404


class TestAnswers:
    async def test_chat_streams_json_lines_unless_told_otherwise(self, client):
        """Without `stream` the answer is NDJSON, and only its last line is done and has counts."""
        reply = await client.post("/api/chat", json=chat())
        got = [json.loads(line) for line in reply.text.splitlines()]
        assert reply.headers["content-type"] == "application/x-ndjson"
        assert reply.headers["transfer-encoding"] == "chunked"
        assert reply.http_version == "HTTP/1.1"
        assert text(got) == ANSWER
        assert [one["done"] for one in got] == [False] * (len(got) - 1) + [True]
        assert got[-1]["done_reason"] == "stop"
        assert got[-1]["eval_count"] == len(got) - 1
        assert got[-1]["total_duration"] >= got[-1]["eval_duration"] > 0

    async def test_without_stream_the_answer_is_one_object(self, client):
        """`stream: false` gives the whole text at once."""
        reply = await client.post("/api/chat", json=chat(stream=False))
        assert reply.headers["content-type"].startswith("application/json")
        assert reply.json()["message"] == {"role": "assistant", "content": ANSWER}
        assert reply.json()["done"] is True

    async def test_generate_answers_in_its_own_field(self, client):
        """`/api/generate` has `response` where chat has `message`."""
        body = {"model": PHI.name, "prompt": "hello there"}
        got = await lines(client, body, "/api/generate")
        assert "".join(one["response"] for one in got) == ANSWER

    async def test_a_token_limit_ends_with_length(self, client):
        """`num_predict` cuts the answer, and `done_reason` says so."""
        got = await lines(client, chat(options={"num_predict": 2}))
        assert got[-1]["done_reason"] == "length"
        assert got[-1]["eval_count"] == 2

    async def test_the_openai_stream_ends_with_its_mark(self, client):
        """A good `/v1` stream has a finish reason, the usage when asked for, and `[DONE]`."""
        body = chat(stream=True, stream_options={"include_usage": True})
        reply = await client.post("/v1/chat/completions", json=body)
        events = [event.removeprefix("data: ") for event in reply.text.split("\n\n") if event]
        chunks = [json.loads(event) for event in events[:-1]]
        assert reply.headers["content-type"] == "text/event-stream"
        assert events[-1] == "[DONE]"
        assert "".join(c["choices"][0]["delta"]["content"] for c in chunks if c["choices"]) == ANSWER
        assert chunks[-2]["choices"][0]["finish_reason"] == "stop"
        assert chunks[-1]["usage"]["completion_tokens"] == len(chunks) - 2

    async def test_the_openai_answer_in_one_piece_has_usage(self, client):
        """Without `stream` the `/v1` answer is one object."""
        body = (await client.post("/v1/chat/completions", json=chat())).json()
        assert body["choices"][0]["message"]["content"] == ANSWER
        assert body["usage"]["total_tokens"] > body["usage"]["completion_tokens"] > 0

    async def test_requests_are_recorded_as_sent(self, client, ollama):
        """Each request leaves its method, path, model, body and time."""
        before = time.monotonic()
        await client.post("/api/chat", json=chat("none"), headers={"X-Correlation-Id": "abc"})
        await client.get("/api/tags?x=1")
        first, second = ollama.requests
        assert (first.method, first.path, first.model, first.body) == (
            "POST",
            "/api/chat",
            "none",
            chat("none"),
        )
        assert first.headers["x-correlation-id"] == "abc"
        assert (second.method, second.path, second.model, second.body) == ("GET", "/api/tags", None, None)
        assert before <= first.at <= second.at <= time.monotonic()


class TestRefusals:
    @pytest.mark.parametrize("path", ["/api/chat", "/api/generate", "/api/show"])
    async def test_an_unknown_model_is_404_with_the_known_text(self, client, path):
        """A model that is not installed is named in quotes."""
        reply = await client.post(path, json={"model": "none", "prompt": "x"})
        assert (reply.status_code, reply.json()) == (404, {"error": "model 'none' not found"})

    async def test_the_openai_endpoint_has_an_error_object(self, client):
        """`/v1` errors have a message and a type instead of a bare string."""
        reply = await client.post("/v1/chat/completions", json=chat("none"))
        assert reply.status_code == 404
        assert reply.json()["error"]["type"] == "not_found_error"

    async def test_a_wrong_method_is_405(self, client):
        """A known path with another method is not 404."""
        assert (await client.get("/api/chat")).status_code == 405
        assert (await client.get("/nowhere")).status_code == 404

    @pytest.mark.parametrize(
        "raw,error",
        [
            (b"", "missing request body"),
            (b"{", "unexpected EOF"),
            (b"hello", "invalid character 'h' looking for beginning of value"),
            (b"[]", "json: cannot unmarshal array into Go value"),
            (b'{"model":"phi3.5:3.8b","keep_alive":"300"}', 'time: missing unit in duration "300"'),
            (b'{"model":"phi3.5:3.8b","keep_alive":"soon"}', 'time: invalid duration "soon"'),
            (
                b'{"model":"phi3.5:3.8b","options":{"num_ctx":"8k"}}',
                'option "num_ctx" must be of type integer',
            ),
        ],
    )
    async def test_a_bad_body_is_400(self, client, raw, error):
        """What cannot be read is answered with 400 and why."""
        reply = await client.post("/api/chat", content=raw)
        assert (reply.status_code, reply.json()) == (400, {"error": error})

    async def test_a_model_without_chat_says_so(self, client):
        """An embedding model refuses chat with 400."""
        reply = await client.post("/api/chat", json=chat("nomic-embed-text"))
        assert (reply.status_code, reply.json()) == (
            400,
            {"error": '"nomic-embed-text" does not support chat'},
        )

    @pytest.mark.parametrize(
        "host,status",
        [
            ("evil.example", 403),
            ("evil.example:80", 403),
            ("localhost:1", 200),
            ("[::1]:1", 200),
            ("10.0.0.7", 200),
        ],
    )
    async def test_a_foreign_host_header_is_a_bare_403(self, client, host, status):
        """Only local names and addresses pass the guard against DNS rebinding."""
        reply = await client.get("/api/version", headers={"Host": host})
        assert reply.status_code == status
        assert (reply.content == b"") == (status == 403)


class TestMemory:
    async def test_an_empty_chat_loads_and_an_unload_follows_keep_alive_zero(self, client):
        """A bare request is one object, although streams are the default."""
        load = await client.post("/api/chat", json={"model": QWEN.name, "messages": []})
        assert (load.json()["done"], load.json()["done_reason"]) == (True, "load")
        gone = await client.post("/api/generate", json={"model": QWEN.name, "keep_alive": 0})
        assert (gone.json()["done"], gone.json()["done_reason"]) == (True, "unload")
        assert [one["name"] for one in (await client.get("/api/ps")).json()["models"]] == [PHI.name]

    async def test_keep_alive_zero_unloads_after_the_answer(self, client):
        """A generation with `keep_alive: 0` leaves nothing in memory."""
        await client.post("/api/chat", json=chat(keep_alive="0s"))
        assert (await client.get("/api/ps")).json() == {"models": []}

    async def test_a_negative_keep_alive_stays_for_ever(self, client):
        """`-1m` gives an expiry centuries away."""
        await client.post("/api/chat", json=chat(keep_alive="-1m"))
        expires = datetime.fromisoformat((await client.get("/api/ps")).json()["models"][0]["expires_at"])
        assert expires.year - datetime.now(UTC).year > 200

    async def test_a_client_that_leaves_aborts_the_load(self, client, ollama):
        """Nothing is sent during a load, the model is not listed, and the next request starts from zero."""
        for loads in (1, 2):
            reader, writer = await dial(ollama.url)
            writer.write(http_request("POST", "/api/chat", chat(STUCK.name)))
            await until(lambda: ollama.memory.loading == STUCK.name)
            listed = (await client.get("/api/ps")).json()["models"]
            assert [one["name"] for one in listed] == [PHI.name]
            assert not reader._buffer
            writer.close()
            await until(lambda loads=loads: len(ollama.memory.aborted_loads) == loads)
        assert ollama.memory.loads == [STUCK.name, STUCK.name]

    async def test_loads_wait_for_each_other_and_residents_for_none(self, client, ollama):
        """While one model loads, another load queues and a resident model answers."""
        first = asyncio.create_task(client.post("/api/chat", json=chat(STUCK.name)))
        await until(lambda: ollama.memory.loading == STUCK.name)
        second = asyncio.create_task(client.post("/api/chat", json=chat(QWEN.name)))
        await until(lambda: len(ollama.requests) == 2)
        assert (await client.post("/api/chat", json=chat(stream=False))).json()["done"]
        assert not second.done()
        assert ollama.memory.loads == [STUCK.name]
        first.cancel()
        assert (await second).status_code == 200
        assert ollama.memory.loads == [STUCK.name, QWEN.name]

    async def test_requests_for_one_model_share_its_slots(self, client, ollama):
        """With one slot a second request waits for the first without any error."""
        ollama.faults.set(PHI.name, SandboxFault(K.HANG_MIDSTREAM, times=1, after_tokens=1))
        async with client.stream("POST", "/api/chat", json=chat()) as held:
            rows = held.aiter_lines()
            await anext(rows)
            waiting = asyncio.create_task(client.post("/api/chat", json=chat(stream=False)))
            await until(lambda: len(ollama.requests) == 2)
            done, _ = await asyncio.wait({waiting}, timeout=0.05)
            assert not done
        assert (await waiting).json()["message"]["content"] == ANSWER

    async def test_another_context_size_reloads_the_model(self, client, ollama):
        """Options that are part of the runner load it again; the same ones do not."""
        for num_ctx in (4096, 8192, 8192, None):
            options = {} if num_ctx is None else {"num_ctx": num_ctx}
            await client.post("/api/chat", json=chat(options=options))
        assert ollama.memory.loads == [PHI.name, PHI.name]

    async def test_a_reload_waits_for_the_requests_in_progress(self, client, ollama):
        """A busy model is not taken away from the request that uses it."""
        ollama.faults.set(PHI.name, SandboxFault(K.HANG_MIDSTREAM, times=1, after_tokens=1))
        async with client.stream("POST", "/api/chat", json=chat()) as held:
            rows = held.aiter_lines()
            await anext(rows)
            body = chat(options={"num_ctx": 8192}, stream=False)
            waiting = asyncio.create_task(client.post("/api/chat", json=body))
            await until(lambda: len(ollama.requests) == 2)
            done, _ = await asyncio.wait({waiting}, timeout=0.05)
            assert not done
            assert ollama.memory.loads == []
        assert (await waiting).json()["done"]
        assert ollama.memory.loads == [PHI.name]


class TestStatusFaults:
    @pytest.mark.parametrize(
        "kind,status,text",
        [
            (K.CRASH, 500, "model runner has unexpectedly stopped, this may be due to resource limitations"),
            (K.CRASH_OLD, 500, 'POST predict: Post "http://127.0.0.1:'),
            (K.OOM, 500, "llama-server reported out-of-memory during startup: "),
            (K.FAST_503, 503, "server busy, please try again.  maximum pending requests exceeded"),
            (K.RATE_LIMITED, 429, "rate limit exceeded"),
            (K.NOT_INSTALLED, 404, f"model '{PHI.name}' not found"),
            (K.BLOB_MISSING, 404, f'model "{PHI.name}" not found'),
            (K.KILLED, 500, "llama-server process has terminated: signal: killed"),
            (K.BROKEN_FILE, 500, 'tensor "blk.0.ffn_up.weight" offset+size'),
            (K.BROKEN_TEMPLATE, 500, "template: :1:10: executing"),
            (K.UNKNOWN_ARCHITECTURE, 500, "llama-server process has terminated: exit status 1: unknown"),
            (K.BAD_OPTION, 500, 'option "num_predict" must be of type integer'),
            (K.CONTEXT_EXCEEDED, 400, '{"error": {"code": 400, "message": "request (5120 tokens)'),
            (K.UNPARSABLE, 500, "error parsing tool call"),
            (K.UNAUTHORISED, 401, "unauthorized"),
        ],
    )
    async def test_the_status_and_text_are_those_of_the_wire(self, client, ollama, *, kind, status, text):
        """An error before the first byte has its status and a native error string, streamed or not."""
        ollama.faults.set(PHI.name, SandboxFault(kind))
        for stream in (True, False):
            reply = await client.post("/api/chat", json=chat(stream=stream))
            assert reply.status_code == status
            assert reply.json()["error"].startswith(text)

    async def test_rate_limits_say_when_to_come_back(self, client, ollama):
        """429 carries the Retry-After of the fault."""
        ollama.faults.set(PHI.name, SandboxFault(K.RATE_LIMITED, retry_after_s=7))
        assert (await client.post("/api/chat", json=chat())).headers["retry-after"] == "7"

    @pytest.mark.parametrize("kind, listed", [(K.NOT_INSTALLED, False), (K.BLOB_MISSING, True)])
    async def test_only_a_model_with_a_missing_blob_is_still_listed(self, client, ollama, kind, listed):
        """Both answer 404: the list tells a model that was removed from one whose file is gone."""
        ollama.faults.set(PHI.name, SandboxFault(kind))
        assert (await client.post("/api/chat", json=chat())).status_code == 404
        tags = (await client.get("/api/tags")).json()["models"]
        assert (PHI.name in {entry["name"] for entry in tags}) is listed

    async def test_a_model_that_died_once_is_loaded_again(self, client, ollama):
        """After one crash the next request pays a load and succeeds."""
        ollama.faults.set(PHI.name, SandboxFault(K.CRASH, times=1))
        assert (await client.post("/api/chat", json=chat())).status_code == 500
        assert (await client.get("/api/ps")).json()["models"]
        assert (await client.post("/api/chat", json=chat())).status_code == 200
        assert ollama.memory.loads == [PHI.name]

    async def test_out_of_memory_leaves_nothing_resident(self, client, ollama):
        """A load that runs out of memory evicts every other model first."""
        ollama.faults.set(QWEN.name, SandboxFault(K.OOM))
        assert (await client.post("/api/chat", json=chat(QWEN.name))).status_code == 500
        assert (await client.get("/api/ps")).json() == {"models": []}

    async def test_a_slow_load_is_told_in_the_counts(self, client, ollama):
        """`slow-load` makes even a resident model load, for so long, before any byte."""
        ollama.faults.set(PHI.name, SandboxFault(K.SLOW_LOAD, seconds=0.05))
        assert (await client.get("/api/ps")).json() == {"models": []}
        reply = await client.post("/api/chat", json=chat(stream=False))
        assert reply.json()["load_duration"] >= 50_000_000

    async def test_one_model_fails_and_another_answers(self, client, ollama):
        """A fault of one model is not met by another."""
        ollama.faults.set(PHI.name, SandboxFault(K.CRASH))
        assert (await client.post("/api/chat", json=chat(TINY.name))).status_code == 200


class TestTextFaults:
    async def test_garbage_is_200_and_no_json(self, client, ollama):
        """The body of a garbage answer cannot be parsed."""
        ollama.faults.set(PHI.name, SandboxFault(K.GARBAGE))
        reply = await client.post("/api/chat", json=chat(stream=False))
        assert reply.status_code == 200
        with pytest.raises(ValueError):
            reply.json()

    @pytest.mark.parametrize("path", ["/api/tags", "/v1/models"])
    async def test_garbage_lists_are_200_and_no_json(self, client, ollama, path):
        """`garbage-tags` spoils both model lists."""
        ollama.faults.set(None, SandboxFault(K.GARBAGE_TAGS))
        reply = await client.get(path)
        assert reply.status_code == 200
        with pytest.raises(ValueError):
            reply.json()

    @pytest.mark.parametrize(
        "fault,said,reason",
        [
            (SandboxFault(K.EMPTY), "", "stop"),
            (SandboxFault(K.ECHO), ASK[0]["content"], "stop"),
            (SandboxFault(K.LOOP, text="again. ", after_tokens=3), "again. again. ", "length"),
            (SandboxFault(K.LENGTH, after_tokens=2), "Here is", "length"),
        ],
    )
    async def test_a_bad_text_ends_as_a_good_one_does(self, client, ollama, fault, said, reason):
        """Empty, echoed, looping and shortened answers are well formed to their end."""
        ollama.faults.set(PHI.name, fault)
        got = await lines(client, chat())
        assert text(got).strip() == said.strip()
        assert (got[-1]["done"], got[-1]["done_reason"]) == (True, reason)

    async def test_an_unfinished_answer_never_says_done(self, client, ollama):
        """`done-false`: the stream just ends, the single object says `done: false`."""
        ollama.faults.set(PHI.name, SandboxFault(K.DONE_FALSE))
        got = await lines(client, chat())
        assert text(got) == ANSWER
        assert not any(one["done"] for one in got)
        whole = (await client.post("/api/chat", json=chat(stream=False))).json()
        assert (whole["done"], "done_reason" in whole) == (False, False)

    @pytest.mark.parametrize("after", [0, 2])
    async def test_a_cut_stream_breaks_after_so_many_tokens(self, client, ollama, after):
        """`cut` sends the headers and so many tokens, then the connection is gone."""
        ollama.faults.set(PHI.name, SandboxFault(K.CUT, after_tokens=after))
        assert len(await broken(client, chat())) == after

    async def test_a_cut_answer_in_one_piece_is_shorter_than_announced(self, client, ollama):
        """Without a stream, `cut` leaves out the end of the body."""
        ollama.faults.set(PHI.name, SandboxFault(K.CUT))
        with pytest.raises(httpx.RemoteProtocolError, match="without sending complete"):
            await client.post("/api/chat", json=chat(stream=False))

    async def test_an_error_after_tokens_is_a_line_under_200(self, client, ollama):
        """`error-inband`: the last line is an error, and no line is done."""
        ollama.faults.set(PHI.name, SandboxFault(K.ERROR_INBAND, after_tokens=2))
        got = await lines(client, chat())
        assert [set(one) for one in got[-1:]] == [{"error"}]
        assert [one.get("done") for one in got] == [False, False, None]

    @pytest.mark.parametrize("after,stream", [(0, True), (2, False)])
    async def test_an_error_before_the_first_byte_is_500(self, client, ollama, after, stream):
        """The same error with nothing sent yet has its status."""
        ollama.faults.set(PHI.name, SandboxFault(K.ERROR_INBAND, after_tokens=after))
        assert (await client.post("/api/chat", json=chat(stream=stream))).status_code == 500

    async def test_the_openai_stream_loses_the_error(self, client, ollama):
        """On `/v1` an error after the first byte shows as an empty delta, with no reason and no `[DONE]`."""
        ollama.faults.set(PHI.name, SandboxFault(K.ERROR_INBAND, after_tokens=2))
        reply = await client.post("/v1/chat/completions", json=chat(stream=True))
        events = [json.loads(event.removeprefix("data: ")) for event in reply.text.split("\n\n") if event]
        assert [event["choices"][0]["delta"]["content"] for event in events] == ["Here", " is", ""]
        assert all(event["choices"][0]["finish_reason"] is None for event in events)

    async def test_a_hanging_stream_keeps_its_connection(self, client, ollama):
        """`hang-midstream` stops after its tokens, and the connection stays open."""
        ollama.faults.set(PHI.name, SandboxFault(K.HANG_MIDSTREAM, after_tokens=2))
        got = []
        with pytest.raises(httpx.ReadTimeout):
            async with client.stream(
                "POST", "/api/chat", json=chat(), timeout=httpx.Timeout(30, read=0.5)
            ) as reply:
                got += [line async for line in reply.aiter_lines()]
        assert not client.is_closed

    async def test_a_slow_token_counts_as_prefill(self, client, ollama):
        """`slow-token` delays the headers too, and is told as prompt time."""
        ollama.faults.set(PHI.name, SandboxFault(K.SLOW_TOKEN, seconds=0.05))
        assert (await lines(client, chat()))[-1]["prompt_eval_duration"] >= 50_000_000


class TestConnectionFaults:
    async def test_a_refused_port_stays_taken_and_comes_back(self, client, ollama):
        """`refuse` refuses new connections, lets nobody else have the port, and ends when cleared."""
        ollama.faults.set(None, SandboxFault(K.REFUSE))
        with pytest.raises(httpx.ConnectError):
            await client.get("/")
        with socket.socket() as other, pytest.raises(OSError):
            other.bind((ollama.host, ollama.port))
        ollama.faults.clear()
        assert (await client.get("/")).status_code == 200

    async def test_a_refusal_drops_the_connections_that_were_open(self, ollama):
        """An idle connection ends when its server refuses, as when its process dies."""
        reader, writer = await dial(ollama.url)
        writer.write(http_request("GET", "/api/version"))
        await reader.readuntil(b'"0.33.0"}')
        ollama.faults.set(None, SandboxFault(K.REFUSE))
        async with asyncio.timeout(30):
            assert await reader.read() == b""
        writer.close()

    async def test_a_server_may_be_refused_from_its_start(self):
        """A board that refuses at the start reserves the port without listening."""
        board = FaultBoard([(None, SandboxFault(K.REFUSE))])
        async with SimulatedOllama(models=MODELS, faults=board) as server:
            with pytest.raises(ConnectionRefusedError):
                await dial(server.url)

    @pytest.mark.parametrize("path", ["/", "/api/version", "/api/tags", "/nowhere"])
    async def test_silence_is_kept_on_every_path(self, client, ollama, path):
        """`silence` takes the request and never answers."""
        ollama.faults.set(None, SandboxFault(K.SILENCE))
        with pytest.raises(httpx.ReadTimeout):
            await client.get(path, timeout=httpx.Timeout(30, read=0.2))
        assert ollama.requests[-1].path == path

    async def test_a_reset_comes_before_any_byte(self, ollama):
        """`reset` ends the completion by RST; other paths still answer."""
        ollama.faults.set(PHI.name, SandboxFault(K.RESET))
        with pytest.raises(ConnectionResetError):
            await exchange(ollama.url, http_request("POST", "/api/chat", chat()))
        assert b"200 OK" in await exchange(ollama.url, http_request("GET", "/api/ps", Connection="close"))

    async def test_ps_blocks_until_the_fault_is_cleared(self, client, ollama):
        """`ps-blocks` holds `/api/ps` alone, and lets it go when cleared."""
        ollama.faults.set(None, SandboxFault(K.PS_BLOCKS))
        waiting = asyncio.create_task(client.get("/api/ps"))
        await until(lambda: ollama.requests)
        assert (await client.get("/api/tags")).status_code == 200
        assert not waiting.done()
        ollama.faults.clear()
        assert (await waiting).status_code == 200

    async def test_a_fault_may_be_set_from_another_thread(self, client, ollama):
        """The board follows changes of any thread."""
        await asyncio.to_thread(ollama.faults.set, None, SandboxFault(K.REFUSE))
        with pytest.raises(ConnectionRefusedError):
            await dial(ollama.url)
        await asyncio.to_thread(ollama.faults.clear)
        assert (await client.get("/")).status_code == 200


class TestLife:
    async def test_a_restart_takes_the_same_port_with_cold_memory(self, client, ollama):
        """After `stop` nobody listens; after `start` the same URL answers, and memory is as at the start."""
        await client.post("/api/chat", json=chat(QWEN.name))
        url = ollama.url
        await ollama.stop()
        await ollama.stop()
        with pytest.raises(httpx.ConnectError):
            await client.get("/")
        await ollama.start()
        assert ollama.url == url
        listed = (await client.get("/api/ps")).json()["models"]
        assert [one["name"] for one in listed] == [PHI.name]

    async def test_a_stop_is_prompt_and_leaves_no_task(self):
        """Whatever its handlers wait for, a server is gone in half a second and leaves nothing behind."""
        before = asyncio.all_tasks()
        server = SimulatedOllama(models=MODELS)
        await server.start()
        server.faults.set(None, SandboxFault(K.PS_BLOCKS))
        server.faults.set(PHI.name, SandboxFault(K.HANG_MIDSTREAM))
        writers = []
        for request in (
            http_request("GET", "/api/ps"),
            http_request("POST", "/api/chat", chat()),
            http_request("POST", "/api/chat", chat(STUCK.name)),
            b"GET / HT",
        ):
            _, writer = await dial(server.url)
            writer.write(request)
            writers.append(writer)
        await until(lambda: len(server.requests) == 3 and server.memory.loading)
        began = time.monotonic()
        await server.stop()
        assert time.monotonic() - began < 10
        assert asyncio.all_tasks() == before
        for writer in writers:
            writer.close()
            with contextlib.suppress(ConnectionError):
                await writer.wait_closed()
