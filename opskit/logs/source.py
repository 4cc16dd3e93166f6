"""What every source of log lines offers, be it a file, a container or a stream."""

from collections.abc import AsyncGenerator
from dataclasses import dataclass
from typing import Protocol, Self

from opskit.errors import OpskitError
from opskit.logs.events import MAX_LINE
from opskit.logs.record import LogEntry, timestamp


@dataclass(frozen=True, slots=True)
class Window:
    """What part of a source is wanted. Times are epoch seconds; `tail` counts lines of each source.

    A file that is followed and has `behind_bytes` more than was read of it is gone on with near its end: what
    lies between is left out, and told of (LeftOut). None leaves nothing out.
    """

    since: float | None = None
    until: float | None = None
    tail: int | None = None
    behind_bytes: int | None = None


@dataclass(frozen=True, slots=True)
class Note:
    """Something that happened to a source itself: a container died, a file was rotated."""

    source: str
    at: float | None
    text: str


@dataclass(frozen=True, slots=True)
class LeftOut(Note):
    """Lines that came faster than they were read, and were not looked at."""

    lines: int = 0


@dataclass(frozen=True, slots=True)
class Unreadable(Note):
    """A source, or one of its containers, cannot be read; the others go on. `error` says why."""

    error: OpskitError

    @classmethod
    def of(cls, source: str, error: OpskitError) -> Self:
        return cls(source, None, error.message, error)


Batch = list[LogEntry | Note]


class LineSplitter:
    """Cuts the bytes of a source into entries of single lines.

    A line above MAX_LINE comes in pieces: memory stays bounded.
    """

    def __init__(self, source: str) -> None:
        self._source = source
        self._rest = b""

    def feed(self, piece: bytes) -> Batch:
        """The lines that are complete now."""
        *lines, self._rest = (self._rest + piece).split(b"\n")
        if len(self._rest) > MAX_LINE:
            lines.append(self._rest)
            self._rest = b""
        return [LogEntry(self._source, line, timestamp(line)) for line in lines]

    def finish(self) -> Batch:
        """The last line, when it has no end."""
        line, self._rest = self._rest, b""
        return [LogEntry(self._source, line, timestamp(line))] if line else []


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
