"""A watch beside a real Docker: containers that die, restart and turn unhealthy, and their logs."""

import json
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.parts.command import opskit, started


@pytest.fixture
def home(tmp_path: Path) -> Path:
    path = tmp_path / "home"
    path.mkdir()
    return path


def configured(home: Path, *containers: str) -> None:
    (home / "opskit.yaml").write_text(f"stack: {{containers: {{victoria: {json.dumps(containers)}}}}}\n")


class Watching:
    def __init__(self, process: subprocess.Popen[str]) -> None:
        self.process = process
        self.seen: list[dict[str, Any]] = []

    def until(self, event: str, **fields: Any) -> dict[str, Any]:
        assert self.process.stdout is not None
        while line := self.process.stdout.readline():
            self.seen.append(json.loads(line))
            one = self.seen[-1]
            if one["event"] == event and all(one.get(key) == value for key, value in fields.items()):
                return one
        raise AssertionError(f"it ended without {event} {fields}: {self.seen}")


@pytest.fixture
def watch(box, home: Path) -> Iterator[Any]:
    running: list[subprocess.Popen[str]] = []

    def start(*arguments: str) -> Watching:
        process = started(["watch", "--every", "500ms", *arguments], home=home, env=box.environment)
        running.append(process)
        found = Watching(process)
        found.until("state", kind="docker", to="ok")
        return found

    yield start
    for process in running:
        process.kill()
        process.communicate()


def test_a_crash_and_a_restart(box, watch) -> None:
    """The exit code as it happens, then that it runs again, counted."""
    name = box.name("agent")
    container = box.run("sleep 1000", name=name)
    told = watch("--only", "containers")
    container.kill()
    died = told.until("state", target=name)
    assert (died["to"], died["detail"]) == ("exited", "exit code 137")
    container.start()
    again = told.until("state", target=name)
    assert (again["from"], again["to"], again["restarts"]) == ("exited", "running", 1)
    known = {one["name"]: one for one in told.until("tick")["containers"]["known"]}
    assert known[name]["restarts"] == 1


def test_a_stop_by_hand_is_told_once_and_as_one(box, watch) -> None:
    """The end comes a moment before the `stop` that explains it: only together are they news."""
    name = box.name("agent")
    container = box.run("sleep 1000", name=name)
    told = watch("--only", "containers")
    container.stop(timeout=1)
    stopped = told.until("state", target=name)
    assert (stopped["to"], stopped["condition"]) == ("exited", "left")
    container.start()
    assert told.until("state", target=name)["to"] == "running"
    assert sum(event.get("target") == name for event in told.seen) == 2


def test_a_container_that_turns_unhealthy(box, watch) -> None:
    """And well again; nothing is told of the first time that it is healthy."""
    name = box.name("web")
    second = 1_000_000_000
    check = {"test": ["CMD", "test", "!", "-e", "/ill"], "interval": second // 5, "retries": 1}
    told = watch("--only", "containers")
    container = box.run("sleep 1000", name=name, healthcheck=check)
    # One that was healthy is past its start.
    container.reload()
    while container.attrs["State"]["Health"]["Status"] != "healthy":
        container.reload()
    container.exec_run(["touch", "/ill"])
    ill = told.until("state", target=name)
    assert ill["to"] == "unhealthy"
    container.exec_run(["rm", "/ill"])
    assert told.until("state", target=name)["to"] == "healthy"


def test_what_has_long_been_so_is_told_of_the_stack(box, watch, home: Path) -> None:
    """A container of the stack that does not run is news at the start; no event would tell of it."""
    name = box.name("victoria")
    box.run("exit 3", name=name).wait()
    configured(home, name)
    told = watch()
    found = told.until("state", kind="container", target=name)
    assert (found["to"], found["detail"]) == ("exited", "exit code 3")


def test_what_has_long_been_so_is_told_of_a_project(box, watch, home: Path) -> None:
    """So is a container of a Compose project, whatever it is called."""
    file = home / "compose.yml"
    file.write_text("services: {web: {image: a}}\n")
    (home / "opskit.yaml").write_text(f"stack: {{compose: {{app: [{file}]}}}}\n")
    labels = {"com.docker.compose.project": "app", "com.docker.compose.service": "web"}
    made = box.run("exit 3", labels={**labels, "com.docker.compose.project.config_files": str(file)})
    made.wait()
    assert watch().until("state", kind="container", target=made.name)["to"] == "exited"


def test_the_logs_of_the_stack_are_read_as_soon_as_they_are_there(box, watch, home: Path) -> None:
    """A container that is made later is followed too, through a restart; none of its old errors is new."""
    name = box.name("victoria")
    configured(home, name)
    told = watch()
    told.until("tick")
    script = "while ! test -e /go; do usleep 50000; done; rm /go; echo ERROR it broke; sleep 1000"
    container = box.run(script, name=name)
    while name not in told.until("tick")["logs"]["sources"]:
        pass
    container.exec_run(["touch", "/go"])
    assert told.until("error")["source"] == name
    container.restart(timeout=0)
    container.exec_run(["touch", "/go"])
    assert told.until("error")["message"] == "it broke"


def test_a_named_container(box, home: Path) -> None:
    """A source that is not there is an error at once, with near names."""
    name = box.name("victoria")
    box.run("sleep 1000", name=name)
    result = opskit("watch", f"{name}X", home=home, env=box.environment)
    assert (result.status, result.out) == (1, "")
    assert "DOCKER_002" in result.err
    assert name in result.err
