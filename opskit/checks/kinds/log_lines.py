"""The kind that looks for a pattern in a log, of a file or of a container, over a window of time."""

import asyncio
import time
from collections.abc import Iterable
from datetime import UTC, datetime
from typing import Any

from opskit.checks.kinds.processes import Pattern
from opskit.checks.spec import CheckContext, Observation, kind
from opskit.config.fields import Seconds, Text, parameters
from opskit.errors import OpskitError
from opskit.records import MutableRecord
from opskit.text import counted, one_line

_SHOWN_CHARS = 300
_CONTAINER_TAIL = 20_000


@parameters
class LogParams:
    """`since` is how far back to look; without it the whole file, or the last lines of a container."""

    pattern: Pattern
    path: Text | None = None
    container: Text | None = None
    since: Seconds | None = None

    def __post_init__(self) -> None:
        if (self.path is None) == (self.container is None):
            raise ValueError("needs either path or container")


class _Tally(MutableRecord):
    """The entries that match; `untimed` counts entries that may lie outside of the window."""

    since: float | None = None
    untimed: int = 0
    count: int = 0
    first: Any = None
    last: Any = None

    def add(self, entries: Iterable[Any]) -> None:
        for entry in entries:
            if self.since is not None and entry.at is None:
                self.untimed += 1
            elif self.since is None or entry.at >= self.since:
                self.count += 1
                self.first = self.first or entry
                self.last = entry


@kind(
    "a pattern (RE2) is seen in a log, or is not, over a window of time",
    {
        "seen": "whether it is",
        "count": "in how many entries",
        "first": "the first of them",
        "last": "the last of them",
        "last_age_s": "seconds since the last, null without a time",
        "seconds": "how long it took",
        "error": "unreadable, or null",
    },
    {"seen": True},
    lambda p: str(p.path or p.container),
    timeout_s=30.0,
    imports=("opskit.logs.select",),
)
async def log_pattern(params: LogParams, context: CheckContext) -> Observation:
    now = time.time()
    since = now - params.since if params.since is not None else None
    try:
        if params.path is not None:
            tally = await asyncio.to_thread(_in_file, params, context, since)
        else:
            tally = await _in_container(params, context, since)
    except OpskitError as error:
        if error.code != "LOG_001":
            raise
        return Observation(
            {"error": "unreadable"}, problem=error.message, state="unreadable", code=error.code
        )
    values = {
        "seen": tally.count > 0,
        "count": tally.count,
        "first": _words(tally.first),
        "last": _words(tally.last),
        "last_age_s": now - tally.last.at if tally.last and tally.last.at is not None else None,
    }
    window = f" in the last {params.since:g} s" if params.since is not None else ""
    if tally.count:
        detail = f"/{params.pattern}/ is seen {counted(tally.count, 'time')}{window}, last: {values['last']}"
        return Observation(values, detail, state="seen")
    if tally.untimed:
        problem = f"/{params.pattern}/ is seen {tally.untimed} times, in lines without a time"
        return Observation(values, problem=problem, undecided=problem, state="unknown")
    return Observation(values, f"/{params.pattern}/ is not seen{window}", state="not seen")


def _in_file(params: LogParams, context: CheckContext, since: float | None) -> _Tally:
    from opskit.logs.files import FileSource
    from opskit.logs.select import EntryFilter

    source = FileSource(context.path(params.path or ""))
    tally = _Tally(since)
    tally.add(source.wanted(EntryFilter(grep=(params.pattern,))))
    return tally


async def _in_container(params: LogParams, context: CheckContext, since: float | None) -> _Tally:
    """Docker finds the window itself: it reads a long log from its beginning, a tail at once."""
    from opskit.logs.container import containers
    from opskit.logs.record import LogEntry
    from opskit.logs.select import EntryFilter
    from opskit.logs.source import Unreadable, Window

    selection = EntryFilter(grep=(params.pattern,))
    window = Window(since=since, tail=None if since is not None else _CONTAINER_TAIL)
    tally = _Tally()
    for source in await containers(params.container or "", docker=await context.survey.docker()):
        async for batch in source.read(window):
            for item in batch:
                if isinstance(item, Unreadable):
                    raise item.error
            tally.add(item for item in batch if isinstance(item, LogEntry) and selection.accepts(item))
    return tally


def _words(entry: Any) -> str | None:
    if entry is None:
        return None
    text = entry.raw.decode("utf-8", "replace").split("\n")[0]
    when = "" if entry.at is None else f"{datetime.fromtimestamp(entry.at, UTC):%Y-%m-%d %H:%M:%S} UTC "
    shown = one_line(text)[:_SHOWN_CHARS]
    return shown if shown.startswith(when[:10]) and when else f"{when}{shown}"
