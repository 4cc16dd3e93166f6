"""How a diagnosis looks: causes first, then a line for each area."""

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from opskit.cli import render
from opskit.result import Finding, Status, plain_document
from opskit.text import counted

if TYPE_CHECKING:
    from opskit.doctor.diagnosis import Attributed, Diagnosis
    from opskit.doctor.fixing import Fixed

_MARKS = {
    Status.PASS: ("✓", "green"),
    Status.WARN: ("!", "yellow"),
    Status.FAIL: ("✗", "bold red"),
    Status.INCONCLUSIVE: ("?", "magenta"),
    Status.SKIP: ("-", "dim"),
}


def page(diagnosis: "Diagnosis", fixed: "Sequence[Fixed]", *, verbose: bool) -> None:
    """Causes, then areas; with `verbose` every check."""
    for fix in fixed:
        result = "fixed" if fix.gone else f"not fixed{': ' + fix.detail if fix.detail else ''}"
        render.line(f"{result}: {fix.command}")
    if fixed:
        render.line("")
    _head(diagnosis)
    for number, entry in enumerate(diagnosis.roots, 1):
        render.line("")
        _cause(diagnosis, entry, f"{number:>2}. ")
    render.line("")
    for status, area, text in areas(diagnosis):
        mark, style = _MARKS[status]
        render.paragraph(f"[{mark}] {area:<14}", text, style=style)
    if verbose:
        render.line("")
        render.findings(diagnosis.findings, advice=False)


def document(diagnosis: "Diagnosis", fixed: "Sequence[Fixed]") -> None:
    content = diagnosis.as_json()
    if fixed:
        content["fixed"] = [fix.as_json() for fix in fixed]
    render.document(content)


def known(*, as_json: bool) -> None:
    from opskit.doctor.catalogue import KNOWN

    if as_json:
        rows = [{"id": cause.id, "area": cause.area, "looks_at": cause.looks_at} for cause in KNOWN]
        render.document(plain_document("doctor", known=rows))
        return
    render.table(("cause", "area", "looks at"), [(cause.id, cause.area, cause.looks_at) for cause in KNOWN])


def areas(diagnosis: "Diagnosis") -> "Iterator[tuple[Status, str, str]]":
    """One line for each area: its worst outcome, and what it comes to. Pure."""
    from opskit.doctor.catalogue import AREAS

    for area in AREAS:
        findings = [finding for finding in diagnosis.findings if diagnosis.areas.get(finding.check) == area]
        if findings:
            yield _worst(findings), area, _summary(findings)


def _worst(findings: "Sequence[Finding]") -> Status:
    present = {finding.status for finding in findings}
    order = (Status.FAIL, Status.WARN, Status.INCONCLUSIVE, Status.PASS, Status.SKIP)
    return next(status for status in order if status in present)


def _summary(findings: "Sequence[Finding]") -> str:
    """What is wrong or open by name; what is fine in its own words while there is room."""
    by_status: dict[Status, list[Finding]] = {status: [] for status in Status}
    for finding in findings:
        by_status[finding.status].append(finding)
    failed = [*by_status[Status.FAIL], *by_status[Status.WARN]]
    passed, inconclusive = by_status[Status.PASS], by_status[Status.INCONCLUSIVE]
    blocked = [finding.check for finding in inconclusive if finding.state == "not judged"]
    unclear = [finding for finding in inconclusive if finding.state != "not judged"]
    if not (failed or blocked or unclear or passed):
        # What was left out only because something else was says nothing of its own.
        return "; ".join(dict.fromkeys(finding.detail for finding in findings if finding.state != "left out"))
    parts = [f"wrong: {', '.join(finding.check for finding in failed)}"] if failed else []
    parts += [f"{finding.check}: {finding.detail}" for finding in unclear]
    parts += [f"not judged: {', '.join(blocked)}"] if blocked else []
    return "; ".join([*parts, *map(_said, passed)])


def _said(finding: "Finding") -> str:
    name = finding.check.removeprefix("node ").removeprefix("agent ")
    return f"{name}: {finding.detail}" if finding.detail else name


def _head(diagnosis: "Diagnosis") -> None:
    open_count = sum(finding.status is Status.INCONCLUSIVE for finding in diagnosis.open)
    unclear = f"; {counted(open_count, 'check')} could not be judged" if open_count else ""
    took = f" ({counted(len(diagnosis.findings), 'check')} in {diagnosis.seconds:.1f} s)"
    if not diagnosis.judged and not diagnosis.entries:
        render.line(f"Nothing could be judged{took}", style="magenta")
    elif not diagnosis.entries:
        render.line(f"Nothing is wrong{unclear}{took}", style="green")
    else:
        roots, behind = len(diagnosis.roots), len(diagnosis.entries) - len(diagnosis.roots)
        following = (
            f", and {behind} that {'follows' if behind == 1 else 'follow'} from them" if behind else ""
        )
        render.line(f"{counted(roots, 'cause')}{following}{unclear}{took}", style="bold")


def _cause(diagnosis: "Diagnosis", entry: "Attributed", head: str) -> None:
    cause = entry.cause
    mark, style = _MARKS[cause.status]
    indent = " " * len(head)
    render.paragraph(f"{head}[{mark}] ", cause.title, style=style)
    for sentence in cause.evidence:
        render.paragraph(f"{indent}    ", sentence)
    if explained := _explained(diagnosis, entry):
        render.paragraph(f"{indent}    ", explained, style="dim")
    _following(diagnosis, entry, f"{indent}    ")
    if cause.remedy:
        render.command(f"{indent}    next: ", cause.remedy)
    if cause.fix is not None and cause.fix.safe:
        render.paragraph(f"{indent}    ", "`opskit doctor --fix` offers to do it", style="dim")


def _following(diagnosis: "Diagnosis", entry: "Attributed", indent: str) -> None:
    for child in diagnosis.below(entry.cause.key):
        render.paragraph(f"{indent}→ ", child.cause.title)
        _following(diagnosis, child, f"{indent}  ")


def _explained(diagnosis: "Diagnosis", entry: "Attributed") -> str:
    """Which checks it explains, when that is more than its own one."""
    names = diagnosis.explained(entry)
    by_name = {finding.check: finding for finding in diagnosis.findings}
    unclear = [name for name in names if by_name[name].status is Status.INCONCLUSIVE]
    if unclear:
        return f"because of it {counted(len(unclear), 'check')} could not be judged: {', '.join(unclear)}"
    return f"explains {counted(len(names), 'check')}: {', '.join(names)}" if len(names) > 1 else ""
