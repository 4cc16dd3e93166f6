"""Putting a backup back: all of it, or nothing.

What is replaced is kept in an archive of its own, the safety archive, which also records the restore. A
pointer to it is left in the target; then every new file is written beside the one that it replaces, and each
gets its name in one step. Whoever finds the pointer of a process that was killed undoes the restore from that
archive, and may then do it again.
"""

import contextlib
import hashlib
import os
import shutil
import stat
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from datetime import datetime
from pathlib import Path
from typing import Literal

from opskit.backup.archive import Archive, write_archive
from opskit.backup.catalog import LOCK, BackupCatalog, undisturbed
from opskit.backup.folder import (
    RootFolder,
    flush,
    ignores_case,
    not_written,
    sha256_of,
    temporary_of,
    written_whole,
)
from opskit.backup.manifest import (
    TRACE,
    ArchiveEntry,
    DamagedArchiveError,
    EntryKind,
    RestoreRecord,
    empty_manifest,
    parents,
    printable_path,
    problem_of_path,
)
from opskit.backup.selection import parse
from opskit.errors import OpskitError, UsageError
from opskit.system.lock import try_lock

#: A file in the target that holds the path of the safety archive while the restore is not complete.
POINTER = TRACE
#: A link in the folder of archives that leads to a target which is not the root: `--to` may name any.
_TARGET = ".restoring"
_CHUNK = 1024 * 1024
_FLUSHED_AT_ONCE = 8
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
    def replaces(self) -> bool:
        """Return True when a file or a link gets another content."""
        return any(change.entry.kind != "folder" for change in self.of("changed"))

    @property
    def idle(self) -> bool:
        return all(change.action == "same" for change in self.changes)


@dataclass(frozen=True, slots=True)
class RestoreResult:
    """`replaced` is the archive of what was replaced, None when nothing was. `removed` were such archives."""

    replaced: Path | None
    removed: tuple[Path, ...] = ()


@dataclass(frozen=True, slots=True)
class UndoneRestore:
    """A restore that was killed and taken back. `changed` are paths that somebody has changed since."""

    record: RestoreRecord
    target: Path
    changed: tuple[str, ...]

    def __str__(self) -> str:
        since = f"; left as somebody changed them since: {', '.join(self.changed)}" if self.changed else ""
        archive = Path(self.record.archive).name
        return f"an interrupted restoration of {archive} to {self.target} was taken back{since}"


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
        entries: Sequence[ArchiveEntry] = archive.check(ignores_case=ignores_case(target)).entries
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
    """Compare; folders come before what is in them. Raises BACKUP_003 when something stands in the way."""
    if not target.exists():
        return tuple(FileChange(entry, "new") for entry in entries)
    changes: list[FileChange] = []
    absent: set[str] = set()
    try:
        with RootFolder(target) as folder:
            for entry in entries:
                above = entry.path.rpartition("/")[0]
                change = FileChange(entry, "new") if above in absent else compare(folder, entry)
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
            with folder.open(entry.path) as file:
                same = sha256_of(file) == entry.sha256
            return same_mode if same else FileChange(entry, "changed", "content")
    return FileChange(entry, "blocked", "is a device, a FIFO or a socket now")


def restore(
    archive: Archive, planned: RestorePlan, catalog: BackupCatalog, *, now: datetime
) -> RestoreResult:
    """Do it, under `catalog.lock()`.

    On any failure and on SIGINT, SIGTERM and SIGHUP all is as it was. Raises BACKUP_002 when the archive
    changed since it was checked, BACKUP_003 when something could not be written.
    """
    target = planned.target
    if _has_pointer(target, any_user=True):
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
    try:
        _check_room(record, target)
        if record.made_target:
            target.mkdir(mode=0o700)
        with RootFolder(target) as folder:
            replaced = [change.entry.path for change in planned.of("changed")]
            before = begin(folder, record, replaced, safety, catalog=catalog, now=now)
            _make_folders(folder, record, before)
            _stage(folder, archive, record.files, record.staged("new"))
            _put_in_place(folder, record, before)
        with undisturbed():
            _end(target, catalog)
            if not planned.replaces:
                safety.unlink()
                return RestoreResult(None)
            return RestoreResult(safety, catalog.prune(root=str(target), purpose="replaced", new=safety))
    except BaseException as exc:
        with undisturbed():
            if safety.exists():
                with Archive(safety) as kept:
                    undo(target, kept, catalog)
            elif record.made_target:
                with contextlib.suppress(OSError):
                    target.rmdir()
        if isinstance(exc, DamagedArchiveError):
            raise OpskitError("BACKUP_002", f"{planned.archive}: {exc}; nothing was changed") from exc
        if isinstance(exc, OSError):
            why = f"{target}: {exc.strerror or exc}; nothing was changed"
            raise OpskitError("BACKUP_003", why) from exc
        raise


def _check_room(record: RestoreRecord, target: Path) -> None:
    need = sum(entry.size for entry in record.entries)
    free = shutil.disk_usage(target.parent if record.made_target else target).free
    if need > free:
        raise OpskitError(
            "BACKUP_003", f"{target}: {need} bytes are needed and {free} are free; nothing was changed"
        )


def begin(
    folder: RootFolder,
    record: RestoreRecord,
    replaced: Sequence[str],
    safety: Path,
    *,
    catalog: BackupCatalog,
    now: datetime,
) -> dict[str, ArchiveEntry]:
    """Keep what will be replaced and point to it; return what there was. All is on the disk afterwards."""
    paths = {above for path in replaced for above in parents(path)} | set(replaced)
    selected: list[tuple[str, EntryKind]] = []
    for path in sorted(paths, key=lambda path: path.split("/")):
        status = folder.stat(path)
        mode = stat.S_IFREG if status is None else status.st_mode
        kind: EntryKind = "folder" if stat.S_ISDIR(mode) else "link" if stat.S_ISLNK(mode) else "file"
        selected.append((path, kind))
    draft = replace(empty_manifest("replaced", folder.root, now), restore=record)
    if folder.root != catalog.root:
        with contextlib.suppress(OSError):  # without links only its own root finds it
            (catalog.folder / _TARGET).symlink_to(folder.root)
    with written_whole(folder.root / POINTER) as pointer:
        manifest = write_archive(folder, selected, draft, safety)
        for skipped in manifest.skipped:
            raise OpskitError(
                "BACKUP_003",
                f"{printable_path(skipped.path)} would be replaced and cannot be kept: {skipped.reason}",
                remedy="move it away yourself, or leave it out with --only",
            )
        pointer.write(os.fsencode(safety))
    return {entry.path: entry for entry in manifest.entries}


def _end(target: Path, catalog: BackupCatalog) -> None:
    """End a restore, or its undoing. Raises OSError when it has not ended."""
    (target / POINTER).unlink(missing_ok=True)
    with contextlib.suppress(OSError):
        (catalog.folder / _TARGET).unlink(missing_ok=True)
        flush(target)


def _set_mode(handle: int, mode: int) -> None:
    """Set the nine permission bits of a folder."""
    os.fchmod(handle, stat.S_IMODE(os.fstat(handle).st_mode) & ~0o777 | mode)


def _make_folders(folder: RootFolder, record: RestoreRecord, before: Mapping[str, ArchiveEntry]) -> None:
    """Make folders, and open those whose mode changes, for their owner."""
    for entry in record.folders:
        if entry.path in before:
            _set_mode(folder.handle(entry.path), before[entry.path].mode | 0o700)
            continue
        handle, name = folder.at(entry.path)
        os.mkdir(name, 0o700, dir_fd=handle)
        if os.geteuid() == 0:
            os.chown(name, entry.uid, entry.gid, dir_fd=handle, follow_symlinks=False)


def _stage(
    folder: RootFolder, archive: Archive, entries: Sequence[ArchiveEntry], staged: Mapping[str, str]
) -> None:
    """Write new files and links beside what they will replace; they are on the disk when this returns.

    Raises OSError, and DamagedArchiveError when the archive has changed since it was checked.
    """
    waiting = {entry.path: entry for entry in entries if entry.kind == "file"}
    for path, content in archive.contents() if waiting else ():
        if (entry := waiting.pop(path, None)) is not None:
            digest = hashlib.sha256()
            with folder.create(staged[path]) as file:
                while chunk := content.read(_CHUNK):
                    digest.update(chunk)
                    file.write(chunk)
            if digest.hexdigest() != entry.sha256:
                raise DamagedArchiveError("it has changed since it was checked")
        if not waiting:
            break
    for path in waiting:
        raise DamagedArchiveError(f"it does not hold {printable_path(path)} any more")
    # Many at a time: one commit of the file system's journal serves them all.
    with ThreadPoolExecutor(_FLUSHED_AT_ONCE) as pool:
        files = [folder.root / staged[entry.path] for entry in entries if entry.kind == "file"]
        for _ in pool.map(flush, files):
            pass
    for entry in entries:
        path = staged[entry.path]
        if entry.kind == "link":
            handle, name = folder.at(path)
            os.symlink(entry.target, name, dir_fd=handle)
        # Only root may give files away: to the owner of what is replaced, else to that of the archive.
        if os.geteuid() == 0:
            there = folder.stat(entry.path)
            uid, gid = (entry.uid, entry.gid) if there is None else (there.st_uid, there.st_gid)
            handle, name = folder.at(path)
            os.chown(name, uid, gid, dir_fd=handle, follow_symlinks=False)
        if entry.kind == "file":
            with folder.open(path) as opened:
                os.fchmod(opened.fileno(), entry.mode)
        handle, name = folder.at(path)
        os.utime(name, ns=(entry.mtime_ns, entry.mtime_ns), dir_fd=handle, follow_symlinks=False)


def _put_in_place(folder: RootFolder, record: RestoreRecord, before: Mapping[str, ArchiveEntry]) -> None:
    staged = record.staged("new")
    for entry in record.files:
        _check_unchanged(folder, entry.path, before.get(entry.path))
        folder.rename(staged[entry.path], entry.path)
    # Names on the disk, then folders with their own permissions and times; the innermost first.
    for path in {entry.path.rpartition("/")[0] for entry in record.entries}:
        os.fsync(folder.handle(path))
    for entry in reversed(record.folders):
        handle = folder.handle(entry.path)
        os.fsync(handle)
        if entry.path not in before:
            os.utime(handle, ns=(entry.mtime_ns, entry.mtime_ns))
        _set_mode(handle, entry.mode)


def _check_unchanged(folder: RootFolder, path: str, kept: ArchiveEntry | None) -> None:
    """What somebody has written since it was kept is not lost."""
    status = folder.stat(path)
    if status is None or kept is None:
        same = status is None and kept is None
    else:
        same = not kept.changed and status.st_mtime_ns == kept.mtime_ns
        same = same and (kept.kind == "link" or status.st_size == kept.size)
    if not same:
        raise OpskitError(
            "BACKUP_003",
            f"{printable_path(path)} was written to meanwhile; nothing was changed",
            remedy="stop what writes to it (`docker compose stop`), or leave it out with --only",
        )


@dataclass(slots=True)
class _Undoing:
    """Old files to put back, new ones to remove, and the paths that somebody has changed since."""

    back: list[ArchiveEntry] = field(default_factory=list)
    remove: list[str] = field(default_factory=list)
    changed: list[str] = field(default_factory=list)


def _undoing(folder: RootFolder, record: RestoreRecord, before: Mapping[str, ArchiveEntry]) -> _Undoing:
    """Compare each path with what was there and with what was to be there. Nothing is changed."""
    undoing = _Undoing()
    for entry in record.files:
        old = before.get(entry.path)
        if old is not None and compare(folder, old).action == "same":
            continue
        action = compare(folder, entry).action
        above = entry.path.rpartition("/")[0]
        if action == "same" and old is None:
            undoing.remove.append(entry.path)
        elif old is not None and (action == "same" or (action == "new" and folder.is_folder(above))):
            undoing.back.append(old)
        elif action != "new" or old is not None:
            undoing.changed.append(entry.path)
    return undoing


def undo(target: Path, safety: Archive, catalog: BackupCatalog) -> tuple[str, ...]:
    """Make everything as it was before. Returns the paths that somebody has changed since: they stay so.

    It looks at what is there and does what is left to do, so that it may itself be killed and run again.
    Raises BACKUP_003; the pointer then stays.
    """
    record, before = _recorded(safety)
    try:
        with RootFolder(target) as folder:
            for entry in record.folders:
                # It may have its final permissions already, which may not let us in.
                with contextlib.suppress(FileNotFoundError, NotADirectoryError):
                    _set_mode(folder.handle(entry.path), 0o700)
            undoing, staged = _undoing(folder, record, before), record.staged("old")
            for path in (*undoing.remove, *record.staged("new").values(), *staged.values()):
                folder.remove(path)
            _stage(folder, safety, undoing.back, staged)
            for entry in undoing.back:
                folder.rename(staged[entry.path], entry.path)
            for entry in reversed(record.folders):
                # A folder that is gone needs nothing; a new one in which somebody has put something stays.
                with contextlib.suppress(OSError):
                    if entry.path in before:
                        _set_mode(folder.handle(entry.path), before[entry.path].mode)
                    else:
                        handle, name = folder.at(entry.path)
                        os.rmdir(name, dir_fd=handle)
        _end(target, catalog)
        if not undoing.changed:
            safety.path.unlink(missing_ok=True)
        if record.made_target:
            with contextlib.suppress(OSError):
                target.rmdir()
    except OSError as exc:
        raise OpskitError(
            "BACKUP_003",
            f"{target}: {exc.strerror}; the restoration is only partly taken back",
            remedy="when its cause is gone: `opskit backup restore --rollback`",
        ) from exc
    return tuple(printable_path(path) for path in undoing.changed)


def recover(catalog: BackupCatalog, *, to_resume: bool = False) -> list[UndoneRestore]:
    """Undo restores that were killed. Only under the lock. `to_resume` undoes one that can be done again.

    Raises BACKUP_003, and BACKUP_004 while one is under way; with `to_resume` also BACKUP_001 when its
    archive is gone and BACKUP_003 when somebody has changed files since, and nothing is done then.
    """
    catalog.sweep()
    undone: list[UndoneRestore] = []
    for target in interrupted_targets(catalog):
        with undisturbed(), _interrupted(target, catalog) as safety:
            if safety is None:
                continue
            record, before = _recorded(safety)
            if to_resume:
                if undone:
                    break
                _check_resumable(target, record, before)
            undone.append(UndoneRestore(record, target, undo(target, safety, catalog)))
    return undone


def _check_resumable(target: Path, record: RestoreRecord, before: Mapping[str, ArchiveEntry]) -> None:
    remedy = "`opskit backup restore --rollback`"
    if not Path(record.archive).exists():
        raise OpskitError("BACKUP_001", f"{record.archive}: it is gone", remedy=remedy)
    with RootFolder(target) as folder:
        for path in _undoing(folder, record, before).changed:
            why = f"the restoration cannot be finished: {printable_path(path)} was changed since"
            raise OpskitError("BACKUP_003", why, remedy=remedy)


def interrupted_targets(catalog: BackupCatalog) -> list[Path]:
    """Return the folders in which a restore was begun and has not ended.

    They are looked for where a restored `opskit.yaml` that moves `backup.folder` or `backup.root` cannot hide
    them: the root, the folder of the configuration, the folders above both, and where the last restore went.
    In a folder above, only a pointer of this user counts.
    """
    starts = [catalog.root, *([] if catalog.config_folder is None else [catalog.config_folder])]
    folders = [folder for start in starts for folder in (start, *start.parents)]
    targets = [folder for folder in folders if _has_pointer(folder, any_user=folder == catalog.root)]
    with contextlib.suppress(OSError):
        targets.append((catalog.folder / _TARGET).readlink())
    return list(dict.fromkeys(targets))


def _has_pointer(folder: Path, *, any_user: bool) -> bool:
    for path in (folder / POINTER, temporary_of(folder / POINTER)):
        with contextlib.suppress(OSError):
            if path.lstat().st_uid == os.geteuid() or any_user:
                return True
    return False


@contextlib.contextmanager
def _interrupted(target: Path, catalog: BackupCatalog) -> Iterator[Archive | None]:
    """Give the safety archive of a process that died, or None when it had done nothing.

    Raises BACKUP_004 while the process lives, BACKUP_003 for an archive that cannot be read.
    """
    pointer = target / POINTER
    try:
        temporary_of(pointer).unlink(missing_ok=True)
        path, owner = Path(os.fsdecode(pointer.read_bytes())), pointer.lstat().st_uid
    except (FileNotFoundError, NotADirectoryError):
        (catalog.folder / _TARGET).unlink(missing_ok=True)
        yield None
        return
    except OSError as exc:
        raise not_written(pointer, exc) from exc
    if owner != os.geteuid():
        why = f"{pointer}: another user (uid {owner}) was interrupted while restoring a backup here"
        raise OpskitError("BACKUP_003", why, remedy="run the command as that user")
    with contextlib.ExitStack() as stack:
        try:
            # When it was begun with another folder of archives, its process holds the lock of that one.
            if path.parent != catalog.folder and not stack.enter_context(try_lock(path.parent / LOCK)):
                raise OpskitError("BACKUP_004", f"another process restores a backup to {target}")
            safety = stack.enter_context(Archive(path))
            _recorded(safety)
        except (DamagedArchiveError, OSError, ValueError) as exc:
            why = str(exc.strerror if isinstance(exc, OSError) else exc)
            raise OpskitError(
                "BACKUP_003",
                f"what a restoration to {target} replaced cannot be put back: {path}: {why}",
                remedy="bring that archive back; "
                f"or remove the files named `{TRACE}*` to keep what is there now",
            ) from exc
        yield safety


def _recorded(safety: Archive) -> tuple[RestoreRecord, dict[str, ArchiveEntry]]:
    """Return the restore that an archive records, and what there was before. Raises DamagedArchiveError."""
    manifest = safety.manifest
    if manifest is None or manifest.restore is None:
        raise DamagedArchiveError("it records no restoration")
    entries = (*manifest.restore.entries, *manifest.entries)
    if any(problem_of_path(entry.path) for entry in entries):
        raise DamagedArchiveError("a path leaves the target")
    return manifest.restore, {entry.path: entry for entry in manifest.entries}
