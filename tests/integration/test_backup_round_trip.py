"""A tree that is backed up, destroyed and restored is the same tree."""

import os
import tempfile
from datetime import timedelta
from pathlib import Path

from hypothesis import example, given
from hypothesis import strategies as st

from opskit.backup import restore
from opskit.backup.archive import Archive, opened
from opskit.backup.catalog import BackupCatalog
from opskit.backup.restore import RestorePlan, plan
from opskit.backup.selection import parse
from opskit.errors import ConfigError, OpskitError
from tests.parts.backups import NOW, snapshot

_BYTES = st.binary(min_size=1, max_size=12).filter(
    lambda b: not (set(b) & {0, 47}) and b not in (b".", b"..")
)
_CHARS = st.text(
    st.characters(exclude_categories=["Cs", "Cc"], exclude_characters="/"), min_size=1, max_size=9
)
_NAMES = (_CHARS.map(os.fsencode) | _BYTES.filter(lambda b: min(b) > 31 and 127 not in b)).filter(
    lambda name: (
        name not in (b".", b"..")
        and not any(0x80 <= ord(c) <= 0x9F for c in os.fsdecode(name))
        and name != b".opskit-manifest.json"
    )
)
_FILES = st.tuples(
    st.sampled_from([0o600, 0o644, 0o755, 0o400]), st.integers(0, 2**33), st.binary(max_size=99)
)
_TREES = st.recursive(
    st.dictionaries(_NAMES, _FILES, max_size=4),
    lambda inner: st.dictionaries(_NAMES, _FILES | inner, max_size=4),
    max_leaves=12,
)


def grow(where: Path, tree: dict[bytes, object]) -> None:
    for name, what in tree.items():
        path = where / os.fsdecode(name)
        if isinstance(what, dict):
            path.mkdir()
            grow(path, what)
            continue
        mode, time, content = what  # type: ignore[misc]
        path.write_bytes(content)
        path.chmod(mode)
        os.utime(path, ns=(time, time * 1_000_000_007))


def times_of_folders(root: Path) -> dict[str, int]:
    return {where: Path(where).stat().st_mtime_ns for where, _, _ in os.walk(root) if where != str(root)}


@given(_TREES)
@example({b"empty": {}, "имя".encode(): (0o640, 5, b"x"), b"\xff\xfe": {b"deep": {b"er": (0o600, 1, b"")}}})
@example({b"long" * 60: {b"long" * 60: {b"long" * 60: (0o600, 1, b"pax")}}})
def test_what_was_destroyed_comes_back(tree: dict[bytes, object]) -> None:
    """Names of any bytes, modes, times to the nanosecond, empty folders; then nothing is left to change."""
    with tempfile.TemporaryDirectory() as base:
        root = Path(base) / "root"
        root.mkdir()
        grow(root, tree)
        catalog = BackupCatalog(root, Path(base) / "archives", parse(["**"]), 3, 2**30)
        before, times = snapshot(root), times_of_folders(root)
        with catalog.lock():
            try:
                path = catalog.create(now=NOW).path
            except ConfigError:
                assert not any(kind[0] == "file" for kind in before.values())
                return
        root.rename(Path(base) / "gone")
        with catalog.lock(), opened(path) as archive:
            planned = plan(archive, catalog)
            restore.restore(archive, planned, catalog, now=NOW)
            assert snapshot(root) == before
            assert times_of_folders(root) == times
            assert plan(archive, catalog).idle


def planned_unless_in_the_way(archive: Archive, catalog: BackupCatalog) -> RestorePlan | None:
    try:
        return plan(archive, catalog)
    except OpskitError as exc:
        if "stands in the way" not in exc.message:
            raise
        return None


@given(_TREES, _TREES)
def test_an_undo_brings_back_what_was_replaced(old: dict[bytes, object], new: dict[bytes, object]) -> None:
    """Restoring over other content and then the archive of what was replaced: that content is there again.

    Where something stands in the way (a folder where a file was) nothing at all is changed.
    """
    with tempfile.TemporaryDirectory() as base:
        root = Path(base) / "root"
        root.mkdir()
        grow(root, old | {b"anchor": (0o600, 1, b"old")})
        catalog = BackupCatalog(root, Path(base) / "archives", parse(["**"]), 3, 2**30)
        with catalog.lock():
            path = catalog.create(now=NOW).path
            wanted = snapshot(root)
            root.rename(Path(base) / "gone")
            root.mkdir()
            grow(root, new | {b"anchor": (0o644, 2, b"new")})
            before = snapshot(root)
            with opened(path) as archive:
                planned = planned_unless_in_the_way(archive, catalog)
                if planned is None:
                    assert snapshot(root) == before
                    return
                done = restore.restore(archive, planned, catalog, now=NOW)
            now = snapshot(root)
            same = {one.entry.path for one in planned.of("same")}
            assert all(now[p] == wanted[p] or p in same for p in map(os.fsdecode, wanted))
            assert done.replaced is not None
            with opened(done.replaced) as archive:
                undo = plan(archive, catalog)
                restore.restore(archive, undo, catalog, now=NOW + timedelta(seconds=1))
            later = snapshot(root)
            assert all(later[p] == was for p, was in before.items() if was[0] == "file")


def test_the_same_tree_makes_the_same_archive(tmp_path: Path) -> None:
    """Order and bytes depend on nothing but the files and the clock."""
    (tmp_path / "root" / "b").mkdir(parents=True)
    for name in ("z", "b/y", "a", "B", "b.c"):
        (tmp_path / "root" / name).write_text(name)
    made = []
    for folder in ("one", "two"):
        catalog = BackupCatalog(tmp_path / "root", tmp_path / folder, parse(["**"]), 3, 2**30)
        with catalog.lock():
            made.append(catalog.create(now=NOW).path.read_bytes())
    assert made[0] == made[1]
    first = catalog.archives()[0].manifest
    assert first is not None
    assert [entry.path for entry in first.entries] == ["B", "a", "b", "b/y", "b.c", "z"]
