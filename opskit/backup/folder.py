"""A folder and what lies below it, reached through real folders only.

Every path is relative, with `/` between its names, and is opened name by name without following a link. So
nothing is ever read or written outside the folder, whatever an archive says and whoever plants a link at the
last moment.
"""

import contextlib
import os
from pathlib import Path
from typing import Self

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
            above = os.dup(self._root)
            try:
                for name in path.split("/"):
                    below = os.open(name, _FOLDER, dir_fd=above)
                    os.close(above)
                    above = below
            except BaseException:
                os.close(above)
                raise
            self._last = (path, above)
        return self._last[1]

    def at(self, path: str) -> tuple[int, str]:
        """Return a descriptor of the folder of `path`, good until the next call, and the last name."""
        folder, _, name = path.rpartition("/")
        return self.handle(folder), name

    def names(self, path: str) -> list[str]:
        """Return the names in a folder, sorted."""
        return sorted(os.listdir(self.handle(path)))  # noqa: PTH208 - pathlib takes no descriptor

    def stat(self, path: str) -> os.stat_result | None:
        """Return what is there (a link itself, not its target), or None for nothing."""
        try:
            handle, name = self.at(path)
            return os.stat(name, dir_fd=handle, follow_symlinks=False)
        except (FileNotFoundError, NotADirectoryError):
            return None

    def open(self, path: str) -> int:
        handle, name = self.at(path)
        return os.open(name, _READ, dir_fd=handle)

    def create(self, path: str) -> int:
        """Return a descriptor of a new file, for its owner alone."""
        handle, name = self.at(path)
        return os.open(name, _CREATE, 0o600, dir_fd=handle)

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

    def remove_folder(self, path: str) -> None:
        self._forget()
        handle, name = self.at(path)
        os.rmdir(name, dir_fd=handle)


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
