"""`opskit models profile`, and the agent that works by a profile: real commands, a server that is written."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.parts.command import Result, opskit
from tests.parts.model_server import MODEL, Chunks, ModelServer, Refusal, model_server
from tests.parts.real_llamacpp import RealLlamaCpp
from tests.parts.real_mlx import RealMlx

WORDS = ["Blue is a colour."]
OBEYED = [json.dumps({"fruit": "medlar", "note": "n"})]
CALL = [("read_sensor", '{"sensor": "kitchen"}')]
WRITTEN = ['I will call it.\n{"name": "read_sensor", "arguments": {"sensor": "kitchen"}}']


def only_words(body: dict[str, Any]) -> Chunks:
    return WORDS


def obeys_schema(body: dict[str, Any]) -> Chunks:
    return OBEYED if "response_format" in body else WORDS


def calls(body: dict[str, Any]) -> Chunks:
    return CALL if "tools" in body else WORDS


def writes_calls(body: dict[str, Any]) -> Chunks:
    return WRITTEN if "tools" in body else WORDS


def refuses_both(body: dict[str, Any]) -> Chunks:
    return Refusal(400, "unsupported field") if body.keys() & {"tools", "response_format"} else WORDS


def thinks_first(body: dict[str, Any]) -> Chunks:
    return (
        ["<think>", "Which colour? ", "</think>", *CALL] if "tools" in body else ["<think>Hm.</think>Blue."]
    )


@contextmanager
def probed(home: Path, answer: Any, *options: str, **settings: Any) -> Iterator[tuple[ModelServer, Result]]:
    with model_server(answer, **settings) as server:
        yield server, profile(home, server.url, *options)


def profile(home: Path, url: str, *options: str, model: str = MODEL, source: str = "openai") -> Result:
    home.mkdir(exist_ok=True)
    config = home / "opskit.yaml"
    config.write_text(f"nodes: {{here: {{url: '{url}', source: {source}}}}}\n")
    env = {"OLLAMA_API_URL": "", "MLX_API_URL": ""}
    return opskit("models", "profile", model, "--json", "--config", str(config), *options, home=home, env=env)


@pytest.mark.parametrize(
    ("answer", "mode", "true"),
    [
        (only_words, "text", set()),
        (obeys_schema, "schema", {"enforces_schema"}),
        (calls, "native", {"native_tools"}),
        (writes_calls, "text", {"tools_as_text"}),
        (refuses_both, "text", set()),
        (thinks_first, "native", {"native_tools", "thinks"}),
    ],
)
def test_each_ability_is_what_the_model_did(tmp_path: Path, answer: Any, mode: str, true: set[str]):
    """A claim of a server counts for nothing, only what came of the question."""
    with probed(tmp_path, answer) as (_, result):
        [found] = result.document["profiles"]
    flags = {"enforces_schema", "native_tools", "tools_as_text", "thinks"}
    assert result.status == 0
    assert {flag for flag in flags if found[flag]} == true
    assert found["step_mode"] == mode
    assert [probe["name"] for probe in found["probes"]] == ["context", "schema", "tools"]
    assert all(probe["seconds"] > 0 for probe in found["probes"])


def test_a_prompt_that_the_server_cuts_shows_the_real_context(tmp_path: Path):
    """The server tells 32,768 and reads 35."""
    with probed(tmp_path, only_words, listed={"max_model_len": 32768}, prompt_tokens=35) as (_, result):
        [found] = result.document["profiles"]
    assert (found["trained_context"], found["real_context"], found["prompt_cut"]) == (32768, 35, True)


def test_a_profile_is_made_once(tmp_path: Path):
    """Until it is asked for again, or the model is another one under the same name."""
    with probed(tmp_path, calls) as (server, _):
        once = len(server.bodies)
        assert profile(tmp_path, server.url).document["findings"][0]["state"] == "known"
        assert len(server.bodies) == once
        profile(tmp_path, server.url, "--again")
        assert len(server.bodies) == 2 * once
        server.listed = {"max_model_len": 8192}
        assert profile(tmp_path, server.url).document["findings"][0]["state"] == "probed"


def test_a_page_fits_eighty_columns_and_announces_only_loads(tmp_path: Path):
    """What is loaded already costs nothing, so nothing is said of it before its result."""
    with probed(tmp_path, only_words):
        config = ("--config", str(tmp_path / "opskit.yaml"))
        page = opskit("models", "profile", MODEL, *config, home=tmp_path, env={"OLLAMA_API_URL": ""})
    assert page.status == 0
    assert max(map(len, page.out.splitlines())) <= 80
    assert "tested as found" not in page.err


def test_a_model_that_may_not_be_loaded_is_not_asked(tmp_path: Path):
    """The server does not tell what is loaded: only `--load` may make it load one."""
    with probed(tmp_path, calls, listed={"owned_by": "somebody"}) as (server, result):
        assert (result.status, server.bodies) == (3, [])
        assert "--load" in result.document["findings"][0]["remedy"]
        assert profile(tmp_path, server.url, "--load").status == 0


def test_what_a_probe_was_to_find_out_is_no_failure_of_the_model(tmp_path: Path):
    """A server that refuses functions has answered the probe: no command counts it among failed calls."""
    with probed(tmp_path, refuses_both) as (_, result):
        config = ("--config", str(tmp_path / "opskit.yaml"))
        env = {"OLLAMA_API_URL": "", "MLX_API_URL": ""}
        stats = opskit("logs", "stats", "--json", *config, home=tmp_path, env=env).document["stats"]
        causes = opskit("doctor", "--json", *config, home=tmp_path, env=env).document["causes"]
    assert (result.status, stats["calls"]["failed"], stats["errors"]["total"]) == (0, 0, 0)
    assert [cause["id"] for cause in causes if "request" in cause["id"]] == []


def test_a_server_that_fails_has_no_profile(tmp_path: Path):
    """The next call asks again."""
    with probed(tmp_path, lambda _: Refusal(500, "CUDA error: out of memory")) as (server, result):
        assert result.status == 1
        assert result.document["profiles"] == []
        asked = len(server.bodies)
        profile(tmp_path, server.url)
        assert len(server.bodies) > asked


def test_a_model_that_calls_functions_works_by_them(tmp_path: Path):
    """It gets tools and no schema, its results as results, and its plain words are the answer."""
    (tmp_path / "workspace").mkdir()
    for name in ("alpha.txt", "beta.txt"):
        (tmp_path / "workspace" / name).write_text("text")

    def lists(body: dict[str, Any]) -> Chunks:
        if "tools" not in body:
            return WORDS
        if any(tool["function"]["name"] == "read_sensor" for tool in body["tools"]):
            return CALL
        if any(message["role"] == "tool" for message in body["messages"]):
            return ["The folder has alpha.txt and beta.txt."]
        return [("list_directory", '{"path": "."}')]

    with probed(tmp_path, lists) as (server, _):
        server.bodies.clear()
        config = tmp_path / "opskit.yaml"
        config.write_text(config.read_text() + f"agent: {{workspace: '{tmp_path}/workspace'}}\n")
        env = {"OLLAMA_API_URL": "", "MLX_API_URL": ""}
        goal = "Which files are in the folder?"
        result = opskit("run", goal, "--local", "--json", "--config", str(config), home=tmp_path, env=env)
    assert result.status == 0, result.err
    assert result.document["output"] == "The folder has alpha.txt and beta.txt."
    assert not any("response_format" in body for body in server.bodies)
    call, outcome = server.bodies[-1]["messages"][-2:]
    assert call["tool_calls"][0]["function"]["name"] == "list_directory"
    assert outcome["role"] == "tool"
    assert outcome["tool_call_id"] == call["tool_calls"][0]["id"]
    assert "alpha.txt" in outcome["content"]


def test_llamacpp_enforces_a_schema(tmp_path: Path, real_llamacpp: RealLlamaCpp):
    """A real small model obeys it word for word, and calls no function."""
    result = profile(tmp_path, real_llamacpp.url, model="smollm2", source="llamacpp")
    [found] = result.document["profiles"]
    assert (found["step_mode"], found["native_tools"]) == ("schema", False)
    assert found["loaded_context"] == 512


def test_mlx_enforces_none(tmp_path: Path, real_mlx: RealMlx):
    """The real server takes the field and ignores it."""
    result = profile(tmp_path, real_mlx.url, model=real_mlx.model, source="mlx")
    [found] = result.document["profiles"]
    assert (found["step_mode"], found["enforces_schema"]) == ("text", False)
