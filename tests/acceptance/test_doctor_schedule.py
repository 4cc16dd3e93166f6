"""The doctor and the recovery job: installed by the real command, with the scheduler's programs played."""

import json
from pathlib import Path
from typing import Any

import pytest

from opskit.schedule.job import UNIT
from tests.parts.command import Result, opskit
from tests.parts.schedulers import Schedulers

UNITS = ".config/systemd/user"


@pytest.fixture
def scheduler(tmp_path: Path) -> Schedulers:
    home = tmp_path / "home"
    home.mkdir()
    return Schedulers.made(home)


def command(scheduler: Schedulers, *arguments: str, **env: str) -> Result:
    home = scheduler.folder.parent
    return opskit(*arguments, home=home, env={"PATH": scheduler.path, **env})


def causes(result: Result) -> dict[str, dict[str, Any]]:
    return {one["id"]: one for one in result.document["causes"] if one["id"].startswith(("job", "recovery"))}


def installed(scheduler: Schedulers) -> None:
    done = command(scheduler, "schedule", "install")
    assert done.status == 0, done.err


def test_a_job_that_is_well_is_no_cause(scheduler: Schedulers):
    """Installed, loaded, and in an environment that does as well as this one."""
    installed(scheduler)
    assert causes(command(scheduler, "doctor", "--json")) == {}


def test_a_job_that_is_not_loaded_is_named_and_loaded_again(scheduler: Schedulers):
    """Its files are there and nothing starts it; `--fix` installs it, and the next look finds nothing."""
    installed(scheduler)
    scheduler.clear("active")
    found = causes(command(scheduler, "doctor", "--json"))
    assert list(found) == ["job-not-loaded"]
    assert found["job-not-loaded"]["fix"]["command"] == "opskit schedule install"
    command(scheduler, "doctor", "--fix", "--yes")
    assert causes(command(scheduler, "doctor", "--json")) == {}


def test_a_job_that_ends_badly_is_named(scheduler: Schedulers):
    """A run that ended with a wrong configuration fails every five minutes, and nobody sees it."""
    installed(scheduler)
    ended = {
        "Result": "exit-code",
        "ExecMainCode": "1",
        "ExecMainStatus": "78",
        "ExecMainExitTimestamp": "Fri 2026-11-20 10:00:00 UTC",
    }
    scheduler.set(f"show-{UNIT}.service", ended)
    found = causes(command(scheduler, "doctor", "--json"))
    assert list(found) == ["job-failing"]
    assert "exit status 78" in found["job-failing"]["evidence"][0]


def test_a_program_that_only_the_shell_finds_is_named(scheduler: Schedulers, tmp_path: Path):
    """Works in my shell, fails from the scheduler: the program is on this PATH and not on the job's."""
    installed(scheduler)
    late = tmp_path / "late"
    late.mkdir()
    (late / "ollama").write_text("#!/bin/sh\n")
    (late / "ollama").chmod(0o755)
    result = command(scheduler, "doctor", "--json", PATH=f"{late}:{scheduler.path}")
    found = causes(result)
    assert list(found) == ["job-environment"]
    assert "ollama" in found["job-environment"]["evidence"][0]


def test_what_recovery_has_given_up_is_named(scheduler: Schedulers):
    """An open circuit is a cause of its own, whether a job is installed or not."""
    state = scheduler.folder.parent / "state" / "opskit"
    state.mkdir(parents=True)
    record = {"repairs": [1.8e9], "row": 5, "opened_at": 1.8e9}
    content = {
        "schema_version": 1,
        "targets": {"ollama": record},
        "marks": {},
        "facts": {},
        "notices": {},
        "last_run": None,
    }
    (state / "recovery.json").write_text(json.dumps(content))
    found = causes(command(scheduler, "doctor", "--json"))
    assert list(found) == ["recovery-gave-up"]
    assert "ollama" in found["recovery-gave-up"]["title"]
