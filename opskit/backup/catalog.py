"""The folder of archives: what lies there, which one a person means, a new one, and who works on them."""

import contextlib
import itertools
import re
import signal
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from opskit.backup.archive import TEMPORARY, Archive, write_archive
from opskit.backup.folder import RootFolder, not_written
from opskit.backup.manifest import (
    MAX_ENTRIES,
    DamagedArchiveError,
    Manifest,
    NotAnArchiveError,
    Purpose,
    printable_path,
    special_bits,
)
from opskit.backup.selection import Patterns, Selection, by_place, parse
from opskit.config.schema import Config
from opskit.errors import ConfigError, OpskitError, UsageError
from opskit.facts.unfinished_restore import LOCK, BackupFolders, backup_folders
from opskit.records import Record
from opskit.result import Finding, Report, Status
from opskit.system.lock import wait_lock
from opskit.text import counted, listing

#: A process that asks `running` holds the lock for an instant.
_PATIENCE_S = 0.4
#: Older scripts named theirs `backup_<date>` in any form of date.
_NAME = re.compile(r"(backup|replaced)_([^/\s]+)\.tar\.gz")
_MOST_NAMED = 10


class StoredArchive(Record):
    """An archive by its name, and what can be read of it without unpacking it.

    `date` is what a person gives to name it; the second archive of one second ends in `-2`. `manifest` is
    None when the archive has none, or when `problem` says why it cannot be read.
    """

    path: Path
    purpose: Purpose
    date: str
    size_bytes: int
    manifest: Manifest | None
    problem: str = ""

    @property
    def label(self) -> str:
        return self.date if self.purpose == "backup" else f"{self.purpose}_{self.date}"

    @property
    def age_key(self) -> tuple[str, int, str]:
        """Return what sorts archives by time, whatever form their dates have."""
        stamp, _, number = self.date.partition("Z-")
        digits = re.sub(r"\D", "", stamp)[:14].ljust(14, "0")
        return digits, int(number) if number.isdecimal() else 1, self.purpose

    @property
    def root(self) -> str | None:
        return None if self.manifest is None else self.manifest.root


class CreatedBackup(Record):
    """A new archive, and the old ones that were removed for it."""

    path: Path
    manifest: Manifest
    removed: tuple[Path, ...]

    @property
    def report(self) -> Report:
        """Return what is in the backup. What is missing from it fails: it is not what was asked for."""
        evidence: dict[str, Any] = {
            "path": str(self.path),
            "size_bytes": self.path.stat().st_size,
            "content_bytes": self.manifest.content_bytes,
            "files": self.manifest.files,
            "root": self.manifest.root,
            "removed": [path.name for path in self.removed],
        }
        notes = [(skipped.path, Status.FAIL, "skipped", skipped.reason) for skipped in self.manifest.skipped]
        for entry in self.manifest.entries:
            if entry.kind == "file" and (bits := special_bits(entry.special)):
                notes.append((entry.path, Status.WARN, "mode", f"it is {bits}, which a restore does not set"))
            if entry.changed:
                notes.append((entry.path, Status.WARN, "changed", "it was written to while it was read"))
        created = Finding("backup", self.path.name, Status.PASS, "created", evidence=evidence)
        files = [
            Finding("file", printable_path(path), status, state, why) for path, status, state, why in notes
        ]
        return Report("backup create", [created, *files])


class BackupCatalog(Record):
    """The archives in `folder` and what they are made of: what `patterns` select below `root`.

    Both paths are absolute and free of links. `stack_folders` hold the stack's own files.
    """

    root: Path
    folder: Path
    patterns: Patterns
    keep: int
    max_file_bytes: int
    stack_folders: tuple[Path, ...] = ()

    @property
    def folders(self) -> BackupFolders:
        return BackupFolders(root=self.root, archives=self.folder, of_stack=self.stack_folders)

    @contextlib.contextmanager
    def lock(self) -> Iterator[None]:
        """Keep others from making or restoring a backup meanwhile. Raises BACKUP_004 when somebody does.

        SIGTERM and SIGHUP raise KeyboardInterrupt meanwhile, as Ctrl-C does, so that work can be undone.
        """
        with contextlib.ExitStack() as stack:
            try:
                self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
                held = stack.enter_context(wait_lock(self.folder / LOCK, _PATIENCE_S))
            except OSError as exc:
                raise not_written(self.folder, exc) from exc
            if not held:
                raise OpskitError("BACKUP_004", f"another process works on the backups in {self.folder}")
            stack.enter_context(_signals(signal.default_int_handler))
            yield

    def create(self, *, now: datetime, stack_files: Mapping[Path, str] | None = None) -> CreatedBackup:
        """Archive what the patterns select and the `stack_files`; remove the oldest archives. Under the lock.

        Raises ConfigError when there is nothing to back up, BACKUP_003 when it could not be written.
        """
        inside, outside = by_place(self.root, stack_files or {})
        path = self.new_path("backup", now)
        try:
            with RootFolder(self.root) as folder:
                selection = Selection(folder, self.folder)
                selected = list(selection.below("", self.patterns.with_paths(inside)))
                skipped = (*selection.skipped, *outside)
                if not skipped and all(entry.kind == "folder" for entry in selected):
                    raise ConfigError(
                        f"there is nothing to back up: no file below {self.root} is selected",
                        remedy="set `backup.root` and `backup.files` (`opskit config init` writes a file)",
                    )
                if len(selected) > MAX_ENTRIES:
                    why = f"backup.files selects more than {MAX_ENTRIES} files below {self.root}"
                    raise ConfigError(why, remedy="narrow the patterns")
                manifest = write_archive(
                    folder, selected, path, "backup", now, skipped=skipped, max_file_bytes=self.max_file_bytes
                )
        except OSError as exc:
            remedy = "set `backup.root` to the folder of the stack"
            raise ConfigError(f"{self.root}: {exc.strerror}", remedy=remedy) from exc
        if not manifest.files:
            path.unlink()
            first = manifest.skipped[0]
            why = f"nothing could be kept; {printable_path(first.path)}: {first.reason}"
            raise OpskitError("BACKUP_003", why, remedy="see its cause")
        return CreatedBackup(path, manifest, self.prune(root=str(self.root), purpose="backup", new=path))

    def new_path(self, purpose: Purpose, now: datetime) -> Path:
        """Return a name that nothing has yet. `now` must be timezone-aware."""
        stamp = f"{purpose}_{now.astimezone(UTC):%Y-%m-%dT%H%M%SZ}"
        numbers = itertools.chain([""], (f"-{number}" for number in itertools.count(2)))
        paths = (self.folder / f"{stamp}{number}.tar.gz" for number in numbers)
        return next(path for path in paths if not path.exists())

    def archives(self) -> list[StoredArchive]:
        """Return the archives of the folder, the newest first. Raises BACKUP_003 when it cannot be read."""
        try:
            archives = [_stored(path) for path in self.folder.iterdir() if _NAME.fullmatch(path.name)]
        except FileNotFoundError:
            return []
        except OSError as exc:
            raise not_written(self.folder, exc) from exc
        return sorted(filter(None, archives), key=lambda archive: archive.age_key, reverse=True)

    def find(self, wanted: str) -> Path:
        """Return the archive that a date, the beginning of one, `latest`, a name or a path stands for.

        `latest` is the newest of this root, or one that does not say its root; one that cannot be read
        counts, so that no older one is taken for it unnoticed. Raises BACKUP_001, and UsageError when several
        fit.
        """
        if "/" in wanted:
            path = Path(wanted).expanduser().absolute()
            if not path.exists():
                raise OpskitError("BACKUP_001", f"{printable_path(wanted)}: there is no such file")
            return path
        archives, missing = self.archives(), f"there is no backup {wanted!r}"
        if wanted == "latest":
            fitting = [
                archive
                for archive in archives
                if archive.purpose == "backup" and archive.root in (None, str(self.root))
            ][:1]
            missing = f"none is of {self.root}" if archives else "there is no backup yet"
        else:
            word = wanted.removesuffix(".tar.gz").replace(":", "") or "?"
            names = [(f"{archive.purpose}_{archive.date}".replace(":", ""), archive) for archive in archives]
            fitting = [archive for name, archive in names if name in (word, f"backup_{word}")]
            fitting = fitting or [archive for name, archive in names if name == f"replaced_{word}"]
            fitting = fitting or [a for name, a in names if name.startswith((word, f"backup_{word}"))]
        if not archives:
            raise OpskitError("BACKUP_001", missing, remedy="`opskit backup create` makes one")
        labels = listing([archive.label for archive in fitting or archives], _MOST_NAMED)
        if not fitting:
            raise OpskitError("BACKUP_001", f"{missing}; there are {labels}")
        if len(fitting) > 1:
            why = f"{wanted!r} may be {counted(len(fitting), 'backup')}: {labels}"
            raise UsageError(why, remedy="write more of the date")
        return fitting[0].path

    def prune(self, *, root: str, purpose: Purpose, new: Path) -> tuple[Path, ...]:
        """Remove archives that may go, and return them. What will not go stays: the new archive counts."""
        removed: list[Path] = []
        with contextlib.suppress(OpskitError):
            for archive in superfluous(self.archives(), root=root, purpose=purpose, keep=self.keep, new=new):
                with contextlib.suppress(OSError):
                    archive.path.unlink()
                    removed.append(archive.path)
        return tuple(removed)

    @property
    def half_written(self) -> list[Path]:
        """Return what a process that died, or one that holds the lock, has written of an archive."""
        return [
            path
            for path in self.folder.glob(f".*{TEMPORARY}")
            if _NAME.fullmatch(path.name.removesuffix(TEMPORARY).removeprefix("."))
        ]


def catalog_of(config: Config) -> BackupCatalog:
    """Return the catalog that a configuration describes. Raises ConfigError for unusable patterns."""
    backup, folders = config.backup, backup_folders(config)
    try:
        patterns = parse(backup.files)
    except UsageError as exc:
        raise ConfigError(f"backup.files: {exc.message}", remedy=exc.remedy) from exc
    return BackupCatalog(
        folders.root, folders.archives, patterns, backup.keep, backup.max_file_bytes, folders.of_stack
    )


def superfluous(
    archives: Sequence[StoredArchive], *, root: str, purpose: Purpose, keep: int, new: Path
) -> list[StoredArchive]:
    """Return which may go: archives of this root and purpose behind the newest `keep`. Pure.

    `archives` are the newest first. `new`, the newest complete one, and what has no readable manifest are
    kept: a damaged archive neither pushes a good one out nor vanishes unseen.
    """
    candidates = [archive for archive in archives if archive.purpose == purpose and archive.root == root]
    # A clock that was set back makes the new one look old.
    candidates.sort(key=lambda archive: archive.path != new)
    complete = (archive for archive in candidates if archive.manifest and not archive.manifest.skipped)
    newest_complete = next(complete, None)
    return [archive for archive in candidates[keep:] if archive is not newest_complete]


def verify(paths: Sequence[Path]) -> Report:
    """Read every byte of each archive. What keeps one from being restored here fails it."""
    return Report("backup verify", [_verified(path) for path in paths])


def _verified(path: Path) -> Finding:
    began, code, remedy = time.monotonic(), None, None
    status, state, evidence = Status.PASS, "ok", dict[str, Any]()
    try:
        with Archive(path) as archive:
            manifest, has_checksums = archive.check(), archive.manifest is not None
    except (DamagedArchiveError, OSError) as exc:
        status, state, code, detail = Status.FAIL, "damaged", "BACKUP_002", _problem(exc)
        remedy, evidence = (
            "`opskit backup create` makes a new one; restore none that is damaged",
            {"problems": [detail]},
        )
        if isinstance(exc, NotAnArchiveError):
            state, remedy = "no archive", "move it elsewhere; `opskit backup list` shows the others"
    else:
        files, root = counted(manifest.files, "file"), printable_path(manifest.root) or None
        evidence = {"files": manifest.files, "content_bytes": manifest.content_bytes, "root": root}
        detail = f"{files}, every checksum holds"
        if not has_checksums:
            status, state, detail = Status.WARN, "no checksums", f"{files} can be read; it has no manifest"
        elif manifest.skipped:
            status, state = Status.WARN, "incomplete"
            detail = f"{detail}; left out when it was made: {len(manifest.skipped)}"
    name = printable_path(path.name).removesuffix(".tar.gz").removeprefix("backup_")
    seconds = time.monotonic() - began
    return Finding("archive", name, status, state, detail, code, remedy, seconds, evidence)


def _problem(exc: DamagedArchiveError | OSError) -> str:
    return f"it cannot be read: {exc.strerror}" if isinstance(exc, OSError) else str(exc)


def _stored(path: Path) -> StoredArchive | None:
    """Return None when it has gone meanwhile."""
    manifest, problem = None, ""
    try:
        size_bytes = path.lstat().st_size
        with Archive(path) as archive:
            manifest = archive.manifest
    except FileNotFoundError:
        return None
    except (DamagedArchiveError, OSError) as exc:
        problem = _problem(exc)
    purpose, _, date = path.name.removesuffix(".tar.gz").partition("_")
    return StoredArchive(
        path, "backup" if purpose == "backup" else "replaced", date, size_bytes, manifest, problem
    )


def undisturbed() -> contextlib.AbstractContextManager[None]:
    """Ignore signals that would interrupt: what runs now is short and must come to its end."""
    return _signals(signal.SIG_IGN)


@contextlib.contextmanager
def _signals(handler: Any) -> Iterator[None]:
    if threading.current_thread() is not threading.main_thread():
        yield  # only the main thread gets signals
        return
    numbers = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
    before = {number: signal.signal(number, handler) for number in numbers}
    try:
        yield
    finally:
        for number, old in before.items():
            signal.signal(number, old)
