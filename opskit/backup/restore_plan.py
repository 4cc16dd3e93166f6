"""What a restore would change: the archive against what is there now."""

import hashlib
import os
import stat
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from opskit.backup.archive import Archive
from opskit.backup.archive_writer import not_written
from opskit.backup.catalog import BackupCatalog
from opskit.backup.folder import RootFolder, ignores_case
from opskit.backup.manifest import ArchiveEntry, parents, printable_path
from opskit.backup.pattern import parse
from opskit.errors import OpskitError, UsageError

_MOST_NAMED = 5


@dataclass(frozen=True, slots=True)
class FileChange:
    """What a restore would do to one path, and why. A file that differs only in its time is the same.

    "blocked" is a path where something stands that is not replaced: a folder where a file belongs, a link
    where a folder belongs (it may lead anywhere), a device.
    """

    entry: ArchiveEntry
    action: Literal["new", "changed", "same", "blocked"]
    why: str = ""


@dataclass(frozen=True, slots=True)
class RestorePlan:
    """What a restore would do. Nothing is written yet."""

    archive: Path
    target: Path
    only: tuple[str, ...]
    changes: tuple[FileChange, ...]

    def of(self, action: str) -> list[FileChange]:
        return [change for change in self.changes if change.action == action]

    @property
    def replaced(self) -> list[str]:
        """Return the paths of files and links that get another content."""
        return [change.entry.path for change in self.of("changed") if change.entry.kind != "folder"]

    @property
    def idle(self) -> bool:
        return all(change.action == "same" for change in self.changes)


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
    manifest, problems = archive.check(ignores_case=ignores_case(target))
    if problems:
        more = f" (and {len(problems) - 3} more)" if len(problems) > 3 else ""
        raise OpskitError("BACKUP_002", f"{archive.path}: {'; '.join(problems[:3])}{more}")
    entries: Sequence[ArchiveEntry] = manifest.entries
    if patterns is not None:
        meant = {entry.path for entry in entries if patterns.match(entry.path)}
        if not meant:
            raise UsageError("nothing in the backup matches --only", remedy="`--dry-run` shows what it holds")
        meant |= {folder for path in meant for folder in parents(path)}
        entries = [entry for entry in entries if entry.path in meant]
    return RestorePlan(archive.path, target, tuple(only), _changes(entries, target))


def _changes(entries: Sequence[ArchiveEntry], target: Path) -> tuple[FileChange, ...]:
    """Compare; folders come before what is in them. Raises BACKUP_003 when something stands in the way."""
    if not target.exists():
        return tuple(FileChange(entry, "new") for entry in entries)
    changes: list[FileChange] = []
    absent: set[str] = set()
    try:
        with RootFolder(target) as folder:
            for entry in entries:
                is_below = any(above in absent for above in parents(entry.path))
                change = FileChange(entry, "new") if is_below else compare(folder, entry)
                if change.action in ("new", "blocked"):
                    absent.add(entry.path)
                changes.append(change)
    except OSError as exc:
        raise not_written(target, exc) from exc
    blocked = [f"{printable_path(c.entry.path)} {c.why}" for c in changes if c.action == "blocked"]
    if blocked:
        more = f" and {len(blocked) - _MOST_NAMED} more" if len(blocked) > _MOST_NAMED else ""
        raise OpskitError(
            "BACKUP_003",
            f"something stands in the way in {target}: {'; '.join(blocked[:_MOST_NAMED])}{more}",
            remedy="move it away, or restore elsewhere with --to FOLDER",
        )
    return tuple(changes)


def compare(folder: RootFolder, entry: ArchiveEntry) -> FileChange:
    """Compare an entry with what is there. Raises OSError."""
    status = folder.stat(entry.path)
    if status is None:
        return FileChange(entry, "new")
    mode = stat.S_IMODE(status.st_mode) & 0o777
    same_mode = FileChange(entry, "same")
    if mode != entry.mode:
        same_mode = FileChange(entry, "changed", f"mode {mode:04o}, was {entry.mode:04o}")
    match entry.kind, stat.S_IFMT(status.st_mode):
        case "folder", stat.S_IFDIR:
            return same_mode
        case "folder", kind:
            what = "is a link now" if kind == stat.S_IFLNK else "is not a folder now"
            return FileChange(entry, "blocked", f"{what}, and was a folder")
        case _, stat.S_IFDIR:
            return FileChange(entry, "blocked", f"is a folder now, and was a {entry.kind}")
        case "file", stat.S_IFLNK:
            return FileChange(entry, "changed", "is a link now")
        case "link", stat.S_IFLNK:
            same = folder.read_link(entry.path) == entry.target
            return FileChange(entry, "same") if same else FileChange(entry, "changed", "leads elsewhere")
        case "link", stat.S_IFREG:
            return FileChange(entry, "changed", "is a file now")
        case "file", stat.S_IFREG:
            if status.st_size != entry.size:
                return FileChange(entry, "changed", f"{status.st_size} bytes, had {entry.size}")
            with os.fdopen(folder.open(entry.path), "rb") as file:
                same = hashlib.file_digest(file, "sha256").hexdigest() == entry.sha256
            return same_mode if same else FileChange(entry, "changed", "content")
    return FileChange(entry, "blocked", "is a device, a FIFO or a socket now")
