"""Archives that somebody made to do harm, or that the disk has damaged: each is refused, and says why."""

import gzip
import tarfile
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from opskit.backup.archive import Archive, opened
from opskit.backup.catalog import BackupCatalog
from opskit.backup.manifest import ArchiveEntry, DamagedArchiveError, encode
from opskit.backup.restore import plan
from opskit.backup.selection import parse
from opskit.errors import OpskitError, UsageError
from opskit.records import replace
from tests.parts.backups import entries, entry, file, folder, forged, link, manifest, snapshot

A = file("a", b"content")
CONTENT = {"a": b"content"}


@pytest.fixture
def catalog(tmp_path: Path) -> BackupCatalog:
    (tmp_path / "root").mkdir()
    return BackupCatalog(tmp_path / "root", tmp_path / "archives", parse(["**"]), 3, 2**30)


Judge = Callable[[bytes, list[ArchiveEntry]], str]


@pytest.fixture
def judged(catalog: BackupCatalog, tmp_path: Path) -> Judge:
    """What is said of an archive with these members. The target must stay empty."""

    def judge(tar: bytes, members: list[ArchiveEntry]) -> str:
        path = forged(tmp_path / "forged.tar.gz", manifest(members, str(catalog.root)), tar)
        with opened(path) as archive, pytest.raises(OpskitError) as caught:
            plan(archive, catalog)
        assert caught.value.code == "BACKUP_002"
        assert snapshot(catalog.root) == {}
        return caught.value.message

    return judge


def test_an_honest_one_passes(catalog: BackupCatalog, tmp_path: Path) -> None:
    """The forger's own work is accepted when nothing is wrong with it: refusals below are about the wrong."""
    members = [A, folder("d"), file("d/x"), link("l", "a")]
    path = forged(tmp_path / "f.tar.gz", manifest(members, str(catalog.root)), entries(members, CONTENT))
    with opened(path) as archive:
        assert plan(archive, catalog).of("same") == []


@pytest.mark.parametrize(
    ("tar", "reason"),
    [
        (entry("a", kind=tarfile.LNKTYPE, target="/etc/passwd"), "a: it is a hard link"),
        (entry("a", kind=tarfile.CHRTYPE), "a: it is a character device"),
        (entry("a", kind=tarfile.BLKTYPE), "a: it is a block device"),
        (entry("a", kind=tarfile.FIFOTYPE), "a: it is a FIFO"),
        (entry("a", kind=tarfile.SYMTYPE, target="/etc/passwd"), "it is a link where"),
        (entry("a", kind=tarfile.DIRTYPE), "it is a folder where"),
        (entry("a", b"content", mode=0o4755), "it has mode 4755 where"),
        (entry("a", b"other"), "it has 5 bytes where"),
        (entry("a", b"CONTENT"), "checksum"),
        (entry("a", b"x" * 10_000_000), "unpacks to more"),
        (b"", "a: it is missing"),
        (entries([A], CONTENT) * 2, "unpacks to more"),
        (entry("a", b"") + entries([A], CONTENT), "it has 0 bytes where"),
        (entries([A], CONTENT) + entry("extra"), "extra: it is a file that the manifest does not have"),
        (entries([A], CONTENT) + entry("../../x"), "leaves the folder"),
        (entries([A], CONTENT) + entry("/x"), "absolute"),
        (entries([A], CONTENT) + entry("a", kind=tarfile.LNKTYPE), "a: it is a hard link"),
        (entries([A], CONTENT) + entry("a"), "it is there twice"),
        (entry("a" * 99, kind=tarfile.GNUTYPE_SPARSE), "it is a tar member of type"),
        (entry("x", b"y" * 140_000, kind=tarfile.GNUTYPE_LONGNAME) + entries([A], CONTENT), "larger than"),
        (entry("x", b"y" * 140_000, kind=tarfile.XHDTYPE) + entries([A], CONTENT), "larger than"),
        (entry("x", b"10 uid=99\n", kind=tarfile.XHDTYPE) * 2000 + entries([A], CONTENT), "larger than"),
        (entry("x", b"10 uid=99\n", kind=tarfile.XHDTYPE) * 100, "damaged"),
        (entry("x", b"13 path=../x\n", kind=tarfile.XHDTYPE) + entries([A], CONTENT), "leaves the folder"),
        (
            entry("x", b"22 GNU.sparse.size=99\n", kind=tarfile.XHDTYPE) + entries([A], CONTENT),
            "unpacks to more",
        ),
        (entry("x", b"11 size=-5\n", kind=tarfile.XHDTYPE) + entries([A], CONTENT), "-5 bytes where"),
        (entry("x", b"12 size=1e9\n", kind=tarfile.XHDTYPE) + entries([A], CONTENT), "0 bytes where"),
        (entry("x", b"15 size=999999\n", kind=tarfile.XHDTYPE) + entries([A], CONTENT), "unpacks to more"),
        (b"\1" * 512, "header is damaged"),
        (entries([A], CONTENT) + b"\1" * 512, "header is damaged"),
        (bytes(1024) + entries([A], CONTENT), "behind its end"),
    ],
)
def test_a_tar_that_does_not_fit_its_manifest_is_refused(judged: Judge, tar: bytes, reason: str) -> None:
    """The manifest promises one small file `a`; anything else is found before a byte is written."""
    assert reason in judged(tar, [A])


@pytest.mark.parametrize(
    ("members", "reason"),
    [
        ([file("/tmp/x")], "absolute"),
        ([file("../x")], "leaves the folder"),
        ([link("l", "/etc")], "absolute link"),
        ([link("l", "../up")], "leads out"),
        ([link("l", "."), file("l/x")], "below the link"),
        ([file("a", mode=0o4755)], "setuid"),
        ([file("a"), file("a")], "twice"),
        ([file("a\nb")], "control"),
    ],
)
def test_a_manifest_that_means_harm_is_refused(
    judged: Judge, members: list[ArchiveEntry], reason: str
) -> None:
    """Tar and manifest agree with each other, and on something that must not be."""
    assert reason in judged(entries(members), members)


def test_a_bomb_is_refused_unread(judged: Judge) -> None:
    """A manifest that tells of more than deflate can pack is refused by its numbers."""
    assert "more than can be packed" in judged(b"", [replace(A, size=10**12)])


def test_a_second_manifest_is_refused(catalog: BackupCatalog, tmp_path: Path) -> None:
    """Where other tools look last there is no second truth."""
    other = entry(".opskit-manifest.json", encode(manifest([], str(catalog.root))))
    path = forged(tmp_path / "f.tar.gz", manifest([A], str(catalog.root)), entries([A], CONTENT) + other)
    with (
        Archive(path) as archive,
        pytest.raises(DamagedArchiveError, match=r"unpacks to more|kept for the manifest"),
    ):
        archive.check()


@pytest.mark.parametrize("end", [b"", b"\0" * 511, b"\0" * 1024 + b"more", b"\0" * 6_000_000])
def test_an_end_that_tar_would_not_write_is_refused(tmp_path: Path, end: bytes) -> None:
    """No end, half an end, something behind it, more zeros than any program adds."""
    path = forged(tmp_path / "f.tar.gz", manifest([A]), entries([A], CONTENT), end=end)
    with Archive(path) as archive, pytest.raises(DamagedArchiveError):
        archive.check()


@pytest.mark.parametrize("told", [b"{}", b"", b"\xff\xfe", b'{"schema_version": 9}'])
def test_a_manifest_that_cannot_be_read_is_an_error(tmp_path: Path, told: bytes) -> None:
    """It is one line and an exit status, whatever stands there."""
    path = forged(tmp_path / "f.tar.gz", told, entries([A], CONTENT))
    with pytest.raises(DamagedArchiveError):
        Archive(path)


@pytest.mark.parametrize(
    "content",
    [b"", b"x", b"\x1f\x8b" + bytes(100), gzip.compress(b"", mtime=0), gzip.compress(b"text" * 999, mtime=0)],
)
def test_what_is_no_archive_is_an_error(tmp_path: Path, content: bytes) -> None:
    """Empty files, other gzip files and ends without a beginning."""
    path = tmp_path / "f.tar.gz"
    path.write_bytes(content)
    with pytest.raises(DamagedArchiveError):
        Archive(path)


def test_a_folder_or_a_fifo_is_no_archive(tmp_path: Path) -> None:
    """Neither hangs, neither is a traceback."""
    import os

    os.mkfifo(tmp_path / "f.tar.gz")
    with pytest.raises(DamagedArchiveError, match="regular"):
        Archive(tmp_path / "f.tar.gz")
    with pytest.raises(OpskitError) as caught:
        opened(tmp_path)
    assert caught.value.code in ("BACKUP_001", "BACKUP_002")


@settings(max_examples=300, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.data())
def test_no_damaged_byte_goes_unnoticed(tmp_path: Path, data: st.DataObject) -> None:
    """Any byte changed or cut off: the archive is refused, or restores to exactly what it was.

    A few bytes of gzip headers (time, system) mean nothing; everything else is under a checksum.
    """
    members = [A, folder("d"), file("d/x", b"y" * 3000), link("l", "a")]
    honest = manifest(members)
    path = forged(tmp_path / "f.tar.gz", honest, entries(members, CONTENT | {"d/x": b"y" * 3000}))
    whole = bytearray(path.read_bytes())
    place = data.draw(st.integers(0, len(whole) - 1))
    if data.draw(st.booleans()):
        whole[place] ^= data.draw(st.integers(1, 255))
    else:
        del whole[place:]
    path.write_bytes(whole)
    try:
        with Archive(path) as archive:
            assert replace(archive.check(), packed_bytes=0) == honest
            got = {info.name: content.read() for info, content in archive.members() if content}
            assert {path: got[path] for path in ("a", "d/x")} == CONTENT | {"d/x": b"y" * 3000}
    except DamagedArchiveError:
        pass


def test_an_archive_of_another_folder_needs_to_be_told_where_to(
    catalog: BackupCatalog, tmp_path: Path
) -> None:
    """It is never put over this stack by accident."""
    path = forged(tmp_path / "f.tar.gz", manifest([A], "/elsewhere"), entries([A], CONTENT))
    with opened(path) as archive:
        with pytest.raises(UsageError, match="made of /elsewhere"):
            plan(archive, catalog)
        assert plan(archive, catalog, to=tmp_path / "new").target == tmp_path / "new"


def test_other_programs_read_it(tmp_path: Path) -> None:
    """`tar` sees plain members, as any tar.gz has them."""
    members = [A, folder("d"), file("d/имя"), link("l", "a")]
    path = forged(tmp_path / "f.tar.gz", manifest(members), entries(members, CONTENT))
    with tarfile.open(path) as seen:
        assert seen.getnames() == [".opskit-manifest.json", "a", "d", "d/имя", "l"]
        extracted = seen.extractfile("a")
        assert extracted is not None
        assert extracted.read() == b"content"
