"""The whole simulated stack."""

import asyncio
import socket
import threading
import time

import httpx
import pytest

from opskit.sandbox.faults import SandboxFault, SandboxFaultKind, parse_fault
from opskit.sandbox.stage import MLX_DEFAULT, Stage
from tests.parts.loopback import dial, http_request, until


async def get(url, path):
    async with httpx.AsyncClient(base_url=url, timeout=30, trust_env=False) as client:
        return await client.get(path)


async def test_every_node_answers_at_the_url_of_its_variable():
    """The environment points at four live servers of the right kinds."""
    async with Stage() as stage:
        at = stage.environment()
        assert (await get(at["OLLAMA_API_URL"], "/")).text == "Ollama is running"
        listed = (await get(at["MLX_API_URL"], "/v1/models")).json()["data"]
        assert listed[0]["id"] == MLX_DEFAULT
        assert len(listed) == 2
        for variable, name in {"VICTORIA_URL": "victoria", "VERONICA_URL": "veronica"}.items():
            assert (await get(at[variable], "/health")).json()["agent"] == name
        assert list(stage.nodes) == ["ollama", "mlx", "victoria", "veronica"]


async def test_the_default_stack_has_one_small_resident_model():
    """Of the three installed models only the smallest chat model is loaded."""
    async with Stage() as stage:
        tags = (await get(stage.ollama.url, "/api/tags")).json()["models"]
        loaded = (await get(stage.ollama.url, "/api/ps")).json()["models"]
    assert [one["name"] for one in tags] == ["phi3.5:3.8b", "qwen2.5-coder:7b", "tinyllama:1.1b-chat"]
    assert [one["name"] for one in loaded] == ["phi3.5:3.8b"]


@pytest.mark.parametrize("spec,resident", [("crash", True), ("slow-load,seconds=9", False)])
async def test_a_model_that_only_a_fault_names_is_added(spec, resident):
    """It is installed with 20 GB, and resident unless the fault is one of loading."""
    async with Stage([parse_fault(f"ollama:big:32b={spec}")]) as stage:
        tags = (await get(stage.ollama.url, "/api/tags")).json()["models"]
        loaded = (await get(stage.ollama.url, "/api/ps")).json()["models"]
    assert tags[-1]["name"] == "big:32b"
    assert tags[-1]["size"] == 20_000_000_000
    assert ("big:32b" in {one["name"] for one in loaded}) is resident


async def test_a_fault_hits_its_node_and_no_other():
    """A refused node leaves the rest of the stack alone."""
    async with Stage([parse_fault("mlx=refuse")]) as stage:
        with pytest.raises(httpx.ConnectError):
            await get(stage.mlx.url, "/health")
        assert (await get(stage.ollama.url, "/")).status_code == 200


@pytest.mark.parametrize("node,hint", [("nobody", "unknown node"), ("mlx", "mlx cannot show")])
def test_a_fault_that_cannot_be_shown_is_refused_before_anything_starts(node, hint):
    """The constructor raises ValueError."""
    with pytest.raises(ValueError, match=hint):
        Stage([(node, None, SandboxFault(SandboxFaultKind.CRASH))])


async def test_fixed_ports_are_taken_and_a_taken_one_leaves_nothing_running():
    """A stage that cannot start one node stops those it had started."""
    async with Stage() as first:
        busy = first.veronica.port
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        second = Stage(ports={"ollama": port, "veronica": busy})
        with pytest.raises(OSError):
            await second.__aenter__()
        with pytest.raises(ConnectionRefusedError):
            await dial(f"http://127.0.0.1:{port}")


async def test_leaving_is_prompt_although_every_node_hangs():
    """Nothing waits for a fault to end, and neither tasks nor threads are left."""
    tasks, threads = asyncio.all_tasks(), set(threading.enumerate())
    specs = [parse_fault(f"{node}=silence") for node in ("ollama", "mlx", "victoria", "veronica")]
    writers = []
    async with Stage(specs) as stage:
        for node in stage.nodes.values():
            _, writer = await dial(node.url)
            writer.write(http_request("GET", "/"))
            writers.append(writer)
            await until(lambda node=node: node.requests)
        began = time.monotonic()
    assert time.monotonic() - began < 10
    assert asyncio.all_tasks() == tasks
    assert set(threading.enumerate()) == threads
    for writer in writers:
        writer.close()


async def test_a_stage_at_rest_costs_nothing() -> None:
    """Nobody asks: the four servers use next to no processor time."""
    async with Stage():
        before = time.process_time()
        await asyncio.sleep(0.5)
        used = time.process_time() - before
    assert used < 0.2
