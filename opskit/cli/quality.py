"""`opskit quality`: is this generated code fit to be used, and where is it not?"""

import sys
from typing import TYPE_CHECKING, Annotated

import typer

from opskit.cli import context, render
from opskit.cli.options import SharedOptions, shares
from opskit.errors import UsageError

if TYPE_CHECKING:
    from opskit.quality.rules import Quality


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
    strict: Annotated[bool, typer.Option(help="Let warnings fail.")] = False,
    limit: Annotated[int, typer.Option(min=0, help="Show so many places; 0 shows all.")] = 20,
) -> None:
    """Judge generated code without running it.

    Reads syntax, docstrings, type hints, dangerous calls and likely bugs. A syntax error or a dangerous call
    fails, the rest warns. Dangerous are eval, exec, __import__, shells and any other process, unpickling,
    unsafe YAML, requests without a timeout, passwords in the code, and more.
    """
    from opskit.quality.rules import find_ruff, judged
    from opskit.quality.source import read

    reading = read(_given(paths or []), sys.stdin.buffer)
    result = context.run(judged(reading, binary=find_ruff(), strict=strict))
    shared.end(result.report.exit, result.as_json(), lambda: _show(result, limit))


def _given(paths: list[str]) -> list[str]:
    if not paths and not sys.stdin.isatty():
        return ["-"]
    if not paths or ("-" in paths and sys.stdin.isatty()):
        raise UsageError("there is no code", remedy="`opskit quality FILE`, or pipe an answer in")
    return paths


def _show(result: "Quality", limit: int) -> None:
    findings = result.report.findings
    target = findings[0].target
    render.line(render.printable(target))
    render.table(
        ("category", "status", "found", "detail"),
        [
            (
                finding.check if finding.target == target else f"{finding.check} {finding.target}",
                finding.status.value,
                str(finding.evidence.get("count", "")),
                finding.detail,
            )
            for finding in findings
        ],
    )
    shown = result.issues[: limit or None]
    if shown:
        render.line("")
    for issue in shown:
        render.line(
            render.printable(f"{issue.source}:{issue.line}:{issue.column}: {issue.rule} {issue.message}")
        )
    if len(shown) < len(result.issues):
        render.line(f"... and {len(result.issues) - len(shown)} more (`--limit 0` shows all)")
    remedies = dict.fromkeys((finding.check, finding.remedy) for finding in findings if finding.remedy)
    if remedies:
        render.line("")
    for check, remedy in remedies:
        render.line(f"{check}: {remedy}")
