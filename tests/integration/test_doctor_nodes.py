"""Causes around model nodes and agents, each produced by a server that really is in that condition."""

import asyncio
import http.server
import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

import pytest

from opskit.checks.state import NodeState
from opskit.sandbox.faults import SandboxFault, SandboxFaultKind
from opskit.sandbox.ollama import SimModel
from opskit.sandbox.stage import Stage
from tests.parts.command import started
from tests.parts.examining import cause, examined, keys, log_of_calls, on_stage
from tests.parts.fixtures import StartMlx
from tests.parts.raw_server import RawServer, answer, free_port, reply_json, serving

BIG = SimModel("big:70b", 10**15, load_s=0.0, parameter_size="70B")


async def test_a_healthy_stack_has_no_cause(tmp_path: Path):
    """A stack that is well gives no cause, and exit 0."""
    async with Stage() as stage:
        found = await on_stage(tmp_path, stage)
    assert keys(found) == []
    assert (found.exit, found.status) == (0, "pass")
    assert [one.check for one in found.open] == []


async def test_an_idle_stack_has_no_cause(tmp_path: Path):
    """A node that has loaded nothing is not asked and not blamed; that it was not judged is told."""
    async with Stage(ollama_models=[SimModel("phi3.5:3.8b")]) as stage:
        found = await on_stage(tmp_path, stage, env={"MLX_API_URL": ""})
        assert stage.ollama.memory.loads == []
    assert (keys(found), found.exit) == ([], 0)
    assert [one.check for one in found.open] == ["node ollama"]


@contextmanager
def stranger(port: int) -> Iterator[subprocess.Popen[bytes]]:
    """A web server in a process of its own that knows nothing of models."""
    process = subprocess.Popen(
        [sys.executable, "-m", "http.server", str(port), "--bind", "127.0.0.1"],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        while process.poll() is None:
            with socket.socket() as line:
                if line.connect_ex(("127.0.0.1", port)) == 0:
                    break
        yield process
    finally:
        process.kill()
        process.wait()


@pytest.mark.parametrize("name", ["ollama", "victoria"])
async def test_a_port_held_by_somebody_else(tmp_path: Path, name: str):
    """A web server at the port of a node or an agent is named, with its process."""
    port = free_port()
    variable = {"ollama": "OLLAMA_API_URL", "victoria": "VICTORIA_URL"}[name]
    with stranger(port) as process:
        env = {"OLLAMA_API_URL": "", variable: f"http://127.0.0.1:{port}"}
        found = await examined(tmp_path, env=env)
    taken = cause(found, f"port-taken:{name}")
    assert f"process {process.pid}" in taken.title
    assert str(port) in taken.title
    assert keys(found) == [f"port-taken:{name}"]
    assert found.exit == 1


async def test_a_port_where_no_http_is_spoken(tmp_path: Path):
    """A server that greets in another protocol (ssh, a database) is somebody else too."""

    async def greet(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"SSH-2.0-OpenSSH_9.2\r\n")
        await writer.drain()
        await reader.read(1024)
        writer.close()

    async with await asyncio.start_server(greet, "127.0.0.1", 0) as server:
        url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
        found = await examined(tmp_path, env={"OLLAMA_API_URL": url})
    assert keys(found) == ["port-taken:ollama"]


async def test_a_sick_server_is_no_stranger(tmp_path: Path):
    """Ollama that crashes at each request answers with errors; nobody else has its port."""
    async with Stage([("ollama", None, SandboxFault(SandboxFaultKind.CRASH))]) as stage:
        found = await on_stage(tmp_path, stage)
    assert keys(found) == ["node-failing:ollama"]


async def test_an_mlx_server_at_ollamas_address(tmp_path: Path):
    """Two addresses that were swapped are told by what answers there, with the lines to write."""
    async with Stage() as stage:
        swapped = {"OLLAMA_API_URL": stage.mlx.url, "MLX_API_URL": stage.ollama.url}
        found = await on_stage(tmp_path, stage, env=swapped)
    assert keys(found) == ["wrong-server:ollama"]
    wrong = cause(found, "wrong-server:ollama")
    assert wrong.title == "the addresses of ollama and mlx are swapped"
    assert wrong.remedy == f"set OLLAMA_API_URL to {stage.ollama.url}; set MLX_API_URL to {stage.mlx.url}"


async def test_two_servers_on_one_port(tmp_path: Path):
    """Programs that listen on one port at different addresses make localhost mean either."""
    async with Stage() as stage:
        other = subprocess.Popen(
            [sys.executable, "-m", "http.server", str(stage.ollama.port), "--bind", "127.0.0.2"],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        try:
            while other.poll() is None:
                with socket.socket() as line:
                    if line.connect_ex(("127.0.0.2", stage.ollama.port)) == 0:
                        break
            found = await on_stage(tmp_path, stage)
        finally:
            other.kill()
            other.wait()
    both = cause(found, "two-servers:ollama")
    assert any("127.0.0.2" in one for one in both.evidence)
    assert keys(found) == ["two-servers:ollama"]


async def test_a_node_without_a_model(tmp_path: Path):
    """Ollama that runs and has no model says what to pull."""
    async with Stage(ollama_models=[]) as stage:
        found = await on_stage(tmp_path, stage)
    assert keys(found) == ["no-model:ollama"]
    assert "ollama pull" in found.causes[0].remedy


async def test_a_model_larger_than_the_memory(tmp_path: Path):
    """A node whose only model cannot be loaded is told with what is needed and what there is."""
    async with Stage(ollama_models=[BIG]) as stage:
        found = await on_stage(tmp_path, stage)
        assert stage.ollama.memory.loads == []
    assert keys(found) == ["model-too-large:ollama/big:70b"]
    assert "does not fit" in found.causes[0].evidence[0]


async def test_a_large_model_beside_a_small_one_is_no_cause(tmp_path: Path):
    """That one of several models does not fit is nobody's problem until it is wanted."""
    async with Stage(ollama_models=[BIG, SimModel("phi3.5:3.8b", 1000)]) as stage:
        assert keys(await on_stage(tmp_path, stage)) == []
        wanted = await on_stage(tmp_path, stage, env={"VICTORIA_MODEL": "big:70b", "MLX_API_URL": ""})
    assert keys(wanted) == ["model-too-large:ollama/big:70b"]


async def test_a_wanted_model_that_nobody_holds(tmp_path: Path):
    """VICTORIA_MODEL that no node has is told with the command that installs it."""
    async with Stage() as stage:
        env = {"VICTORIA_MODEL": "nobody:7b", "MLX_API_URL": ""}
        found = await on_stage(tmp_path, stage, env=env)
    assert keys(found) == ["model-missing:nobody:7b"]
    assert "ollama pull nobody:7b" in found.causes[0].remedy


async def test_a_wedged_node(tmp_path: Path):
    """An MLX server with a green health page and no tokens is wedged."""
    async with Stage([("mlx", None, SandboxFault(SandboxFaultKind.ZOMBIE))]) as stage:
        found = await on_stage(tmp_path, stage)
    assert keys(found) == ["node-wedged:mlx"]


@pytest.mark.parametrize(
    ("fault", "state"),
    [
        (SandboxFault(SandboxFaultKind.FAST_503), NodeState.BUSY),
        (SandboxFault(SandboxFaultKind.PS_BLOCKS), NodeState.BUSY),
        (SandboxFault(SandboxFaultKind.SLOW_TOKEN, seconds=0.3), NodeState.SLOW),
    ],
)
async def test_busy_loading_and_slow_are_no_causes(tmp_path: Path, fault: SandboxFault, state: NodeState):
    """A node that works, loads or is slow is left alone, and told as what it is."""
    probe = {"first_token_s": 5, "http_s": 1, "slow_first_token_s": 0.05}
    async with Stage([("ollama", None, fault)]) as stage:
        found = await on_stage(tmp_path, stage, config={"probe": probe})
    assert keys(found) == []
    assert next(one.state for one in found.findings if one.check == "node ollama") == state.value


async def test_a_stopped_process(tmp_path: Path):
    """A server whose process was stopped is told with the command that lets it go on."""
    process, env = _sandbox(tmp_path)
    try:
        process.send_signal(signal.SIGSTOP)
        found = await examined(tmp_path, env={"OLLAMA_API_URL": env["OLLAMA_API_URL"]})
    finally:
        process.send_signal(signal.SIGCONT)
        _end(process)
    halted = cause(found, "process-stopped:ollama")
    assert halted.fix is not None
    assert halted.fix.command == ("kill", "-CONT", str(process.pid))
    assert halted.fix.safe
    assert keys(found) == ["process-stopped:ollama"]


async def test_a_real_mlx_server(tmp_path: Path, own_real_mlx: StartMlx):
    """The real mlx_lm.server is well while it answers, and its stopped process is told by its id."""
    server = own_real_mlx()
    env = {"OLLAMA_API_URL": "", "MLX_API_URL": server.url}
    probe = {"first_token_s": 20, "http_s": 5}
    assert keys(await examined(tmp_path, env=env, config={"probe": probe})) == []
    os.kill(server.pid, signal.SIGSTOP)
    try:
        found = await examined(tmp_path, env=env)
    finally:
        os.kill(server.pid, signal.SIGCONT)
    assert keys(found) == ["process-stopped:mlx"]
    assert found.causes[0].remedy == f"`kill -CONT {server.pid}` lets it go on"


async def test_a_node_that_is_down(tmp_path: Path):
    """Where nothing listens the node is down, with the command that starts it."""
    found = await examined(tmp_path, env={"OLLAMA_API_URL": f"http://127.0.0.1:{free_port()}"})
    assert keys(found) == ["node-down:ollama"]
    assert "ollama serve" in found.causes[0].remedy


async def test_a_node_that_nobody_asked_for_is_not_missed(tmp_path: Path):
    """MLX at its default address need not be there; when nothing at all is there, that is the cause."""
    async with Stage() as stage:
        env = {"OLLAMA_API_URL": stage.ollama.url}
        nodes = {"mlx": {"enabled": False}}
        assert keys(await examined(tmp_path, env=env, config={"nodes": nodes})) == []


async def test_a_key_that_is_wanted(tmp_path: Path):
    """A server that answers 401 wants a key."""
    async with Stage([("ollama", None, SandboxFault(SandboxFaultKind.UNAUTHORISED))]) as stage:
        found = await on_stage(tmp_path, stage)
    assert keys(found) == ["node-unauthorised:ollama"]


async def test_agents_that_are_down_or_silent(tmp_path: Path):
    """An agent where nothing listens is down, one that accepts and is silent is wedged."""
    faults = [
        ("victoria", None, SandboxFault(SandboxFaultKind.REFUSE)),
        ("veronica", None, SandboxFault(SandboxFaultKind.SILENCE)),
    ]
    async with Stage(faults) as stage:
        stack = {"containers": {"victoria": []}}
        found = await on_stage(tmp_path, stage, config={"stack": stack})
    assert keys(found) == ["agent-down:victoria", "agent-wedged:veronica"]


async def test_a_context_smaller_than_configured(tmp_path: Path):
    """A model that is loaded with less context than `num_ctx` asks for cuts long prompts."""
    nodes = {"ollama": {"num_ctx": 8192}}
    async with Stage() as stage:
        found = await on_stage(tmp_path, stage, config={"nodes": nodes})
        assert keys(found) == ["context-truncated:ollama"]
        assert "4096" in found.causes[0].evidence[0]
        enough = await on_stage(tmp_path, stage, config={"nodes": {"ollama": {"num_ctx": 4096}}})
    assert keys(enough) == []


def _ollama(read: int) -> RawServer:
    """An Ollama whose loaded model counts `read` tokens of whatever it is sent (wire facts A2, A3)."""
    server = RawServer()
    entry = {"name": "m:1b", "model": "m:1b", "size": 1000, "context_length": 8192,
             "expires_at": "2318-01-01T00:00:00Z"}  # fmt: skip
    chunk = {"model": "m:1b", "message": {"role": "assistant", "content": "x"}, "done": False}
    end = {"model": "m:1b", "message": {"role": "assistant", "content": ""}, "done": True,
           "done_reason": "length", "prompt_eval_count": read, "eval_count": 1}  # fmt: skip
    lines = [json.dumps(one).encode() + b"\n" for one in (chunk, end)]
    server.replies = {
        "/api/version": reply_json({"version": "0.30.0"}),
        "/api/tags": reply_json({"models": [entry]}),
        "/api/ps": reply_json({"models": [entry]}),
        "/api/chat": answer(*lines, framing="chunked", Content_Type="application/x-ndjson"),
    }
    return server


@pytest.mark.parametrize(("read", "wanted"), [(1026, ["context-truncated:ollama"]), (9000, [])])
async def test_a_prompt_that_is_read_in_part(tmp_path: Path, read: int, wanted: list[str]):
    """With --deep one long prompt is sent to the loaded model; far fewer tokens than words mean a cut."""
    async with serving() as server:
        server.replies = _ollama(read).replies
        plain = await examined(tmp_path, env={"OLLAMA_API_URL": server.url})
        assert len(server.bodies("/api/chat")) == 1
        deep = await examined(tmp_path, env={"OLLAMA_API_URL": server.url}, deep=True)
        long = server.bodies("/api/chat")[-1]
    assert keys(plain) == []
    assert keys(deep) == wanted
    assert len(long["messages"][0]["content"].split()) == 6000
    assert long["options"] == {"num_predict": 1, "num_ctx": 8192}
    assert "keep_alive" not in long


async def test_deep_leaves_a_model_that_is_not_loaded_alone(tmp_path: Path):
    """Even with --deep nothing is loaded, and nothing is asked twice."""
    async with Stage(ollama_models=[SimModel("phi3.5:3.8b")]) as stage:
        await on_stage(tmp_path, stage, deep=True)
        assert [one.path for one in stage.ollama.requests if one.method == "POST"] == ["/api/show"]


async def test_ollamas_own_log_of_cut_prompts(tmp_path: Path):
    """What Ollama's runner wrote of prompts that it cut is told, if it is not of yesterday."""
    log = tmp_path / ".ollama/logs/server.log"
    log.parent.mkdir(parents=True)
    now = datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
    text = (
        'level=WARN source=runner.go:131 msg="truncating input prompt" limit=2048 prompt=5065 keep=5 new=2048'
    )
    log.write_text(f"time={now} {text}\n")
    async with Stage() as stage:
        found = await on_stage(tmp_path, stage)
        assert keys(found) == ["context-truncated:server.log"]
        assert "5065" in found.causes[0].evidence[1]
        log.write_text(f"time=2020-01-01T10:00:00.000Z {text}\n")
        assert keys(await on_stage(tmp_path, stage)) == []


async def test_clients_with_different_num_ctx(tmp_path: Path):
    """Requests that ask one model with different num_ctx are told with who asks with what."""
    one = {"node": "ollama", "model": "phi3.5:3.8b"}
    log_of_calls(tmp_path, {**one, "num_ctx": 4096}, {**one, "num_ctx": 8192})
    async with Stage() as stage:
        found = await on_stage(tmp_path, stage)
        assert keys(found) == ["num-ctx-differs:ollama/phi3.5:3.8b"]
        log_of_calls(tmp_path, {**one, "num_ctx": 4096}, {**one, "num_ctx": 4096}, one)
        assert keys(await on_stage(tmp_path, stage)) == []
        # opskit's own requests follow the context of a loaded model, and choose one where they load it.
        log_of_calls(
            tmp_path,
            {**one, "num_ctx": 4096, "resident": True},
            {**one, "num_ctx": 8192, "resident": True},
            {**one, "num_ctx": 16384, "resident": False},
        )
        assert keys(await on_stage(tmp_path, stage)) == []


@pytest.mark.parametrize(
    ("faults", "env", "calls", "wanted"),
    [
        ([("mlx", None, SandboxFault(SandboxFaultKind.REFUSE))], {}, 5, ["node-down:mlx", "mlx-idle:mlx"]),
        ([], {"USE_MLX_FALLBACK": "false"}, 5, ["mlx-idle:mlx"]),
        ([], {}, 5, []),
        ([], {"USE_MLX_FALLBACK": "false"}, 4, []),
    ],
)
async def test_mlx_idle_while_ollama_works(tmp_path: Path, faults, env, calls, wanted):
    """MLX without work is told with its cause, beneath a node that is down; without a cause it is not."""
    log_of_calls(tmp_path, *({"node": "ollama", "model": "phi3.5:3.8b"} for _ in range(calls)))
    async with Stage(faults) as stage:
        found = await on_stage(tmp_path, stage, env=env)
    assert keys(found) == wanted
    assert [entry.parent for entry in found.entries] == [None, *wanted[:-1]][: len(wanted)]


async def test_mlx_idle_because_every_request_failed(tmp_path: Path):
    """Requests that MLX failed, one by one, are why its circuit stays open."""
    failed = [{"node": "mlx", "model": "default_model", "fault": "wedged"}] * 3
    log_of_calls(tmp_path, *failed, *([{"node": "ollama", "model": "phi3.5:3.8b"}] * 5))
    async with Stage() as stage:
        found = await on_stage(tmp_path, stage)
    assert keys(found) == ["mlx-idle:mlx"]
    assert "every request" in found.causes[0].title


def _sandbox(folder: Path, **variables: str) -> tuple[subprocess.Popen[str], dict[str, str]]:
    """A stack in a process of its own, started with these variables; and where it is."""
    process = started(["sandbox", "up"], home=folder, env=variables)
    assert process.stdout is not None
    lines = [process.stdout.readline() for _ in range(4)]
    return process, dict(line.removeprefix("export ").strip().split("=", 1) for line in lines)


def _end(process: subprocess.Popen[str]) -> None:
    process.send_signal(signal.SIGTERM)
    process.communicate(timeout=30)


@pytest.mark.parametrize(
    ("server", "shell", "wanted"),
    [
        ({"OLLAMA_KEEP_ALIVE": "0"}, {}, "ollama-keep-alive:ollama"),
        ({"OLLAMA_KV_CACHE_TYPE": "q8_0"}, {}, "ollama-kv-cache:ollama"),
        ({"OLLAMA_NUM_PARALLEL": "four"}, {}, "ollama-setting-invalid:ollama"),
        ({}, {"OLLAMA_NUM_PARALLEL": "4"}, "shell-settings-ignored:ollama"),
        ({"OLLAMA_MAX_LOADED_MODELS": "1"}, {}, "ollama-one-model:ollama"),
        ({"OLLAMA_KV_CACHE_TYPE": "q8_0", "OLLAMA_FLASH_ATTENTION": "1"}, {}, None),
        ({"OLLAMA_NUM_PARALLEL": "4", "OLLAMA_KEEP_ALIVE": "10m"}, {"OLLAMA_NUM_PARALLEL": "4"}, None),
        ({"OLLAMA_MAX_LOADED_MODELS": "2"}, {}, None),
    ],
)
async def test_settings_of_a_running_server(tmp_path: Path, server, shell, wanted):
    """Settings are read from the process that really holds the port, not from this shell."""
    models = ["phi3.5:3.8b", "qwen2.5-coder:7b"] * 3
    log_of_calls(tmp_path, *({"node": "ollama", "model": model} for model in models))
    process, env = _sandbox(tmp_path, **server)
    try:
        found = await examined(tmp_path, env={"OLLAMA_API_URL": env["OLLAMA_API_URL"], **shell})
    finally:
        _end(process)
    assert keys(found) == ([wanted] if wanted else [])


async def test_secrets_of_a_server_stay_there(tmp_path: Path):
    """Variables of a process show their names at most; values only of harmless settings."""
    process, env = _sandbox(tmp_path, OLLAMA_KEEP_ALIVE="0", OLLAMA_API_KEY="geheim-1", HF_TOKEN="geheim-2")
    try:
        found = await examined(
            tmp_path, env={"OLLAMA_API_URL": env["OLLAMA_API_URL"], "OLLAMA_API_KEY": "geheim-3"}
        )
    finally:
        _end(process)
    assert keys(found) == ["ollama-keep-alive:ollama"]
    assert "geheim" not in json.dumps(found.as_json())


async def test_a_clock_that_differs(tmp_path: Path):
    """The date that a node tells is compared with ours; a few seconds are nothing."""
    async with serving() as server:
        server.replies = _ollama(10).replies
        for date, wanted in (
            ("Mon, 01 Jan 2024 00:00:00 GMT", ["clock-skew:ollama"]),
            (_http_date(), []),
        ):
            server.replies["/"] = answer(b"Ollama is running", Date=date)
            found = await examined(tmp_path, env={"OLLAMA_API_URL": server.url + "/"})
            assert keys(found) == wanted
            assert not wanted or "behind" in found.causes[0].title


def _http_date() -> str:
    return http.server.BaseHTTPRequestHandler.date_time_string(None)  # type: ignore[arg-type]


async def test_a_check_that_hangs_ends_at_its_deadline(tmp_path: Path):
    """A server that accepts and never answers costs its own deadline and hides nothing else."""
    faults = [
        ("ollama", None, SandboxFault(SandboxFaultKind.SILENCE)),
        ("victoria", None, SandboxFault(SandboxFaultKind.SILENCE)),
    ]
    async with Stage(faults) as stage:
        found = await on_stage(tmp_path, stage)
    assert keys(found) == ["node-wedged:ollama", "agent-wedged:victoria"]
    assert any(one.check == "node mlx" and one.status == "pass" for one in found.findings)


async def test_settings_that_need_more_memory_than_there_is(tmp_path: Path):
    """NUM_PARALLEL x CONTEXT_LENGTH is told where the server tells the shape of its model."""
    code = (
        "import asyncio, json, sys\n"
        "from tests.parts.raw_server import serving, reply_json\n"
        "async def main():\n"
        "    async with serving() as server:\n"
        "        entry = {'name': 'm:7b', 'model': 'm:7b', 'size': 4_000_000_000}\n"
        "        info = {'general.architecture': 'qwen2', 'qwen2.block_count': 28,\n"
        "                'qwen2.attention.head_count': 28, 'qwen2.attention.head_count_kv': 4,\n"
        "                'qwen2.embedding_length': 3584}\n"
        "        server.replies = {'/api/version': reply_json({'version': '0.30.0'}),\n"
        "                          '/api/tags': reply_json({'models': [entry]}),\n"
        "                          '/api/ps': reply_json({'models': []}),\n"
        "                          '/api/show': reply_json({'model_info': info})}\n"
        "        print(server.url, flush=True)\n"
        "        await asyncio.Event().wait()\n"
        "asyncio.run(main())\n"
    )
    root = Path(__file__).parents[2]
    env = {
        **os.environ,
        "PYTHONPATH": str(root),
        "OLLAMA_NUM_PARALLEL": "1000",
        "OLLAMA_CONTEXT_LENGTH": "131072",
    }
    process = subprocess.Popen(
        [sys.executable, "-c", code], env=env, stdout=subprocess.PIPE, text=True, cwd=root
    )
    try:
        assert process.stdout is not None
        url = process.stdout.readline().strip()
        found = await examined(tmp_path, env={"OLLAMA_API_URL": url})
    finally:
        process.kill()
        process.communicate()
    assert keys(found) == ["ollama-memory:ollama"]
