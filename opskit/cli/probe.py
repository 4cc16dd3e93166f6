"""`opskit probe`: what answers, how far up its ladder, and what to do about the rest."""

from typing import TYPE_CHECKING, Annotated

from opskit.cli import render
from opskit.cli.inputs import checked_goal, name_of_model
from opskit.cli.options import SharedOptions, shares
from opskit.result import Report

if TYPE_CHECKING:
    from opskit.app import App


@shares("sandbox", "verbose")
def probe(
    shared: SharedOptions,
    use_mlx: Annotated[bool, "Test the MLX node: it must answer, whatever Ollama does."] = False,
    model: Annotated[str | None, "Ask this model, loading it if need be."] = None,
    goal: Annotated[str | None, "Ask for a whole answer to this goal as well."] = None,
    load: Annotated[bool, "Where nothing is loaded, load the smallest model and ask it."] = False,
) -> None:
    """Check every node and agent, from its port to its first token.

    The steps are tcp, http, models listed, model resident, first token; then the full cycle through Victoria.
    Loads, pins and swaps nothing unless --load or --model is given.
    """
    from opskit.checks.probe import ProbeRequest
    from opskit.checks.probe import probe as run_probe

    asked = name_of_model(model)

    async def work(root: "App") -> Report:
        text = None if goal is None else checked_goal(goal, root.config.limits.goal_bytes)
        if shared.verbose:
            render.note(f"probing {len(root.config.nodes)} nodes and {len(root.config.agents)} agents")
        return await run_probe(root.survey, ProbeRequest(use_mlx=use_mlx, model=asked, goal=text, load=load))

    def page() -> None:
        for finding in report.findings if shared.verbose else ():
            for rung in finding.evidence.get("ladder", ()):
                step = f"{rung['rung']:<12} {rung['status']:<5} {rung['seconds']:8.3f} s  {rung['detail']}"
                render.note(f"{finding.target:<10} {step}")
        render.findings(report.findings)

    report = shared.run(work)
    shared.end(report.exit, report.as_json(), page)
