"""What `opskit logs` does behind its options: sources are opened, entries drawn, reports printed."""

import contextlib
import os
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from opskit.cli import render
from opskit.cli.log_query import Asked, nothing_found
from opskit.config.load import load
from opskit.logs.record import Entry, Facts, facts
from opskit.logs.resolve import resolve
from opskit.logs.show import Break, Shown, followed, once
from opskit.logs.source import Note, Source, Window
from opskit.system.logfile import LOG_NAME


async def show(asked: Asked, config: str | None) -> bool:
    """Print what is wanted; whether there was any."""
    sources = await open_sources(asked.specs, config, follow=asked.follow)
    window = Window(asked.selection.since, asked.selection.until, asked.tail)
    printer = _Printer(asked.form, many=len({source.name for source in sources}) > 1)
    if asked.follow:
        items = followed(sources, asked.selection, window)
    else:
        items = once(sources, asked.selection, window, asked.around)
    async with contextlib.aclosing(items) as stream:
        async for item in stream:
            printer.put(item)
            if asked.follow:
                printer.flush()
    printer.flush()
    if not printer.count:
        nothing_found(asked, [source.name for source in sources])
    return bool(printer.count)


async def open_sources(specs: Sequence[str], config: str | None, *, follow: bool) -> list[Source]:
    """The sources that were named, or the default ones; what was left out goes to stderr."""
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

    def __init__(self, form: str, *, many: bool) -> None:
        self._form = form
        self._many = many
        self.count = 0

    def put(self, item: Shown) -> None:
        if isinstance(item, Break):
            if self._form == "text":
                render.log_break()
            return
        if isinstance(item, Note):
            if self._form == "json":
                render.log_json({"source": item.source, "at": _iso(item.at), "note": item.text})
            else:
                render.note(f"-- {item.source}: {render.printable(item.text)}")
            return
        self.count += 1
        if self._form == "json":
            render.log_json(_document(item, facts(item.raw)))
        elif self._form == "raw":
            render.log_bytes(item.raw + b"\n")
        else:
            render.log_line(item.source if self._many else "", item.raw, lambda: facts(item.raw).level)

    def flush(self) -> None:
        render.log_flush()


def _document(entry: Entry, read: Facts) -> dict[str, Any]:
    return {
        "source": entry.source,
        "at": _iso(entry.at if entry.at is not None else read.at),
        "tag": read.tag,
        "level": read.level,
        "correlation_id": read.correlation_id,
        "message": read.message,
        "fields": dict(read.fields),
        "raw": entry.raw.decode("utf-8", "backslashreplace"),
    }


def _iso(at: float | None) -> str | None:
    if at is None:
        return None
    return datetime.fromtimestamp(at, UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")
