"""A restoration that is cut short at any point leaves nothing half done."""

import json
import os
import resource
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

REPOSITORY = Path(__file__).parents[2]
RESUME = "backup restore --resume --yes"


def runs(fault: str, then: str, folder: Path) -> list[dict[str, Any]]:
    done = subprocess.run(
        [sys.executable, "-m", "tests.parts.backup_faults", fault, then, str(folder)],
        cwd=REPOSITORY,
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr
    found = [json.loads(line) for line in done.stdout.splitlines() if line.startswith('{"point')]
    assert len(found) > 40
    assert not found[-1]["hit"]
    return found


@pytest.mark.parametrize("fault", ["kill", "twice", "moved"])
def test_after_a_kill_the_next_command_makes_all_well(tmp_path: Path, fault: str) -> None:
    """kill -9 before each change to the disk: `backup list` leaves the old files or the new, nothing between.

    So it does when it was itself killed at any point, and when the `opskit.yaml` that is being restored names
    another folder of archives. Until then everybody can see that it was interrupted.
    """
    for run in runs(fault, "backup list", tmp_path):
        assert run["finally"] in ("before", "after"), run
        assert (run["next"], run["leftovers"]) == (0, []), run
        assert run["interrupted"] or run["between"] != "mixed" or fault == "twice", run


def test_after_a_kill_a_restoration_can_be_finished(tmp_path: Path) -> None:
    """--resume brings it to its end wherever it was; where nothing was begun it says so."""
    for run in runs("kill", RESUME, tmp_path):
        begun = run["between"] != "before" or run["next"] == 0
        assert run["finally"] == ("after" if begun else "before"), run
        assert (run["next"], run["leftovers"]) in ((0, []), (2, [])), run


@pytest.mark.parametrize(("fault", "exits"), [("full", {1}), ("interrupt", {130}), ("terminate", {130, -15})])
def test_a_failure_takes_everything_back_at_once(tmp_path: Path, fault: str, exits: set[int]) -> None:
    """A full disk, Ctrl-C or SIGTERM at each change: exit 1 or 130 with the old files, or 0 with the new."""
    found = runs(fault, "backup list", tmp_path)
    assert {run["exit"] for run in found} == {0, *exits}
    for run in found:
        if run["exit"] != 0:
            assert run["between"] == "before", run
        assert run["finally"] == ("after" if run["exit"] == 0 else "before"), run
        assert run["leftovers"] == [], run


@pytest.mark.parametrize("command", ["create", "restore"])
def test_a_real_limit_of_the_system_is_undone(tmp_path: Path, command: str) -> None:
    """With no room for the file, exit 1 says so, and neither the target nor the backups have a trace."""
    root, archives = tmp_path / "root", tmp_path / "archives"
    (root / "logs").mkdir(parents=True)
    (root / "logs" / "big.log").write_bytes(os.urandom(300_000))
    (tmp_path / "opskit.yaml").write_text(
        f"state_dir: {tmp_path}/state\nbackup: {{root: {root}, folder: {archives}}}\n"
    )
    given = ["--config", str(tmp_path / "opskit.yaml")]
    whole = [sys.executable, "-m", "opskit", "backup"]
    if command == "restore":
        subprocess.run([*whole, "create", *given], check=True, capture_output=True)
        (root / "logs" / "big.log").unlink()
    before = {path.name for path in (*root.rglob("*"), *archives.glob("[!.]*"))}
    done = subprocess.run(
        [*whole, *(["create"] if command == "create" else ["restore", "latest", "--yes"]), *given],
        capture_output=True,
        text=True,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000)),
    )
    assert done.returncode == 1
    assert "BACKUP_003" in done.stderr
    assert "File too large" in done.stderr
    assert len(done.stderr.splitlines()) == 1
    assert {path.name for path in (*root.rglob("*"), *archives.glob("[!.]*"))} == before
    assert [path.name for path in archives.glob(".*")] == [".lock"]
