"""`opskit quality`: is this generated code fit to be used, and where is it not?"""

import sys
from typing import Annotated

import typer

from opskit.cli import context, render
from opskit.cli.options import SharedOptions, shares
from opskit.errors import UsageError
from opskit.quality.rules import Quality, find_ruff, judged
from opskit.quality.source import read


@shares()
def quality(
    shared: SharedOptions,
    paths: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="FILE|FOLDER|-...",
            help="Python, a Markdown answer with code blocks, a folder of *.py; `-` is standard input.",
        ),
    ] = None,
    strict: Annotated[bool, "Let warnings fail."] = False,
    limit: Annotated[int, typer.Option(min=0, help="Show so many places; 0 shows all.")] = 20,
) -> None:
    """Judge generated code without running it.

    Reads syntax, docstrings, type hints, dangerous calls and likely bugs. A syntax error or a dangerous call
    fails, the rest warns. Dangerous are eval, exec, __import__, shells and any other process, unpickling,
    unsafe YAML, requests without a timeout, passwords in the code, and more.
    """
    paths = paths or ([] if sys.stdin.isatty() else ["-"])
    if not paths or ("-" in paths and sys.stdin.isatty()):
        raise UsageError("there is no code", remedy="`opskit quality FILE`, or pipe an answer in")
    reading = read(paths, sys.stdin.buffer)
    result = context.run(judged(reading, binary=find_ruff(), strict=strict))
    shared.end(result.report.exit, result.as_json(), lambda: _show(result, limit))


def _show(result: Quality, limit: int) -> None:
    findings = result.report.findings
    target = findings[0].target
    render.line(render.printable(target))
    rows = []
    for finding in findings:
        category = finding.check if finding.target == target else f"{finding.check} {finding.target}"
        rows.append((category, finding.status.value, str(finding.evidence.get("count", "")), finding.detail))
    render.table(("category", "status", "found", "detail"), rows)
    shown = result.issues[: limit or None]
    if shown:
        render.line("")
    render.lines(f"{at.source}:{at.line}:{at.column}: {at.rule} {at.message}" for at in shown)
    if len(shown) < len(result.issues):
        render.line(f"... and {len(result.issues) - len(shown)} more (`--limit 0` shows all)")
    remedies = dict.fromkeys((finding.check, finding.remedy) for finding in findings if finding.remedy)
    if remedies:
        render.line("")
    for check, remedy in remedies:
        render.line(f"{check}: {remedy}")
