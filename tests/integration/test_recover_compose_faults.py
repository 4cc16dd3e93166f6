"""Faults of a whole project on a real daemon, with Compose 1 and 2: networks, reboots, shared networks."""

import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from opskit.recovery.outcome import RepairResult
from tests.parts.compose_stack import LONG_AGO, Stack, aged, cleaned, ended, running
from tests.parts.docker import IMAGE, Daemon, Engine, engine_of, own_daemon
from tests.parts.examining import examined, keys
from tests.parts.healing import outcome

#: Ends with 0 when it is told to, as a server of any kind may.
SERVER = "trap 'exit 0' TERM; while :; do sleep 1000 & wait $!; done"


#: Where the versions do the same, the faster one.
COMPOSE_2 = pytest.mark.parametrize("stack", [2], indirect=True, ids=["compose-2"])


@pytest.fixture(params=[1, 2], ids=["compose-1", "compose-2"])
def stack(request: pytest.FixtureRequest, box: Engine, tmp_path: Path) -> Iterator[Stack]:
    made = Stack(box, tmp_path / box.name("p").replace("-", ""), version=request.param)
    with cleaned(made):
        yield made


@pytest.fixture(scope="module")
def daemon() -> Iterator[Daemon]:
    with own_daemon() as made:
        yield made


@pytest.mark.parametrize("version", [1, 2])
async def test_after_a_reboot_every_service_runs_again(daemon: Daemon, tmp_path: Path, version: int):
    """Servers that end with 0 when they are told to are started, a job that others await is not."""
    with engine_of(daemon.host) as box, cleaned(Stack(box, tmp_path / box.name("p"), version=version)) as app:
        done = {"job": {"condition": "service_completed_successfully"}}
        services = {"web": {"depends_on": done}, "worker": {"restart": "on-failure"}}
        app.write(
            {name: {**about, "script": SERVER} for name, about in services.items()}
            | {"job": {"script": "exit 0"}}
        )
        app.compose("up", "-d")
        job = app.container("job").attrs["State"]["StartedAt"]
        daemon.stop()
        daemon.start()
        assert all(ended(app.container(name)) for name in ("web", "worker"))
        repaired = await app.healed("compose:app")
        assert repaired.result is RepairResult.REPAIRED, repaired
        assert all(running(app.container(name)) for name in ("web", "worker"))
        assert app.container("job").attrs["State"]["StartedAt"] == job
        run = await app.heal()
        assert (run.mutations, outcome(run, "compose:app").cause) == (0, "2 containers of 3 services run")


@COMPOSE_2
async def test_a_server_that_was_stopped_comes_back_like_any_other(stack: Stack):
    """It ended with 0 because somebody stopped it: after the time that people are given it is started."""
    stack.write({"web": {}, "worker": {"script": SERVER}})
    stack.compose("up", "-d")
    stack.docker("stop", stack.container("worker").name)
    left = await stack.healed("compose:app")
    assert (left.result, stack.commands) == (RepairResult.OK, [])
    repaired = await stack.healed("compose:app", **LONG_AGO)
    assert repaired.result is RepairResult.REPAIRED, repaired
    assert running(stack.container("worker"))


@COMPOSE_2
async def test_a_job_that_ended_by_itself_is_told_and_never_run_again(stack: Stack):
    """The project names it with the command that starts it; a project without a server is not ok."""
    stack.write({"web": {}, "job": {"script": "exit 0"}})
    stack.compose("up", "-d")
    await stack.until("job", ended)
    told = await stack.healed("compose:app", **LONG_AGO)
    assert (told.result, stack.commands) == (RepairResult.OK, [])
    assert "1 container of 2 services run; job ended with exit code 0, as a job does" in told.cause
    assert f"docker compose -f {stack.file} up -d job" in told.cause
    stack.write({"job": {"script": "exit 0"}})
    stack.container("web").remove(force=True)
    alone = await stack.healed("compose:app", **LONG_AGO)
    assert (alone.result, stack.commands) == (RepairResult.LEFT, [])
    assert "0 containers of 1 service run" in alone.cause


async def test_containers_of_a_removed_network_are_made_again(stack: Stack):
    """They hold the id of a network that is gone; what stands on no such network keeps its container."""
    stack.write({"web": {"networks": ["own"]}, "db": {"networks": ["own"]}, "log": {}}, networks={"own": {}})
    stack.compose("up", "-d")
    log = stack.container("log").id
    for name in ("web", "db", "log"):
        stack.docker("kill", stack.container(name).name)
        await stack.until(name, ended)
    stack.docker("network", "rm", f"{stack.project}_own")
    repaired = await stack.healed("compose:app", **LONG_AGO)
    assert repaired.result is RepairResult.REPAIRED, repaired
    assert f"the network {stack.project}_own that it holds was removed" in repaired.cause
    assert all(running(stack.container(name)) for name in ("web", "db", "log"))
    assert stack.container("log").id == log
    assert (await stack.heal()).mutations == 0


@COMPOSE_2
async def test_a_removed_network_that_is_shared_is_made_and_its_containers_with_it(stack: Stack):
    """The network step makes it under another id; the projects in it follow in the same run."""
    stack.network = stack.box.name("net")
    stack.docker("network", "create", stack.network)
    shared = {"shared": {"external": True, "name": stack.network}}
    stack.write({"web": {"networks": ["shared"]}}, networks=shared)
    stack.compose("up", "-d")
    stack.docker("kill", stack.container("web").name)
    await stack.until("web", ended)
    stack.docker("network", "rm", stack.network)
    try:
        run = await stack.heal(**LONG_AGO)
        assert outcome(run, "network").result is RepairResult.REPAIRED
        assert outcome(run, "compose:app").result is RepairResult.REPAIRED
        assert running(stack.container("web"))
    finally:
        stack.box.clean()
        stack.docker("network", "rm", stack.network)


@COMPOSE_2
async def test_the_remedy_for_a_removed_network_works_when_it_is_typed(stack: Stack):
    """A service that only a person may touch is told with the command that mends it."""
    told = {"networks": ["own"], "labels": {"opskit.action": "notify"}}
    stack.write({"web": told}, networks={"own": {}})
    stack.compose("up", "-d")
    stack.docker("kill", stack.container("web").name)
    await stack.until("web", ended)
    stack.docker("network", "rm", f"{stack.project}_own")
    manual = await stack.healed("compose:app", **LONG_AGO)
    assert manual.result is RepairResult.MANUAL, manual
    assert manual.remedy is not None
    subprocess.run(manual.remedy.strip("`"), shell=True, env=stack.environ, check=True, capture_output=True)
    assert running(stack.container("web"))


@COMPOSE_2
async def test_older_settings_are_not_deployed_to_mend_a_network(stack: Stack):
    """A file that was changed since says how the new container would be; that is for a person."""
    stack.write({"web": {"networks": ["own"]}}, networks={"own": {}})
    stack.compose("up", "-d")
    old = stack.container("web").id
    stack.docker("kill", stack.container("web").name)
    await stack.until("web", ended)
    stack.docker("network", "rm", f"{stack.project}_own")
    stack.write({"web": {"networks": ["own"], "environment": {"A": "1"}}}, networks={"own": {}})
    manual = await stack.healed("compose:app", **LONG_AGO)
    assert (manual.result, stack.commands) == (RepairResult.MANUAL, [])
    assert "--force-recreate" in (manual.remedy or "")
    assert stack.container("web").id == old


@COMPOSE_2
async def test_what_is_well_is_not_told_as_drifted(stack: Stack):
    """Shared networks, files of variables, a start without what is needed: nothing was changed."""
    stack.write(
        {
            "web": {"networks": ["own"]},
            "side": {"network_mode": "service:web"},
            "front": {"depends_on": ["web"], "networks": ["own"], "env_file": ["front.env"]},
        },
        networks={"own": {}},
    )
    (stack.folder / "front.env").write_text("COST=a$$b\n")
    aged(stack.folder / "front.env")
    stack.compose("up", "-d")
    assert (await stack.healed("compose:app")).cause == "3 containers of 3 services run"
    stack.container("front").remove(force=True)
    assert (await stack.healed("compose:app", **LONG_AGO)).result is RepairResult.REPAIRED
    assert (await stack.healed("compose:app")).cause == "3 containers of 3 services run"
    (stack.folder / "front.env").write_text("COST=c\n")
    aged(stack.folder / "front.env")
    assert "front: made of older settings" in (await stack.healed("compose:app")).cause


@COMPOSE_2
async def test_an_orphan_of_a_replaced_network_is_made_again(stack: Stack):
    """The container whose network another shares was removed: both are back, and the network is one."""
    services = {"web": {"networks": ["own"]}, "side": {"network_mode": "service:web"}}
    stack.write(services, fresh=True, networks={"own": {}})
    stack.compose("up", "-d")
    stack.container("web").remove(force=True)
    run = await stack.heal(**LONG_AGO)
    assert outcome(run, "compose:app").result is RepairResult.REPAIRED, run
    assert outcome(run, f"container:{stack.container('side').name}").result is RepairResult.REPAIRED, run
    shared = stack.container("side").attrs["HostConfig"]["NetworkMode"]
    assert shared == f"container:{stack.container('web').id}"


@COMPOSE_2
async def test_a_variable_of_a_base_without_a_value_keeps_a_container_from_being_made(stack: Stack):
    """Compose itself says what a service comes to by `extends`: the file of the service does not name it."""
    base = {"services": {"any": {"image": IMAGE, "environment": {"TOKEN": "${OPSKIT_TEST_TOKEN}"}}}}
    (stack.folder / "base.yml").write_text(yaml.safe_dump({"version": "2.4", **base}))
    aged(stack.folder / "base.yml")
    stack.write({"web": {"extends": {"file": "base.yml", "service": "any"}}}, version="2.4")
    refused = await stack.healed("compose:app", **LONG_AGO)
    assert "it would be made with nothing in OPSKIT_TEST_TOKEN" in refused.cause
    assert not stack.containers("web")


async def test_what_is_declared_and_not_wanted_is_neither_missed_nor_started(stack: Stack):
    """No replicas, or a profile that is not active: also where somebody ran a container of it once."""
    none = {"deploy": {"replicas": 0}}
    stack.write({"web": {}, "spare": none, "tool": {"profiles": ["tools"], "script": "exit 3"}})
    stack.compose("up", "-d", "web")
    stack.compose("up", "-d", "tool")
    await stack.until("tool", ended)
    well = await stack.healed("compose:app", **LONG_AGO)
    assert (well.result, well.cause, stack.commands) == (
        RepairResult.OK,
        "1 container of 1 service run",
        [],
    )
    config = {"stack": {"compose": {"app": [str(stack.file)]}, "containers": {"victoria": []}}}
    env = {**stack.environ, "OLLAMA_API_URL": ""}
    assert keys(await examined(stack.folder.parent, env=env, config=config)) == []
