"""What every source of log lines offers, and two that are streams: pipes and the journal."""

import contextlib
import os
import select
import shutil
import stat
import sys
from collections.abc import AsyncGenerator, Sequence
from datetime import UTC, datetime
from io import FileIO
from pathlib import Path
from typing import BinaryIO, Protocol, Self

from opskit.errors import OpskitError
from opskit.logs.envelope import SAMPLE_LINES, Envelope, WrappedLine, envelope_of
from opskit.logs.events import MAX_LINE
from opskit.logs.record import LogEntry
from opskit.logs.times import timestamp, zoned_timestamp
from opskit.records import Record

_READ = 256 * 1024
#: So long a writer that waits for a reader may take to notice it.
_WRITER_MS = 500


class Window(Record):
    """What part of a source is wanted. Times are epoch seconds; `tail` counts lines of each source.

    A file that is followed and has `behind_bytes` more than was read of it is gone on with near its end: what
    lies between is left out, and reported (LeftOut). None leaves nothing out.
    """

    since: float | None = None
    until: float | None = None
    tail: int | None = None
    behind_bytes: int | None = None


class Note(Record):
    """Something that happened to a source itself: a container died, a file was rotated."""

    source: str
    at: float | None
    text: str


class LeftOut(Note):
    """Lines that came faster than they were read, and were not looked at."""

    lines: int = 0


class Unreadable(Note):
    """A source, or one of its containers, cannot be read; the others go on. `error` says why."""

    error: OpskitError

    @classmethod
    def of(cls, source: str, error: OpskitError) -> Self:
        return cls(source, None, error.message, error)


Batch = list[LogEntry | Note]


class LineSplitter:
    """Cuts the bytes of a source into entries of single lines, without their envelope once it is recognised.

    A line above MAX_LINE comes in pieces: memory stays bounded. The parts of a long line wait for its end.
    """

    def __init__(self, source: str) -> None:
        self._source = source
        self._pending = b""
        self._envelope: Envelope | None = None
        self._undecided = SAMPLE_LINES
        self._parts: dict[str | None, tuple[WrappedLine, list[bytes], list[bytes]]] = {}

    def feed(self, piece: bytes) -> Batch:
        """The lines that are complete now."""
        *lines, self._pending = (self._pending + piece).split(b"\n")
        if len(self._pending) > MAX_LINE:
            lines.append(self._pending)
            self._pending = b""
        return self._entries(lines)

    def finish(self) -> Batch:
        """What has no end: the last line, and long lines whose last part did not come."""
        line, self._pending = self._pending, b""
        entries = self._entries([line]) if line else []
        parts, self._parts = self._parts, {}
        return [*entries, *(self._joined(*part) for part in parts.values())]

    def _entries(self, lines: Sequence[bytes]) -> Batch:
        if self._undecided > 0 and lines:
            self._envelope = envelope_of(lines[: SAMPLE_LINES * 2])
            self._undecided = 0 if self._envelope else self._undecided - len(lines)
        if self._envelope is None:
            return [LogEntry(self._source, line, timestamp(line)) for line in lines]
        return [entry for line in lines if (entry := self._entry(self._envelope, line)) is not None]

    def _entry(self, envelope: Envelope, line: bytes) -> LogEntry | None:
        wrapped = envelope(line)
        if wrapped is None:
            return LogEntry(self._source, line, timestamp(line))
        first, texts, written = self._parts.pop(wrapped.service, (wrapped, [], []))
        texts.append(wrapped.text)
        written.append(line)
        if wrapped.part and sum(map(len, texts)) < MAX_LINE:
            self._parts[wrapped.service] = first, texts, written
            return None
        return self._joined(first, texts, written)

    def _joined(self, first: WrappedLine, texts: Sequence[bytes], written: Sequence[bytes]) -> LogEntry:
        text = b"".join(texts)
        at = timestamp(text) if first.at is None else zoned_timestamp(text) or first.at
        return LogEntry(self._source, text, at, b"\n".join(written), first.service, first.level)


class LogSource(Protocol):
    """A source of lines. Entries here are single lines; grouping of continued lines comes later.

    Lines come in batches, in the order in which they stand in the source. What a source cannot do (missing,
    no permission) raises `opskit.errors.OpskitError` before the first batch; what goes wrong later is a Note.
    """

    @property
    def name(self) -> str:
        """How it is called in front of its lines."""

    def read(self, window: Window) -> AsyncGenerator[Batch, None]:
        """What is there now, oldest first, and then the end."""

    def follow(self, window: Window) -> AsyncGenerator[Batch, None]:
        """What is there now, as far as `window` asks for it, and then what comes, without end."""


class PipeSource:
    """Standard input, or a named pipe. Following and reading are the same: it ends when its writers end."""

    def __init__(self, path: Path | None = None) -> None:
        self._path = path
        self.name = "stdin" if path is None else str(path)

    async def read(self, window: Window) -> AsyncGenerator[Batch, None]:
        """Lines as they come. A stream has no past to choose from: the window says nothing."""
        del window
        import asyncio  # 13 ms that a plain search does not need

        lines = LineSplitter(self.name)
        file: BinaryIO | FileIO = sys.stdin.buffer
        if self._path is not None:
            file = await asyncio.to_thread(_written_pipe, self._path)
        async with contextlib.aclosing(_pieces(file)) as pieces:
            async for piece in pieces:
                if batch := lines.feed(piece):
                    yield batch
        if last := lines.finish():
            yield last

    follow = read


def _written_pipe(path: Path) -> FileIO:
    """A named pipe, open. Raises OpskitError LOG_001 when nobody writes to it."""
    try:
        # Opening it otherwise would wait for a writer, for ever.
        file = os.fdopen(os.open(path, os.O_RDONLY | os.O_NONBLOCK), "rb", buffering=0)
        poll = select.poll()
        poll.register(file, select.POLLIN)
        if not poll.poll(_WRITER_MS) and file.read(1) == b"":
            file.close()
            raise OpskitError("LOG_001", f"{path} is a pipe that no program writes to")
    except OSError as exc:
        raise OpskitError("LOG_001", f"{path}: {(exc.strerror or str(exc)).lower()}") from exc
    return file


async def _pieces(file: BinaryIO | FileIO) -> AsyncGenerator[bytes, None]:
    import asyncio

    mode = os.fstat(file.fileno()).st_mode
    if not (stat.S_ISFIFO(mode) or stat.S_ISSOCK(mode) or file.isatty()):
        # A file or a device like /dev/null never blocks, so it is simply read.
        while piece := file.read(_READ):
            yield piece
        return
    reader = asyncio.StreamReader(limit=_READ)
    transport, _ = await asyncio.get_running_loop().connect_read_pipe(
        lambda: asyncio.StreamReaderProtocol(reader), file
    )
    try:
        while piece := await reader.read(_READ):
            yield piece
    finally:
        transport.close()


class JournalSource:
    """The journal of systemd, of one unit or of all, or of the kernel alone.

    `user` means a unit of this user's own systemd.
    """

    def __init__(self, unit: str | None, *, user: bool = False, kernel: bool = False) -> None:
        option = "--user-unit" if user else "--unit"
        self._selection = ["--dmesg"] if kernel else [option, unit] if unit else []
        self.name = "journal:kernel" if kernel else f"journal:{unit or ''}"

    def read(self, window: Window) -> AsyncGenerator[Batch, None]:
        return self._lines(window, follow=False)

    def follow(self, window: Window) -> AsyncGenerator[Batch, None]:
        return self._lines(window, follow=True)

    async def _lines(self, window: Window, *, follow: bool) -> AsyncGenerator[Batch, None]:
        import asyncio

        program = shutil.which("journalctl")
        if program is None:
            raise OpskitError(
                "LOG_001", "there is no journalctl here", remedy="name a file, or a container, instead"
            )
        command = [program, "--no-pager", "--quiet", "--output=short-iso-precise"]
        command += self._selection
        command += ["--since", _moment(window.since)] if window.since is not None else []
        command += ["--until", _moment(window.until)] if window.until is not None and not follow else []
        command += [f"--lines={window.tail}"] if window.tail is not None else []
        command += ["--follow"] if follow else []
        process = await asyncio.create_subprocess_exec(
            *command, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE, limit=MAX_LINE
        )
        if process.stdout is None or process.stderr is None:
            raise AssertionError("both were asked for as pipes")
        lines = LineSplitter(self.name)
        try:
            while piece := await process.stdout.read(_READ):
                yield lines.feed(piece)
            message = (await process.stderr.read()).decode("utf-8", "replace").strip()
            if await process.wait() != 0 and message:
                raise OpskitError("LOG_001", f"journalctl: {message.splitlines()[0]}")
        finally:
            if process.returncode is None:
                process.terminate()
                await process.wait()


def _moment(at: float) -> str:
    """Write a time for journalctl, which reads local time unless the zone is named."""
    return f"{datetime.fromtimestamp(at, UTC):%Y-%m-%d %H:%M:%S} UTC"
