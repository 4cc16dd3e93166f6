"""What `opskit logs` does behind its options: sources are opened, entries drawn, reports printed."""

import asyncio
import contextlib
import os
import sys
from collections.abc import AsyncIterator, Sequence
from datetime import UTC, datetime
from functools import partial
from pathlib import Path

from opskit.cli import render
from opskit.cli.inputs import has_input
from opskit.cli.log_query import LogOptions, nothing_found
from opskit.config.load import load
from opskit.logs.glob_source import GlobSource, resolve
from opskit.logs.record import LogEntry, facts
from opskit.logs.show import Break, Shown, followed, once
from opskit.logs.source import LogSource, Note, Unreadable, Window
from opskit.system.logfile import LOG_NAME
from opskit.system.output import reader_has_left
from opskit.text import counted

#: How often a follower asks whether anybody still reads.
_READER_S = 0.2
_SILENT = "note: standard input is open and silent; reading the default sources (`opskit logs -` waits)"


async def show(options: LogOptions, config: str | None) -> bool:
    """Print what is wanted; whether there was any and every source could be read."""
    sources = await open_sources(options.specs, config, follow=options.follow)
    window = Window(options.selection.since, options.selection.until, options.tail)
    unread = Unread(sources, as_json=options.form == "json")
    many = len({source.name for source in sources}) > 1 or any(isinstance(s, GlobSource) for s in sources)
    printer = _Printer(options.form, unread, many=many)
    if options.follow:
        async with _while_read(), contextlib.aclosing(followed(sources, options.selection, window)) as stream:
            async for item in stream:
                printer.put(item)
                render.flush()
    else:
        items = once(sources, options.selection, window, options.context)
        async with contextlib.aclosing(items) as stream:
            async for item in stream:
                printer.put(item)
    render.flush()
    if printer.untimed and options.selection.needs_time:
        render.note(
            f"note: {counted(printer.untimed, 'event')} shown without a time that can be read: "
            "--since and --until say nothing of them"
        )
    readable = [source.name for source in sources if source.name not in unread.names]
    if not printer.count and readable:
        nothing_found(options, readable)
    return bool(printer.count) and not unread.names


@contextlib.asynccontextmanager
async def _while_read() -> AsyncIterator[None]:
    """Raises BrokenPipeError once the reader of standard output has gone, though nothing is written to it."""
    loop = asyncio.get_running_loop()
    timer: asyncio.TimerHandle

    def look() -> None:
        nonlocal timer
        if reader_has_left(sys.stdout.fileno()):
            limit.reschedule(loop.time())
        else:
            timer = loop.call_later(_READER_S, look)

    try:
        async with asyncio.timeout(None) as limit:
            timer = loop.call_later(_READER_S, look)
            try:
                yield
            finally:
                timer.cancel()
    except TimeoutError:
        if limit.expired():
            raise BrokenPipeError from None
        raise


class Unread:
    """Passes on what is noted of sources, and says why one cannot be read, once and at once."""

    def __init__(self, sources: Sequence[LogSource], *, as_json: bool = False) -> None:
        self.names: list[str] = []
        self._alone = sources[0].name if len(sources) == 1 else None
        self._as_json = as_json

    def put(self, item: Note, *, useful: bool = False) -> None:
        """Raises the error of the only source there is, unless what was read of it is `useful`."""
        if not isinstance(item, Unreadable):
            if self._as_json:
                render.log_json({"source": item.source, "at": iso(item.at), "note": item.text})
            else:
                render.note(f"-- {item.source}: {render.printable(item.text)}")
            return
        if item.source == self._alone and not useful:
            raise item.error
        if item.source in self.names:
            return
        self.names.append(item.source)
        code, text = item.error.code, render.printable(item.text)
        if self._as_json:
            render.log_json({"source": item.source, "at": None, "note": item.text, "code": code})
        render.note(f"-- {item.source}: {code}: {text}. Next: {item.error.remedy}")


async def open_sources(specs: Sequence[str], config: str | None, *, follow: bool) -> list[LogSource]:
    """The sources that were named, else what is piped in, else the default ones.

    What was left out goes to stderr.
    """
    if not specs and has_input(sys.stdin, on_silence=partial(render.note, _SILENT)):
        specs = ("-",)
    # A configuration is needed only to find our own log.
    own = Path("/nonexistent")
    if not specs or "self" in specs or config is not None:
        own = Path(load(config, environ=os.environ, cwd=Path.cwd()).config.state_dir) / LOG_NAME
    sources, notes = await resolve(specs, own, follow=follow)
    for note in notes:
        render.note(f"note: left out: {note}")
    return sources


class _Printer:
    """Draws entries. Text for a terminal is made harmless; raw bytes stay as they are."""

    def __init__(self, form: str, unread: Unread, *, many: bool) -> None:
        self._form = form
        self._unread = unread
        self._many = many
        self.count = 0
        self.untimed = 0

    def put(self, item: Shown) -> None:
        if isinstance(item, Break):
            if self._form == "text":
                # As grep does, between two groups of lines with context.
                render.log_bytes(b"--\n")
            return
        if not isinstance(item, LogEntry):
            self._unread.put(item, useful=self.count > 0)
            return
        self.count += 1
        self.untimed += item.at is None
        if self._form == "json":
            read = facts(item.raw)
            render.log_json(
                {
                    "source": item.source,
                    "at": iso(item.at if item.at is not None else read.at),
                    "tag": read.tag,
                    "level": read.level or item.level,
                    "correlation_id": read.correlation_id,
                    "message": read.message,
                    "fields": dict(read.fields),
                    "raw": item.bytes_in_source.decode("utf-8", "backslashreplace"),
                }
            )
        elif self._form == "raw":
            render.log_bytes(item.bytes_in_source + b"\n")
        else:
            source = item.source if self._many else ""
            render.log_line(source, item.shown, lambda: facts(item.raw).level or item.level)


def iso(at: float | None) -> str | None:
    if at is None:
        return None
    return datetime.fromtimestamp(at, UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")
