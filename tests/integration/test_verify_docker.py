"""The kinds that ask Docker, on a real daemon and a real docker-compose."""

import os
import shutil
import socket
import subprocess
from pathlib import Path
from typing import Any

import pytest

from opskit.config.schema import RecoveryConfig
from opskit.records import replace
from opskit.result import Finding
from tests.parts.checking import check, configuration
from tests.parts.docker import IMAGE, Cutter, Engine


async def ask(
    box: Engine, folder: Path, kind: str, params: dict[str, Any], expect: Any = None, **more: Any
) -> Finding:
    env = {**box.environment, "PATH": os.environ["PATH"]}
    return await check(folder, kind, params, expect, env=env, **more)


async def until(box: Engine, folder: Path, kind: str, params: dict[str, Any], expect: Any) -> Finding:
    """What has to happen first happens by itself: the check's own retries wait for it."""
    return await ask(box, folder, kind, params, expect, retry={"count": 200, "delay": "50ms"})


async def test_the_daemon_tells_its_version(box: Engine, tmp_path: Path):
    """A daemon that answers passes with its version."""
    found = await ask(box, tmp_path, "docker_daemon", {}, {"version": {"semver": ">=17"}, "answers": True})
    assert found.status == "pass", found.detail


async def test_a_daemon_that_hangs_is_told(box: Engine, cutter: Cutter, tmp_path: Path):
    """A socket that accepts and never answers fails at the deadline, not as success."""
    cutter.silent = True
    found = await check(tmp_path, "docker_daemon", {}, env=cutter.environment, timeout="200ms")
    assert (found.status, found.state) == ("fail", "timeout")


async def test_a_container_that_runs_passes(box: Engine, tmp_path: Path):
    """State, image, restarts and age come from the daemon; no health check is `none`."""
    made = box.run("sleep 1000", environment={"TOKEN": "geheim"})
    expect = {"state": "running", "health": "none", "restarts": 0, "image": IMAGE, "up_s": {"lt": 600},
              "variables": {"contains": "TOKEN"}}  # fmt: skip
    found = await ask(box, tmp_path, "container", {"name": made.name}, expect)
    assert found.status == "pass", found.detail
    assert "geheim" not in str(found.as_json())


async def test_a_container_that_ended_tells_its_exit_code(box: Engine, tmp_path: Path):
    """An exited container fails with its code and the command that shows its log."""
    made = box.run("exit 7")
    made.wait()
    found = await ask(box, tmp_path, "container", {"name": made.name})
    assert found.status == "fail"
    assert "exit code 7" in found.detail
    assert made.name in (found.remedy or "")


async def test_a_container_that_becomes_unhealthy_is_told(box: Engine, tmp_path: Path):
    """An unhealthy container fails with what its health check wrote, once its grace is over."""
    health = {"test": ["CMD", "sh", "-c", "echo no disk; exit 1"], "interval": 20_000_000, "retries": 1}
    made = box.run("sleep 1000", healthcheck=health)
    expect = {"health": "unhealthy", "health_output": "no disk"}
    found = await until(box, tmp_path, "container", {"name": made.name}, expect)
    assert found.status == "pass", found.detail
    young = await ask(box, tmp_path, "container", {"name": made.name})
    assert young.status == "inconclusive"
    config = replace(configuration(tmp_path), recovery=RecoveryConfig(startup_grace_s=0.0))
    bad = await ask(box, tmp_path, "container", {"name": made.name}, config=config)
    assert bad.status == "fail"
    assert "no disk" in bad.detail


async def test_a_container_that_keeps_restarting_is_counted(box: Engine, tmp_path: Path):
    """Restarts by Docker are counted."""
    made = box.run("exit 1", restart_policy={"Name": "always"})
    found = await until(box, tmp_path, "container", {"name": made.name}, {"restarts": {"ge": 1}})
    assert found.status == "pass", found.detail


async def test_a_container_is_found_by_its_compose_service(box: Engine, tmp_path: Path):
    """Labels lead to the containers of a service; the worst of them counts."""
    labels = {"com.docker.compose.project": "p1", "com.docker.compose.service": "web"}
    box.run("sleep 1000", labels=labels)
    box.run("exit 0", labels=labels).wait()
    expect = {"count": 2, "state": "exited"}
    found = await ask(box, tmp_path, "container", {"project": "p1", "service": "web"}, expect)
    assert found.status == "pass", found.detail


async def test_what_is_not_there_fails(box: Engine, tmp_path: Path):
    """A missing container, network, volume or image is a failure with what creates it."""
    for kind in ("container", "docker_network", "volume", "image"):
        found = await ask(box, tmp_path, kind, {"name": "opskit-nothing"})
        assert (found.status, found.state) == ("fail", "missing"), kind
        assert found.remedy


async def test_networks_volumes_and_images_are_seen(box: Engine, tmp_path: Path):
    """Each passes with its own values when it is there."""
    name = box.name("v")
    volume = box.client.volumes.create(name)
    try:
        seen = await ask(box, tmp_path, "volume", {"name": name}, {"driver": "local"})
    finally:
        volume.remove()
    network = await ask(box, tmp_path, "docker_network", {"name": "host"}, {"driver": "host"})
    image = await ask(box, tmp_path, "image", {"name": IMAGE}, {"size_bytes": {"gt": 1000}})
    assert [one.status for one in (seen, network, image)] == ["pass"] * 3


async def test_a_pattern_is_found_in_the_log_of_a_container(box: Engine, tmp_path: Path):
    """What a container wrote is seen within its window, what it did not write is not."""
    made = box.run("echo Found 3 pending tasks; echo Heartbeat error >&2; sleep 1000")
    params = {"container": made.name, "pattern": r"Found \d+ pending tasks", "since": "1h"}
    found = await until(box, tmp_path, "log_pattern", params, {"count": 1})
    assert found.status == "pass", found.detail
    missing = await ask(box, tmp_path, "log_pattern", {**params, "pattern": "Completed"})
    assert (missing.status, missing.state) == ("fail", "not seen")


FILE = """version: "3"
services:
  web:
    image: {image}
    command: ["sh", "-c", "sleep 1000"]
    network_mode: none
    stop_signal: SIGKILL
    labels: {{{label}: "{mark}"}}
  job:
    image: {image}
    command: ["sh", "-c", "exit 0"]
    network_mode: none
    labels: {{{label}: "{mark}"}}
"""


@pytest.fixture
def project(box: Engine, tmp_path: Path) -> str:
    """A compose project, started by docker-compose 1 as a person would."""
    if shutil.which("docker-compose") is None:
        pytest.skip("there is no docker-compose: apt-get install docker-compose")
    (tmp_path / "docker-compose.yml").write_text(FILE.format(image=IMAGE, label="opskit.test", mark=box.mark))
    name = box.name("p").replace("-", "")
    environ = {**os.environ, **box.environment}
    subprocess.run(
        ["docker-compose", "-p", name, "up", "-d"], cwd=tmp_path, env=environ, check=True, capture_output=True
    )
    return name


async def test_compose_tells_services_that_are_down(box: Engine, project: str, tmp_path: Path):
    """A service that ended is down, unless it is a one-shot that ended well."""
    params = {"file": "docker-compose.yml", "project": project}
    ended = {"exited": ["job"], "valid": True, "services": ["job", "web"]}
    found = await until(box, tmp_path, "compose", params, ended)
    assert found.status == "pass", found.detail
    down = await ask(box, tmp_path, "compose", params)
    assert down.status == "fail"
    assert "job is exited with 0" in down.detail
    well = await ask(box, tmp_path, "compose", {**params, "one_shot": ["job"]})
    assert well.status == "pass", well.detail


async def test_a_compose_file_that_is_not_valid_fails(box: Engine, project: str, tmp_path: Path):
    """A broken file fails with compose's own words, and no container is asked for."""
    (tmp_path / "broken.yml").write_text("services:\n  web:\n    imgae: x\n")
    found = await ask(box, tmp_path, "compose", {"file": "broken.yml", "project": project})
    assert (found.status, found.state) == ("fail", "invalid")
    assert "imgae" in found.detail


#: `docker` with a `compose` of version 2, whose `ps` names these containers.
COMPOSE_2 = """#!/bin/sh
case "$*" in
  "compose version") exit 0;;
  *"config --services"*) printf 'web\\njob\\n';;
  *"ps --all -q"*) printf 'IDS';;
esac
"""


async def test_compose_2_is_asked_by_its_plug_in(box: Engine, tmp_path: Path):
    """With the plug-in its `ps` names the containers; services that are down are named with their state."""
    labels = {"com.docker.compose.project": "p2", "com.docker.compose.oneoff": "False"}
    web = box.run("sleep 1000", labels={**labels, "com.docker.compose.service": "web"})
    job = box.run("exit 1", labels={**labels, "com.docker.compose.service": "job"})
    run = box.run(
        "exit 1", labels={**labels, "com.docker.compose.service": "web", "com.docker.compose.oneoff": "True"}
    )
    for one in (job, run):
        one.wait()
    tool = tmp_path / "docker"
    tool.write_text(COMPOSE_2.replace("IDS", "\\n".join(one.id for one in (web, job, run))))
    tool.chmod(0o755)
    (tmp_path / "docker-compose.yml").write_text("services: {}\n")
    env = {**box.environment, "PATH": f"{tmp_path}:{os.environ['PATH']}"}
    found = await check(tmp_path, "compose", env=env)
    assert found.status == "fail"
    assert "1 of 2 services are up: job is exited with 1" in found.detail


async def test_a_port_of_a_container_process_names_its_container(box: Engine, tmp_path: Path):
    """A process inside a container is known by its control group."""
    port = _free_port()
    made = box.client.containers.create(
        IMAGE,
        ["httpd", "-f", "-p", f"127.0.0.1:{port}"],
        name=box.name(),
        network_mode="host",
        labels={"opskit.test": box.mark},
        stop_signal="SIGKILL",
    )
    made.start()
    found = await until(box, tmp_path, "port", {"port": port}, {"process": "httpd"})
    assert found.status == "pass", found.detail
    assert found.evidence["values"]["container"] == made.name


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as server:
        return int(server.getsockname()[1])
