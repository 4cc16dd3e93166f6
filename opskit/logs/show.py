"""The wanted entries of many sources: once through, or followed."""

import asyncio
import contextlib
import heapq
from collections import deque
from collections.abc import AsyncGenerator, Iterable, Iterator, Sequence
from dataclasses import dataclass

from opskit.errors import OpskitError
from opskit.logs.events import Grouper
from opskit.logs.files import FileSource, torn
from opskit.logs.record import LogEntry
from opskit.logs.scan import entries, lines_of
from opskit.logs.select import EntryFilter
from opskit.logs.source import Batch, LogSource, Note, Unreadable, Window

#: While following, lines of different sources that come within this time are put in the order of their times.
SETTLE_S = 0.1
_QUEUE = 64


@dataclass(frozen=True, slots=True)
class Break:
    """A gap between two groups of lines with context."""

    source: str


Shown = LogEntry | Note | Break


async def once(
    sources: Sequence[LogSource], selection: EntryFilter, window: Window, context: int = 0
) -> AsyncGenerator[Shown, None]:
    """What is there now, merged by time. A source that cannot be read is an Unreadable among the others."""
    streams = [_one(source, selection, window, context) for source in sources]
    if len(streams) == 1:
        async with contextlib.aclosing(streams[0]) as stream:
            async for item in stream:
                yield item
        return
    async with contextlib.aclosing(_merged(streams)) as merging:
        async for item in merging:
            yield item


async def followed(
    sources: Sequence[LogSource], selection: EntryFilter, window: Window
) -> AsyncGenerator[Shown, None]:
    """What is there and what comes, until the caller stops or every source has ended.

    A slow caller slows the sources down: nothing piles up. A source that cannot be read is an Unreadable
    among the others, which go on.
    """
    queue: asyncio.Queue[tuple[int, Batch | None]] = asyncio.Queue(_QUEUE)

    async def pump(number: int, source: LogSource) -> None:
        try:
            async with contextlib.aclosing(source.follow(window)) as batches:
                async for batch in batches:
                    await queue.put((number, batch))
        except OpskitError as error:
            await queue.put((number, [Unreadable.of(source.name, error)]))
        finally:
            await queue.put((number, None))

    # No task group: closing this generator would come out of it as a group of errors.
    pumps = [asyncio.create_task(pump(number, source)) for number, source in enumerate(sources)]
    try:
        async with contextlib.aclosing(_settled(queue, pumps, selection)) as items:
            async for item in items:
                yield item
    finally:
        for task in pumps:
            task.cancel()
        await asyncio.gather(*pumps, return_exceptions=True)


async def _settled(
    queue: asyncio.Queue[tuple[int, Batch | None]],
    pumps: Sequence[asyncio.Task[None]],
    selection: EntryFilter,
) -> AsyncGenerator[Shown, None]:
    """Entries in the order of their times as far as they come together; events once they are complete."""
    clock = asyncio.get_running_loop().time
    count = len(pumps)
    groupers = [Grouper() for _ in range(count)]
    touched = [0.0] * count
    desk = _Desk(count)
    alive = count
    while alive:
        open_since = [touched[number] for number in range(count) if groupers[number].open]
        due = min([*open_since, *([desk.since] if desk.items else [])], default=None)
        try:
            async with asyncio.timeout(None if due is None else max(0.0, due + SETTLE_S - clock())):
                source, batch = await queue.get()
        except TimeoutError:
            batch, source = [], -1
        if batch is None:
            await pumps[source]
            alive -= 1
            touched[source] = float("-inf")
        elif batch:
            touched[source] = clock()
            for item in batch:
                for done in _events(groupers[source], item):
                    if isinstance(done, Note) or selection.accepts(done):
                        desk.put(source, done, clock())
        for number, grouper in enumerate(groupers):
            # Nothing more came within the time: what is open is complete.
            if grouper.open and (not alive or clock() - touched[number] >= SETTLE_S):
                last = grouper.flush()
                if last is not None and selection.accepts(last):
                    desk.put(number, last, clock())
        if desk.items and (not alive or clock() - desk.since >= SETTLE_S):
            for ready in desk.take():
                yield ready


class _Desk:
    """What waits to be put in order. `since` is when its first item came."""

    def __init__(self, sources: int) -> None:
        self.items: list[tuple[float, int, Shown]] = []
        self.since = 0.0
        self._latest = [float("-inf")] * sources
        self._count = 0

    def put(self, source: int, item: LogEntry | Note, now: float) -> None:
        if not self.items:
            self.since = now
        if item.at is not None:
            self._latest[source] = max(self._latest[source], item.at)
        self._count += 1
        self.items.append((self._latest[source], self._count, item))

    def take(self) -> list[Shown]:
        ready, self.items = sorted(self.items, key=lambda one: one[:2]), []
        return [item for _, _, item in ready]


def _events(grouper: Grouper, item: LogEntry | Note) -> Iterator[LogEntry | Note]:
    if isinstance(item, Note):
        last = grouper.flush()
        if last is not None:
            yield last
        yield item
        return
    done = grouper.push(item)
    if done is not None:
        yield done


async def _one(
    source: LogSource, selection: EntryFilter, window: Window, context: int
) -> AsyncGenerator[Shown, None]:
    try:
        async with contextlib.aclosing(_readable(source, selection, window, context)) as items:
            async for item in items:
                yield item
    except OpskitError as error:
        yield Unreadable.of(source.name, error)


async def _readable(
    source: LogSource, selection: EntryFilter, window: Window, context: int
) -> AsyncGenerator[Shown, None]:
    if isinstance(source, FileSource):
        content = source.blocks(window.tail)
        if context:
            found: Iterable[Shown] = _with_context(lines_of(source.name, content), selection, context)
        else:
            found = entries(source.name, content, selection)
        for item in found:
            yield item
        if source.torn:
            yield Unreadable.of(source.name, torn(source.path))
        return
    surround = _Surround(selection, context)
    grouper, last = Grouper(), None
    async with contextlib.aclosing(source.read(window)) as batches:
        async for batch in batches:
            for line in batch:
                for done in _events(grouper, line):
                    if isinstance(done, Note):
                        yield done
                        continue
                    last = done.at if done.at is not None else last
                    for shown in surround.push(done if done.at is not None else _timed(done, last)):
                        yield shown
    rest = grouper.flush()
    if rest is not None:
        for shown in surround.push(rest):
            yield shown


def _timed(entry: LogEntry, at: float | None) -> LogEntry:
    return LogEntry(entry.source, entry.raw, at)


def _with_context(events: Iterable[LogEntry], selection: EntryFilter, context: int) -> Iterator[Shown]:
    surround, last = _Surround(selection, context), None
    for event in events:
        last = event.at if event.at is not None else last
        yield from surround.push(event if event.at is not None else _timed(event, last))


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
