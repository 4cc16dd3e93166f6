"""Putting a backup back: everything, or nothing.

All new files are written beside their targets first; then the old ones get second names, and each new one
takes its place in one step. A journal tells at every moment how to get back. What is replaced is kept in an
archive of its own.
"""

import contextlib
import os
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from opskit.backup import shelf, undoing
from opskit.backup.archive import Archive, UnreadableError
from opskit.backup.change import Change, changes, chosen
from opskit.backup.interruption import interruptible, undisturbed
from opskit.backup.journal import JournalFile
from opskit.backup.member import shown
from opskit.backup.pattern import parse
from opskit.backup.place import Place
from opskit.backup.swapping import Work
from opskit.backup.tree import ignores_case
from opskit.errors import OpskitError, UsageError


@dataclass(frozen=True, slots=True)
class Plan:
    """What a restoration would do. Nothing was written yet."""

    archive: Path
    target: Path
    only: tuple[str, ...]
    changes: tuple[Change, ...]

    def of(self, action: str) -> list[Change]:
        return [change for change in self.changes if change.action == action]

    @property
    def idle(self) -> bool:
        return all(change.action == "same" for change in self.changes)


@dataclass(frozen=True, slots=True)
class Restored:
    """`replaced` is the archive of what was replaced; None when nothing was. `removed` were such archives."""

    replaced: Path | None
    removed: tuple[Path, ...] = ()


def opened(path: Path) -> Archive:
    """Raises BACKUP_002 for what is no readable archive."""
    try:
        return Archive(path)
    except UnreadableError as exc:
        raise OpskitError("BACKUP_002", f"{path}: {exc}") from exc
    except OSError as exc:
        raise OpskitError("BACKUP_001", f"{path}: {exc.strerror}") from exc


def plan(archive: Archive, place: Place, *, to: Path | None = None, only: Sequence[str] = ()) -> Plan:
    """Judge the whole archive, then compare it with what is there.

    Raises BACKUP_002 when anything is wrong with the archive, BACKUP_003 when something stands in the way,
    UsageError when the archive was made of another folder than this one and `to` is None.
    """
    root = archive.manifest.root
    if to is None and root != str(place.root):
        raise UsageError(
            f"{archive.path.name} was made of {shown(root)}, and `backup.root` is {place.root}",
            remedy=f"say where to: --to {place.root}",
        )
    patterns = parse(only) if only else None
    target = place.root if to is None else Path(os.path.realpath(to))
    if not target.parent.is_dir() or (target.exists() and not target.is_dir()):
        raise UsageError(f"{target} is no folder and cannot become one", remedy="name a folder with --to")
    problems = archive.problems(ignores_case=ignores_case(target))
    if problems:
        more = f" (and {len(problems) - 3} more)" if len(problems) > 3 else ""
        raise OpskitError("BACKUP_002", f"{archive.path}: {'; '.join(problems[:3])}{more}")
    members = chosen(archive.manifest.members, patterns)
    return Plan(archive.path, target, tuple(only), changes(members, target))


def restore(archive: Archive, planned: Plan, place: Place, *, now: datetime, token: str) -> Restored:
    """Do it. The caller holds `place.alone()`. `token` makes the names of staged files unique.

    On any failure and on SIGINT, SIGTERM and SIGHUP all is as it was. Raises BACKUP_002 when the archive
    changed since it was judged, BACKUP_003 when it could not be written.
    """
    file = JournalFile(place.folder)
    replaced = shelf.new_path(place, "replaced", now)
    work = Work(archive, planned.changes, planned.target, file, only=planned.only, token=token)
    with interruptible():
        try:
            work.run(replaced, now)
        except BaseException as exc:
            with undisturbed():
                if file.exists():
                    undoing.roll_back(work.journal, file)
            told = _told(exc, planned)
            if told is None:
                raise
            raise told from exc
        # All is in place. What cannot be tidied up now is tidied up by the next command.
        with undisturbed(), contextlib.suppress(OpskitError):
            undoing.finish(work.journal, file)
    if work.journal.replaced is None:
        return Restored(None)
    removed = shelf.prune(place, root=str(planned.target), purpose="replaced", new=replaced)
    return Restored(replaced, tuple(removed))


def _told(exc: BaseException, planned: Plan) -> OpskitError | None:
    """The error for a failure of the disk or the archive; None for what says by itself what it is."""
    if isinstance(exc, UnreadableError):
        return OpskitError("BACKUP_002", f"{planned.archive}: {exc}; nothing was changed")
    if isinstance(exc, OSError):
        return OpskitError("BACKUP_003", f"{planned.target}: {exc.strerror or exc}; nothing was changed")
    return None
