"""The options of `opskit logs`, and the short way for files whose bytes can go straight to the output."""

import os
import shutil
import sys
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path

from opskit.cli import render
from opskit.cli.inputs import choice
from opskit.errors import OpskitError, UsageError
from opskit.logs.files import FileSource, distinct, files
from opskit.logs.levels import LEVELS, level_of
from opskit.logs.scan import plain_events, plain_lines, write_plain
from opskit.logs.select import EntryFilter, moment
from opskit.logs.tag_search import STANDARD_TAGS, ripgrep
from opskit.records import Record


class LogOptions(Record):
    """What `opskit logs` was asked for. `form` is text, raw or json; `context` counts events around each."""

    specs: tuple[str, ...]
    selection: EntryFilter
    tail: int | None
    context: int
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
    names = tuple(name.strip() for group in tags for name in group.split(",") if name.strip())
    at_least = level_of(level) if level else None
    if at_least is None:
        choice(level, LEVELS, "level")
    if not (names or grep or identifier or level or everything):
        names = STANDARD_TAGS
    now = datetime.now().astimezone()
    selection = EntryFilter(
        tags=names,
        grep=tuple(grep),
        exclude=tuple(exclude),
        identifier=identifier,
        level=at_least,
        since=moment(since, now) if since else None,
        until=moment(until, now) if until else None,
    )
    selection.check()
    begin, end = selection.since, selection.until
    if begin is not None and end is not None and begin >= end:
        raise UsageError(
            f"--since {since} is not before --until {until}",
            remedy="a duration counts back from now: `--since 10m --until 5m` is five minutes",
        )
    return selection


def write_directly(options: LogOptions) -> bool | None:
    """Write what is wanted straight from plain files; None when the way is not that short.

    It is for plain selections on ordinary files, one file or raw output, and no terminal.
    """
    if options.follow or options.context or options.form == "json" or not options.selection.is_plain:
        return None
    if not options.specs or any(not Path(spec).is_file() for spec in options.specs):
        return None
    sources = distinct([source for spec in options.specs for source in files(spec)])
    if options.form == "text" and (len(sources) > 1 or sys.stdout.isatty()):
        return None
    try:
        if not all(source.is_plain and source.envelope is None for source in sources):
            return None
    except OpskitError:
        return None  # The other sources are shown by the longer way.
    written = sum(_written(source, options) for source in sources)
    if not written:
        nothing_found(options, [source.name for source in sources])
    return bool(written)


def _written(source: FileSource, options: LogOptions) -> int:
    raw = options.form == "raw"
    program = shutil.which("rg") if raw and options.tail is None and options.selection.tags else None
    if program is not None:
        matched = ripgrep(program, str(source.path), options.selection.tags, sys.stdout.fileno())
        if matched is not None:
            return int(matched)
    with source.opened() as descriptor:
        return write_plain(
            descriptor,
            source.tail_start(descriptor, options.tail),
            os.fstat(descriptor).st_size,
            options.selection,
            sys.stdout.fileno(),
            find=plain_lines if raw else plain_events,
            workers=os.cpu_count() or 1,
        )


def nothing_found(options: LogOptions, sources: Sequence[str]) -> None:
    """Say what was searched: sources, conditions, window."""
    searched = ", ".join(dict.fromkeys(sources)) or "no source"
    times = []
    for word, at in (("since", options.selection.since), ("until", options.selection.until)):
        if at is not None:
            times.append(f" {word} {datetime.fromtimestamp(at).astimezone():%Y-%m-%d %H:%M:%S}")
    if options.tail is not None:
        times.append(f" in the last {options.tail} lines of each")
    hint = ". Next: `--all` shows every line" if options.selection.tags == STANDARD_TAGS else ""
    render.note(f"nothing found: {options.selection.describe()} in {searched}{''.join(times)}{hint}")
