"""What a person did is theirs, also right after a repair and where a real Docker has forgotten it."""

import json
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from opskit.facts.container_events import KEPT_EVENTS
from opskit.recovery import pauses
from opskit.recovery.budget import RepairRecord
from opskit.recovery.memory import load
from opskit.recovery.outcome import RepairResult
from tests.parts.command import Result, opskit
from tests.parts.compose_stack import WAIT, Stack, cleaned, ended, health
from tests.parts.docker import IMAGE, Daemon, Engine, engine_of, own_daemon
from tests.parts.healing import outcome, written

CHECK = {"test": ["CMD", "test", "!", "-e", "/ill"], "interval": "100ms", "retries": 1, "timeout": "5s"}
ENDS_WELL = "trap 'exit 0' TERM; while :; do sleep 0.1; done"


@pytest.fixture
def stack(box: Engine, tmp_path: Path) -> Iterator[Stack]:
    with cleaned(Stack(box, tmp_path / box.name("p").replace("-", ""))) as made:
        yield made


def forgotten(stack: Stack) -> None:
    """Make Docker forget all that happened until now, by the cheapest of its events."""
    name = stack.box.name("noise")
    for _ in range(KEPT_EVENTS):
        stack.box.client.api.tag(IMAGE, name)
    stack.box.client.images.remove(name)


async def test_a_stop_right_after_our_own_repair_is_a_persons(stack: Stack):
    """Our restart has ended: what stops the container from then on is not ours, event or no event."""
    stack.write({"web": {"healthcheck": CHECK, "script": f"rm -f /ill; {WAIT}"}})
    stack.compose("up", "-d")
    name = stack.container("web").name
    await stack.until("web", health("healthy"))
    stack.docker("exec", name, "touch", "/ill")
    await stack.until("web", health("unhealthy"))
    assert (await stack.healed(f"container:{name}")).result is RepairResult.REPAIRED
    stack.docker("stop", name)
    found = await stack.healed(f"container:{name}")
    assert found.result is RepairResult.LEFT, found
    forgotten(stack)
    stack.healing.memory.facts.clear()
    assert (await stack.healed(f"container:{name}")).result is RepairResult.LEFT


async def test_a_crash_that_a_busy_docker_has_forgotten_is_repaired_in_that_run(stack: Stack):
    """SIGKILL and a code of its own are no stop; what somebody stopped beside them stays."""
    stack.write({"killed": {}, "crashed": {"script": "sleep 1; exit 3"}, "stopped": {}})
    stack.compose("up", "-d")
    stack.docker("kill", stack.container("killed").name)
    stack.docker("stop", stack.container("stopped").name)
    for service in ("killed", "crashed", "stopped"):
        await stack.until(service, ended)
    forgotten(stack)
    run = await stack.heal(step_s=0.1)
    assert set(stack.commands[0].partition("--no-deps ")[2].split()) == {"crashed", "killed"}
    assert stack.container("killed").status == "running"
    found = outcome(run, f"container:{stack.container('stopped').name}")
    assert (found.result, stack.container("stopped").status) == (RepairResult.LEFT, "exited")


async def test_a_stop_that_one_run_saw_is_remembered_by_the_next(stack: Stack):
    """The events that a run read are recorded: Docker may forget them, and its own files may be closed."""
    stack.write({"web": {"script": ENDS_WELL, "restart": "always"}, "db": {}})
    stack.compose("up", "-d")
    name = stack.container("web").name
    stack.docker("stop", name)
    assert "somebody stopped it" in (await stack.healed(f"container:{name}")).cause
    forgotten(stack)
    stack.healing.memory.save()
    content = json.loads(stack.healing.memory.path.read_text())
    assert [event[3] for event in content["facts"]["docker events"]["events"] if event[2] == name][
        -1
    ] == "stop"
    found = await stack.healed(f"container:{name}")
    assert found.result is RepairResult.LEFT
    assert "somebody stopped it" in found.cause


@pytest.fixture(scope="module")
def daemon() -> Iterator[tuple[Engine, Daemon]]:
    """A daemon of this module's own, which it may restart."""
    with own_daemon() as running, engine_of(running.host) as engine:
        yield engine, running


async def test_a_restart_of_docker_tells_what_a_person_stopped_from_what_ended_with_it(
    daemon: tuple[Engine, Daemon], tmp_path: Path
):
    """No event is left of either: what somebody stopped stays so, the others are started."""
    engine, running = daemon
    stack = Stack(engine, tmp_path / engine.name("p").replace("-", ""))
    stack.write({name: {"script": ENDS_WELL, "healthcheck": CHECK} for name in ("db", "web", "mail")})
    stack.compose("up", "-d")
    stack.docker("stop", stack.container("db").name)
    running.stop()
    running.start()
    run = await stack.heal()
    assert outcome(run, "compose:app").result is RepairResult.REPAIRED, outcome(run, "compose:app")
    assert [stack.container(name).status for name in ("db", "web", "mail")] == [
        "exited",
        "running",
        "running",
    ]
    found = outcome(run, f"container:{stack.container('db').name}")
    assert found.result is RepairResult.LEFT
    assert "does not remember whether somebody stopped it" in found.cause


async def test_compose_work_on_another_project_holds_up_nothing(stack: Stack, tmp_path: Path):
    """`compose up` of a project elsewhere is no reason to leave this one alone; of this one it is."""
    stack.write({"web": {}})
    stack.compose("up", "--no-start")
    fake = tmp_path / "bin" / "docker-compose"
    fake.parent.mkdir()
    fake.write_text("#!/bin/sh\nread line\n")
    fake.chmod(0o755)
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "docker-compose.yml").write_text("services: {}\n")

    def work(*arguments: str, cwd: Path) -> subprocess.Popen[bytes]:
        command = [str(fake), *arguments, "up", "-d"]
        return subprocess.Popen(command, cwd=cwd, stdin=subprocess.PIPE, env=stack.environ)

    for arguments, cwd in (
        ((), stack.folder),
        (("-f", str(stack.file)), tmp_path),
        (("-p", stack.project), tmp_path),
    ):
        process = work(*arguments, cwd=cwd)
        try:
            found = await stack.healed("compose:app")
        finally:
            process.communicate(b"\n")
        assert found.result is RepairResult.LEFT, (arguments, found)
        assert "somebody runs `docker compose up`" in found.cause
    process = work(cwd=tmp_path / "other")
    try:
        found = await stack.healed("compose:app")
    finally:
        process.communicate(b"\n")
    assert found.result is RepairResult.REPAIRED, found


async def test_a_service_is_paused_by_any_of_its_names(stack: Stack):
    """Its container with and without the kind, and the service within its project."""
    stack.write({"web": {}, "db": {}})
    stack.compose("up", "-d")
    for service in ("web", "db"):
        stack.docker("kill", stack.container(service).name)
        await stack.until(service, ended)
    name, folder = stack.container("web").name, stack.healing.folder
    for paused in (f"container:{name}", "compose:app/web"):
        pauses.write(folder, {paused: pauses.Pause(paused, 0.0)})
        run = await stack.heal()
        assert stack.container("web").status == "exited", (paused, run.outcomes)
    assert stack.container("db").status == "running"


async def test_a_healthy_container_is_paused_as_a_person_types_it(stack: Stack, tmp_path: Path):
    """By the names that Docker shows, without `--force`, also before recovery has ever run."""
    stack.write({"web": {}})
    stack.compose("up", "-d")
    name = stack.container("web").name
    for typed in (name, f"container:{name}", "web"):
        done = opskit("pause", typed, "--for", "1h", home=tmp_path / "home", env=stack.box.environment)
        assert done.status == 0, done.err
    unknown = opskit("pause", f"{name}x", home=tmp_path / "home", env=stack.box.environment)
    assert (unknown.status, f"did you mean container:{name}" in unknown.err) == (2, True)


async def test_what_was_given_up_is_repaired_once_a_person_resets_it(stack: Stack, tmp_path: Path):
    """`resume TARGET --reset` closes the circuits of a project; `recover --now` waits for no hands-off."""
    stack.write({"web": {}})
    stack.compose("up", "-d")
    stack.docker("stop", stack.container("web").name)
    home = tmp_path / "home"
    config = written(tmp_path, {"stack": {"compose": {"app": [str(stack.file)]}, "docker_network": None}})

    def run(*arguments: str) -> Result:
        return opskit(*arguments, "--config", str(config), home=home, env=stack.box.environment)

    left = run("recover", "--only", "compose", "--json")
    assert left.status == 1
    assert left.finding("compose:app")["remedy"].endswith("up -d web` starts it now")
    memory, _ = load(home / "state" / "opskit")
    now = time.time()
    memory.targets["compose:app/web"] = RepairRecord((now - 60,), 5, opened_at=now - 60, tried_at=now - 60)
    memory.save()
    assert run("recover", "--now", "--only", "compose", "--json").status == 5
    closed = run("resume", "app", "--reset", "--json")
    assert (closed.status, closed.document["reset"]) == (0, ["compose:app/web"])
    healed = run("recover", "--now", "--only", "compose", "--json")
    assert healed.finding("compose:app")["evidence"]["result"] == "repaired", healed.out
