"""The record of a restore in progress: it lies in the target, and says how to undo it."""

import contextlib
import json
import os
from collections.abc import Iterator
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from opskit.backup.archive_writer import not_written, temporary_of, written_whole
from opskit.backup.catalog import LOCK, BackupCatalog
from opskit.backup.folder import flush
from opskit.backup.manifest import (
    TRACE,
    ArchiveEntry,
    InvalidManifestError,
    decode_entry,
    encode_entry,
    problem_of_path,
)
from opskit.errors import OpskitError
from opskit.system.lock import try_lock

_NAME = f"{TRACE}.json"
_SCHEMA_VERSION = 1
#: A link in the folder of archives that leads to a target which is not the root: `--to` may name any.
_POINTER = ".restoring"


@dataclass(frozen=True, slots=True)
class RestoreRecord:
    """What a restore changes: `entries`, and in `before` the mode of what was there, None for nothing.

    `safety` is the archive of the files that are replaced, None when none is; `archives` is its folder.
    `made_target` says that the target is new.
    """

    archive: str
    only: tuple[str, ...]
    archives: str
    safety: str | None
    entries: tuple[ArchiveEntry, ...]
    before: dict[str, int | None]
    made_target: bool

    @property
    def files(self) -> list[ArchiveEntry]:
        """Return the files and links that get their place."""
        return [entry for entry in self.entries if entry.kind != "folder"]

    @property
    def folders(self) -> list[ArchiveEntry]:
        """Return the folders that are made or get another mode, the outermost first."""
        return [entry for entry in self.entries if entry.kind == "folder"]

    def staged(self, suffix: str) -> dict[str, str]:
        """Return where the file for each path lies, beside it, before it is put in place."""
        return {
            entry.path: f"{''.join(entry.path.rpartition('/')[:2])}{TRACE}-{number}.{suffix}"
            for number, entry in enumerate(self.files, 1)
        }


def write_record(target: Path, record: RestoreRecord, catalog: BackupCatalog) -> None:
    """Write the record of a target; it is on the disk when this returns. Raises OSError."""
    if target != catalog.root:
        with contextlib.suppress(OSError):  # without links only its own root finds it
            (catalog.folder / _POINTER).symlink_to(target)
    with written_whole(target / _NAME) as file:
        file.write(_encode(record))


def check_ended(target: Path) -> None:
    """Raise BACKUP_003 when a restore to this folder, begun with other archives, has not ended."""
    if _has_record(target, any_user=True):
        raise OpskitError(
            "BACKUP_003",
            f"another restoration to {target} was interrupted",
            remedy="`opskit backup restore --rollback` with the configuration that it was begun with",
        )


def remove_record(target: Path, record: RestoreRecord) -> None:
    """End a restore, or its undoing. Raises OSError when it has not ended."""
    temporary_of(target / _NAME).unlink(missing_ok=True)
    (target / _NAME).unlink(missing_ok=True)
    with contextlib.suppress(OSError):
        Path(record.archives, _POINTER).unlink(missing_ok=True)
        flush(target)


def interrupted_targets(catalog: BackupCatalog) -> list[Path]:
    """Return the folders in which a restore was begun and has not ended.

    They are looked for where a restored `opskit.yaml` that moves `backup.folder` or `backup.root` cannot hide
    them: the root, the folder of the configuration, the folders above both, and where the last restore went.
    In a folder above, only a record of this user counts.
    """
    starts = [catalog.root, *([] if catalog.config_folder is None else [catalog.config_folder])]
    folders = [folder for start in starts for folder in (start, *start.parents)]
    targets = [folder for folder in folders if _has_record(folder, any_user=folder == catalog.root)]
    with contextlib.suppress(OSError):
        targets.append((catalog.folder / _POINTER).readlink())
    return list(dict.fromkeys(targets))


def _has_record(folder: Path, *, any_user: bool) -> bool:
    for path in (folder / _NAME, temporary_of(folder / _NAME)):
        with contextlib.suppress(OSError):
            if path.lstat().st_uid == os.geteuid() or any_user:
                return True
    return False


@contextlib.contextmanager
def read_record(target: Path, catalog: BackupCatalog) -> Iterator[RestoreRecord | None]:
    """Give the record of a process that died, or None when it had done nothing. Under `catalog.lock()`.

    Raises BACKUP_004 while the process lives, BACKUP_003 for a record that cannot be read: it is set aside.
    """
    path = target / _NAME
    try:
        temporary_of(path).unlink(missing_ok=True)
        text, owner = path.read_bytes(), path.lstat().st_uid
    except (FileNotFoundError, NotADirectoryError):
        (catalog.folder / _POINTER).unlink(missing_ok=True)
        yield None
        return
    except OSError as exc:
        raise not_written(path, exc) from exc
    if owner != os.geteuid():
        why = f"{path}: another user (uid {owner}) was interrupted while restoring a backup here"
        raise OpskitError("BACKUP_003", why, remedy="run the command as that user")
    try:
        record = _decode(text)
    except (ValueError, TypeError, KeyError, RecursionError) as exc:
        aside = target / f"{TRACE}.damaged"
        path.replace(aside)
        raise OpskitError(
            "BACKUP_003",
            f"the record of an interrupted restoration is damaged; it was set aside as {aside}",
            remedy="the newest `replaced_` archive (`opskit backup list`) holds what was there: restore it, "
            f"remove the files named `{TRACE}*`, then run the command again",
        ) from exc
    # When it was begun with another folder of archives, its process holds the lock of that one.
    is_elsewhere = record.archives != str(catalog.folder) and Path(record.archives).is_dir()
    with (
        try_lock(Path(record.archives, LOCK))
        if is_elsewhere
        else contextlib.nullcontext(enter_result=True) as held
    ):
        if not held:
            raise OpskitError("BACKUP_004", f"another process restores a backup to {target}")
        yield record


def _encode(record: RestoreRecord) -> bytes:
    content = {field.name: getattr(record, field.name) for field in fields(record)}
    content["entries"] = [encode_entry(entry) for entry in record.entries]
    return json.dumps({"schema_version": _SCHEMA_VERSION, **content}).encode("ascii")


def _decode(text: bytes) -> RestoreRecord:
    content: dict[str, Any] = json.loads(text)
    if content["schema_version"] != _SCHEMA_VERSION:
        raise ValueError("another version")
    record = RestoreRecord(
        archive=str(content["archive"]),
        only=tuple(content["only"]),
        archives=str(content["archives"]),
        safety=None if content["safety"] is None else str(content["safety"]),
        entries=tuple(decode_entry(entry, "an entry") for entry in content["entries"]),
        before=dict(content["before"]),
        made_target=bool(content["made_target"]),
    )
    paths = [entry.path for entry in record.entries]
    if any(problem_of_path(path) for path in paths) or list(record.before) != paths:
        raise InvalidManifestError("a path leaves the target, or is not known")
    return record
