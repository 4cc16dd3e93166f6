"""The way back of a restore: what it replaces, where that is found again, and how it is put back.

The safety archive holds what a restore replaces, and records the restore. A pointer to it lies in the target
while the restore is not complete: a process that finds the pointer of one that was killed undoes the restore
from that archive. It lies in the target because a restored configuration may move the folder of archives.
"""

import contextlib
import hashlib
import os
import stat
from collections import deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from datetime import datetime
from pathlib import Path
from typing import IO, BinaryIO

from opskit.backup.archive import Archive, write_archive
from opskit.backup.catalog import BackupCatalog, undisturbed
from opskit.backup.folder import RootFolder, compare, flush, written_whole
from opskit.backup.manifest import (
    ArchiveEntry,
    DamagedArchiveError,
    EntryKind,
    RestoreRecord,
    empty_manifest,
    parents,
    printable_path,
    problem_of_path,
)
from opskit.errors import OpskitError
from opskit.facts.unfinished_restore import (
    HALF_POINTER,
    LOCK,
    POINTER,
    TARGET_LINK,
    TRACE,
    UnfinishedRestore,
    unfinished_in,
    unfinished_restores,
)
from opskit.records import Record, replace
from opskit.system.lock import try_lock

_CHUNK = 1024 * 1024
_FLUSHED_AT_ONCE = 8
#: Files that are written and not on the disk yet, each with a descriptor.
_MOST_OPEN = 64


class UndoneRestore(Record):
    """A restore that was killed and taken back. `changed` are paths that somebody has changed since."""

    record: RestoreRecord
    target: Path
    changed: tuple[str, ...]

    def __str__(self) -> str:
        since = f"; left as somebody changed them since: {', '.join(self.changed)}" if self.changed else ""
        archive = Path(self.record.archive).name
        return f"an interrupted restoration of {archive} to {self.target} was taken back{since}"


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
            (catalog.folder / TARGET_LINK).symlink_to(folder.root)
    with written_whole(folder.root / POINTER) as pointer:
        pointer.write(os.fsencode(safety))
        pointer.flush()
        manifest = write_archive(folder, selected, draft, safety)
        for skipped in manifest.skipped:
            safety.unlink()
            raise OpskitError(
                "BACKUP_003",
                f"{printable_path(skipped.path)} would be replaced and cannot be kept: {skipped.reason}",
                remedy="move it away yourself, or leave it out with --only",
            )
    return {entry.path: entry for entry in manifest.entries}


def end(target: Path, catalog: BackupCatalog) -> None:
    """End a restore, or its undoing. Raises OSError when it has not ended."""
    (target / POINTER).unlink(missing_ok=True)
    with contextlib.suppress(OSError):
        (catalog.folder / TARGET_LINK).unlink(missing_ok=True)
        flush(target)


def stage(
    folder: RootFolder, archive: Archive, entries: Sequence[ArchiveEntry], staged: Mapping[str, str]
) -> None:
    """Write new files and links beside what they will replace; files are on the disk when this returns.

    Raises OSError, and DamagedArchiveError when the archive has changed since it was checked.
    """
    waiting = {entry.path: entry for entry in entries if entry.kind == "file"}
    # Many at a time: one commit of the file system's journal serves them all.
    with ThreadPoolExecutor(_FLUSHED_AT_ONCE) as pool:
        flushed: deque[Future[None]] = deque()
        for path, content in archive.contents() if waiting else ():
            if (entry := waiting.pop(path, None)) is not None:
                flushed.append(pool.submit(_flush, _written(folder, entry, content, staged[path])))
            if len(flushed) > _MOST_OPEN:
                flushed.popleft().result()
            if not waiting:
                break
        for done in flushed:
            done.result()
    for path in waiting:
        raise DamagedArchiveError(f"it does not hold {printable_path(path)} any more")
    for entry in entries:
        if entry.kind == "link":
            handle, name = folder.at(staged[entry.path])
            os.symlink(entry.target, name, dir_fd=handle)
            if (owner := _owner(folder, entry)) is not None:
                os.chown(name, *owner, dir_fd=handle, follow_symlinks=False)
            os.utime(name, ns=(entry.mtime_ns, entry.mtime_ns), dir_fd=handle, follow_symlinks=False)


def _written(folder: RootFolder, entry: ArchiveEntry, content: IO[bytes], path: str) -> BinaryIO:
    """Return a new file with everything that belongs to it; it is not on the disk yet."""
    owner, digest = _owner(folder, entry), hashlib.sha256()
    file = folder.create(path)
    with contextlib.ExitStack() as stack:
        stack.enter_context(file)
        while chunk := content.read(_CHUNK):
            digest.update(chunk)
            file.write(chunk)
        file.flush()
        if digest.hexdigest() != entry.sha256:
            raise DamagedArchiveError("it has changed since it was checked")
        if owner is not None:
            os.chown(file.fileno(), *owner)
        os.fchmod(file.fileno(), entry.mode)
        os.utime(file.fileno(), ns=(entry.mtime_ns, entry.mtime_ns))
        stack.pop_all()
    return file


def _owner(folder: RootFolder, entry: ArchiveEntry) -> tuple[int, int] | None:
    """Return who gets a file: the owner of what it replaces, else that of the archive; None but for root."""
    if os.geteuid() != 0:
        return None
    there = folder.stat(entry.path)
    return (entry.uid, entry.gid) if there is None else (there.st_uid, there.st_gid)


def _flush(file: BinaryIO) -> None:
    with file:
        os.fsync(file.fileno())


def flush_names(folder: RootFolder, paths: Iterable[str]) -> None:
    """Make the names of these files and folders survive a loss of power."""
    for path in {path.rpartition("/")[0] for path in paths}:
        # A folder that is gone needs nothing.
        with contextlib.suppress(FileNotFoundError, NotADirectoryError):
            os.fsync(folder.handle(path))


def set_mode(handle: int, mode: int) -> None:
    """Set the nine permission bits of a folder."""
    os.fchmod(handle, stat.S_IMODE(os.fstat(handle).st_mode) & ~0o777 | mode)


def _to_undo(
    folder: RootFolder, record: RestoreRecord, before: Mapping[str, ArchiveEntry]
) -> tuple[list[ArchiveEntry], list[str], list[str]]:
    """Return old files to put back, new ones to remove, and the paths that somebody has changed since.

    Each path is compared with what was there and with what was to be there; nothing is changed.
    """
    back: list[ArchiveEntry] = []
    remove: list[str] = []
    changed: list[str] = []
    for entry in record.files:
        old = before.get(entry.path)
        if old is not None and compare(folder, old).action == "same":
            continue
        action = compare(folder, entry).action
        is_absent = action == "new" and folder.is_folder(entry.path.rpartition("/")[0])
        if old is None and action == "same":
            remove.append(entry.path)
        elif old is not None and (action == "same" or is_absent):
            back.append(old)
        elif old is not None or action != "new":
            changed.append(entry.path)
    return back, remove, changed


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
                    set_mode(folder.handle(entry.path), 0o700)
            back, remove, changed = _to_undo(folder, record, before)
            back = [replace(entry, mode=entry.mode | entry.special & 0o7000) for entry in back]
            staged = record.staged("old")
            for path in (*record.staged("new").values(), *staged.values()):
                folder.remove(path)
            stage(folder, safety, back, staged)
            for path in remove:
                folder.remove(path)
            for entry in back:
                folder.rename(staged[entry.path], entry.path)
            for entry in reversed(record.folders):
                # A folder that is gone needs nothing; a new one in which somebody has put something stays.
                with contextlib.suppress(OSError):
                    if entry.path in before:
                        set_mode(folder.handle(entry.path), before[entry.path].mode)
                    else:
                        handle, name = folder.at(entry.path)
                        os.rmdir(name, dir_fd=handle)
            flush_names(folder, [*remove, *(entry.path for entry in (*back, *record.folders))])
        end(target, catalog)
        if not changed:
            safety.path.unlink(missing_ok=True)
        if record.made_target:
            with contextlib.suppress(OSError):
                target.rmdir()
    except DamagedArchiveError as exc:
        raise _unusable(target, safety.path, str(exc)) from exc
    except OSError as exc:
        raise OpskitError(
            "BACKUP_003",
            f"{target}: {exc.strerror}; the restoration is only partly taken back",
            remedy="when its cause is gone: `opskit backup restore --rollback`",
        ) from exc
    return tuple(map(printable_path, changed))


def recover(catalog: BackupCatalog, *, to_resume: bool = False) -> list[UndoneRestore]:
    """Undo restores that were killed. Only under the lock. `to_resume` undoes one that can be done again.

    Raises BACKUP_003, and BACKUP_004 while one is under way; with `to_resume` also BACKUP_001 when its
    archive is gone and BACKUP_003 when somebody has changed files since, and nothing is done then.
    """
    catalog.sweep()
    undone: list[UndoneRestore] = []
    for restore in unfinished_restores(catalog.folders):
        target = restore.target
        with undisturbed(), _interrupted(restore, catalog) as safety:
            if safety is None:
                continue
            record, before = _recorded(safety)
            if to_resume:
                if undone:
                    break
                _check_resumable(target, record, before)
            undone.append(UndoneRestore(record, target, undo(target, safety, catalog)))
    if not interrupted_targets(catalog):
        with contextlib.suppress(OSError):
            (catalog.folder / TARGET_LINK).unlink()
    return undone


def _check_resumable(target: Path, record: RestoreRecord, before: Mapping[str, ArchiveEntry]) -> None:
    remedy = "`opskit backup restore --rollback`"
    if not Path(record.archive).exists():
        raise OpskitError("BACKUP_001", f"{record.archive}: it is gone", remedy=remedy)
    with RootFolder(target) as folder:
        for path in _to_undo(folder, record, before)[2]:
            why = f"the restoration cannot be finished: {printable_path(path)} was changed since"
            raise OpskitError("BACKUP_003", why, remedy=remedy)


def interrupted_targets(catalog: BackupCatalog) -> list[Path]:
    """Return the folders in which a restore was begun and has not ended."""
    return [restore.target for restore in unfinished_restores(catalog.folders)]


@contextlib.contextmanager
def _interrupted(restore: UnfinishedRestore, catalog: BackupCatalog) -> Iterator[Archive | None]:
    """Give the safety archive of a process that died, or None when it had done nothing.

    Raises BACKUP_004 while the process lives, BACKUP_003 for an archive that cannot be read.
    """
    target, path = restore.target, restore.safety
    if restore.owner != os.geteuid():
        why = f"{restore.pointer}: another user (uid {restore.owner}) was interrupted while restoring here"
        raise OpskitError("BACKUP_003", why, remedy="run the command as that user")
    if path is None:
        raise _unusable(target, restore.pointer, "it cannot be read")
    with contextlib.ExitStack() as stack:
        # When it was begun with another folder of archives, its process holds the lock of that one.
        lock = path.parent / LOCK
        is_elsewhere = path.is_absolute() and path.parent != catalog.folder and lock.exists()
        if is_elsewhere and not stack.enter_context(try_lock(lock)):
            raise OpskitError("BACKUP_004", f"another process restores a backup to {target}")
        (target / HALF_POINTER).unlink(missing_ok=True)
        # It may have ended before the lock was taken.
        if not restore.has_begun or unfinished_in(target) is None:
            yield None
            return
        try:
            safety = stack.enter_context(Archive(path))
            _recorded(safety)
        except (DamagedArchiveError, OSError, ValueError) as exc:
            raise _unusable(target, path, str(exc.strerror if isinstance(exc, OSError) else exc)) from exc
        yield safety


def _unusable(target: Path, safety: Path, why: str) -> OpskitError:
    return OpskitError(
        "BACKUP_003",
        f"what a restoration to {target} replaced cannot be put back: {safety}: {why}",
        remedy=f"bring that archive back; or remove the files named `{TRACE}*` to keep what is there now",
    )


def _recorded(safety: Archive) -> tuple[RestoreRecord, dict[str, ArchiveEntry]]:
    """Return the restore that an archive records, and what there was before. Raises DamagedArchiveError."""
    manifest = safety.manifest
    if manifest is None or manifest.restore is None:
        raise DamagedArchiveError("it records no restoration")
    entries = (*manifest.restore.entries, *manifest.entries)
    if any(problem_of_path(entry.path) for entry in entries):
        raise DamagedArchiveError("a path leaves the target")
    return manifest.restore, {entry.path: entry for entry in manifest.entries}
