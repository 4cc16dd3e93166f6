"""`opskit models`: what there is, what is loaded, what works, and which one would be chosen."""

import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NoReturn

import typer

from opskit.cli import render
from opskit.cli.inputs import at_terminal, check_output, checked_goal, choice, name_of_model
from opskit.cli.options import SharedOptions, shares
from opskit.errors import UsageError
from opskit.records import replace
from opskit.result import Finding, Report, Status

if TYPE_CHECKING:
    from opskit.app import App
    from opskit.checks.model_rows import InstalledModel, LoadedModel
    from opskit.checks.route import Route
    from opskit.llm.exam_outcome import ExamOutcome
    from opskit.llm.profile import ModelProfile
    from opskit.llm.selection import ModelSelection
    from opskit.providers.node import Node

app = typer.Typer(no_args_is_help=True)

NodeOption = Annotated[str | None, "--node", "NAME", "Only this node."]
ReplaceOption = Annotated[bool, "--yes", "-y", "Do not ask before the resident model of MLX is replaced."]


@shares("sandbox", "verbose", of=app, name="list")
def show_list(shared: SharedOptions, node: NodeOption = None) -> None:
    """Show every installed model. With its size, whether it is loaded, whether it fits in memory."""
    from opskit.checks.model_rows import INSTALLED_COLUMNS, installed
    from opskit.checks.upkeep import with_upkeep
    from opskit.facts.node import read_all_metadata

    async def work(root: "App") -> "tuple[list[InstalledModel], Report]":
        nodes = await read_all_metadata(_nodes(root, node))
        return installed(await with_upkeep(root.survey, nodes), root.router.fits)

    rows, report = shared.run(work)
    models = [row.as_json() for row in rows]
    cells = [row.cells() for row in rows]
    _end(shared, report, {"models": models}, lambda: render.table(INSTALLED_COLUMNS, cells))


@shares("sandbox", "verbose", of=app, name="loaded")
def show_loaded(shared: SharedOptions, node: NodeOption = None) -> None:
    """Show what is in memory just now. How much of it on the GPU, what it works on, and for how long."""
    from opskit.checks.model_rows import LOADED_COLUMNS, read_loaded
    from opskit.checks.upkeep import with_upkeep
    from opskit.facts.node import read_all_metadata

    async def work(root: "App") -> "tuple[list[LoadedModel], Report]":
        nodes = await read_all_metadata(_nodes(root, node))
        return await read_loaded(root.survey, await with_upkeep(root.survey, nodes))

    def page() -> None:
        render.table(LOADED_COLUMNS, [row.cells() for row in rows])
        if not rows:
            render.line("no model is known to be loaded")

    rows, report = shared.run(work)
    _end(shared, report, {"models": [row.as_json() for row in rows]}, page)


@shares("sandbox", "verbose", of=app, name="test")
def run_test(
    shared: SharedOptions,
    every: Annotated[bool, "--all", "Load and test every model that fits."] = False,
    model: Annotated[list[str] | None, "NAME", "Load and test this one; may be repeated."] = None,
    node: NodeOption = None,
    category: Annotated[str | None, "Only the models that suit this kind of work."] = None,
    markdown: Annotated[Path | None, "Write a report there as well."] = None,
    yes: ReplaceOption = False,
) -> None:
    """Ask each model a short question and measure it. Without --all or --model only what is loaded."""
    if every and model:
        raise UsageError("--all and --model exclude each other", remedy="`opskit models test --help`")
    from opskit.checks import model_exam
    from opskit.llm.exam_outcome import COLUMNS, cells, summary
    from opskit.llm.selection import ExamRequest

    names = tuple(name for name in map(name_of_model, model or []) if name is not None)
    if markdown is not None:
        check_output(markdown)

    async def work(root: "App") -> "tuple[ExamOutcome, Report]":
        chosen = choice(category, root.config.router.categories, "category")
        nodes, request = _nodes(root, node), ExamRequest(names, every, chosen)
        exam = await model_exam.choose(request, nodes, root.router, root.config)
        for text in exam.selection.announcement():
            render.note(render.printable(text))
        exam = replace(exam, selection=_agreed(exam.selection, yes=yes))
        with render.progress(len(exam.selection.examinees)) as step:
            return await model_exam.carry_out(
                exam, nodes, root.router, root.survey, lambda examinee: step(str(examinee))
            )

    def page() -> None:
        render.table(COLUMNS, [cells(result) for result in outcome.results])
        if outcome.tested:
            render.line("")
        render.lines(summary(outcome))

    outcome, report = shared.run(work)
    if markdown is not None:
        report = _written(markdown, outcome, report)
    _end(shared, report, outcome.as_json(), page)


@shares("sandbox", "verbose", of=app, name="route")
def show_route(
    shared: SharedOptions,
    category: Annotated[str | None, "reasoning, coding, fast or default."] = None,
    goal: Annotated[str | None, "Find the category of this goal."] = None,
    model: Annotated[str | None, "As if this one had been asked for."] = None,
) -> None:
    """Explain which model would answer. And which would follow after a failure, and why others would not."""
    from opskit.checks.route import explain
    from opskit.llm.plan import ModelRequest
    from opskit.llm.wording import categorise

    async def work(root: "App") -> "tuple[Route, Report]":
        config = root.config
        kind = choice(category, config.router.categories, "category")
        if goal is not None:
            of_goal = categorise(checked_goal(goal, config.limits.goal_bytes))
            kind = kind or of_goal
        # As `opskit run` does it.
        wanted = name_of_model(model) or config.victoria_model
        if wanted is not None and model is None:
            render.note(f"note: the configuration (victoria_model) asks for {wanted} by name")
        return await explain(root.router, config, ModelRequest(model=wanted, category=kind or "default"))

    route, report = shared.run(work)
    _end(shared, report, route.as_json(), lambda: _print_route(route))


@shares("sandbox", "verbose", of=app, name="profile")
def show_profile(
    shared: SharedOptions,
    name: Annotated[str, typer.Argument(help="The model.")],
    node: NodeOption = None,
    load: Annotated[bool, "Load it where it is not loaded."] = False,
    again: Annotated[bool, "Probe it also where a profile is known."] = False,
    yes: ReplaceOption = False,
) -> None:
    """Show what a model can do for the agent. Schema, calls of functions, thinking, context; probed once."""

    async def work(root: "App") -> "tuple[list[ModelProfile], Report]":
        from opskit.agent import profiling

        nodes, wanted = _nodes(root, node), name_of_model(name) or name
        request = await profiling.choose(root, nodes, wanted, load=load, again=again)
        for text in request.selection.loads():
            render.note(render.printable(text))
        request = replace(request, selection=_agreed(request.selection, yes=yes))
        return await profiling.profiles(root, nodes, request, render.note)

    profiles, report = shared.run(work)
    content = {"profiles": [profile.as_json() for profile in profiles]}
    _end(shared, report, content, lambda: _print_profiles(profiles))


def _nodes(root: "App", name: str | None) -> "list[Node]":
    """The nodes to look at. Raises UsageError for a name that is not configured."""
    choice(name, [node.name for node in root.nodes], "node")
    return [node for node in root.nodes if name in (None, node.name)]


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
    agreed = at_terminal(lambda: typer.confirm("Replace the resident model?", err=True))
    return chosen if agreed else chosen.without_replacements()


def _written(path: Path, outcome: "ExamOutcome", report: Report) -> Report:
    """The report with the file written; after a test that took minutes a failure is a finding."""
    from datetime import UTC, datetime

    from opskit import __version__
    from opskit.llm.exam_outcome import markdown
    from opskit.system.textfile import write_text

    try:
        write_text(path, markdown(outcome, report.findings, at=datetime.now(UTC), version=__version__))
    except OSError as exc:
        trouble = Finding("file", str(path), Status.FAIL, "failing", f"not written: {exc.strerror}")
        return replace(report, findings=[*report.findings, trouble])
    render.note(f"report written to {path}")
    return report


def _end(
    shared: SharedOptions, report: Report, content: Mapping[str, Any], page: Callable[[], None]
) -> NoReturn:
    """Print one document, or the page and what is not well; end with the status of the report."""

    def whole_page() -> None:
        page()
        for finding in report.findings:
            if finding.status is not Status.PASS and finding.state != "not tested":
                following = f" Next: {finding.remedy}" if finding.remedy else ""
                text = f"{finding.target} ({finding.state}): {finding.detail}.{following}"
                render.note(render.printable(text))

    shared.end(report.exit, {**report.as_json(), **content}, whole_page)


def _print_route(route: "Route") -> None:
    render.line(f"category: {route.request.category}")
    rows = [
        [str(rank), candidate.node, route.shown(candidate.node, candidate.model), candidate.why]
        for rank, candidate in enumerate(route.candidates, 1)
    ]
    render.table(("", "node", "model", "why"), rows)
    if route.candidates:
        render.line(render.printable(f"after a failure: {route.fallback_names}"))
    if route.skipped:
        render.line("")
        render.line("not used:")
        rows = [
            [skip.node, route.shown(skip.node, skip.model) or "(the node)", skip.why]
            for skip in route.skipped
        ]
        render.table(("node", "model", "why"), rows)


def _print_profiles(profiles: "Sequence[ModelProfile]") -> None:
    """Print a table of abilities and one of costs, and when each was found out."""

    def count(tokens: int | None) -> str:
        return "?" if tokens is None else str(tokens)

    def yes(flag: bool) -> str:
        return "yes" if flag else "no"

    abilities, costs = [], []
    for profile in profiles:
        tools = "native" if profile.native_tools else "as text" if profile.tools_as_text else "no"
        context = f"{count(profile.real_context)} of {count(profile.trained_context)}"
        names = [profile.node, profile.model]
        mode = profile.mode.value
        abilities.append([*names, yes(profile.enforces_schema), tools, yes(profile.thinks), context, mode])
        for probe in profile.probes:
            tokens = count(probe.prompt_tokens), count(probe.completion_tokens)
            costs.append([*names, probe.name, probe.outcome, f"{probe.seconds:.2f}", *tokens])
    columns = ("node", "model", "schema", "tools", "thinking", "context", "agent asks by")
    render.table(columns, abilities)
    if costs:
        render.line("")
    render.table(("node", "model", "probe", "result", "seconds", "read", "written"), costs)
    for profile in profiles:
        load = "" if profile.load_s is None else f", after a load of {profile.load_s:.1f} s"
        at = f"{profile.probed_at:%Y-%m-%d %H:%M} UTC"
        render.line(f"{profile.model} on {profile.node}: probed at {at} in {profile.seconds:.1f} s{load}")
