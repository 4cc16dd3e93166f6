"""`opskit verify`: run a checklist and say what holds, in any of several formats."""

import contextlib
import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from opskit.checks import formats
from opskit.cli import context, render
from opskit.cli.inputs import choice, duration, write_output
from opskit.cli.options import SharedOptions, shares
from opskit.errors import UsageError
from opskit.result import plain_document

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Mapping, Sequence

    from opskit.app import App
    from opskit.checks.checklist import Checklist
    from opskit.checks.spec import Check
    from opskit.checks.verification import Verification
    from opskit.result import Report

DEFAULT_LIST = "stack"
_TABLE_ROWS = 500


@shares("sandbox")
def verify(
    shared: SharedOptions,
    file: Annotated[
        list[str] | None, typer.Argument(help="Checklists: paths, or names of checklists of opskit.")
    ] = None,
    tag: Annotated[list[str] | None, "Only checks with this tag; repeatable."] = None,
    name: Annotated[list[str] | None, "Only checks of this name (`*` allowed); repeatable."] = None,
    var: Annotated[list[str] | None, "NAME=VALUE", "Set a variable; repeatable."] = None,
    form: Annotated[str, "--format", "|".join(formats.FORMATS), "How to print the report."] = "text",
    output: Annotated[Path | None, "Write the report to a file instead."] = None,
    retry_timeout: Annotated[str, "Try again what did not pass, for so long (30s, 2m)."] = "0s",
    max_concurrent: Annotated[int, typer.Option(min=1, max=1000, help="How many checks run at once.")] = 50,
    schema: Annotated[bool, "Print the JSON schema of checklists."] = False,
    kinds: Annotated[bool, "List the kinds of checks."] = False,
    list_: Annotated[bool, "--list", "List checks without running them."] = False,
    add: Annotated[
        str | None, "KIND", "Write a check from the live state; arguments are its parameters: url=..."
    ] = None,
) -> None:
    """Run checklists.

    Exits 0 (all well), 1 (failed), 3 (could not be judged), 78 (no valid checklist).
    """
    if schema:
        from opskit.checks.check_shape import schema as schema_of_checklists

        render.document(schema_of_checklists())
        return
    if kinds:
        from opskit.checks.check_shape import kinds as all_kinds

        described = all_kinds()

        def page() -> None:
            for kind in described:
                render.line(f"{kind['kind']}: {kind['summary']}")
                render.lines(f"    with   {key}: {what}" for key, what in kind["with"].items())
                render.lines(f"    yields {key}: {meaning}" for key, meaning in kind["yields"].items())
                render.line(f"    without expect: {kind['expects']}; timeout {kind['timeout_s']:g} s")

        shared.show(plain_document("verify", kinds=described), page)
        return
    if add is not None:
        given = _assignments(file or [], "parameter", "write parameter=value")
        context.run(_add(shared, add, given, name[0] if name else None, output))
        return
    form = "json" if shared.json and form == "text" else choice(form, formats.FORMATS, "format")
    if list_ and not file:
        from opskit.checks.checklist import shipped

        names = list(shipped())
        shared.show(plain_document("verify", checklists=names), lambda: render.line("\n".join(names)))
        return
    variables = _assignments(var or [], "variable", "write --var name=value")
    retry_timeout_s = duration(retry_timeout, "--retry-timeout", zero=True)
    if not file:
        render.note(f"no checklist was named: running `{DEFAULT_LIST}`")

    from opskit.checks import runner
    from opskit.result import Report

    async def verified() -> int:
        from opskit.checks.checklist import ChecklistError

        async with _verification(shared) as verification:
            try:
                checklist = verification.checklist(file or [DEFAULT_LIST], variables)
            except ChecklistError as exc:
                for problem in exc.problems[1:20]:
                    render.note(f"also: {problem}")
                raise
            checks = checklist.choose(tags=tag or [], names=name or [])
            if list_:
                _print_checks(shared, checklist, checks)
                return 0
            async with _app(verification, shared) as app:
                findings = await runner.run(
                    checks, app.survey, max_concurrent=max_concurrent, retry_timeout_s=retry_timeout_s
                )
        return _print_report(Report("verify", findings), form, output)

    if status := context.run(verified()):
        raise typer.Exit(status)


@contextlib.asynccontextmanager
async def _verification(shared: SharedOptions) -> "AsyncIterator[Verification]":
    from opskit.checks.verification import Verification

    async with shared.configured() as loaded:
        yield Verification(loaded, os.environ, Path.cwd())


def _app(verification: "Verification", shared: SharedOptions) -> "App":
    from opskit.app import App

    environ, cwd = verification.variables, verification.cwd
    return App(verification.config, environ=environ, cwd=cwd, config_path=shared.config)


async def _add(
    shared: SharedOptions, kind: str, given: "Mapping[str, str]", name: str | None, output: Path | None
) -> None:
    """Print the check as text, or put it into the checklist `output`."""
    from opskit.checks.verification import appended

    async with _verification(shared) as verification, _app(verification, shared) as app:
        check = await verification.recorded(app.survey, kind, given, name=name)
    if output is None:
        render.piece(appended("", check))
        return
    before = output.read_text(encoding="utf-8") if output.is_file() else ""
    write_output(output, appended(before, check))
    render.note(f"{check['name']}: written to {output}")


def _assignments(given: "Sequence[str]", what: str, remedy: str) -> dict[str, str]:
    """The values of `name=value`, by name."""
    values = {}
    for text in given:
        name, equals, value = text.partition("=")
        if not equals or not name.isidentifier():
            raise UsageError(f"{text!r} is no {what}", remedy=remedy)
        values[name] = value
    return values


def _print_report(report: "Report", form: str, output: Path | None) -> int:
    if output is not None:
        write_output(output, formats.FORMATS[form](report))
        render.note(f"{formats.summary(report)}; written to {output}")
    elif form == "text" and len(report.findings) <= _TABLE_ROWS:
        render.findings(report.findings)
        render.line(formats.summary(report))
    else:
        render.piece(formats.FORMATS[form](report))
    return formats.exit_status(report, form)


def _print_checks(shared: SharedOptions, checklist: "Checklist", chosen: "Sequence[Check]") -> None:
    rows = []
    for check in chosen:
        lists = ", ".join(check.tags), ", ".join(check.requires)
        rows.append((check.name, check.kind.name, check.severity.value, *lists, check.target))
    columns = ("check", "kind", "severity", "tags", "requires", "target")
    content = [dict(zip(columns, row, strict=True)) for row in rows]
    document = plain_document("verify", checks=content, titles=list(checklist.titles))
    shared.show(document, lambda: render.table(columns, rows))
