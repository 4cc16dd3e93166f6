"""Running checks: as many at once as allowed, in the order of their requirements, each under its deadline."""

import asyncio
import importlib
import time
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

from opskit.checks.attempt import Failure, attempt, in_order
from opskit.checks.matchers import CannotJudge, NotSeen
from opskit.checks.spec import Check, CheckContext, Expectation, NotHere, Observation, Unjudged
from opskit.errors import OpskitError
from opskit.facts.survey import Survey
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
    # What was seen tells more than what could not be.
    reasons = [reason for reason in reasons if not isinstance(reason, CannotJudge)] or reasons
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
        if reasons and all(isinstance(reason, NotSeen) for reason in reasons):
            undecided = undecided or "; ".join(reasons)
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


async def run(
    checks: Sequence[Check],
    survey: Survey,
    *,
    max_concurrent: int = 50,
    on_finding: Callable[[Finding], None] = lambda _finding: None,
) -> list[Finding]:
    """The findings in the order of `checks`, whose requirements must all be among them.

    `on_finding` gets each finding as it comes. Never raises for what a check does.
    """
    for module in sorted({module for check in checks for module in check.kind.imports}):
        importlib.import_module(module)
    started, by_name = time.monotonic(), {check.name: check for check in checks}
    findings: dict[str, Finding] = {}

    async def judge(name: str) -> None:
        check = by_name[name]
        causes = [findings[required] for required in check.requires if not holds(findings[required])]
        if causes or check.skip is not None:
            findings[name] = not_run(check, causes)
        else:
            findings[name] = await _retried(check, survey, started)
        on_finding(findings[name])

    before = {name: {*check.requires, *check.after} for name, check in by_name.items()}
    await in_order(before, judge, max_concurrent=max_concurrent)
    return [findings[check.name] for check in checks]


async def _retried(check: Check, survey: Survey, started: float) -> Finding:
    """Return the finding of the first attempt that passes, else of the last one."""
    waited = bool(check.requires or check.after)
    finding, _ = await _attempt(check, survey, time.monotonic() if waited else started)
    attempts = 1
    while attempts <= check.retries and finding.status not in (Status.PASS, Status.SKIP):
        await asyncio.sleep(check.delay_s)
        finding, _ = await _attempt(check, survey, time.monotonic())
        attempts += 1
    return replace(finding, evidence={**finding.evidence, "attempts": attempts}) if attempts > 1 else finding


async def observed(check: Check, survey: Survey) -> tuple[Finding, Mapping[str, Any] | None]:
    """Run a check once; return all the values that were seen too, None where nothing was."""
    for module in check.kind.imports:
        importlib.import_module(module)
    finding, observation = await _attempt(check, survey, time.monotonic())
    return finding, None if observation is None or observation.problem else observation.values


async def _attempt(check: Check, survey: Survey, not_before: float) -> tuple[Finding, Observation | None]:
    """Run a check once under its deadline. Foreign exceptions end here: a kind that fails ends no run.

    Of the values that a kind yields `error` is None and `seconds` the time it took, unless it says otherwise.
    """
    wanted = frozenset(check.expect.matchers)
    context = CheckContext(survey, check.folder, check.timeout_s, wanted, not_before)
    began = time.monotonic()
    result = await attempt(check.kind.observe(check.params, context), check.timeout_s)
    seconds = time.monotonic() - began
    if isinstance(result, Finding):
        return assessed(check, result), None
    if isinstance(result, Observation):
        usual = {"error": None, "seconds": seconds}.items()
        values = {key: value for key, value in usual if key in check.kind.yields}
        observation = replace(result, values=values | dict(result.values))
        return judged(check, observation, seconds), observation
    return without_values(check, result, seconds), None
