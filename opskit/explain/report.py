"""The outcome of `opskit explain`: a report like any other command's, and the explanations themselves."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from opskit.explain.catalogue import ENTRIES
from opskit.explain.entry import Explanation
from opskit.explain.search import ExplanationMatch, explain, near
from opskit.result import Finding, Report, Status
from opskit.tags import preview

_PREVIEW_CHARS = 80


@dataclass(frozen=True, slots=True)
class Explained:
    """What was found for a text; without matches the report fails and names what may have been meant."""

    report: Report
    matches: tuple[ExplanationMatch, ...]
    near: tuple[str, ...]

    def as_json(self) -> dict[str, Any]:
        entries = [match.as_json() for match in self.matches]
        return {**self.report.as_json(), "entries": entries, "near": list(self.near)}


def explained(text: str) -> Explained:
    """Explain a key, a question, an error line, a traceback or a piece of a log."""
    target = preview(text, _PREVIEW_CHARS)
    matches = explain(text)
    if not matches:
        keys = near(text)
        meant = f"; near: {', '.join(keys)}" if keys else ""
        finding = Finding(
            "explain",
            target,
            Status.FAIL,
            "unknown",
            f"nothing in the catalogue matches{meant}",
            remedy="`opskit explain --list` shows every key",
        )
        return Explained(Report("explain", (finding,)), (), keys)
    best = matches[0].entry
    finding = Finding(
        "explain", target, Status.PASS, best.key, best.title, code=best.code, remedy=best.remedy
    )
    return Explained(Report("explain", (finding,)), matches, ())


def listing() -> dict[str, Any]:
    """Every explanation, as a document."""
    finding = Finding("explain", "catalogue", Status.PASS, detail=f"{len(ENTRIES)} explanations")
    return {
        **Report("explain", (finding,)).as_json(),
        "entries": [entry.as_json() for entry in ENTRIES],
        "near": [],
    }


def rows(entries: Sequence[Explanation] = ENTRIES) -> list[tuple[str, ...]]:
    """Each explanation on one row: kind, key, title, HTTP status, exit status."""
    return [(e.kind.value, e.key, e.title, str(e.http_status or ""), str(int(e.exit))) for e in entries]


def lines(match: ExplanationMatch) -> tuple[str, ...]:
    """One explanation for a person: its name first, then what lies behind it and what to type."""
    entry = match.entry
    told = [f"exit status {int(entry.exit)}"]
    if entry.http_status is not None:
        told.insert(0, f"HTTP {entry.http_status}")
    if entry.code is not None and entry.code != entry.key:
        told.append(f"reported as {entry.code}")
    if entry.see:
        told.append(f"see also {', '.join(entry.see)}")
    return (
        f"{entry.key}  {entry.title}  ({entry.kind.value}; {match.why})",
        f"  cause:  {entry.cause}",
        f"  remedy: {entry.remedy}",
        f"  {'; '.join(told)}",
    )
