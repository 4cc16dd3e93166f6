"""What was asked of `opskit logs`, and the short way for files whose bytes can go straight to the output."""

import os
import shutil
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from opskit.cli import render
from opskit.errors import OpskitError, UsageError
from opskit.logs.files import FileSource, files
from opskit.logs.record import LEVELS
from opskit.logs.scan import plain_events, plain_lines, write_plain
from opskit.logs.select import EntryFilter, moment
from opskit.logs.tag_search import STANDARD_TAGS, ripgrep


@dataclass(frozen=True, slots=True)
class LogOptions:
    """What `opskit logs` was asked for. `form` is text, raw or json."""

    specs: tuple[str, ...]
    selection: EntryFilter
    tail: int | None
    around: int
    follow: bool
    form: str


def conditions(
    *,
    tags: Sequence[str] = (),
    grep: Sequence[str] = (),
    exclude: Sequence[str] = (),
    identifier: str | None = None,
    level: str | None = None,
    everything: bool = False,
    since: str | None = None,
    until: str | None = None,
) -> EntryFilter:
    """The conditions of the options. Raises UsageError for each that cannot be used."""
    wanted = tuple(name.strip() for group in tags for name in group.split(",") if name.strip())
    known = next((one for one in LEVELS if one == level), None)
    if level is not None and known is None:
        raise UsageError(f"{level!r} is no level", remedy=f"levels are {', '.join(LEVELS)}")
    if not (wanted or grep or identifier or level or everything):
        wanted = STANDARD_TAGS
    now = datetime.now().astimezone()
    found = EntryFilter(
        wanted,
        tuple(grep),
        tuple(exclude),
        identifier,
        known,
        moment(since, now) if since else None,
        moment(until, now) if until else None,
    )
    found.check()
    return found


def plainly(asked: LogOptions) -> bool | None:
    """Write what is wanted straight from plain files; None when the way is not that short.

    It is for plain selections on ordinary files, one file or raw output, and no terminal.
    """
    if asked.follow or asked.around or asked.form == "json" or not asked.selection.is_plain:
        return None
    if not asked.specs or any(not Path(spec).is_file() for spec in asked.specs):
        return None
    sources = [source for spec in asked.specs for source in files(spec)]
    if asked.form == "text" and (len(sources) > 1 or sys.stdout.isatty()):
        return None
    try:
        if not all(source.is_plain for source in sources):
            return None
    except OpskitError:
        return None  # The other sources are shown by the longer way.
    written = sum(_written(source, asked) for source in sources)
    if not written:
        nothing_found(asked, [source.name for source in sources])
    return bool(written)


def _written(source: FileSource, asked: LogOptions) -> int:
    raw = asked.form == "raw"
    program = shutil.which("rg") if raw and asked.tail is None and asked.selection.tags else None
    if program is not None:
        found = ripgrep(program, str(source.path), asked.selection.tags, sys.stdout.fileno())
        if found is not None:
            return int(found)
    with source.opened() as descriptor:
        return write_plain(
            descriptor,
            source.tail_start(descriptor, asked.tail),
            os.fstat(descriptor).st_size,
            asked.selection,
            sys.stdout.fileno(),
            find=plain_lines if raw else plain_events,
            workers=os.cpu_count() or 1,
        )


def nothing_found(asked: LogOptions, sources: Sequence[str]) -> None:
    """Say what was searched: sources, conditions, window."""
    names = ", ".join(dict.fromkeys(sources)) or "no source"
    times = []
    if asked.selection.since is not None:
        times.append(f"since {datetime.fromtimestamp(asked.selection.since).astimezone():%Y-%m-%d %H:%M:%S}")
    if asked.selection.until is not None:
        times.append(f"until {datetime.fromtimestamp(asked.selection.until).astimezone():%Y-%m-%d %H:%M:%S}")
    if asked.tail is not None:
        times.append(f"in the last {asked.tail} lines of each")
    window = f" {' '.join(times)}" if times else ""
    render.note(f"nothing found: {asked.selection.describe()} in {names}{window}")
