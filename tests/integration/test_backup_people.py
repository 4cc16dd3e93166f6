"""A restore and people who work on the same files: what they write is never lost unseen."""

import os
from pathlib import Path

import pytest

from opskit.backup import restore
from opskit.backup.archive import Archive, opened
from opskit.backup.archive_writer import write_archive
from opskit.backup.catalog import BackupCatalog
from opskit.backup.create import create
from opskit.backup.folder import RootFolder
from opskit.backup.manifest import empty_manifest
from opskit.backup.pattern import parse
from opskit.backup.restore_plan import plan
from opskit.backup.restore_record import RestoreRecord, interrupted_targets, write_record
from opskit.errors import OpskitError
from tests.parts.backups import NOW, snapshot

RECORD = ".opskit-restore.json"


@pytest.fixture
def catalog(tmp_path: Path) -> BackupCatalog:
    (tmp_path / "root").mkdir()
    (tmp_path / "root" / ".env").write_text("old")
    made = BackupCatalog(tmp_path / "root", tmp_path / "archives", parse([".env"]), 3, 10_000)
    made.make_folder()
    return made


def half_done(catalog: BackupCatalog, *, there: str, by: BackupCatalog | None = None) -> RestoreRecord:
    """A restore that was killed when `.env` was in place, and what stands in it now. `by` began it."""
    path = catalog.root / ".env"
    path.write_text("restored")
    archive = create(catalog, now=NOW).written.path
    path.write_text("old")
    safety = catalog.new_path("replaced", NOW)
    draft = empty_manifest("replaced", catalog.root, NOW)
    with RootFolder(catalog.root) as folder:
        write_archive(folder, [(".env", "file")], draft, safety, max_file_bytes=99)
    with Archive(archive) as opened_archive:
        assert opened_archive.manifest is not None
        entries = opened_archive.manifest.entries
    record = RestoreRecord(
        archive=str(archive),
        only=(),
        archives=str(catalog.folder),
        safety=str(safety),
        entries=entries,
        before={".env": 0o644},
        made_target=False,
    )
    write_record(catalog.root, record, by or catalog)
    path.write_text(there)
    return record


def contents(catalog: BackupCatalog) -> dict[str, object]:
    return {name: seen[3] for name, seen in snapshot(catalog.root).items()}


def test_what_nobody_touched_is_taken_back(catalog: BackupCatalog) -> None:
    """The old file is there again, and no trace of the restore."""
    record = half_done(catalog, there="restored")
    name = Path(record.archive).name
    assert (
        restore.recover(catalog) == f"an interrupted restoration of {name} to {catalog.root} was taken back"
    )
    assert contents(catalog) == {".env": b"old"}
    assert [path.name for path in catalog.folder.iterdir()] == [name]


def test_what_a_person_wrote_since_stays(catalog: BackupCatalog) -> None:
    """Their file is left, they are told its name, and what it replaced is kept."""
    record = half_done(catalog, there="mine")
    report = restore.recover(catalog)
    assert report is not None
    assert report.endswith("left as somebody changed them since: .env")
    assert contents(catalog) == {".env": b"mine"}
    assert record.safety is not None
    assert Path(record.safety).exists()


def test_what_a_person_wrote_since_is_not_resumed_over(catalog: BackupCatalog) -> None:
    """--resume refuses, names the file and the way out, and changes nothing."""
    half_done(catalog, there="mine")
    before = snapshot(catalog.root)
    with pytest.raises(OpskitError, match="was changed since") as caught:
        restore.resume(catalog)
    assert "--rollback" in caught.value.remedy
    assert snapshot(catalog.root) == before


def test_without_the_archive_it_cannot_be_resumed(catalog: BackupCatalog) -> None:
    """The archive that was restored is gone: --resume says so and changes nothing, --rollback still works."""
    record = half_done(catalog, there="restored")
    Path(record.archive).unlink()
    before = snapshot(catalog.root)
    with pytest.raises(OpskitError, match="it is gone"):
        restore.resume(catalog)
    assert snapshot(catalog.root) == before
    restore.roll_back(catalog)
    assert contents(catalog) == {".env": b"old"}


def test_without_the_safety_archive_nothing_is_pretended(catalog: BackupCatalog) -> None:
    """What was replaced cannot be put back: each command says so, names the archive, and changes nothing."""
    record = half_done(catalog, there="restored")
    assert record.safety is not None
    away = Path(record.safety).rename(catalog.folder / "away")
    before = snapshot(catalog.root)
    for _ in range(2):
        with pytest.raises(OpskitError, match="cannot be put back") as caught:
            restore.recover(catalog)
        assert record.safety in caught.value.message
    assert snapshot(catalog.root) == before
    away.rename(record.safety)
    assert restore.recover(catalog) is not None
    assert contents(catalog) == {".env": b"old"}


@pytest.mark.parametrize(
    "content", ["", "{", "[]", '{"schema_version": 9}', '{"schema_version": 1, "archive": 3}']
)
def test_a_damaged_record_is_reported_once(catalog: BackupCatalog, content: str) -> None:
    """It is set aside with a word on what to do; the next command runs again."""
    (catalog.root / RECORD).write_text(content)
    with pytest.raises(OpskitError, match="damaged; it was set aside"):
        restore.recover(catalog)
    assert restore.recover(catalog) is None


def test_a_record_cannot_lead_out_of_its_folder(catalog: BackupCatalog, tmp_path: Path) -> None:
    """A record that names a path outside is damaged: nothing is removed there."""
    half_done(catalog, there="restored")
    record = catalog.root / RECORD
    record.write_text(record.read_text().replace('".env"', '"../outside"'))
    (tmp_path / "outside").write_text("restored")
    with pytest.raises(OpskitError, match="damaged; it was set aside"):
        restore.recover(catalog)
    assert (tmp_path / "outside").read_text() == "restored"


def test_a_target_that_is_gone_needs_nothing_back(catalog: BackupCatalog) -> None:
    """Who removed the whole folder since is not held up for ever."""
    half_done(catalog, there="restored")
    catalog.root.rename(catalog.root.with_name("gone"))
    assert restore.recover(catalog) is None
    assert interrupted_targets(catalog) == []


def test_a_restore_to_another_folder_is_found_again(catalog: BackupCatalog, tmp_path: Path) -> None:
    """--to FOLDER: the next command of the same archives undoes it there."""
    other = BackupCatalog(tmp_path / "other", catalog.folder, catalog.patterns, 3, 10_000)
    other.root.mkdir()
    half_done(other, there="restored", by=catalog)
    assert restore.recover(catalog) is not None
    assert contents(other) == {".env": b"old"}
    assert not list(catalog.folder.glob(".restoring"))


def test_the_way_back_of_another_restore_is_not_overwritten(catalog: BackupCatalog, tmp_path: Path) -> None:
    """--to a folder where another restore was interrupted is refused; that one can still be undone."""
    path = create(catalog, now=NOW).written.path
    other = BackupCatalog(tmp_path / "other", tmp_path / "theirs", catalog.patterns, 3, 10_000)
    other.root.mkdir()
    other.make_folder()
    half_done(other, there="restored")
    with opened(path) as archive:
        planned = plan(archive, catalog, to=other.root)
        with pytest.raises(OpskitError, match="was interrupted"):
            restore.restore(archive, planned, catalog, now=NOW)
    assert restore.recover(other) is not None
    assert contents(other) == {".env": b"old"}


@pytest.mark.parametrize("moved", ["folder", "root"])
def test_a_restored_configuration_does_not_hide_the_record(
    catalog: BackupCatalog, tmp_path: Path, moved: str
) -> None:
    """It may move the folder of archives, or the root to a folder below: the record lies in the target."""
    half_done(catalog, there="restored")
    (catalog.root / "below").mkdir()
    later = BackupCatalog(
        catalog.root / "below" if moved == "root" else catalog.root,
        tmp_path / "elsewhere",
        catalog.patterns,
        3,
        10_000,
    )
    later.make_folder()
    assert restore.recover(later) is not None
    assert (catalog.root / ".env").read_text() == "old"


def test_a_living_restore_is_not_undone(catalog: BackupCatalog, tmp_path: Path) -> None:
    """Even with another folder of archives, and so another lock: BACKUP_004, and nothing is touched."""
    half_done(catalog, there="restored")
    later = BackupCatalog(catalog.root, tmp_path / "elsewhere", catalog.patterns, 3, 10_000)
    with catalog.lock(), later.lock(), pytest.raises(OpskitError) as caught:
        restore.recover(later)
    assert caught.value.code == "BACKUP_004"
    assert contents(catalog)[".env"] == b"restored"


def test_traces_are_never_archived(catalog: BackupCatalog) -> None:
    """What an interrupted restore left is named as skipped, and is in no archive."""
    (catalog.root / ".opskit-restore-7.new").write_text("half")
    everything = BackupCatalog(catalog.root, catalog.folder, parse(["**"]), 3, 10_000)
    manifest = create(everything, now=NOW).written.manifest
    assert [entry.path for entry in manifest.entries] == [".env"]
    assert [(skipped.path, "left over" in skipped.reason) for skipped in manifest.skipped] == [
        (".opskit-restore-7.new", True)
    ]


def test_a_file_that_appears_meanwhile_is_not_overwritten(catalog: BackupCatalog) -> None:
    """It was not there when the plan was shown: everything is taken back and it stays."""
    path = create(catalog, now=NOW).written.path
    (catalog.root / ".env").unlink()
    with opened(path) as archive:
        planned = plan(archive, catalog)
        (catalog.root / ".env").write_text("mine")
        before = snapshot(catalog.root)
        with pytest.raises(OpskitError, match="written to meanwhile"):
            restore.restore(archive, planned, catalog, now=NOW)
    assert snapshot(catalog.root) == before


def test_a_file_keeps_its_owner(catalog: BackupCatalog) -> None:
    """Root restores a service's file: the service may still read it, also when it is taken back."""
    path = create(catalog, now=NOW).written.path
    (catalog.root / ".env").write_text("spoiled")
    if os.geteuid() == 0:
        os.chown(catalog.root / ".env", 12345, 12346)
    before = (catalog.root / ".env").stat()
    with opened(path) as archive:
        planned = plan(archive, catalog)
        restore.restore(archive, planned, catalog, now=NOW)
    after = (catalog.root / ".env").stat()
    assert (catalog.root / ".env").read_text() == "old"
    assert (after.st_uid, after.st_gid) == (before.st_uid, before.st_gid)


def test_a_link_in_the_way_of_a_folder_cannot_be_walked_through(
    catalog: BackupCatalog, tmp_path: Path
) -> None:
    """Even when it is planted at the last moment: the system itself refuses to follow it."""
    (tmp_path / "outside").mkdir()
    (catalog.root / "logs").symlink_to(tmp_path / "outside")
    with RootFolder(catalog.root) as folder, pytest.raises(OSError):
        folder.create("logs/x")
    assert list((tmp_path / "outside").iterdir()) == []
