"""`opskit drill`: does failover work, with this configuration? Played on simulated servers."""

from typing import TYPE_CHECKING, Annotated

import typer

from opskit.cli import context, render
from opskit.cli.options import SharedOptions, shares
from opskit.errors import UsageError
from opskit.result import plain_document

if TYPE_CHECKING:
    from opskit.result import Report


@shares("verbose")
def drill(
    shared: SharedOptions,
    only: Annotated[list[str] | None, typer.Option(help="Play this scenario (repeatable).")] = None,
    list_: Annotated[bool, typer.Option("--list", help="List the scenarios and play none.")] = False,
) -> None:
    """Inject the faults of real servers and see what a caller gets.

    A right answer, or an honest error, is a pass.
    Uses the router and budgets of your configuration, on simulated servers; your own are left alone.
    """
    from opskit.result import Report
    from opskit.sandbox.drill import chosen
    from opskit.sandbox.drill import drill as play
    from opskit.sandbox.scenarios import all_scenarios
    from opskit.tags import TagLog
    from opskit.text import near_names

    if list_:
        rows = [(scenario.name, scenario.injected) for scenario in all_scenarios()]
        document = plain_document("drill", scenarios=dict(rows))
        shared.show(document, lambda: render.table(("scenario", "what is injected"), rows))
        return
    try:
        scenarios = chosen(only or ())
    except KeyError as exc:
        near = near_names(str(exc.args[0]), (scenario.name for scenario in all_scenarios()))
        hint = f"near names: {', '.join(near)}; " if near else ""
        raise UsageError(
            f"there is no scenario {exc.args[0]!r}", remedy=f"{hint}`opskit drill --list` shows all"
        ) from exc

    async def work() -> Report:
        loaded = shared.load()
        with render.progress(len(scenarios), quiet=shared.json) as step:
            log = TagLog(render.note) if shared.verbose else None
            return Report("drill", await play(scenarios, loaded, step, log))

    report = context.run(work())
    shared.end(report.exit, report.as_json(), lambda: _table(report))


def _table(report: "Report") -> None:
    rows = []
    for finding in report.findings:
        attempts = finding.evidence["attempts"]
        path = " > ".join(f"{a['node']}:{a['fault'] or 'ok'}" for a in attempts) or "none"
        rows.append(
            (
                finding.target,
                finding.evidence["injected"],
                finding.detail,
                path,
                f"{finding.evidence['lost_ms']:.1f}",
                "PASS" if finding.status.value == "pass" else f"FAIL: {finding.remedy}",
            )
        )
    render.table(("scenario", "injected", "the caller saw", "attempts", "ms lost", "verdict"), rows)
    passed = sum(finding.status.value == "pass" for finding in report.findings)
    render.line(f"{passed} of {len(rows)} scenarios passed")
