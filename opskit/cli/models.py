"""`opskit models`: what there is, what is loaded, what works, and which one would be chosen."""

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from opskit.cli import context, render
from opskit.cli.options import ConfigOption, DebugOption, JsonOption, SandboxOption, VerboseOption
from opskit.errors import UsageError
from opskit.records import replace
from opskit.result import Finding, Report, Status

if TYPE_CHECKING:
    from opskit.app import App
    from opskit.checks.model_rows import InstalledModel, LoadedModel
    from opskit.checks.route import Route
    from opskit.llm.exam_outcome import ExamOutcome
    from opskit.llm.profile import ModelProfile
    from opskit.llm.selection import ExamRequest, ModelSelection
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
def show_list(
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
        from opskit.checks.model_rows import INSTALLED_COLUMNS

        _table(INSTALLED_COLUMNS, [row.cells() for row in rows])
        _tell(report.findings)
    raise typer.Exit(int(report.exit))


@app.command("loaded")
def show_loaded(
    node: NodeOption = None,
    sandbox: SandboxOption = False,
    config: ConfigOption = None,
    json: JsonOption = False,
    verbose: VerboseOption = False,
    debug: DebugOption = False,
) -> None:
    """Show what is in memory just now, how much of it on the GPU, what it works on, and for how long."""
    del debug  # read by main
    rows, report = context.run(_loaded(node, sandbox=sandbox, config=config, verbose=verbose))
    if json:
        render.document({**report.as_json(), "models": [row.as_json() for row in rows]})
    else:
        from opskit.checks.model_rows import LOADED_COLUMNS

        _table(LOADED_COLUMNS, [row.cells() for row in rows])
        if not rows:
            render.line("no model is known to be loaded")
        _tell(report.findings)
    raise typer.Exit(int(report.exit))


@app.command("test")
def run_test(
    every: Annotated[bool, typer.Option("--all", help="Load and test every model that fits.")] = False,
    model: Annotated[
        list[str] | None,
        typer.Option(
            "--model", metavar="NAME", help="Load and test this one; may be repeated.", show_default=False
        ),
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
    """Ask each model a short question and measure it; without --all or --model only those that are loaded."""
    del debug  # read by main
    if every and model:
        raise UsageError("--all and --model exclude each other", remedy="`opskit models test --help`")
    from opskit.cli.inputs import name_of_model
    from opskit.llm.selection import ExamRequest

    names = tuple(name for name in map(name_of_model, model or []) if name is not None)
    if markdown is not None:
        _check_file(markdown)
    request = ExamRequest(names, every, category)
    outcome, report = context.run(
        _test(request, node, markdown, yes=yes, sandbox=sandbox, config=config, verbose=verbose)
    )
    if json:
        render.document({**report.as_json(), **outcome.as_json()})
    else:
        from opskit.llm.exam_outcome import COLUMNS, cells, summary

        _table(COLUMNS, [cells(result) for result in outcome.results])
        if outcome.tested:
            render.line("")
        for text in summary(outcome):
            render.line(render.printable(text))
        _tell(report.findings)
    raise typer.Exit(int(report.exit))


@app.command("route")
def show_route(
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
    route, report = context.run(
        _route(category, goal, model, sandbox=sandbox, config=config, verbose=verbose)
    )
    if json:
        render.document({**report.as_json(), **route.as_json()})
    else:
        _print_route(route)
        _tell(report.findings)
    raise typer.Exit(int(report.exit))


@app.command("profile")
def show_profile(
    name: Annotated[str, typer.Argument(help="The model.", show_default=False)],
    node: NodeOption = None,
    load: Annotated[bool, typer.Option("--load", help="Load it where it is not loaded.")] = False,
    again: Annotated[bool, typer.Option("--again", help="Probe it also where a profile is known.")] = False,
    yes: Annotated[
        bool, typer.Option("--yes", "-y", help="Do not ask before the resident model of MLX is replaced.")
    ] = False,
    sandbox: SandboxOption = False,
    config: ConfigOption = None,
    json: JsonOption = False,
    verbose: VerboseOption = False,
    debug: DebugOption = False,
) -> None:
    """Show what a model can do for the agent: schema, calls of functions, thinking, context; probed once."""
    del debug  # read by main
    from opskit.cli.inputs import name_of_model

    async def work() -> "tuple[list[ModelProfile], Report]":
        from opskit.agent import profiling

        async with context.opened(config, verbose=verbose, sandbox=sandbox) as root:
            nodes, wanted = _nodes(root, node), name_of_model(name) or name
            request = await profiling.choose(root, nodes, wanted, load=load, again=again)
            for text in request.selection.announcement():
                render.note(render.printable(text))
            request = replace(request, selection=_agreed(request.selection, yes=yes))
            return await profiling.profiles(root, nodes, request, render.note)

    profiles, report = context.run(work())
    if json:
        render.document({**report.as_json(), "profiles": [profile.as_json() for profile in profiles]})
    else:
        from opskit.cli.profile_view import page

        page(profiles)
        _tell(report.findings)
    raise typer.Exit(int(report.exit))


async def _list(
    node: str | None, *, sandbox: bool, config: str | None, verbose: bool
) -> "tuple[list[InstalledModel], Report]":
    from opskit.checks.model_rows import installed
    from opskit.facts.node import read_all_metadata

    async with context.opened(config, verbose=verbose, sandbox=sandbox) as root:
        return installed(await read_all_metadata(_nodes(root, node)), root.router.fits)


async def _loaded(
    node: str | None, *, sandbox: bool, config: str | None, verbose: bool
) -> "tuple[list[LoadedModel], Report]":
    from opskit.checks.loaded_models import read_loaded
    from opskit.facts.node import read_all_metadata

    async with context.opened(config, verbose=verbose, sandbox=sandbox) as root:
        return await read_loaded(root.survey, await read_all_metadata(_nodes(root, node)))


async def _test(
    request: "ExamRequest",
    node: str | None,
    markdown: Path | None,
    *,
    yes: bool,
    sandbox: bool,
    config: str | None,
    verbose: bool,
) -> "tuple[ExamOutcome, Report]":
    from opskit.checks import model_exam
    from opskit.cli.inputs import name_of_category

    async with context.opened(config, verbose=verbose, sandbox=sandbox) as root:
        category = name_of_category(request.category, root.config.router.categories)
        nodes, router = _nodes(root, node), root.router
        exam = await model_exam.choose(replace(request, category=category), nodes, router, root.config)
        for text in exam.selection.announcement():
            render.note(render.printable(text))
        exam = replace(exam, selection=_agreed(exam.selection, yes=yes))
        with render.progress(len(exam.selection.examinees)) as bar:
            outcome, report = await model_exam.carry_out(
                exam, nodes, router, root.config, lambda examinee: bar.step(str(examinee))
            )
    return outcome, report if markdown is None else _written(markdown, outcome, report)


async def _route(
    category: str | None,
    goal: str | None,
    model: str | None,
    *,
    sandbox: bool,
    config: str | None,
    verbose: bool,
) -> "tuple[Route, Report]":
    from opskit.checks.route import explain
    from opskit.cli.inputs import checked_goal, name_of_category, name_of_model
    from opskit.llm.category import categorise
    from opskit.llm.plan import ModelRequest

    async with context.opened(config, verbose=verbose, sandbox=sandbox) as root:
        category = name_of_category(category, root.config.router.categories)
        if goal is not None:
            found_category = categorise(checked_goal(goal, root.config.limits.goal_bytes))
            category = category or found_category
        # As `opskit run` does it.
        wanted = name_of_model(model) or root.config.victoria_model
        if wanted is not None and model is None:
            render.note(f"note: the configuration (victoria_model) asks for {wanted} by name")
        return await explain(
            root.router, root.config, ModelRequest(model=wanted, category=category or "default")
        )


def _nodes(root: "App", name: str | None) -> "list[Node]":
    """The nodes to look at. Raises UsageError for a name that is not configured."""
    nodes = [node for node in root.nodes if name in (None, node.name)]
    if name is not None and not nodes:
        known = ", ".join(node.name for node in root.nodes) or "none is configured"
        raise UsageError(f"there is no node {name!r}", remedy=f"use one of: {known}")
    return nodes


def _agreed(chosen: "ModelSelection", *, yes: bool) -> "ModelSelection":
    """What may be done of it: nobody's resident model is pushed out without a yes."""
    if yes or not chosen.replacements:
        return chosen
    if not sys.stdin.isatty():
        names = ", ".join(map(str, chosen.replacements))
        raise UsageError(
            f"to test {names} replaces the resident model, and there is nobody to ask",
            remedy="give --yes as well",
        )
    import signal

    # asyncio's own handler would only note Ctrl-C, and the prompt would go on waiting.
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        agreed = typer.confirm("Replace the resident model?", err=True)
    finally:
        signal.signal(signal.SIGINT, before)
    return chosen if agreed else chosen.without_replacements()


def _check_file(path: Path) -> None:
    from opskit.system.textfile import check_writable

    try:
        check_writable(path)
    except OSError as exc:
        raise UsageError(
            f"--markdown {path}: {exc.strerror}", remedy="name a file in a folder that can be written"
        ) from exc


def _written(path: Path, outcome: "ExamOutcome", report: Report) -> Report:
    """The report with the file written; after a test that took minutes a failure here is told, not raised."""
    from datetime import UTC, datetime

    from opskit import __version__
    from opskit.cli.exam_markdown import markdown
    from opskit.system.textfile import write_text

    try:
        write_text(path, markdown(outcome, report.findings, at=datetime.now(UTC), version=__version__))
    except OSError as exc:
        trouble = Finding("file", str(path), Status.FAIL, "failing", f"not written: {exc.strerror}")
        return replace(report, findings=[*report.findings, trouble])
    render.note(f"report written to {path}")
    return report


def _table(columns: tuple[str, ...], rows: list[list[str]]) -> None:
    if rows:
        render.table(columns, rows)


def _tell(findings: Sequence[Finding]) -> None:
    """What is not well, and what to type next, to stderr."""
    for finding in findings:
        if finding.status is Status.PASS or finding.state == "not tested":
            continue
        following = f" Next: {finding.remedy}" if finding.remedy else ""
        render.note(render.printable(f"{finding.target} ({finding.state}): {finding.detail}.{following}"))


def _print_route(route: "Route") -> None:
    render.line(f"category: {route.request.category}")
    rows = [
        [str(rank), candidate.node, route.shown(candidate.node, candidate.model), candidate.why]
        for rank, candidate in enumerate(route.candidates, 1)
    ]
    _table(("", "node", "model", "why"), rows)
    if route.candidates:
        names = [f"{route.shown(model.node, model.model)} on {model.node}" for model in route.fallbacks]
        render.line(render.printable(f"after a failure: {', then '.join(names) or 'nobody'}"))
    if route.skipped:
        render.line("")
        render.line("not used:")
        rows = [
            [skip.node, route.shown(skip.node, skip.model) or "(the node)", skip.why]
            for skip in route.skipped
        ]
        _table(("node", "model", "why"), rows)
