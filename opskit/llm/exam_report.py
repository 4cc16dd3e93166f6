"""What an examination means: findings, who is fastest, whom to use for what, a Markdown report. Pure."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any

from opskit.config.schema import Config
from opskit.llm.catalog import NodeView, Snapshot
from opskit.llm.exam import ExamResult
from opskit.llm.faults import FaultKind
from opskit.llm.fit import Fit
from opskit.llm.health import Health
from opskit.llm.plan import ModelRequest, PlanContext, Skipped, plan
from opskit.llm.remedies import fault_remedy
from opskit.llm.selection import ModelSelection
from opskit.llm.verdict import Verdict
from opskit.providers.kinds import ServerKind
from opskit.result import Finding, Report, Status

_MARKS = frozenset("\\`*_{}[]()<>#|~!&$")
_CRASHES = {
    FaultKind.RUNNER_CRASHED,
    FaultKind.RESET,
    FaultKind.EMPTY_REPLY,
    FaultKind.TRUNCATED,
    FaultKind.SERVER_ERROR,
    FaultKind.BAD_PAYLOAD,
}
_SILENCES = {
    FaultKind.WEDGED,
    FaultKind.FIRST_TOKEN_TIMEOUT,
    FaultKind.IDLE_TIMEOUT,
    FaultKind.TOTAL_TIMEOUT,
}
_ABSENCES = {FaultKind.REFUSED, FaultKind.UNREACHABLE, FaultKind.CONNECT_TIMEOUT}


@dataclass(frozen=True, slots=True)
class Recommendation:
    """Who should do one kind of work, and why; without `model` nobody can."""

    category: str
    node: str | None
    model: str | None
    shown: str
    why: str

    def as_json(self) -> dict[str, Any]:
        return {
            "category": self.category,
            "node": self.node,
            "model": self.model,
            "name": self.shown,
            "why": self.why,
        }


@dataclass(frozen=True, slots=True)
class ExamOutcome:
    """An examination that is over, ready to be shown in any form."""

    selection: ModelSelection
    results: tuple[ExamResult, ...]
    recommendations: tuple[Recommendation, ...]
    unread: tuple[Finding, ...] = ()

    @property
    def working(self) -> list[ExamResult]:
        return [result for result in self.results if result.works]

    @property
    def tested(self) -> list[ExamResult]:
        return [result for result in self.results if result.status is not Status.SKIP]

    @property
    def soonest(self) -> ExamResult | None:
        """Whoever had its whole answer ready first."""
        timed = [result for result in self.working if result.total_s is not None]
        return min(timed, key=lambda result: result.total_s or 0.0, default=None)

    @property
    def quickest(self) -> ExamResult | None:
        """Whoever gives most tokens a second."""
        timed = [result for result in self.working if result.tokens_per_s is not None]
        return max(timed, key=lambda result: result.tokens_per_s or 0.0, default=None)

    def as_json(self) -> dict[str, Any]:
        """What `models test --json` shows besides the findings."""
        soonest, quickest = self.soonest, self.quickest
        return {
            "models": [result.as_json() for result in self.results],
            "working": [{"node": r.examinee.node, "model": r.examinee.model} for r in self.working],
            "fastest": {
                "total_s": soonest and soonest.as_json(),
                "tokens_per_s": quickest and quickest.as_json(),
            },
            "recommendations": [advice.as_json() for advice in self.recommendations],
        }


def report(outcome: ExamOutcome, views: Sequence[NodeView]) -> Report:
    """The findings: nodes that were not read, each model, those that were not tested, and the sum of it."""
    kinds = {view.name: view.likely_kind for view in views}
    return Report(
        "models test",
        [
            *outcome.unread,
            *(_tested(result, kinds[result.examinee.node]) for result in outcome.results),
            *map(_absent, outcome.selection.absent),
            *map(_skipped, outcome.selection.skipped),
            _sum(outcome),
        ],
    )


def recommend(
    results: Sequence[ExamResult], views: Sequence[NodeView], config: Config, categories: Collection[str]
) -> tuple[Recommendation, ...]:
    """The first of the working models in the router's own order, for each kind of work."""
    working = {result.key: result for result in results if result.works}
    snapshot = Snapshot(
        tuple(
            replace(view, models=tuple(m for m in view.models if (view.name, m.name) in working))
            for view in views
        ),
        version=0,
        complete=True,
    )
    fits = Fit(True, "it has just answered")
    found: list[Recommendation] = []
    for category in categories:
        situation = PlanContext(snapshot, Health(config.circuit), (), {}, 0.0, lambda _view, _model: fits)
        order = plan(ModelRequest(category=category), config.router, situation).candidates
        if not order:
            why = "no tested model works" if not working else "the working models are used only by name"
            found.append(Recommendation(category, None, None, "", why))
            continue
        result = working[order[0].node, order[0].model]
        why = order[0].why
        if len(order) == 1:
            why = f"{why}; the only one that works"
        if result.tokens_per_s is not None:
            why = f"{why}; {result.tokens_per_s:.0f} tokens/s"
        found.append(Recommendation(category, order[0].node, order[0].model, result.examinee.shown, why))
    return tuple(found)


def summary(outcome: ExamOutcome) -> list[str]:
    """The end of a test in sentences: who works, who is fastest, whom to use for what."""
    if not outcome.tested:
        return []
    lines = [f"working: {len(outcome.working)} of {len(outcome.tested)}"]
    if outcome.soonest is not None:
        lines.append(f"fastest answer: {outcome.soonest.examinee} ({outcome.soonest.total_s:.2f} s)")
    if outcome.quickest is not None:
        speed = f"{outcome.quickest.tokens_per_s:.1f} tokens/s"
        lines.append(f"fastest speaker: {outcome.quickest.examinee} ({speed})")
    for advice in outcome.recommendations:
        who = f"{advice.shown} on {advice.node}" if advice.node else "nobody"
        lines.append(f"for {advice.category}: {who} ({advice.why})")
    return lines


def cells(result: ExamResult) -> list[str]:
    """One row under COLUMNS."""
    return [
        result.examinee.node,
        result.examinee.shown,
        result.state,
        _seconds(result.load_s),
        _seconds(result.first_token_s),
        _seconds(result.total_s),
        "" if result.tokens is None else str(result.tokens),
        "" if result.tokens_per_s is None else f"{result.tokens_per_s:.1f}",
    ]


COLUMNS = ("node", "model", "result", "load", "first token", "total", "tokens", "tokens/s")


def markdown(outcome: ExamOutcome, findings: Sequence[Finding], *, at: datetime, version: str) -> str:
    """The whole outcome as a document. Foreign text cannot become markup in it."""
    lines = [
        "# Model test",
        "",
        f"{at:%Y-%m-%d %H:%M:%S} UTC, opskit {escaped(version)}.",
        f"{len(outcome.working)} of {len(outcome.tested)} tested models work.",
        "",
    ]
    if outcome.results:
        lines += [*_table(COLUMNS, [cells(result) for result in outcome.results]), ""]
        lines += ["Times are of a request to the loaded model; its load is a column of its own.", ""]
    lines += ["## Working models", ""]
    lines += [f"- {escaped(str(result.examinee))}" for result in outcome.working] or ["None."]
    lines += ["", "## Fastest", ""]
    fastest = [
        f"- Answer: {escaped(str(r.examinee))} ({r.total_s:.2f} s)"
        for r in (outcome.soonest,)
        if r is not None
    ]
    fastest += [
        f"- Speaker: {escaped(str(r.examinee))} ({r.tokens_per_s:.1f} tokens/s)"
        for r in (outcome.quickest,)
        if r is not None
    ]
    lines += fastest or ["None."]
    lines += ["", "## Recommendations", ""]
    rows = [[r.category, r.shown or "nobody", r.node or "", r.why] for r in outcome.recommendations]
    lines += [*_table(("for", "model", "node", "why"), rows), ""]
    told = (Status.FAIL, Status.WARN, Status.INCONCLUSIVE)
    troubles = [f for f in findings if f.status in told]
    if troubles:
        lines += ["## Failures and warnings", ""]
        rows = [[f.target, f.status.value, f.state, f.detail, f.remedy or ""] for f in troubles]
        lines += [*_table(("target", "status", "state", "detail", "what to do"), rows), ""]
    if outcome.selection.skipped:
        lines += ["## Not tested", ""]
        lines += _table(
            ("node", "model", "why"), [[s.node, s.model, s.why] for s in outcome.selection.skipped]
        )
        lines.append("")
    return "\n".join(lines)


def escaped(text: str) -> str:
    """Foreign text as plain text on one line of Markdown, inside a table too."""
    flat = "".join(char if char.isprintable() else " " for char in text)
    return "".join(f"\\{char}" if char in _MARKS else char for char in flat)


def _table(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    lines = [columns, ["---"] * len(columns), *([escaped(cell) for cell in row] for row in rows)]
    return [f"| {' | '.join(line)} |" for line in lines]


def _seconds(value: float | None) -> str:
    return "" if value is None else f"{value:.2f} s"


def _tested(result: ExamResult, kind: ServerKind) -> Finding:
    who = result.examinee
    slow = "`opskit models loaded` shows whether it is partly on the CPU" if result.state == "slow" else None
    return Finding(
        "model",
        f"{who.node}/{who.model}",
        result.status,
        result.state,
        result.detail,
        result.code,
        slow if result.works else _remedy(result, kind),
        result.total_s or 0.0,
        {key: value for key, value in result.as_json().items() if key.endswith("_s") and value is not None},
    )


def _absent(skip: Skipped) -> Finding:
    """Asked for by name, and not there to be tested."""
    target = f"{skip.node}/{skip.model}" if skip.node else skip.model
    if skip.node:
        return Finding(
            "model",
            target,
            Status.FAIL,
            "out_of_memory",
            skip.why,
            "MODEL_003",
            "`opskit models loaded` shows what fills the memory; `opskit models list` shows what fits",
        )
    remedy = f"`opskit models list` shows the names; `ollama pull {skip.model}` installs one"
    return Finding("model", target, Status.FAIL, "not_installed", skip.why, "MODEL_001", remedy)


def _skipped(skip: Skipped) -> Finding:
    return Finding("model", f"{skip.node}/{skip.model}", Status.SKIP, "not tested", skip.why)


def _sum(outcome: ExamOutcome) -> Finding:
    tested, working = outcome.tested, outcome.working
    if not tested:
        return Finding(
            "exam",
            "models",
            Status.INCONCLUSIVE,
            "nothing tested",
            _why_nothing(outcome),
            "MODEL_001",
            "`opskit models test --all` loads and tests every model that fits"
            if outcome.selection.unloaded or outcome.selection.untold
            else "`opskit models list` shows what there is, `opskit probe` what answers",
        )
    seconds = sum(result.total_s or 0.0 for result in tested)
    if len(working) == len(tested):
        detail = f"{_all(len(tested))} tested {'works' if len(tested) == 1 else 'work'}"
        return Finding("exam", "models", Status.PASS, "ok", detail, seconds=seconds)
    bad = ", ".join(f"{result.examinee} ({result.state})" for result in tested if not result.works)
    return Finding(
        "exam",
        "models",
        Status.FAIL,
        "failing",
        f"{len(working)} of {len(tested)} tested models work; not: {bad}",
        "MODEL_004",
        None,
        seconds,
    )


def _why_nothing(outcome: ExamOutcome) -> str:
    chosen = outcome.selection
    reasons = [f"{skip.model}: {skip.why}" for skip in (*chosen.absent, *chosen.skipped)]
    reasons += [f"{result.examinee}: {result.detail}" for result in outcome.results]
    if reasons:
        return f"nothing was tested: {'; '.join(reasons[:4])}"
    dark = ", ".join(finding.target for finding in outcome.unread)
    told = f"no model is known to be loaded ({dark} could not be read)" if dark else "no model is loaded"
    return f"{told}, so there was none to test"


def _all(count: int) -> str:
    return "the one model" if count == 1 else f"all {count} models"


def _remedy(result: ExamResult, kind: ServerKind) -> str | None:
    """What to type next, by the fault and the kind of server."""
    model, node, state = result.examinee.model, result.examinee.node, result.state
    again = f"`opskit models test --node {node} --model {model}`"
    if state in _CRASHES:
        if kind.log:
            return f"{kind.log} tells why; then {again}"
        return f"look at the log of {node}, restart it, {again}"
    if state in _SILENCES:
        if kind.unload:
            return f"{kind.unload_hint(model)}, then {again}; if that hangs: `{kind.restart}`"
        return f"`opskit probe --verbose` tells busy and wedged apart; restart {node} if wedged"
    if state in _ABSENCES:
        return "`opskit probe` tells what answers and how to start the rest"
    if state in set(Verdict):
        if kind.pull:
            return f"its template may be broken: {kind.pull_hint(model)} renews it"
        return "its chat template may be broken: use another conversion of the model"
    if state == "unloaded":
        return f"`opskit models test --model {model}` loads it"
    remedy = (
        fault_remedy(FaultKind(state), model=model, node=node, server=kind, again=again)
        if state in set(FaultKind)
        else None
    )
    return remedy or "`opskit probe --verbose` shows the state of the node"
