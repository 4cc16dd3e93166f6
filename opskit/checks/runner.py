"""Running checks: as many at once as allowed, in the order of their requirements, each under its deadline."""

import asyncio
import importlib
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from opskit.checks import judgement
from opskit.checks.attempt import attempt, in_order
from opskit.checks.spec import Check, CheckContext, Observation
from opskit.facts.survey import Survey
from opskit.records import MutableRecord, field, replace
from opskit.result import Finding, Status

MAX_CONCURRENT = 50
_AGAIN_S = 1.0
OnFinding = Callable[[Finding], None]


async def run(
    checks: Sequence[Check],
    survey: Survey,
    *,
    max_concurrent: int = MAX_CONCURRENT,
    retry_timeout_s: float = 0.0,
    again_s: float = _AGAIN_S,
    on_finding: OnFinding = lambda _finding: None,
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
    on_finding: OnFinding
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
        causes = [required for required in requirements if not judgement.holds(required)]
        if causes or check.skip is not None:
            return judgement.not_run(check, causes)
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
            if short and finding.state == judgement.LATE:
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
        return judgement.assessed(check, result), None
    if isinstance(result, Observation):
        usual = {"error": None, "seconds": seconds}.items()
        values = {key: value for key, value in usual if key in check.kind.yields}
        observation = replace(result, values=values | dict(result.values))
        return judgement.judged(check, observation, seconds), observation
    return judgement.without_values(check, result, seconds), None
