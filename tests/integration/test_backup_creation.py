"""What gets into a backup, what does not, and who may make one."""

import os
import socket
import stat
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from opskit.backup import restore, undo
from opskit.backup.archive import Archive, opened
from opskit.backup.catalog import BackupCatalog, CreatedBackup
from opskit.backup.folder import RootFolder
from opskit.backup.manifest import RestoreRecord
from opskit.backup.restore import plan
from opskit.backup.selection import parse
from opskit.backup.undo import begin
from opskit.config.load import load
from opskit.errors import ConfigError, OpskitError
from opskit.facts.unfinished_restore import backup_is_running
from opskit.result import Status
from tests.parts.backups import NOW, snapshot


@pytest.fixture
def catalog(tmp_path: Path) -> BackupCatalog:
    (tmp_path / "root" / "logs").mkdir(parents=True)
    (tmp_path / "root" / "logs" / "a.log").write_text("line\n")
    return BackupCatalog(tmp_path / "root", tmp_path / "root" / "backups", parse(["**"]), 3, 10_000)


def made(catalog: BackupCatalog) -> CreatedBackup:
    with catalog.lock():
        return catalog.create(now=NOW)


def skipped(created: CreatedBackup) -> dict[str, str]:
    return {one.path: one.reason for one in created.manifest.skipped}


def test_it_is_private(catalog: BackupCatalog) -> None:
    """The archive is 0600 and its folder 0700, whatever the umask."""
    before = os.umask(0)
    try:
        path = made(catalog).path
    finally:
        os.umask(before)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700


def test_the_folder_of_backups_is_not_backed_up(catalog: BackupCatalog) -> None:
    """It may lie below the root, and each backup is as large as the first."""
    first, second = made(catalog), made(catalog)
    assert [one.path for one in second.manifest.entries] == ["logs", "logs/a.log"]
    assert first.manifest.entries == second.manifest.entries


def test_what_cannot_be_kept_is_told_and_fails(catalog: BackupCatalog) -> None:
    """Sockets, FIFOs, links that lead out, odd names, huge files: each with its reason; the rest is kept."""
    logs = catalog.root / "logs"
    os.mkfifo(logs / "fifo")
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(os.path.relpath(logs / "sock"))
        (logs / "out").symlink_to("../../elsewhere")
        (logs / "absolute").symlink_to(logs / "a.log")
        (logs / "inside").symlink_to("a.log")
        (logs / "way").symlink_to("hop/passwd")
        (logs / "hop").symlink_to("/etc")
        (logs / "bad\nname").write_text("")
        (logs / "huge").write_bytes(bytes(10_001))
        created = made(catalog)
    reasons = skipped(created)
    assert {name.removeprefix("logs/"): why.split(":")[0] for name, why in reasons.items()} == {
        "fifo": "it is a FIFO",
        "sock": "it is a socket",
        "out": "it is a link that leads out of the folder",
        "absolute": "it is an absolute link",
        "way": "it is a link that leads out of the folder by way of another",
        "hop": "it is an absolute link",
        "bad\nname": "its name holds control characters",
        "huge": "it has 10001 bytes, more than the 10000 of --max-size",
    }
    assert created.report.status is Status.FAIL
    assert {one.path for one in created.manifest.entries} == {"logs", "logs/a.log", "logs/inside"}


def test_a_link_where_a_pattern_goes_on_is_told(catalog: BackupCatalog, tmp_path: Path) -> None:
    """`results/*.json` with `results` a link to another disk: nothing of it is kept, and that is told."""
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "a.json").write_text("{}")
    (catalog.root / "results").symlink_to(tmp_path / "other")
    chosen = BackupCatalog(catalog.root, catalog.folder, parse(["results/*.json", "logs"]), 3, 10_000)
    assert skipped(made(chosen)) == {"results": "it is a link to a folder, and links are not followed"}


_AS_NOBODY = """
import os, sys
from pathlib import Path
from opskit.backup.catalog import BackupCatalog
from opskit.backup.manifest import encode
from opskit.backup.selection import parse
from tests.parts.backups import NOW, manifest
encode(manifest([]))  # what it imports, nobody may not read
if os.geteuid() == 0:
    os.setgroups([])
    os.setgid(65534)
    os.setuid(65534)
catalog = BackupCatalog(Path(sys.argv[1]), Path(sys.argv[2]), parse(["**"]), 3, 99)
print(catalog.create(now=NOW).report.findings)
"""


def test_what_may_not_be_read_is_told() -> None:
    """A file and a folder of somebody else: both are named as failures, the archive has the rest."""
    with tempfile.TemporaryDirectory() as base:
        root, archives = Path(base) / "root", Path(base) / "archives"
        (root / "closed").mkdir(parents=True)
        archives.mkdir()
        for one in (Path(base), root, archives):
            one.chmod(0o777)
        (root / "ok").write_text("x")
        (root / "secret").write_text("x")
        (root / "secret").chmod(0)
        (root / "closed").chmod(0)
        done = subprocess.run(
            [sys.executable, "-c", _AS_NOBODY, str(root), str(archives)],
            cwd=Path(__file__).parents[2],
            capture_output=True,
            text=True,
        )
        (root / "closed").chmod(0o700)
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("it cannot be read: Permission denied") == 2
    assert "target='secret'" in done.stdout
    assert "target='closed'" in done.stdout
    assert "'files': 1" in done.stdout


@pytest.mark.parametrize("size", [1000, 8_000_000])
def test_a_file_that_is_written_to_is_kept_and_told(tmp_path: Path, size: int) -> None:
    """A log that grows all the while is in the archive, sound, and marked as changed; that is no failure."""
    root = tmp_path / "root"
    root.mkdir()
    log = root / "busy.log"
    log.write_bytes(os.urandom(size))
    catalog = BackupCatalog(root, tmp_path / "archives", parse(["**"]), 3, 10**9)
    # Its writer goes on until it is told to stop; a file may be read between two of its writes.
    code = "import sys\nf = open(sys.argv[1], 'ab', 0)\nprint(flush=True)\nwhile True: f.write(b'line')"
    with subprocess.Popen([sys.executable, "-c", code, str(log)], stdout=subprocess.PIPE) as writer:
        assert writer.stdout is not None
        writer.stdout.readline()
        created = made(catalog)
        while not created.manifest.entries[0].changed:
            created = made(catalog)
        writer.kill()
    assert created.manifest.entries[0].changed
    assert created.report.status is Status.WARN
    with Archive(created.path) as archive:
        archive.check()


def test_a_setuid_file_is_kept_without_its_bit_and_told(catalog: BackupCatalog) -> None:
    """A warning of the backup; a restore says it before it replaces one; what is taken back has it again."""
    path = catalog.root / "logs" / "a.log"
    path.chmod(0o4755)
    created = made(catalog)
    (finding,) = created.report.findings[1:]
    assert (finding.target, finding.status, finding.state) == ("logs/a.log", Status.WARN, "mode")
    assert "setuid" in finding.detail
    path.write_text("spoiled")
    path.chmod(0o4755)
    with opened(created.path) as archive:
        planned = plan(archive, catalog)
        (change,) = planned.of("changed")
        assert change.why.endswith("it will not be setuid")
        safety = catalog.new_path("replaced", NOW)
        with RootFolder(catalog.root) as folder:
            record = RestoreRecord(str(created.path), (), False, (change.entry,))
            begin(folder, record, ["logs/a.log"], safety, catalog, NOW)
        path.write_text("line\n")
        path.chmod(0o755)
        assert undo.recover(catalog)
        assert (path.read_text(), stat.S_IMODE(path.stat().st_mode)) == ("spoiled", 0o4755)
        restore.restore(archive, plan(archive, catalog), catalog, now=NOW)
    assert (path.read_text(), stat.S_IMODE(path.stat().st_mode)) == ("line\n", 0o755)


def test_nothing_to_back_up_is_an_error(catalog: BackupCatalog, tmp_path: Path) -> None:
    """Patterns that match nothing, only empty folders, no root: 78 and no archive."""
    nowhere = BackupCatalog(tmp_path / "none", tmp_path / "b", parse(["**"]), 3, 1)
    (tmp_path / "root" / "logs" / "a.log").unlink()
    for one in (catalog, nowhere, BackupCatalog(catalog.root, catalog.folder, parse(["no*"]), 3, 1)):
        with pytest.raises(ConfigError):
            made(one)
        assert [path.name for path in one.folder.iterdir()] == [".lock"]


def test_only_what_cannot_be_kept_is_an_error(catalog: BackupCatalog) -> None:
    """An archive with nothing in it is not left behind."""
    chosen = BackupCatalog(catalog.root, catalog.folder, parse(["logs"]), 3, 1)
    with pytest.raises(OpskitError, match="nothing could be kept"):
        made(chosen)
    assert list(catalog.folder.glob("backup*")) == []


def test_old_ones_go(catalog: BackupCatalog) -> None:
    """`keep` are left, and it says which went."""
    created = [made(catalog) for _ in range(5)]
    assert len(list(catalog.folder.glob("backup_*"))) == 3
    assert [path.name for one in created for path in one.removed] == [
        created[0].path.name,
        created[1].path.name,
    ]


def test_what_a_killed_one_left_is_swept(catalog: BackupCatalog) -> None:
    """A half-written archive has no valid name, and the next run removes it."""
    catalog.folder.mkdir(parents=True, exist_ok=True)
    half = catalog.folder / ".backup_2026-11-21T080000Z.tar.gz.tmp"
    other = catalog.folder / ".other.tmp"
    half.write_text("half")
    other.write_text("not ours")
    with catalog.lock():
        assert undo.recover(catalog) == []
    assert not half.exists()
    assert other.exists()


def test_others_see_that_a_backup_runs(tmp_path: Path) -> None:
    """A backup runs while a process holds the lock, also after the question, and no longer when it died."""
    config = tmp_path / "opskit.yaml"
    config.write_text(f"backup: {{root: ., folder: {tmp_path}/archives}}\n")
    loaded = load(str(config), environ=os.environ, cwd=tmp_path).config
    assert backup_is_running(loaded) is False
    assert not (tmp_path / "archives").exists()
    code = (
        "import os, sys; from pathlib import Path; from opskit.config.load import load\n"
        "from opskit.backup.catalog import catalog_of\n"
        "with catalog_of(load(sys.argv[1], environ=os.environ, cwd=Path.cwd()).config).lock():\n"
        "    print(flush=True); sys.stdin.read()"
    )
    with subprocess.Popen(
        [sys.executable, "-c", code, str(config)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as holder:
        assert holder.stdout is not None
        holder.stdout.readline()
        assert backup_is_running(loaded) is True
        assert backup_is_running(loaded) is True
        holder.kill()
    assert backup_is_running(loaded) is False


def test_what_the_root_may_not_lead_out_of(catalog: BackupCatalog, tmp_path: Path) -> None:
    """A folder that became a link to elsewhere is an obstacle: nothing is written through it."""
    path = made(catalog).path
    (tmp_path / "outside").mkdir()
    (catalog.root / "logs").rename(tmp_path / "root" / "old")
    (catalog.root / "logs").symlink_to(tmp_path / "outside")
    before = snapshot(tmp_path)
    with opened(path) as archive, pytest.raises(OpskitError, match="is a link now") as caught:
        plan(archive, catalog)
    assert caught.value.code == "BACKUP_003"
    assert snapshot(tmp_path) == before
