"""What `opskit watch` shows on a terminal: lines of styled pieces for a size, out of a view. Pure.

A narrow terminal loses columns and a low one rows, the least telling first; what is left out is counted.
"""

import unicodedata
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from opskit.checks.model_rows import LoadedModel
from opskit.llm.fit import gib
from opskit.watch.complaints import Complaint
from opskit.watch.requests import Summary
from opskit.watch.targets import TargetView
from opskit.watch.view import View

Piece = tuple[str, str]
Line = list[Piece]

LEAST = (40, 10)
_STATUS_STYLES = {"pass": "green", "warn": "yellow", "fail": "bold red", "inconclusive": "magenta"}
_GAP = "  "
_TITLE = "bold cyan"
#: Less of a last, flexible column tells nothing.
_FLEXIBLE = 16


@dataclass(frozen=True, slots=True)
class ViewSection:
    """Lines that belong together: a title, then rows. `least` rows are kept as long as there is room.

    `short` are the rows where there is no room for all of them, the most telling first.
    """

    title: Line
    rows: list[Line]
    least: int = 1
    short: list[Line] | None = None

    def lines(self, room: int) -> list[Line]:
        """As many as fit; the title tells how many do not."""
        if len(self.rows) + 1 <= room:
            return [self.title, *self.rows]
        kept = (self.rows if self.short is None else self.short)[: max(0, room - 1)]
        more = (f"  (+{len(self.rows) - len(kept)} lines)", "dim")
        return [[self.title[0], more, *self.title[1:]], *kept][:room]


def lines(view: View, width: int, height: int, quits: str = "q quits") -> list[Line]:
    """The whole screen, at most `height` lines. `quits` says how to leave it."""
    if width < LEAST[0] or height < LEAST[1]:
        told = f"{quits}; {width} x {height} is too small, {LEAST[0]} x {LEAST[1]} will do"
        return [[(told, "yellow")]]
    sections = [
        part
        for part in (
            _targets(view, width),
            _machine(view, width),
            _requests(view.requests, width) if view.requests is not None else None,
            _containers(view, width),
            _errors(view, width),
        )
        if part is not None
    ]
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
    """How many lines each section gets: first its least, then in their order all that they want."""
    wanted = [len(part.rows) + 1 for part in sections]
    shares = [0] * len(sections)
    least = [min(want, part.least + 1) for want, part in zip(wanted, sections, strict=True)]
    for goals in ([min(want, 2) for want in wanted], least, wanted):
        for number, goal in enumerate(goals):
            more = min(max(0, goal - shares[number]), room)
            shares[number] += more
            room -= more
    return shares


def _header(view: View, width: int, quits: str) -> Line:
    clock = datetime.fromtimestamp(view.at).astimezone()
    left = f"opskit watch  every {view.every_s:g} s  {clock:%H:%M:%S}"
    well = sum(sight.answers and not sight.failed for sight in view.targets)
    told = f"{well} of {len(view.targets)} answer" if view.targets else ""
    skipped = f"  {view.skipped} looks skipped" if view.skipped else ""
    right = f"{told}{skipped}  {quits}".strip()
    space = max(2, width - len(left) - len(right))
    if len(left) + len(right) + 2 > width:
        return [(left, "bold")]
    return [(left, "bold"), (" " * space, ""), (right, "dim")]


def _targets(view: View, width: int) -> ViewSection | None:
    if not view.targets:
        return None
    models = view.requests.models if view.requests is not None else ()
    # A green page says little: what requests met there stands beside it (ops facts 0.1).
    ailing = {row.node: f"the last call of {row.model}: {row.fault}" for row in models if row.ails}
    rows = [_target_row(sight, ailing.get(sight.name)) for sight in view.targets]
    # The age and the seconds go first; what it is called and its state stay.
    drawn = columns(rows, width, drop=(3, 2))
    result: list[Line] = []
    short = sorted(zip(view.targets, drawn, strict=True), key=lambda pair: not pair[0].failed)
    for sight, line in zip(view.targets, drawn, strict=True):
        result.append(line)
        loaded, age = sight.loaded_now(view.now)
        old = age is not None and age > 2 * view.every_s + 5
        result += _models(loaded, width, f"seen {_span(age)} ago" if old and age is not None else "")
    title: Line = [("nodes and agents", _TITLE)]
    return ViewSection(title, result, len(result), [line for _, line in short])


def _target_row(sight: TargetView, ails: str | None) -> list[Piece]:
    found = sight.answer.finding if sight.answer is not None else None
    style = _STATUS_STYLES.get(sight.status.value, "")
    detail = found.detail if found is not None else "it has not answered yet"
    levels = sight.answer.levels if sight.answer is not None else None
    if levels is not None:
        detail = ", ".join(f"{level} {'on' if on else 'off'}" for level, on in levels.items())
    if found is not None and found.remedy and (sight.failed or sight.status.value == "warn"):
        detail = f"{detail}. Next: {found.remedy}"
    if ails is not None:
        detail = f"{ails}; {detail}"
    age = ""
    if sight.late and sight.age_s is not None:
        age = f"{_span(sight.age_s)} ago, asking"
    elif sight.late:
        age = "asking"
    mark = "* " if sight.required else "  "
    return [
        (f"{mark}{sight.name}", "bold" if sight.required else ""),
        (sight.state, style if ails is None or sight.failed else "yellow"),
        (f"{found.seconds:.3f} s" if found is not None else "", "dim"),
        (age, "yellow"),
        (detail, "dim" if ails is None and sight.status.value in ("pass", "skip") else ""),
    ]


def _models(loaded: Sequence[LoadedModel], width: int, age: str) -> list[Line]:
    rows: list[list[Piece]] = []
    for row in loaded:
        cells = row.cells()
        expiry = {"never": "stays", "?": ""}.get(cells[5], f"expires in {cells[5]}")
        rows.append(
            [
                (f"    {cells[1]}", ""),
                (cells[2] if cells[2] != "?" else "", "cyan"),
                (f"{cells[3]} on GPU" if cells[3] != "?" else "", "dim"),
                (expiry, "dim"),
                (age, "yellow"),
            ]
        )
    return columns(rows, width, drop=(2, 3, 4))


def _machine(view: View, width: int) -> ViewSection | None:
    gauges = view.gauges
    if gauges is None:
        return None
    over = {one.crossing.target for one in view.warned}

    def gauge(target: str, text: str) -> Piece:
        return (text, "bold red" if target in over else "")

    parts = [
        gauge("memory", f"memory {gauges.memory_percent:.0f} % of {gib(gauges.memory_total_bytes)}"),
        gauge(
            "cpu",
            "cpu ?" if gauges.cpu_percent is None else f"cpu {gauges.cpu_percent:.0f} % of {gauges.cores}",
        ),
    ]
    if gauges.swap_total_bytes:
        parts.append(gauge("swap", f"swap {gauges.swap_percent:.0f} %"))
    parts += [
        gauge(f"disk {disk.path}", f"disk {disk.path} {disk.used_percent:.0f} %") for disk in gauges.disks
    ]
    rows = flowed(parts, width)
    for one in view.warned:
        crossing = one.crossing
        told = f"{_GAP}! {crossing.target} is at {crossing.value:.0f} %, over {crossing.limit:g} %"
        users = ", ".join(f"{user.name} {user.pid} {gib(user.rss_bytes)}" for user in one.users)
        rows.append([(told + (f": {users}" if users else ""), "bold yellow")])
        rows.append([(f"{_GAP}  Next: {one.remedy}", "yellow")])
    return ViewSection([("machine", _TITLE)], rows, least=len(rows))


def _requests(summary: Summary, width: int) -> ViewSection:
    counts = [f"{summary.running} running", f"{summary.done} done"]
    counts += [
        f"{count} {name}" for name, count in (("failed", summary.failed), ("lost", summary.lost)) if count
    ]
    counts += [f"{summary.fallbacks} with a fallback"] if summary.fallbacks else []
    counts += [f"{summary.slow} slow"] if summary.slow else []
    title: Line = [("requests", _TITLE), (f"  {', '.join(counts)} in {_span(summary.window_s)}", "")]
    if not summary.models:
        return ViewSection(title, [], least=0)
    head: list[Piece] = [
        (name, "dim")
        for name in (
            "  model",
            "node",
            "running",
            "done",
            "failed",
            "fallback",
            "median",
            "max",
            "last fault",
        )
    ]
    rows = [
        [
            (f"{_GAP}{row.model}", ""),
            (row.node, ""),
            (str(row.running or ""), "cyan"),
            (str(row.done or ""), "green"),
            (str(row.failed or ""), "bold red"),
            (str(row.fallbacks or ""), "yellow"),
            (_seconds(row.median_s), ""),
            (_seconds(row.max_s), "yellow" if row.slow else ""),
            (row.fault or "", "dim"),
        ]
        for row in summary.models
    ]
    return ViewSection(title, columns([head, *rows], width, drop=(8, 7, 5, 1, 2, 6)), least=3)


def _containers(view: View, width: int) -> ViewSection | None:
    if view.containers is None:
        return None
    if view.docker is False:
        return ViewSection([("containers", _TITLE), ("  Docker is not there", "dim")], [], least=0)
    known = sorted(view.containers, key=lambda one: (one.is_well, -one.at))
    shown = [one for one in known if not one.is_well or one.restarts]
    well, sick = sum(one.is_well for one in known), sum(one.is_sick for one in known)
    others = Counter(one.condition.value for one in known if not one.is_well and not one.is_sick)
    rest = "".join(f", {count} {condition}" for condition, count in sorted(others.items()))
    title: Line = [
        ("containers", _TITLE),
        (f"  {well} well, {sick} not{rest}" if known else "  no news", ""),
    ]
    rows: list[list[Piece]] = [
        [
            (f"{_GAP}{one.name}", ""),
            (one.state, "bold red" if one.is_sick else ""),
            (f"{one.restarts} restarts" if one.restarts else "", "yellow"),
            (_clock(one.at) if one.at else "", "dim"),
            (one.detail, "dim"),
        ]
        for one in shown
    ]
    return ViewSection(title, columns(rows, width, drop=(3, 2)), least=min(2, len(rows)))


def _errors(view: View, width: int) -> ViewSection:
    told = f"  {view.errors} since the start" if view.errors else "  none since the start"
    told += f", {view.not_shown} not shown" if view.not_shown else ""
    told += f"; {view.left_out} lines left out" if view.left_out else ""
    title: Line = [("errors", _TITLE), (told, "bold red" if view.errors else "")]
    rows: list[Line] = columns([_error_row(one) for one in view.complaints], width, drop=(2, 0))
    notes: list[Line] = [[(f"{_GAP}{note}", "dim")] for note in reversed(view.notes)]
    if not rows:
        return ViewSection(title, notes, least=1)
    return ViewSection(title, [*rows, *notes], least=4)


def _error_row(one: Complaint) -> list[Piece]:
    strong = one.tag in ("LLM_CRASH", "LLM_ERROR") or one.level == "critical"
    return [
        (f"{_GAP}{_clock(one.at)}", "dim"),
        (f"x{one.count}" if one.count > 1 else "", "bold"),
        (one.source[:24], "dim"),
        (one.tag or one.level or "", "red" if strong else "yellow"),
        (one.text, ""),
    ]


def columns(rows: Sequence[Sequence[Piece]], width: int, drop: Sequence[int]) -> list[Line]:
    """Rows as lines with their cells under one another; the last cell takes the rest of the width.

    Columns that are empty everywhere take no room; those of `drop` go, in this order, until the others fit.
    """
    if not rows:
        return []
    count = len(rows[0])
    widths = [max(cells(row[at][0]) for row in rows) for at in range(count)]
    kept = [at for at in range(count) if widths[at]]
    for gone in drop:
        if _needed(kept, widths) <= width:
            break
        kept = [at for at in kept if at != gone]
    result: list[Line] = []
    for row in rows:
        line: Line = []
        for at in kept:
            text, style = row[at]
            if at != kept[-1]:
                text += " " * (widths[at] - cells(text)) + _GAP
            line.append((text, style))
        result.append(line)
    return result


def _needed(kept: Sequence[int], widths: Sequence[int]) -> int:
    fixed = sum(widths[at] + len(_GAP) for at in kept[:-1])
    return fixed + min(_FLEXIBLE, widths[kept[-1]]) if kept else 0


def flowed(parts: Sequence[Piece], width: int) -> list[Line]:
    """Pieces side by side, on as many lines as they need."""
    result: list[Line] = []
    used = width + 1
    for text, style in parts:
        if used + len(_GAP) + cells(text) > width:
            result.append([])
            used = 0
        result[-1].append((_GAP + text, style))
        used += len(_GAP) + cells(text)
    return result


def cells(text: str) -> int:
    """How many columns a terminal takes for a text."""
    if text.isascii():
        return len(text)
    return sum(
        0 if unicodedata.combining(char) else 2 if unicodedata.east_asian_width(char) in "WF" else 1
        for char in text
    )


def _clock(at: float) -> str:
    return f"{datetime.fromtimestamp(at).astimezone():%H:%M:%S}"


def _seconds(value: float | None) -> str:
    return "" if value is None else f"{value:.1f} s"


def _span(seconds: float) -> str:
    for unit, name in ((86_400, "d"), (3600, "h"), (60, "min")):
        if seconds >= 2 * unit:
            return f"{seconds / unit:.0f} {name}"
    return f"{seconds:.0f} s"
