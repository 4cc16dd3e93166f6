"""`opskit logs stats` and `opskit logs request`: reports over the same sources."""

import contextlib
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from opskit.cli import render
from opskit.cli.inputs import check_output, choice, write_output
from opskit.cli.log_query import conditions
from opskit.cli.log_view import Unread, iso, open_sources
from opskit.cli.options import SharedOptions
from opskit.errors import OpskitError
from opskit.logs.files import FileSource
from opskit.logs.packed import torn
from opskit.logs.record import LogEntry
from opskit.logs.request import Story, story
from opskit.logs.select import EntryFilter
from opskit.logs.show import Break, once
from opskit.logs.source import LogSource, Unreadable, Window
from opskit.logs.stats import Feeder, LogTally, tally_file
from opskit.logs.stats_report import as_json, as_markdown, rows_by, summary
from opskit.records import asdict
from opskit.result import plain_document

BREAKDOWNS = ("model", "node", "tag", "minute")


async def stats(
    specs: Sequence[str],
    by: str | None,
    since: str | None,
    until: str | None,
    markdown: str | None,
    config: str | None,
    *,
    json: bool,
) -> bool:
    """Print the statistics of the sources; whether there was a line at all and every source could be read."""
    choice(by, BREAKDOWNS, "breakdown")
    selection = conditions(everything=True, since=since, until=until)
    if markdown is not None:
        check_output(Path(markdown))
    sources = await open_sources(specs, config, follow=False)
    tally, unread = LogTally(), Unread(sources)
    for source in sources:
        try:
            tally.merge(await _tallied(source, selection, unread))
        except OpskitError as error:
            unread.put(Unreadable.of(source.name, error))
    if not tally.lines:
        readable = [source.name for source in sources if source.name not in unread.names]
        if readable:
            render.note(f"nothing to count in {', '.join(readable)}")
        return False
    if markdown is not None:
        write_output(Path(markdown), as_markdown(tally))
        render.note(f"{markdown} written")
    if json:
        head = {"ok": not unread.names, "status": "fail" if unread.names else "pass"}
        render.document(plain_document("logs stats", **head, unread=unread.names, stats=as_json(tally)))
    elif by is not None:
        columns, rows = rows_by(tally, by)
        render.table(columns, rows)
    else:
        for table in summary(tally):
            if table.rows:
                render.heading(table.heading)
            render.table(table.columns, table.rows)
    return not unread.names


async def request(identifier: str, specs: Sequence[str], shared: SharedOptions) -> bool:
    """Print everything of one request across the sources; whether every source could be read."""
    request_story, unread = await read_story(identifier, specs, shared.config)
    if shared.json:
        render.document({**_document(request_story), "unread": unread.names})
    else:
        _draw(request_story)
    return not unread.names


async def read_story(identifier: str, specs: Sequence[str], config: str | None) -> tuple[Story, Unread]:
    """Return what the sources tell of a request, and which of them could not be read."""
    sources = await open_sources(specs, config, follow=False)
    unread = Unread(sources)
    entries: list[LogEntry] = []
    # A beginning of an id must be distinguished from others: so lines are sought by it, not by the whole id.
    selection = EntryFilter(identifier=identifier.strip())
    async with contextlib.aclosing(once(sources, selection, Window())) as items:
        async for item in items:
            if isinstance(item, LogEntry):
                entries.append(item)
            elif not isinstance(item, Break):
                unread.put(item)
    return story(entries, identifier), unread


async def _tallied(source: LogSource, selection: EntryFilter, unread: Unread) -> LogTally:
    if isinstance(source, FileSource) and not selection.needs_time and source.envelope is None:
        packed: list[OpskitError] = []
        whole = tally_file(source.path, source=source.name, on_torn=lambda: packed.append(torn(source.path)))
        for error in packed:
            unread.put(Unreadable.of(source.name, error), useful=whole.lines > 0)
        return whole
    tally = LogTally()
    feeder = Feeder(tally, source.name)
    last: float | None = None
    async with contextlib.aclosing(
        once([source], selection, Window(selection.since, selection.until))
    ) as items:
        async for item in items:
            if isinstance(item, LogEntry):
                last = item.at
                feeder.push_event(item)
            elif not isinstance(item, Break):
                unread.put(item)
    feeder.close(last)
    return tally


def _draw(request_story: Story) -> None:
    render.heading(f"request {request_story.correlation_id}")
    if request_story.goal:
        render.line(f"goal: {render.printable(request_story.goal)}")
    rows = []
    for line in request_story.lines:
        at = "" if line.at is None else f"{datetime.fromtimestamp(line.at, UTC):%H:%M:%S.%f}"[:-3]
        after = "" if line.since_s is None else f"{line.since_s:.3f} s{' GAP' if line.gap else ''}"
        rows.append((at, after, line.source, line.tag or line.level or "", line.text))
    render.table(("time", "after", "source", "tag", "text"), rows)
    if request_story.attempts:
        render.heading("attempts")
    calls = []
    for attempt in request_story.attempts:
        seconds = "" if attempt.seconds is None else f"{attempt.seconds:.3f}"
        names = (str(attempt.number), attempt.node or "?", attempt.model or "?")
        calls.append((*names, attempt.fault or attempt.outcome, seconds, "yes" if attempt.fallback else ""))
    render.table(("", "node", "model", "outcome", "seconds", "fallback"), calls)
    outcome = request_story.state + (f" ({request_story.code})" if request_story.code else "")
    if request_story.answered or request_story.state == "running":
        outcome = "answered" if request_story.answered else "no answer is logged"
    total = "" if request_story.total_s is None else f" in {request_story.total_s:.3f} s"
    gaps = f", {len(request_story.gaps)} gaps" if request_story.gaps else ""
    sources = ", ".join(request_story.sources)
    render.line(f"{outcome}{total}; {len(request_story.lines)} lines from {sources}{gaps}")


def _document(request_story: Story) -> dict[str, Any]:
    """Everything of the story; a line as it stands in the log, whatever was read of it."""
    content, is_answered = asdict(request_story), request_story.answered
    attempt_names = ("number", "node", "model", "outcome", "fault", "seconds", "fallback")
    line_names = ("source", "since_s", "gap", "level", "tag")
    return plain_document(
        "logs request",
        ok=is_answered,
        status="pass" if is_answered else "inconclusive",
        **{name: content[name] for name in ("correlation_id", "goal", "code", "total_s", "sources")},
        state="answered" if is_answered else request_story.state,
        attempts=[{name: attempt[name] for name in attempt_names} for attempt in content["attempts"]],
        lines=[
            {name: line[name] for name in line_names}
            | {"at": iso(line["at"]), "raw": line["raw"].decode("utf-8", "backslashreplace")}
            for line in content["lines"]
        ],
    )
