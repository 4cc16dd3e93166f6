"""`opskit recover` as a command: one at a time, killed in the middle, on the wrong foot."""

import json
import os
import resource
import select
import signal
import stat
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from opskit.system.lock import try_lock
from tests.parts.command import Result, environment, opskit, started


@pytest.fixture
def home(tmp_path: Path) -> Path:
    folder = tmp_path / "home"
    (folder / "state" / "opskit").mkdir(parents=True)
    return folder


@pytest.fixture
def state(home: Path) -> Path:
    return home / "state" / "opskit"


def recover(home: Path, *arguments: str, **env: str) -> Result:
    return opskit("recover", *arguments, home=home, env=env)


def mlx_that_never_comes(home: Path) -> tuple[Path, Path]:
    """A configuration whose MLX is started by a program that says so and then does nothing; and where."""
    said = home / "started"
    os.mkfifo(said)
    program = home / "server"
    program.write_text(f"#!/bin/sh\necho $$ > {said}\nexec sleep 1000\n")
    program.chmod(program.stat().st_mode | stat.S_IXUSR)
    config = home / "opskit.yaml"
    config.write_text(json.dumps({"stack": {"start": {"mlx": [str(program)]}}}))
    return config, said


def finding(result: Result, target: str) -> dict[str, Any]:
    return next(one for one in result.document["findings"] if one["target"] == target)


def test_a_second_recovery_ends_with_75_and_a_timer_with_0(home: Path, state: Path):
    """One at a time, and that is no failure for a job that comes again in five minutes."""
    with try_lock(state / "recover.lock") as mine:
        assert mine
        second = recover(home)
        timer = recover(home, "--quiet-lock", "--json")
    assert (second.status, second.out) == (75, "")
    assert "RECOVER_001" in second.err
    assert (timer.status, timer.document["ok"]) == (0, True)


@pytest.fixture
def server() -> Iterator[list[int]]:
    """Processes that outlive the command; ended by their ids."""
    pids: list[int] = []
    yield pids
    for pid in pids:
        os.kill(pid, signal.SIGKILL)


def test_what_is_killed_in_the_middle_leaves_no_lock_and_has_counted(
    home: Path, state: Path, server: list[int]
):
    """The next run begins at once, knows of the repair, and waits for its back-off."""
    config, said = mlx_that_never_comes(home)
    process = started(["recover", "--config", str(config)], home=home)
    with said.open() as stream:
        ready, _, _ = select.select([stream], [], [], 60)
        assert ready
        server.append(int(stream.readline()))
    process.kill()
    process.communicate()
    remembered = json.loads((state / "recovery.json").read_text())
    assert len(remembered["targets"]["mlx"]["repairs"]) == 1
    again = recover(home, "--config", str(config), "--json", "--only", "mlx", "--budget", "5s")
    assert again.status in (0, 1)
    assert finding(again, "mlx")["evidence"]["result"] in ("not_yet", "waiting", "manual")
    assert again.document["mutations"] == 0


def test_a_dry_run_names_the_command_and_changes_nothing(home: Path, state: Path):
    """The exact command, exit 1 because something is broken, and a state folder as it was."""
    config, said = mlx_that_never_comes(home)
    before = sorted(state.iterdir())
    result = recover(home, "--config", str(config), "--dry-run", "--json", "--only", "mlx")
    assert result.status == 1
    assert finding(result, "mlx")["evidence"]["planned"] == [str(home / "server")]
    assert result.document["mutations"] == 0
    assert [one for one in sorted(state.iterdir()) if one.name != "recover.lock"] == before
    assert said.is_fifo()


def test_a_paused_target_is_left_alone_and_the_summary_says_why(home: Path):
    """A person's word comes first."""
    config, _ = mlx_that_never_comes(home)
    paused = opskit("pause", "mlx", "--for", "1h", "--reason", "new disk", "--config", str(config), home=home)
    assert paused.status == 0, paused.err
    result = recover(home, "--config", str(config), "--json", "--only", "mlx")
    assert result.status == 0
    assert finding(result, "mlx")["status"] == "skip"
    assert "new disk" in finding(result, "mlx")["detail"]
    assert result.document["mutations"] == 0


def test_a_damaged_memory_is_set_aside(home: Path, state: Path):
    """Recovery goes on without it, says so, and keeps what was there."""
    (state / "recovery.json").write_text('{"schema_version": 1, "targets": [')
    result = recover(home, "--json")
    assert "is damaged" in result.err
    assert result.document["command"] == "recover"
    assert [one.read_text() for one in state.glob("recovery.damaged-*")] == [
        '{"schema_version": 1, "targets": ['
    ]


def test_a_wrong_compose_path_is_told_with_what_to_correct(home: Path):
    """One line in the summary, no traceback; the steps beside it are judged as usual."""
    config = home / "opskit.yaml"
    config.write_text(json.dumps({"stack": {"compose": {"web-ide": ["/nowhere/docker-compose.yml"]}}}))
    result = recover(home, "--config", str(config), "--json", DOCKER_HOST="unix:///nowhere.sock")
    assert result.status in (1, 3)
    assert "Traceback" not in result.err
    targets = {one["target"] for one in result.document["findings"]}
    assert {"docker", "compose:web-ide"} <= targets


@pytest.mark.parametrize(
    ("arguments", "status", "part"),
    [
        (("--only", "olama"), 2, "did you mean ollama"),
        (("--budget", "soon"), 2, "no duration"),
        (("--budget", "0s"), 2, "no duration"),
        (("--config", "/nowhere.yaml"), 78, "there is no such file"),
    ],
)
def test_bad_input_is_one_line_with_what_to_type(
    home: Path, arguments: tuple[str, ...], status: int, part: str
):
    """Refused before anything is looked at."""
    result = recover(home, *arguments)
    assert result.status == status
    assert part in result.err
    assert len(result.err.strip().splitlines()) == 1


def test_an_unwritable_state_folder_stops_recovery(home: Path):
    """No repair without a memory of it."""
    result = recover(home, OPSKIT_STATE_DIR="/proc/opskit")
    assert result.status == 78
    assert "STATE_001" in result.err


def test_on_a_full_disk_nothing_is_repaired(home: Path):
    """A repair that could not be remembered is not begun: exit 78 with what to do, and no server started."""
    config, said = mlx_that_never_comes(home)
    limits = (resource.RLIMIT_FSIZE, (0, 0))
    done = subprocess.run(
        [sys.executable, "-m", "opskit", "recover", "--config", str(config), "--only", "mlx"],
        env=environment(home),
        capture_output=True,
        text=True,
        timeout=60,
        preexec_fn=lambda: resource.setrlimit(*limits),
    )
    assert done.returncode == 78
    assert "STATE_001" in done.stderr
    assert said.is_fifo()
