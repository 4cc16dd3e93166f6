"""Putting a backup back: all of it, or nothing.

Every new file is written beside the one that it replaces; what is replaced is kept in an archive of its own,
the safety archive; then each new file gets its name in one step. Whoever finds the record of a restore that
was killed undoes it from the safety archive, and may then do it again.
"""

import contextlib
import hashlib
import os
import shutil
import stat
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import IO, BinaryIO

from opskit.backup.archive import Archive, DamagedArchiveError
from opskit.backup.archive_writer import write_archive
from opskit.backup.catalog import BackupCatalog, undisturbed
from opskit.backup.folder import RootFolder, flush
from opskit.backup.manifest import TRACE, ArchiveEntry, EntryKind, empty_manifest, parents, printable_path
from opskit.backup.restore_plan import RestorePlan, compare
from opskit.backup.restore_record import (
    RestoreRecord,
    check_ended,
    interrupted_targets,
    read_record,
    remove_record,
    write_record,
)
from opskit.errors import OpskitError, UsageError

_CHUNK = 1024 * 1024
_NO_LIMIT = 2**62
_FLUSHED_AT_ONCE = 8


@dataclass(frozen=True, slots=True)
class RestoreResult:
    """`replaced` is the archive of what was replaced, None when nothing was. `removed` were such archives."""

    replaced: Path | None
    removed: tuple[Path, ...] = ()


def restore(
    archive: Archive, planned: RestorePlan, catalog: BackupCatalog, *, now: datetime
) -> RestoreResult:
    """Do it, under `catalog.lock()`.

    On any failure and on SIGINT, SIGTERM and SIGHUP all is as it was. Raises BACKUP_002 when the archive
    changed since it was checked, BACKUP_003 when something could not be written.
    """
    target = planned.target
    check_ended(target)
    safety = catalog.new_path("replaced", now) if planned.replaced else None
    made_target = not target.exists()
    record: RestoreRecord | None = None
    try:
        _check_room(planned)
        if made_target:
            target.mkdir(mode=0o700)
        with RootFolder(target) as folder:
            record = _record(folder, planned, safety, catalog.folder, made_target=made_target)
            write_record(target, record, catalog)
            kept = {} if safety is None else _keep(folder, planned.replaced, safety, now)
            _make_folders(folder, record)
            _stage(folder, archive, record.files, record.staged("new"))
            _put_in_place(folder, record, kept)
        with undisturbed():
            remove_record(target, record)
            removed = [] if safety is None else _prune(catalog, target, safety)
            return RestoreResult(safety, tuple(removed))
    except BaseException as exc:
        with undisturbed():
            if record is not None:
                undo(target, record)
            elif made_target:
                with contextlib.suppress(OSError):
                    target.rmdir()
        if isinstance(exc, DamagedArchiveError):
            raise OpskitError("BACKUP_002", f"{planned.archive}: {exc}; nothing was changed") from exc
        if isinstance(exc, OSError):
            why = f"{target}: {exc.strerror or exc}; nothing was changed"
            raise OpskitError("BACKUP_003", why) from exc
        raise


def _prune(catalog: BackupCatalog, target: Path, safety: Path) -> list[Path]:
    with contextlib.suppress(OpskitError):
        return catalog.prune(root=str(target), purpose="replaced", new=safety)
    return []


def _check_room(planned: RestorePlan) -> None:
    need = sum(change.entry.size for change in planned.changes if change.action != "same")
    target = planned.target if planned.target.exists() else planned.target.parent
    free = shutil.disk_usage(target).free
    if need > free:
        why = f"{planned.target}: {need} bytes are needed and {free} are free; nothing was changed"
        raise OpskitError("BACKUP_003", why)


def _record(
    folder: RootFolder, planned: RestorePlan, safety: Path | None, archives: Path, *, made_target: bool
) -> RestoreRecord:
    entries = tuple(change.entry for change in planned.changes if change.action != "same")
    new = {change.entry.path for change in planned.of("new")}
    before: dict[str, int | None] = {}
    for entry in entries:
        status = None if entry.path in new else folder.stat(entry.path)
        before[entry.path] = None if status is None else stat.S_IMODE(status.st_mode)
    return RestoreRecord(
        archive=str(planned.archive),
        only=planned.only,
        archives=str(archives),
        safety=None if safety is None else str(safety),
        entries=entries,
        before=before,
        made_target=made_target,
    )


def _keep(
    folder: RootFolder, replaced: Sequence[str], safety: Path, now: datetime
) -> dict[str, ArchiveEntry]:
    """Archive what will be replaced, every bit of it."""
    paths = {above for path in replaced for above in parents(path)} | set(replaced)
    selected: list[tuple[str, EntryKind]] = []
    for path in sorted(paths, key=lambda path: path.split("/")):
        status = folder.stat(path)
        mode = stat.S_IFREG if status is None else status.st_mode
        kind: EntryKind = "folder" if stat.S_ISDIR(mode) else "link" if stat.S_ISLNK(mode) else "file"
        selected.append((path, kind))
    draft = empty_manifest("replaced", folder.root, now)
    manifest = write_archive(folder, selected, draft, safety, max_file_bytes=_NO_LIMIT).manifest
    for skipped in manifest.skipped:
        raise OpskitError(
            "BACKUP_003",
            f"{printable_path(skipped.path)} would be replaced and cannot be kept: {skipped.reason}",
            remedy="move it away yourself, or leave it out with --only",
        )
    return {entry.path: entry for entry in manifest.entries}


def _make_folders(folder: RootFolder, record: RestoreRecord) -> None:
    """Make folders, and open those whose mode changes, for their owner."""
    for entry in record.folders:
        before = record.before[entry.path]
        if before is not None:
            os.fchmod(folder.handle(entry.path), before | 0o700)
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
        if (wanted := waiting.pop(path, None)) is not None:
            with os.fdopen(folder.create(staged[path]), "wb") as file:
                _write_content(wanted, content, file)
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
        path, times = staged[entry.path], (entry.mtime_ns, entry.mtime_ns)
        if entry.kind == "link":
            handle, name = folder.at(path)
            os.symlink(entry.target, name, dir_fd=handle)
            _give_to_owner(folder, entry, path)
            handle, name = folder.at(path)
            os.utime(name, ns=times, dir_fd=handle, follow_symlinks=False)
        else:
            with os.fdopen(folder.open(path), "rb") as file:
                _give_to_owner(folder, entry, path)
                os.fchmod(file.fileno(), entry.mode)
                os.utime(file.fileno(), ns=times)


def _write_content(entry: ArchiveEntry, content: IO[bytes], file: BinaryIO) -> None:
    digest = hashlib.sha256()
    while chunk := content.read(_CHUNK):
        digest.update(chunk)
        file.write(chunk)
    if digest.hexdigest() != entry.sha256:
        raise DamagedArchiveError("it has changed since it was checked")


def _give_to_owner(folder: RootFolder, entry: ArchiveEntry, staged: str) -> None:
    """Only root may give files away: to the owner of what is replaced, else to that of the archive."""
    if os.geteuid() == 0:
        there = folder.stat(entry.path)
        uid, gid = (entry.uid, entry.gid) if there is None else (there.st_uid, there.st_gid)
        handle, name = folder.at(staged)
        os.chown(name, uid, gid, dir_fd=handle, follow_symlinks=False)


def _put_in_place(folder: RootFolder, record: RestoreRecord, kept: Mapping[str, ArchiveEntry]) -> None:
    staged = record.staged("new")
    for entry in record.files:
        _check_unchanged(folder, entry.path, kept.get(entry.path))
        folder.rename(staged[entry.path], entry.path)
    # Names on the disk, then folders with their own permissions and times; the innermost first.
    for path in {entry.path.rpartition("/")[0] for entry in record.entries}:
        os.fsync(folder.handle(path))
    for entry in reversed(record.folders):
        handle = folder.handle(entry.path)
        os.fsync(handle)
        if record.before[entry.path] is None:
            os.utime(handle, ns=(entry.mtime_ns, entry.mtime_ns))
        os.fchmod(handle, entry.mode)


def _check_unchanged(folder: RootFolder, path: str, kept: ArchiveEntry | None) -> None:
    """What somebody has written since it was kept is not lost."""
    status = folder.stat(path)
    if kept is None:
        same = status is None
    else:
        same = status is not None and not kept.changed and status.st_mtime_ns == kept.mtime_ns
        same = same and status is not None and (kept.kind == "link" or status.st_size == kept.size)
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


def undo(target: Path, record: RestoreRecord) -> list[str]:
    """Make everything as it was before. Returns the paths that somebody has changed since: they stay so.

    It looks at what is there and does what is left to do, so that it may itself be killed and run again.
    Raises BACKUP_003; the record then stays.
    """
    undoing = _Undoing()
    try:
        with RootFolder(target) as folder:
            for entry in record.folders:
                # It may have its final permissions already, which may not let us in.
                with contextlib.suppress(FileNotFoundError, NotADirectoryError):
                    os.fchmod(folder.handle(entry.path), 0o700)
            with _safety_archive(record) as safety:
                undoing = _undoing(folder, record, safety)
                for path in (*undoing.remove, *record.staged("new").values(), *record.staged("old").values()):
                    folder.remove(path)
                if safety is not None and undoing.back:
                    staged = record.staged("old")
                    _stage(folder, safety, undoing.back, staged)
                    for entry in undoing.back:
                        folder.rename(staged[entry.path], entry.path)
            for entry in reversed(record.folders):
                mode = record.before[entry.path]
                # A folder that is gone needs nothing; a new one in which somebody has put something stays.
                with contextlib.suppress(OSError):
                    if mode is None:
                        folder.remove_folder(entry.path)
                    else:
                        os.fchmod(folder.handle(entry.path), mode)
        if record.safety is not None and not undoing.changed:
            Path(record.safety).unlink(missing_ok=True)
        remove_record(target, record)
        if record.made_target:
            with contextlib.suppress(OSError):
                target.rmdir()
    except OSError as exc:
        raise OpskitError(
            "BACKUP_003",
            f"{target}: {exc.strerror}; the restoration is only partly taken back",
            remedy="when its cause is gone: `opskit backup restore --rollback`",
        ) from exc
    return [printable_path(path) for path in undoing.changed]


@contextlib.contextmanager
def _safety_archive(record: RestoreRecord) -> Iterator[Archive | None]:
    """Give the archive of what was replaced; None before it is complete. Raises BACKUP_003."""
    try:
        if record.safety is None or not Path(record.safety).exists():
            yield None
            return
        with Archive(Path(record.safety)) as safety:
            yield safety
    except DamagedArchiveError as exc:
        raise OpskitError(
            "BACKUP_003",
            f"what a restoration replaced cannot be put back: {record.safety}: {exc}",
            remedy=f"bring that archive back; or remove the files named `{TRACE}*` to keep what is there now",
        ) from exc


def _undoing(folder: RootFolder, record: RestoreRecord, safety: Archive | None) -> _Undoing:
    """Compare each path with what was there and with what was to be there. Nothing is changed."""
    manifest = None if safety is None else safety.manifest
    kept = {} if manifest is None else {entry.path: entry for entry in manifest.entries}
    undoing = _Undoing()
    for entry in record.files:
        before = kept.get(entry.path)
        state = compare(folder, entry).action
        if before is None and record.before[entry.path] is not None:
            if state == "same":
                raise DamagedArchiveError("it is gone, or does not hold what it should")
        elif before is not None and compare(folder, before).action == "same":
            continue
        elif state == "same":
            undoing.remove.append(entry.path) if before is None else undoing.back.append(before)
        elif state == "new" and before is None:
            continue
        elif state == "new" and before is not None and _has_parent(folder, entry.path):
            undoing.back.append(before)
        else:
            undoing.changed.append(entry.path)
    return undoing


def _has_parent(folder: RootFolder, path: str) -> bool:
    above = path.rpartition("/")[0]
    return not above or folder.stat(above) is not None


def recover(catalog: BackupCatalog) -> str | None:
    """Undo restores that were killed; what was done, or None when there were none. Only under the lock.

    Raises BACKUP_003, and BACKUP_004 while one is under way.
    """
    catalog.sweep()
    done: list[str] = []
    for target in interrupted_targets(catalog):
        with undisturbed(), read_record(target, catalog) as record:
            if record is None:
                continue
            changed = undo(target, record)
            since = f"; left as somebody changed them since: {', '.join(changed)}" if changed else ""
            archive = Path(record.archive).name
            done.append(f"an interrupted restoration of {archive} to {target} was taken back{since}")
    return "; ".join(done) or None


def roll_back(catalog: BackupCatalog) -> str:
    """Undo what was killed, when a person asks for it. Raises UsageError when there is nothing."""
    done = recover(catalog)
    if done is None:
        raise _none_interrupted()
    return done


def resume(catalog: BackupCatalog) -> tuple[RestoreRecord, Path]:
    """Undo a restore that was killed, and return its record and target: it is to be done again.

    Raises UsageError when there is none; BACKUP_001 when its archive is gone and BACKUP_003 when somebody has
    changed files since, and nothing is done then.
    """
    catalog.sweep()
    for target in interrupted_targets(catalog):
        with undisturbed(), read_record(target, catalog) as record:
            if record is None:
                continue
            if not Path(record.archive).exists():
                remedy = "`opskit backup restore --rollback`"
                raise OpskitError("BACKUP_001", f"{record.archive}: it is gone", remedy=remedy)
            with RootFolder(target) as folder, _safety_archive(record) as safety:
                changed = _undoing(folder, record, safety).changed
            if changed:
                raise OpskitError(
                    "BACKUP_003",
                    f"the restoration cannot be finished: {printable_path(changed[0])} was changed since",
                    remedy="`opskit backup restore --rollback`",
                )
            undo(target, record)
            return record, target
    raise _none_interrupted()


def _none_interrupted() -> UsageError:
    return UsageError("no restoration was interrupted", remedy="`opskit backup restore DATE` begins one")
