"""What `opskit status` prints: the last run, the targets, what is unusual, what to do."""

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import TYPE_CHECKING, Any

from opskit.cli import render
from opskit.recovery.budget import RepairCircuit
from opskit.recovery.span import moment, span
from opskit.result import Status

if TYPE_CHECKING:
    from opskit.recovery.status import Overview, TargetStatus

_COLUMNS = ("target", "result", "circuit", "repairs in 24 h", "next try", "changes")
#: Columns that are left out while they have nothing to tell.
_QUIET = frozenset(_COLUMNS[2:])


def show(found: "Overview", *, as_json: bool) -> None:
    """One document, or a page."""
    if as_json:
        render.document(found.as_json())
        return
    report = found.report
    render.line(render.printable(_last_run(found)))
    if found.targets:
        render.line("")
        _table([_row(one) for one in found.targets])
    told = [f"{one.target}: {one.cause}" for one in found.targets if one.cause]
    told += [
        f"{one.check}: {one.target} {one.detail}"
        for one in report.findings
        if one.check not in ("target", "last run")
    ]
    for lines in (told, _repairs(found), _advice(found)):
        if lines:
            render.line("")
        for text in lines:
            render.line(render.printable(text))


def _advice(found: "Overview") -> list[str]:
    told = (Status.FAIL, Status.WARN, Status.INCONCLUSIVE)
    findings = [one for one in found.report.findings if one.remedy and one.status in told]
    return list(dict.fromkeys(f"{one.target} ({one.state}): {one.remedy}" for one in findings))


def _last_run(found: "Overview") -> str:
    finding = found.report.findings[0]
    last = found.last
    if last is None:
        return finding.detail
    counts = ", ".join(f"{count} {word.replace('_', ' ')}" for word, count in last.counts.items())
    commands = f"{last.mutations} command{'' if last.mutations == 1 else 's'} in {last.seconds:.1f} s"
    text = f"last run: {span(found.age_s or 0.0)} ago, exit {last.exit}: {counts}; {commands}"
    if finding.state == "overdue":
        text = f"{finding.detail}\n{text}"
    schedule = found.schedule
    if schedule is not None and schedule.next_run is not None:
        text += f"; the next one at {moment(schedule.next_run, found.now)}"
    return text


def _row(one: "TargetStatus") -> dict[str, str]:
    """A cell is empty where there is nothing unusual."""
    changes = f"{one.history.share:.0%}" if one.history.share else ""
    return {
        "target": one.target,
        "result": _result(one),
        "circuit": "" if one.circuit is RepairCircuit.CLOSED else one.circuit.value.replace("_", " "),
        "repairs in 24 h": str(one.repairs or ""),
        "next try": "" if one.next_try_s is None else _soon(one.next_try_s),
        "changes": f"{changes} flapping" if one.history.flapping else changes,
    }


def _result(one: "TargetStatus") -> str:
    told = "" if one.result is None else one.result.value.replace("_", " ")
    return "paused" if one.pause is not None and told in ("", "ok") else told


def _soon(seconds: float) -> str:
    return f"in {span(seconds)}" if seconds >= 1 else "next run"


def _table(rows: Sequence[dict[str, str]]) -> None:
    columns = [name for name in _COLUMNS if name not in _QUIET or any(row[name] for row in rows)]
    render.table(columns, [[row[name] for name in columns] for row in rows])


def _repairs(found: "Overview") -> list[str]:
    """The last repairs, the newest first."""
    return [_repair(line, found.now) for line in reversed(found.repairs)]


def _repair(line: Mapping[str, Any], now: float) -> str:
    try:
        at = moment(datetime.fromisoformat(str(line.get("at"))).timestamp(), now)
    except (ValueError, OverflowError):
        at = "some time"
    commands = line.get("commands")
    shown = f": `{'; '.join(map(str, commands))}`" if isinstance(commands, list) and commands else ""
    how = {"repair_ended": str(line.get("result")), "repair_begins": "began, and never ended"}
    word = how.get(str(line.get("event")), "cut off").replace("_", " ")
    return f"{at} {line.get('target')} {word}{shown}"
