"""A stack as whole processes: recovery with 20 containers and with a busy daemon, and the doctor."""

import asyncio
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path

from opskit.sandbox.stage import Stage
from tests.bench.measure import Figure, process
from tests.parts.command import environment
from tests.parts.compose_stack import aged
from tests.parts.docker import IMAGE, LABEL, Engine, engine

RUNS, SERVICES = 7, 20
#: A daemon that runs a health check five times a second.
BUSY_SERVICES = 50
BUSY_CHECK = {"test": ["CMD", "test", "-f", "/ok"], "interval": "10s", "retries": 3, "start_period": "5s"}
WATCHED = "s0"
WAIT = "trap exit TERM; while :; do sleep 0.2; done"


async def figures() -> list[Figure]:
    with tempfile.TemporaryDirectory(prefix="opskit-healing-") as folder, engine() as docker:
        async with Stage() as stage:
            home = Path(folder)
            env = {**environment(home, stage.environment()), **docker.environment}
            config = await asyncio.to_thread(_project, home, docker)
            # The first run asks Compose what its files declare.
            first = await _wall([*_COMMAND, "recover", "--config", str(config), "--json"], env)
            well = [
                await _wall([*_COMMAND, "recover", "--config", str(config), "--json"], env)
                for _ in range(RUNS)
            ]
            back = await asyncio.to_thread(_killed, docker, config, env)
            doctor = [
                await _wall([*_COMMAND, "doctor", "--config", str(config), "--json"], env)
                for _ in range(RUNS)
            ]
    start_s, healed_s = back
    busy_start_s, busy_healed_s = await _on_a_busy_daemon()
    return [
        Figure("recover, 20 containers, 2 nodes, 2 agents, all well", statistics.median(well), "s", "<= 1.5"),
        Figure("the same after an edit of the Compose file", first, "s", "<= 1.5", "Compose 1 is asked"),
        Figure(
            "from `docker kill` to healthy",
            healed_s,
            "s",
            f"<= {2 * start_s:.1f}",
            f"own start {start_s:.1f} s",
        ),
        Figure("doctor, whole process, the same stack", statistics.median(doctor), "s"),
        Figure(
            f"from `docker kill` to healthy beside {BUSY_SERVICES} health checks every 10 s",
            busy_healed_s,
            "s",
            f"<= {2 * busy_start_s:.1f}",
            f"own start {busy_start_s:.1f} s",
        ),
    ]


async def _on_a_busy_daemon() -> tuple[float, float]:
    with tempfile.TemporaryDirectory(prefix="opskit-busy-") as folder, engine() as docker:
        async with Stage() as stage:
            home = Path(folder)
            env = {**environment(home, stage.environment()), **docker.environment}
            config = await asyncio.to_thread(_project, home, docker, BUSY_SERVICES, BUSY_CHECK)
            await _wall([*_COMMAND, "recover", "--config", str(config), "--json"], env)
            return await asyncio.to_thread(_killed, docker, config, env)


_COMMAND = (sys.executable, "-m", "opskit")


async def _wall(command: list[str], env: dict[str, str]) -> float:
    done = await asyncio.to_thread(process, command, env)
    return done.wall_s


def _project(
    home: Path, docker: Engine, count: int = SERVICES, check_of_all: Mapping[str, object] | None = None
) -> Path:
    """A project of which one service has a health check; with `check_of_all` each has that."""
    service: dict[str, object] = {
        "image": IMAGE,
        "command": ["sh", "-c", f"rm -f /ok; sleep 4; touch /ok; {WAIT}"],
        "network_mode": "none",
        "labels": {LABEL: docker.mark},
    }
    check = {"test": ["CMD", "test", "-f", "/ok"], "interval": "0.5s", "retries": 1, "start_period": "30s"}
    if check_of_all is not None:
        check = service["healthcheck"] = dict(check_of_all)
    services = {f"s{number}": service for number in range(count)}
    content = {"version": "2.4", "services": {**services, WATCHED: {**service, "healthcheck": check}}}
    file = home / "docker-compose.yml"
    file.write_text(json.dumps(content))
    aged(file)
    subprocess.run(
        ["docker-compose", "-f", str(file), "up", "-d"],
        env={**os.environ, **docker.environment},
        check=True,
        capture_output=True,
    )
    _until_healthy(docker, _watched(docker))
    config = home / "opskit.yaml"
    config.write_text(json.dumps({"stack": {"docker_network": None, "compose": {"bench": [str(file)]}}}))
    return config


def _killed(docker: Engine, config: Path, env: dict[str, str]) -> tuple[float, float]:
    """The container's own start to healthy, and the time from a kill over a recovery to healthy."""
    one = _watched(docker)
    docker.client.containers.get(one).stop(timeout=0)
    began = time.monotonic()
    docker.client.containers.get(one).start()
    _until_healthy(docker, one)
    own = time.monotonic() - began
    docker.client.containers.get(one).kill()
    began = time.monotonic()
    subprocess.run(
        [*_COMMAND, "recover", "--config", str(config), "--json"], env=env, check=True, capture_output=True
    )
    _until_healthy(docker, one)
    return own, time.monotonic() - began


def _watched(docker: Engine) -> str:
    wanted = [f"{LABEL}={docker.mark}", f"com.docker.compose.service={WATCHED}"]
    (found,) = docker.client.containers.list(filters={"label": wanted}, sparse=True)
    return str(found.id)


def _until_healthy(docker: Engine, identifier: str) -> None:
    while docker.client.api.inspect_container(identifier)["State"]["Health"]["Status"] != "healthy":
        time.sleep(0.02)
