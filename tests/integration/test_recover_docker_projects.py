"""Compose projects through the real healer, on a real daemon and a real docker-compose."""

import json
import os
import shutil
import subprocess
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest

from opskit.facts.compose_project import read_compose_project
from opskit.facts.container_events import KEPT_EVENTS
from opskit.facts.survey import Survey
from opskit.records import replace
from opskit.recovery import pauses
from opskit.recovery.outcome import RepairResult
from tests.parts.backup_faults import killed_at
from tests.parts.command import environment, opskit
from tests.parts.compose_stack import LONG_AGO, WAIT, Stack, aged, cleaned, ended, health, steps
from tests.parts.docker import Engine
from tests.parts.healing import outcome


@pytest.fixture
def stack(box: Engine, tmp_path: Path) -> Iterator[Stack]:
    made = Stack(box, tmp_path / box.name("p").replace("-", ""))
    with cleaned(made):
        yield made


CHECK = {"test": ["CMD", "test", "!", "-e", "/ill"], "interval": "100ms", "retries": 1, "timeout": "5s"}


async def test_a_whole_project_is_well_and_nothing_is_done(stack: Stack):
    """Services that run are told with their number, and no command is run."""
    stack.write({"web": {}, "db": {}})
    stack.compose("up", "-d")
    run = await stack.heal()
    found = outcome(run, "compose:app")
    assert (found.result, found.cause) == (RepairResult.OK, "2 containers of 2 services run")
    assert stack.commands == []
    assert run.exit() == 0


async def test_a_killed_container_is_started_and_a_second_run_changes_nothing(stack: Stack):
    """`docker kill` is a crash: one `up` of that service alone mends it, and then there is nothing to do."""
    stack.write({"web": {}, "db": {}})
    stack.compose("up", "-d")
    before = stack.container("db").id
    stack.docker("kill", stack.container("web").name)
    await stack.until("web", ended)
    found = await stack.healed("compose:app")
    assert found.result is RepairResult.REPAIRED, found
    assert "web ended with exit code 137" in found.cause
    assert stack.commands == [f"docker-compose -f {stack.file} up -d --no-recreate --no-build --no-deps web"]
    assert stack.container("web").status == "running"
    assert stack.container("db").id == before
    again = await stack.heal()
    assert (again.mutations, outcome(again, "compose:app").result) == (0, RepairResult.OK)


async def test_a_crash_is_told_with_its_last_words(stack: Stack):
    """Evidence of what ended is kept before it is started again."""
    stack.write({"web": {"script": "echo no disk; exit 3"}})
    stack.compose("up", "-d")
    await stack.until("web", ended)
    found = await stack.healed("compose:app", step_s=0.1)
    assert "exit code 3" in found.cause
    assert found.evidence["logs"][stack.container("web").name] == ["no disk"]


async def test_a_missing_container_is_created_and_others_are_not_touched(stack: Stack):
    """A service without a container is created; a container of another stack stays as it is."""
    stranger = stack.box.run("exit 1", labels={"com.docker.compose.project": "another"})
    stack.write({"web": {}, "db": {}})
    stack.compose("up", "-d", "db")
    found = await stack.healed("compose:app", **LONG_AGO)
    assert found.result is RepairResult.REPAIRED, found
    assert "web is not created" in found.cause
    stranger.reload()
    assert stack.container("web").status == "running"
    assert stranger.status == "exited"


async def test_a_container_that_was_taken_down_is_left_alone_for_a_while(stack: Stack):
    """What somebody stopped and removed is not created again before `hands_off_s` have passed."""
    stack.write({"web": {}, "db": {}})
    stack.compose("up", "-d")
    stack.compose("rm", "--stop", "--force", "web")
    found = await stack.healed("compose:app")
    assert (found.result, stack.commands) == (RepairResult.LEFT, [])
    assert "somebody removed it" in found.cause
    later = await stack.healed("compose:app", **LONG_AGO)
    assert later.result is RepairResult.REPAIRED, later


@pytest.mark.parametrize("lively", [False, True])
async def test_a_container_that_vanished_is_created_again_at_once(stack: Stack, lively: bool):
    """`docker rm -f` is like `docker kill`: it is missed, also where Docker has forgotten what happened."""
    stack.write({"web": {}, "db": {}})
    stack.compose("up", "-d")
    stack.container("web").remove(force=True)
    if lively:
        other = stack.box.run("sleep 1000")
        for _ in range(KEPT_EVENTS):
            other.rename(stack.box.name())
    found = await stack.healed("compose:app")
    assert found.result is RepairResult.REPAIRED, found
    assert "web is not created" in found.cause


async def test_a_container_that_ends_well_when_stopped_is_told_too(stack: Stack):
    """It catches the signal and ends with 0, as a job does; the summary says that somebody stopped it."""
    stack.write({"web": {"script": "trap 'exit 0' TERM; while :; do sleep 0.1; done"}, "db": {}})
    stack.compose("up", "-d")
    name = stack.container("web").name
    stack.docker("stop", name)
    found = outcome(await stack.heal(), f"container:{name}")
    assert (found.result, stack.commands) == (RepairResult.LEFT, [])
    assert "somebody stopped it" in found.cause


@pytest.mark.parametrize("how", ["docker", "compose"])
async def test_a_container_stopped_by_hand_is_left_alone_for_a_while(stack: Stack, how: str):
    """`docker stop` and `docker-compose stop` win for `hands_off_s`; after that `up` starts it again."""
    stack.write({"web": {"restart": "always"}, "db": {}})
    stack.compose("up", "-d")
    name = stack.container("web").name
    if how == "docker":
        stack.docker("stop", "-t", "1", name)
    else:
        stack.compose("stop", "-t", "1", "web")
    run = await stack.heal()
    found = outcome(run, f"container:{name}")
    assert (found.result, stack.commands) == (RepairResult.LEFT, [])
    assert "somebody stopped it" in found.cause
    assert outcome(run, "compose:app").result is RepairResult.OK
    later = await stack.healed("compose:app", **LONG_AGO)
    assert later.result is RepairResult.REPAIRED, later


async def test_a_stop_that_docker_no_longer_remembers_is_left_alone(stack: Stack):
    """Docker keeps 256 events; where they do not reach back to an end, a stop by hand is not ruled out."""
    stack.write({"web": {"restart": "always"}})
    stack.compose("up", "-d")
    name = stack.container("web").name
    stack.docker("stop", name)
    await stack.until("web", ended)
    noise = stack.box.run("sleep 1000")
    for _ in range(KEPT_EVENTS):
        noise.rename(stack.box.name())
    found = await stack.healed(f"container:{name}")
    assert found.result is RepairResult.LEFT, found
    assert "does not remember" in found.cause


async def test_an_unhealthy_container_is_restarted(stack: Stack):
    """A container whose check fails is restarted, and well once a check since the start says so."""
    stack.write({"web": {"healthcheck": CHECK, "script": f"rm -f /ill; {WAIT}"}})
    stack.compose("up", "-d")
    await stack.until("web", health("healthy"))
    name = stack.container("web").name
    stack.docker("exec", name, "touch", "/ill")
    await stack.until("web", health("unhealthy"))
    found = await stack.healed(f"container:{name}")
    assert found.result is RepairResult.REPAIRED, found
    assert "its health check fails" in found.cause
    assert stack.commands == [f"docker restart {name}"]
    again = await stack.heal()
    assert (again.mutations, outcome(again, f"container:{name}").result) == (0, RepairResult.OK)


async def test_a_young_unhealthy_container_is_still_starting(stack: Stack):
    """Within the grace after its start nothing is restarted."""
    stack.write({"web": {"healthcheck": CHECK, "script": f"touch /ill; {WAIT}"}})
    stack.compose("up", "-d")
    await stack.until("web", health("unhealthy"))
    found = await stack.healed("compose:app", startup_grace_s=600.0)
    assert (found.result, stack.commands) == (RepairResult.WAITING, [])


async def test_what_keeps_failing_is_given_up_after_its_budget(stack: Stack):
    """A container that never gets well is restarted as often as the budget says, then given up once."""
    stack.write({"web": {"healthcheck": CHECK, "script": f"touch /ill; {WAIT}"}})
    stack.compose("up", "-d")
    await stack.until("web", health("unhealthy"))
    target = f"container:{stack.container('web').name}"
    results = []
    for _ in range(3):
        await stack.until("web", health("unhealthy"))
        results.append((await stack.healed(target, step_s=0.1, max_repairs=2)).result)
    assert len(stack.commands) == 2
    assert results[-1] is RepairResult.GAVE_UP
    assert [one.level.value for one in stack.healing.notices].count("critical") == 1


async def test_a_restart_loop_is_told_with_its_log_and_not_fed(stack: Stack):
    """What Docker restarts by itself again and again is not restarted by opskit too."""
    stack.write({"web": {"restart": "always", "script": "echo no token; exit 4"}})
    stack.compose("up", "-d")
    await stack.until("web", lambda found: found.attrs["RestartCount"] >= 3)
    name = stack.container("web").name
    found = await stack.healed(f"container:{name}")
    assert (found.result, found.state, stack.commands) == (RepairResult.MANUAL, "restarting", [])
    assert "no token" in found.evidence["log"]
    assert name in (found.remedy or "")


async def test_a_paused_container_is_left(stack: Stack):
    """`docker pause` is a person's doing, for as long as it holds."""
    stack.write({"web": {}})
    stack.compose("up", "-d")
    container = stack.container("web")
    container.pause()
    found = await stack.healed(f"container:{container.name}", **LONG_AGO)
    assert (found.result, stack.commands) == (RepairResult.LEFT, [])


async def test_a_one_shot_that_did_its_work_is_well(stack: Stack):
    """`restart: no` and exit 0 is an end as it should be; a container of `compose run` counts for nothing."""
    stack.write({"web": {}, "job": {"script": "exit 0", "restart": "no"}})
    stack.compose("up", "-d")
    stack.compose("run", "-d", "--name", stack.box.name("once"), "web", "sh", "-c", "exit 9")
    await stack.until("job", ended)
    found = await stack.healed("compose:app")
    assert (found.result, stack.commands) == (RepairResult.OK, [])


async def test_scaled_services_keep_what_a_person_scaled(stack: Stack):
    """A service scaled by hand beyond its file is not scaled down by a repair."""
    stack.write({"web": {"scale": 2}})
    stack.compose("up", "-d", "--scale", "web=3")
    victim = stack.containers("web")[0]
    stack.docker("kill", victim.name)
    found = await stack.healed("compose:app")
    assert found.result is RepairResult.REPAIRED, found
    assert [one.status for one in stack.containers("web")] == ["running"] * 3


async def test_services_of_a_profile_are_not_missed(stack: Stack):
    """What `up` would not start by itself is not missing."""
    stack.write({"web": {}, "tool": {"profiles": ["tools"]}})
    stack.compose("up", "-d")
    assert (await stack.healed("compose:app")).cause == "1 container of 1 service run"


async def test_an_image_that_is_not_here_is_never_pulled(stack: Stack):
    """A missing image is told with the command that gets it; the other services are started."""
    stack.write({"web": {"image": "opskit-nowhere:1"}, "db": {}, "front": {"depends_on": ["web"]}})
    found = await stack.healed("compose:app", **LONG_AGO)
    assert "its image opskit-nowhere:1 is not on this machine" in found.cause
    assert "pull web" in (found.remedy or "")
    assert "front is left alone: it needs web" in found.cause
    assert stack.commands == [f"docker-compose -f {stack.file} up -d --no-recreate --no-build --no-deps db"]
    assert not stack.containers("web")


async def test_a_variable_without_a_value_keeps_a_container_from_being_made(stack: Stack):
    """What would be created with an empty variable, as in a scheduler's bare environment, is refused."""
    stack.write({"web": {"environment": {"TOKEN": "${OPSKIT_TEST_TOKEN}"}}, "db": {}})
    found = await stack.healed("compose:app", **LONG_AGO)
    assert "it would be made with nothing in OPSKIT_TEST_TOKEN" in found.cause
    assert not stack.containers("web")
    assert stack.container("db").status == "running"


async def test_a_file_that_somebody_edits_is_not_deployed(stack: Stack):
    """A Compose file changed in the last `hands_off_s` is left alone, and so is everything of its project."""
    stack.write({"web": {}}, fresh=True)
    found = await stack.healed("compose:app")
    assert (found.result, stack.commands) == (RepairResult.LEFT, [])
    assert "docker-compose.yml was changed" in found.cause


@pytest.mark.parametrize("how", ["moved", "copied", "linked"])
async def test_an_edit_that_keeps_an_old_time_is_an_edit(stack: Stack, how: str):
    """A file that is moved or copied into place with its times, or a link that is turned, is not deployed."""
    stack.write({"web": {}, "db": {}})
    stack.compose("up", "-d")
    stack.docker("kill", stack.container("web").name)
    await stack.until("web", ended)
    new = stack.folder.with_name("new.yml")
    shutil.copy(stack.file, new)
    os.utime(new, (0, 0))
    if how == "moved":
        new.replace(stack.file)
    elif how == "copied":
        shutil.copy2(new, stack.file)
    else:
        aged(new)
        stack.file.unlink()
        stack.file.symlink_to(new)
    found = await stack.healed(f"container:{stack.container('web').name}")
    assert (found.result, stack.commands) == (RepairResult.LEFT, [])
    assert "was changed" in found.cause


async def test_a_half_restored_project_is_left_alone(stack: Stack):
    """A killed restore is named with what ends it; and when it is taken back, that is an edit."""
    stack.write({"web": {}, "db": {}})
    (stack.folder / ".env").write_text("V=new\n")
    aged(stack.folder / ".env")
    stack.compose("up", "-d")
    config, env = stack.folder / "opskit.yaml", environment(stack.folder)
    config.write_text("backup: {files: ['*']}\n")
    backup = partial(opskit, "backup", home=stack.folder)
    assert backup("create").status == 0
    for path in (stack.folder / ".env", stack.file):
        path.write_text(path.read_text() + "# newer\n")
        os.utime(path, (0, 0))
    stack.docker("kill", stack.container("web").name)
    await stack.until("web", ended)
    killed_at(2, config, env)
    found = await stack.healed("compose:app")
    assert (found.result, found.state, stack.commands) == (RepairResult.MANUAL, "half restored", [])
    assert str(stack.folder) in found.cause
    assert "--resume" in (found.remedy or "")
    assert "--rollback" in (found.remedy or "")
    assert backup("restore", "--rollback").status == 0
    found = await stack.healed(f"container:{stack.container('web').name}")
    assert (found.result, stack.commands) == (RepairResult.LEFT, [])
    assert "was changed" in found.cause


async def test_a_changed_file_is_told_and_never_deployed(stack: Stack):
    """Containers made of older settings stay as they are, and the cause says so."""
    stack.write({"web": {}})
    stack.compose("up", "-d")
    before = stack.container("web").id
    stack.write({"web": {"environment": {"A": "1"}}})
    stack.docker("kill", stack.container("web").name)
    found = await stack.healed("compose:app")
    assert found.result is RepairResult.REPAIRED, found
    assert "web: made of older settings than the files hold now" in found.cause
    assert stack.container("web").id == before


async def test_labels_say_what_a_healer_may_do(stack: Stack):
    """`none` and `autoheal=false` are left, `notify` is for a person, `stop` is stopped."""
    ill = {"healthcheck": CHECK, "script": f"touch /ill; {WAIT}"}
    words = {"a": "none", "b": "notify", "c": "stop"}
    stack.write(
        {name: {**ill, "labels": {"opskit.action": word}} for name, word in words.items()}
        | {"d": {**ill, "labels": {"autoheal": "false"}}}
    )
    stack.compose("up", "-d")
    for name in "abcd":
        await stack.until(name, health("unhealthy"))
    run = await stack.heal()
    found = {name: outcome(run, f"container:{stack.container(name).name}").result for name in "abcd"}
    assert found == {
        "a": RepairResult.LEFT,
        "b": RepairResult.MANUAL,
        "c": RepairResult.LEFT,
        "d": RepairResult.LEFT,
    }
    assert stack.commands == [f"docker stop {stack.container('c').name}"]
    later = await stack.heal(**LONG_AGO)
    assert later.mutations == 0


async def test_a_pause_of_one_service_keeps_it_out_of_the_repair(stack: Stack):
    """A paused service is not started together with its neighbours."""
    stack.write({"web": {}, "db": {}})
    stack.compose("up", "-d")
    for name in ("web", "db"):
        stack.docker("kill", stack.container(name).name)
        await stack.until(name, ended)
    pauses.write(stack.healing.folder, {"web": pauses.Pause("web", time.time())})
    run = await stack.heal()
    assert outcome(run, f"container:{stack.container('web').name}").result is RepairResult.PAUSED
    assert outcome(run, "compose:app").result is RepairResult.REPAIRED
    assert (stack.container("web").status, stack.container("db").status) == ("exited", "running")


async def test_a_container_whose_network_was_restarted_is_restarted_after_it(stack: Stack):
    """A shared network namespace ends with its owner: who shared it is cut off until it is restarted."""
    stack.write({"vpn": {}, "app": {"network_mode": "service:vpn"}})
    stack.compose("up", "-d")
    stack.docker("restart", "-t", "1", stack.container("vpn").name)
    name = stack.container("app").name
    found = await stack.healed(f"container:{name}")
    assert (found.result, stack.commands) == (RepairResult.REPAIRED, [f"docker restart {name}"])


async def test_a_container_whose_network_was_replaced_is_made_anew(stack: Stack):
    """The id of a container that was recreated is gone for good from those that shared its network."""
    stack.write({"vpn": {}, "app": {"network_mode": "service:vpn"}})
    stack.compose("up", "-d")
    stack.compose("up", "-d", "--no-deps", "--force-recreate", "vpn")
    old = stack.container("app")
    found = await stack.healed(f"container:{old.name}")
    assert found.result is RepairResult.REPAIRED, found
    new = stack.container("app")
    assert new.attrs["HostConfig"]["NetworkMode"] == f"container:{stack.container('vpn').id}"
    assert (await stack.heal()).mutations == 0


async def test_both_ends_of_a_shared_network_come_back_in_order(stack: Stack):
    """When the owner of a network ended, it is started first and its sharer follows in the same run."""
    stack.write({"vpn": {}, "app": {"network_mode": "service:vpn"}})
    stack.compose("up", "-d")
    stack.docker("kill", stack.container("vpn").name)
    await stack.until("vpn", ended)
    run = await stack.heal()
    assert outcome(run, "compose:app").result is RepairResult.REPAIRED
    assert outcome(run, f"container:{stack.container('app').name}").result is RepairResult.REPAIRED
    assert (await stack.heal()).mutations == 0


async def test_a_dry_run_shows_the_command_and_runs_nothing(stack: Stack):
    """The exact command is shown, the container stays down, and nothing is remembered."""
    stack.write({"web": {}})
    stack.compose("up", "-d")
    stack.docker("kill", stack.container("web").name)
    await stack.until("web", ended)
    found = outcome(await stack.heal(dry=True), "compose:app")
    assert found.result is RepairResult.WOULD_REPAIR
    assert [one.shown for one in found.planned] == [
        f"docker-compose -f {stack.file} up -d --no-recreate --no-build --no-deps web"
    ]
    assert (stack.commands, stack.container("web").status) == ([], "exited")


async def test_broken_files_are_told_and_other_projects_go_on(stack: Stack, tmp_path: Path):
    """A wrong path and an invalid file are each broken without a repair; the third project is mended."""
    broken = tmp_path / "broken.yml"
    broken.write_text("services:\n  web:\n    imgae: x\n")
    stack.write({"web": {}})
    compose = {"gone": (str(tmp_path / "nowhere.yml"),), "bad": (str(broken),), "app": (str(stack.file),)}
    config = stack.config(**LONG_AGO)
    stack.healing.config = replace(config, stack=replace(config.stack, compose=compose))
    run = await stack.healing.run(steps)
    assert outcome(run, "compose:gone").result is RepairResult.MANUAL
    assert "there is no file" in outcome(run, "compose:gone").cause
    assert outcome(run, "compose:bad").result is RepairResult.MANUAL
    assert "imgae" in outcome(run, "compose:bad").cause
    assert outcome(run, "compose:app").result is RepairResult.REPAIRED


async def test_a_project_of_the_same_name_in_another_folder_is_not_touched(stack: Stack, tmp_path: Path):
    """Compose would take the other's containers for this project's: opskit does not."""
    stack.write({"web": {}})
    elsewhere = tmp_path / "other" / stack.project
    elsewhere.mkdir(parents=True)
    shutil.copy(stack.file, elsewhere)
    subprocess.run(
        ["docker-compose", "up", "-d"], cwd=elsewhere, env=stack.environ, check=True, capture_output=True
    )
    stack.docker("kill", stack.container("web").name)
    found = await stack.healed("compose:app")
    assert (found.result, found.state, stack.commands) == (RepairResult.MANUAL, "name taken", [])


async def test_the_files_are_read_by_compose_once(stack: Stack):
    """What is declared comes from memory until a file changes."""
    stack.write({"web": {}})
    stack.compose("up", "-d")
    await stack.heal()
    fact = json.dumps(stack.healing.memory.facts["compose:app"])
    assert "web" in fact
    stack.healing.environ = {**stack.environ, "PATH": stack.environ["PATH"]}
    await stack.heal()
    assert json.dumps(stack.healing.memory.facts["compose:app"]) == fact
    stack.write({"web": {}, "db": {}})
    assert "db is not created" in (await stack.healed("compose:app")).cause


async def test_the_doctor_knows_what_recovery_read(stack: Stack, tmp_path: Path):
    """An examination does not ask Compose again what recovery remembers, and says the same of the project."""
    asked, real = tmp_path / "asked", shutil.which("docker-compose")
    program = tmp_path / "bin" / "docker-compose"
    program.parent.mkdir()
    program.write_text(f'#!/bin/sh\necho "$@" >> {asked}\nexec {real} "$@"\n')
    program.chmod(0o755)
    environ = stack.healing.environ = {**stack.environ, "PATH": f"{program.parent}:{stack.environ['PATH']}"}
    stack.write({"web": {"environment": {"KEY": "${NOWHERE_SET}"}}, "job": {"profiles": ["extra"]}})
    stack.compose("up", "-d")
    about = {"state_folder": tmp_path, "cwd": tmp_path}
    async with Survey(stack.healing.config, environ, **about) as survey:
        fresh = await survey.get(read_compose_project, "app")
    await stack.heal()
    asked.unlink()
    facts = stack.healing.memory.facts
    async with Survey(stack.healing.config, environ, remembered=lambda: facts, **about) as survey:
        assert await survey.get(read_compose_project, "app") == fresh
    assert (fresh.services, fresh.unset) == (("web",), ("NOWHERE_SET",))
    assert not [line for line in asked.read_text().splitlines() if "config" in line]


async def test_a_missing_network_is_created_before_the_projects_that_need_it(stack: Stack):
    """The shared network is made, then the project that declares it as external comes up."""
    name = stack.box.name("net")
    stack.network = name
    stack.write({"web": {"networks": ["shared"]}}, networks={"shared": {"external": True, "name": name}})
    try:
        run = await stack.heal(**LONG_AGO)
        assert outcome(run, "network").result is RepairResult.REPAIRED, outcome(run, "network")
        assert outcome(run, "compose:app").result is RepairResult.REPAIRED, outcome(run, "compose:app")
        assert stack.commands[0] == f"docker network create {name}"
        assert (await stack.heal()).mutations == 0
    finally:
        stack.box.clean()
        stack.docker("network", "rm", name)


async def test_a_network_that_vanished_is_made_again_at_once(stack: Stack):
    """An empty network holds nothing that anybody could miss."""
    stack.network = stack.box.name("net")
    stack.write({"web": {}})
    stack.docker("network", "create", stack.network)
    stack.docker("network", "rm", stack.network)
    try:
        found = await stack.healed("network")
        assert (found.result, found.state) == (RepairResult.REPAIRED, "ok")
    finally:
        stack.docker("network", "rm", stack.network)


async def test_a_project_whose_network_is_paused_is_not_started_in_vain(stack: Stack):
    """It says which network is missing and how it is made, and runs no command that would fail."""
    stack.network = stack.box.name("net")
    stack.write(
        {"web": {"networks": ["shared"]}}, networks={"shared": {"external": True, "name": stack.network}}
    )
    pauses.write(stack.healing.folder, {"network": pauses.Pause("network", time.time())})
    run = await stack.heal(**LONG_AGO)
    assert outcome(run, "network").result is RepairResult.PAUSED
    found = outcome(run, "compose:app")
    assert (found.result, stack.commands) == (RepairResult.MANUAL, [])
    assert f"there is no network {stack.network}" in found.cause
    assert found.remedy == f"`docker network create {stack.network}`"


async def test_a_network_that_a_project_makes_itself_is_not_made_for_it(stack: Stack):
    """Compose refuses a network of its own that lacks its labels."""
    stack.network = stack.box.name("net")
    stack.write({"web": {"networks": ["own"]}}, networks={"own": {"name": stack.network}})
    run = await stack.heal(**LONG_AGO)
    assert outcome(run, "network").result is RepairResult.WAITING
    assert outcome(run, "compose:app").result is RepairResult.REPAIRED
    assert not any("network create" in one for one in stack.commands)


async def test_a_lost_network_is_told(stack: Stack):
    """A container that was disconnected from a network of its file is well, with a note how to mend it."""
    stack.write({"web": {"networks": ["own"]}}, networks={"own": {}})
    stack.compose("up", "-d")
    name = stack.container("web").name
    stack.docker("network", "disconnect", f"{stack.project}_own", name)
    found = await stack.healed("compose:app")
    assert f"docker network connect {stack.project}_own {name}" in found.cause
    assert stack.commands == []


async def test_a_project_that_was_started_under_another_name_is_not_made_a_second_time(stack: Stack):
    """`docker compose -p NAME` stands in no file: what these would make has other containers and volumes."""
    stack.write({"web": {}, "db": {}})
    name = stack.box.name("p")
    stack.compose("-p", name, "up", "-d")
    try:
        found = await stack.healed("compose:app")
    finally:
        stack.compose("-p", name, "down", "-t", "0")
    assert (found.result, found.state, stack.commands) == (RepairResult.MANUAL, "other name", []), found
    assert f"COMPOSE_PROJECT_NAME={name}" in (found.remedy or "")


async def test_a_running_pull_is_not_disturbed(stack: Stack, tmp_path: Path):
    """While somebody pulls, nothing of the project is touched, and the summary says who."""
    stack.write({"web": {}})
    fake = tmp_path / "bin" / "docker"
    fake.parent.mkdir()
    fake.write_text("#!/bin/sh\nread line\n")
    fake.chmod(0o755)
    puller = subprocess.Popen([str(fake), "pull", "big"], stdin=subprocess.PIPE, env=stack.environ)
    try:
        found = await stack.healed("compose:app")
    finally:
        puller.communicate(b"\n")
    assert (found.result, stack.commands) == (RepairResult.LEFT, [])
    assert f"somebody runs `docker pull` (process {puller.pid})" in found.cause


async def test_a_backup_is_not_disturbed(stack: Stack):
    """While a backup is made nothing of the project is touched."""
    from opskit.backup.catalog import catalog_of

    stack.write({"web": {}})
    with catalog_of(stack.healing.config).lock():
        found = await stack.healed("compose:app")
    assert (found.result, found.cause.rpartition(": ")[2]) == (
        RepairResult.LEFT,
        "a backup is being made or restored",
    )


async def test_compose_2_is_told_never_to_pull(box: Engine, tmp_path: Path):
    """With the plug-in its own forms are used: JSON is read, and `up` pulls nothing."""
    with cleaned(Stack(box, tmp_path / box.name("p"), version=2)) as stack:
        stack.write({"web": {}, "db": {}})
        stack.compose("up", "-d")
        stack.docker("kill", stack.container("web").name)
        await stack.until("web", ended)
        found = await stack.healed("compose:app")
        assert found.result is RepairResult.REPAIRED, found
        up = "up -d --no-recreate --no-build --pull never --no-deps web"
        assert stack.commands == [f"docker compose -f {stack.file} {up}"]
