"""`opskit backup` as a person or a script runs it."""

import json
import os
import pty
import subprocess
import sys
from pathlib import Path

import pytest

from tests.parts.backups import snapshot
from tests.parts.command import Result, environment, opskit

SECRET = "hunter2-token"


@pytest.fixture
def home(tmp_path: Path) -> Path:
    root = tmp_path / "home"
    (root / "results" / "run").mkdir(parents=True)
    (root / "logs").mkdir()
    (root / ".env").write_text(f"API_KEY={SECRET}\n")
    (root / ".env").chmod(0o600)
    (root / "docker-compose.yml").write_text("services: {}\n")
    (root / "results" / "run" / "out.json").write_text("{}")
    (root / "logs" / "a.log").write_text("line\n")
    (root / "opskit.yaml").write_text("backup: {keep: 3}\n")
    return root


def backup(home: Path, *arguments: str) -> Result:
    result = opskit("backup", *arguments, home=home)
    assert "Traceback" not in result.err
    assert SECRET not in result.out + result.err
    return result


def archives(home: Path) -> Path:
    return home / "state" / "opskit" / "backups"


def test_create_and_restore(home: Path) -> None:
    """What was lost or spoiled is as it was; what is new since stays; a second time changes nothing."""
    before = snapshot(home)
    created = backup(home, "create")
    assert (created.status, created.err) == (0, "")
    assert created.out.splitlines()[1].startswith(f"5 files of {home}, ")
    (home / ".env").write_text("spoiled")
    (home / "logs" / "new.log").write_text("new")
    (home / "docker-compose.yml").unlink()
    spoiled = snapshot(home)
    dry = backup(home, "restore", "latest", "--dry-run")
    assert dry.status == 0
    assert "changed  .env (7 bytes, had 22)" in dry.out
    assert "new      docker-compose.yml" in dry.out
    assert {k: v for k, v in snapshot(home).items() if not k.startswith("state")} == {
        k: v for k, v in spoiled.items() if not k.startswith("state")
    }
    done = backup(home, "restore", "latest", "--yes")
    assert done.status == 0
    assert "docker compose up -d" in done.err
    now = snapshot(home)
    assert all(now[path] == was for path, was in before.items())
    assert "logs/new.log" in now
    again = backup(home, "restore", "latest", "--yes")
    assert (again.status, again.err) == (0, "")
    assert "nothing was changed" in again.out
    assert len(list(archives(home).glob("replaced_*"))) == 1


def test_what_was_replaced_can_be_had_again(home: Path) -> None:
    """The archive that a restoration names undoes it."""
    backup(home, "create")
    (home / ".env").write_text("mine")
    out = backup(home, "restore", "latest", "--yes").out
    kept = next(line.split(": ")[1] for line in out.splitlines() if line.startswith("what it replaced"))
    assert backup(home, "restore", kept, "--yes").status == 0
    assert (home / ".env").read_text() == "mine"


def test_restore_elsewhere_and_in_part(home: Path, tmp_path: Path) -> None:
    """--to makes the folder, --only takes what matches with the folders it lies in."""
    backup(home, "create")
    done = backup(home, "restore", "latest", "--to", str(tmp_path / "new"), "--only", "results", "--yes")
    assert done.status == 0
    assert set(snapshot(tmp_path / "new")) == {"results", "results/run", "results/run/out.json"}
    none = backup(home, "restore", "latest", "--only", "nothing*", "--yes")
    assert (none.status, "nothing in the backup matches" in none.err) == (2, True)


def test_an_unknown_date_lists_the_backups(home: Path) -> None:
    """SPEC C14: the error BACKUP_001 names those that exist."""
    none = backup(home, "restore", "2020-01-01", "--yes")
    assert (none.status, "`opskit backup create`" in none.err) == (1, True)
    backup(home, "create")
    date = json.loads(backup(home, "list", "--json").out)["backups"][0]["date"]
    unknown = backup(home, "restore", "2020-01-01", "--yes")
    assert unknown.status == 1
    assert "BACKUP_001" in unknown.err
    assert date in unknown.err


def test_a_damaged_archive_is_refused_and_named(home: Path) -> None:
    """verify exits 1 and says what is wrong; restore exits 1 with BACKUP_002 and touches nothing."""
    backup(home, "create")
    assert backup(home, "verify").status == 0
    path = next(archives(home).glob("backup_*"))
    whole = bytearray(path.read_bytes())
    whole[len(whole) // 4] ^= 255
    path.write_bytes(whole)
    (home / ".env").unlink()
    judged = backup(home, "verify", "all", "--json")
    assert judged.status == 1
    assert judged.document["findings"][0]["code"] == "BACKUP_002"
    refused = backup(home, "restore", "latest", "--yes")
    assert (refused.status, "BACKUP_002" in refused.err) == (1, True)
    assert not (home / ".env").exists()
    path.write_bytes(whole[:100])
    assert "cut off" in backup(home, "list").out
    assert backup(home, "verify").status == 1


def test_what_is_left_out_fails(home: Path) -> None:
    """A backup without a file that was selected exits 1, names it, and keeps the archive."""
    os.mkfifo(home / "logs" / "pipe")
    created = backup(home, "create", "--json")
    assert created.status == 1
    assert created.document["ok"] is False
    assert [f["target"] for f in created.document["findings"] if f["state"] == "skipped"] == ["logs/pipe"]
    assert "1 left out" in backup(home, "list").out
    big = backup(home, "create", "--max-size", "20B")
    assert (big.status, "more than the 20 of --max-size" in big.err) == (1, True)


@pytest.mark.parametrize(
    ("arguments", "status"),
    [
        (["restore"], 2),
        (["restore", "latest", "--resume"], 2),
        (["restore", "--resume"], 2),
        (["restore", "--rollback"], 2),
        (["restore", "--rollback", "--dry-run"], 2),
        (["restore", "latest"], 2),
        (["restore", "latest", "--to", "/dev/null", "--yes"], 2),
        (["restore", "latest", "--to", "/no/such/folder", "--yes"], 2),
        (["restore", "latest", "--only", "../x", "--yes"], 2),
        (["restore", "./no.tar.gz", "--yes"], 1),
        (["restore", "./.env", "--yes"], 1),
        (["restore", "./results", "--yes"], 1),
        (["create", "--max-size", "much"], 2),
        (["create", "--config", "bad.yaml"], 78),
        (["create", "--config", "nothing.yaml"], 78),
        (["verify", "1999"], 1),
        (["list", "--config", "gone.yaml"], 78),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else str(value),
)
def test_bad_input_is_one_line_and_an_exit_status(home: Path, arguments: list[str], status: int) -> None:
    """Text and JSON alike, and nothing is changed."""
    backup(home, "create")
    (home / ".env").write_text("later")
    (home / "bad.yaml").write_text("backup: {files: [/etc/*]}\n")
    (home / "nothing.yaml").write_text("backup: {files: [none*]}\n")
    result = backup(home, *arguments)
    assert result.status == status
    assert [line for line in result.err.splitlines() if line.startswith("opskit: ")] == [
        result.err.splitlines()[-1]
    ]
    as_json = backup(home, *arguments, "--json")
    assert (as_json.status, as_json.document["ok"]) == (status, False)
    assert (home / ".env").read_text() == "later"


def test_no_is_no(home: Path) -> None:
    """On a terminal it asks, and without a yes nothing is changed."""
    backup(home, "create")
    (home / ".env").write_text("later")
    ours, theirs = pty.openpty()
    with subprocess.Popen(
        [sys.executable, "-m", "opskit", "backup", "restore", "latest"],
        env=environment(home),
        cwd=home,
        stdin=theirs,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    ) as asked:
        os.write(ours, b"n\n")
        _, err = asked.communicate(timeout=60)
    os.close(ours)
    os.close(theirs)
    assert asked.returncode == 130
    assert b"nothing was changed" in err
    assert (home / ".env").read_text() == "later"


def test_two_at_once(home: Path) -> None:
    """Every one of four either makes a whole archive of its own or exits 75."""
    (home / "logs" / "big.log").write_bytes(os.urandom(20_000_000))
    four = [
        subprocess.Popen(
            [sys.executable, "-m", "opskit", "backup", "create"],
            env=environment(home),
            cwd=home,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )
        for _ in range(4)
    ]
    for one in four:
        one.communicate(timeout=60)
    statuses = [one.returncode for one in four]
    assert set(statuses) <= {0, 75}
    made = list(archives(home).glob("backup_*"))
    assert len(made) == min(3, statuses.count(0)) >= 1
    assert backup(home, "verify", "all").status == 0


def test_an_empty_list_says_so(home: Path) -> None:
    """No backup yet is no failure of `list`."""
    result = backup(home, "list")
    assert (result.status, result.out) == (0, "")
    assert "there is no backup" in result.err
    assert backup(home, "list", "--json").document["backups"] == []


def test_a_plain_archive_of_older_scripts(home: Path) -> None:
    """`backup_<date>.tar.gz` made by tar: listed without a manifest, verified with a warning, restored."""
    before = snapshot(home)
    archives(home).mkdir(parents=True)
    path = archives(home) / "backup_2025-01-31.tar.gz"
    subprocess.run(["tar", "czf", str(path), ".env", "docker-compose.yml", "results"], cwd=home, check=True)
    listed = json.loads(backup(home, "list", "--json").out)["backups"]
    assert [(one["date"], one["readable"], one["checksums"]) for one in listed] == [
        ("2025-01-31", True, False)
    ]
    assert "no checksums" in backup(home, "list").out
    verified = backup(home, "verify", "2025-01-31", "--json")
    assert (verified.status, verified.document["findings"][0]["state"]) == (0, "no checksums")
    (home / ".env").write_text("spoiled")
    (home / "docker-compose.yml").unlink()
    done = backup(home, "restore", "2025-01-31", "--yes")
    assert done.status == 0
    now = snapshot(home, times=False)
    assert all(now[name] == (*was[:2], None, *was[3:]) for name, was in before.items() if was[0] == "file")


def test_a_compose_file_outside_the_root_fails_and_is_named(home: Path, tmp_path: Path) -> None:
    """The stack cannot be rebuilt from such a backup: exit 1 says which file is not in it."""
    (tmp_path / "other").mkdir()
    compose = tmp_path / "other" / "docker-compose.yml"
    compose.write_text("services: {}\n")
    (home / "opskit.yaml").write_text(f"stack: {{compose: {{out: [{compose}]}}}}\n")
    created = backup(home, "create")
    assert created.status == 1
    assert f"skipped: {compose}: it lies outside {home} (stack.compose.out)" in created.err
    assert "1 left out" in backup(home, "list").out
