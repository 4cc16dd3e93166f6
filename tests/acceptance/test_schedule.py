"""`opskit schedule` as a person or a script runs it, on Linux with a systemd played beside it."""

import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.parts.command import Result, opskit
from tests.parts.schedulers import Schedulers

Run = Callable[..., Result]
FOLDER = ".config/systemd/user"


@pytest.fixture
def home(tmp_path: Path) -> Path:
    made = tmp_path / "home"
    made.mkdir()
    return made


@pytest.fixture
def linux(home: Path) -> Schedulers:
    return Schedulers.made(home)


@pytest.fixture
def run(linux: Schedulers, home: Path) -> Run:
    def call(*arguments: str, **env: str) -> Result:
        return opskit("schedule", *arguments, home=home, env={"PATH": linux.path, **env})

    return call


def test_from_nothing_to_a_job_and_back(run: Run, home: Path) -> None:
    """Install, look, start, remove: each says what it did, and what comes next is true."""
    assert run("status", "--no-inside").status == 1
    installed = run("install")
    assert installed.status == 0
    assert "every 5m" in installed.out
    assert "loginctl enable-linger" in installed.err
    status = run("status")
    assert status.status == 0, status.out + status.err
    assert "loaded" in status.out
    assert "journalctl --user -u opskit-recover.service" in run("run-now").out
    assert run("remove").status == 0
    assert list((home / FOLDER).iterdir()) == []
    assert run("status", "--no-inside").status == 1


def test_the_second_time_nothing_is_changed(run: Run, linux: Schedulers) -> None:
    """It says so, exits 0, and asked systemd for nothing but its state."""
    run("install")
    count = len(linux.changes)
    again = run("install")
    assert again.status == 0
    assert "nothing was changed" in again.out
    assert len(linux.changes) == count
    assert run("install", "--json").document["findings"][0]["state"] == "unchanged"


def test_a_dry_run_is_a_script_that_does_the_same(run: Run, home: Path, linux: Schedulers) -> None:
    """What `--dry-run` prints changes nothing, and a shell that runs it installs the very same files."""
    plan = run("install", "--dry-run")
    assert plan.status == 0
    assert linux.changes == []
    assert not (home / ".config").exists()
    done = subprocess.run(
        ["/bin/sh", "-eu"], input=plan.out, text=True, env={"PATH": linux.path, "HOME": str(home)}, timeout=60
    )
    assert done.returncode == 0
    assert "nothing was changed" in run("install").out


def test_every_command_has_a_document(run: Run) -> None:
    """With --json stdout is one document with the contract of every report."""
    for arguments in (["install", "--dry-run"], ["install"], ["status"], ["run-now"], ["remove"]):
        document = run(*arguments, "--json").document
        assert {"schema_version", "command", "ok", "status", "findings"} <= set(document)
        assert document["command"] == f"schedule {arguments[0]}"


@pytest.mark.parametrize("every", ["7m", "0m", "five", "25h", ""])
def test_an_interval_that_does_not_fit_is_a_usage_error(run: Run, every: str, home: Path) -> None:
    """Exit 2, one line with the list, nothing written."""
    result = run("install", "--every", every)
    assert result.status == 2
    assert len(result.err.splitlines()) == 1
    assert "1m, 2m, 3m, 4m, 5m" in result.err
    assert not (home / ".config").exists()


def test_without_a_scheduler(run: Run, linux: Schedulers) -> None:
    """Installing fails with SCHEDULE_001; the status cannot tell, and compares what can be emulated."""
    linux.set("no-bus")
    installed = run("install")
    assert installed.status == 1
    assert installed.err.startswith("opskit: SCHEDULE_001: ")
    status = run("status", "--json")
    assert status.status == 3
    inside = status.finding("opskit-recover", "inside")
    assert inside["evidence"]["emulated"] is True
    assert inside["evidence"]["job"]["cwd"] == "/"


def test_a_credential_is_refused_and_not_shown(run: Run, home: Path) -> None:
    """Exit 78, the variable's name, not its value, nothing written."""
    result = run("install", DOCKER_HOST="tcp://me:hush@127.0.0.1:1")
    assert result.status == 78
    assert "SCHEDULE_004" in result.err
    assert "DOCKER_HOST" in result.err
    assert "hush" not in result.err + result.out
    assert not (home / ".config").exists()


def test_what_only_the_shell_has_is_found(run: Run, home: Path, linux: Schedulers) -> None:
    """A program that is new on PATH, and an address that changed: exit 1, with remedies."""
    run("install")
    late = home / "late"
    late.mkdir()
    (late / "colima").write_text("#!/bin/sh\n")
    (late / "colima").chmod(0o755)
    result = run("status", PATH=f"{late}:{linux.path}", OLLAMA_API_URL="http://127.0.0.1:4")
    assert result.status == 1
    assert "does not find colima" in " ".join(result.out.split())
    assert "`opskit schedule install`" in result.out


def test_a_configuration_that_is_not_valid_ends_with_78(run: Run, home: Path) -> None:
    """Nothing is installed that could not run."""
    (home / "opskit.yaml").write_text("nodes: [")
    assert run("install").status == 78
    assert not (home / ".config").exists()
