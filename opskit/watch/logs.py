"""The logs that a watch reads: requests and errors out of each source, bounded however fast they come."""

import asyncio
import contextlib
from collections import deque
from collections.abc import Callable, Collection, Coroutine, Iterator
from typing import Any

from opskit.config.schema import Config
from opskit.errors import OpskitError
from opskit.logs.events import Grouper
from opskit.logs.files import FileSource
from opskit.logs.levels import Level
from opskit.logs.record import Facts, LogEntry, facts
from opskit.logs.select import EntryFilter
from opskit.logs.shape import shape
from opskit.logs.show import settled
from opskit.logs.source import Batch, LeftOut, LogSource, Note, Window
from opskit.records import Record, replace
from opskit.text import utc
from opskit.watch.requests import RequestChange, RequestTracker, Summary
from opskit.watch.view import Emit

#: A file that is further behind is gone on with near its end: news that are minutes old are none.
BEHIND_BYTES = 4 * 1024 * 1024
#: What of our own log is read at the start, to know the requests of the last minutes.
HISTORY_LINES = 2000
_SLICE = 500

TAGGED = EntryFilter(tags=("REQUEST", "REQUEST_END", "FALLBACK", "LLM_*"))
SEVERE = EntryFilter(level="error")
#: How many are reported one by one between two looks; further ones are counted.
EACH_ROUND = 100
REQUESTS_EACH_ROUND = 200
KEPT = 200
#: So far back an equal error is looked for, to be counted instead of shown again.
_NEAR = 8
_TEXT_CHARS = 1000


def wanted(entry: LogEntry) -> bool:
    """Tell whether an event tells of a request or is an error."""
    if TAGGED.accepts(entry):
        return True
    finder = SEVERE.finder
    may_be = entry.level is not None or (finder is not None and finder.search(entry.raw) is not None)
    return may_be and SEVERE.accepts(entry)


class Reader:
    """Follows one source until cancelled, or until it ends, and hands over what is wanted.

    Back pressure is the source's own: nothing piles up here. A file that does not exist yet is waited for.
    `lines` were looked at, `left_out` came too fast. `caught_up` is set once what was there at the start has
    been read and handed over.
    """

    def __init__(
        self,
        source: LogSource,
        *,
        on_entry: Callable[[LogEntry], None],
        on_note: Callable[[Note], None],
        tail: int = 0,
    ) -> None:
        self.source = source
        self.lines = self.left_out = 0
        self.caught_up = asyncio.Event()
        self._on_entry, self._on_note = on_entry, on_note
        # All that a file will hold that does not exist yet is new.
        self._is_awaited = isinstance(source, FileSource) and not source.path.exists()
        since, last = (0.0, None) if self._is_awaited else (None, tail)
        self._window = Window(since, tail=last, behind_bytes=BEHIND_BYTES)

    async def run(self) -> None:
        """Read. What stops a source is reported as a note; it never ends the watch."""
        grouper = Grouper()
        try:
            async with contextlib.aclosing(settled(self.source.follow(self._window), grouper)) as batches:
                async for batch in batches:
                    if not (self._is_awaited and all(isinstance(item, Note) for item in batch)):
                        self._is_awaited = False
                        await self._take(batch)
                    if not grouper.open:
                        self.caught_up.set()
        except OpskitError as error:
            self._on_note(Note(self.source.name, None, f"not read any more: {error.message}"))
        finally:
            self.caught_up.set()

    async def _take(self, batch: Batch) -> None:
        """Hand over what is wanted, and let others work in between.

        A file is left for as long as it was worked on: what it misses by that is left out and counted, while
        any other source would only be further behind.
        """
        clock = asyncio.get_running_loop().time
        for begin in range(0, len(batch), _SLICE):
            began = clock()
            for item in batch[begin : begin + _SLICE]:
                if isinstance(item, Note):
                    self.left_out += item.lines if isinstance(item, LeftOut) else 0
                    self._on_note(item)
                    continue
                self.lines += item.raw.count(b"\n") + 1
                if wanted(item):
                    self._on_entry(item)
            await asyncio.sleep(clock() - began if isinstance(self.source, FileSource) else 0)


class LoggedError(Record, kw_only=True):
    """One error of one source. `count` tells how many equal ones it stands for; `at` is of the latest.

    `logged_at` is the time that the log itself gives, which may be of another clock or zone.
    """

    at: float
    logged_at: float | None
    source: str
    level: Level | None
    tag: str | None
    correlation_id: str | None
    text: str
    shape: str
    count: int = 1

    def as_json(self) -> dict[str, Any]:
        return {
            "source": self.source,
            "logged_at": None if self.logged_at is None else utc(self.logged_at),
            "level": self.level,
            "tag": self.tag,
            "correlation_id": self.correlation_id,
            "message": self.text,
        }


class LoggedErrors:
    """The latest errors, and how many there were."""

    def __init__(self) -> None:
        self._latest: deque[LoggedError] = deque(maxlen=KEPT)
        self._room = EACH_ROUND
        self.total = 0
        self.not_shown = 0

    def take(self, entry: LogEntry, said: Facts, at: float) -> LoggedError | None:
        """Take one error; None when it is only counted because too many came since the last round."""
        self.total += 1
        if self._room == 0:
            self.not_shown += 1
            return None
        self._room -= 1
        text = error_text(entry, said)
        error = LoggedError(
            at=at,
            logged_at=said.at if said.at is not None else entry.at,
            source=entry.source,
            level=said.level or entry.level,
            tag=said.tag,
            correlation_id=said.correlation_id,
            text=text,
            shape=shape(text.encode("utf-8", "replace")),
        )
        self._keep(error)
        return error

    def next_round(self) -> None:
        """Let as many be reported one by one as before."""
        self._room = EACH_ROUND

    def latest(self) -> Iterator[LoggedError]:
        """Return the errors, the newest first."""
        return reversed(self._latest)

    def _keep(self, new: LoggedError) -> None:
        for back in range(1, min(_NEAR, len(self._latest)) + 1):
            old = self._latest[-back]
            if (old.source, old.tag, old.shape) == (new.source, new.tag, new.shape):
                del self._latest[-back]
                new = replace(new, count=old.count + 1)
                break
        self._latest.append(new)


def error_text(entry: LogEntry, said: Facts) -> str:
    """Write in one line what was said, and of a traceback its last line, which names the error."""
    fields = said.fields if said.tag is not None else {}
    text = said.message
    if said.tag == "FALLBACK":
        origin, goal = (_place(fields, end) for end in ("from_", "to_"))
        text = f"{origin} > {goal}: {fields.get('why') or '?'}" if origin and goal else text
    elif fields:
        what = [_place(fields), fields.get("fault") or fields.get("verdict"), fields.get("detail")]
        text = ": ".join(str(part) for part in what if part) or text
    last = entry.raw.rpartition(b"\n")[2] if b"Traceback (most recent" in entry.raw else b""
    if last:
        text = f"{text}: {last.decode('utf-8', 'replace').strip()}"
    return " ".join(text[: _TEXT_CHARS * 2].split())[:_TEXT_CHARS]


def _place(fields: Any, end: str = "") -> str:
    return " on ".join(str(fields[end + key]) for key in ("model", "node") if fields.get(end + key))


class LogsView(Record, kw_only=True):
    """What was read so far: its sources and lines, the latest errors (newest first), how many there were."""

    sources: tuple[str, ...] = ()
    lines: int = 0
    left_out: int = 0
    latest_errors: tuple[LoggedError, ...] = ()
    errors: int = 0
    not_shown: int = 0

    def as_json(self) -> dict[str, Any]:
        return {
            "sources": list(self.sources),
            "lines": self.lines,
            "left_out": self.left_out,
            "errors": self.errors,
            "errors_not_shown": self.not_shown,
        }


class LogWatch:
    """Reads logs, and sums up what they tell.

    `areas` may hold `requests` and `errors`. `start` runs a reader until the watch ends. `wall` is epoch
    seconds.
    """

    def __init__(
        self,
        config: Config,
        areas: Collection[str],
        *,
        wall: Callable[[], float],
        emit: Emit,
        note: Callable[[Note], None],
        start: Callable[[Coroutine[None, None, None]], object],
    ) -> None:
        self._areas, self._wall, self._emit, self._note, self._start = areas, wall, emit, note, start
        self._began = wall()
        self._readers: list[Reader] = []
        self._own: Reader | None = None
        self._errors = LoggedErrors()
        self._room = REQUESTS_EACH_ROUND
        self._requests = RequestTracker(
            lost_s=2 * config.budgets.total_s,
            slow_s=config.watch.slow_request_s,
            urls={node.name: node.url for node in config.nodes}
            | {agent.name: agent.url for agent in config.agents},
        )

    def follow(self, source: LogSource, *, is_own: bool = False) -> None:
        """Read a source from now on; of opskit's own log the past counts too."""
        tail = HISTORY_LINES if is_own else 0
        reader = Reader(source, on_entry=self._take, on_note=self._note, tail=tail)
        self._readers.append(reader)
        self._own = reader if is_own else self._own
        self._start(reader.run())

    async def look(self) -> None:
        """Tell which requests have ended without a line of their own, once the past is read."""
        if self._own is not None:
            await self._own.caught_up.wait()
        self._errors.next_round()
        self._room = REQUESTS_EACH_ROUND
        for change in self._requests.expire(self._wall()):
            self._tell(change)

    def view(self) -> LogsView:
        return LogsView(
            sources=tuple(reader.source.name for reader in self._readers),
            lines=sum(reader.lines for reader in self._readers),
            left_out=sum(reader.left_out for reader in self._readers),
            latest_errors=tuple(self._errors.latest()),
            errors=self._errors.total,
            not_shown=self._errors.not_shown,
        )

    def requests(self) -> Summary | None:
        """Sum up the last minutes; None where requests are not watched."""
        return self._requests.summary(self._wall()) if "requests" in self._areas else None

    def _take(self, entry: LogEntry) -> None:
        said = facts(entry.raw)
        # The clocks and zones of other programs are not relied on.
        is_own = self._own is not None and entry.source == self._own.source.name
        at = entry.at if is_own and entry.at is not None else self._wall()
        if "requests" in self._areas:
            for change in self._requests.take(said, at):
                self._tell(change)
        is_error = (said.level or entry.level) in ("error", "critical") or said.tag == "FALLBACK"
        if is_error and "errors" in self._areas and at >= self._began:
            logged_error = self._errors.take(entry, said, at)
            if logged_error is not None:
                self._emit("error", logged_error.as_json())

    def _tell(self, change: RequestChange) -> None:
        if change.at >= self._began and self._room > 0:
            self._room -= 1
            self._emit("request", change.as_json())
