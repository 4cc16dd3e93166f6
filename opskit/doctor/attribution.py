"""From causes and findings to a tree: who follows from whom, and who explains which finding. Pure.

Every finding that is not well is explained at most once, by the cause that ranks first; a cause that follows
from another is folded beneath it. A parent always ranks before its child, so there are no circles.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from opskit.doctor.catalogue import RANKS
from opskit.doctor.cause import Cause
from opskit.result import Finding, Status

#: What a cause may explain.
OPEN = frozenset({Status.FAIL, Status.WARN, Status.INCONCLUSIVE})


@dataclass(frozen=True, slots=True)
class Attributed:
    """A cause with the checks that it explains. `parent` is the key of the cause that it follows from."""

    cause: Cause
    explains: tuple[str, ...] = ()
    parent: str | None = None


def order(cause: Cause) -> tuple[Any, ...]:
    """Return the key by which causes are sorted: what is to be dealt with first comes first, always."""
    details = (cause.title, cause.status.value, cause.because, cause.evidence, sorted(cause.claims))
    return (RANKS[cause.id], cause.target, *details)


def attribute(causes: Sequence[Cause], findings: Sequence[Finding]) -> tuple[list[Attributed], list[Finding]]:
    """Return the causes, each parent before its children, and the open findings that none of them explains.

    Of several causes with one key only the first counts.
    """
    unique = {cause.key: cause for cause in sorted(causes, key=order, reverse=True)}
    ordered = sorted(unique.values(), key=order)
    parents = {cause.key: _parent(cause, unique) for cause in ordered}
    open_names = [finding.check for finding in findings if finding.status in OPEN]
    taken: dict[str, str] = {}
    for cause in ordered:
        for name in open_names:
            if name in cause.claims:
                taken.setdefault(name, cause.key)
    entries = {
        cause.key: Attributed(
            cause,
            tuple(name for name in dict.fromkeys(open_names) if taken.get(name) == cause.key),
            parents[cause.key],
        )
        for cause in ordered
    }
    unexplained = [finding for finding in findings if finding.status in OPEN and finding.check not in taken]
    return _unfolded(entries), unexplained


def _parent(cause: Cause, known: dict[str, Cause]) -> str | None:
    """The first of `because` that is there and ranks before it."""
    for key in cause.because:
        other = known.get(key)
        if other is not None and order(other) < order(cause):
            return key
    return None


def _unfolded(entries: dict[str, Attributed]) -> list[Attributed]:
    """Roots in order, each followed by all that follows from it; what fails before what merely warns."""
    children: dict[str | None, list[Attributed]] = {}
    failing: set[str] = set()
    for entry in reversed(entries.values()):
        children.setdefault(entry.parent, []).append(entry)
        if entry.cause.status is Status.FAIL or entry.cause.key in failing:
            failing.update({entry.cause.key, entry.parent or ""})
    for listed in children.values():
        listed.sort(key=lambda entry: (entry.cause.key not in failing, order(entry.cause)))
    ordered: list[Attributed] = []
    waiting = list(reversed(children.get(None, [])))
    while waiting:
        entry = waiting.pop()
        ordered.append(entry)
        waiting += reversed(children.get(entry.cause.key, []))
    return ordered
