"""What every source of log lines offers, be it a file, a container or a stream."""

from collections.abc import AsyncGenerator, Iterator
from dataclasses import dataclass
from typing import Protocol, Self

from opskit.errors import OpskitError
from opskit.logs.record import LogEntry


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


class UnreadableSource:
    """What was named as a source and is none. Reading and following it raise `error`."""

    def __init__(self, name: str, error: OpskitError) -> None:
        self.name = name
        self._error = error

    async def read(self, window: Window) -> AsyncGenerator[Batch, None]:
        del window
        for batch in self._batches():
            yield batch

    async def follow(self, window: Window) -> AsyncGenerator[Batch, None]:
        async for batch in self.read(window):
            yield batch

    def _batches(self) -> Iterator[Batch]:
        raise self._error


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
