"""Making a backup: select, write, tidy up."""

from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from opskit.backup import shelf
from opskit.backup.manifest import MAX_MEMBERS, drafted
from opskit.backup.member import shown
from opskit.backup.place import Place
from opskit.backup.selection import Selection, select
from opskit.backup.tree import Tree
from opskit.backup.writing import Written, write
from opskit.errors import ConfigError, OpskitError
from opskit.result import Finding, Report, Status


@dataclass(frozen=True, slots=True)
class Created:
    """A new archive, and the old ones that it pushed out."""

    written: Written
    removed: tuple[Path, ...]

    @property
    def report(self) -> Report:
        """What is missing from the backup fails: it is not the backup that was asked for."""
        manifest = self.written.manifest
        name = self.written.path.name
        findings = [Finding("backup", name, Status.PASS, "created", evidence=self._evidence())]
        findings += [
            Finding("file", shown(one.path), Status.FAIL, "skipped", one.reason) for one in manifest.skipped
        ]
        findings += [
            Finding("file", shown(one.path), Status.WARN, "changed", "it was written to while it was read")
            for one in manifest.members
            if one.changed
        ]
        return Report("backup create", findings)

    def _evidence(self) -> dict[str, Any]:
        manifest = self.written.manifest
        return {
            "path": str(self.written.path),
            "size_bytes": self.written.size_bytes,
            "content_bytes": manifest.content_bytes,
            "files": manifest.files,
            "root": manifest.root,
            "removed": [path.name for path in self.removed],
        }


def create(place: Place, *, now: datetime) -> Created:
    """Back up what the patterns select. The caller holds `place.alone()`.

    Raises ConfigError when there is nothing to back up, BACKUP_003 when it could not be written.
    """
    try:
        with Tree(place.root) as tree:
            selection = select(tree, place.patterns, without=place.folder)
            _check(selection, place)
            draft = drafted("backup", place.root, now, selection.skipped)
            path = shelf.new_path(place, "backup", now)
            written = write(tree, selection.chosen, draft, path, max_file_bytes=place.max_file_bytes)
    except OSError as exc:
        raise ConfigError(
            f"{place.root}: {exc.strerror}", remedy="set `backup.root` to the folder of the stack"
        ) from exc
    if not written.manifest.files:
        written.path.unlink()
        first = written.manifest.skipped[0]
        raise OpskitError(
            "BACKUP_003",
            f"nothing could be kept; {shown(first.path)}: {first.reason}",
            remedy="see its cause",
        )
    return Created(written, tuple(shelf.prune(place, root=str(place.root), purpose="backup", new=path)))


def _check(selection: Selection, place: Place) -> None:
    if selection.empty:
        raise ConfigError(
            f"there is nothing to back up: no file below {place.root} is selected",
            remedy="set `backup.root` and `backup.files` in the configuration (`opskit config init`)",
        )
    if len(selection.chosen) > MAX_MEMBERS:
        raise ConfigError(
            f"backup.files selects more than {MAX_MEMBERS} files below {place.root}",
            remedy="narrow the patterns",
        )
