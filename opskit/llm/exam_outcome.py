"""What an examination came to: who works, who is fastest, whom to use for what, what to type next. Pure."""

import math
from collections.abc import Collection, Sequence
from datetime import datetime
from typing import Any

from opskit.config.schema import Config
from opskit.llm.catalog import NodeView, Snapshot
from opskit.llm.exam import MAX_TOKENS, ExamResult
from opskit.llm.faults import CRASHES, FaultKind, fault_remedy
from opskit.llm.fit import Fit
from opskit.llm.health import Health
from opskit.llm.plan import ModelRequest, PlanContext, Skipped, plan
from opskit.llm.selection import ModelSelection
from opskit.llm.verdict import Verdict
from opskit.providers.kinds import ServerKind
from opskit.records import Record, asdict, replace
from opskit.result import Finding, Report, Status
from opskit.text import listing, markdown_table, markdown_text

#: A model is about as quick as another up to this factor, or this many seconds.
_AS_QUICK, _AS_QUICK_S = 1.5, 0.5
COLUMNS = ("node", "model", "result", "load", "first token", "total", "tokens", "tokens/s")


class Recommendation(Record):
    """Who should do one kind of work, and why; without `model` nobody can."""

    category: str
    node: str | None
    model: str | None
    name: str
    why: str


class ExamOutcome(Record):
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
    def fastest(self) -> dict[str, ExamResult | None]:
        """The one that answered first, and the one that speaks fastest, by the figure that says so."""
        answers = [result for result in self.working if result.total_s is not None]
        speakers = [result for result in self.working if result.tokens_per_s is not None]
        return {
            "total_s": min(answers, key=lambda result: result.total_s or 0.0, default=None),
            "tokens_per_s": max(speakers, key=lambda result: result.tokens_per_s or 0.0, default=None),
        }

    def fastest_lines(self) -> list[tuple[str, str, str]]:
        """Return what each of the fastest does, who it is, and its figure."""
        answer, speaker = self.fastest["total_s"], self.fastest["tokens_per_s"]
        lines = []
        if answer is not None:
            lines.append(("answer", str(answer.examinee), f"{answer.total_s:.2f} s"))
        if speaker is not None:
            lines.append(("speaker", str(speaker.examinee), f"{speaker.tokens_per_s:.1f} tokens/s"))
        return lines

    def as_json(self) -> dict[str, Any]:
        """What `models test --json` shows besides the findings."""
        return {
            "models": [result.as_json() for result in self.results],
            "working": [{"node": r.examinee.node, "model": r.examinee.model} for r in self.working],
            "fastest": {name: result and result.as_json() for name, result in self.fastest.items()},
            "recommendations": list(map(asdict, self.recommendations)),
        }


def recommend(
    results: Sequence[ExamResult], views: Sequence[NodeView], config: Config, categories: Collection[str]
) -> tuple[Recommendation, ...]:
    """Return for each kind of work the first working model in the router's own order that is quick enough.

    One that was measured as slow comes after all that were not; for fast work so does one that needs clearly
    longer for a short answer than the quickest.
    """
    working = {result.key: result for result in results if result.works}
    snapshot = Snapshot(
        tuple(
            replace(view, models=tuple(m for m in view.models if (view.name, m.name) in working))
            for view in views
        ),
        complete=True,
    )
    fits = Fit(True, "it has just answered")
    recommendations = []
    for category in categories:
        context = PlanContext(snapshot, Health(config.circuit), (), {}, 0.0, lambda _view, _model: fits)
        order = plan(ModelRequest(category=category), config.router, context).candidates
        if not order:
            why = "no tested model works" if not working else "the working models are used only by name"
            recommendations.append(Recommendation(category, None, None, "", why))
            continue
        ranked = [working[candidate.node, candidate.model] for candidate in order]
        best_s = min(map(_short_answer_s, ranked)) if category == "fast" else math.inf
        limit_s = max(best_s * _AS_QUICK, best_s + _AS_QUICK_S)
        chosen = min(ranked, key=lambda result: (result.state == "slow", _short_answer_s(result) > limit_s))
        whys = [order[ranked.index(chosen)].why, *_measured(chosen)]
        if len(order) == 1:
            whys.insert(1, "the only one that works")
        passed_over = ranked[: ranked.index(chosen)]
        whys += [
            f"{result.examinee} is slower ({', '.join(_measured(result))})" for result in passed_over[:1]
        ]
        examinee = chosen.examinee
        recommendations.append(
            Recommendation(category, examinee.node, examinee.model, examinee.shown, "; ".join(whys))
        )
    return tuple(recommendations)


def _short_answer_s(result: ExamResult) -> float:
    """Return how long an answer of as many tokens as the test allows takes, by what was measured."""
    if result.first_token_s is not None and result.tokens_per_s:
        return result.first_token_s + MAX_TOKENS / result.tokens_per_s
    return result.total_s or 0.0


def _measured(result: ExamResult) -> list[str]:
    words = [] if result.first_token_s is None else [f"first token in {result.first_token_s:.2f} s"]
    return words + ([] if result.tokens_per_s is None else [f"{result.tokens_per_s:.0f} tokens/s"])


def summary(outcome: ExamOutcome) -> list[str]:
    """Write the end of a test in sentences: who works, who is fastest, whom to use for what."""
    if not outcome.tested:
        return []
    lines = [f"working: {len(outcome.working)} of {len(outcome.tested)}"]
    lines += [f"fastest {what}: {who} ({figure})" for what, who, figure in outcome.fastest_lines()]
    for advice in outcome.recommendations:
        model = f"{advice.name} on {advice.node}" if advice.node else "nobody"
        lines.append(f"for {advice.category}: {model} ({advice.why})")
    return lines


def cells(result: ExamResult) -> list[str]:
    """Return one row under COLUMNS."""
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


def _seconds(value: float | None) -> str:
    return "" if value is None else f"{value:.2f} s"


def report(outcome: ExamOutcome, views: Sequence[NodeView]) -> Report:
    """Return nodes that were not read, each model, models that were not tested, and the sum."""
    kinds = {view.name: view.likely_kind for view in views}
    return Report(
        "models test",
        [
            *outcome.unread,
            *(_tested(result, kinds[result.examinee.node]) for result in outcome.results),
            *map(absent, outcome.selection.absent),
            *map(_skipped, outcome.selection.skipped),
            _sum(outcome),
        ],
    )


def _tested(result: ExamResult, kind: ServerKind) -> Finding:
    examinee = result.examinee
    slow = "`opskit models loaded` shows whether it is partly on the CPU" if result.state == "slow" else None
    times = {
        key: value for key, value in result.as_json().items() if key.endswith("_s") and value is not None
    }
    return Finding(
        check="model",
        target=f"{examinee.node}/{examinee.model}",
        status=result.status,
        state=result.state,
        detail=result.detail,
        code=result.code,
        remedy=slow if result.works else _remedy(result, kind),
        seconds=result.total_s or 0.0,
        evidence=times,
    )


def absent(skip: Skipped) -> Finding:
    """Return the finding of a model that was asked for by name, and cannot be asked."""
    target, state, code = skip.model, "not_installed", "MODEL_001"
    remedy = f"`opskit models list` shows the names; `ollama pull {skip.model}` installs one"
    if skip.node:
        target, state, code = f"{skip.node}/{skip.model}", "out_of_memory", "MODEL_003"
        remedy = "`opskit models loaded` shows what fills the memory; `opskit models list` shows what fits"
    return Finding("model", target, Status.FAIL, state, skip.why, code, remedy)


def _skipped(skip: Skipped) -> Finding:
    return Finding("model", f"{skip.node}/{skip.model}", Status.SKIP, "not tested", skip.why)


def _sum(outcome: ExamOutcome) -> Finding:
    tested, working = outcome.tested, outcome.working
    if not tested:
        remedy = "`opskit models list` shows what there is, `opskit probe` what answers"
        if outcome.selection.unloaded or outcome.selection.untold:
            remedy = "`opskit models test --all` loads and tests every model that fits"
        elif any(finding.status is Status.SKIP for finding in outcome.unread):
            remedy = "`opskit models test --model NAME` asks a model, whether it is loaded or not"
        status, detail = Status.INCONCLUSIVE, _why_nothing(outcome)
        return Finding("exam", "models", status, "nothing tested", detail, "MODEL_001", remedy)
    seconds = sum(result.total_s or 0.0 for result in tested)
    if len(working) == len(tested):
        detail = f"all {len(tested)} models tested work" if len(tested) > 1 else "the one model tested works"
        return Finding("exam", "models", Status.PASS, "ok", detail, seconds=seconds)
    broken = ", ".join(f"{result.examinee} ({result.state})" for result in tested if not result.works)
    detail = f"{len(working)} of {len(tested)} tested models work; not: {broken}"
    return Finding("exam", "models", Status.FAIL, "failing", detail, "MODEL_004", seconds=seconds)


def _why_nothing(outcome: ExamOutcome) -> str:
    selection = outcome.selection
    reasons = [f"{skip.model}: {skip.why}" for skip in (*selection.absent, *selection.skipped)]
    reasons += [f"{result.examinee}: {result.detail}" for result in outcome.results]
    if reasons:
        return f"nothing was tested: {'; '.join(reasons[:4])}"
    unread = listing([finding.target for finding in outcome.unread if finding.status is not Status.SKIP])
    silent = listing([finding.target for finding in outcome.unread if finding.status is Status.SKIP])
    reasons += [f"{unread} could not be read"] * bool(unread)
    reasons += [f"what is loaded at {silent} is not known"] * bool(silent)
    known = f"no model is known to be loaded ({'; '.join(reasons)})" if reasons else "no model is loaded"
    return f"{known}, so there was none to test"


def _remedy(result: ExamResult, kind: ServerKind) -> str | None:
    model, node, state = result.examinee.model, result.examinee.node, result.state
    again = f"`opskit models test --node {node} --model {model}`"
    if state == Verdict.ONLY_THINKING:
        return f"{model} needs more tokens to think than the test allows; choose a model that thinks less"
    if state in set(Verdict):
        renew = fault_remedy(FaultKind.BROKEN_TEMPLATE, model=model, node=node, server=kind, again=again)
        return f"its chat template or its stop words may be broken: {renew}"
    if state == "unloaded":
        return f"`opskit models test --model {model}` loads it"
    remedy = fault_remedy(state, model=model, node=node, server=kind, again=again)
    why = f"`opskit probe --verbose` shows what is wrong with {node}"
    if kind.log and state in CRASHES:
        why = f"{kind.log} tells why"
    return remedy or f"{why}; then {again}"


_PROBLEMS = (Status.FAIL, Status.WARN, Status.INCONCLUSIVE)


def markdown(outcome: ExamOutcome, findings: Sequence[Finding], *, at: datetime, version: str) -> str:
    lines = [
        "# Model test",
        "",
        f"{at:%Y-%m-%d %H:%M:%S} UTC, opskit {markdown_text(version)}.",
        f"{len(outcome.working)} of {len(outcome.tested)} tested models work.",
        "",
    ]
    if outcome.results:
        lines += [*markdown_table(COLUMNS, [cells(result) for result in outcome.results]), ""]
        lines += ["Times are of a request to the loaded model; its load is a column of its own.", ""]
    lines += ["## Working models", ""]
    lines += [f"- {markdown_text(str(result.examinee))}" for result in outcome.working] or ["None."]
    lines += ["", "## Fastest", ""]
    fastest = [
        f"- {what.capitalize()}: {markdown_text(who)} ({figure})"
        for what, who, figure in outcome.fastest_lines()
    ]
    lines += fastest or ["None."]
    lines += ["", "## Recommendations", ""]
    rows = [
        [advice.category, advice.name or "nobody", advice.node or "", advice.why]
        for advice in outcome.recommendations
    ]
    lines += [*markdown_table(("for", "model", "node", "why"), rows), ""]
    problems = [finding for finding in findings if finding.status in _PROBLEMS]
    if problems:
        lines += ["## Failures and warnings", ""]
        rows = [
            [problem.target, problem.status.value, problem.state, problem.detail, problem.remedy or ""]
            for problem in problems
        ]
        lines += [*markdown_table(("target", "status", "state", "detail", "what to do"), rows), ""]
    if outcome.selection.skipped:
        lines += ["## Not tested", ""]
        lines += markdown_table(
            ("node", "model", "why"),
            [[skip.node, skip.model, skip.why] for skip in outcome.selection.skipped],
        )
        lines.append("")
    return "\n".join(lines)
