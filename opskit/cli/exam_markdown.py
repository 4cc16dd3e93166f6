"""The Markdown report of `opskit models test`. Foreign text cannot become markup in it. Pure."""

from collections.abc import Sequence
from datetime import datetime

from opskit.llm.exam_outcome import COLUMNS, ExamOutcome, cells
from opskit.result import Finding, Status
from opskit.text import markdown_table, markdown_text

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
