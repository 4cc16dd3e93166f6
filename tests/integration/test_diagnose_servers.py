"""`opskit diagnose api | network | models` against real servers, well and ill."""

import asyncio
import os
import shutil
import socket
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from opskit.app import App
from opskit.diagnose.report import DiagnoseRequest, DiagnosticReport, diagnose
from opskit.facts.internet import InternetTargets
from opskit.sandbox.stage import Stage
from tests.parts.checking import configuration
from tests.parts.command import Result, environment, opskit
from tests.parts.raw_server import answer, free_port, reply_json, serving
from tests.parts.real_mlx import RealMlx

_QUICK = "probe: {http_s: 0.6}\nwatch: {slow_request_s: 0.15}\nbudgets: {metadata_s: 0.6}\n"


async def run(folder: Path, *arguments: str, config: str = "", **env: str) -> Result:
    (folder / "opskit.yaml").write_text(config or "{}\n")
    return await asyncio.to_thread(opskit, "diagnose", *arguments, home=folder, env=env)


def endpoint(result: Result, path: str, server: str = "victoria") -> dict[str, Any]:
    listed = result.document["areas"]["api"]["endpoints"]
    return next(one for one in listed if one["server"] == server and one["url"].endswith(path))


@asynccontextmanager
async def speaking(first: bytes, piece: bytes, pause_s: float) -> AsyncIterator[str]:
    """A server that goes on and on, a piece at a time."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            await reader.readuntil(b"\r\n\r\n")
            writer.write(first)
            while True:
                writer.write(piece)
                await writer.drain()
                await asyncio.sleep(pause_s)
        except (ConnectionError, asyncio.IncompleteReadError):
            return
        finally:
            writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    try:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    finally:
        server.close()


async def test_every_endpoint_of_a_healthy_stack_passes(tmp_path: Path):
    """Nodes and agents, with status, seconds and size; nothing costs a token."""
    async with Stage() as stage:
        result = await run(tmp_path, "api", "--json", **stage.environment())
        asked = [one for node in stage.nodes.values() for one in node.requests]
    assert result.status == 0, result.out
    answered = [one for one in result.document["areas"]["api"]["endpoints"] if one["status"] is not None]
    assert {one["server"] for one in answered} == {"ollama", "mlx", "victoria", "veronica"}
    assert all(one["verdict"] == "pass" and one["size_bytes"] > 0 for one in answered)
    assert {one.method for one in asked} == {"GET"}


async def test_a_broken_endpoint_fails_with_its_reason(tmp_path: Path):
    """A 500 with its words; the last line names it; the summary counts it."""
    async with serving() as server:
        server.replies["/status"] = reply_json({"victoria_levels": {}})
        server.replies["/health"] = answer(b"no disk", status="500 Internal Server Error")
        result = await run(tmp_path, "api", VICTORIA_URL=server.url, OLLAMA_API_URL="", MLX_API_URL="")
    assert result.status == 1
    assert "1 PASS, 1 FAIL" in result.out
    assert "no disk" in result.out
    assert result.out.splitlines()[-1] == "broken: victoria GET /health (status 500)"


async def test_a_page_that_a_server_lacks_is_no_fault(tmp_path: Path):
    """404 beside a page that answers."""
    async with serving() as server:
        server.replies["/status"] = reply_json({})
        result = await run(
            tmp_path, "api", "--json", VICTORIA_URL=server.url, OLLAMA_API_URL="", MLX_API_URL=""
        )
    assert result.status == 0
    assert endpoint(result, "/health")["verdict"] == "skip"


async def test_what_says_json_must_be_json(tmp_path: Path):
    """A page of a proxy with a JSON header is no answer."""
    async with serving() as server:
        server.replies["/status"] = answer(b"<html>")
        server.replies["/health"] = reply_json({})
        result = await run(
            tmp_path, "api", "--json", VICTORIA_URL=server.url, OLLAMA_API_URL="", MLX_API_URL=""
        )
    assert endpoint(result, "/status")["detail"] == "it says that it is JSON, and it is not"
    assert result.status == 1


async def test_a_server_that_drips_is_cut_off(tmp_path: Path):
    """A byte at a time never ends; the deadline does."""
    head = b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: 1000000\r\n\r\n"
    async with speaking(head, b"x", 0.05) as url:
        result = await run(
            tmp_path, "api", "--json", config=_QUICK, VICTORIA_URL=url, OLLAMA_API_URL="", MLX_API_URL=""
        )
    assert endpoint(result, "/status")["error"] == "timeout"
    assert result.status == 1


async def test_a_body_without_end_is_read_up_to_a_bound(tmp_path: Path):
    """Of a gigabyte one mebibyte is read, and it is said."""
    head = b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: 1073741824\r\n\r\n"
    async with speaking(head, b"x" * 262_144, 0) as url:
        result = await run(tmp_path, "api", "--json", VICTORIA_URL=url, OLLAMA_API_URL="", MLX_API_URL="")
    seen = endpoint(result, "/status")
    assert (seen["size_bytes"], seen["truncated"], seen["verdict"]) == (1024 * 1024, True, "pass")


async def test_a_slow_endpoint_is_marked(tmp_path: Path):
    """Over `watch.slow_request_s` it is a warning."""
    head = b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: 6\r\nConnection: close\r\n\r\n"
    async with speaking(head, b"x", 0.1) as url:
        config = _QUICK.replace("0.6}\nwatch", "5}\nwatch")
        result = await run(
            tmp_path, "api", "--json", config=config, VICTORIA_URL=url, OLLAMA_API_URL="", MLX_API_URL=""
        )
    assert endpoint(result, "/status")["slow"] is True
    assert (result.status, endpoint(result, "/status")["verdict"]) == (0, "warn")


async def test_what_a_server_repeats_of_a_key_is_masked(tmp_path: Path):
    """Its own key, and one that merely looks like a key."""
    async with serving() as server:
        told = b'{"error": "bad key node-key-1234, not sk-live-abcdefghijklmnop0123"}'
        for path in ("/api/version", "/api/tags", "/api/ps", "/v1/models"):
            server.replies[path] = answer(told, status="401 Unauthorized")
        env = {"OLLAMA_API_URL": server.url, "OLLAMA_API_KEY": "node-key-1234", "MLX_API_URL": ""}
        result = await run(tmp_path, "api", **env)
        sent = {one.headers.get("authorization") for one in server.seen}
    assert sent == {"Bearer node-key-1234"}
    assert "bad key ***, not ***" in result.out
    assert "node-key-1234" not in result.out + result.err


async def look(folder: Path, targets: InternetTargets, **env: str) -> DiagnosticReport:
    config = configuration(folder, env)
    async with App(config, environ=environment(folder, env), cwd=folder, folder=folder) as app:
        return await diagnose(app, DiagnoseRequest(("network",), targets=targets))


def finding(found: DiagnosticReport, target: str) -> tuple[str, str]:
    return next((one.status.value, one.state) for one in found.report.findings if one.target == target)


async def test_the_internet_is_told_by_name_and_by_address(tmp_path: Path):
    """Reached; names that do not resolve; nothing at all."""
    async with serving() as server:
        port = server.url.rpartition(":")[2]
        here, gone = f"127.0.0.1:{port}", f"127.0.0.1:{free_port()}"
        reached = await look(tmp_path, InternetTargets((f"localhost:{port}",), (here,)))
        nameless = await look(tmp_path, InternetTargets(("opskit-nothing.invalid:443",), (here,)))
    nothing = await look(tmp_path, InternetTargets((gone,), (gone,)))
    assert finding(reached, "internet") == ("pass", "ok")
    assert finding(nameless, "internet") == ("fail", "no names")
    assert finding(nothing, "internet") == ("warn", "offline")


async def test_ports_of_the_stack_are_reached_or_not(tmp_path: Path):
    """A node that listens passes, one that was named and does not fails."""
    async with serving() as server:
        found = await look(tmp_path, InternetTargets((), ()), OLLAMA_API_URL=server.url)
    assert finding(found, "ollama") == ("pass", "ok")
    assert finding(found, "mlx") == ("fail", "refused")


async def test_a_dead_resolver_blocks_nothing(tmp_path: Path):
    """Every name hangs: its deadline passes, and what needs no name is shown."""
    if not shutil.which("unshare") or os.geteuid() != 0:
        pytest.skip("a resolver of its own needs root and unshare (util-linux)")
    (tmp_path / "resolv.conf").write_text("nameserver 127.0.0.77\noptions timeout:30 attempts:9\n")
    script = 'mount --bind "$1/resolv.conf" /etc/resolv.conf && shift && exec "$@"'
    command = [sys.executable, "-m", "opskit", "diagnose", "network", "--json"]
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as silent:
        silent.bind(("127.0.0.77", 53))
        async with serving() as server:
            done = await asyncio.to_thread(
                subprocess.run,
                ["unshare", "--mount", "sh", "-c", script, "sh", str(tmp_path), *command],
                env=environment(tmp_path, {"OLLAMA_API_URL": server.url, "MLX_API_URL": ""}),
                cwd=tmp_path,
                capture_output=True,
                timeout=60,
            )
    result = Result(done.returncode, done.stdout.decode(), done.stderr.decode())
    area = result.document["areas"]["network"]
    assert {one["name"]: one["reached"] for one in area["ports"]} == {"ollama": True}
    public = next(one for one in area["names"] if one["name"] == "huggingface.co")
    assert public["addresses"] == []
    assert area["seconds"] < 30


async def test_models_are_listed_and_none_is_asked(tmp_path: Path):
    """What is installed and loaded, who would answer; the servers see GETs and metadata only."""
    async with Stage() as stage:
        result = await run(tmp_path, "models", "--json", **stage.environment())
        posts = [one.path for node in stage.nodes.values() for one in node.requests if one.method == "POST"]
    area = result.document["areas"]["models"]
    assert result.status == 0, result.out
    assert "phi3.5:3.8b" in {one["model"] for one in area["inventory"]["installed"]}
    assert {one["model"] for one in area["inventory"]["loaded"]} == {"phi3.5:3.8b", "default_model"}
    assert area["route"]["models"][0]["loaded"] is True
    assert posts == []


async def test_with_ask_loaded_models_answer(tmp_path: Path):
    """One short question to each of them, and to no other."""
    async with Stage() as stage:
        result = await run(tmp_path, "models", "--ask", "--json", **stage.environment())
    answers = result.document["areas"]["models"]["answers"]
    assert result.status == 0, result.out
    assert {one["model"] for one in answers} == {"phi3.5:3.8b", "default_model"}
    assert all(one["works"] and one["total_s"] > 0 for one in answers)


async def test_a_real_mlx_server_is_shown_and_asked(real_mlx: RealMlx, tmp_path: Path):
    """Its pages, its model, and an answer of it."""
    env = {"MLX_API_URL": real_mlx.url, "OLLAMA_API_URL": ""}
    result = await run(tmp_path, "api", "models", "--ask", "--json", **env)
    pages = [one for one in result.document["areas"]["api"]["endpoints"] if one["server"] == "mlx"]
    assert {one["url"].rpartition("/")[2]: one["verdict"] for one in pages} == {
        "health": "pass",
        "models": "pass",
    }
    (answered,) = result.document["areas"]["models"]["answers"]
    assert (answered["node"], answered["works"]) == ("mlx", True), answered


async def test_nobody_there_is_told_as_such(tmp_path: Path):
    """No node answers: the models area fails with what to start."""
    result = await run(tmp_path, "models", "--json")
    assert result.status == 1
    assert result.finding("default", "route")["code"] == "MODEL_001"
