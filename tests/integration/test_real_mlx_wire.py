"""What the real `mlx_lm.server` (seen with 0.32.2) does on the wire, where this project relies on it."""

import json
import shutil
import socket
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import psutil
import pytest

from tests.parts.fixtures import StartMlx
from tests.parts.real_mlx import RealMlx
from tests.parts.server_process import free_port
from tests.parts.tiny_mlx import ANSWER, build_model

CHAT = "/v1/chat/completions"
MESSAGES = [{"role": "user", "content": "What is right?"}]
TIMEOUT_S = 30.0
SILENCE_S = 0.5
"""How long a server that never answers is listened to."""


def open_client(server: RealMlx, timeout_s: float = TIMEOUT_S) -> httpx.Client:
    return httpx.Client(base_url=server.url, timeout=timeout_s, trust_env=False)


@pytest.fixture
def client(real_mlx: RealMlx) -> Iterator[httpx.Client]:
    with open_client(real_mlx) as client:
        yield client


def chat(client: httpx.Client, **fields: Any) -> httpx.Response:
    return client.post(CHAT, json={"messages": MESSAGES, **fields})


def content(reply: httpx.Response) -> str:
    text: str = reply.json()["choices"][0]["message"]["content"]
    return text


def stream_lines(client: httpx.Client, **fields: Any) -> list[str]:
    with client.stream("POST", CHAT, json={"messages": MESSAGES, "stream": True, **fields}) as reply:
        assert reply.status_code == 200
        return [line for line in reply.iter_lines() if line]


def chunks(lines: Iterable[str]) -> list[dict[str, Any]]:
    data = [line.removeprefix("data: ") for line in lines if line.startswith("data: {")]
    return [json.loads(line) for line in data]


class TestModelField:
    def test_a_request_without_a_model_is_answered_by_the_one_given_at_start(self, client):
        reply = chat(client)
        assert content(reply) == ANSWER
        assert reply.json()["choices"][0]["finish_reason"] == "stop"

    def test_a_request_without_a_model_reads_default_model_in_the_reply(self, client):
        assert chat(client, max_tokens=1).json()["model"] == "default_model"

    def test_the_reply_echoes_the_model_that_was_asked_for(self, client, real_mlx):
        assert chat(client, model=real_mlx.model, max_tokens=1).json()["model"] == real_mlx.model

    @pytest.mark.parametrize("model", ["nobody/no-such-model", "tiny-llama"])
    def test_an_unknown_name_is_404_with_a_json_error_even_the_last_part_of_our_path(self, client, model):
        reply = chat(client, model=model)
        assert reply.status_code == 404
        assert "cached snapshot" in reply.json()["error"]

    def test_an_unknown_name_does_not_keep_the_next_request_from_the_model_of_the_start(self, client):
        chat(client, model="nobody/no-such-model")
        assert content(chat(client)) == ANSWER


class TestStream:
    def test_every_delta_carries_the_role(self, client):
        deltas = [chunk["choices"][0]["delta"] for chunk in chunks(stream_lines(client))]
        assert {delta["role"] for delta in deltas} == {"assistant"}

    def test_the_deltas_join_to_the_answer(self, client):
        deltas = [chunk["choices"][0]["delta"] for chunk in chunks(stream_lines(client))]
        assert "".join(delta.get("content", "") for delta in deltas) == ANSWER

    def test_only_the_last_chunk_has_a_finish_reason_and_it_has_no_content(self, client):
        *before, last = [chunk["choices"][0] for chunk in chunks(stream_lines(client))]
        assert {choice["finish_reason"] for choice in before} == {None}
        assert last == {"index": 0, "finish_reason": "stop", "delta": {"role": "assistant"}}

    def test_a_comment_on_the_prompt_comes_first_and_done_comes_last(self, client):
        first, *_, last = stream_lines(client)
        assert first.startswith(": keepalive ")
        assert last == "data: [DONE]"

    def test_asked_for_usage_comes_in_a_chunk_without_choices_before_done(self, client):
        lines = stream_lines(client, max_tokens=3, stream_options={"include_usage": True})
        usage = chunks(lines)[-1]
        assert (usage["object"], usage["choices"]) == ("chat.completion", [])
        assert usage["usage"]["completion_tokens"] == 3
        assert lines[-1] == "data: [DONE]"

    def test_stream_options_without_include_usage_cost_the_done_line(self, client):
        lines = stream_lines(client, stream_options={})
        assert chunks(lines)[-1]["choices"][0]["finish_reason"] == "stop"
        assert "data: [DONE]" not in lines

    def test_max_tokens_ends_an_answer_with_length(self, client):
        lines = stream_lines(client, max_tokens=2)
        assert chunks(lines)[-1]["choices"][0]["finish_reason"] == "length"


class TestTransport:
    def test_it_speaks_http_1_0_and_names_the_python_server(self, client):
        reply = client.get("/health")
        assert reply.http_version == "HTTP/1.0"
        assert reply.headers["Server"].startswith("BaseHTTP/")

    def test_health_is_ok_while_the_worker_lives(self, client):
        reply = client.get("/health")
        assert (reply.status_code, reply.json()) == (200, {"status": "ok"})

    def test_an_unknown_path_is_a_404_which_is_not_json_though_it_says_so(self, client):
        reply = client.post(CHAT + "?a=b", json={"messages": MESSAGES})
        assert (reply.status_code, reply.text) == (404, "Not Found")
        assert reply.headers["Content-Type"] == "application/json"

    def test_a_body_without_a_content_length_is_refused_with_411(self, client):
        assert client.post(CHAT, content=iter([b"{}"])).status_code == 411

    def test_requests_at_the_same_time_get_each_the_whole_answer(self, client):
        with ThreadPoolExecutor(4) as pool:
            replies = list(pool.map(lambda _: chat(client), range(4)))
        assert [content(reply) for reply in replies] == [ANSWER] * 4

    def test_the_fingerprint_begins_with_the_versions_of_mlx_lm_and_mlx(self, client):
        from importlib.metadata import version

        fingerprint = chat(client, max_tokens=1).json()["system_fingerprint"]
        assert fingerprint.startswith(f"{version('mlx-lm')}-{version('mlx')}-")


class TestModelList:
    def test_with_an_empty_cache_it_is_the_resolved_path_of_the_start_alone(self, client, real_mlx):
        listed = client.get("/v1/models").json()
        assert listed["object"] == "list"
        assert [model["id"] for model in listed["data"]] == [str(Path(real_mlx.model).resolve())]

    def test_it_names_downloaded_models_that_nobody_has_loaded(self, client, real_mlx):
        repository = real_mlx.hub_cache / "models--somebody--unloaded"
        snapshot = repository / "snapshots" / "0123456789abcdef0123456789abcdef01234567"
        snapshot.mkdir(parents=True)
        (repository / "refs").mkdir()
        (repository / "refs" / "main").write_text(snapshot.name)
        for name in ("config.json", "model.safetensors.index.json", "tokenizer_config.json"):
            (snapshot / name).write_text("{}")
        try:
            listed = client.get("/v1/models").json()["data"]
        finally:
            shutil.rmtree(repository)
        assert "somebody/unloaded" in [model["id"] for model in listed]

    def test_without_a_cache_folder_it_is_200_with_an_empty_body(self, client, real_mlx):
        aside = real_mlx.hub_cache.rename(real_mlx.hub_cache.with_name("aside"))
        try:
            reply = client.get("/v1/models")
        finally:
            aside.rename(real_mlx.hub_cache)
        assert (reply.status_code, reply.content) == (200, b"")


class TestRefusals:
    @pytest.mark.parametrize(
        "fields, error",
        [
            ({"temperature": -1}, "temperature must be at least 0"),
            ({"max_tokens": 1.5}, "max_tokens must be of type int"),
            ({"max_tokens": 0}, "max_tokens must be at least 1"),
            ({"model": None}, "requested_model must be of type str"),
        ],
    )
    def test_a_bad_parameter_is_400_with_its_name(self, client, fields, error):
        reply = chat(client, **fields)
        assert (reply.status_code, reply.json()) == (400, {"error": error})

    def test_missing_messages_are_400(self, client):
        reply = client.post(CHAT, json={})
        assert (reply.status_code, reply.json()) == (400, {"error": "Request did not contain messages"})

    def test_messages_the_template_refuses_are_404_like_an_unknown_model(self, client):
        reply = client.post(CHAT, json={"messages": []})
        assert reply.status_code == 404
        assert "empty conversation" in reply.json()["error"]

    def test_a_stop_word_inside_a_token_vanishes_from_the_text_and_stops_nothing(self, client):
        assert content(chat(client, stop="sandbox")) == ANSWER.replace("sandbox", "")


class TestFrozen:
    def test_it_accepts_connections_and_answers_nothing_not_even_health(self, own_real_mlx: StartMlx):
        server = own_real_mlx()
        server.freeze()
        with open_client(server, SILENCE_S) as client:
            socket.create_connection(("127.0.0.1", server.port), timeout=SILENCE_S).close()
            with pytest.raises(httpx.ReadTimeout):
                client.get("/health")
            with pytest.raises(httpx.ReadTimeout):
                chat(client, max_tokens=1)

    def test_it_answers_again_after_it_was_frozen_twice(self, own_real_mlx: StartMlx):
        server = own_real_mlx()
        for _ in range(2):
            server.freeze()
            assert psutil.Process(server.pid).status() == psutil.STATUS_STOPPED
            server.thaw()
        with open_client(server) as client:
            assert content(chat(client)) == ANSWER


class TestKilled:
    def test_a_stream_ends_like_a_complete_one_but_without_its_finish_and_done(
        self, own_real_mlx: StartMlx, endless_mlx_model: Path
    ):
        server = own_real_mlx(endless_mlx_model)
        body = {"messages": MESSAGES, "stream": True, "max_tokens": 100_000}
        with open_client(server) as client, client.stream("POST", CHAT, json=body) as reply:
            lines = reply.iter_lines()
            seen = [next(line for line in lines if line.startswith("data: "))]
            server.kill()
            seen += lines
        assert "data: [DONE]" not in seen
        assert {chunk["choices"][0]["finish_reason"] for chunk in chunks(seen)} == {None}

    def test_a_server_comes_back_on_the_port_of_a_dead_one(self, own_real_mlx: StartMlx):
        dead = own_real_mlx()
        dead.kill()
        with open_client(dead) as client:
            with pytest.raises(httpx.ConnectError):
                client.get("/health")
            own_real_mlx(port=dead.port)
            assert content(chat(client)) == ANSWER


class TestDeadWorker:
    @pytest.fixture
    def client(self, own_real_mlx: StartMlx) -> Iterator[httpx.Client]:
        server = own_real_mlx()
        server.break_worker()
        with open_client(server) as client:
            yield client

    def test_health_is_503_and_the_model_list_still_200(self, client):
        reply = client.get("/health")
        assert (reply.status_code, reply.json()) == (503, {"status": "unavailable"})
        assert client.get("/v1/models").status_code == 200

    def test_every_later_completion_is_a_404_which_says_so(self, client):
        reply = chat(client)
        assert (reply.status_code, reply.json()) == (404, {"error": "generation thread died"})

    def test_a_stream_under_way_ends_without_its_finish_and_done(
        self, own_real_mlx: StartMlx, endless_mlx_model: Path
    ):
        server = own_real_mlx(endless_mlx_model)
        body = {"messages": MESSAGES, "stream": True, "max_tokens": 100_000}
        with open_client(server) as client, client.stream("POST", CHAT, json=body) as reply:
            lines = reply.iter_lines()
            seen = [next(line for line in lines if line.startswith("data: "))]
            server.break_worker()
            seen += lines
        assert reply.status_code == 200
        assert {chunk["choices"][0]["finish_reason"] for chunk in chunks(seen)} == {None}
        assert "data: [DONE]" not in seen


class TestStart:
    @pytest.mark.parametrize("taken", [True, False], ids=["taken port", "absent model"])
    def test_a_server_that_cannot_serve_is_refused_with_its_log_and_leaves_no_process(
        self, mlx_model: Path, tmp_path: Path, taken: bool
    ):
        before = {child.pid for child in psutil.Process().children()}
        with socket.create_server(("127.0.0.1", 0)) as owner:
            port = owner.getsockname()[1] if taken else free_port()
            model = mlx_model if taken else tmp_path / "absent"
            with pytest.raises(RuntimeError, match="Address already in use" if taken else "absent"):
                RealMlx.start(model, tmp_path, port=port)
        assert {child.pid for child in psutil.Process().children()} <= before

    def test_any_text_can_be_the_answer(self, own_real_mlx: StartMlx, tmp_path: Path):
        answer = '{"say": "да, да", "list": ["🙂", "🙂", ""], "in": {"say": "да"}}\n\n- da\n- da\n'
        with open_client(own_real_mlx(build_model(tmp_path, answer=answer))) as client:
            assert content(chat(client)) == answer
