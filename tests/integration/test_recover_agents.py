"""The steps of agents on real containers: an HTTP server of busybox that says what Victoria says."""

import json
import socket
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.request import urlopen

import pytest

from opskit.config.schema import AgentConfig
from opskit.records import replace
from opskit.recovery.outcome import RepairResult
from opskit.recovery.steps.servers import agents
from tests.parts.command import Result as Ended
from tests.parts.command import opskit
from tests.parts.docker import IMAGE, LABEL, Engine
from tests.parts.healing import Healing, configured, machine, outcome, written
from tests.parts.server_process import free_port

#: Counts its starts; Enhanced is on from the start given as FROM.
VICTORIA = """n=$(cat /n 2>/dev/null || echo 0); n=$((n+1)); echo $n > /n; mkdir -p /www
on=false; [ $n -ge {since} ] && on=true
levels='"agent": true, "initiative": true, "enhanced": '$on
echo '{{"status": "online", "victoria_levels": {{'$levels'}}}}' > /www/status
exec httpd -f -p 127.0.0.1:{port} -h /www"""
#: Its status page is a pipe that nobody writes into.
SILENT = """mkdir /www; mkfifo /www/status; (while :; do :; done) &
exec httpd -f -p 127.0.0.1:{port} -h /www"""
Made = Callable[..., Any]


@pytest.fixture
def victoria(box: Engine) -> Made:
    """A container on the host's network, as `victoria-agent` is behind a published port."""

    def made(port: int, script: str = VICTORIA, *, since: int = 1, **options: Any) -> Any:
        labels = {LABEL: box.mark, **options.pop("labels", {})}
        container = box.client.containers.create(
            IMAGE,
            ["sh", "-c", script.format(port=port, since=since)],
            name=box.name("victoria"),
            labels=labels,
            network_mode="host",
            stop_signal="SIGKILL",
            **options,
        )
        container.start()
        return container

    return made


def healing(
    tmp_path: Path, box: Engine, port: int, *containers: str, explicit: bool = True, **recovery: Any
) -> Healing:
    url = f"http://127.0.0.1:{port}"
    content = {"stack": {"containers": {"victoria": list(containers)}}, "recovery": recovery}
    config = configured(tmp_path / "home", content)
    config = replace(config, nodes=(), agents=(AgentConfig("victoria", url, explicit=explicit),))
    return Healing(tmp_path / "state", config, machine(tmp_path / "home", box.environment))


def answers(port: int) -> None:
    """Wait until its status page is there."""
    _until(lambda: urlopen(f"http://127.0.0.1:{port}/status", timeout=5).close())


def connected(port: int) -> None:
    """Wait until it listens."""
    _until(lambda: socket.create_connection(("127.0.0.1", port), 5).close())


def _until(attempt: Callable[[], None]) -> None:
    limit = time.monotonic() + 20
    while True:
        try:
            return attempt()
        except OSError:
            if time.monotonic() > limit:
                raise
            time.sleep(0.01)


async def test_a_level_that_should_be_on_is_brought_back_by_a_restart(
    box: Engine, victoria: Made, tmp_path: Path
):
    """Enhanced is off although the container was told to switch it on: restarted once, then left alone."""
    port = free_port()
    made = victoria(port, since=2, environment={"USE_VICTORIA_ENHANCED": "true"})
    answers(port)
    it = healing(tmp_path, box, port, made.name)
    first = await it.run(agents)
    seen = outcome(first, "victoria")
    assert seen.result is RepairResult.REPAIRED, seen
    assert [one.command.shown for one in seen.ran] == [f"docker restart {made.name}"]
    assert "enhanced" in seen.cause
    second = await it.run(agents)
    assert (outcome(second, "victoria").result, second.mutations) == (RepairResult.OK, 0)


async def test_a_level_that_nobody_switched_on_is_well(box: Engine, victoria: Made, tmp_path: Path):
    """Without its variable a level may be off."""
    port = free_port()
    made = victoria(port, since=9)
    answers(port)
    run = await healing(tmp_path, box, port, made.name).run(agents)
    assert (outcome(run, "victoria").result, run.mutations) == (RepairResult.OK, 0)


async def test_a_container_that_crashed_is_started(box: Engine, victoria: Made, tmp_path: Path):
    """`docker kill` is a crash, not a person's stop."""
    port = free_port()
    made = victoria(port)
    answers(port)
    made.kill()
    made.wait()
    run = await healing(tmp_path, box, port, made.name).run(agents)
    seen = outcome(run, "victoria")
    assert seen.result is RepairResult.REPAIRED, seen
    assert [one.command.shown for one in seen.ran] == [f"docker start {made.name}"]


@pytest.mark.parametrize(("words", "result"), [
    ("compose -p other up -d", RepairResult.REPAIRED),
    ("pull big", RepairResult.LEFT),
])  # fmt: skip
async def test_somebodys_work_on_another_project_keeps_no_container_down(
    words: str, result: RepairResult, box: Engine, victoria: Made, tmp_path: Path
):
    """A pull may be for any container, `compose up` is for those of its project."""
    port = free_port()
    made = victoria(port)
    answers(port)
    made.kill()
    made.wait()
    fake = tmp_path / "bin" / "docker"
    fake.parent.mkdir()
    fake.write_text("#!/bin/sh\nread line\n")
    fake.chmod(0o755)
    worker = subprocess.Popen([str(fake), *words.split()], stdin=subprocess.PIPE, env=box.environment)
    try:
        run = await healing(tmp_path, box, port, made.name).run(agents)
    finally:
        worker.communicate(b"\n")
    assert outcome(run, "victoria").result is result, outcome(run, "victoria")


async def test_a_container_stopped_by_hand_is_left(box: Engine, victoria: Made, tmp_path: Path):
    """`docker stop` a moment ago: people win, and the cause says until when."""
    port = free_port()
    made = victoria(port)
    answers(port)
    made.stop(timeout=1)
    run = await healing(tmp_path, box, port, made.name).run(agents)
    seen = outcome(run, "victoria")
    assert (seen.result, run.mutations) == (RepairResult.LEFT, 0), seen
    assert "somebody stopped it" in seen.cause


async def test_a_container_stopped_by_hand_long_ago_is_started(box: Engine, victoria: Made, tmp_path: Path):
    """Hands are off for a while, not for ever."""
    port = free_port()
    made = victoria(port)
    answers(port)
    made.stop(timeout=1)
    run = await healing(tmp_path, box, port, made.name, hands_off_s=0.0).run(agents)
    assert outcome(run, "victoria").result is RepairResult.REPAIRED


async def test_a_paused_container_is_left(box: Engine, victoria: Made, tmp_path: Path):
    """`docker pause` is somebody's doing; to Docker's own rules it is no crash."""
    port = free_port()
    made = victoria(port)
    answers(port)
    made.pause()
    run = await healing(tmp_path, box, port, made.name).run(agents)
    made.unpause()
    assert (outcome(run, "victoria").result, run.mutations) == (RepairResult.LEFT, 0)


async def test_a_label_forbids_repairs(box: Engine, victoria: Made, tmp_path: Path):
    """`opskit.action=none` on the container is obeyed."""
    port = free_port()
    made = victoria(port, labels={"opskit.action": "none"})
    answers(port)
    made.kill()
    made.wait()
    run = await healing(tmp_path, box, port, made.name).run(agents)
    assert (outcome(run, "victoria").result, run.mutations) == (RepairResult.LEFT, 0)


async def test_a_container_of_compose_is_left_to_its_step(box: Engine, victoria: Made, tmp_path: Path):
    """Two steps must not start one container: that of Compose does, and counts its repairs."""
    port = free_port()
    made = victoria(port, labels={"com.docker.compose.project": "knowledge-os"})
    answers(port)
    made.kill()
    made.wait()
    run = await healing(tmp_path, box, port, made.name).run(agents)
    assert (outcome(run, "victoria").result, run.mutations) == (RepairResult.MANUAL, 0)
    assert "Compose starts it" in outcome(run, "victoria").cause


async def test_a_silent_container_that_works_is_busy(box: Engine, victoria: Made, tmp_path: Path):
    """It accepts, answers nothing and uses a core: busy, and not restarted."""
    port = free_port()
    made = victoria(port, SILENT)
    connected(port)
    it = healing(tmp_path, box, port, made.name)
    run = await it.run(agents)
    assert (outcome(run, "victoria").result, outcome(run, "victoria").state) == (RepairResult.WAITING, "busy")


async def test_a_container_that_is_missing_is_told(box: Engine, tmp_path: Path):
    """To make it is the business of Compose."""
    run = await healing(tmp_path, box, 9, "no-such-container").run(agents)
    assert outcome(run, "victoria").result is RepairResult.MANUAL
    assert "container no-such-container does not exist" in outcome(run, "victoria").cause


async def test_a_container_that_nobody_named_is_not_missed(box: Engine, tmp_path: Path):
    """`victoria-agent` is only what it is usually called: no project of the stack would make it."""
    run = await healing(tmp_path, box, 9, "victoria-agent").run(agents)
    seen = outcome(run, "victoria")
    assert (seen.result, "victoria-agent" in seen.cause) == (RepairResult.MANUAL, False)
    assert "stack.start.victoria" in (seen.remedy or "")


async def test_an_agent_of_another_stack_is_absent(box: Engine, tmp_path: Path):
    """Only opskit's default address, no container: this machine has no Victoria."""
    run = await healing(tmp_path, box, 9, "no-such-container", explicit=False).run(agents)
    assert outcome(run, "victoria").result is RepairResult.ABSENT


async def test_docker_down_is_the_cause(tmp_path: Path, box: Engine):
    """The agent lives in a container and Docker does not answer: that is said, and nothing is tried."""
    it = healing(tmp_path, box, 9, "victoria-agent")
    it.environ["DOCKER_HOST"] = f"unix://{tmp_path}/no.sock"
    run = await it.run(agents)
    seen = outcome(run, "victoria")
    assert (seen.result, run.mutations) == (RepairResult.INCONCLUSIVE, 0)
    assert "no Docker daemon answers" in seen.cause


def levels(tmp_path: Path, box: Engine, port: int, container: str, *more: str) -> Ended:
    config = written(tmp_path / "home", {"stack": {"containers": {"victoria": [container]}},
                                         "recovery": {"startup_grace_s": 0.01}})  # fmt: skip
    env = {**box.environment, "VICTORIA_URL": f"http://127.0.0.1:{port}"}
    return opskit("recover", "levels", *more, "--config", str(config), home=tmp_path / "home", env=env)


def test_levels_are_shown_and_brought_back(box: Engine, victoria: Made, tmp_path: Path):
    """A level that is off is off, whatever the container was told: one restart, then it is on."""
    port = free_port()
    made = victoria(port, since=2)
    answers(port)
    dry = levels(tmp_path, box, port, made.name, "--dry-run")
    assert dry.status == 1, dry
    assert f"would run `docker restart {made.name}`" in dry.out
    done = levels(tmp_path, box, port, made.name, "--json")
    assert done.status == 0, done
    assert done.document["levels"] == {
        "before": {"agent": True, "enhanced": False, "initiative": True},
        "now": {"agent": True, "enhanced": True, "initiative": True},
    }
    again = levels(tmp_path, box, port, made.name, "--json")
    assert (again.status, again.document["mutations"]) == (0, 0)


def test_levels_obey_a_pause(box: Engine, victoria: Made, tmp_path: Path):
    """What a person paused is not restarted, and an exit status of 0 would say that the level is on."""
    port = free_port()
    made = victoria(port, since=9)
    answers(port)
    state = tmp_path / "home" / "state" / "opskit"
    state.mkdir(parents=True)
    (state / "pauses.json").write_text(json.dumps({"victoria": {"since": 1.0, "until": None}}))
    done = levels(tmp_path, box, port, made.name, "--json")
    assert (done.status, done.document["mutations"]) == (1, 0), done
    assert done.document["findings"][0]["evidence"]["result"] == "paused"


def test_levels_that_nobody_tells_are_not_on(tmp_path: Path):
    """Victoria does not answer: nothing is known of her levels, which is exit 1 or 3, never 0."""
    env = {"VICTORIA_URL": "http://192.0.2.1:8010", "DOCKER_HOST": f"unix://{tmp_path}/no.sock"}
    done = opskit("recover", "levels", "--json", home=tmp_path / "home", env=env)
    assert done.status == 3, done
    assert done.document["levels"]["now"] is None


def test_levels_without_victoria_are_refused(tmp_path: Path):
    """There is nothing to look at: usage error, with what to set."""
    done = opskit("recover", "levels", home=tmp_path / "home")
    assert done.status == 2, done
    assert "VICTORIA_URL" in done.err
