"""From what was seen to a finding: pure."""

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

from opskit.checks.attempt import Failure
from opskit.checks.spec import Check, Expectation, NotHere, Observation, Unjudged
from opskit.errors import OpskitError
from opskit.records import replace
from opskit.result import Finding, Status
from opskit.text import shortened

#: The state of a check that was cut off.
LATE = "timeout"
_SHOWN_CHARS = 300
_SHOWN_ITEMS = 50


def judged(check: Check, observation: Observation, seconds: float) -> Finding:
    """Return pass or fail by the expectation, or inconclusive where what was seen proves neither.

    A problem fails the check unless its `error`, or a value that is `settled` in spite of it, is expected.
    """
    expected = check.expect.matchers.keys()
    reasons = check.expect.mismatches(observation.values)
    finding = partial(_finding, check, seconds=seconds, observation=observation)
    seen = Expectation({key: check.expect.matchers[key] for key in expected - observation.unseen})
    if observation.unseen.intersection(expected) and not seen.mismatches(observation.values):
        return finding(Status.INCONCLUSIVE, observation.state or "unknown", observation.detail)
    if observation.problem and not expected & {"error", *observation.settled}:
        undecided = observation.undecided
        unknown = [f"`{key}`" for key in expected if observation.values.get(key) is False]
        if unknown and not reasons and not undecided:
            undecided = f"{observation.problem}: that does not tell {', '.join(unknown)}"
        reasons = [observation.problem]
    else:
        undecided = observation.undecided
        if reasons and (observation.problem or observation.detail):
            reasons.append(f"({observation.problem or observation.detail})")
    if not reasons:
        return finding(Status.PASS, observation.state or "ok", observation.detail or observation.problem)
    if undecided:
        return finding(Status.INCONCLUSIVE, observation.state or "unknown", undecided)
    status = Status.FAIL if check.severity.fails else Status.WARN
    state = observation.state if observation.state not in ("", "ok") else "failed"
    return finding(status, state, "; ".join(reasons).replace("; (", " ("))


def assessed(check: Check, finding: Finding) -> Finding:
    """Return a finding that a kind made itself, as that of its check where a checklist names it."""
    if not check.where:
        return finding
    if check.expect.matchers:
        values = {"status": finding.status.value, "state": finding.state}
        return judged(check, Observation(values, finding.detail, state=finding.state), finding.seconds)
    is_mild = finding.status is Status.FAIL and not check.severity.fails
    return replace(
        finding,
        check=check.name,
        status=Status.WARN if is_mild else finding.status,
        remedy=check.remedy if check.remedy and finding.remedy else finding.remedy,
        evidence={**_origin(check), **finding.evidence},
    )


def _origin(check: Check) -> dict[str, Any]:
    return {"kind": check.kind.name, "severity": check.severity.value, "where": check.where}


def without_values(check: Check, failure: Failure, seconds: float) -> Finding:
    """Return the finding of a kind that gave none: it was late, said why, or made a mistake of ours."""
    match failure.exception:
        case None:
            status = Status.FAIL if check.severity.fails else Status.WARN
            return _finding(
                check, status, LATE, f"no result within {check.timeout_s:g} s", seconds, code="COMM_003"
            )
        case NotHere(reason):
            return _finding(check, Status.SKIP, "absent", reason, seconds)
        case Unjudged() | OpskitError() as why:
            reason = why.reason if isinstance(why, Unjudged) else why.message
            state = Status.INCONCLUSIVE, "unknown"
            return _finding(check, *state, reason, seconds, code=why.code, remedy=why.remedy)
    observation = Observation({}, evidence={"traceback": failure.trace(12)})
    detail = f"opskit itself failed in this check: {failure.error.message}"
    return _finding(check, Status.INCONCLUSIVE, "bug", detail, seconds, observation, code="BUG_001")


def not_run(check: Check, causes: Sequence[Finding]) -> Finding:
    """Return the finding of a check that is skipped, or whose requirements did not hold: `causes`."""
    if check.skip is not None:
        return _finding(check, Status.SKIP, "skipped", check.skip, 0.0)
    words = {Status.SKIP: "was skipped", Status.INCONCLUSIVE: "could not be judged"}
    names = ", ".join(f"{cause.check!r} {words.get(cause.status, 'failed')}" for cause in causes)
    return _finding(check, Status.INCONCLUSIVE, "not judged", f"because {names}", 0.0, own_remedy=False)


def holds(finding: Finding) -> bool:
    """Tell whether the checks that require it can be judged."""
    return finding.status is Status.PASS


def _finding(
    check: Check,
    status: Status,
    state: str,
    detail: str,
    seconds: float,
    observation: Observation | None = None,
    *,
    code: str | None = None,
    remedy: str | None = None,
    own_remedy: bool = True,
) -> Finding:
    good = status in (Status.PASS, Status.SKIP)
    advice = (check.remedy if own_remedy else None) or remedy or (observation.remedy if observation else None)
    evidence = _origin(check)
    if check.tags:
        evidence["tags"] = list(check.tags)
    if observation is not None:
        evidence |= {key: _short(value) for key, value in observation.evidence.items()}
        evidence["values"] = {key: _short(value) for key, value in observation.values.items()}
    return Finding(
        check.name,
        check.target,
        status,
        state,
        detail,
        None if good else code or (observation.code if observation else None),
        None if good else advice,
        seconds,
        evidence,
    )


def _short(value: Any, depth: int = 3) -> Any:
    if isinstance(value, str):
        return shortened(value, _SHOWN_CHARS)
    if isinstance(value, float):
        return round(value, 4)
    if isinstance(value, Mapping | list | tuple) and depth == 0:
        return "…"
    if isinstance(value, Mapping):
        return {str(key): _short(item, depth - 1) for key, item in list(value.items())[:_SHOWN_ITEMS]}
    if isinstance(value, list | tuple):
        return [_short(item, depth - 1) for item in value[:_SHOWN_ITEMS]]
    return value
