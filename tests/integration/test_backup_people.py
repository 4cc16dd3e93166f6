"""A restore and people who work on the same files: what they write is never lost unseen."""

import os
from pathlib import Path

import pytest

from opskit.backup import restore, undo
from opskit.backup.archive import Archive, opened
from opskit.backup.catalog import BackupCatalog
from opskit.backup.folder import RootFolder
from opskit.backup.manifest import RestoreRecord
from opskit.backup.restore import plan
from opskit.backup.selection import parse
from opskit.backup.undo import POINTER, begin, interrupted_targets
from opskit.errors import OpskitError
from opskit.records import replace
from tests.parts.backups import NOW, entries, forged, snapshot


@pytest.fixture
def catalog(tmp_path: Path) -> BackupCatalog:
    (tmp_path / "root").mkdir()
    (tmp_path / "root" / ".env").write_text("old")
    made = BackupCatalog(tmp_path / "root", tmp_path / "archives", parse([".env"]), 3, 10_000)
    made.folder.mkdir(parents=True, exist_ok=True)
    return made


def half_done(catalog: BackupCatalog, *, there: str, by: BackupCatalog | None = None) -> tuple[Path, Path]:
    """A restore that was killed when `.env` was in place, and what stands in it now. `by` began it.

    Returns the archive that was restored, and that of what it replaced.
    """
    path = catalog.root / ".env"
    path.write_text("restored")
    archive = catalog.create(now=NOW).path
    path.write_text("old")
    safety = catalog.new_path("replaced", NOW)
    with Archive(archive) as opened_archive:
        assert opened_archive.manifest is not None
        entries = opened_archive.manifest.entries
    record = RestoreRecord(archive=str(archive), only=(), made_target=False, entries=entries)
    with RootFolder(catalog.root) as folder:
        begin(folder, record, [".env"], safety, by or catalog, NOW)
    path.write_text(there)
    return archive, safety


def contents(catalog: BackupCatalog) -> dict[str, object]:
    return {name: seen[-1] for name, seen in snapshot(catalog.root).items()}


def test_what_nobody_touched_is_taken_back(catalog: BackupCatalog) -> None:
    """The old file is there again, and no trace of the restore."""
    archive, _ = half_done(catalog, there="restored")
    (undone,) = undo.recover(catalog)
    assert str(undone) == f"an interrupted restoration of {archive.name} to {catalog.root} was taken back"
    assert contents(catalog) == {".env": b"old"}
    assert list(catalog.folder.iterdir()) == [archive]


def test_what_a_person_wrote_since_stays(catalog: BackupCatalog) -> None:
    """Their file is left, they are told its name, and what it replaced is kept."""
    _, safety = half_done(catalog, there="mine")
    (undone,) = undo.recover(catalog)
    assert str(undone).endswith("left as somebody changed them since: .env")
    assert contents(catalog) == {".env": b"mine"}
    assert safety.exists()


def test_what_a_person_wrote_since_is_not_resumed_over(catalog: BackupCatalog) -> None:
    """--resume refuses, names the file and the way out, and changes nothing."""
    half_done(catalog, there="mine")
    before = snapshot(catalog.root)
    with pytest.raises(OpskitError, match="was changed since") as caught:
        undo.recover(catalog, to_resume=True)
    assert "--rollback" in caught.value.remedy
    assert snapshot(catalog.root) == before


def test_without_the_archive_it_cannot_be_resumed(catalog: BackupCatalog) -> None:
    """The archive that was restored is gone: --resume says so and changes nothing, --rollback still works."""
    archive, _ = half_done(catalog, there="restored")
    archive.unlink()
    before = snapshot(catalog.root)
    with pytest.raises(OpskitError, match="it is gone"):
        undo.recover(catalog, to_resume=True)
    assert snapshot(catalog.root) == before
    undo.recover(catalog)
    assert contents(catalog) == {".env": b"old"}


def test_without_the_safety_archive_nothing_is_pretended(catalog: BackupCatalog) -> None:
    """What was replaced cannot be put back: each command says so, names the archive, and changes nothing."""
    _, safety = half_done(catalog, there="restored")
    away = safety.rename(catalog.folder / "away")
    before = snapshot(catalog.root)
    for _ in range(2):
        with pytest.raises(OpskitError, match="cannot be put back") as caught:
            undo.recover(catalog)
        assert str(safety) in caught.value.message
        assert "to keep what is there now" in caught.value.remedy
    assert snapshot(catalog.root) == before
    away.rename(safety)
    assert undo.recover(catalog)
    assert contents(catalog) == {".env": b"old"}


@pytest.mark.parametrize("target", [None, "a.tar.gz", "/nowhere/a.tar.gz", "/"])
def test_a_damaged_pointer_changes_nothing(catalog: BackupCatalog, target: str | None) -> None:
    """It leads to no archive: that is said, with a word on what to do; without it the next command runs."""
    pointer = catalog.root / POINTER
    pointer.write_text("{") if target is None else pointer.symlink_to(target)
    before = snapshot(catalog.root)
    with pytest.raises(OpskitError, match="cannot be put back"):
        undo.recover(catalog)
    assert snapshot(catalog.root) == before
    (catalog.root / POINTER).unlink()
    assert undo.recover(catalog) == []


@pytest.mark.parametrize("share", [0.1, 0.9])
def test_a_damaged_safety_archive_is_reported_and_replaces_nothing(
    catalog: BackupCatalog, share: float
) -> None:
    """Its manifest or its content: what stands there now stays, and so does the pointer."""
    _, safety = half_done(catalog, there="restored")
    whole = bytearray(safety.read_bytes())
    whole[int(len(whole) * share)] ^= 255
    safety.write_bytes(whole)
    for _ in range(2):
        with pytest.raises(OpskitError, match="cannot be put back"):
            undo.recover(catalog)
    assert contents(catalog)[".env"] == b"restored"


def test_what_only_began_to_be_kept_is_forgotten(catalog: BackupCatalog) -> None:
    """Killed while the old files were being kept: nothing was changed, and nothing is reported."""
    half_done(catalog, there="old")
    (catalog.root / POINTER).unlink()
    assert undo.recover(catalog) == []
    assert contents(catalog) == {".env": b"old"}


def test_a_backup_is_no_safety_archive(catalog: BackupCatalog) -> None:
    """A pointer to an archive that records no restoration is refused."""
    archive, _ = half_done(catalog, there="restored")
    (catalog.root / POINTER).unlink()
    (catalog.root / POINTER).symlink_to(archive)
    with pytest.raises(OpskitError, match="it records no restoration"):
        undo.recover(catalog)
    assert contents(catalog)[".env"] == b"restored"


def test_a_record_cannot_lead_out_of_its_folder(catalog: BackupCatalog, tmp_path: Path) -> None:
    """A safety archive that names a path outside is damaged: nothing is removed there."""
    _, safety = half_done(catalog, there="restored")
    with Archive(safety) as archive:
        assert archive.manifest is not None
        record = archive.manifest.restore
        assert record is not None
        outside = replace(record, entries=(replace(record.entries[0], path="../outside"),))
        forged(safety, replace(archive.manifest, restore=outside), entries(archive.manifest.entries))
    (tmp_path / "outside").write_text("restored")
    with pytest.raises(OpskitError, match="a path leaves the target"):
        undo.recover(catalog)
    assert (tmp_path / "outside").read_text() == "restored"


def test_a_target_that_is_gone_needs_nothing_back(catalog: BackupCatalog) -> None:
    """Who removed the whole folder since is not held up for ever."""
    half_done(catalog, there="restored")
    catalog.root.rename(catalog.root.with_name("gone"))
    assert undo.recover(catalog) == []
    assert interrupted_targets(catalog) == []


def test_a_restore_to_another_folder_is_found_again(catalog: BackupCatalog, tmp_path: Path) -> None:
    """--to FOLDER: the next command of the same archives undoes it there."""
    other = BackupCatalog(tmp_path / "other", catalog.folder, catalog.patterns, 3, 10_000)
    other.root.mkdir()
    half_done(other, there="restored", by=catalog)
    assert undo.recover(catalog)
    assert contents(other) == {".env": b"old"}
    assert not list(catalog.folder.glob(".restoring"))


def test_the_way_back_of_another_restore_is_not_overwritten(catalog: BackupCatalog, tmp_path: Path) -> None:
    """--to a folder where another restore was interrupted is refused; that one can still be undone."""
    path = catalog.create(now=NOW).path
    other = BackupCatalog(tmp_path / "other", tmp_path / "theirs", catalog.patterns, 3, 10_000)
    other.root.mkdir()
    other.folder.mkdir(parents=True, exist_ok=True)
    half_done(other, there="restored")
    with opened(path) as archive:
        planned = plan(archive, catalog, to=other.root)
        with pytest.raises(OpskitError, match="was interrupted"):
            restore.restore(archive, planned, catalog, now=NOW)
    assert undo.recover(other)
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
    later.folder.mkdir(parents=True, exist_ok=True)
    assert undo.recover(later)
    assert (catalog.root / ".env").read_text() == "old"


def test_a_living_restore_is_not_undone(catalog: BackupCatalog, tmp_path: Path) -> None:
    """Even with another folder of archives, and so another lock: BACKUP_004, and nothing is touched."""
    half_done(catalog, there="restored")
    later = BackupCatalog(catalog.root, tmp_path / "elsewhere", catalog.patterns, 3, 10_000)
    with catalog.lock(), later.lock(), pytest.raises(OpskitError) as caught:
        undo.recover(later)
    assert caught.value.code == "BACKUP_004"
    assert contents(catalog)[".env"] == b"restored"


def test_traces_are_never_archived(catalog: BackupCatalog) -> None:
    """What an interrupted restore left is named as skipped, and is in no archive."""
    (catalog.root / ".opskit-restore-7.new").write_text("half")
    everything = BackupCatalog(catalog.root, catalog.folder, parse(["**"]), 3, 10_000)
    manifest = everything.create(now=NOW).manifest
    assert [entry.path for entry in manifest.entries] == [".env"]
    assert [(skipped.path, "left over" in skipped.reason) for skipped in manifest.skipped] == [
        (".opskit-restore-7.new", True)
    ]


def test_a_file_that_appears_meanwhile_is_not_overwritten(catalog: BackupCatalog) -> None:
    """It was not there when the plan was shown: everything is taken back and it stays."""
    path = catalog.create(now=NOW).path
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
    path = catalog.create(now=NOW).path
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
