"""A restoration and people who work on the same files: what they write is never swept away unseen."""

import os
from pathlib import Path

import pytest

from opskit.backup import creation, interrupted, restoration, staging
from opskit.backup.journal import Journal, JournalFile, Step
from opskit.backup.pattern import parse
from opskit.backup.place import Place
from opskit.backup.tree import Tree
from opskit.errors import OpskitError
from tests.parts.backups import NOW, snapshot


@pytest.fixture
def place(tmp_path: Path) -> Place:
    (tmp_path / "root").mkdir()
    (tmp_path / "root" / ".env").write_text("old")
    made = Place(tmp_path / "root", tmp_path / "archives", parse([".env"]), 3, 10_000)
    made.make_folder()
    return made


def half_done(place: Place, *, there: str) -> JournalFile:
    """A restoration that was killed when `.env` was in place, and what stands in it now."""
    (place.root / ".opskit-restore-t-1.old").write_text("old")
    (place.root / ".env").write_text("restored")
    os.utime(place.root / ".env", ns=(10**18, 10**18))
    if there != "restored":
        (place.root / ".env").write_text(there)
    step = Step(".env", ".opskit-restore-t-1.new", ".opskit-restore-t-1.old", 8, 10**18)
    file = JournalFile(place.folder)
    file.write(Journal("swapping", "/a.tar.gz", str(place.root), (), (step,), (), {}, {}))
    return file


def test_what_nobody_touched_is_taken_back(place: Place) -> None:
    """The old file is there again, and no trace of the restoration."""
    file = half_done(place, there="restored")
    assert (
        interrupted.recover(place) == f"an interrupted restoration of a.tar.gz to {place.root} was taken back"
    )
    assert {name: seen[3] for name, seen in snapshot(place.root).items()} == {".env": b"old"}
    assert not file.exists()


def test_what_a_person_wrote_since_stays(place: Place) -> None:
    """Their file is left, and they are told its name."""
    half_done(place, there="mine")
    told = interrupted.recover(place)
    assert told is not None
    assert told.endswith("left as somebody changed them since: .env")
    assert {name: seen[3] for name, seen in snapshot(place.root).items()} == {".env": b"mine"}


def test_what_a_person_wrote_since_is_not_resumed_over(place: Place) -> None:
    """--resume refuses, names the file and the way out, and changes nothing."""
    half_done(place, there="mine")
    before = snapshot(place.root)
    with pytest.raises(OpskitError, match="was changed since") as caught:
        interrupted.resume(place)
    assert "--rollback" in caught.value.remedy
    assert snapshot(place.root) == before


@pytest.mark.parametrize(
    "content", ["", "{", "[]", '{"schema_version": 9}', '{"schema_version": 1, "phase": 3}']
)
def test_a_damaged_journal_is_told_once(place: Place, content: str) -> None:
    """It is set aside with a word on what to look for; the next command runs again."""
    file = JournalFile(place.folder)
    file.path.write_text(content)
    with pytest.raises(OpskitError, match="damaged; it was set aside"):
        interrupted.recover(place)
    assert interrupted.recover(place) is None


def test_a_target_that_is_gone_needs_nothing_back(place: Place) -> None:
    """Who removed the whole folder since is not held up for ever."""
    file = half_done(place, there="restored")
    place.root.rename(place.root.with_name("gone"))
    assert interrupted.recover(place) is not None
    assert not file.exists()


def test_a_file_that_appears_meanwhile_is_not_overwritten(place: Place) -> None:
    """It was not there when the plan was shown: everything is taken back and it stays."""
    path = creation.create(place, now=NOW).written.path
    (place.root / ".env").unlink()
    with restoration.opened(path) as archive:
        planned = restoration.plan(archive, place)
        (place.root / ".env").write_text("mine")
        before = snapshot(place.root)
        with pytest.raises(OpskitError, match="written to meanwhile"):
            restoration.restore(archive, planned, place, now=NOW, token="t")
    assert snapshot(place.root) == before


def test_a_file_keeps_its_owner(place: Place) -> None:
    """Root restores a service's file: the service may still read it."""
    path = creation.create(place, now=NOW).written.path
    (place.root / ".env").write_text("spoiled")
    if os.geteuid() == 0:
        os.chown(place.root / ".env", 12345, 12346)
    before = (place.root / ".env").stat()
    with restoration.opened(path) as archive:
        planned = restoration.plan(archive, place)
        restoration.restore(archive, planned, place, now=NOW, token="t")
    after = (place.root / ".env").stat()
    assert (place.root / ".env").read_text() == "old"
    assert (after.st_uid, after.st_gid) == (before.st_uid, before.st_gid)


@pytest.mark.parametrize("kind", ["file", "link"])
def test_without_hard_links_a_copy_is_saved(place: Place, kind: str) -> None:
    """Some file systems have none: the copy has the content, the mode, the time and the owner."""
    path = place.root / ".env"
    if kind == "link":
        path.unlink()
        path.symlink_to("elsewhere")
    with Tree(place.root) as tree:
        staging._copy(tree, ".env", ".saved")
    seen = snapshot(place.root)
    assert seen[".saved"] == seen[".env"]


def test_a_link_in_the_way_of_a_folder_cannot_be_walked_through(place: Place, tmp_path: Path) -> None:
    """Even when it is planted at the last moment: the system itself refuses to follow it."""
    (tmp_path / "outside").mkdir()
    (place.root / "logs").symlink_to(tmp_path / "outside")
    with Tree(place.root) as tree, pytest.raises(OSError):
        tree.create("logs/x")
    assert list((tmp_path / "outside").iterdir()) == []
