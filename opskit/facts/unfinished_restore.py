"""Restores of a backup that were begun and have not ended: until they are, their folders are half restored.

The record of a restore is a pointer in the folder that is restored: a restored configuration may move the
folder of archives, and never the target.
"""

import contextlib
import os
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

from opskit.config.schema import Config
from opskit.records import Record
from opskit.system.lock import is_locked

if TYPE_CHECKING:
    from opskit.facts.survey import Survey

#: What a restore writes beside the files that it replaces has names that begin so; none is ever archived.
TRACE = ".opskit-restore"
#: A link in the target, to the safety archive, while the restore is not complete.
POINTER = TRACE
#: A link in the folder of archives that leads to a target which is not the root: `--to` may name any.
TARGET_LINK = ".restoring"
#: Held, in the folder of archives, by the process that makes or restores a backup.
LOCK = ".lock"


class BackupFolders(Record, kw_only=True):
    """The folder that archives are made of, the folder of archives, and folders of the stack's own files.

    All are absolute and free of links. An unfinished restore is looked for in each but the archives, and
    above, so that a restored `opskit.yaml` which moves the first two cannot hide it.
    """

    root: Path
    archives: Path
    of_stack: tuple[Path, ...] = ()


class UnfinishedRestore(Record, kw_only=True):
    """`safety` is the archive of what is replaced in `target`; None where the pointer is not a link to one.

    `owner` is the user id of the restoring process.
    """

    target: Path
    owner: int
    safety: Path | None

    @property
    def is_running(self) -> bool:
        """Return True while the process that restores is alive: nothing was interrupted."""
        return self.safety is not None and is_locked(self.safety.parent / LOCK)

    @property
    def is_interrupted(self) -> bool:
        """Return True when the target is half restored, and stays so until a person decides."""
        return not self.is_running

    def covers(self, files: Iterable[Path]) -> bool:
        return any(
            Path(os.path.realpath(file.parent), file.name).is_relative_to(self.target) for file in files
        )


def backup_folders(config: Config) -> BackupFolders:
    """Return the folders that a configuration describes; nothing is read but links."""
    backup, stack = config.backup, config.stack
    archives = config.located(backup.folder) if backup.folder else Path(config.state_dir) / "backups"
    files = [path for paths in config.compose_files().values() for path in paths]
    files += [config.located(path) for path in stack.env_files]
    folders = [path.parent for path in files]
    if config.path is not None:
        folders.append(Path(os.path.realpath(config.path)).parent)
    return BackupFolders(
        root=Path(os.path.realpath(config.located(backup.root or "."))),
        archives=Path(os.path.realpath(archives.absolute())),
        of_stack=tuple(dict.fromkeys(Path(os.path.realpath(folder)) for folder in folders)),
    )


def unfinished_restores(folders: BackupFolders) -> list[UnfinishedRestore]:
    """Return the restores that have not ended, whether or not somebody is still at them.

    In a folder above, such as `/tmp`, only the record of this user counts.
    """
    starts = [folders.root, *folders.of_stack]
    targets = [folder for start in starts for folder in (start, *start.parents)]
    with contextlib.suppress(OSError):
        targets.append((folders.archives / TARGET_LINK).readlink())
    records = [record for target in dict.fromkeys(targets) if (record := unfinished_in(target)) is not None]
    return [record for record in records if record.owner == os.geteuid() or record.target in starts]


def unfinished_in(target: Path) -> UnfinishedRestore | None:
    """Return the restore to one folder that has not ended, of whichever user."""
    pointer = target / POINTER
    try:
        owner, safety = pointer.lstat().st_uid, pointer.readlink() if pointer.is_symlink() else Path()
    except OSError:
        return None
    return UnfinishedRestore(target=target, owner=owner, safety=safety if safety.is_absolute() else None)


def backup_is_running(config: Config) -> bool:
    """Return True while a backup is made or restored. Nothing is created by asking."""
    folders = backup_folders(config)
    return is_locked(folders.archives / LOCK) or any(
        restore.is_running for restore in unfinished_restores(folders)
    )


async def read_unfinished_restores(survey: "Survey") -> tuple[UnfinishedRestore, ...]:
    import asyncio

    return tuple(await asyncio.to_thread(unfinished_restores, backup_folders(survey.config)))
