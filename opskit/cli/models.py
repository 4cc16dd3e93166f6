"""`opskit models`: what there is, what is loaded, what works, and which one would be chosen."""

import math
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from opskit.cli import context, render
from opskit.cli.options import ConfigOption, DebugOption, JsonOption, SandboxOption, VerboseOption
from opskit.errors import UsageError
from opskit.result import Finding, Report, Status

if TYPE_CHECKING:
    from opskit.checks.inventory import Installed, Loaded, Seen
    from opskit.engine import Engine
    from opskit.llm.exam import Selection, Which
    from opskit.llm.exam_report import Outcome
    from opskit.llm.plan import Plan
    from opskit.providers.node import Node

app = typer.Typer(
    name="models",
    help="Installed models: list them, see what is loaded, test them, explain the choice.",
    no_args_is_help=True,
    rich_markup_mode=None,
)

NodeOption = Annotated[
    str | None, typer.Option("--node", metavar="NAME", help="Only this node.", show_default=False)
]


@app.command("list")
def list_models(
    node: NodeOption = None,
    sandbox: SandboxOption = False,
    config: ConfigOption = None,
    json: JsonOption = False,
    verbose: VerboseOption = False,
    debug: DebugOption = False,
) -> None:
    """Show every installed model: its size, whether it is loaded, whether it fits in memory."""
    del debug  # read by main
    rows, report = context.run(_list(node, sandbox=sandbox, config=config, verbose=verbose))
    if json:
        render.document({**report.as_json(), "models": [row.as_json() for row in rows]})
    else:
        columns = ("node", "model", "size", "parameters", "quantisation", "loaded", "fits", "context")
        _table(columns, [_installed(row) for row in rows])
        _tell(report.findings)
    raise typer.Exit(int(report.exit))


@app.command("loaded")
def loaded_models(
    node: NodeOption = None,
    sandbox: SandboxOption = False,
    config: ConfigOption = None,
    json: JsonOption = False,
    verbose: VerboseOption = False,
    debug: DebugOption = False,
) -> None:
    """Show what is in memory just now, how much of it on the GPU, and for how long."""
    del debug  # read by main
    rows, report = context.run(_loaded(node, sandbox=sandbox, config=config, verbose=verbose))
    if json:
        render.document({**report.as_json(), "models": [row.as_json() for row in rows]})
    else:
        _table(("node", "model", "memory", "on GPU", "context", "expires in"), [_resident(row) for row in rows])
        if not rows:
            render.line("no model is known to be loaded")
        _tell(report.findings)
    raise typer.Exit(int(report.exit))


@app.command("test")
def test_models(
    every: Annotated[bool, typer.Option("--all", help="Load and test every model that fits.")] = False,
    model: Annotated[
        list[str] | None,
        typer.Option("--model", metavar="NAME", help="Load and test this one; may be repeated.", show_default=False),
    ] = None,
    node: NodeOption = None,
    category: Annotated[
        str | None,
        typer.Option(help="Only the models that suit this kind of work.", show_default=False),
    ] = None,
    markdown: Annotated[
        Path | None,
        typer.Option("--markdown", metavar="FILE", help="Write a report there as well.", show_default=False),
    ] = None,
    yes: Annotated[
        bool, typer.Option("--yes", "-y", help="Do not ask before the resident model of MLX is replaced.")
    ] = False,
    sandbox: SandboxOption = False,
    config: ConfigOption = None,
    json: JsonOption = False,
    verbose: VerboseOption = False,
    debug: DebugOption = False,
) -> None:
    """Ask models one short question each and measure them. Only what is loaded already, unless told otherwise."""
    del debug  # read by main
    if every and model:
        raise UsageError("--all and --model exclude each other", remedy="`opskit models test --help`")
    outcome, report = context.run(
        _test(
            every,
            model or [],
            node,
            category,
            markdown,
            yes=yes,
            sandbox=sandbox,
            config=config,
            verbose=verbose,
        )
    )
    if json:
        render.document({**report.as_json(), **outcome.as_json()})
    else:
        from opskit.llm.exam_report import COLUMNS, cells, summary

        _table(COLUMNS, [cells(result) for result in outcome.results])
        for text in summary(outcome):
            render.line(render.printable(text))
        _tell(report.findings)
    raise typer.Exit(int(report.exit))


@app.command("route")
def route(
    category: Annotated[
        str | None,
        typer.Option(help="reasoning, coding, fast or default.", show_default=False),
    ] = None,
    goal: Annotated[
        str | None, typer.Option("--goal", help="Find the category of this goal.", show_default=False)
    ] = None,
    model: Annotated[
        str | None, typer.Option("--model", help="As if this one had been asked for.", show_default=False)
    ] = None,
    sandbox: SandboxOption = False,
    config: ConfigOption = None,
    json: JsonOption = False,
    verbose: VerboseOption = False,
    debug: DebugOption = False,
) -> None:
    """Explain which model would answer, which would follow after a failure, and why the others would not."""
    del debug  # read by main
    content, report = context.run(
        _route(category, goal, model, sandbox=sandbox, config=config, verbose=verbose)
    )
    if json:
        render.document({**report.as_json(), **content})
    else:
        _show_route(content)
        _tell(report.findings)
    raise typer.Exit(int(report.exit))
