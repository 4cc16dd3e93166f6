"""What a restoration is about to do, on the disk before it does it: so a killed one is undone or finished."""

import json
import os
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

from opskit.backup.place import not_written
from opskit.backup.writing import sync_folder
from opskit.errors import OpskitError

_NAME = ".restore-journal.json"
_SCHEMA_VERSION = 1
#: staging: only new names beside the old ones. swapping: some files are new, some old. done: only tidying up
#: is left.
Phase = Literal["staging", "swapping", "done"]


@dataclass(frozen=True, slots=True)
class Step:
    """One file or link that is put in place.

    `staged` is the new one beside it, `saved` a second name of what it replaces (None when nothing was
    there). `size` and `mtime_ns` are those of the staged one, once there: they tell whether somebody has
    written to the file since.
    """

    path: str
    staged: str
    saved: str | None
    size: int = -1
    mtime_ns: int = 0


@dataclass(frozen=True, slots=True)
class Journal:
    """`folders` are made, in this order; `modes` are those of folders that were there: before and after.

    `finals` are mode and time of the folders that are made. `made_target` tells that the target folder
    itself is new, `replaced` is the archive of what is replaced.
    """

    phase: Phase
    archive: str
    target: str
    only: tuple[str, ...]
    steps: tuple[Step, ...]
    folders: tuple[str, ...]
    finals: dict[str, tuple[int, int]]
    modes: dict[str, tuple[int, int]]
    made_target: bool = False
    replaced: str | None = None


class JournalFile:
    """The journal of a backup folder; there is at most one."""

    def __init__(self, folder: Path) -> None:
        self.path = folder / _NAME
        self._temporary = folder / f"{_NAME}.tmp"

    def exists(self) -> bool:
        return self.path.exists()

    def left_behind(self) -> bool:
        """There is one, or the beginning of one."""
        return self.exists() or self._temporary.exists()

    def write(self, journal: Journal) -> None:
        """It is on the disk when this returns. Raises OSError; the one before is then still there."""
        temporary = self._temporary
        text = json.dumps({"schema_version": _SCHEMA_VERSION, **asdict(journal)}).encode("ascii")
        handle = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
        try:
            with os.fdopen(handle, "wb") as file:
                file.write(text)
                file.flush()
                os.fsync(file.fileno())
            temporary.replace(self.path)
        except BaseException:
            temporary.unlink(missing_ok=True)
            raise
        sync_folder(self.path.parent)

    def remove(self) -> None:
        self._temporary.unlink(missing_ok=True)
        self.path.unlink(missing_ok=True)
        sync_folder(self.path.parent)

    def read(self) -> Journal | None:
        """None when there is none. Raises BACKUP_003 for one that makes no sense, which is set aside."""
        try:
            self._temporary.unlink(missing_ok=True)
            text = self.path.read_bytes()
        except FileNotFoundError:
            return None
        except OSError as exc:
            raise not_written(self.path, exc) from exc
        try:
            return _journal(json.loads(text))
        except (ValueError, TypeError, KeyError, RecursionError) as exc:
            aside = self.path.with_suffix(".damaged")
            self.path.replace(aside)
            raise OpskitError(
                "BACKUP_003",
                f"the journal of an interrupted restoration is damaged; it was set aside as {aside}",
                remedy="look for files named `.opskit-restore-*` where you restored: `.old` is what was "
                "there; then run the command again",
            ) from exc


def _journal(content: dict[str, Any]) -> Journal:
    if content["schema_version"] != _SCHEMA_VERSION or content["phase"] not in (
        "staging",
        "swapping",
        "done",
    ):
        raise ValueError("another version")
    return Journal(
        phase=content["phase"],
        archive=str(content["archive"]),
        target=str(content["target"]),
        only=tuple(content["only"]),
        steps=tuple(Step(**step) for step in content["steps"]),
        folders=tuple(content["folders"]),
        finals={path: (mode, time) for path, (mode, time) in content["finals"].items()},
        modes={path: (before, after) for path, (before, after) in content["modes"].items()},
        made_target=bool(content["made_target"]),
        replaced=content["replaced"],
    )
