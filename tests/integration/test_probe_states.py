"""`opskit probe` tells states apart, and does no harm while it looks (simulated servers, real processes)."""

import contextlib
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from pytest_httpserver import HTTPServer

from opskit.sandbox.faults import parse_fault
from opskit.sandbox.ollama import SimModel
from opskit.sandbox.stage import Stage
from tests.parts.command import NOBODY, Result, opskit

QUICK = "probe: {http_s: 1.0, first_token_s: 1.0, slow_first_token_s: 0.4, slow_http_s: 0.4, cycle_s: 5}\n"
RESIDENT = SimModel("phi3.5:3.8b", resident=True)
ABSENT = SimModel("qwen2.5-coder:7b", 4_700_000_000)


@contextlib.asynccontextmanager
async def staged(*faults: str, models: tuple[SimModel, ...] = (RESIDENT, ABSENT)) -> AsyncIterator[Stage]:
    async with Stage([parse_fault(fault) for fault in faults], ollama_models=models) as stage:
        yield stage


async def probed(stage: Stage, tmp_path: Path, *flags: str, only: str = "", **env: str) -> Result:
    """Probe the stage in a process of its own; `only` names the one node that is left switched on."""
    import asyncio

    config = tmp_path / "quick.yaml"
    config.write_text(QUICK)
    urls = stage.environment()
    if only:
        urls = {name: url if only.upper() in name else "" for name, url in urls.items()}
    return await asyncio.to_thread(
        opskit,
        "probe",
        "--json",
        "--config",
        str(config),
        *flags,
        home=tmp_path / "home",
        env={**urls, **env},
    )


@pytest.mark.parametrize(
    ("fault", "node", "state", "status"),
    [
        ("ollama=refuse", "ollama", "refused", 1),
        ("ollama=silence", "ollama", "wedged", 1),
        ("ollama=unauthorised", "ollama", "unauthorised", 1),
        ("ollama=ps-blocks", "ollama", "busy", 3),
        ("ollama=fast-503", "ollama", "busy", 3),
        ("ollama=rate-limited", "ollama", "busy", 3),
        ("ollama=slow-token,seconds=0.6", "ollama", "slow", 0),
        ("ollama=crash", "ollama", "failing", 1),
        ("ollama=empty", "ollama", "failing", 1),
        ("mlx=zombie", "mlx", "wedged", 1),
        ("mlx=refuse", "mlx", "refused", 1),
        ("mlx=silence", "mlx", "wedged", 1),
        ("mlx=loading-503", "mlx", "loading", 3),
        ("mlx=slow-token,seconds=0.6", "mlx", "slow", 0),
        ("mlx=slow-token,seconds=5", "mlx", "busy", 3),
        ("mlx=notfound-all", "mlx", "failing", 1),
        ("mlx=empty-reply", "mlx", "failing", 1),
    ],
)
async def test_each_state_has_its_name(
    tmp_path: Path, fault: str, node: str, state: str, status: int
) -> None:
    """A server that is slow, busy, loading or wedged is never called just down."""
    async with staged(fault) as stage:
        result = await probed(stage, tmp_path, only=node)
    found = result.finding(node)
    assert (found["state"], result.status) == (state, status), result
    assert found["detail"]
    assert found["remedy"] is not None


async def test_a_healthy_stack_passes(tmp_path: Path) -> None:
    """Everything well: exit 0, each node proven by a token, the cycle through Victoria included."""
    async with staged() as stage:
        result = await probed(stage, tmp_path)
    assert result.status == 0, result
    assert {f["state"] for f in result.document["findings"]} == {"ok"}
    assert result.finding("victoria", "cycle")["status"] == "pass"


async def test_a_missing_optional_service_is_no_failure(tmp_path: Path) -> None:
    """Victoria and MLX are not there, Ollama answers: exit 0."""
    async with staged() as stage:
        result = await probed(stage, tmp_path, VICTORIA_URL=NOBODY, VERONICA_URL=NOBODY, MLX_API_URL=NOBODY)
    assert result.status == 0, result
    assert result.finding("mlx")["state"] == "refused"


async def test_use_mlx_makes_mlx_due(tmp_path: Path) -> None:
    """With --use-mlx a missing MLX fails, whatever Ollama does."""
    async with staged() as stage:
        result = await probed(stage, tmp_path, "--use-mlx", MLX_API_URL=NOBODY)
    assert result.status == 1
    assert result.finding("mlx")["status"] == "fail"


async def test_a_probe_loads_pins_and_swaps_nothing(tmp_path: Path) -> None:
    """The only generation is one token of the resident model, with its own context and no life of its own."""
    async with staged() as stage:
        [(runner, before_s)] = stage.ollama.memory.listed()
        loads = list(stage.ollama.memory.loads)
        result = await probed(stage, tmp_path, VICTORIA_URL="", VERONICA_URL="")
        [(same, after_s)] = stage.ollama.memory.listed()
        chats = [r for r in stage.ollama.requests if r.path == "/api/chat"]
    assert result.status == 0
    assert same is runner
    assert before_s - 30 < after_s <= before_s + 1
    assert stage.ollama.memory.loads == loads
    assert [chat.model for chat in chats] == ["phi3.5:3.8b"]
    body = chats[0].body or {}
    assert body["options"]["num_predict"] == 1
    assert body["options"]["num_ctx"] > 0
    assert "keep_alive" not in body
    assert stage.mlx.swaps == []
    assert [r.model for r in stage.mlx.requests if r.path.endswith("/chat/completions")] == [None]


async def test_nothing_resident_is_an_open_question(tmp_path: Path) -> None:
    """No model is loaded: none is loaded by the probe, which says so and exits 3."""
    async with staged(models=(ABSENT,)) as stage:
        result = await probed(stage, tmp_path, only="ollama")
        chats = [r for r in stage.ollama.requests if r.path in ("/api/chat", "/api/generate")]
    assert result.status == 3, result
    assert chats == []
    found = result.finding("ollama")
    assert (found["state"], found["status"]) == ("ok", "skip")
    assert "--load" in found["remedy"]


async def test_load_is_done_when_asked_for(tmp_path: Path) -> None:
    """--load loads the smallest model that fits and asks it."""
    async with staged(models=(ABSENT, SimModel("tinyllama:1.1b-chat", 640_000_000))) as stage:
        result = await probed(stage, tmp_path, "--load", only="ollama")
    assert result.status == 0, result
    assert result.finding("ollama")["evidence"]["loaded"] == "tinyllama:1.1b-chat"


async def test_a_model_can_be_named(tmp_path: Path) -> None:
    """--model asks that very model, loading it."""
    async with staged() as stage:
        result = await probed(stage, tmp_path, "--model", "qwen2.5-coder:7b", only="ollama")
    assert result.status == 0, result
    assert result.finding("ollama")["evidence"]["model"] == "qwen2.5-coder:7b"


async def test_a_model_that_nobody_lists_is_no_chain(tmp_path: Path) -> None:
    """--model with a name that no node lists fails and says how to see the names; nothing is loaded."""
    async with staged() as stage:
        result = await probed(stage, tmp_path, "--model", "nosuch:1b", VICTORIA_URL="")
        assert not [r for r in stage.ollama.requests if r.path == "/api/chat"]
    assert result.status == 1, result
    chain = result.finding("chain")
    assert (chain["code"], chain["status"]) == ("MODEL_001", "fail")
    assert "models list" in chain["remedy"]


async def test_a_model_that_cannot_fit_is_not_loaded(tmp_path: Path) -> None:
    """A model above the free memory is refused with the numbers."""
    async with staged(models=(SimModel("huge:900b", 10**15),)) as stage:
        result = await probed(stage, tmp_path, "--model", "huge:900b", only="ollama")
        assert stage.ollama.memory.loads == []
    assert result.status == 1
    assert "GiB" in result.finding("ollama")["detail"]


async def test_an_echoing_model_is_no_chain(tmp_path: Path) -> None:
    """With --goal an echo is found out."""
    async with staged("ollama=echo") as stage:
        result = await probed(stage, tmp_path, "--goal", "Tell me about the weather in Paris", only="ollama")
    assert result.status == 1
    assert "echo" in result.finding("ollama")["detail"]


async def test_victoria_that_echoes_fails_the_cycle(tmp_path: Path) -> None:
    """The full cycle judges the answer, not the status code."""
    async with staged("victoria=echo") as stage:
        result = await probed(stage, tmp_path)
    assert result.finding("victoria", "cycle")["status"] == "fail"
    assert result.status == 1


async def test_an_ollama_shaped_server_at_the_mlx_address_is_recognised(tmp_path: Path) -> None:
    """A node says by itself what it speaks."""
    async with staged() as stage:
        result = await probed(stage, tmp_path, OLLAMA_API_URL="", MLX_API_URL=stage.ollama.url)
    assert result.finding("mlx")["state"] == "ok"
    assert result.finding("mlx")["evidence"]["server"].startswith("Ollama")


async def test_all_nodes_are_probed_side_by_side(tmp_path: Path) -> None:
    """Four silent servers cost the time of one."""
    async with staged("ollama=silence", "mlx=silence", "victoria=silence", "veronica=silence") as stage:
        result = await probed(stage, tmp_path)
    seconds = [f["seconds"] for f in result.document["findings"] if f["check"] in ("node", "agent")]
    assert len(seconds) == 4
    assert max(seconds) < 2 * min(seconds)


def test_an_answer_out_of_a_cache_proves_no_model(tmp_path: Path, httpserver: HTTPServer) -> None:
    """An agent that answers from what it remembers shows nothing of the models: no request is answered."""
    httpserver.expect_request("/status").respond_with_json({"status": "ok"})
    knowledge = {"method": "simple", "metadata": {"cached": True}}
    answer = {"status": "success", "output": "ready", "knowledge": knowledge}
    httpserver.expect_request("/run", method="POST").respond_with_json(answer)
    url = httpserver.url_for("").rstrip("/")
    result = opskit("probe", "--json", home=tmp_path / "home", env={"VICTORIA_URL": url})
    cycle, chain = result.finding("victoria", "cycle"), result.finding("chain")
    assert (cycle["status"], cycle["state"]) == ("inconclusive", "cached")
    assert (chain["status"], result.status) == ("fail", 1)
