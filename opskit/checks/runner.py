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
from opskit.records import MutableRecord, field, replace
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


_AGAIN_S = 1.0


async def run(
    checks: Sequence[Check],
    survey: Survey,
    *,
    max_concurrent: int = 50,
    retry_timeout_s: float = 0.0,
    again_s: float = _AGAIN_S,
    on_finding: Callable[[Finding], None] = lambda _finding: None,
) -> list[Finding]:
    """The findings in the order of `checks`, whose requirements must all be among them.

    With `retry_timeout_s` what did not pass is tried again every `again_s` seconds until all pass or the time
    is over. `on_finding` gets each finding as it comes. Never raises for what a check does.
    """
    for module in sorted({module for check in checks for module in check.kind.imports}):
        importlib.import_module(module)
    started = time.monotonic()
    run_of_all = _Run({check.name: check for check in checks}, survey, max_concurrent, on_finding, started)
    await run_of_all.pass_over(limit=None)
    until = started + retry_timeout_s
    while time.monotonic() < until and run_of_all.forget_open():
        await asyncio.sleep(min(again_s, max(0.0, until - time.monotonic())))
        await run_of_all.pass_over(limit=until)
    return [run_of_all.findings[check.name] for check in checks]


class _Run(MutableRecord):
    checks: dict[str, Check]
    survey: Survey
    max_concurrent: int
    on_finding: Callable[[Finding], None]
    started: float
    findings: dict[str, Finding] = field(default_factory=dict)
    _last: dict[str, Finding] = field(default_factory=dict)
    _tries: dict[str, int] = field(default_factory=dict)

    def forget_open(self) -> bool:
        """Take back every finding that another attempt might change; False when there is none."""
        final = (Status.PASS, Status.SKIP)
        again = {name: finding for name, finding in self.findings.items() if finding.status not in final}
        self._last |= again
        self.findings = {name: self.findings[name] for name in self.findings.keys() - again.keys()}
        return bool(again)

    async def pass_over(self, limit: float | None) -> None:
        """Judge everything that has no finding yet. After `limit` (monotonic) nothing new begins."""

        async def judge(name: str) -> None:
            finding = await self._finding(self.checks[name], limit)
            self.findings[name] = finding
            self.on_finding(finding)

        open_checks = {name: check for name, check in self.checks.items() if name not in self.findings}
        before = {name: {*check.requires, *check.after} for name, check in open_checks.items()}
        await in_order(before, judge, max_concurrent=self.max_concurrent)

    async def _finding(self, check: Check, limit: float | None) -> Finding:
        requirements = [self.findings[name] for name in check.requires]
        causes = [required for required in requirements if not holds(required)]
        if causes or check.skip is not None:
            return not_run(check, causes)
        if limit is not None and time.monotonic() >= limit and check.name in self._last:
            return self._last[check.name]
        fresh = bool(check.requires or check.after) or check.name in self._tries
        finding = None
        for number in range(check.retries + 1):
            if number:
                await asyncio.sleep(check.delay_s)
            not_before = time.monotonic() if fresh or number else self.started
            self._tries[check.name] = self._tries.get(check.name, 0) + 1
            short = limit is not None and limit - time.monotonic() < check.timeout_s
            finding, _ = await _attempt(check, self.survey, not_before, limit)
            if short and finding.state == LATE:
                # The whole run's time was over, not this check's: what was seen before tells more.
                finding = self._last.get(check.name, finding)
            is_over = limit is not None and time.monotonic() >= limit
            if is_over or finding.status in (Status.PASS, Status.SKIP):
                break
        if finding is None:
            raise AssertionError
        tries = self._tries[check.name]
        return finding if tries == 1 else replace(finding, evidence={**finding.evidence, "attempts": tries})


async def observed(check: Check, survey: Survey) -> tuple[Finding, Mapping[str, Any] | None]:
    """Run a check once; return all the values that were seen too, None where nothing was."""
    for module in check.kind.imports:
        importlib.import_module(module)
    finding, observation = await _attempt(check, survey, time.monotonic(), None)
    return finding, None if observation is None or observation.problem else observation.values


async def _attempt(
    check: Check, survey: Survey, not_before: float, limit: float | None
) -> tuple[Finding, Observation | None]:
    """Run a check once under its deadline. Foreign exceptions end here: a kind that fails ends no run.

    Of the values that a kind yields `error` is None and `seconds` the time it took, unless it says otherwise.
    """
    allowed_s = (
        check.timeout_s if limit is None else min(check.timeout_s, max(0.01, limit - time.monotonic()))
    )
    wanted = frozenset(check.expect.matchers)
    context = CheckContext(survey, check.folder, allowed_s, wanted, not_before)
    began = time.monotonic()
    result = await attempt(check.kind.observe(check.params, context), allowed_s)
    seconds = time.monotonic() - began
    if isinstance(result, Finding):
        return assessed(check, result), None
    if isinstance(result, Observation):
        usual = {"error": None, "seconds": seconds}.items()
        values = {key: value for key, value in usual if key in check.kind.yields}
        observation = replace(result, values=values | dict(result.values))
        return judged(check, observation, seconds), observation
    return without_values(check, result, seconds), None
