"""A folder and what lies below it, reached through real folders only.

Every path is relative, with `/` between its names, and is opened name by name without following a link:
nothing is read or written outside the folder, whatever an archive says and if a link appears at the last
moment. `filter="data"` of `tarfile` cannot promise that: it judges a path before it opens it.
"""

import contextlib
import errno
import hashlib
import os
import stat
from pathlib import Path
from typing import IO, BinaryIO, Literal, Self

from opskit.backup.manifest import ArchiveEntry, EntryKind, difference, special_bits
from opskit.errors import OpskitError
from opskit.records import Record, replace

#: How a new file is opened.
CREATE = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
#: O_NONBLOCK: to open a FIFO would wait for a writer.
_READ = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
_KINDS: dict[int, EntryKind] = {stat.S_IFREG: "file", stat.S_IFDIR: "folder", stat.S_IFLNK: "link"}
_UNFIT = {stat.S_IFSOCK: "a socket", stat.S_IFIFO: "a FIFO"}
_CHANGES = {
    "size": "{} bytes, had {}",
    "sha256": "content",
    "target": "leads elsewhere",
    "mode": "mode {:04o}, was {:04o}",
}


class NotKeptError(OSError):
    """A file cannot be in an archive; the message says why."""


class RootFolder:
    """A folder that is open while the `with` block lasts. Every method raises OSError."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self._root = os.open(root, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        self._last = ("", os.dup(self._root))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        os.close(self._last[1])
        os.close(self._root)

    def handle(self, path: str) -> int:
        """Return a descriptor of a folder below (`""` is the root), good until the next call."""
        if self._last[0] != path:
            handle = os.dup(self._root)
            try:
                for name in filter(None, path.split("/")):
                    above, handle = handle, os.open(name, _FOLDER, dir_fd=handle)
                    os.close(above)
            except BaseException:
                os.close(handle)
                raise
            os.close(self._last[1])
            self._last = (path, handle)
        return self._last[1]

    def at(self, path: str) -> tuple[int, str]:
        """Return a descriptor of the folder of `path`, good until the next call, and the last name."""
        folder, _, name = path.rpartition("/")
        return self.handle(folder), name

    def names(self, path: str) -> list[str]:
        return sorted(os.listdir(self.handle(path)))  # noqa: PTH208 - pathlib takes no descriptor

    def entry(self, path: str) -> ArchiveEntry | None:
        """Return what is there without its checksum, a link itself; None for nothing. Raises NotKeptError."""
        try:
            handle, name = self.at(path)
            status = os.stat(name, dir_fd=handle, follow_symlinks=False)
            is_link = stat.S_ISLNK(status.st_mode)
            return entry_of(path, status, os.readlink(name, dir_fd=handle) if is_link else "")
        except OSError as exc:
            # A Mac says ELOOP of a link where a folder should be.
            if exc.errno in (errno.ENOENT, errno.ENOTDIR, errno.ELOOP):
                return None
            raise

    def open(self, path: str) -> BinaryIO:
        handle, name = self.at(path)
        return os.fdopen(os.open(name, _READ, dir_fd=handle), "rb")

    def create(self, path: str) -> BinaryIO:
        """Return a new file, for its owner alone."""
        handle, name = self.at(path)
        return os.fdopen(os.open(name, CREATE, 0o600, dir_fd=handle), "wb")

    def rename(self, path: str, other: str) -> None:
        """Give `path` the name of `other`, in the same folder, which it replaces in one step."""
        handle, name = self.at(path)
        os.replace(name, other.rpartition("/")[2], src_dir_fd=handle, dst_dir_fd=handle)

    def remove(self, path: str) -> None:
        """Remove a file or a link; that nothing is there is not an error."""
        with contextlib.suppress(FileNotFoundError, NotADirectoryError):
            handle, name = self.at(path)
            os.unlink(name, dir_fd=handle)

    def set_mode(self, path: str, mode: int) -> None:
        """Set the nine permission bits of a folder; that it is gone is not an error."""
        with contextlib.suppress(FileNotFoundError, NotADirectoryError):
            handle = self.handle(path)
            os.fchmod(handle, stat.S_IMODE(os.fstat(handle).st_mode) & ~0o777 | mode)


def entry_of(path: str, status: os.stat_result, target: str = "") -> ArchiveEntry:
    """Return the entry of what has this status, without its checksum. Raises NotKeptError."""
    kind, mode = stat.S_IFMT(status.st_mode), stat.S_IMODE(status.st_mode)
    if kind not in _KINDS:
        raise NotKeptError(f"it is {_UNFIT.get(kind, 'a device')}")
    return ArchiveEntry(
        path,
        _KINDS[kind],
        mode & 0o777,
        status.st_mtime_ns,
        uid=status.st_uid,
        gid=status.st_gid,
        size=status.st_size if kind == stat.S_IFREG else 0,
        target=target,
        special=mode & ~0o777,
    )


def sha256_of(content: IO[bytes]) -> str:
    return hashlib.file_digest(content, "sha256").hexdigest()  # type: ignore[arg-type] # it calls only readinto


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
    lost, why = entry.special, ""
    try:
        there = folder.entry(entry.path)
    except NotKeptError as exc:
        return FileChange(entry, "blocked", f"{exc} now".removeprefix("it "))
    if there is not None:
        # A folder that is there keeps its bits.
        lost = 0 if entry.kind == "folder" else there.special | entry.special
        why = f"is a {there.kind} now"
        if there.kind == entry.kind:
            if there.kind == "file" and there.size == entry.size:
                with folder.open(entry.path) as file:
                    there = replace(there, sha256=sha256_of(file))
            # The mode of a link means nothing, and not all systems give it the same.
            why = difference(replace(there, mode=entry.mode) if there.target else there, entry, _CHANGES)
            if not why:
                return FileChange(entry, "same")
        elif "folder" in (there.kind, entry.kind):
            return FileChange(entry, "blocked", f"{why}, and was a {entry.kind}")
    bits = special_bits(lost)
    whys = (why, f"it will not be {bits}" if bits else "")
    return FileChange(entry, "new" if there is None else "changed", "; ".join(filter(None, whys)))
