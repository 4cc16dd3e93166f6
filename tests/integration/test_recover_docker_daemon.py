"""The Docker daemon through the real healer, behind a socket that refuses, hangs, or is slow."""

import asyncio
import os
import shutil
import tempfile
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import pytest

from opskit.records import replace
from opskit.recovery.outcome import Outcome, RepairResult
from opskit.recovery.step import RecoveryContext, Step
from opskit.recovery.steps.docker_daemon import KILLED, RESTARTED, docker_daemon
from opskit.system.docker import Docker
from opskit.system.docker_runtime import Machine
from tests.parts.docker import Cutter, Engine
from tests.parts.healing import Healing, configured, machine, outcome

QUICK_S = 0.3


@dataclass
class Impatient(Healing):
    """A client of Docker that waits no longer than a test likes to."""

    @asynccontextmanager
    async def context(self) -> AsyncIterator[RecoveryContext]:
        async with super().context() as context, Docker(self.environ, timeout_s=QUICK_S) as docker:
            yield replace(context, docker=docker)


@dataclass
class Place:
    """A home whose Docker socket leads to the real daemon through a cutter, and programs on its PATH."""

    home: Path
    healing: Healing
    patience_s: float = QUICK_S
    cutter: Cutter | None = None

    @property
    def tools(self) -> Path:
        return self.home / "bin"

    async def leads(self, socket: str, box: Engine) -> Cutter:
        path = self.home / socket
        path.parent.mkdir(parents=True)
        self.cutter = Cutter(box.socket, path)
        await self.cutter.listen()
        self.healing.environ["DOCKER_HOST"] = f"unix://{path}"
        return self.cutter

    def program(self, name: str, script: str = "") -> None:
        """A program that writes its arguments down, then does `script`."""
        path = self.tools / name
        path.write_text(f'#!/bin/sh\necho "{name} $*" >> {self.home}/calls\n{script}\n')
        path.chmod(0o755)

    @property
    def calls(self) -> list[str]:
        path = self.home / "calls"
        return path.read_text().splitlines() if path.exists() else []

    @property
    def machine(self) -> Machine:
        found = Machine.of(self.healing.platform, self.healing.environ)
        # Neither this machine's applications nor its systemd.
        return replace(found, apps=(self.home / "Applications",), booted=self.home / "systemd")

    def steps(self, context: RecoveryContext) -> list[Step]:
        return [docker_daemon(context, patience_s=self.patience_s, machine=self.machine, administrator=False)]

    async def look(self) -> Outcome:
        return outcome(await self.healing.run(self.steps), "docker")

    async def healed(self, act: Callable[[], object]) -> Outcome:
        """Run the healer; as soon as a program was called, do what it would have done."""

        async def follow() -> None:
            while not self.calls:
                await asyncio.sleep(0.01)
            result = act()
            if asyncio.iscoroutine(result):
                await result

        async with asyncio.timeout(60), asyncio.TaskGroup() as group:
            follower = group.create_task(follow())
            found = await self.look()
            follower.cancel()
        return found


@pytest.fixture
async def place(box: Engine, tmp_path: Path) -> AsyncIterator[Place]:
    # A unix socket's path must be short.
    home = Path(tempfile.mkdtemp(prefix="opskit-home-"))
    (home / "bin").mkdir()
    environ = machine(home, {"PATH": f"{home}/bin:{os.environ['PATH']}"})
    config = configured(tmp_path / "config", {"stack": {"compose": {"app": [str(tmp_path / "no.yml")]}}})
    made = Place(home, Impatient(tmp_path / "state", config, environ))
    yield made
    if made.cutter is not None:
        await made.cutter.aclose()
    shutil.rmtree(home, ignore_errors=True)


async def test_a_daemon_that_answers_is_well(place: Place, box: Engine):
    """Its version is told, and nothing is run."""
    await place.leads("any/docker.sock", box)
    found = await place.look()
    assert (found.result, place.healing.runner.ran) == (RepairResult.OK, [])
    assert found.cause.startswith("Docker 2")


@pytest.mark.parametrize(
    ("platform", "socket", "program", "call"),
    [
        ("darwin", ".colima/default/docker.sock", "colima", "colima start --profile default"),
        ("linux", ".colima/work/docker.sock", "colima", "colima start --profile work"),
        ("darwin", ".orbstack/run/docker.sock", "orb", "orb start"),
        ("darwin", ".docker/run/docker.sock", "open", "open -ga Docker"),
    ],
)
async def test_what_is_down_is_started_by_its_own_program(
    place: Place, box: Engine, platform: str, socket: str, program: str, call: str
):
    """The socket tells which runtime it is; that one is started, and the same look says that it is well."""
    place.healing.platform = platform
    cutter = await place.leads(socket, box)
    place.program(program)
    place.program("docker", "exit 1")
    await cutter.refuse()
    (place.home / "calls").unlink(missing_ok=True)

    async def up() -> None:
        while not any(one.startswith(program) for one in place.calls):
            await asyncio.sleep(0.01)
        await cutter.listen()

    found = await place.healed(up)
    assert found.result is RepairResult.REPAIRED, found
    assert [one.command.shown for one in place.healing.runner.ran] == [call]


async def test_docker_desktop_is_started_by_its_own_command_where_it_has_one(place: Place, box: Engine):
    """`docker desktop start` came with 4.37; without it the application is opened."""
    place.healing.platform = "darwin"
    cutter = await place.leads(".docker/run/docker.sock", box)
    place.program("docker")
    await cutter.refuse()

    async def up() -> None:
        while "docker desktop start --detach" not in place.calls:
            await asyncio.sleep(0.01)
        await cutter.listen()

    found = await place.healed(up)
    assert found.result is RepairResult.REPAIRED, found
    assert place.calls == ["docker desktop version", "docker desktop start --detach"]


async def rootless(place: Place, box: Engine, properties: str) -> Cutter:
    """A user's daemon that is down; `properties` are what systemd shows of it."""
    place.healing.environ["XDG_RUNTIME_DIR"] = str(place.home / "run")
    (place.home / "systemd").mkdir()
    cutter = await place.leads("run/docker.sock", box)
    await cutter.refuse()
    shown = f"case \"$*\" in *show*) printf '{properties}'; exit;; esac"
    place.program("systemctl", f'{shown}\ntouch "{place.home}/started"')
    return cutter


async def test_a_rootless_service_that_failed_is_started_by_systemd(place: Place, box: Engine):
    """A rootless daemon is its user's to start."""
    cutter = await rootless(place, box, "ActiveState=failed\\nResult=exit-code\\n")

    async def up() -> None:
        while not (place.home / "started").exists():
            await asyncio.sleep(0.01)
        await cutter.listen()

    found = await place.healed(up)
    assert found.result is RepairResult.REPAIRED, found
    assert [one.command.shown for one in place.healing.runner.ran] == ["systemctl --user start docker"]


async def test_a_service_that_somebody_stopped_is_left_alone_for_a_while(place: Place, box: Engine):
    """`systemctl stop` wins for `hands_off_s`, as `docker stop` does."""
    at = datetime.now(UTC).strftime("%a %Y-%m-%d %H:%M:%S UTC")
    shown = f"ActiveState=inactive\\nResult=success\\nInactiveEnterTimestamp={at}\\n"
    await rootless(place, box, shown)
    found = await place.look()
    assert (found.result, place.healing.runner.ran) == (RepairResult.LEFT, [])
    assert "somebody stopped docker.service" in found.cause


async def test_a_service_that_systemd_starts_is_waited_for(place: Place, box: Engine):
    """What is on its way is not started twice."""
    await rootless(place, box, "ActiveState=activating\\n")
    found = await place.look()
    assert (found.result, found.state) == (RepairResult.WAITING, "starting")


async def test_a_daemon_that_hangs_is_restarted_once_then_killed_once(place: Place, box: Engine):
    """A socket that accepts and is silent: each rung of the ladder is tried once in its time."""
    place.healing.platform = "darwin"
    cutter = await place.leads(".orbstack/run/docker.sock", box)
    place.program("orb")
    cutter.silent = True
    found = await place.healed(lambda: setattr(cutter, "silent", False))
    assert (found.result, place.calls) == (RepairResult.REPAIRED, ["orb restart docker"])
    assert found.cause.startswith("was hung: Docker at unix://")
    cutter.silent = True
    (place.home / "calls").unlink()
    found = await place.healed(lambda: setattr(cutter, "silent", False))
    assert found.result is RepairResult.REPAIRED, found
    assert place.calls == ["orb stop", "orb start"]
    assert set(place.healing.memory.marks) == {RESTARTED, KILLED}
    cutter.silent = True
    found = await place.look()
    assert found.result is RepairResult.MANUAL
    assert found.remedy == "quit OrbStack and open it again"


async def test_a_hung_daemon_that_only_an_administrator_may_restart_is_told(place: Place, box: Engine):
    """Nothing is run, and the remedy is the command."""
    cutter = await place.leads("any/docker.sock", box)
    cutter.silent = True
    found = await place.look()
    assert (found.result, found.state, place.healing.runner.ran) == (RepairResult.MANUAL, "hung", [])
    assert "service docker restart" in (found.remedy or "")


async def test_a_slow_daemon_is_not_hung(place: Place, box: Engine):
    """One that answers the second, more patient question is slow: waited for, not restarted."""
    cutter = await place.leads(".orbstack/run/docker.sock", box)
    place.patience_s = 30.0
    cutter.silent = True

    async def wakes() -> None:
        while not cutter.connections:
            await asyncio.sleep(0.01)
        cutter.silent = False

    async with asyncio.timeout(60), asyncio.TaskGroup() as group:
        group.create_task(wakes())
        found = await place.look()
    assert (found.result, found.state, place.calls) == (RepairResult.WAITING, "slow", [])


async def test_a_daemon_that_was_just_started_is_waited_for(place: Place, box: Engine):
    """What began less than `startup_grace_s` ago is still starting, however silent."""
    cutter = await place.leads(".orbstack/run/docker.sock", box)
    cutter.silent = True
    rules = replace(place.healing.config.recovery, startup_grace_s=1e9)
    place.healing.config = replace(place.healing.config, recovery=rules)
    found = await place.look()
    assert (found.result, found.state) == (RepairResult.WAITING, "starting")


async def test_a_machine_whose_stack_needs_no_docker_has_no_such_step(place: Place, tmp_path: Path):
    """Docker that is down is absent when nothing of the stack is configured to run in it."""
    place.healing.config = configured(tmp_path / "config", {})
    place.healing.environ["DOCKER_HOST"] = f"unix://{place.home}/nothing.sock"
    found = await place.look()
    assert (found.result, place.healing.runner.ran) == (RepairResult.ABSENT, [])


async def test_a_stack_that_needs_docker_without_docker_is_told(place: Place):
    """Not installed is not down: the remedy is to install it."""
    place.healing.environ["PATH"] = str(place.tools)
    place.healing.environ["DOCKER_HOST"] = f"unix://{place.home}/nothing.sock"
    found = await place.look()
    assert (found.result, found.state) == (RepairResult.MANUAL, "missing")
    assert "install" in (found.remedy or "")


async def test_docker_on_another_machine_is_never_repaired(place: Place):
    """An address that is not this machine's is looked at, and left to whoever is there."""
    place.healing.environ["DOCKER_HOST"] = "ssh://nobody@host.invalid"
    found = await place.look()
    assert (found.result, place.healing.runner.ran) == (RepairResult.MANUAL, [])
    assert "log in to that machine" in (found.remedy or "")


async def test_an_address_that_is_none_is_told(place: Place):
    """A DOCKER_HOST that cannot be used is a matter for a person."""
    place.healing.environ["DOCKER_HOST"] = "ftp://host"
    found = await place.look()
    assert (found.result, place.healing.runner.ran) == (RepairResult.INCONCLUSIVE, [])
    assert "docker context ls" in (found.remedy or "")
