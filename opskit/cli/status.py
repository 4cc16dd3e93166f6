"""`opskit status`: how recovery stands, and whether it runs at all."""

import os
import sys
import time
from collections.abc import Mapping
from datetime import datetime
from pathlib import Path
from typing import Annotated, Any

from opskit.cli import context, render
from opskit.cli.options import SharedOptions, shares
from opskit.recovery.budget import RepairCircuit
from opskit.recovery.status import Overview, Schedule, TargetStatus, moment, overview
from opskit.text import counted, span

_COLUMNS = ("target", "result", "circuit", "repairs in 24 h", "next try", "changes")


@shares()
def status(
    shared: SharedOptions,
    test_notice: Annotated[bool, "Send a test notice through every channel instead."] = False,
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

    def schedule() -> Schedule | None:
        from opskit.schedule.status import recovery_schedule

        return context.run(recovery_schedule(loaded, os.environ))

    content = overview(loaded, Path(loaded.state_dir), time.time(), schedule)
    shared.end(content.report.exit, content.as_json(), lambda: _show(content))


def _show(content: Overview) -> None:
    findings = content.report.findings
    render.line(render.printable(_last_run(content)))
    if content.targets:
        render.line("")
        render.table(_COLUMNS, list(map(_row, content.targets)))
    causes = [f"{target.target}: {target.cause}" for target in content.targets if target.cause]
    causes += [
        f"{finding.check}: {finding.target} {finding.detail}"
        for finding in findings
        if finding.check not in ("target", "last run")
    ]
    repairs = [_repair(line, content.now) for line in reversed(content.repairs)]
    for lines in (causes, repairs, list(dict.fromkeys(render.advice_of(findings)))):
        render.lines(["", *lines] if lines else ())


def _last_run(content: Overview) -> str:
    finding, last = content.report.findings[0], content.last
    if last is None:
        return finding.detail
    counts = ", ".join(f"{count} {word.replace('_', ' ')}" for word, count in last.counts.items())
    commands = f"{counted(last.mutations, 'command')} in {last.seconds:.1f} s"
    text = f"last run: {span(content.age_s or 0.0)} ago, exit {last.exit}: {counts}; {commands}"
    if finding.state == "overdue":
        text = f"{finding.detail}\n{text}"
    schedule = content.schedule
    if schedule is not None and schedule.next_run is not None:
        text += f"; the next one at {moment(schedule.next_run, content.now)}"
    return text


def _row(target: TargetStatus) -> tuple[str, ...]:
    """A cell is empty where there is nothing unusual."""
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
    try:
        at = moment(datetime.fromisoformat(str(line.get("at"))).timestamp(), now)
    except (ValueError, OverflowError):
        at = "some time"
    commands = line.get("commands")
    shown = f": `{'; '.join(map(str, commands))}`" if isinstance(commands, list) and commands else ""
    ends = {"repair_ended": str(line.get("result")), "repair_begins": "began, and never ended"}
    end = ends.get(str(line.get("event")), "cut off").replace("_", " ")
    return f"{at} {line.get('target')} {end}{shown}"
