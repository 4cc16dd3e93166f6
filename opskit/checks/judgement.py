"""From what was seen to a finding: pure."""

from collections.abc import Mapping, Sequence
from collections.abc import Set as AbstractSet
from typing import Any

from opskit.checks.attempt import Failure
from opskit.checks.expectation import Expectation
from opskit.checks.spec import Check, NotHere, Observation, Unjudged
from opskit.errors import OpskitError
from opskit.result import Finding, Status

#: The state of a check that was cut off.
LATE = "timeout"
_SHOWN_CHARS = 300
_SHOWN_ITEMS = 50


def judged(check: Check, seen: Observation, seconds: float) -> Finding:
    """Return pass or fail by the expectation, or inconclusive where what was seen proves neither.

    A problem fails the check unless its `error`, or a value that is `settled` in spite of it, is expected.
    """
    expected = check.expect.matchers.keys()
    reasons = check.expect.mismatches(seen.values)
    if seen.unseen.intersection(expected) and not _mismatches_of_seen(check, seen):
        return _finding(check, Status.INCONCLUSIVE, seen.state or "unknown", seen.detail, seconds, seen)
    if seen.problem and not expected & {"error", *seen.settled}:
        unknown = not reasons and any(seen.values.get(key) is False for key in expected)
        undecided = seen.undecided or (_unproven(seen, expected) if unknown else "")
        reasons = [seen.problem]
    else:
        undecided = seen.undecided
        if reasons and (seen.problem or seen.detail):
            reasons.append(f"({seen.problem or seen.detail})")
    if not reasons:
        return _finding(check, Status.PASS, seen.state or "ok", seen.detail or seen.problem, seconds, seen)
    if undecided:
        return _finding(check, Status.INCONCLUSIVE, seen.state or "unknown", undecided, seconds, seen)
    status = Status.FAIL if check.severity.fails else Status.WARN
    state = seen.state if seen.state not in ("", "ok") else "failed"
    return _finding(check, status, state, "; ".join(reasons).replace("; (", " ("), seconds, seen)


def _unproven(seen: Observation, expected: AbstractSet[str]) -> str:
    names = ", ".join(f"`{key}`" for key in expected if seen.values.get(key) is False)
    return f"{seen.problem}: that does not tell {names}"


def _mismatches_of_seen(check: Check, seen: Observation) -> list[str]:
    matchers = {key: matcher for key, matcher in check.expect.matchers.items() if key not in seen.unseen}
    return Expectation(matchers).mismatches(seen.values)


def late(check: Check, seconds: float) -> Finding:
    """Its deadline came first."""
    status = Status.FAIL if check.severity.fails else Status.WARN
    detail = f"no result within {check.timeout_s:g} s"
    return _finding(check, status, LATE, detail, seconds, code="COMM_003")


def unjudged(check: Check, why: Unjudged | OpskitError, seconds: float) -> Finding:
    reason = why.reason if isinstance(why, Unjudged) else why.message
    return _finding(check, Status.INCONCLUSIVE, "unknown", reason, seconds, code=why.code, remedy=why.remedy)


def broken(check: Check, failure: Failure, seconds: float) -> Finding:
    """The kind itself failed: a mistake of ours says nothing of the target."""
    seen = Observation({}, evidence={"traceback": failure.trace(12)})
    detail = f"opskit itself failed in this check: {failure.error.message}"
    return _finding(check, Status.INCONCLUSIVE, "bug", detail, seconds, seen, code="BUG_001")


def absent(check: Check, why: NotHere, seconds: float) -> Finding:
    return _finding(check, Status.SKIP, "absent", why.reason, seconds)


def skipped(check: Check) -> Finding:
    return _finding(check, Status.SKIP, "skipped", check.skip or "", 0.0)


def blocked(check: Check, causes: Sequence[Finding]) -> Finding:
    """A requirement did not hold, so the check says nothing."""
    names = ", ".join(f"{one.check!r} {_words(one)}" for one in causes)
    return _finding(check, Status.INCONCLUSIVE, "not judged", f"because {names}", 0.0, own_remedy=False)


def holds(finding: Finding) -> bool:
    """Whether those that require it can be judged."""
    return finding.status is Status.PASS


def _words(cause: Finding) -> str:
    return {
        Status.SKIP: "was skipped",
        Status.INCONCLUSIVE: "could not be judged",
    }.get(cause.status, "failed")


def _finding(
    check: Check,
    status: Status,
    state: str,
    detail: str,
    seconds: float,
    seen: Observation | None = None,
    *,
    code: str | None = None,
    remedy: str | None = None,
    own_remedy: bool = True,
) -> Finding:
    good = status in (Status.PASS, Status.SKIP)
    advice = (check.remedy if own_remedy else None) or remedy or (seen.remedy if seen else None)
    evidence: dict[str, Any] = {
        "kind": check.kind.name,
        "severity": check.severity.value,
        "where": check.where,
    }
    if check.tags:
        evidence["tags"] = list(check.tags)
    if seen is not None:
        evidence |= {key: _short(value) for key, value in seen.evidence.items()}
        evidence["values"] = {key: _short(value) for key, value in seen.values.items()}
    return Finding(
        check.name,
        check.target,
        status,
        state,
        detail,
        None if good else code or (seen.code if seen else None),
        None if good else advice,
        seconds,
        evidence,
    )


def _short(value: Any, depth: int = 3) -> Any:
    """Evidence that fits in a report."""
    if isinstance(value, str):
        return value if len(value) <= _SHOWN_CHARS else value[: _SHOWN_CHARS - 1] + "…"
    if isinstance(value, float):
        return round(value, 4)
    if isinstance(value, Mapping | list | tuple) and depth == 0:
        return "…"
    if isinstance(value, Mapping):
        return {str(key): _short(item, depth - 1) for key, item in list(value.items())[:_SHOWN_ITEMS]}
    if isinstance(value, list | tuple):
        return [_short(item, depth - 1) for item in value[:_SHOWN_ITEMS]]
    return value
