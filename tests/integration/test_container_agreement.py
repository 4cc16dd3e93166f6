"""The real commands say the same of every container that a real Docker can show."""

import time
from collections.abc import Callable, Iterator, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from tests.parts.compose_stack import aged
from tests.parts.composed import WAIT, Composed, composed
from tests.parts.docker import IMAGE, LABEL, Engine
from tests.parts.verdicts import Commands

LIMIT_S = 60.0
#: A crash is known as one without Docker's events once the time that people are given is over.
LONG_AGO = {"startup_grace_s": 3600, "hands_off_s": 0.1}
#: What a person stopped is theirs, and no failing check is excused by its age.
JUST_NOW = {"startup_grace_s": 0.1, "hands_off_s": 3600}


#: Ends three times, and then stays.
THREE_TIMES = "[ -e /3 ] && exec sleep 1000; [ -e /2 ] && touch /3; [ -e /1 ] && touch /2; touch /1; exit 1"


def check(command: str, **more: Any) -> dict[str, Any]:
    return {"test": ["CMD-SHELL", command], "interval": "1s", "timeout": "5s", "retries": 1, **more}


#: What each service is, and what every command must call its container.
SERVICES: Mapping[str, tuple[dict[str, Any], str]] = {
    "runs": ({}, "well"),
    "healthy": ({"healthcheck": check("true")}, "well"),
    "starting": ({"healthcheck": check("true", interval="900s")}, "waiting"),
    "young": ({"healthcheck": check("echo no disk; exit 1")}, "waiting"),
    "unchecked": ({"healthcheck": check("curl -f http://localhost || exit 1")}, "unchecked"),
    "slow": ({"healthcheck": {**check("sleep 9"), "timeout": "1s"}}, "waiting"),
    "job": ({"script": "exit 0"}, "well"),
    "retried": ({"script": "exit 0", "restart": "on-failure"}, "well"),
    "failed": ({"script": "exit 3"}, "sick"),
    "interrupted": ({"script": "exit 130"}, "sick"),
    "terminated": ({"script": "exit 143"}, "sick"),
    "checked": ({"script": "exit 0", "healthcheck": check("true")}, "sick"),
    "gave-up": ({"script": "exit 1", "restart": "on-failure:2"}, "sick"),
    "loop": ({"script": "exit 3", "restart": "always"}, "sick"),
    "killed": ({}, "sick"),
    "paused": ({}, "left"),
    "never": ({}, "sick"),
    "forbidden": ({"script": "exit 3", "labels": {"opskit.action": "none"}}, "left"),
    "owner": ({}, "well"),
    "sharer": ({"network_mode": "service:owner"}, "sick"),
    "settled": ({"script": THREE_TIMES, "restart": "always"}, "well"),
}


def settled(found: dict[str, Any]) -> bool:
    """Tell whether three restarts are over, and the container has run for longer than a loop lets it."""
    began = datetime.fromisoformat(found["State"]["StartedAt"])
    runs_s = (datetime.now(UTC) - began).total_seconds()
    return found["RestartCount"] == 3 and found["State"]["Running"] and runs_s > 10.0


def made(project: Composed) -> None:
    """Create every service, and start all but the one that is never started."""
    project.write(
        {
            name: {
                "image": IMAGE,
                "network_mode": "none",
                **{key: value for key, value in about.items() if key != "script"},
                "labels": {LABEL: project.box.mark, **about.get("labels", {})},
                "command": ["sh", "-c", about.get("script", WAIT).replace("$", "$$")],
            }
            for name, (about, _) in SERVICES.items()
        }
    )
    aged(project.file)
    aged(project.folder)
    project.compose("up", "-d", *(name for name in SERVICES if name != "never"))
    project.compose("up", "--no-start", "never")


class Inspected:
    """Documents of a project's containers, waited for."""

    def __init__(self, project: Composed) -> None:
        self.client = project.box.client
        self.names = {service: f"{project.project}_{service}_1" for service in SERVICES}

    def until(self, service: str, true: Callable[[dict[str, Any]], bool]) -> None:
        deadline = time.monotonic() + LIMIT_S
        while not true(found := self.client.api.inspect_container(self.names[service])):
            assert time.monotonic() < deadline, (service, found["State"])
            time.sleep(0.05)

    def healthy(self, service: str, word: str) -> None:
        self.until(service, lambda found: found["State"]["Health"]["Status"] == word)

    def ended(self, service: str) -> None:
        self.until(service, lambda found: found["State"]["Status"] == "exited")


@pytest.fixture
def project(box: Engine, tmp_path: Path) -> Iterator[Composed]:
    with composed(box, tmp_path) as made_:
        yield made_


def test_every_command_says_the_same_of_every_container(box: Engine, project: Composed):
    """All states that a daemon shows at will, and a stop by hand within the time that people are given."""
    made(project)
    seen = Inspected(project)
    client = box.client.containers
    seen.healthy("healthy", "healthy")
    client.get(seen.names["killed"]).kill()
    client.get(seen.names["paused"]).pause()
    client.get(seen.names["owner"]).restart(timeout=0)
    for service in ("job", "retried", "failed", "interrupted", "terminated", "checked", "gave-up", "killed"):
        seen.ended(service)
    for service in ("young", "unchecked", "slow"):
        seen.healthy(service, "unhealthy")
    seen.until("loop", lambda found: found["RestartCount"] >= 3)
    seen.until("settled", settled)
    commands = Commands(project.home, box.environment, project.file, tuple(seen.names.values()), LONG_AGO)
    wanted = {service: condition for service, (_, condition) in SERVICES.items()}
    assert not disagreements(commands, seen, wanted)

    client.get(seen.names["runs"]).stop(timeout=5)
    wanted = {"runs": "left", "young": "sick", "slow": "sick", "unchecked": "unchecked", "healthy": "well"}
    names = tuple(seen.names[service] for service in wanted)
    commands = Commands(project.home, box.environment, project.file, names, JUST_NOW)
    assert not disagreements(commands, seen, wanted)
    (cause,) = commands.doctor()[seen.names["runs"]]
    assert (cause["status"], cause["fix"]) == ("warn", None)


def disagreements(
    commands: Commands, seen: Inspected, wanted: Mapping[str, str]
) -> dict[str, dict[str, str]]:
    """What each command says of the services of which not all say what is wanted."""
    told = commands.conditions()
    said = {service: {by: found[seen.names[service]] for by, found in told.items()} for service in wanted}
    return {service: by for service, by in said.items() if set(by.values()) != {wanted[service]}}
