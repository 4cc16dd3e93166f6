"""Each service and container has a budget of its own, on a real daemon and a clock that the test turns."""

import os
import socket
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from opskit.recovery.outcome import RecoveryRun, RepairResult
from tests.parts.compose_stack import WAIT, Stack, cleaned, ended, health, steps
from tests.parts.docker import Engine
from tests.parts.healing import outcome

CHECK = {"test": ["CMD", "test", "!", "-e", "/ill"], "interval": "100ms", "retries": 1, "timeout": "5s"}
CRASHES = {"script": "exit 1"}
#: A short look after a repair, and one repair in a row before it is given up.
RULES = {"step_s": 2.5, "max_repairs": 1, "backoff_s": 10.0}


@pytest.fixture
def stack(box: Engine, tmp_path: Path) -> Iterator[Stack]:
    with cleaned(Stack(box, tmp_path / box.name("p").replace("-", ""))) as made:
        yield made


class Clock:
    """Seconds since the epoch, ahead of the machine's by what the test lets pass."""

    def __init__(self) -> None:
        self.ahead_s = 0.0

    def __call__(self) -> float:
        return time.time() + self.ahead_s


async def killed(stack: Stack, *services: str) -> None:
    for service in services:
        stack.docker("kill", stack.container(service).name)
        await stack.until(service, ended)


def levels(stack: Stack) -> list[tuple[str, str]]:
    return [(notice.target, notice.level.value) for notice in stack.healing.notices]


async def given_up(stack: Stack) -> RecoveryRun:
    """Run every five minutes until the crashing service is given up."""
    stack.healing.clock = clock = Clock()
    for _ in range(2):
        run = await stack.heal(**RULES)
        if any(found.result is RepairResult.GAVE_UP for found in run.outcomes):
            return run
        clock.ahead_s += 300.0
    raise AssertionError(run.outcomes)


async def test_a_crash_looper_that_was_given_up_keeps_no_other_service_down(stack: Stack):
    """The circuit is that of the service: its sibling is started in the very run after it fell."""
    stack.write({"crash": CRASHES, "good": {}})
    stack.compose("up", "-d")
    await stack.until("crash", ended)
    run = await given_up(stack)
    assert outcome(run, "compose:app/crash").result is RepairResult.GAVE_UP
    assert run.exit() == 5
    assert levels(stack).count(("compose:app/crash", "critical")) == 1
    await killed(stack, "good")
    run = await stack.heal(**RULES)
    assert outcome(run, "compose:app").result is RepairResult.REPAIRED, outcome(run, "compose:app")
    assert stack.container("good").status == "running"
    assert run.exit() == 5
    assert stack.commands[-1].endswith("--no-deps good")


async def test_services_that_were_repaired_once_each_open_no_circuit(stack: Stack):
    """Repairs that helped are no row, and others' are none of its own: the last is started like the first."""
    names = ["s0", "s1"]
    stack.write({name: {} for name in names})
    stack.compose("up", "-d")
    for name in names:
        await killed(stack, name)
        found = await stack.healed("compose:app", **RULES)
        assert found.result is RepairResult.REPAIRED, found
    assert {level for _, level in levels(stack)} == {"repaired"}


async def test_a_service_that_fails_beside_one_that_is_well_is_counted_alone(stack: Stack):
    """After one `up` of both, the one that stays is started again at once when it falls, the other waits."""
    stack.write({"crash": {"entrypoint": ["/nowhere"]}, "good": {}})
    stack.compose("up", "--no-start")
    rules = {**RULES, "max_repairs": 2, "backoff_s": 250.0}
    stack.healing.clock = clock = Clock()
    run = await stack.heal(**rules)
    assert outcome(run, "compose:app").result is RepairResult.FAILED, outcome(run, "compose:app")
    await killed(stack, "good")
    clock.ahead_s += 1.0
    run = await stack.heal(**rules)
    assert outcome(run, "compose:app").result is RepairResult.REPAIRED, outcome(run, "compose:app")
    assert outcome(run, "compose:app/crash").result is RepairResult.NOT_YET


async def test_what_is_unhealthy_after_its_start_was_not_repaired(stack: Stack):
    """A missing service is created, its check fails beyond its grace: the run says so, and exits 1."""
    stack.write({"sick": {"healthcheck": CHECK, "script": f"touch /ill; {WAIT}"}, "good": {}})
    stack.compose("up", "-d", "good")
    run = await stack.heal(startup_grace_s=1.0, step_s=4.0, hands_off_s=0.001)
    found = outcome(run, "compose:app")
    assert found.result is RepairResult.FAILED, found
    assert "its health check fails" in found.cause
    assert run.exit() == 1
    assert "repaired" not in {level for _, level in levels(stack)}


async def test_a_command_that_was_sent_is_told_although_the_run_ended_before_its_effect(stack: Stack):
    """Its target is listed once, with the command, and the run counts it."""
    slow = "trap 'sleep 20' TERM; while :; do sleep 1; done"
    stack.write({"web": {"healthcheck": CHECK, "stop_grace_period": "15s", "script": slow}})
    stack.compose("up", "-d")
    name = stack.container("web").name
    stack.docker("exec", name, "touch", "/ill")
    await stack.until("web", health("unhealthy"))
    stack.healing.config = stack.config()
    run = await stack.healing.run(steps, budget_s=8.0)
    targets = [found.target for found in run.outcomes]
    assert len(targets) == len(set(targets)), targets
    found = outcome(run, f"container:{name}")
    assert found.result is RepairResult.INCONCLUSIVE, found
    assert [done.command.shown for done in found.ran] == [f"docker restart {name}"]
    assert f"before the effect of `docker restart {name}` was seen" in found.cause
    assert run.mutations == 1


async def test_a_service_whose_port_somebody_else_has_is_not_started_in_vain(stack: Stack):
    """Who has the port is named, no repair of the service is counted, and its neighbour is started."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        web = {"networks": ["own"], "ports": [f"127.0.0.1:{port}:80"]}
        stack.write({"web": web, "db": {}}, networks={"own": {}})
        with pytest.raises(subprocess.CalledProcessError):
            stack.compose("up", "-d", "web")
        found = await stack.healed("compose:app", hands_off_s=0.001)
    assert f"port {port} is used by process {os.getpid()}" in found.cause
    remedy = f"end what uses the port (`kill {os.getpid()}`), or give web another one in the Compose file"
    assert found.remedy == remedy
    assert "compose:app/web" not in stack.healing.memory.targets
    assert stack.container("db").status == "running"
