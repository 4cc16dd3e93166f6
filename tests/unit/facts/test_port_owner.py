"""Who listens on a port of this machine."""

import os
import socket
from pathlib import Path

import pytest

from opskit.config.schema import Config
from opskit.facts.port_owner import PortFacts, PortOwner, read_port
from opskit.facts.survey import Survey
from opskit.system.services import Service


def survey(folder: Path) -> Survey:
    environ = {"DOCKER_HOST": f"unix://{folder}/none.sock", "PATH": os.environ["PATH"]}
    return Survey(Config(str(folder), (), ()), environ, state_folder=folder, cwd=folder)


async def test_a_port_that_this_process_holds(tmp_path: Path):
    """Its owner is known by its process; the variables of opskit itself are not told as a server's."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        async with survey(tmp_path) as reading:
            facts = await reading.get(read_port, "tcp", port)
    owner = facts.loopback_owner
    assert owner is not None
    assert (owner.pid, owner.address, owner.is_ours, owner.is_public) == (
        os.getpid(),
        "127.0.0.1",
        True,
        False,
    )
    assert owner.process is not None
    assert f"process {os.getpid()} ({owner.process.name})" in owner.words
    assert owner.environment is None


async def test_a_port_is_read_again_when_it_is_asked_for_anew(tmp_path: Path):
    """The table of sockets under a fresh fact is as fresh as the fact."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        async with survey(tmp_path) as reading:
            assert (await reading.get(read_port, "tcp", port)).owners
            server.close()
            assert (await reading.get(read_port, "tcp", port)).owners
            assert (await reading.get(read_port, "tcp", port, not_before=float("inf"))).owner is None


@pytest.mark.parametrize(
    "facts, is_told",
    [
        (PortFacts(port=1), False),
        (PortFacts(port=1, complete=False), False),
        (PortFacts(port=1, complete=False, listening=None), True),
        (PortFacts(port=1, complete=False, listening=True), True),
        (PortFacts(port=1, owners=(PortOwner(port=1, address="192.168.1.5"),), listening=True), False),
    ],
)
def test_whether_somebody_answers_at_the_loopback_address(facts: PortFacts, is_told: bool):
    """Sockets that are hidden may be anybody's; those of another address of the machine are not."""
    assert (facts.loopback_owner is not None) is is_told


def test_an_owner_is_named_by_what_keeps_it():
    """A container is named before its process, and its id only where it has no name."""
    assert PortOwner(port=1).words == "a process that this user may not see"
    assert PortOwner(port=1, pid=7).words == "process 7"
    assert PortOwner(port=1, pid=7, container="f" * 64).words == "container ffffffffffff"
    web = PortOwner(port=1, pid=7, container="web", service=Service("container", "web", "system"))
    assert web.words == "container web"
