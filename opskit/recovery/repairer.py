"""One target of a run: is it well, may it be repaired and how; the executor carries the repair out."""

import asyncio
import time
from collections.abc import Sequence
from dataclasses import replace

from opskit.checks.attempt import Failure, attempt
from opskit.recovery.executor import Executor, as_seen, paused
from opskit.recovery.outcome import Outcome, RepairResult
from opskit.recovery.step import Condition, Step, TargetObservation

#: Plans ask the same servers that are in trouble.
_PLAN_S = 15.0
_POLL_FIRST_S = 0.1
_POLL_LAST_S = 2.0
#: What is still plainly broken so long after its repair will not get well while we watch.
_HOPELESS_S = 20.0


class Repairer:
    """Treats one target after the other for the healer. `deadline` is when the run ends (monotonic)."""

    def __init__(self, executor: Executor) -> None:
        self.executor = executor
        self.deadline = float("inf")

    @property
    def dry(self) -> bool:
        return self.executor.dry

    @property
    def run_id(self) -> str:
        return self.executor.run_id

    async def look(self, step: Step, limit_s: float) -> Sequence[TargetObservation]:
        """What a step sees; what hangs or fails is a target that could not be judged."""
        result = await attempt(step.look(), limit_s)
        if not isinstance(result, Failure):
            return result
        error = result.error
        if result.is_late:
            why = f"no result within {limit_s:g} s"
            return [TargetObservation(step.name, Condition.UNKNOWN, "timeout", why)]
        if result.is_bug:
            why = f"opskit itself failed in this step: {error.message}"
            trace = {"traceback": result.trace(12)}
            return [
                TargetObservation(step.name, Condition.UNKNOWN, "bug", why, evidence=trace, code=error.code)
            ]
        return [
            TargetObservation(
                step.name, Condition.UNKNOWN, "unknown", error.message, remedy=error.remedy, code=error.code
            )
        ]

    async def treat(self, step: Step, seen: TargetObservation, *, may_repair: bool) -> Outcome:
        """What becomes of one target."""
        began = time.monotonic()
        outcome = Outcome(
            step.name,
            seen.target,
            as_seen(seen),
            seen.state,
            seen.cause,
            evidence=seen.evidence,
            remedy=seen.remedy,
            code=seen.code,
            minor=seen.minor,
        )
        if seen.condition is Condition.HEALTHY:
            await self.executor.note_health(outcome)
        elif seen.condition is Condition.BROKEN:
            if not may_repair:
                why = f"{seen.cause}; not repaired, because other steps were asked for"
                outcome = replace(outcome, result=RepairResult.INCONCLUSIVE, cause=why)
            else:
                outcome = await self._repair(step, seen, outcome)
        return replace(outcome, seconds=time.monotonic() - began)

    async def _repair(self, step: Step, seen: TargetObservation, outcome: Outcome) -> Outcome:
        if (pause := self.executor.pause_of(seen.target, step.name, *seen.names)) is not None:
            return replace(outcome, result=RepairResult.PAUSED, cause=paused(pause, seen.cause))
        repair = await attempt(step.plan(seen), _PLAN_S)
        if isinstance(repair, Failure) and repair.is_late:
            why = f"{seen.cause}; no repair could be planned in time"
            return replace(outcome, result=RepairResult.INCONCLUSIVE, cause=why)
        if isinstance(repair, Failure):
            why = f"{seen.cause}; no repair could be planned: {repair.error.message}"
            remedy = seen.remedy or repair.error.remedy
            return replace(outcome, result=RepairResult.MANUAL, cause=why, remedy=remedy)
        if repair is None:
            return await self.executor.leave_to_person(outcome)
        return await self.executor.repair(
            seen,
            repair,
            outcome,
            evidence=lambda: step.evidence(seen),
            look_again=lambda settle_s: self._settled(step, seen.target, settle_s),
        )

    async def _settled(self, step: Step, target: str, settle_s: float) -> TargetObservation | None:
        """The target once it is well, or as it was last seen; None when it is no longer there."""
        limit = min(time.monotonic() + settle_s, self.deadline)
        pause_s, broken_since = _POLL_FIRST_S, None
        while True:
            left = max(1.0, limit - time.monotonic())
            seen = next((one for one in await self.look(step, left) if one.target == target), None)
            now = time.monotonic()
            if seen is None or seen.condition in (Condition.HEALTHY, Condition.LEFT, Condition.ABSENT):
                return seen
            broken_since = None if seen.condition is not Condition.BROKEN else broken_since or now
            hopeless = broken_since is not None and now - broken_since > _HOPELESS_S
            if hopeless or now + pause_s >= limit:
                return seen
            await asyncio.sleep(pause_s)
            pause_s = min(_POLL_LAST_S, pause_s * 1.5)
