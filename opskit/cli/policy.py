"""`opskit policy check`: what would happen to a command of the agent, by which rule, and why."""

import os
from pathlib import Path
from typing import Annotated

import typer

from opskit.cli import render
from opskit.cli.options import SharedOptions, shares

app = typer.Typer(no_args_is_help=True)


@shares(of=app)
def check(
    shared: SharedOptions,
    command: Annotated[
        list[str], typer.Argument(metavar="-- CMD ARG...", help="The command, as it would be run.")
    ],
    workspace: Annotated[str | None, "DIR", "Use this folder instead of `agent.workspace`."] = None,
) -> None:
    """Say whether the agent may run a command. Allow, ask or deny, which rule decides, and why.

    Nothing is run. Exit status 0 for allow, 3 for ask, 1 for deny.
    """
    from opskit.agent.policy.decide import checked

    loaded = shared.load()
    folder = loaded.agent.workspace if workspace is None else workspace
    at = None if folder is None else Path(folder) if workspace is not None else loaded.located(folder)
    report = checked(command, at, loaded, os.environ)
    (finding,) = report.findings
    rule = finding.evidence["rule"]

    def page() -> None:
        render.lines([f"{finding.state:5} {finding.target}", f"rule  {rule}", f"why   {finding.detail}"])
        render.lines([f"next  {finding.remedy}"] if finding.remedy else ())

    decision = {"decision": finding.state, "rule": rule, "why": finding.detail}
    shared.end(report.exit, {**report.as_json(), **decision}, page)
