"""The wanted entries of many sources: once through, or followed."""

import asyncio
import contextlib
import heapq
import math
from collections import deque
from collections.abc import AsyncGenerator, Iterator, Sequence
from operator import itemgetter

from opskit.errors import OpskitError
from opskit.logs.events import Grouper
from opskit.logs.files import FileSource
from opskit.logs.packed import torn
from opskit.logs.record import LogEntry
from opskit.logs.select import EntryFilter
from opskit.logs.source import Batch, LogSource, Note, Unreadable, Window
from opskit.records import Record, replace

#: While following, lines of different sources that come within this time are put in the order of their times.
SETTLE_S = 0.1
_QUEUE = 64


class Break(Record):
    """A gap between two groups of lines with context."""

    source: str


Shown = LogEntry | Note | Break


async def once(
    sources: Sequence[LogSource], selection: EntryFilter, window: Window, context: int = 0
) -> AsyncGenerator[Shown, None]:
    """What is there now, merged by time. A source that cannot be read is an Unreadable among the others."""
    streams = [_entries_of(source, selection, window, context) for source in sources]
    async with contextlib.aclosing(streams[0] if len(streams) == 1 else _merged(streams)) as items:
        async for item in items:
            yield item


async def followed(
    sources: Sequence[LogSource], selection: EntryFilter, window: Window
) -> AsyncGenerator[Shown, None]:
    """What is there and what comes, until the caller stops or every source has ended.

    A slow caller slows the sources down: nothing piles up. A source that cannot be read is an Unreadable
    among the others, which go on.
    """
    clock = asyncio.get_running_loop().time
    queue: asyncio.Queue[tuple[int, Batch | None]] = asyncio.Queue(_QUEUE)
    merger = _Merger(len(sources), selection)

    async def pump(number: int, source: LogSource) -> None:
        try:
            async with contextlib.aclosing(settled(source.follow(window), Grouper())) as batches:
                async for batch in batches:
                    await queue.put((number, batch))
        except OpskitError as error:
            await queue.put((number, [Unreadable.of(source.name, error)]))
        finally:
            await queue.put((number, None))

    # No task group: closing this generator would come out of it as a group of errors.
    pumps = [asyncio.create_task(pump(number, source)) for number, source in enumerate(sources)]
    alive = len(pumps)
    try:
        while alive:
            due = merger.due
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(None if due is None else max(0.0, due - clock())):
                    number, batch = await queue.get()
                if batch is not None:
                    merger.push(number, batch, clock())
                else:
                    await pumps[number]
                    alive -= 1
            for item in merger.ready(clock(), over=not alive):
                yield item
    finally:
        for task in pumps:
            task.cancel()
        await asyncio.gather(*pumps, return_exceptions=True)


async def settled(
    batches: AsyncGenerator[Batch, None], grouper: Grouper, *, settle_s: float | None = SETTLE_S
) -> AsyncGenerator[Batch, None]:
    """The same with whole events; the last one ends with a note, or when nothing came for `settle_s`."""
    coming: asyncio.Task[Batch | None] | None = None
    try:
        while True:
            coming = coming or asyncio.ensure_future(anext(batches, None))
            await asyncio.wait([coming], timeout=settle_s if grouper.open else None)
            if not coming.done():
                yield [*grouper.flush()]
            elif coming.exception() is None and (batch := coming.result()) is not None:
                coming = None
                yield [event for item in batch for event in _complete(grouper, item)]
            else:
                yield [*grouper.flush()]
                coming.result()
                return
    finally:
        if coming is not None:
            coming.cancel()
            await asyncio.gather(coming, return_exceptions=True)
        await batches.aclose()


class _Merger:
    """Orders by time the events of followed sources that come within SETTLE_S.

    Never against the order inside a source: there the latest time so far counts.
    """

    def __init__(self, sources: int, selection: EntryFilter) -> None:
        self._selection = selection
        self._latest = [float("-inf")] * sources
        self._items: list[tuple[float, LogEntry | Note]] = []
        self._since = 0.0

    @property
    def due(self) -> float | None:
        """When what waits is settled; None when nothing waits."""
        return self._since + SETTLE_S if self._items else None

    def push(self, source: int, batch: Batch, now: float) -> None:
        for item in batch:
            latest = self._latest[source] = max(
                self._latest[source], -math.inf if item.at is None else item.at
            )
            entry = item
            if isinstance(item, LogEntry) and item.at is None and math.isfinite(latest):
                entry = replace(item, at=latest)
            if isinstance(entry, Note) or self._selection.accepts(entry):
                self._since = self._since if self._items else now
                self._items.append((latest, entry))

    def ready(self, now: float, *, over: bool) -> list[LogEntry | Note]:
        """What is settled, all of it when everything is over."""
        if not over and now - self._since < SETTLE_S:
            return []
        ready, self._items = sorted(self._items, key=itemgetter(0)), []
        return [item for _, item in ready]


def _complete(grouper: Grouper, item: LogEntry | Note) -> Iterator[LogEntry | Note]:
    """What is complete with this item: a note ends the events before it."""
    yield from grouper.flush() if isinstance(item, Note) else grouper.push(item)
    if isinstance(item, Note):
        yield item


async def _entries_of(
    source: LogSource, selection: EntryFilter, window: Window, context: int
) -> AsyncGenerator[Shown, None]:
    """The wanted entries of one source; why it cannot be read is an Unreadable among them."""
    try:
        if isinstance(source, FileSource) and not context:
            for entry in source.wanted(selection, window.tail):
                yield entry
        else:
            surround = _Surround(selection, context)
            async with contextlib.aclosing(_everything(source, window)) as items:
                async for item in items:
                    if isinstance(item, Note):
                        yield item
                        continue
                    for shown in surround.push(item):
                        yield shown
        if isinstance(source, FileSource) and source.torn:
            yield Unreadable.of(source.name, torn(source.path))
    except OpskitError as error:
        yield Unreadable.of(source.name, error)


async def _everything(source: LogSource, window: Window) -> AsyncGenerator[LogEntry | Note, None]:
    """Every event of a source, wanted or not; one without a time has that of the event before it."""
    if isinstance(source, FileSource):
        for entry in source.wanted(EntryFilter(), window.tail):
            yield entry
        return
    last: float | None = None
    async with contextlib.aclosing(settled(source.read(window), Grouper(), settle_s=None)) as batches:
        async for batch in batches:
            for event in batch:
                if isinstance(event, Note):
                    yield event
                    continue
                last = event.at if event.at is not None else last
                yield replace(event, at=last) if event.at is None else event


class _Surround:
    """Passes wanted entries on, with `context` entries around each; a Break where entries were left out."""

    def __init__(self, selection: EntryFilter, context: int) -> None:
        self._selection = selection
        self._context = context
        self._before: deque[LogEntry] = deque(maxlen=context)
        self._after = 0
        self._skipped = 0
        self._begun = False

    def push(self, event: LogEntry) -> Iterator[Shown]:
        if self._selection.accepts(event):
            if self._context and self._begun and self._skipped > len(self._before):
                yield Break(event.source)
            yield from self._before
            self._before.clear()
            self._skipped, self._after, self._begun = 0, self._context, True
            yield event
        elif self._after:
            self._after -= 1
            yield event
        else:
            self._before.append(event)
            self._skipped += 1


async def _merged(streams: Sequence[AsyncGenerator[Shown, None]]) -> AsyncGenerator[Shown, None]:
    """By time, stable, never against the order inside a source: there the latest time so far counts."""
    heap: list[tuple[float, int, Shown]] = []
    latest = [float("-inf")] * len(streams)

    async def pull(number: int) -> None:
        with contextlib.suppress(StopAsyncIteration):
            item = await anext(streams[number])
            at = getattr(item, "at", None)
            latest[number] = max(latest[number], at if at is not None else latest[number])
            heapq.heappush(heap, (latest[number], number, item))

    try:
        for number in range(len(streams)):
            await pull(number)
        while heap:
            _, number, item = heapq.heappop(heap)
            yield item
            await pull(number)
    finally:
        for stream in streams:
            await stream.aclose()
