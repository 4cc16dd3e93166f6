"""Which explanations a text asks for, best first, as a report; none when nothing in it is known.

A pasted line is text and nothing else, so this is the one place where words stand for what a type or an
errno would have said. What they mean is still decided by `opskit.llm.faults.classify`. Nothing is guessed:
a number is a status only where something says so, and a sentence counts only when a server is known to say
it. The patterns stand in `signs.yaml`.
"""

import difflib
import json
import re
from collections.abc import Iterator
from itertools import chain
from typing import Any

from opskit import tags
from opskit.errors import catalogue
from opskit.explain.catalogue import (
    ENTRIES,
    PHRASES,
    Explanation,
    ExplanationKind,
    entry_of,
    load_yaml,
    named,
    plain,
)
from opskit.llm.faults import FaultKind, classify
from opskit.logs.record import uncoloured
from opskit.providers.base import CallCause, CallError
from opskit.records import Record, replace
from opskit.result import Finding, Report, Status
from opskit.tags import preview

#: How sure a sign is. A code or a tagged field is a statement, a bare status is the least that can be said.
SAID, TEXT, CONNECTION, STATUS, BY_STATUS = 90, 80, 70, 60, 50


class Sign(Record):
    """One thing that the text shows. `why` tells in which words, for a person."""

    kind: ExplanationKind
    key: str
    weight: int
    why: str


def _fault(kind: FaultKind, weight: int, why: str) -> Sign:
    return Sign(ExplanationKind.FAULT, kind.value, weight, why)


def _any(*patterns: str) -> re.Pattern[str]:
    return re.compile("|".join(patterns), re.IGNORECASE | re.ASCII)


_WORDS = load_yaml("signs.yaml")
_PHRASES = "|".join(map(re.escape, PHRASES.values()))
_CODE = _any(rf"\b({'|'.join(catalogue())})\b")
_STATUS_PATTERNS = tuple(_any(pattern.replace("PHRASES", _PHRASES)) for pattern in _WORDS["status"])
_CONNECTION = tuple(
    (CallCause(way["cause"]), way["phase"], _any(*way["says"])) for way in _WORDS["connection"]
)
_SENTENCES = tuple(
    (ExplanationKind(sentence["kind"]), sentence["key"], _any(*sentence["says"]))
    for sentence in _WORDS["sentences"]
)
_SYSTEM = {key: _any(*patterns) for key, patterns in _WORDS["system"].items()}

#: The address in a client's own error, which says nothing about a runner behind the server.
_CLIENT_ADDRESS = _any(r'\b(?:get|post|head|put|delete) \\?"?https?://[^"\s]{1,300}"?')

_TAG = re.compile(rf"\[(?:{'|'.join(tag.value for tag in tags.Tag)})\]")
_FIELD = re.compile(r"\b(?:fault|verdict)=")

#: What opskit prints: the attempts of `run`, the rows and the remedies of `probe`.
_ATTEMPT = re.compile(r" on \S{1,200}: (\w{1,30})(?: after [\d.]{1,20} s)?(?: \(|;|$)")
_ROW = re.compile(
    r"\s(?:pass|warn|fail|skip|inconclusive)\s{1,20}(not configured|[a-z]{2,20})\s{1,20}\d{1,6}\.\d{3}\b"
)
_REMEDY = re.compile(r"^\S{1,100} \((not configured|[a-z]{2,20})\): ")


def system_explanation(text: str, **names: str) -> Explanation | None:
    """Return the explanation of a complaint of the system, or of a server; None where none is known.

    Its remedy has the `names` in place of their keys (`NAME`), and what the text itself names.
    """
    for key, pattern in _SYSTEM.items():
        entry = entry_of(ExplanationKind.SYSTEM, key)
        if entry is not None and (match := pattern.search(text)):
            known = names | {name: value for name, value in match.groupdict().items() if value}
            words = re.split(r"\b([A-Z]+)\b", entry.remedy)
            return replace(entry, remedy="".join(known.get(word, word) for word in words))
    return None


def signs_of_line(line: str) -> Iterator[Sign]:
    for match in _CODE.finditer(line):
        yield Sign(ExplanationKind.CODE, match[1].upper(), SAID, f"the text holds {match[1]}")
    stated = tuple(_stated(line))
    yield from stated
    if stated:
        return
    yield from _shown(line)
    yield from signs_of_body(line)


def signs_of_body(text: str) -> Iterator[Sign]:
    """Return the signs in a JSON error body that begins somewhere in the text, on one line or several."""
    begin = text.find("{")
    if begin < 0:
        return
    try:
        body, _ = json.JSONDecoder(strict=False).raw_decode(text, begin)
    except (ValueError, RecursionError):
        return
    if isinstance(body, dict):
        from opskit.providers.failures import error_text  # with httpx, which a question does not need

        sentence, kind = error_text(body)
        yield from _shown(f"{kind}: {sentence}" if kind else sentence)


def sign_of_number(status: int) -> Sign:
    """Return the fault that the router makes of a status without an explanation of its own."""
    return _fault(_bare(status), BY_STATUS, f"what the router makes of HTTP {status}")


def _stated(line: str) -> Iterator[Sign]:
    """Return what opskit's own lines state."""
    tag, field = _TAG.search(line), _FIELD.search(line)
    tagged = line[tag.start() :] if tag else f"[LINE] {line[field.start() :]}" if field else ""
    if parsed := tags.parse(tagged):
        for name in ("fault", "verdict", "why"):
            yield from _word(parsed.fields.get(name), f"the line says {name}={parsed.fields.get(name)}")
        return
    for match in _ATTEMPT.finditer(line):
        yield from _word(match[1], f"an attempt ended as {match[1]}")
    for pattern in (_ROW, _REMEDY):
        row = pattern.search(line)
        if row and entry_of(ExplanationKind.STATE, row[1]):
            yield Sign(ExplanationKind.STATE, row[1], SAID, f"a probe shows {row[1]}")


def _word(word: object, why: str) -> Iterator[Sign]:
    for kind in (ExplanationKind.FAULT, ExplanationKind.VERDICT):
        entry = entry_of(kind, str(word))
        if entry is not None and entry.key == word:
            yield Sign(kind, entry.key, SAID, why)


def _shown(text: str) -> Iterator[Sign]:
    for key, pattern in _SYSTEM.items():
        if match := pattern.search(text):
            yield Sign(ExplanationKind.SYSTEM, key, TEXT, f"the text says {_quoted(match[0])}")
            text = pattern.sub(" ", text)
    for kind, key, pattern in _SENTENCES:
        if match := pattern.search(text):
            yield Sign(kind, key, TEXT, f"the text says {_quoted(match[0])}")
    statuses = tuple(
        dict.fromkeys(int(match[1]) for pattern in _STATUS_PATTERNS for match in pattern.finditer(text))
    )
    for status in statuses:
        yield from _of_status(status, text)
    remaining = text
    for cause, phase, pattern in _CONNECTION:
        if match := pattern.search(text):
            fault = classify(CallError(cause, text, phase=phase))
            yield _fault(fault.kind, CONNECTION, f"the text says {_quoted(match[0])}")
            remaining = pattern.sub(" ", remaining)
    if not statuses:
        fault_of_text = _by_text(text if remaining == text else _CLIENT_ADDRESS.sub(" ", remaining))
        if fault_of_text:
            yield _fault(fault_of_text, TEXT, "servers are known to say this")


def _of_status(status: int, text: str) -> Iterator[Sign]:
    yield Sign(ExplanationKind.STATUS, str(status), STATUS, f"the text says HTTP {status}")
    kind = classify(CallError(CallCause.STATUS, text, status=status)).kind
    if kind not in (_bare(status), _unknown(status)) or kind is _by_text(text):
        yield _fault(kind, TEXT, f"servers are known to say this with HTTP {status}")
    elif entry_of(ExplanationKind.STATUS, str(status)) is None:
        yield sign_of_number(status)


def _by_text(text: str) -> FaultKind | None:
    """Return the fault that the text alone shows: one that no bare status would be."""
    for status in (200, 503, 404, 400):
        kind = classify(CallError(CallCause.IN_BAND, text, status=status, phase="stream")).kind
        if kind is not _bare(status):
            return kind
    return None


def _bare(status: int) -> FaultKind:
    return classify(CallError(CallCause.STATUS, "", status=status)).kind


def _unknown(status: int) -> FaultKind:
    """Return the fault of an unknown text under this status."""
    return classify(CallError(CallCause.STATUS, "?", status=status)).kind


def _quoted(words: str) -> str:
    return f'"{" ".join(words.split())[:80]}"'


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
    finding = Finding("explain", preview(text, _PREVIEW_CHARS), Status.PASS)
    if matches := explain(text):
        best = matches[0].entry
        known = replace(finding, state=best.key, detail=best.title, code=best.code, remedy=best.remedy)
        return Explained(Report("explain", (known,)), matches, ())
    keys = near(text)
    detail = "nothing in the catalogue matches" + (f"; near: {', '.join(keys)}" if keys else "")
    remedy = "`opskit explain --list` shows every key"
    unknown = replace(finding, status=Status.FAIL, state="unknown", detail=detail, remedy=remedy)
    return Explained(Report("explain", (unknown,)), (), keys)


def listing() -> dict[str, Any]:
    finding = Finding("explain", "catalogue", Status.PASS, detail=f"{len(ENTRIES)} explanations")
    entries = [entry.as_json() for entry in ENTRIES]
    return {**Report("explain", (finding,)).as_json(), "entries": entries, "near": []}


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
            if not best or (
                ExplanationKind.SYSTEM in {kind for kind, _ in whole} - {kind for kind, _ in best}
            ):
                best = whole
    ordered = sorted(best.values(), key=lambda sign: -sign.weight)
    entries = ((entry_of(sign.kind, sign.key), sign.why) for sign in ordered)
    matches = tuple(ExplanationMatch(entry, why) for entry, why in entries if entry is not None)
    return matches or _words(question)


def _best(text: str) -> dict[tuple[ExplanationKind, str], Sign]:
    """Return the surest sign for each explanation."""
    best: dict[tuple[ExplanationKind, str], Sign] = {}
    lines = dict.fromkeys(_lines(text))
    of_lines = chain.from_iterable(map(signs_of_line, lines))
    for sign in chain(of_lines, signs_of_body(text) if len(lines) > 1 else ()):
        known = best.get((sign.kind, sign.key))
        if known is None or sign.weight > known.weight:
            best[sign.kind, sign.key] = sign
    return best


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
    status = _STATUS.fullmatch(question)
    if entries := named(question) or named(f"exit_{question}"):
        return tuple(ExplanationMatch(entry, "its name") for entry in entries)
    if status is None:
        return ()
    if entries := named(status[1]):
        return tuple(ExplanationMatch(entry, "its number") for entry in entries)
    sign = sign_of_number(int(status[1]))
    entry = entry_of(sign.kind, sign.key)
    return (ExplanationMatch(entry, sign.why),) if entry else ()


def _words(question: str) -> tuple[ExplanationMatch, ...]:
    """Words of a short question that are keys."""
    words = _WORD.findall(question)
    if "\n" in question or len(words) > QUESTION_WORDS:
        return ()
    asked = {(entry.kind, entry.key): (entry, f"the word {word}") for word in words for entry in named(word)}
    return tuple(ExplanationMatch(entry, why) for entry, why in asked.values())


def _lines(text: str) -> Iterator[str]:
    """Return the lines that say what happened: the frames of a traceback show source code."""
    framed = _TRACEBACK in text
    for line in text.splitlines():
        if line.strip() and not (framed and line.startswith(("  ", "\t"))):
            yield line
