"""Putting a backup back: all of it, or nothing.

What is replaced is kept in an archive of its own. Then every new file is written beside the one that it
replaces, and each gets its name in one step. `opskit.backup.undo` takes back what was begun and did not end.

Each of these is on the disk before the next one begins, so that neither a kill nor a loss of power leaves a
mixture that nobody can undo: the safety archive, the link to it and every new file, whole; their names in
place of the old ones. Last the link goes.
"""

import contextlib
import os
import shutil
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path

from opskit.backup.archive import Archive
from opskit.backup.catalog import BackupCatalog, undisturbed
from opskit.backup.folder import FileChange, RootFolder, compare, not_written
from opskit.backup.manifest import ArchiveEntry, DamagedArchiveError, RestoreRecord, parents, printable_path
from opskit.backup.selection import parse
from opskit.backup.undo import begin, end, undo
from opskit.errors import OpskitError, UsageError
from opskit.facts.unfinished_restore import unfinished_in
from opskit.records import Record
from opskit.text import listing

_MOST_NAMED = 5


class RestorePlan(Record):
    """What a restore would do. Nothing is written yet."""

    archive: Path
    target: Path
    only: tuple[str, ...]
    changes: tuple[FileChange, ...]

    def of(self, action: str) -> list[FileChange]:
        return [change for change in self.changes if change.action == action]

    @property
    def idle(self) -> bool:
        return all(change.action == "same" for change in self.changes)


class RestoreResult(Record):
    """`replaced` is the archive of what was replaced, None when nothing was. `removed` were such archives."""

    replaced: Path | None
    removed: tuple[Path, ...] = ()


def plan(
    archive: Archive, catalog: BackupCatalog, *, to: Path | None = None, only: Sequence[str] = ()
) -> RestorePlan:
    """Check the whole archive, then compare it with what is there.

    Raises BACKUP_002 when anything is wrong with the archive, BACKUP_003 when something stands in the way,
    UsageError when the archive was made of another folder than this one and `to` is None.
    """
    root = "" if archive.manifest is None else archive.manifest.root
    if to is None and root not in ("", str(catalog.root)):
        raise UsageError(
            f"{archive.path.name} was made of {printable_path(root)}, and `backup.root` is {catalog.root}",
            remedy=f"say where to: --to {catalog.root}",
        )
    patterns = parse(only) if only else None
    target = catalog.root if to is None else Path(os.path.realpath(to))
    if not target.parent.is_dir() or (target.exists() and not target.is_dir()):
        raise UsageError(f"{target} is not a folder and cannot become one", remedy="name a folder with --to")
    try:
        entries: Sequence[ArchiveEntry] = archive.check().entries
    except DamagedArchiveError as exc:
        raise OpskitError("BACKUP_002", f"{archive.path}: {exc}") from exc
    if patterns is not None:
        paths = {entry.path for entry in entries if patterns.match(entry.path)}
        if not paths:
            raise UsageError("nothing in the backup matches --only", remedy="`--dry-run` shows what it holds")
        paths |= {folder for path in paths for folder in parents(path)}
        entries = [entry for entry in entries if entry.path in paths]
    return RestorePlan(archive.path, target, tuple(only), _changes(entries, target))


def _changes(entries: Sequence[ArchiveEntry], target: Path) -> tuple[FileChange, ...]:
    """Compare entries with what is there. Raises BACKUP_003 when something stands in the way."""
    if not target.exists():
        return tuple(FileChange(entry, "new") for entry in entries)
    try:
        with RootFolder(target) as folder:
            changes = tuple(compare(folder, entry) for entry in entries)
    except OSError as exc:
        raise not_written(target, exc) from exc
    blocked = [f"{printable_path(c.entry.path)} {c.why}" for c in changes if c.action == "blocked"]
    if blocked:
        raise OpskitError(
            "BACKUP_003",
            f"something stands in the way in {target}: {listing(blocked, _MOST_NAMED, separator='; ')}",
            remedy="move it away, or restore elsewhere with --to FOLDER",
        )
    return changes


def restore(
    archive: Archive, planned: RestorePlan, catalog: BackupCatalog, *, now: datetime
) -> RestoreResult:
    """Do it, under `catalog.lock()`.

    On any failure and on SIGINT, SIGTERM and SIGHUP all is as it was. Raises BACKUP_002 when the archive
    changed since it was checked, BACKUP_003 when something could not be written.
    """
    target = planned.target
    if unfinished_in(target) is not None:
        raise OpskitError(
            "BACKUP_003",
            f"another restoration to {target} was interrupted",
            remedy="`opskit backup restore --rollback` with the configuration that it was begun with",
        )
    safety = catalog.new_path("replaced", now)
    record = RestoreRecord(
        archive=str(planned.archive),
        only=planned.only,
        made_target=not target.exists(),
        entries=tuple(change.entry for change in planned.changes if change.action != "same"),
    )
    need = sum(entry.size for entry in record.entries)
    free = shutil.disk_usage(target.parent if record.made_target else target).free
    if need > free:
        raise OpskitError("BACKUP_003", f"{target}: {need} bytes are needed and {free} are free")
    try:
        target.mkdir(mode=0o700, exist_ok=True)
        with RootFolder(target) as folder:
            replaced = [change.entry.path for change in planned.of("changed")]
            begin(folder, record, replaced, safety, catalog, now).make(archive)
        with undisturbed():
            end(target, catalog)
            if all(change.entry.kind == "folder" for change in planned.of("changed")):
                safety.unlink()
                return RestoreResult(None)
            return RestoreResult(safety, catalog.prune(root=str(target), purpose="replaced", new=safety))
    except BaseException as exc:
        with undisturbed():
            if safety.exists():
                with Archive(safety) as safety_archive:
                    undo(target, safety_archive, catalog)
            elif record.made_target:
                with contextlib.suppress(OSError):
                    target.rmdir()
        if isinstance(exc, DamagedArchiveError):
            raise OpskitError("BACKUP_002", f"{planned.archive}: {exc}; nothing was changed") from exc
        if isinstance(exc, OSError):
            why = f"{target}: {exc.strerror or exc}; nothing was changed"
            raise OpskitError("BACKUP_003", why) from exc
        raise
