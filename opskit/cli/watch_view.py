"""What `opskit watch` shows on a terminal: lines of styled pieces for a size, out of a view. Pure.

A narrow terminal loses columns and a low one rows, the least telling first; what is left out is counted.
"""

import sys
from collections import Counter
from collections.abc import Sequence
from datetime import datetime

from rich.cells import cell_len

from opskit.checks.container_assessment import ContainerCondition
from opskit.checks.model_rows import LoadedModel
from opskit.llm.fit import gib
from opskit.records import Record
from opskit.result import Status
from opskit.text import span
from opskit.watch.containers import ContainersView
from opskit.watch.logs import LoggedError, LogsView
from opskit.watch.machine import MachineView
from opskit.watch.requests import Summary
from opskit.watch.targets import TargetView
from opskit.watch.watching import View

Piece = tuple[str, str]
Line = list[Piece]

LEAST = (40, 10)
_STATUS_STYLES = {"pass": "green", "warn": "yellow", "fail": "bold red", "inconclusive": "magenta"}
_GAP = "  "
_REQUEST_COLUMNS = ("  model", "node", "running", "done", "failed", "fallback", "median", "max", "last fault")
_TITLE = "bold cyan"
#: Less of a last, flexible column tells nothing.
_FLEXIBLE = 16


class ViewSection(Record):
    """Lines that belong together: a title, then rows. `least` rows are kept as long as there is room.

    `short` are the rows where there is no room for all of them, the most telling first.
    """

    title: Line
    rows: list[Line]
    least: int = 1
    short: list[Line] | None = None

    def lines(self, room: int) -> list[Line]:
        """Return as many as fit; the title tells how many do not."""
        if len(self.rows) + 1 <= room:
            return [self.title, *self.rows]
        shown = (self.rows if self.short is None else self.short)[: max(0, room - 1)]
        more = (f"  (+{len(self.rows) - len(shown)} lines)", "dim")
        return [[self.title[0], more, *self.title[1:]], *shown][:room]


def lines(view: View, width: int, height: int, quits: str = "q quits") -> list[Line]:
    """Return the whole screen, at most `height` lines. `quits` says how to leave it."""
    if width < LEAST[0] or height < LEAST[1]:
        text = f"{quits}; {width} x {height} is too small, {LEAST[0]} x {LEAST[1]} will do"
        return [[(text, "yellow")]]
    parts = (
        _targets(view, width),
        _machine(view.machine, width),
        _requests(view.requests, width),
        _containers(view.containers, width),
        _errors(view.logs, view.notes, width),
    )
    sections = [part for part in parts if part is not None]
    room = height - 1
    spaced = sum(len(part.rows) + 2 for part in sections) <= room
    shown = _shared(sections, room - (len(sections) if spaced else 0))
    result = [_header(view, width, quits)]
    for part, share in zip(sections, shown, strict=True):
        if spaced:
            result.append([])
        result += part.lines(share)
    return result[:height]


def _shared(sections: Sequence[ViewSection], room: int) -> list[int]:
    """Share the lines among sections: first the least of each, then in their order all that they want."""
    shares = [0] * len(sections)
    for least in (1, None, sys.maxsize):
        for number, part in enumerate(sections):
            goal = min(len(part.rows), part.least if least is None else least) + 1
            more = min(max(0, goal - shares[number]), room)
            shares[number] += more
            room -= more
    return shares


def _header(view: View, width: int, quits: str) -> Line:
    clock = datetime.fromtimestamp(view.at).astimezone()
    head = f"opskit watch  every {view.every_s:g} s  {clock:%H:%M:%S}"
    well = sum(target.answers and not target.failed for target in view.targets)
    answers = f"{well} of {len(view.targets)} answer" if view.targets else ""
    tail = "  ".join(filter(None, (answers, f"{view.skipped} looks skipped" * bool(view.skipped), quits)))
    space = width - len(head) - len(tail)
    return [(head, "bold"), (" " * space, ""), (tail, "dim")] if space >= len(_GAP) else [(head, "bold")]


def _targets(view: View, width: int) -> ViewSection | None:
    if not view.targets:
        return None
    models = view.requests.models if view.requests is not None else ()
    # A green page says little: what requests met there stands beside it (ops facts 0.1).
    ailing = {row.node: f"the last call of {row.model}: {row.last_fault}; " for row in models if row.ails}
    # The age and the seconds go first; what it is called and its state stay.
    rows = columns(
        [_target_row(target, view.now, ailing.get(target.name, "")) for target in view.targets],
        width,
        drop=(3, 2),
    )
    short = sorted(zip(view.targets, rows, strict=True), key=lambda pair: not pair[0].failed)
    result: list[Line] = []
    for target, line in zip(view.targets, rows, strict=True):
        loaded, age_s = target.loaded_now(view.now)
        is_old = age_s is not None and age_s > 2 * view.every_s + 5
        age = f"seen {span(age_s, rounded=True)} ago" if is_old and age_s is not None else ""
        result += [line, *_models(loaded, width, age)]
    return ViewSection([("nodes and agents", _TITLE)], result, len(result), short=[line for _, line in short])


def _target_row(target: TargetView, now: float, ails: str) -> list[Piece]:
    finding, status = target.finding, target.finding.status
    style = "yellow" if ails and not target.failed else _STATUS_STYLES.get(status.value, "")
    detail = finding.detail
    if target.levels is not None and "queue" not in finding.evidence:
        detail = ", ".join(f"{level} {'on' if on else 'off'}" for level, on in target.levels.items())
    if finding.remedy and (target.failed or status is Status.WARN):
        detail = f"{detail}. Next: {finding.remedy}"
    age_s = target.age_s(now)
    age = "" if age_s is None else f"{span(age_s, rounded=True)} ago, "
    return [
        (f"{'*' if target.required else ' '} {target.name}", "bold" if target.required else ""),
        (finding.state, style),
        (f"{finding.seconds:.3f} s" if target.answer is not None else "", "dim"),
        (f"{age}asking" if target.late else "", "yellow"),
        (ails + detail, "dim" if not ails and status in (Status.PASS, Status.SKIP) else ""),
    ]


def _models(loaded: Sequence[LoadedModel], width: int, age: str) -> list[Line]:
    rows: list[list[Piece]] = []
    for row in loaded:
        _, name, memory, share, _, work, remaining = ("" if cell == "?" else cell for cell in row.cells())
        remaining = {"never": "stays", "": "", "overdue": "overdue"}.get(remaining, f"expires in {remaining}")
        cells = (f"    {name}", memory, work, f"{share} on GPU" if share else "", remaining, age)
        rows.append(list(zip(cells, ("", "cyan", "", "dim", "dim", "yellow"), strict=True)))
    return columns(rows, width, drop=(3, 4, 5, 2))


def _machine(machine: MachineView | None, width: int) -> ViewSection | None:
    if machine is None:
        return None
    gauges = machine.gauges
    over = {warning.target for warning in machine.warnings}
    cpu = "cpu ?" if gauges.cpu_percent is None else f"cpu {gauges.cpu_percent:.0f} % of {gauges.cores}"
    texts = {
        "memory": f"{_GAP}memory {gauges.memory_percent:.0f} % of {gib(gauges.memory_total_bytes)}",
        "cpu": cpu,
    }
    texts |= {"swap": f"swap {gauges.swap_percent:.0f} %"} if gauges.swap_total_bytes else {}
    texts |= {f"disk {disk.path}": f"disk {disk.path} {disk.used_percent:.0f} %" for disk in gauges.disks}
    cells = [(text, "bold red" if target in over else "") for target, text in texts.items()]
    rows = columns([cells], width, drop=range(len(cells) - 1, 0, -1))
    for warning in machine.warnings:
        text = f"{_GAP}! {warning.target} is at {warning.value:.0f} %, over {warning.limit:g} %"
        users = ", ".join(f"{user.name} {user.pid} {gib(user.rss_bytes)}" for user in warning.users)
        rows.append([(text + (f": {users}" if users else ""), "bold yellow")])
        rows.append([(f"{_GAP}  Next: {warning.remedy}", "yellow")])
    return ViewSection([("machine", _TITLE)], rows, least=len(rows))


def _requests(summary: Summary | None, width: int) -> ViewSection | None:
    if summary is None:
        return None
    counts = [f"{summary.running} running", f"{summary.done} done"]
    names = {"failed": summary.failed, "lost": summary.lost, "with a fallback": summary.fallbacks}
    counts += [f"{count} {name}" for name, count in {**names, "slow": summary.slow}.items() if count]
    text = f"  {', '.join(counts)} in {span(summary.window_s, rounded=True)}"
    title: Line = [("requests", _TITLE), (text, "")]
    if not summary.models:
        return ViewSection(title, [], least=0)
    rows = [[(name, "dim") for name in _REQUEST_COLUMNS]]
    for row in summary.models:
        counts = [str(count or "") for count in (row.running, row.done, row.failed, row.fallbacks)]
        times = ["" if value is None else f"{value:.1f} s" for value in (row.median_s, row.max_s)]
        styles = ("", "", "cyan", "green", "bold red", "yellow", "", "yellow" if row.slow else "", "dim")
        cells = (_GAP + row.model, row.node, *counts, *times, row.last_fault or "")
        rows.append(list(zip(cells, styles, strict=True)))
    return ViewSection(title, columns(rows, width, drop=(8, 7, 5, 1, 2, 6)), least=3)


def _containers(containers: ContainersView | None, width: int) -> ViewSection | None:
    if containers is None:
        return None
    if containers.docker is False:
        return ViewSection([("containers", _TITLE), ("  Docker is not there", "dim")], [], least=0)
    known = sorted(containers.known, key=lambda container: (container.is_well, -container.at))
    count = Counter(container.condition for container in known)
    text = f"  {count.pop(ContainerCondition.WELL, 0)} well, {count.pop(ContainerCondition.SICK, 0)} not"
    text += "".join(f", {number} {condition}" for condition, number in sorted(count.items()))
    title: Line = [("containers", _TITLE), (text if known else "  no news", "")]
    rows: list[list[Piece]] = [
        [
            (f"{_GAP}{container.name}", ""),
            (container.state, "bold red" if container.condition is ContainerCondition.SICK else ""),
            (f"{container.restarts} restarts" if container.restarts else "", "yellow"),
            (_clock(container.at) if container.at else "", "dim"),
            (container.detail, "dim"),
        ]
        for container in known
        if not container.is_well or container.restarts
    ]
    return ViewSection(title, columns(rows, width, drop=(3, 2)), least=min(2, len(rows)))


def _errors(logs: LogsView, notes: Sequence[str], width: int) -> ViewSection:
    text = f"  {logs.errors} since the start" if logs.errors else "  none since the start"
    text += f", {logs.not_shown} not shown" if logs.not_shown else ""
    text += f"; {logs.left_out} lines left out" if logs.left_out else ""
    title: Line = [("errors", _TITLE), (text, "bold red" if logs.errors else "")]
    rows = columns(list(map(_error_row, logs.latest_errors)), width, drop=(2, 0))
    noted: list[Line] = [[(f"{_GAP}{note}", "dim")] for note in reversed(notes)]
    return ViewSection(title, [*rows, *noted], least=4 if rows else 1)


def _error_row(logged_error: LoggedError) -> list[Piece]:
    strong = logged_error.tag in ("LLM_CRASH", "LLM_ERROR") or logged_error.level == "critical"
    return [
        (f"{_GAP}{_clock(logged_error.at)}", "dim"),
        (f"x{logged_error.count}" if logged_error.count > 1 else "", "bold"),
        (logged_error.source[:24], "dim"),
        (logged_error.tag or logged_error.level or "", "red" if strong else "yellow"),
        (logged_error.text, ""),
    ]


def columns(rows: Sequence[Sequence[Piece]], width: int, drop: Sequence[int]) -> list[Line]:
    """Lay rows out as lines with their cells under one another; the last cell takes the rest of the width.

    A table of rich wraps its cells, and cannot give up columns in an order.

    Columns that are empty everywhere take no room; columns of `drop` go, in this order, until the others fit.
    """
    widths = [
        max(map(cell_len, texts)) for texts in zip(*([text for text, _ in row] for row in rows), strict=True)
    ]
    used = [at for at, most in enumerate(widths) if most]
    for dropped in drop:
        needed = (
            sum(widths[at] + len(_GAP) for at in used) - max(0, widths[used[-1]] - _FLEXIBLE) if used else 0
        )
        if needed <= width + len(_GAP):
            break
        used = [at for at in used if at != dropped]
    return [
        [
            (text + (" " * (widths[at] - cell_len(text)) + _GAP) * (at != used[-1]), style)
            for at in used
            for text, style in [row[at]]
        ]
        for row in rows
    ]


def _clock(at: float) -> str:
    return f"{datetime.fromtimestamp(at).astimezone():%H:%M:%S}"
