"""Faults of a whole project on a real daemon, with Compose 1 and 2: networks, reboots, shared networks."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from opskit.recovery.outcome import RepairResult
from tests.parts.compose_stack import LONG_AGO, WAIT, Stack, cleaned, ended, running
from tests.parts.docker import Engine
from tests.parts.healing import outcome

#: Ends with 0 when it is told to, as a server of any kind may.
SERVER = "trap 'exit 0' TERM; while :; do sleep 1000 & wait $!; done"


@pytest.fixture(params=[1, 2], ids=["compose-1", "compose-2"])
def stack(request: pytest.FixtureRequest, box: Engine, tmp_path: Path) -> Iterator[Stack]:
    made = Stack(box, tmp_path / box.name("p").replace("-", ""), version=request.param)
    with cleaned(made):
        yield made


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
