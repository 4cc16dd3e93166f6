"""A restore that was killed, as `status`, `doctor` and `backup` show it, whatever it has restored already."""

import os
from pathlib import Path

import pytest

from opskit.config.load import load
from opskit.facts.unfinished_restore import POINTER, backup_folders, unfinished_restores
from tests.parts.backup_faults import killed_at
from tests.parts.command import Result, environment, opskit

QUIET = "watch: {memory_percent: 100, disk_percent: 100}\nprobe: {first_token_s: 1, http_s: 1}\n"
BOTH = ("opskit backup restore --resume", "opskit backup restore --rollback")


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Killed when an `opskit.yaml` has its place that names other folders than the one it replaces."""
    folder = tmp_path_factory.mktemp("home")
    config = folder / "opskit.yaml"
    for name in (".env", "docker-compose.yml"):
        (folder / name).write_text("services: {}\n")
    (folder / "results").mkdir()
    (folder / "results" / "a.json").write_text("{}")
    config.write_text(QUIET)
    assert opskit("backup", "create", home=folder).status == 0
    for path in (folder / ".env", folder / "results" / "a.json"):
        path.write_text("spoiled")
    archives = folder / "state" / "opskit" / "backups"
    (folder / "elsewhere").mkdir()
    archives.rename(folder / "elsewhere" / "archives")
    config.write_text(f"{QUIET}backup: {{folder: elsewhere/archives}}\nstate_dir: {folder}/elsewhere\n")
    killed_at(3, config, environment(folder))
    assert config.read_text() == QUIET
    return folder


def run(home: Path, *arguments: str) -> Result:
    return opskit(*arguments, home=home)


def test_status_names_it_and_both_ways_on(home: Path) -> None:
    """Exit 1; the folder, and the commands that finish it and take it back."""
    shown = run(home, "status", "--json")
    (finding,) = (entry for entry in shown.document["findings"] if entry["check"] == "restore")
    assert shown.status == 1
    assert (finding["target"], finding["state"], finding["code"]) == (
        str(home),
        "half restored",
        "BACKUP_005",
    )
    assert all(command in finding["remedy"] for command in BOTH)
    assert all(command in run(home, "status").out for command in BOTH)


def test_doctor_gives_it_as_a_cause(home: Path) -> None:
    """`restore-interrupted` explains its check, and says what to type."""
    causes = {cause["id"]: cause for cause in run(home, "doctor", "--json").document["causes"]}
    cause = causes["restore-interrupted"]
    assert (cause["target"], cause["explains"]) == (str(home), ["restore"])
    assert all(command in cause["remedy"] for command in BOTH)


def test_what_it_left_is_taken_away_before_a_backup_is_made(home: Path) -> None:
    """`backup create` says that it was taken back, archives none of what it left, and all is well again."""
    created = run(home, "backup", "create")
    assert (created.status, "was taken back" in created.err) == (0, True)
    assert not list(home.rglob(f"{POINTER}*"))
    assert (home / ".env").read_text() == "spoiled"
    findings = run(home, "status", "--json").document["findings"]
    assert not [entry for entry in findings if entry["check"] == "restore"]


@pytest.mark.parametrize("plant", ["fifo", "link", "folder", "large", "nonsense"])
def test_a_pointer_that_is_none_holds_nobody_up(tmp_path: Path, plant: str) -> None:
    """Whatever bears its name is read at once, counts as an interrupted restore, and leads nowhere."""
    pointer = tmp_path / POINTER
    match plant:
        case "fifo":
            os.mkfifo(pointer)
        case "link":
            pointer.symlink_to("/dev/zero")
        case "folder":
            pointer.mkdir()
        case "large":
            pointer.write_bytes(b"/x" * 10_000_000)
        case _:
            pointer.write_bytes(b"\0\xff")
    config = tmp_path / "opskit.yaml"
    config.write_text("{}")
    folders = backup_folders(load(str(config), environ={}, cwd=tmp_path).config)
    (restore,) = unfinished_restores(folders)
    assert (restore.target, restore.is_interrupted) == (tmp_path, True)


def test_what_another_user_left_above_the_stack_does_not_count(tmp_path: Path) -> None:
    """As in `/tmp`; in the stack's own folder it does."""
    if os.geteuid() != 0:
        pytest.skip("this needs files of another user: run the tests as root")
    stack = tmp_path / "stack"
    stack.mkdir()
    (stack / "opskit.yaml").write_text("{}")
    folders = backup_folders(load(str(stack / "opskit.yaml"), environ={}, cwd=stack).config)
    for folder in (tmp_path, stack):
        (folder / POINTER).write_text("/nowhere/replaced.tar.gz")
        os.chown(folder / POINTER, 12345, 12345)
    assert [restore.target for restore in unfinished_restores(folders)] == [stack]
