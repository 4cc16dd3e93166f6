"""Kinds of Compose projects: what joins another container, names a volume, or is told by its `.env`."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from opskit.recovery.outcome import RepairResult
from tests.parts.compose_stack import LONG_AGO, Stack, cleaned, ended, health
from tests.parts.docker import IMAGE, LABEL, Engine
from tests.parts.healing import outcome


@pytest.fixture
def stack(box: Engine, tmp_path: Path) -> Iterator[Stack]:
    with cleaned(Stack(box, tmp_path / box.name("p").replace("-", ""), version=2)) as made:
        yield made


async def test_what_joined_a_container_that_was_replaced_is_made_again(stack: Stack):
    """Docker finds the joined container by its id, so that a start of the old container fails for ever."""
    joining = {kind: {kind: "service:own"} for kind in ("pid", "ipc")}
    stack.write({"own": {"ipc": "shareable"}, **joining}, fresh=True)
    stack.compose("up", "-d")
    for service in ("pid", "ipc", "own"):
        stack.docker("kill", stack.container(service).name)
        await stack.until(service, ended)
    stack.docker("rm", stack.container("own").name)
    assert (await stack.healed("compose:app", **LONG_AGO)).result is RepairResult.REPAIRED
    modes = [stack.container(kind).attrs["HostConfig"][f"{kind.title()}Mode"] for kind in joining]
    assert modes == [f"container:{stack.container('own').id}"] * 2


async def test_a_volume_that_the_project_does_not_make_is_told_when_it_is_gone(stack: Stack):
    """No start is tried in vain: a new volume is empty, so a person decides."""
    name = stack.box.name("v")
    stack.box.client.volumes.create(name, labels={LABEL: stack.box.mark})
    volumes = {"data": {"external": True, "name": name}}
    stack.write({"db": {"volumes": ["data:/data"]}, "web": {}}, volumes=volumes)
    stack.compose("up", "-d")
    await stack.heal()
    stack.docker("rm", "-f", stack.container("db").name)
    stack.docker("volume", "rm", name)
    told = await stack.healed("compose:app", **LONG_AGO)
    assert (told.result, stack.commands) == (RepairResult.MANUAL, [])
    assert f"there is no volume {name}" in told.cause
    assert told.remedy == f"restore volume {name}, or `docker volume create {name}` where it may be empty"


async def test_the_files_that_the_env_file_names_are_those_of_the_project(stack: Stack):
    """As Compose itself reads them in that folder: a service of the second file is a part of the project."""
    stack.write({"web": {}})
    more = {
        "image": IMAGE,
        "network_mode": "none",
        "labels": {LABEL: stack.box.mark},
        "command": "sleep 1000",
    }
    (stack.folder / "more.yml").write_text(f'{{"services": {{"more": {more!r}}}}}'.replace("'", '"'))
    (stack.folder / ".env").write_text("COMPOSE_FILE=docker-compose.yml:more.yml\n")
    stack.compose("-f", str(stack.folder / "more.yml"), "up", "-d")
    assert (await stack.healed("compose:app", **LONG_AGO)).cause == "2 containers of 2 services run"
    stack.docker("rm", "-f", stack.container("more").name)
    assert (await stack.healed("compose:app", **LONG_AGO)).result is RepairResult.REPAIRED
    assert stack.container("more").status == "running"


async def test_a_service_of_files_that_nobody_named_is_started_when_it_falls(stack: Stack):
    """Its project was started from more files than the configuration names: it is started as it is."""
    stack.write({"web": {}})
    more = {
        "image": IMAGE,
        "network_mode": "none",
        "labels": {LABEL: stack.box.mark},
        "command": "sleep 1000",
    }
    (stack.folder / "more.yml").write_text(f'{{"services": {{"more": {more!r}}}}}'.replace("'", '"'))
    stack.compose("-f", str(stack.folder / "more.yml"), "up", "-d")
    name = stack.container("more").name
    stack.docker("kill", name)
    await stack.until("more", ended)
    assert outcome(await stack.heal(), f"container:{name}").result is RepairResult.REPAIRED
    assert stack.commands == [f"docker start {name}"]


async def test_what_waits_for_a_need_that_is_starting_is_not_well(stack: Stack):
    """It is down until the next run starts it: nobody has left it alone, and the exit status says so."""
    check = {"test": ["CMD", "test", "-e", "/ok"], "interval": "100ms", "start_period": "60s", "retries": 600}
    needs = {"db": {"condition": "service_healthy"}}
    stack.write({"db": {"healthcheck": check}, "web": {"depends_on": needs}})
    stack.compose("create")
    name = stack.container("db").name
    stack.docker("start", name, stack.container("web").name)
    stack.docker("kill", stack.container("web").name)
    await stack.until("web", ended)
    run = await stack.heal(**LONG_AGO)
    waiting = outcome(run, "compose:app")
    assert (waiting.result, int(run.exit()), stack.commands) == (RepairResult.NOT_YET, 1, [])
    assert "web is not started: db is not healthy" in waiting.cause
    assert str(waiting.remedy).endswith(" up -d web`")
    stack.docker("exec", name, "touch", "/ok")
    await stack.until("db", health("healthy"))
    assert (await stack.healed("compose:app", **LONG_AGO)).result is RepairResult.REPAIRED
