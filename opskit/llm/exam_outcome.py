"""What an examination came to: who works, who is fastest, whom to use for what. Pure."""

import math
from collections.abc import Collection, Sequence
from typing import Any

from opskit.config.schema import Config
from opskit.llm.catalog import NodeView, Snapshot
from opskit.llm.exam import MAX_TOKENS, ExamResult
from opskit.llm.fit import Fit
from opskit.llm.health import Health
from opskit.llm.plan import ModelRequest, PlanContext, plan
from opskit.llm.selection import ModelSelection
from opskit.records import Record, asdict, replace
from opskit.result import Finding, Status

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
        version=0,
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
