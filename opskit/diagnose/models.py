"""The models area: what each node holds and has loaded, who would answer, on request a real chat (C10)."""

from datetime import UTC, datetime

from opskit.app import App
from opskit.checks.model_rows import INSTALLED_COLUMNS, LOADED_COLUMNS, installed, loaded
from opskit.checks.route import Route, explain
from opskit.diagnose.area import Area, Look, Part, TableSection, gathered
from opskit.diagnose.quantities import seconds
from opskit.facts.node import NodeFacts, read_all_metadata
from opskit.facts.survey import Survey
from opskit.llm.exam import ExamResult, examine
from opskit.llm.plan import ModelRequest
from opskit.llm.selection import Which, select
from opskit.result import Finding, Status
from opskit.tags import TagLog

_ASKED_COLUMNS = ("node", "model", "state", "first token", "total", "tokens/s", "answer")


async def area(around: Survey, *, ask: bool) -> Area:
    """Metadata alone, unless `ask`: then each model that is loaded answers one short question."""
    limit_s = 2 * around.config.budgets.metadata_s + 5.0
    if not ask:
        async with App(around.config, log=TagLog()) as app:
            return await gathered("models", _looks(app, around, limit_s))
    async with App(around.config) as app:
        total_s = around.config.budgets.total_s
        looks = [*_looks(app, around, limit_s), Look("answers", "answers", _answers(app), total_s)]
        return await gathered("models", looks)


def _looks(app: App, around: Survey, limit_s: float) -> list[Look]:
    return [
        Look("inventory", "models", _inventory(app), limit_s),
        Look("route", "who would answer", _route(app, around), limit_s),
    ]


async def _inventory(app: App) -> Part:
    nodes_read = await read_all_metadata(app.nodes)
    rows, report = installed(nodes_read, app.router.fits)
    held, held_report = loaded(nodes_read, datetime.now(UTC))
    data = {"installed": [row.as_json() for row in rows], "loaded": [row.as_json() for row in held]}
    nodes = tuple(_node_row(one) for one in nodes_read)
    sections = (
        TableSection("nodes", ("node", "address", "server", "state", "seconds"), nodes),
        TableSection(
            "installed",
            INSTALLED_COLUMNS,
            tuple(tuple(row.cells()) for row in rows),
            () if rows else ("no model is known",),
        ),
        TableSection(
            "loaded",
            LOADED_COLUMNS,
            tuple(tuple(row.cells()) for row in held),
            () if held else ("no model is known to be loaded",),
        ),
    )
    # Whether there is anybody at all is told by the route.
    findings = {(one.check, one.target): one for one in report.findings if one.check != "catalog"}
    # What is loaded is judged too; where both speak of a node, the worse counts.
    for one in (one for one in held_report.findings if one.check != "catalog"):
        known = findings.get((one.check, one.target))
        if known is None or known.status is Status.PASS:
            findings[one.check, one.target] = one
    return Part(data, sections, tuple(findings.values()))


def _node_row(node: NodeFacts) -> tuple[str, ...]:
    fault = node.fault
    state = "answers" if fault is None else f"{fault.kind.value}: {fault.detail}"
    return (
        node.config.name,
        node.config.url,
        node.kind.name if node.kind else "?",
        state,
        seconds(node.seconds),
    )


async def _route(app: App, around: Survey) -> Part:
    """Who would be asked for a plain goal, and who would follow."""
    asked = around.config.victoria_model
    route, report = await explain(app.router, app.config, ModelRequest(model=asked, category="default"))
    rows = tuple(
        (str(rank), one.node, route.shown(one.node, one.model), one.why)
        for rank, one in enumerate(route.candidates, 1)
    )
    findings = tuple(one for one in report.findings if one.check == "route")
    section = TableSection("who would answer", ("", "node", "model", "why"), rows, _after(route))
    return Part(route.as_json(), (section,), findings)


def _after(route: Route) -> tuple[str, ...]:
    if not route.candidates:
        return ("nobody",)
    names = [f"{route.shown(one.node, one.model)} on {one.node}" for one in route.fallbacks]
    return (f"after a failure: {', then '.join(names) or 'nobody'}",)


async def _answers(app: App) -> Part:
    """A short question to every model that is loaded, to none that is not."""
    nodes_read = await read_all_metadata(app.nodes)
    names = {node.config.name: node.started_with for node in nodes_read if node.started_with}
    chosen = select(Which(), [node.view for node in nodes_read], app.config, app.router.fits, names)
    results = await examine(app.router, chosen.examinees, app.config)
    none = () if results else ("no model is known to be loaded, so none was asked",)
    findings = tuple(
        Finding("answer", str(one.examinee), one.status, one.state, one.detail, one.code) for one in results
    )
    section = TableSection("answers", _ASKED_COLUMNS, tuple(map(_answer_row, results)), none)
    return Part([one.as_json() for one in results], (section,), findings)


def _answer_row(one: ExamResult) -> tuple[str, ...]:
    speed = "" if one.tokens_per_s is None else f"{one.tokens_per_s:.1f}"
    return (
        one.examinee.node,
        one.examinee.shown,
        one.state,
        seconds(one.first_token_s),
        seconds(one.total_s),
        speed,
        (one.answer or one.detail)[:80],
    )
