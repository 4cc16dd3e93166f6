"""The logs that a watch reads: requests and errors out of each source, bounded however fast they come."""

import asyncio
import contextlib
from collections import deque
from collections.abc import Callable, Collection, Coroutine, Sequence
from itertools import islice
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
from opskit.records import MutableRecord, Record, field, replace
from opskit.text import utc
from opskit.watch.event import Emit
from opskit.watch.requests import RequestChange, RequestTracker, Summary

#: A file that is further behind is gone on with near its end: news that are minutes old are none.
BEHIND_BYTES = 4 * 1024 * 1024
#: What of our own log is read at the start, to know the requests of the last minutes.
HISTORY_LINES = 2000
_SLICE = 500

TAGGED = EntryFilter(tags=("REQUEST", "REQUEST_END", "FALLBACK", "LLM_*"))
SEVERE = EntryFilter(level="error")
#: How many are reported one by one between two looks; further ones are counted.
EACH_ROUND = 100
KEPT = 200
#: So far back an equal error is looked for, to be counted instead of shown again.
_NEAR = 8
_TEXT_CHARS = 1000


def wanted(entry: LogEntry) -> bool:
    """Tell whether an event tells of a request or is an error."""
    may_be = entry.level is not None or (SEVERE.finder is not None and SEVERE.finder.search(entry.raw))
    return TAGGED.accepts(entry) or (bool(may_be) and SEVERE.accepts(entry))


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


class LogsView(MutableRecord, kw_only=True):
    """What was read so far: its sources and lines, the latest errors (newest first), how many there were.

    `left_out` counts lines that came too fast, `not_shown` errors that were only counted because too many
    came in one round; `room` is for how many this round has room.
    """

    sources: list[str] = field(default_factory=list)
    lines: int = 0
    left_out: int = 0
    latest_errors: deque[LoggedError] = field(default_factory=lambda: deque(maxlen=KEPT))
    errors: int = 0
    not_shown: int = 0
    room: int = EACH_ROUND

    def take(self, entry: LogEntry, said: Facts, at: float) -> LoggedError | None:
        """Take one error; None when it is only counted because too many came since the last round."""
        self.errors += 1
        if self.room == 0:
            self.not_shown += 1
            return None
        self.room -= 1
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
        for old in islice(self.latest_errors, _NEAR):
            if (old.source, old.tag, old.shape) == (error.source, error.tag, error.shape):
                self.latest_errors.remove(old)
                error = replace(error, count=old.count + 1)
                break
        self.latest_errors.appendleft(error)
        return error

    def as_json(self) -> dict[str, Any]:
        return {
            "sources": self.sources,
            "lines": self.lines,
            "left_out": self.left_out,
            "errors": self.errors,
            "errors_not_shown": self.not_shown,
        }


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


class LogWatch:
    """Reads logs, and sums up what they tell. Back pressure is their own: nothing piles up here.

    `areas` may hold `requests` and `errors`. `start` runs a reader until the watch ends. `wall` is epoch
    seconds. `caught_up` is set once what our own log held at the start is read.
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
        self._own: LogSource | None = None
        self._requests = RequestTracker(
            lost_s=2 * config.budgets.total_s,
            slow_s=config.watch.slow_request_s,
            urls={node.name: node.url for node in config.nodes}
            | {agent.name: agent.url for agent in config.agents},
        )
        self.state = LogsView()
        self.caught_up = asyncio.Event()

    def follow(self, source: LogSource, *, is_own: bool = False) -> None:
        """Read a source from now on; of opskit's own log the past counts too.

        A file that does not exist yet is waited for: all that it will hold is new.
        """
        window = Window(tail=HISTORY_LINES if is_own else 0, behind_bytes=BEHIND_BYTES)
        is_awaited = isinstance(source, FileSource) and not source.path.exists()
        self._own = source if is_own else self._own
        self.state.sources.append(source.name)
        self._start(self._read(source, replace(window, since=0.0, tail=None) if is_awaited else window))

    async def look(self) -> None:
        """Tell which requests have ended without a line of their own, once the past is read."""
        if self._own is not None:
            await self.caught_up.wait()
        self.state.room = EACH_ROUND
        self._tell(self._requests.expire(self._wall()))

    def requests(self) -> Summary | None:
        """Sum up the last minutes; None where requests are not watched."""
        return self._requests.summary(self._wall()) if "requests" in self._areas else None

    async def _read(self, source: LogSource, window: Window) -> None:
        """Read without end. What stops a source is reported as a note; it never ends the watch."""
        grouper, is_awaited = Grouper(), window.since is not None
        try:
            async with contextlib.aclosing(settled(source.follow(window), grouper)) as batches:
                async for batch in batches:
                    # That an awaited file is not there yet is no news.
                    is_awaited = is_awaited and all(isinstance(item, Note) for item in batch)
                    if not is_awaited:
                        await self._take(source, batch)
                    if source is self._own and not grouper.open:
                        self.caught_up.set()
        except OpskitError as error:
            self._note(Note(source.name, None, f"not read any more: {error.message}"))
        finally:
            if source is self._own:
                self.caught_up.set()

    async def _take(self, source: LogSource, batch: Batch) -> None:
        """Take what is wanted, and let others work in between.

        A file is left for as long as it was worked on: what it misses by that is left out and counted, while
        any other source would only be further behind.
        """
        clock = asyncio.get_running_loop().time
        for begin in range(0, len(batch), _SLICE):
            began = clock()
            for item in batch[begin : begin + _SLICE]:
                if isinstance(item, LeftOut):
                    self.state.left_out += item.lines
                elif isinstance(item, Note):
                    self._note(item)
                else:
                    self.state.lines += item.raw.count(b"\n") + 1
                    if wanted(item):
                        self._take_entry(item, is_own=source is self._own)
            await asyncio.sleep(clock() - began if isinstance(source, FileSource) else 0)

    def _take_entry(self, entry: LogEntry, *, is_own: bool) -> None:
        said = facts(entry.raw)
        # The clocks and zones of other programs are not relied on.
        at = entry.at if is_own and entry.at is not None else self._wall()
        if "requests" in self._areas:
            self._tell(self._requests.take(said, at))
        is_error = (said.level or entry.level) in ("error", "critical") or said.tag == "FALLBACK"
        if is_error and "errors" in self._areas and at >= self._began:
            logged_error = self.state.take(entry, said, at)
            if logged_error is not None:
                self._emit("error", logged_error.as_json())

    def _tell(self, changes: Sequence[RequestChange]) -> None:
        for change in changes:
            if change.at >= self._began:
                self._emit("request", change.as_json())
