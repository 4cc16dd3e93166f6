"""A state folder that cannot be written: people hear of it, and what Docker itself remembers is repaired."""

import asyncio
import json
import os
import pwd
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from opskit.system.lock import try_lock
from tests.parts.command import opskit
from tests.parts.compose_stack import Stack, cleaned, ended
from tests.parts.docker import Engine
from tests.parts.raw_server import answer, serving


@pytest.fixture
def stack(box: Engine, tmp_path: Path) -> Iterator[Stack]:
    with cleaned(Stack(box, tmp_path / box.name("p").replace("-", ""))) as made:
        yield made


async def test_without_a_state_folder_a_container_is_started(stack: Stack, tmp_path: Path):
    """Docker remembers when it was last started: it is started once in a while, and people hear of it."""
    stack.write({"web": {}, "db": {}})
    stack.compose("up", "-d")
    stack.docker("kill", stack.container("web").name)
    await stack.until("web", ended)
    home = tmp_path / "home"
    async with serving() as server:
        server.replies["/hook"] = answer(b"ok")
        for kind in ("start", "78"):
            server.replies[f"/ping/{kind}"] = answer(b"ok")
        config = tmp_path / "opskit.yaml"
        config.write_text(
            json.dumps(
                {
                    "stack": {"compose": {"app": [str(stack.file)]}, "docker_network": None},
                    "notices": {"desktop": False, "webhook": "${HOOK}", "ping": "${PING}", "timeout_s": 10},
                    "recovery": {"retry_s": "1s"},
                }
            )
        )
        env = {
            **stack.box.environment,
            "OPSKIT_STATE_DIR": "/proc/opskit",
            "HOOK": f"{server.url}/hook",
            "PING": f"{server.url}/ping",
        }
        arguments = ("recover", "--config", str(config), "--only", "compose", "--json")
        run = await asyncio.to_thread(opskit, *arguments, home=home, env=env)
        assert run.status == 78, run.out + run.err
        assert "STATE_001" in run.err
        assert stack.container("web").status == "running"
        assert run.finding("/proc/opskit")["status"] == "fail"
        assert {notice["level"] for notice in server.bodies("/hook")} == {"repaired", "escalation"}
        pings = [request.path.partition("?")[0] for request in server.seen if "ping" in request.path]
        assert pings == ["/ping/start", "/ping/78"]
        config.write_text(config.read_text().replace('"1s"', '"1h"'))
        stack.docker("kill", stack.container("web").name)
        await stack.until("web", ended)
        again = await asyncio.to_thread(opskit, *arguments, home=home, env=env)
        assert (again.status, again.document["mutations"]) == (78, 0)
        assert "without a state folder that is done once in 1 h" in again.finding("compose:app/web")["detail"]


def test_status_reads_a_folder_that_it_cannot_write(tmp_path: Path):
    """What is there is shown; what is not there has never run."""
    done = opskit("status", home=tmp_path, env={"OPSKIT_STATE_DIR": "/proc/opskit"})
    assert (done.status, done.out.startswith("recovery has never run")) == (3, True), done.err


async def test_two_users_do_not_repair_with_one_docker_at_once(stack: Stack, tmp_path: Path):
    """The lock is the daemon's too: another state folder, the same daemon, exit 75 at once."""
    stack.write({"web": {}})
    folder = Path(stack.box.socket).parent
    config = tmp_path / "opskit.yaml"
    config.write_text(json.dumps({"stack": {"compose": {"app": [str(stack.file)]}}}))
    with try_lock(folder) as mine:
        assert mine
        arguments = ("recover", "--config", str(config), "--only", "compose")
        done = opskit(*arguments, home=tmp_path / "other", env=stack.box.environment)
    assert done.status == 75
    assert "another recovery is running with the Docker daemon" in done.err


def test_a_folder_in_which_the_memory_does_not_fit_is_found_before_anything_is_done(tmp_path: Path):
    """A run that finds it full in the middle would stop there, with nothing repaired and nobody told."""
    if os.geteuid() != 0:
        pytest.skip("only root can mount a small disk")
    folder = tmp_path / "small"
    folder.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", str(folder)], check=True)
    try:
        env = {"OPSKIT_STATE_DIR": str(folder), "DOCKER_HOST": f"unix://{tmp_path}/none"}
        run = opskit("recover", "--only", "docker", "--json", home=tmp_path, env=env)
        assert (run.status, run.finding(str(folder))["status"]) == (78, "fail"), run.err
    finally:
        subprocess.run(["umount", str(folder)], check=True)


def test_programs_that_are_started_have_a_home_where_cron_gives_none(tmp_path: Path):
    """The plug-in of Compose lies below it: without it another Compose would make the containers."""
    script = "from opskit.cli.options import SharedOptions; shared = SharedOptions(); "
    script += "print(shared.application(shared.load()).environ['HOME'])"
    env = {"PATH": os.environ["PATH"], "OPSKIT_STATE_DIR": str(tmp_path / "state")}
    done = subprocess.run([sys.executable, "-c", script], env=env, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == pwd.getpwuid(os.getuid()).pw_dir
