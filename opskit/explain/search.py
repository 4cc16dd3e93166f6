"""Which explanations a text asks for, best first, as a report; none when nothing in it is known."""

import difflib
import re
from collections.abc import Iterable, Iterator
from typing import Any

from opskit.explain import signs
from opskit.explain.catalogue import ENTRIES, Explanation, ExplanationKind, entry_of, named, plain
from opskit.logs.record import uncoloured
from opskit.records import Record
from opskit.result import Finding, Report, Status
from opskit.tags import preview

#: A question of so few words may name what it asks for anywhere: `mlx wedged`.
QUESTION_WORDS = 4
#: A text of fewer lines may be one that was wrapped.
_WRAPPED_LINES = 8

_STATUS = re.compile(r"(?:(?:http|error|status|code)[ :]*)?([45]\d\d)", re.IGNORECASE | re.ASCII)
_WORD = re.compile(r"[^\W\d]\w+")
_TRACEBACK = "Traceback (most recent call last)"
_PREVIEW_CHARS = 80


class ExplanationMatch(Record):
    """An explanation, and what in the text asked for it."""

    entry: Explanation
    why: str

    def as_json(self) -> dict[str, Any]:
        return {**self.entry.as_json(), "why": self.why}


class Explained(Record):
    """The explanations for a text. Without matches the report fails and names what may have been meant."""

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
    finding = Finding("explain", "catalogue", Status.PASS, detail=f"{len(ENTRIES)} explanations")
    return {
        **Report("explain", (finding,)).as_json(),
        "entries": [entry.as_json() for entry in ENTRIES],
        "near": [],
    }


def explain(text: str) -> tuple[ExplanationMatch, ...]:
    """Return the explanations of a key, a short question, an error line, a traceback or a piece of a log."""
    question = uncoloured(text.encode("utf-8", "replace")).decode("utf-8").strip()
    exact = _asked(question)
    if exact:
        return exact
    best = _best(question)
    if 0 < question.count("\n") < _WRAPPED_LINES:
        # A terminal may have broken a line, between words or within one.
        for joined in (" ".join(question.split()), question.replace("\n", "")):
            whole = _best(joined)
            if not best or (_names_system(whole) and not _names_system(best)):
                best = whole
    ordered = sorted(best.values(), key=lambda sign: -sign.weight)
    entries = ((entry_of(sign.kind, sign.key), sign.why) for sign in ordered)
    matches = tuple(ExplanationMatch(entry, why) for entry, why in entries if entry is not None)
    return matches or _words(question)


def _best(text: str) -> dict[tuple[ExplanationKind, str], signs.Sign]:
    """Return the surest sign for each explanation."""
    best: dict[tuple[ExplanationKind, str], signs.Sign] = {}
    for sign in _signs(text):
        known = best.get((sign.kind, sign.key))
        if known is None or sign.weight > known.weight:
            best[sign.kind, sign.key] = sign
    return best


def _names_system(best: Iterable[tuple[ExplanationKind, str]]) -> bool:
    return any(kind is ExplanationKind.SYSTEM for kind, _ in best)


def near(text: str) -> tuple[str, ...]:
    """Keys that somebody who wrote this may have meant, at most five."""
    keys = {plain(entry.key): entry.key for entry in ENTRIES}
    words = [plain(word) for word in text.split()[:8]]
    close = dict.fromkeys(keys[word] for word in words if word in keys)
    for word in (plain(text)[:80], *words):
        if len(word) >= 3:
            close |= dict.fromkeys(e.key for e in ENTRIES if word in plain(f"{e.key} {e.title}"))
        close |= dict.fromkeys(keys[key] for key in difflib.get_close_matches(word, keys, n=5, cutoff=0.7))
    return tuple(close)[:5]


def _asked(question: str) -> tuple[ExplanationMatch, ...]:
    entries = named(question)
    if entries:
        return tuple(ExplanationMatch(entry, "its name") for entry in entries)
    status = _STATUS.fullmatch(question)
    if status is None:
        return ()
    entries = named(status[1])
    if entries:
        return tuple(ExplanationMatch(entry, "its number") for entry in entries)
    sign = signs.of_number(int(status[1]))
    entry = entry_of(sign.kind, sign.key)
    return (ExplanationMatch(entry, sign.why),) if entry else ()


def _words(question: str) -> tuple[ExplanationMatch, ...]:
    """Words of a short question that are keys."""
    words = _WORD.findall(question)
    if "\n" in question or len(words) > QUESTION_WORDS:
        return ()
    matches = {
        (entry.kind, entry.key): ExplanationMatch(entry, f"the word {word}")
        for word in words
        for entry in named(word)
    }
    return tuple(matches.values())


def _signs(text: str) -> Iterator[signs.Sign]:
    lines = dict.fromkeys(_lines(text))
    for line in lines:
        yield from signs.of_line(line)
    if len(lines) > 1:
        yield from signs.of_body(text)


def _lines(text: str) -> Iterator[str]:
    """Return the lines that say what happened: the frames of a traceback show source code."""
    framed = _TRACEBACK in text
    for line in text.splitlines():
        if line.strip() and not (framed and line.startswith(("  ", "\t"))):
            yield line
