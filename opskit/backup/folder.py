"""A folder and what lies below it, reached through real folders only.

Every path is relative, with `/` between its names, and is opened name by name without following a link:
nothing is read or written outside the folder, whatever an archive says and if a link appears at the last
moment. `filter="data"` of `tarfile` cannot promise that: it judges a path before it opens it.
"""

import contextlib
import hashlib
import os
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import IO, BinaryIO, Literal, Self

from opskit.backup.manifest import ArchiveEntry, EntryKind, problem_of_link, special_bits
from opskit.errors import OpskitError
from opskit.records import Record, replace

#: What the name of a file ends with that is being written.
TEMPORARY = ".tmp"
_CHUNK = 1024 * 1024
#: How often a file that changes while it is read is read again.
_ATTEMPTS = 3
_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
#: O_NONBLOCK: to open a FIFO would wait for a writer.
_READ = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
_CREATE = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC


class RootFolder:
    """A folder that is open while the `with` block lasts. Every method raises OSError."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self._root = os.open(root, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        self._last: tuple[str, int] | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._forget()
        os.close(self._root)

    def _forget(self) -> None:
        if self._last is not None:
            os.close(self._last[1])
            self._last = None

    def handle(self, path: str) -> int:
        """Return a descriptor of a folder below (`""` is the root), good until the next call."""
        if not path:
            return self._root
        if self._last is None or self._last[0] != path:
            self._forget()
            handle = os.dup(self._root)
            try:
                for name in path.split("/"):
                    above, handle = handle, os.open(name, _FOLDER, dir_fd=handle)
                    os.close(above)
            except BaseException:
                os.close(handle)
                raise
            self._last = (path, handle)
        return self._last[1]

    def at(self, path: str) -> tuple[int, str]:
        """Return a descriptor of the folder of `path`, good until the next call, and the last name."""
        folder, _, name = path.rpartition("/")
        return self.handle(folder), name

    def names(self, path: str) -> list[str]:
        return sorted(os.listdir(self.handle(path)))  # noqa: PTH208 - pathlib takes no descriptor

    def stat(self, path: str) -> os.stat_result | None:
        """Return what is there (a link itself, not its target), or None for nothing."""
        try:
            handle, name = self.at(path)
            return os.stat(name, dir_fd=handle, follow_symlinks=False)
        except (FileNotFoundError, NotADirectoryError):
            return None

    def is_folder(self, path: str) -> bool:
        status = self.stat(path) if path else None
        return not path or (status is not None and stat.S_ISDIR(status.st_mode))

    def open(self, path: str) -> BinaryIO:
        handle, name = self.at(path)
        return os.fdopen(os.open(name, _READ, dir_fd=handle), "rb")

    def create(self, path: str) -> BinaryIO:
        """Return a new file, for its owner alone."""
        handle, name = self.at(path)
        return os.fdopen(os.open(name, _CREATE, 0o600, dir_fd=handle), "wb")

    def read_link(self, path: str) -> str:
        handle, name = self.at(path)
        return os.readlink(name, dir_fd=handle)

    def rename(self, path: str, other: str) -> None:
        """Give `path` the name of `other`, in the same folder, which it replaces in one step."""
        handle, name = self.at(path)
        os.replace(name, other.rpartition("/")[2], src_dir_fd=handle, dst_dir_fd=handle)

    def remove(self, path: str) -> None:
        """Remove a file or a link; that nothing is there is not an error."""
        with contextlib.suppress(FileNotFoundError, NotADirectoryError):
            handle, name = self.at(path)
            os.unlink(name, dir_fd=handle)


def sha256_of(content: IO[bytes]) -> str:
    return hashlib.file_digest(content, "sha256").hexdigest()  # type: ignore[arg-type] # it calls only readinto


def ignores_case(folder: Path) -> bool:
    """Return True when the file system takes `A` and `a` for one name; nothing is written to find out."""
    for path in (folder, *folder.parents):
        other = path.name.swapcase()
        if other != path.name:
            try:
                return path.with_name(other).samefile(path)
            except OSError:
                if path.exists():
                    return False
    return False


def flush(path: Path) -> None:
    """Make a file, or the names in a folder, survive a loss of power."""
    handle = os.open(path, _READ)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


@contextlib.contextmanager
def written_whole(path: Path) -> Iterator[BinaryIO]:
    """Give a private file that has its name only when it is complete and on the disk. Raises OSError."""
    temporary = path.with_name(f".{path.name.removeprefix('.')}{TEMPORARY}")
    try:
        with os.fdopen(os.open(temporary, _CREATE, 0o600), "wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        temporary.rename(path)
        flush(path.parent)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


def not_written(path: Path | str, exc: OSError) -> OpskitError:
    return OpskitError("BACKUP_003", f"{path}: {exc.strerror or exc}")


class FileChange(Record):
    """What a restore would do to one path, and why. A file that differs only in its time is the same.

    "blocked" is a path where something stands that is not replaced: a folder where a file belongs, a link
    where a folder belongs (it may lead anywhere), a device.
    """

    entry: ArchiveEntry
    action: Literal["new", "changed", "same", "blocked"]
    why: str = ""


def compare(folder: RootFolder, entry: ArchiveEntry) -> FileChange:
    """Compare an entry with what is there. Raises OSError."""
    status = folder.stat(entry.path)
    change = FileChange(entry, "new") if status is None else _compared(folder, entry, status)
    # A folder that is there keeps its bits.
    lost = (
        entry.special if status is None else 0 if entry.kind == "folder" else status.st_mode | entry.special
    )
    if change.action in ("new", "changed") and (bits := special_bits(lost)):
        why = f"it will not be {bits}"
        return replace(change, why=f"{change.why}; {why}" if change.why else why)
    return change


def _compared(folder: RootFolder, entry: ArchiveEntry, status: os.stat_result) -> FileChange:
    mode = stat.S_IMODE(status.st_mode) & 0o777
    same_mode = FileChange(entry, "same")
    if mode != entry.mode:
        same_mode = FileChange(entry, "changed", f"mode {mode:04o}, was {entry.mode:04o}")
    match entry.kind, stat.S_IFMT(status.st_mode):
        case "folder", stat.S_IFDIR:
            return same_mode
        case "folder", kind:
            what = "is a link now" if kind == stat.S_IFLNK else "is not a folder now"
            return FileChange(entry, "blocked", f"{what}, and was a folder")
        case _, stat.S_IFDIR:
            return FileChange(entry, "blocked", f"is a folder now, and was a {entry.kind}")
        case "file", stat.S_IFLNK:
            return FileChange(entry, "changed", "is a link now")
        case "link", stat.S_IFLNK:
            same = folder.read_link(entry.path) == entry.target
            return FileChange(entry, "same") if same else FileChange(entry, "changed", "leads elsewhere")
        case "link", stat.S_IFREG:
            return FileChange(entry, "changed", "is a file now")
        case "file", stat.S_IFREG:
            if status.st_size != entry.size:
                return FileChange(entry, "changed", f"{status.st_size} bytes, had {entry.size}")
            with folder.open(entry.path) as file:
                same = sha256_of(file) == entry.sha256
            return same_mode if same else FileChange(entry, "changed", "content")
    return FileChange(entry, "blocked", "is a device, a FIFO or a socket now")


class NotKeptError(Exception):
    """A file cannot be in an archive; the message says why."""


@contextlib.contextmanager
def _reading() -> Iterator[None]:
    """Tell what cannot be read from an archive that cannot be written."""
    try:
        yield
    except OSError as exc:
        raise NotKeptError(f"it cannot be read: {exc.strerror}") from exc


def snapshot(
    folder: RootFolder, path: str, kind: EntryKind, copy: IO[bytes], *, max_file_bytes: int | None
) -> ArchiveEntry:
    """Return an entry, and fill `copy` with its content, as they are at one moment. Raises NotKeptError.

    A file is copied because it may be written to, or cut shorter, while it is packed. What is added meanwhile
    is not read.
    """
    for _ in range(_ATTEMPTS):
        copy.seek(0)
        copy.truncate()
        entry = _copied(folder, path, copy, max_file_bytes) if kind == "file" else _other(folder, path, kind)
        if not entry.changed:
            break
    copy.seek(0)
    return entry


def _copied(folder: RootFolder, path: str, copy: IO[bytes], max_file_bytes: int | None) -> ArchiveEntry:
    with _reading():
        file = folder.open(path)
    with file:
        before = os.fstat(file.fileno())
        if not stat.S_ISREG(before.st_mode):
            raise NotKeptError("it is no longer a regular file")
        if max_file_bytes is not None and before.st_size > max_file_bytes:
            raise NotKeptError(f"it has {before.st_size} bytes, more than the {max_file_bytes} of --max-size")
        digest = hashlib.sha256()
        size = 0
        while size < before.st_size:
            with _reading():
                data = file.read(min(_CHUNK, before.st_size - size))
            if not data:
                break
            digest.update(data)
            copy.write(data)
            size += len(data)
        after = os.fstat(file.fileno())
    changed = (size, before.st_mtime_ns, before.st_ctime_ns) != (
        after.st_size,
        after.st_mtime_ns,
        after.st_ctime_ns,
    )
    return replace(_entry_of(path, "file", before), size=size, sha256=digest.hexdigest(), changed=changed)


def _other(folder: RootFolder, path: str, kind: EntryKind) -> ArchiveEntry:
    with _reading():
        status = folder.stat(path)
        fits = stat.S_ISLNK if kind == "link" else stat.S_ISDIR
        if status is None or not fits(status.st_mode):
            raise NotKeptError("it went away while the backup was made")
        target = folder.read_link(path) if kind == "link" else ""
    if kind == "link" and (why := problem_of_link(path, target)):
        raise NotKeptError(why)
    return replace(_entry_of(path, kind, status), target=target)


def _entry_of(path: str, kind: EntryKind, status: os.stat_result) -> ArchiveEntry:
    mode = stat.S_IMODE(status.st_mode)
    return ArchiveEntry(
        path,
        kind,
        mode & 0o777,
        status.st_mtime_ns,
        uid=status.st_uid,
        gid=status.st_gid,
        special=mode & ~0o777,
    )
