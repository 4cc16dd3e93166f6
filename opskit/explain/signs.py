"""What a pasted text shows: codes, tagged lines, statuses in their context, broken connections, error texts.

A pasted line is text and nothing else, so this is the one place where words stand for what a type or an
errno would have told. What they mean is still decided by `opskit.llm.faults.classify`. Nothing is guessed:
a number is a status only where something says so, and a sentence counts only when a server is known to say
it.
"""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum

from opskit import tags
from opskit.explain import words
from opskit.explain.entry import ExplanationKind
from opskit.explain.statuses import STATUSES
from opskit.explain.verdicts import STATES
from opskit.llm.faults import FaultKind, classify
from opskit.llm.verdict import Verdict
from opskit.providers.base import CallCause, CallError
from opskit.providers.failures import error_text

#: How sure a sign is. A code or a tagged field is a statement, a bare status is the least that can be said.
SAID, TEXT, CONNECTION, STATUS, BY_STATUS = 90, 80, 70, 60, 50

_EXPLAINED = frozenset(entry.key for entry in STATUSES)
_STATES = frozenset(entry.key for entry in STATES)


@dataclass(frozen=True, slots=True)
class Sign:
    """One thing that the text shows. `why` tells in which words, for a person."""

    kind: ExplanationKind
    key: str
    weight: int
    why: str


def of_line(line: str) -> Iterator[Sign]:
    """What one line shows."""
    for found in words.CODE.finditer(line):
        yield Sign(ExplanationKind.CODE, found[1].upper(), SAID, f"the text holds {found[1]}")
    told = tuple(_told(line))
    yield from told
    if told:
        return
    yield from _shown(line)
    yield from of_body(line)


def of_body(text: str) -> Iterator[Sign]:
    """What a JSON error body shows that begins somewhere in the text, on one line or on several."""
    begin = text.find("{")
    if begin < 0:
        return
    try:
        body, _ = json.JSONDecoder(strict=False).raw_decode(text, begin)
    except (ValueError, RecursionError):
        return
    if isinstance(body, dict):
        sentence, kind = error_text(body)
        yield from _shown(f"{kind}: {sentence}" if kind else sentence)


def of_number(status: int) -> Sign:
    """What the router makes of a status that has no explanation of its own."""
    return Sign(
        ExplanationKind.FAULT, _bare(status).value, BY_STATUS, f"what the router makes of HTTP {status}"
    )


def _told(line: str) -> Iterator[Sign]:
    """What opskit's own lines say outright."""
    tag, field = words.TAG.search(line), words.FIELD.search(line)
    parsed = None
    if tag:
        parsed = tags.parse(line[tag.start() :])
    elif field:
        parsed = tags.parse(f"[LINE] {line[field.start() :]}")
    if parsed:
        for name in ("fault", "verdict", "why"):
            yield from _word(parsed.fields.get(name), f"the line says {name}={parsed.fields.get(name)}")
        return
    for found in words.ATTEMPT.finditer(line):
        yield from _word(found[1], f"an attempt ended as {found[1]}")
    for pattern in (words.ROW, words.REMEDY):
        row = pattern.search(line)
        if row and row[1] in _STATES:
            yield Sign(ExplanationKind.STATE, row[1], SAID, f"a probe shows {row[1]}")


def _word(word: object, why: str) -> Iterator[Sign]:
    vocabularies: tuple[tuple[ExplanationKind, type[StrEnum]], ...] = (
        (ExplanationKind.FAULT, FaultKind),
        (ExplanationKind.VERDICT, Verdict),
    )
    for kind, vocabulary in vocabularies:
        if word in {member.value for member in vocabulary}:
            yield Sign(kind, str(word), SAID, why)


def _shown(text: str) -> Iterator[Sign]:
    for kind, key, pattern in words.SENTENCES:
        if found := pattern.search(text):
            yield Sign(kind, key, TEXT, f"the text says {_quoted(found[0])}")
    statuses = tuple(dict.fromkeys(int(f[1]) for pattern in words.STATUS for f in pattern.finditer(text)))
    for status in statuses:
        yield from _of_status(status, text)
    rest = text
    for cause, phase, pattern in words.CONNECTION:
        if found := pattern.search(text):
            fault = classify(CallError(cause, text, phase=phase))
            yield Sign(
                ExplanationKind.FAULT, fault.kind.value, CONNECTION, f"the text says {_quoted(found[0])}"
            )
            rest = pattern.sub(" ", rest)
    if not statuses:
        fault_of_text = _by_text(text if rest == text else words.CLIENT_ADDRESS.sub(" ", rest))
        if fault_of_text:
            yield Sign(ExplanationKind.FAULT, fault_of_text.value, TEXT, "servers are known to say this")


def _of_status(status: int, text: str) -> Iterator[Sign]:
    yield Sign(ExplanationKind.STATUS, str(status), STATUS, f"the text says HTTP {status}")
    kind = classify(CallError(CallCause.STATUS, text, status=status)).kind
    if kind not in (_bare(status), _unknown(status)) or kind is _by_text(text):
        yield Sign(
            ExplanationKind.FAULT, kind.value, TEXT, f"servers are known to say this with HTTP {status}"
        )
    elif str(status) not in _EXPLAINED:
        yield of_number(status)


def _by_text(text: str) -> FaultKind | None:
    """The fault that the text alone gives away: one that no bare status would be."""
    for status in (200, 503, 404, 400):
        kind = classify(CallError(CallCause.IN_BAND, text, status=status, phase="stream")).kind
        if kind is not _bare(status):
            return kind
    return None


def _bare(status: int) -> FaultKind:
    return classify(CallError(CallCause.STATUS, "", status=status)).kind


def _unknown(status: int) -> FaultKind:
    """What a text that nobody knows means under this status."""
    return classify(CallError(CallCause.STATUS, "?", status=status)).kind


def _quoted(found: str) -> str:
    return f'"{" ".join(found.split())[:80]}"'
