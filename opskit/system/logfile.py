"""A log file that several processes may write and rotate at the same time.

Each line is one write in append mode, so lines never mix. Rotation takes a lock and looks again, so that two
processes that see the limit at once rotate once; a process whose file was renamed away by another reopens.
A full disk loses lines, never the request.
"""

import contextlib
import fcntl
import os
from pathlib import Path

#: Our own log, in the state folder.
LOG_NAME = "opskit.log"


class RotatingLog:
    """Call it with a line. `max_bytes` for one file, `backups` older ones are kept as `.1`, `.2`, ..."""

    def __init__(self, path: Path, *, max_bytes: int, backups: int) -> None:
        """Raises OSError when the file cannot be opened."""
        self._path = path
        self._max_bytes = max_bytes
        self._backups = backups
        self._fd = self._open()
        self.lost = 0

    def __call__(self, line: str) -> None:
        data = (line + "\n").encode("utf-8", "backslashreplace")
        try:
            if self._renamed_away():
                self._reopen()
            if os.fstat(self._fd).st_size + len(data) > self._max_bytes:
                self._rotate(len(data))
            os.write(self._fd, data)
        except OSError:
            self.lost += 1

    def close(self) -> None:
        with contextlib.suppress(OSError):
            os.close(self._fd)

    def _open(self) -> int:
        return os.open(self._path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o600)

    def _reopen(self) -> None:
        fresh = self._open()
        os.close(self._fd)
        self._fd = fresh

    def _renamed_away(self) -> bool:
        try:
            return self._path.stat().st_ino != os.fstat(self._fd).st_ino
        except FileNotFoundError:
            return True

    def _rotate(self, coming: int) -> None:
        lock = os.open(self._path.with_suffix(".lock"), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX)
            if not self._renamed_away() and os.fstat(self._fd).st_size + coming > self._max_bytes:
                for number in range(self._backups, 0, -1):
                    older = self._numbered(number - 1) if number > 1 else self._path
                    with contextlib.suppress(FileNotFoundError):
                        older.replace(self._numbered(number))
                if self._backups == 0:
                    self._path.unlink(missing_ok=True)
            self._reopen()
        finally:
            os.close(lock)

    def _numbered(self, number: int) -> Path:
        return self._path.with_name(f"{self._path.name}.{number}")
