"""The folder of archives: what lies there, which one a person means, and which ones may go."""

import contextlib
import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from opskit.backup.archive import Archive, UnreadableError
from opskit.backup.manifest import Manifest, Purpose
from opskit.backup.member import shown
from opskit.backup.place import Place, not_written
from opskit.backup.writing import TEMPORARY
from opskit.errors import OpskitError, UsageError

_NAME = re.compile(r"(backup|replaced)_([0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{6}Z)(?:-([0-9]{1,4}))?\.tar\.gz")
_MOST_NAMED = 10


@dataclass(frozen=True, slots=True)
class Stored:
    """An archive by its name, and what can be read of it without unpacking it.

    `manifest` is None when `problem` says why it cannot be read.
    """

    path: Path
    purpose: Purpose
    stamp: str
    number: int
    size_bytes: int
    manifest: Manifest | None
    problem: str = ""

    @property
    def date(self) -> str:
        """What a person gives to name it."""
        number = f"-{self.number}" if self.number > 1 else ""
        return f"{self.stamp}{number}"

    @property
    def complete(self) -> bool:
        """Readable, and nothing that was selected is missing."""
        return self.manifest is not None and not self.manifest.skipped


def new_path(place: Place, purpose: Purpose, now: datetime) -> Path:
    """A name that nothing has yet. `now` must be timezone-aware."""
    stamp = f"{purpose}_{now.astimezone(UTC):%Y-%m-%dT%H%M%SZ}"
    path = place.folder / f"{stamp}.tar.gz"
    number = 1
    while path.exists():
        number += 1
        path = place.folder / f"{stamp}-{number}.tar.gz"
    return path


def stored(folder: Path) -> list[Stored]:
    """The archives of a folder, the newest first. Raises BACKUP_003 when it cannot be read."""
    try:
        paths = [path for path in folder.iterdir() if _NAME.fullmatch(path.name)]
    except FileNotFoundError:
        return []
    except OSError as exc:
        raise not_written(folder, exc) from exc
    found = [one for one in map(_stored, paths) if one is not None]
    return sorted(found, key=lambda one: (one.stamp, one.number, one.purpose), reverse=True)


def _stored(path: Path) -> Stored | None:
    """None when it has gone meanwhile."""
    match = _NAME.fullmatch(path.name)
    assert match is not None  # noqa: S101 - `stored` has looked
    purpose: Purpose = "backup" if match[1] == "backup" else "replaced"
    number = int(match[3] or 1)
    try:
        with Archive(path) as archive:
            return Stored(path, purpose, match[2], number, archive.size_bytes, archive.manifest)
    except FileNotFoundError:
        return None
    except UnreadableError as exc:
        problem = str(exc)
    except OSError as exc:
        problem = f"it cannot be read: {exc.strerror}"
    return Stored(path, purpose, match[2], number, path.lstat().st_size, None, problem)


def find(place: Place, wanted: str) -> Path:
    """The archive that a date, the beginning of one, `latest`, a name or a path stands for.

    `latest` is the newest one of this root; one that cannot be read counts, so that no older one is taken
    for it unnoticed. Raises BACKUP_001, and UsageError when several are meant.
    """
    if "/" in wanted:
        path = Path(wanted).expanduser().absolute()
        if not path.exists():
            raise OpskitError("BACKUP_001", f"{shown(wanted)}: there is no such file")
        return path
    archives = stored(place.folder)
    if wanted == "latest":
        for one in archives:
            if one.purpose == "backup" and (one.manifest is None or one.manifest.root == str(place.root)):
                return one.path
        raise _unknown("there is no backup yet" if not archives else f"none is of {place.root}", archives)
    word = wanted.removesuffix(".tar.gz").replace(":", "")
    meant = [one for one in archives if word and word in (one.date, f"{one.purpose}_{one.date}")]
    backups = [one for one in meant if one.purpose == "backup"]
    meant = backups or meant
    if not meant:
        begin = [one for one in archives if word and f"{one.purpose}_{one.date}".startswith(word)]
        meant = begin or [
            one for one in archives if word and one.purpose == "backup" and one.date.startswith(word)
        ]
    if not meant:
        raise _unknown(f"there is no backup {wanted!r}", archives)
    if len(meant) > 1:
        raise UsageError(
            f"{wanted!r} may be {len(meant)} backups: {_named(meant)}", remedy="write more of the date"
        )
    return meant[0].path


def _unknown(message: str, archives: Sequence[Stored]) -> OpskitError:
    if not archives:
        return OpskitError("BACKUP_001", message, remedy="`opskit backup create` makes one")
    return OpskitError("BACKUP_001", f"{message}; there are {_named(archives)}")


def _named(archives: Sequence[Stored]) -> str:
    more = f" and {len(archives) - _MOST_NAMED} more" if len(archives) > _MOST_NAMED else ""
    names = (one.date if one.purpose == "backup" else f"{one.purpose}_{one.date}" for one in archives)
    return ", ".join([*names][:_MOST_NAMED]) + more


def superfluous(
    archives: Sequence[Stored], *, root: str, purpose: Purpose, keep: int, new: Path
) -> list[Stored]:
    """Which may go: those of this root and purpose behind the newest `keep`. Pure.

    `archives` are the newest first. `new`, the newest complete one, and whatever cannot be read are kept: a
    damaged archive neither pushes a good one out nor vanishes unseen.
    """
    mine = [
        one
        for one in archives
        if one.purpose == purpose and one.manifest is not None and one.manifest.root == root
    ]
    # A clock that was set back makes the new one look old.
    mine.sort(key=lambda one: one.path != new)
    complete = next((one for one in mine if one.complete), None)
    return [one for one in mine[keep:] if one is not complete]


def prune(place: Place, *, root: str, purpose: Purpose, new: Path) -> list[Path]:
    """Remove those that may go; which these were. One that will not go stays: the new one is what counts."""
    removed = []
    for one in superfluous(stored(place.folder), root=root, purpose=purpose, keep=place.keep, new=new):
        with contextlib.suppress(OSError):
            one.path.unlink()
            removed.append(one.path)
    return removed


def sweep(folder: Path) -> None:
    """Remove what a process that died has left half-written. Only under the lock."""
    for path in folder.glob(f".*{TEMPORARY}"):
        if _NAME.fullmatch(path.name.removesuffix(TEMPORARY).removeprefix(".")):
            with contextlib.suppress(OSError):
                path.unlink()
