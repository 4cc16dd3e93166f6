"""The open file of a follower, through its rotation by rename and by copy-and-truncate."""

import os
import time
from pathlib import Path

from opskit.errors import OpskitError
from opskit.logs.packed import PackedFile, open_log, readable
from opskit.logs.source import Batch, LeftOut, LineSplitter, Note

_READ = 1024 * 1024
#: A writer goes on with the file that was renamed until it opens the new one.
_LATE_S = 10.0
#: Enough to tell a place in a file, times included.
_MARK_BYTES = 128


class _RenamedFile:
    """A file that another one has replaced: it is read until nothing has come for a while."""

    def __init__(self, descriptor: int, at: int, lines: LineSplitter) -> None:
        self.descriptor, self.at, self.lines = descriptor, at, lines
        self._until = time.monotonic() + _LATE_S

    def more(self) -> Batch:
        if not (piece := os.pread(self.descriptor, _READ, self.at)):
            return []
        self.at += len(piece)
        self._until = time.monotonic() + _LATE_S
        return self.lines.feed(piece)

    @property
    def is_over(self) -> bool:
        return time.monotonic() > self._until

    def close(self) -> Batch:
        os.close(self.descriptor)
        return self.lines.finish()


class FileReader:
    """The open file of a follower, and where it stands in it."""

    def __init__(self, path: Path, name: str, behind_bytes: int | None = None) -> None:
        self._path = path
        self.name = name
        self._behind_bytes = behind_bytes
        self._descriptor: int | None = None
        #: The file that is open, or was last.
        self.identity: tuple[int, int] | None = None
        self._at = 0
        #: The last bytes before that place: when they are others, the file was rewritten.
        self._mark = b""
        self._lines = LineSplitter(name)
        self._renamed: _RenamedFile | None = None

    def begin(self, tail: int | None) -> Batch:
        """What is there at the start. Raises OpskitError LOG_001 for what is no file."""
        try:
            with open_log(self._path) as stream:
                packed = isinstance(stream, PackedFile)
        except OpskitError as error:
            if not isinstance(error.__cause__, OSError) or self._path.is_dir():
                raise
            reason = (error.__cause__.strerror or str(error.__cause__)).lower()
            return [Note(self.name, None, f"{reason}; waiting for it")]
        if packed:
            raise OpskitError(
                "LOG_001",
                f"{self._path} is packed, or written in UTF-16: it cannot be followed",
                remedy="read it without --follow",
            )
        descriptor = self._open()
        if descriptor is not None and tail is not None:
            self._go_to(descriptor, tail_offset(descriptor, os.fstat(descriptor).st_size, tail))
        return self.more()

    def more(self) -> Batch:
        """What has come; empty when nothing has. Raises OpskitError LOG_001 when it cannot be read."""
        with readable(self._path):
            return self._more()

    def _more(self) -> Batch:
        if self._renamed is not None and (batch := self._renamed.more()):
            return batch
        last = self._end_renamed() if self._renamed is not None and self._renamed.is_over else []
        return [*last, *self._of_path()]

    def _of_path(self) -> Batch:
        descriptor = self._open() if self._descriptor is None else self._descriptor
        if descriptor is None:
            return []
        if self._rewritten(descriptor):
            self._at, self._mark, self._lines = 0, b"", LineSplitter(self.name)
            return [Note(self.name, None, "the file was truncated; reading it from its beginning")]
        if left_out := self._left_out(descriptor):
            return [LeftOut(self.name, None, f"{left_out} lines came too fast and were left out", left_out)]
        if batch := self._appended(descriptor):
            return batch
        if not self._replaced():
            return []
        # Read to its end once more: what was written between the last look and the rename.
        if batch := self._appended(descriptor):
            return batch
        last = self._end_renamed()
        self._renamed, self._descriptor = _RenamedFile(descriptor, self._at, self._lines), None
        change = "the file was rotated" if self._path.exists() else "the file is gone; waiting for it"
        return [*last, Note(self.name, None, change)]

    def _end_renamed(self) -> Batch:
        renamed, self._renamed = self._renamed, None
        return [] if renamed is None else renamed.close()

    def close(self) -> None:
        self._end_renamed()
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None

    def _open(self) -> int | None:
        try:
            descriptor = os.open(self._path, os.O_RDONLY | os.O_CLOEXEC)
        except OSError:
            return None
        stat = os.fstat(descriptor)
        before, self.identity = self.identity, (stat.st_dev, stat.st_ino)
        self._descriptor, self._at, self._mark, self._lines = descriptor, 0, b"", LineSplitter(self.name)
        if self._renamed is not None and self.identity == before:
            # It was moved away and back.
            self._go_to(descriptor, self._renamed.at)
            self._lines = self._renamed.lines
            os.close(self._renamed.descriptor)
            self._renamed = None
        return descriptor

    def _left_out(self, descriptor: int) -> int:
        """Go on near the end when that is too far ahead; how many lines are left out by it."""
        if self._behind_bytes is None or os.fstat(descriptor).st_size - self._at <= self._behind_bytes:
            return 0
        until, lines = os.fstat(descriptor).st_size - self._behind_bytes // 4, 0
        while self._at < until:
            piece = os.pread(descriptor, min(_READ, until - self._at), self._at)
            if not piece:
                break
            if self._at + len(piece) >= until and (last := piece.rfind(b"\n") + 1):
                piece, until = piece[:last], self._at + last
            self._at += len(piece)
            lines += piece.count(b"\n")
        self._go_to(descriptor, self._at)
        self._lines = LineSplitter(self.name)
        return lines

    def _appended(self, descriptor: int) -> Batch:
        piece = os.pread(descriptor, _READ, self._at)
        self._at += len(piece)
        self._mark = (self._mark + piece)[-_MARK_BYTES:]
        return self._lines.feed(piece) if piece else []

    def _go_to(self, descriptor: int, offset: int) -> None:
        begin = max(0, offset - _MARK_BYTES)
        self._at, self._mark = offset, os.pread(descriptor, offset - begin, begin)

    def _rewritten(self, descriptor: int) -> bool:
        """Whether it became shorter, or did and has grown again since: then other bytes stand before here."""
        return os.pread(descriptor, len(self._mark), self._at - len(self._mark)) != self._mark

    def _replaced(self) -> bool:
        try:
            stat = self._path.stat()
        except OSError:
            return True
        return (stat.st_dev, stat.st_ino) != self.identity


def tail_offset(descriptor: int, size: int, lines: int) -> int:
    """Where the last `lines` lines of a file begin, read from its end."""
    if lines <= 0:
        return size
    begin, line_ends = size, -1
    while begin > 0:
        end, begin = begin, max(0, begin - 256 * 1024)
        piece = os.pread(descriptor, end - begin, begin)
        if end == size and not piece.endswith(b"\n"):
            line_ends += 1
        position = len(piece)
        while (position := piece.rfind(b"\n", 0, position)) >= 0:
            line_ends += 1
            if line_ends == lines:
                return begin + position + 1
    return 0
