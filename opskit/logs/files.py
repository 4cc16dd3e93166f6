"""Files as sources: read to their end, or followed through rotation by rename and by copy-and-truncate."""

import contextlib
import glob
import os
import time
from collections import deque
from collections.abc import AsyncGenerator, Callable, Iterable, Iterator
from functools import cached_property
from pathlib import Path
from typing import TypeVar

from opskit.errors import OpskitError
from opskit.logs.envelope import SAMPLE_BYTES, Envelope, envelope_of_sample
from opskit.logs.events import MAX_LINE, Grouper, event_cut
from opskit.logs.packed import SUFFIXES, Log, PackedFile, open_log, read_piece, readable
from opskit.logs.record import LogEntry
from opskit.logs.scan import entries
from opskit.logs.select import EntryFilter
from opskit.logs.source import Batch, LeftOut, LineSplitter, LogSource, Note, Window
from opskit.records import replace

#: How often a followed file is looked at; local files have no event that all systems share.
POLL_S = 0.1
BLOCK = 4 * 1024 * 1024
_READ = 1024 * 1024
#: Where every line becomes an entry, which takes several times its memory.
_READ_BLOCK = 256 * 1024
#: A writer goes on with the file that was renamed until it is told to open the new one.
_LATE_S = 10.0
#: Enough to tell a place in a file, times included.
_MARK_BYTES = 128
#: So many events without a time wait for the first one that has one.
_MAX_UNTIMED = 1000


AnySource = TypeVar("AnySource", bound=LogSource)


class FileSource:
    """One log file. `name` stands in front of its lines when there are several sources.

    `torn` is set when a packed file turned out to end in the middle.
    """

    def __init__(self, path: Path, name: str | None = None) -> None:
        self.path = path
        self._name = name or path.name
        self.torn = False

    @property
    def name(self) -> str:
        return self._name

    @property
    def identity(self) -> tuple[int, int] | None:
        """The same for every name of a file; None where there is none."""
        try:
            stat = self.path.stat()
        except OSError:
            return None
        return stat.st_dev, stat.st_ino

    def blocks(self, tail: int | None = None, size: int = BLOCK) -> Iterator[bytes]:
        """The file in blocks of whole events; `tail` begins that many lines before its end."""
        with open_log(self.path) as stream, readable(self.path):
            if tail is not None:
                if isinstance(stream, PackedFile):
                    yield _last_lines(blocks(stream, on_torn=self._tear), tail)
                    return
                descriptor = stream.fileno()
                os.lseek(descriptor, self.tail_start(descriptor, tail), os.SEEK_SET)
            yield from blocks(stream, size, self._tear)

    def _tear(self) -> None:
        self.torn = True

    @property
    def is_plain(self) -> bool:
        """Whether it is an ordinary file that is not packed. Raises OpskitError when it cannot be read."""
        with open_log(self.path) as stream:
            return not isinstance(stream, PackedFile)

    @contextlib.contextmanager
    def opened(self) -> Iterator[int]:
        """A descriptor of a plain file."""
        with open_log(self.path) as stream:
            if not isinstance(stream, PackedFile):
                yield stream.fileno()
                return
        raise AssertionError("a packed file has no bytes of its own to search")

    def tail_start(self, descriptor: int, tail: int | None) -> int:
        """Where its last `tail` lines begin, 0 without a tail."""
        return 0 if tail is None else tail_offset(descriptor, os.fstat(descriptor).st_size, tail)

    @cached_property
    def envelope(self) -> Envelope | None:
        """What was written around each of its lines. Raises OpskitError LOG_001 when it cannot be read."""
        with open_log(self.path) as stream, readable(self.path):
            return envelope_of_sample(read_piece(stream, SAMPLE_BYTES))

    def wanted(self, selection: EntryFilter, tail: int | None = None) -> Iterator[LogEntry]:
        """Its wanted events without their envelope.

        One without a time gets that of the event before it, at the beginning that of the first with one.
        """
        if self.envelope is None:
            yield from entries(self.name, self.blocks(tail), selection)
            return
        for event in _timed(self._unwrapped(tail)):
            if selection.accepts(event):
                yield event

    def _unwrapped(self, tail: int | None) -> Iterator[LogEntry]:
        lines, grouper = LineSplitter(self.name), Grouper()
        for block in self.blocks(tail, _READ_BLOCK):
            for line in lines.feed(block):
                if isinstance(line, LogEntry):
                    yield from grouper.push(line)
        for line in lines.finish():
            if isinstance(line, LogEntry):
                yield from grouper.push(line)
        yield from grouper.flush()

    async def read(self, window: Window) -> AsyncGenerator[Batch, None]:
        """Its lines; the window's times are left to the selection."""
        lines = LineSplitter(self.name)
        for block in self.blocks(window.tail, _READ_BLOCK):
            yield lines.feed(block)
        if last := lines.finish():
            yield last

    async def follow(self, window: Window) -> AsyncGenerator[Batch, None]:
        """Its last lines (the window's tail, 10 when it has none), then what is appended, for ever.

        A file that is renamed away is read to its end, then its successor from the beginning; one that
        becomes shorter was truncated and is read from its new beginning; one that is gone, or cannot be
        opened yet, is waited for. Raises OpskitError LOG_001 for what is no file, and for a packed one.
        """
        import asyncio  # 13 ms that a plain search does not need

        tail = 10 if window.tail is None and window.since is None else window.tail
        reader = FileReader(self.path, self.name, window.behind_bytes)
        try:
            yield reader.begin(tail)
            while True:
                batch = reader.more()
                if batch:
                    yield batch
                else:
                    await asyncio.sleep(POLL_S)
        finally:
            reader.close()


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
        self._name = name
        self._behind_bytes = behind_bytes
        self._descriptor: int | None = None
        self._inode: tuple[int, int] | None = None
        self._at = 0
        #: The last bytes before that place: when they are others, the file was rewritten.
        self._mark = b""
        self._lines = LineSplitter(name)
        self._renamed: _RenamedFile | None = None

    @property
    def name(self) -> str:
        return self._name

    @property
    def identity(self) -> tuple[int, int] | None:
        """The file that is open, or was last."""
        return self._inode

    def begin(self, tail: int | None) -> Batch:
        """What is there at the start. Raises OpskitError LOG_001 for what is no file."""
        try:
            with open_log(self._path) as stream:
                packed = isinstance(stream, PackedFile)
        except OpskitError as error:
            if not isinstance(error.__cause__, OSError) or self._path.is_dir():
                raise
            reason = (error.__cause__.strerror or str(error.__cause__)).lower()
            return [Note(self._name, None, f"{reason}; waiting for it")]
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
            self._at, self._mark, self._lines = 0, b"", LineSplitter(self._name)
            return [Note(self._name, None, "the file was truncated; reading it from its beginning")]
        if left_out := self._left_out(descriptor):
            return [LeftOut(self._name, None, f"{left_out} lines came too fast and were left out", left_out)]
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
        return [*last, Note(self._name, None, change)]

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
        before, self._inode = self._inode, (stat.st_dev, stat.st_ino)
        self._descriptor, self._at, self._mark, self._lines = descriptor, 0, b"", LineSplitter(self._name)
        if self._renamed is not None and self._inode == before:
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
        self._lines = LineSplitter(self._name)
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
        return (stat.st_dev, stat.st_ino) != self._inode


def rotated(path: Path) -> list[Path]:
    """A file with its older generations, oldest first: `app.log.2.gz`, `app.log.1`, `app.log`."""
    generations: list[tuple[int, Path]] = []
    for other in path.parent.glob(f"{glob.escape(path.name)}.*"):
        number = other.name.removeprefix(f"{path.name}.")
        number = next((number.removesuffix(end) for end in SUFFIXES if number.endswith(end)), number)
        if number.isdigit():
            generations.append((int(number), other))
    return [other for _, other in sorted(generations, reverse=True)] + [path]


def is_glob(pattern: str) -> bool:
    return any(char in pattern for char in "*?[") and not Path(pattern).expanduser().exists()


def files(pattern: str) -> list[FileSource]:
    """The files of a path or a glob, each with its name. Raises OpskitError LOG_001 when there is none."""
    path = Path(pattern).expanduser()
    if path.is_dir():
        raise OpskitError(
            "LOG_001", f"{path} is a folder", remedy=f"name its files: `opskit logs '{path}/*.log'`"
        )
    if not is_glob(pattern):
        return [FileSource(path)]
    names = glob.has_magic(str(path.parent))
    base = Path(path.anchor) if path.is_absolute() else Path()
    matching = sorted(file for file in base.glob(str(path.relative_to(path.anchor))) if file.is_file())
    if not matching:
        raise OpskitError("LOG_001", f"no file matches {pattern}")
    return [FileSource(file, str(file) if names else None) for file in matching]


def distinct(sources: Iterable[AnySource]) -> list[AnySource]:
    """The sources without files that are there already under another name, as links and globs bring them."""
    known: set[tuple[int, int]] = set()
    different: list[AnySource] = []
    for source in sources:
        identity = source.identity if isinstance(source, FileSource) else None
        if identity is None or identity not in known:
            different.append(source)
        if identity is not None:
            known.add(identity)
    return different


def _timed(events: Iterable[LogEntry]) -> Iterator[LogEntry]:
    last: float | None = None
    untimed: list[LogEntry] = []
    for event in events:
        last = event.at if event.at is not None else last
        if last is None and len(untimed) < _MAX_UNTIMED:
            untimed.append(event)
            continue
        for earlier in untimed:
            yield replace(earlier, at=last)
        untimed.clear()
        yield replace(event, at=last) if event.at is None else event
    yield from untimed


def _last_lines(content: Iterator[bytes], count: int) -> bytes:
    lines: deque[bytes] = deque(maxlen=count)
    for block in content:
        lines.extend(block.removesuffix(b"\n").split(b"\n"))
    return b"".join(line + b"\n" for line in lines)


def blocks(stream: Log, size: int = BLOCK, on_torn: Callable[[], None] = lambda: None) -> Iterator[bytes]:
    """The stream in blocks of whole events.

    What a torn packed file holds before its tear is given; then `on_torn` is called.
    """
    pending = b""
    while True:
        piece = read_piece(stream, size, on_torn)
        if not piece:
            break
        text = pending + piece if pending else piece
        cut = event_cut(text)
        if cut == 0 and len(text) < MAX_LINE:
            pending = text
            continue
        if cut == 0:
            cut = text.rfind(b"\n") + 1 or MAX_LINE
        yield text[:cut]
        pending = text[cut:]
    while len(pending) > MAX_LINE and b"\n" not in pending[:MAX_LINE]:
        yield pending[:MAX_LINE]
        pending = pending[MAX_LINE:]
    if pending:
        yield pending


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
