"""The result of an examination: causes as a tree, in the order in which to deal with them, and what is open.

Every finding that is not well is explained at most once, by the cause that ranks first; a cause that follows
from another is folded beneath it. None follows from what follows from it, so there are no circles.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from opskit.checks.state import NodeState
from opskit.doctor.cause import AREA_OF, RANKS, Cause
from opskit.errors import Exit
from opskit.records import Record, field
from opskit.result import SCHEMA_VERSION, Finding, Status

#: What a cause may explain.
OPEN = frozenset({Status.FAIL, Status.WARN, Status.INCONCLUSIVE})


class Attributed(Record):
    """A cause with the checks that it explains. `parent` is the key of the cause that it follows from."""

    cause: Cause
    explains: tuple[str, ...] = ()
    parent: str | None = None


class Diagnosis(Record):
    """`entries` are the causes, each before what follows from it; `open` what none of them explains.

    `areas` are by the names of checks.
    """

    entries: tuple[Attributed, ...]
    findings: tuple[Finding, ...]
    open: tuple[Finding, ...]
    seconds: float = 0.0
    areas: Mapping[str, str] = field(default_factory=dict)

    @property
    def causes(self) -> list[Cause]:
        return [entry.cause for entry in self.entries]

    @property
    def roots(self) -> list[Attributed]:
        return [entry for entry in self.entries if entry.parent is None]

    @property
    def is_bare(self) -> bool:
        """Tell whether no model server listens and nothing is configured: there is no stack to judge."""
        return any(finding.state == NodeState.NOT_CONFIGURED.shown for finding in self.open)

    @property
    def judged(self) -> bool:
        return not self.is_bare and any(finding.status is Status.PASS for finding in self.findings)

    @property
    def status(self) -> Status:
        if self.entries:
            failed = any(cause.status is Status.FAIL for cause in self.causes)
            return Status.FAIL if failed else Status.WARN
        return Status.PASS if self.judged else Status.INCONCLUSIVE

    @property
    def exit(self) -> Exit:
        """1 with any cause, 3 when nothing could be judged, else 0: what is merely open fails nothing."""
        if self.entries:
            return Exit.FAILED
        return Exit.OK if self.judged else Exit.INCONCLUSIVE

    def below(self, key: str) -> list[Attributed]:
        """Return what follows directly from a cause."""
        return [entry for entry in self.entries if entry.parent == key]

    def explained(self, entry: Attributed) -> list[str]:
        """Return the checks that a cause, or anything that follows from it, explains."""
        names = list(entry.explains)
        for child in self.below(entry.cause.key):
            names += self.explained(child)
        return names

    def as_json(self) -> dict[str, Any]:
        return {
            "schema_version": SCHEMA_VERSION,
            "command": "doctor",
            "ok": self.exit is Exit.OK,
            "status": self.status.value,
            "seconds": round(self.seconds, 3),
            "causes": [_cause_json(entry) for entry in self.entries],
            "findings": [finding.as_json() for finding in self.findings],
        }


def diagnosed(
    causes: Iterable[Cause],
    findings: Sequence[Finding],
    *,
    areas: Mapping[str, str] | None = None,
    seconds: float = 0.0,
) -> Diagnosis:
    """Attribute findings to causes; a failure that nothing explains becomes a cause of its own. Pure."""
    known = list(causes)
    _, unexplained = attribute(known, findings)
    known += [_unexplained(finding) for finding in unexplained if finding.status is Status.FAIL]
    entries, unexplained = attribute(known, findings)
    return Diagnosis(tuple(entries), tuple(findings), tuple(unexplained), seconds, areas or {})


def _unexplained(finding: Finding) -> Cause:
    """Return a failure whose reason is not known here as a cause of its own."""
    state = finding.state or "failed"
    return Cause(
        id="check-failed",
        target=finding.check,
        title=f"{finding.check}: {state}",
        evidence=(finding.detail,) if finding.detail else (),
        remedy=finding.remedy or f"`opskit explain {finding.code or state}`",
        claims=frozenset({finding.check}),
        code=finding.code,
    )


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
    parents: dict[str, str] = {}
    # What ranks before is rather the reason than what ranks after.
    for is_before in (True, False):
        for cause in ordered:
            known = (unique[key] for key in cause.because if key in unique)
            reasons = (reason.key for reason in known if order(reason) < order(cause) or not is_before)
            parent = next((key for key in reasons if cause.key not in _line(key, parents)), None)
            if parent is not None:
                parents.setdefault(cause.key, parent)
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
            parents.get(cause.key),
        )
        for cause in ordered
    }
    unexplained = [finding for finding in findings if finding.status in OPEN and finding.check not in taken]
    return _unfolded(entries), unexplained


def _line(key: str | None, parents: Mapping[str, str | None]) -> Iterator[str]:
    """Yield the key of a cause, and the keys of all that it follows from."""
    while key is not None:
        yield key
        key = parents.get(key)


def _unfolded(entries: dict[str, Attributed]) -> list[Attributed]:
    """Roots in order, each followed by all that follows from it; what fails before what merely warns."""
    children: dict[str | None, list[Attributed]] = {}
    parents, failing = {key: entry.parent for key, entry in entries.items()}, set[str]()
    for key, entry in entries.items():
        children.setdefault(entry.parent, []).append(entry)
        if entry.cause.status is Status.FAIL:
            failing.update(_line(key, parents))
    for listed in children.values():
        listed.sort(key=lambda entry: (entry.cause.key not in failing, order(entry.cause)))
    ordered: list[Attributed] = []
    waiting = list(reversed(children.get(None, [])))
    while waiting:
        entry = waiting.pop()
        ordered.append(entry)
        waiting += reversed(children.get(entry.cause.key, []))
    return ordered


def _cause_json(entry: Attributed) -> dict[str, Any]:
    cause = entry.cause
    return {
        "id": cause.id,
        "target": cause.target,
        "key": cause.key,
        "area": AREA_OF[cause.id],
        "title": cause.title,
        "status": cause.status.value,
        "evidence": list(cause.evidence),
        "explains": list(entry.explains),
        "follows_from": entry.parent,
        "fix": None if cause.fix is None else cause.fix.as_json(),
        "remedy": cause.remedy,
        "code": cause.error_code,
    }
