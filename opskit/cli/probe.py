"""`opskit probe`: what answers, how far up its ladder, and what to do about the rest."""

from typing import TYPE_CHECKING, Annotated

import typer

from opskit.cli import context, render
from opskit.cli.options import ConfigOption, DebugOption, JsonOption, SandboxOption, VerboseOption

if TYPE_CHECKING:
    from opskit.result import Report


def probe(
    use_mlx: Annotated[
        bool, typer.Option("--use-mlx", help="Test the MLX node: it must answer, whatever Ollama does.")
    ] = False,
    model: Annotated[
        str | None, typer.Option("--model", help="Ask this model, loading it if need be.")
    ] = None,
    goal: Annotated[
        str | None, typer.Option("--goal", help="Ask for a whole answer to this goal as well.")
    ] = None,
    load: Annotated[
        bool, typer.Option("--load", help="Where nothing is loaded, load the smallest model and ask it.")
    ] = False,
    sandbox: SandboxOption = False,
    config: ConfigOption = None,
    json: JsonOption = False,
    verbose: VerboseOption = False,
    _debug: DebugOption = False,
) -> None:
    """Climb the ladder of every node and agent: tcp, http, models, resident, first token, full cycle.

    Loads, pins and swaps nothing unless --load or --model is given.
    """
    from opskit.checks.probe import ProbeRequest
    from opskit.checks.probe import probe as run_probe
    from opskit.cli.inputs import checked_goal, name_of_model

    asked = name_of_model(model)

    async def work() -> "Report":
        async with context.opened(config, sandbox=sandbox) as root:
            loaded = root.config
            text = None if goal is None else checked_goal(goal, loaded.limits.goal_bytes)
            if verbose:
                render.note(f"probing {len(loaded.nodes)} nodes and {len(loaded.agents)} agents")
            request = ProbeRequest(use_mlx=use_mlx, model=asked, goal=text, load=load)
            return await run_probe(root.survey, request)

    report = context.run(work())
    if verbose and not json:
        _stages(report)
    render.report(report, as_json=json)
    raise typer.Exit(int(report.exit))


def _stages(report: "Report") -> None:
    for finding in report.findings:
        for rung in finding.evidence.get("ladder", ()):
            render.note(
                f"{finding.target:<10} {rung['rung']:<12} {rung['status']:<5} "
                f"{rung['seconds']:8.3f} s  {rung['detail']}"
            )
