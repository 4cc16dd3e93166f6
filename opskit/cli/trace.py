"""`opskit trace "goal" | show ID | list`: the path of a request as a waterfall."""

import re
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer

from opskit.cli import context, render
from opskit.cli.inputs import check_output, goal_text, name_of_model, write_output
from opskit.cli.options import LocalOption, ModelOption, SharedOptions, shares
from opskit.errors import OpskitError, UsageError
from opskit.result import SCHEMA_VERSION
from opskit.trace.store import Trace, TraceStore
from opskit.trace.waterfall import bar, headline, page, rows

_NAME_COLUMNS = 34
_SECONDS_COLUMNS = 9
_WIDEST_BAR = 60
_LISTED = 20
#: No goal looks so.
_ID = re.compile(r"[0-9a-f]{8}[0-9a-f-]*", re.IGNORECASE)


@shares("sandbox", "verbose")
def trace(
    shared: SharedOptions,
    words: Annotated[
        list[str],
        typer.Argument(
            metavar='"GOAL" | [show] ID | list',
            help="A goal to run and trace; the beginning of an id; `list`.",
        ),
    ],
    html: Annotated[Path | None, "Write one self-contained page as well."] = None,
    local: LocalOption = False,
    model: ModelOption = None,
    trajectory: Annotated[bool, "With `show`: the steps of the agent, with their results."] = False,
    source: Annotated[list[str] | None, "A log of an agent elsewhere, as for `logs`; repeatable."] = None,
    count: Annotated[int, typer.Option("--count", "-n", min=1, help="How many `list` shows.")] = _LISTED,
) -> None:
    """Show where the time of a request went.

    A waterfall of stages, model calls, attempts and waits. Every `opskit run` is traced;
    `opskit trace list` shows the newest ones.
    """
    if html is not None:
        check_output(html)
    if len(words) == 1 and _ID.fullmatch(words[0]):
        words = ["show", *words]
    match words:
        case ["list"]:
            _list(shared, count)
        case ["show", identifier] if trajectory:
            _show_trajectory(identifier, shared)
        case ["show", identifier]:
            _show(context.run(_trace_of(identifier, source or (), shared)), html, json=shared.json)
        case ["show"]:
            raise UsageError("which trace is to be shown?", remedy="`opskit trace list` shows the ids")
        case [goal]:
            context.run(_traced(goal, html, local, model, source or (), shared))
        case _:
            raise UsageError(
                f"{len(words)} words are no goal", remedy='put the goal in quotes: `opskit trace "your goal"`'
            )


async def _traced(
    goal: str,
    html: Path | None,
    local: bool,
    model: str | None,
    sources: Sequence[str],
    shared: SharedOptions,
) -> None:
    """Run a goal and show its trace, also when it failed."""
    from opskit.engine.goal import Goal, RunFailed
    from opskit.server.local_runs import LocalVictoria
    from opskit.tags import correlated

    async with shared.opened() as app:
        text = goal_text(goal, sys.stdin, app.config.limits.goal_bytes, lambda: None)
        app.engine.solver = LocalVictoria(app)
        failure: RunFailed | None = None
        with correlated() as identifier:
            try:
                wanted = Goal(text, "local" if local else "auto", name_of_model(model))
                result = await app.engine.run(wanted, None, render.note)
            except RunFailed as failed:
                failure = failed
            else:
                if not shared.json:
                    render.line(result.output.strip("\n"))
    traced = await _trace_of(identifier, sources, shared)
    if failure is not None and shared.json:
        failure.document["trace"] = traced.as_json()
    _show(traced, html, json=shared.json and failure is None, drawn=not shared.json)
    if failure is not None:
        raise failure


async def _trace_of(identifier: str, sources: Sequence[str], shared: SharedOptions) -> Trace:
    """Return a trace of the store with what an agent that sends no spans has logged, else what logs tell."""
    from opskit.cli.log_report import read_story
    from opskit.logs.request import completed, silent_agents, trace_of

    stored = TraceStore(Path(shared.load().state_dir)).find(identifier)
    if stored is not None and (shared.sandbox or not (sources or silent_agents(stored))):
        return stored
    try:
        story, _ = await read_story(stored.correlation_id if stored else identifier, sources, shared.config)
    except OpskitError as error:
        if stored is None:
            why = f"there is no trace whose id begins with {identifier}, and {error.message}"
            raise UsageError(why, remedy="`opskit trace list` shows the ids") from error
        render.note(f"note: the logs add nothing to the trace: {error.message}")
        return stored
    return trace_of(story) if stored is None else completed(stored, story)


def _list(shared: SharedOptions, count: int) -> None:
    from datetime import UTC, datetime

    traces = TraceStore(Path(shared.load().state_dir)).newest(count)
    entries = [entry.as_json() for entry in traces]
    for entry in entries:
        entry["span_count"] = len(entry.pop("spans"))

    def page() -> None:
        if not traces:
            render.note('no request was traced yet: `opskit trace "your goal"` runs one')
            return
        rows = []
        for entry in traces:
            at = f"{datetime.fromtimestamp(entry.start, UTC):%Y-%m-%d %H:%M:%S}"
            id_ = entry.correlation_id[:8]
            rows.append((at, id_, f"{entry.seconds:.3f}", entry.status.value, entry.goal))
        render.table(("started (UTC)", "id", "seconds", "status", "goal"), rows)

    shared.show({"schema_version": SCHEMA_VERSION, "command": "trace list", "traces": entries}, page)


def _show_trajectory(identifier: str, shared: SharedOptions) -> None:
    """Show what the agent of this machine did, line by line."""
    from opskit.agent.trajectory import read_trajectory

    folder = Path(shared.load().state_dir)
    stored = TraceStore(folder).find(identifier)
    name = identifier.strip().lower() if stored is None else stored.correlation_id
    lines = read_trajectory(folder, name)

    def page() -> None:
        for line in lines:
            render.heading(f"{line.get('kind')} {str(line.get('at', ''))[11:23]}")
            content = {key: str(value) for key, value in line.items() if key not in ("at", "kind")}
            for key, value in content.items():
                for number, text in enumerate(value.splitlines() or [""]):
                    render.line(f"  {'    ' if number else f'{key}: '}{render.printable(text)}")

    document = {"schema_version": SCHEMA_VERSION, "command": "trace trajectory", "lines": lines}
    shared.show(document, page)


def _show(trace_found: Trace, html: Path | None, *, json: bool, drawn: bool = True) -> None:
    if html is not None:
        write_output(html, page(trace_found))
        render.note(f"{html} written")
    if json:
        render.document({"schema_version": SCHEMA_VERSION, "command": "trace", **trace_found.as_json()})
    elif drawn:
        draw(trace_found)


def draw(trace_found: Trace) -> None:
    """Draw the waterfall: the note of a span stands behind its bar where there is room, else below."""
    drawn = rows(trace_found)
    names = [f"{'  ' * row.depth}{render.printable(row.span.name)}" for row in drawn]
    name_columns = min(_NAME_COLUMNS, max(map(len, names), default=0))
    columns = max(10, min(_WIDEST_BAR, render.width() - name_columns - _SECONDS_COLUMNS - 4))
    render.heading(f"trace {headline(trace_found)}")
    if trace_found.goal:
        render.paragraph("goal: ", trace_found.goal)
    for name, row in zip(names, drawn, strict=True):
        short = name if len(name) <= name_columns else f"{name[: name_columns - 1]}…"
        style = "red" if row.failed else ""
        line = f"{short:<{name_columns}}  {bar(row, columns)}  {row.seconds:>{_SECONDS_COLUMNS}}"
        render.line(line, style=style)
        if row.note:
            render.paragraph(f"{'  ' * (row.depth + 1)}", row.note, style="dim")
