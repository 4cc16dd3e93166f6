"""The logs that a watch reads: each source by itself, as events, only what tells of requests and errors."""

import asyncio
import contextlib
from collections.abc import AsyncGenerator, Callable
from dataclasses import dataclass
from pathlib import Path

from opskit.errors import OpskitError
from opskit.logs.events import Grouper
from opskit.logs.files import FileSource
from opskit.logs.record import LogEntry
from opskit.logs.select import EntryFilter
from opskit.logs.source import Batch, LeftOut, LogSource, Note, Window

#: An event whose next line has not come for so long is complete.
SETTLE_S = 0.1
#: A file that is further behind is gone on with near its end: news that are minutes old are none.
BEHIND_BYTES = 4 * 1024 * 1024
#: What of our own log is read at the start, to know the requests of the last minutes.
HISTORY_LINES = 2000
_WAIT_S = 1.0
_SLICE = 500

TAGGED = EntryFilter(tags=("REQUEST", "REQUEST_END", "FALLBACK", "LLM_*"))
SEVERE = EntryFilter(level="error")


@dataclass(slots=True)
class ReadTally:
    """What was read: `lines` looked at, `left_out` those that came too fast."""

    lines: int = 0
    left_out: int = 0


def wanted(entry: LogEntry) -> bool:
    """Whether an event tells of a request or is an error."""
    if TAGGED.accepts(entry):
        return True
    return SEVERE.finder is not None and SEVERE.finder.search(entry.raw) is not None and SEVERE.accepts(entry)


class Reader:
    """Follows one source until cancelled, or until it ends, and hands over what is wanted.

    Back pressure is the source's own: nothing piles up here. A file that does not exist yet is waited for.
    """

    def __init__(
        self,
        source: LogSource,
        tally: ReadTally,
        *,
        found: Callable[[LogEntry], None],
        told: Callable[[Note], None],
        tail: int = 0,
    ) -> None:
        self._source = source
        self._tally = tally
        self._found = found
        self._told = told
        self._window = Window(tail=tail, behind_bytes=BEHIND_BYTES)
        self._grouper = Grouper()
        self._timer: asyncio.TimerHandle | None = None
        #: What was there at the start has been read and handed over.
        self.caught_up = asyncio.Event()

    async def run(self) -> None:
        """Read. What stops a source is told as a note; it never ends the watch."""
        try:
            if isinstance(self._source, FileSource):
                await self._exists(self._source.path)
            async with contextlib.aclosing(self._source.follow(self._window)) as batches:
                await self._pump(batches)
        except OpskitError as error:
            self._told(Note(self._source.name, None, f"not read any more: {error.message}"))
        finally:
            self._complete()

    async def _exists(self, path: Path) -> None:
        if path.exists():
            return
        # All that it will hold is new.
        self.caught_up.set()
        self._window = Window(since=0.0, behind_bytes=BEHIND_BYTES)
        while not path.exists():  # noqa: ASYNC110 - no event tells of a file on all systems
            await asyncio.sleep(_WAIT_S)

    async def _pump(self, batches: AsyncGenerator[Batch, None]) -> None:
        clock = asyncio.get_running_loop().time
        async for batch in batches:
            began = clock()
            self._hold()
            for number, item in enumerate(batch):
                if number % _SLICE == _SLICE - 1:
                    # A source that always has more would let nobody else work.
                    await self._rest(clock() - began)
                    began = clock()
                if isinstance(item, Note):
                    self._complete()
                    self._tally.left_out += item.lines if isinstance(item, LeftOut) else 0
                    self._told(item)
                    continue
                self._tally.lines += 1
                done = self._grouper.push(item)
                if done is not None and wanted(done):
                    self._found(done)
            self._settle_later()
            await self._rest(clock() - began)

    async def _rest(self, worked_s: float) -> None:
        """Let others work.

        A file is left for as long as it was worked on: what it misses by that is left out and counted, while
        any other source would only be further behind.
        """
        await asyncio.sleep(worked_s if isinstance(self._source, FileSource) else 0)

    def _settle_later(self) -> None:
        self._hold()
        if self._grouper.open:
            self._timer = asyncio.get_running_loop().call_later(SETTLE_S, self._complete)
        else:
            self.caught_up.set()

    def _hold(self) -> None:
        """An open event goes on: it is not complete yet."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _complete(self) -> None:
        self._hold()
        last = self._grouper.flush()
        if last is not None and wanted(last):
            self._found(last)
        self.caught_up.set()
