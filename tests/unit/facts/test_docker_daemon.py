"""Where Docker is looked for, by files and variables alone."""

import json
import os
from pathlib import Path

import pytest

from opskit.errors import OpskitError
from opskit.facts.docker_daemon import DockerAddress, DockerDaemon, docker_address


@pytest.fixture(autouse=True)
def _hermetic(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """The contexts of whoever runs the tests are not asked."""
    monkeypatch.setenv("DOCKER_CONFIG", str(tmp_path / ".docker"))


def test_a_chosen_address_is_used_and_its_socket_looked_at(tmp_path: Path):
    """DOCKER_HOST decides; a socket that is not there is no daemon."""
    address = docker_address({"HOME": str(tmp_path), "DOCKER_HOST": f"unix://{tmp_path}/x.sock", "PATH": ""})
    assert (address.chosen_by, address.socket, address.socket_exists) == (
        "DOCKER_HOST",
        f"{tmp_path}/x.sock",
        False,
    )
    assert not address.is_unused


def test_docker_elsewhere_is_used():
    """An address on another machine has no socket here, and may answer."""
    address = docker_address({"DOCKER_HOST": "tcp://10.0.0.9:2375", "PATH": ""})
    assert address.socket is None
    assert address.is_here


@pytest.mark.parametrize("named_by", ["variable", "file"])
def test_a_context_that_is_not_there_is_told(tmp_path: Path, named_by: str):
    """The SDK takes the default one for a name that it does not know; here that is a problem."""
    folder = tmp_path / ".docker"
    folder.mkdir()
    environ = {"HOME": str(tmp_path), "PATH": ""}
    if named_by == "variable":
        environ["DOCKER_CONTEXT"] = "nobody"
    else:
        (folder / "config.json").write_text(json.dumps({"currentContext": "nobody"}))
    assert "nobody" in docker_address(environ).problem


def test_no_program_and_no_socket_is_a_docker_that_nobody_uses(tmp_path: Path):
    """Then its absence is no news; a program alone makes it news."""
    address = DockerAddress(socket=f"{tmp_path}/docker.sock")
    assert address.is_unused
    assert not address.is_here
    assert not DockerAddress(socket=address.socket, has_program=True).is_unused


@pytest.mark.parametrize(
    ("reason", "absent", "silent", "refused"),
    [
        (ConnectionRefusedError(111, os.strerror(111)), True, False, False),
        (TimeoutError(), False, True, False),
        (PermissionError(13, os.strerror(13)), False, False, True),
    ],
)
def test_why_a_daemon_does_not_answer_is_told_by_type(reason, absent: bool, silent: bool, refused: bool):
    """Nobody listens, it is silent, or it may not be asked: by the failed call, not by its words."""
    error = OpskitError("DOCKER_001", "")
    error.__cause__ = reason
    daemon = DockerDaemon(address=DockerAddress(), error=error)
    assert (daemon.is_absent, daemon.is_silent, daemon.is_refused) == (absent, silent, refused)
    assert not daemon.answers
