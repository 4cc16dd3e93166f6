"""The Markdown report of `opskit models test`. Foreign text cannot become markup in it. Pure."""

from collections.abc import Sequence
from datetime import datetime

from opskit.llm.exam_outcome import COLUMNS, ExamOutcome, cells
from opskit.result import Finding, Status

_MARKS = frozenset("\\`*_{}[]()<>#|~!&$")
_PROBLEMS = (Status.FAIL, Status.WARN, Status.INCONCLUSIVE)


def markdown(outcome: ExamOutcome, findings: Sequence[Finding], *, at: datetime, version: str) -> str:
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
    fastest = []
    if (answer := outcome.fastest_answer) is not None:
        fastest.append(f"- Answer: {escaped(str(answer.examinee))} ({answer.total_s:.2f} s)")
    if (speaker := outcome.fastest_speaker) is not None:
        fastest.append(f"- Speaker: {escaped(str(speaker.examinee))} ({speaker.tokens_per_s:.1f} tokens/s)")
    lines += fastest or ["None."]
    lines += ["", "## Recommendations", ""]
    rows = [
        [advice.category, advice.name or "nobody", advice.node or "", advice.why]
        for advice in outcome.recommendations
    ]
    lines += [*_table(("for", "model", "node", "why"), rows), ""]
    problems = [finding for finding in findings if finding.status in _PROBLEMS]
    if problems:
        lines += ["## Failures and warnings", ""]
        rows = [
            [problem.target, problem.status.value, problem.state, problem.detail, problem.remedy or ""]
            for problem in problems
        ]
        lines += [*_table(("target", "status", "state", "detail", "what to do"), rows), ""]
    if outcome.selection.skipped:
        lines += ["## Not tested", ""]
        lines += _table(
            ("node", "model", "why"),
            [[skip.node, skip.model, skip.why] for skip in outcome.selection.skipped],
        )
        lines.append("")
    return "\n".join(lines)


def escaped(text: str) -> str:
    """Return foreign text as plain text on one line of Markdown, inside a table too."""
    flat = "".join(char if char.isprintable() else " " for char in text)
    return "".join(f"\\{char}" if char in _MARKS else char for char in flat)


def _table(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    lines = [columns, ["---"] * len(columns), *([escaped(cell) for cell in row] for row in rows)]
    return [f"| {' | '.join(line)} |" for line in lines]
