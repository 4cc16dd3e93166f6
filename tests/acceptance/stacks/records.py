"""What logs and the recovery job remember."""

import time
from collections.abc import Iterator
from datetime import timedelta

from opskit.schedule.job import UNIT
from tests.acceptance.stacks.scene import Scene
from tests.acceptance.stacks.stack import broken, seems
from tests.parts.schedulers import Schedulers

CRASHED = {"node": "ollama", "model": "phi3.5:3.8b", "fault": "runner_crashed"}


@broken("num-ctx-differs")
def two_clients_two_contexts(scene: Scene) -> Iterator[None]:
    """Two clients ask the same model with different contexts: it is loaded again at each change."""
    scene.ollama()
    scene.log_calls(*[{"node": "ollama", "model": "phi3.5:3.8b", "num_ctx": n} for n in (4096, 16384) * 4])
    yield


@broken("requests-failing|node-failing:ollama", words=("crash",))
def four_failures_a_minute_ago(scene: Scene) -> Iterator[None]:
    """The last four requests failed within a minute; the server looks well again."""
    scene.ollama()
    scene.log_calls(*[CRASHED] * 4)
    yield


@seems()
def failures_of_yesterday(scene: Scene) -> Iterator[None]:
    """Requests failed yesterday, and all of today's were answered."""
    scene.ollama()
    scene.log_calls(*[CRASHED] * 5, ago=timedelta(hours=26))
    scene.log_calls(*[{"node": "ollama", "model": "phi3.5:3.8b"}] * 3)
    yield


@seems()
def one_failure_then_answers(scene: Scene) -> Iterator[None]:
    """One request timed out half an hour ago, twenty were answered since."""
    scene.ollama()
    scene.log_calls({**CRASHED, "fault": "first_token_timeout"}, ago=timedelta(minutes=30))
    scene.log_calls(*[{"node": "ollama", "model": "phi3.5:3.8b"}] * 20)
    yield


def scheduler(scene: Scene) -> Schedulers:
    """A machine with systemd, where the recovery job was installed."""
    made = Schedulers.made(scene.home)
    scene.config_name = "config/opskit/config.yaml"
    scene.env["PATH"] = made.path
    installed = scene.opskit("schedule", "install")
    assert installed.status == 0, installed.err
    return made


@broken("job-not-loaded")
def timer_disabled(scene: Scene) -> Iterator[None]:
    """The files of the recovery job are there, and its timer does not run."""
    scheduler(scene).clear("active")
    yield


@broken("job-failing")
def job_fails_each_time(scene: Scene) -> Iterator[None]:
    """The recovery job ends with status 203 since the virtual environment was moved."""
    ended = {
        "Result": "exit-code",
        "ExecMainCode": "1",
        "ExecMainStatus": "203",
        "ExecMainExitTimestamp": "Sat 2026-11-28 05:00:00 UTC",
    }
    scheduler(scene).set(f"show-{UNIT}.service", ended)
    yield


@broken("job-environment", also=("node-down",))
def program_only_in_the_shell(scene: Scene) -> Iterator[None]:
    """`ollama` is on the PATH of the shell alone, the job does not find it; nor does it run."""
    made = scheduler(scene)
    late = scene.folder("homebrew/bin")
    (late / "ollama").write_text("#!/bin/sh\nexit 0\n")
    (late / "ollama").chmod(0o755)
    scene.env["PATH"] = f"{late}:{made.path}"
    yield


@broken("recovery-gave-up")
def given_up_in_the_night(scene: Scene) -> Iterator[None]:
    """Recovery repaired a container five times in the night and gave up."""
    state(scene, {"mlx": {"repairs": [time.time() - 3000] * 5, "row": 5, "opened_at": time.time() - 2500}})
    yield


def state(scene: Scene, targets: object) -> None:
    """What recovery remembers."""
    rest = {"marks": {}, "facts": {}, "notices": {}, "last_run": None}
    scene.state_file("recovery.json", {"schema_version": 1, "targets": targets, **rest})


@seems()
def job_that_is_well(scene: Scene) -> Iterator[None]:
    """The recovery job is installed and loaded."""
    scheduler(scene)
    yield
