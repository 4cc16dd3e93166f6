"""Files as sources, and what names stand for: paths, globs, generations of a rotated file."""

import contextlib
import glob
import os
from collections import deque
from collections.abc import AsyncGenerator, Callable, Iterable, Iterator
from functools import cached_property
from pathlib import Path
from typing import TypeVar

from opskit.errors import OpskitError
from opskit.logs.envelope import SAMPLE_BYTES, Envelope, envelope_of_sample
from opskit.logs.events import MAX_LINE, Grouper, event_cut
from opskit.logs.file_reader import FileReader, tail_offset
from opskit.logs.packed import SUFFIXES, Log, PackedFile, open_log, read_piece, readable
from opskit.logs.record import LogEntry
from opskit.logs.scan import entries
from opskit.logs.select import EntryFilter
from opskit.logs.source import Batch, LineSplitter, LogSource, Window
from opskit.records import replace

#: How often a followed file is looked at; local files have no event that all systems share.
POLL_S = 0.1
BLOCK = 4 * 1024 * 1024
#: Where every line becomes an entry, which takes several times its memory.
_READ_BLOCK = 256 * 1024
#: So many events without a time wait for the first one that has one.
_MAX_UNTIMED = 1000


AnySource = TypeVar("AnySource", bound=LogSource)


class FileSource:
    """One log file. `name` stands in front of its lines when there are several sources.

    `torn` is set when a packed file turned out to end in the middle.
    """

    def __init__(self, path: Path, name: str | None = None) -> None:
        self.path = path
        self.name = name or path.name
        self.torn = False

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
        grouper = Grouper()
        for batch in self._batches(tail):
            for line in batch:
                if isinstance(line, LogEntry):
                    yield from grouper.push(line)
        yield from grouper.flush()

    async def read(self, window: Window) -> AsyncGenerator[Batch, None]:
        """Its lines; the window's times are left to the selection."""
        for batch in self._batches(window.tail):
            yield batch

    def _batches(self, tail: int | None) -> Iterator[Batch]:
        lines = LineSplitter(self.name)
        for block in self.blocks(tail, _READ_BLOCK):
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
    return whole_events(iter(lambda: read_piece(stream, size, on_torn), b""))


def whole_events(pieces: Iterable[bytes]) -> Iterator[bytes]:
    """Pieces that are cut anywhere as blocks of whole events; a line above MAX_LINE comes in parts."""
    pending = b""
    for piece in pieces:
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
