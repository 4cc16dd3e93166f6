"""A container that works, whose health check cannot run, through every command on a real daemon."""

import time
from pathlib import Path
from typing import Any

import pytest

from tests.parts.compose_stack import aged
from tests.parts.composed import Composed, composed
from tests.parts.docker import IMAGE, Engine
from tests.parts.verdicts import Commands

LIMIT_S = 30.0
CHECKS = {
    "missing": ["CMD", "curl", "-f", "http://localhost"],
    "hidden": ["CMD-SHELL", "curl -f http://localhost || exit 1"],
    "removed": ["CMD-SHELL", "/check || exit 1"],
    "script": ["CMD", "sh", "/opt/check.sh"],
}
START = "echo '#!/bin/sh' > /check; chmod +x /check; while :; do sleep 1; done"


def until(box: Engine, name: str, health: str) -> dict[str, Any]:
    """Return the container's document once Docker calls it so."""
    deadline = time.monotonic() + LIMIT_S
    while True:
        document = box.client.api.inspect_container(name)
        if document["State"]["Health"]["Status"] == health:
            return document
        assert time.monotonic() < deadline, document["State"]
        time.sleep(0.05)


@pytest.fixture
def project(box: Engine, tmp_path: Path):
    with composed(box, tmp_path) as made:
        yield made


def started(project: Composed) -> tuple[str, ...]:
    """Start a service for each check, and remove the file of one that ran."""
    project.write(
        {
            name: {
                "image": IMAGE,
                "command": ["sh", "-c", START],
                "network_mode": "none",
                "healthcheck": {"test": test, "interval": "500ms", "timeout": "3s", "retries": 1},
            }
            for name, test in CHECKS.items()
        }
    )
    aged(project.file)
    aged(project.folder)
    project.compose("up", "-d")
    names = tuple(f"{project.project}_{name}_1" for name in CHECKS)
    removed = names[list(CHECKS).index("removed")]
    until(project.box, removed, "healthy")
    project.box.client.containers.get(removed).exec_run(["rm", "/check"])
    return names


def test_every_command_calls_it_not_checked_and_nobody_restarts_it(box: Engine, project: Composed):
    """The program and the remedy are told; the container is neither sick nor well, and runs on."""
    names = started(project)
    before = {name: until(box, name, "unhealthy")["State"]["StartedAt"] for name in names}
    commands = Commands(project.home, box.environment, project.file, names, {"startup_grace_s": 1})
    verified, examined, diagnosed = commands.verify(), commands.doctor(), commands.diagnose()
    recovered, watched = commands.recover(), commands.watch()
    for name in names:
        verify, doctor, diagnose = verified[name], examined[name], diagnosed[name]
        recover, watch = recovered[f"container:{name}"], watched[name]
        assert (verify["status"], verify["state"]) == ("inconclusive", "unchecked")
        assert [(cause["id"], cause["status"]) for cause in doctor] == [("health-check-broken", "warn")]
        assert (diagnose["status"], diagnose["state"]) == ("inconclusive", "unchecked")
        assert (recover["status"], recover["state"]) == ("inconclusive", "unchecked")
        assert watch["state"] == "unchecked"
        for said in (verify["remedy"], doctor[0]["remedy"], diagnose["remedy"], recover["remedy"]):
            assert "healthcheck" in said
    assert {name: until(box, name, "unhealthy")["State"]["StartedAt"] for name in names} == before
