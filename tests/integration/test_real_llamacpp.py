"""The commands against llama.cpp's real server with a real model of 135 million parameters."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from threading import Thread

import httpx
import pytest

from opskit.config.schema import Budgets, NodeConfig
from opskit.providers.base import ChatRequest, End, Message, Resident, Token
from opskit.providers.kinds import LLAMACPP
from opskit.providers.node import Node
from tests.parts.command import opskit
from tests.parts.real_llamacpp import RealLlamaCpp

#: Of the weights of SmolLM2-135M-Instruct in Q4_1, and its parameters.
SIZE_BYTES, PARAMETERS = 96_576_768, 134_515_008
NO_NODES = {"OLLAMA_API_URL": "", "MLX_API_URL": ""}


@pytest.fixture
def home(tmp_path: Path) -> Path:
    return tmp_path / "home"


@pytest.fixture
def configured(tmp_path: Path):
    """The options that make a server the only node, configured as one of llama.cpp."""

    def options(server: RealLlamaCpp, **extra: str) -> tuple[str, str]:
        path = tmp_path / "opskit.yaml"
        node = {"url": server.url, "source": "llamacpp", **extra}
        nodes = {"ollama": None, "mlx": None, "llm": node}
        whole = {"nodes": nodes, "agents": {"victoria": None, "veronica": None}, "probe": {"http_s": 3.0}}
        path.write_text(json.dumps(whole))
        return "--config", str(path)

    return options


@contextmanager
def busy(server: RealLlamaCpp) -> Iterator[None]:
    """A client whose long answer is under way."""
    body = {
        "messages": [{"role": "user", "content": "Write a very long story about a dog."}],
        "stream": True,
        "ignore_eos": True,
        "max_tokens": 100_000,
    }
    with (
        httpx.Client(trust_env=False, timeout=60) as client,
        client.stream("POST", f"{server.url}/v1/chat/completions", json=body) as reply,
    ):
        rows = reply.iter_lines()
        next(rows)
        reading = Thread(target=lambda: [None for _ in _quietly(rows)], daemon=True)
        reading.start()
        yield


def _quietly(rows: Iterator[str]) -> Iterator[str]:
    try:
        yield from rows
    except httpx.HTTPError:
        return


async def test_a_real_server_is_recognised_and_describes_itself(real_llamacpp):
    """Its model, loaded, with size, parameters, quantisation and context; its slots, and an answer."""
    node = Node(NodeConfig("n", real_llamacpp.url, "openai"), Budgets())
    try:
        provider = await node.provider()
        assert provider.kind is LLAMACPP
        (model,) = await provider.models()
        assert (model.name, model.size_bytes, model.parameters) == ("smol", SIZE_BYTES, PARAMETERS)
        assert (model.quantization, model.context_length, model.resident) == ("Q4_1", 8192, True)
        assert await provider.resident() == (Resident("smol", SIZE_BYTES, context_length=512),)
        assert [slot.busy for slot in await provider.slots()] == [False, False]
        request = ChatRequest((Message("user", "List five fruits."),), "smol", max_tokens=60, temperature=0.0)
        events = [event async for event in provider.stream(request)]
    finally:
        await node.aclose()
    assert "Apples" in "".join(event.text for event in events if isinstance(event, Token))
    end = events[-1]
    assert isinstance(end, End)
    assert end.usage.completion_tokens
    assert end.usage.eval_s


def test_probe_climbs_to_a_token(real_llamacpp, home, configured):
    """Each rung holds, and the server is called what it is."""
    result = opskit("probe", "--json", *configured(real_llamacpp), home=home, env=NO_NODES)
    assert result.status == 0, result
    found = result.finding("llm")
    assert (found["status"], found["state"]) == ("pass", "ok")
    assert [rung["rung"] for rung in found["evidence"]["ladder"]] == [
        *("tcp", "http", "models", "resident", "slots", "first token")
    ]
    assert found["evidence"]["server"] == "llama.cpp"
    assert found["evidence"]["resident"] == ["smol"]
    assert found["evidence"]["slots"] == {"total": 2, "busy": 0}


def test_run_answers(real_llamacpp, home, configured):
    """`run` prints the model's answer."""
    result = opskit("run", "List five fruits.", *configured(real_llamacpp), home=home, env=NO_NODES)
    assert result.status == 0, result
    assert "Apples" in result.out
    assert "smol on llm" in result.err


def test_either_name_of_its_model_is_taken(real_llamacpp, home, configured):
    """A model with two names is one: asked for by either, tested once, and no fallback of itself."""
    options = configured(real_llamacpp)
    result = opskit("run", "List five fruits.", "--model", "SmolLM2", *options, home=home, env=NO_NODES)
    assert "smol on llm" in result.err, result
    tested = opskit("models", "test", "--all", "--yes", "--json", *options, home=home, env=NO_NODES)
    assert [model["model"] for model in tested.document["models"]] == ["smol"]
    route = opskit("models", "route", "--json", *options, home=home, env=NO_NODES)
    assert route.document["fallbacks"] == []


def test_models_are_shown_with_what_is_known_of_them(real_llamacpp, home, configured):
    """`models list` and `models loaded` tell size, parameters, quantisation and context."""
    options = configured(real_llamacpp)
    listed = opskit("models", "list", "--json", *options, home=home, env=NO_NODES)
    assert listed.status == 0, listed
    (row,) = listed.document["models"]
    assert (row["size_bytes"], row["parameters"], row["quantization"]) == (SIZE_BYTES, PARAMETERS, "Q4_1")
    assert (row["context_length"], row["loaded"]) == (8192, True)
    assert (row["model"], row["aliases"]) == ("smol", ["smollm2"])
    loaded = opskit("models", "loaded", "--json", *options, home=home, env=NO_NODES)
    (row,) = loaded.document["models"]
    assert (row["model"], row["size_bytes"], row["context_length"]) == ("smol", SIZE_BYTES, 512)


def test_models_are_tested_and_routed(real_llamacpp, home, configured):
    """The loaded model is tested without a load, and is the first choice."""
    options = configured(real_llamacpp)
    tested = opskit("models", "test", "--json", *options, home=home, env=NO_NODES)
    assert tested.status == 0, tested
    assert [f["status"] for f in tested.document["findings"] if f["check"] == "model"] == ["pass"]
    route = opskit("models", "route", "--json", *options, home=home, env=NO_NODES)
    assert [(one["node"], one["model"], one["loaded"]) for one in route.document["models"]] == [
        ("llm", "smol", True)
    ]


def test_doctor_finds_nothing_wrong_with_it(real_llamacpp, home, configured):
    """No cause is named for a node that is well."""
    result = opskit("doctor", "--json", *configured(real_llamacpp), home=home, env=NO_NODES)
    assert not [cause for cause in result.document["causes"] if "llm" in cause["target"]], result


def test_watch_shows_what_is_loaded(real_llamacpp, home, configured):
    """One look at the node."""
    arguments = ("watch", "--json", "--count", "1", "--only", "nodes", *configured(real_llamacpp))
    result = opskit(*arguments, home=home, env=NO_NODES)
    tick = json.loads(result.out.splitlines()[-1])
    assert (tick["nodes"][0]["state"], tick["nodes"][0]["loaded"][0]["model"]) == ("ok", "smol")


def test_a_checklist_climbs_its_ladder(real_llamacpp, home, tmp_path):
    """The kind `node_ladder` takes `source: llamacpp`."""
    checks = tmp_path / "checks.yaml"
    ladder = {"url": real_llamacpp.url, "source": "llamacpp"}
    checks.write_text(json.dumps({"checks": [{"name": "llm", "kind": "node_ladder", "with": ladder}]}))
    result = opskit("verify", str(checks), "--json", home=home)
    assert result.status == 0, result


def test_behind_the_address_of_mlx_it_is_still_itself(real_llamacpp, home):
    """It is not called mlx_lm.server, and its model is listed once."""
    env = {"OLLAMA_API_URL": "", "MLX_API_URL": real_llamacpp.url}
    probed = opskit("probe", "--use-mlx", "--json", home=home, env=env)
    assert probed.finding("mlx")["evidence"]["server"] == "llama.cpp"
    listed = opskit("models", "list", "--json", home=home, env=env)
    assert [row["name"] for row in listed.document["models"]] == ["smol"]


def test_swapped_with_a_real_mlx_server_both_are_named(real_llamacpp, real_mlx, home, configured):
    """`probe` and `doctor` tell which server answers where, and the address to write for each node."""
    options = configured(real_mlx)
    env = {"OLLAMA_API_URL": "", "MLX_API_URL": real_llamacpp.url}
    path = Path(options[1])
    path.write_text(path.read_text().replace('"mlx": null, ', ""))
    probed = opskit("probe", "--json", *options, home=home, env=env)
    mlx, llm = probed.finding("mlx"), probed.finding("llm")
    assert (mlx["status"], mlx["remedy"]) == ("warn", f"set MLX_API_URL to {real_mlx.url}")
    assert (llm["status"], llm["remedy"]) == ("warn", f"set `nodes.llm.url` to {real_llamacpp.url}")
    assert mlx["detail"].startswith("llama.cpp's server answers at the address of an MLX server")
    result = opskit("doctor", "--json", *options, home=home, env=env)
    (cause,) = [cause for cause in result.document["causes"] if cause["id"] == "wrong-server"]
    assert (cause["status"], cause["title"]) == ("warn", "the addresses of mlx and llm are swapped")


def test_a_full_server_is_busy_and_is_not_asked(own_real_llamacpp, home, configured):
    """With its only slot at work no question is put behind the others, and the reason is told."""
    server = own_real_llamacpp("--slots", "1", "--context", "4096")
    with busy(server):
        result = opskit("probe", "--json", *configured(server), home=home, env=NO_NODES)
    found = result.finding("llm")
    assert (found["state"], found["status"]) == ("busy", "skip"), result
    assert "its only slot is busy" in found["detail"]
    assert found["evidence"]["slots"] == {"total": 1, "busy": 1}
    assert found["evidence"]["ladder"][-1]["rung"] == "slots"


def test_a_server_with_a_free_slot_is_asked(own_real_llamacpp, home, configured):
    """One client of two leaves room for a token."""
    server = own_real_llamacpp("--slots", "2", "--context", "4096")
    with busy(server):
        result = opskit("probe", "--json", *configured(server), home=home, env=NO_NODES)
    found = result.finding("llm")
    assert found["evidence"]["slots"] == {"total": 2, "busy": 1}
    assert found["state"] in ("ok", "slow"), result


def test_a_stopped_server_is_wedged_by_name(own_real_llamacpp, home, configured):
    """SIGSTOP: the process is named with the command that lets it go on."""
    server = own_real_llamacpp()
    options = configured(server)
    server.freeze()
    try:
        result = opskit("probe", "--json", *options, home=home, env=NO_NODES)
    finally:
        server.thaw()
    found = result.finding("llm")
    assert found["state"] == "wedged", result
    assert found["remedy"] == f"`kill -CONT {server.pid}` lets it go on"


def test_a_locked_server_wants_its_key(own_real_llamacpp, home, configured):
    """Only its health page is open; with the key in the environment everything is."""
    server = own_real_llamacpp("--api-key", "sk-secret")
    locked = opskit("probe", "--json", *configured(server), home=home, env=NO_NODES)
    assert locked.finding("llm")["state"] == "unauthorised", locked
    options = configured(server, api_key="${LLM_KEY}")
    opened = opskit("probe", "--json", *options, home=home, env=NO_NODES | {"LLM_KEY": "sk-secret"})
    assert opened.finding("llm")["state"] == "ok", opened
    assert "sk-secret" not in opened.out + opened.err


def test_a_prompt_past_its_context_is_told(own_real_llamacpp, home, configured):
    """The server's own reason reaches the person."""
    server = own_real_llamacpp("--context", "256")
    result = opskit("run", "word " * 600, *configured(server), home=home, env=NO_NODES)
    assert result.status != 0
    assert "exceed" in result.err, result


def test_a_dead_server_is_refused_with_the_command_that_starts_it(own_real_llamacpp, home, configured):
    """The remedy is llama.cpp's own."""
    server = own_real_llamacpp()
    options = configured(server)
    server.kill()
    found = opskit("probe", "--json", *options, home=home, env=NO_NODES).finding("llm")
    assert found["state"] == "refused"
    assert f"`llama-server --model FILE.gguf --port {server.port}`" in found["remedy"]
