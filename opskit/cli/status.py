"""`opskit status`: how recovery stands, and whether it runs at all."""

import os
import sys
import time
from collections.abc import Mapping
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from opskit.cli import context, render
from opskit.cli.options import SharedOptions, shares
from opskit.result import Status
from opskit.text import counted, span

if TYPE_CHECKING:
    from opskit.config.schema import Config
    from opskit.recovery.status import Overview, Schedule, TargetStatus

_COLUMNS = ("target", "result", "circuit", "repairs in 24 h", "next try", "changes")
_UNUSUAL = (Status.FAIL, Status.WARN, Status.INCONCLUSIVE)


@shares()
def status(
    shared: SharedOptions,
    test_notice: Annotated[
        bool, typer.Option(help="Send a test notice through every channel instead.")
    ] = False,
) -> None:
    """Show how recovery stands: last run, repairs, pauses.

    Nothing is asked but files; the scheduler only when recovery has not run for long. Exits 0 (fine), 1
    (something is given up, broken or overdue), 3 (it never ran, or could not judge).
    """
    loaded = shared.load()
    if test_notice:
        from opskit.recovery.notifier import trial

        report = context.run(trial(loaded.notices, os.environ, sys.platform, time.time))
        shared.end(report.exit, report.as_json(), lambda: render.findings(report.findings))
    from opskit.recovery.status import overview

    content = overview(loaded, Path(loaded.state_dir), time.time(), lambda: _schedule(loaded))
    shared.end(content.report.exit, content.as_json(), lambda: _show(content))


def _schedule(config: "Config") -> "Schedule | None":
    from opskit.schedule.status import recovery_schedule

    return context.run(recovery_schedule(config, os.environ))


def _show(overview: "Overview") -> None:
    """Print a page. A column is left out while it has nothing unusual."""
    findings = overview.report.findings
    render.line(render.printable(_last_run(overview)))
    if overview.targets:
        render.line("")
        rows = [_row(target) for target in overview.targets]
        shown = [index for index in range(len(_COLUMNS)) if index < 2 or any(row[index] for row in rows)]
        render.table([_COLUMNS[index] for index in shown], [[row[index] for index in shown] for row in rows])
    causes = [f"{target.target}: {target.cause}" for target in overview.targets if target.cause]
    causes += [
        f"{finding.check}: {finding.target} {finding.detail}"
        for finding in findings
        if finding.check not in ("target", "last run")
    ]
    repairs = [_repair(line, overview.now) for line in reversed(overview.repairs)]
    advice = [
        f"{finding.target} ({finding.state}): {finding.remedy}"
        for finding in findings
        if finding.remedy and finding.status in _UNUSUAL
    ]
    for lines in (causes, repairs, list(dict.fromkeys(advice))):
        if lines:
            render.line("")
        for text in lines:
            render.line(render.printable(text))


def _last_run(overview: "Overview") -> str:
    from opskit.recovery.status import moment

    finding, last = overview.report.findings[0], overview.last
    if last is None:
        return finding.detail
    counts = ", ".join(f"{count} {word.replace('_', ' ')}" for word, count in last.counts.items())
    commands = f"{counted(last.mutations, 'command')} in {last.seconds:.1f} s"
    text = f"last run: {span(overview.age_s or 0.0)} ago, exit {last.exit}: {counts}; {commands}"
    if finding.state == "overdue":
        text = f"{finding.detail}\n{text}"
    schedule = overview.schedule
    if schedule is not None and schedule.next_run is not None:
        text += f"; the next one at {moment(schedule.next_run, overview.now)}"
    return text


def _row(target: "TargetStatus") -> tuple[str, ...]:
    """A cell is empty where there is nothing unusual."""
    from opskit.recovery.budget import RepairCircuit

    result = "" if target.result is None else target.result.replace("_", " ")
    next_try = ""
    if target.next_try_s is not None:
        next_try = f"in {span(target.next_try_s)}" if target.next_try_s >= 1 else "next run"
    changes = f"{target.changes_percent:.0f}%" if target.changes_percent else ""
    return (
        target.target,
        "paused" if target.paused and result in ("", "ok") else result,
        "" if target.circuit is RepairCircuit.CLOSED else target.circuit.replace("_", " "),
        str(target.repairs_24h or ""),
        next_try,
        f"{changes} flapping" if target.flapping else changes,
    )


def _repair(line: Mapping[str, Any], now: float) -> str:
    from opskit.recovery.status import moment

    try:
        at = moment(datetime.fromisoformat(str(line.get("at"))).timestamp(), now)
    except (ValueError, OverflowError):
        at = "some time"
    commands = line.get("commands")
    shown = f": `{'; '.join(map(str, commands))}`" if isinstance(commands, list) and commands else ""
    ends = {"repair_ended": str(line.get("result")), "repair_begins": "began, and never ended"}
    end = ends.get(str(line.get("event")), "cut off").replace("_", " ")
    return f"{at} {line.get('target')} {end}{shown}"
