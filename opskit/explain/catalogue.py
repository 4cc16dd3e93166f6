"""All explanations, and how one is looked up by its exact key."""

from opskit.explain.entry import Entry, Kind, of_codes, plain
from opskit.explain.faults import FAULTS
from opskit.explain.statuses import STATUSES
from opskit.explain.verdicts import STATES, VERDICTS

ENTRIES: tuple[Entry, ...] = (*of_codes(), *STATUSES, *FAULTS, *VERDICTS, *STATES)

_BY_NAME: dict[tuple[Kind, str], Entry] = {(entry.kind, plain(entry.key)): entry for entry in ENTRIES}


def entry_of(kind: Kind, key: str) -> Entry | None:
    """The explanation of one word of one kind."""
    return _BY_NAME.get((kind, plain(key)))


def named(key: str) -> tuple[Entry, ...]:
    """Every explanation with this key, however it is written; a state comes before the fault behind it."""
    order = (Kind.CODE, Kind.STATUS, Kind.STATE, Kind.FAULT, Kind.VERDICT)
    found = (_BY_NAME.get((kind, plain(key))) for kind in order)
    return tuple(entry for entry in found if entry is not None)
