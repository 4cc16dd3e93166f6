"""Which archive is meant, and which may go."""

from datetime import UTC, datetime
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from opskit.backup.catalog import BackupCatalog, StoredArchive, superfluous
from opskit.backup.manifest import Manifest, SkippedFile
from opskit.backup.selection import parse
from opskit.errors import OpskitError, UsageError
from opskit.records import replace
from tests.parts.backups import entries, file, forged, manifest

ROOT = "/srv/stack"


def stored(day: int, *, root: str = ROOT, readable: bool = True, complete: bool = True) -> StoredArchive:
    told: Manifest | None = manifest([], root)
    if told is not None and not complete:
        told = replace(told, skipped=(SkippedFile("a", "why"),))
    stamp = f"2026-11-{day:02}T000000Z"
    return StoredArchive(Path(f"/b/backup_{stamp}.tar.gz"), "backup", stamp, 1, told if readable else None)


def is_complete(archive: StoredArchive) -> bool:
    return archive.manifest is not None and not archive.manifest.skipped


def left(archives: list[StoredArchive], keep: int, new: StoredArchive) -> list[StoredArchive]:
    gone = superfluous(archives, root=ROOT, purpose="backup", keep=keep, new=new.path)
    return [one for one in archives if one not in gone]


def test_the_newest_are_kept() -> None:
    """Of five, keep 2 leaves the two newest."""
    days = [stored(day) for day in (5, 4, 3, 2, 1)]
    assert left(days, 2, days[0]) == days[:2]


def test_the_only_complete_one_stays() -> None:
    """Backups that miss files never push out the last one that has everything."""
    days = [stored(5, complete=False), stored(4, complete=False), stored(3), stored(2)]
    assert left(days, 1, days[0]) == [days[0], days[2]]


def test_damaged_and_foreign_ones_are_left_alone() -> None:
    """They do not count, and nobody removes them."""
    days = [stored(5), stored(4, readable=False), stored(3, root="/other"), stored(2), stored(1)]
    assert left(days, 2, days[0]) == days[:4]


def test_the_new_one_stays_when_the_clock_was_set_back() -> None:
    """It looks like the oldest, and is not."""
    days = [stored(5), stored(4), stored(1)]
    assert left(days, 1, days[2]) == [days[2]]


@given(st.lists(st.tuples(st.booleans(), st.booleans()), min_size=1, max_size=12), st.integers(1, 5))
def test_pruning_never_loses_the_last_good_one(kinds: list[tuple[bool, bool]], keep: int) -> None:
    """Whatever lies there: the new one, the newest complete one and all unreadable ones stay."""
    archives = [
        stored(28 - place, readable=readable, complete=complete)
        for place, (readable, complete) in enumerate(kinds)
    ]
    kept = left(archives, keep, archives[0])
    assert archives[0] in kept
    assert all(one in kept for one in archives if one.manifest is None)
    assert any(map(is_complete, kept)) == any(map(is_complete, archives))
    assert sum(one.manifest is not None for one in kept) <= keep + 1


@pytest.fixture
def catalog(tmp_path: Path) -> BackupCatalog:
    for name in ("backup_2026-11-20T080000Z", "backup_2026-11-21T080000Z", "backup_2026-11-21T093000Z"):
        forged(tmp_path / f"{name}.tar.gz", manifest([file("a")], ROOT), entries([file("a")]))
    newer = "backup_2026-11-21T093000Z-2.tar.gz"
    forged(tmp_path / newer, manifest([file("a")], "/other"), entries([file("a")]))
    forged(tmp_path / "replaced_2026-11-22T100000Z.tar.gz", manifest([file("a")], ROOT), b"")
    (tmp_path / "notes.tar.gz").write_text("not ours")
    return BackupCatalog(Path(ROOT), tmp_path, parse(["**"]), 3, 1)


@pytest.mark.parametrize(
    ("wanted", "name"),
    [
        ("2026-11-20", "backup_2026-11-20T080000Z"),
        ("2026-11-21T08", "backup_2026-11-21T080000Z"),
        ("2026-11-21T08:00", "backup_2026-11-21T080000Z"),
        ("2026-11-21T093000Z", "backup_2026-11-21T093000Z"),
        ("2026-11-21T093000Z-2", "backup_2026-11-21T093000Z-2"),
        ("backup_2026-11-20T080000Z.tar.gz", "backup_2026-11-20T080000Z"),
        ("latest", "backup_2026-11-21T093000Z"),
        ("replaced_2026", "replaced_2026-11-22T100000Z"),
    ],
)
def test_a_date_finds_its_archive(catalog: BackupCatalog, wanted: str, name: str) -> None:
    """A unique beginning, colons or none, the name; `latest` is the newest of this root."""
    assert catalog.find(wanted).name == f"{name}.tar.gz"


@pytest.mark.parametrize("wanted", ["2026-11-19", "yesterday", "", "2026-11-22", "/nowhere/a.tar.gz", "*"])
def test_an_unknown_date_is_an_error(catalog: BackupCatalog, wanted: str) -> None:
    """BACKUP_001, which names the backups that there are."""
    with pytest.raises(OpskitError) as caught:
        catalog.find(wanted)
    assert caught.value.code == "BACKUP_001"
    assert "/" in wanted or "2026-11-20T080000Z" in caught.value.message


def test_a_date_that_may_be_several_is_a_usage_error(catalog: BackupCatalog) -> None:
    """The person chooses, not opskit."""
    with pytest.raises(UsageError, match="may be 3 backups"):
        catalog.find("2026-11-21")


def test_names_are_unique_within_a_second(catalog: BackupCatalog) -> None:
    """A second archive of the same second gets a number, and sorts behind the first."""
    now = datetime(2026, 11, 21, 9, 30, tzinfo=UTC)
    path = catalog.new_path("backup", now)
    assert path.name == "backup_2026-11-21T093000Z-3.tar.gz"
    dates = [archive.date for archive in catalog.archives() if "T093000Z" in archive.date]
    assert dates == ["2026-11-21T093000Z-2", "2026-11-21T093000Z"]


def test_a_folder_that_is_not_there_holds_nothing(tmp_path: Path) -> None:
    """Before the first backup there is no error."""
    assert BackupCatalog(tmp_path, tmp_path / "none", parse(["**"]), 3, 1).archives() == []
