"""Incidents of a month, on a real daemon and a real Compose 2: nothing is done that nobody wanted."""

import json
import os
import shutil
import socket
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from opskit.recovery.outcome import RepairResult
from tests.parts.command import opskit
from tests.parts.compose_stack import LONG_AGO, Stack, aged, cleaned, ended, health
from tests.parts.docker import IMAGE, Engine
from tests.parts.healing import outcome

CHECK = {"test": ["CMD", "test", "!", "-e", "/ill"], "interval": "100ms", "retries": 1, "timeout": "5s"}


@pytest.fixture
def stack(box: Engine, tmp_path: Path) -> Iterator[Stack]:
    with cleaned(Stack(box, tmp_path / box.name("p").replace("-", ""), version=2)) as made:
        yield made


async def killed(stack: Stack, service: str) -> None:
    stack.docker("kill", stack.container(service).name)
    await stack.until(service, ended)


def causes(stack: Stack, tmp_path: Path) -> list[dict[str, Any]]:
    """What the doctor finds of containers."""
    config = tmp_path / "opskit.yaml"
    compose = {"app": [str(stack.file)]}
    config.write_text(json.dumps({"stack": {"compose": compose, "docker_network": None}}))
    home = Path(stack.environ["HOME"])
    shown = opskit("doctor", "--json", "--config", str(config), home=home, env=stack.environ)
    found = json.loads(shown.out)["causes"]
    return [cause for cause in found if cause["id"].startswith("container-")]


async def test_a_container_is_made_with_the_override_beside_its_file(stack: Stack):
    """The override that Compose uses by itself is part of the project, and no drift."""
    stack.write({"web": {}, "db": {}})
    override = stack.folder / "docker-compose.override.yml"
    override.write_text('{"services": {"web": {"environment": {"MODEL": "phi"}}}}')
    aged(override)
    stack.compose("-f", str(override), "up", "-d")
    assert (await stack.healed("compose:app")).cause == "2 containers of 2 services run"
    stack.docker("rm", "-f", stack.container("web").name)
    assert (await stack.healed("compose:app")).result is RepairResult.REPAIRED
    assert "MODEL=phi" in stack.container("web").attrs["Config"]["Env"]


async def test_nothing_is_made_without_the_files_that_the_project_was_started_from(
    stack: Stack, tmp_path: Path
):
    """A container that fell is started; one that is gone is not made of less than the others were."""
    stack.write({"web": {"healthcheck": CHECK}, "db": {}})
    gpu = stack.folder / "gpu.yml"
    gpu.write_text('{"services": {"web": {"environment": {"GPU": "1"}}}}')
    aged(gpu)
    stack.compose("-f", str(gpu), "up", "-d")
    await killed(stack, "web")
    assert (await stack.healed("compose:app")).result is RepairResult.REPAIRED
    stack.docker("rm", "-f", stack.container("web").name)
    found = await stack.healed("compose:app")
    assert (found.result, stack.containers("web")) == (RepairResult.MANUAL, [])
    assert "gpu.yml, not from" in found.cause
    assert found.remedy == "name in `stack.compose.app` the files that the project is started from"
    assert [cause["remedy"] for cause in causes(stack, tmp_path)] == [found.remedy]


async def test_a_service_of_a_profile_that_crashed_is_started_and_one_that_was_stopped_is_not(stack: Stack):
    """A person started both; the profile is not active where recovery runs."""
    stack.write({"db": {}, "cpu": {"profiles": ["cpu"]}, "gpu": {"profiles": ["gpu"]}})
    stack.compose("--profile", "cpu", "--profile", "gpu", "up", "-d")
    stack.compose("--profile", "cpu", "stop", "-t", "1", "cpu")
    await killed(stack, "gpu")
    found = await stack.healed(f"container:{stack.container('gpu').name}")
    assert found.result is RepairResult.REPAIRED
    await stack.heal(**LONG_AGO)
    assert (stack.container("gpu").status, stack.container("cpu").status) == ("running", "exited")


async def test_what_mounts_a_folder_that_is_gone_is_not_started(stack: Stack, tmp_path: Path):
    """Docker would make an empty folder, in which a database begins anew; the doctor offers no start."""
    models = tmp_path / "disk" / "models"
    models.mkdir(parents=True)
    stack.write({"db": {"volumes": [f"{models}:/models"]}})
    stack.compose("up", "-d")
    await killed(stack, "db")
    shutil.rmtree(models.parent)
    found = await stack.healed("compose:app")
    assert (found.result, models.exists()) == (RepairResult.MANUAL, False)
    assert f"{models}, which it mounts, is not there" in found.cause
    (cause,) = causes(stack, tmp_path)
    assert (cause["remedy"], cause["fix"]) == (found.remedy, None)
    stack.docker("rm", "-f", stack.container("db").name)
    again = await stack.healed("compose:app", **LONG_AGO)
    assert (again.result, again.remedy, models.exists()) == (RepairResult.MANUAL, found.remedy, False)
    models.mkdir(parents=True)
    assert (await stack.healed("compose:app", **LONG_AGO)).result is RepairResult.REPAIRED


async def test_what_is_ill_because_its_file_is_gone_is_not_restarted(stack: Stack, tmp_path: Path):
    """A restart would put an empty folder in the place of the file."""
    settings = tmp_path / "settings.conf"
    settings.write_text("x")
    stack.write({"web": {"volumes": [f"{settings}:/settings:ro"], "healthcheck": CHECK}})
    stack.compose("up", "-d")
    container = await stack.until("web", health("healthy"))
    stack.docker("exec", container.name, "touch", "/ill")
    settings.unlink()
    await stack.until("web", health("unhealthy"))
    found = await stack.healed(f"container:{container.name}")
    assert (found.result, settings.exists()) == (RepairResult.MANUAL, False)
    assert "which it mounts, is not there" in found.cause


async def test_a_project_that_was_moved_is_not_started_a_second_time(stack: Stack, tmp_path: Path):
    """In a folder of another name it would get empty volumes; the remedy keeps it, when it is typed."""
    stack.write({"db": {}, "web": {}})
    stack.compose("up", "-d")
    name, before = stack.project, {stack.container("db").id, stack.container("web").id}
    new = stack.folder.with_name(f"{stack.folder.name}new")
    stack.folder.rename(new)
    stack.folder = new
    found = await stack.healed("compose:app", **LONG_AGO)
    assert (found.result, found.state, stack.containers("db")) == (RepairResult.MANUAL, "moved", [])
    assert found.remedy == f"write `COMPOSE_PROJECT_NAME={name}` into {new / '.env'}: it keeps both"
    assert [cause["remedy"] for cause in causes(stack, tmp_path)] == [found.remedy]
    (new / ".env").write_text(f"COMPOSE_PROJECT_NAME={name}\n")
    well = await stack.healed("compose:app", **LONG_AGO)
    assert (well.result, well.cause) == (RepairResult.OK, "2 containers of 2 services run")
    listed = stack.box.client.containers.list(filters={"label": f"com.docker.compose.project={name}"})
    assert {container.id for container in listed} == before


async def test_what_a_person_starts_only_a_part_of_is_not_completed_at_once(stack: Stack):
    """`up -d db` is work on the project; long after it the other services are started."""
    stack.write({"db": {}, "web": {}})
    stack.compose("up", "-d", "db")
    found = await stack.healed("compose:app")
    assert (found.result, stack.containers("web")) == (RepairResult.LEFT, [])
    assert f"somebody made {stack.container('db').name}" in found.cause
    assert (await stack.healed("compose:app", **LONG_AGO)).result is RepairResult.REPAIRED


async def test_a_service_that_is_new_in_the_files_is_not_deployed(stack: Stack):
    """What had a container before is made again all the same; the new one once a person has started it."""
    stack.write({"db": {}, "web": {}})
    stack.compose("up", "-d")
    await stack.heal(**LONG_AGO)
    stack.write({"db": {}, "web": {}, "new": {"healthcheck": CHECK}}, fresh=True)
    os.utime(stack.file, (time.time(), time.time()))
    stack.docker("rm", "-f", stack.container("web").name)
    found = await stack.healed("compose:app", **LONG_AGO)
    assert found.result is RepairResult.REPAIRED, found
    assert (stack.container("web").status, stack.containers("new")) == ("running", [])
    assert (
        "new is not created: it is new in the files" in (await stack.healed("compose:app", **LONG_AGO)).cause
    )
    stack.compose("up", "-d", "new")
    await killed(stack, "new")
    assert (await stack.healed("compose:app", **LONG_AGO)).result is RepairResult.REPAIRED


async def test_what_needs_a_job_is_not_started_while_that_fails(stack: Stack):
    """A start by itself passes over no condition of `depends_on`: the job first, then what awaits it."""
    job = {"script": "exit 3"}
    stack.write({"app": {"depends_on": {"job": {"condition": "service_completed_successfully"}}}, "job": job})
    stack.compose("create")
    rules = {**LONG_AGO, "step_s": 1.0, "startup_grace_s": 0.0}
    for _ in range(2):
        run = await stack.heal(**rules)
        assert stack.container("app").status == "created"
    causes_of = {found.target: found.cause for found in run.outcomes}
    assert "app is not started: job has not ended with exit code 0" in causes_of["compose:app/app"]


async def test_the_port_of_a_service_without_a_container_is_looked_at_before_it_is_made(stack: Stack):
    """Who has the port is named, and nothing is tried in vain."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        stack.write({"web": {"networks": ["own"], "ports": [f"127.0.0.1:{port}:80"]}}, networks={"own": {}})
        found = await stack.healed("compose:app", **LONG_AGO)
    assert (found.result, stack.containers("web")) == (RepairResult.MANUAL, [])
    assert f"port {port} is used by process {os.getpid()}" in found.cause
    assert f"`kill {os.getpid()}`" in (found.remedy or "")


async def test_what_fell_is_started_as_it_was_while_compose_refuses_the_files(stack: Stack):
    """The environment file of one service is gone: Docker starts another one, and the files are told."""
    variables = stack.folder / "web.env"
    variables.write_text("MODEL=phi\n")
    aged(variables)
    stack.write({"web": {"env_file": ["web.env"]}, "db": {}})
    stack.compose("up", "-d")
    before = stack.container("db")
    await killed(stack, "db")
    variables.unlink()
    run = await stack.heal()
    assert outcome(run, "compose:app/db").result is RepairResult.REPAIRED
    assert (stack.container("db").id, stack.commands) == (before.id, [f"docker start {before.name}"])
    files = outcome(run, "compose:app")
    assert (files.result, "web.env" in files.cause) == (RepairResult.MANUAL, True)


async def test_what_a_person_stopped_stays_down_while_compose_refuses_the_files(stack: Stack):
    """Files that cannot be used are no reason to overrule anybody."""
    stack.write({"db": {}})
    stack.compose("up", "-d")
    stack.docker("stop", stack.container("db").name)
    stack.file.write_text("services: [")
    aged(stack.file)
    run = await stack.heal()
    assert outcome(run, f"container:{stack.container('db').name}").result is RepairResult.LEFT
    assert stack.commands == []


async def test_a_container_whose_image_was_removed_is_started_as_it_is(stack: Stack):
    """Nothing is to be made of the image, so nobody needs it."""
    image = f"{stack.project}:1"
    stack.docker("tag", IMAGE, image)
    stack.write({"web": {"image": image}, "db": {}})
    stack.compose("up", "-d")
    before = stack.container("web").id
    await killed(stack, "web")
    stack.docker("rmi", "-f", image)
    found = await stack.healed("compose:app")
    assert (found.result, stack.container("web").id) == (RepairResult.REPAIRED, before), found
    assert "older settings" not in found.cause


async def test_what_had_a_volume_is_not_made_with_an_empty_one(stack: Stack):
    """A volume that was pruned with its container held data: a person decides whether it may be empty."""
    stack.write({"web": {}, "db": {"volumes": ["data:/data"]}}, volumes={"data": {}})
    stack.compose("up", "-d")
    await stack.heal()
    stack.docker("rm", "-f", stack.container("db").name)
    stack.docker("volume", "rm", f"{stack.project}_data")
    found = await stack.healed("compose:app")
    assert (found.result, stack.containers("db")) == (RepairResult.MANUAL, [])
    assert f"its volume {stack.project}_data is gone" in found.cause
