"""`opskit config`: what holds, where it comes from, and what is wrong with it."""

import os
from pathlib import Path
from typing import Annotated

import typer

from opskit.cli import render
from opskit.cli.inputs import write_output
from opskit.cli.options import SharedOptions, shares
from opskit.config import starter
from opskit.config.load import InvalidConfigError
from opskit.config.origins import shown
from opskit.errors import Exit, UsageError
from opskit.result import Finding, Report, Status, plain_document

app = typer.Typer(no_args_is_help=True)

_DEFAULT_PATH = Path("opskit.yaml")


@shares(of=app)
def show(shared: SharedOptions) -> None:
    """Show every effective value and where it comes from. Secrets stay hidden."""
    loaded = shared.loaded()
    values = list(shown(loaded.config, loaded.origins))
    rows = [{"key": row.key, "value": row.value, "origin": str(row.origin)} for row in values]
    cells = [(row.key, row.text, str(row.origin)) for row in values]
    shared.show(
        plain_document("config show", values=rows), lambda: render.table(("key", "value", "origin"), cells)
    )


@shares(of=app)
def init(
    shared: SharedOptions,
    path: Annotated[Path, "The file to write."] = _DEFAULT_PATH,
    force: Annotated[bool, "Replace a file that exists."] = False,
) -> None:
    """Write a starter file. Every setting in it is a comment that shows its default."""
    if os.path.lexists(path) and not force:
        raise UsageError(f"{path} exists", remedy="give --force to replace it, or --path for another file")
    write_output(path, starter.text(), mode=0o600)
    report = Report("config init", [Finding("config", str(path), Status.PASS, state="written")])
    line = f"{path} written; see what holds with `opskit config show`"
    shared.show(report.as_json(), lambda: render.line(line))


@shares(of=app)
def check(shared: SharedOptions) -> None:
    """Check the configuration. Names every problem with its file and line."""
    try:
        loaded = shared.loaded()
    except InvalidConfigError as exc:
        findings = [
            Finding(
                "config",
                problem.key or problem.path,
                Status.FAIL,
                state="invalid",
                detail=f"{problem.where}: {problem.message}",
                code=problem.code,
                remedy=problem.advice,
                evidence={"path": problem.path, "line": problem.line, "column": problem.column},
            )
            for problem in exc.problems
        ]
        lines = [f"{problem}\n  {problem.advice}" for problem in exc.problems]
    else:
        path = loaded.config.path
        detail = path or "no configuration file: defaults and environment"
        findings = [Finding("config", path or "defaults", Status.PASS, state="ok", detail=detail)]
        for key, _, words in (note.partition(": ") for note in loaded.notes):
            findings.append(Finding("config", key, Status.WARN, state="note", detail=words))
        unset = [(key, origin.unset) for key, origin in loaded.origins.items() if origin.unset]
        for key, name in unset:
            words, remedy = f"the variable {name} is not set", f"set {name}, or take {key} out"
            findings.append(Finding("config", key, Status.WARN, state="unset", detail=words, remedy=remedy))
        lines = [f"{detail}: ok", *(f"{key}: the variable {name} is not set" for key, name in unset)]
    report = Report("config check", findings)
    shared.end(
        Exit.OK if report.ok else Exit.CONFIG,
        report.as_json(),
        lambda: render.line("\n".join(lines), style="" if report.ok else "red"),
    )
