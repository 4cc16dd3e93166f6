"""One look from where a process stands, at real files and sockets."""

import asyncio
import json
import os
import socket
from pathlib import Path

import pytest

from opskit.config.schema import Config, NodeConfig
from opskit.records import asdict
from opskit.schedule.inside import access, look, view_from

NOBODY = 65534


def test_denied_readable_and_absent_are_told_apart(tmp_path: Path) -> None:
    """A folder that may not be entered is a denial, not an absence, and a folder is a path like any other."""
    closed = tmp_path / "closed"
    closed.mkdir(mode=0o700)
    (closed / "compose.yml").write_text("services: {}\n")
    assert access(closed / "compose.yml") == "readable"
    assert access(closed) == "readable"
    assert access(tmp_path / "gone") == "absent"
    assert access(closed / "compose.yml" / "below a file") == "absent"
    assert access(tmp_path / ("long" * 1000)) == "absent"
    closed.chmod(0o000)
    if os.getuid() == 0:
        os.seteuid(NOBODY)
    try:
        assert access(closed / "compose.yml") == "denied"
    finally:
        if os.getuid() == 0:
            os.seteuid(0)
        closed.chmod(0o700)


async def test_servers_programs_and_docker_are_looked_at(tmp_path: Path) -> None:
    """An open port, a closed one and a Docker socket that is not there each have their answer."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        nodes = (
            NodeConfig("open", f"http://127.0.0.1:{port}", "ollama"),
            NodeConfig("closed", "http://127.0.0.1:9", "mlx"),
        )
        config = Config(state_dir=str(tmp_path), nodes=nodes, agents=())
        environ = {"PATH": "/usr/bin", "HOME": "/home/me", "DOCKER_HOST": f"unix://{tmp_path}/no.sock"}
        seen = await look(config, [str(tmp_path / "gone")], environ, platform="linux")
    assert seen.servers["open"].problem is None
    assert seen.servers["closed"].problem == "refused"
    assert seen.docker == f"unix://{tmp_path}/no.sock"
    assert seen.docker_problem
    assert (seen.path, seen.home, seen.files) == ("/usr/bin", "/home/me", {str(tmp_path / "gone"): "absent"})
    assert view_from(json.dumps(asdict(seen))) == seen


async def test_a_docker_that_is_silent_ends_in_time(tmp_path: Path) -> None:
    """A socket that accepts and says nothing, as Docker Desktop's after sleep, is a problem and no hang."""
    path = tmp_path / "silent.sock"
    held: list[asyncio.StreamWriter] = []
    server = await asyncio.start_unix_server(lambda _reader, writer: held.append(writer), path)
    config = Config(state_dir=str(tmp_path), nodes=(), agents=())
    seen = await look(config, [], {"DOCKER_HOST": f"unix://{path}"}, platform="linux")
    for writer in held:
        writer.close()
    server.close()
    assert seen.docker_problem


@pytest.mark.parametrize("host", ["me@box", "unix:/x", "ftp://x"])
async def test_an_address_of_docker_that_is_none(tmp_path: Path, host: str) -> None:
    """A broken DOCKER_HOST is a sentence of the look, not its end."""
    config = Config(state_dir=str(tmp_path), nodes=(), agents=())
    seen = await look(config, [], {"DOCKER_HOST": host}, platform="linux")
    assert seen.docker_problem
