"""A plain `backup_<date>.tar.gz` of older scripts, made by the real `tar`: listed, verified, restored."""

import gzip
import os
import subprocess
from pathlib import Path

import pytest

from opskit.backup import restore
from opskit.backup.archive import opened
from opskit.backup.catalog import BackupCatalog, verify
from opskit.backup.restore import plan
from opskit.backup.selection import parse
from opskit.errors import OpskitError
from opskit.result import Status
from tests.parts.backups import NOW, entry, snapshot


@pytest.fixture
def catalog(tmp_path: Path) -> BackupCatalog:
    root = tmp_path / "root"
    (root / "results" / "deep").mkdir(parents=True)
    (root / ".env").write_text("KEY=old\n")
    (root / ".env").chmod(0o600)
    (root / "results" / "deep" / "имя.json").write_text("{}")
    (root / "results" / ("long" * 40)).write_text("long")
    (root / "results" / "last").symlink_to("deep/имя.json")
    made = BackupCatalog(root, tmp_path / "archives", parse(["**"]), 3, 10_000)
    made.folder.mkdir(parents=True, exist_ok=True)
    return made


def packed(catalog: BackupCatalog, name: str, *arguments: str) -> Path:
    path = catalog.folder / name
    subprocess.run(["tar", "czf", str(path), *arguments], cwd=catalog.root, check=True)
    return path


@pytest.mark.parametrize("how", [["."], [".env", "results"], ["--format=ustar", "./.env", "./results"]])
def test_it_restores_what_tar_archived(catalog: BackupCatalog, how: list[str]) -> None:
    """Whether it was made of `.` or of names: the files are back in this root."""
    if how[0] == "--format=ustar":
        (catalog.root / "results" / ("long" * 40)).unlink()
    before = snapshot(catalog.root, times=False)
    path = packed(catalog, "backup_2025-01-31.tar.gz", *how)
    (catalog.root / "results" / "deep" / "имя.json").unlink()
    (catalog.root / ".env").write_text("spoiled")
    with catalog.lock(), opened(catalog.find("2025-01")) as archive:
        done = restore.restore(archive, plan(archive, catalog), catalog, now=NOW)
        assert plan(archive, catalog).idle
    assert path == archive.path
    assert snapshot(catalog.root, times=False) == before
    assert done.replaced is not None


def test_folders_that_it_does_not_name_are_made(catalog: BackupCatalog) -> None:
    """`tar czf FILE results/deep/a` holds no folder."""
    before = snapshot(catalog.root, times=False)
    path = packed(catalog, "backup_1.tar.gz", "results/deep/имя.json")
    (catalog.root / "results").rename(catalog.folder / "away")
    with opened(path) as archive:
        restore.restore(archive, plan(archive, catalog), catalog, now=NOW)
    now = snapshot(catalog.root, times=False)
    assert set(before) - set(now) == {"results/last", "results/" + "long" * 40}
    assert all(now[name] == before[name] for name in now)


@pytest.mark.parametrize(
    "name", ["backup_2025-01-31.tar.gz", "backup_20250131_235959.tar.gz", "backup_2025-01-31T23:59:59.tar.gz"]
)
def test_it_is_listed_by_its_date(catalog: BackupCatalog, name: str) -> None:
    """Any form of date sorts among ours, and the beginning of it finds the archive."""
    path = packed(catalog, name, ".")
    packed(catalog, "backup_2024-12-01.tar.gz", ".env")
    ours = catalog.create(now=NOW).path
    archives = catalog.archives()
    assert [archive.path for archive in archives][:2] == [ours, path]
    assert [archive.manifest for archive in archives[1:]] == [None, None]
    assert {archive.problem for archive in archives} == {""}
    assert catalog.find(name.removeprefix("backup_")[:7]) == path
    assert catalog.find("latest") == ours
    ours.unlink()
    assert catalog.find("latest") == path


def test_it_has_no_checksums(catalog: BackupCatalog) -> None:
    """`verify` reads all of it and warns that nothing says what it should hold; a damaged one fails."""
    path = packed(catalog, "backup_2025-01-31.tar.gz", ".")
    (finding,) = verify([path]).findings
    assert (finding.status, finding.state) == (Status.WARN, "no checksums")
    assert finding.evidence["files"] == 4
    whole = path.read_bytes()
    path.write_bytes(whole[:-9])
    assert verify([path]).findings[0].status is Status.FAIL
    unpacked = bytearray(gzip.decompress(whole))
    unpacked[len(unpacked) // 2 :] = os.urandom(512)
    path.write_bytes(gzip.compress(bytes(unpacked)))
    assert verify([path]).findings[0].status is Status.FAIL


def test_it_is_never_pruned(catalog: BackupCatalog) -> None:
    """It does not say which root it is of, so nobody removes it."""
    path = packed(catalog, "backup_2025-01-31.tar.gz", ".")
    for _ in range(5):
        catalog.create(now=NOW)
    assert path.exists()
    assert len(list(catalog.folder.glob("backup_2026*"))) == 3


@pytest.mark.parametrize(
    ("tar", "reason"),
    [
        (entry("/etc/cron.d/x", b"x"), "absolute"),
        (entry("../x", b"x"), "leaves the folder"),
        (entry("./../x", b"x"), "leaves the folder"),
        (entry("a/./b", b"x"), "empty name"),
        (entry("l", kind=b"2", target="/etc") + entry("l/x", b"x"), "absolute link"),
        (entry("l", kind=b"2", target="..") + entry("l/x", b"x"), "leads out"),
        (entry("l", kind=b"2", target="a") + entry("l/x", b"x"), "below the link"),
        (entry("a", b"1") + entry("./a", b"2"), "twice"),
        (entry("a", kind=b"1", target="b"), "hard link"),
        (entry("a", kind=b"3"), "device"),
        (entry(".opskit-restore.json", b"{}"), "left over"),
    ],
)
def test_what_leads_out_is_refused(catalog: BackupCatalog, tar: bytes, reason: str) -> None:
    """The same is refused as in an archive of ours, before anything is written."""
    path = catalog.folder / "backup_x.tar.gz"
    path.write_bytes(gzip.compress(tar + bytes(1024)))
    before = snapshot(catalog.root)
    with opened(path) as archive, pytest.raises(OpskitError, match=reason) as caught:
        plan(archive, catalog)
    assert caught.value.code == "BACKUP_002"
    assert snapshot(catalog.root) == before


def test_more_than_the_disk_holds_is_refused(catalog: BackupCatalog) -> None:
    """A member that claims more than can be packed into the file is refused unread."""
    path = catalog.folder / "backup_x.tar.gz"
    head = entry("x", b"17 size=99999999\n", kind=b"x") + entry("a", b"")
    path.write_bytes(gzip.compress(head + bytes(1024)))
    with opened(path) as archive, pytest.raises(OpskitError, match="than is allowed"):
        plan(archive, catalog)
