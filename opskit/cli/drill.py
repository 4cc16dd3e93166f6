"""`opskit drill`: does failover work, with this configuration? Played on simulated servers."""

from typing import Annotated

from opskit.cli import context, render
from opskit.cli.options import SharedOptions, shares
from opskit.errors import UsageError
from opskit.result import Report, plain_document


@shares("verbose")
def drill(
    shared: SharedOptions,
    only: Annotated[list[str] | None, "Play this scenario (repeatable)."] = None,
    list_: Annotated[bool, "--list", "List the scenarios and play none."] = False,
) -> None:
    """Inject the faults of real servers and see what a caller gets.

    A right answer, or an honest error, is a pass.
    Uses the router and budgets of your configuration, on simulated servers; your own are left alone.
    """
    from opskit.sandbox.drill import all_scenarios, chosen
    from opskit.sandbox.drill import drill as play
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
        name = str(exc.args[0])
        near = ", ".join(near_names(name, (scenario.name for scenario in all_scenarios())))
        remedy = f"{f'near names: {near}; ' if near else ''}`opskit drill --list` shows all"
        raise UsageError(f"there is no scenario {name!r}", remedy=remedy) from exc

    async def work() -> Report:
        loaded = shared.load()
        with render.progress(len(scenarios), quiet=shared.json) as step:
            log = TagLog(render.note) if shared.verbose else None
            return Report("drill", await play(scenarios, loaded, step, log))

    def page() -> None:
        rows = []
        for finding in report.findings:
            attempts = finding.evidence["attempts"]
            path = " > ".join(f"{a['node']}:{a['fault'] or 'ok'}" for a in attempts) or "none"
            injected, lost = finding.evidence["injected"], f"{finding.evidence['lost_ms']:.1f}"
            verdict = "PASS" if finding.status.value == "pass" else f"FAIL: {finding.remedy}"
            rows.append((finding.target, injected, finding.detail, path, lost, verdict))
        render.table(("scenario", "injected", "the caller saw", "attempts", "ms lost", "verdict"), rows)
        passed = sum(finding.status.value == "pass" for finding in report.findings)
        render.line(f"{passed} of {len(rows)} scenarios passed")

    report = context.run(work())
    shared.end(report.exit, report.as_json(), page)
