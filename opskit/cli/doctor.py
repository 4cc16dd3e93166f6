"""`opskit doctor`: what is wrong at the root, what follows from it, and what to type first."""

import contextlib
import functools
import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from opskit.cli import context, render
from opskit.cli.options import SharedOptions, shares, simulated
from opskit.doctor.cause import AREAS, KNOWN, Cause
from opskit.errors import UsageError
from opskit.records import replace
from opskit.result import Finding, Status, plain_document
from opskit.text import counted, listing

if TYPE_CHECKING:
    from opskit.doctor.diagnosis import Attributed, Diagnosis
    from opskit.doctor.fixing import Fixed

#: The worst first.
_MARKS = {
    Status.FAIL: ("✗", "bold red"),
    Status.WARN: ("!", "yellow"),
    Status.INCONCLUSIVE: ("?", "magenta"),
    Status.PASS: ("✓", "green"),
    Status.SKIP: ("-", "dim"),
}


@shares("sandbox")
def doctor(
    shared: SharedOptions,
    fix: Annotated[bool, "Offer the safe fixes, one by one, and look again after each."] = False,
    yes: Annotated[bool, "--yes", "-y", "With --fix: do not ask."] = False,
    dry_run: Annotated[bool, "With --fix: print the commands and run none."] = False,
    deep: Annotated[bool, "Send one long prompt to a loaded Ollama model: is it read whole?"] = False,
    list_: Annotated[bool, "--list", "List the causes that it knows."] = False,
    verbose: Annotated[bool, "--verbose", "-v", "Show every check with its seconds."] = False,
) -> None:
    """Name the causes of what is wrong, and what to type.

    Examines configuration, machine, network, Docker, nodes, agents and requests.
    Loads, pins and changes nothing. Exits 0 (nothing is wrong), 1 (causes found), 3 (nothing was judged).
    """
    if list_:
        rows = [(cause.id, cause.area, cause.looks_at) for cause in KNOWN]
        known = [dict(zip(("id", "area", "looks_at"), row, strict=True)) for row in rows]
        page = functools.partial(render.table, ("cause", "area", "looks at"), rows)
        shared.show(plain_document("doctor", known=known), page)
        return
    if (yes or dry_run) and not fix:
        raise UsageError("--yes and --dry-run belong to --fix", remedy="`opskit doctor --fix --dry-run`")
    asking = functools.partial(_ask, yes=yes, dry_run=dry_run) if fix else None
    diagnosis, fixed = context.run(_doctor(asking, shared, deep=deep))
    done = {"fixed": [fix.as_json() for fix in fixed]} if fixed else {}
    content = {**diagnosis.as_json(), **done}
    shared.end(diagnosis.exit, content, lambda: _page(diagnosis, fixed, verbose=verbose))


def _ask(cause: Cause, *, yes: bool, dry_run: bool) -> bool:
    """Put the question of a fix. Without a terminal nothing is allowed unless `yes` says so."""
    if cause.fix is None:
        return False
    render.note(f"{cause.title}\n  {render.printable(cause.fix.text)}")
    if dry_run or yes:
        return not dry_run
    if not sys.stdin.isatty():
        render.note("  not run: there is no terminal to ask on; --yes runs it without a question")
        return False
    return typer.confirm("  run it?", default=False, err=True)


async def _doctor(
    asking: Callable[[Cause], bool] | None, shared: SharedOptions, *, deep: bool
) -> "tuple[Diagnosis, Sequence[Fixed]]":
    """Examine where a person at a terminal can watch; then make the fixes that are allowed."""
    from opskit.diagnose.known_secrets import read_known_secrets
    from opskit.diagnose.redaction import Redactor
    from opskit.doctor.examination import examine
    from opskit.doctor.target import examination_target

    target = examination_target(
        shared.config, environ=os.environ, cwd=Path.cwd(), platform=sys.platform, deep=deep
    )
    redactor = Redactor(read_known_secrets(target.config, target.environ, target.cwd))
    target = replace(target, mask=redactor.text)
    quiet = shared.json or not sys.stderr.isatty()
    async with contextlib.AsyncExitStack() as stack:
        if shared.sandbox:
            staged = await stack.enter_async_context(simulated(target.config))
            target = replace(target, loaded=replace(target.loaded, config=staged))
        with contextlib.ExitStack() as shown:
            steps: list[Callable[[str], None]] = []
            diagnosis = await examine(
                target,
                on_start=lambda total: steps.append(shown.enter_context(render.progress(total, quiet=quiet))),
                on_finding=lambda finding: steps[0](finding.check),
            )
        if asking is None:
            return diagnosis, ()
        from opskit.doctor.fixing import fix

        return await fix(target, diagnosis, asking)


def _page(diagnosis: "Diagnosis", fixed: "Sequence[Fixed]", *, verbose: bool) -> None:
    """Causes, then areas; with `verbose` every check."""
    for fix in fixed:
        result = "fixed" if fix.gone else f"not fixed{': ' + fix.detail if fix.detail else ''}"
        render.line(f"{result}: {fix.command}")
    if fixed:
        render.line("")
    _head(diagnosis)
    for finding in diagnosis.open if not diagnosis.entries else ():
        if finding.remedy:
            render.line(f"next: {render.printable(finding.remedy)}")
    for number, entry in enumerate(diagnosis.roots, 1):
        render.line("")
        _cause(diagnosis, entry, f"{number:>2}. ")
    render.line("")
    for area in AREAS:
        findings = [finding for finding in diagnosis.findings if diagnosis.areas.get(finding.check) == area]
        if findings:
            mark, style = _MARKS[min((finding.status for finding in findings), key=list(_MARKS).index)]
            render.paragraph(f"[{mark}] {area:<14}", _summary(findings), style=style)
    if verbose:
        render.line("")
        render.findings(diagnosis.findings, advice=False)


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
    for finding in passed:
        name = finding.check.removeprefix("node ").removeprefix("agent ")
        parts.append(f"{name}: {finding.detail}" if finding.detail else name)
    return "; ".join(parts)


def _head(diagnosis: "Diagnosis") -> None:
    open_checks = [finding.check for finding in diagnosis.open if finding.status is Status.INCONCLUSIVE]
    unclear = f"{counted(len(open_checks), 'check')} could not be judged" if open_checks else ""
    took = f" ({counted(len(diagnosis.findings), 'check')} in {diagnosis.seconds:.1f} s)"
    if diagnosis.is_bare and not diagnosis.entries:
        render.line(f"No model server is there, and none is configured{took}", style="magenta")
    elif not diagnosis.judged and not diagnosis.entries:
        render.line(f"Nothing could be judged{took}", style="magenta")
    elif not diagnosis.entries and open_checks:
        names = listing(open_checks)
        render.line(f"No cause was found, but {unclear}: {names}{took}", style="magenta")
    elif not diagnosis.entries:
        render.line(f"Nothing is wrong{took}", style="green")
    else:
        roots, behind = len(diagnosis.roots), len(diagnosis.entries) - len(diagnosis.roots)
        follows = f", and {behind} that {'follows' if behind == 1 else 'follow'} from them" if behind else ""
        also = f"; {unclear}" if unclear else ""
        render.line(f"{counted(roots, 'cause')}{follows}{also}{took}", style="bold")


def _cause(diagnosis: "Diagnosis", entry: "Attributed", head: str) -> None:
    cause = entry.cause
    mark, style = _MARKS[cause.status]
    indent = " " * len(head)
    render.paragraph(f"{head}[{mark}] ", cause.title, style=style)
    for sentence in cause.evidence:
        render.paragraph(f"{indent}    ", sentence)
    names, explained = diagnosis.explained(entry), ""
    by_name = {finding.check: finding for finding in diagnosis.findings}
    unclear = [name for name in names if by_name[name].status is Status.INCONCLUSIVE]
    if unclear:
        explained = (
            f"because of it {counted(len(unclear), 'check')} could not be judged: {', '.join(unclear)}"
        )
    elif len(names) > 1:
        explained = f"explains {counted(len(names), 'check')}: {', '.join(names)}"
    if explained:
        render.paragraph(f"{indent}    ", explained, style="dim")
    _following(diagnosis, entry, f"{indent}    ")
    if cause.remedy:
        # It is there to be copied: no line end is put in.
        render.line(f"{indent}    next: {render.printable(cause.remedy)}")
    if cause.fix is not None and cause.fix.safe:
        render.paragraph(f"{indent}    ", "`opskit doctor --fix` offers to do it", style="dim")


def _following(diagnosis: "Diagnosis", entry: "Attributed", indent: str) -> None:
    for child in diagnosis.below(entry.cause.key):
        render.paragraph(f"{indent}→ ", child.cause.title)
        _following(diagnosis, child, f"{indent}  ")
