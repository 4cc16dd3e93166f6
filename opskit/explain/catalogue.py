"""All explanations, and how one is looked up by its exact key."""

from opskit.explain.entry import Explanation, ExplanationKind, of_codes, plain
from opskit.explain.faults import FAULTS
from opskit.explain.statuses import STATUSES
from opskit.explain.verdicts import STATES, VERDICTS

ENTRIES: tuple[Explanation, ...] = (*of_codes(), *STATUSES, *FAULTS, *VERDICTS, *STATES)

_BY_NAME: dict[tuple[ExplanationKind, str], Explanation] = {
    (entry.kind, plain(entry.key)): entry for entry in ENTRIES
}


def entry_of(kind: ExplanationKind, key: str) -> Explanation | None:
    """The explanation of one word of one kind."""
    return _BY_NAME.get((kind, plain(key)))


def named(key: str) -> tuple[Explanation, ...]:
    """Every explanation with this key, however it is written; a state comes before the fault behind it."""
    order = (
        ExplanationKind.CODE,
        ExplanationKind.STATUS,
        ExplanationKind.STATE,
        ExplanationKind.FAULT,
        ExplanationKind.VERDICT,
    )
    found = (_BY_NAME.get((kind, plain(key))) for kind in order)
    return tuple(entry for entry in found if entry is not None)
