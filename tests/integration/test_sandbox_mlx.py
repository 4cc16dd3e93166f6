"""The simulated MLX server over real HTTP; shapes as recorded from `mlx_lm.server` 0.32.2."""

import asyncio
import json
import threading
import time

import httpx
import pytest

from opskit.sandbox.faults import FaultBoard, SandboxFault, SandboxFaultKind
from opskit.sandbox.mlx import SimulatedMlx
from tests.parts.loopback import dial, exchange, http_request, until

K = SandboxFaultKind
PHI = "mlx-community/Phi-3.5-mini-instruct-4bit"
QWEN = "mlx-community/Qwen2.5-7B-Instruct-4bit"
ASK = [{"role": "user", "content": "describe this system in a sentence"}]
ANSWER = "Here is a short answer to a goal of 6 words."
CHAT = "/v1/chat/completions"
BROWSERS = {f"access-control-allow-{name}": "*" for name in ("origin", "methods", "headers")}


def say(_messages, _model):
    return ANSWER


@pytest.fixture
async def mlx():
    async with SimulatedMlx(listed=[PHI, QWEN], default_model=PHI, reply=say) as server:
        yield server


@pytest.fixture
async def client(mlx):
    async with httpx.AsyncClient(base_url=mlx.url, timeout=30, trust_env=False) as client:
        yield client


def chat(**fields: object) -> dict[str, object]:
    return {"messages": ASK, **fields}


def post(**fields: object) -> bytes:
    return http_request("POST", CHAT, chat(**fields))


def split(reply: bytes) -> tuple[str, dict[str, str], bytes]:
    """Part a raw answer into status line, headers in lower case and body."""
    head, _, body = reply.partition(b"\r\n\r\n")
    first, *rest = head.decode().split("\r\n")
    return first, {name.lower(): value for name, _, value in (line.partition(": ") for line in rest)}, body


def events(body: bytes) -> list[str]:
    return [event for event in body.decode().split("\n\n") if event]


def chunks(body: bytes) -> list[dict]:
    return [json.loads(event[6:]) for event in events(body) if event.startswith("data: {")]


class TestTransport:
    async def test_answers_are_http_1_0_and_end_with_the_connection(self, mlx):
        """Even to an HTTP/1.1 request the server speaks 1.0, sends no length and closes."""
        status, headers, body = split(await exchange(mlx.url, http_request("GET", "/health")))
        assert status == "HTTP/1.0 200 OK"
        assert headers.pop("server").startswith("BaseHTTP/0.6 Python/")
        assert headers.pop("date")
        assert headers == {"content-type": "application/json"} | BROWSERS
        assert body == b'{"status": "ok"}'

    async def test_a_stream_has_the_headers_of_the_real_one(self, mlx):
        """An event stream is uncached, has no length and is not chunked."""
        status, headers, _ = split(await exchange(mlx.url, post(stream=True)))
        assert status == "HTTP/1.0 200 OK"
        assert list(headers)[2:] == ["content-type", "cache-control", *BROWSERS]
        assert headers["content-type"] == "text/event-stream"

    async def test_only_a_whole_answer_has_a_length(self, mlx):
        """An answer in one piece is the only one with Content-Length, after the other headers."""
        _, headers, body = split(await exchange(mlx.url, post()))
        assert list(headers)[-1] == "content-length"
        assert int(headers["content-length"]) == len(body)

    @pytest.mark.parametrize("request_line", [("GET", "/nope"), ("POST", f"{CHAT}?x=1"), ("POST", "/run")])
    async def test_an_unknown_path_is_plain_text_under_a_json_type(self, mlx, request_line):
        """Nothing but the exact paths is known, not even with a query."""
        status, headers, body = split(await exchange(mlx.url, http_request(*request_line)))
        assert status == "HTTP/1.0 404 Not Found"
        assert (headers["content-type"], body) == ("application/json", b"Not Found")

    async def test_an_unknown_method_is_501(self, mlx):
        """The standard library's own answer to a method without a handler."""
        status, _, _ = split(await exchange(mlx.url, http_request("PUT", "/health")))
        assert status == "HTTP/1.0 501 Unsupported method ('PUT')"

    async def test_a_preflight_is_204(self, client):
        """OPTIONS is answered for browsers."""
        assert (await client.options(CHAT)).status_code == 204

    async def test_an_upload_without_a_length_is_411(self, mlx):
        """Chunked uploads are not understood."""
        raw = b"POST /v1/chat/completions HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n"
        status, _, body = split(await exchange(mlx.url, raw))
        assert status == "HTTP/1.0 411 Length Required"
        assert body == b'{"error": "Content-Length header is required"}'

    @pytest.mark.parametrize(
        "raw,error",
        [
            (b"{", "Invalid JSON in request body: Expecting property name enclosed in double quotes"),
            (b"[]", "Request should be a JSON dictionary"),
        ],
    )
    async def test_a_body_that_is_no_object_is_400(self, client, raw, error):
        """What is not a JSON object is named in the error."""
        reply = await client.post(CHAT, content=raw)
        assert reply.status_code == 400
        assert reply.json()["error"].startswith(error)


class TestModels:
    async def test_the_list_is_what_was_configured(self, client):
        """`/v1/models` names the cache and says nothing about what is loaded."""
        body = (await client.get("/v1/models")).json()
        assert body["object"] == "list"
        assert [entry["id"] for entry in body["data"]] == [PHI, QWEN]
        assert {"id", "object", "created"} == set(body["data"][0])

    async def test_a_name_after_the_list_filters_it(self, client):
        """`/v1/models/<repository>` has that entry or none."""
        assert [one["id"] for one in (await client.get(f"/v1/models/{QWEN}")).json()["data"]] == [QWEN]
        assert (await client.get("/v1/models/nobody/none")).json()["data"] == []

    @pytest.mark.parametrize("fields", [{}, {"model": "default_model"}, {"model": PHI}])
    async def test_the_model_of_the_start_needs_no_swap(self, client, mlx, fields):
        """No name, the word `default_model` and the exact name all mean the resident model."""
        reply = await client.post(CHAT, json=chat(**fields))
        assert reply.json()["model"] == fields.get("model", "default_model")
        assert mlx.swaps == []

    async def test_a_listed_name_replaces_the_resident_model(self, client, mlx):
        """Another listed model is swapped in, and the next request without a name swaps back."""
        assert (await client.post(CHAT, json=chat(model=QWEN))).status_code == 200
        assert (mlx.resident, mlx.swaps) == (QWEN, [QWEN])
        await client.post(CHAT, json=chat())
        assert (mlx.resident, mlx.swaps) == (PHI, [QWEN, PHI])

    async def test_an_unknown_name_is_404_and_leaves_nothing_resident(self, client, mlx):
        """The old model is dropped before the new one fails, and the attempt is noted."""
        reply = await client.post(CHAT, json=chat(model="phi3.5:3.8b"))
        assert reply.status_code == 404
        assert "phi3.5:3.8b" in reply.json()["error"]
        assert (mlx.resident, mlx.swaps) == (None, ["phi3.5:3.8b"])
        assert (await client.post(CHAT, json=chat())).status_code == 200

    async def test_a_swap_waits_for_the_running_answers_and_holds_up_the_next(self, mlx):
        """One slot: the swap drains the batch first, and a later request for the old model queues behind."""
        mlx.faults.set(PHI, SandboxFault(K.HANG_MIDSTREAM, times=1, after_tokens=1))
        reader, writer = await dial(mlx.url)
        writer.write(post(stream=True))
        await reader.readuntil(b'"Here"')
        swap = asyncio.create_task(exchange(mlx.url, post(model=QWEN)))
        await until(lambda: len(mlx.requests) == 2)
        later = asyncio.create_task(exchange(mlx.url, post()))
        done, _ = await asyncio.wait({swap, later}, timeout=0.05)
        assert not done
        assert mlx.resident == PHI
        assert b"ok" in await exchange(mlx.url, http_request("GET", "/health"))
        await mlx.stop()
        assert await asyncio.gather(swap, later) == [b"", b""]
        writer.close()


class TestAnswers:
    async def test_a_whole_answer_has_the_recorded_shape(self, client):
        """Keys, their order and the counts follow the real server, the ending token included."""
        body = (await client.post(CHAT, json=chat())).json()
        assert list(body) == ["id", "system_fingerprint", "object", "model", "created", "choices", "usage"]
        assert body["object"] == "chat.completion"
        assert body["choices"] == [
            {"index": 0, "finish_reason": "stop", "message": {"role": "assistant", "content": ANSWER}}
        ]
        usage = body["usage"]
        assert usage["total_tokens"] == usage["prompt_tokens"] + usage["completion_tokens"]
        assert usage["prompt_tokens_details"] == {"cached_tokens": 0}

    async def test_a_stream_has_the_recorded_events(self, mlx):
        """A comment, deltas that each carry the role, a last one without content, then the end mark."""
        _, _, body = split(await exchange(mlx.url, post(stream=True)))
        got = chunks(body)
        assert events(body)[0].startswith(": keepalive ")
        assert events(body)[-1] == "data: [DONE]"
        assert {one["object"] for one in got} == {"chat.completion.chunk"}
        assert {one["choices"][0]["delta"]["role"] for one in got} == {"assistant"}
        assert "".join(one["choices"][0]["delta"].get("content", "") for one in got) == ANSWER
        assert got[-1]["choices"][0] == {"index": 0, "finish_reason": "stop", "delta": {"role": "assistant"}}

    async def test_usage_is_streamed_when_asked_for(self, mlx):
        """The usage event has no choices and the object name of a whole answer."""
        fields = {"stream": True, "stream_options": {"include_usage": True}, "max_tokens": 3}
        _, _, body = split(await exchange(mlx.url, post(**fields)))
        last = chunks(body)[-1]
        assert (last["object"], last["choices"]) == ("chat.completion", [])
        assert last["usage"]["completion_tokens"] == 3

    async def test_stream_options_without_usage_lose_the_end_mark(self, mlx):
        """The real server fails after its last chunk, so `[DONE]` never comes."""
        _, _, body = split(await exchange(mlx.url, post(stream=True, stream_options={})))
        assert chunks(body)[-1]["choices"][0]["finish_reason"] == "stop"
        assert b"[DONE]" not in body

    async def test_a_token_limit_ends_with_length(self, client):
        """`max_completion_tokens` wins over `max_tokens`."""
        body = (await client.post(CHAT, json=chat(max_tokens=9, max_completion_tokens=2))).json()
        assert body["choices"][0]["finish_reason"] == "length"
        assert body["usage"]["completion_tokens"] == 2

    async def test_a_bare_prompt_is_completed_as_text(self, client):
        """`/v1/completions` has text instead of a message."""
        body = (await client.post("/v1/completions", json={"prompt": "hello there"})).json()
        assert (body["object"], body["choices"][0]["text"]) == ("text_completion", ANSWER)

    async def test_the_short_path_answers_too(self, client):
        """`/chat/completions` is the same endpoint."""
        assert (await client.post("/chat/completions", json=chat())).status_code == 200

    @pytest.mark.parametrize(
        "fields,error",
        [
            ({"temperature": -1}, "temperature must be at least 0"),
            ({"top_p": 2}, "top_p must be at most 1"),
            ({"max_tokens": 2.5}, "max_tokens must be of type int"),
            ({"logprobs": 3}, "logprobs must be of type bool"),
            ({"messages": "x"}, "'str' object has no attribute 'get'"),
        ],
    )
    async def test_an_invalid_parameter_is_answered_by_nothing_or_by_400(self, mlx, fields, error):
        """Builds before 0.32.2 close the connection with zero bytes; newer ones say what is wrong."""
        assert await exchange(mlx.url, post(**fields)) == b""
        async with SimulatedMlx(listed=[], default_model=PHI, version="0.32.2") as newer:
            status, _, body = split(await exchange(newer.url, post(**fields)))
            assert status == "HTTP/1.0 400 Bad Request"
            assert json.loads(body) == {"error": error}

    async def test_missing_messages_are_invalid_too(self, mlx):
        """A request without messages ends like one with a bad parameter."""
        assert await exchange(mlx.url, http_request("POST", CHAT, {"max_tokens": 1})) == b""

    async def test_requests_are_recorded_as_sent(self, client, mlx):
        """Each request leaves its method, path, model and body; an omitted model is None."""
        await client.post(CHAT, json=chat())
        await client.get("/v1/models")
        first, second = mlx.requests
        assert (first.method, first.path, first.model, first.body) == ("POST", CHAT, None, chat())
        assert (second.method, second.path, second.body) == ("GET", "/v1/models", None)


class TestFaults:
    async def test_a_zombie_looks_healthy_and_never_answers(self, client, mlx):
        """Health and list stay 200 while every completion hangs with zero bytes."""
        mlx.faults.set(None, SandboxFault(K.ZOMBIE))
        reader, writer = await dial(mlx.url)
        writer.write(post())
        await until(lambda: mlx.requests)
        assert (await client.get("/health")).json() == {"status": "ok"}
        assert (await client.get("/v1/models")).status_code == 200
        assert not reader._buffer
        assert not reader.at_eof()
        writer.close()

    @pytest.mark.parametrize(
        "fault,error",
        [
            (SandboxFault(K.NOTFOUND_ALL), "[METAL] Command buffer execution failed: Insufficient Memory"),
            (SandboxFault(K.NOTFOUND_ALL, text="any exception"), "any exception"),
            (SandboxFault(K.OOM), "[METAL] Command buffer execution failed: Insufficient Memory"),
            (
                SandboxFault(K.NOT_INSTALLED),
                "Repository Not Found for url: https://huggingface.co/api/models/",
            ),
        ],
    )
    async def test_every_early_error_is_404(self, client, mlx, fault, error):
        """Whatever went wrong, the status is 404 and the cause is only in the text."""
        mlx.faults.set(PHI, fault)
        reply = await client.post(CHAT, json=chat(stream=True))
        assert reply.status_code == 404
        assert reply.json()["error"].startswith(error)

    @pytest.mark.parametrize("stream", [True, False])
    async def test_an_empty_reply_is_a_clean_close_with_zero_bytes(self, mlx, stream):
        """`empty-reply` ends the connection without a status line."""
        mlx.faults.set(None, SandboxFault(K.EMPTY_REPLY))
        assert await exchange(mlx.url, post(stream=stream)) == b""

    async def test_a_reset_comes_before_any_byte(self, mlx):
        """`reset` ends the completion by RST."""
        mlx.faults.set(None, SandboxFault(K.RESET))
        with pytest.raises(ConnectionResetError):
            await exchange(mlx.url, post())

    @pytest.mark.parametrize(
        "kind,status,retry_after",
        [(K.UNAUTHORISED, 401, None), (K.RATE_LIMITED, 429, "3"), (K.LOADING_503, 503, "3")],
    )
    async def test_a_gateway_in_front_answers_with_its_status(
        self, client, mlx, *, kind, status, retry_after
    ):
        """401, 429 and 503 have an error object, and the latter two say when to come back."""
        wait_s = None if retry_after is None else 3
        mlx.faults.set(None, SandboxFault(kind, retry_after_s=wait_s))
        reply = await client.post(CHAT, json=chat())
        assert (reply.status_code, reply.headers.get("retry-after")) == (status, retry_after)
        assert reply.json()["error"]["message"]

    async def test_a_model_being_loaded_elsewhere_says_so(self, client, mlx):
        """`loading-503` has the error type and the progress of LocalAI."""
        mlx.faults.set(None, SandboxFault(K.LOADING_503))
        body = (await client.post(CHAT, json=chat())).json()
        assert body["error"]["type"] == "model_loading"
        assert body["loading"]["model"] == PHI

    @pytest.mark.parametrize(
        "fault,said,reason",
        [
            (SandboxFault(K.EMPTY), None, "stop"),
            (SandboxFault(K.ECHO), ASK[0]["content"], "stop"),
            (SandboxFault(K.LOOP, text="again. ", after_tokens=3), "again. again. ", "length"),
            (SandboxFault(K.LENGTH, after_tokens=2), "Here is", "length"),
        ],
    )
    async def test_a_bad_text_ends_as_a_good_one_does(self, client, mlx, *, fault, said, reason):
        """Empty, echoed, looping and shortened answers are well formed; empty content is null."""
        mlx.faults.set(PHI, fault)
        choice = (await client.post(CHAT, json=chat())).json()["choices"][0]
        assert choice["finish_reason"] == reason
        content = choice["message"]["content"]
        assert content == said if said is None else content.strip() == said.strip()

    @pytest.mark.parametrize("after", [0, 2])
    async def test_a_cut_stream_looks_like_a_clean_end(self, mlx, after):
        """Without chunks or a length only the missing reason and `[DONE]` tell that the end is missing."""
        mlx.faults.set(None, SandboxFault(K.CUT, after_tokens=after))
        status, _, body = split(await exchange(mlx.url, post(stream=True)))
        assert status == "HTTP/1.0 200 OK"
        assert len(chunks(body)) == after
        assert b"[DONE]" not in body

    async def test_a_cut_answer_in_one_piece_is_shorter_than_announced(self, client, mlx):
        """Without a stream, `cut` leaves out the end of the body."""
        mlx.faults.set(None, SandboxFault(K.CUT))
        with pytest.raises(httpx.RemoteProtocolError):
            await client.post(CHAT, json=chat())

    async def test_a_hanging_stream_keeps_its_connection(self, mlx):
        """`hang-midstream` sends its tokens and then nothing."""
        mlx.faults.set(None, SandboxFault(K.HANG_MIDSTREAM, after_tokens=2))
        reader, writer = await dial(mlx.url)
        writer.write(post(stream=True))
        await reader.readuntil(b'" is"}}]}\n\n')
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(reader.read(1), 0.05)
        writer.close()

    async def test_a_slow_token_shows_progress_meanwhile(self, mlx):
        """`slow-token` sends comments with growing progress before the first chunk."""
        mlx.faults.set(None, SandboxFault(K.SLOW_TOKEN, seconds=0.02))
        _, _, body = split(await exchange(mlx.url, post(stream=True)))
        comments = [event for event in events(body) if event.startswith(": keepalive ")]
        assert len(comments) > 2
        assert events(body)[: len(comments)] == comments

    async def test_a_slow_load_sends_nothing_while_health_is_ok(self, client, mlx):
        """`slow-load` makes the next request wait for a load without any byte, and nothing else is served."""
        mlx.faults.set(None, SandboxFault(K.SLOW_LOAD, seconds=3600))
        reader, writer = await dial(mlx.url)
        writer.write(post(stream=True))
        await until(lambda: mlx.requests)
        assert mlx.resident is None
        assert (await client.get("/health")).status_code == 200
        assert not reader._buffer
        writer.close()

    @pytest.mark.parametrize("kind,path", [(K.GARBAGE, CHAT), (K.GARBAGE_TAGS, "/v1/models")])
    async def test_garbage_is_200_and_no_json(self, client, mlx, kind, path):
        """The body cannot be parsed."""
        mlx.faults.set(None, SandboxFault(kind))
        reply = await (client.get(path) if kind is K.GARBAGE_TAGS else client.post(path, json=chat()))
        assert reply.status_code == 200
        with pytest.raises(ValueError):
            reply.json()

    @pytest.mark.parametrize("path", ["/health", "/v1/models", "/nope"])
    async def test_silence_is_kept_on_every_path(self, client, mlx, path):
        """`silence` takes the request and never answers."""
        mlx.faults.set(None, SandboxFault(K.SILENCE))
        with pytest.raises(httpx.ReadTimeout):
            await client.get(path, timeout=httpx.Timeout(30, read=0.2))
        assert mlx.requests[-1].path == path

    async def test_a_refused_port_comes_back_with_the_model_of_the_start(self, client, mlx):
        """`refuse` acts as a dead process, open connections included; cleared, it is as after a start."""
        await client.post(CHAT, json=chat(model=QWEN))
        await until(lambda: not mlx.connections)
        reader, writer = await dial(mlx.url)
        await until(lambda: mlx.connections)
        mlx.faults.set(None, SandboxFault(K.REFUSE))
        async with asyncio.timeout(30):
            assert await reader.read() == b""
        with pytest.raises(ConnectionRefusedError):
            await dial(mlx.url)
        mlx.faults.clear()
        assert (await client.get("/health")).status_code == 200
        assert (mlx.resident, mlx.swaps) == (PHI, [QWEN])
        writer.close()

    async def test_a_server_may_be_refused_from_its_start(self):
        """A board that refuses at the start reserves the port without listening."""
        board = FaultBoard([(None, SandboxFault(K.REFUSE))])
        async with SimulatedMlx(listed=[], default_model=PHI, faults=board) as server:
            with pytest.raises(ConnectionRefusedError):
                await dial(server.url)


class TestLife:
    async def test_a_restart_takes_the_same_port(self, client, mlx):
        """After `stop` nobody listens; after `start` the same URL answers."""
        url = mlx.url
        await mlx.stop()
        await mlx.stop()
        with pytest.raises(httpx.ConnectError):
            await client.get("/health")
        await mlx.start()
        assert mlx.url == url
        assert (await client.get("/health")).status_code == 200

    async def test_a_stop_is_prompt_and_leaves_nothing(self):
        """Whatever its handlers wait for, a server is gone in half a second, without a word."""
        complaints = []
        asyncio.get_running_loop().set_exception_handler(lambda _loop, context: complaints.append(context))
        before = set(threading.enumerate()), asyncio.all_tasks()
        server = SimulatedMlx(listed=[PHI, QWEN], default_model=PHI, load_s=3600)
        await server.start()
        server.faults.set(PHI, SandboxFault(K.HANG_MIDSTREAM, times=1, after_tokens=0))
        writers = []
        for place, request in enumerate((post(stream=True), post(model=QWEN), post(), b"POST / HT"), start=1):
            _, writer = await dial(server.url)
            writer.write(request)
            writers.append(writer)
            await until(lambda place=place: server.connections == place)
        await until(lambda: len(server.requests) == 3)
        began = time.monotonic()
        await server.stop()
        assert time.monotonic() - began < 10
        assert (set(threading.enumerate()), asyncio.all_tasks()) == before
        assert complaints == []
        for writer in writers:
            writer.close()
