"""Making a backup: select files, archive them, remove the oldest archives."""

import os
import re
import stat
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path
from typing import Any

from opskit.backup.archive_writer import WrittenArchive, write_archive
from opskit.backup.catalog import BackupCatalog
from opskit.backup.folder import RootFolder
from opskit.backup.manifest import (
    MAX_ENTRIES,
    EntryKind,
    SkippedFile,
    empty_manifest,
    printable_path,
    problem_of_link,
    problem_of_path,
)
from opskit.backup.pattern import Patterns
from opskit.config.schema import Config
from opskit.errors import ConfigError, OpskitError
from opskit.result import Finding, Report, Status
from opskit.system.compose import further_files
from opskit.system.env_file import parse_env_file

_VARIABLE = re.compile(r"\$(?:(\w+)|\{(\w+)(?::?-([^}]*))?\})")
_UNFIT = {
    stat.S_IFSOCK: "it is a socket",
    stat.S_IFIFO: "it is a FIFO",
    stat.S_IFBLK: "it is a device",
    stat.S_IFCHR: "it is a device",
}


@dataclass(frozen=True, slots=True)
class CreatedBackup:
    """A new archive, and the old ones that were removed for it."""

    written: WrittenArchive
    removed: tuple[Path, ...]

    @property
    def report(self) -> Report:
        """Return what is in the backup. What is missing from it fails: it is not what was asked for."""
        manifest = self.written.manifest
        evidence: dict[str, Any] = {
            "path": str(self.written.path),
            "size_bytes": self.written.size_bytes,
            "content_bytes": manifest.content_bytes,
            "files": manifest.files,
            "root": manifest.root,
            "removed": [path.name for path in self.removed],
        }
        findings = [Finding("backup", self.written.path.name, Status.PASS, "created", evidence=evidence)]
        findings += [
            Finding("file", printable_path(skipped.path), Status.FAIL, "skipped", skipped.reason)
            for skipped in manifest.skipped
        ]
        findings += [
            Finding(
                "file",
                printable_path(entry.path),
                Status.WARN,
                "changed",
                "it was written to while it was read",
            )
            for entry in manifest.entries
            if entry.changed
        ]
        return Report("backup create", findings)


def create(
    catalog: BackupCatalog, *, now: datetime, stack_files: Mapping[Path, str] | None = None
) -> CreatedBackup:
    """Archive what the patterns select and the `stack_files`, under `catalog.lock()`.

    Raises ConfigError when there is nothing to back up, BACKUP_003 when it could not be written.
    """
    inside, outside = _by_place(catalog.root, stack_files or {})
    try:
        with RootFolder(catalog.root) as folder:
            skipped: list[SkippedFile] = []
            patterns = catalog.patterns.with_paths(inside)
            selected = list(_selected(folder, "", patterns, catalog.folder, skipped))
            _check(selected, skipped, catalog)
            draft = replace(empty_manifest("backup", catalog.root, now), skipped=(*skipped, *outside))
            path = catalog.new_path("backup", now)
            written = write_archive(folder, selected, draft, path, max_file_bytes=catalog.max_file_bytes)
    except OSError as exc:
        remedy = "set `backup.root` to the folder of the stack"
        raise ConfigError(f"{catalog.root}: {exc.strerror}", remedy=remedy) from exc
    if not written.manifest.files:
        written.path.unlink()
        first = written.manifest.skipped[0]
        why = f"nothing could be kept; {printable_path(first.path)}: {first.reason}"
        raise OpskitError("BACKUP_003", why, remedy="see its cause")
    removed = catalog.prune(root=str(catalog.root), purpose="backup", new=path)
    return CreatedBackup(written, tuple(removed))


def stack_files(config: Config, environ: Mapping[str, str]) -> dict[Path, str]:
    """Return the files that the stack is started from, and where each is named.

    They are those of `stack.compose` and `stack.env_files`, the `.env` beside the first Compose file, and
    what the Compose files name: environment files, includes, bases, secrets. What only a Compose file names
    and is not there is left out.
    """
    found: dict[Path, str] = {config.located(path): "stack.env_files" for path in config.stack.env_files}
    for project, names in config.stack.compose.items():
        paths = [config.located(name) for name in names]
        if paths:
            dotenv = paths[0].parent / ".env"
            values = {**_values(dotenv), **environ}
            # Paths in the project's own files belong to the folder of the first, in others to their own.
            waiting = [(path, paths[0].parent) for path in paths]
            for path, folder in waiting:
                others = _named_in(path, folder, values)
                waiting += [(other, other.parent) for other in others if other not in dict(waiting)]
            found |= dict.fromkeys(
                (*dict(waiting), *([dotenv] if dotenv.is_file() else [])), f"stack.compose.{project}"
            )
    return found


def _values(dotenv: Path) -> dict[str, str]:
    try:
        return parse_env_file(dotenv.read_text("utf-8", "replace")).values
    except OSError:
        return {}


def _named_in(path: Path, folder: Path, values: Mapping[str, str]) -> list[Path]:
    """Return the files that a Compose file names, and where a link leads."""

    def value(match: re.Match[str]) -> str:
        return values.get(match[1] or match[2]) or match[3] or match[0]

    found = [Path(os.path.realpath(path))] if path.is_symlink() else []
    if path.suffix in (".yml", ".yaml", ".json") and path.is_file():
        try:
            names = sorted(further_files(path.read_text("utf-8", "replace")))
        except OSError:
            return found  # it is named as unreadable when it is archived
        found += [folder / Path(_VARIABLE.sub(value, name)).expanduser() for name in names]
    return [other for other in found if "$" in str(other) or other.is_file()]


def _by_place(root: Path, stack_files: Mapping[Path, str]) -> tuple[list[str], list[SkippedFile]]:
    """Return the paths of files below the root, and the files that cannot be in an archive of it."""
    inside: list[str] = []
    outside: list[SkippedFile] = []
    for path, key in stack_files.items():
        real = Path(os.path.realpath(path.parent), path.name)
        if "$" in str(path):
            outside.append(SkippedFile(str(path), f"its name holds a variable without a value ({key})"))
        elif not path.exists():
            outside.append(SkippedFile(str(path), f"it is not there ({key})"))
        elif not real.is_relative_to(root):
            why = f"it lies outside {root} ({key}): set `backup.root` to a folder that holds both"
            outside.append(SkippedFile(str(path), why))
        else:
            inside.append(str(real.relative_to(root)))
    return inside, outside


def _check(selected: list[tuple[str, EntryKind]], skipped: list[SkippedFile], catalog: BackupCatalog) -> None:
    if not skipped and all(kind == "folder" for _, kind in selected):
        raise ConfigError(
            f"there is nothing to back up: no file below {catalog.root} is selected",
            remedy="set `backup.root` and `backup.files` in the configuration (`opskit config init`)",
        )
    if len(selected) > MAX_ENTRIES:
        raise ConfigError(
            f"backup.files selects more than {MAX_ENTRIES} files below {catalog.root}",
            remedy="narrow the patterns",
        )


def _selected(
    folder: RootFolder, path: str, patterns: Patterns, archives: Path, skipped: list[SkippedFile]
) -> Iterator[tuple[str, EntryKind]]:
    """Return what is selected below a folder: each folder before what is in it, sorted by name.

    Links are not followed, the folder of archives is passed over. Raises OSError when it cannot be read.
    """
    for name in folder.names(path):
        below = patterns.below(name)
        entry = f"{path}/{name}" if path else name
        if not below.leads_on or folder.root / entry == archives:
            continue
        try:
            yield from _entry(folder, entry, below, archives, skipped)
        except OSError as exc:
            if below.selected or not isinstance(exc, NotADirectoryError | FileNotFoundError):
                skipped.append(SkippedFile(entry, f"it cannot be read: {exc.strerror}"))


def _entry(
    folder: RootFolder, path: str, patterns: Patterns, archives: Path, skipped: list[SkippedFile]
) -> Iterator[tuple[str, EntryKind]]:
    status = folder.stat(path)
    if status is None:
        return  # it went away since its folder was read: nothing is missing
    kind = stat.S_IFMT(status.st_mode)
    why = problem_of_path(path)
    if kind == stat.S_IFDIR and why is None:
        inside = list(_selected(folder, path, patterns, archives, skipped))
        if inside or patterns.selected:
            yield path, "folder"
            yield from inside
        return
    if not patterns.selected:
        # A link where patterns go on into a folder: what they select lies elsewhere.
        if kind == stat.S_IFLNK and (folder.root / path).is_dir():
            skipped.append(SkippedFile(path, "it is a link to a folder, and links are not followed"))
        return
    why = why or _UNFIT.get(kind)
    if why is None and kind == stat.S_IFLNK:
        why = _problem_of_link(folder, path)
    if why is not None:
        skipped.append(SkippedFile(path, why))
    else:
        yield path, "link" if kind == stat.S_IFLNK else "file"


def _problem_of_link(folder: RootFolder, path: str) -> str | None:
    why = problem_of_link(path, folder.read_link(path))
    if why is None and not Path(os.path.realpath(folder.root / path)).is_relative_to(folder.root):
        why = "it is a link that leads out of the folder by way of another"
    return why
