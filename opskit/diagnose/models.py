"""The models area: what each node holds and has loaded, who would answer, on request a real chat (C10)."""

import asyncio
from datetime import UTC, datetime
from functools import partial

from opskit.app import App
from opskit.checks.model_rows import INSTALLED_COLUMNS, LOADED_COLUMNS, installed, loaded
from opskit.checks.route import explain
from opskit.diagnose.area import Columns, Section, SectionSource, TableSection, table
from opskit.facts.node import NodeFacts, read_node, with_default
from opskit.facts.survey import Survey
from opskit.llm.exam import examine
from opskit.llm.plan import ModelRequest
from opskit.llm.selection import ExamRequest, select
from opskit.result import Finding, Status

_NODE_COLUMNS: Columns = {
    "node": lambda node: node.config.name,
    "address": lambda node: node.config.url,
    "server": lambda node: node.kind.name if node.kind else "?",
    "state": lambda node: f"{node.fault.kind.value}: {node.fault.detail}" if node.fault else "answers",
    "seconds": lambda node: f"{node.seconds:.3f} s",
}
_ASKED_COLUMNS: Columns = {
    "node": lambda result: result.examinee.node,
    "model": lambda result: result.examinee.shown,
    "state": lambda result: result.state,
    "first token": lambda result: result.first_token_s and f"{result.first_token_s:.3f} s",
    "total": lambda result: result.total_s and f"{result.total_s:.3f} s",
    "tokens/s": lambda result: result.tokens_per_s and f"{result.tokens_per_s:.1f}",
    "answer": lambda result: (result.answer or result.detail)[:80],
}


def sources(app: App, *, ask: bool) -> list[SectionSource]:
    """Return the sections of the area. With `ask` each model that is loaded answers one short question."""
    budgets, http_s = app.config.budgets, app.config.probe.http_s
    limit_s = budgets.connect_s + 2 * max(budgets.metadata_s, http_s) + 5.0
    sections = [
        SectionSource("models", "inventory", "models", partial(inventory, app=app), limit_s),
        SectionSource("models", "route", "who would answer", partial(route, app=app), limit_s),
    ]
    if ask:
        read = partial(answers, app=app)
        sections.append(SectionSource("models", "answers", "answers", read, budgets.total_s))
    return sections


async def read_nodes(survey: Survey) -> list[NodeFacts]:
    """Read all nodes, with the models that they answer with when none is named."""
    nodes = await asyncio.gather(*(survey.get(read_node, node) for node in survey.config.nodes))
    return list(await asyncio.gather(*map(with_default, nodes)))


async def inventory(survey: Survey, app: App) -> Section:
    nodes = await survey.get(read_nodes)
    models, report = installed(nodes, app.router.fits)
    resident, resident_report = loaded(nodes, datetime.now(UTC))
    tables = [table("nodes", nodes, _NODE_COLUMNS)]
    for title, columns, rows, none in (
        ("installed", INSTALLED_COLUMNS, [row.cells() for row in models], "no model is known"),
        ("loaded", LOADED_COLUMNS, [row.cells() for row in resident], "no model is known to be loaded"),
    ):
        tables.append(TableSection(title, columns, tuple(map(tuple, rows)), () if rows else (none,)))
    findings: dict[tuple[str, str], Finding] = {}
    for finding in (*report.findings, *resident_report.findings):
        # The route tells whether there is any model. Where both speak of a node, the worse counts.
        known = findings.get((finding.check, finding.target))
        if finding.check != "catalog" and (known is None or known.status is Status.PASS):
            findings[finding.check, finding.target] = finding
    data = {"installed": [row.as_json() for row in models], "loaded": [row.as_json() for row in resident]}
    return Section(data, tuple(tables), tuple(findings.values()))


async def route(survey: Survey, app: App) -> Section:
    """Explain which model would be asked for a plain goal, and which would follow."""
    wanted = ModelRequest(model=survey.config.victoria_model, category="default")
    chosen, report = await explain(app.router, survey.config, wanted)
    rows = tuple(
        (str(rank), candidate.node, chosen.shown(candidate.node, candidate.model), candidate.why)
        for rank, candidate in enumerate(chosen.candidates, 1)
    )
    after = f"after a failure: {chosen.fallback_names}" if chosen.candidates else "nobody"
    shown = TableSection("who would answer", ("", "node", "model", "why"), rows, (after,))
    findings = tuple(finding for finding in report.findings if finding.check == "route")
    return Section(chosen.as_json(), (shown,), findings)


async def answers(survey: Survey, app: App) -> Section:
    """Ask every model that is loaded a short question, and none that is not."""
    nodes = await survey.get(read_nodes)
    chosen = select(ExamRequest(), [node.view for node in nodes], survey.config, app.router.fits)
    results = await examine(app.router, chosen.examinees, survey.config)
    findings = tuple(
        Finding("answer", str(result.examinee), result.status, result.state, result.detail, result.code)
        for result in results
    )
    none = "no model is known to be loaded, so none was asked"
    shown = table("answers", results, _ASKED_COLUMNS, none)
    return Section([result.as_json() for result in results], (shown,), findings)
