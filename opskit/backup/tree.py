"""A folder and what lies below it, reached through real folders only.

Every path is relative, with `/` between its names, and is opened name by name without following a link. So
nothing is ever read or written outside the folder, whatever an archive says and whoever plants a link at the
last moment.
"""

import contextlib
import os
import stat
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import Self

_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
#: O_NONBLOCK: to open a FIFO would wait for a writer.
_READ = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
_WRITE = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC


class Tree:
    """Open while the `with` block lasts. Every method raises OSError."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self._root = os.open(root, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, trace: TracebackType | None
    ) -> None:
        os.close(self._root)

    @contextlib.contextmanager
    def folder(self, path: str) -> Iterator[int]:
        """A descriptor of the folder; `""` is the root."""
        handle = os.dup(self._root)
        try:
            for name in filter(None, path.split("/")):
                below = os.open(name, _FOLDER, dir_fd=handle)
                os.close(handle)
                handle = below
            yield handle
        finally:
            os.close(handle)

    @contextlib.contextmanager
    def _at(self, path: str) -> Iterator[tuple[int, str]]:
        above, _, name = path.rpartition("/")
        with self.folder(above) as handle:
            yield handle, name

    def entries(self, path: str) -> list[str]:
        """The names in a folder, sorted."""
        with self.folder(path) as handle:
            return sorted(os.listdir(handle))  # noqa: PTH208 - pathlib takes no descriptor

    def look(self, path: str) -> os.stat_result | None:
        """What is there, a link itself and not its target; None for nothing."""
        try:
            with self._at(path) as (handle, name):
                return os.stat(name, dir_fd=handle, follow_symlinks=False)
        except FileNotFoundError:
            return None

    def open(self, path: str) -> int:
        """A descriptor to read from."""
        with self._at(path) as (handle, name):
            return os.open(name, _READ, dir_fd=handle)

    def create(self, path: str) -> int:
        """A descriptor of a new file, for its owner alone."""
        with self._at(path) as (handle, name):
            return os.open(name, _WRITE, 0o600, dir_fd=handle)

    def read_link(self, path: str) -> str:
        with self._at(path) as (handle, name):
            return os.readlink(name, dir_fd=handle)

    def make_link(self, path: str, target: str) -> None:
        with self._at(path) as (handle, name):
            os.symlink(target, name, dir_fd=handle)

    def second_name(self, path: str, other: str) -> None:
        """A hard link beside `path`."""
        with self._at(path) as (handle, name):
            beside = other.rpartition("/")[2]
            os.link(name, beside, src_dir_fd=handle, dst_dir_fd=handle, follow_symlinks=False)

    def rename(self, path: str, other: str) -> None:
        """Give `path` the name of `other` beside it, which it replaces in one step."""
        with self._at(path) as (handle, name):
            os.replace(name, other.rpartition("/")[2], src_dir_fd=handle, dst_dir_fd=handle)

    def remove(self, path: str) -> None:
        """Remove a file or a link; nothing there is no error."""
        with contextlib.suppress(FileNotFoundError), self._at(path) as (handle, name):
            os.unlink(name, dir_fd=handle)

    def make_folder(self, path: str) -> None:
        """A folder for its owner alone."""
        with self._at(path) as (handle, name):
            os.mkdir(name, 0o700, dir_fd=handle)

    def remove_folder(self, path: str) -> None:
        with self._at(path) as (handle, name):
            os.rmdir(name, dir_fd=handle)

    def set_mode(self, path: str, mode: int) -> None:
        """The permissions of a folder."""
        with self.folder(path) as handle:
            os.fchmod(handle, mode)

    def set_time(self, path: str, mtime_ns: int) -> None:
        """The time of a folder."""
        with self.folder(path) as handle:
            os.utime(handle, ns=(mtime_ns, mtime_ns))

    def set_link_time(self, path: str, mtime_ns: int) -> None:
        """The time of a link itself."""
        with self._at(path) as (handle, name):
            os.utime(name, ns=(mtime_ns, mtime_ns), dir_fd=handle, follow_symlinks=False)

    def set_owner(self, path: str, uid: int, gid: int) -> None:
        with self._at(path) as (handle, name):
            os.chown(name, uid, gid, dir_fd=handle, follow_symlinks=False)

    def sync(self, path: str) -> None:
        """The names in a folder survive a loss of power."""
        with self.folder(path) as handle:
            os.fsync(handle)

    def free_bytes(self) -> int:
        room = os.fstatvfs(self._root)
        return room.f_bavail * room.f_frsize


def is_regular(found: os.stat_result) -> bool:
    return stat.S_ISREG(found.st_mode)


def ignores_case(folder: Path) -> bool:
    """True when the file system takes `A` and `a` for one name, as a Mac's does; found without writing."""
    for path in (folder, *folder.parents):
        other = path.name.swapcase()
        if other != path.name:
            try:
                return path.with_name(other).samefile(path)
            except OSError:
                if path.exists():
                    return False
    return False
