"""A restore on the disk, and its way back.

The safety archive holds what a restore replaces, and records the restore. A link to it lies in the target
while the restore is not complete: a process that finds the link of one that was killed undoes the restore
from that archive. It lies in the target because a restored configuration may move the folder of archives.
"""

import contextlib
import hashlib
import os
from collections import deque
from collections.abc import Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from datetime import datetime
from pathlib import Path
from typing import IO, BinaryIO

from opskit.backup.archive import Archive, write_archive
from opskit.backup.catalog import BackupCatalog, undisturbed
from opskit.backup.folder import RootFolder, compare
from opskit.backup.manifest import (
    ArchiveEntry,
    DamagedArchiveError,
    RestoreRecord,
    parents,
    printable_path,
    problem_of_path,
)
from opskit.errors import OpskitError
from opskit.facts.unfinished_restore import (
    LOCK,
    POINTER,
    TARGET_LINK,
    TRACE,
    unfinished_in,
    unfinished_restores,
)
from opskit.records import Record, replace
from opskit.system.lock import try_lock

_CHUNK = 1024 * 1024
_FLUSHED_AT_ONCE = 8
#: Files that are written and not on the disk yet, each with a descriptor.
_MOST_OPEN = 64
_GONE = (FileNotFoundError, NotADirectoryError)


class UndoneRestore(Record):
    """A restore that was killed and taken back. `changed` are paths that somebody has changed since."""

    record: RestoreRecord
    target: Path
    changed: tuple[str, ...]

    def __str__(self) -> str:
        since = f"; left as somebody changed them since: {', '.join(self.changed)}" if self.changed else ""
        archive = Path(self.record.archive).name
        return f"an interrupted restoration of {archive} to {self.target} was taken back{since}"


class RestoreChange:
    """What a restore changes in a folder, and what was there `before`."""

    def __init__(self, folder: RootFolder, record: RestoreRecord, before: Mapping[str, ArchiveEntry]) -> None:
        self.record, self._folder, self._before = record, folder, before
        self._files = {entry.path: entry for entry in record.entries if entry.kind != "folder"}
        #: The outermost first.
        self._folders = {entry.path: entry for entry in record.entries if entry.kind == "folder"}
        #: Where the file for each path lies, beside it, before it is put in place.
        self._staged = {
            path: f"{''.join(path.rpartition('/')[:2])}{TRACE}-{number}.new"
            for number, path in enumerate(self._files, 1)
        }

    def make(self, archive: Archive) -> None:
        """Bring everything to what the archive has. Raises OSError, DamagedArchiveError and BACKUP_003."""
        for path, entry in self._folders.items():
            if path not in self._before:
                owner, (handle, name) = self._owner(entry), self._folder.at(path)
                os.mkdir(name, 0o700, dir_fd=handle)
                os.chown(name, *owner, dir_fd=handle, follow_symlinks=False)
            self._let_in(path)
        self._put(archive, self._files, self._folders, checks=True)

    def undo(self, safety: Archive) -> list[str]:
        """Bring everything to what was there; return the paths that somebody has changed since, and stay so.

        It looks at what is there and does what is left to do, so that it may itself be killed and run again.
        """
        for path in self._folders:
            self._let_in(path)
        files, changed = self.undoable()
        for staged in self._staged.values():
            self._folder.remove(staged)
        self._put(safety, files, self._before)
        return changed

    def undoable(self) -> tuple[dict[str, ArchiveEntry | None], list[str]]:
        """Return the old file for each path, None for none, and the paths that somebody changed since.

        Each is compared with what was there and with what was to be there; nothing is changed.
        """
        files: dict[str, ArchiveEntry | None] = {}
        changed: list[str] = []
        for path, entry in self._files.items():
            old, action = self._before.get(path), compare(self._folder, entry).action
            if action == "new" if old is None else compare(self._folder, old).action == "same":
                continue
            with contextlib.suppress(OSError):
                self._folder.at(path)  # raises where its folder has gone
                if action in ("same", "new"):
                    files[path] = old and replace(old, mode=old.mode | old.special)
                    continue
            changed.append(path)
        return files, changed

    def _let_in(self, path: str) -> None:
        self._folder.set_mode(path, self._before.get(path, self._folders[path]).mode | 0o700)

    def _put(
        self,
        archive: Archive,
        files: Mapping[str, ArchiveEntry | None],
        folders: Mapping[str, ArchiveEntry],
        *,
        checks: bool = False,
    ) -> None:
        """Give files the content that an archive has for them, None removes one; then folders their modes.

        All content is on the disk before the first name changes.
        """
        self._stage(archive, [entry for entry in files.values() if entry is not None])
        for path, entry in files.items():
            if checks:
                self._check_unchanged(path)
            if entry is None:
                self._folder.remove(path)
            else:
                self._folder.rename(self._staged[path], path)
        for path in {entry.path.rpartition("/")[0] for entry in self.record.entries}:
            with contextlib.suppress(*_GONE):
                os.fsync(self._folder.handle(path))
        for path in reversed(self._folders):
            # One that is gone needs nothing; a new one in which somebody has put something stays.
            with contextlib.suppress(*(_GONE if path in folders else (OSError,))):
                if path in folders:
                    times = (folders[path].mtime_ns, folders[path].mtime_ns)
                    os.utime(self._folder.handle(path), ns=times)
                    self._folder.set_mode(path, folders[path].mode)
                else:
                    handle, name = self._folder.at(path)
                    os.rmdir(name, dir_fd=handle)

    def _stage(self, archive: Archive, entries: Sequence[ArchiveEntry]) -> None:
        """Write new files and links beside what they will replace; files are on the disk afterwards."""
        waiting = {entry.path: entry for entry in entries if entry.kind == "file"}
        # Many at a time: one commit of the file system's journal serves them all.
        with ThreadPoolExecutor(_FLUSHED_AT_ONCE) as pool:
            flushed: deque[Future[None]] = deque()
            for info, content in archive.members() if waiting else ():
                if content is not None and (entry := waiting.pop(info.name, None)) is not None:
                    owner = self._owner(entry)
                    file = self._folder.create(self._staged[entry.path])
                    flushed.append(pool.submit(_flush, _written(file, entry, content, owner)))
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
                owner, (handle, name) = self._owner(entry), self._folder.at(self._staged[entry.path])
                os.symlink(entry.target, name, dir_fd=handle)
                os.chown(name, *owner, dir_fd=handle, follow_symlinks=False)
                times = (entry.mtime_ns, entry.mtime_ns)
                os.utime(name, ns=times, dir_fd=handle, follow_symlinks=False)

    def _owner(self, entry: ArchiveEntry) -> tuple[int, int]:
        """Return who gets a file: the owner of what it replaces, else of what was archived."""
        there = self._folder.entry(entry.path) or entry
        return (there.uid, there.gid) if os.geteuid() == 0 else (-1, -1)

    def _check_unchanged(self, path: str) -> None:
        """Raise BACKUP_003 when somebody has written to a path since what was there was archived."""
        before = self._before.get(path)
        if self._folder.entry(path) != (before and replace(before, sha256="")):
            raise OpskitError(
                "BACKUP_003",
                f"{printable_path(path)} was written to meanwhile, or another file has its name on this disk",
                remedy="stop what writes to it (`docker compose stop`), or leave it out with --only",
            )


def _written(file: BinaryIO, entry: ArchiveEntry, content: IO[bytes], owner: tuple[int, int]) -> BinaryIO:
    """Return the file with everything that belongs to it; it is not on the disk yet."""
    digest = hashlib.sha256()
    with contextlib.ExitStack() as stack:
        stack.enter_context(file)
        while chunk := content.read(_CHUNK):
            digest.update(chunk)
            file.write(chunk)
        file.flush()
        if digest.hexdigest() != entry.sha256:
            raise DamagedArchiveError("it has changed since it was checked")
        os.chown(file.fileno(), *owner)
        os.fchmod(file.fileno(), entry.mode)
        os.utime(file.fileno(), ns=(entry.mtime_ns, entry.mtime_ns))
        stack.pop_all()
    return file


def _flush(file: BinaryIO) -> None:
    with file:
        os.fsync(file.fileno())


def begin(
    folder: RootFolder,
    record: RestoreRecord,
    replaced: Sequence[str],
    safety: Path,
    catalog: BackupCatalog,
    now: datetime,
) -> RestoreChange:
    """Keep what will be replaced, and point to it; both are on the disk afterwards."""
    paths = {above for path in replaced for above in parents(path)} | set(replaced)
    there = map(folder.entry, sorted(paths, key=lambda path: path.split("/")))
    manifest = write_archive(folder, filter(None, there), safety, "replaced", now, restore=record)
    for skipped in manifest.skipped:
        raise OpskitError(
            "BACKUP_003",
            f"{printable_path(skipped.path)} would be replaced and cannot be kept: {skipped.reason}",
            remedy="move it away yourself, or leave it out with --only",
        )
    if folder.root != catalog.root:
        with contextlib.suppress(FileExistsError):
            (catalog.folder / TARGET_LINK).symlink_to(folder.root)
    (folder.root / POINTER).symlink_to(safety)
    os.fsync(folder.handle(""))
    return RestoreChange(folder, record, {entry.path: entry for entry in manifest.entries})


def end(target: Path, catalog: BackupCatalog) -> None:
    """End a restore, or its undoing. Raises OSError when it has not ended."""
    (target / POINTER).unlink(missing_ok=True)
    with contextlib.suppress(OSError):
        (catalog.folder / TARGET_LINK).unlink()


def undo(target: Path, safety: Archive, catalog: BackupCatalog, *, to_resume: bool = False) -> UndoneRestore:
    """Make everything as it was before. Raises BACKUP_003; the pointer then stays.

    `to_resume` raises before it changes anything when the restore cannot be done again.
    """
    try:
        record, before = _recorded(safety)
        with RootFolder(target) as folder:
            change = RestoreChange(folder, record, before)
            if to_resume:
                _check_resumable(record, change.undoable()[1])
            changed = change.undo(safety)
        end(target, catalog)
        if not changed:
            safety.path.unlink(missing_ok=True)
        if record.made_target:
            with contextlib.suppress(OSError):
                target.rmdir()
    except DamagedArchiveError as exc:
        raise _unusable(target, safety.path, exc) from exc
    except OSError as exc:
        raise OpskitError(
            "BACKUP_003",
            f"{target}: {exc.strerror}; the restoration is only partly taken back",
            remedy="when its cause is gone: `opskit backup restore --rollback`",
        ) from exc
    return UndoneRestore(record, target, tuple(map(printable_path, changed)))


def _check_resumable(record: RestoreRecord, changed: Sequence[str]) -> None:
    remedy = "`opskit backup restore --rollback`"
    if not Path(record.archive).exists():
        raise OpskitError("BACKUP_001", f"{record.archive}: it is gone", remedy=remedy)
    if changed:
        why = f"the restoration cannot be finished: {printable_path(changed[0])} was changed since"
        raise OpskitError("BACKUP_003", why, remedy=remedy)


def recover(catalog: BackupCatalog, *, to_resume: bool = False) -> list[UndoneRestore]:
    """Undo restores that were killed. Only under the lock. `to_resume` undoes one that can be done again.

    Raises BACKUP_003, and BACKUP_004 while one is under way; with `to_resume` also BACKUP_001 when its
    archive is gone and BACKUP_003 when somebody has changed files since, and nothing is done then.
    """
    undone: list[UndoneRestore] = []
    for path in catalog.half_written:
        with contextlib.suppress(OSError):
            path.unlink()
    for restore in unfinished_restores(catalog.folders)[: 1 if to_resume else None]:
        target, safety = restore.target, restore.safety
        if restore.owner != os.geteuid():
            why = (
                f"{target / POINTER}: another user (uid {restore.owner}) was interrupted while restoring here"
            )
            raise OpskitError("BACKUP_003", why, remedy="run the command as that user")
        if safety is None:
            raise _unusable(target, target / POINTER, "it is not a link to an archive")
        with undisturbed(), contextlib.ExitStack() as stack:
            # When it was begun with another folder of archives, its process holds the lock of that one.
            lock = safety.parent / LOCK
            is_elsewhere = safety.parent != catalog.folder and lock.exists()
            if is_elsewhere and not stack.enter_context(try_lock(lock)):
                raise OpskitError("BACKUP_004", f"another process restores a backup to {target}")
            if unfinished_in(target) is None:
                continue  # it has ended meanwhile
            try:
                archive = stack.enter_context(Archive(safety))
            except (DamagedArchiveError, OSError) as exc:
                raise _unusable(target, safety, exc) from exc
            undone.append(undo(target, archive, catalog, to_resume=to_resume))
    if not interrupted_targets(catalog):
        with contextlib.suppress(OSError):
            (catalog.folder / TARGET_LINK).unlink()
    return undone


def interrupted_targets(catalog: BackupCatalog) -> list[Path]:
    """Return the folders in which a restore was begun and has not ended."""
    return [restore.target for restore in unfinished_restores(catalog.folders)]


def _unusable(target: Path, safety: Path, why: Exception | str) -> OpskitError:
    why = (why.strerror or "") if isinstance(why, OSError) else why
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
